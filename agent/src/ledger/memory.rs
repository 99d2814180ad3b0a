//! A simulation's ledger: in memory, and forgetful of what was not synced when the power goes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use everynode_agent_core::{Ledger, Marks};
use everynode_model::{Digest, Reason};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{LedgerStore, LoadError, Loaded};

/// A disk that a simulated machine keeps through the deaths of its agents: clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryLedger {
    disk: Arc<Mutex<Disk>>,
    /// How long a sync takes: what is being written is lost when the writer dies within it.
    pub sync: Duration,
}

#[derive(Debug, Default)]
struct Disk {
    ledger: Option<Ledger>,
    bodies: BTreeMap<Digest, Vec<u8>>,
    writes: u64,
    fail: bool,
}

impl MemoryLedger {
    /// Makes writes fail from now on, or succeed again.
    pub fn set_failing(&self, fail: bool) {
        self.disk().fail = fail;
    }

    /// How often a ledger was written.
    pub fn writes(&self) -> u64 {
        self.disk().writes
    }

    /// The ledger that a power cut now would leave.
    pub fn synced(&self) -> Option<Ledger> {
        self.disk().ledger.clone()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(
        &self,
        change: impl FnOnce(&mut Disk) + Send + 'static,
    ) -> BoxFuture<'static, io::Result<()>> {
        let this = self.clone();
        async move {
            if !this.sync.is_zero() {
                tokio::time::sleep(this.sync).await;
            }
            let mut disk = this.disk();
            if disk.fail {
                return Err(io::ErrorKind::StorageFull.into());
            }
            change(&mut disk);
            Ok(())
        }
        .boxed()
    }
}

impl LedgerStore for MemoryLedger {
    fn load(&self, whose: Vec<Marks>) -> BoxFuture<'static, Result<Loaded, LoadError>> {
        let loaded = match self.synced() {
            None => Loaded::Nothing,
            Some(ledger) if whose.contains(&ledger.marks()) => Loaded::Ledger(Box::new(ledger)),
            Some(_) => Loaded::Lost(Reason::new("LedgerOfAnother", "it is of another identity")),
        };
        async move { Ok(loaded) }.boxed()
    }

    fn save(&self, ledger: Ledger) -> BoxFuture<'static, io::Result<()>> {
        self.write(move |disk| {
            disk.ledger = Some(ledger);
            disk.writes += 1;
        })
    }

    fn put_bodies(&self, bodies: Vec<(Digest, Vec<u8>)>) -> BoxFuture<'static, io::Result<()>> {
        self.write(move |disk| disk.bodies.extend(bodies))
    }

    fn body(&self, digest: Digest) -> BoxFuture<'static, Option<Vec<u8>>> {
        let body = self.disk().bodies.get(&digest).cloned();
        async move { body }.boxed()
    }

    fn bodies(&self) -> BoxFuture<'static, BTreeSet<Digest>> {
        let digests = self.disk().bodies.keys().copied().collect();
        async move { digests }.boxed()
    }

    fn keep_bodies(&self, keep: BTreeSet<Digest>) -> BoxFuture<'static, ()> {
        self.disk().bodies.retain(|digest, _| keep.contains(digest));
        async {}.boxed()
    }

    fn wipe(&self) -> BoxFuture<'static, io::Result<()>> {
        self.write(|disk| {
            disk.ledger = None;
            disk.bodies.clear();
        })
    }
}
