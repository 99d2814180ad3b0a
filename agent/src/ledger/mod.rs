//! What survives: the ledger and the bodies it names, behind a seam.
//!
//! - [`disk`] keeps them in the data directory, as [`mod@format`] writes them.
//! - [`memory`] is a simulation's: it forgets what was not synced.

pub(crate) mod disk;
mod format;
pub mod memory;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use everynode_agent_core::{Ledger, Marks};
use everynode_model::{Digest, Reason};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

pub use disk::DiskLedger;
pub use memory::MemoryLedger;

/// Keeps a ledger and bodies. Calls are made one after the other.
pub trait LedgerStore: Send + Sync + 'static {
    /// What is there of one of `whose`; what is another's does not count.
    fn load(&self, whose: Vec<Marks>) -> BoxFuture<'static, Result<Loaded, LoadError>>;

    /// Writes a ledger durably; on an error the former one is still there.
    fn save(&self, ledger: Ledger) -> BoxFuture<'static, io::Result<()>>;

    /// Makes every copy that is kept one of the newest. Until that is done, damage to the newest
    /// costs the last write; nothing waits for it.
    fn mirror(&self) -> BoxFuture<'static, io::Result<()>> {
        async { Ok(()) }.boxed()
    }

    /// Writes bodies durably, each under its digest. Done before the ledger that names them.
    fn put_bodies(&self, bodies: Vec<(Digest, Vec<u8>)>) -> BoxFuture<'static, io::Result<()>>;

    /// A body, if it is there and has its digest.
    fn body(&self, digest: Digest) -> BoxFuture<'static, Option<Vec<u8>>>;

    /// Which bodies are there and have their digest.
    fn bodies(&self) -> BoxFuture<'static, BTreeSet<Digest>>;

    /// Removes all bodies but these.
    fn keep_bodies(&self, keep: BTreeSet<Digest>) -> BoxFuture<'static, ()>;

    /// Removes everything.
    fn wipe(&self) -> BoxFuture<'static, io::Result<()>>;
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// No ledger was ever written.
    Nothing,
    /// The newest one.
    Ledger(Box<Ledger>),
    /// The newest one that can be used, where a copy can't be: which, and why.
    Recovered(Box<Ledger>, Reason),
    /// There was one, and no copy of it can be used: why. One of a newer agent is not written over.
    Lost(Reason),
}

/// Why a ledger can't be looked at now; perhaps later.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file system does not give it, which says nothing of its content.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
