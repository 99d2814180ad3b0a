//! A machine's seat in the world: its disk, its host, and its agent while that lives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use everynode_agent_core::check::Checker;
use everynode_agent_core::{Found, Ledger, Marks, Node, PodRef};
use everynode_coordinator_core::{Hello, Order};
use everynode_model::{
    Assignment, Digest, Intent, Item, NodeUid, Now, PodKey, PodStatus, PodUid, Reason,
    SURGE_FEATURE, SetUid, Stamp, Timestamp, WallTime,
};

use crate::invariants::Identity;
use crate::machine::{Body, Machine};
use crate::names::{CLUSTER, alike_bodies, limited_bodies, policy, runtime_of, staged_bodies};
use crate::wire::Up;

/// See the module.
pub(crate) struct Seat {
    pub(crate) machine: Machine,
    /// Its private key, by number; another when its data is lost.
    pub(crate) key: u64,
    pub(crate) token: Option<Token>,
    /// Who it is, once it has joined.
    pub(crate) identity: Option<NodeUid>,
    /// Who it was before it was taken to its coordinator again, as its identity file says.
    pub(crate) formers: Vec<Marks>,
    /// Somebody takes it there again, with the token that it has.
    pub(crate) rejoins: bool,
    pub(crate) ledger: OnDisk,
    pub(crate) disk_fails: bool,
    /// Whether the agent's process runs.
    pub(crate) up: bool,
    /// Counts its processes.
    pub(crate) life: u64,
    pub(crate) agent: Option<Agent>,
    /// Whether an answer to its wish to join is awaited.
    pub(crate) joining: bool,
    /// Whether nothing passes between it and the coordinator, and since when.
    pub(crate) cut: Option<Duration>,
    pub(crate) frozen_until: Duration,
    pub(crate) booted: Duration,
    /// By how many ms its wall clock is wrong.
    pub(crate) skew: i64,
    /// What was said of each pod: how often it was restarted, and how often unready.
    pub(crate) counted: BTreeMap<PodUid, (u64, u64)>,
}

/// What a machine joins with.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) id: String,
    pub(crate) secret: Digest,
}

/// A ledger as it lies on a disk.
#[derive(Clone, Debug)]
pub(crate) enum OnDisk {
    Nothing,
    Ledger(Box<Ledger>),
    /// Both copies are damaged.
    Damaged,
}

/// An agent's process: its core, and what its shell holds.
pub(crate) struct Agent {
    pub(crate) node: Node,
    pub(crate) checker: Checker,
    /// A ledger on its way to the disk.
    pub(crate) writing: Option<Box<Ledger>>,
    /// An order whose bodies are on their way to the disk.
    pub(crate) order: Option<Arc<Order>>,
    pub(crate) outbox: Outbox,
    pub(crate) stream: Option<u64>,
    pub(crate) dial_at: Duration,
    /// When the whole assignment is asked for again, after one that could not be written.
    pub(crate) ask_again: Option<Duration>,
    /// Pods whose stop has begun.
    pub(crate) stopping: BTreeSet<PodRef>,
    /// What was made last in each place, and what of that could not be honoured.
    pub(crate) made: BTreeMap<PodKey, (PodUid, Identity)>,
    pub(crate) unfit: BTreeMap<PodKey, Identity>,
    /// Orders it has heard.
    pub(crate) heard: Vec<Arc<Order>>,
}

/// What waits to be told: the newest of each kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox {
    accepted: Option<Stamp>,
    refused: Option<(Stamp, Reason)>,
    pub(crate) resend: bool,
    pub(crate) places: BTreeMap<PodKey, Vec<PodStatus>>,
    pub(crate) leave: Option<bool>,
}

impl Outbox {
    /// Answers an order.
    pub(crate) fn acknowledge(&mut self, stamp: Stamp, refused: Option<Reason>) {
        match refused {
            Some(reason) => self.refused = Some((stamp, reason)),
            None => {
                self.refused.take_if(|(refused, _)| *refused == stamp);
                self.accepted = Some(stamp);
            }
        }
    }

    /// The next thing to say.
    pub(crate) fn next(&mut self) -> Option<Up> {
        if let Some(stamp) = self.accepted.take() {
            return Some(Up::Ack(stamp, None));
        }
        if let Some((stamp, reason)) = self.refused.take() {
            return Some(Up::Ack(stamp, Some(reason)));
        }
        if std::mem::take(&mut self.resend) {
            return Some(Up::Resend);
        }
        if !self.places.is_empty() {
            return Some(Up::Status(std::mem::take(&mut self.places).into_iter().collect()));
        }
        self.leave.take().map(|empty| Up::Leave { empty })
    }
}

impl Seat {
    /// A machine that has just been switched on and belongs to nothing.
    pub(crate) fn new(key: u64, at: Duration) -> Self {
        Self {
            machine: Machine::new(),
            key,
            token: None,
            identity: None,
            formers: Vec::new(),
            rejoins: false,
            ledger: OnDisk::Nothing,
            disk_fails: false,
            up: true,
            life: 0,
            agent: None,
            joining: false,
            cut: None,
            frozen_until: Duration::ZERO,
            booted: at,
            skew: 0,
            counted: BTreeMap::new(),
        }
    }

    /// Its clocks.
    pub(crate) fn now(&self, at: Duration) -> Now {
        let wall = i64::try_from(at.as_millis()).unwrap_or(i64::MAX).saturating_add(self.skew);
        Now {
            steady: Timestamp::from_start(at.saturating_sub(self.booted) + Duration::from_secs(1)),
            wall: WallTime::from_unix_millis(wall),
        }
    }

    /// Whether the agent's process runs, and does not stand still.
    pub(crate) fn is_awake(&self, at: Duration) -> bool {
        self.up && self.frozen_until <= at
    }

    /// The agent's process is gone.
    pub(crate) fn crash(&mut self) {
        self.agent = None;
        self.up = false;
        self.joining = false;
        self.frozen_until = Duration::ZERO;
        self.machine.agent_died();
    }

    /// It starts, if it is down.
    pub(crate) fn start(&mut self) {
        if !self.up {
            self.up = true;
            self.life += 1;
        }
    }

    /// Whether what bears these marks is a pod of the machine as this node.
    pub(crate) fn is_its_own(&self, node: NodeUid, marks: Marks) -> bool {
        marks.node == node || self.formers.contains(&marks)
    }

    /// The DaemonSet whose pod this is, as its agent counts it.
    pub(crate) fn counts_as(&self, key: &PodKey, body: &Body) -> SetUid {
        let ledger = self.agent.as_ref().map(|agent| agent.node.ledger());
        ledger.map_or(body.set, |ledger| ledger.counts_as(key, body.set, body.replace).0)
    }

    /// The data directory is lost; what runs, runs.
    pub(crate) fn lose_data(&mut self, key: u64) {
        self.key = key;
        self.token = None;
        self.identity = None;
        self.formers.clear();
        self.rejoins = false;
        self.ledger = OnDisk::Nothing;
    }

    /// The ledger to begin with, as the real shell chooses it: what is on disk if it is this node's;
    /// where that is damaged, what runs is kept as it is.
    pub(crate) fn ledger_of(&self, node: NodeUid, found: &[Found]) -> Ledger {
        let formers = self.formers.clone();
        let new = Ledger { formers, ..Ledger::joined(CLUSTER, node) };
        match &self.ledger {
            OnDisk::Ledger(ledger) if ledger.node == node => {
                Ledger { formers: new.formers, ..Ledger::clone(ledger) }
            }
            OnDisk::Ledger(ledger) if self.formers.contains(&ledger.marks()) => {
                Ledger::clone(ledger).rejoined(new.marks())
            }
            OnDisk::Ledger(_) | OnDisk::Nothing => new,
            OnDisk::Damaged => kept_as_found(new, found),
        }
    }
}

impl Agent {
    pub(crate) fn new(ledger: Ledger, at: Duration) -> Self {
        let mut checker = Checker::new(&ledger);
        checker.know_stages(staged_bodies());
        checker.know_storage(limited_bodies());
        checker.know_alike(alike_bodies());
        let mut node = Node::new(ledger.clone(), policy());
        let runtime = |item: &Item| (item.revision, runtime_of(item.revision).to_owned());
        node.know_runtimes(
            ledger.assignment.items().chain(ledger.holds.kept.values()).map(runtime),
        );
        node.know_stages(staged_bodies());
        node.know_storage(limited_bodies());
        node.know_alike(alike_bodies());
        Self {
            node,
            checker,
            writing: None,
            order: None,
            outbox: Outbox::default(),
            stream: None,
            dial_at: at,
            ask_again: None,
            stopping: BTreeSet::new(),
            made: BTreeMap::new(),
            unfit: BTreeMap::new(),
            heard: Vec::new(),
        }
    }

    /// What it says first.
    pub(crate) fn hello(&self, seat: usize, now: Now) -> Hello {
        let place = |key: &PodKey| (key.clone(), self.node.statuses(key, now));
        Hello {
            machine_id: format!("machine-{seat}"),
            boot_id: String::new(),
            agent_version: String::new(),
            features: BTreeSet::from([SURGE_FEATURE.to_owned()]),
            facts: BTreeMap::new(),
            conditions: Vec::new(),
            accepted: self.node.ledger().accepted,
            last_session: self.node.ledger().session,
            places: self.node.keys().map(place).collect(),
        }
    }
}

fn kept_as_found(mut ledger: Ledger, found: &[Found]) -> Ledger {
    let ours = ledger.clone();
    let keep = |found: &Found| {
        let supervised = found.supervised.as_ref()?;
        Some(Item {
            key: found.key.clone(),
            set: supervised.set,
            revision: supervised.revision,
            replace: supervised.replace,
            intent: Intent::Keep,
            after: Vec::new(),
            surge: None,
            labels: Default::default(),
        })
    };
    let found = found
        .iter()
        .filter(|found| found.populated && found.marks.is_some_and(|marks| ours.is_ours(marks)));
    ledger.assignment = Assignment::new(found.filter_map(keep));
    let held = |item: &Item| (item.key.clone(), runtime_of(item.revision).to_owned());
    ledger.places = ledger.assignment.items().map(held).collect();
    ledger
}
