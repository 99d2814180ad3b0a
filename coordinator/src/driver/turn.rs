//! One turn of the loop: decide, record, commit, and only then let anything out.
//!
//! ```text
//!                 a commit failed: back to what is stored
//!   this module ────────────────────────────────────────────▶ the module `careful`
//!        ▲                                                          │
//!        └─────────────── the store took something ─────────────────┘
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use everynode_coordinator_core::{Command, Fleet, NodeStanding, Outcome, Record, RecordKey, Write};
use everynode_store::{Store, StoreError};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::careful::Refusing;
use super::changes::Ring;
use super::commit::{CommitError, Fence, Group, commit};
use super::pulse::Pulse;
use super::{CommandError, Ended, Input, Question, bounded};
use crate::clock::Clock;
use crate::records;
use crate::sessions::Sessions;

/// How many rollout steps one turn takes; the rest is due at once in the next, so that a large
/// rollout does not hold up answers.
const STEPS_PER_TURN: usize = 16;

/// How long to wait before the store is read again after it failed.
const RESTORE_DELAY: Duration = Duration::from_millis(500);

/// How often it is read again: ten seconds in all. What can't be read by then is for a person, or
/// for whoever starts this process anew.
const RESTORE_TRIES: usize = 20;

/// How many events share a group: they have nothing to do with one another.
const EVENTS_PER_GROUP: usize = 32;

/// The loop's state.
pub(super) struct Driver {
    pub(super) fleet: Fleet,
    pub(super) store: Arc<dyn Store>,
    pub(super) fence: Fence,
    pub(super) outlets: Outlets,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) pulse: Pulse,
    /// Steps are left from the last turn.
    pub(super) unfinished: bool,
    /// There while the store does not take what it is given.
    pub(super) refusing: Option<Refusing>,
}

/// Where what is durable goes out.
pub(super) struct Outlets {
    pub(super) sessions: Sessions,
    pub(super) ring: Arc<Ring>,
    /// Whether orders are held.
    pub(super) held: Arc<AtomicBool>,
}

/// An answer that waits for the commit; the number of groups that must be stored before it.
struct Pending {
    groups: usize,
    outcome: Result<Outcome, CommandError>,
    answer: oneshot::Sender<Result<Outcome, CommandError>>,
}

/// What a turn gathers before it commits.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) groups: Vec<Group>,
    /// Events: stored after the groups, and only if the store takes them.
    pub(super) news: Vec<Group>,
    answers: Vec<Pending>,
    questions: Vec<Question>,
}

impl Driver {
    pub(super) fn new(
        fleet: Fleet,
        store: Arc<dyn Store>,
        fence: Fence,
        outlets: Outlets,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let pulse = Pulse::new(Arc::clone(&clock), fleet.config().heartbeat_interval);
        let (unfinished, refusing) = (false, None);
        Self { fleet, store, fence, outlets, clock, pulse, unfinished, refusing }
    }

    /// When the next turn is due, whatever comes in.
    ///
    /// Never later than half a heartbeat from now, however short that is: two turns that are a
    /// whole one apart then show that the process was frozen, and not merely asleep.
    pub(super) fn wake_at(&self, longest: Duration) -> Instant {
        let longest = longest.min(self.fleet.config().heartbeat_interval / 2);
        let now = self.clock.now().steady;
        let deadline = if self.unfinished { Some(now) } else { self.fleet.wake_at() };
        Instant::now() + bounded(deadline, now, longest).since(now)
    }

    /// Takes `inputs` and everything that follows from them.
    ///
    /// # Errors
    /// When this coordinator can't go on.
    pub(super) async fn turn(&mut self, inputs: &mut Vec<Input>) -> Result<(), Ended> {
        self.notice_freeze();
        let gathered = match self.refusing {
            None => self.trusting_turn(inputs).await?,
            Some(_) => self.careful_turn(inputs).await?,
        };
        let now = self.clock.now();
        for question in gathered.questions {
            question(&self.fleet, now);
        }
        self.pulse.beat();
        Ok(())
    }

    /// Decides and records everything, then stores all of it together.
    async fn trusting_turn(&mut self, inputs: &mut Vec<Input>) -> Result<Gathered, Ended> {
        let mut gathered = Gathered::default();
        for input in inputs.drain(..) {
            self.take(input, &mut gathered);
        }
        self.tick(&mut gathered);
        self.step(&mut gathered);
        let (committed, result) = self.commit(&gathered.groups).await;
        let answers = std::mem::take(&mut gathered.answers);
        match result {
            Ok(()) => {
                answer(answers, committed, None);
                self.let_out(&gathered.groups);
                self.store_news(&gathered.news).await?;
            }
            Err(CommitError::Overtaken) => return Err(Ended::Overtaken),
            Err(CommitError::Store(error)) => {
                let error = Arc::new(error);
                answer(answers, committed, Some(&error));
                self.start_over(error).await?;
            }
        }
        Ok(gathered)
    }

    /// Stores groups in order; how many were, and what stopped it.
    pub(super) async fn commit(&mut self, groups: &[Group]) -> (usize, Result<(), CommitError>) {
        self.pulse.through(commit(&*self.store, self.fence, groups)).await
    }

    /// A process that was not run for longer than a heartbeat has not heard what it would have
    /// heard: the window in which nodes may register again begins anew.
    fn notice_freeze(&mut self) {
        if let Some(gap) = self.pulse.frozen() {
            tracing::warn!(?gap, "this process was frozen; waiting for nodes to be heard again");
            self.fleet.frozen(self.clock.now());
        }
    }

    pub(super) fn take(&mut self, input: Input, gathered: &mut Gathered) {
        let now = self.clock.now();
        match input {
            Input::Command { command, answer } => {
                let outcome = self.follow(&command, &mut gathered.groups);
                let groups = gathered.groups.len();
                gathered.answers.push(Pending { groups, outcome, answer });
            }
            Input::Observation(observation) => {
                let writes = self.fleet.observe(*observation, now);
                self.keep_news(writes, &mut gathered.news);
            }
            Input::Question(question) => gathered.questions.push(question),
        }
    }

    fn follow(
        &mut self,
        command: &Command,
        groups: &mut Vec<Group>,
    ) -> Result<Outcome, CommandError> {
        let now = self.clock.now();
        let decision = self.fleet.decide(command, now).map_err(CommandError::Refused)?;
        let stored = |error| CommandError::Store(Arc::new(error));
        self.keep(decision.writes, groups).map_err(stored)?;
        Ok(decision.outcome)
    }

    /// What fits no transaction is refused here, before the fleet takes it for granted.
    fn keep(&mut self, writes: Vec<Write>, groups: &mut Vec<Group>) -> Result<(), StoreError> {
        if !writes.is_empty() {
            let group = Group::new(writes)?;
            self.fleet.record(group.writes(), self.clock.now());
            groups.push(group);
        }
        Ok(())
    }

    pub(super) fn keep_news(&mut self, writes: Vec<Write>, news: &mut Vec<Group>) {
        for writes in writes.chunks(EVENTS_PER_GROUP) {
            if let Err(error) = self.keep(writes.to_vec(), news) {
                tracing::warn!(%error, "events are too large to be kept");
            }
        }
    }

    pub(super) fn tick(&mut self, gathered: &mut Gathered) {
        let (now, sessions) = (self.clock.now(), &self.outlets.sessions);
        let writes = self.fleet.tick(now, &|node| sessions.last_heard(node));
        self.keep_news(writes, &mut gathered.news);
    }

    fn step(&mut self, gathered: &mut Gathered) {
        self.unfinished = false;
        for _ in 0..STEPS_PER_TURN {
            let writes = self.fleet.step(self.clock.now());
            if writes.is_empty() {
                return;
            }
            if let Err(error) = self.keep(writes, &mut gathered.groups) {
                tracing::error!(%error, "a rollout step is too large to be taken");
                return;
            }
        }
        self.unfinished = true;
    }

    /// An event that the store does not take is seen as long as this process lives, and no more is
    /// lost: nothing else rests on it.
    pub(super) async fn store_news(&mut self, news: &[Group]) -> Result<(), Ended> {
        if news.is_empty() {
            return Ok(());
        }
        match self.commit(news).await.1 {
            Ok(()) => self.taken(),
            Err(CommitError::Overtaken) => return Err(Ended::Overtaken),
            Err(CommitError::Store(error)) => self.refused(Arc::new(error)),
        }
        Ok(())
    }

    /// Everything is durable now: nodes may hear of it, and watchers.
    pub(super) fn let_out(&mut self, groups: &[Group]) {
        for write in groups.iter().flat_map(Group::writes) {
            match (&write.key, &write.record) {
                (_, Some(Record::Node(node))) if node.standing != NodeStanding::Active => {
                    self.outlets.sessions.deregister(node.uid);
                }
                (RecordKey::Node(uid), None) => self.outlets.sessions.forget(*uid),
                (RecordKey::Hold, None) => self.tell_who_was_removed(),
                _ => {}
            }
        }
        for (node, order) in self.fleet.take_orders() {
            self.outlets.sessions.publish(node, order);
        }
        let changed = self.fleet.take_changes();
        self.outlets.ring.publish(self.fleet.version(), changed);
    }

    /// Orders are given again: those that called meanwhile and were removed before hear it now.
    fn tell_who_was_removed(&self) {
        self.outlets.held.store(false, Ordering::Release);
        for node in self.outlets.sessions.nodes() {
            if self.fleet.standing(node).is_some_and(|standing| standing != NodeStanding::Active) {
                self.outlets.sessions.deregister(node);
            }
        }
    }

    /// The store has not taken something that the fleet took for granted: back to what is stored.
    /// What agents said stays true, so that sessions go on.
    pub(super) async fn start_over(&mut self, error: Arc<StoreError>) -> Result<(), Ended> {
        tracing::error!(%error, "a commit failed; going back to what is stored");
        self.refused(error);
        let mut tries = 0;
        loop {
            match self.restore().await {
                Err(Ended::Store(error)) if tries < RESTORE_TRIES => {
                    tracing::error!(%error, "the store can't be read");
                }
                other => return other,
            }
            tries += 1;
            tokio::time::sleep(RESTORE_DELAY).await;
        }
    }

    /// The same reign goes on: versions and generations must not go back.
    async fn restore(&mut self) -> Result<(), Ended> {
        let stored = self.pulse.through(records::load(&*self.store)).await.map_err(Ended::Store)?;
        let now = self.clock.now();
        let mut fleet = Fleet::restore(stored, self.fleet.config().clone(), now)
            .map_err(|error| Ended::Records(error.to_string()))?;
        if fleet.cluster() != self.fleet.cluster() {
            return Err(Ended::Overtaken);
        }
        std::mem::swap(&mut self.fleet, &mut fleet);
        for node in self.fleet.succeed(fleet) {
            self.outlets.sessions.end(node, "the coordinator goes back to what is stored");
        }
        self.outlets.held.store(self.fleet.hold().is_some(), Ordering::Release);
        self.tell_standings();
        self.outlets.ring.begin_anew(self.fleet.version());
        Ok(())
    }

    /// Of the turn that failed the beginning may have been stored: a removal, of which nobody was
    /// told yet.
    fn tell_standings(&self) {
        let held = self.fleet.hold().is_some();
        for node in self.outlets.sessions.nodes() {
            match self.fleet.standing(node) {
                Some(NodeStanding::Active) => {}
                Some(_) if held => {}
                Some(_) => self.outlets.sessions.deregister(node),
                None => self.outlets.sessions.forget(node),
            }
        }
    }
}

/// Answers each caller: with its outcome where everything up to it is stored; else with the error,
/// also where it was refused, since the refusal rests on what is not stored.
fn answer(answers: Vec<Pending>, committed: usize, failure: Option<&Arc<StoreError>>) {
    for Pending { groups, outcome, answer } in answers {
        let outcome = match failure {
            Some(error) if committed < groups => Err(CommandError::Store(Arc::clone(error))),
            _ => outcome,
        };
        // Whoever asked may have gone; the effect stands all the same.
        let _ = answer.send(outcome);
    }
}
