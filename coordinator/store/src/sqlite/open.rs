//! Opening a store file, or creating it whole: who may have it, whose it is, whether it is sound.
//!
//! In this order, so that the file of a newer release or another program is not touched: lock, then
//! the header's application id and version read as plain bytes, then modes, then SQLite, then the
//! check of the structure.
//!
//! The lock file also says whether the store was closed, so that a log that is missing, and one that
//! is another store's, are told from those that belong:
//!
//! ```text
//!             served        closing: the log is folded in and removed        closed
//!   "open" ───────────▶ "closing" ────────────────────────────────────▶ "closed"
//!   its log is there    its log may be there                            no log is there
//! ```

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::{Options, failure, schema};
use crate::window::Window;
use crate::{Result, StoreError};

/// Only the coordinator's user: the store holds secrets and the CA's key.
pub(super) const MODE: u32 = 0o600;

/// How long to wait for a passer-by (an operator's `sqlite3` shell) that holds SQLite's write lock.
const BUSY: Duration = Duration::from_secs(5);

/// The log is cut back to this once it was checkpointed, after a burst let it grow.
const WAL_BYTES: u32 = 16 * 1024 * 1024;

/// How long SQLite's header is.
pub(super) const HEADER: u64 = 100;

/// SQLite's default page size, which new stores get.
const PAGE_BYTES: u64 = 4096;

/// An open, checked database. Fields drop in this order: the connection, which folds the log in and
/// removes it, then the lock.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    pub(super) window: Window,
    lock: Lock,
}

/// What the lock file says of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// It is served, or its server was killed: its log is beside it.
    Open,
    /// Its log may be beside it.
    Closing,
    /// It is all in one file.
    Closed,
}

/// A held lock file.
#[derive(Debug)]
pub(super) struct Lock {
    pub(super) file: File,
    /// The store's path.
    path: PathBuf,
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Err(error) = self.lock.mark(Mark::Closing) {
            tracing::warn!(%error, "the store could not be marked as closing");
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A log that is left is one that could not be folded in, and belongs.
        if says(&self.file, Mark::Closing)
            && exists(&beside(&self.path, "-wal")).is_ok_and(|log| !log)
        {
            let _still_closing = self.mark(Mark::Closed);
        }
    }
}

/// Opens the store at `path`, creating it if there is none.
pub(super) fn open(path: &Path, options: Options) -> Result<Database> {
    let lock = lock(path)?;
    super::place::unlink_unfinished(path)?;
    check_log(&lock.file, path)?;
    if !exists(path)? {
        create(path)?;
    }
    check_header(path)?;
    narrow_modes(path)?;
    let connection = connect(path)?;
    configure(&connection, options).map_err(|error| failure::sqlite(path, "opening", error))?;
    quick_check(&connection, path)?;
    let window = super::read::window(&connection)
        .map_err(|error| failure::sqlite(path, "reading", error))?;
    mark_open(&lock, path)?;
    tracing::info!(path = %path.display(), revision = window.head, "store open");
    Ok(Database { connection, path: path.to_path_buf(), window, lock })
}

/// A connection to an existing store of a version known here, before any pragma of ours.
pub(super) fn connect(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let named = |error| failure::sqlite(path, "opening", error);
    let connection = Connection::open_with_flags(path, flags).map_err(named)?;
    connection.busy_timeout(BUSY).map_err(named)?;
    // Until the version is known to be ours, closing must not fold the log into the file.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(named)?;
    check_pragmas(&connection, path)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(named)?;
    Ok(connection)
}

/// Whose file an open connection has, and of which version.
pub(super) fn check_pragmas(connection: &Connection, path: &Path) -> Result<()> {
    let pragma = |name| {
        let value = connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
        value.map(i32::cast_unsigned).map_err(|error| failure::sqlite(path, "opening", error))
    };
    check_identity(path, pragma("application_id")?, pragma("user_version")?)
}

impl Lock {
    /// Writes down whether the store is served.
    pub(super) fn mark(&self, mark: Mark) -> Result<()> {
        let written = self.file.write_all_at(mark.word(), 0).and_then(|()| self.file.sync_data());
        written.map_err(|error| failure::io(&beside(&self.path, ".lock"), "writing", error))
    }
}

/// Whether that is what is written; in an earlier version's lock file nothing is.
fn says(lock: &File, mark: Mark) -> bool {
    let mut word = [0; Mark::LENGTH];
    lock.read_at(&mut word, 0).is_ok_and(|read| word.get(..read) == Some(mark.word()))
}

/// Syncs a directory, so that a file created or renamed in it is there after a power cut.
pub(super) fn sync_parent(path: &Path) -> Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let synced = File::open(parent).and_then(|directory| directory.sync_all());
    synced.map_err(|error| failure::io(parent, "syncing", error))
}

/// `path` with something appended to its file name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Whether there is a file; one that cannot be looked at is not "absent".
pub(super) fn exists(path: &Path) -> Result<bool> {
    path.try_exists().map_err(|error| failure::io(path, "looking for", error))
}

pub(super) fn lock(path: &Path) -> Result<Lock> {
    let name = beside(path, ".lock");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .open(&name)
        .map_err(|error| failure::io(&name, "opening", error))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock { file, path: path.to_path_buf() }),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: path.to_path_buf() }),
        Err(TryLockError::Error(error)) => Err(failure::io(&name, "locking", error)),
    }
}

/// A store that was not closed without its log: what was acknowledged since the log was last folded
/// in is gone.
/// And one that was closed with a log, whose changes were made to another store.
pub(super) fn check_log(lock: &File, path: &Path) -> Result<()> {
    let log = beside(path, "-wal");
    let shown = log.display();
    if says(lock, Mark::Open) && !exists(&log)? {
        return Err(corrupt(path, &format!("it was not closed, and its log {shown} is gone")));
    }
    // One without content was left by somebody who only looked.
    if says(lock, Mark::Closed) && fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
        let detail = format!("it was closed, and {shown} is the log of another: move that away");
        return Err(corrupt(path, &detail));
    }
    Ok(())
}

/// Says that the log counts, once it is sure to be there: its name must be on disk before the mark.
fn mark_open(lock: &Lock, path: &Path) -> Result<()> {
    if !exists(&beside(path, "-wal"))? {
        // A file system without shared memory has no log.
        return lock.mark(Mark::Closing);
    }
    sync_parent(path)?;
    lock.mark(Mark::Open)
}

impl Mark {
    /// All words have one length, so that one replaces the other.
    const LENGTH: usize = 8;

    const fn word(self) -> &'static [u8] {
        match self {
            Self::Open => b"open   \n",
            Self::Closing => b"closing\n",
            Self::Closed => b"closed \n",
        }
    }
}

/// Creates the file under another name and renames it, so that a file under the right name is
/// always a whole store, and an empty one always a damaged store rather than a new one.
fn create(path: &Path) -> Result<()> {
    let log = beside(path, "-wal");
    if exists(&log)? {
        let detail = format!("its log {} is there and it is not", log.display());
        return Err(StoreError::Corrupt { path: path.to_path_buf(), detail });
    }
    let draft = beside(path, ".new");
    remove_if_there(&draft)?;
    let named = |error| failure::io(&draft, "creating", error);
    let file =
        OpenOptions::new().write(true).create_new(true).mode(MODE).open(&draft).map_err(named)?;
    let connection = Connection::open(&draft);
    connection
        .and_then(|connection| {
            connection.execute_batch(&schema::create())?;
            connection.close().map_err(|(_, error)| error)
        })
        .map_err(|error| failure::sqlite(&draft, "creating", error))?;
    file.sync_all().map_err(named)?;
    fs::rename(&draft, path).map_err(named)?;
    sync_parent(path)
}

/// Takes back what others were given on the files. SQLite creates its own with the database's mode,
/// so this comes before it opens.
fn narrow_modes(path: &Path) -> Result<()> {
    for file in [path.to_path_buf(), beside(path, "-wal"), beside(path, "-shm")] {
        match fs::set_permissions(&file, Permissions::from_mode(MODE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failure::io(&file, "setting the mode of", error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Removes what a crash left behind.
pub(super) fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failure::io(path, "removing", error))
        }
        _ => Ok(()),
    }
}

/// Reads the identity from the file's first 100 bytes (<https://sqlite.org/fileformat2.html>,
/// section 1.3), because even reading it through SQLite may recover a log into the file.
fn check_header(path: &Path) -> Result<()> {
    let mut header = [0; 100];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    match read {
        Ok(()) if header.starts_with(b"SQLite format 3\0") => {}
        Ok(()) => return Err(corrupt(path, "it is not an SQLite file")),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(corrupt(path, "it is shorter than its header"));
        }
        Err(error) => return Err(failure::io(path, "reading", error)),
    }
    let word =
        |at: usize| header[at..at + 4].iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
    check_identity(path, word(68), word(60))
}

fn check_identity(path: &Path, id: u32, version: u32) -> Result<()> {
    let path = path.to_path_buf();
    if id != schema::APPLICATION_ID {
        return Err(StoreError::NotAStore { path, found: id });
    }
    if version > schema::VERSION {
        return Err(StoreError::Newer { path, found: version, supported: schema::VERSION });
    }
    Ok(())
}

fn configure(connection: &Connection, options: Options) -> rusqlite::Result<()> {
    // A database that cannot have a log (a file system without shared memory) answers with another
    // mode; it would still be durable, only slower, so the answer is not checked.
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // FULL syncs the log at every commit; NORMAL would lose acknowledged commits in a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update_and_check(None, "journal_size_limit", WAL_BYTES, |_| Ok(()))?;
    if let Some(bytes) = options.max_bytes {
        let pages = i64::try_from(bytes / PAGE_BYTES).unwrap_or(i64::MAX);
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
    }
    Ok(())
}

fn quick_check(connection: &Connection, path: &Path) -> Result<()> {
    let found: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| failure::sqlite(path, "checking", error))?;
    if found == "ok" { Ok(()) } else { Err(corrupt(path, &found)) }
}

pub(super) fn corrupt(path: &Path, detail: &str) -> StoreError {
    // SQLite tells of damage on several lines.
    let detail = detail.lines().collect::<Vec<_>>().join(" ");
    StoreError::Corrupt { path: path.to_path_buf(), detail }
}
