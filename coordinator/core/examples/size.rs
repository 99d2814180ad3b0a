//! What one event costs, in fleets of three sizes: `cargo run --release -p everynode-coordinator-core
//! --example size`.
//!
//! An event of one node must cost the same in every fleet; one of a DaemonSet, the same per node.
//! Times are printed beside those of the smallest fleet in the same run; nothing is asserted.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench that can't be set up ends at once, and reads a clock"
)]

#[allow(clippy::duplicate_mod, reason = "what the tests make their fleets of")]
#[path = "../tests/world/mod.rs"]
mod world;

use std::time::{Duration, Instant};

use everynode_coordinator_core::{
    ClusterRecord, Command, Config, Fleet, GrantHead, Hello, NodeChange, Observation, Record, Write,
};
use everynode_model::{DaemonSet, NodeUid, Now, PodPhase, PodStatus, RolloutPolicy, Term};
use world::{World, daemon_set, hello, id, key, name, put, revision, token};

const SIZES: [u64; 3] = [1_000, 10_000, 100_000];

/// How often an event of one node is repeated.
const REPEATS: u64 = 200;

fn main() {
    println!("{:>8} {:<28} {:>14} {:>8}", "nodes", "event", "ns per node", "ratio");
    let mut smallest = Vec::new();
    for nodes in SIZES {
        let costs = costs(nodes);
        if smallest.is_empty() {
            smallest.clone_from(&costs);
        }
        for ((event, cost), (_, least)) in costs.iter().zip(&smallest) {
            let (cost, least) = (cost.as_nanos(), least.as_nanos().max(1));
            let tenths = cost * 10 / least;
            println!("{nodes:>8} {event:<28} {cost:>14} {:>6}.{}", tenths / 10, tenths % 10);
        }
    }
}

/// What each event costs per node that it touches.
fn costs(nodes: u64) -> Vec<(&'static str, Duration)> {
    let mut fleet = fleet(nodes);
    let repeats = u32::try_from(REPEATS).unwrap();
    let all = u32::try_from(nodes).unwrap();
    let now = later();
    let reports = |fleet: &mut Fleet, odd| {
        for node in 1..=REPEATS {
            report(fleet, node, node % 2 == odd, now);
            fleet.take_changes();
        }
    };
    // The first time round finds nothing of it in the processor's caches.
    reports(&mut fleet, 0);
    let status = timed(|| reports(&mut fleet, 1));
    (1..=REPEATS).for_each(|node| report(&mut fleet, node, true, now));
    let label = timed(|| {
        for node in 1..=REPEATS {
            let (key, value) = ("zone".to_owned(), "a".to_owned());
            let changes = vec![NodeChange::SetLabel { key, value, overwrite: true }];
            follow(&mut fleet, &Command::ChangeNode { name: name(node), changes }, now);
        }
    });
    let idle = timed(|| (0..REPEATS).for_each(|_| assert!(fleet.step(now).is_empty())));
    let apply = timed(|| follow(&mut fleet, &put(daemon_set("a", 1, "1"), "2"), now));
    let rollout = timed(|| {
        let writes = fleet.step(now);
        assert!(!writes.is_empty(), "no step was taken");
        fleet.record(&writes, now);
    });
    let numbered = timed(|| fleet.record(&[Write::put(Record::GrantHead(head(7)))], now));
    let paused = RolloutPolicy { paused: true, ..RolloutPolicy::default() };
    let pause = DaemonSet { rollout: paused, ..daemon_set("a", 1, "2") };
    let pause = timed(|| follow(&mut fleet, &put(pause, "2"), now));
    for node in 1..=10 {
        follow(&mut fleet, &Command::DeleteNode { name: name(node), forget: false }, now);
    }
    // Again: the name is nobody's now, and who had it is looked for.
    let leaving = timed(|| {
        for node in 1..=10 {
            follow(&mut fleet, &Command::DeleteNode { name: name(node), forget: false }, now);
        }
    });
    vec![
        ("a status report", status / repeats),
        ("a label", label / repeats),
        ("a look for a step", idle / repeats),
        ("an apply, per node", apply / all),
        ("a step that moves one node", rollout),
        ("a rollout of another number", numbered),
        ("a pause, per node", pause / all),
        ("a second delete of a node", leaving / 10),
    ]
}

/// Every node runs revision 1 of set `a`, which is rolled out one by one.
fn fleet(nodes: u64) -> Fleet {
    let cluster = ClusterRecord { id: id(1), term: Term(1), reign: id(1) };
    let start = Now::default();
    let mut fleet = Fleet::restore([Record::Cluster(cluster)], Config::default(), start).unwrap();
    follow(&mut fleet, &Command::CreateToken(token("t")), start);
    (1..=nodes).for_each(|node| follow(&mut fleet, &World::join_command(node, name(node)), start));
    follow(&mut fleet, &put(daemon_set("a", 1, "1"), "1"), start);
    let now = later();
    for number in 1..=nodes {
        let node: NodeUid = id(number);
        let hello = Box::new(Hello { machine_id: format!("machine-{number}"), ..hello() });
        let session = id(number);
        let writes = fleet.observe(Observation::Connected { node, session, hello }, now);
        fleet.record(&writes, now);
        report(&mut fleet, number, true, now);
    }
    fleet.take_orders();
    fleet.take_changes();
    fleet
}

/// Where the rollout of set `a` leads, under this number.
fn head(rollout: u64) -> GrantHead {
    GrantHead {
        set: id(1),
        stable: Some(revision("1")),
        target: revision("2"),
        rollout,
        promoted: 0,
        settled: 0,
        relabels: false,
        stalled: None,
        marks: Default::default(),
    }
}

/// Well after the registration window.
fn later() -> Now {
    let start = Now::default();
    Now { steady: start.steady.after(world::LONG), ..start }
}

fn report(fleet: &mut Fleet, number: u64, ready: bool, now: Now) {
    let pod = PodStatus {
        key: key("a"),
        uid: id(number),
        set: id(1),
        revision: revision("1"),
        replace: 0,
        phase: PodPhase::Running,
        reason: None,
        ready,
        ready_for: Duration::ZERO,
        started_at: None,
        restarts: 0,
        times_unready: 0,
        last_failure: None,
        former_failure: None,
        containers: Vec::new(),
    };
    let places = vec![(key("a"), vec![pod])];
    let (node, session) = (id(number), id(number));
    let writes = fleet.observe(Observation::Status { node, session, places }, now);
    fleet.record(&writes, now);
}

fn follow(fleet: &mut Fleet, command: &Command, now: Now) {
    let decision = fleet.decide(command, now).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    fleet.record(&decision.writes, now);
}

fn timed(event: impl FnOnce()) -> Duration {
    let start = Instant::now();
    event();
    start.elapsed()
}
