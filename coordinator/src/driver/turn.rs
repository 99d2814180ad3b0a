//! One turn of the loop: decide, record, commit, and only then let anything out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use everynode_coordinator_core::{Command, Fleet, NodeStanding, Outcome, Record, RecordKey, Write};
use everynode_model::Timestamp;
use everynode_store::{Store, StoreError};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::changes::Ring;
use super::commit::{CommitError, Fence, Group, commit};
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
    fleet: Fleet,
    store: Arc<dyn Store>,
    fence: Fence,
    outlets: Outlets,
    clock: Arc<dyn Clock>,
    /// When the last turn ended.
    rested_at: Timestamp,
    /// Steps are left from the last turn.
    unfinished: bool,
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
struct Gathered {
    groups: Vec<Group>,
    /// Events: stored after the groups, and only if the store takes them.
    news: Vec<Group>,
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
        let rested_at = clock.now().steady;
        Self { fleet, store, fence, outlets, clock, rested_at, unfinished: false }
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
        let mut gathered = Gathered::default();
        for input in inputs.drain(..) {
            self.take(input, &mut gathered);
        }
        self.tick(&mut gathered);
        self.step(&mut gathered);
        let Gathered { groups, news, answers, questions } = gathered;
        let (committed, result) = commit(&*self.store, self.fence, &groups).await;
        match result {
            Ok(()) => {
                answer(answers, committed, None);
                self.let_out(&groups);
                self.store_news(&news).await?;
            }
            Err(CommitError::Overtaken) => return Err(Ended::Overtaken),
            Err(CommitError::Store(error)) => {
                let error = Arc::new(error);
                answer(answers, committed, Some(&error));
                self.start_over(&error).await?;
            }
        }
        let now = self.clock.now();
        for question in questions {
            question(&self.fleet, now);
        }
        self.rested_at = self.clock.now().steady;
        Ok(())
    }

    /// A loop that was not run for longer than a heartbeat has not heard what it would have heard:
    /// the window in which nodes may register again begins anew.
    fn notice_freeze(&mut self) {
        let now = self.clock.now();
        let gap = now.steady.since(self.rested_at);
        if gap > self.fleet.config().heartbeat_interval {
            tracing::warn!(?gap, "this process was frozen; waiting for nodes to be heard again");
            self.fleet.frozen(now);
        }
    }

    fn take(&mut self, input: Input, gathered: &mut Gathered) {
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

    fn keep_news(&mut self, writes: Vec<Write>, news: &mut Vec<Group>) {
        for writes in writes.chunks(EVENTS_PER_GROUP) {
            if let Err(error) = self.keep(writes.to_vec(), news) {
                tracing::warn!(%error, "events are too large to be kept");
            }
        }
    }

    fn tick(&mut self, gathered: &mut Gathered) {
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
    async fn store_news(&self, news: &[Group]) -> Result<(), Ended> {
        match commit(&*self.store, self.fence, news).await.1 {
            Ok(()) => Ok(()),
            Err(CommitError::Overtaken) => Err(Ended::Overtaken),
            Err(CommitError::Store(error)) => {
                tracing::warn!(%error, "events could not be stored");
                Ok(())
            }
        }
    }

    /// Everything is durable now: nodes may hear of it, and watchers.
    fn let_out(&mut self, groups: &[Group]) {
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
    /// Sessions end, and agents say again what they know.
    async fn start_over(&mut self, error: &StoreError) -> Result<(), Ended> {
        tracing::error!(%error, "a commit failed; going back to what is stored");
        self.outlets.sessions.end_all("the coordinator goes back to what is stored");
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
        let stored = records::load(&*self.store).await.map_err(Ended::Store)?;
        let now = self.clock.now();
        let mut fleet = Fleet::restore(stored, self.fleet.config().clone(), now)
            .map_err(|error| Ended::Records(error.to_string()))?;
        if fleet.cluster() != self.fleet.cluster() {
            return Err(Ended::Overtaken);
        }
        fleet.succeed(&self.fleet);
        self.fleet = fleet;
        self.outlets.held.store(self.fleet.hold().is_some(), Ordering::Release);
        self.outlets.ring.begin_anew(self.fleet.version());
        Ok(())
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
