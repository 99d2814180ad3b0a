//! A fleet with a store that remembers, and agents that do as they are told.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of it")]

pub mod copy;
pub mod dice;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use everynode_coordinator_core::{
    ClusterRecord, Command, Config, Fleet, Grant, Hello, NodeChange, NodeStanding, Observation,
    Opaque, Order, Outcome, PutMode, Record, RecordKey, Refusal, SetStatus, TokenRecord, Write,
    invariants,
};
use everynode_model::{
    DaemonSet, Digest, Failure, HELD_ON_NODE, IntOrPercent, Intent, Item, Labels, LogTail,
    NODE_LABELS_FEATURE, NodeName, NodeUid, Now, ObjectKey, ObjectKind, Placement, PodKey,
    PodPhase, PodStatus, Reason, RolloutPolicy, SURGE_FEATURE, Selector, SessionNonce, SetUid,
    Stamp, Strategy, Term, Timestamp, WallTime,
};

/// The most that is ever waited for at once: well over the registration window.
pub const LONG: Duration = Duration::from_secs(100);

/// More steps than any fleet of these tests takes in a row.
const MAX_STEPS: usize = 1_000;

/// An id with this number.
pub fn id<T: std::str::FromStr>(number: u64) -> T {
    let text = format!("00000000-0000-4000-8000-{number:012x}");
    text.parse().unwrap_or_else(|_| panic!("{text} is an id"))
}

pub fn key(name: &str) -> PodKey {
    PodKey::new("default", name).unwrap()
}

pub fn name(number: u64) -> NodeName {
    NodeName::new(&format!("node-{number}")).unwrap()
}

pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub fn revision(body: &str) -> Digest {
    Digest::of(body.as_bytes())
}

/// A set that is rolled out one by one and wants every node.
pub fn daemon_set(name: &str, uid: u64, body: &str) -> DaemonSet {
    DaemonSet {
        key: key(name),
        uid: id::<SetUid>(uid),
        generation: 0,
        labels: Labels::new(),
        selector: Selector::from_labels(&labels(&[("app", name)])),
        placement: Placement::default(),
        strategy: Strategy::rolling(IntOrPercent::Int(1)),
        rollout: RolloutPolicy::default(),
        min_ready: Duration::ZERO,
        history_limit: 10,
        revision: revision(body),
        features: BTreeSet::new(),
        reads: BTreeSet::new(),
    }
}

pub fn put(set: DaemonSet, body: &str) -> Command {
    let object = format!("{set:?}").into_bytes();
    Command::PutSet {
        mode: PutMode::Apply,
        set: Box::new(DaemonSet { revision: revision(body), ..set }),
        object: object.into(),
        spec_changed: true,
        body: body.as_bytes().into(),
        normal_form: 1,
        change_cause: String::new(),
        expected_version: None,
        content: Box::default(),
    }
}

/// A ConfigMap of `default` with this content, put by somebody who has looked at these readers.
pub fn put_map(name: &str, content: &str, readers: &[(u64, u64)]) -> Command {
    Command::PutObject {
        mode: PutMode::Apply,
        key: map_key(name),
        uid: id(9),
        labels: Labels::new(),
        object: Opaque(content.as_bytes().into()),
        expected_version: None,
        readers: readers.iter().map(|(set, version)| (id(*set), *version)).collect(),
        due: BTreeSet::new(),
    }
}

pub fn map_key(name: &str) -> ObjectKey {
    let namespace = "default".to_owned();
    ObjectKey { kind: ObjectKind::ConfigMap, namespace, name: name.to_owned() }
}

pub fn create_namespace(name: &str) -> Command {
    Command::PutObject {
        mode: PutMode::Create,
        key: ObjectKey::namespace(name),
        uid: id(8),
        labels: Labels::new(),
        object: Opaque(name.as_bytes().into()),
        expected_version: None,
        readers: BTreeMap::new(),
        due: BTreeSet::new(),
    }
}

/// What an agent says that has nothing to say.
pub fn hello() -> Hello {
    Hello {
        machine_id: String::new(),
        boot_id: String::new(),
        agent_version: String::new(),
        features: [SURGE_FEATURE, NODE_LABELS_FEATURE].map(str::to_owned).into(),
        facts: BTreeMap::new(),
        conditions: Vec::new(),
        accepted: None,
        last_session: None,
        places: Vec::new(),
    }
}

/// An agent: follows the last order it heard, a step at a time.
#[derive(Clone, Debug, Default)]
pub struct Agent {
    pub session: Option<SessionNonce>,
    pub order: Option<Arc<Order>>,
    pub pods: BTreeMap<PodKey, PodStatus>,
    pub ready_since: BTreeMap<PodKey, Timestamp>,
    /// New pods that are to take over from those in `pods`, and since when each is ready.
    pub beside: BTreeMap<PodKey, (PodStatus, Option<Timestamp>)>,
    /// Is of a version that starts no pod beside another.
    pub old: bool,
    /// Sends nothing, not even heartbeats.
    pub mute: bool,
    /// What somebody there holds; `true`: stopped, too.
    pub held: BTreeMap<PodKey, bool>,
}

#[derive(Clone)]
pub struct World {
    pub fleet: Fleet,
    pub store: BTreeMap<RecordKey, Record>,
    pub now: Now,
    pub agents: BTreeMap<NodeUid, Agent>,
    pub heard: BTreeMap<NodeUid, Timestamp>,
    pub stamps: BTreeMap<NodeUid, Stamp>,
    /// Revisions whose pods never become ready.
    pub bad: BTreeSet<Digest>,
    pub drawn: u64,
    pub writes: usize,
    pub term: u64,
    /// What steps have moved, also those of coordinators before this one.
    pub moved: invariants::Moved,
}

impl World {
    pub fn new() -> Self {
        Self::of(Config::default())
    }

    pub fn of(config: Config) -> Self {
        let cluster = ClusterRecord { id: id(1), term: Term(1), reign: id(1) };
        let now = Now::default();
        let fleet = Fleet::restore([Record::Cluster(cluster)], config, now).unwrap();
        let mut world = Self {
            fleet,
            store: [(RecordKey::Cluster, Record::Cluster(cluster))].into(),
            now,
            agents: BTreeMap::new(),
            heard: BTreeMap::new(),
            stamps: BTreeMap::new(),
            bad: BTreeSet::new(),
            drawn: 1_000,
            writes: 0,
            term: 1,
            moved: invariants::Moved::default(),
        };
        world.follow(&Command::CreateToken(token("t"))).unwrap();
        world
    }

    /// With nodes 1 to `nodes`, all connected, and the registration window behind it.
    pub fn with_nodes(nodes: u64) -> Self {
        Self::new().and_nodes(nodes)
    }

    pub fn and_nodes(self, nodes: u64) -> Self {
        let mut world = self;
        for number in 1..=nodes {
            world.join(number);
            world.connect(id(number));
        }
        world.wait(LONG);
        world.settle();
        world
    }

    pub fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    pub fn follow(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        let decision = self.fleet.decide(command, self.now)?;
        self.keep(&decision.writes);
        Ok(decision.outcome)
    }

    pub fn put(&mut self, set: DaemonSet, body: &str) {
        self.follow(&put(set, body)).unwrap();
    }

    pub fn change(&mut self, node: u64, change: NodeChange) {
        self.follow(&Command::ChangeNode { name: name(node), changes: vec![change] }).unwrap();
    }

    pub fn taint(&mut self, node: u64, taint: &str) {
        let taint = taint.parse().unwrap();
        self.change(node, NodeChange::SetTaint { taint, overwrite: true });
    }

    pub fn label(&mut self, node: u64, key: &str, value: &str) {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.change(node, NodeChange::SetLabel { key, value, overwrite: true });
    }

    pub fn join_command(number: u64, name: NodeName) -> Command {
        Command::Join {
            token_id: "t".into(),
            token_secret: Digest::of(b"secret"),
            uid: id(number),
            name,
            public_key: Digest::of(&number.to_be_bytes()),
            machine_id: format!("machine-{number}"),
            labels: Labels::new(),
            taints: Vec::new(),
        }
    }

    pub fn join(&mut self, number: u64) {
        self.follow(&Self::join_command(number, name(number))).unwrap();
        self.agents.insert(id(number), Agent::default());
    }

    pub fn keep(&mut self, writes: &[Write]) {
        assert!(writes.len() <= 120, "{} writes", writes.len());
        self.writes += writes.len();
        for write in writes {
            match &write.record {
                Some(record) => {
                    assert_eq!(record.key(), write.key);
                    self.store.insert(write.key.clone(), record.clone());
                }
                None => {
                    self.store.remove(&write.key);
                }
            }
        }
        self.fleet.record(writes, self.now);
    }

    /// Follows a command, and the store does not take what comes of it.
    pub fn forget(&mut self, command: &Command) {
        if let Ok(decision) = self.fleet.decide(command, self.now) {
            self.fleet.record(&decision.writes, self.now);
        }
    }

    /// Goes back to what is stored; the nodes that must say again what they know, which have lost
    /// their session.
    pub fn go_back(&mut self) -> Vec<NodeUid> {
        let fleet = self.restored();
        let former = std::mem::replace(&mut self.fleet, fleet);
        let version = former.version();
        let lost = self.fleet.succeed(former);
        assert!(self.fleet.version() > version, "a version is given away again");
        for node in &lost {
            self.agents.get_mut(node).into_iter().for_each(|agent| agent.session = None);
        }
        lost
    }

    /// Time passes, and the coordinator was not run meanwhile.
    pub fn sleep(&mut self, time: Duration) {
        let millis = i64::try_from(time.as_millis()).unwrap();
        self.now.steady = self.now.steady.after(time);
        self.now.wall = WallTime::from_unix_millis(self.now.wall.unix_millis + millis);
        self.fleet.frozen(self.now);
        let heard = self.heard.clone();
        let writes = self.fleet.tick(self.now, &|node| heard.get(&node).copied());
        self.keep(&writes);
    }

    pub fn check(&self) {
        if let Err(violation) = invariants::check(&self.fleet) {
            panic!("{violation:?}");
        }
    }

    pub fn observe(&mut self, observation: Observation) {
        let writes = self.fleet.observe(observation, self.now);
        self.keep(&writes);
    }

    pub fn connect(&mut self, node: NodeUid) {
        let session = id(self.draw());
        let agent = self.agents.entry(node).or_default();
        agent.session = Some(session);
        agent.mute = false;
        let accepted = agent.order.as_ref().map(|order| order.stamp);
        let features = if agent.old { BTreeSet::new() } else { hello().features };
        let places = self.places(node);
        let hello = Box::new(Hello { accepted, places, features, ..hello() });
        self.heard.insert(node, self.now.steady);
        self.observe(Observation::Connected { node, session, hello });
    }

    pub fn disconnect(&mut self, node: NodeUid) {
        if let Some(session) = self.agents.get_mut(&node).and_then(|agent| agent.session.take()) {
            self.observe(Observation::Disconnected { node, session });
        }
    }

    /// Disconnects it and lets its lease run out.
    pub fn lose(&mut self, number: u64) {
        self.disconnect(id(number));
        self.wait(Duration::from_secs(41));
    }

    /// Time passes; agents that are there send heartbeats.
    pub fn wait(&mut self, time: Duration) {
        let beats = 1 + time.as_secs() / 10;
        for _ in 0..beats {
            self.wait_in_silence(time / u32::try_from(beats).unwrap());
        }
    }

    fn wait_in_silence(&mut self, time: Duration) {
        let millis = i64::try_from(time.as_millis()).unwrap();
        self.now.steady = self.now.steady.after(time);
        self.now.wall = WallTime::from_unix_millis(self.now.wall.unix_millis + millis);
        let there = self.agents.iter().filter(|(_, agent)| agent.session.is_some() && !agent.mute);
        self.heard.extend(there.map(|(node, _)| (*node, self.now.steady)));
        let heard = self.heard.clone();
        let writes = self.fleet.tick(self.now, &|node| heard.get(&node).copied());
        self.keep(&writes);
    }

    /// Takes one step of the fleet; whether there was one.
    pub fn step(&mut self) -> bool {
        let writes = self.fleet.step(self.now);
        let before = (invariants::budgets(&self.fleet), invariants::progress(&self.fleet));
        let surges = invariants::surges(&self.fleet);
        self.keep(&writes);
        if let Err(violation) = invariants::a_step_keeps_the_budget(&before.0, &self.fleet) {
            panic!("{violation:?}");
        }
        let held = self.fleet.hold().is_some();
        if let (Err(violation), false) =
            (invariants::a_step_keeps_the_surge(&surges, &self.fleet), held)
        {
            panic!("{violation:?}");
        }
        let obeyed = invariants::a_step_obeys_its_policy(&before.1, &self.fleet);
        let counted = self.moved.a_step_counts_whom_it_lost(&before.1, &self.fleet);
        if let (Err(violation), false) = (obeyed.and(counted), held) {
            panic!("{violation:?}");
        }
        !writes.is_empty()
    }

    pub fn hand_out(&mut self) {
        let orders = self.fleet.take_orders();
        if orders.is_empty() {
            return;
        }
        let restored = self.restored();
        for (node, order) in orders {
            let stored = restored.assignment(node);
            let old = self.agents.get(&node).is_some_and(|agent| agent.old);
            let told = if old { stored.without_surge().without_labels() } else { stored };
            assert_eq!(order.assignment, told, "ahead of the store");
            if let Some(before) = self.stamps.insert(node, order.stamp)
                && let Err(violation) = invariants::generations_never_fall(&before, &order.stamp)
            {
                panic!("{violation:?}");
            }
            if let Some(agent) = self.agents.get_mut(&node) {
                agent.order = Some(order);
            }
        }
    }

    /// The fleet that a restart would make of what is stored.
    pub fn restored(&self) -> Fleet {
        Fleet::restore(self.store.values().cloned(), Config::default(), self.now).unwrap()
    }

    pub fn restart(&mut self) {
        self.term += 1;
        let cluster = ClusterRecord { id: id(1), term: Term(self.term), reign: id(self.term) };
        self.store.insert(RecordKey::Cluster, Record::Cluster(cluster));
        let fleet = self.restored();
        assert!(fleet.version() > self.fleet.version());
        for node in self.agents.keys() {
            assert_eq!(fleet.assignment(*node), self.fleet.assignment(*node));
        }
        self.fleet = fleet;
        self.heard.clear();
        for agent in self.agents.values_mut() {
            agent.session = None;
        }
    }

    /// One round of one agent: it does what its order says, and says so.
    pub fn work(&mut self, node: NodeUid) {
        let Some(mut agent) = self.agents.remove(&node) else { return };
        let gone = self.fleet.standing(node) != Some(NodeStanding::Active);
        let before = places_of(&agent, self.now);
        if gone {
            agent.pods.clear();
        } else if let Some(order) = agent.order.clone() {
            self.obey(&mut agent, &order);
        }
        let session = agent.session;
        let stamp = agent.order.as_ref().map(|order| order.stamp);
        let mut touched: BTreeSet<PodKey> = before.keys().cloned().collect();
        touched.extend(agent.pods.keys().cloned());
        let said = |pods: &[PodStatus]| {
            let silent = |pod: &PodStatus| PodStatus { ready_for: Duration::ZERO, ..pod.clone() };
            pods.iter().map(silent).collect::<Vec<_>>()
        };
        self.agents.insert(node, agent);
        let Some(session) = session else { return };
        if gone {
            // A node that is unknown is refused; it must not matter here.
            let _ = self.follow(&Command::ConfirmDeparture { uid: node });
            self.agents.remove(&node);
            return;
        }
        self.heard.insert(node, self.now.steady);
        if let Some(stamp) = stamp {
            self.observe(Observation::Acknowledged { node, stamp, refused: None });
        }
        let now: BTreeMap<_, _> = self.places(node).into_iter().collect();
        let place = |key: PodKey| (now.get(&key).cloned().unwrap_or_default(), key);
        let places: Vec<_> = touched
            .into_iter()
            .filter(|key| before.get(key).map(|it| said(it)) != now.get(key).map(|it| said(it)))
            .map(place)
            .map(|(pods, key)| (key, pods))
            .collect();
        if !places.is_empty() {
            self.observe(Observation::Status { node, session, places });
        }
    }

    fn obey(&mut self, agent: &mut Agent, order: &Order) {
        let held = agent.held.clone();
        agent.pods.retain(|key, pod| {
            held.contains_key(key)
                || order.assignment.get(key).is_some_and(|item| item.set == pod.set)
        });
        let on_hold = |pod: &mut PodStatus| {
            pod.reason = Some(Reason::new(HELD_ON_NODE, "held at the node by root"));
        };
        for (key, stop) in &held {
            let Some(pod) = agent.pods.get_mut(key) else { continue };
            if *stop {
                (pod.phase, pod.ready) = (PodPhase::Pending, false);
            }
            on_hold(pod);
        }
        for item in order.assignment.items() {
            if held.contains_key(&item.key) && agent.pods.contains_key(&item.key) {
                continue;
            }
            if item.intent == Intent::Stop {
                agent.pods.remove(&item.key);
                continue;
            }
            if self.take_over(agent, item) {
                continue;
            }
            let keeps = |pod: &&PodStatus| {
                item.intent == Intent::Keep
                    || (pod.revision, pod.replace) == (item.revision, item.replace)
            };
            if let Some(pod) = agent.pods.get_mut(&item.key).filter(|pod| keeps(&&**pod)) {
                let ready = !self.bad.contains(&pod.revision);
                if pod.ready != ready {
                    agent.ready_since.insert(item.key.clone(), self.now.steady);
                }
                (pod.phase, pod.ready, pod.reason) = (PodPhase::Running, ready, None);
                continue;
            }
            let mut pod = self.made(item);
            if held.contains_key(&item.key) {
                on_hold(&mut pod);
            }
            agent.pods.insert(item.key.clone(), pod);
        }
    }

    fn made(&mut self, item: &Item) -> PodStatus {
        PodStatus {
            key: item.key.clone(),
            uid: id(self.draw()),
            set: item.set,
            revision: item.revision,
            replace: item.replace,
            phase: PodPhase::Pending,
            reason: Some(Reason::new("ContainerCreating", "is being started")),
            ready: false,
            ready_for: Duration::ZERO,
            started_at: None,
            restarts: 0,
            times_unready: 0,
            last_failure: None,
            former_failure: None,
            containers: Vec::new(),
        }
    }

    /// A round of a place in which a new pod takes over from an old one; whether there are two.
    fn take_over(&mut self, agent: &mut Agent, item: &Item) -> bool {
        let key = &item.key;
        let fits = |pod: &PodStatus| {
            (pod.set, pod.revision, pod.replace) == (item.set, item.revision, item.replace)
        };
        let begun = agent.beside.remove(key).filter(|(pod, _)| fits(pod));
        let Some(old) = agent.pods.get(key).filter(|pod| !fits(pod) && pod.set == item.set) else {
            return false;
        };
        let Some(surge) = item.surge.filter(|_| item.intent == Intent::Run) else { return false };
        let (mut new, mut since) = match begun {
            None if !old.ready => return false,
            None => (self.made(item), None),
            Some((new, since)) => {
                let ready = !self.bad.contains(&new.revision);
                let since = ready.then(|| since.unwrap_or(self.now.steady));
                (PodStatus { phase: PodPhase::Running, ready, reason: None, ..new }, since)
            }
        };
        let ripe = since.is_some_and(|since| since.after(surge.min_ready) <= self.now.steady);
        if ripe || !old.ready {
            agent.pods.insert(key.clone(), new);
            match since.take() {
                Some(since) => agent.ready_since.insert(key.clone(), since),
                None => agent.ready_since.remove(key),
            };
        } else {
            new.ready = since.is_some();
            agent.beside.insert(key.clone(), (new, since));
        }
        true
    }

    /// Somebody at a node holds a pod as it is, or stopped; or releases it.
    pub fn hold(&mut self, node: NodeUid, name: &str, held: Option<bool>) {
        if let Some(agent) = self.agents.get_mut(&node) {
            match held {
                Some(stop) => _ = agent.held.insert(key(name), stop),
                None => _ = agent.held.remove(&key(name)),
            }
        }
    }

    /// A pod crashes, and is started again by its agent's next round.
    pub fn crash(&mut self, node: NodeUid, key: &PodKey) {
        let at = self.now.wall;
        let Some(agent) = self.agents.get_mut(&node) else { return };
        let Some(pod) = agent.pods.get_mut(key) else { return };
        pod.ready = false;
        pod.restarts += 1;
        pod.last_failure = Some(Failure {
            container: "main".into(),
            exit: Some(everynode_model::Exit::Code(1)),
            reason: Reason::new("Error", "it failed"),
            at,
            log_tail: LogTail::default(),
        });
        let session = agent.session;
        let places = self.places(node);
        if let Some(session) = session {
            self.observe(Observation::Status { node, session, places });
        }
    }

    fn places(&self, node: NodeUid) -> Vec<(PodKey, Vec<PodStatus>)> {
        let Some(agent) = self.agents.get(&node) else { return Vec::new() };
        places_of(agent, self.now).into_iter().collect()
    }

    /// Takes steps until there is none, which must come: each is to bring the fleet closer to its end.
    pub fn take_steps(&mut self) {
        for _ in 0..MAX_STEPS {
            if !self.step() {
                return;
            }
        }
        let next = self.fleet.step(self.now);
        panic!("there is no end of steps: after {MAX_STEPS} of them comes {next:?}");
    }

    /// One round of everybody.
    pub fn round(&mut self) {
        self.take_steps();
        self.hand_out();
        let nodes: Vec<NodeUid> = self.agents.keys().copied().collect();
        for node in nodes {
            self.work(node);
        }
    }

    /// Rounds until nothing more happens by itself.
    pub fn settle(&mut self) {
        for _ in 0..200 {
            let before = (self.writes, self.fleet.version());
            self.round();
            self.wait(Duration::from_secs(1));
            self.check();
            if (self.writes, self.fleet.version()) == before {
                return;
            }
        }
    }

    pub fn status(&self, name: &str) -> SetStatus {
        self.fleet.set(&key(name)).unwrap().status
    }

    /// The revision and replace counter that the node has for the set by its assignment, which does
    /// not tell in which rollout they were given.
    pub fn granted(&self, node: u64, name: &str) -> Option<Grant> {
        let assignment = self.fleet.assignment(id(node));
        let item = assignment.get(&key(name))?;
        Some(Grant { revision: item.revision, replace: item.replace, rollout: 0, surge: false })
    }

    pub fn runs(&self, node: u64, name: &str) -> Option<Digest> {
        self.agents[&id(node)].pods.get(&key(name)).map(|pod| pod.revision)
    }

    /// How many of nodes 1 to `nodes` are granted that revision.
    pub fn granted_count(&self, nodes: u64, name: &str, body: &str) -> usize {
        let granted = |node: &u64| {
            self.granted(*node, name).is_some_and(|grant| grant.revision == revision(body))
        };
        (1..=nodes).filter(granted).count()
    }
}

/// What an agent tells of its places: of two pods the old one first.
fn places_of(agent: &Agent, now: Now) -> BTreeMap<PodKey, Vec<PodStatus>> {
    let report = |(key, pod): (&PodKey, &PodStatus)| {
        let since = agent.ready_since.get(key).copied().filter(|_| pod.ready);
        let new = agent.beside.get(key).map(|(pod, since)| (pod, *since));
        let pods = [Some((pod, since)), new].into_iter().flatten().map(|(pod, since)| {
            let ready_for = since.map_or(Duration::ZERO, |since| now.steady.since(since));
            PodStatus { ready_for, ..pod.clone() }
        });
        (key.clone(), pods.collect())
    };
    agent.pods.iter().map(report).collect()
}

pub fn token(id: &str) -> TokenRecord {
    TokenRecord {
        id: id.to_owned(),
        secret: Digest::of(b"secret"),
        created_at: WallTime::default(),
        expires_at: WallTime::from_unix_millis(1_000_000_000),
        uses_left: None,
        node_name: None,
        replace: false,
    }
}
