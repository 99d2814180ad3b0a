//! A seeded random walk over all commands, observations and time; every invariant holds after every
//! step, a restart changes no assignment, and a healed fleet converges. Then its store is restored
//! from a copy taken on the way: what ends is what was told, and the fleet converges again.
//!
//! `EVERYNODE_SEED=n cargo test -p everynode-coordinator-core --test walk` replays one seed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod world;

use std::time::Duration;

use everynode_coordinator_core::{
    Command, Content, NodeChange, NodeStanding, Observation, Opaque, PodFilter, WhyFilter,
};
use everynode_model::{
    Canary, CanaryWait, DaemonSet, Digest, Effect, IntOrPercent, NodeUid, OnFailure, Placement,
    PodKey, RolloutPolicy, Strategy, Taint, Toleration, TolerationOperator,
};
use world::copy::{Stored, told};
use world::dice::{Dice, each_seed};
use world::{LONG, World, daemon_set, id, key, labels, map_key, name, put, put_map, revision};

const SEEDS: u64 = 250;
const STEPS: u32 = 120;
const NODES: u64 = 7;
const SETS: [&str; 3] = ["a", "b", "c"];

#[test]
fn every_walk_keeps_every_promise_and_converges() {
    each_seed("walk", SEEDS, walk);
}

fn walk(seed: u64) {
    let mut dice = Dice::new(seed);
    let mut world = World::new();
    let mut next = 1;
    let copied_at = dice.roll(STEPS.into());
    let mut copy = world.copy();
    for step in 0..STEPS {
        if u64::from(step) == copied_at {
            copy = world.copy();
        }
        act(&mut world, &mut dice, &mut next);
        if dice.chance(2) {
            world.step();
        }
        if dice.chance(2) {
            world.hand_out();
        }
        world.check();
    }
    heal(&mut world);
    converged(&world);
    go_back(&mut world, &mut dice, copy);
    forget_who_left(&mut world);
    heal(&mut world);
    converged(&world);
}

/// The store is restored from a copy: nothing ends before somebody says so, and then only what they
/// were told of; nothing at all where they applied again what the copy lacks and the store knows the
/// revisions that run.
fn go_back(world: &mut World, dice: &mut Dice, copy: Stored) {
    let (last, applies) = (world.copy(), dice.chance(2));
    world.restore(copy);
    let ran = world.ran();
    world.connect_all();
    if applies {
        world.apply_again(&last);
    }
    world.wait(Duration::from_secs(dice.roll(100)));
    if dice.chance(2) {
        world.take_steps();
    }
    world.obey_once();
    world.check();
    let ends = told(&world.fleet);
    let removed: Vec<NodeUid> = world
        .agents
        .keys()
        .copied()
        .filter(|node| world.fleet.standing(*node) != Some(NodeStanding::Active))
        .collect();
    assert!(world.ended(&ran).iter().all(|(node, _)| removed.contains(node)), "ended while held");
    if applies {
        for found in world.fleet.consequences().iter().filter(|found| found.action.removes()) {
            let unknown = ["UnknownRevision", "NodeRemoved"].contains(&found.reason.code.as_str());
            assert!(unknown, "{found:?}");
        }
    }
    let unheard = world.fleet.not_called();
    let refused = world.resume(false);
    let doubtful = !ends.is_empty() || unheard > 0;
    assert_eq!(refused.is_err(), doubtful, "{refused:?}, {ends:?}, {unheard} have not called");
    if refused.is_err() {
        world.resume(true).unwrap();
    }
    world.obey_once();
    let ended = world.ended(&ran);
    assert!(ended.iter().all(|place| ends.contains(place) || removed.contains(&place.0)));
    // One that is taken over from ends when the other is ready.
    let surges = |(node, key): &(NodeUid, PodKey)| {
        world.fleet.assignment(*node).get(key).is_some_and(|item| item.surge.is_some())
    };
    let called = |place: &&(NodeUid, PodKey)| !removed.contains(&place.0) && !surges(place);
    assert!(ends.iter().filter(called).all(|place| ended.contains(place)), "{ends:?}, {ended:?}");
}

/// Machines that left since the copy never call again.
fn forget_who_left(world: &mut World) {
    for view in world.fleet.nodes() {
        if !world.agents.contains_key(&view.record.uid) {
            let name = view.record.name.clone();
            world.follow(&Command::DeleteNode { name, forget: true }).unwrap();
        }
    }
}

fn act(world: &mut World, dice: &mut Dice, next: &mut u64) {
    let nodes: Vec<NodeUid> = world.agents.keys().copied().collect();
    let node = if nodes.is_empty() { id(1) } else { dice.of(&nodes) };
    let set = dice.of(&SETS);
    match dice.roll(29) {
        0..=2 if (nodes.len() as u64) < NODES => {
            let name = name(dice.roll(NODES));
            if world.follow(&World::join_command(*next, name)).is_ok() {
                world.agents.insert(id(*next), world::Agent::default());
            }
            *next += 1;
        }
        0..=5 => world.connect(node),
        6 => world.disconnect(node),
        7..=12 => world.work(node),
        13 => put_something(world, dice, set),
        14 if dice.chance(4) => {
            let _ = match dice.chance(2) {
                true => world.follow(&Command::OrphanSet { key: key(set), uid: None }),
                false => world.follow(&Command::DeleteSet { key: key(set), uid: None }),
            };
        }
        15 if dice.chance(3) => remove(world, dice, node),
        16 => change_node(world, dice, node),
        17 => {
            let _ = world.follow(&Command::ReplacePod { node, key: key(set) });
        }
        18 => world.crash(node, &key(set)),
        19 => {
            let bad = revision(dice.of(&["1", "2", "3"]));
            if !world.bad.remove(&bad) {
                world.bad.insert(bad);
            }
        }
        20 => world.wait(Duration::from_secs(dice.roll(50))),
        21 if dice.chance(6) => world.restart(),
        22 => {
            let stale = Observation::Disconnected { node, session: id(dice.roll(500)) };
            world.observe(stale);
            if let Some(agent) = world.agents.get_mut(&node) {
                agent.mute = !agent.mute;
            }
        }
        23 if dice.chance(4) => world.fleet.frozen(world.now),
        24 => {
            let held = dice.of(&[None, Some(false), Some(true)]);
            world.hold(node, set, held);
        }
        25 => lose_a_commit(world, dice, node, set),
        26 if dice.chance(2) => change_map(world, dice),
        27 if dice.chance(6) => {
            let _ = world.follow(&Command::DeleteObject { key: map_key("m"), uid: None });
        }
        28 => {
            // Another version of the agent, which says so when it calls.
            if let Some(agent) = world.agents.get_mut(&node) {
                agent.old = dice.chance(2);
            }
            world.connect(node);
        }
        _ => world.round(),
    }
}

fn put_something(world: &mut World, dice: &mut Dice, name: &str) {
    let mut set = daemon_set(name, world.draw(), "");
    set.history_limit = 1;
    set.min_ready = Duration::from_secs(dice.roll(3) * 10);
    set.strategy = match dice.roll(7) {
        0 => Strategy::OnDelete,
        1 => Strategy::surging(IntOrPercent::Percent(34)),
        2 | 3 => Strategy::surging(IntOrPercent::Int(1)),
        4 => Strategy::rolling(IntOrPercent::Percent(34)),
        _ => Strategy::rolling(IntOrPercent::Int(1)),
    };
    if set.strategy != Strategy::OnDelete {
        set.rollout = policy(dice);
    }
    set.placement = match dice.roll(4) {
        0 => Placement { node_selector: labels(&[("x", "1")]), ..Placement::default() },
        1 => Placement {
            tolerations: vec![Toleration {
                operator: TolerationOperator::Exists,
                ..Toleration::default()
            }],
            ..Placement::default()
        },
        _ => Placement::default(),
    };
    let body = dice.of(&["1", "2", "3", "4"]);
    match dice.chance(3) {
        true => put_reader(world, dice, set, body),
        false => drop(world.follow(&put(set, body))),
    }
}

/// A put of a set whose template reads a ConfigMap: sometimes of one that has changed since it was looked
/// at, and sometimes its content was lost on the way.
fn put_reader(world: &mut World, dice: &mut Dice, set: DaemonSet, template: &str) {
    let at = world.fleet.object(&map_key("m")).map(|map| map.resource_version);
    let (body, keep, command) = reading(set, template, at, dice.roll(4) == 0);
    if dice.chance(8) {
        world.forget(&keep);
        world.go_back();
    } else {
        world.follow(&keep).unwrap();
    }
    if dice.chance(8) {
        change_map(world, dice);
    }
    let looked_at = world.fleet.object(&map_key("m")).map(|map| map.resource_version);
    let kept = world.fleet.has_blob(Digest::of(blob_of(&body).as_bytes()));
    let taken = world.follow(&command).is_ok();
    assert!(!taken || (kept && looked_at == at), "{body} rests on what is not there");
}

/// The map changes, and with it every set that reads it: together or not at all.
fn change_map(world: &mut World, dice: &mut Dice) {
    let readers = world.fleet.readers(&map_key("m"));
    let at = world.fleet.object(&map_key("m")).map(|map| map.resource_version);
    let versions: Vec<_> =
        readers.iter().map(|record| (record.set.uid, record.resource_version)).collect();
    let content = world.draw().to_string();
    let mut map = put_map("m", &content, &[]);
    if let Command::PutObject { readers, .. } = &mut map {
        readers.extend(versions);
        if dice.chance(5) {
            readers.pop_last();
        }
    }
    let mut all = vec![map];
    for record in &readers {
        let (_, keep, command) =
            reading(record.set.clone(), dice.of(&["1", "2", "3"]), at, dice.chance(4));
        world.follow(&keep).unwrap();
        all.push(command);
    }
    let before = world.fleet.object(&map_key("m"));
    if world.follow(&Command::All(all)).is_err() {
        assert_eq!(world.fleet.object(&map_key("m")), before, "half of it was done");
    }
}

/// A set that reads the map, of this version: what its body is, and how its content comes to be kept.
fn reading(
    set: DaemonSet,
    template: &str,
    at: Option<u64>,
    lacks: bool,
) -> (String, Command, Command) {
    let body = format!("{template} with the map{}", if lacks { " that is missing" } else { "" });
    let blob = blob_of(&body);
    let digest = Digest::of(blob.as_bytes());
    let content = Content {
        blobs: [digest].into(),
        missing: lacks.then(|| "configmap \"m\" not found".to_owned()).into_iter().collect(),
        labels: Default::default(),
        seen: [(map_key("m"), at)].into(),
        drifted: Some(Default::default()),
    };
    let set = DaemonSet { reads: [map_key("m")].into(), ..set };
    let mut command = put(set, &body);
    if let Command::PutSet { content: of, .. } = &mut command {
        **of = content;
    }
    (body, Command::KeepBlob { digest, blob: Opaque(blob.into_bytes().into()) }, command)
}

fn blob_of(body: &str) -> String {
    format!("what {body} reads")
}

/// How carefully; half the time as Kubernetes does.
fn policy(dice: &mut Dice) -> RolloutPolicy {
    let mut policy = RolloutPolicy::default();
    if dice.chance(2) {
        return policy;
    }
    if dice.chance(2) {
        let selector = if dice.chance(3) { "x=1".parse().ok() } else { None };
        let nodes = dice.of(&[None, Some(IntOrPercent::Int(1)), Some(IntOrPercent::Percent(50))]);
        let wait = match dice.chance(4) {
            true => CanaryWait::Manual,
            false => CanaryWait::For(Duration::from_secs(dice.roll(3) * 15)),
        };
        let approved = dice.chance(3).then(|| revision(dice.of(&["1", "2", "3"])).short());
        policy.canary = Some(Box::new(Canary { selector, nodes, wait, approved }));
    }
    policy.partition = dice.of(&[None, None, Some(IntOrPercent::Percent(30))]);
    policy.paused = dice.chance(6);
    policy.progress_deadline = dice.chance(2).then(|| Duration::from_secs(40));
    policy.on_failure = dice.of(&[OnFailure::Hold, OnFailure::Rollback]);
    policy
}

/// People take care away where it is in the way, and try another template where one has failed.
fn without_care(world: &mut World) {
    for view in world.fleet.sets(None) {
        let progressing = view.conditions.iter().find(|(name, ..)| name == "Progressing");
        let failed = ["ProgressDeadlineExceeded", "RolledBack", "RollingBack"];
        let failed = progressing.is_some_and(|(.., why)| failed.contains(&why.code.as_str()));
        let revisions = world.fleet.revisions(view.record.set.uid);
        let target = revisions.iter().find(|revision| revision.digest == view.target).unwrap();
        let same = String::from_utf8(target.body.to_vec()).unwrap();
        let other = ["1", "2"].into_iter().find(|body| revision(body) != view.target).unwrap();
        let set = DaemonSet { rollout: RolloutPolicy::default(), ..view.record.set.clone() };
        let waits = failed || !target.missing.is_empty();
        world.put(set, if waits { other } else { &same });
    }
}

/// What was decided is not stored. Nobody may notice but those who asked.
fn lose_a_commit(world: &mut World, dice: &mut Dice, node: NodeUid, set: &str) {
    let stored = world.restored();
    let command = match dice.roll(4) {
        0 => put(daemon_set(set, world.draw(), ""), dice.of(&["1", "2", "3", "4"])),
        1 => Command::DeleteSet { key: key(set), uid: None },
        2 => World::join_command(world.draw(), name(dice.roll(NODES))),
        _ => match world.fleet.node_record(node).cloned() {
            Some(record) => Command::DeleteNode { name: record.name.clone(), forget: true },
            None => return,
        },
    };
    let readiness = |world: &World| {
        let node = |node: &NodeUid| world.fleet.node(*node).map(|view| view.readiness);
        world.agents.keys().map(|uid| (*uid, node(uid))).collect::<Vec<_>>()
    };
    let before = readiness(world);
    world.forget(&command);
    let lost = world.go_back();
    for node in world.agents.keys() {
        assert_eq!(world.fleet.assignment(*node), stored.assignment(*node));
    }
    let same = |(node, was): &(NodeUid, _), is: &(NodeUid, _)| lost.contains(node) || *was == is.1;
    let after = readiness(world);
    assert!(before.iter().zip(&after).all(|(was, is)| same(was, is)), "{before:?} {after:?}");
}

fn remove(world: &mut World, dice: &mut Dice, node: NodeUid) {
    let Some(record) = world.fleet.node_record(node).cloned() else { return };
    let forget = dice.chance(3);
    let command = match dice.chance(2) {
        true => Command::DeleteNode { name: record.name.clone(), forget },
        false => Command::Leave { uid: node },
    };
    let _ = world.follow(&command);
}

fn change_node(world: &mut World, dice: &mut Dice, node: NodeUid) {
    let Some(record) = world.fleet.node_record(node).cloned() else { return };
    let effect = dice.of(&[Effect::NoSchedule, Effect::NoSchedule, Effect::NoExecute]);
    let change = match dice.roll(5) {
        0 => NodeChange::SetLabel { key: "x".into(), value: "1".into(), overwrite: true },
        1 => NodeChange::RemoveLabel("x".into()),
        2 => {
            let taint = Taint { key: "t".into(), value: String::new(), effect };
            NodeChange::SetTaint { taint, overwrite: true }
        }
        3 => NodeChange::RemoveTaint { key: "t".into(), effect: None },
        _ => NodeChange::SetUnschedulable(dice.chance(2)),
    };
    let _ = world.follow(&Command::ChangeNode { name: record.name.clone(), changes: vec![change] });
}

fn heal(world: &mut World) {
    world.bad.clear();
    let nodes: Vec<NodeUid> = world.agents.keys().copied().collect();
    for node in nodes {
        SETS.iter().for_each(|set| world.hold(node, set, None));
        world.agents.get_mut(&node).into_iter().for_each(|agent| agent.old = false);
        world.connect(node);
    }
    world.wait(LONG);
    world.settle();
    without_care(world);
    // Each may have to wait for minReadySeconds, node after node, set after set.
    for _ in 0..NODES * 3 {
        world.settle();
        world.wait(LONG);
    }
}

fn converged(world: &World) {
    let fleet = &world.fleet;
    for set in fleet.sets(None) {
        let status = set.status;
        assert_eq!((status.available, status.current), (status.desired, status.desired), "{set:?}");
        if set.record.set.strategy != Strategy::OnDelete {
            assert_eq!((status.updated, set.stable), (status.desired, Some(set.target)), "{set:?}");
        }
    }
    for line in fleet.why(&WhyFilter::default()) {
        assert!(line.fine || line.reason.code == "OnDelete", "{line:?}");
    }
    for pod in fleet.pods(&PodFilter::default()) {
        assert!(pod.status.is_some_and(|pod| pod.ready), "{:?} {:?}", pod.key, pod.reason);
    }
    for (node, agent) in &world.agents {
        let assigned = fleet.assignment(*node);
        let keys: Vec<_> = assigned.items().map(|item| &item.key).collect();
        assert_eq!(agent.pods.keys().collect::<Vec<_>>(), keys, "{node}");
    }
    assert_eq!(fleet.step(world.now), Vec::new());
}
