//! ConfigMaps, Secrets and Namespaces, and their content in revisions.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod world;

use std::collections::{BTreeMap, BTreeSet};

use everynode_coordinator_core::{Command, Content, Opaque, Outcome, PutMode, RecordKey, Refusal};
use everynode_model::{DaemonSet, Digest, ObjectKey, PodKey, RolloutPolicy};
use world::*;

/// How long content is kept that no revision names.
const KEPT: std::time::Duration = std::time::Duration::from_secs(600);

fn blob(content: &str) -> Command {
    let (digest, blob) = (Digest::of(content.as_bytes()), Opaque(content.as_bytes().into()));
    Command::KeepBlob { digest, blob }
}

/// A put of a set that reads the ConfigMap `m`, and what its revision has of it.
fn put_reader(body: &str, content: Content) -> Command {
    let set = DaemonSet { reads: [map_key("m")].into(), ..daemon_set("a", 1, body) };
    with_content(put(set, body), content)
}

fn with_content(mut command: Command, given: Content) -> Command {
    if let Command::PutSet { content, .. } = &mut command {
        **content = given;
    }
    command
}

/// What was looked at: `m` at this version.
fn seen(version: Option<u64>, blobs: &[&str]) -> Content {
    Content {
        blobs: blobs.iter().map(|blob| Digest::of(blob.as_bytes())).collect(),
        missing: Vec::new(),
        labels: Default::default(),
        seen: [(map_key("m"), version)].into(),
        drifted: Some(BTreeSet::new()),
    }
}

fn version_of(world: &World, name: &str) -> u64 {
    world.fleet.object(&map_key(name)).unwrap().resource_version
}

fn set_version(world: &World) -> u64 {
    world.fleet.set(&key("a")).unwrap().record.resource_version
}

#[test]
fn a_revision_rests_on_what_was_looked_at() {
    let mut world = World::with_nodes(2);
    world.follow(&put_map("m", "1", &[])).unwrap();
    let version = version_of(&world, "m");
    let conflict = |world: &mut World, command| {
        assert!(matches!(world.follow(&command), Err(Refusal::Conflict { .. })), "{command:?}");
    };
    conflict(&mut world, put_reader("r1", seen(None, &[])));
    conflict(&mut world, put_reader("r1", seen(Some(version), &["never kept"])));
    world.follow(&blob("one")).unwrap();
    world.follow(&put_reader("r1", seen(Some(version), &["one"]))).unwrap();
    world.settle();
    let order = world.fleet.order_of(id(1)).unwrap();
    assert_eq!(&*order.bodies[&Digest::of(b"one")], b"one", "content comes with the template");

    conflict(&mut world, put_map("m", "2", &[]));
    let looked_at = set_version(&world);
    conflict(&mut world, put_map("m", "2", &[(1, looked_at - 1)]));
    world.follow(&put_map("m", "2", &[(1, looked_at)])).unwrap();
    let refused = world.follow(&Command::PutObject {
        mode: PutMode::Create,
        key: map_key("m"),
        uid: id(9),
        labels: labels(&[]),
        object: Opaque(b"3".as_slice().into()),
        expected_version: None,
        readers: [(id(1), looked_at)].into(),
        due: BTreeSet::new(),
    });
    assert_eq!(refused, Err(Refusal::ObjectExists(map_key("m"))));
    world.check();
}

#[test]
fn several_commands_are_one_transaction() {
    let mut world = World::with_nodes(1);
    let there = PodKey::new("team", "a").unwrap();
    let set = DaemonSet { key: there.clone(), ..daemon_set("a", 1, "1") };
    let alone = put(set, "1");
    let missing = Refusal::ObjectNotFound(ObjectKey::namespace("team"));
    assert_eq!(world.follow(&alone), Err(missing));
    let wrong =
        Command::All(vec![create_namespace("team"), alone.clone(), create_namespace("team")]);
    // The third is decided by what is there before all of them, and stores the same.
    let outcome = world.follow(&wrong).unwrap();
    let Outcome::All(outcomes) = outcome else { panic!("{outcome:?}") };
    assert_eq!(outcomes.len(), 3);
    assert!(world.fleet.set(&there).is_some());
    let refused =
        world.follow(&Command::All(vec![put_map("x", "1", &[]), put_map("y", "1", &[(7, 7)])]));
    assert!(matches!(refused, Err(Refusal::Conflict { .. })));
    assert!(world.fleet.object(&map_key("x")).is_none(), "all or none");
    world.check();
}

#[test]
fn no_rollout_leads_to_what_could_not_start() {
    let mut world = World::with_nodes(3);
    world.follow(&put_reader("r1", seen(None, &[]))).unwrap();
    world.settle();
    let lacking = Content { missing: vec!["configmap \"m\" not found".into()], ..seen(None, &[]) };
    let next = put_reader("r2", lacking);
    assert_eq!(world.fleet.effect(std::slice::from_ref(&next), world.now).restarts, 0);
    let could_start = put_reader("r2", seen(None, &[]));
    assert_eq!(world.fleet.effect(&[could_start], world.now).restarts, 3);
    world.follow(&next).unwrap();
    world.settle();
    let status = world.fleet.set(&key("a")).unwrap();
    assert_eq!((status.status.available, status.status.updated), (3, 0));
    let (_, holds, reason) = &status.conditions[0];
    assert_eq!((*holds, reason.code.as_str()), (false, "ConfigMissing"));
    assert!(reason.message.contains("configmap \"m\" not found"), "{reason}");

    world.follow(&blob("one")).unwrap();
    let looked_at = [(1, set_version(&world))];
    let appears = put_map("m", "1", &looked_at);
    let next = put_reader("r3", seen(None, &["one"]));
    world.follow(&Command::All(vec![appears, next])).unwrap();
    world.settle();
    assert_eq!(world.fleet.set(&key("a")).unwrap().status.updated, 3);

    let careful = RolloutPolicy {
        partition: Some(everynode_model::IntOrPercent::Int(1)),
        ..RolloutPolicy::default()
    };
    let set = DaemonSet { rollout: careful, ..daemon_set("b", 2, "b1") };
    let lacking = Content { missing: vec!["secret \"s\" not found".into()], ..Content::default() };
    world.follow(&with_content(put(set, "b1"), lacking)).unwrap();
    world.settle();
    assert_eq!(world.fleet.set(&key("b")).unwrap().status.current, 0, "a first rollout waits, too");
}

#[test]
fn content_goes_when_no_revision_names_it_and_not_at_once() {
    let mut world = World::with_nodes(1);
    let kept = |world: &World, content: &str| {
        world.store.contains_key(&RecordKey::Blob(Digest::of(content.as_bytes())))
    };
    world.follow(&blob("one")).unwrap();
    world.follow(&blob("never named")).unwrap();
    world.follow(&put_reader("r1", seen(None, &["one"]))).unwrap();
    world.wait(KEPT / 2);
    world.settle();
    assert!(kept(&world, "one") && kept(&world, "never named"));
    world.wait(KEPT);
    world.settle();
    assert!(kept(&world, "one") && !kept(&world, "never named"));
    world.follow(&Command::DeleteSet { key: key("a"), uid: None }).unwrap();
    world.settle();
    assert!(kept(&world, "one"), "it may be about to be named again");
    world.wait(KEPT * 2);
    world.settle();
    assert!(!kept(&world, "one"));
    world.check();
}

#[test]
fn who_went_back_drifts_until_the_next_change() {
    let mut world = World::with_nodes(1);
    world.follow(&put_reader("r1", seen(None, &[]))).unwrap();
    let pinned = |world: &World| {
        let view = world.fleet.set(&key("a")).unwrap();
        view.conditions
            .into_iter()
            .find(|(name, ..)| name == "Pinned")
            .map(|(.., reason)| reason.message)
    };
    assert_eq!(pinned(&world), None);
    let back = Content { drifted: Some([map_key("m")].into()), ..seen(None, &[]) };
    world.follow(&put_reader("r0", back)).unwrap();
    assert!(pinned(&world).unwrap().starts_with("drifted from ConfigMap m: "));
    world.follow(&put_reader("r0", Content::default())).unwrap();
    assert!(pinned(&world).is_some(), "the same again is no change");
    world.follow(&put_reader("r0", seen(None, &[]))).unwrap();
    assert_eq!(pinned(&world), None);
}

#[test]
fn a_namespace_goes_with_what_is_in_it_and_takes_nothing_new() {
    let mut world = World::with_nodes(3);
    let delete = |name: &str| Command::DeleteObject { key: ObjectKey::namespace(name), uid: None };
    assert_eq!(world.follow(&delete("default")), Err(Refusal::NamespaceBuiltIn("default".into())));
    let absent = Refusal::ObjectNotFound(ObjectKey::namespace("team"));
    assert_eq!(world.follow(&delete("team")), Err(absent));
    world.follow(&create_namespace("team")).unwrap();
    for number in 0..5 {
        let there = PodKey::new("team", &format!("a{number}")).unwrap();
        let set = DaemonSet { key: there, ..daemon_set("a", 10 + number, "1") };
        world.put(set, "1");
    }
    let inside = ObjectKey { namespace: "team".into(), ..map_key("m") };
    let Command::PutObject { uid, labels, object, .. } = put_map("m", "1", &[]) else { panic!() };
    let mut put_inside = Command::PutObject {
        mode: PutMode::Apply,
        key: inside.clone(),
        uid,
        labels,
        object,
        expected_version: None,
        readers: Default::default(),
        due: BTreeSet::new(),
    };
    world.follow(&put_inside).unwrap();
    world.put(daemon_set("stays", 2, "1"), "1");
    world.settle();
    let careful = Command::Careful(Box::new(delete("team")));
    let refused = Refusal::WouldRemoveSets { sets: 5, pods: 15, of: 18 };
    assert_eq!(world.follow(&careful), Err(refused));
    assert_eq!(world.fleet.effect(&[delete("team")], world.now).loses, 15);

    world.follow(&delete("team")).unwrap();
    if let Command::PutObject { key, .. } = &mut put_inside {
        key.name = "new".into();
    }
    let refused = world.follow(&put_inside);
    assert!(matches!(refused, Err(Refusal::NamespaceTerminating { .. })), "{refused:?}");
    let set = DaemonSet { key: PodKey::new("team", "new").unwrap(), ..daemon_set("a", 20, "1") };
    let refused = world.follow(&put(set, "1"));
    assert!(matches!(refused, Err(Refusal::NamespaceTerminating { .. })), "{refused:?}");
    world.settle();
    assert!(world.fleet.object(&ObjectKey::namespace("team")).is_none());
    assert!(world.fleet.object(&inside).is_none());
    assert_eq!(world.fleet.sets(None).len(), 1);
    assert_eq!(world.fleet.assignment(id(1)).len(), 1);
    world.check();
}

#[test]
fn a_namespace_that_is_deleted_while_orders_are_held_is_told_before_they_are_given() {
    let mut world = World::with_nodes(3);
    world.follow(&create_namespace("team")).unwrap();
    let there = PodKey::new("team", "a").unwrap();
    world.put(DaemonSet { key: there, ..daemon_set("a", 1, "1") }, "1");
    world.settle();
    let copy = world.copy();
    world.restore(copy);
    world.connect_all();
    world.settle();
    let key = ObjectKey::namespace("team");
    world.follow(&Command::DeleteObject { key: key.clone(), uid: None }).unwrap();
    let early = world.resume(false);
    assert!(matches!(early, Err(Refusal::Conflict { .. })), "{early:?}");
    world.settle();
    assert!(world.fleet.object(&key).is_none(), "what is made again in it need not wait");
    assert_eq!(world.resume(false), Err(Refusal::WouldRemove { pods: 3, nodes: 3 }));
    world.resume(true).unwrap();
    world.check();
}

#[test]
fn namespaces_from_before_they_were_objects_are_there() {
    let mut world = World::with_nodes(1);
    let names = |world: &World| {
        let all = world.fleet.objects(everynode_model::ObjectKind::Namespace, None);
        all.into_iter().map(|record| record.key.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&world), ["default", "kube-system"]);
    world.follow(&create_namespace("old")).unwrap();
    let old = PodKey::new("old", "a").unwrap();
    world.put(DaemonSet { key: old, ..daemon_set("a", 1, "1") }, "1");
    world.keep(&[everynode_coordinator_core::Write::delete(RecordKey::Object(
        ObjectKey::namespace("old"),
    ))]);
    assert_eq!(names(&world), ["default", "kube-system", "old"]);
    let next = PodKey::new("old", "b").unwrap();
    world.put(DaemonSet { key: next, ..daemon_set("b", 2, "1") }, "1");
}

/// The revision of a set with this template that has read `m` with this content.
fn made_of(template: u64, content: &str) -> String {
    format!("t{template}/{content}")
}

/// How many sets read `m` in the tests below: with three records each, more than fit.
const MANY: u64 = 45;

fn many_key(number: u64) -> PodKey {
    key(&format!("a{number}"))
}

/// A put of one of many sets that read `m`, as somebody who has looked at `m` just now makes it.
fn put_many(world: &World, number: u64, template: u64, content: &str) -> Command {
    let body = made_of(template, content);
    let set = daemon_set(&format!("a{number}"), 100 + number, &body);
    let set = DaemonSet { reads: [map_key("m")].into(), ..set };
    with_content(put(set, &body), seen(Some(version_of(world, "m")), &[]))
}

/// A put of `m` that says of all who read it that they are due, if what they read is another; nobody reads
/// the rest.
fn put_for_many(world: &World, content: &str, rest: u64) -> Command {
    let mut command = put_map("m", &format!("{content}|{rest}"), &[]);
    let changes = content != content_of(world);
    if let Command::PutObject { readers, due, .. } = &mut command {
        for record in world.fleet.readers(&map_key("m")) {
            readers.insert(record.set.uid, record.resource_version);
            due.extend(changes.then_some(record.set.uid));
        }
    }
    command
}

/// What sets read of `m`.
fn content_of(world: &World) -> String {
    let object = world.fleet.object(&map_key("m")).unwrap().object;
    let all = String::from_utf8(object.0.to_vec()).unwrap();
    all.split('|').next().unwrap().to_owned()
}

/// What sees to the sets that are due: so many of them, in one transaction; whether there were any.
fn follow_due(world: &mut World, most: usize, templates: &BTreeMap<u64, u64>) -> bool {
    let due = world.fleet.due();
    let content = content_of(world);
    let number = |key: &PodKey| key.name()[1..].parse::<u64>().unwrap();
    let puts = due.iter().take(most).map(number);
    let puts: Vec<_> = puts.map(|it| put_many(world, it, templates[&it], &content)).collect();
    world.follow(&Command::All(puts)).unwrap();
    !due.is_empty()
}

/// All that are due follow, which takes so many transactions at most.
fn follow_all(world: &mut World, most: usize, templates: &BTreeMap<u64, u64>) {
    for _ in 0..100 {
        if !follow_due(world, most, templates) {
            return;
        }
    }
    panic!("somebody stays due: {:?}", world.fleet.due());
}

#[test]
fn who_is_due_is_known_until_all_have_followed() {
    let mut world = World::with_nodes(1);
    world.follow(&put_map("m", "1", &[])).unwrap();
    let templates: BTreeMap<u64, u64> = (1..=MANY).map(|number| (number, 1)).collect();
    for number in 1..=MANY {
        let put = put_many(&world, number, 1, "1");
        world.follow(&put).unwrap();
    }
    let together: Vec<_> = (1..=MANY).map(|it| put_many(&world, it, 1, "2")).collect();
    let refused = world.follow(&Command::All(together));
    assert!(matches!(refused, Err(Refusal::TooMany { .. })), "{refused:?}");

    let put = put_for_many(&world, "2", 0);
    world.follow(&put).unwrap();
    assert_eq!(world.fleet.due().len(), 45);
    let progressing = |world: &World, number| {
        let view = world.fleet.set(&many_key(number)).unwrap();
        view.conditions.into_iter().next().unwrap().2.code
    };
    assert_eq!(progressing(&world, 1), "ContentDue");
    let version = world.fleet.set(&many_key(1)).unwrap().resource_version;
    assert!(follow_due(&mut world, 20, &templates));
    world.restart();
    assert_eq!((world.fleet.due().len(), progressing(&world, 45)), (25, "ContentDue".into()));
    assert_ne!(progressing(&world, 1), "ContentDue");
    assert!(world.fleet.set(&many_key(1)).unwrap().resource_version > version, "it is told of");
    follow_all(&mut world, 20, &templates);
    for number in 1..=MANY {
        let set = world.fleet.set(&many_key(number)).unwrap();
        assert_eq!(set.target, revision(&made_of(1, "2")));
    }
    assert!(world.fleet.due().is_empty());
}

/// An object may be nearly all that a transaction takes, and one set may be due to follow several.
#[test]
fn who_follows_writes_no_object_again() {
    let mut world = World::with_nodes(1);
    world.follow(&put_map("m", "1", &[])).unwrap();
    let put = put_many(&world, 1, 1, "1");
    world.follow(&put).unwrap();
    let put = put_for_many(&world, "2", 0);
    world.follow(&put).unwrap();
    let follow = put_many(&world, 1, 1, "2");
    for command in [follow.clone(), Command::All(vec![follow.clone()])] {
        let writes = world.fleet.decide(&command, world.now).unwrap().writes;
        let objects = writes.iter().filter(|write| matches!(write.key, RecordKey::Object(_)));
        assert_eq!(objects.count(), 0, "{writes:?}");
    }
    world.follow(&follow).unwrap();
    assert!(world.fleet.due().is_empty());
}

/// Of one that is deleted nobody follows anything: neither then, nor when there is another of its name.
#[test]
fn nobody_is_due_to_follow_what_is_deleted() {
    let mut world = World::with_nodes(1);
    world.follow(&put_map("m", "1", &[])).unwrap();
    let put = put_many(&world, 1, 1, "1");
    world.follow(&put).unwrap();
    let put = put_for_many(&world, "2", 0);
    world.follow(&put).unwrap();
    assert_eq!(world.fleet.due(), [many_key(1)]);
    world.follow(&Command::DeleteObject { key: map_key("m"), uid: None }).unwrap();
    assert!(world.fleet.due().is_empty());
    let version = world.fleet.set(&many_key(1)).unwrap().record.resource_version;
    world.follow(&put_map("m", "1", &[(100 + 1, version)])).unwrap();
    assert!(world.fleet.due().is_empty());
    world.restart();
    assert!(world.fleet.due().is_empty());
}

#[test]
fn who_does_not_read_it_is_not_due() {
    let mut world = World::with_nodes(1);
    world.follow(&put_map("m", "1", &[])).unwrap();
    world.put(daemon_set("a", 1, "1"), "1");
    let mut put = put_map("m", "2", &[]);
    if let Command::PutObject { due, .. } = &mut put {
        due.insert(id(1));
    }
    assert!(matches!(world.follow(&put), Err(Refusal::Conflict { .. })));
}

/// Whatever comes in between, also a coordinator that starts anew between two transactions: in the end
/// every set has a revision of what `m` says, but those that somebody took back after its last change.
#[test]
fn at_random_everybody_follows_in_the_end() {
    for seed in 1..=40 {
        let mut dice = dice::Dice::new(seed);
        let mut world = World::with_nodes(1);
        world.follow(&put_map("m", "0", &[])).unwrap();
        let mut templates: BTreeMap<u64, u64> = BTreeMap::new();
        let mut back: BTreeMap<u64, String> = BTreeMap::new();
        for _ in 0..80 {
            let number = 1 + dice.roll(6);
            let content = content_of(&world);
            match dice.roll(8) {
                0 => {
                    let next = dice.roll(4).to_string();
                    let put = put_for_many(&world, &next, dice.roll(3));
                    world.follow(&put).unwrap();
                    if next != content {
                        back.clear();
                    }
                }
                // A template that is changed reads what is there.
                1 => {
                    let template = templates.get(&number).map_or(1, |known| known + 1);
                    let put = put_many(&world, number, template, &content);
                    world.follow(&put).unwrap();
                    templates.insert(number, template);
                    back.remove(&number);
                }
                2 if templates.contains_key(&number) => {
                    let old = dice.roll(4).to_string();
                    let mut undo = put_many(&world, number, templates[&number], &old);
                    if let Command::PutSet { content: its, .. } = &mut undo {
                        its.drifted = Some([map_key("m")].into());
                    }
                    world.follow(&undo).unwrap();
                    back.insert(number, old);
                }
                3 if dice.chance(3) && templates.remove(&number).is_some() => {
                    let delete = Command::DeleteSet { key: many_key(number), uid: None };
                    world.follow(&delete).unwrap();
                    back.remove(&number);
                }
                4 => world.restart(),
                5 => drop(world.go_back()),
                _ => drop(follow_due(&mut world, 2, &templates)),
            }
            world.check();
        }
        follow_all(&mut world, 2, &templates);
        let content = content_of(&world);
        for (number, template) in &templates {
            let wanted = made_of(*template, back.get(number).unwrap_or(&content));
            let is = world.fleet.set(&many_key(*number)).unwrap().target;
            assert_eq!(is, revision(&wanted), "seed {seed}: set {number}");
        }
    }
}
