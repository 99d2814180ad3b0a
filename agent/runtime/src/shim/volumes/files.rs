//! Files of ConfigMaps, Secrets and fields of the pod, laid out as the kubelet does: all of them
//! can be replaced at once by renaming one link.
//!
//! ```text
//!   server.conf ──▶ ..data/server.conf        ..data ──▶ ..1754000000123
//!   tls         ──▶ ..data/tls                ..1754000000123/{server.conf,tls/cert.pem}
//! ```

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustix::fs::{Gid, Mode, OFlags};
use rustix::io::Errno;

use super::super::clock;
use super::wire::SpecFile;

/// The link that all others lead through.
const DATA: &str = "..data";

/// Whose group files made for a pod are, where its template says so (`fsGroup`).
pub(super) type Group = Option<Gid>;

/// Makes the files in an empty directory.
pub(super) fn write(volume: BorrowedFd<'_>, files: &[SpecFile], group: Group) -> io::Result<()> {
    let version = format!("..{}", clock::wall().as_millis());
    let inside = directory(volume, &version, group)?;
    let mut first = BTreeSet::new();
    for file in files {
        let parts = parts(&file.path)?;
        let (name, parents) = parts.split_last().ok_or(io::ErrorKind::InvalidInput)?;
        let mut parent = inside.try_clone()?;
        for part in parents {
            parent = directory(parent.as_fd(), part, group)?;
        }
        put(parent.as_fd(), name, file, group)?;
        first.extend(parts.first().copied());
    }
    rustix::fs::symlinkat(&version, volume, DATA)?;
    for name in first {
        rustix::fs::symlinkat(format!("{DATA}/{name}"), volume, name)?;
    }
    Ok(())
}

/// Gives a directory that was made for the pod to its group; what is made there later is the
/// group's, too.
pub(super) fn give(directory: BorrowedFd<'_>, mode: u32, group: Group) -> io::Result<()> {
    set(directory, mode, 0o2050, group)
}

/// Sets a mode, and with a group that and what it may do.
fn set(file: BorrowedFd<'_>, mode: u32, of_group: u32, group: Group) -> io::Result<()> {
    let mode = if group.is_some() { mode | of_group } else { mode };
    if group.is_some() {
        rustix::fs::fchown(file, None, group)?;
    }
    Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?)
}

/// The names that a path consists of; none of them leads out of the volume or looks like ours.
fn parts(path: &str) -> io::Result<Vec<&str>> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, format!("{path:?} is no file's"));
    let part = |part| match part {
        Component::Normal(name) => name.to_str().ok_or_else(wrong),
        _ => Err(wrong()),
    };
    let parts = Path::new(path).components().map(part).collect::<io::Result<Vec<_>>>()?;
    match parts.first() {
        Some(first) if !first.starts_with("..") => Ok(parts),
        _ => Err(wrong()),
    }
}

/// A directory, made if it is not there.
fn directory(parent: BorrowedFd<'_>, name: &str, group: Group) -> io::Result<OwnedFd> {
    let made = match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(errno.into()),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    if made {
        give(directory.as_fd(), 0o755, group)?;
    }
    Ok(directory)
}

fn put(parent: BorrowedFd<'_>, name: &str, file: &SpecFile, group: Group) -> io::Result<()> {
    let content = BASE64_STANDARD.decode(&file.content).map_err(io::Error::other)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let made = rustix::fs::openat(parent, name, flags, Mode::RUSR)?;
    let mut made = std::fs::File::from(made);
    made.write_all(&content)?;
    set(made.as_fd(), file.mode, 0o440, group)
}
