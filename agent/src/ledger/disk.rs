//! The ledger in the data directory: two copies, written in turn, and one file per body.
//!
//! ```text
//!   <data-dir>/ledger.a, ledger.b   the readable one with the higher sequence number counts
//!   <data-dir>/ledger.reserve       space for the last words of a machine whose disk is full
//!   <data-dir>/bodies/<digest>
//! ```
//!
//! Every write is one of a new file that then takes its name's place, so a power cut costs at most
//! the write that was under way. A damaged sector costs one copy: the other is one write older, and
//! then an order already acknowledged is forgotten, which its coordinator sees from the next Hello.
//!
//! Writes wait for the disk on a thread of their own: a card that takes seconds to sync must not
//! keep the agent from answering its coordinator.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everynode_agent_core::Ledger;
use everynode_model::Digest;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use super::format::{self, Copy, Unreadable};
use super::{LedgerStore, LoadError, Loaded};
use crate::data_dir::{read_bounded, remove_durably, write_durably};

const COPIES: [&str; 2] = ["ledger.a", "ledger.b"];
const RESERVE: &str = "ledger.reserve";
/// Some thousands of items; what is longer was not written by an agent.
const MAX_LEDGER: u64 = 16 * 1024 * 1024;
/// A body comes in one chunk of at most 1 MiB.
const MAX_BODY: u64 = 1024 * 1024;
/// Room for two copies of a usual ledger.
const RESERVE_BYTES: usize = 64 * 1024;

/// The ledger of a data directory.
#[derive(Clone, Debug)]
pub struct DiskLedger {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    last: Mutex<Last>,
}

/// What the newest copy has beside the ledger.
#[derive(Debug, Default)]
struct Last {
    sequence: u64,
    unknown: Map<String, Value>,
}

impl DiskLedger {
    /// The ledger in `directory`, which is there and locked.
    pub fn new(directory: &Path) -> Self {
        let inner = Inner { directory: directory.to_owned(), last: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, io::Error>> + Send + 'static {
        let inner = Arc::clone(&self.inner);
        let task = tokio::task::spawn_blocking(move || work(&inner));
        async move { task.await.map_err(io::Error::other) }
    }
}

impl LedgerStore for DiskLedger {
    fn load(&self) -> BoxFuture<'static, Result<Loaded, LoadError>> {
        let path = self.inner.directory.clone();
        let loaded = self.blocking(Inner::load);
        async move { loaded.await.unwrap_or_else(|source| Err(LoadError::Io { path, source })) }
            .boxed()
    }

    fn save(&self, ledger: Ledger) -> BoxFuture<'static, io::Result<()>> {
        let saved = self.blocking(move |inner| inner.save(&ledger));
        async move { saved.await? }.boxed()
    }

    fn put_bodies(&self, bodies: Vec<(Digest, Vec<u8>)>) -> BoxFuture<'static, io::Result<()>> {
        let put = self.blocking(move |inner| {
            fs::create_dir_all(inner.bodies())?;
            bodies.iter().try_for_each(|(digest, body)| write_durably(&inner.body(*digest), body))
        });
        async move { put.await? }.boxed()
    }

    fn body(&self, digest: Digest) -> BoxFuture<'static, Option<Vec<u8>>> {
        let read = self.blocking(move |inner| inner.read_body(digest));
        async move { read.await.ok().flatten() }.boxed()
    }

    fn bodies(&self) -> BoxFuture<'static, BTreeSet<Digest>> {
        let listed = self.blocking(|inner| {
            inner.remove_unfinished_bodies();
            let names = inner.body_names();
            names.into_iter().filter(|digest| inner.read_body(*digest).is_some()).collect()
        });
        async move { listed.await.unwrap_or_default() }.boxed()
    }

    fn keep_bodies(&self, keep: BTreeSet<Digest>) -> BoxFuture<'static, ()> {
        let kept = self.blocking(move |inner| {
            for digest in inner.body_names().into_iter().filter(|digest| !keep.contains(digest)) {
                // One that stays costs its bytes until the next time.
                let _ = fs::remove_file(inner.body(digest));
            }
        });
        async move { kept.await.unwrap_or_default() }.boxed()
    }

    fn wipe(&self) -> BoxFuture<'static, io::Result<()>> {
        let wiped = self.blocking(Inner::wipe);
        async move { wiped.await? }.boxed()
    }
}

impl Inner {
    fn load(&self) -> Result<Loaded, LoadError> {
        let mut copies = Vec::new();
        let mut corrupt = Vec::new();
        for name in COPIES {
            let path = self.directory.join(name);
            let io = |source| LoadError::Io { path: path.clone(), source };
            let Some(content) = read_bounded(&path, MAX_LEDGER).map_err(io)? else { continue };
            match format::decode(&content) {
                Ok(copy) => copies.push(copy),
                Err(Unreadable::Corrupt(why)) => corrupt.push(format!("{name}: {why}")),
                Err(Unreadable::Newer(found)) => {
                    return Err(LoadError::Newer { path, found, known: format::FORMAT });
                }
            }
        }
        // Without it only a full disk is worse off.
        let _ = self.reserve();
        match copies.into_iter().max_by_key(|copy| copy.sequence) {
            Some(Copy { sequence, ledger, unknown }) => {
                *self.last() = Last { sequence, unknown };
                Ok(Loaded::Ledger(Box::new(ledger)))
            }
            None if corrupt.is_empty() => Ok(Loaded::Nothing),
            None => Ok(Loaded::Corrupt(corrupt.join("; "))),
        }
    }

    fn save(&self, ledger: &Ledger) -> io::Result<()> {
        let mut last = self.last();
        let sequence = last.sequence + 1;
        let content = format::encode(ledger, sequence, &last.unknown);
        let turn = usize::from(sequence.is_multiple_of(2));
        let path = self.directory.join(COPIES[turn]);
        let mut written = write_durably(&path, &content);
        let full = |error: &io::Error| error.kind() == io::ErrorKind::StorageFull;
        let leaving = ledger.standing != everynode_agent_core::Standing::Active;
        if leaving && written.as_ref().is_err_and(full) {
            remove_durably(&self.directory.join(RESERVE))?;
            written = write_durably(&path, &content);
        }
        written?;
        last.sequence = sequence;
        Ok(())
    }

    fn read_body(&self, digest: Digest) -> Option<Vec<u8>> {
        let content = read_bounded(&self.body(digest), MAX_BODY).ok()??;
        (Digest::of(&content) == digest).then_some(content)
    }

    fn body_names(&self) -> Vec<Digest> {
        let Ok(entries) = fs::read_dir(self.bodies()) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter_map(|name| name.parse().ok()).collect()
    }

    /// Those that an agent which was killed had begun to write. To be called when none is written.
    fn remove_unfinished_bodies(&self) {
        let entries = fs::read_dir(self.bodies()).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        for path in paths.filter(|path| path.extension().is_some_and(|end| end == "tmp")) {
            // One that stays costs its bytes until the next time.
            let _ = fs::remove_file(path);
        }
    }

    fn wipe(&self) -> io::Result<()> {
        for name in COPIES.into_iter().chain([RESERVE]) {
            remove_durably(&self.directory.join(name))?;
        }
        *self.last() = Last::default();
        match fs::remove_dir_all(self.bodies()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn reserve(&self) -> io::Result<()> {
        let path = self.directory.join(RESERVE);
        if path.exists() { Ok(()) } else { write_durably(&path, &[b'.'; RESERVE_BYTES]) }
    }

    fn bodies(&self) -> PathBuf {
        self.directory.join("bodies")
    }

    fn body(&self, digest: Digest) -> PathBuf {
        self.bodies().join(digest.to_string())
    }

    /// Only ever locked on threads that may wait, for one write.
    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::tests::ledger;
    use super::*;

    async fn load(directory: &Path) -> Loaded {
        DiskLedger::new(directory).load().await.unwrap()
    }

    fn whole(generation: u64) -> Loaded {
        Loaded::Ledger(Box::new(ledger(generation)))
    }

    #[tokio::test]
    async fn the_newest_is_read_and_a_damaged_one_costs_one_write() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert_eq!(load(path).await, Loaded::Nothing);
        for generation in 1..=3 {
            // A new one each time, as after a restart.
            let store = DiskLedger::new(path);
            store.load().await.unwrap();
            store.save(ledger(generation)).await.unwrap();
            assert_eq!(load(path).await, whole(generation));
        }
        // The third went to the first copy.
        fs::write(path.join("ledger.a"), "everynode-ledger 1 9").unwrap();
        assert_eq!(load(path).await, whole(2));
        fs::write(path.join("ledger.b"), "").unwrap();
        assert!(matches!(load(path).await, Loaded::Corrupt(_)));
    }

    #[tokio::test]
    async fn a_write_cut_off_at_any_byte_leaves_the_former_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        DiskLedger::new(path).save(ledger(1)).await.unwrap();
        let next = format::encode(&ledger(2), 2, &Map::new());
        for length in [0, 1, next.len() / 2, next.len()] {
            fs::write(path.join("ledger.tmp"), &next[..length]).unwrap();
            assert_eq!(load(path).await, whole(1));
        }
        // Renamed, but its content never reached the disk.
        fs::write(path.join("ledger.b"), &next[..next.len() - 1]).unwrap();
        assert_eq!(load(path).await, whole(1));
        let store = DiskLedger::new(path);
        store.load().await.unwrap();
        store.save(ledger(3)).await.unwrap();
        assert_eq!(load(path).await, whole(3));
    }

    #[tokio::test]
    async fn a_newer_format_is_refused_even_beside_an_older_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        DiskLedger::new(path).save(ledger(1)).await.unwrap();
        let checksum = Digest::of_parts([b"7 2".as_slice(), b"{}"]);
        fs::write(path.join("ledger.b"), format!("everynode-ledger 7 2 {checksum}\n{{}}")).unwrap();
        let refused = DiskLedger::new(path).load().await.unwrap_err();
        assert!(matches!(refused, LoadError::Newer { found: 7, .. }), "{refused}");
    }

    #[tokio::test]
    async fn unknown_fields_survive_a_write() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let unknown: Map<_, _> = [("future".to_owned(), Value::from(1))].into_iter().collect();
        fs::write(path.join("ledger.a"), format::encode(&ledger(1), 1, &unknown)).unwrap();
        let store = DiskLedger::new(path);
        store.load().await.unwrap();
        store.save(ledger(2)).await.unwrap();
        let copy = format::decode(&fs::read(path.join("ledger.b")).unwrap()).unwrap();
        assert_eq!((copy.sequence, copy.unknown), (2, unknown));
    }

    #[tokio::test]
    async fn bodies_are_what_their_digest_says_or_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let store = DiskLedger::new(directory.path());
        let digest = Digest::of(b"body");
        assert_eq!(store.body(digest).await, None);
        store.put_bodies(vec![(digest, b"body".to_vec())]).await.unwrap();
        assert_eq!(store.body(digest).await.as_deref(), Some(b"body".as_slice()));
        let unfinished = directory.path().join(format!("bodies/{digest}.tmp"));
        fs::write(&unfinished, "bo").unwrap();
        assert_eq!(store.bodies().await, [digest].into());
        assert!(!unfinished.exists(), "what was cut off is cleared away");
        fs::write(directory.path().join(format!("bodies/{digest}")), "bodY").unwrap();
        assert_eq!(store.body(digest).await, None);
        assert_eq!(store.bodies().await, BTreeSet::new());
        store.keep_bodies(BTreeSet::new()).await;
        assert_eq!(fs::read_dir(directory.path().join("bodies")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn wiped_is_as_new() {
        let directory = tempfile::tempdir().unwrap();
        let store = DiskLedger::new(directory.path());
        store.load().await.unwrap();
        store.save(ledger(1)).await.unwrap();
        store.put_bodies(vec![(Digest::of(b"b"), b"b".to_vec())]).await.unwrap();
        store.wipe().await.unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        assert_eq!(load(directory.path()).await, Loaded::Nothing);
        store.wipe().await.unwrap();
    }
}
