//! The place of a store, held while nobody serves it: to put another store there, and keep the former.
//!
//! ```text
//!   held ─▶ log folded in ─▶ former linked beside ─▶ a log that is left set aside ─▶ draft renamed
//!                                                                                   into its place
//! ```
//!
//! Killed at any moment, the file in the place is the former store whole, or the new one whole. A log
//! never stands beside a store that it is not of: SQLite would fold it in.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::draft::{Draft, LOGS};
use super::failure;
use super::look::{Summary, read_held};
use super::open::{Lock, Mark, beside, connect, exists, lock, remove_if_there, sync_parent};
use crate::{KeyValue, Result, StoreError};

/// What names of kept stores go on with.
pub(super) const KEPT: &str = ".before-restore-";

/// A store's place with nobody in it.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    lock: Lock,
}

impl Place {
    /// Holds the place at `path`, whether or not there is a store.
    ///
    /// Errors: [`StoreError::Locked`] while a store is served from there.
    pub fn hold(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let lock = lock(&path)?;
        unlink_unfinished(&path)?;
        Ok(Self { path, lock })
    }

    /// What is there, as [`super::read_file`] reads it.
    ///
    /// Errors: those of opening a store.
    pub fn read(&self) -> Result<(Summary, Vec<KeyValue>)> {
        read_held(&self.lock.file, &self.path)
    }

    /// Folds the log into a store that can be read, so that its file is the whole of it.
    ///
    /// Errors: those of opening a store; [`StoreError::Locked`] while somebody looks at what is not
    /// folded in yet.
    pub fn fold_log(&self) -> Result<()> {
        let named = |error| failure::sqlite(&self.path, "folding the log into", error);
        self.lock.mark(Mark::Closing)?;
        let connection = connect(&self.path)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(named)?;
        let busy: bool = connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
            .map_err(named)?;
        if busy {
            return Err(StoreError::Locked { path: self.path.clone() });
        }
        connection.close().map_err(|(_, error)| named(error))
    }

    /// Puts `draft`, which was made for this place, there. What was there is kept under a name that
    /// ends with `moment`; that name, if anything was.
    ///
    /// Errors: [`StoreError::Exists`] when something is kept under that name already. Where what is
    /// there can't be kept, nothing has changed.
    pub fn replace(self, draft: Draft, moment: &str) -> Result<Option<PathBuf>> {
        let kept = beside(&self.path, &format!("{KEPT}{moment}"));
        if exists(&kept)? {
            return Err(StoreError::Exists { path: kept });
        }
        self.lock.mark(Mark::Closing)?;
        let named = |error: io::Error| failure::io(&kept, "keeping the former store as", error);
        let was_there = match fs::hard_link(&self.path, &kept) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(named(error)),
        };
        for suffix in LOGS {
            let (log, kept) = (beside(&self.path, suffix), beside(&kept, suffix));
            if exists(&log)? {
                fs::rename(&log, &kept).map_err(|error| failure::io(&kept, "keeping", error))?;
            }
        }
        remove_if_there(&beside(&self.path, "-shm"))?;
        sync_parent(&self.path)?;
        draft.publish(true)?;
        Ok(was_there.then_some(kept))
    }
}

/// A restore that was killed may have left a second name for the store in its place. Two names of one
/// store would have two logs.
pub(super) fn unlink_unfinished(path: &Path) -> Result<()> {
    let Ok(store) = fs::metadata(path) else { return Ok(()) };
    if store.nlink() < 2 {
        return Ok(());
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let prefix = format!("{}{KEPT}", name.to_string_lossy());
    let named = |error| failure::io(parent, "reading", error);
    for entry in fs::read_dir(parent).map_err(named)? {
        let entry = entry.map_err(named)?;
        let kept = entry.file_name().to_string_lossy().starts_with(&prefix);
        let same = entry
            .metadata()
            .is_ok_and(|other| (other.dev(), other.ino()) == (store.dev(), store.ino()));
        if kept && same {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}
