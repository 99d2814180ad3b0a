//! How a node is doing: shown, told when it turns, and nothing else follows.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod world;

use everynode_coordinator_core::{EventType, Observation};
use everynode_model::{NodeCondition, WallTime};
use world::{World, id};

fn disk(holds: bool) -> NodeCondition {
    NodeCondition {
        kind: "DiskPressure".into(),
        holds,
        reason: if holds { "HasDiskPressure" } else { "HasNoDiskPressure" }.into(),
        message: "8 % is left".into(),
        since: WallTime::default(),
    }
}

fn say(world: &mut World, conditions: Vec<NodeCondition>) {
    let (node, session) = (id(1), world.agents[&id(1)].session.unwrap());
    world.observe(Observation::Conditions { node, session, conditions });
}

fn told(world: &World) -> Vec<(String, EventType)> {
    let events = world.fleet.events();
    let ours = events.filter(|event| event.message.contains("status is now"));
    ours.map(|event| (event.reason.clone(), event.event_type)).collect()
}

#[test]
fn only_what_turns_is_told() {
    let mut world = World::with_nodes(1);
    say(&mut world, vec![disk(false)]);
    assert_eq!(told(&world), [], "all is well");
    say(&mut world, vec![disk(true)]);
    say(&mut world, vec![disk(true)]);
    let bad = ("NodeHasDiskPressure".to_owned(), EventType::Warning);
    assert_eq!(told(&world), std::slice::from_ref(&bad));
    say(&mut world, vec![disk(false)]);
    let good = ("NodeHasNoDiskPressure".to_owned(), EventType::Normal);
    assert_eq!(told(&world), [bad, good]);
    let hello = world.fleet.node(id(1)).unwrap().hello.unwrap();
    assert_eq!(hello.conditions, [disk(false)]);
}
