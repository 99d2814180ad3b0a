//! The engine on disk: one SQLite file, one thread that owns it.
//!
//! Every call is a request on a bounded queue to that thread (see `writer`), reads included: the
//! coordinator serves reads from its own memory and asks here at start-up, so one order of things is
//! worth more than parallel reads. Only a backup reads beside it, on a connection of its own.
//!
//! Files, all mode 0600: the database, `-wal` and `-shm` beside it while open (SQLite gives them the
//! database's mode), and `.lock`, held while the store is open and saying so. The lock is a file of its own
//! because POSIX record locks, which SQLite uses, vanish when *any* handle of the process on the
//! same file is closed. For the same reason nothing here opens the database except through SQLite
//! once the store is open; nor should anyone else in this process.

mod compact;
mod draft;
mod failure;
mod look;
mod open;
mod place;
mod read;
mod schema;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use self::writer::{Request, Writer};
use crate::{
    KeyValue, Listing, Outcome, Result, Revision, Store, StoreError, Txn, WatchStream, watch,
};

pub use draft::Draft;
pub use look::{Summary, read_file};
pub use place::Place;

/// Requests that may wait for the writer. At the size limit of a transaction this is 128 MiB, which
/// only a hundred callers at once could reach; usual ones take a few KiB. More callers wait outside.
const QUEUE: usize = 128;

/// What can be chosen when opening; [`Default`] is right for a coordinator.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The size in bytes at which the database refuses to grow with [`StoreError::Full`], so that a
    /// runaway writer does not fill the disk for everyone. `None`: only the disk limits it.
    pub max_bytes: Option<u64>,
}

/// A store in one SQLite file.
///
/// Dropping it finishes what is queued, closes the file and releases the lock before it returns.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    requests: mpsc::Sender<Request>,
    closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl SqliteStore {
    /// Opens the store at `path`, creating it (mode 0600, its directory must exist) if there is no
    /// file. Blocks: it checks the whole file's structure.
    ///
    /// Errors: [`StoreError::Locked`], [`StoreError::Newer`], [`StoreError::NotAStore`],
    /// [`StoreError::Corrupt`] (an empty file is one: a store is created whole or not at all),
    /// [`StoreError::Full`], [`StoreError::ReadOnly`], [`StoreError::Io`].
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let database = open::open(&path, options)?;
        let (requests, queue) = mpsc::channel(QUEUE);
        let closing = Arc::new(AtomicBool::new(false));
        let writer = Writer::new(database, queue, Arc::clone(&closing));
        let thread = std::thread::Builder::new()
            .name("everynode-store".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| failure::io(&path, "starting the writer of", error))?;
        Ok(Self { path, requests, closing, thread: Some(thread) })
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T>>) -> Request,
    ) -> Result<T> {
        ask(&self.requests, request).await
    }
}

impl Store for SqliteStore {
    fn revision(&self) -> BoxFuture<'_, Result<Revision>> {
        self.ask(|answer| Request::Revision { answer }).boxed()
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<KeyValue>>> {
        self.ask(|answer| Request::Get { key: key.to_owned(), answer }).boxed()
    }

    fn list<'a>(&'a self, prefix: &'a str, at: Option<Revision>) -> BoxFuture<'a, Result<Listing>> {
        self.ask(move |answer| Request::List { prefix: prefix.to_owned(), at, answer }).boxed()
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<Outcome>> {
        async move {
            txn.check()?;
            self.ask(|answer| Request::Txn { txn, answer }).await
        }
        .boxed()
    }

    fn watch<'a>(&'a self, prefix: &'a str, from: Revision) -> BoxFuture<'a, Result<WatchStream>> {
        async move {
            let prefix = prefix.to_owned();
            let first =
                self.ask(|answer| Request::Page { prefix: prefix.clone(), from, answer }).await?;
            // Weak, so that a forgotten stream does not keep the queue open.
            let requests = self.requests.downgrade();
            Ok(watch::stream(first, move |from| {
                let (requests, prefix) = (requests.clone(), prefix.clone());
                async move {
                    let requests = requests.upgrade().ok_or(StoreError::Closed)?;
                    ask(&requests, |answer| Request::Page { prefix, from, answer }).await
                }
                .boxed()
            }))
        }
        .boxed()
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<()>> {
        self.ask(move |answer| Request::Compact { revision, answer }).boxed()
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        // The flag is for a full queue: the writer looks at it whenever it has emptied the queue.
        self.closing.store(true, Ordering::Release);
        let _full_or_gone = self.requests.try_send(Request::Close);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(path = %self.path.display(), "the store's writer panicked");
        }
    }
}

async fn ask<T>(
    requests: &mpsc::Sender<Request>,
    request: impl FnOnce(oneshot::Sender<Result<T>>) -> Request,
) -> Result<T> {
    let (answer, answered) = oneshot::channel();
    requests.send(request(answer)).await.map_err(|_| StoreError::Closed)?;
    answered.await.unwrap_or(Err(StoreError::Closed))
}
