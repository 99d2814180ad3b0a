//! One event, start to end: take it in, reconcile, write, and notice what has changed.

mod leaving;

use std::collections::{BTreeMap, BTreeSet};

use everynode_model::{Digest, Intent, Item, Now, PodKey, PodStatus, PodUid, Reason, Timestamp};

use crate::backoff::Policy;
use crate::book::{Book, Settled};
use crate::event::{Action, Event, Found, HookKind};
use crate::found;
use crate::hold::{HoldChange, Scope, Waiting};
use crate::ledger::{Departure, Ledger, Standing};
use crate::order::{Order, Refusal, Verdict};
use crate::place::{Life, Place, Turn};
use crate::pod::Pod;
use crate::ports::HostPort;
use crate::reconcile::{hold, reconcile, told, wanted};
use crate::spec::{PodRef, StorageLimits};
use crate::status;

/// Everything this machine was told, and is known to have living on it.
#[derive(Clone, Debug)]
pub struct Node {
    policy: Policy,
    pub(crate) book: Book,
    pub(crate) places: BTreeMap<PodKey, Place>,
    looked: bool,
    /// Whether the coordinator was told in this session that the machine is empty.
    said_empty: bool,
    wiped: bool,
    dirty: BTreeSet<PodKey>,
    shown: BTreeMap<PodKey, Vec<PodStatus>>,
}

impl Node {
    /// The node of this ledger, before the machine was looked at.
    pub fn new(ledger: Ledger, policy: Policy) -> Self {
        Self {
            policy,
            book: Book::new(ledger),
            places: BTreeMap::new(),
            looked: false,
            said_empty: false,
            wiped: false,
            dirty: BTreeSet::new(),
            shown: BTreeMap::new(),
        }
    }

    /// Says which runtime the ledger's revisions ask for, also those that are held, read from their
    /// bodies. To be called once, before the first event; without it the runtimes that hold the places
    /// are taken for them.
    pub fn know_runtimes(&mut self, runtimes: impl IntoIterator<Item = (Digest, String)>) {
        for (revision, runtime) in runtimes {
            self.book.know_runtime(revision, runtime);
        }
    }

    /// Says which of the machine's ports the pods of these revisions use, read from their bodies. To
    /// be called for what is there before the first event, and for all of an order before
    /// [`Event::Ordered`]; a revision that is not told uses none.
    pub fn know_ports(&mut self, ports: impl IntoIterator<Item = (Digest, Vec<HostPort>)>) {
        let lives = self.places.values().flat_map(Place::made_from).collect();
        self.book.know_ports(ports, lives);
    }

    /// Which of the machine's ports a pod that lives here declares.
    pub fn host_ports(&self, pod: &PodRef) -> Vec<HostPort> {
        let place = self.places.get(&pod.key);
        let pods = place.into_iter().flat_map(Place::lives).filter_map(|life| life.pod());
        let revision = pods.into_iter().find(|one| one.at == *pod).map(|one| one.identity.revision);
        let ports = revision.and_then(|revision| self.book.ports().get(&revision));
        ports.cloned().unwrap_or_default()
    }

    /// Says which revisions have something to be brought here and checked before a pod of them is made
    /// or takes another's place. To be called as [`Self::know_ports`] is.
    pub fn know_stages(&mut self, revisions: impl IntoIterator<Item = Digest>) {
        let lives = self.places.values().flat_map(Place::made_from).collect();
        self.book.know_stages(revisions, lives);
    }

    /// Says what the pods of these revisions may have on disk, read from their bodies. To be called as
    /// [`Self::know_ports`] is; a revision that is not told may have what there is.
    pub fn know_storage(&mut self, limits: impl IntoIterator<Item = (Digest, StorageLimits)>) {
        let lives = self.places.values().flat_map(Place::made_from).collect();
        self.book.know_storage(limits, lives);
    }

    /// Says which revisions are alike, so that a pod of one is brought to another as it runs: those with
    /// the same digest here, which stands for all but what may change in place. To be called as
    /// [`Self::know_ports`] is; a revision that is not told is like no other.
    pub fn know_alike(&mut self, revisions: impl IntoIterator<Item = (Digest, Digest)>) {
        let lives = self.places.values().flat_map(Place::made_from).collect();
        self.book.know_alike(revisions, lives);
    }

    /// Takes in one event and says what to do, in order. `ids` gives ids never used before.
    ///
    /// Before [`Event::Looked`] orders are accepted and nothing is started or stopped. Each
    /// [`Action::Create`] must be answered by `Created`, `CreateFailed` or `SupervisorLost`, each
    /// [`Action::Stage`] by `Staged` unless another follows in its place, each [`Action::Resize`] by
    /// `Resized` or `ResizeFailed` unless the pod ends or is lost, each
    /// [`Action::Start`] by `Started`, `StartFailed` or `SupervisorLost`, each [`Action::Persist`]
    /// by `Persisted` or `PersistFailed`; each [`Event::HoldRequested`] is answered by one
    /// [`Action::Answer`]; words about one place must come in the order in which
    /// things happened there.
    pub fn apply(
        &mut self,
        event: Event,
        now: Now,
        ids: &mut dyn FnMut() -> PodUid,
    ) -> Vec<Action> {
        let mut out = Vec::new();
        let mut touched = Touched::by(&event);
        self.take_in(event, now, ids, &mut out);
        self.book.follow_holds(now);
        if self.looked || mutated!(StartBeforeLooking) {
            let mut turn = turn(&self.policy, &self.book, now, ids, &mut out);
            touched.add(reconcile(&mut self.places, &mut self.book, &mut turn));
            self.depart(&mut out);
        }
        let (places, looked) = (&self.places, self.looked);
        let seen_empty = |key: &PodKey| {
            looked && places.get(key).is_none_or(|place| matches!(place.life, Life::Empty))
        };
        let to_run = |book: &Book| to_run(book, places);
        let write = self.book.next_write(now, seen_empty, to_run);
        out.extend(write.map(Box::new).map(Action::Persist));
        if !mutated!(Disorder) {
            out.sort_by_key(rank);
        }
        touched.add(out.iter().filter_map(place_acted_on).cloned());
        self.notice_changes(touched, now);
        out
    }

    /// When to say [`Event::Woke`] if nothing else happens before.
    pub fn wake_at(&self) -> Option<Timestamp> {
        let places = self.places.values().filter_map(Place::due);
        places.chain(self.book.due()).min()
    }

    /// The ledger on disk.
    pub fn ledger(&self) -> &Ledger {
        self.book.disk()
    }

    /// Whether the machine stays, by what was last said; the ledger on disk follows.
    pub fn standing(&self) -> Standing {
        self.book.standing()
    }

    /// Whether the machine is about to go down, so that nothing is started.
    pub fn is_going_down(&self) -> bool {
        self.book.is_going_down()
    }

    /// Whether the machine was looked at.
    pub fn has_looked(&self) -> bool {
        self.looked
    }

    /// Every place in which something is wanted or lives, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &PodKey> {
        self.places.keys().chain(told(&self.book)).collect::<BTreeSet<_>>().into_iter()
    }

    /// What to report of a place: usually one status. None where nothing is wanted and no pod of
    /// this node lives, and none before the machine was looked at.
    pub fn statuses(&self, key: &PodKey, now: Now) -> Vec<PodStatus> {
        let Some(place) = self.places.get(key) else { return Vec::new() };
        let (item, hold) = (wanted(&self.book, key).item(), hold(&self.book, key));
        status::statuses(key, place, item, hold, now)
    }

    /// The places whose statuses have changed since the last call; that one has been ready for
    /// longer is no change.
    pub fn take_dirty(&mut self) -> BTreeSet<PodKey> {
        std::mem::take(&mut self.dirty)
    }

    /// Why a place is not simply running the revision that the ledger names, or would not if another
    /// were ordered; `None` when it is, or when nothing is wanted and nothing is there.
    pub fn why(&self, key: &PodKey) -> Option<Reason> {
        let item = wanted(&self.book, key).item();
        match self.places.get(key) {
            Some(place) => status::why(place, item, hold(&self.book, key)),
            None if self.looked => None,
            None => item.map(|_| {
                Reason::new(
                    "NotLooked",
                    "the agent has not yet looked at what lives on this machine",
                )
            }),
        }
    }

    pub(crate) fn place(&self, key: &PodKey) -> Option<&Place> {
        self.places.get(key)
    }

    fn take_in(
        &mut self,
        event: Event,
        now: Now,
        ids: &mut dyn FnMut() -> PodUid,
        out: &mut Vec<Action>,
    ) {
        match event {
            Event::Looked(found) => self.look(found, now, out),
            Event::Ordered { stamp, assignment, empty_is_meant, runtimes } => {
                self.ordered(Order { stamp, assignment, empty_is_meant, runtimes }, out);
            }
            Event::Welcomed(session) => {
                self.said_empty = false;
                self.book.put_session(session);
            }
            Event::HoldRequested { request, change } => self.hold_requested(request, change, out),
            Event::Deregistered => self.leave(Departure::Deregistered, out),
            Event::LeaveRequested => self.leave(Departure::Requested, out),
            Event::GoingDown => {
                self.book.put_going_down();
                let requests = self.book.take_changes();
                let settled = Settled { order: None, requests };
                out.extend(answers(settled, Some(&going_down())));
            }
            Event::DepartureConfirmed => self.confirmed(),
            Event::Rejoined(to) => {
                self.said_empty = false;
                self.book.rejoin(to);
            }
            Event::Persisted => {
                let settled = self.book.written();
                out.extend(answers(settled, None));
                self.inherit();
            }
            Event::PersistFailed(why) => {
                let refused = Some(Reason::new("LedgerNotWritten", why.to_string()));
                let settled = self.book.failed(why, &self.policy, now);
                out.extend(answers(settled, refused.as_ref()));
            }
            Event::Woke => {}
            of_a_place => self.take_in_word(of_a_place, now, ids, out),
        }
    }

    /// A runtime's word about one place. Those about pods that are not, or no longer, the place's
    /// are passed over.
    fn take_in_word(
        &mut self,
        event: Event,
        now: Now,
        ids: &mut dyn FnMut() -> PodUid,
        out: &mut Vec<Action>,
    ) {
        let Some(place) = place_of(&event).and_then(|key| self.places.get_mut(key)) else { return };
        let mut turn = turn(&self.policy, &self.book, now, ids, out);
        match event {
            Event::Staging { revision, line, .. } => place.staging(revision, line),
            Event::Staged { revision, outcome, .. } => {
                place.staged(revision, outcome, &turn);
            }
            Event::Resized { pod, revision } => place.resized(&pod, revision, now),
            Event::ResizeFailed { pod, revision, reason, in_doubt } => {
                place.resize_failed(&pod, revision, (reason, in_doubt), &turn);
            }
            Event::Created { pod, plan } => place.created(pod.uid, plan, now),
            Event::CreateFailed { pod, reason, retry, in_doubt } => {
                place.create_failed(pod.uid, reason, (retry, in_doubt), &mut turn);
            }
            Event::SupervisorLost(pod) => place.supervisor_lost(pod.uid, &mut turn),
            Event::SupervisorSilent(pod) => {
                place.pod_mut(pod.uid).into_iter().for_each(Pod::supervisor_silent);
            }
            Event::SupervisorHeard(pod) => {
                place.pod_mut(pod.uid).into_iter().for_each(Pod::supervisor_heard);
            }
            Event::Answered(found) => {
                place.answered(&found, self.book.disk(), &mut turn);
                if let Some(item) = as_found(place) {
                    self.book.keep_found(item);
                }
            }
            Event::PlaceEmpty(key) => place.seen_empty(&key, &mut turn),
            Event::PodEmpty(pod) => place.seen_pod_empty(&pod, &mut turn),
            Event::OursGone(key) => place.ours_gone(&key, &mut turn),
            Event::KillFailed { reason, .. } => place.kill_failed(&reason),
            Event::Started { pod, container, pid } => {
                if let Some(pod) = place.pod_mut(pod.uid) {
                    pod.started(&container, pid, now);
                }
            }
            Event::StartFailed { pod, container, reason } => {
                if let Some(pod) = place.pod_mut(pod.uid) {
                    pod.start_failed(&container, &reason, &self.policy, now);
                }
            }
            Event::Exited { pod, container, exit } => {
                place.exited(pod.uid, &container, exit, &turn);
            }
            Event::PortHeld { pod, container, line } => {
                if let Some(pod) = place.pod_mut(pod.uid) {
                    pod.port_held(&container, &line);
                }
            }
            Event::OutOfMemory { pod, container } => {
                if let Some(pod) = place.pod_mut(pod.uid) {
                    pod.out_of_memory(&container);
                }
            }
            Event::Probed { pod, container, kind, number, outcome } => {
                if let Some(pod) = place.pod_mut(pod.uid) {
                    pod.probed(&container, (kind, number), outcome, now);
                }
            }
            Event::HookDone { pod, container, hook, number, outcome } => {
                if let Some(pod) = place.pod_mut(pod.uid) {
                    pod.hook_done(&container, (hook, number), outcome, now);
                }
            }
            Event::StorageUsed { pod, used } => {
                place.storage_used(pod.uid, &used, &self.book, &mut turn);
            }
            Event::Printed { pod, container, log_tail } => {
                if let Some(pod) = place.pod_mut(pod.uid) {
                    pod.printed(&container, log_tail);
                }
            }
            // The rest is not about a place.
            _ => {}
        }
    }

    fn look(&mut self, found: Vec<Found>, now: Now, out: &mut Vec<Action>) {
        if self.looked {
            return;
        }
        self.looked = true;
        let mut by_place: BTreeMap<PodKey, Vec<Found>> = BTreeMap::new();
        for one in found {
            by_place.entry(one.key.clone()).or_default().push(one);
        }
        for (key, found) in by_place {
            let ledger = self.book.disk();
            out.extend(found::leftovers(&found, ledger).into_iter().map(Action::Remove));
            let place = found::place(&key, &found, ledger, &self.policy, now);
            if let Some(item) = as_found(&place) {
                self.book.keep_found(item);
            }
            self.places.insert(key, place);
        }
    }

    /// Whether the wish can be followed; then it is written, and answered once that is done.
    fn hold_requested(&mut self, request: u64, change: HoldChange, out: &mut Vec<Action>) {
        let refused = self.judge_hold(&change).or_else(|| {
            if mutated!(AnswerHoldEarly) {
                out.push(Action::Answer { request, refused: None });
            }
            let busy = !self.book.put_change(Waiting { request, change });
            busy.then(|| Reason::new("Busy", "too many requests wait for the disk"))
        });
        out.extend(refused.map(|reason| Action::Answer { request, refused: Some(reason) }));
    }

    fn judge_hold(&self, change: &HoldChange) -> Option<Reason> {
        let holds = self.book.holds();
        let known = |key: &PodKey| {
            self.places.contains_key(key)
                || self.book.disk().assignment.get(key).is_some()
                || holds.places.contains_key(key)
        };
        let (HoldChange::Hold { scope, .. } | HoldChange::Release(scope)) = change;
        let releases = matches!(change, HoldChange::Release(_));
        match scope {
            _ if self.book.standing() != Standing::Active => Some(Refusal::Leaving.into()),
            _ if self.is_going_down() => Some(going_down()),
            _ if !self.looked => {
                let line = "the agent has not yet looked at what lives on this machine";
                Some(Reason::new("NotLooked", line))
            }
            Scope::Node if releases && holds.is_empty() => {
                Some(Reason::new("NotHeld", "nothing is held on this node"))
            }
            Scope::Place(key) if !known(key) => {
                Some(Reason::new("NotFound", format!("no pod {key} is here or ordered")))
            }
            Scope::Place(key) if releases && !holds.places.contains_key(key) => {
                Some(match &holds.node {
                    Some(_) => Reason::new(
                        "HeldWithNode",
                        format!("{key} is held with all that is on this node: release --all"),
                    ),
                    None => Reason::new("NotHeld", format!("{key} is not held")),
                })
            }
            _ => None,
        }
    }

    fn ordered(&mut self, order: Order, out: &mut Vec<Action>) {
        let stamp = order.stamp;
        let mut answer = |refused: Option<Reason>| out.push(Action::Acknowledge { stamp, refused });
        match self.book.fence().judge(&order) {
            Verdict::Write => {
                if mutated!(AnswerBeforeWritten) {
                    answer(None);
                }
                self.book.put_order(order);
            }
            Verdict::AlreadyAccepted => answer(None),
            Verdict::AlreadyComing => {}
            Verdict::Refused(refusal) => answer(Some(refusal.into())),
        }
    }

    /// What lives here counts as the ledger on disk says.
    fn inherit(&mut self) {
        let ledger = self.book.disk();
        self.places.iter_mut().for_each(|(key, place)| place.inherit(key, ledger));
    }

    /// Marks the places of which something else is to be told than before. Only those are looked at of
    /// which that can be: a node has hundreds, and an event is nearly always about one.
    fn notice_changes(&mut self, touched: Touched, now: Now) {
        let keys: BTreeSet<PodKey> = match touched {
            Touched::All => self.places.keys().chain(self.shown.keys()).cloned().collect(),
            Touched::These(keys) => {
                let new = self.places.keys().filter(|key| !self.shown.contains_key(*key));
                let gone = self.shown.keys().filter(|key| !self.places.contains_key(*key));
                keys.into_iter().chain(new.chain(gone).cloned()).collect()
            }
        };
        for key in keys {
            let said = self.told_of(&key, now);
            if said != self.shown.get(&key).cloned() {
                match said {
                    Some(said) => self.shown.insert(key.clone(), said),
                    None => self.shown.remove(&key),
                };
                self.dirty.insert(key);
            }
        }
        debug_assert_eq!(self.unnoticed(now), None, "something changed in a place unnoticed");
    }

    /// What is told of a place that is there, whenever it is.
    fn told_of(&self, key: &PodKey, now: Now) -> Option<Vec<PodStatus>> {
        self.places.get(key)?;
        let mut statuses = self.statuses(key, now);
        statuses.iter_mut().for_each(|status| status.ready_for = std::time::Duration::ZERO);
        Some(statuses)
    }

    /// A place in which something has changed that nobody has noticed: there is none.
    fn unnoticed(&self, now: Now) -> Option<&PodKey> {
        let mut keys = self.places.keys().chain(self.shown.keys());
        keys.find(|key| self.told_of(key, now).as_ref() != self.shown.get(*key))
    }
}

/// The places of which something else may be told than before.
enum Touched {
    All,
    These(BTreeSet<PodKey>),
}

impl Touched {
    /// By an event itself, whatever follows from it.
    fn by(event: &Event) -> Self {
        match (event, place_of(event)) {
            (_, Some(key)) => Self::These([key.clone()].into()),
            (Event::Woke, None) => Self::These(BTreeSet::new()),
            // Of the whole node: orders, holds, what is on disk.
            (_, None) => Self::All,
        }
    }

    fn add(&mut self, more: impl IntoIterator<Item = PodKey>) {
        if let Self::These(keys) = self {
            keys.extend(more);
        }
    }
}

fn turn<'a>(
    policy: &'a Policy,
    book: &Book,
    now: Now,
    ids: &'a mut dyn FnMut() -> PodUid,
    out: &'a mut Vec<Action>,
) -> Turn<'a> {
    // Who was told what to run, or to leave, answers for what the cluster left here under another
    // node uid. Before that it may be the life of a node that is about to come back, but for a
    // machine that goes down, where nothing lives on in any case.
    let strays_too = book.disk().accepted.is_some()
        || book.standing() != Standing::Active
        || book.is_going_down();
    let ordered = book.disk().accepted.is_some();
    Turn { now, policy, strays_too, ordered, ids, out }
}

/// What each place is to run as things are: what lives there and stays, else what is wanted.
fn to_run(book: &Book, places: &BTreeMap<PodKey, Place>) -> BTreeMap<PodKey, Item> {
    let mut items = BTreeMap::new();
    for key in places.keys().chain(told(book)) {
        let wanted = wanted(book, key).item();
        let alive = places.get(key).and_then(|place| match &place.life {
            Life::Creating(pod) | Life::Running(pod) => Some(pod.identity),
            Life::Empty | Life::Stopping(..) | Life::Held(_) => None,
        });
        let item = match alive {
            Some(identity) => Some(identity.item(key, wanted)),
            None => wanted.map(|item| Item { intent: Intent::Run, ..item.clone() }),
        };
        items.extend(item.map(|item| (key.clone(), item)));
    }
    items
}

fn going_down() -> Reason {
    Reason::new("NodeShutdown", "this machine is going down")
}

/// What a place that was just looked at runs, as an item that keeps it.
fn as_found(place: &Place) -> Option<Item> {
    let Life::Running(pod) = &place.life else { return None };
    Some(Item { intent: Intent::Keep, ..pod.identity.item(&pod.at.key, None) })
}

/// Tells those who waited for a write that it was done, or why not.
fn answers(settled: Settled, refused: Option<&Reason>) -> impl Iterator<Item = Action> {
    let refused = refused.cloned();
    let order = settled.order.map(|stamp| Action::Acknowledge { stamp, refused: refused.clone() });
    let answer = move |request| Action::Answer { request, refused: refused.clone() };
    order.into_iter().chain(settled.requests.into_iter().map(answer))
}

/// The ledger first, then answers, stops, what clears the way, starts, and last what ends it all.
pub(crate) fn rank(action: &Action) -> u8 {
    match action {
        Action::Persist(_) => 0,
        Action::Acknowledge { .. } | Action::Answer { .. } => 1,
        Action::Hook { hook: HookKind::PreStop, .. } => 2,
        Action::Terminate(_) | Action::Close(_) | Action::Stop { .. } => 2,
        Action::Kill(_) | Action::KillPod(_) | Action::KillContainer { .. } => 2,
        Action::Remove(_) => 3,
        Action::Stage { .. } | Action::Create { .. } | Action::Resize { .. } => 4,
        Action::Start { .. } => 5,
        Action::Hook { hook: HookKind::PostStart, .. } | Action::Probe { .. } => 6,
        Action::ConfirmDeparture => 7,
        Action::Wipe => 8,
    }
}

/// The place in which something is done by this.
fn place_acted_on(action: &Action) -> Option<&PodKey> {
    match action {
        Action::Create { pod, .. }
        | Action::Resize { pod, .. }
        | Action::Start { pod, .. }
        | Action::Stop { pod, .. }
        | Action::KillContainer { pod, .. }
        | Action::Probe { pod, .. }
        | Action::Hook { pod, .. }
        | Action::Terminate(pod)
        | Action::Close(pod)
        | Action::KillPod(pod)
        | Action::Remove(pod) => Some(&pod.key),
        Action::Stage { key, .. } | Action::Kill(key) => Some(key),
        Action::Persist(_)
        | Action::Acknowledge { .. }
        | Action::Answer { .. }
        | Action::ConfirmDeparture
        | Action::Wipe => None,
    }
}

/// The place that a runtime's word is about.
pub(crate) fn place_of(event: &Event) -> Option<&PodKey> {
    match event {
        Event::Created { pod, .. }
        | Event::Resized { pod, .. }
        | Event::ResizeFailed { pod, .. }
        | Event::CreateFailed { pod, .. }
        | Event::Started { pod, .. }
        | Event::StartFailed { pod, .. }
        | Event::Exited { pod, .. }
        | Event::Probed { pod, .. }
        | Event::HookDone { pod, .. }
        | Event::OutOfMemory { pod, .. }
        | Event::StorageUsed { pod, .. }
        | Event::PortHeld { pod, .. }
        | Event::Printed { pod, .. }
        | Event::SupervisorLost(pod)
        | Event::PodEmpty(pod)
        | Event::SupervisorSilent(pod)
        | Event::SupervisorHeard(pod) => Some(key_of(pod)),
        Event::Answered(found) => Some(&found.key),
        Event::PlaceEmpty(key) | Event::OursGone(key) => Some(key),
        Event::KillFailed { key, .. } | Event::Staging { key, .. } | Event::Staged { key, .. } => {
            Some(key)
        }
        _ => None,
    }
}

fn key_of(pod: &PodRef) -> &PodKey {
    &pod.key
}
