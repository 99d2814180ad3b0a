//! A DaemonSet is deleted without its pods, which another takes over.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod world;

use std::collections::BTreeSet;

use everynode_coordinator_core::{
    Changed, Command, Effect, NodeChange, Outcome, PodFilter, RecordKey, Refusal, WhyFilter,
};
use everynode_model::{
    DaemonSet, Digest, Intent, NodeUid, ObjectKey, Placement, PodUid, Selector, SetUid, Strategy,
};
use world::{World, daemon_set, id, key, labels, map_key, put, revision};

const ORPHAN: fn() -> Command = || Command::OrphanSet { key: key("a"), uid: None };

fn running(nodes: u64) -> World {
    let mut world = World::with_nodes(nodes);
    world.put(daemon_set("a", 1, "1"), "1");
    world.settle();
    world
}

fn orphaned(nodes: u64) -> World {
    let mut world = running(nodes);
    world.follow(&ORPHAN()).unwrap();
    world.settle();
    world
}

/// Each pod that runs: its node, itself, and what it was made from.
fn pods(world: &World) -> Vec<(NodeUid, PodUid, SetUid, Digest)> {
    let of = |(node, agent): (&NodeUid, &world::Agent)| {
        agent.pods.get(&key("a")).map(|pod| (*node, pod.uid, pod.set, pod.revision))
    };
    world.agents.iter().filter_map(of).collect()
}

fn restarted(mut world: World) -> World {
    world.restart();
    let nodes: Vec<NodeUid> = world.agents.keys().copied().collect();
    nodes.into_iter().for_each(|node| world.connect(node));
    world.settle();
    world
}

#[test]
fn the_object_goes_and_the_pods_stay_on_every_node_and_on_no_other() {
    let mut world = running(3);
    world.disconnect(id(3));
    let before = pods(&world);
    let Ok(Outcome::SetDeleted(record)) = world.follow(&ORPHAN()) else { panic!() };
    assert!(!record.set.is_orphaned(), "it is told of as it was");
    world.settle();
    assert!(world.fleet.set(&key("a")).is_none() && world.fleet.sets(None).is_empty());
    assert!(matches!(world.follow(&ORPHAN()), Err(Refusal::SetNotFound(_))));
    let delete = Command::DeleteSet { key: key("a"), uid: None };
    assert!(matches!(world.follow(&delete), Err(Refusal::SetNotFound(_))));
    world.join(4);
    world.connect(id(4));
    world.connect(id(3));
    world.settle();
    let mut world = restarted(world);
    assert_eq!(pods(&world), before, "also on a node that was away, and through a restart");
    let views = world.fleet.pods(&PodFilter::default());
    assert_eq!(views.iter().filter(|view| view.orphaned).count(), 3);
    assert!(views.len() == 3 && views.iter().all(|view| view.reason.is_none()));
    let item = world.fleet.assignment(id(1)).get(&key("a")).cloned().unwrap();
    assert_eq!(item.intent, Intent::Keep);
    let why = world.fleet.why(&WhyFilter::default());
    assert!(why.iter().all(|line| line.fine && line.reason.message.contains("without its pods")));
    // What the DaemonSet had selected does not matter any more.
    let (label, value) = ("x".to_owned(), "1".to_owned());
    world.change(1, NodeChange::SetLabel { key: label, value, overwrite: true });
    world.taint(2, "k=v:NoSchedule");
    world.settle();
    assert_eq!(pods(&world), before);
}

#[test]
fn each_pod_goes_for_good_by_itself_or_with_its_node() {
    let mut world = orphaned(3);
    world.follow(&Command::ReplacePod { node: id(1), key: key("a") }).unwrap();
    world.settle();
    assert_eq!(pods(&world).len(), 2);
    world.taint(2, "k=v:NoExecute");
    world.settle();
    assert_eq!(pods(&world).iter().map(|pod| pod.0).collect::<Vec<_>>(), [id(3)]);
    world.follow(&Command::DeleteNode { name: world::name(3), forget: false }).unwrap();
    world.settle();
    world.take_steps();
    let left = |key: &RecordKey| {
        matches!(key, RecordKey::Set(_) | RecordKey::GrantHead(_) | RecordKey::Revision(..))
    };
    assert!(!world.store.keys().any(left), "the last one takes all that was kept for them with it");
    world.put(daemon_set("a", 7, "1"), "1");
    world.settle();
    assert_eq!(world.fleet.set(&key("a")).unwrap().record.set.uid, id(7));
}

#[test]
fn the_same_template_takes_them_over_without_a_restart() {
    let mut world = orphaned(2);
    world.join(3);
    world.connect(id(3));
    let before = pods(&world);
    let command = put(daemon_set("a", 9, "1"), "1");
    let gains = Effect { gains: 1, ..Effect::default() };
    assert_eq!(world.fleet.effect(std::slice::from_ref(&command), world.now), gains);
    let Ok(Outcome::Set { record, created: true, .. }) = world.follow(&command) else { panic!() };
    assert_eq!((record.set.uid, record.set.generation), (id(1), 1));
    world.settle();
    let mut world = restarted(world);
    assert_eq!(pods(&world)[..2], before);
    assert_eq!((world.status("a").desired, world.status("a").available), (3, 3));
    assert!(world.fleet.pods(&PodFilter::default()).iter().all(|view| !view.orphaned));
    world.take_steps();
    assert!(!world.store.keys().any(|key| matches!(key, RecordKey::GrantChunk(..))));
}

#[test]
fn another_template_is_rolled_out_to_them_one_by_one() {
    let mut world = orphaned(3);
    let command = put(daemon_set("a", 9, "2"), "2");
    let restarts = Effect { restarts: 3, ..Effect::default() };
    assert_eq!(world.fleet.effect(std::slice::from_ref(&command), world.now), restarts);
    world.follow(&command).unwrap();
    world.round();
    assert!(world.granted_count(3, "a", "2") <= 1, "within the budget");
    world.settle();
    assert_eq!(world.status("a").updated, 3);
    assert_eq!(world.fleet.set(&key("a")).unwrap().stable, Some(revision("2")));
}

#[test]
fn one_that_selects_others_waits_until_they_are_gone() {
    let mut world = orphaned(1);
    let selector = Selector::from_labels(&labels(&[("app", "other")]));
    let other = || put(DaemonSet { selector: selector.clone(), ..daemon_set("a", 9, "1") }, "1");
    let Err(Refusal::Conflict { detail, .. }) = world.follow(&other()) else { panic!() };
    assert!(detail.contains("delete them first"), "{detail}");
    world.follow(&Command::ReplacePod { node: id(1), key: key("a") }).unwrap();
    world.settle();
    world.take_steps();
    world.follow(&other()).unwrap();
}

#[test]
fn taking_over_counts_what_it_ends() {
    let mut world = orphaned(4);
    let placement = Placement { node_selector: labels(&[("no", "where")]), ..Placement::default() };
    let narrow = put(DaemonSet { placement, ..daemon_set("a", 9, "1") }, "1");
    let careful = Command::Careful(Box::new(narrow));
    let refused = Refusal::WouldRemoveOf { key: key("a"), pods: 4, of: 4 };
    assert_eq!(world.follow(&careful), Err(refused));
    // Leaving pods ends none.
    let mut world = running(4);
    assert_eq!(world.fleet.effect(&[ORPHAN()], world.now), Effect::default());
    world.follow(&Command::Careful(Box::new(ORPHAN()))).unwrap();
}

#[test]
fn where_a_rollout_had_not_come_there_is_nothing_to_keep() {
    let mut world = World::with_nodes(3);
    world.bad.insert(revision("1"));
    let rollout = everynode_model::RolloutPolicy {
        partition: Some(everynode_model::IntOrPercent::Int(2)),
        ..Default::default()
    };
    world.put(DaemonSet { rollout, ..daemon_set("a", 1, "1") }, "1");
    world.settle();
    assert_eq!(pods(&world).len(), 1);
    world.follow(&ORPHAN()).unwrap();
    world.settle();
    assert_eq!(pods(&world).len(), 1);
    let on_delete = DaemonSet { strategy: Strategy::OnDelete, ..daemon_set("a", 2, "1") };
    world.put(on_delete, "1");
    world.settle();
    assert_eq!(pods(&world).len(), 3);
}

#[test]
fn nothing_that_they_read_reaches_them_any_more() {
    let mut world = World::with_nodes(1);
    let reads: BTreeSet<ObjectKey> = [map_key("m")].into();
    world.put(DaemonSet { reads, ..daemon_set("a", 1, "1") }, "1");
    assert_eq!(world.fleet.readers(&map_key("m")).len(), 1);
    world.follow(&ORPHAN()).unwrap();
    assert_eq!(world.fleet.readers(&map_key("m")), []);
}

#[test]
fn watchers_see_it_go_once_and_come_again() {
    let mut world = running(2);
    world.fleet.take_changes();
    let told = |world: &mut World| {
        let set = |changed: &Changed| matches!(changed, Changed::Set(..));
        world.fleet.take_changes().iter().any(set)
    };
    world.follow(&ORPHAN()).unwrap();
    assert!(told(&mut world));
    world.crash(id(1), &key("a"));
    world.follow(&Command::ReplacePod { node: id(1), key: key("a") }).unwrap();
    world.settle();
    world.follow(&Command::ReplacePod { node: id(2), key: key("a") }).unwrap();
    world.settle();
    world.take_steps();
    assert!(!told(&mut world), "what becomes of its pods is none of it");
    world.put(daemon_set("a", 3, "1"), "1");
    assert!(told(&mut world));
}
