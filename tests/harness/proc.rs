//! Processes, as `/proc` shows them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use crate::failure::{Context as _, Outcome};
use crate::{ensure, failure, wait};

/// A living process. It is the same one as another of the same pid and start, whoever its parent
/// has become meanwhile.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// When it was started: clock ticks since boot.
    pub started: u64,
    /// Its parent's id.
    pub parent: u32,
    /// Its command line; empty for the kernel's own.
    pub command: Vec<String>,
}

impl Process {
    /// The process of this id, unless it is dead (a zombie is).
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // proc_pid_stat(5): the name, in brackets, may hold anything; the fields come after it.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let (state, parent, started) = (fields.first()?, fields.get(1)?, fields.get(19)?);
        if matches!(*state, "Z" | "X") {
            return None;
        }
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word));
        let mut command: Vec<String> = words.map(|word| word.into_owned()).collect();
        command.pop();
        Some(Self { pid, started: started.parse().ok()?, parent: parent.parse().ok()?, command })
    }

    /// The last part of the program's path, as it was called.
    pub fn program(&self) -> &str {
        let path = self.command.first().map_or("", String::as_str);
        path.rsplit('/').next().unwrap_or(path)
    }

    /// Whether it is still there.
    pub fn lives(&self) -> bool {
        Self::of(self.pid).is_some_and(|now| now.started == self.started)
    }

    /// Ends it at once, and sees it dead.
    ///
    /// # Errors
    /// When it is not there any more.
    pub fn kill(&self) -> Outcome {
        ensure!(self.lives(), "process {} was to be killed and is dead already", self.pid);
        signal(self.pid, Signal::KILL)?;
        wait::soon("a killed process is dead", || {
            ensure!(!self.lives(), "{self:?}");
            Ok(())
        })
    }

    /// Its mount namespace, as the inode of `/proc/PID/ns/mnt`.
    pub fn mounts(&self) -> Option<u64> {
        namespace_of(self.pid, "mnt")
    }

    /// Its network namespace, as the inode of `/proc/PID/ns/net`.
    pub fn network(&self) -> Option<u64> {
        namespace_of(self.pid, "net")
    }
}

impl PartialEq for Process {
    fn eq(&self, other: &Self) -> bool {
        (self.pid, self.started) == (other.pid, other.started)
    }
}

impl Eq for Process {}

/// Every living process of this computer.
pub fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Process::of).collect()
}

/// Every living process in a network namespace, given by its inode.
pub fn in_network(network: u64) -> Vec<Process> {
    all().into_iter().filter(|process| process.network() == Some(network)).collect()
}

/// The ids of dead children that these have not waited for.
pub fn zombies_of(parents: &[u32]) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_zombie = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let mut fields = fields.split_whitespace();
        let (state, parent) = (fields.next(), fields.next().and_then(|pid| pid.parse().ok()));
        state == Some("Z") && parent.is_some_and(|parent| parents.contains(&parent))
    };
    pids.filter(is_zombie).collect()
}

/// What a process has open, each as `/proc/PID/fd` names it, without the numbers of sockets and
/// pipes.
pub fn open_files(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let targets = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    let name = |target: std::path::PathBuf| {
        let target = target.to_string_lossy().into_owned();
        match target.split_once(":[") {
            Some((kind @ ("socket" | "pipe" | "mnt"), _)) => kind.to_owned(),
            _ => target,
        }
    };
    let mut names: Vec<String> = targets.map(name).collect();
    names.sort();
    names
}

/// How much of a process is in memory, in KiB.
///
/// # Errors
/// When it is dead.
pub fn resident(pid: u32) -> Outcome<u64> {
    status(pid, "VmRSS:")
}

/// How many threads it has.
///
/// # Errors
/// When it is dead.
pub fn threads(pid: u32) -> Outcome<u64> {
    status(pid, "Threads:")
}

/// Sends a signal to the process of this id, which the caller knows to be its own.
///
/// # Errors
/// When it can't be sent.
pub fn signal(pid: u32, signal: Signal) -> Outcome {
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let id = id.ok_or_else(|| failure!("{pid} is no process id"))?;
    rustix::process::kill_process(id, signal)
        .map_err(std::io::Error::from)
        .context(format!("sending a signal to process {pid}"))
}

/// A figure of `/proc/PID/status`.
fn status(pid: u32, field: &str) -> Outcome<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).context(&path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let figure = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    figure.ok_or_else(|| failure!("no {field} of {pid}"))
}

fn namespace_of(pid: u32, kind: &str) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/{kind}")).ok().map(|file| file.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen_as_it_is() {
        let me = Process::of(std::process::id()).unwrap();
        assert!(me.lives() && !me.program().is_empty());
        assert!(me.network().is_some_and(|network| in_network(network).contains(&me)));
        assert!(!open_files(me.pid).is_empty());
        assert_eq!(zombies_of(&[me.pid]), Vec::<u32>::new());
        let earlier = Process { started: me.started - 1, ..me };
        assert!(!earlier.lives());
    }
}
