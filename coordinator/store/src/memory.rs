//! The engine for simulation: a map, a history, and the faults a disk can have.
//!
//! It starts no thread and no task and reads no clock but tokio's, so a simulated runtime replays it
//! exactly. What a transaction goes through:
//!
//! ```text
//!   txn ─▶ in flight ── latency over ──▶ synced, published, acknowledged
//!             │     └── fault ─────────▶ refused, nothing changed; or synced, and refused (see `Fault`)
//!             └── crash ──▶ lost, or synced but never acknowledged (see `InFlight`)
//! ```
//!
//! The handle stands for the disk: it survives the crash of the coordinator that used it.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tokio::sync::oneshot;

use crate::watch::{Hub, Page, PageBuilder};
use crate::window::Window;
use crate::{
    Change, Event, KeyValue, Listing, Op, Outcome, Result, Revision, Store, StoreError, Txn,
    WatchStream, watch,
};

/// A store in memory; clones are handles to the same one.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    inner: Arc<Mutex<Inner>>,
}

/// How commits can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// As on a full disk: [`StoreError::Full`].
    Full,
    /// As on a file system gone read-only: [`StoreError::ReadOnly`].
    ReadOnly,
    /// As on a failed write: [`StoreError::Io`].
    Io,
    /// As on a write whose end was not confirmed: it is stored, and the caller is told
    /// [`StoreError::Io`].
    Unconfirmed,
}

/// What a crash makes of the transactions that were under way. Both are true to a disk: the caller
/// was told nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFlight {
    /// None of them happened.
    Lost,
    /// All of them happened.
    Kept,
}

#[derive(Debug, Default)]
struct Inner {
    synced: Synced,
    hub: Hub,
    in_flight: VecDeque<Pending>,
    next_ticket: u64,
    latency: Duration,
    faults: Option<(u32, Fault)>,
    /// Raised by each crash, so that a stream from before it ends.
    life: u64,
}

/// What a crash does not touch.
#[derive(Debug, Default)]
struct Synced {
    window: Window,
    /// Versions of each key, oldest first; `None` is a deletion.
    keys: BTreeMap<String, Vec<Version>>,
    /// The events of each revision that was not compacted.
    history: BTreeMap<Revision, Vec<Event>>,
}

#[derive(Debug)]
struct Version {
    revision: Revision,
    value: Option<Bytes>,
}

/// A transaction on its way to the disk. Their number is bounded by the callers that wait for them.
#[derive(Debug)]
struct Pending {
    ticket: u64,
    txn: Txn,
    answer: oneshot::Sender<Result<Outcome>>,
}

impl MemoryStore {
    /// An empty store at revision 0, without latency or faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How long each commit is in flight, on tokio's clock. Zero, the default, commits at once.
    pub fn set_latency(&self, latency: Duration) {
        self.lock().latency = latency;
    }

    /// Makes the next `count` commits fail; each leaves the store as it was, unless it is
    /// [`Fault::Unconfirmed`].
    pub fn fail_next(&self, count: u32, fault: Fault) {
        self.lock().faults = Some((count, fault));
    }

    /// The process dies and the disk stays: what is in flight is lost or kept, callers in flight
    /// get [`StoreError::Closed`], streams end with it, and the handle serves what was synced.
    pub fn crash(&self, in_flight: InFlight) {
        let mut inner = self.lock();
        let pending = std::mem::take(&mut inner.in_flight);
        if in_flight == InFlight::Kept {
            for Pending { txn, .. } in &pending {
                // Its caller died with the process and learns no outcome.
                let _unheard = inner.commit(txn);
            }
        }
        inner.hub = Hub::default();
        inner.life += 1;
    }

    fn submit(&self, txn: Txn) -> (u64, Duration, oneshot::Receiver<Result<Outcome>>) {
        let (answer, outcome) = oneshot::channel();
        let mut inner = self.lock();
        let ticket = inner.next_ticket;
        inner.next_ticket += 1;
        inner.in_flight.push_back(Pending { ticket, txn, answer });
        (ticket, inner.latency, outcome)
    }

    /// Syncs this ticket and every older one, in order: a disk's log has no gaps.
    fn sync_through(&self, ticket: u64) {
        let mut inner = self.lock();
        while inner.in_flight.front().is_some_and(|pending| pending.ticket <= ticket) {
            let Some(Pending { txn, answer, .. }) = inner.in_flight.pop_front() else { return };
            let outcome = inner.commit(&txn);
            // A caller that stopped waiting is none that needs telling.
            let _ = answer.send(outcome);
        }
    }

    fn page(&self, life: u64, prefix: &str, from: Revision) -> Result<Page> {
        let mut inner = self.lock();
        if inner.life != life {
            return Err(StoreError::Closed);
        }
        inner.page(prefix, from)
    }

    fn watch_from(&self, prefix: &str, from: Revision) -> Result<WatchStream> {
        let life = self.lock().life;
        let first = self.page(life, prefix, from)?;
        let (store, prefix) = (self.clone(), prefix.to_owned());
        Ok(watch::stream(first, move |from| ready(store.page(life, &prefix, from)).boxed()))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while it was held would be ours, and the simulation reports it as such.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn revision(&self) -> BoxFuture<'_, Result<Revision>> {
        ready(Ok(self.lock().synced.window.head)).boxed()
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<KeyValue>>> {
        async move { Ok(self.lock().synced.get(key)) }.boxed()
    }

    fn list<'a>(&'a self, prefix: &'a str, at: Option<Revision>) -> BoxFuture<'a, Result<Listing>> {
        async move { self.lock().synced.list(prefix, at) }.boxed()
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<Outcome>> {
        async move {
            txn.check()?;
            let (ticket, latency, outcome) = self.submit(txn);
            if !latency.is_zero() {
                tokio::time::sleep(latency).await;
            }
            self.sync_through(ticket);
            outcome.await.unwrap_or(Err(StoreError::Closed))
        }
        .boxed()
    }

    fn watch<'a>(&'a self, prefix: &'a str, from: Revision) -> BoxFuture<'a, Result<WatchStream>> {
        async move { self.watch_from(prefix, from) }.boxed()
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<()>> {
        async move { self.lock().synced.compact(revision) }.boxed()
    }
}

impl Inner {
    fn commit(&mut self, txn: &Txn) -> Result<Outcome> {
        let fault = self.take_fault();
        if let Some(fault) = fault.filter(|fault| *fault != Fault::Unconfirmed) {
            return Err(fault.error());
        }
        let head = self.synced.window.head;
        let outcome = self.synced.apply(txn);
        // A transaction without effect names the head, whose events were published before.
        if let Some((revision, events)) = self.synced.history.range(head + 1..).next() {
            self.hub.publish(*revision, events);
        }
        fault.map_or(Ok(outcome), |fault| Err(fault.error()))
    }

    fn take_fault(&mut self) -> Option<Fault> {
        let (left, fault) = self.faults?;
        self.faults = left.checked_sub(1).map(|left| (left, fault));
        (left > 0).then_some(fault)
    }

    fn page(&mut self, prefix: &str, from: Revision) -> Result<Page> {
        self.synced.window.not_compacted(from)?;
        let mut page = PageBuilder::new(prefix);
        for event in self.synced.history.range(from..).flat_map(|(_, events)| events) {
            if !page.admits(event.revision) {
                return Ok(page.more_from(event.revision));
            }
            page.add(event.revision, &event.key, || Ok(event.change.clone()))?;
        }
        Ok(page.then_live(self.hub.subscribe(prefix, from)?))
    }
}

impl Synced {
    fn get(&self, key: &str) -> Option<KeyValue> {
        let versions = self.keys.get(key)?;
        live(key, versions.last()?)
    }

    fn list(&self, prefix: &str, at: Option<Revision>) -> Result<Listing> {
        let revision = self.window.readable(at)?;
        let below = self.keys.range(prefix.to_owned()..);
        let items = below
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter_map(|(key, versions)| {
                let version = versions.iter().rfind(|version| version.revision <= revision)?;
                live(key, version)
            })
            .collect();
        Ok(Listing { revision, items })
    }

    fn apply(&mut self, txn: &Txn) -> Outcome {
        let failed = txn.first_failed(|key| {
            Ok::<_, Infallible>(self.get(key).map_or(0, |found| found.mod_revision))
        });
        let Ok(failed) = failed;
        if let Some(failed) = failed {
            return failed;
        }
        let revision = self.window.head + 1;
        let events: Vec<Event> =
            txn.ops.iter().filter_map(|op| self.effect(revision, op)).collect();
        if events.is_empty() {
            return Outcome::Committed { revision: self.window.head };
        }
        for Event { key, change, .. } in &events {
            let value = match change {
                Change::Put(value) => Some(value.clone()),
                Change::Delete => None,
            };
            self.keys.entry(key.clone()).or_default().push(Version { revision, value });
        }
        self.history.insert(revision, events);
        self.window.head = revision;
        Outcome::Committed { revision }
    }

    /// What an operation changes: deleting what is absent changes nothing.
    fn effect(&self, revision: Revision, op: &Op) -> Option<Event> {
        let change = match op {
            Op::Put { value, .. } => Change::Put(value.clone()),
            Op::Delete { key } => self.get(key).map(|_| Change::Delete)?,
        };
        Some(Event { revision, key: op.key().to_owned(), change })
    }

    fn compact(&mut self, revision: Revision) -> Result<()> {
        self.window.not_future(revision)?;
        if revision <= self.window.oldest {
            return Ok(());
        }
        self.window.oldest = revision;
        self.history = self.history.split_off(&revision);
        self.keys.retain(|_, versions| {
            let newest = versions.iter().rposition(|version| version.revision <= revision);
            versions.drain(..newest.unwrap_or(0));
            // A deletion before the horizon says nothing that absence does not.
            let dead = |first: &Version| first.value.is_none() && first.revision < revision;
            if versions.first().is_some_and(dead) {
                versions.remove(0);
            }
            !versions.is_empty()
        });
        Ok(())
    }
}

impl Fault {
    fn error(self) -> StoreError {
        let path = PathBuf::from("(memory)");
        match self {
            Self::Full => StoreError::Full { path },
            Self::ReadOnly => StoreError::ReadOnly { path },
            Self::Io | Self::Unconfirmed => {
                let source = Arc::new(std::io::Error::other("injected fault"));
                StoreError::Io { doing: "committing to", path, source }
            }
        }
    }
}

fn live(key: &str, version: &Version) -> Option<KeyValue> {
    let value = version.value.clone()?;
    Some(KeyValue { key: key.to_owned(), value, mod_revision: version.revision })
}
