//! Looking at a store file without changing it: while it is served, after it was, or at a copy.
//!
//! Whoever serves a store holds its lock. Where nobody does and no log is beside it, the file is all
//! there is, and SQLite is told that it does not change: it makes no files beside it, and media that
//! can't be written will do. Otherwise it is read through its log, which stays as it is.

use std::fs::{File, TryLockError};
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::open::{HEADER, beside, check_log, check_pragmas, connect, corrupt, exists};
use super::{failure, read};
use crate::{KeyValue, Result, Revision};

/// What a store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The last committed transaction.
    pub revision: Revision,
    /// The oldest revision that can still be read.
    pub oldest: Revision,
    /// How many keys are live.
    pub keys: usize,
}

/// A connection that changes nothing.
pub(super) struct Look {
    connection: Connection,
    /// Kept, where nobody else had it: so that nobody begins to write while the file is taken for
    /// unchanging.
    _lock: Option<File>,
}

impl Look {
    pub(super) const fn connection(&self) -> &Connection {
        &self.connection
    }
}

/// Checks every page, row and index entry of a store, and reads what is live in it, as of one
/// revision. Blocks for as long as reading the whole file takes; changes nothing.
///
/// Errors: those of opening a store.
pub fn read_file(path: impl AsRef<Path>) -> Result<(Summary, Vec<KeyValue>)> {
    let path = path.as_ref();
    read_all(&look(path)?, path)
}

/// The same of a store that nobody serves, which the holder of its lock has seen to.
pub(super) fn read_held(lock: &File, path: &Path) -> Result<(Summary, Vec<KeyValue>)> {
    read_all(&look_held(Some(lock), path)?, path)
}

fn read_all(look: &Look, path: &Path) -> Result<(Summary, Vec<KeyValue>)> {
    let named = |error| failure::sqlite(path, "verifying", error);
    // One read transaction, so that all of it is of one revision.
    let snapshot = look.connection.unchecked_transaction().map_err(named)?;
    let found: String =
        snapshot.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(named)?;
    if found != "ok" {
        return Err(corrupt(path, &found));
    }
    let window = read::window(&snapshot).map_err(named)?;
    let items = read::list(&snapshot, "", window.head).map_err(named)?;
    let summary = Summary { revision: window.head, oldest: window.oldest, keys: items.len() };
    Ok((summary, items))
}

/// Opens the store at `path` for looking.
pub(super) fn look(path: &Path) -> Result<Look> {
    let file = std::fs::metadata(path).map_err(|error| failure::io(path, "opening", error))?;
    if file.len() < HEADER {
        // SQLite takes an empty file for an empty database.
        return Err(corrupt(path, "it is shorter than its header"));
    }
    match Served::of(path)? {
        Served::ByNobody(lock) => {
            let look = look_held(lock.as_ref(), path)?;
            Ok(Look { _lock: lock, ..look })
        }
        Served::BySomebody => logged(path),
    }
}

fn look_held(lock: Option<&File>, path: &Path) -> Result<Look> {
    if let Some(lock) = lock {
        check_log(lock, path)?;
    }
    if exists(&beside(path, "-wal"))? {
        return logged(path);
    }
    Ok(Look { connection: unchanging(path)?, _lock: None })
}

/// Through the log, which stays where it is: what is looked at is not tidied up.
fn logged(path: &Path) -> Result<Look> {
    let connection = connect(path)?;
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .map_err(|error| failure::sqlite(path, "opening", error))?;
    Ok(Look { connection, _lock: None })
}

/// Who has a store open.
enum Served {
    /// Nobody; then its lock, if it ever had one.
    ByNobody(Option<File>),
    BySomebody,
}

impl Served {
    fn of(path: &Path) -> Result<Self> {
        let name = beside(path, ".lock");
        if !exists(&name)? {
            return Ok(Self::ByNobody(None));
        }
        let file = File::open(&name).map_err(|error| failure::io(&name, "opening", error))?;
        // Shared: those who look don't disturb each other.
        match file.try_lock_shared() {
            Ok(()) => Ok(Self::ByNobody(Some(file))),
            Err(TryLockError::WouldBlock) => Ok(Self::BySomebody),
            Err(TryLockError::Error(error)) => Err(failure::io(&name, "locking", error)),
        }
    }
}

fn unchanging(path: &Path) -> Result<Connection> {
    let named = |error| failure::sqlite(path, "opening", error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(uri(path), flags).map_err(named)?;
    check_pragmas(&connection, path)?;
    Ok(connection)
}

/// <https://sqlite.org/uri.html>
fn uri(path: &Path) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt as _;
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'~' => uri.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
            byte => {
                // Writing to a String can't fail.
                let _ = write!(uri, "%{byte:02X}");
            }
        }
    }
    uri + "?immutable=1"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_uri_whatever_is_in_it() {
        let odd = uri(Path::new("/a b/ü?#%.db"));
        assert_eq!(odd, "file:/a%20b/%C3%BC%3F%23%25.db?immutable=1");
    }
}
