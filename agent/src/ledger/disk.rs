//! The ledger in the data directory: two copies, written in turn, and one file per body.
//!
//! ```text
//!   <data-dir>/ledger.a, ledger.b   the usable one with the higher sequence number counts
//!   <data-dir>/ledger.reserve       space for the last words of a machine whose disk is full
//!   <data-dir>/bodies/<digest>
//! ```
//!
//! Every write is one of a new file that then takes its name's place, so a power cut costs at most
//! the write that was under way. The other copy is made the same soon after, when nobody waits for
//! it, so that a damaged sector costs one copy and nothing of what it says. Damage in between costs
//! the last write: an order already acknowledged is forgotten, which its coordinator sees from the
//! next Hello.
//!
//! What can't be used is put aside (`ledger.a.damaged`) before its place is written: it may be all
//! that somebody who comes to look has. The copies of a newer agent are not touched at all.
//!
//! Writes wait for the disk on a thread of their own: a card that takes seconds to sync must not
//! keep the agent from answering its coordinator.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everynode_agent_core::{Ledger, Marks};
use everynode_model::{Digest, Reason};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use super::format::{self, Copy, Unreadable};
use super::{LedgerStore, LoadError, Loaded};
use crate::data_dir::{read_bounded, remove_all, remove_durably, write_durably};

const COPIES: [&str; 2] = ["ledger.a", "ledger.b"];
const RESERVE: &str = "ledger.reserve";
/// What a copy that can't be used is called once it was put aside.
const ASIDE: &str = "damaged";
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
    /// The copies that could not be used, and are to be put aside.
    unusable: BTreeSet<&'static str>,
    /// Why nothing may be written: the copies are a newer agent's.
    sealed: Option<String>,
}

/// What the copies in a directory say, without touching them.
pub(crate) struct Copies {
    pub(crate) loaded: Loaded,
    last: Last,
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
    fn load(&self, whose: Vec<Marks>) -> BoxFuture<'static, Result<Loaded, LoadError>> {
        let path = self.inner.directory.clone();
        let loaded = self.blocking(move |inner| inner.load(whose));
        async move { loaded.await.unwrap_or_else(|source| Err(LoadError::Io { path, source })) }
            .boxed()
    }

    fn save(&self, ledger: Ledger) -> BoxFuture<'static, io::Result<()>> {
        let saved = self.blocking(move |inner| inner.save(&ledger));
        async move { saved.await? }.boxed()
    }

    fn mirror(&self) -> BoxFuture<'static, io::Result<()>> {
        let mirrored = self.blocking(Inner::mirror);
        async move { mirrored.await? }.boxed()
    }

    fn put_bodies(&self, bodies: Vec<(Digest, Vec<u8>)>) -> BoxFuture<'static, io::Result<()>> {
        let put = self.blocking(move |inner| {
            inner.last().check_seal()?;
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
            if inner.last().sealed.is_some() {
                return;
            }
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
    fn load(&self, whose: Vec<Marks>) -> Result<Loaded, LoadError> {
        let Copies { loaded, last } = read(&self.directory, &whose)?;
        if last.sealed.is_none() {
            // Without it only a full disk is worse off.
            let _ = self.reserve();
        }
        *self.last() = last;
        Ok(loaded)
    }

    fn save(&self, ledger: &Ledger) -> io::Result<()> {
        let mut last = self.last();
        last.check_seal()?;
        let sequence = last.sequence + 1;
        let content = format::encode(ledger, sequence, &last.unknown);
        let name = name_of(sequence);
        self.put_aside(name, &mut last);
        let path = self.directory.join(name);
        let mut written = write_durably(&path, &content);
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        let full = |error: &io::Error| matches!(error.kind(), StorageFull | QuotaExceeded);
        let leaving = ledger.standing != everynode_agent_core::Standing::Active;
        if leaving && written.as_ref().is_err_and(full) {
            remove_durably(&self.directory.join(RESERVE))?;
            written = write_durably(&path, &content);
        }
        written?;
        last.sequence = sequence;
        if !leaving {
            // Where there was no room for it yet, there may be now.
            let _ = self.reserve();
        }
        Ok(())
    }

    /// Writes the newest copy over the other, if that is another.
    fn mirror(&self) -> io::Result<()> {
        let mut last = self.last();
        if last.sealed.is_some() {
            return Ok(());
        }
        let contents = COPIES.map(|name| {
            let content = read_bounded(&self.directory.join(name), MAX_LEDGER).ok().flatten()?;
            let whole = format::decode(&content).is_ok_and(|copy| copy.sequence == last.sequence);
            whole.then_some(content)
        });
        let (newest, other) = match &contents {
            [Some(newest), None] => (newest, COPIES[1]),
            [None, Some(newest)] => (newest, COPIES[0]),
            // Nothing was written yet, or both are the same already.
            [None, None] | [Some(_), Some(_)] => return Ok(()),
        };
        self.put_aside(other, &mut last);
        write_durably(&self.directory.join(other), newest)
    }

    /// Keeps a copy that can't be used, once, from being written over.
    fn put_aside(&self, name: &'static str, last: &mut Last) {
        if last.unusable.remove(name) {
            let path = self.directory.join(name);
            let aside = path.with_added_extension(ASIDE);
            // Whoever comes to look is worse off without it, and nobody else. What was put aside
            // before gives way: a directory can't take a file's place by itself.
            let _ = fs::remove_file(&aside);
            let _ = fs::rename(&path, &aside);
        }
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
        for path in COPIES.into_iter().chain([RESERVE]).map(|name| self.directory.join(name)) {
            remove_durably(&path)?;
            remove_durably(&path.with_added_extension(ASIDE))?;
        }
        *self.last() = Last::default();
        remove_all(&self.bodies())
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

impl Last {
    fn check_seal(&self) -> io::Result<()> {
        match &self.sealed {
            Some(why) => Err(io::Error::other(why.clone())),
            None => Ok(()),
        }
    }
}

/// What the copies in a directory say of `whose` ledger; touches nothing.
///
/// # Errors
/// When a copy can't be read for now.
pub(crate) fn read(directory: &Path, whose: &[Marks]) -> Result<Copies, LoadError> {
    let (mut usable, mut unusable) = (Vec::new(), Vec::new());
    let mut last = Last::default();
    for name in COPIES {
        match read_copy(directory, name, whose)? {
            Found::Nothing => {}
            Found::Usable(copy) => usable.push(copy),
            Found::Newer(why) => last.sealed = Some(why),
            Found::Unusable(code, why) => {
                last.unusable.insert(name);
                unusable.push((code, format!("{name}: {why}")));
            }
        }
    }
    if let Some(why) = &last.sealed {
        let loaded = Loaded::Lost(Reason::new("LedgerNewer", why.clone()));
        return Ok(Copies { loaded, last });
    }
    let lines: Vec<_> = unusable.iter().map(|(_, line)| line.as_str()).collect();
    let (lines, code) = (lines.join("; "), unusable.first().map(|(code, _)| *code));
    let loaded = match (usable.into_iter().max_by_key(|copy| copy.sequence), code) {
        (Some(copy), code) => {
            let Copy { sequence, ledger, unknown } = *copy;
            (last.sequence, last.unknown) = (sequence, unknown);
            let ledger = Box::new(ledger);
            match code {
                None => Loaded::Ledger(ledger),
                Some(_) => {
                    let line = format!("{lines}; the other copy is used");
                    Loaded::Recovered(ledger, Reason::new("LedgerCopyDamaged", line))
                }
            }
        }
        (None, Some(code)) => Loaded::Lost(Reason::new(code, lines)),
        (None, None) => Loaded::Nothing,
    };
    Ok(Copies { loaded, last })
}

/// What one copy is.
enum Found {
    Nothing,
    Usable(Box<Copy>),
    /// A newer agent's: what to do.
    Newer(String),
    /// A word for it, and why.
    Unusable(&'static str, String),
}

fn read_copy(directory: &Path, name: &str, whose: &[Marks]) -> Result<Found, LoadError> {
    let path = directory.join(name);
    let damaged = |why: String| Ok(Found::Unusable("LedgerDamaged", why));
    let content = match read_bounded(&path, MAX_LEDGER) {
        Ok(Some(content)) => content,
        Ok(None) => return Ok(Found::Nothing),
        Err(error) if is_damage(&error) => return damaged(error.to_string()),
        Err(source) => return Err(LoadError::Io { path, source }),
    };
    match format::decode(&content) {
        Ok(Copy { ledger, .. }) if !whose.contains(&ledger.marks()) => {
            let Ledger { cluster, node, .. } = ledger;
            let line = format!("it is of node {node} of cluster {cluster}, which this one is not");
            Ok(Found::Unusable("LedgerOfAnother", line))
        }
        Ok(copy) => Ok(Found::Usable(Box::new(copy))),
        Err(Unreadable::Corrupt(why)) => damaged(why),
        Err(Unreadable::Newer(found)) => Ok(Found::Newer(format!(
            "{} has format {found}, written by a newer agent; this one knows up to {}: run the \
             newer agent again (nothing was changed)",
            path.display(),
            format::FORMAT
        ))),
    }
}

/// Whether reading fails because of what is there, so that no later try will do better.
fn is_damage(error: &io::Error) -> bool {
    let bad_sector = rustix::io::Errno::IO.raw_os_error();
    matches!(error.kind(), io::ErrorKind::FileTooLarge | io::ErrorKind::IsADirectory)
        || error.raw_os_error() == Some(bad_sector)
}

fn name_of(sequence: u64) -> &'static str {
    COPIES[usize::from(sequence.is_multiple_of(2))]
}

#[cfg(test)]
mod tests {
    use super::super::format::tests::ledger;
    use super::*;

    fn whose() -> Vec<Marks> {
        vec![ledger(1).marks()]
    }

    async fn load(directory: &Path) -> Loaded {
        DiskLedger::new(directory).load(whose()).await.unwrap()
    }

    /// The ledger that is used although a copy can't be.
    async fn recovered(directory: &Path) -> Ledger {
        match load(directory).await {
            Loaded::Recovered(ledger, reason) if reason.code == "LedgerCopyDamaged" => *ledger,
            other => panic!("{other:?}"),
        }
    }

    async fn lost(directory: &Path) -> String {
        match load(directory).await {
            Loaded::Lost(reason) => reason.code,
            other => panic!("{other:?}"),
        }
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
            store.load(whose()).await.unwrap();
            store.save(ledger(generation)).await.unwrap();
            assert_eq!(load(path).await, whole(generation));
        }
        // The third went to the first copy.
        fs::write(path.join("ledger.a"), "everynode-ledger 1 9").unwrap();
        assert_eq!(recovered(path).await, ledger(2));
        fs::write(path.join("ledger.b"), "").unwrap();
        assert_eq!(lost(path).await, "LedgerDamaged");
    }

    /// Every way in which a file can be spoiled.
    fn spoilt(whole: &[u8]) -> Vec<Vec<u8>> {
        let mut flipped = whole.to_vec();
        flipped[whole.len() / 2] ^= 1;
        let zeros = vec![0; whole.len()];
        vec![Vec::new(), zeros, whole[..whole.len() / 2].to_vec(), flipped, b"hello\n".to_vec()]
    }

    #[tokio::test]
    async fn once_mirrored_any_damage_to_one_copy_costs_nothing_and_is_mended() {
        for name in COPIES {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path();
            let store = DiskLedger::new(path);
            store.mirror().await.unwrap();
            assert_eq!(fs::read_dir(path).unwrap().count(), 0, "there is nothing to mirror");
            for generation in 1..=2 {
                store.save(ledger(generation)).await.unwrap();
                store.mirror().await.unwrap();
            }
            let whole = fs::read(path.join(name)).unwrap();
            for bad in spoilt(&whole) {
                fs::write(path.join(name), &bad).unwrap();
                assert_eq!(recovered(path).await, ledger(2));
                let store = DiskLedger::new(path);
                store.load(whose()).await.unwrap();
                store.mirror().await.unwrap();
                assert_eq!(load(path).await, self::whole(2), "mended");
                let aside = fs::read(path.join(format!("{name}.damaged"))).unwrap();
                assert_eq!(aside, bad, "and kept for whoever comes to look");
            }
            fs::remove_file(path.join(name)).unwrap();
            fs::create_dir(path.join(name)).unwrap();
            assert_eq!(recovered(path).await, ledger(2));
            let store = DiskLedger::new(path);
            store.load(whose()).await.unwrap();
            store.save(ledger(3)).await.unwrap();
            store.mirror().await.unwrap();
            assert_eq!(load(path).await, self::whole(3));
        }
    }

    #[tokio::test]
    async fn a_copy_of_another_machine_never_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let store = DiskLedger::new(path);
        store.save(ledger(1)).await.unwrap();
        store.mirror().await.unwrap();
        let id = everynode_model::NodeUid::new(uuid::Uuid::from_u128(99));
        let foreign = format::encode(&Ledger { node: id, ..ledger(9) }, 9, &Map::new());
        fs::write(path.join("ledger.b"), &foreign).unwrap();
        assert_eq!(recovered(path).await, ledger(1));
        fs::write(path.join("ledger.a"), &foreign).unwrap();
        assert_eq!(lost(path).await, "LedgerOfAnother");
    }

    #[tokio::test]
    async fn what_is_lost_is_put_aside_when_there_is_something_to_write() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        for name in COPIES {
            fs::write(path.join(name), name).unwrap();
        }
        let store = DiskLedger::new(path);
        store.load(whose()).await.unwrap();
        store.save(ledger(1)).await.unwrap();
        store.mirror().await.unwrap();
        assert_eq!(load(path).await, whole(1));
        for name in COPIES {
            assert_eq!(fs::read_to_string(path.join(format!("{name}.damaged"))).unwrap(), name);
        }
        store.wipe().await.unwrap();
        assert_eq!(fs::read_dir(path).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_write_cut_off_at_any_byte_leaves_the_former_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        DiskLedger::new(path).save(ledger(1)).await.unwrap();
        let next = format::encode(&ledger(2), 2, &Map::new());
        for length in [0, 1, next.len() / 2, next.len()] {
            fs::write(path.join("ledger.b.tmp"), &next[..length]).unwrap();
            assert_eq!(load(path).await, whole(1));
        }
        // Renamed, but its content never reached the disk.
        fs::write(path.join("ledger.b"), &next[..next.len() - 1]).unwrap();
        assert_eq!(recovered(path).await, ledger(1));
        let store = DiskLedger::new(path);
        store.load(whose()).await.unwrap();
        store.save(ledger(3)).await.unwrap();
        assert_eq!(load(path).await, whole(3));
    }

    #[tokio::test]
    async fn a_newer_format_is_not_touched_even_beside_an_older_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        DiskLedger::new(path).save(ledger(1)).await.unwrap();
        let checksum = Digest::of_parts([b"7 2".as_slice(), b"{}"]);
        let newer = format!("everynode-ledger 7 2 {checksum}\n{{}}");
        fs::write(path.join("ledger.b"), &newer).unwrap();
        fs::create_dir(path.join("bodies")).unwrap();
        let body = path.join(format!("bodies/{}", Digest::of(b"b")));
        fs::write(&body, "b").unwrap();
        assert_eq!(lost(path).await, "LedgerNewer");
        let store = DiskLedger::new(path);
        store.load(whose()).await.unwrap();
        assert!(store.save(ledger(3)).await.is_err());
        assert!(store.put_bodies(Vec::new()).await.is_err());
        store.mirror().await.unwrap();
        store.keep_bodies(BTreeSet::new()).await;
        assert_eq!(fs::read_to_string(path.join("ledger.b")).unwrap(), newer);
        assert!(body.exists() && !path.join("ledger.a.damaged").exists());
    }

    #[tokio::test]
    async fn unknown_fields_survive_a_write() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let unknown: Map<_, _> = [("future".to_owned(), Value::from(1))].into_iter().collect();
        fs::write(path.join("ledger.a"), format::encode(&ledger(1), 1, &unknown)).unwrap();
        let store = DiskLedger::new(path);
        store.load(whose()).await.unwrap();
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
        store.load(whose()).await.unwrap();
        store.save(ledger(1)).await.unwrap();
        store.put_bodies(vec![(Digest::of(b"b"), b"b".to_vec())]).await.unwrap();
        store.wipe().await.unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        assert_eq!(load(directory.path()).await, Loaded::Nothing);
        store.wipe().await.unwrap();
    }
}
