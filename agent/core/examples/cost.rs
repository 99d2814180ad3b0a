//! What one event costs, on machines with few and with many places: `cargo run --release -p
//! everynode-agent-core --example cost`.
//!
//! Times are printed beside those of the smallest machine in the same run; nothing is asserted.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench that can't be set up ends at once, and reads a clock"
)]

use std::time::{Duration, Instant};

use everynode_agent_core::{Action, Event, Ledger, Node, Plan, PodRef, Policy};
use everynode_model::{
    Assignment, ClusterId, Digest, Exit, Generation, Intent, Item, NodeUid, Now, PodKey, PodUid,
    ReignId, SetUid, Stamp, Term, Timestamp, WallTime,
};
use uuid::Uuid;

const SIZES: [usize; 3] = [10, 100, 1_000];

/// How often an event is repeated.
const REPEATS: u32 = 200;

fn main() {
    println!("{:>7} {:<22} {:>14} {:>8}", "places", "event", "ns", "ratio");
    let mut smallest = Vec::new();
    for places in SIZES {
        let costs = costs(places);
        if smallest.is_empty() {
            smallest.clone_from(&costs);
        }
        for ((event, cost), (_, least)) in costs.iter().zip(&smallest) {
            let tenths = cost.as_nanos() * 10 / least.as_nanos().max(1);
            let cost = cost.as_nanos();
            println!("{places:>7} {event:<22} {cost:>14} {:>6}.{}", tenths / 10, tenths % 10);
        }
    }
}

fn costs(places: usize) -> Vec<(&'static str, Duration)> {
    let mut machine = Machine::running(places);
    let pod = machine.pods[places / 2].clone();
    let exit = Event::Exited { pod: pod.clone(), container: "main".into(), exit: Exit::Code(1) };
    let started = Event::Started { pod, container: "main".into(), pid: 8 };
    vec![
        ("time passes", machine.each(&[Event::Woke])),
        ("a container restarts", machine.each(&[exit, Event::Woke, started]) / 3),
    ]
}

struct Machine {
    node: Node,
    ids: u128,
    seconds: u64,
    pods: Vec<PodRef>,
}

impl Machine {
    fn running(places: usize) -> Self {
        let (cluster, node) =
            (ClusterId::new(Uuid::from_u128(1)), NodeUid::new(Uuid::from_u128(2)));
        let node = Node::new(Ledger::joined(cluster, node), Policy::default());
        let mut machine = Self { node, ids: 100, seconds: 1, pods: Vec::new() };
        machine.apply(Event::Looked(Vec::new()));
        let assignment = Assignment::new((0..places).map(item));
        let runtimes = assignment.items().map(|item| (item.key.clone(), "process".to_owned()));
        let runtimes = runtimes.collect();
        let stamp = Stamp {
            cluster,
            term: Term(1),
            reign: ReignId::new(Uuid::from_u128(5)),
            generation: Generation(1),
            digest: assignment.digest(),
        };
        machine.apply(Event::Ordered { stamp, assignment, empty_is_meant: false, runtimes });
        let mut open = machine.apply(Event::Persisted);
        while let Some(action) = open.pop() {
            open.extend(match action {
                Action::Create { pod, .. } => {
                    machine.pods.push(pod.clone());
                    let plan = Plan::of_mains(["main".to_owned()], Duration::from_secs(1));
                    machine.apply(Event::Created { pod, plan })
                }
                Action::Start { pod, container } => {
                    machine.apply(Event::Started { pod, container, pid: 7 })
                }
                _ => Vec::new(),
            });
        }
        assert_eq!(machine.pods.len(), places);
        machine
    }

    /// How long all of these take, one after the other.
    fn each(&mut self, events: &[Event]) -> Duration {
        let began = Instant::now();
        for _ in 0..REPEATS {
            for event in events {
                // Longer than any back-off, so that whatever ended is started.
                self.seconds += 1_000;
                self.apply(event.clone());
                self.node.take_dirty();
            }
        }
        began.elapsed() / REPEATS
    }

    fn apply(&mut self, event: Event) -> Vec<Action> {
        let wall = WallTime::from_unix_millis(0);
        let now = Now { steady: Timestamp::from_start(Duration::from_secs(self.seconds)), wall };
        let ids = &mut self.ids;
        self.node.apply(event, now, &mut || {
            *ids += 1;
            PodUid::new(Uuid::from_u128(*ids))
        })
    }
}

fn item(number: usize) -> Item {
    Item {
        key: PodKey::new("default", &format!("place-{number}")).unwrap(),
        set: SetUid::new(Uuid::from_u128(10)),
        revision: Digest::of(b"1"),
        replace: 0,
        intent: Intent::Run,
        after: Vec::new(),
        surge: None,
        labels: Default::default(),
    }
}
