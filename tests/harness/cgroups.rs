//! cgroups, as the file system shows them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::failure::{Context as _, Outcome};
use crate::proc::{self, Process};
use crate::{ensure, failure, wait};

/// Where cgroup v2 is mounted: alone, or beside v1.
///
/// # Errors
/// When it is not.
pub fn mount() -> Outcome<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let found = mounts.lines().find_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        (words.get(2) == Some(&"cgroup2")).then(|| PathBuf::from(words[1]))
    });
    found.ok_or_else(|| failure!("cgroup v2 is not mounted"))
}

/// Directories of the same name in hierarchies of v1, whether they are there or not: what limits pods
/// where v1 has kept a controller.
///
/// # Errors
/// When `root` is in no hierarchy of v2.
pub fn legacy_of(root: &Path) -> Outcome<Vec<PathBuf>> {
    let mount = mount()?;
    let own = root.strip_prefix(&mount);
    let own = own.map_err(|_| failure!("{} is not in {}", root.display(), mount.display()))?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let words = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let legacy = words.filter(|words| words.get(2) == Some(&"cgroup"));
    Ok(legacy.map(|words| Path::new(words[1]).join(own)).collect())
}

/// The directory and all below it, parents first. Empty where there is none.
pub fn tree(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(next) = left.pop() {
        let Ok(entries) = fs::read_dir(&next) else { continue };
        let is_dir = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        left.extend(entries.flatten().filter(is_dir).map(|entry| entry.path()));
        found.push(next);
    }
    found
}

/// The living processes in the directory and below it, each with the cgroup it is in.
pub fn members(root: &Path) -> Vec<(PathBuf, Process)> {
    let of = |cgroup: PathBuf| {
        let pids = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        let pids: Vec<u32> = pids.lines().filter_map(|line| line.parse().ok()).collect();
        pids.into_iter().filter_map(Process::of).map(move |process| (cgroup.clone(), process))
    };
    tree(root).into_iter().flat_map(of).collect()
}

/// Kills all in a cgroup and removes it with all below it.
///
/// # Errors
/// When something in it can't be killed.
pub fn wipe(root: &Path) -> Outcome {
    wait::soon("everything in the cgroup is dead", || {
        // Of one that is gone there is nothing to kill.
        let _ = fs::write(root.join("cgroup.kill"), "1");
        let left = members(root);
        for (_, process) in &left {
            let _ = proc::signal(process.pid, Signal::KILL);
        }
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })?;
    let legacy = legacy_of(root)?;
    wait::soon("the cgroup can be removed", || {
        let all = [root.to_owned()].into_iter().chain(legacy.clone());
        for cgroup in all.flat_map(|root| tree(&root).into_iter().rev().collect::<Vec<_>>()) {
            match fs::remove_dir(&cgroup) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).context(cgroup.display());
                }
                _ => {}
            }
        }
        Ok(())
    })
}
