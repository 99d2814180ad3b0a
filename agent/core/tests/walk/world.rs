//! A node, a pretended machine under it and a pretended coordinator above it.

use std::collections::BTreeMap;
use std::time::Duration;

use everynode_agent_core::check::Checker;
use everynode_agent_core::ledger::formers;
use everynode_agent_core::{
    Action, Event, HoldChange, Ledger, Marks, Node, Policy, Scope, Standing, StorageLimits,
};
use everynode_model::{
    Assignment, ClusterId, Digest, Generation, Intent, Item, NodeUid, Now, PodKey, PodStatus,
    PodUid, Reason, ReignId, SessionNonce, SetUid, Stamp, Surge, Term, Timestamp, WallTime,
};
use uuid::Uuid;

use crate::machine::{Body, MOST_ON_DISK, Machine, Proc};
use crate::rng::Rng;

pub type Outcome = Result<(), String>;

pub struct World {
    rng: Rng,
    now: Now,
    pub node: Node,
    checker: Checker,
    pub machine: Machine,
    pub disk: Ledger,
    writing: Option<Ledger>,
    /// Who the machine is and was, as its identity has it: that is written first.
    identity: (Marks, Vec<Marks>),
    /// Whether it was taken elsewhere since the last write that knew of it.
    away: bool,
    /// Whether what is being written was handed out before that.
    is_former: bool,
    looked: bool,
    pub wiped: bool,
    next_id: u128,
    sent: Vec<Event>,
    term: u64,
    generation: u64,
    /// Which DaemonSets are ordered: every coordinator has its own.
    sets: u128,
    /// What the dirty marks let an observer know.
    pub reported: BTreeMap<PodKey, Vec<PodStatus>>,
    /// The highest (restarts, times unready) said of a pod.
    counted: BTreeMap<PodUid, (u64, u64)>,
    pub log: Option<Vec<String>>,
}

const fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn revision(n: usize) -> Digest {
    Digest::of(&[u8::try_from(n).unwrap_or(0)])
}

pub fn key(n: usize) -> PodKey {
    PodKey::new("default", ["a", "b", "c"][n % 3]).unwrap()
}

const OURS: Marks = Marks { cluster: ClusterId::new(id(1)), node: NodeUid::new(id(2)) };

impl World {
    pub fn new(seed: u64) -> Self {
        let ledger = Ledger::joined(OURS.cluster, OURS.node);
        let mut world = Self {
            rng: Rng::new(seed),
            now: Now {
                steady: Timestamp::from_start(Duration::from_secs(1)),
                wall: WallTime::default(),
            },
            node: Node::new(ledger.clone(), Policy::default()),
            checker: Checker::new(&ledger),
            machine: Machine::new(OURS, revision(2)),
            disk: ledger,
            writing: None,
            identity: (OURS, Vec::new()),
            away: false,
            is_former: false,
            looked: false,
            wiped: false,
            next_id: 1000,
            sent: Vec::new(),
            term: 1,
            generation: 0,
            sets: 0,
            reported: BTreeMap::new(),
            counted: BTreeMap::new(),
            log: None,
        };
        world.know_stages();
        world.seed_the_machine();
        world
    }

    /// A time of faults, then a calm in which all must come right.
    pub fn run(&mut self, steps: usize) -> Outcome {
        for _ in 0..steps {
            if self.wiped {
                break;
            }
            self.stormy_step()?;
        }
        self.calm()
    }

    fn stormy_step(&mut self) -> Outcome {
        self.pass_time();
        match self.rng.below(25) {
            0..6 => self.machine.work(&mut self.rng, self.now),
            6..12 => self.hear(),
            12..15 => {
                self.machine.stir(&mut self.rng, self.now);
                Ok(())
            }
            15..17 => self.settle_write(true),
            17 | 18 => self.wake(),
            19 => self.order(),
            20 => self.repeat_order(),
            21 => self.bad_order(),
            22 if !self.looked => self.look(),
            22 => self.rare(),
            23 if self.rng.one_in(4) => self.hold(),
            _ => self.apply(Event::Woke),
        }
    }

    fn rare(&mut self) -> Outcome {
        match self.rng.below(40) {
            0..6 => self.restart_agent(),
            6 => self.apply(Event::Deregistered),
            7 => self.apply(Event::LeaveRequested),
            8..12 => self.welcome(),
            12 => self.apply(Event::DepartureConfirmed),
            14 => self.apply(Event::GoingDown),
            15 | 16 => self.rejoin(),
            13 => {
                self.term += 1;
                self.generation = 0;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Somebody at the machine wants something held or released.
    fn hold(&mut self) -> Outcome {
        let rng = &mut self.rng;
        let scope = if rng.one_in(4) { Scope::Node } else { Scope::Place(key(rng.below(3))) };
        let change = match rng.below(3) {
            0 => HoldChange::Release(scope),
            _ => HoldChange::Hold {
                scope,
                stop: rng.one_in(3),
                by: "somebody".into(),
                reason: String::new(),
                lasting: rng.one_in(2).then(|| Duration::from_secs(30)),
            },
        };
        self.ask(change)
    }

    fn ask(&mut self, change: HoldChange) -> Outcome {
        self.next_id += 1;
        let request = u64::try_from(self.next_id).unwrap_or(u64::MAX);
        self.apply(Event::HoldRequested { request, change })
    }

    fn calm(&mut self) -> Outcome {
        self.machine.faulty = false;
        if !self.looked {
            self.look()?;
        }
        self.settle_write(false)?;
        if self.rng.one_in(2) {
            self.ask(HoldChange::Release(Scope::Node))?;
        }
        self.order()?;
        self.come_right()?;
        if self.node.is_going_down() && !self.wiped {
            // All was stopped; the next boot brings it back.
            self.restart_agent()?;
            self.look()?;
            self.come_right()?;
        }
        self.observers_know_all()
    }

    fn come_right(&mut self) -> Outcome {
        // Enough for every back-off in a row to run out; a healthy node needs some hundred.
        for turn in 0..3000 {
            if self.wiped {
                break;
            }
            self.machine.work(&mut self.rng, self.now)?;
            self.machine.stir(&mut self.rng, self.now);
            self.hear()?;
            self.settle_write(false)?;
            let left = self.node.standing() != Standing::Active;
            if left && turn % 50 == 0 {
                self.welcome()?;
            }
            if self.machine.idle() && self.writing.is_none() && turn % 3 == 0 {
                self.wake()?;
                if self.converged().is_ok() {
                    break;
                }
            }
        }
        self.converged()
    }

    fn pass_time(&mut self) {
        let millis = [0, 10, 500, 3000, 20_000][self.rng.below(5)];
        self.set_time(self.now.steady.after(Duration::from_millis(millis)));
    }

    fn set_time(&mut self, at: Timestamp) {
        let millis = i64::try_from(at.since_start().as_millis()).unwrap_or(i64::MAX);
        self.now =
            Now { steady: at.max(self.now.steady), wall: WallTime::from_unix_millis(millis) };
    }

    /// Sleeps as long as the node asks for, no longer. It must not ask for the past again.
    fn wake(&mut self) -> Outcome {
        let Some(at) = self.node.wake_at() else { return Ok(()) };
        self.set_time(at);
        self.apply(Event::Woke)?;
        match self.node.wake_at() {
            Some(again) if again <= self.now.steady => Err(format!("woken in vain at {at}")),
            _ => Ok(()),
        }
    }

    fn hear(&mut self) -> Outcome {
        match self.machine.hear(&mut self.rng) {
            // Words are heard by an agent that has looked; before that they are part of the look.
            Some(word) if self.looked => self.apply(word),
            _ => Ok(()),
        }
    }

    fn look(&mut self) -> Outcome {
        self.machine.agent_died();
        self.looked = true;
        self.apply(Event::Looked(self.machine.look(self.now)))
    }

    fn welcome(&mut self) -> Outcome {
        self.next_id += 1;
        self.apply(Event::Welcomed(SessionNonce::new(id(self.next_id))))
    }

    fn restart_agent(&mut self) -> Outcome {
        self.note("the agent is killed");
        if let Some(ledger) = self.writing.take()
            && self.rng.one_in(2)
        {
            self.write(ledger)?;
        }
        self.machine.agent_died();
        let (whose, formers) = self.identity.clone();
        if self.disk.marks() != whose {
            self.disk = self.disk.clone().rejoined(whose);
        }
        self.disk.formers = formers;
        self.node = Node::new(self.disk.clone(), Policy::default());
        self.checker = Checker::new(&self.disk);
        self.know_stages();
        self.looked = false;
        self.reported.clear();
        // What probes said is known to the agent that has asked.
        self.counted.values_mut().for_each(|(_, unready)| *unready = 0);
        Ok(())
    }

    fn know_stages(&mut self) {
        self.node.know_stages([revision(1), revision(2), revision(4)]);
        self.checker.know_stages([revision(1), revision(2), revision(4)]);
        let alike = [0, 3, 4].map(|n| (revision(n), revision(9)));
        self.node.know_alike(alike);
        self.checker.know_alike(alike);
        // What differs in what it may have on disk is not alike.
        let limited = StorageLimits { pod: Some(MOST_ON_DISK), ..StorageLimits::default() };
        let limited = [0, 3, 4].map(|n| (revision(n), limited.clone()));
        self.node.know_storage(limited.clone());
        self.checker.know_storage(limited);
    }

    /// The machine is taken to another coordinator, which may be one that it was of before; while
    /// its agent runs, or before it is started anew.
    fn rejoin(&mut self) -> Outcome {
        let number = u128::try_from(self.rng.below(4)).unwrap_or(0);
        let to = match number {
            0 => OURS,
            _ => Marks { cluster: ClusterId::new(id(200 + number)), node: NodeUid::new(id(2)) },
        };
        if to == self.identity.0 || self.node.standing() == Standing::Left {
            return Ok(());
        }
        let (last, earlier) = self.identity.clone();
        self.identity = (to, formers(&earlier, last, to));
        self.away = true;
        self.is_former = self.writing.is_some();
        self.machine.clusters.insert(to.cluster);
        self.machine.ours = to;
        // No order of the former one is heard of any more.
        self.sent.clear();
        self.sets += 2;
        if self.rng.one_in(3) {
            return self.restart_agent();
        }
        self.apply(Event::Rejoined(to))
    }

    fn settle_write(&mut self, may_fail: bool) -> Outcome {
        let Some(ledger) = self.writing.take() else { return Ok(()) };
        if may_fail && self.rng.one_in(4) {
            return self.apply(Event::PersistFailed(Reason::new("ENOSPC", "pretended")));
        }
        self.write(ledger)?;
        self.apply(Event::Persisted)
    }

    fn write(&mut self, ledger: Ledger) -> Outcome {
        let place = |ledger: &Ledger| ledger.accepted.map(|it| (it.term, it.generation));
        // Taken away and back again: the former order is nobody's, whatever the disk has.
        let away = self.away;
        self.away = away && self.is_former;
        if !away && ledger.marks() == self.disk.marks() && place(&ledger) < place(&self.disk) {
            return Err("the accepted order went back on disk".into());
        }
        self.disk = ledger;
        Ok(())
    }

    fn order(&mut self) -> Outcome {
        self.generation += 1;
        let items: Vec<Item> = (0..3).filter_map(|n| self.item(n)).collect();
        let assignment = Assignment::new(items);
        let runtimes = assignment.items().map(|item| {
            let runtime = if item.revision == revision(1) { "cri" } else { "process" };
            (item.key.clone(), runtime.to_owned())
        });
        let runtimes = runtimes.collect();
        let order = Event::Ordered {
            stamp: self.stamp(&assignment),
            assignment,
            empty_is_meant: true,
            runtimes,
        };
        self.sent.push(order.clone());
        self.apply(order)
    }

    fn item(&mut self, n: usize) -> Option<Item> {
        let rng = &mut self.rng;
        let intent =
            [Intent::Run, Intent::Run, Intent::Run, Intent::Keep, Intent::Stop][rng.below(5)];
        (!rng.one_in(5)).then(|| Item {
            key: key(n),
            set: SetUid::new(id(10 + self.sets + u128::from(rng.one_in(4)))),
            revision: revision([0, 0, 1, 1, 2, 3, 3, 4][rng.below(8)]),
            replace: u64::from(rng.one_in(4)),
            intent,
            after: if rng.one_in(3) { vec![key(rng.below(3))] } else { Vec::new() },
            surge: rng
                .one_in(2)
                .then(|| Surge { min_ready: Duration::from_secs(3 * rng.below(3) as u64) }),
            labels: Default::default(),
        })
    }

    fn stamp(&self, assignment: &Assignment) -> Stamp {
        Stamp {
            cluster: self.identity.0.cluster,
            term: Term(self.term),
            reign: ReignId::new(id(u128::from(self.term))),
            generation: Generation(self.generation),
            digest: assignment.digest(),
        }
    }

    fn repeat_order(&mut self) -> Outcome {
        match self.rng.pick(&self.sent).cloned() {
            Some(order) => self.apply(order),
            None => Ok(()),
        }
    }

    /// An order that must be refused, whatever else is known.
    fn bad_order(&mut self) -> Outcome {
        let assignment = Assignment::new(self.item(0));
        let newest =
            Stamp { generation: Generation(self.generation + 1), ..self.stamp(&assignment) };
        let stamp = match self.rng.below(3) {
            0 => Stamp { cluster: ClusterId::new(id(99)), ..newest },
            1 => Stamp { generation: Generation(0), reign: ReignId::new(id(77)), ..newest },
            _ if assignment.is_empty() => newest,
            _ => return Ok(()),
        };
        self.apply(Event::Ordered {
            stamp,
            assignment,
            empty_is_meant: false,
            runtimes: Vec::new(),
        })
    }

    fn apply(&mut self, event: Event) -> Outcome {
        let next_id = &mut self.next_id;
        let mut ids = || {
            *next_id += 1;
            PodUid::new(id(*next_id))
        };
        let actions = self.node.apply(event.clone(), self.now, &mut ids);
        self.note(&format!("{} {event:?}\n      -> {actions:?}", self.now.steady));
        let broken = self.checker.check(&event, &actions, &self.node);
        if !broken.is_empty() {
            return Err(format!("{broken:?}"));
        }
        self.observe()?;
        if let Event::Resized { pod, revision } = &event {
            self.is_held_to(&pod.key, pod.uid, *revision)?;
        }
        for action in actions {
            self.carry_out(action)?;
        }
        Ok(())
    }

    fn carry_out(&mut self, action: Action) -> Outcome {
        match &action {
            Action::Persist(ledger) => {
                self.writing = Some((**ledger).clone());
                self.is_former = false;
            }
            Action::Create { pod, .. }
            | Action::Start { pod, .. }
            | Action::Resize { pod, .. }
            | Action::Terminate(pod)
            | Action::Close(pod)
            | Action::Stop { pod, .. }
            | Action::KillContainer { pod, .. }
            | Action::Probe { pod, .. }
            | Action::Hook { pod, .. }
            | Action::KillPod(pod)
            | Action::Remove(pod) => self.machine.order(&pod.key.clone(), action),
            Action::Kill(key) | Action::Stage { key, .. } => {
                self.machine.order(&key.clone(), action)
            }
            Action::ConfirmDeparture => {
                self.nothing_of_ours_lives()?;
                if !self.machine.faulty || self.rng.one_in(2) {
                    return self.apply(Event::DepartureConfirmed);
                }
            }
            Action::Wipe => {
                self.wiped = true;
                return self.nothing_of_ours_lives();
            }
            Action::Acknowledge { refused: None, stamp } if self.disk.accepted != Some(*stamp) => {
                return Err("acknowledged what is not on disk".into());
            }
            Action::Acknowledge { .. } | Action::Answer { .. } => {}
        }
        Ok(())
    }

    fn observe(&mut self) -> Outcome {
        for key in self.node.take_dirty() {
            self.reported.insert(key.clone(), self.statuses(&key));
        }
        for status in self.reported.values().flatten() {
            let said = (status.restarts, status.times_unready);
            let before = self.counted.entry(status.uid).or_insert(said);
            if said.0 < before.0 || said.1 < before.1 {
                return Err(format!("counts of {} fell from {before:?} to {said:?}", status.key));
            }
            *before = said;
        }
        Ok(())
    }

    /// What is said to be of a revision now is held to what that says.
    fn is_held_to(&self, key: &PodKey, pod: PodUid, to: Digest) -> Outcome {
        let said = self.node.statuses(key, self.now);
        let said = said.iter().any(|status| status.uid == pod && status.revision == to);
        let mut bodies = self.machine.bodies.get(key).into_iter().flatten();
        match bodies.find(|body| body.uid == Some(pod) && body.supervisor) {
            Some(body) if said && body.limits != Some(to) => {
                Err(format!("{key} is said to be of {to}, and is held to {:?}", body.limits))
            }
            _ => Ok(()),
        }
    }

    pub fn statuses(&self, key: &PodKey) -> Vec<PodStatus> {
        let mut statuses = self.node.statuses(key, self.now);
        statuses.iter_mut().for_each(|status| status.ready_for = Duration::ZERO);
        statuses
    }

    /// What an agent may find when it comes to a machine.
    fn seed_the_machine(&mut self) {
        let marks = [
            None,
            Some(OURS),
            Some(Marks { node: NodeUid::new(id(3)), ..OURS }),
            Some(Marks { node: NodeUid::new(id(3)), ..OURS }),
            Some(Marks { cluster: ClusterId::new(id(99)), ..OURS }),
        ];
        for n in 0..3 {
            for _ in 0..[0, 0, 0, 1, 1, 2][self.rng.below(6)] {
                let rng = &mut self.rng;
                self.next_id += 1;
                let body = Body {
                    uid: (!rng.one_in(5)).then(|| PodUid::new(id(self.next_id))),
                    marks: marks[rng.below(5)],
                    set: SetUid::new(id(10)),
                    revision: revision(0),
                    replace: 0,
                    supervisor: rng.one_in(2),
                    silent: rng.one_in(3),
                    terminating: false,
                    limits: Some(revision(0)),
                    stubborn: rng.one_in(2),
                    restarts: 0,
                    procs: [(
                        "main".to_owned(),
                        Proc { alive: !rng.one_in(3), runs: 1, ..Proc::default() },
                    )]
                    .into(),
                    lives: BTreeMap::new(),
                };
                self.machine.bodies.entry(key(n)).or_default().push(body);
            }
        }
    }

    fn note(&mut self, line: &str) {
        if let Some(log) = &mut self.log {
            log.push(line.to_owned());
        }
    }
}
