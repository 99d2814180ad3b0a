//! A machine that has joined: a data directory, a cgroup root, and the real agent.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, unreachable_pub, reason = "shared by several tests, none of which uses all")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use everynode_agent::identity::{Identity, IdentityFiles};
use everynode_agent::ledger::{DiskLedger, LedgerStore as _};
use everynode_agent_core::Ledger;
use everynode_model::{Assignment, Digest, Intent, Item, NodeName, PodKey};
use everynode_transport::ClientIdentity;
use rcgen::CertificateParams;
use rustls_pki_types::PrivateKeyDer;

const AGENT: &str = env!("CARGO_BIN_EXE_everynode-agent");
const ID: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";
/// Says something, and then sleeps.
const BODY: &[u8] = br#"{"spec":{"containers":[{"command":["sh","-c","echo up; exec sleep 86400"],
    "name":"c"}],"hostIPC":true,"hostNetwork":true,"hostPID":true,"runtimeClassName":"process","terminationGracePeriodSeconds":1}}"#;

/// A machine with a data directory and a cgroup root of its own.
pub struct Machine {
    data_dir: tempfile::TempDir,
    cgroup_root: String,
}

impl Machine {
    /// `None` where host processes can't be run.
    pub async fn joined(name: &str) -> Option<Self> {
        let data_dir = tempfile::tempdir().unwrap();
        let cgroup_root = format!("everynode-test-{name}-{}", std::process::id());
        let machine = Self { data_dir, cgroup_root };
        if !machine.run("check").status.success() {
            return None;
        }
        machine.write_identity();
        machine.write_ledger().await;
        Some(machine)
    }

    pub fn path(&self) -> &Path {
        self.data_dir.path()
    }

    fn write_identity(&self) {
        let files = IdentityFiles::new(self.path());
        let key = files.key().unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        let chain = vec![certificate.der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let identity = Identity {
            cluster: ID.parse().unwrap(),
            node: ID.parse().unwrap(),
            name: NodeName::new("alone").unwrap(),
            authorities: chain.clone(),
            client: ClientIdentity { chain, key },
            // The discard port: nothing listens.
            addresses: vec!["127.0.0.1:9".into()],
            formers: Vec::new(),
        };
        files.save(&identity).unwrap();
    }

    async fn write_ledger(&self) {
        let mut ledger = Ledger::joined(ID.parse().unwrap(), ID.parse().unwrap());
        let key = PodKey::new("default", "sleeper").unwrap();
        ledger.assignment = Assignment::new([Item {
            key: key.clone(),
            set: ID.parse().unwrap(),
            revision: Digest::of(BODY),
            replace: 0,
            intent: Intent::Run,
            after: Vec::new(),
            surge: None,
            labels: Default::default(),
        }]);
        ledger.places = [(key, "process".to_owned())].into();
        let store = DiskLedger::new(self.path());
        store.put_bodies(vec![(Digest::of(BODY), BODY.to_vec())]).await.unwrap();
        store.save(ledger).await.unwrap();
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(AGENT);
        command.arg("--data-dir").arg(self.path()).args(["--cgroup-root", &self.cgroup_root]);
        command.stdin(Stdio::null());
        command
    }

    /// A subcommand and its words, run to the end.
    pub fn run(&self, words: &str) -> Output {
        self.command().args(words.split(' ')).output().unwrap()
    }

    /// What one that does what it is told prints.
    pub fn ok(&self, words: &str) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(0), "{words}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits until both copies of the ledger are there and the same.
    pub fn mirrored(&self) {
        let copy = |name: &str| std::fs::read(self.path().join(name)).ok();
        eventually(|| (copy("ledger.a")? == copy("ledger.b")?).then_some(()));
    }

    /// Everything on it dies, as at a power cut; what is on disk stays.
    pub fn die(&self) {
        for mount in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
            let root = Path::new(mount).join(&self.cgroup_root);
            if std::fs::write(root.join("cgroup.kill"), "1").is_ok() {
                let events = root.join("cgroup.events");
                let read = || std::fs::read_to_string(&events).ok();
                eventually(|| read()?.contains("populated 0").then_some(()));
            }
        }
    }

    pub fn start(&self) -> Agent {
        let mut command = self.command();
        Agent(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Waits until the agent answers, and gives its status.
    pub fn answers(&self) -> serde_json::Value {
        eventually(|| {
            let output = self.run("status -o json");
            let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
            (status["agentRunning"] == true).then_some(status)
        })
    }

    /// The pid of the one pod's one process, once it runs.
    pub fn pid(&self) -> u32 {
        eventually(|| {
            let pods = String::from_utf8(self.run("pods").stdout).unwrap();
            let row: Vec<&str> = pods.lines().nth(1)?.split_whitespace().collect();
            match row.as_slice() {
                ["default", "sleeper", "1/1", "Running" | "Running,Held", .., pid] => {
                    pid.parse().ok()
                }
                _ => None,
            }
        })
    }
}

/// A running agent; killed where a test fails.
pub struct Agent(Child);

impl Agent {
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn end(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    pub fn wait(mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Whatever a test left alive, or a machine that lost its power left behind.
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let words = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let of_cgroups = words.filter(|words| ["cgroup", "cgroup2"].contains(&words[2]));
        let roots: Vec<PathBuf> =
            of_cgroups.map(|words| Path::new(words[1]).join(&self.cgroup_root)).collect();
        // Bounded: what can't be removed is better seen than waited for.
        for _ in 0..1000 {
            for root in roots.iter().filter(|root| root.exists()) {
                let _ = std::fs::write(root.join("cgroup.kill"), "1");
                remove_tree(root);
            }
            if !roots.iter().any(|root| root.exists()) {
                return;
            }
            std::thread::yield_now();
        }
    }
}

/// From the leaves up; what is in use stays.
fn remove_tree(directory: &Path) {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.for_each(|entry| remove_tree(&entry.path()));
    let _ = std::fs::remove_dir(directory);
}

pub fn eventually<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < deadline, "it never came about");
        std::thread::yield_now();
    }
}

pub fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}
