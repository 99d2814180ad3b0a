//! Removes what a pod has had on disk, and nothing else: never through a link, and never what is
//! mounted there.
//!
//! A pod's directories hold what its containers made: links, mounts that a privileged one shared
//! with the machine, directories in directories without end.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::mounts;

/// Directories deeper than this are first moved up, so that neither stack nor descriptors run out.
const DEEP: usize = 64;

/// How many entries are read at a time.
const BATCH: usize = 1024;

/// Removes a directory with all that is in it. What is mounted there is unmounted before.
///
/// # Errors
/// `NotFound` where it is not; whatever can't be removed stops it, half done.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    let root = open(CWD, &CString::new(directory.as_os_str().as_encoded_bytes())?, None)?;
    for mount in mounts::below(directory)?.iter().rev() {
        rustix::mount::unmount(mount.as_path(), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
    }
    let device = rustix::fs::fstat(&root)?.st_dev;
    Removal { root: root.as_fd(), device, moved: 0 }.empty(root.as_fd(), 0)?;
    std::fs::remove_dir(directory)
}

struct Removal<'a> {
    root: BorrowedFd<'a>,
    device: u64,
    moved: u64,
}

impl Removal<'_> {
    fn empty(&mut self, directory: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
        loop {
            let names = names(directory)?;
            if names.is_empty() {
                return Ok(());
            }
            for name in names {
                self.remove(directory, &name, depth)?;
            }
        }
    }

    fn remove(&mut self, directory: BorrowedFd<'_>, name: &CStr, depth: usize) -> io::Result<()> {
        match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {}
            outcome => return Ok(outcome?),
        }
        if depth >= DEEP {
            return self.move_up(directory, name);
        }
        let child = open(directory, name, Some(self.device))?;
        self.empty(child.as_fd(), depth + 1)?;
        Ok(rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)?)
    }

    /// Into the root, which is read again until nothing is in it.
    fn move_up(&mut self, directory: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        loop {
            self.moved += 1;
            let free = format!("moved-{}", self.moved);
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(directory, name, self.root, free, flags) {
                Err(Errno::EXIST) => {}
                outcome => return Ok(outcome?),
            }
        }
    }
}

/// Opens a directory: no link, and nothing that is mounted where `device` says what is not.
pub(crate) fn open(at: BorrowedFd<'_>, name: &CStr, device: Option<u64>) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Some(device) = device else {
        return Ok(rustix::fs::openat(at, name, flags, Mode::empty())?);
    };
    let within = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(at, name, flags, Mode::empty(), within) {
        // Before Linux 5.6 a mount shows by its file system alone.
        Err(Errno::NOSYS) => {
            let found = rustix::fs::openat(at, name, flags, Mode::empty())?;
            let same = rustix::fs::fstat(&found)?.st_dev == device;
            if same { Ok(found) } else { Err(Errno::XDEV.into()) }
        }
        outcome => Ok(outcome?),
    }
}

fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if ![c".", c".."].contains(&name.as_c_str()) {
            names.push(name);
        }
        if names.len() == BATCH {
            break;
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_not_followed_and_no_depth_is_too_much() {
        let place = tempfile::tempdir().unwrap();
        let (pod, kept) = (place.path().join("pod"), place.path().join("kept"));
        fs::create_dir_all(pod.join("a/b")).unwrap();
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "").unwrap();
        fs::write(pod.join("moved-1"), "in the way").unwrap();
        symlink(&kept, pod.join("a/link")).unwrap();
        // Far deeper than there are descriptors, and longer than a path may be.
        let mut at = open(CWD, &CString::new(pod.to_str().unwrap()).unwrap(), None).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "deep", Mode::RWXU).unwrap();
            at = open(at.as_fd(), c"deep", None).unwrap();
        }
        remove(&pod).unwrap();
        assert!(!pod.exists() && kept.join("file").exists());
        assert_eq!(remove(&pod).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
