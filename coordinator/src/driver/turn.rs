//! One turn of the loop: decide, record, commit, and only then let anything out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use everynode_coordinator_core::{Command, Fleet, NodeStanding, Outcome, Record, RecordKey, Write};
use everynode_model::Timestamp;
use everynode_store::{Store, StoreError};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::changes::Ring;
use super::commit::{Fence, commit};
use super::{CommandError, Input, Question, bounded};
use crate::clock::Clock;
use crate::records;
use crate::sessions::Sessions;

/// How many rollout steps one turn takes; the rest is due at once in the next, so that a large
/// rollout does not hold up answers.
const STEPS_PER_TURN: usize = 16;

/// How long to wait before the store is read again after it failed.
const RESTORE_DELAY: Duration = Duration::from_millis(500);

/// The loop's state.
pub(super) struct Driver {
    fleet: Fleet,
    store: Arc<dyn Store>,
    fence: Fence,
    sessions: Sessions,
    clock: Arc<dyn Clock>,
    ring: Arc<Ring>,
    /// When the last turn ended.
    rested_at: Timestamp,
    /// Steps are left from the last turn.
    unfinished: bool,
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
    groups: Vec<Vec<Write>>,
    answers: Vec<Pending>,
    questions: Vec<Question>,
}

impl Driver {
    pub(super) fn new(
        fleet: Fleet,
        store: Arc<dyn Store>,
        fence: Fence,
        sessions: Sessions,
        clock: Arc<dyn Clock>,
        ring: Arc<Ring>,
    ) -> Self {
        let rested_at = clock.now().steady;
        Self { fleet, store, fence, sessions, clock, ring, rested_at, unfinished: false }
    }

    /// When the next turn is due, whatever comes in.
    pub(super) fn wake_at(&self, longest: Duration) -> Instant {
        let now = self.clock.now().steady;
        let deadline = if self.unfinished { Some(now) } else { self.fleet.wake_at() };
        Instant::now() + bounded(deadline, now, longest).since(now)
    }

    /// Takes `inputs` and everything that follows from them.
    pub(super) async fn turn(&mut self, inputs: &mut Vec<Input>) {
        self.notice_freeze();
        let mut gathered = Gathered::default();
        for input in inputs.drain(..) {
            self.take(input, &mut gathered);
        }
        self.tick(&mut gathered);
        self.step(&mut gathered);
        let (committed, result) = commit(&*self.store, self.fence, &gathered.groups).await;
        let failure = result.err().map(Arc::new);
        answer(gathered.answers, committed, failure.as_ref());
        match failure {
            None => self.let_out(&gathered.groups),
            Some(error) => self.start_over(&error).await,
        }
        let now = self.clock.now();
        for question in gathered.questions {
            question(&self.fleet, now);
        }
        self.rested_at = self.clock.now().steady;
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
                self.keep(writes, &mut gathered.groups);
            }
            Input::Question(question) => gathered.questions.push(question),
        }
    }

    fn follow(
        &mut self,
        command: &Command,
        groups: &mut Vec<Vec<Write>>,
    ) -> Result<Outcome, CommandError> {
        let now = self.clock.now();
        let decision = self.fleet.decide(command, now).map_err(CommandError::Refused)?;
        self.keep(decision.writes, groups);
        Ok(decision.outcome)
    }

    fn keep(&mut self, writes: Vec<Write>, groups: &mut Vec<Vec<Write>>) {
        if !writes.is_empty() {
            self.fleet.record(&writes, self.clock.now());
            groups.push(writes);
        }
    }

    fn tick(&mut self, gathered: &mut Gathered) {
        let (now, sessions) = (self.clock.now(), &self.sessions);
        let writes = self.fleet.tick(now, &|node| sessions.last_heard(node));
        self.keep(writes, &mut gathered.groups);
    }

    fn step(&mut self, gathered: &mut Gathered) {
        self.unfinished = false;
        for _ in 0..STEPS_PER_TURN {
            let writes = self.fleet.step(self.clock.now());
            if writes.is_empty() {
                return;
            }
            self.keep(writes, &mut gathered.groups);
        }
        self.unfinished = true;
    }

    /// Everything is durable now: nodes may hear of it, and watchers.
    fn let_out(&mut self, groups: &[Vec<Write>]) {
        for write in groups.iter().flatten() {
            match (&write.key, &write.record) {
                (_, Some(Record::Node(node))) if node.standing != NodeStanding::Active => {
                    self.sessions.deregister(node.uid);
                }
                (RecordKey::Node(uid), None) => self.sessions.forget(*uid),
                _ => {}
            }
        }
        for (node, order) in self.fleet.take_orders() {
            self.sessions.publish(node, order);
        }
        let changed = self.fleet.take_changes();
        self.ring.publish(self.fleet.version(), changed);
    }

    /// The store has not taken something that the fleet took for granted: back to what is stored.
    /// Sessions end, and agents say again what they know.
    async fn start_over(&mut self, error: &StoreError) {
        tracing::error!(%error, "a commit failed; going back to what is stored");
        self.sessions.end_all();
        loop {
            match records::load(&*self.store).await {
                Ok(stored) => {
                    let now = self.clock.now();
                    match Fleet::restore(stored, self.fleet.config().clone(), now) {
                        Ok(fleet) => {
                            self.replace_fleet(fleet);
                            return;
                        }
                        Err(error) => tracing::error!(%error, "the stored records do not fit"),
                    }
                }
                Err(error) => tracing::error!(%error, "the store can't be read"),
            }
            tokio::time::sleep(RESTORE_DELAY).await;
        }
    }

    /// Versions must not go back: what was handed out before stays behind the new beginning.
    fn replace_fleet(&mut self, mut fleet: Fleet) {
        fleet.advance_version(self.fleet.version());
        self.fleet = fleet;
        self.fleet.take_changes();
        self.ring.publish(self.fleet.version(), BTreeSet::new());
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
