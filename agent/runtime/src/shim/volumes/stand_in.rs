//! A directory in the place of one of the machine's, for a mount at a path that the machine has
//! not: nothing is made on its disks.
//!
//! It is in memory, and has all that is in the other, each entry mounted; to that are added the
//! directories that lead to the mount. What is *in* an entry stays the machine's, also what becomes
//! of it later. Of the directory itself a container sees what was there at its start, and can make,
//! rename and remove nothing in it. An overlay would not be better: it hides changes, too, and
//! keeps from the machine what is written.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use super::tree::Tree;

/// Above this a start would take too long: each entry is a mount.
const MAX_ENTRIES: usize = 1024;

/// A directory in the place of one of the machine's.
pub(super) struct StandIn {
    tree: Tree,
    /// Of its file system, which has no other mount.
    device: u64,
}

/// One entry of the machine's directory.
enum Entry {
    /// Mounted.
    Mount(Tree, FileType),
    /// A link is only copied.
    Link(std::ffi::CString),
}

impl StandIn {
    /// Puts one in the place of `machine`, a directory of the present namespace. Who has that as
    /// the root or working directory has to enter the namespace again.
    pub(super) fn put_over(machine: BorrowedFd<'_>) -> io::Result<Self> {
        let entries = entries(machine)?;
        let stat = rustix::fs::fstat(machine)?;
        let tree = Tree::in_memory(None)?;
        let root = open(tree.as_fd(), c".")?;
        // The machine's owner and permissions, as programs check them.
        let (user, group) = (stat.st_uid, stat.st_gid);
        let as_there = (rustix::fs::Uid::from_raw(user), rustix::fs::Gid::from_raw(group));
        rustix::fs::chownat(&root, c"", Some(as_there.0), Some(as_there.1), AtFlags::EMPTY_PATH)?;
        rustix::fs::chmodat(
            &root,
            c".",
            Mode::from_raw_mode(stat.st_mode & 0o7777),
            AtFlags::empty(),
        )?;
        for (name, entry) in &entries {
            match entry {
                Entry::Mount(_, kind) => make(root.as_fd(), name, *kind)?,
                Entry::Link(to) => rustix::fs::symlinkat(to, &root, name)?,
            }
        }
        tree.attach(machine)?;
        for (name, entry) in &entries {
            if let Entry::Mount(entry, _) = entry {
                entry.attach(open(root.as_fd(), name)?.as_fd())?;
            }
        }
        let device = rustix::fs::fstat(&root)?.st_dev;
        Ok(Self { tree, device })
    }

    /// Whether a directory is in it, and not in one of its entries.
    pub(super) fn holds(&self, directory: BorrowedFd<'_>) -> io::Result<bool> {
        Ok(rustix::fs::fstat(directory)?.st_dev == self.device)
    }

    /// From now on nothing can be made in it.
    pub(super) fn finish(&self) -> io::Result<()> {
        self.tree.make_read_only(false)
    }
}

/// Makes an empty directory, or a file, for something to be mounted over it.
pub(super) fn make(at: BorrowedFd<'_>, name: &std::ffi::CStr, kind: FileType) -> io::Result<()> {
    if kind == FileType::Directory {
        return Ok(rustix::fs::mkdirat(at, name, Mode::from_raw_mode(0o755))?);
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, name, flags, Mode::from_raw_mode(0o644)).map(drop)?)
}

fn entries(machine: BorrowedFd<'_>) -> io::Result<Vec<(std::ffi::CString, Entry)>> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(machine)? {
        let name = entry?.file_name().to_owned();
        if [c".", c".."].contains(&name.as_c_str()) {
            continue;
        }
        if entries.len() == MAX_ENTRIES {
            return Err(io::Error::other(format!("more than {MAX_ENTRIES} entries")));
        }
        let file = match open(machine, &name) {
            // It went while we looked.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            outcome => outcome?,
        };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
        let entry = match kind {
            FileType::Symlink => Entry::Link(rustix::fs::readlinkat(&file, c"", Vec::new())?),
            kind => Entry::Mount(Tree::of(file.as_fd())?, kind),
        };
        entries.push((name, entry));
    }
    Ok(entries)
}

/// The entry itself; in another directory, whatever is mounted there.
fn open(at: BorrowedFd<'_>, name: &std::ffi::CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, name, flags, Mode::empty())?)
}
