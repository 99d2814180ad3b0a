//! Two pods in one place: an old one, and a new one that takes over from it. Never three.
//!
//! ```text
//!              Create beside it                   new ready for so long, or old not ready
//!   ┌─────────┐ ─────────────▶ ┌───────────────┐ ────────────────────────▶ ┌────────────────┐
//!   │   old   │                │ old,      new │                           │ old ends,  new │
//!   └─────────┘ ◀───────────── └───────────────┘                           └────────────────┘
//!     ▲  PodEmpty (new), or       │ another is ordered,                      PodEmpty (old) │
//!     │  it could not be made     │ or the old one again                                    ▼
//!     │                           ▼                                                  ┌──────────┐
//!     │   PodEmpty (new)  ┌────────────────┐      whoever is left is the place's     │   new    │
//!     └────────────────── │ old,  new ends │      only pod: see `place`              └──────────┘
//!                         └────────────────┘
//! ```
//!
//! `PodEmpty` proves the death of one of two, `PlaceEmpty` that of both. A new one that never
//! becomes ready leaves the old one alone. Where nothing is wanted, both end. What is found without a
//! supervisor beside a sound one, whichever it was, is seen dead before anything is made.

use everynode_model::{Intent, Item, PodKey, PodUid, Reason, Surge};

use crate::event::Action;
use crate::place::{Life, Next, Place, Turn, Wait, Want, misfit, tend, terminate};
use crate::pod::{Identity, Pod};
use crate::spec::PodRef;

/// Why each of two has to end, if it has.
#[derive(Default)]
struct Ends {
    old: Option<Reason>,
    new: Option<Reason>,
}

impl Place {
    /// Brings a place in which two pods are one step closer to one.
    pub(crate) fn step_two(&mut self, key: &PodKey, want: &Want<'_>, turn: &mut Turn<'_>) {
        let Some(new) = self.beside.take() else { return };
        let old = std::mem::replace(&mut self.life, Life::Empty);
        let ends = self.ends(&old, &new, want, turn);
        match (&old, &new) {
            (_, Life::Running(pod)) if ends.new.is_some() => {
                self.memory = self.memory.anew(None, pod.as_former());
            }
            (Life::Running(pod), _) if ends.old.is_some() => {
                let former = self.memory.former.take();
                self.memory.former = pod.as_former().or(former);
            }
            _ => {}
        }
        self.life = one_of_two(old, ends.old, turn);
        self.beside = Some(match new {
            Life::Held(mut left) => {
                if !matches!(want, Want::AsItIs { .. }) {
                    left.end_alone(key, turn.policy, turn.now, turn.out);
                }
                Life::Held(left)
            }
            new => one_of_two(new, ends.new, turn),
        });
    }

    fn ends(&mut self, old: &Life, new: &Life, want: &Want<'_>, turn: &Turn<'_>) -> Ends {
        let (item, surge) = match want {
            Want::Nothing { reason, .. } => {
                return Ends { old: Some(reason.clone()), new: Some(reason.clone()) };
            }
            Want::AsItIs { .. } | Want::Pod { held: true, .. } => return Ends::default(),
            Want::Pod { item, surge, .. } => (*item, *surge),
        };
        // Without an order, what was found stays as it was found.
        if !turn.ordered && item.intent == Intent::Keep {
            return Ends::default();
        }
        // Whoever ends already is waited for; what is left then is judged as the only one.
        let (Life::Running(old), Life::Creating(next) | Life::Running(next)) = (old, new) else {
            return Ends::default();
        };
        let (mut old_misfit, new_misfit) = (misfit(old, want), misfit(next, want));
        let exact = |pod: &Pod| item.intent == Intent::Run && pod.identity == Identity::of(item);
        if old_misfit.is_none() && new_misfit.is_none() && exact(next) && !exact(old) {
            // It could be given other limits; the one that has them is here already.
            old_misfit = Some(Reason::new("Replaced", "a pod of the ordered revision is here"));
        }
        match (old_misfit, new_misfit) {
            (old_misfit, new_misfit)
                if old_misfit.is_none() == new_misfit.is_none()
                    && next.ready_since.is_some()
                    && old.ready_since.is_none() =>
            {
                let line = "the pod that takes over from it is ready";
                Ends { old: Some(Reason::new("Replaced", line)), new: None }
            }
            (None, new_misfit) => {
                let line = "the pod that it was to replace may stay";
                let why = new_misfit.unwrap_or_else(|| Reason::new("Replaced", line));
                Ends { old: None, new: Some(why) }
            }
            // The place's only other pod is the one that serves: it stays until there is a third.
            (Some(_), Some(cause)) => Ends { old: None, new: Some(cause) },
            (Some(cause), None) => {
                let over = self.is_over(old, next, surge, item, turn);
                Ends { old: over.then_some(cause), new: None }
            }
        }
    }

    /// Whether the old one is not needed any more; where it is only a matter of time, until when.
    fn is_over(
        &mut self,
        old: &Pod,
        new: &Pod,
        surge: Option<Surge>,
        item: &Item,
        turn: &Turn<'_>,
    ) -> bool {
        let Some(surge) = surge else { return true };
        if old.ready_since.is_none() {
            return true;
        }
        let until = new.ready_since.map(|since| since.after(surge.min_ready));
        if until.is_some_and(|until| until <= turn.now.steady) {
            return true;
        }
        let line =
            format!("revision {} has to be ready before it takes over", item.revision.short());
        self.waits = Some(Wait { reason: Reason::new("Surging", line), until });
        false
    }

    /// Makes the pod that is to take over from `old`, or says why not yet.
    pub(crate) fn make_beside(&mut self, next: Next<'_>, old: PodUid, turn: &mut Turn<'_>) {
        let new = self.make(next, Some(old), turn);
        self.beside = Some(new).filter(|new| !matches!(new, Life::Empty));
    }

    /// Whether a pod is to be made beside the one that lives here, and waits for something.
    pub(crate) fn waits_beside(&self) -> bool {
        self.beside.is_none() && matches!(self.life, Life::Running(_)) && self.waits.is_some()
    }

    /// Whether a pod here is ready.
    pub(crate) fn is_ready(&self) -> bool {
        let ready = |life: &Life| matches!(life, Life::Running(pod) if pod.ready_since.is_some());
        self.lives().any(ready)
    }

    /// `PodEmpty`: one of two is dead. Of a place's only pod, `PlaceEmpty` will say so.
    pub(crate) fn seen_pod_empty(&mut self, pod: &PodRef, turn: &mut Turn<'_>) {
        let Some(new) = self.is_beside(pod.uid) else { return };
        if self.beside.is_none() {
            return;
        }
        let life = std::mem::replace(self.at(new), Life::Empty);
        *self.at(new) = match life {
            Life::Held(_) => {
                turn.out.push(Action::Remove(pod.clone()));
                Life::Empty
            }
            other => self.gone(other, turn),
        };
        self.settle();
    }

    /// Whether `uid` is the one that is to take over; `None` where it is no pod of this place.
    pub(crate) fn is_beside(&self, uid: PodUid) -> Option<bool> {
        let is = |life: &Life| match life {
            Life::Held(held) => held.holders.iter().any(|holder| holder.pod == Some(uid)),
            life => life.pod().is_some_and(|pod| pod.at.uid == uid),
        };
        if self.beside.as_ref().is_some_and(is) {
            Some(true)
        } else {
            is(&self.life).then_some(false)
        }
    }

    /// The life of the one that is to take over, or of the other.
    pub(crate) fn at(&mut self, beside: bool) -> &mut Life {
        if beside { self.beside.get_or_insert(Life::Empty) } else { &mut self.life }
    }

    /// Whoever is left of two is the place's only pod.
    pub(crate) fn settle(&mut self) {
        self.beside = self.beside.take().filter(|life| !matches!(life, Life::Empty));
        if matches!(self.life, Life::Empty)
            && let Some(left) = self.beside.take()
        {
            self.life = left;
        }
    }
}

/// The item of which a pod is to be made beside this one that does not fit, and why it must wait:
/// one that is not ready is replaced without waiting for another.
pub(crate) fn successor<'a>(pod: &Pod, want: &'a Want<'_>) -> Option<Next<'a>> {
    match want {
        // What was deleted ends, also where another of the same name comes after it.
        Want::Pod { item, gate, stages, surge, held: false, .. }
            if (surge.is_some() || mutated!(SurgeUnordered))
                && pod.ready_since.is_some()
                && pod.identity.set == item.set =>
        {
            Some(Next { item, gate: gate.as_ref(), stages: *stages })
        }
        _ => None,
    }
}

fn one_of_two(life: Life, ends: Option<Reason>, turn: &mut Turn<'_>) -> Life {
    match (life, ends) {
        (Life::Running(pod), Some(cause)) => terminate(pod, cause, turn),
        (Life::Running(pod), None) => tend(pod, turn),
        (Life::Stopping(mut pod, mut stop), _) => {
            if pod.wind_down(&mut stop, turn) {
                stop.step_of_two(&pod.at, turn.policy, turn.now, turn.out);
            }
            Life::Stopping(pod, stop)
        }
        (other, _) => other,
    }
}
