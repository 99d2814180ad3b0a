//! Limits put on running programs: of open files, of processes, of memory.
//!
//! Processes and memory by the controllers of cgroup v1, where this computer has them: pods' own
//! cgroups are v2's and stay as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Context as _, Outcome};
use crate::proc::Process;
use crate::said::Said;

/// The controllers of which groups are made.
pub const CONTROLLERS: &[&str] = &["pids", "memory"];

/// Some processes under one limit. Dropped, they are without it.
#[derive(Debug)]
pub struct Group {
    dir: PathBuf,
    mount: PathBuf,
}

/// Where a controller of cgroup v1 is mounted, if it is.
pub fn mount(controller: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let [_, at, kind, options, ..] = words.as_slice() else { return None };
        let has = *kind == "cgroup" && options.split(',').any(|option| option == controller);
        has.then(|| PathBuf::from(at))
    })
}

impl Group {
    /// A group of this name; `None` where this computer has no such controller.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn new(controller: &str, name: &str) -> Outcome<Option<Self>> {
        let Some(mount) = mount(controller) else { return Ok(None) };
        let dir = mount.join(name);
        fs::create_dir(&dir).context(dir.display())?;
        Ok(Some(Self { dir, mount }))
    }

    /// Puts a process in it, with what it starts from now on.
    ///
    /// # Errors
    /// When it can't be.
    pub fn add(&self, process: &Process) -> Outcome {
        self.set("cgroup.procs", &process.pid.to_string())
    }

    /// Writes one of its files.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set(&self, file: &str, value: &str) -> Outcome {
        let path = self.dir.join(file);
        fs::write(&path, value).context(format!("{value} to {}", path.display()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let members = fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default();
        for pid in members.lines() {
            let _ = fs::write(self.mount.join("cgroup.procs"), pid);
        }
        // What can't be removed now is by the next run.
        let _ = fs::remove_dir(&self.dir);
    }
}

/// Limits the open files of a running process to so many beyond those that it has; `None`: to as
/// many as it may have.
///
/// # Errors
/// When the kernel won't.
pub fn files(pid: u32, beyond: Option<usize>) -> Outcome {
    let limit = match beyond {
        Some(beyond) => {
            (fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd"))?.count() + beyond)
                .to_string()
        }
        None => "1024".to_owned(),
    };
    let mut command = Command::new("prlimit");
    command.args(["--pid", &pid.to_string(), &format!("--nofile={limit}:")]);
    Said::by(command)?.ok().map(drop)
}
