//! From what SQLite and the operating system report to the store's named errors.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Error, ErrorCode};

use crate::StoreError;

/// A page of the database: less would fit where it does not.
const PROBE_BYTES: usize = 4096;

/// Names an error of SQLite that happened while `doing` something to `path`.
pub(super) fn sqlite(path: &Path, doing: &'static str, error: Error) -> StoreError {
    let path = path.to_path_buf();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full { path },
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => StoreError::ReadOnly { path },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked { path },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Corrupt { path, detail: error.to_string() }
        }
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => match ask_the_disk(&path) {
            Some(named) => named,
            None => StoreError::Io { doing, path, source: Arc::new(error) },
        },
        _ if misshapen(&error) => StoreError::Corrupt { path, detail: error.to_string() },
        _ => StoreError::Io { doing, path, source: Arc::new(error) },
    }
}

/// What the disk of `path` says to a small file beside it, where it says that it is full or takes
/// nothing: SQLite has one word for all that goes wrong with a file, and a file system that was made
/// read-only after an error does not always show it otherwise.
fn ask_the_disk(path: &Path) -> Option<StoreError> {
    let beside = super::open::beside(path, ".probe");
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(super::open::MODE);
    let asked = file.open(&beside).and_then(|mut file| {
        file.write_all(&[0; PROBE_BYTES])?;
        file.sync_all()
    });
    // One that stays is emptied by the next probe.
    let _ = fs::remove_file(&beside);
    match io(path, "writing beside", asked.err()?) {
        named @ (StoreError::Full { .. } | StoreError::ReadOnly { .. }) => Some(named),
        _ => None,
    }
}

/// Names an error of the operating system that happened while `doing` something to `path`.
pub(super) fn io(path: &Path, doing: &'static str, error: io::Error) -> StoreError {
    let path = path.to_path_buf();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { path },
        io::ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly { path },
        io::ErrorKind::AlreadyExists => StoreError::Exists { path },
        _ => StoreError::Io { doing, path, source: Arc::new(error) },
    }
}

/// A row that this code could not have written.
fn misshapen(error: &Error) -> bool {
    matches!(
        error,
        Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::InvalidColumnType(..)
            | Error::QueryReturnedNoRows
            | Error::Utf8Error(..)
    )
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn what_the_disk_says_has_a_name() {
        let named = |code| {
            sqlite(Path::new("/d/s"), "writing", Error::SqliteFailure(ffi::Error::new(code), None))
        };
        assert!(matches!(named(ffi::SQLITE_FULL), StoreError::Full { .. }));
        assert!(matches!(named(ffi::SQLITE_READONLY_DBMOVED), StoreError::ReadOnly { .. }));
        assert!(matches!(named(ffi::SQLITE_BUSY_SNAPSHOT), StoreError::Locked { .. }));
        assert!(matches!(named(ffi::SQLITE_NOTADB), StoreError::Corrupt { .. }));
        let other = named(ffi::SQLITE_IOERR_FSYNC);
        // There is no such directory to ask about.
        assert!(matches!(other, StoreError::Io { .. }));
        assert!(other.to_string().contains("writing /d/s"), "{other}");
    }
}
