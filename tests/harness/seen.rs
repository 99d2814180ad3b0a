//! What lives on a whole machine, as one look that can be sent from there: its processes, each with
//! its cgroup, and the cgroups of ours. For machines on which the scenarios themselves do not run.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::failure::{Context as _, Outcome};
use crate::proc::{self, Process};
use crate::{cgroups, ensure, failure};

/// One look. Made on the machine by `everynode-eyes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The boot's id.
    pub boot: String,
    /// Where cgroup v2 is mounted.
    pub mount: String,
    /// Every living process that has a command line: all but the kernel's own.
    pub processes: Vec<Located>,
    /// The cgroups below our root, the root first; none where there is no root.
    pub cgroups: Vec<String>,
}

/// A process and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Located {
    /// The process.
    pub process: Process,
    /// Its cgroup of version 2, from the mount: `/everynode/…`.
    pub cgroup: String,
}

/// Our root, below the mount, as the agent names it if it is not told otherwise.
const ROOT: &str = "everynode";

impl Seen {
    /// Looks at this machine.
    ///
    /// # Errors
    /// When it can't be looked at.
    pub fn now() -> Outcome<Self> {
        let mount = cgroups::mount()?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("the boot id")?;
        let users = proc::all().into_iter().filter(|process| !process.command.is_empty());
        let cgroups = cgroups::tree(&mount.join(ROOT));
        Ok(Self {
            boot: boot.trim().to_owned(),
            processes: users.filter_map(Located::of).collect(),
            cgroups: cgroups.iter().map(|path| path.display().to_string()).collect(),
            mount: mount.display().to_string(),
        })
    }

    /// The instances of a program, wherever they are.
    pub fn running<'a>(&'a self, program: &'a str) -> impl Iterator<Item = &'a Located> {
        self.processes.iter().filter(move |one| one.process.program() == program)
    }

    /// The only instance of a program, which is in a container's cgroup of ours.
    ///
    /// # Errors
    /// When there is none, or more than one, or it is somewhere else.
    pub fn only(&self, program: &str) -> Outcome<Process> {
        let running: Vec<&Located> = self.running(program).collect();
        let [only] = running.as_slice() else {
            return Err(failure!("{} instances of {program}: {running:?}", running.len()));
        };
        let leaf = only.cgroup.rsplit('/').next().unwrap_or_default();
        ensure!(only.is_ours() && leaf.starts_with("c-"), "{program} is in {}", only.cgroup);
        Ok(only.process.clone())
    }

    /// The supervisor of a process: its parent, in the cgroup `shim` of a pod.
    ///
    /// # Errors
    /// When it has none.
    pub fn shim_of(&self, process: &Process) -> Outcome<Process> {
        let mut all = self.processes.iter();
        let shim = all.find(|one| one.process.pid == process.parent);
        let shim = shim.filter(|one| one.is_ours() && one.cgroup.ends_with("/shim"));
        Ok(shim.ok_or_else(|| failure!("{process:?} has no supervisor"))?.process.clone())
    }

    /// Sees that nothing of ours lives here, and that the cgroups are gone but for the root.
    ///
    /// # Errors
    /// When something is left.
    pub fn empty(&self) -> Outcome {
        let ours: Vec<&Located> = self.processes.iter().filter(|one| one.is_ours()).collect();
        ensure!(ours.is_empty(), "something of ours lives: {ours:?}");
        ensure!(self.cgroups.len() <= 1, "cgroups are left: {:?}", self.cgroups);
        Ok(())
    }
}

impl Located {
    fn of(process: Process) -> Option<Self> {
        let path = Path::new("/proc").join(process.pid.to_string()).join("cgroup");
        let text = fs::read_to_string(path).ok()?;
        let cgroup = text.lines().find_map(|line| line.strip_prefix("0::"))?.to_owned();
        Some(Self { process, cgroup })
    }

    fn is_ours(&self) -> bool {
        self.cgroup.trim_start_matches('/').split('/').next() == Some(ROOT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn located(pid: u32, parent: u32, program: &str, cgroup: &str) -> Located {
        let process = Process { pid, started: 1, parent, command: vec![program.into()] };
        Located { process, cgroup: cgroup.into() }
    }

    fn seen(processes: Vec<Located>) -> Seen {
        let (boot, mount) = ("b".to_owned(), "/sys/fs/cgroup".to_owned());
        Seen { boot, mount, processes, cgroups: vec!["/sys/fs/cgroup/everynode".into()] }
    }

    #[test]
    fn one_in_its_place_is_found_and_anything_else_is_told() {
        let shim = located(2, 1, "everynode-shim", "/everynode/default/d-x/1.2.3/shim");
        let one = located(3, 2, "/bin/x", "/everynode/default/d-x/1.2.3/c-x");
        let look = seen(vec![shim, one.clone()]);
        assert_eq!(look.only("x").unwrap().pid, 3);
        assert_eq!(look.shim_of(&one.process).unwrap().pid, 2);
        assert!(look.only("y").is_err() && look.empty().is_err());

        let outside = located(4, 1, "x", "/system.slice/everynode-agent.service");
        assert!(seen(vec![outside.clone()]).only("x").is_err());
        assert!(seen(vec![one, outside.clone()]).only("x").is_err());
        assert_eq!(seen(vec![outside]).empty(), Ok(()));
    }
}
