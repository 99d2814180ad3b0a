//! A part of a volume (`subPath`): whatever links are in the volume, it is never left.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::tree::is_unknown;

/// How often a look-up is begun anew while somebody renames directories under it.
const TRIES: usize = 100;

/// Opens `path` below `root`; where nothing is, a directory is made with the root's permissions, as
/// the kubelet does.
///
/// # Errors
/// `CrossesDevices` where a link leads out of `root`.
pub(super) fn open(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    walk(root, path, |at, name| {
        let mode = rustix::fs::fstat(root)?.st_mode & 0o7777;
        rustix::fs::mkdirat(at, name, Mode::from_raw_mode(mode))?;
        Ok(rustix::fs::chmodat(at, name, Mode::from_raw_mode(mode), AtFlags::empty())?)
    })
}

/// The same of what nothing is made in.
///
/// # Errors
/// As [`open`]; `NotFound` where nothing is.
pub(super) fn find(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    walk(root, path, |_, _| Err(io::ErrorKind::NotFound.into()))
}

fn walk(
    root: BorrowedFd<'_>,
    path: &str,
    make: impl Fn(BorrowedFd<'_>, &Path) -> io::Result<()>,
) -> io::Result<OwnedFd> {
    let mut so_far = PathBuf::new();
    let mut at = root.try_clone_to_owned()?;
    for part in Path::new(path).components() {
        let Component::Normal(name) = part else {
            return Err(Errno::XDEV.into());
        };
        so_far.push(name);
        at = match step(root, at.as_fd(), &so_far, name.as_ref()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(at.as_fd(), name.as_ref())?;
                step(root, at.as_fd(), &so_far, name.as_ref())?
            }
            outcome => outcome?,
        };
    }
    Ok(at)
}

/// One step further, to `so_far` below the root, which is `name` in `at`.
fn step(
    root: BorrowedFd<'_>,
    at: BorrowedFd<'_>,
    so_far: &Path,
    name: &Path,
) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..TRIES {
        match rustix::fs::openat2(root, so_far, flags, Mode::empty(), within) {
            Err(Errno::AGAIN) => {}
            Err(errno) if is_unknown(&errno.into()) => return step_without_links(at, name),
            outcome => return Ok(outcome?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// Before Linux 5.6: no link is followed at all.
fn step_without_links(at: BorrowedFd<'_>, name: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = rustix::fs::openat(at, name, flags, Mode::empty())?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode);
    if kind == FileType::Symlink { Err(Errno::XDEV.into()) } else { Ok(found) }
}
