//! The promises as functions, for tests and simulations: called after every event, each names what
//! was broken.
//!
//! A [`Checker`] believes nothing that [`Node`] says of itself where it can count on its own: it
//! keeps its own account of which places were seen empty, what is on disk and which answers are
//! awaited, from the events that went in and the actions that came out.

mod life;
mod progress;
mod resize;

use std::collections::{BTreeMap, BTreeSet};

use everynode_model::{Digest, EVICTED, Generation, Intent, Item, PodKey, PodUid, SetUid, Term};

use self::life::Lives;
use crate::event::{Action, Event, Found, Supervised};
use crate::ledger::{Ledger, Standing};
use crate::node::{Node, rank};
use crate::place::Life;
use crate::spec::{PodRef, StorageLimits, StorageUse};

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// P1: a pod is made in a place that was not seen empty.
    CreatedInUnprovenPlace(PodRef),
    /// A pod is stopped for a revision of which what it needs is not here.
    StoppedForUnstaged(PodRef),
    /// P9: a pod goes on that was seen to have more on disk than it may.
    OutlivedItsLimit(PodRef),
    /// A pod ends for what it has on disk that was not seen to have more than it may.
    EvictedWithinLimits(PodRef),
    /// A pod is made of a revision of which what it needs is not here.
    MadeUnstaged(PodRef),
    /// A pod is given the limits of a revision that is not ordered, not alike or not here, or two at once.
    ResizedAmiss(PodRef),
    /// P2: a pod is replaced for a change of its limits alone, which nobody has tried to make in place.
    ReplacedForLimits(PodRef),
    /// A pod of which nobody knows the limits counts as one of the revision that is ordered.
    DoubtForgotten(PodRef),
    /// P1: more than one pod is made in one step in one place.
    CreatedTwice(PodKey),
    /// P1: a pod is made beside others than the one that it takes over from, or without an order for it.
    MadeBesideOthers(PodRef),
    /// A container is started that was started already, or in a pod that is not there.
    StartedWhatIsNotDown(PodRef, String),
    /// A container is started before its turn, or one that has done its part.
    StartedOutOfTurn(PodRef, String),
    /// A container is started in a pod that was told to end.
    StartedWhileEnding(PodRef, String),
    /// A container is told to end before its turn or twice, or killed untold.
    EndedOutOfTurn(PodRef, String),
    /// A probe or a hook of a container that does not run, that ends, or in which the same is under way.
    TriedInVain(PodRef, String),
    /// A pod counts as ready that is not, or the reverse.
    ReadyOrNot(PodRef),
    /// Something starts although this machine leaves or has left.
    StartedWhileLeaving(PodKey),
    /// Something starts although this machine is about to go down.
    StartedWhileGoingDown(PodKey),
    /// Something starts before the machine was looked at.
    StartedBeforeLooking(PodKey),
    /// Something starts that the ledger on disk does not order.
    StartedUnordered(PodKey),
    /// P5: the accepted order went back.
    OrderWentBack,
    /// An order was acknowledged that is not the one on disk.
    AcknowledgedUnwritten,
    /// A second write while one is in flight.
    WroteTwiceAtOnce,
    /// Something of another cluster, or of nobody knows whom, is stopped.
    TouchedForeign(PodKey),
    /// P3: a machine that was taken to another coordinator stops what it runs as it is ordered.
    StoppedThoughOrdered(PodKey),
    /// A pod is stopped that somebody at the machine holds as it is.
    StoppedWhileHeld(PodRef),
    /// Something of our cluster is stopped although nobody has ever said what is to run here.
    StoppedWithoutOrder(PodRef),
    /// A hold or release is said to count, and is not on disk; or an answer nobody waits for.
    AnsweredUnwritten(u64),
    /// P4: departure is confirmed, or the identity wiped, before it is on disk and all is empty.
    DepartedTooEarly,
    /// P8: a wanted pod does not run and nothing says why.
    Unexplained(PodKey),
    /// P2: a wanted pod does not run and nothing will come of waiting.
    Stuck(PodKey),
    /// The actions are not in the order in which they must be done.
    OutOfOrder,
}

/// What is known without asking the node; see the module.
#[derive(Clone, Debug)]
pub struct Checker {
    disk: Ledger,
    in_flight: Option<Ledger>,
    looked: bool,
    going_down: bool,
    unproven: BTreeSet<PodKey>,
    /// The pods by id that may be alive in each place.
    alive: BTreeMap<PodKey, BTreeSet<PodUid>>,
    /// Where something of another cluster, or of nobody knows whom, was found.
    foreign: BTreeSet<PodKey>,
    /// Where something of our cluster was found: that may be stopped, by its own mark.
    ours_found: BTreeSet<PodKey>,
    /// The pods that nobody has told to end, as they were made.
    running: BTreeMap<PodKey, Running>,
    /// Those that must go on, because this machine was taken to another coordinator, which has not
    /// ordered otherwise.
    inherited: BTreeSet<PodKey>,
    making: BTreeMap<PodKey, PodUid>,
    /// What each pod was made from, as far as that was seen.
    made_from: BTreeMap<PodUid, (SetUid, Digest, u64)>,
    ending: BTreeSet<PodUid>,
    /// Pods of which several were found in one place: no hold saves those.
    crowded: BTreeSet<PodUid>,
    /// The revisions that have something to be staged.
    stages: BTreeSet<Digest>,
    /// What pods of each revision may have on disk.
    storage: BTreeMap<Digest, StorageLimits>,
    /// Who was seen to have more than that.
    exceeding: BTreeSet<PodUid>,
    /// What was asked to be staged in each place, and whether it is there; absent where that failed.
    staged: BTreeMap<PodKey, (Digest, bool)>,
    /// What of a revision can't change in a pod that runs.
    alike: BTreeMap<Digest, Digest>,
    /// To which revision each pod is being brought, and to which it could not be; of one in doubt, to none
    /// at all.
    resizing: BTreeMap<PodUid, (SetUid, Digest, u64)>,
    not_resized: BTreeSet<(PodUid, Digest)>,
    in_doubt: BTreeSet<PodUid>,
    /// Wishes about holds: whether a write that has them is done.
    asked: BTreeMap<u64, bool>,
    lives: Lives,
}

/// A pod, and what it was made from.
#[derive(Clone, Debug)]
struct Running {
    uid: PodUid,
    set: SetUid,
    revision: Digest,
    replace: u64,
}

impl Checker {
    /// For a node that begins with this ledger.
    pub fn new(ledger: &Ledger) -> Self {
        Self {
            disk: ledger.clone(),
            in_flight: None,
            looked: false,
            going_down: false,
            unproven: BTreeSet::new(),
            alive: BTreeMap::new(),
            foreign: BTreeSet::new(),
            ours_found: BTreeSet::new(),
            running: BTreeMap::new(),
            inherited: BTreeSet::new(),
            making: BTreeMap::new(),
            made_from: BTreeMap::new(),
            ending: BTreeSet::new(),
            crowded: BTreeSet::new(),
            stages: BTreeSet::new(),
            storage: BTreeMap::new(),
            exceeding: BTreeSet::new(),
            staged: BTreeMap::new(),
            alike: BTreeMap::new(),
            resizing: BTreeMap::new(),
            not_resized: BTreeSet::new(),
            in_doubt: BTreeSet::new(),
            asked: BTreeMap::new(),
            lives: Lives::default(),
        }
    }

    /// What [`Node::know_stages`] is told.
    pub fn know_stages(&mut self, revisions: impl IntoIterator<Item = Digest>) {
        self.stages.extend(revisions);
    }

    /// What [`Node::know_storage`] is told.
    pub fn know_storage(&mut self, limits: impl IntoIterator<Item = (Digest, StorageLimits)>) {
        self.storage.extend(limits);
    }

    /// What [`Node::know_alike`] is told.
    pub fn know_alike(&mut self, revisions: impl IntoIterator<Item = (Digest, Digest)>) {
        self.alike.extend(revisions);
    }

    /// Every promise that was broken by answering `event` with `actions`, after which the node is
    /// `node`.
    pub fn check(&mut self, event: &Event, actions: &[Action], node: &Node) -> Vec<Violation> {
        let (whose, accepted) = (self.disk.marks(), accepted(&self.disk));
        self.note_event(event);
        self.lives.note_event(event);
        let mut broken = Vec::new();
        if whose == self.disk.marks() && accepted > self::accepted(&self.disk) {
            broken.push(Violation::OrderWentBack);
        }
        if !actions.is_sorted_by_key(rank) {
            broken.push(Violation::OutOfOrder);
        }
        for action in actions {
            broken.extend(self.check_action(action, node));
            broken.extend(self.lives.check(action));
            self.note_action(action);
            self.lives.note_action(action);
        }
        broken.extend(created_twice(actions));
        broken.extend(self.check_doubt(node));
        broken.extend(self.lives.check_ready(node));
        broken.extend(self.check_storage(event, node));
        if self.looked {
            let keys: Vec<&PodKey> = if self.stays(node) { self.wanted() } else { Vec::new() };
            broken.extend(keys.into_iter().flat_map(|key| match self.to_run(key) {
                Some(_) => self.check_wanted(key, node),
                None => self.check_held(key, node),
            }));
        }
        broken
    }

    fn stays(&self, node: &Node) -> bool {
        !self.going_down && self.standing_is_active(node)
    }

    fn standing_is_active(&self, node: &Node) -> bool {
        self.disk.standing == Standing::Active && node.standing() == Standing::Active
    }

    /// The places in which something is ordered or kept.
    fn wanted(&self) -> Vec<&PodKey> {
        let ordered = self.disk.assignment.items().filter(|item| item.intent != Intent::Stop);
        let keys = ordered.map(|item| &item.key).chain(self.disk.holds.kept.keys());
        keys.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// What the ledger on disk has run in a place.
    fn to_run(&self, key: &PodKey) -> Option<&Item> {
        match self.disk.holds.of(key) {
            Some(hold) if hold.stop => None,
            Some(_) => self.disk.holds.kept.get(key),
            None => self.disk.assignment.get(key).filter(|item| item.intent != Intent::Stop),
        }
    }

    fn note_event(&mut self, event: &Event) {
        match event {
            Event::Looked(found) if !self.looked => {
                self.looked = true;
                let mut alive = BTreeMap::<_, u32>::new();
                for one in found.iter().filter(|one| one.populated) {
                    *alive.entry(&one.key).or_default() += 1;
                }
                let crowded = |one: &&crate::Found| alive.get(&one.key).is_some_and(|n| *n > 1);
                self.crowded.extend(found.iter().filter(crowded).filter_map(|one| one.pod));
                for one in found.iter().filter(|one| one.populated) {
                    self.unproven.insert(one.key.clone());
                    self.alive.entry(one.key.clone()).or_default().extend(one.pod);
                    let ours = one.marks.is_some_and(|marks| self.disk.knows(marks.cluster));
                    let set = if ours { &mut self.ours_found } else { &mut self.foreign };
                    set.insert(one.key.clone());
                    self.note_found(one);
                }
                self.note_running(found);
                self.inherit();
            }
            Event::Rejoined(to) => {
                self.disk = self.disk.clone().rejoined(*to);
                self.in_flight = self.in_flight.take().map(|ledger| ledger.rejoined(*to));
                self.inherit();
            }
            Event::Persisted => {
                let first = self.disk.accepted.is_none();
                self.disk = self.in_flight.take().unwrap_or_else(|| self.disk.clone());
                self.note_orders(first);
                self.asked.values_mut().for_each(|written| *written = true);
            }
            Event::PersistFailed(_) => self.in_flight = None,
            Event::GoingDown => self.going_down = true,
            Event::HoldRequested { request, .. } => _ = self.asked.insert(*request, false),
            Event::PlaceEmpty(key) => {
                let making = self.making.get(key).copied();
                if let Some(alive) = self.alive.get_mut(key) {
                    alive.retain(|uid| Some(*uid) == making);
                }
                if making.is_none() {
                    self.no_longer_runs(key);
                    self.unproven.remove(key);
                    self.foreign.remove(key);
                }
            }
            Event::PodEmpty(pod) if self.making.get(&pod.key) != Some(&pod.uid) => {
                self.alive.entry(pod.key.clone()).or_default().remove(&pod.uid);
                self.ends(pod);
            }
            _ => self.note_word(event),
        }
    }

    /// What was found alive, ours, alone in its place, and not told to end.
    fn note_running(&mut self, found: &[Found]) {
        let alone = |one: &&Found| {
            found.iter().filter(|other| other.populated && other.key == one.key).count() == 1
        };
        let ours = |one: &&Found| one.marks.is_some_and(|marks| self.disk.is_ours(marks));
        let running = |one: &Found| {
            let supervised = one.supervised.as_ref().filter(|said| !said.terminating)?;
            let Supervised { set, revision, replace, .. } = *supervised;
            Some((one.key.clone(), Running { uid: one.pod?, set, revision, replace }))
        };
        let alive = found.iter().filter(|one| one.populated);
        self.running = alive.filter(alone).filter(ours).filter_map(running).collect();
    }

    /// What runs as it is ordered, on a machine that has a new coordinator without an order yet.
    fn inherit(&mut self) {
        let taken = self.disk.accepted.is_none() && !self.disk.formers.is_empty();
        let ordered = |(key, running): &(&PodKey, &Running)| self.is_as_ordered(key, running);
        let keys = self.running.iter().filter(|_| taken).filter(ordered);
        self.inherited = keys.map(|(key, _)| key.clone()).collect();
    }

    fn is_as_ordered(&self, key: &PodKey, running: &Running) -> bool {
        let (set, replace) = self.disk.counts_as(key, running.set, running.replace);
        let is = (set, running.revision, replace);
        self.disk.assignment.get(key).is_some_and(|item| {
            item.intent == Intent::Run && (item.set, item.revision, item.replace) == is
        })
    }

    /// The first order of a new coordinator may leave out what was inherited, or want another
    /// revision; later ones are as any other. Before it, the former one's last may still be written.
    fn note_orders(&mut self, first: bool) {
        let mut inherited = std::mem::take(&mut self.inherited);
        inherited.retain(|key| {
            let (item, running) = (self.disk.assignment.get(key), self.running.get(key));
            let (Some(item), Some(running)) = (item, running) else { return false };
            match item.intent {
                _ if self.disk.accepted.is_none() => self.is_as_ordered(key, running),
                Intent::Run => first && item.revision == running.revision,
                Intent::Keep => first,
                Intent::Stop => false,
            }
        });
        self.inherited = inherited;
    }

    fn note_word(&mut self, event: &Event) {
        match event {
            Event::OursGone(key) => self.no_longer_runs(key),
            Event::SupervisorLost(pod) | Event::CreateFailed { pod, .. }
                if self.running.get(&pod.key).is_some_and(|one| one.uid == pod.uid) =>
            {
                self.no_longer_runs(&pod.key);
            }
            _ => {}
        }
        match event {
            Event::Created { pod, plan } if self.made(pod) => self.lives.begin(pod, plan),
            Event::CreateFailed { pod, in_doubt, .. } if self.made(pod) && !in_doubt => {
                let alive = self.alive.entry(pod.key.clone()).or_default();
                alive.remove(&pod.uid);
                if alive.is_empty() {
                    self.unproven.remove(&pod.key);
                }
            }
            Event::StorageUsed { pod, used } if self.exceeds(pod, used) => {
                self.exceeding.insert(pod.uid);
                self.ending.insert(pod.uid);
                self.ends(pod);
            }
            Event::Staged { key, revision, outcome } => {
                let asked = self.staged.get(key) == Some(&(*revision, false));
                match outcome {
                    Ok(()) if asked => _ = self.staged.insert(key.clone(), (*revision, true)),
                    Err(_) if asked => _ = self.staged.remove(key),
                    _ => {}
                }
            }
            Event::Answered(found) => {
                // Who was told to end while it was silent may not have heard it: its own word counts.
                self.ending.retain(|uid| Some(*uid) != found.pod);
                self.note_found(found);
            }
            Event::Resized { .. } | Event::ResizeFailed { .. } => self.note_resized(event),
            Event::OursGone(key) => {
                self.foreign.insert(key.clone());
                self.ours_found.remove(key);
            }
            Event::SupervisorLost(pod) => _ = self.made(pod),
            _ => {}
        }
    }

    fn note_found(&mut self, found: &crate::Found) {
        let (Some(uid), Some(supervised)) = (found.pod, &found.supervised) else { return };
        if supervised.terminating {
            self.ending.insert(uid);
        }
        if supervised.limits_in_doubt {
            self.in_doubt.insert(uid);
        }
        // What bears the marks of another node is nothing that this ledger says anything about.
        if found.marks.is_some_and(|marks| self.disk.is_ours(marks)) {
            let made_from = (supervised.set, supervised.revision, supervised.replace);
            self.made_from.insert(uid, made_from);
        }
    }

    /// Whoever has died, or was told to, need not go on.
    fn no_longer_runs(&mut self, key: &PodKey) {
        self.running.remove(key);
        self.inherited.remove(key);
    }

    /// This very pod has died, or was told to.
    fn ends(&mut self, pod: &PodRef) {
        if self.running.get(&pod.key).is_some_and(|one| one.uid == pod.uid) {
            self.no_longer_runs(&pod.key);
        }
    }

    /// Whether this answers a `Create`, which is then no longer awaited.
    fn made(&mut self, pod: &PodRef) -> bool {
        let ours = self.making.get(&pod.key) == Some(&pod.uid);
        if ours {
            self.making.remove(&pod.key);
        }
        ours
    }

    fn note_action(&mut self, action: &Action) {
        if let Action::Terminate(pod) = action {
            self.ending.insert(pod.uid);
        }
        match action {
            Action::Persist(ledger) => self.in_flight = Some((**ledger).clone()),
            Action::Terminate(pod) | Action::Close(pod) | Action::KillPod(pod) => self.ends(pod),
            Action::Kill(key) => self.no_longer_runs(key),
            Action::Create { pod, set, revision, replace, .. } => {
                let (uid, set, revision, replace) = (pod.uid, *set, *revision, *replace);
                self.running.insert(pod.key.clone(), Running { uid, set, revision, replace });
                self.made_from.insert(pod.uid, (set, revision, replace));
                self.unproven.insert(pod.key.clone());
                self.alive.entry(pod.key.clone()).or_default().insert(pod.uid);
                self.making.insert(pod.key.clone(), pod.uid);
            }
            Action::Stage { key, revision, .. } => {
                self.staged.insert(key.clone(), (*revision, false));
            }
            Action::Answer { request, .. } => _ = self.asked.remove(request),
            Action::Resize { pod, set, revision, replace } => {
                self.resizing.insert(pod.uid, (*set, *revision, *replace));
            }
            _ => {}
        }
    }

    fn exceeds(&self, pod: &PodRef, used: &StorageUse) -> bool {
        let limits = self.made_from.get(&pod.uid).and_then(|(_, of, _)| self.storage.get(of));
        limits.is_some_and(|limits| limits.exceeded_by(used).is_some())
    }

    /// Whoever was seen to have too much ends, and nobody else does for that.
    fn check_storage(&self, event: &Event, node: &Node) -> Option<Violation> {
        let Event::StorageUsed { pod, used } = event else { return None };
        let found = |life: &&Life| life.pod().is_some_and(|one| one.at == *pod);
        let life = node.place(&pod.key)?.lives().find(found)?;
        match life {
            Life::Running(_) if self.exceeds(pod, used) => {
                Some(Violation::OutlivedItsLimit(pod.clone()))
            }
            Life::Stopping(_, stop)
                if stop.reason().code == EVICTED && !self.exceeding.contains(&pod.uid) =>
            {
                Some(Violation::EvictedWithinLimits(pod.clone()))
            }
            _ => None,
        }
    }

    fn check_action(&self, action: &Action, node: &Node) -> Vec<Violation> {
        let mut broken = Vec::new();
        let stops = match action {
            Action::Terminate(pod) | Action::Close(pod) | Action::KillPod(pod) => {
                let running = self.running.get(&pod.key).is_some_and(|one| one.uid == pod.uid);
                running.then_some(&pod.key)
            }
            Action::Kill(key) => Some(key),
            _ => None,
        };
        if let Some(key) = stops
            && self.inherited.contains(key)
            && self.disk.holds.of(key).is_none()
            && self.stays(node)
        {
            broken.push(Violation::StoppedThoughOrdered(key.clone()));
        }
        match action {
            Action::Create { pod, set, revision, replace, beside, .. } => {
                broken.extend(self.check_start(&pod.key, node));
                match beside {
                    Some(old) => {
                        broken.extend(self.check_beside(pod, *old));
                        broken.extend(self.check_successor(pod, *old));
                    }
                    None if self.unproven.contains(&pod.key) => {
                        broken.push(Violation::CreatedInUnprovenPlace(pod.clone()));
                    }
                    None => {}
                }
                let item = self.to_run(&pod.key);
                let ordered = item.map(|item| (item.set, item.revision, item.replace));
                if !self.is_staged(&pod.key, *revision) {
                    broken.push(Violation::MadeUnstaged(pod.clone()));
                }
                if ordered != Some((*set, *revision, *replace)) {
                    broken.push(Violation::StartedUnordered(pod.key.clone()));
                }
            }
            Action::Resize { pod, set, revision, replace } => {
                broken.extend(self.check_resize(pod, (*set, *revision, *replace)));
            }
            Action::Start { pod, container } => {
                broken.extend(self.check_start(&pod.key, node));
                if !self.lives.is_down(pod, container) {
                    broken.push(Violation::StartedWhatIsNotDown(pod.clone(), container.clone()));
                }
            }
            Action::Persist(_) if self.in_flight.is_some() => {
                broken.push(Violation::WroteTwiceAtOnce);
            }
            Action::Acknowledge { stamp, refused: None } if self.disk.accepted != Some(*stamp) => {
                broken.push(Violation::AcknowledgedUnwritten);
            }
            Action::Kill(key)
            | Action::KillPod(PodRef { key, .. })
            | Action::Terminate(PodRef { key, .. })
                if self.foreign.contains(key) && !self.ours_found.contains(key) =>
            {
                broken.push(Violation::TouchedForeign(key.clone()));
            }
            Action::Terminate(pod)
                if self.stays(node)
                    && !self.ending.contains(&pod.uid)
                    && !self.crowded.contains(&pod.uid) =>
            {
                broken.extend(self.check_stop(pod));
            }
            Action::Answer { request, refused } => {
                let written = self.asked.get(request);
                if written.is_none_or(|written| !written && refused.is_none()) {
                    broken.push(Violation::AnsweredUnwritten(*request));
                }
            }
            Action::ConfirmDeparture if !self.gone() => {
                broken.push(Violation::DepartedTooEarly);
            }
            Action::Wipe if !self.gone() || self.disk.standing != Standing::Left => {
                broken.push(Violation::DepartedTooEarly);
            }
            _ => {}
        }
        broken
    }

    /// Beside the one and only pod of its place, which may have died meanwhile, where that is ordered.
    fn check_beside(&self, pod: &PodRef, old: PodUid) -> Option<Violation> {
        let alone =
            self.alive.get(&pod.key).is_none_or(|alive| alive.iter().all(|uid| *uid == old));
        let ordered = self
            .to_run(&pod.key)
            .is_some_and(|item| item.surge.is_some() && item.intent == Intent::Run);
        let ours = !self.foreign.contains(&pod.key) && self.disk.holds.of(&pod.key).is_none();
        let may = alone && ordered && ours;
        (!may).then(|| Violation::MadeBesideOthers(pod.clone()))
    }

    fn check_start(&self, key: &PodKey, node: &Node) -> Option<Violation> {
        if !self.looked {
            Some(Violation::StartedBeforeLooking(key.clone()))
        } else if !self.standing_is_active(node) {
            Some(Violation::StartedWhileLeaving(key.clone()))
        } else if self.going_down {
            Some(Violation::StartedWhileGoingDown(key.clone()))
        } else if self.to_run(key).is_none() && !self.left_as_it_is(key) {
            Some(Violation::StartedUnordered(key.clone()))
        } else {
            None
        }
    }

    /// Whether what lives in a place is left as it is although nothing orders it: its containers
    /// are restarted, and no pod is made.
    fn left_as_it_is(&self, key: &PodKey) -> bool {
        let hold = self.disk.holds.of(key);
        hold.is_some_and(|hold| !hold.stop) || (hold.is_none() && self.disk.accepted.is_none())
    }

    /// A pod that was not ending before is told to.
    fn check_stop(&self, pod: &PodRef) -> Option<Violation> {
        let made_from = self.made_from.get(&pod.uid).map(|(set, revision, replace)| {
            let (set, replace) = self.disk.counts_as(&pod.key, *set, *replace);
            (set, *revision, replace)
        });
        let hold = self.disk.holds.of(&pod.key);
        let kept = self.disk.holds.kept.get(&pod.key);
        let kept = kept.map(|item| (item.set, item.revision, item.replace));
        if hold.is_some_and(|hold| !hold.stop) && kept.is_some() && kept == made_from {
            return Some(Violation::StoppedWhileHeld(pod.clone()));
        }
        let wanted = self.to_run(&pod.key).filter(|item| item.intent == Intent::Run);
        let replaced = wanted.filter(|item| made_from.is_some_and(|(set, ..)| set == item.set));
        let alone = self.alive.get(&pod.key).is_some_and(|alive| alive.len() == 1);
        if alone && self.may_be_resized(pod.uid, made_from, wanted) {
            return Some(Violation::ReplacedForLimits(pod.clone()));
        }
        if let Some(item) = replaced.filter(|_| alone)
            && !self.is_staged(&pod.key, item.revision)
        {
            return Some(Violation::StoppedForUnstaged(pod.clone()));
        }
        let unordered = self.disk.assignment.get(&pod.key).is_none();
        let unknown = hold.is_none() && self.disk.accepted.is_none() && unordered;
        unknown.then(|| Violation::StoppedWithoutOrder(pod.clone()))
    }

    /// Whether what a revision needs is here, as far as it was asked for.
    fn is_staged(&self, key: &PodKey, revision: Digest) -> bool {
        !self.stages.contains(&revision) || self.staged.get(key) == Some(&(revision, true))
    }

    /// Whether the disk says that this machine leaves, and nothing but foreign life is left.
    fn gone(&self) -> bool {
        self.looked
            && self.disk.standing != Standing::Active
            && self.unproven.is_subset(&self.foreign)
    }
}

fn accepted(ledger: &Ledger) -> Option<(Term, Generation)> {
    ledger.accepted.map(|stamp| (stamp.term, stamp.generation))
}

fn created_twice(actions: &[Action]) -> Option<Violation> {
    let mut seen = BTreeSet::new();
    actions.iter().find_map(|action| match action {
        Action::Create { pod, .. } if !seen.insert(&pod.key) => {
            Some(Violation::CreatedTwice(pod.key.clone()))
        }
        _ => None,
    })
}
