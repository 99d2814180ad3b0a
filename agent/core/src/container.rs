//! One container: whether it runs, how it is looked after, and how it ends.
//!
//! ```text
//!         its turn has come,              postStart      startup       readiness, or
//!         and the time      Started       is over        has passed    there is none
//!   Due ──────────▶ Asked ─────────▶ Hooked ────▶ Starting ────▶ Up ◀───────────▶ Ready
//!    ▲                │ StartFailed    │             │            │ readiness fails │
//!    │◀───────────────┘                └──────┬──────┴────────────┴────────┬────────┘
//!    │                                        │ postStart, startup or      │
//!    │                                        │ liveness failed, or its    │
//!    │                                        ▼ turn to end                │
//!    │                         Leaving (preStop) ──▶ Ending (SIGTERM; killed after the grace)
//!    │ Exited                                            │                 │
//!    ├───────────────────────────────────────────────────┴─────────────────┘
//!    │ Exited, of an init container that is done, or in a pod that ends
//!    └───────────▶ Ended
//! ```
//!
//! What happened is taken in at once; what follows from it is done by [`Container::tend`], within the
//! same event. A container is restarted for ever; of an init container this is so until it ended with
//! exit code 0. Whose turn it is, the pod knows.

mod end;
mod run;

use std::time::Duration;

use everynode_model::{Exit, FinishedRun, Now, PodUid, Reason, Timestamp, WallTime};

pub(crate) use self::end::LAST_GRACE;
use self::end::{End, EndStep};
use self::run::{PostStart, Run};
use crate::backoff::{Backoff, Doubling, Policy};
use crate::event::{Action, HookKind, ProbeKind, SupervisedContainer};
use crate::spec::{Handler, Lifecycle, Planned, PodRef, Role};
use crate::trial::Trial;
use crate::words::{self, earlier, next_try};

#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) doing: Doing,
    /// How often it was started.
    pub(crate) runs: u64,
    /// The run that ended last.
    pub(crate) last_run: Option<Box<FinishedRun>>,
    /// Whether a run of it has ever come as far as [`Stage::Up`].
    has_started: bool,
    backoff: Backoff,
}

#[derive(Clone, Debug)]
pub(crate) enum Doing {
    /// To be started at a time, if it is its turn; why it does not run now.
    Due {
        at: Timestamp,
        reason: Reason,
    },
    /// Its start was ordered; why it did not run before.
    Asked {
        reason: Reason,
    },
    Runs(Box<Run>),
    Ended(Exit),
}

/// Where a container is in its life; see the drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Due,
    Asked,
    Hooked,
    Starting,
    Up,
    Ready,
    Leaving,
    Ending,
    Ended,
}

/// What a container needs to do its part.
pub(crate) struct Means<'a> {
    pub(crate) pod: &'a PodRef,
    /// For tries and hooks.
    pub(crate) numbers: &'a mut u64,
    /// Between kills of one that does not end.
    pub(crate) kill: Doubling,
    pub(crate) now: Now,
    pub(crate) out: &'a mut Vec<Action>,
}

impl Means<'_> {
    /// Begins a hook, and says its number.
    fn hook(
        &mut self,
        container: &str,
        hook: HookKind,
        handler: &Handler,
        within: Option<Duration>,
    ) -> u64 {
        *self.numbers += 1;
        let (pod, container, number) = (self.pod.clone(), container.to_owned(), *self.numbers);
        let handler = Box::new(handler.clone());
        self.out.push(Action::Hook { pod, container, hook, number, handler, within });
        number
    }
}

impl Container {
    pub(crate) fn new(planned: Planned, reason: Reason, now: Now) -> Self {
        Self {
            name: planned.name,
            lifecycle: planned.lifecycle,
            doing: Doing::Due { at: now.steady, reason },
            runs: 0,
            last_run: None,
            has_started: false,
            backoff: Backoff::default(),
        }
    }

    /// One found with its supervisor. What its back-off was, the agent before us knew; where a
    /// container of the pod was `restarted` before, it waits as after a second failure, counted from
    /// its end. As with the kubelet, a postStart hook that was under way then is not run again. A
    /// container that runs `past` its start, because later ones have run, has started.
    pub(crate) fn adopted(
        found: &SupervisedContainer,
        (restarted, past): (bool, bool),
        (pod, grace): (PodUid, Duration),
        policy: &Policy,
        now: Now,
    ) -> Self {
        let planned = Planned { name: found.name.clone(), lifecycle: found.lifecycle.clone() };
        let mut this = Self::new(planned, words::creating(), now);
        let since = earlier(now, found.for_time);
        this.has_started = past;
        this.backoff = Backoff::resumed(restarted);
        this.runs = u64::from(found.pid.is_some() || found.last_exit.is_some());
        // Where another run has begun since, the one before it was over by then.
        if let Some(exit) = found.last_exit {
            this.note_run(exit, found.oom, None, since);
        }
        match (found.pid, found.last_exit) {
            (Some(pid), _) => {
                let started = past && found.lifecycle.role != Role::Main;
                let run = Run::resumed(&this, pid, (since, now), started, pod);
                this.doing = Doing::Runs(Box::new(run));
                if found.asked {
                    let line = "it was told to end before the agent started";
                    this.was_asked(Reason::new("Killing", line), now.steady.after(grace));
                }
                this.has_started |= this.is_started();
            }
            (None, Some(exit)) => {
                let why = words::ended(&this.name, exit, found.oom);
                this.end_of_run(exit, &why, Duration::ZERO, (policy, since));
            }
            (None, None) => {}
        }
        this
    }

    pub(crate) fn role(&self) -> Role {
        self.lifecycle.role
    }

    /// See the drawing.
    pub(crate) fn stage(&self) -> Stage {
        match &self.doing {
            Doing::Due { .. } => Stage::Due,
            Doing::Asked { .. } => Stage::Asked,
            Doing::Ended(_) => Stage::Ended,
            Doing::Runs(run) => match &run.end {
                Some(End { step: EndStep::Asked, .. }) => Stage::Ending,
                Some(_) => Stage::Leaving,
                None if run.post_start.is_some() => Stage::Hooked,
                None if run.startup.is_some() => Stage::Starting,
                None if run.ready_since.is_none() => Stage::Up,
                None => Stage::Ready,
            },
        }
    }

    /// Whether those that come after it may start.
    pub(crate) fn is_past(&self) -> bool {
        match self.role() {
            Role::Init => matches!(self.doing, Doing::Ended(Exit::Code(0))),
            Role::Sidecar => self.has_started,
            // As the kubelet does: one after the other, and past what fails.
            Role::Main => !matches!(self.stage(), Stage::Asked | Stage::Hooked),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(self.doing, Doing::Runs(_))
    }

    /// Whether it is an init container that has done its part.
    pub(crate) fn is_done(&self) -> bool {
        self.role() == Role::Init && self.is_past()
    }

    /// Whether nothing of it runs, or is about to.
    pub(crate) fn is_down(&self) -> bool {
        matches!(self.doing, Doing::Due { .. } | Doing::Ended(_))
    }

    pub(crate) fn restarts(&self) -> u64 {
        self.runs.saturating_sub(1)
    }

    /// Since when it has been ready; of an init container nobody asks.
    pub(crate) fn ready_since(&self) -> Option<Timestamp> {
        match &self.doing {
            Doing::Runs(run) if run.end.is_none() => run.ready_since,
            _ => None,
        }
    }

    pub(crate) fn up_since(&self) -> Option<Timestamp> {
        match &self.doing {
            Doing::Runs(run) => Some(run.since.steady),
            _ => None,
        }
    }

    /// What one that never ran waits for: its turn, or its start.
    pub(crate) fn say_whose_turn(&mut self, is_next: bool) {
        if let (0, Doing::Due { reason, .. }) = (self.runs, &mut self.doing) {
            match (is_next, reason.code.as_str()) {
                (true, "PodInitializing") => *reason = words::creating(),
                (false, "ContainerCreating") => *reason = words::initializing(),
                _ => {}
            }
        }
    }

    /// What people are told beside why it waits.
    pub(crate) fn note_while_waiting(&mut self, line: &str) {
        if let Doing::Due { reason, .. } = &mut self.doing {
            words::add(line, reason);
        }
    }

    /// Whatever it is ready for, it was not under its present limits before `then`.
    pub(crate) fn limited_since(&mut self, then: Now) {
        if let Doing::Runs(run) = &mut self.doing {
            run.ready_since = run.ready_since.map(|since| since.max(then.steady));
        }
    }

    /// Its failures count no more: one that waits after them is due.
    pub(crate) fn begin_anew(&mut self, now: Now) {
        self.backoff = Backoff::default();
        if let Doing::Due { at, .. } = &mut self.doing {
            *at = now.steady.min(*at);
        }
    }

    /// Begins a start if it is time to.
    pub(crate) fn start_if_due(&mut self, means: &mut Means<'_>) {
        if let Doing::Due { at, reason } = &self.doing
            && *at <= means.now.steady
        {
            let (pod, container) = (means.pod.clone(), self.name.clone());
            means.out.push(Action::Start { pod, container });
            if !mutated!(StartTwice) {
                self.doing = Doing::Asked { reason: reason.clone() };
            }
        }
    }

    pub(crate) fn started(&mut self, pid: u32, now: Now) {
        if matches!(self.doing, Doing::Asked { .. } | Doing::Due { .. }) {
            let run = Run::new(&self.lifecycle, pid, now);
            self.has_started |= run.is_started();
            self.doing = Doing::Runs(Box::new(run));
            self.runs += 1;
        }
    }

    /// Whether it was asked to.
    pub(crate) fn start_failed(&mut self, why: &Reason, policy: &Policy, now: Now) -> bool {
        if !matches!(self.doing, Doing::Asked { .. }) {
            return false;
        }
        let wait = self.backoff.failed(policy, Duration::ZERO);
        let reason = Reason::new(why.code.clone(), next_try(&why.message, wait, now));
        self.doing = Doing::Due { at: now.steady.after(wait), reason };
        true
    }

    /// The failure that its end is, if it is one.
    pub(crate) fn exited(&mut self, exit: Exit, policy: &Policy, now: Now) -> Option<Reason> {
        let (since, oom, ended) = match &self.doing {
            Doing::Runs(run) => (run.since, run.oom, run.end.as_ref().map(|end| end.why.clone())),
            Doing::Asked { .. } => (now, false, None),
            // Told twice, or told of a run that was over before.
            Doing::Due { .. } | Doing::Ended(_) => return None,
        };
        let ran = now.steady.since(since.steady);
        self.note_run(exit, oom, Some(since.wall), now);
        let why = ended.unwrap_or_else(|| words::ended(&self.name, exit, oom));
        self.end_of_run(exit, &why, ran, (policy, now));
        (!matches!(self.doing, Doing::Ended(_))).then_some(why)
    }

    fn end_of_run(
        &mut self,
        exit: Exit,
        why: &Reason,
        ran: Duration,
        (policy, now): (&Policy, Now),
    ) {
        if self.role() == Role::Init && exit == Exit::Code(0) && !mutated!(RepeatInits) {
            self.doing = Doing::Ended(exit);
            return;
        }
        let wait = self.backoff.failed(policy, ran);
        let reason = words::waiting(&self.name, exit, why, wait, now);
        self.doing = Doing::Due { at: now.steady.after(wait), reason };
    }

    /// `Probed`. One that fails for good begins the end of the run, within `grace` or its own.
    pub(crate) fn probed(
        &mut self,
        (kind, number): (ProbeKind, u64),
        outcome: Result<(), String>,
        grace: Duration,
        now: Now,
    ) {
        let Doing::Runs(run) = &mut self.doing else { return };
        let Some(trial) = run.trial(kind) else { return };
        if !trial.settles(number) {
            return;
        }
        let Some(verdict) = trial.answered(outcome) else { return };
        let grace = trial.grace().unwrap_or(grace);
        match (kind, verdict) {
            (ProbeKind::Readiness, Ok(())) => _ = run.ready_since.get_or_insert(now.steady),
            (ProbeKind::Readiness, Err(_)) if mutated!(ReadyForEver) => {}
            (ProbeKind::Readiness, Err(_)) => run.ready_since = None,
            (ProbeKind::Startup, Ok(())) => {
                run.startup = None;
                run.open(now);
            }
            (ProbeKind::Liveness, Ok(())) => {}
            (ProbeKind::Startup | ProbeKind::Liveness, Err(why)) => {
                let line = format!("{kind:?} probe failed: {why}");
                run.end(Reason::new("Unhealthy", line), now.steady.after(grace));
            }
        }
        self.has_started |= self.is_started();
    }

    /// `Probed`, of an answer that says nothing.
    pub(crate) fn forget_try(&mut self, (kind, number): (ProbeKind, u64)) {
        if let Doing::Runs(run) = &mut self.doing {
            run.trial(kind).map(|trial| trial.settles(number));
        }
    }

    /// `HookDone`.
    pub(crate) fn hook_done(
        &mut self,
        (hook, number): (HookKind, u64),
        outcome: Result<(), String>,
        grace: Duration,
        now: Now,
    ) {
        let Doing::Runs(run) = &mut self.doing else { return };
        match (hook, run.post_start, &mut run.end) {
            (HookKind::PreStop, _, Some(end)) if end.step == EndStep::Hooked(number) => {
                end.step = EndStep::HookOver;
            }
            (HookKind::PostStart, Some(PostStart::Asked(asked)), end) if asked == number => {
                run.post_start = None;
                match outcome {
                    Err(why) if end.is_none() => {
                        let line = format!("PostStart hook failed: {why}");
                        let why = Reason::new("PostStartHookError", line);
                        run.end(why, now.steady.after(grace));
                    }
                    _ => run.open(now),
                }
            }
            _ => {}
        }
        self.has_started |= self.is_started();
    }

    /// An end within a pod that is being stopped: no failure.
    pub(crate) fn ended(&mut self, exit: Exit, now: Now) {
        if let Doing::Runs(run) = &self.doing {
            let (since, oom) = (run.since.wall, run.oom);
            self.note_run(exit, oom, Some(since), now);
        }
        self.doing = Doing::Ended(exit);
    }

    fn note_run(&mut self, exit: Exit, oom: bool, started: Option<WallTime>, now: Now) {
        let reason = words::of_exit(exit, oom).to_owned();
        let run = FinishedRun { exit, reason, started, finished: now.wall };
        self.last_run = Some(Box::new(run));
    }

    /// The kernel has killed something of its present run.
    pub(crate) fn out_of_memory(&mut self) {
        if let Doing::Runs(run) = &mut self.doing {
            run.oom = true;
        }
    }

    /// Does what its run needs now: its hook, its probes, or its end.
    pub(crate) fn tend(&mut self, means: &mut Means<'_>) {
        let Doing::Runs(run) = &mut self.doing else { return };
        if run.end.is_some() {
            self.go_on_ending(means);
            self.force_if_due(means);
        } else {
            run.look_after(&self.name, &self.lifecycle, means);
        }
    }

    /// When something is due in it by itself, where it is its turn to start.
    pub(crate) fn due(&self, is_next: bool, silent: bool) -> Option<Timestamp> {
        match &self.doing {
            Doing::Due { at, .. } => is_next.then_some(*at),
            Doing::Runs(run) if !silent => run.due(),
            Doing::Runs(_) | Doing::Asked { .. } | Doing::Ended(_) => None,
        }
    }

    /// Why it is not ready, although it is to be; `None` where it is, or has done its part.
    pub(crate) fn why_not_ready(&self) -> Option<Reason> {
        let run = match &self.doing {
            Doing::Due { reason, .. } | Doing::Asked { reason } => return Some(reason.clone()),
            Doing::Ended(_) => return None,
            Doing::Runs(run) => run,
        };
        let name = &self.name;
        let unready = |line: String| Some(Reason::new("ContainersNotReady", line));
        if let Some(end) = &run.end {
            return Some(Reason::new("Killing", format!("stopping container {name}: {}", end.why)));
        }
        match (self.role(), self.stage()) {
            (Role::Init, _) => {
                Some(Reason::new("PodInitializing", format!("init container {name} is running")))
            }
            (_, Stage::Hooked) => unready(format!("the postStart hook of {name} is running")),
            (_, Stage::Starting) => {
                let line = run.startup.as_ref().map(Trial::line).unwrap_or_default();
                unready(format!("startup probe of {name}: {line}"))
            }
            (_, Stage::Up) => {
                let line = run.readiness.as_ref().map(Trial::line).unwrap_or_default();
                unready(format!("readiness probe of {name}: {line}"))
            }
            _ => None,
        }
    }

    /// Whether its present run is past its postStart hook and its startup probe.
    pub(crate) fn is_started(&self) -> bool {
        matches!(&self.doing, Doing::Runs(run) if run.is_started())
    }
}

#[cfg(test)]
mod model;
