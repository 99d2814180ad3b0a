//! The ledger on disk, and the one write that may be in flight.
//!
//! ```text
//!   order accepted ─┐
//!   hold, release ──┤
//!   leaving, left ──┤  draft   next_write()   in flight   written()   on disk: what counts
//!   session ────────┼────────▶ ─────────────▶ ─────────▶ ──────────▶
//!   place moves ────┘                             │
//!                    ▲     order dropped, rest    │ failed()
//!                    └────────────────────────────┘ tried again with back-off
//! ```
//!
//! One order waits at most: a newer one takes the place of the one waiting, and its answer stands
//! for both. An order whose write fails is refused, so that the coordinator knows, and so is what
//! somebody wanted of holds; everything else is this machine's own wish and is tried until it
//! succeeds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use everynode_model::{
    Assignment, Digest, Item, Now, PodKey, Reason, SessionNonce, Stamp, Timestamp,
};

use crate::backoff::Policy;
use crate::event::Marks;
use crate::hold::{Ends, Holds, Waiting};
use crate::ledger::{Ledger, Standing};
use crate::order::{Fence, Order};
use crate::ports::{HostPort, Ports};
use crate::spec::StorageLimits;

/// Wishes about holds that may wait: people at one machine, several times over.
const WAITING: usize = 16;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Book {
    disk: Ledger,
    writing: Option<Writing>,
    order: Option<Order>,
    standing: Standing,
    /// Not for the disk: it is over with the next boot.
    going_down: bool,
    session: Option<SessionNonce>,
    /// What somebody wants of holds, in the order in which it came.
    changes: VecDeque<Waiting>,
    ends: Ends,
    /// What was found to run while nobody knew what ought to.
    found: BTreeMap<PodKey, Item>,
    /// Places whose entry must name another runtime before anything is made there.
    moves: BTreeMap<PodKey, String>,
    /// Which runtime each revision on disk asks for, as far as it was said.
    runtimes: BTreeMap<Digest, String>,
    /// What the revisions that are known here use of the machine's ports.
    ports: Ports,
    /// Which revisions have something to be staged.
    stages: BTreeSet<Digest>,
    /// What pods of these revisions may have on disk.
    storage: BTreeMap<Digest, StorageLimits>,
    /// What of the known revisions can't change in a pod that runs.
    alike: BTreeMap<Digest, Digest>,
    failures: u32,
    retry_at: Timestamp,
    /// Why the last write failed.
    failure: Option<Reason>,
}

#[derive(Clone, Debug)]
struct Writing {
    ledger: Ledger,
    order: Option<(Stamp, BTreeMap<PodKey, String>)>,
    /// Whether somebody waits to hear of the order.
    answer: bool,
    requests: Vec<u64>,
}

/// What a write was for, apart from this machine's own wishes.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    pub(crate) order: Option<Stamp>,
    pub(crate) requests: Vec<u64>,
}

impl Book {
    pub(crate) fn new(disk: Ledger) -> Self {
        Self {
            writing: None,
            order: None,
            standing: disk.standing,
            going_down: false,
            session: disk.session,
            changes: VecDeque::new(),
            ends: Ends::default(),
            found: BTreeMap::new(),
            moves: BTreeMap::new(),
            runtimes: runtimes_of_places(&disk),
            ports: Ports::new(),
            stages: BTreeSet::new(),
            storage: BTreeMap::new(),
            alike: BTreeMap::new(),
            failures: 0,
            retry_at: Timestamp::ZERO,
            failure: None,
            disk,
        }
    }

    /// What is on disk: all that may be acted on.
    pub(crate) fn disk(&self) -> &Ledger {
        &self.disk
    }

    /// The standing that counts: a wish to leave counts before it is written, because stopping is
    /// always safe.
    pub(crate) fn standing(&self) -> Standing {
        self.standing
    }

    /// Whether the machine is about to go down.
    pub(crate) fn is_going_down(&self) -> bool {
        self.going_down
    }

    /// The machine is about to go down.
    pub(crate) fn put_going_down(&mut self) {
        self.going_down = true;
    }

    pub(crate) fn fence(&self) -> Fence {
        let written = self.writing.as_ref().filter(|writing| writing.answer);
        let written = written.and_then(|writing| writing.order.as_ref());
        Fence {
            cluster: self.disk.cluster,
            leaving: self.standing != Standing::Active,
            accepted: self.disk.accepted,
            coming: self
                .order
                .as_ref()
                .map(|order| order.stamp)
                .or_else(|| written.map(|(stamp, _)| *stamp)),
        }
    }

    pub(crate) fn put_order(&mut self, order: Order) {
        if mutated!(FollowBeforeWritten) {
            self.disk.assignment.clone_from(&order.assignment);
        }
        self.order = Some(order);
    }

    /// Changes the standing; an order that waits can no longer count and is given back.
    pub(crate) fn put_standing(&mut self, standing: Standing) -> Option<Stamp> {
        self.standing = standing;
        self.order.take().map(|order| order.stamp)
    }

    /// This machine is another coordinator's now. What is being written is still the former ledger,
    /// which a later start would turn into the same; an order that waits is nobody's.
    pub(crate) fn rejoin(&mut self, to: Marks) {
        self.disk = self.disk.clone().rejoined(to);
        if let Some(writing) = &mut self.writing {
            writing.ledger = writing.ledger.clone().rejoined(to);
            writing.answer = false;
        }
        self.order = None;
        self.standing = Standing::Active;
        self.session = None;
    }

    /// Takes in what somebody wants of holds; `false` when too much waits already.
    pub(crate) fn put_change(&mut self, waiting: Waiting) -> bool {
        let room = self.changes.len() < WAITING;
        if room {
            self.changes.push_back(waiting);
        }
        room
    }

    /// Gives back what somebody wanted of holds and was not handed out to be written.
    pub(crate) fn take_changes(&mut self) -> Vec<u64> {
        self.changes.drain(..).map(|waiting| waiting.request).collect()
    }

    /// What was found to run here, to be kept until an order says otherwise.
    pub(crate) fn keep_found(&mut self, item: Item) {
        if self.disk.accepted.is_none() {
            self.found.insert(item.key.clone(), item);
        }
    }

    /// Which holds are in force, and looks whose time is over.
    pub(crate) fn follow_holds(&mut self, now: Now) {
        self.ends.follow(&self.disk.holds, now);
    }

    /// The holds in force.
    pub(crate) fn holds(&self) -> &Holds {
        &self.disk.holds
    }

    pub(crate) fn put_session(&mut self, session: SessionNonce) {
        self.session = Some(session);
    }

    pub(crate) fn know_runtime(&mut self, revision: Digest, runtime: String) {
        self.runtimes.insert(revision, runtime);
    }

    /// What is known of ports.
    pub(crate) fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Takes note of the ports of revisions, and forgets those of revisions that neither an order
    /// nor anything that `lives` here was made from, so that no more is kept than those have.
    pub(crate) fn know_ports(
        &mut self,
        known: impl IntoIterator<Item = (Digest, Vec<HostPort>)>,
        lives: BTreeSet<Digest>,
    ) {
        let needed = self.needed(lives);
        self.ports.retain(|revision, _| needed.contains(revision));
        self.ports.extend(known.into_iter().filter(|(_, ports)| !ports.is_empty()));
    }

    /// Takes note of revisions that have something to be staged; forgets as [`Self::know_ports`] does.
    pub(crate) fn know_stages(
        &mut self,
        known: impl IntoIterator<Item = Digest>,
        lives: BTreeSet<Digest>,
    ) {
        let needed = self.needed(lives);
        self.stages.retain(|revision| needed.contains(revision));
        self.stages.extend(known);
    }

    /// Takes note of what can't change in a pod that runs; forgets as [`Self::know_ports`] does.
    pub(crate) fn know_alike(
        &mut self,
        known: impl IntoIterator<Item = (Digest, Digest)>,
        lives: BTreeSet<Digest>,
    ) {
        let needed = self.needed(lives);
        self.alike.retain(|revision, _| needed.contains(revision));
        self.alike.extend(known);
    }

    /// Whether a pod of the one revision can be brought to the other as it runs.
    pub(crate) fn are_alike(&self, one: Digest, other: Digest) -> bool {
        let fixed = self.alike.get(&one);
        one != other && fixed.is_some() && fixed == self.alike.get(&other)
    }

    /// Whether a revision has something to be staged.
    pub(crate) fn stages(&self, revision: Digest) -> bool {
        self.stages.contains(&revision)
    }

    /// Takes note of what pods of revisions may have on disk; forgets as [`Self::know_ports`] does.
    pub(crate) fn know_storage(
        &mut self,
        known: impl IntoIterator<Item = (Digest, StorageLimits)>,
        lives: BTreeSet<Digest>,
    ) {
        let needed = self.needed(lives);
        self.storage.retain(|revision, _| needed.contains(revision));
        self.storage.extend(known.into_iter().filter(|(_, limits)| !limits.is_empty()));
    }

    /// What a pod of a revision may have on disk; `None` where that is not limited.
    pub(crate) fn storage(&self, revision: Digest) -> Option<&StorageLimits> {
        self.storage.get(&revision)
    }

    /// The revisions that an order names or what `lives` here was made from.
    fn needed(&self, mut lives: BTreeSet<Digest>) -> BTreeSet<Digest> {
        let writing = self.writing.as_ref().map(|writing| &writing.ledger.assignment);
        let coming = self.order.as_ref().map(|order| &order.assignment);
        let orders = [Some(&self.disk.assignment), writing, coming].into_iter().flatten();
        let items = orders.flat_map(Assignment::items).chain(self.disk.holds.kept.values());
        lives.extend(items.map(|item| item.revision));
        lives
    }

    /// Whether the disk names, and goes on naming, the runtime in which a pod of this revision is to be
    /// made in `key`.
    pub(crate) fn names_runtime(&self, key: &PodKey, revision: Digest) -> bool {
        let Some(wanted) = self.runtimes.get(&revision) else { return true };
        let in_flight = self.writing.as_ref().map(|writing| &writing.ledger);
        [Some(&self.disk), in_flight]
            .into_iter()
            .flatten()
            .all(|ledger| ledger.places.get(key) == Some(wanted))
    }

    /// Which places must be moved to the runtime that a revision asks for.
    pub(crate) fn set_moves(&mut self, moves: BTreeMap<PodKey, Digest>) {
        let wanted = |(key, revision): (PodKey, Digest)| {
            self.runtimes.get(&revision).cloned().map(|runtime| (key, runtime))
        };
        self.moves = moves.into_iter().filter_map(wanted).collect();
    }

    /// The ledger to write now, if any. `is_empty` knows the places that were seen empty, `to_run`
    /// what is to run in each place where nobody has it held.
    pub(crate) fn next_write(
        &mut self,
        now: Now,
        is_empty: impl Fn(&PodKey) -> bool,
        to_run: impl FnOnce(&Self) -> BTreeMap<PodKey, Item>,
    ) -> Option<Ledger> {
        let asked = self.order.is_some() || !self.changes.is_empty();
        let too_early = !asked && now.steady < self.retry_at;
        if (self.writing.is_some() && !mutated!(WriteTwiceAtOnce)) || too_early {
            return None;
        }
        let mut ledger = self.draft();
        let requests = self.draft_holds(&mut ledger, now, to_run);
        let order = self.order.take().map(|order| {
            let runtimes: BTreeMap<_, _> = order.runtimes.into_iter().collect();
            let unsaid =
                |key: &PodKey| order.assignment.get(key).is_some() && !runtimes.contains_key(key);
            // What is held is made again where it was.
            let held = |key: &PodKey| ledger.holds.kept.contains_key(key);
            ledger.places.retain(|key, _| !is_empty(key) || unsaid(key) || held(key));
            for item in order.assignment.items() {
                if let Some(runtime) = runtimes.get(&item.key) {
                    ledger.places.entry(item.key.clone()).or_insert_with(|| runtime.clone());
                }
            }
            ledger.heirs = ledger.heirs_under(&order.assignment);
            // What is held goes on under the name that its pods count under.
            for (key, item) in std::mem::take(&mut ledger.holds.kept) {
                let (set, replace) = ledger.counts_as(&key, item.set, item.replace);
                ledger.holds.kept.insert(key, Item { set, replace, ..item });
            }
            ledger.accepted = Some(order.stamp);
            ledger.assignment = order.assignment;
            (order.stamp, runtimes)
        });
        if ledger == self.disk && requests.is_empty() {
            return None;
        }
        self.writing = Some(Writing { ledger: ledger.clone(), order, answer: true, requests });
        Some(ledger)
    }

    /// The write succeeded; gives what counts from now on.
    pub(crate) fn written(&mut self) -> Settled {
        let Some(writing) = self.writing.take() else { return Settled::default() };
        self.disk = writing.ledger;
        self.failures = 0;
        self.failure = None;
        self.retry_at = Timestamp::ZERO;
        let order = writing.order.map(|(stamp, runtimes)| {
            let items = self.disk.assignment.items();
            let said =
                items.filter_map(|item| Some((item.revision, runtimes.get(&item.key)?.clone())));
            self.runtimes.extend(said);
            let needed = self.needed(BTreeSet::new());
            self.runtimes.retain(|revision, _| needed.contains(revision));
            self.found.clear();
            stamp
        });
        let order = order.filter(|_| writing.answer);
        Settled { order, requests: writing.requests }
    }

    /// The write failed; gives what was in it and is not tried again.
    pub(crate) fn failed(&mut self, why: Reason, policy: &Policy, now: Now) -> Settled {
        let Some(writing) = self.writing.take() else { return Settled::default() };
        self.failure = Some(why);
        self.retry_at = now.steady.after(policy.write.nth(self.failures));
        self.failures = self.failures.saturating_add(1);
        let order = writing.order.map(|(stamp, _)| stamp).filter(|_| writing.answer);
        Settled { order, requests: writing.requests }
    }

    /// Why the last write failed; `None` where it did not.
    pub(crate) fn failure(&self) -> Option<&Reason> {
        self.failure.as_ref()
    }

    /// When a failed write is to be tried again, or a hold is over.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        let again = (self.writing.is_none() && self.failures > 0 && self.draft() != self.disk)
            .then_some(self.retry_at);
        again.into_iter().chain(self.ends.next()).min()
    }

    fn draft(&self) -> Ledger {
        let mut ledger = self.disk.clone();
        ledger.standing = self.standing;
        ledger.session = self.session;
        ledger.places.extend(self.moves.clone());
        for scope in self.ends.over() {
            ledger.holds.end(scope);
        }
        if ledger.accepted.is_none() && !self.found.is_empty() {
            let known = ledger.assignment.items().map(|item| item.key.clone());
            let known: BTreeSet<PodKey> = known.collect();
            let new = self.found.values().filter(|item| !known.contains(&item.key));
            let all = ledger.assignment.items().chain(new).cloned();
            ledger.assignment = Assignment::new(all.collect::<Vec<_>>());
        }
        ledger
    }

    /// Follows what somebody wants of holds; gives the requests to answer.
    fn draft_holds(
        &mut self,
        ledger: &mut Ledger,
        now: Now,
        to_run: impl FnOnce(&Self) -> BTreeMap<PodKey, Item>,
    ) -> Vec<u64> {
        if self.changes.is_empty() {
            return Vec::new();
        }
        let to_run = to_run(self);
        let changes = std::mem::take(&mut self.changes).into_iter();
        let follow = |Waiting { request, change }| {
            ledger.holds.change(change, &to_run, now.wall);
            request
        };
        changes.map(follow).collect()
    }
}

/// Until it is said, a revision is taken to ask for the runtime that holds its place.
fn runtimes_of_places(disk: &Ledger) -> BTreeMap<Digest, String> {
    let items = disk.assignment.items().chain(disk.holds.kept.values());
    items.filter_map(|item| Some((item.revision, disk.places.get(&item.key)?.clone()))).collect()
}
