//! Layers of an image, one over the other (OCI image specification, `layer.md`).
//!
//! ```text
//!   a layer has      and takes away of those below
//!   x                x, unless both are directories
//!   .wh.x            x, with all that is in it
//!   .wh..wh..opq     all that is in its directory
//! ```
//!
//! An image's root is its own: a link to `/x` means the volume's, and is made so that it does
//! wherever that is mounted. All else is as with archives.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use tar::EntryType;

use super::{Bounds, UnpackError, Unpacking, inside, refused};
use crate::artifacts::oci::Fetched;

/// What says that something is taken away.
const MARK: &[u8] = b".wh.";
/// What says that of all in a directory; others that begin so are of a file system that is no more.
const OPAQUE: &[u8] = b".wh..wh..opq";
const OF_AUFS: &[u8] = b".wh..wh.";
/// What a file begins with that is packed so (RFC 1952, RFC 8878).
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Unpacks layers, from the lowest, into the empty directory `into`.
pub(in crate::artifacts) fn unpack_layers(
    layers: &[Fetched],
    into: &Path,
    bounds: Bounds<'_>,
) -> Result<(), UnpackError> {
    let mut unpacking = Unpacking::new(into, bounds);
    for Fetched { path, name } in layers {
        unpacking.begin_layer();
        let file = File::open(path)?;
        match name {
            Some(name) => unpacking.named(name, file)?,
            None => unpacking.packed(file)?,
        }
    }
    Ok(())
}

/// Whether an entry says that something is taken away.
pub(super) fn is_mark(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_bytes().starts_with(MARK))
}

/// Where a link leads, as seen from its directory.
pub(super) fn from_root(link: &Path, target: &Path) -> PathBuf {
    let Ok(below) = target.strip_prefix("/") else { return target.to_owned() };
    let depth = link.components().count().saturating_sub(1);
    let parts = std::iter::repeat_n(Path::new(".."), depth).chain([below]);
    let seen: PathBuf = parts.filter(|part| !part.as_os_str().is_empty()).collect();
    if seen.as_os_str().is_empty() { PathBuf::from(".") } else { seen }
}

impl Unpacking<'_> {
    fn begin_layer(&mut self) {
        self.layer = Some(BTreeSet::new());
        self.marks.clear();
    }

    /// How a layer is packed is seen by what it begins with: its type is what somebody says.
    fn packed(&mut self, file: File) -> Result<(), UnpackError> {
        let mut file = BufReader::new(file);
        let begin = file.fill_buf()?;
        if begin.starts_with(ZSTD) {
            return Err(UnpackError::Zstd);
        }
        match begin.starts_with(GZIP) {
            true => self.archive(flate2::bufread::MultiGzDecoder::new(file)),
            false => self.archive(file),
        }
    }

    /// A layer that is one file: a program, as far as anybody knows.
    fn named(&mut self, name: &str, file: File) -> Result<(), UnpackError> {
        let path = Path::new(name);
        let refuse = |why| Err(refused(path, why));
        let Some(path) = inside(path) else { return refuse("leads out of the image") };
        if path.as_os_str().is_empty() {
            return refuse("has no name");
        }
        (self.bounds.has_room)(file.metadata()?.len()).map_err(UnpackError::Room)?;
        self.file(&path, 0o755, file)
    }

    /// Takes away what a mark says. Nothing is left for the same one again in a layer, which would
    /// cost a look at all that the layer has there.
    pub(super) fn mark(&mut self, mark: &Path) -> Result<(), UnpackError> {
        if self.marks.contains(mark) {
            return Ok(());
        }
        self.charge(mark)?;
        self.marks.insert(mark.to_owned());
        let directory = mark.parent().unwrap_or_else(|| Path::new(""));
        let name = mark.file_name().unwrap_or_default().as_bytes();
        if name == OPAQUE {
            return self.take_away(directory, false);
        }
        if name.starts_with(OF_AUFS) {
            return Ok(());
        }
        let name = name.strip_prefix(MARK).unwrap_or_default();
        match name {
            b"" | b"." | b".." => Err(refused(mark, "takes away nothing that has a name")),
            name => self.take_away(&directory.join(std::ffi::OsStr::from_bytes(name)), true),
        }
    }

    /// Makes way for what a layer has at a path. Of two files of one layer, the later counts.
    pub(super) fn uncover(&mut self, path: &Path, kind: &EntryType) -> Result<(), UnpackError> {
        let Some(layer) = &mut self.layer else { return Ok(()) };
        // The root is a directory in each layer, though it is in no list.
        let is_directory = path.as_os_str().is_empty() || self.directories.contains(path);
        let both_directories = kind.is_dir() && is_directory;
        if both_directories {
            return Ok(());
        }
        if self.others.contains(path) && !kind.is_dir() {
            layer.remove(path);
        }
        self.take_away(path, true)
    }

    /// Removes what earlier layers have at and below a path. All of it was made here, so no link is
    /// gone through.
    fn take_away(&mut self, path: &Path, itself: bool) -> Result<(), UnpackError> {
        let Some(layer) = &self.layer else { return Ok(()) };
        let is_below = |at: &&PathBuf| (itself || *at != path) && !layer.contains(*at);
        let others: Vec<PathBuf> = below(&self.others, path).filter(is_below).cloned().collect();
        let directories: Vec<PathBuf> =
            below(&self.directories, path).filter(is_below).cloned().collect();
        for other in others {
            fs::remove_file(self.into.join(&other))?;
            self.others.remove(&other);
        }
        for directory in directories.into_iter().rev() {
            fs::remove_dir(self.into.join(&directory))?;
            self.directories.remove(&directory);
        }
        Ok(())
    }
}

/// Those of a set at and below a path.
fn below<'a>(set: &'a BTreeSet<PathBuf>, path: &'a Path) -> impl Iterator<Item = &'a PathBuf> {
    let from = (Bound::Included(path), Bound::Unbounded);
    set.range::<Path, _>(from).take_while(move |at| at.starts_with(path))
}

#[cfg(test)]
mod tests;
