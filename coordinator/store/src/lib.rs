//! The coordinator's store: etcd's semantics as a small trait, and its engines.
//!
//! One growing [`Revision`] numbers every committed transaction that changed something. Keys are
//! UTF-8 paths such as `/daemonsets/default/x`, values are bytes; both are opaque here. Old versions
//! stay readable until [`Store::compact`], so that a listing can be taken at a revision and a watch
//! can replay what its reader missed.
//!
//! Engines, all held to the one contract suite in `tests/contract`:
//! - [`memory`] for simulation: no threads, no tasks, and a crash that forgets what was not synced;
//! - [`sqlite`] on disk: write-ahead log, one writer, group commit.
//!
//! This crate does not know what is stored, mints no API `resourceVersion`, and elects no leader.

pub mod error;
pub mod memory;
pub mod sqlite;
pub mod txn;
mod watch;
mod window;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

pub use error::{Result, StoreError};
pub use memory::MemoryStore;
pub use sqlite::SqliteStore;
pub use txn::{Compare, MAX_TXN_BYTES, MAX_TXN_OPS, Op, Outcome, Txn};
pub use watch::{MAX_WATCH_BYTES, MAX_WATCH_EVENTS, MAX_WATCHES};

/// The number of a committed transaction: 0 is the empty store, each transaction that changed
/// something has the next number. As a key's `mod_revision`, 0 means that the key is absent.
pub type Revision = u64;

/// A live key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The whole key, prefix included.
    pub key: String,
    /// The value; an empty value is a value, not an absent key.
    pub value: Bytes,
    /// The transaction that last put this key.
    pub mod_revision: Revision,
}

/// The live keys below a prefix, as they were at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The revision read at. A watch from `revision + 1` continues without a gap.
    pub revision: Revision,
    /// Ordered by the bytes of the key.
    pub items: Vec<KeyValue>,
}

/// One change to one key, as a watch reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The transaction that made the change. Events of one transaction come together, in the order
    /// of its operations.
    pub revision: Revision,
    /// The key that changed.
    pub key: String,
    /// What became of it.
    pub change: Change,
}

/// What a transaction did to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The key now has this value.
    Put(Bytes),
    /// The key existed and is gone.
    Delete,
}

/// Events in revision order. The first `Err` is the last item: [`StoreError::Lagged`] names the
/// revision to resume from, [`StoreError::Compacted`] means that replay was overtaken by a
/// compaction, [`StoreError::Closed`] that the store is gone.
pub type WatchStream = BoxStream<'static, Result<Event>>;

/// A key-value store with etcd's semantics; see the crate's documentation.
///
/// Methods return boxed futures so that callers can hold an `Arc<dyn Store>`. Dropping the future of
/// a [`Store::txn`] or [`Store::compact`] does not withdraw it: it may be committed or not.
pub trait Store: Send + Sync + 'static {
    /// The revision of the last committed transaction.
    fn revision(&self) -> BoxFuture<'_, Result<Revision>>;

    /// The newest version of a key, or `None` when it is absent.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<KeyValue>>>;

    /// Every live key that starts with `prefix` (all of them for `""`), now or at a past revision.
    ///
    /// The prefix is compared byte by byte: `/a` matches `/ab`, and `/a/` does not.
    /// Errors: [`StoreError::Compacted`], [`StoreError::FutureRevision`].
    fn list<'a>(&'a self, prefix: &'a str, at: Option<Revision>) -> BoxFuture<'a, Result<Listing>>;

    /// Applies every operation if every comparison holds, else nothing.
    ///
    /// [`Outcome::Committed`] means that it is durable. On an error nothing was acknowledged, and
    /// later transactions may succeed. Errors: [`StoreError::TooLarge`],
    /// [`StoreError::DuplicateKey`], [`StoreError::EmptyKey`], and the engine's own.
    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<Outcome>>;

    /// Every event of keys that start with `prefix`, from the transaction `from` (inclusive) on:
    /// first what is past, then what comes, without gap or duplicate.
    ///
    /// `from` may lie in the future; earlier events are then left out. When this returns, no later
    /// event can be missed. Errors: [`StoreError::Compacted`], [`StoreError::TooManyWatches`].
    fn watch<'a>(&'a self, prefix: &'a str, from: Revision) -> BoxFuture<'a, Result<WatchStream>>;

    /// Forgets versions superseded at or before `revision`; reads and watches from `revision` on
    /// stay exact, earlier ones are [`StoreError::Compacted`].
    ///
    /// Compacting where it already was is a no-op. Errors: [`StoreError::FutureRevision`].
    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<()>>;
}
