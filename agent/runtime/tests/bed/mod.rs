//! A machine for one test: a cgroup root and a directory of its own, removed with all that lives
//! there when the test ends, however it does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "for tests")]

use std::ffi::OsString;
use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use everynode_agent_core::{ContainerSpec, PodRef, PodSpec};
use everynode_model::{Exit, PodKey};
use everynode_runtime::contract::{Does, Factory, Machine, exited};
use everynode_runtime::process::{Config, ProcessRuntime};
use everynode_runtime::{Runtime, RuntimeEvent, probe};
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use uuid::Uuid;

/// This crate's supervisor.
pub(crate) const SHIM: &str = env!("CARGO_BIN_EXE_everynode-shim-test");

/// One test's machine.
pub(crate) struct Bed {
    root_name: PathBuf,
    root: PathBuf,
    directory: tempfile::TempDir,
    old_kernel: bool,
}

impl Bed {
    /// A machine, or none where this one has no writable cgroup v2 hierarchy.
    pub(crate) fn new(old_kernel: bool) -> Option<Self> {
        // A delegated cgroup, for running these tests as an ordinary user in it.
        let within = std::env::var("EVERYNODE_TEST_CGROUP").unwrap_or_default();
        let root_name = PathBuf::from(within).join(format!("everynode-test-{}", Uuid::new_v4()));
        match probe(&root_name) {
            Ok(found) => Some(Self {
                root: found.root,
                root_name,
                directory: tempfile::tempdir().unwrap(),
                old_kernel,
            }),
            Err(reason) => {
                eprintln!("skipped: {reason}");
                None
            }
        }
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            cgroup_root: self.root_name.clone(),
            run_dir: self.run_dir(),
            spare_dir: Some(self.spare_dir()),
            seccomp_dir: self.seccomp_dir(),
            max_log_file: everynode_runtime::MAX_LOG_FILE,
            shim_command: [SHIM, "shim"].map(OsString::from).to_vec(),
            old_kernel: self.old_kernel,
        }
    }

    /// Longer than a socket's path may be.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.directory.path().join("a-long-name".repeat(12)).join("run")
    }

    /// Where what limits pods would be in hierarchies of v1.
    fn legacy_roots(&self) -> Vec<PathBuf> {
        mounts("cgroup").into_iter().map(|(mount, _)| mount.join(&self.root_name)).collect()
    }

    /// For profiles that a test writes.
    pub(crate) fn seccomp_dir(&self) -> PathBuf {
        self.directory.path().join("seccomp")
    }

    fn spare_dir(&self) -> PathBuf {
        self.directory.path().join("spare")
    }

    pub(crate) fn place_cgroup(&self, key: &PodKey) -> PathBuf {
        self.root.join(key.namespace()).join(format!("d-{}", key.name()))
    }

    pub(crate) fn pod_cgroup(&self, pod: &PodRef) -> PathBuf {
        let place = self.place_cgroup(&pod.key);
        let ends = pod.uid.to_string();
        children(&place).into_iter().find(|path| path.to_str().unwrap().ends_with(&ends)).unwrap()
    }

    /// A pod's cgroup, from the mount of its hierarchy.
    pub(crate) fn own_path(&self, pod: &PodRef) -> PathBuf {
        self.root_name.join(self.pod_cgroup(pod).strip_prefix(&self.root).unwrap())
    }

    pub(crate) fn shim_of(&self, pod: &PodRef) -> u32 {
        pids(&self.pod_cgroup(pod).join("shim"))[0]
    }

    /// A container's log without the dates.
    pub(crate) fn log(&self, pod: &PodRef, container: &str) -> Vec<String> {
        let pod = self.run_dir().join(pod.uid.to_string());
        let text =
            fs::read_to_string(pod.join(format!("logs/{container}.log"))).unwrap_or_default();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    /// A connection to a pod's supervisor that is not the agent's.
    pub(crate) fn connect(&self, pod: &PodRef) -> UnixStream {
        let directory = fs::File::open(self.run_dir().join(pod.uid.to_string())).unwrap();
        let path = format!("/proc/self/fd/{}/shim.sock", directory.as_raw_fd());
        UnixStream::connect(path).unwrap()
    }

    /// Nothing alive, no directory left: neither a place's nor a pod's.
    pub(crate) fn is_clean(&self) {
        assert_eq!(children(&self.root), [] as [PathBuf; 0]);
        for legacy in self.legacy_roots() {
            assert!(!legacy.exists(), "{} is left", legacy.display());
        }
        assert_eq!(children(&self.run_dir()), [] as [PathBuf; 0]);
        assert_eq!(children(&self.spare_dir()), [] as [PathBuf; 0]);
    }
}

impl Factory for Bed {
    fn open(&self) -> BoxFuture<'_, (Arc<dyn Runtime>, mpsc::Receiver<RuntimeEvent>)> {
        Box::pin(async {
            let (runtime, events) = ProcessRuntime::open(self.config()).await.unwrap();
            (Arc::new(runtime) as Arc<dyn Runtime>, events)
        })
    }

    fn container(&self, name: &str, does: Does) -> ContainerSpec {
        match does {
            Does::Run => ContainerSpec {
                argv: ["sleep", "100000"].map(str::to_owned).to_vec(),
                ..shell(name, "")
            },
            Does::IgnoreTerm => shell(name, "trap '' TERM; while :; do sleep 100000; done"),
            Does::Exit(code) => shell(name, &format!("exit {code}")),
            Does::Die => shell(name, "kill -KILL $$"),
            Does::Nothing => {
                ContainerSpec { argv: vec!["/nonexistent/program".to_owned()], ..shell(name, "") }
            }
        }
    }

    fn ignores_term(&self, pid: u32) -> BoxFuture<'_, ()> {
        Box::pin(until(move || {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
            u64::from_str_radix(ignored, 16).unwrap() & 1 << (15 - 1) != 0
        }))
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = fs::write(self.root.join("cgroup.kill"), "1");
        // Bounded: what can't be removed is better seen than waited for.
        let roots = [vec![self.root.clone()], self.legacy_roots()].concat();
        for _ in 0..1000 {
            roots.iter().for_each(|root| remove_tree(root));
            if roots.iter().all(|root| !root.exists()) {
                return;
            }
            std::thread::yield_now();
        }
    }
}

/// A file system in memory, mounted on this machine until it is dropped.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// On a directory that is made for it; none where this process may not mount.
    pub(crate) fn tmpfs(at: &Path) -> Option<Self> {
        Self::with(at, "rw")
    }

    /// One on which nothing can be made: the one inode is its root's.
    pub(crate) fn full(at: &Path) -> Option<Self> {
        Self::with(at, "size=4k,nr_inodes=1")
    }

    pub(crate) fn make_room(&self) {
        let mut command = Command::new("mount");
        command.args(["-o", "remount,size=1m,nr_inodes=100"]).arg(&self.0);
        assert!(command.status().unwrap().success());
    }

    fn with(at: &Path, options: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "everynode-test"]).arg(at);
        let mounted = command.status().is_ok_and(|status| status.success());
        if !mounted {
            eprintln!("skipped: nothing can be mounted here");
        }
        mounted.then(|| Self(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A container that runs a script.
pub(crate) fn shell(name: &str, script: &str) -> ContainerSpec {
    ContainerSpec {
        name: name.to_owned(),
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        ..ContainerSpec::default()
    }
}

pub(crate) fn spec_of<const N: usize>(containers: [ContainerSpec; N]) -> PodSpec {
    let grace = Duration::from_secs(30);
    PodSpec { containers: containers.to_vec(), grace, ..PodSpec::default() }
}

/// Runs a container to its end; what it printed.
pub(crate) async fn run(
    machine: &mut Machine<'_>,
    bed: &Bed,
    pod: &PodRef,
    container: &str,
) -> Vec<String> {
    machine.start(pod, container).await;
    machine.expect(exited(pod, container, Exit::Code(0))).await;
    lines(bed, pod, container)
}

/// What a container printed.
pub(crate) fn lines(bed: &Bed, pod: &PodRef, container: &str) -> Vec<String> {
    let log = bed.log(pod, container);
    log.iter().map(|line| line.strip_prefix("stdout F ").unwrap_or(line).to_owned()).collect()
}

/// Those alive in one cgroup.
pub(crate) fn pids(cgroup: &Path) -> Vec<u32> {
    let listed = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap();
    listed.lines().map(|line| line.parse().unwrap()).collect()
}

/// Whether this is not root, who may set users.
pub(crate) fn ordinary_user() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    !status.contains("\nUid:\t0\t0\t")
}

/// The descriptors that a process has open.
pub(crate) fn fds(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string();
    let mut names: Vec<_> = entries.map(|entry| name(entry).unwrap()).collect();
    names.sort();
    names
}

pub(crate) fn kill(pid: u32, signal: &str) {
    let done = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status();
    assert!(done.unwrap().success());
}

/// Waits until a process is dead and reaped.
pub(crate) async fn gone(pid: u32) {
    until(move || !fs::exists(format!("/proc/{pid}")).unwrap()).await;
}

/// Looks again and again, for half a minute at most.
pub(crate) async fn until(mut done: impl FnMut() -> bool + Send) {
    let looking = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), looking).await.expect("it never came");
}

/// Where a controller is: the mount of its hierarchy, and whether that is one of v1.
pub(crate) fn home(controller: &str) -> Option<(PathBuf, bool)> {
    let unified = mounts("cgroup2").into_iter().map(|(mount, _)| {
        let controllers = fs::read_to_string(mount.join("cgroup.controllers")).unwrap();
        (mount, controllers.split_whitespace().map(str::to_owned).collect(), false)
    });
    let legacy = mounts("cgroup").into_iter().map(|(mount, options)| (mount, options, true));
    let mut all = unified.chain(legacy);
    let has = |options: &Vec<String>| options.iter().any(|option| option == controller);
    all.find_map(|(mount, options, legacy)| has(&options).then_some((mount, legacy)))
}

/// The mounts of a type, with their options.
fn mounts(of_type: &str) -> Vec<(PathBuf, Vec<String>)> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap();
    let lines = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let wanted = lines.filter(|words| words[2] == of_type);
    let options = |words: &[&str]| words[3].split(',').map(str::to_owned).collect();
    wanted.map(|words| (PathBuf::from(words[1]), options(&words))).collect()
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
}

pub(crate) fn remove_tree(cgroup: &Path) {
    children(cgroup).iter().for_each(|child| remove_tree(child));
    let _ = fs::remove_dir(cgroup);
}
