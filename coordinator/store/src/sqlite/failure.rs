//! From what SQLite and the operating system report to the store's named errors.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Error, ErrorCode};

use crate::StoreError;

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
        _ if misshapen(&error) => StoreError::Corrupt { path, detail: error.to_string() },
        _ => StoreError::Io { doing, path, source: Arc::new(error) },
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
        assert!(matches!(other, StoreError::Io { .. }));
        assert!(other.to_string().contains("writing /d/s"), "{other}");
    }
}
