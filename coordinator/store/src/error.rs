//! Why the store said no. One enum for all engines, cloneable because every caller of a failed group
//! commit gets the same answer.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use crate::Revision;

/// The result of a store call.
pub type Result<T> = std::result::Result<T, StoreError>;

/// A refusal or failure of the store: what, where, and what to do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The history asked for has been dropped.
    #[error(
        "revision {requested} has been compacted; the oldest is {oldest}: list again, watch from there"
    )]
    Compacted {
        /// The revision the caller named.
        requested: Revision,
        /// The oldest revision that can still be read or watched from.
        oldest: Revision,
    },
    /// The revision has not happened yet.
    #[error("revision {requested} is in the future; the store is at {current}")]
    FutureRevision {
        /// The revision the caller named.
        requested: Revision,
        /// The newest revision there is.
        current: Revision,
    },
    /// A transaction is over a limit that every engine shares.
    #[error("the transaction has {got} {what}, at most {max} are allowed: split it")]
    TooLarge {
        /// What was counted: "operations", "comparisons" or "bytes of keys and values".
        what: &'static str,
        /// How many there were.
        got: usize,
        /// How many there may be.
        max: usize,
    },
    /// Two operations of one transaction name the same key; which one wins would be a guess.
    #[error("the transaction names the key {key:?} twice: keep one operation per key")]
    DuplicateKey {
        /// The key named twice.
        key: String,
    },
    /// Keys have at least one byte (etcd's rule).
    #[error("a key is empty: name one")]
    EmptyKey,
    /// The reader of a watch was too slow; its stream ends here.
    #[error("the watch fell behind and was ended: watch again from revision {missed_from}")]
    Lagged {
        /// The first revision that was not delivered.
        missed_from: Revision,
    },
    /// The bound on open watches is reached.
    #[error("there are already {max} open watches: close some")]
    TooManyWatches {
        /// How many there may be.
        max: usize,
    },
    /// No space left for the write; nothing of it was kept.
    #[error("no space left for {path}: free some, or compact, and try again")]
    Full {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// The file or its file system does not allow writing.
    #[error("{path} is read-only: check the mount and the file's owner and mode")]
    ReadOnly {
        /// The file that could not be written.
        path: PathBuf,
    },
    /// Another process, or another store in this one, has the file.
    #[error("{path} is in use by another process: stop that one first")]
    Locked {
        /// The database file.
        path: PathBuf,
    },
    /// The file's content is not what was written.
    #[error("{path} is damaged ({detail}): keep a copy of it, then restore a backup")]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// A newer release wrote this file. It is left untouched.
    #[error(
        "{path} has schema version {found}, this release knows up to {supported}: run the newer release"
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
        /// The newest version known here.
        supported: u32,
    },
    /// A database, but of another program. It is left untouched.
    #[error("{path} is not an Everynode store (application id {found:#010x}): check the path")]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// Its application id.
        found: u32,
    },
    /// A copy overwrites nothing that it was not told to.
    #[error("{path} already exists: choose another name or move it away")]
    Exists {
        /// The file in the way.
        path: PathBuf,
    },
    /// Anything else the operating system or the engine reported.
    #[error("{doing} {path} failed: check the disk and the system log")]
    Io {
        /// What was being done, as a gerund.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The store was closed, or stopped itself after a failure it could not undo.
    #[error("the store is closed: the outcome of calls in flight is unknown until it is reopened")]
    Closed,
}
