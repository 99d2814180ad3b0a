//! A copy of a store on its way: under a name of its own until it is whole, then in its place at once.
//!
//! ```text
//!   copy ─▶ TO.partial ── looked at, perhaps changed ──▶ publish: synced, renamed to TO
//!               └── dropped on the way: removed; killed: left there, and used again by the next
//! ```
//!
//! A draft is locked while somebody works on it, so that two copies to one name don't mix.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};

use super::failure;
use super::look::look;
use super::open::{MODE, beside, exists, remove_if_there, sync_parent};
use crate::{Result, StoreError};

/// What SQLite and a [`super::SqliteStore`] may leave beside a draft.
const COMPANIONS: [&str; 4] = ["-wal", "-shm", "-journal", ".lock"];

/// What SQLite would fold into any store that gets the name beside which it is.
pub(super) const LOGS: [&str; 2] = ["-wal", "-journal"];

/// A copy that is not in its place yet. Dropped, it is removed.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    to: PathBuf,
    /// Locked. Closed after SQLite has closed the file, whose own locks would go with it.
    file: File,
    published: bool,
}

impl Draft {
    /// Copies the store at `from`, as of one revision, to a draft for `to` (mode 0600). Blocks.
    ///
    /// The store may be open meanwhile, here or in another process, and goes on writing. Errors:
    /// [`StoreError::Locked`] when another copy to `to` is under way, or `from` is locked by
    /// something that is no store; else those of opening a store.
    pub fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<Self> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let source = look(from)?;
        let draft = Self::begin(to)?;
        copy(source.connection(), from, &draft.path)?;
        Ok(draft)
    }

    /// Where it is until it is published. It may be opened as a store of its own.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts it in its place, synced. With `replaces` a file there is replaced, all at once.
    ///
    /// Errors: [`StoreError::Exists`] when there is one and it is not to be replaced, or the log of
    /// another store is beside its place; then, and on all others, what was there is as it was.
    pub fn publish(mut self, replaces: bool) -> Result<()> {
        let log = beside(&self.path, "-wal");
        if exists(&log)? {
            // Closing folds it in; one that is left means that the file alone is not the whole.
            let detail = format!("its log {} could not be folded in", log.display());
            return Err(StoreError::Corrupt { path: self.path.clone(), detail });
        }
        for log in LOGS.map(|suffix| beside(&self.to, suffix)) {
            if fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
                return Err(StoreError::Exists { path: log });
            }
        }
        self.file.sync_all().map_err(|error| failure::io(&self.path, "syncing", error))?;
        let named = |error: io::Error| failure::io(&self.to, "naming", error);
        if replaces {
            fs::rename(&self.path, &self.to).map_err(named)?;
        } else {
            rename_to_new(&self.path, &self.to).map_err(named)?;
        }
        self.published = true;
        self.remove_companions()?;
        sync_parent(&self.to)
    }

    /// A new, empty file, or one that was left behind.
    fn begin(to: &Path) -> Result<Self> {
        let path = beside(to, ".partial");
        let named = |error| failure::io(&path, "writing", error);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(named)?;
        let busy = || StoreError::Locked { path: path.clone() };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(busy()),
            Err(TryLockError::Error(error)) => return Err(named(error)),
        }
        // Between opening and locking, another one may have published it: then it is a copy that
        // must stay as it is.
        let (ours, there) = (file.metadata().map_err(named)?, fs::metadata(&path));
        if !there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
            return Err(busy());
        }
        // One that somebody else has laid there would be theirs to read, with all its secrets.
        if ours.uid() != rustix::process::geteuid().as_raw() {
            let error = io::Error::new(io::ErrorKind::PermissionDenied, "it is another user's");
            return Err(named(error));
        }
        file.set_permissions(Permissions::from_mode(MODE)).map_err(named)?;
        let draft = Self { path, to: to.to_path_buf(), file, published: false };
        draft.remove_companions()?;
        draft.file.set_len(0).map_err(|error| failure::io(&draft.path, "writing", error))?;
        Ok(draft)
    }

    fn remove_companions(&self) -> Result<()> {
        COMPANIONS.iter().try_for_each(|suffix| remove_if_there(&beside(&self.path, suffix)))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        if remove_if_there(&self.path).and_then(|()| self.remove_companions()).is_err() {
            tracing::warn!(path = %self.path.display(), "an unfinished copy could not be removed");
        }
    }
}

fn copy(source: &Connection, from: &Path, draft: &Path) -> Result<()> {
    let named = |error| failure::sqlite(draft, "copying to", error);
    let mut target = Connection::open(draft).map_err(named)?;
    // The file counts only when it is whole and synced, which is seen to at the end.
    target.pragma_update_and_check(None, "journal_mode", "OFF", |_| Ok(())).map_err(named)?;
    target.pragma_update(None, "synchronous", "OFF").map_err(named)?;
    // All pages in one step are one read transaction: a snapshot, and in a store with a write-ahead
    // log it neither waits for the writer nor holds it up.
    let step = Backup::new(source, &mut target).and_then(|backup| backup.step(-1));
    match step.map_err(named)? {
        StepResult::Done => {}
        _ => return Err(StoreError::Locked { path: from.to_path_buf() }),
    }
    target.close().map_err(|(_, error)| named(error))
}

/// Renames where nothing is; a file system that can't promise that is asked beforehand.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            if to.try_exists()? {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(from, to)
        }
        other => Ok(other?),
    }
}
