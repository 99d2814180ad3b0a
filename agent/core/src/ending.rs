//! How the containers of a pod end, once it has to.
//!
//! ```text
//!   no sidecar, no preStop:  all at once (SIGTERM) ───────────────────────── the pod's grace over: Kill
//!
//!   in order:  main containers: preStop ─▶ SIGTERM ─▶ all ended ┐
//!              ┌────────────────────────────────────────────────┘
//!              └▶ last sidecar: preStop ─▶ SIGTERM ─▶ ended ─▶ the one before it …
//!
//!              the pod's grace over, and somebody not told yet: who was told is killed, all others are
//!              told; two seconds later: Kill. Where all were told: Kill at once.
//! ```
//!
//! One grace period is for all of it, hooks included, as in Kubernetes. The supervisor ends with its
//! last container. Under another agent it begins anew, with those that were not told yet.

use everynode_model::Reason;

use crate::container::{Container, LAST_GRACE};
use crate::event::Action;
use crate::place::Turn;
use crate::pod::Pod;
use crate::spec::Role;
use crate::stop::Stop;

/// How a pod ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Whoever runs was told at once.
    AtOnce,
    /// One after the other. `hurried`: the time for that is over.
    InOrder { hurried: bool },
}

impl Pod {
    /// Begins to end it: from now on nothing is started in it.
    pub(crate) fn begin_to_end(&mut self, cause: &Reason, turn: &mut Turn<'_>) {
        let ending = self.way_to_end();
        turn.out.push(match ending {
            Ending::AtOnce => Action::Terminate(self.at.clone()),
            Ending::InOrder { .. } => Action::Close(self.at.clone()),
        });
        self.ending = Some(ending);
        let at = turn.now.steady.after(self.grace);
        if ending == Ending::AtOnce {
            self.containers.iter_mut().for_each(|one| one.was_asked(cause.clone(), at));
        }
    }

    /// It was told to end under a former agent.
    pub(crate) fn goes_on_ending(&mut self) {
        self.ending = Some(self.way_to_end());
    }

    /// Nobody is left who could tell its containers anything.
    pub(crate) fn cannot_be_told(&mut self) {
        self.ending = Some(Ending::AtOnce);
    }

    /// One step further, and what is to happen when the time is over. Whether `stop` is to go on to
    /// force.
    pub(crate) fn wind_down(&mut self, stop: &mut Stop, turn: &mut Turn<'_>) -> bool {
        if mutated!(StartWhileEnding) {
            self.tend(turn);
        }
        let Some(Ending::InOrder { hurried }) = self.ending else { return true };
        let over = stop.due() <= turn.now.steady;
        if over && !hurried && self.is_anybody_untold() {
            self.hurry(stop.reason(), turn);
            stop.put_off(turn.now.steady.after(LAST_GRACE));
            return false;
        }
        if !over && !hurried {
            self.end_in_turn(stop, turn);
        }
        true
    }

    fn way_to_end(&self) -> Ending {
        let ordered =
            |one: &Container| one.role() == Role::Sidecar || one.lifecycle.hooks.pre_stop.is_some();
        if self.grace.is_zero() || !self.containers.iter().any(ordered) {
            Ending::AtOnce
        } else {
            Ending::InOrder { hurried: false }
        }
    }

    fn end_in_turn(&mut self, stop: &Stop, turn: &mut Turn<'_>) {
        for n in 0..self.containers.len() {
            if self.is_next_to_end(n) {
                let (container, mut means) = self.with_means(n, turn);
                container.end(stop.reason(), stop.due());
                container.go_on_ending(&mut means);
            }
        }
    }

    /// A sidecar's turn comes when all main containers and later sidecars have ended.
    fn is_next_to_end(&self, n: usize) -> bool {
        if self.containers[n].role() != Role::Sidecar || mutated!(EndSidecarsFirst) {
            return true;
        }
        self.containers[n + 1..].iter().all(Container::is_down)
    }

    fn is_anybody_untold(&self) -> bool {
        self.containers.iter().any(|one| one.is_up() && !one.is_asked_to_end())
    }

    /// The time is over: main containers first, so that each sidecar is told after they are killed.
    fn hurry(&mut self, cause: Reason, turn: &mut Turn<'_>) {
        self.ending = Some(Ending::InOrder { hurried: true });
        for n in (0..self.containers.len()).rev() {
            let (container, mut means) = self.with_means(n, turn);
            container.end(cause.clone(), means.now.steady);
            container.harden(&mut means);
        }
    }
}
