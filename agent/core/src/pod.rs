//! One pod and its containers: who runs, who waits, and what went wrong.
//!
//! ```text
//!                    Start                Started
//!   Due (at once, ───────▶ Asked ──────────────────▶ Runs
//!    or after a            │  StartFailed            │
//!    back-off)  ◀──────────┴─────────────────────────┘ Exited
//!
//!   and in a pod that is being stopped:  any ── Exited ──▶ Ended
//! ```
//!
//! A container is restarted for ever, whatever its exit code (a DaemonSet's `restartPolicy` is
//! `Always`). Whether the pod is wanted is not asked here.

use std::time::Duration;

use everynode_model::{
    Digest, Exit, Failure, FormerFailure, Intent, Item, LogTail, Now, PodKey, Reason, SetUid,
    Timestamp, WallTime,
};

use crate::backoff::{Backoff, Policy};
use crate::event::{Supervised, SupervisedContainer};
use crate::ledger::Ledger;
use crate::place::Memory;
use crate::spec::{Plan, Planned, PodRef};
use crate::status::rfc3339;

/// What a pod was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) set: SetUid,
    pub(crate) revision: Digest,
    pub(crate) replace: u64,
}

/// A pod that is being made, lives or is being stopped.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) at: PodRef,
    pub(crate) identity: Identity,
    pub(crate) grace: Duration,
    pub(crate) created: Option<Now>,
    pub(crate) containers: Vec<Container>,
    pub(crate) restarts_before: u64,
    pub(crate) ready_since: Option<Timestamp>,
    pub(crate) times_unready: u64,
    pub(crate) last_failure: Option<Failure>,
    /// Its supervisor is alive and does not answer.
    pub(crate) silent: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) doing: Doing,
    /// How often it was started.
    pub(crate) runs: u64,
    /// Something of its present run was killed for want of memory.
    oom: bool,
    backoff: Backoff,
}

#[derive(Clone, Debug)]
pub(crate) enum Doing {
    /// To be started at a time; why it does not run now.
    Due {
        at: Timestamp,
        reason: Reason,
    },
    /// Its start was ordered; why it did not run before.
    Asked {
        reason: Reason,
    },
    Runs {
        pid: u32,
        since: Now,
    },
    Ended(Exit),
}

impl Identity {
    pub(crate) fn of(item: &Item) -> Self {
        Self { set: item.set, revision: item.revision, replace: item.replace }
    }

    /// What it counts as in this place.
    pub(crate) fn inherited(self, key: &PodKey, ledger: &Ledger) -> Self {
        let (set, replace) = ledger.counts_as(key, self.set, self.replace);
        Self { set, replace, ..self }
    }

    /// The item that runs a pod made from this in the place `key`; in the rest like `other`.
    pub(crate) fn item(self, key: &PodKey, other: Option<&Item>) -> Item {
        Item {
            key: key.clone(),
            set: self.set,
            revision: self.revision,
            replace: self.replace,
            intent: Intent::Run,
            after: other.map(|item| item.after.clone()).unwrap_or_default(),
            surge: other.and_then(|item| item.surge),
        }
    }
}

impl Pod {
    /// A pod about to be made, which goes on counting where its predecessor stopped.
    pub(crate) fn new(at: PodRef, identity: Identity, memory: &Memory) -> Self {
        Self {
            at,
            identity,
            grace: Duration::ZERO,
            created: None,
            containers: Vec::new(),
            restarts_before: memory.restarts,
            ready_since: None,
            times_unready: memory.times_unready,
            last_failure: memory.last_failure.clone(),
            silent: false,
        }
    }

    /// A pod found alive with a supervisor that answers.
    ///
    /// How often it was unready is not among what a supervisor knows. Every restart was a time
    /// unready, so their number is right for one container and never too low for several: the
    /// count must not fall within a pod's life.
    pub(crate) fn adopted(at: PodRef, found: &Supervised, policy: &Policy, now: Now) -> Self {
        let seen_before = found.restarts > 0;
        let containers: Vec<_> = found
            .containers
            .iter()
            .map(|container| Container::adopted(container, seen_before, policy, now))
            .collect();
        let down = containers.iter().any(|container| container.runs > 0 && !container.is_up());
        let mut pod = Self {
            at,
            identity: Identity { set: found.set, revision: found.revision, replace: found.replace },
            grace: found.grace,
            created: Some(Now {
                steady: containers
                    .iter()
                    .filter_map(Container::up_since)
                    .min()
                    .unwrap_or(now.steady),
                wall: found.created_at,
            }),
            containers,
            restarts_before: if mutated!(ForgetCounts) { 0 } else { found.restarts },
            ready_since: None,
            times_unready: found.restarts + u64::from(down),
            last_failure: found.containers.iter().filter_map(|c| last_failure(c, now)).next_back(),
            silent: false,
        };
        pod.ready_since = pod.up_since();
        pod
    }

    /// From now on it counts as the ledger says, if it was made for a former coordinator's DaemonSet.
    pub(crate) fn inherit(&mut self, ledger: &Ledger) {
        self.identity = self.identity.inherited(&self.at.key, ledger);
    }

    pub(crate) fn created(&mut self, plan: Plan, now: Now) {
        self.grace = plan.grace;
        self.created = Some(now);
        let container = |planned: Planned| Container::new(planned.name, now);
        self.containers = plan.containers.into_iter().map(container).collect();
    }

    pub(crate) fn started(&mut self, name: &str, pid: u32, now: Now) {
        if let Some(container) = self.container(name)
            && matches!(container.doing, Doing::Asked { .. } | Doing::Due { .. })
        {
            container.doing = Doing::Runs { pid, since: now };
            container.runs += 1;
        }
        if self.ready_since.is_none() && !self.silent {
            self.ready_since = self.up_since();
        }
    }

    /// Nobody can vouch for what runs in it any more. It is left as it is: whatever keeps its
    /// supervisor from answering, another pod beside it would be a second one.
    pub(crate) fn supervisor_silent(&mut self) {
        self.silent = true;
        self.unready();
    }

    /// Its supervisor answers again; what ended meanwhile is told next.
    pub(crate) fn supervisor_heard(&mut self) {
        self.silent = false;
        self.ready_since = self.up_since();
    }

    pub(crate) fn start_failed(&mut self, name: &str, why: &Reason, policy: &Policy, now: Now) {
        let Some(container) = self.container(name) else { return };
        if !matches!(container.doing, Doing::Asked { .. }) {
            return;
        }
        let wait = container.backoff.failed(policy, Duration::ZERO);
        let at = now.steady.after(wait);
        let reason = Reason::new(why.code.clone(), next_try(&why.message, wait, now));
        container.doing = Doing::Due { at, reason };
        self.note_failure(name, None, why.clone(), now);
    }

    pub(crate) fn exited(&mut self, name: &str, exit: Exit, policy: &Policy, now: Now) {
        let Some(container) = self.container(name) else { return };
        let ran = match container.doing {
            Doing::Runs { since, .. } => now.steady.since(since.steady),
            Doing::Asked { .. } => Duration::ZERO,
            // Told twice, or told of a run that was over before.
            Doing::Due { .. } | Doing::Ended(_) => return,
        };
        let wait = container.backoff.failed(policy, ran);
        let oom = std::mem::take(&mut container.oom);
        container.doing = waiting(name, exit, oom, wait, now);
        self.note_failure(name, Some(exit), ended(name, exit, oom), now);
        self.unready();
    }

    /// The kernel has killed something of the container's present run.
    pub(crate) fn out_of_memory(&mut self, name: &str) {
        if let Some(container) = self.container(name) {
            container.oom = true;
        }
    }

    /// What the container printed in its last run, if its end is the last failure.
    pub(crate) fn printed(&mut self, name: &str, log_tail: LogTail) {
        if let Some(failure) = &mut self.last_failure
            && failure.container == name
            && failure.exit.is_some()
        {
            failure.log_tail = log_tail;
        }
    }

    /// What went wrong with it, for those who come after it.
    pub(crate) fn as_former(&self) -> Option<FormerFailure> {
        let revision = self.identity.revision;
        self.last_failure.clone().map(|failure| FormerFailure { revision, failure })
    }

    /// An end within a pod that is being stopped: no failure.
    pub(crate) fn ended(&mut self, name: &str, exit: Exit) {
        if let Some(container) = self.container(name) {
            container.doing = Doing::Ended(exit);
        }
        self.ready_since = None;
    }

    /// The supervisor is gone, and with it the exit status of all that ran.
    pub(crate) fn lost(&mut self, why: &Reason, now: Now) {
        let up: Vec<String> =
            self.containers.iter().filter(|c| c.is_up()).map(|c| c.name.clone()).collect();
        for name in &up {
            self.ended(name, Exit::Unknown);
            self.note_failure(name, Some(Exit::Unknown), why.clone(), now);
        }
        if up.is_empty() {
            self.note_failure("", None, why.clone(), now);
        }
    }

    /// The containers to start now; from here on they count as asked for.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Vec<String> {
        let mut due = Vec::new();
        for container in &mut self.containers {
            if let Doing::Due { at, reason } = &container.doing
                && *at <= now
            {
                due.push(container.name.clone());
                if !mutated!(StartTwice) {
                    container.doing = Doing::Asked { reason: reason.clone() };
                }
            }
        }
        due
    }

    /// When the next container is to be started.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        let due = |container: &Container| match container.doing {
            Doing::Due { at, .. } => Some(at),
            _ => None,
        };
        self.containers.iter().filter_map(due).min()
    }

    /// It is no longer ready, and nobody wanted that.
    pub(crate) fn unready(&mut self) {
        if self.ready_since.take().is_some() {
            self.times_unready += 1;
        }
    }

    /// How often any of its containers was started again, with those of its predecessors.
    pub(crate) fn restarts(&self) -> u64 {
        self.restarts_before + self.containers.iter().map(Container::restarts).sum::<u64>()
    }

    /// The same, with the restarts that making the pod anew will be.
    pub(crate) fn restarts_when_made_anew(&self) -> u64 {
        let ran = self.containers.iter().filter(|container| container.runs > 0).count();
        self.restarts() + ran as u64
    }

    /// How long it lived.
    pub(crate) fn age(&self, now: Timestamp) -> Duration {
        self.created.map_or(Duration::ZERO, |created| now.since(created.steady))
    }

    /// Since when all containers run. Probes will narrow this.
    fn up_since(&self) -> Option<Timestamp> {
        let up: Option<Vec<Timestamp>> = self.containers.iter().map(Container::up_since).collect();
        up?.into_iter().max()
    }

    fn container(&mut self, name: &str) -> Option<&mut Container> {
        self.containers.iter_mut().find(|container| container.name == name)
    }

    /// Something went wrong with a container, or (without a name) with the pod as a whole.
    pub(crate) fn note_failure(
        &mut self,
        container: &str,
        exit: Option<Exit>,
        reason: Reason,
        now: Now,
    ) {
        let container = container.to_owned();
        let log_tail = LogTail::default();
        self.last_failure = Some(Failure { container, exit, reason, at: now.wall, log_tail });
    }
}

impl Container {
    fn new(name: String, now: Now) -> Self {
        let reason = Reason::new("ContainerCreating", "its start is ordered");
        let doing = Doing::Due { at: now.steady, reason };
        Self { name, doing, runs: 0, oom: false, backoff: Backoff::default() }
    }

    /// One found with its supervisor. What its back-off was, the agent before us knew; one that was
    /// ever restarted waits as after a second failure, counted from its end.
    fn adopted(found: &SupervisedContainer, before: bool, policy: &Policy, now: Now) -> Self {
        let mut backoff = Backoff::resumed(before);
        let since = earlier(now, found.for_time);
        let (doing, runs) = match (found.pid, found.last_exit) {
            (Some(pid), _) => (Doing::Runs { pid, since }, 1),
            (None, Some(exit)) => {
                let wait = backoff.failed(policy, Duration::ZERO);
                (waiting(&found.name, exit, found.oom, wait, since), 1)
            }
            (None, None) => return Self::new(found.name.clone(), now),
        };
        Self { name: found.name.clone(), doing, runs, oom: false, backoff }
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(self.doing, Doing::Runs { .. })
    }

    pub(crate) fn restarts(&self) -> u64 {
        self.runs.saturating_sub(1)
    }

    fn up_since(&self) -> Option<Timestamp> {
        match self.doing {
            Doing::Runs { since, .. } => Some(since.steady),
            _ => None,
        }
    }
}

/// What to say of a try that comes after `wait`.
pub(crate) fn next_try(message: &str, wait: Duration, now: Now) -> String {
    let at = rfc3339(later(now, wait).wall);
    match message {
        "" => format!("next try at {at}"),
        message => format!("{message}; next try at {at}"),
    }
}

fn waiting(name: &str, exit: Exit, oom: bool, wait: Duration, now: Now) -> Doing {
    let reason = if wait.is_zero() {
        ended(name, exit, oom)
    } else {
        let line = format!("back-off {}s restarting failed container={name}", wait.as_secs());
        Reason::new("CrashLoopBackOff", next_try(&format!("{line} ({exit})"), wait, now))
    };
    Doing::Due { at: now.steady.after(wait), reason }
}

/// Kubernetes' word for an end, and a line.
fn ended(name: &str, exit: Exit, oom: bool) -> Reason {
    let code = match exit {
        _ if oom => "OOMKilled",
        Exit::Code(0) => "Completed",
        Exit::Code(_) | Exit::Signal(_) => "Error",
        Exit::Unknown => "ContainerStatusUnknown",
    };
    Reason::new(code, format!("container {name} ended: {exit}"))
}

/// What a supervisor remembers of a container's last failure; it happened no later than the
/// present state began.
fn last_failure(found: &SupervisedContainer, now: Now) -> Option<Failure> {
    let exit = found.last_exit?;
    Some(Failure {
        container: found.name.clone(),
        exit: Some(exit),
        reason: ended(&found.name, exit, found.oom),
        at: earlier(now, found.for_time).wall,
        log_tail: LogTail::default(),
    })
}

fn earlier(now: Now, by: Duration) -> Now {
    Now {
        steady: Timestamp::from_start(now.steady.since_start().saturating_sub(by)),
        wall: WallTime::from_unix_millis(now.wall.unix_millis.saturating_sub(millis(by))),
    }
}

fn later(now: Now, by: Duration) -> Now {
    Now {
        steady: now.steady.after(by),
        wall: WallTime::from_unix_millis(now.wall.unix_millis.saturating_add(millis(by))),
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
