//! What this machine can do for pods of host processes, tried and not guessed.
//!
//! Controllers are switched on where they can be, as all of our processes are in leaves; a machine
//! without them runs pods all the same. What matters is the right to move a process between two
//! cgroups, which is the right to write `cgroup.procs` of the target and of the nearest common
//! ancestor (cgroup v2, "Delegation Containment").

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::thread::CapabilitySet;

use crate::cgroup::{Cgroup, Force};
use crate::error::MachineError;
use crate::limits::{Controller, Controllers};
use crate::mounts;
use crate::place::Root;
use crate::sys;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Where cgroup v2 is mounted.
    pub mount: PathBuf,
    /// The directory of the root, which exists now and is writable.
    pub root: PathBuf,
    /// Whether the kernel has `cgroup.kill` (5.14); without it, freeze-kill-thaw does the same.
    pub cgroup_kill: bool,
    /// Whether a process can be cloned into a cgroup (5.7, and without the fault of some kernels
    /// after a `cgroup.kill` of the agent's own); without it, it enters it before exec.
    pub clone_into_cgroup: bool,
    /// Where what enforces limits is, or why it can't be used.
    pub limits: BTreeMap<Controller, Result<PathBuf, String>>,
}

/// A look at the machine, for a runtime.
pub(crate) struct Look {
    pub(crate) capabilities: Capabilities,
    pub(crate) root: Root,
    pub(crate) controllers: Controllers,
}

/// What the trial's cgroup is named, before the process id of who looks.
const TRIAL: &str = ".probe-";
/// How long the trial's child may take to be gone; it ends at once.
const TRIAL_ENDS: Duration = Duration::from_secs(1);

/// Looks at the machine and makes the root, whose name is relative to the cgroup v2 mount.
///
/// # Errors
/// The first thing that keeps pods from running here, in one line that says what to do.
pub fn probe(root: &Path) -> Result<Capabilities, MachineError> {
    Ok(look(root)?.capabilities)
}

/// The same, with what it was found by.
pub(crate) fn look(root: &Path) -> Result<Look, MachineError> {
    let mount = mounts::cgroup2()?;
    let root = Root::new(&mount, root)?;
    fs::create_dir_all(root.cgroup().path()).map_err(|error| denied(root.cgroup(), error))?;
    remove_trials_of_the_dead(&root);
    // One name per process: two agents may look at the same time.
    let trial = root.cgroup().child(&format!("{TRIAL}{}", std::process::id()));
    trial.make().map_err(|error| denied(root.cgroup(), error))?;
    let outcome = try_in(&trial);
    let cgroup_kill = trial.best_force() == Force::Kill;
    let _ = trial.wait_empty(TRIAL_ENDS).and_then(|_| trial.remove());
    let clone_into_cgroup = outcome?;
    let controllers = Controllers::find(&mount, &root);
    let (limits, path) = (controllers.homes(), root.cgroup().path().to_owned());
    let capabilities = Capabilities { mount, root: path, cgroup_kill, clone_into_cgroup, limits };
    Ok(Look { capabilities, root, controllers })
}

/// Whether this process may make namespaces, and bring up loopback in one: capabilities(7). What else
/// may forbid it is told when a pod is to have one.
pub fn makes_namespaces() -> bool {
    has(CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN)
}

/// Whether this process may have others killed later than itself when memory is short:
/// `oom_score_adj` of proc(5).
pub fn lowers_oom_scores() -> bool {
    has(CapabilitySet::SYS_RESOURCE)
}

fn has(needed: CapabilitySet) -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}

/// What was killed while it looked could not clear its trial away.
fn remove_trials_of_the_dead(root: &Root) {
    let entries = fs::read_dir(root.cgroup().path()).into_iter().flatten().flatten();
    for name in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
        let pid = name.strip_prefix(TRIAL).and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // One that is not empty refuses, and is tried again the next time.
            let _ = root.cgroup().child(&name).remove();
        }
    }
}

/// Whether clone3 into this cgroup works; where it is only unknown, moving must.
fn try_in(trial: &Cgroup) -> Result<bool, MachineError> {
    if !trial.file("cgroup.freeze").exists() {
        return Err(MachineError::KernelTooOld);
    }
    let open = trial.open().map_err(|source| MachineError::io(trial.path(), source))?;
    match sys::try_clone_into(open.as_fd()) {
        Ok(works) => Ok(works),
        Err(error) if sys::not_supported(&error) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(MachineError::NotMovable { path: trial.path().to_owned(), uid: uid() })
        }
        Err(source) => Err(MachineError::io(trial.path(), source)),
    }
}

fn denied(cgroup: &Cgroup, error: io::Error) -> MachineError {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            MachineError::NotWritable { path: cgroup.path().to_owned(), uid: uid() }
        }
        _ => MachineError::io(cgroup.path(), error),
    }
}

fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}
