//! Copies of a store: taken while it is open, in this process or another, and verified.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::open::{MODE, beside, connect, exists, remove_if_there, sync_parent};
use super::{failure, read};
use crate::{Result, Revision, StoreError};

/// What a verified store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The last committed transaction.
    pub revision: Revision,
    /// The oldest revision that can still be read.
    pub oldest: Revision,
    /// How many keys are live.
    pub keys: u64,
}

/// Copies the store at `from` to a new file at `to` (mode 0600), as of one revision. Blocks.
///
/// The store may be open meanwhile, here or in another process, and goes on writing. `to` appears
/// whole and synced, or not at all. A restore is the same call with the files exchanged.
/// Errors: [`StoreError::Exists`] for `to`; for `from` those of opening a store, except `Locked`.
pub fn backup_file(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    if exists(to)? {
        return Err(StoreError::Exists { path: to.to_path_buf() });
    }
    let source = connect(from)?;
    let draft = beside(to, ".partial");
    let copied = copy(&source, from, &draft).and_then(|()| {
        fs::rename(&draft, to).map_err(|error| failure::io(to, "naming the backup", error))?;
        sync_parent(to)
    });
    if copied.is_err() && remove_if_there(&draft).is_err() {
        tracing::warn!(path = %draft.display(), "an unfinished backup could not be removed");
    }
    copied
}

/// Checks every page, row and index entry of a store, and counts what is in it. Blocks for as long
/// as reading the whole file takes; the store may be open meanwhile.
pub fn verify_file(path: impl AsRef<Path>) -> Result<Summary> {
    let path = path.as_ref();
    let connection = connect(path)?;
    let named = |error| failure::sqlite(path, "verifying", error);
    let found: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(named)?;
    if found != "ok" {
        return Err(StoreError::Corrupt { path: path.to_path_buf(), detail: found });
    }
    // One read transaction, so that the count is of the revision it is given with.
    let snapshot = connection.unchecked_transaction().map_err(named)?;
    let window = read::window(&snapshot).map_err(named)?;
    let keys = read::count(&snapshot).map_err(named)?;
    Ok(Summary { revision: window.head, oldest: window.oldest, keys })
}

fn copy(source: &Connection, from: &Path, draft: &Path) -> Result<()> {
    remove_if_there(draft)?;
    let named = |error| failure::io(draft, "writing the backup", error);
    let file: File =
        OpenOptions::new().write(true).create_new(true).mode(MODE).open(draft).map_err(named)?;
    let mut target =
        Connection::open(draft).map_err(|error| failure::sqlite(draft, "opening", error))?;
    // All pages in one step are one read transaction: a snapshot, and in a store with a write-ahead
    // log it neither waits for the writer nor holds it up.
    let step = Backup::new(source, &mut target).and_then(|backup| backup.step(-1));
    match step.map_err(|error| failure::sqlite(draft, "copying to", error))? {
        StepResult::Done => {}
        _ => return Err(StoreError::Locked { path: from.to_path_buf() }),
    }
    target.close().map_err(|(_, error)| failure::sqlite(draft, "closing", error))?;
    file.sync_all().map_err(named)
}
