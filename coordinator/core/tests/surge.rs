//! A new pod beside the old one (`maxSurge`): what Kubernetes' own tests ask of it, under their names,
//! and what is Everynode's own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod world;

use std::time::Duration;

use everynode_coordinator_core::{Command, PodFilter, WhyFilter};
use everynode_model::{
    DaemonSet, IntOrPercent, Intent, OnFailure, Placement, RolloutPolicy, Strategy, Toleration,
    TolerationOperator,
};
use world::{LONG, World, daemon_set, id, key, revision};

fn surging(max_surge: IntOrPercent) -> DaemonSet {
    DaemonSet { strategy: Strategy::surging(max_surge), ..daemon_set("a", 1, "1") }
}

fn running(nodes: u64, set: &DaemonSet) -> World {
    let mut world = World::with_nodes(nodes);
    world.put(set.clone(), "1");
    world.settle();
    world.wait(LONG);
    assert_eq!(u64::from(world.status("a").available), nodes);
    world
}

/// Agents do so many rounds of what they were told, and no step is taken.
fn obey(world: &mut World, rounds: usize) {
    for _ in 0..rounds {
        world.obey_once();
    }
}

fn steps(world: &mut World) {
    world.take_steps();
}

/// On how many nodes there are two pods.
fn doubled(world: &World) -> usize {
    world.agents.values().map(|agent| agent.beside.len()).sum()
}

fn granted(world: &World, node: u64) -> bool {
    world.granted(node, "a").unwrap().revision == revision("2")
}

/// What `why` says of a node.
fn why(world: &World, node: u64) -> String {
    let filter = WhyFilter { node: Some(id(node)), ..WhyFilter::default() };
    let lines = world.fleet.why(&filter);
    lines[0].reason.code.clone()
}

fn condition(world: &World, name: &str) -> (bool, String) {
    let view = world.fleet.set(&key("a")).unwrap();
    let (_, holds, reason) = view.conditions.into_iter().find(|(one, ..)| one == name).unwrap();
    (holds, reason.code)
}

// `update_test.go`

#[test]
fn daemon_set_updates_pods_with_max_surge() {
    let set = surging(IntOrPercent::Int(2));
    let mut world = running(5, &set);
    world.put(set, "2");
    let mut waves = Vec::new();
    for _ in 0..3 {
        let before = world.granted_count(5, "a", "2");
        steps(&mut world);
        waves.push(world.granted_count(5, "a", "2") - before);
        obey(&mut world, 1);
        assert_eq!(doubled(&world), *waves.last().unwrap());
        assert_eq!(world.status("a").available, 5, "the old ones serve");
        obey(&mut world, 5);
        assert_eq!((world.status("a").available, doubled(&world)), (5, 0));
    }
    assert_eq!(waves, [2, 2, 1]);
    world.settle();
    assert_eq!((world.status("a").updated, world.status("a").available), (5, 5));
}

#[test]
fn daemon_set_updates_pods_not_match_taints_with_max_surge() {
    let everything = Toleration { operator: TolerationOperator::Exists, ..Toleration::default() };
    let tolerant = Placement { tolerations: vec![everything], ..Placement::default() };
    let set = DaemonSet { placement: tolerant, ..surging(IntOrPercent::Int(1)) };
    let mut world = World::with_nodes(4);
    world.taint(4, "t:NoSchedule");
    world.put(set.clone(), "1");
    world.settle();
    world.put(DaemonSet { placement: Placement::default(), ..set }, "2");
    world.settle();
    let status = world.status("a");
    assert_eq!((status.desired, status.updated, status.misscheduled), (3, 3, 1));
    // Kubernetes ends this one when enough others are available; here what is running stays.
    assert_eq!(world.runs(4, "a"), Some(revision("1")));
    assert_eq!(world.fleet.assignment(id(4)).get(&key("a")).unwrap().intent, Intent::Keep);
}

#[test]
fn daemon_set_updates_when_new_pod_is_not_ready_with_max_surge() {
    let set = surging(IntOrPercent::Int(3));
    let mut world = running(20, &set);
    world.bad.insert(revision("2"));
    world.put(set, "2");
    world.settle();
    assert_eq!(world.granted_count(20, "a", "2"), 3, "it stops at the budget");
    assert_eq!((world.status("a").available, doubled(&world)), (20, 3), "and nobody has less");
}

#[test]
fn daemon_set_updates_all_old_pods_not_ready_max_surge() {
    let min_ready = Duration::from_secs(15);
    let set = DaemonSet { min_ready, ..surging(IntOrPercent::Int(3)) };
    let mut world = World::with_nodes(5);
    world.bad.insert(revision("1"));
    world.put(set.clone(), "1");
    world.settle();
    world.put(set.clone(), "2");
    steps(&mut world);
    assert_eq!(world.granted_count(5, "a", "2"), 5, "nothing is lost by it");
    obey(&mut world, 3);
    assert_eq!((world.status("a").ready, world.status("a").available), (5, 0));
    world.wait(min_ready);
    assert_eq!(world.status("a").available, 5);
    world.put(set, "3");
    steps(&mut world);
    assert_eq!(world.granted_count(5, "a", "3"), 3);
    obey(&mut world, 3);
    world.wait(min_ready / 2);
    obey(&mut world, 3);
    steps(&mut world);
    assert_eq!((world.granted_count(5, "a", "3"), doubled(&world)), (3, 3), "not for long enough");
    world.wait(min_ready / 2);
    obey(&mut world, 3);
    steps(&mut world);
    assert_eq!((world.granted_count(5, "a", "3"), doubled(&world)), (5, 0));
}

#[test]
fn daemon_set_updates_some_old_pods_not_ready_with_max_surge() {
    let set = surging(IntOrPercent::Int(2));
    let mut world = running(10, &set);
    let mut moved = Vec::new();
    for body in ["2", "3"] {
        world.bad.insert(revision(body));
        world.put(set.clone(), body);
        world.settle();
        let of = |node: &u64| world.granted(*node, "a").unwrap().revision == revision(body);
        moved.push((1..=10).filter(of).collect::<Vec<_>>());
        assert_eq!((world.status("a").available, doubled(&world)), (10, 2));
    }
    assert_eq!(moved[0], moved[1], "the nodes that have two are those that go first");
}

#[test]
fn get_surge_numbers() {
    for (max, nodes, moved) in [
        (IntOrPercent::Int(1), 2, 1),
        (IntOrPercent::Percent(50), 2, 1),
        (IntOrPercent::Percent(50), 3, 2), // rounded up
        (IntOrPercent::Percent(1), 3, 1),
        (IntOrPercent::Int(9), 2, 2),
    ] {
        let set = surging(max);
        let mut world = running(nodes, &set);
        world.bad.insert(revision("2"));
        world.put(set, "2");
        world.settle();
        assert_eq!(world.granted_count(nodes, "a", "2"), moved, "{max} of {nodes}");
    }
}

// `daemon_controller_test.go`

#[test]
fn surge_deals_with_existing_pods() {
    let set = surging(IntOrPercent::Int(1));
    let mut world = running(2, &set);
    world.bad.insert(revision("2"));
    world.put(set, "2");
    world.settle();
    for node in 3..=5 {
        world.join(node);
        world.connect(id(node));
    }
    world.settle();
    let pods: usize = world.agents.values().map(|agent| agent.pods.len()).sum();
    assert_eq!((pods, doubled(&world)), (5, 1), "gaps are filled, and nothing is doubled by it");
}

#[test]
fn surge_preserves_ready_old_pods() {
    let set = surging(IntOrPercent::Int(1));
    let mut world = running(1, &set);
    let uid = world.agents[&id(1)].pods[&key("a")].uid;
    world.bad.insert(revision("2"));
    world.put(set, "2");
    world.settle();
    assert_eq!((world.agents[&id(1)].pods[&key("a")].uid, doubled(&world)), (uid, 1));
}

#[test]
fn surge_creates_new_pod_when_at_max_surge_and_old_pod_deleted() {
    let set = surging(IntOrPercent::Int(1));
    let mut world = running(5, &set);
    world.bad.insert(revision("2"));
    world.put(set, "2");
    world.settle();
    assert_eq!(world.granted_count(5, "a", "2"), 1);
    let other = (1..=5).find(|node| !granted(&world, *node)).unwrap();
    world.crash(id(other), &key("a"));
    steps(&mut world);
    assert!(granted(&world, other), "it has nothing to lose");
    assert_eq!(world.granted_count(5, "a", "2"), 2);
}

#[test]
fn surge_deletes_unready_old_pods() {
    let set = surging(IntOrPercent::Int(1));
    let mut world = running(1, &set);
    world.bad.insert(revision("2"));
    world.put(set, "2");
    world.settle();
    assert_eq!(doubled(&world), 1);
    world.crash(id(1), &key("a"));
    obey(&mut world, 2);
    assert_eq!((world.runs(1, "a"), doubled(&world)), (Some(revision("2")), 0));
    assert_eq!(world.status("a").available, 0);
}

#[test]
fn surge_preserves_old_ready_with_unsatisfied_min_ready_and_deletes_it_after() {
    let min_ready = Duration::from_secs(15);
    let set = DaemonSet { min_ready, ..surging(IntOrPercent::Int(1)) };
    let mut world = running(1, &set);
    world.put(set, "2");
    steps(&mut world);
    obey(&mut world, 3);
    world.wait(Duration::from_secs(10));
    obey(&mut world, 1);
    assert_eq!((world.runs(1, "a"), doubled(&world)), (Some(revision("1")), 1));
    world.wait(Duration::from_secs(10));
    obey(&mut world, 1);
    assert_eq!((world.runs(1, "a"), doubled(&world)), (Some(revision("2")), 0));
    assert_eq!(world.status("a").available, 1, "it was available before the old one went");
}

// Everynode's own.

#[test]
fn the_old_one_is_counted_and_the_new_one_explains() {
    let set = surging(IntOrPercent::Int(1));
    let mut world = running(3, &set);
    world.bad.insert(revision("2"));
    world.put(set, "2");
    world.settle();
    let status = world.status("a");
    assert_eq!((status.current, status.ready, status.available, status.updated), (3, 3, 3, 0));
    assert_eq!(condition(&world, "Available"), (true, "MinimumAvailable".into()));
    assert_eq!(condition(&world, "Degraded"), (false, "AsExpected".into()));
    assert_eq!(condition(&world, "Progressing"), (true, "RollingOut".into()));
    let first = (1..=3).find(|node| granted(&world, *node)).unwrap();
    assert_eq!(why(&world, first), "Surging");
    let second = (1..=3).find(|node| !granted(&world, *node)).unwrap();
    assert_eq!(why(&world, second), "RolloutPending");
    let filter = PodFilter { node: Some(id(first)), ..PodFilter::default() };
    assert_eq!(world.fleet.pods(&filter).len(), 2, "both are shown");
    world.crash(id(second), &key("a"));
    assert_eq!(condition(&world, "Available"), (false, "TooFewAvailable".into()));
    assert_eq!(condition(&world, "Degraded"), (true, "PodsUnavailable".into()));
}

#[test]
fn an_agent_that_cannot_surge_waits_and_says_so_until_it_can() {
    let set = surging(IntOrPercent::Percent(100));
    let mut world = running(3, &set);
    world.agents.get_mut(&id(2)).unwrap().old = true;
    world.connect(id(2));
    world.settle();
    world.put(set, "2");
    world.settle();
    assert_eq!(world.status("a").updated, 2);
    assert_eq!((world.runs(2, "a"), world.status("a").available), (Some(revision("1")), 3));
    assert_eq!(why(&world, 2), "MissingFeature");
    let order = world.agents[&id(2)].order.clone().unwrap();
    assert_eq!(order.assignment.get(&key("a")).unwrap().surge, None);
    world.agents.get_mut(&id(2)).unwrap().old = false;
    world.connect(id(2));
    world.settle();
    assert_eq!((world.runs(2, "a"), world.status("a").updated), (Some(revision("2")), 3));
}

#[test]
fn an_agent_that_cannot_surge_is_moved_where_nothing_is_lost_by_it() {
    let set = surging(IntOrPercent::Int(1));
    let mut world = running(2, &set);
    world.agents.get_mut(&id(2)).unwrap().old = true;
    world.connect(id(2));
    world.put(set, "2");
    world.crash(id(2), &key("a"));
    world.settle();
    assert_eq!((world.runs(2, "a"), world.status("a").updated), (Some(revision("2")), 2));
}

#[test]
fn what_was_begun_as_a_surge_ends_as_one() {
    let set = surging(IntOrPercent::Percent(100));
    let mut world = running(4, &set);
    world.bad.insert(revision("2"));
    world.put(set.clone(), "2");
    world.settle();
    assert_eq!(doubled(&world), 4);
    let one = Strategy::rolling(IntOrPercent::Int(1));
    world.put(DaemonSet { strategy: one, ..set.clone() }, "2");
    world.settle();
    assert_eq!((world.status("a").available, doubled(&world)), (4, 4), "no old pod goes by it");
    world.put(DaemonSet { strategy: one, ..set }, "3");
    steps(&mut world);
    assert_eq!(world.granted_count(4, "a", "3"), 1, "and then one after the other does");
    world.settle();
    assert_eq!((world.status("a").updated, doubled(&world)), (4, 0));
}

#[test]
fn a_revision_that_failed_goes_back_and_no_old_pod_was_touched() {
    let rollout = RolloutPolicy {
        progress_deadline: Some(LONG),
        on_failure: OnFailure::Rollback,
        ..RolloutPolicy::default()
    };
    let set = DaemonSet { rollout, ..surging(IntOrPercent::Int(2)) };
    let mut world = running(5, &set);
    let pods = |world: &World| -> Vec<_> {
        (1..=5).map(|node| world.agents[&id(node)].pods[&key("a")].uid).collect()
    };
    let before = pods(&world);
    world.bad.insert(revision("2"));
    world.put(set, "2");
    world.settle();
    assert_eq!((world.status("a").available, doubled(&world)), (5, 2));
    world.wait(LONG + LONG);
    world.settle();
    assert_eq!((world.granted_count(5, "a", "2"), doubled(&world)), (0, 0), "it went back");
    assert_eq!((world.status("a").available, pods(&world)), (5, before));
}

#[test]
fn a_deleted_pod_ends_at_once() {
    let set = surging(IntOrPercent::Int(1));
    let mut world = running(1, &set);
    assert!(world.fleet.assignment(id(1)).get(&key("a")).unwrap().surge.is_some());
    world.follow(&Command::ReplacePod { node: id(1), key: key("a") }).unwrap();
    assert_eq!(world.fleet.assignment(id(1)).get(&key("a")).unwrap().surge, None);
    obey(&mut world, 1);
    assert_eq!((world.status("a").ready, doubled(&world)), (0, 0));
    world.settle();
    world.put(set, "2");
    steps(&mut world);
    assert!(world.fleet.assignment(id(1)).get(&key("a")).unwrap().surge.is_some());
}

#[test]
fn a_node_that_goes_dark_with_two_holds_the_rollout() {
    let set = surging(IntOrPercent::Int(1));
    let mut world = running(3, &set);
    world.put(set, "2");
    assert!(world.step());
    let first = (1..=3).find(|node| granted(&world, *node)).unwrap();
    world.lose(first);
    world.settle();
    assert_eq!(world.granted_count(3, "a", "2"), 1);
    world.connect(id(first));
    world.settle();
    assert_eq!(world.status("a").updated, 3);
}
