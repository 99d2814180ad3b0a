//! DaemonSets: putting, refusing, deleting, versions.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod world;

use everynode_coordinator_core::{
    Command, Config, Fleet, Outcome, PutMode, Record, RecordKey, Refusal,
};
use everynode_model::{DaemonSet, Selector};
use world::{World, daemon_set, id, key, labels, put};

fn with(mut command: Command, wanted: PutMode, version: Option<u64>) -> Command {
    if let Command::PutSet { mode, expected_version, .. } = &mut command {
        *mode = wanted;
        *expected_version = version;
    }
    command
}

#[test]
fn modes_and_versions_are_insisted_on() {
    let mut world = World::new();
    let set = || daemon_set("a", 1, "1");
    let refused = world.follow(&with(put(set(), "1"), PutMode::Replace, None));
    assert_eq!(refused, Err(Refusal::SetNotFound(key("a"))));
    let created = world.follow(&with(put(set(), "1"), PutMode::Create, None)).unwrap();
    let Outcome::Set { record, created: true, changed: true } = created else { panic!() };
    let refused = world.follow(&with(put(set(), "1"), PutMode::Create, None));
    assert_eq!(refused, Err(Refusal::SetExists(key("a"))));
    let seen = Some(record.resource_version);
    let changed = world.follow(&with(put(set(), "2"), PutMode::Replace, seen)).unwrap();
    let Outcome::Set { record: next, .. } = changed else { panic!() };
    assert!(next.resource_version > record.resource_version);
    assert_eq!((record.set.generation, next.set.generation), (1, 2));
    let refused = world.follow(&with(put(set(), "3"), PutMode::Replace, seen));
    assert!(matches!(refused, Err(Refusal::Conflict { .. })));
    let selector = Selector::from_labels(&labels(&[("app", "other")]));
    let refused = world.follow(&put(DaemonSet { selector, ..set() }, "2"));
    assert_eq!(refused, Err(Refusal::SelectorImmutable(key("a"))));
}

#[test]
fn the_same_again_is_no_change() {
    let mut world = World::new();
    let same = || {
        let mut same = put(daemon_set("a", 1, "1"), "1");
        if let Command::PutSet { spec_changed, .. } = &mut same {
            *spec_changed = false;
        }
        same
    };
    world.follow(&same()).unwrap();
    let before = world.writes;
    let Ok(Outcome::Set { created, changed, .. }) = world.follow(&same()) else { panic!() };
    assert_eq!((created, changed, world.writes), (false, false, before));
}

#[test]
fn a_set_that_comes_again_is_another_one() {
    let mut world = World::with_nodes(2);
    world.put(daemon_set("a", 1, "1"), "1");
    world.settle();
    let first = world.agents[&id(1)].pods[&key("a")].uid;
    world.put(daemon_set("a", 5, "2"), "2");
    assert_eq!(world.fleet.set(&key("a")).unwrap().record.set.uid, id(1), "a change keeps its uid");
    let wrong = Command::DeleteSet { key: key("a"), uid: Some(id(9)) };
    assert!(matches!(world.follow(&wrong), Err(Refusal::Conflict { .. })));
    world.follow(&Command::DeleteSet { key: key("a"), uid: Some(id(1)) }).unwrap();
    let left = |key: &RecordKey| {
        matches!(key, RecordKey::GrantHead(_) | RecordKey::GrantChunk(..) | RecordKey::Revision(..))
    };
    assert!(!world.store.keys().any(left));
    world.put(daemon_set("a", 6, "1"), "1");
    world.settle();
    let pod = &world.agents[&id(1)].pods[&key("a")];
    assert_eq!((pod.set, pod.uid == first), (id(6), false));
    assert_eq!(world.status("a").available, 2);
}

#[test]
fn leftovers_of_a_deleted_set_are_swept() {
    let mut world = World::with_nodes(1);
    world.put(DaemonSet { history_limit: 500, ..daemon_set("a", 1, "0") }, "0");
    for body in 1..300 {
        let set = DaemonSet { history_limit: 500, ..daemon_set("a", 1, "") };
        world.put(set, &body.to_string());
    }
    world.follow(&Command::DeleteSet { key: key("a"), uid: None }).unwrap();
    assert!(world.store.keys().any(|key| matches!(key, RecordKey::Revision(..))));
    world.take_steps();
    assert!(!world.store.keys().any(|key| matches!(key, RecordKey::Revision(..))));
    world.check();
}

#[test]
fn that_nobody_reaches_its_pods_is_told_of_a_set() {
    let mut world = World::with_nodes(2);
    let apart = [everynode_model::NAMESPACES[0].to_owned()].into();
    world.put(daemon_set("a", 1, "1"), "1");
    world.put(DaemonSet { features: apart, ..daemon_set("b", 2, "1") }, "1");
    world.settle();
    let told = world.fleet.events().filter(|event| event.reason == "LoopbackAlone");
    let told: Vec<_> = told.map(|event| (event.about.name.clone(), event.count)).collect();
    assert_eq!(told, [("b".to_owned(), 2)]);
}

#[test]
fn limits_are_named() {
    let mut world = World::new();
    let config = Config { max_sets: 1, max_nodes: 1, max_tokens: 1, ..Config::default() };
    let records: Vec<Record> = world.store.values().cloned().collect();
    world.fleet = Fleet::restore(records, config, world.now).unwrap();
    let too_many = |what| Err(Refusal::TooMany { what, limit: 1 });
    world.put(daemon_set("a", 1, "1"), "1");
    assert_eq!(world.follow(&put(daemon_set("b", 2, "1"), "1")), too_many("DaemonSets"));
    world.join(1);
    let second = World::join_command(2, world::name(2));
    assert_eq!(world.follow(&second), too_many("nodes"));
    assert_eq!(world.follow(&Command::CreateToken(world::token("u"))), too_many("join tokens"));
}
