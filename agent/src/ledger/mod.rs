//! What survives: the ledger and the bodies it names, behind a seam.
//!
//! - [`disk`] keeps them in the data directory, as [`mod@format`] writes them.
//! - [`memory`] is a simulation's: it forgets what was not synced.

pub mod disk;
mod format;
pub mod memory;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use everynode_agent_core::Ledger;
use everynode_model::Digest;
use futures_util::future::BoxFuture;

pub use disk::DiskLedger;
pub use memory::MemoryLedger;

/// Keeps a ledger and bodies. Calls are made one after the other.
pub trait LedgerStore: Send + Sync + 'static {
    /// What is there.
    fn load(&self) -> BoxFuture<'static, Result<Loaded, LoadError>>;

    /// Writes a ledger durably; on an error the former one is still there.
    fn save(&self, ledger: Ledger) -> BoxFuture<'static, io::Result<()>>;

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
    /// There was one, and neither copy can be read: why.
    Corrupt(String),
}

/// Why a ledger must not be touched.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A newer agent wrote it.
    #[error(
        "{path} has format {found}, written by a newer agent; this one knows up to {known}: \
         run the newer agent again (nothing was changed)"
    )]
    Newer {
        /// The copy.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest known.
        known: u32,
    },
    /// The file system does not give it.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
