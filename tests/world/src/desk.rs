//! The coordinator: its core, and a shell that takes turns as the real one does and can die, or be
//! let down by its store, at every point of one.
//!
//! ```text
//!   decide · record ─┬─▶ commit ─┬─▶ answers ─┬─▶ orders, one by one ─▶ done
//!                    ✗ dies      ✗ dies between any two
//!                    └─▶ fails: nothing, a part, or (unheard) all of it is stored ─▶ start over
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use everynode_coordinator_core::{
    Command, Config, Decision, Fleet, NodeStanding, Observation, Order, Outcome, Record, RecordKey,
    Refusal, Write, invariants,
};
use everynode_model::{NodeUid, Now, ReignId, SessionNonce, Stamp, Timestamp, WallTime};

use crate::account::Account;
use crate::dice::Dice;
use crate::invariants::{self as ours, Handed};
use crate::law::Law;
use crate::log::Log;
use crate::store::Store;
use crate::watch::Watcher;
use crate::wire::Down;

/// As the real shell's.
const BATCH: usize = 256;
const STEPS_PER_TURN: usize = 16;

/// The coordinator's process, its host and its store.
pub(crate) struct Desk {
    pub(crate) store: Store,
    /// None while the process is down.
    pub(crate) fleet: Option<Fleet>,
    /// Counts its processes.
    pub(crate) life: u64,
    /// Whether things go wrong.
    pub(crate) faulty: bool,
    pub(crate) sessions: BTreeMap<NodeUid, Session>,
    pub(crate) inbox: VecDeque<Input>,
    /// By how many ms its wall clock is wrong.
    pub(crate) skew: i64,
    /// Until when the process stands still.
    pub(crate) frozen_until: Duration,
    pub(crate) fail_commits: u32,
    config: Config,
    began: Duration,
    rested: Duration,
    window_ends: Timestamp,
    handed: Handed,
    moved: invariants::Moved,
    watcher: Watcher,
    heard: BTreeMap<NodeUid, Duration>,
    /// When it last stood still for longer than a heartbeat: no lease may end for that.
    thawed: Option<Duration>,
}

/// One agent's session, as far as the shell keeps it: what waits to be sent.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) nonce: SessionNonce,
    pub(crate) stream: u64,
    pub(crate) heard: Duration,
    /// Whether the agent has said anything since its Hello.
    pub(crate) answered: bool,
    pub(crate) control: VecDeque<Down>,
    pub(crate) order: Option<Arc<Order>>,
    pub(crate) deregistered: bool,
    pub(crate) end: Option<Down>,
}

/// Something for a turn to take.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Command(Box<Command>, Asker),
    Observation(Box<Observation>),
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// A person.
    Person,
    /// A machine that wants to join; which life of its agent.
    Joiner { seat: usize, life: u64 },
    /// A session that wants to leave, or says that it is empty.
    Leaver { node: NodeUid, session: SessionNonce, empty: bool },
}

/// What somebody is told: `None` where the store did not take it.
pub(crate) struct Answer {
    pub(crate) command: Box<Command>,
    pub(crate) asker: Asker,
    pub(crate) outcome: Option<Result<Outcome, Refusal>>,
}

/// How a turn ended.
pub(crate) enum Turned {
    /// With these answers.
    Done(Vec<Answer>),
    /// The process died; these had been given, those never will be.
    Died { given: Vec<Answer>, lost: Vec<Answer> },
    /// The store failed: of these nodes nothing is known any more, and their sessions are over.
    StartedOver(Vec<Answer>, Vec<NodeUid>),
}

/// What a turn gathers before it commits.
#[derive(Default)]
struct Gathered {
    groups: Vec<Vec<Write>>,
    news: Vec<Write>,
    /// With how many groups must be stored before.
    answers: Vec<(usize, Answer)>,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self {
            store: Store::default(),
            fleet: None,
            life: 0,
            faulty: true,
            sessions: BTreeMap::new(),
            inbox: VecDeque::new(),
            skew: 0,
            frozen_until: Duration::ZERO,
            fail_commits: 0,
            config: Config { max_events: 40, ..Config::default() },
            began: Duration::ZERO,
            rested: Duration::ZERO,
            window_ends: Timestamp::ZERO,
            handed: Handed::default(),
            moved: invariants::Moved::default(),
            watcher: Watcher::default(),
            heard: BTreeMap::new(),
            thawed: None,
        }
    }

    /// Its clocks.
    pub(crate) fn now(&self, at: Duration) -> Now {
        let wall = i64::try_from(at.as_millis()).unwrap_or(i64::MAX).saturating_add(self.skew);
        Now {
            steady: Timestamp::from_start(at.saturating_sub(self.began)),
            wall: WallTime::from_unix_millis(wall),
        }
    }

    /// Whether the process runs, and does not stand still.
    pub(crate) fn is_awake(&self, at: Duration) -> bool {
        self.fleet.is_some() && self.frozen_until <= at
    }

    /// Whether it takes no steps yet, because nodes may not have had the time to call.
    pub(crate) fn waits_for_calls(&self, at: Duration) -> bool {
        self.now(at).steady < self.window_ends
    }

    /// Starts the process. It may die at once, before or after its term is stored.
    pub(crate) fn start(&mut self, at: Duration, reign: ReignId, dice: &mut Dice) {
        if self.fleet.is_some() || (self.faulty && dice.one_in(12)) {
            return;
        }
        self.store.begin_reign(reign);
        if self.faulty && dice.one_in(12) {
            return;
        }
        self.life += 1;
        (self.began, self.rested) = (at, at);
        let fleet = self.replayed(at);
        self.watcher.begin_anew();
        self.window_ends = self.now(at).steady.after(self.config.registration_window);
        self.heard.clear();
        self.thawed = None;
        self.fleet = Some(fleet);
    }

    /// The process dies: commands that were under way are nobody's any more.
    pub(crate) fn die(&mut self) -> Vec<Input> {
        self.fleet = None;
        self.sessions.clear();
        self.frozen_until = Duration::ZERO;
        std::mem::take(&mut self.inbox).into()
    }

    /// Somebody went back to a backup: what was handed out before is of another history.
    pub(crate) fn forget_history(&mut self) {
        self.handed = Handed::default();
        self.moved = invariants::Moved::default();
    }

    /// The session of a node, if it is this one.
    pub(crate) fn session(&mut self, node: NodeUid, nonce: SessionNonce) -> Option<&mut Session> {
        self.sessions.get_mut(&node).filter(|session| session.nonce == nonce)
    }

    /// One turn.
    pub(crate) fn turn(
        &mut self,
        at: Duration,
        dice: &mut Dice,
        law: &mut Law,
        account: &mut Account,
        log: &mut Log,
    ) -> Option<Turned> {
        let mut fleet = self.fleet.take_if(|_| self.frozen_until <= at)?;
        self.notice_freeze(&mut fleet, at);
        let mut gathered = Gathered::default();
        for _ in 0..self.inbox.len().min(BATCH) {
            if let Some(input) = self.inbox.pop_front() {
                self.take(input, &mut fleet, &mut gathered, at, law, account);
            }
        }
        self.tick(&mut fleet, &mut gathered, at, law);
        self.step(&mut fleet, &mut gathered, at, law);
        let writes: usize = gathered.groups.iter().map(Vec::len).sum();
        if writes > 0 {
            log.say(&[1, gathered.groups.len() as u64, writes as u64, fleet.version()], || {
                let keys = gathered.groups.iter().flatten().map(|write| &write.key);
                format!("decided: {:?}", keys.collect::<Vec<_>>())
            });
        }
        let turned = self.end_turn(fleet, gathered, at, dice, law, log);
        self.rested = at;
        Some(turned)
    }

    /// What is stored, as a restart would have it.
    pub(crate) fn replayed(&self, at: Duration) -> Fleet {
        let records = self.store.records.values().cloned();
        Fleet::restore(records, self.config.clone(), self.now(at)).expect("there is one cluster")
    }

    fn notice_freeze(&mut self, fleet: &mut Fleet, at: Duration) {
        if at.saturating_sub(self.rested) > self.config.heartbeat_interval {
            let now = self.now(at);
            fleet.frozen(now);
            self.thawed = Some(at);
            self.window_ends = now.steady.after(self.config.registration_window);
        }
    }

    fn take(
        &mut self,
        input: Input,
        fleet: &mut Fleet,
        gathered: &mut Gathered,
        at: Duration,
        law: &mut Law,
        account: &mut Account,
    ) {
        let now = self.now(at);
        match input {
            Input::Command(command, asker) => {
                account.doom(fleet, &command);
                let outcome = fleet.decide(&command, now).map(|Decision { writes, outcome }| {
                    if !writes.is_empty() {
                        fleet.record(&writes, now);
                        gathered.groups.push(writes);
                    }
                    outcome
                });
                let answer = Answer { command, asker, outcome: Some(outcome) };
                gathered.answers.push((gathered.groups.len(), answer));
            }
            Input::Observation(observation) => {
                let observation = *observation;
                if let Some(node) = told_by(&observation) {
                    self.heard.insert(node, at);
                }
                let writes = fleet.observe(observation, now);
                ours::c_observations_store_only_events(&writes, law);
                fleet.record(&writes, now);
                gathered.news.extend(writes);
            }
        }
    }

    fn tick(&mut self, fleet: &mut Fleet, gathered: &mut Gathered, at: Duration, law: &mut Law) {
        let (now, began) = (self.now(at), self.began);
        let sessions = &self.sessions;
        let steady = |at: Duration| Timestamp::from_start(at.saturating_sub(began));
        let writes = fleet.tick(now, &|node| sessions.get(&node).map(|it| steady(it.heard)));
        ours::c_observations_store_only_events(&writes, law);
        fleet.record(&writes, now);
        gathered.news.extend(writes);
        for (node, session) in &self.sessions {
            let heard = self.heard.entry(*node).or_default();
            *heard = session.heard.max(*heard);
        }
        let heard = |node| self.heard.get(&node).copied().max(self.thawed).map(steady);
        ours::c_lost_is_by_lease(fleet, now.steady, heard, law);
    }

    fn step(&mut self, fleet: &mut Fleet, gathered: &mut Gathered, at: Duration, law: &mut Law) {
        let now = self.now(at);
        for _ in 0..STEPS_PER_TURN {
            let writes = fleet.step(now);
            if writes.is_empty() {
                return;
            }
            let before = (invariants::budgets(fleet), invariants::progress(fleet));
            let surges = invariants::surges(fleet);
            let assigned = ours::assignments(fleet);
            fleet.record(&writes, now);
            gathered.groups.push(writes);
            if fleet.hold().is_some() {
                // Grants follow what runs, and nobody hears of it.
                continue;
            }
            ours::a_step_keeps_the_budget(&before.0, fleet, law);
            ours::a_step_keeps_the_surge(&surges, fleet, law);
            ours::a_step_obeys_its_policy(&before.1, fleet, law);
            ours::a_step_counts_whom_it_lost(&mut self.moved, &before.1, fleet, law);
            let waits = self.waits_for_calls(at);
            ours::c_no_step_before_nodes_could_call(waits, &assigned, fleet, law);
        }
    }

    fn end_turn(
        &mut self,
        fleet: Fleet,
        gathered: Gathered,
        at: Duration,
        dice: &mut Dice,
        law: &mut Law,
        log: &mut Log,
    ) -> Turned {
        let Gathered { groups, news, answers } = gathered;
        let risky = self.faulty && !groups.is_empty();
        if risky && self.fail_commits > 0 {
            self.fail_commits -= 1;
            return self.start_over(&fleet, &groups, answers, at, dice, log);
        }
        let mut answers: Vec<Answer> = answers.into_iter().map(|(_, answer)| answer).collect();
        if risky && dice.one_in(120) {
            log.fault("coordinator killed before its commit", 0);
            return Turned::Died { given: Vec::new(), lost: answers };
        }
        groups.iter().for_each(|group| self.store.take(group));
        if risky && dice.one_in(120) {
            log.fault("coordinator killed after its commit", 0);
            let lost = answers.split_off(dice.below(answers.len() + 1));
            return Turned::Died { given: answers, lost };
        }
        if !groups.is_empty() {
            ours::c_a_restart_changes_nothing(&fleet, &self.replayed(at), law);
        }
        let died = self.let_out(fleet, &groups, at, dice, law, log);
        // Events are stored last, and only if the store takes them.
        if !(self.faulty && dice.one_in(20)) {
            self.store.take(&news);
        }
        if died { Turned::Died { given: answers, lost: Vec::new() } } else { Turned::Done(answers) }
    }

    /// Says whether the process died in the middle of it.
    fn let_out(
        &mut self,
        mut fleet: Fleet,
        groups: &[Vec<Write>],
        at: Duration,
        dice: &mut Dice,
        law: &mut Law,
        log: &mut Log,
    ) -> bool {
        for write in groups.iter().flatten() {
            match (&write.key, &write.record) {
                (_, Some(Record::Node(node))) if node.standing != NodeStanding::Active => {
                    self.deregister(node.uid);
                }
                (RecordKey::Hold, None) => self.tell_who_was_removed(&fleet),
                (RecordKey::Node(uid), None) => {
                    if let Some(session) = self.sessions.get_mut(uid) {
                        session.end = Some(Down::End { unknown: true });
                    }
                }
                _ => {}
            }
        }
        let orders = fleet.take_orders();
        if !orders.is_empty() {
            let replayed = self.replayed(at);
            for (node, order) in orders {
                if self.faulty && dice.one_in(300) {
                    log.fault("coordinator killed between orders", 0);
                    return true;
                }
                ours::c_orders_follow_the_store(node, &order, &replayed, law);
                self.handed.c_generations_never_fall(node, &order.stamp, law);
                self.handed.c_one_content_per_generation(node, &order.stamp, law);
                log.say(&[2, order.stamp.generation.0, order.assignment.len() as u64], || {
                    format!("order for {node}: {}", tell(&order.stamp))
                });
                if let Some(session) = self.sessions.get_mut(&node)
                    && !session.deregistered
                {
                    session.order = Some(order);
                }
            }
        }
        let changes = fleet.take_changes();
        self.watcher.c_watchers_miss_nothing(&fleet, &changes, law);
        ours::check_fleet(&fleet, law);
        self.fleet = Some(fleet);
        false
    }

    /// What the store has counts: the same reign goes on, and what agents said stays true.
    fn start_over(
        &mut self,
        former: &Fleet,
        groups: &[Vec<Write>],
        answers: Vec<(usize, Answer)>,
        at: Duration,
        dice: &mut Dice,
        log: &mut Log,
    ) -> Turned {
        let stored = dice.below(groups.len() + 1);
        // What is told to be not stored may be stored all the same.
        let told = dice.below(stored + 1);
        log.fault("commit failed", stored);
        groups[..stored].iter().for_each(|group| self.store.take(group));
        let mut fleet = self.replayed(at);
        let lost = fleet.succeed(former.clone());
        self.heard.retain(|node, _| !lost.contains(node));
        if fleet.hold().is_none() {
            self.tell_who_was_removed(&fleet);
        }
        for (node, session) in &mut self.sessions {
            if fleet.standing(*node).is_none() {
                session.end = Some(Down::End { unknown: true });
            }
        }
        self.watcher.begin_anew();
        self.fleet = Some(fleet);
        let answers = answers.into_iter().map(|(needs, answer)| Answer {
            outcome: answer.outcome.filter(|_| needs <= told),
            ..answer
        });
        Turned::StartedOver(answers.collect(), lost)
    }

    /// Orders are given again: those that called meanwhile and were removed before hear it now.
    fn tell_who_was_removed(&mut self, fleet: &Fleet) {
        let nodes: Vec<NodeUid> = self.sessions.keys().copied().collect();
        for node in nodes {
            if fleet.standing(node).is_some_and(|it| it != NodeStanding::Active) {
                self.deregister(node);
            }
        }
    }

    /// Tells a node, once, that it was removed.
    pub(crate) fn deregister(&mut self, node: NodeUid) {
        if let Some(session) = self.sessions.get_mut(&node) {
            session.order = None;
            if !std::mem::replace(&mut session.deregistered, true) {
                session.control.push_back(Down::Deregister);
            }
        }
    }
}

/// A stamp in a few words.
pub(crate) fn tell(stamp: &Stamp) -> String {
    format!("term {} generation {} {:?}", stamp.term, stamp.generation, stamp.digest)
}

/// Whose sign of life this may be.
fn told_by(observation: &Observation) -> Option<NodeUid> {
    match observation {
        Observation::Connected { node, .. }
        | Observation::Answered { node, .. }
        | Observation::Disconnected { node, .. }
        | Observation::Conditions { node, .. }
        | Observation::Status { node, .. } => Some(*node),
        _ => None,
    }
}
