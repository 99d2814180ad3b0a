//! Directories of a hierarchy, of v2 or v1: switched on, made, written, weighed and removed on the
//! way from its mount to a pod.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::files::{self, Dialect, Setting};
use super::{Controller, Failed};
use crate::cgroup::{self, Cgroup};

/// Switches a controller of v2 on for the children of every cgroup from the mount down to `last`.
pub(super) fn enable(controller: Controller, mount: &Path, last: &Path) -> Result<(), String> {
    let mut way: Vec<&Path> = last.ancestors().take_while(|path| path.starts_with(mount)).collect();
    way.reverse();
    way.into_iter().try_for_each(|directory| {
        let file = directory.join("cgroup.subtree_control");
        let on = fs::read_to_string(&file).unwrap_or_default();
        if on.split_whitespace().any(|one| one == controller.as_str()) {
            return Ok(());
        }
        let done = Cgroup::at(directory).write("cgroup.subtree_control", &format!("+{controller}"));
        done.map_err(|error| format!("it can't be switched on in {}: {error}", directory.display()))
    })
}

/// Writes all of it. A file that is not there is of something that this kernel does not have.
pub(super) fn try_all(cgroup: &Cgroup, settings: &[Setting]) -> Result<(), Failed> {
    settings.iter().try_for_each(|Setting { file, value, weak }| match cgroup.write(file, value) {
        Err(error) if !weak && error.kind() == io::ErrorKind::NotFound => {
            Err(Failed::Missing(format!("this kernel has no {file}")))
        }
        Err(error) if !weak => Err(Failed::Io(cgroup.file(file), error)),
        _ => Ok(()),
    })
}

/// Makes leaves with all above them.
pub(super) fn make(mount: &Path, leaves: &[PathBuf]) -> io::Result<()> {
    cgroup::make_all(|| leaves.iter().try_for_each(|leaf| make_one(mount, leaf)))
}

fn make_one(mount: &Path, leaf: &Path) -> io::Result<()> {
    let mut way: Vec<&Path> = leaf.ancestors().take_while(|path| *path != mount).collect();
    way.reverse();
    for directory in way {
        Cgroup::at(directory).make()?;
        // Before Linux 5.11 a limit held for what is below only where this was said.
        let _ = Cgroup::at(directory).write("memory.use_hierarchy", "1");
    }
    Ok(())
}

/// A place weighs what its pods weigh together, and a namespace what its places do: else a pod's
/// share would count among the pods of its own place alone.
pub(super) fn weigh_up(pod: &Path, mount: &Path, dialect: Dialect) {
    let above = pod.ancestors().skip(1).take(2).take_while(|path| *path != mount);
    for directory in above {
        let file = files::share_file(dialect);
        let of =
            |child: PathBuf| fs::read_to_string(child.join(file)).ok()?.trim().parse::<u64>().ok();
        let sum = below(directory, 1).into_iter().filter_map(of).fold(0, u64::saturating_add);
        if sum > 0 {
            let _ =
                Cgroup::at(directory).write(file, &sum.min(files::most_share(dialect)).to_string());
        }
    }
}

/// Removes the directories above this one as far as they are empty.
pub(super) fn prune(path: &Path, mount: &Path) {
    let above =
        path.ancestors().skip(1).take_while(|path| *path != mount && path.starts_with(mount));
    for directory in above {
        if fs::remove_dir(directory).is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {
            return;
        }
    }
}

/// The directories so far below this one.
pub(super) fn below(directory: &Path, depth: usize) -> Vec<PathBuf> {
    let mut level = vec![directory.to_owned()];
    for _ in 0..depth {
        let names = |path: PathBuf| {
            let names = Cgroup::at(&path).child_names().unwrap_or_default();
            names.into_iter().map(move |name| path.join(name))
        };
        level = level.into_iter().flat_map(names).collect();
    }
    level
}
