//! One place: at most one pod; two only while one takes over from the other, which `surge` draws.
//!
//! ```text
//!                Create                 Created
//!     ┌───────┐ ───────▶ ┌──────────┐ ─────────▶ ┌─────────┐  Start, Exited, Start, …
//!  ┌─▶│ Empty │          │ Creating │            │ Running │  (containers: see `pod`)
//!  │  └───────┘ ◀─────── └──────────┘            └─────────┘ ◀── adopted at the first look
//!  │   waits: back-off,  CreateFailed │ CreateFailed  │ not wanted, or not like this: Terminate
//!  │   refused, after…,  (nothing of  │ in doubt,     │ too much on disk: see `eviction`
//!  │   ledger             it lives)   │               │ supervisor lost: Kill
//!  │                                  ▼ lost          ▼
//!  │                                ┌───────────────────┐
//!  │ PlaceEmpty: Remove             │     Stopping      │ Kill after the grace, again and again
//!  ├─────────────────────────────── └───────────────────┘
//!  │ PlaceEmpty: Remove             ┌───────────────────┐
//!  ├─────────────────────────────── │       Held        │ ◀── found at the first look, not
//!  │                                └───────────────────┘     to be adopted: see `stop`
//!  │ PlaceEmpty: a death, Remove    ┌───────────────────┐
//!  └─────────────────────────────── │      Running      │
//!                                   └───────────────────┘
//!
//!   Held ── Answered: only its supervisor's account was missing ──▶ Running, as adopted
//!   Running ── only its limits are others: Resize, see `resize` ──▶ Running, of that revision
//!   Stopping ── OursGone: others moved in, ours are dead: Remove ──▶ Held
//! ```
//!
//! Only `PlaceEmpty` proves death. A runtime must tell it in the order in which things happened: an
//! old word of emptiness then comes before the answer to a later `Create`, finds the place in
//! `Creating`, and is passed over. That is also why `Creating` is left by an answer and nothing
//! else, and why one that finds a pod `Running` is true: all of it has died, also where nobody is
//! left who could tell how.

mod memory;

use everynode_model::{Digest, Exit, Intent, Item, Now, PodKey, PodUid, Reason, Surge, Timestamp};

pub(crate) use self::memory::Memory;
use crate::backoff::Policy;
use crate::event::{Action, Found};
use crate::found;
use crate::ledger::Ledger;
use crate::pod::{Identity, Pod};
use crate::resize::{Difference, difference};
use crate::spec::{Plan, PodRef};
use crate::staging::Staging;
use crate::stop::{Held, Holder, Stop};
use crate::surge::successor;

/// One place and all that is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) life: Life,
    /// The pod that is to take over from the one in `life`, while both are here: being made, running
    /// or being stopped.
    pub(crate) beside: Option<Life>,
    /// Of that one, where there are two.
    pub(crate) memory: Memory,
    /// The id that the next pod here will have.
    pub(crate) next: Option<PodUid>,
    /// Why that pod is not being made yet.
    pub(crate) waits: Option<Wait>,
    /// Whether what its revision needs is here.
    pub(crate) staging: Staging,
}

/// See the drawing.
#[derive(Clone, Debug)]
pub(crate) enum Life {
    Empty,
    Creating(Box<Pod>),
    Running(Box<Pod>),
    Stopping(Box<Pod>, Stop),
    Held(Held),
}

/// A start put off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) reason: Reason,
    /// Until when; `None` where something has to happen first.
    pub(crate) until: Option<Timestamp>,
}

/// What a place is for, by the ledger on disk.
pub(crate) enum Want<'a> {
    /// A pod of this item; `gate` is why it must not be made yet, if it is not there, `stages` whether
    /// its revision has something to be staged, and `surge` whether it is made beside another; a pod of
    /// a revision that is `alike` is brought to it as it runs. Where it is `held`, what runs already is
    /// that pod, whatever it was made from.
    Pod {
        item: &'a Item,
        gate: Option<Reason>,
        stages: bool,
        surge: Option<Surge>,
        alike: Vec<Digest>,
        held: bool,
    },
    /// Nothing, and why; `item` is what would run here if nobody kept it down.
    Nothing { item: Option<&'a Item>, reason: Reason },
    /// What lives here, whatever it is; nothing is made, and why. `item` is what is ordered.
    AsItIs { item: Option<&'a Item>, reason: Reason },
}

/// The pod that is to be made: see [`Want::Pod`].
pub(crate) struct Next<'a> {
    pub(crate) item: &'a Item,
    pub(crate) gate: Option<&'a Reason>,
    pub(crate) stages: bool,
}

/// What a step may use.
pub(crate) struct Turn<'a> {
    pub(crate) now: Now,
    pub(crate) policy: &'a Policy,
    /// Whether pods of this cluster under another node uid may be stopped.
    pub(crate) strays_too: bool,
    /// Whether an order is known.
    pub(crate) ordered: bool,
    pub(crate) ids: &'a mut dyn FnMut() -> PodUid,
    pub(crate) out: &'a mut Vec<Action>,
}

impl<'a> Want<'a> {
    /// What is to be told of the place where nothing lives in it.
    pub(crate) fn item(&self) -> Option<&'a Item> {
        match self {
            Self::Pod { item, .. } => Some(item),
            Self::Nothing { item, .. } | Self::AsItIs { item, .. } => *item,
        }
    }
}

impl Place {
    pub(crate) fn new(life: Life) -> Self {
        Self {
            life,
            beside: None,
            memory: Memory::default(),
            next: None,
            waits: None,
            staging: Staging::Unknown,
        }
    }

    /// What the pods that may live here were made from, as far as this agent knows them.
    pub(crate) fn made_from(&self) -> impl Iterator<Item = Digest> {
        self.lives().filter_map(|life| Some(life.pod()?.identity.revision))
    }

    /// What is here: of two, the one that is there longer comes first.
    pub(crate) fn lives(&self) -> impl Iterator<Item = &Life> {
        std::iter::once(&self.life).chain(&self.beside)
    }

    fn lives_mut(&mut self) -> impl Iterator<Item = &mut Life> {
        std::iter::once(&mut self.life).chain(&mut self.beside)
    }

    /// Brings the place one step closer to what it is for.
    pub(crate) fn step(&mut self, key: &PodKey, want: &Want<'_>, turn: &mut Turn<'_>) {
        self.waits = None;
        if self.beside.is_some() {
            return self.step_two(key, want, turn);
        }
        self.life = match (std::mem::replace(&mut self.life, Life::Empty), want) {
            (Life::Empty, Want::Pod { item, gate, stages, .. }) => {
                self.make(Next { item, gate: gate.as_ref(), stages: *stages }, None, turn)
            }
            (Life::Empty, Want::Nothing { item, reason } | Want::AsItIs { item, reason }) => {
                self.stay_empty(*item, reason, turn);
                Life::Empty
            }
            (Life::Creating(pod), _) => Life::Creating(pod),
            (Life::Running(mut pod), want) => match misfit(&pod, want) {
                None => {
                    self.resize(&mut pod, want, turn);
                    tend(pod, turn)
                }
                Some(cause) => match successor(&pod, want) {
                    Some(next) => {
                        self.make_beside(next, pod.at.uid, turn);
                        tend(pod, turn)
                    }
                    None if self.keeps(&pod, want, turn) => tend(pod, turn),
                    None => self.take_down(pod, cause, turn),
                },
            },
            (Life::Stopping(mut pod, mut stop), _) => {
                if pod.wind_down(&mut stop, turn) {
                    stop.step(key, turn.policy, turn.now, turn.out);
                }
                Life::Stopping(pod, stop)
            }
            (Life::Held(mut held), want) => {
                match want.item() {
                    Some(item) => _ = self.expect(item, turn),
                    None => self.next = None,
                }
                if !matches!(want, Want::AsItIs { .. }) {
                    let wanted = matches!(want, Want::Pod { .. });
                    held.begin_if_due(key, (wanted, turn.strays_too), turn.now, turn.out);
                }
                held.step(key, turn.policy, turn.now, turn.out);
                Life::Held(held)
            }
        };
    }

    /// When the next step is due without anything happening.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        let waits = self.waits.as_ref().and_then(|wait| wait.until);
        self.lives().filter_map(Life::due).chain(waits).min()
    }

    /// The pod `uid` here, in whatever part of its life.
    pub(crate) fn pod_mut(&mut self, uid: PodUid) -> Option<&mut Pod> {
        let beside = self.is_beside(uid)?;
        self.at(beside).pod_mut()
    }

    /// What lives here, and what is remembered of it, counts as the ledger says from now on.
    pub(crate) fn inherit(&mut self, key: &PodKey, ledger: &Ledger) {
        self.lives_mut().filter_map(Life::pod_mut).for_each(|pod| pod.inherit(ledger));
        let identity = &mut self.memory.identity;
        *identity = identity.map(|identity| identity.inherited(key, ledger));
    }

    /// The pod here, in whatever part of its life; of two, the one that is there longer.
    pub(crate) fn pod(&self) -> Option<&Pod> {
        self.life.pod()
    }

    /// `Created`.
    pub(crate) fn created(&mut self, uid: PodUid, plan: Plan, now: Now) {
        let Some(beside) = self.is_beside(uid) else { return };
        let life = self.at(beside);
        *life = match std::mem::replace(life, Life::Empty) {
            Life::Creating(mut pod) => {
                pod.created(plan, now);
                Life::Running(pod)
            }
            other => other,
        };
    }

    /// `Exited`: a failure, except in a pod that is being stopped.
    pub(crate) fn exited(&mut self, uid: PodUid, container: &str, exit: Exit, turn: &Turn<'_>) {
        let Some(beside) = self.is_beside(uid) else { return };
        match self.at(beside) {
            Life::Running(pod) => pod.exited(container, exit, turn.policy, turn.now),
            Life::Stopping(pod, _) => pod.ended(container, exit, turn.now),
            _ => {}
        }
    }

    /// `CreateFailed`.
    pub(crate) fn create_failed(
        &mut self,
        uid: PodUid,
        why: Reason,
        (retry, in_doubt): (bool, bool),
        turn: &mut Turn<'_>,
    ) {
        let Some(beside) = self.is_beside(uid) else { return };
        let life = std::mem::replace(self.at(beside), Life::Empty);
        *self.at(beside) = match life {
            Life::Creating(mut pod) => {
                self.staging.forget();
                pod.note_failure("", None, why.clone(), turn.now);
                self.memory.failed(&pod, &why, retry, turn);
                if in_doubt {
                    Life::Stopping(pod, Stop::by_force(why, turn.now))
                } else {
                    turn.out.push(Action::Remove(pod.at));
                    Life::Empty
                }
            }
            other => other,
        };
        self.settle();
    }

    /// `SupervisorLost`: a death of nobody knows how much.
    pub(crate) fn supervisor_lost(&mut self, uid: PodUid, turn: &mut Turn<'_>) {
        if let Life::Held(held) = &mut self.life {
            return held.lost(uid, turn.now);
        }
        let Some(beside) = self.is_beside(uid) else { return };
        let life = std::mem::replace(self.at(beside), Life::Empty);
        *self.at(beside) = match life {
            Life::Creating(mut pod) | Life::Running(mut pod) => {
                let why = Reason::new("SupervisorLost", "the pod's supervisor died");
                self.died(&mut pod, &why, turn);
                if mutated!(TakeLostForDead) {
                    Life::Empty
                } else {
                    Life::Stopping(pod, Stop::by_force(why, turn.now))
                }
            }
            Life::Stopping(mut pod, mut stop) => {
                pod.cannot_be_told();
                stop.hurry(turn.now);
                Life::Stopping(pod, stop)
            }
            other => other,
        };
        self.settle();
    }

    /// `Answered`: what could not be adopted without its supervisor's account now can.
    pub(crate) fn answered(&mut self, found: &Found, ledger: &Ledger, turn: &mut Turn<'_>) {
        let Life::Held(held) = &mut self.life else { return };
        let known = held.holders.iter().any(|holder| holder.pod == found.pod);
        if known && held.may_be_adopted() {
            let one = std::slice::from_ref(found);
            *self = Self::new(found::life(one, ledger, turn.policy, turn.now));
        } else {
            held.answered(Holder::of(found, ledger), &found.key, turn.out);
        }
    }

    /// `OursGone`: who is left was never ours, and is waited for.
    pub(crate) fn ours_gone(&mut self, key: &PodKey, turn: &mut Turn<'_>) {
        match self.beside.take() {
            Some(Life::Held(left)) => turn.out.extend(left.pods(key).map(Action::Remove)),
            Some(new) => {
                turn.out.extend(new.pod().map(|pod| Action::Remove(pod.at.clone())));
            }
            None => {}
        }
        self.life = match std::mem::replace(&mut self.life, Life::Empty) {
            Life::Stopping(pod, _) => {
                turn.out.push(Action::Remove(pod.at));
                Life::Held(Held::by_unknown())
            }
            Life::Held(held) => {
                turn.out.extend(held.pods(key).map(Action::Remove));
                Life::Held(held.without_ours())
            }
            other @ (Life::Empty | Life::Creating(_) | Life::Running(_)) => other,
        };
    }

    /// `PlaceEmpty`: whatever lived here is dead; one that is still being made did not live yet.
    pub(crate) fn seen_empty(&mut self, key: &PodKey, turn: &mut Turn<'_>) {
        // Of two the old one first; the other is the place's only pod then.
        if self.beside.is_some()
            && let Some(old) = self.life.pod().map(|pod| pod.at.clone())
        {
            self.seen_pod_empty(&old, turn);
        }
        self.life = match std::mem::replace(&mut self.life, Life::Empty) {
            Life::Held(held) => {
                turn.out.extend(held.pods(key).map(Action::Remove));
                Life::Empty
            }
            other => self.gone(other, turn),
        };
    }

    /// What becomes of one that nobody holds and that was seen dead; one that is still being made did not
    /// live yet.
    pub(crate) fn gone(&mut self, life: Life, turn: &mut Turn<'_>) -> Life {
        match life {
            Life::Stopping(pod, _) => {
                turn.out.push(Action::Remove(pod.at));
                Life::Empty
            }
            Life::Running(mut pod) => {
                let why = Reason::new("PodDied", "nothing of the pod was left alive");
                self.died(&mut pod, &why, turn);
                turn.out.push(Action::Remove(pod.at));
                Life::Empty
            }
            other @ (Life::Empty | Life::Creating(_) | Life::Held(_)) => other,
        }
    }

    /// `KillFailed`.
    pub(crate) fn kill_failed(&mut self, reason: &Reason) {
        assert!(!mutated!(Panic), "as it was told to");
        for life in self.lives_mut() {
            match life {
                Life::Stopping(_, stop) => stop.failed(reason.clone()),
                Life::Held(Held { stop: Some(stop), .. }) => stop.failed(reason.clone()),
                _ => {}
            }
        }
    }

    /// All of the pod is dead, or nobody is left who could say what of it is.
    pub(crate) fn died(&mut self, pod: &mut Pod, why: &Reason, turn: &Turn<'_>) {
        pod.unready();
        pod.lost(why, turn.now);
        self.failed_as_a_whole(pod, why, turn);
    }

    /// The pod as a whole has failed, and is made anew after a back-off; but for an old one in whose stead
    /// another is there, or would be if it could be made.
    pub(crate) fn failed_as_a_whole(&mut self, pod: &Pod, why: &Reason, turn: &Turn<'_>) {
        if self.memory.identity.is_none_or(|of| of == pod.identity) {
            self.memory.failed(pod, why, true, turn);
        }
    }

    /// Nothing is to take over any more from the pod that is here.
    pub(crate) fn forget_others(&mut self, identity: Identity) {
        if self.memory.identity.is_some_and(|of| of != identity) {
            self.memory = self.memory.anew(None, None);
            self.next = None;
        }
    }

    /// A pod of this item, or `Empty` where it has to wait; the one that it takes over from, if there
    /// is one.
    pub(crate) fn make(
        &mut self,
        Next { item, gate, stages }: Next<'_>,
        beside: Option<PodUid>,
        turn: &mut Turn<'_>,
    ) -> Life {
        let uid = self.expect(item, turn);
        let gate = gate.map(|reason| Wait { reason: reason.clone(), until: None });
        // Also of one that waits for something else: it need not wait for this afterwards.
        let unstaged = stages.then(|| self.staging.hindrance(item, turn)).flatten();
        self.waits = self.memory.hindrance(turn.now.steady).or(gate).or(unstaged);
        if self.waits.is_some() {
            return Life::Empty;
        }
        self.next = None;
        let at = PodRef { key: item.key.clone(), uid };
        turn.out.push(Action::Create {
            pod: at.clone(),
            set: item.set,
            revision: item.revision,
            replace: item.replace,
            labels: item.labels.clone(),
            restarts: self.memory.restarts,
            beside,
        });
        if mutated!(CreateTwice) {
            turn.out.extend(turn.out.last().cloned());
        }
        Life::Creating(Box::new(Pod::new(at, Identity::of(item), &self.memory)))
    }

    /// Nothing is made here; where an item is told of, it has an id and waits for a reason.
    fn stay_empty(&mut self, item: Option<&Item>, reason: &Reason, turn: &mut Turn<'_>) {
        match item {
            Some(item) => {
                self.expect(item, turn);
                self.waits = Some(Wait { reason: reason.clone(), until: None });
            }
            None => *self = Self::new(Life::Empty),
        }
    }

    /// The id of the pod that `item` will have here. Every attempt has its own, so that a late word
    /// about one can't be taken for a word about the next.
    pub(crate) fn expect(&mut self, item: &Item, turn: &mut Turn<'_>) -> PodUid {
        let identity = Identity::of(item);
        if self.memory.identity != Some(identity) {
            self.memory = self.memory.anew(Some(identity), None);
            self.next = None;
        }
        *self.next.get_or_insert_with(|| (turn.ids)())
    }

    fn take_down(&mut self, pod: Box<Pod>, cause: Reason, turn: &mut Turn<'_>) -> Life {
        // What is known of one that could not be made beside it goes on being known.
        if self.memory.identity.is_none_or(|of| of == pod.identity) {
            self.memory = self.memory.anew(None, pod.as_former());
        } else {
            let former = self.memory.former.take();
            self.memory.former = pod.as_former().or(former);
        }
        let stopping = terminate(pod, cause, turn);
        if mutated!(CreateBeforeEmpty) { Life::Empty } else { stopping }
    }
}

impl Life {
    /// The pod, in whatever part of its life.
    pub(crate) fn pod(&self) -> Option<&Pod> {
        match self {
            Self::Creating(pod) | Self::Running(pod) | Self::Stopping(pod, _) => Some(pod),
            Self::Empty | Self::Held(_) => None,
        }
    }

    fn pod_mut(&mut self) -> Option<&mut Pod> {
        match self {
            Self::Creating(pod) | Self::Running(pod) | Self::Stopping(pod, _) => Some(pod),
            Self::Empty | Self::Held(_) => None,
        }
    }

    /// When something is due in it by itself.
    fn due(&self) -> Option<Timestamp> {
        match self {
            Self::Empty | Self::Creating(_) => None,
            Self::Running(pod) => pod.due(),
            Self::Stopping(..) if mutated!(ForgetToKill) => None,
            Self::Stopping(_, stop) => Some(stop.due()),
            Self::Held(held) => held.stop.as_ref().map(Stop::due),
        }
    }
}

pub(crate) fn terminate(mut pod: Box<Pod>, cause: Reason, turn: &mut Turn<'_>) -> Life {
    pod.begin_to_end(&cause, turn);
    let mut stop = Stop::after(pod.grace, cause, turn.now);
    pod.wind_down(&mut stop, turn);
    Life::Stopping(pod, stop)
}

pub(crate) fn tend(mut pod: Box<Pod>, turn: &mut Turn<'_>) -> Life {
    pod.tend(turn);
    Life::Running(pod)
}

/// Why what runs has to go for what is wanted, if it has.
pub(crate) fn misfit(pod: &Pod, want: &Want<'_>) -> Option<Reason> {
    let (item, alike) = match want {
        Want::Nothing { reason, .. } => return Some(reason.clone()),
        Want::AsItIs { .. } | Want::Pod { held: true, .. } => return None,
        Want::Pod { item, alike, .. } => (item, alike),
    };
    if pod.identity.set != item.set {
        let line = "the DaemonSet was deleted and made again under the same name";
        return Some(Reason::new("Replaced", line));
    }
    match difference(pod, item, alike) {
        Some(Difference::Other(why)) if item.intent != Intent::Keep => Some(why),
        _ => None,
    }
}
