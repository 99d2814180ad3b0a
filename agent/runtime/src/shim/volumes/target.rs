//! Where a volume is seen: a directory or file of the machine, or of a volume that was mounted
//! before. Where there is none, one is made: in the volume, as Kubernetes' runtimes do, but never
//! on the machine ([`StandIn`]).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::namespace::Namespace;
use super::stand_in::{self, StandIn};

/// The places of a container's mounts, in its namespace, which is entered.
pub(super) struct Targets<'a> {
    own: &'a Namespace,
    stand_ins: Vec<StandIn>,
    /// Where volumes are already.
    mounted: Vec<String>,
}

impl<'a> Targets<'a> {
    pub(super) fn new(own: &'a Namespace) -> Self {
        Self { own, stand_ins: Vec::new(), mounted: Vec::new() }
    }

    /// Opens what is at `path`, for `tree` to be mounted over it. Paths inside of others come
    /// later.
    pub(super) fn open(&mut self, path: &str, tree: BorrowedFd<'_>) -> Result<OwnedFd, String> {
        let wanted = kind_of(tree).map_err(|error| error.to_string())?;
        let found = match look(path) {
            Err(Errno::NOENT) => {
                self.make(path, wanted).map_err(|error| {
                    format!("does not exist on this machine, and can't be made: {error}")
                })?;
                look(path)
            }
            outcome => outcome,
        };
        let target = found.map_err(|errno| errno.to_string())?;
        let is_directory = kind_of(target.as_fd()).map_err(|error| error.to_string())?;
        self.mounted.push(parts(path).join("/"));
        match (is_directory == FileType::Directory, wanted == FileType::Directory) {
            (true, false) => {
                Err("is a directory on this machine, and the volume a file".to_owned())
            }
            (false, true) => {
                Err("is a file on this machine, and the volume a directory".to_owned())
            }
            _ => Ok(target),
        }
    }

    /// Once all is mounted.
    pub(super) fn finish(self) -> io::Result<()> {
        self.stand_ins.iter().try_for_each(StandIn::finish)
    }

    fn make(&mut self, path: &str, wanted: FileType) -> io::Result<()> {
        let parts = parts(path);
        let there = |count: usize| format!("/{}", parts[..count].join("/"));
        // The root is always there.
        let existing = (0..parts.len()).rev().find(|count| look(there(*count)).is_ok());
        let existing = existing.unwrap_or(0);
        let above = there(existing);
        if !self.is_in_volume(&parts[..existing]) {
            let directory = read(&above)?;
            let known = self.stand_ins.iter().map(|known| known.holds(directory.as_fd()));
            if !known.collect::<io::Result<Vec<_>>>()?.contains(&true) {
                self.stand_ins.push(StandIn::put_over(directory.as_fd())?);
                // It may be over the root that we have.
                self.own.enter()?;
            }
        }
        let mut at = read(&above)?;
        for (number, part) in parts.iter().enumerate().skip(existing) {
            let is_last = number + 1 == parts.len();
            let kind = if is_last { wanted } else { FileType::Directory };
            stand_in::make(at.as_fd(), CString::new(*part)?.as_c_str(), kind)?;
            if !is_last {
                at = read(&there(number + 1))?;
            }
        }
        Ok(())
    }

    fn is_in_volume(&self, parts: &[&str]) -> bool {
        (1..=parts.len()).any(|count| self.mounted.contains(&parts[..count].join("/")))
    }
}

/// The names of a path; none of them is `..`, which is refused before.
pub(super) fn parts(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !["", "."].contains(part)).collect()
}

/// What is at a path, links followed; not opened.
pub(super) fn look(path: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

fn read(directory: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, directory, flags, Mode::empty())?)
}

fn kind_of(file: BorrowedFd<'_>) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode))
}
