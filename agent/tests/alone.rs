//! The real agent with real processes, and no coordinator: what its ledger says, it does.
//!
//! Needs root and a writable cgroup v2; says so and passes where there is none.

// Clippy knows tests by their attribute, not by their directory.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
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
const BODY: &[u8] = br#"{"spec":{"containers":[{"command":["sleep","86400"],"name":"c"}],
    "runtimeClassName":"process","terminationGracePeriodSeconds":1}}"#;

/// A machine with a data directory and a cgroup root of its own.
struct Machine {
    data_dir: tempfile::TempDir,
    cgroup_root: String,
}

impl Machine {
    /// `None` where host processes can't be run.
    async fn joined() -> Option<Self> {
        let data_dir = tempfile::tempdir().unwrap();
        let cgroup_root = format!("everynode-test-alone-{}", std::process::id());
        let machine = Self { data_dir, cgroup_root };
        if !machine.run("check").status.success() {
            return None;
        }
        machine.write_identity();
        machine.write_ledger().await;
        Some(machine)
    }

    fn path(&self) -> &Path {
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
        }]);
        ledger.places = [(key, "process".to_owned())].into();
        let store = DiskLedger::new(self.path());
        store.put_bodies(vec![(Digest::of(BODY), BODY.to_vec())]).await.unwrap();
        store.save(ledger).await.unwrap();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(AGENT);
        command.arg("--data-dir").arg(self.path()).args(["--cgroup-root", &self.cgroup_root]);
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, subcommand: &str) -> Output {
        self.command().arg(subcommand).output().unwrap()
    }

    fn start(&self) -> Child {
        self.command().stderr(Stdio::null()).spawn().unwrap()
    }

    /// The pid of the one pod's one process, once it runs.
    fn pid(&self) -> u32 {
        eventually(|| {
            let pods = String::from_utf8(self.run("pods").stdout).unwrap();
            let row: Vec<&str> = pods.lines().nth(1)?.split_whitespace().collect();
            match row.as_slice() {
                ["default", "sleeper", "1/1", "Running", .., pid] => pid.parse().ok(),
                _ => None,
            }
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Whatever a failed test left alive.
        for mount in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
            let root = Path::new(mount).join(&self.cgroup_root);
            let _ = std::fs::write(root.join("cgroup.kill"), "1");
            let _ = std::fs::remove_dir(root);
        }
    }
}

fn eventually<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < deadline, "it never came about");
        std::thread::yield_now();
    }
}

fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn a_joined_machine_needs_nobody() {
    let Some(machine) = Machine::joined().await else {
        println!("skipped: this machine can't run host processes for us");
        return;
    };
    // From the ledger alone.
    let mut agent = machine.start();
    let first = machine.pid();
    let status = String::from_utf8(machine.run("status").stdout).unwrap();
    assert!(status.contains("nothing listens on 127.0.0.1:9"), "{status}");

    // One agent per directory.
    let second = machine.command().output().unwrap();
    let complaint = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(complaint.contains(&format!("pid {}", agent.id())), "{complaint}");

    // The agent's death is nobody else's.
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert!(is_alive(first));
    let mut agent = machine.start();
    assert_eq!(machine.pid(), first);

    // A death is seen and mended.
    let killed = Command::new("kill").args(["-9", &first.to_string()]).status().unwrap();
    assert!(killed.success());
    let next = eventually(|| Some(machine.pid()).filter(|pid| *pid != first));

    // Leaving with no coordinator: all stops, and it is said what is still to do.
    let left = machine.run("leave");
    let said = String::from_utf8(left.stdout).unwrap();
    assert_eq!(left.status.code(), Some(1), "{said}");
    assert!(said.contains("no coordinator is in reach"), "{said}");
    assert!(!is_alive(next));

    // SIGTERM ends it orderly.
    let id = agent.id().to_string();
    assert!(Command::new("kill").arg(id).status().unwrap().success());
    assert_eq!(agent.wait().unwrap().code(), Some(0));
    let after = machine.run("leave");
    assert_eq!(after.status.code(), Some(1));
    assert!(String::from_utf8(after.stderr).unwrap().contains("no agent is running"));
}
