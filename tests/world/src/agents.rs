//! The agents' shell, as the real one is, and able to die between any two of its doings.

use everynode_agent_core::{Action, Departure, Event, Ledger, Marks, PodRef, Standing};
use everynode_model::{NodeUid, PodKey, PodUid, Reason, Stamp};
use std::time::Duration;
use uuid::Uuid;

use crate::desk::tell;
use crate::invariants::{self as ours, identity};
use crate::names::{CLUSTER, runtime_of};
use crate::seat::{Agent, OnDisk};
use crate::wire::{Down, Stream, Up};
use crate::world::World;

/// As the real shell's.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// The longest an agent waits here before it dials again.
const DIALS_WITHIN: usize = 8;
/// How many orders may be heard twice.
const REPEATABLE: usize = 3;
/// How many messages may be under way in one direction of a stream: fewer than anything waits for.
const UNDER_WAY: usize = 8;

impl World {
    /// The runtime does something that it was told to. Says whether there was anything.
    pub(crate) fn work(&mut self, seat: usize) -> bool {
        let now = self.seats[seat].now(self.at);
        self.seats[seat].machine.work(&mut self.dice, now)
    }

    /// Something happens on a machine by itself.
    pub(crate) fn stir(&mut self, seat: usize) {
        let now = self.seats[seat].now(self.at);
        self.seats[seat].machine.stir(&mut self.dice, now);
    }

    /// The agent hears of something that happened on its machine. Says whether it did.
    pub(crate) fn hear(&mut self, seat: usize) -> bool {
        if !self.begin(seat) {
            return false;
        }
        match self.seats[seat].machine.hear(&mut self.dice) {
            Some(word) => self.apply(seat, word),
            None => return false,
        }
        true
    }

    /// A write ends, or fails, or its process does. Says whether there was one.
    pub(crate) fn settle_disk(&mut self, seat: usize) -> bool {
        if !self.begin(seat) {
            return false;
        }
        let fails = self.seats[seat].disk_fails
            || (self.seats[seat].machine.faulty && self.dice.one_in(12));
        let Some(agent) = &mut self.seats[seat].agent else { return false };
        if let Some(ledger) = agent.writing.take() {
            if fails {
                self.log.fault("agent's disk fails", seat);
                self.apply(seat, Event::PersistFailed(Reason::new("ENOSPC", "pretended")));
            } else if !self.dies(seat, "agent killed before its ledger was written", 80) {
                self.write(seat, ledger);
                if !self.dies(seat, "agent killed after its ledger was written", 80) {
                    self.apply(seat, Event::Persisted);
                }
            }
            return true;
        }
        let Some(order) = agent.order.take() else { return false };
        if fails {
            let reason = Reason::new("LedgerNotWritten", "pretended");
            agent.outbox.acknowledge(order.stamp, Some(reason));
            agent.ask_again = Some(self.at + ASK_AGAIN);
            return true;
        }
        agent.heard.push(order.clone());
        if agent.heard.len() > REPEATABLE {
            agent.heard.remove(0);
        }
        let items = order.assignment.items();
        let runtimes = items.map(|item| (item.key.clone(), runtime_of(item.revision).to_owned()));
        let event = Event::Ordered {
            stamp: order.stamp,
            assignment: order.assignment.clone(),
            empty_is_meant: true,
            runtimes: runtimes.collect(),
        };
        self.apply(seat, event);
        true
    }

    /// Time passes for an agent.
    pub(crate) fn wake(&mut self, seat: usize) {
        if !self.begin(seat) {
            return;
        }
        let now = self.seats[seat].now(self.at).steady;
        let Some(agent) = &mut self.seats[seat].agent else { return };
        if agent.ask_again.is_some_and(|at| at <= self.at) {
            agent.ask_again = None;
            agent.outbox.resend = true;
        }
        if agent.node.wake_at().is_some_and(|at| at <= now) {
            self.apply(seat, Event::Woke);
        }
    }

    /// One event: the core decides, and what it decided is done, until the process dies.
    pub(crate) fn apply(&mut self, seat: usize, event: Event) {
        let now = self.seats[seat].now(self.at);
        let ids = &mut self.ids;
        let mut fresh = || {
            *ids += 1;
            PodUid::new(Uuid::from_u128(*ids))
        };
        let Some(agent) = &mut self.seats[seat].agent else { return };
        let actions = agent.node.apply(event.clone(), now, &mut fresh);
        self.steps += 1;
        self.log.say(&[3, seat as u64, actions.len() as u64, number_of(&event)], || {
            format!("node-{seat} {}\n{:16}-> {}", words(&event), "", told(&actions))
        });
        for broken in agent.checker.check(&event, &actions, &agent.node) {
            let detail = format!("node-{seat}: {broken:?} by {event:?}, {actions:?}");
            self.law.broke(name_of(&broken), detail);
        }
        for rule in CHECKED {
            self.law.holds(rule, true, String::new);
        }
        self.note(seat, &event);
        for action in actions {
            if self.seats[seat].agent.is_none() {
                return;
            }
            self.act(seat, action);
            self.dies(seat, "agent killed between two actions", 600);
        }
        let one = &mut self.seats[seat];
        let Some(agent) = &mut one.agent else { return };
        for key in agent.node.take_dirty() {
            let statuses = agent.node.statuses(&key, now);
            ours::p8_counts_never_fall(&mut one.counted, &statuses, &one.machine, &mut self.law);
            agent.outbox.places.insert(key, statuses);
        }
    }

    /// The coordinator has told an agent something.
    pub(crate) fn told(&mut self, seat: usize, down: Down) {
        let Some(agent) = &mut self.seats[seat].agent else { return };
        match down {
            Down::Welcome(nonce) => {
                self.apply(seat, Event::Welcomed(nonce));
                if let Some(agent) = &mut self.seats[seat].agent
                    && agent.node.standing() == Standing::Leaving(Departure::Requested)
                    && !agent.node.is_empty_here()
                {
                    agent.outbox.leave = Some(false);
                }
            }
            Down::Order(order) => {
                // By chance it may be what was forged before.
                let node = agent.node.ledger().node;
                self.hollow.retain(|forged| *forged != (node, order.stamp));
                agent.order = Some(order);
            }
            Down::Deregister => self.apply(seat, Event::Deregistered),
            Down::Farewell => self.apply(seat, Event::DepartureConfirmed),
            Down::End { unknown } => {
                let leaves = agent.node.standing() != Standing::Active;
                self.agent_hangs_up(seat);
                if unknown && leaves {
                    self.apply(seat, Event::DepartureConfirmed);
                }
            }
        }
    }

    /// An agent dials, or says the next thing that waits to be said. Says whether it did.
    pub(crate) fn agent_speaks(&mut self, seat: usize) -> bool {
        if !self.begin(seat) {
            return false;
        }
        let Some(agent) = &mut self.seats[seat].agent else { return false };
        let Some(id) = agent.stream else { return self.dial(seat) };
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        if stream.up.len() >= UNDER_WAY {
            return false;
        }
        let said = agent.outbox.next();
        let spoke = said.is_some();
        stream.up.extend(said);
        spoke
    }

    /// The next message of its stream reaches an agent, or the stream's end. Says whether it did.
    pub(crate) fn agent_hears(&mut self, seat: usize) -> bool {
        if !self.begin(seat) || !self.passes(seat) {
            return false;
        }
        let Some(id) = self.seats[seat].agent.as_ref().and_then(|agent| agent.stream) else {
            return false;
        };
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        let gone = !stream.desk_holds || stream.desk_life != self.desk.life;
        match stream.down.pop_front() {
            Some(down) => {
                self.told(seat, down);
                true
            }
            None if gone || self.desk.fleet.is_none() => {
                self.agent_hangs_up(seat);
                true
            }
            None => false,
        }
    }

    /// The agent's end of its stream is gone. What was under way to it may still come, later.
    pub(crate) fn agent_hangs_up(&mut self, seat: usize) {
        let wait = Duration::from_secs(self.dice.below(DIALS_WITHIN) as u64);
        let life = self.seats[seat].life;
        let Some(agent) = &mut self.seats[seat].agent else { return };
        let Some(id) = agent.stream.take() else { return };
        agent.dial_at = self.at + wait;
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.agent_holds = false;
        let late = stream.down.drain(..).filter(|down| !matches!(down, Down::End { .. }));
        if self.seats[seat].machine.faulty && self.dice.one_in(2) {
            // Of what was never taken in, the newest of each kind may be; these are more than that.
            self.late_down.extend(late.take(2).map(|down| (seat, life, down)));
        } else {
            drop(late);
        }
        self.drop_dead_streams();
    }

    /// The agent's process dies, for one time in `n`.
    pub(crate) fn dies(&mut self, seat: usize, kind: &'static str, n: usize) -> bool {
        let dies = self.seats[seat].machine.faulty && self.dice.one_in(n);
        if dies {
            self.log.fault(kind, seat);
            self.kill_agent(seat);
        }
        dies
    }

    /// The agent's process dies.
    pub(crate) fn kill_agent(&mut self, seat: usize) {
        self.agent_hangs_up(seat);
        self.seats[seat].crash();
    }

    /// Looks at the machine first, where the agent has just started. Says whether there is one that is
    /// awake.
    pub(crate) fn begin(&mut self, seat: usize) -> bool {
        let at = self.at;
        if !self.seats[seat].is_awake(at) {
            return false;
        }
        let Some(node) = self.seats[seat].identity else {
            self.join(seat);
            return false;
        };
        if self.seats[seat].rejoins {
            self.join(seat);
        }
        if self.seats[seat].agent.is_none() {
            let one = &mut self.seats[seat];
            one.machine.agent_died();
            let found = one.machine.look(one.now(at));
            let ledger = one.ledger_of(node, &found);
            one.agent = Some(Agent::new(ledger, at));
            // Whatever comes before, nothing may come of it.
            self.apply(seat, Event::Woke);
            self.apply(seat, Event::Looked(found));
        }
        self.seats[seat].agent.is_some()
    }

    fn dial(&mut self, seat: usize) -> bool {
        let (at, passes) = (self.at, self.passes(seat));
        let Some(node) = self.seats[seat].identity else { return false };
        let now = self.seats[seat].now(at);
        let life = self.seats[seat].life;
        let wait = Duration::from_secs(1 + self.dice.below(DIALS_WITHIN) as u64);
        let desk = self.desk.fleet.as_ref().map(|_| self.desk.life);
        let Some(agent) = &mut self.seats[seat].agent else { return false };
        if agent.dial_at > at {
            return false;
        }
        let Some(desk_life) = desk.filter(|_| passes) else {
            agent.dial_at = at + wait;
            return false;
        };
        // Hello says it all.
        agent.outbox = crate::seat::Outbox::default();
        let hello = Up::Hello(Box::new(agent.hello(seat, now)));
        self.ids += 1;
        let id = u64::try_from(self.ids).unwrap_or(u64::MAX);
        agent.stream = Some(id);
        let stream = Stream {
            seat,
            life,
            node,
            desk_life,
            session: None,
            up: [hello].into(),
            down: std::collections::VecDeque::new(),
            agent_holds: true,
            desk_holds: true,
        };
        self.streams.insert(id, stream);
        true
    }

    fn act(&mut self, seat: usize, action: Action) {
        let at = self.at;
        self.look_at(seat, &action);
        let one = &mut self.seats[seat];
        let Some(node) = one.identity else { return };
        let marks = Marks { cluster: CLUSTER, node };
        let Some(agent) = &mut one.agent else { return };
        match action {
            Action::Persist(ledger) => agent.writing = Some(ledger),
            Action::Acknowledge { stamp, refused } => {
                if refused.as_ref().is_some_and(|reason| reason.code == "LedgerNotWritten") {
                    agent.ask_again = Some(at + ASK_AGAIN);
                }
                agent.outbox.acknowledge(stamp, refused);
            }
            Action::Create { ref pod, .. }
            | Action::Start { ref pod, .. }
            | Action::Resize { ref pod, .. }
            | Action::Terminate(ref pod)
            | Action::Close(ref pod)
            | Action::Stop { ref pod, .. }
            | Action::KillContainer { ref pod, .. }
            | Action::Probe { ref pod, .. }
            | Action::Hook { ref pod, .. }
            | Action::KillPod(ref pod)
            | Action::Remove(ref pod) => {
                let key = pod.key.clone();
                one.machine.order(&key, marks, action);
            }
            Action::Kill(ref key) | Action::Stage { ref key, .. } => {
                let key = key.clone();
                one.machine.order(&key, marks, action);
            }
            // Whoever asked looks at the ledger, as the checker does.
            Action::Answer { .. } => {}
            Action::ConfirmDeparture => agent.outbox.leave = Some(true),
            Action::Wipe => self.wipe(seat),
        }
    }

    /// The machine has left: its identity and ledger are gone, and its agent waits for a token.
    fn wipe(&mut self, seat: usize) {
        ours::p4_wiped_is_empty(&self.seats[seat].machine, &mut self.law);
        self.log.say(&[4, seat as u64], || format!("node-{seat} has left"));
        self.agent_hangs_up(seat);
        self.ids += 1;
        let key = u64::try_from(self.ids).unwrap_or(u64::MAX);
        let one = &mut self.seats[seat];
        let token = one.token.take();
        one.lose_data(key);
        one.token = token;
        one.agent = None;
        // Who comes after it hears nothing of what was said to it.
        one.life += 1;
        one.joining = false;
        one.machine.agent_died();
    }

    /// Looks at what an agent is about to do.
    fn look_at(&mut self, seat: usize, action: &Action) {
        let one = &mut self.seats[seat];
        let Some(agent) = &mut one.agent else { return };
        if let Action::Create { pod, set, revision, replace, .. } = action {
            if let OnDisk::Ledger(disk) = &one.ledger {
                ours::p5_acts_only_on_what_is_written(action, disk, &mut self.law);
            }
            let made = (*set, *revision, *replace);
            let refused = agent.unfit.get(&pod.key);
            ours::p9_what_cannot_be_honoured_is_left(pod, made, refused, &mut self.law);
            agent.made.insert(pod.key.clone(), (pod.uid, made));
        }
        let (key, only): (&PodKey, Option<PodUid>) = match action {
            Action::Terminate(pod) | Action::KillPod(pod) => (&pod.key, Some(pod.uid)),
            Action::Kill(key) => (key, None),
            _ => return,
        };
        let stays = agent.node.standing() == Standing::Active && !agent.node.is_going_down();
        let disk: &Ledger = agent.node.ledger();
        let alone = one.machine.alive_in(key).count() == 1;
        let bodies = one.machine.alive_in(key).filter(|body| only.is_none_or(|it| it == body.uid));
        for body in bodies {
            let pod = PodRef { key: key.clone(), uid: body.uid };
            if !agent.stopping.contains(&pod) {
                let how = (stays, alone);
                ours::p3_what_fits_is_left_alone(key, Some(body), disk, how, &mut self.law);
                agent.stopping.insert(pod);
            }
        }
    }

    /// Keeps track of what could not be honoured, until something else is wanted.
    fn note(&mut self, seat: usize, event: &Event) {
        let Some(agent) = &mut self.seats[seat].agent else { return };
        if let Event::CreateFailed { pod, retry: false, .. } = event
            && let Some((uid, made)) = agent.made.get(&pod.key)
            && *uid == pod.uid
        {
            agent.unfit.insert(pod.key.clone(), *made);
        }
        let disk = agent.node.ledger();
        agent.unfit.retain(|key, made| ours::to_run(disk, key).map(identity) == Some(*made));
    }

    /// The ledger is on the disk from now on.
    fn write(&mut self, seat: usize, ledger: Box<Ledger>) {
        let one = &mut self.seats[seat];
        if let Some(agent) = &one.agent {
            let former = match &one.ledger {
                OnDisk::Ledger(former) if former.node == ledger.node => former,
                _ => agent.node.ledger(),
            };
            ours::p5_accepted_never_falls(former, &ledger, &mut self.law);
            ours::p5_one_content_per_order(former, &ledger, &mut self.law);
            ours::p5_empty_only_when_meant(former, &ledger, &self.hollow, &mut self.law);
        }
        ours::p5_only_its_own_clusters(&ledger, &mut self.law);
        ours::p4_only_the_removed_leave(&ledger, &self.account, &mut self.law);
        self.log.say(&[5, seat as u64], || {
            let accepted = ledger.accepted.as_ref().map(tell).unwrap_or_default();
            format!("node-{seat} has on disk: {:?}, {accepted}", ledger.standing)
        });
        one.ledger = OnDisk::Ledger(ledger);
    }
}

/// The agent core's own invariants: `check.rs` there.
pub(crate) const CHECKED: [&str; 32] = [
    "AnsweredUnwritten",
    "StoppedThoughOrdered",
    "StoppedWhileHeld",
    "StoppedWithoutOrder",
    "CreatedInUnprovenPlace",
    "MadeBesideOthers",
    "StoppedForUnstaged",
    "MadeUnstaged",
    "ResizedAmiss",
    "ReplacedForLimits",
    "DoubtForgotten",
    "CreatedTwice",
    "StartedWhatIsNotDown",
    "OutlivedItsLimit",
    "EvictedWithinLimits",
    "StartedOutOfTurn",
    "StartedWhileEnding",
    "EndedOutOfTurn",
    "TriedInVain",
    "ReadyOrNot",
    "StartedWhileLeaving",
    "StartedWhileGoingDown",
    "StartedBeforeLooking",
    "StartedUnordered",
    "OrderWentBack",
    "AcknowledgedUnwritten",
    "WroteTwiceAtOnce",
    "TouchedForeign",
    "DepartedTooEarly",
    "Unexplained",
    "Stuck",
    "OutOfOrder",
];

fn name_of(violation: &everynode_agent_core::check::Violation) -> &'static str {
    let shown = format!("{violation:?}");
    let name = shown.split(['(', ' ', '{']).next().unwrap_or_default();
    CHECKED.into_iter().find(|known| *known == name).unwrap_or("another of the agent core's own")
}

/// Enough of an event to tell it from others, for the log's digest.
fn number_of(event: &Event) -> u64 {
    let stamp = |stamp: &Stamp| stamp.term.0 << 32 | stamp.generation.0;
    match event {
        Event::Looked(found) => 100 + found.len() as u64,
        Event::Ordered { stamp: it, .. } => stamp(it),
        Event::Welcomed(nonce) => low(nonce.uuid()),
        Event::Created { pod, .. } | Event::SupervisorLost(pod) => low(pod.uid.uuid()),
        Event::CreateFailed { pod, .. } | Event::StartFailed { pod, .. } => low(pod.uid.uuid()) + 1,
        Event::Started { pod, .. } | Event::Exited { pod, .. } => low(pod.uid.uuid()) + 2,
        Event::Deregistered => 1,
        Event::LeaveRequested => 2,
        Event::DepartureConfirmed => 3,
        Event::Persisted => 4,
        Event::PersistFailed(_) => 5,
        Event::Woke => 6,
        Event::GoingDown => 7,
        _ => 8,
    }
}

fn low(id: Uuid) -> u64 {
    u64::try_from(id.as_u128() & u128::from(u64::MAX)).unwrap_or(0)
}

fn words(event: &Event) -> String {
    match event {
        Event::Ordered { stamp, assignment, .. } => {
            format!("Ordered {} {:?}", tell(stamp), assignment.items().collect::<Vec<_>>())
        }
        other => format!("{other:?}"),
    }
}

fn told(actions: &[Action]) -> String {
    let one = |action: &Action| match action {
        Action::Persist(ledger) => {
            format!("Persist {:?} {:?}", ledger.standing, ledger.accepted.as_ref().map(tell))
        }
        other => format!("{other:?}"),
    };
    actions.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// A node's identity, in the words of the log.
pub(crate) fn called(node: Option<NodeUid>) -> String {
    node.map_or_else(|| "nobody".into(), |node| node.to_string())
}
