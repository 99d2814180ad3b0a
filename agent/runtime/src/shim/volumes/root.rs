//! `readOnlyRootFilesystem`: of the machine's files none can be written, but for what is mounted
//! for the container over them.
//!
//! As in the container runtimes, `/dev` and `/proc` stay as they are; `/sys`, and what in `/proc`
//! changes the machine, can be written by who is `privileged`.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;

use super::ReadOnlyRoot;
use super::target::look;
use super::tree::Tree;
use crate::mounts;
use crate::sys;

/// What stays as it is, with all that is mounted below.
const LEFT: [&str; 2] = ["/dev", "/proc"];
/// What stays so for who is privileged.
const OF_PRIVILEGED: &str = "/sys";
/// What of `/proc` only who is privileged writes; runc's list.
const OF_THE_MACHINE: [&CStr; 5] =
    [c"/proc/bus", c"/proc/fs", c"/proc/irq", c"/proc/sys", c"/proc/sysrq-trigger"];

/// What of a `/proc` of its own a container must not write.
pub(in super::super) fn of_the_machine(root: Option<ReadOnlyRoot>) -> &'static [&'static CStr] {
    if root.is_some_and(|root| !root.privileged) { &OF_THE_MACHINE } else { &[] }
}

/// Makes the whole of the present namespace read-only, before anything is mounted in it for a
/// container. What is mounted on the machine later is not seen there: it would come in writable.
pub(super) fn make_read_only(privileged: bool) -> io::Result<()> {
    let before = mounts::all()?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private)?;
    sys::set_read_only(look("/")?.as_fd(), true)?;
    for path in to_leave(before, privileged) {
        match look(&path) {
            Ok(mount) => sys::set_writable(mount.as_fd())?,
            // Hidden by another mount: it is not seen.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    if !privileged {
        OF_THE_MACHINE.into_iter().try_for_each(cover)?;
    }
    Ok(())
}

/// Those to make writable again: what was so before, by what is on top at a path.
fn to_leave(before: Vec<(PathBuf, bool)>, privileged: bool) -> impl Iterator<Item = PathBuf> {
    let on_top: BTreeMap<PathBuf, bool> = before.into_iter().collect();
    let left = move |path: &Path| {
        let privileged = Some(OF_PRIVILEGED).filter(|_| privileged);
        LEFT.into_iter().chain(privileged).any(|root| path.starts_with(root))
    };
    let writable =
        move |(path, writable): (PathBuf, bool)| (writable && left(&path)).then_some(path);
    on_top.into_iter().filter_map(writable)
}

/// Mounts a path over itself, read-only.
fn cover(path: &CStr) -> io::Result<()> {
    let place = match look(path) {
        Err(Errno::NOENT) => return Ok(()),
        outcome => outcome?,
    };
    let tree = Tree::of(place.as_fd())?;
    tree.attach(place.as_fd())?;
    tree.make_read_only(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_writable_on_top_is_made_so_again() {
        let before = [
            ("/", true),
            ("/dev", true),
            ("/dev/hidden", true),
            ("/dev/hidden", false),
            ("/devices", true),
            ("/sys", true),
            ("/sys/fs/cgroup", true),
            ("/proc", true),
        ];
        let left = |privileged| {
            let before = before.map(|(path, writable)| (PathBuf::from(path), writable)).to_vec();
            let paths = to_leave(before, privileged).map(|path| path.display().to_string());
            paths.collect::<Vec<_>>()
        };
        assert_eq!(left(false), ["/dev", "/proc"]);
        assert_eq!(left(true), ["/dev", "/proc", "/sys", "/sys/fs/cgroup"]);
    }
}
