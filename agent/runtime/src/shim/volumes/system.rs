//! The machine's file systems that show what a pod has of its own: `/sys` of its network, `/dev/shm`
//! and `/dev/mqueue` of its IPC, `/proc` of its process ids. Each is mounted anew over the machine's, as
//! the container runtimes do; `/proc` by the container's first process, since the kernel shows there the
//! processes of who mounts it ([`crate::sys::Launch`]).

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::Problem;
use super::target::{Targets, look};
use super::tree::Tree;
use crate::mounts;

/// Which of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct System {
    pub(in super::super) network: bool,
    pub(in super::super) ipc: bool,
    pub(in super::super) pids: bool,
}

/// Where POSIX' shared memory is.
pub(super) const SHM: &str = "/dev/shm";
/// Where POSIX' message queues are, if anywhere.
const QUEUES: &str = "/dev/mqueue";
const SYS: &str = "/sys";

impl System {
    pub(super) fn is_the_machines(self) -> bool {
        self == Self::default()
    }
}

/// Mounts `/sys` of the present network over the machine's, with all that is mounted in that, and as
/// writable as it is.
pub(super) fn show_network() -> io::Result<()> {
    let all = mounts::all()?;
    // Of several the last is on top.
    let writable = all.iter().rev().find(|(path, _)| path == Path::new(SYS)).map(|(_, w)| *w);
    let Some(writable) = writable else { return Ok(()) };
    let mut inside = Vec::new();
    for path in outermost(all.into_iter().map(|(path, _)| path)) {
        match look(&path) {
            Ok(place) => inside.push((Tree::of(place.as_fd())?, path)),
            // Hidden by another mount.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let own = Tree::of_kernel("sysfs")?;
    own.attach(look(SYS)?.as_fd())?;
    for (tree, path) in inside {
        tree.attach(look(&path)?.as_fd())?;
    }
    if writable { Ok(()) } else { own.make_read_only(false) }
}

/// What is mounted below `/sys`, without what is mounted in that.
fn outermost(paths: impl Iterator<Item = PathBuf>) -> BTreeSet<PathBuf> {
    let below = paths.filter(|path| path.starts_with(SYS) && path != Path::new(SYS));
    let mut outermost = BTreeSet::new();
    // In order of their names a directory comes before what is in it.
    for path in below.collect::<BTreeSet<_>>() {
        let is_inside = |known: &PathBuf| path.starts_with(known);
        if !outermost.iter().any(is_inside) {
            outermost.insert(path);
        }
    }
    outermost
}

/// Mounts the pod's shared memory over the machine's; and the message queues of the present IPC, where
/// the machine's are seen.
pub(super) fn show_ipc(memory: &Tree, targets: &mut Targets<'_>) -> Result<(), Problem> {
    let failed = |why: String| Problem::System { what: SHM, why };
    let target = targets.open(SHM, memory.as_fd()).map_err(failed)?;
    memory.attach(target.as_fd()).map_err(|error| failed(error.to_string()))?;
    show_queues().map_err(Problem::system(QUEUES))
}

fn show_queues() -> io::Result<()> {
    let place = match look(QUEUES) {
        Err(Errno::NOENT) => return Ok(()),
        outcome => outcome?,
    };
    match Tree::of_kernel("mqueue") {
        // A kernel that has none shows none.
        Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => Ok(()),
        outcome => outcome?.attach(place.as_fd()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_in_a_mount_comes_with_it() {
        let paths =
            ["/sys", "/sys/fs/cgroup/unified", "/system", "/sys/fs/cgroup", "/sys/kernel/debug"];
        let found = outermost(paths.into_iter().map(PathBuf::from));
        let wanted = ["/sys/fs/cgroup", "/sys/kernel/debug"].map(PathBuf::from);
        assert_eq!(found, BTreeSet::from(wanted));
    }
}
