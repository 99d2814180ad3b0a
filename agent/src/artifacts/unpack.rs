//! Unpacking what was fetched and verified, into a directory that nobody else sees yet: an archive,
//! or the layers of an image ([`layers`]).
//!
//! Whoever named the digest vouches for the content, not for its author's care: an archive writes
//! nothing outside its directory, makes no devices, keeps no owner, no setuid bit, no extended
//! attribute and nothing that others may write, and is bounded, also in what of it is held in memory.

mod layers;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufReader, Read, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use everynode_model::Packing;
use tar::EntryType;

pub(super) use layers::unpack_layers;

/// Files, directories and links: a whole Debian has fewer, and each costs an inode.
const MAX_ENTRIES: usize = 100_000;
/// The longest path, and the longest target of a link: the kernel's.
const MAX_PATH: usize = 4096;
/// The most bytes that all paths have together: with all the entries that may be, 160 for each. They
/// are held in memory, some of them twice.
const MAX_NAMES: usize = 16 << 20;
/// The most that stands between the contents of two files: headers, a long name and a long target.
/// They are read into memory as a whole.
const MAX_BETWEEN: u64 = 256 << 10;

/// Why it could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    /// The disk, or the archive's own format.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// An entry that an artifact must not have.
    #[error("entry {path:?}: {why}")]
    Entry { path: String, why: &'static str },
    /// More than is taken.
    #[error("more than {MAX_ENTRIES} entries")]
    Entries,
    /// More than is taken.
    #[error("more than {MAX_NAMES} bytes of names")]
    Names,
    /// More than is taken.
    #[error("more than {0} bytes unpacked")]
    Bytes(u64),
    /// The disk has no room for the next file.
    #[error("{0}")]
    Room(String),
    /// In a form that can't be bounded.
    #[error("packed by zstd, whose window is not bounded")]
    Zstd,
}

/// Says whether so many bytes have room.
pub(super) type HasRoom<'a> = &'a dyn Fn(u64) -> Result<(), String>;

/// How much is unpacked at most.
#[derive(Clone, Copy)]
pub(super) struct Bounds<'a> {
    /// Bytes.
    pub(super) max: u64,
    pub(super) has_room: HasRoom<'a>,
}

/// Unpacks an archive into the empty directory `into`.
pub(super) fn unpack(
    file: File,
    packing: Packing,
    into: &Path,
    bounds: Bounds<'_>,
) -> Result<(), UnpackError> {
    let file = BufReader::new(file);
    let mut unpacking = Unpacking::new(into, bounds);
    match packing {
        Packing::TarGz => unpacking.archive(flate2::bufread::MultiGzDecoder::new(file)),
        Packing::Image | Packing::Tar | Packing::Plain => unpacking.archive(file),
    }
}

struct Unpacking<'a> {
    into: &'a Path,
    /// The directories that were made here; everything else that was is in `others`.
    directories: BTreeSet<PathBuf>,
    others: BTreeSet<PathBuf>,
    /// Of layers: what the present one has made or gone through. `None` for an archive.
    layer: Option<BTreeSet<PathBuf>>,
    /// The marks of the present layer that were seen to.
    marks: BTreeSet<PathBuf>,
    entries: usize,
    /// How many bytes of names may come still.
    names: usize,
    bounds: Bounds<'a>,
    left: u64,
}

/// Lets no more through than somebody has allowed before.
struct Bounded<R> {
    from: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 && !buffer.is_empty() {
            return Err(io::Error::other("a name or an extension that is too long"));
        }
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.from.read(buffer.get_mut(..most).unwrap_or_default())?;
        self.left.set(left.saturating_sub(read as u64));
        Ok(read)
    }
}

impl<'a> Unpacking<'a> {
    fn new(into: &'a Path, bounds: Bounds<'a>) -> Self {
        let (directories, others, marks) = Default::default();
        let (entries, names, left) = (0, MAX_NAMES, bounds.max);
        Self { into, directories, others, layer: None, marks, entries, names, bounds, left }
    }

    fn archive(&mut self, packed: impl Read) -> Result<(), UnpackError> {
        let left = Rc::new(Cell::new(MAX_BETWEEN));
        let mut archive = tar::Archive::new(Bounded { from: packed, left: Rc::clone(&left) });
        for entry in archive.entries()? {
            if self.entries >= MAX_ENTRIES {
                return Err(UnpackError::Entries);
            }
            self.entries += 1;
            let mut entry = entry?;
            // As much as the entry says that it has, and then again what may stand between two.
            left.set(entry.size().saturating_add(MAX_BETWEEN));
            self.entry(&mut entry)?;
            left.set(MAX_BETWEEN);
        }
        Ok(())
    }

    fn entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<(), UnpackError> {
        let path = entry.path()?.into_owned();
        let refuse = |why| Err(refused(&path, why));
        let Some(inside) = inside(&path) else { return refuse("leads out of the archive") };
        let link = entry.link_name()?.map(std::borrow::Cow::into_owned);
        match (entry.header().entry_type(), link) {
            (EntryType::XGlobalHeader, _) => Ok(()),
            _ if self.layer.is_some() && layers::is_mark(&inside) => self.mark(&inside),
            (EntryType::Directory, _) => {
                self.uncover(&inside, &EntryType::Directory)?;
                self.directory(&inside)
            }
            _ if inside.as_os_str().is_empty() => refuse("has no name"),
            (EntryType::Regular | EntryType::Continuous, _) => {
                let (mode, size) = (entry.header().mode()?, entry.size());
                (self.bounds.has_room)(size).map_err(UnpackError::Room)?;
                self.file(&inside, mode, entry)
            }
            (EntryType::Symlink, Some(target)) if self.layer.is_some() => {
                self.symlink(&inside, &layers::from_root(&inside, &target))
            }
            (EntryType::Symlink, Some(target)) => self.symlink(&inside, &target),
            (EntryType::Link, Some(target)) => self.hard_link(&inside, &target),
            (EntryType::Char | EntryType::Block | EntryType::Fifo, _) => {
                refuse("devices and pipes are not unpacked")
            }
            _ => refuse("not a file, a directory or a link"),
        }
    }

    fn directory(&mut self, path: &Path) -> Result<(), UnpackError> {
        let mut at = PathBuf::new();
        for part in path.components() {
            at.push(part);
            if let Some(layer) = &mut self.layer {
                layer.insert(at.clone());
            }
            if self.directories.contains(&at) {
                continue;
            }
            if self.others.contains(&at) {
                return Err(refused(path, "leads through a link or a file"));
            }
            if self.directories.len() >= MAX_ENTRIES {
                return Err(UnpackError::Entries);
            }
            self.charge(&at)?;
            make_directory(&self.into.join(&at))?;
            self.directories.insert(at.clone());
        }
        Ok(())
    }

    /// Takes the name for something that is no directory.
    fn take(&mut self, path: &Path) -> Result<PathBuf, UnpackError> {
        self.directory(path.parent().unwrap_or_else(|| Path::new("")))?;
        self.uncover(path, &EntryType::Regular)?;
        self.charge(path)?;
        if self.directories.contains(path) || !self.others.insert(path.to_owned()) {
            return Err(refused(path, "is there twice"));
        }
        if let Some(layer) = &mut self.layer {
            layer.insert(path.to_owned());
        }
        Ok(self.into.join(path))
    }

    /// A name that is held from now on.
    fn charge(&mut self, path: &Path) -> Result<(), UnpackError> {
        let left = self.names.checked_sub(path.as_os_str().len());
        self.names = left.ok_or(UnpackError::Names)?;
        Ok(())
    }

    fn file(&mut self, path: &Path, mode: u32, content: impl Read) -> Result<(), UnpackError> {
        let at = self.take(path)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&at)?;
        // One byte more than may be, to see that there is more.
        let written = io::copy(&mut content.take(self.left.saturating_add(1)), &mut file)?;
        self.left = self.left.checked_sub(written).ok_or(UnpackError::Bytes(self.bounds.max))?;
        file.flush()?;
        let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
        file.set_permissions(Permissions::from_mode(mode))?;
        Ok(())
    }

    fn symlink(&mut self, path: &Path, target: &Path) -> Result<(), UnpackError> {
        let from = path.parent().unwrap_or_else(|| Path::new("")).join(target);
        if target.is_absolute() || !stays_inside(&from) {
            return Err(refused(path, "is a link that leads out of the archive"));
        }
        let at = self.take(path)?;
        Ok(symlink(target, at)?)
    }

    fn hard_link(&mut self, path: &Path, target: &Path) -> Result<(), UnpackError> {
        let target = inside(target).filter(|target| self.others.contains(target));
        let target = target.map(|target| self.into.join(target));
        let Some(target) = target.filter(|it| it.symlink_metadata().is_ok_and(|it| it.is_file()))
        else {
            return Err(refused(path, "is a link to no file of the archive"));
        };
        let at = self.take(path)?;
        Ok(fs::hard_link(target, at)?)
    }
}

/// A directory that everybody may read, whatever the agent's umask is.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o755))
}

fn refused(path: &Path, why: &'static str) -> UnpackError {
    UnpackError::Entry { path: path.display().to_string(), why }
}

/// An archive's path as one below its directory; `None` where it is none.
fn inside(path: &Path) -> Option<PathBuf> {
    let plain = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    let short = path.as_os_str().len() <= MAX_PATH;
    (short && path.components().all(|part| plain(&part)))
        .then(|| path.components().filter(|part| matches!(part, Component::Normal(_))).collect())
}

/// Whether a path leads nowhere else, by its names: what other links make of them is seen only when it
/// is followed, and nothing is written by following one.
fn stays_inside(path: &Path) -> bool {
    let mut depth = 0_usize;
    path.components().all(|part| match part {
        Component::Normal(_) => {
            depth += 1;
            true
        }
        Component::CurDir => true,
        Component::ParentDir => depth.checked_sub(1).map(|above| depth = above).is_some(),
        Component::RootDir | Component::Prefix(_) => false,
    })
}

#[cfg(test)]
mod tests;
