//! One pod: who of its containers runs and who waits, whether it is ready, and what went wrong.
//!
//! ```text
//!   init containers and sidecars, one after the other        main containers, one after the other
//!   init ── exit code 0 ──▶ sidecar ── started ──▶ init … ──▶ main ── postStart over ──▶ main …
//! ```
//!
//! That is the order of first starts. A container that is started again waits for no other, and never
//! makes another wait that has started. What each does by itself `container` draws, and how they end
//! in order, `ending` says. Whether the pod is wanted is not asked here.

use std::time::Duration;

use everynode_model::{
    Digest, Exit, Failure, FormerFailure, Intent, Item, LogTail, Now, PodKey, Reason, SetUid,
    Timestamp,
};

use crate::backoff::Policy;
use crate::container::{Container, Means};
use crate::ending::Ending;
use crate::event::{HookKind, ProbeKind, Supervised, SupervisedContainer};
use crate::ledger::Ledger;
use crate::place::{Memory, Turn};
use crate::resize::Resizing;
use crate::spec::{Plan, PodRef, RestartBackoff, Role};
use crate::words::{self, earlier};

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
    /// What it counts as.
    pub(crate) identity: Identity,
    /// What its supervisor has it as, which is all that another agent would know.
    pub(crate) made_as: Identity,
    pub(crate) grace: Duration,
    pub(crate) restart: RestartBackoff,
    pub(crate) created: Option<Now>,
    pub(crate) containers: Vec<Container>,
    pub(crate) restarts_before: u64,
    pub(crate) ready_since: Option<Timestamp>,
    pub(crate) times_unready: u64,
    pub(crate) last_failure: Option<Failure>,
    /// Its supervisor is alive and does not answer.
    pub(crate) silent: bool,
    /// Whether its limits are being changed.
    pub(crate) resizing: Resizing,
    /// How it ends, once it has to.
    pub(crate) ending: Option<Ending>,
    /// The last number given to a try or a hook.
    pub(crate) numbers: u64,
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
            labels: other.map(|item| item.labels.clone()).unwrap_or_default(),
        }
    }
}

impl Pod {
    /// A pod about to be made, which goes on counting where its predecessor stopped.
    pub(crate) fn new(at: PodRef, identity: Identity, memory: &Memory) -> Self {
        Self {
            at,
            identity,
            made_as: identity,
            grace: Duration::ZERO,
            restart: RestartBackoff::default(),
            created: None,
            containers: Vec::new(),
            restarts_before: memory.restarts,
            ready_since: None,
            times_unready: memory.times_unready,
            last_failure: memory.last_failure.clone(),
            silent: false,
            resizing: Resizing::No,
            ending: None,
            numbers: 0,
        }
    }

    /// A pod found alive with a supervisor that answers.
    ///
    /// How often it was unready is not among what a supervisor knows. Every restart was a time
    /// unready, so their number is right where nothing is probed. What probes said under a former
    /// agent is lost with it: that count begins anew, and that of restarts never does.
    pub(crate) fn adopted(at: PodRef, found: &Supervised, policy: &Policy, now: Now) -> Self {
        let restarted = found.restarts > 0;
        let policy = policy.with(found.restart);
        let about = (at.uid, found.grace);
        let last_run = found.containers.iter().rposition(|one| one.has_run()).unwrap_or(0);
        let adopt = |(n, one): (usize, &SupervisedContainer)| {
            Container::adopted(one, (restarted, n < last_run), about, &policy, now)
        };
        let containers: Vec<_> = found.containers.iter().enumerate().map(adopt).collect();
        let failed = |one: &Container| one.runs > 0 && !one.is_up() && !one.is_done();
        let down = containers.iter().any(failed);
        let up_since = containers.iter().filter_map(Container::up_since).min();
        let made_as = Identity { set: found.set, revision: found.revision, replace: found.replace };
        let mut pod = Self {
            at,
            identity: made_as,
            made_as,
            grace: found.grace,
            restart: found.restart,
            created: Some(Now { steady: up_since.unwrap_or(now.steady), wall: found.created_at }),
            containers,
            restarts_before: if mutated!(ForgetCounts) { 0 } else { found.restarts },
            ready_since: None,
            times_unready: found.restarts + u64::from(down),
            last_failure: found.containers.iter().filter_map(|c| last_failure(c, now)).next_back(),
            silent: false,
            resizing: match found.limits_in_doubt {
                true => Resizing::InDoubt(words::limits_in_doubt()),
                false => Resizing::No,
            },
            ending: None,
            numbers: 0,
        };
        pod.say_whose_turn();
        pod.judge_ready();
        if let Some(resized_for) = found.resized_for {
            pod.limited_since(earlier(now, resized_for));
        }
        pod
    }

    /// It is held to its present limits since then: for how long it is ready, as what a rollout waits for,
    /// counts from there, since nobody has seen before that it can do with them.
    pub(crate) fn limited_since(&mut self, then: Now) {
        self.containers.iter_mut().for_each(|container| container.limited_since(then));
        self.judge_ready();
    }

    /// From now on it counts as the ledger says, if it was made for a former coordinator's DaemonSet. Where
    /// nobody goes on with that any more it is what it was made for: to an agent that starts, it is nothing
    /// else.
    pub(crate) fn inherit(&mut self, ledger: &Ledger) {
        let has_heir = ledger.heirs.contains_key(&self.at.key);
        let from = if has_heir { self.identity } else { self.made_as };
        self.identity = from.inherited(&self.at.key, ledger);
    }

    pub(crate) fn created(&mut self, plan: Plan, now: Now) {
        self.grace = plan.grace;
        self.restart = plan.restart;
        self.created = Some(now);
        let container = |planned| Container::new(planned, words::creating(), now);
        self.containers = plan.containers.into_iter().map(container).collect();
        self.say_whose_turn();
    }

    pub(crate) fn started(&mut self, name: &str, pid: u32, now: Now) {
        if let Some(container) = self.container(name) {
            container.started(pid, now);
        }
        self.judge_ready();
    }

    /// Nobody can vouch for what runs in it any more. It is left as it is: whatever keeps its
    /// supervisor from answering, another pod beside it would be a second one. No probe is tried
    /// meanwhile: where a machine is short of everything, its answers would only make it worse.
    pub(crate) fn supervisor_silent(&mut self) {
        self.silent = true;
        self.judge_ready();
    }

    /// Its supervisor answers again; what ended meanwhile is told next.
    pub(crate) fn supervisor_heard(&mut self) {
        self.silent = false;
        self.judge_ready();
    }

    pub(crate) fn start_failed(&mut self, name: &str, why: &Reason, policy: &Policy, now: Now) {
        let policy = policy.with(self.restart);
        let ending = self.ending.is_some();
        let Some(container) = self.container(name) else { return };
        // In a pod that ends it is what was to be expected.
        if container.start_failed(why, &policy, now) && !ending {
            self.note_failure(name, None, why.clone(), now);
        }
    }

    pub(crate) fn exited(&mut self, name: &str, exit: Exit, policy: &Policy, now: Now) {
        let policy = policy.with(self.restart);
        let Some(container) = self.container(name) else { return };
        if let Some(failure) = container.exited(exit, &policy, now) {
            self.note_failure(name, Some(exit), failure, now);
        }
        self.say_whose_turn();
        self.judge_ready();
    }

    pub(crate) fn probed(
        &mut self,
        name: &str,
        try_of: (ProbeKind, u64),
        outcome: Result<(), String>,
        now: Now,
    ) {
        let (grace, silent) = (self.grace, self.silent);
        let Some(container) = self.container(name) else { return };
        if silent {
            return container.forget_try(try_of);
        }
        container.probed(try_of, outcome, grace, now);
        self.judge_ready();
    }

    pub(crate) fn hook_done(
        &mut self,
        name: &str,
        hook: (HookKind, u64),
        outcome: Result<(), String>,
        now: Now,
    ) {
        let grace = self.grace;
        if let Some(container) = self.container(name) {
            container.hook_done(hook, outcome, grace, now);
        }
        self.judge_ready();
    }

    /// Starts what is due, in turn, and looks after what runs.
    pub(crate) fn tend(&mut self, turn: &mut Turn<'_>) {
        for n in 0..self.containers.len() {
            let is_next = self.is_next(n);
            let silent = self.silent;
            let (container, mut means) = self.with_means(n, turn);
            if is_next {
                container.start_if_due(&mut means);
            }
            if !silent {
                container.tend(&mut means);
            }
        }
    }

    /// One of its containers, and what that needs to do its part.
    pub(crate) fn with_means<'a>(
        &'a mut self,
        n: usize,
        turn: &'a mut Turn<'_>,
    ) -> (&'a mut Container, Means<'a>) {
        let (now, kill, out) = (turn.now, turn.policy.kill, &mut *turn.out);
        let means = Means { pod: &self.at, numbers: &mut self.numbers, kill, now, out };
        (&mut self.containers[n], means)
    }

    /// Whether all that come before it have come far enough.
    fn is_next(&self, n: usize) -> bool {
        let (before, one) = (&self.containers[..n], &self.containers[n]);
        if mutated!(StartOutOfTurn) {
            return true;
        }
        match one.role() {
            Role::Init | Role::Sidecar => before.iter().all(Container::is_past),
            Role::Main => {
                let first = one.runs == 0;
                let is_past = |other: &Container| match other.role() {
                    Role::Main => !first || other.is_past(),
                    Role::Init | Role::Sidecar => other.is_past(),
                };
                before.iter().all(is_past)
            }
        }
    }

    /// The kernel has killed something of the container's present run.
    pub(crate) fn out_of_memory(&mut self, name: &str) {
        if let Some(container) = self.container(name) {
            container.out_of_memory();
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

    /// Somebody else holds a port that it declares: where a container of it failed just now, that may
    /// be why.
    pub(crate) fn port_held(&mut self, name: &str, line: &str) {
        if let Some(failure) = &mut self.last_failure
            && failure.container == name
            && failure.exit.is_some()
        {
            // Of two ends in a row, both looks are told after the second.
            words::add(line, &mut failure.reason);
        }
        if let Some(container) = self.container(name) {
            container.note_while_waiting(line);
        }
    }

    /// What went wrong with it, for those who come after it.
    pub(crate) fn as_former(&self) -> Option<FormerFailure> {
        let revision = self.identity.revision;
        self.last_failure.clone().map(|failure| FormerFailure { revision, failure })
    }

    /// An end within a pod that is being stopped: no failure.
    pub(crate) fn ended(&mut self, name: &str, exit: Exit, now: Now) {
        if let Some(container) = self.container(name) {
            container.ended(exit, now);
        }
        self.ready_since = None;
    }

    /// The supervisor is gone, and with it the exit status of all that ran.
    pub(crate) fn lost(&mut self, why: &Reason, now: Now) {
        let up: Vec<String> =
            self.containers.iter().filter(|c| c.is_up()).map(|c| c.name.clone()).collect();
        for name in &up {
            self.ended(name, Exit::Unknown, now);
            self.note_failure(name, Some(Exit::Unknown), why.clone(), now);
        }
        if up.is_empty() {
            self.note_failure("", None, why.clone(), now);
        }
    }

    /// When something is due in it by itself.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        let due = |(n, one): (usize, &Container)| one.due(self.is_next(n), self.silent);
        self.containers.iter().enumerate().filter_map(due).min()
    }

    /// It is no longer ready, and nobody wanted that.
    pub(crate) fn unready(&mut self) {
        if self.ready_since.take().is_some() {
            self.times_unready += 1;
        }
    }

    /// Ready is a pod of which all but the init containers are, and whose supervisor vouches for it.
    fn judge_ready(&mut self) {
        if self.ending.is_some() {
            return;
        }
        let asked = self.containers.iter().filter(|one| one.role() != Role::Init);
        let since: Option<Vec<Timestamp>> = asked.map(Container::ready_since).collect();
        match since.and_then(|since| since.into_iter().max()).filter(|_| !self.silent) {
            None => self.unready(),
            since => self.ready_since = since,
        }
    }

    /// Why it is not ready; `None` where it is.
    pub(crate) fn why_not_ready(&self) -> Option<Reason> {
        let next = |(n, one): &(usize, &Container)| !one.is_down() || self.is_next(*n);
        let all = || self.containers.iter().enumerate();
        let of_next = all().filter(next).find_map(|(_, one)| one.why_not_ready());
        of_next.or_else(|| all().find_map(|(_, one)| one.why_not_ready()))
    }

    /// Those whose turn comes later say so.
    fn say_whose_turn(&mut self) {
        for n in 0..self.containers.len() {
            let is_next = self.is_next(n);
            self.containers[n].say_whose_turn(is_next);
        }
    }

    /// How often any of its containers was started again, with those of its predecessors.
    pub(crate) fn restarts(&self) -> u64 {
        self.restarts_before + self.containers.iter().map(Container::restarts).sum::<u64>()
    }

    /// The same, with the restarts that making the pod anew will be.
    pub(crate) fn restarts_when_made_anew(&self) -> u64 {
        // That init containers run again is no restart.
        let ran = |container: &&Container| container.runs > 0 && container.role() != Role::Init;
        let ran = self.containers.iter().filter(ran).count();
        self.restarts() + ran as u64
    }

    /// How long it lived.
    pub(crate) fn age(&self, now: Timestamp) -> Duration {
        self.created.map_or(Duration::ZERO, |created| now.since(created.steady))
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

/// What a supervisor remembers of a container's last failure; it happened no later than the
/// present state began.
fn last_failure(found: &SupervisedContainer, now: Now) -> Option<Failure> {
    let done = found.lifecycle.role == Role::Init && found.last_exit == Some(Exit::Code(0));
    let exit = found.last_exit.filter(|_| !done)?;
    Some(Failure {
        container: found.name.clone(),
        exit: Some(exit),
        reason: words::ended(&found.name, exit, found.oom),
        at: earlier(now, found.for_time).wall,
        log_tail: LogTail::default(),
    })
}
