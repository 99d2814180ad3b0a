//! The end of a run, step by step: preStop, SIGTERM, and what follows where that is not enough.
//!
//! ```text
//!   Due ── preStop ──▶ Hooked ── it is over ──▶ HookOver ── SIGTERM ──▶ Asked ──▶ killed when
//!    │                   │ the time is over: SIGTERM                     ▲    the time is over,
//!    └─ there is none ───┴───────────────────────────────────────────────┘    again and again
//! ```
//!
//! Whose turn to end it is, and how long that may take, others know.

use std::time::Duration;

use everynode_model::{Reason, Timestamp};

use super::run::Run;
use super::{Container, Doing, Means, Stage};
use crate::event::{Action, HookKind};

/// How long a container still has after SIGTERM whose preStop took all of its grace period: the
/// kubelet's `minimumGracePeriodInSeconds`.
pub(crate) const LAST_GRACE: Duration = Duration::from_secs(2);

/// The end of a run, under way.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) why: Reason,
    pub(super) step: EndStep,
    /// When it is forced, or forced again.
    pub(super) at: Timestamp,
    pub(super) kills: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndStep {
    Due,
    Hooked(u64),
    HookOver,
    Asked,
}

impl Container {
    /// Its turn to end has come: it is told to, in steps, and this deadline is nobody's but the pod's.
    pub(crate) fn end(&mut self, why: Reason, at: Timestamp) {
        if let Doing::Runs(run) = &mut self.doing {
            run.end(why, at);
        }
    }

    /// It was told to end by what told the pod as a whole.
    pub(crate) fn was_asked(&mut self, why: Reason, at: Timestamp) {
        if let Doing::Runs(run) = &mut self.doing {
            run.end(why, at);
            run.end.iter_mut().for_each(|end| end.step = EndStep::Asked);
        }
    }

    /// The next step of its end, if one is due: the hook, or SIGTERM.
    pub(crate) fn go_on_ending(&mut self, means: &mut Means<'_>) {
        let hook = self.lifecycle.hooks.pre_stop.as_ref();
        let Doing::Runs(run) = &mut self.doing else { return };
        let Some(end) = &mut run.end else { return };
        let left = end.at.since(means.now.steady);
        match (end.step, hook) {
            (EndStep::Due, Some(handler)) if !left.is_zero() => {
                let number = means.hook(&self.name, HookKind::PreStop, handler, Some(left));
                end.step = EndStep::Hooked(number);
            }
            (EndStep::Due | EndStep::HookOver, _) => {
                let (pod, container) = (means.pod.clone(), self.name.clone());
                end.step = EndStep::Asked;
                means.out.push(Action::Stop { pod, container });
            }
            (EndStep::Hooked(_) | EndStep::Asked, _) => {}
        }
    }

    /// The time for its hook is over, or for what it did after SIGTERM: the next harder step.
    pub(crate) fn harden(&mut self, means: &mut Means<'_>) {
        let Doing::Runs(run) = &mut self.doing else { return };
        let Some(end) = &mut run.end else { return };
        let (pod, container) = (means.pod.clone(), self.name.clone());
        if end.step == EndStep::Asked {
            means.out.push(Action::KillContainer { pod, container });
            end.at = means.now.steady.after(means.kill.nth(end.kills));
            end.kills = end.kills.saturating_add(1);
        } else {
            end.step = EndStep::Asked;
            end.at = means.now.steady.after(LAST_GRACE);
            means.out.push(Action::Stop { pod, container });
        }
    }

    pub(super) fn force_if_due(&mut self, means: &mut Means<'_>) {
        let over = |run: &Run| run.end.as_ref().is_some_and(|end| end.at <= means.now.steady);
        if matches!(&self.doing, Doing::Runs(run) if over(run)) {
            self.harden(means);
        }
    }

    /// Whether it was sent SIGTERM.
    pub(crate) fn is_asked_to_end(&self) -> bool {
        self.stage() == Stage::Ending
    }
}

impl Run {
    pub(super) fn end(&mut self, why: Reason, at: Timestamp) {
        let end = End { why, step: EndStep::Due, at, kills: 0 };
        self.end.get_or_insert(end);
    }
}
