//! Writes, one after the other, in the order in which they were asked for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

use everynode_agent_core::{HostPort, Ledger, StorageLimits};
use everynode_model::{Digest, Intent};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::artifacts;
use crate::body;
use crate::ledger::LedgerStore;
use crate::session::assemble::Order;
use crate::session::inbox::keep_needed;

/// What must be known of bodies before an order is followed.
#[derive(Default)]
pub(super) struct Told {
    /// Which runtime each revision asks for.
    pub(super) runtimes: BTreeMap<Digest, String>,
    /// Which ports of the machine each revision uses.
    pub(super) ports: Vec<(Digest, Vec<HostPort>)>,
    /// What the pods of each revision may have on disk.
    pub(super) storage: Vec<(Digest, StorageLimits)>,
    /// Whether pods of any are to be killed later than most.
    pub(super) promised: bool,
    /// What of each revision can't change in a pod that runs.
    pub(super) alike: Vec<(Digest, Digest)>,
    /// Which content each revision names.
    pub(super) contents: Vec<(Digest, Vec<Digest>)>,
    /// What each revision has delivered, by name.
    pub(super) artifacts: Vec<(Digest, BTreeSet<String>)>,
    /// Content that is named and not on this machine.
    pub(super) missing: Option<Digest>,
}

/// At most one ledger (the core waits for its answer), one order (a newer one takes the place of
/// one that waits), one clearing away and one mirroring wait here.
pub(super) struct Disk {
    store: Arc<dyn LedgerStore>,
    waiting: VecDeque<Job>,
    running: Option<BoxFuture<'static, Done>>,
    /// Whether that is an order.
    runs_order: bool,
}

enum Job {
    Ledger(Box<Ledger>),
    Order(Box<Order>),
    Keep(BTreeSet<Digest>),
    Mirror,
}

/// What was done.
pub(super) enum Done {
    /// A ledger was written, or not.
    Ledger(io::Result<()>),
    /// The bodies of an order were written, or not; which runtime each of its items asks for.
    Order(Box<Order>, io::Result<Told>),
    /// Bodies were cleared away.
    Kept,
    /// All copies of the ledger are the newest, or not.
    Mirrored(io::Result<()>),
}

impl Disk {
    pub(super) fn new(store: Arc<dyn LedgerStore>) -> Self {
        // What an agent's end, or damage, has left different.
        Self { store, waiting: [Job::Mirror].into(), running: None, runs_order: false }
    }

    pub(super) fn put_ledger(&mut self, ledger: Box<Ledger>) {
        self.waiting.push_back(Job::Ledger(ledger));
    }

    pub(super) fn put_order(&mut self, mut order: Order) {
        let overtaken = self.waiting.iter().position(|job| matches!(job, Job::Order(_)));
        if let Some(Job::Order(older)) = overtaken.and_then(|at| self.waiting.remove(at)) {
            keep_needed(&mut order, older.bodies);
        }
        self.waiting.push_back(Job::Order(Box::new(order)));
    }

    /// Whether bodies of an order are to be written, or just are.
    pub(super) fn stores_order(&self) -> bool {
        self.runs_order || self.waiting.iter().any(|job| matches!(job, Job::Order(_)))
    }

    pub(super) fn keep_bodies(&mut self, keep: BTreeSet<Digest>) {
        self.waiting.retain(|job| !matches!(job, Job::Keep(_)));
        self.waiting.push_back(Job::Keep(keep));
    }

    /// Waits for the next write to be done; for ever when there is none. May be dropped and called
    /// again.
    pub(super) async fn done(&mut self) -> Done {
        if self.running.is_none() {
            let Some(job) = self.waiting.pop_front() else { return std::future::pending().await };
            self.runs_order = matches!(job, Job::Order(_));
            self.running = Some(job.run(Arc::clone(&self.store)));
        }
        let done = match &mut self.running {
            Some(running) => running.await,
            None => return std::future::pending().await,
        };
        (self.running, self.runs_order) = (None, false);
        if matches!(done, Done::Ledger(Ok(()))) {
            self.waiting.retain(|job| !matches!(job, Job::Mirror));
            self.waiting.push_back(Job::Mirror);
        }
        done
    }
}

impl Job {
    fn run(self, store: Arc<dyn LedgerStore>) -> BoxFuture<'static, Done> {
        match self {
            Self::Ledger(ledger) => store.save(*ledger).map(Done::Ledger).boxed(),
            Self::Order(order) => async move {
                let told = write_bodies(&order, &*store).await;
                Done::Order(order, told)
            }
            .boxed(),
            Self::Mirror => store.mirror().map(Done::Mirrored).boxed(),
            Self::Keep(keep) => store.keep_bodies(keep).map(|()| Done::Kept).boxed(),
        }
    }
}

/// Stores an order's bodies, and reads from all that it names what the core must know of them.
async fn write_bodies(order: &Order, store: &dyn LedgerStore) -> io::Result<Told> {
    if !order.bodies.is_empty() {
        let bodies = order.bodies.iter().map(|(digest, body)| (*digest, body.clone()));
        store.put_bodies(bodies.collect()).await?;
    }
    let mut told = Told::default();
    for item in order.assignment.items() {
        match order.bodies.get(&item.revision) {
            Some(body) => told.note(item.revision, body),
            None => {
                let body = store.body(item.revision).await;
                body.iter().for_each(|body| told.note(item.revision, body));
            }
        }
    }
    // What is kept or stopped needs no body, nor what that names.
    let run = order.assignment.items().filter(|item| item.intent == Intent::Run);
    let run: BTreeSet<Digest> = run.map(|item| item.revision).collect();
    let needed = told.contents.iter().filter(|(revision, _)| run.contains(revision));
    for digest in needed.flat_map(|(_, named)| named) {
        if !order.bodies.contains_key(digest) && store.body(*digest).await.is_none() {
            told.missing = Some(*digest);
        }
    }
    Ok(told)
}

impl Told {
    pub(super) fn note(&mut self, revision: Digest, body: &[u8]) {
        let runtime = body::runtime_of(body);
        self.runtimes.extend(runtime.map(|runtime| (revision, runtime.to_owned())));
        self.ports.push((revision, body::host_ports(body)));
        self.storage.push((revision, body::storage_limits(body)));
        self.promised |= body::is_promised(body);
        self.alike.extend(body::fixed_of(body).map(|fixed| (revision, fixed)));
        self.contents.push((revision, body::blobs_of(body)));
        self.artifacts.push((revision, artifacts::names_of(body)));
    }
}
