//! A node on a bench: events by hand, every promise checked after each.

use std::time::Duration;

use everynode_agent_core::check::Checker;
use everynode_agent_core::{
    Action, Event, Found, Ledger, Lifecycle, Marks, Node, Plan, PodRef, Policy, RestartBackoff,
    StorageLimits, Supervised, SupervisedContainer,
};
use everynode_model::{
    Assignment, ClusterId, Digest, Exit, Generation, Intent, Item, NodeUid, Now, PodKey, PodStatus,
    PodUid, Reason, ReignId, SetUid, Stamp, Term, Timestamp, WallTime,
};
use uuid::Uuid;

pub const CLUSTER: ClusterId = ClusterId::new(Uuid::from_u128(1));
pub const NODE: NodeUid = NodeUid::new(Uuid::from_u128(2));
pub const OURS: Marks = Marks { cluster: CLUSTER, node: NODE };
pub const GRACE: Duration = Duration::from_secs(30);

pub struct Bench {
    pub node: Node,
    checker: Checker,
    now: Duration,
    ids: u128,
    generation: u64,
}

pub fn key(name: &str) -> PodKey {
    PodKey::new("default", name).unwrap()
}

pub fn revision(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

pub fn item(name: &str, text: &str) -> Item {
    Item {
        key: key(name),
        set: SetUid::new(Uuid::from_u128(10)),
        revision: revision(text),
        replace: 0,
        intent: Intent::Run,
        after: Vec::new(),
        surge: None,
        labels: Default::default(),
    }
}

pub fn stamp(generation: u64, assignment: &Assignment) -> Stamp {
    stamp_of(CLUSTER, generation, assignment)
}

pub fn stamp_of(cluster: ClusterId, generation: u64, assignment: &Assignment) -> Stamp {
    Stamp {
        cluster,
        term: Term(1),
        reign: ReignId::new(Uuid::from_u128(5)),
        generation: Generation(generation),
        digest: assignment.digest(),
    }
}

/// An order in which every pod is to run in `runtime`.
pub fn order_in(runtime: &str, stamp: Stamp, assignment: Assignment) -> Event {
    let runtimes = assignment.items().map(|item| (item.key.clone(), runtime.to_owned())).collect();
    Event::Ordered { stamp, assignment, empty_is_meant: true, runtimes }
}

pub fn order(generation: u64, items: impl IntoIterator<Item = Item>) -> Event {
    let assignment = Assignment::new(items);
    order_in("process", stamp(generation, &assignment), assignment)
}

/// A pod of `item` found alive, its one container running for a minute.
pub fn found(item: &Item, uid: u128, marks: Option<Marks>) -> Found {
    let main = SupervisedContainer {
        name: "main".into(),
        lifecycle: Lifecycle::default(),
        asked: false,
        pid: Some(7),
        last_exit: None,
        oom: false,
        for_time: Duration::from_secs(60),
    };
    Found {
        key: item.key.clone(),
        pod: Some(PodUid::new(Uuid::from_u128(uid))),
        marks,
        populated: true,
        supervised: Some(Supervised {
            set: item.set,
            revision: item.revision,
            replace: item.replace,
            grace: GRACE,
            restart: RestartBackoff::default(),
            created_at: WallTime::default(),
            terminating: false,
            limits_in_doubt: false,
            resized_for: None,
            restarts: 0,
            containers: vec![main],
        }),
        silent: false,
    }
}

pub fn reason() -> Reason {
    Reason::new("Because", "of a reason")
}

impl Bench {
    /// A machine that has just joined and was not looked at.
    pub fn unseen(ledger: Ledger) -> Self {
        Self {
            checker: Checker::new(&ledger),
            now: Duration::from_secs(1_000_000),
            ids: 100,
            generation: ledger.accepted.map_or(0, |stamp| stamp.generation.0),
            node: Node::new(ledger, Policy::default()),
        }
    }

    /// One that was looked at and found empty.
    pub fn new() -> Self {
        let mut bench = Self::unseen(Ledger::joined(CLUSTER, NODE));
        assert_eq!(bench.apply(Event::Looked(Vec::new())), []);
        bench
    }

    pub fn know_stages<const N: usize>(&mut self, revisions: [Digest; N]) {
        self.node.know_stages(revisions);
        self.checker.know_stages(revisions);
    }

    pub fn know_storage<const N: usize>(&mut self, limits: [(Digest, StorageLimits); N]) {
        self.node.know_storage(limits.clone());
        self.checker.know_storage(limits);
    }

    pub fn know_alike<const N: usize>(&mut self, revisions: [(Digest, Digest); N]) {
        self.node.know_alike(revisions);
        self.checker.know_alike(revisions);
    }

    /// One on which `items` run.
    pub fn running(items: impl IntoIterator<Item = Item>) -> Self {
        let mut bench = Self::new();
        let actions = bench.accept(items);
        bench.bring_up(actions);
        bench
    }

    pub fn now(&self) -> Now {
        let millis = i64::try_from(self.now.as_millis()).unwrap();
        Now { steady: Timestamp::from_start(self.now), wall: WallTime::from_unix_millis(millis) }
    }

    pub fn apply(&mut self, event: Event) -> Vec<Action> {
        let (now, ids) = (self.now(), &mut self.ids);
        let mut next = || {
            *ids += 1;
            PodUid::new(Uuid::from_u128(*ids))
        };
        let actions = self.node.apply(event.clone(), now, &mut next);
        let broken = self.checker.check(&event, &actions, &self.node);
        assert_eq!(broken, [], "by {event:?} and {actions:?}");
        actions
    }

    pub fn pass(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.apply(Event::Woke)
    }

    pub fn pass_secs(&mut self, seconds: u64) -> Vec<Action> {
        self.pass(Duration::from_secs(seconds))
    }

    /// A newer order, written; gives what follows the answer.
    pub fn accept(&mut self, items: impl IntoIterator<Item = Item>) -> Vec<Action> {
        self.generation += 1;
        let assignment = Assignment::new(items);
        let cluster = self.node.ledger().cluster;
        let stamp = stamp_of(cluster, self.generation, &assignment);
        let actions = self.apply(order_in("process", stamp, assignment));
        assert!(matches!(actions.as_slice(), [Action::Persist(_)]), "{actions:?}");
        let mut actions = self.apply(Event::Persisted);
        assert!(matches!(actions.remove(0), Action::Acknowledge { refused: None, .. }));
        actions
    }

    /// The agent is started anew on the ledger that is on disk.
    pub fn restarted(&self, found: Vec<Found>) -> (Self, Vec<Action>) {
        let mut bench = Self::unseen(self.node.ledger().clone());
        bench.ids = self.ids;
        let actions = bench.apply(Event::Looked(found));
        (bench, actions)
    }

    /// Answers every `Create` and `Start` among `actions` with success, until there are no more.
    pub fn bring_up(&mut self, actions: Vec<Action>) {
        let mut open = actions;
        while let Some(action) = open.pop() {
            open.extend(match action {
                Action::Create { pod, .. } => self.created(&pod),
                Action::Start { pod, container } => {
                    self.apply(Event::Started { pod, container, pid: 7 })
                }
                other => panic!("{other:?} is not of bringing up"),
            });
        }
    }

    pub fn created(&mut self, pod: &PodRef) -> Vec<Action> {
        let plan = Plan::of_mains(["main".into()], GRACE);
        self.apply(Event::Created { pod: pod.clone(), plan })
    }

    pub fn exit(&mut self, name: &str, exit: Exit) -> Vec<Action> {
        let pod = self.pod(name);
        self.apply(Event::Exited { pod, container: "main".into(), exit })
    }

    pub fn empty(&mut self, name: &str) -> Vec<Action> {
        self.apply(Event::PlaceEmpty(key(name)))
    }

    pub fn statuses(&self, name: &str) -> Vec<PodStatus> {
        self.node.statuses(&key(name), self.now())
    }

    pub fn status(&self, name: &str) -> PodStatus {
        self.node.statuses(&key(name), self.now()).pop().unwrap()
    }

    pub fn pod(&self, name: &str) -> PodRef {
        PodRef { key: key(name), uid: self.status(name).uid }
    }

    pub fn why(&self, name: &str) -> String {
        self.node.why(&key(name)).map(|reason| reason.code).unwrap_or_default()
    }
}

/// The one pod that `actions` make, among nothing else but removals.
pub fn made(actions: &[Action]) -> PodRef {
    match actions {
        [Action::Create { pod, .. }] | [Action::Remove(_), Action::Create { pod, .. }] => {
            pod.clone()
        }
        other => panic!("{other:?}"),
    }
}
