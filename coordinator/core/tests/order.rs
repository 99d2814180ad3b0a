//! The same decision for the same state, whatever the order in which it came about; and the same
//! after a restart, from records and what agents say again.
//!
//! `EVERYNODE_SEED=n cargo test -p everynode-coordinator-core --test order` replays one seed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod world;

use std::time::Duration;

use everynode_coordinator_core::{Command, Record, Write};
use everynode_model::{
    Canary, CanaryWait, DaemonSet, IntOrPercent, NodeUid, RolloutPolicy, Strategy,
};
use world::dice::{Dice, each_seed};
use world::{World, daemon_set, id, key, name, put, revision};

const SEEDS: u64 = 300;
const NODES: u64 = 9;
const SETS: [&str; 2] = ["a", "b"];

/// Something that happens. Two that are about different nodes or sets commute.
#[derive(Clone, Debug)]
enum Happening {
    Calls(u64),
    HangsUp(u64),
    Works(u64),
    Crashes(u64, &'static str),
    Labelled(u64, &'static str),
    Deleted(u64),
    Applied(Box<DaemonSet>, &'static str),
}

#[test]
fn the_order_in_which_things_came_about_decides_nothing() {
    each_seed("order", SEEDS, |seed| {
        let mut dice = Dice::new(seed);
        let world = some_world(&mut dice);
        let mut happenings = happenings(&mut dice);
        let one = after(&world, &happenings);
        dice.shuffle(&mut happenings);
        let other = after(&world, &happenings);
        assert_eq!(shown(&one), shown(&other), "{happenings:?}");
        let (one, other) = same(one, other, &format!("{happenings:?}"));
        assert_eq!(shown(&one), shown(&other), "{happenings:?}");
    });
}

#[test]
fn a_restart_decides_as_the_coordinator_before_it() {
    each_seed("order", SEEDS, |seed| {
        let mut dice = Dice::new(seed);
        let mut one = some_world(&mut dice);
        let happenings = happenings(&mut dice);
        happenings.iter().for_each(|happening| happen(&mut one, happening));
        // Who has no session is not heard again by either; all others call at once.
        let silent = one.agents.iter().filter(|(_, agent)| agent.session.is_none());
        let silent: Vec<NodeUid> = silent.map(|(node, _)| *node).collect();
        let mut other = one.clone();
        other.restart();
        let nodes: Vec<NodeUid> = other.agents.keys().copied().collect();
        for node in nodes.into_iter().filter(|node| !silent.contains(node)) {
            one.connect(node);
            other.connect(node);
        }
        for world in [&mut one, &mut other] {
            world.wait(Duration::from_secs(61));
        }
        // Of who is away the one knows what it ran, and shows that.
        same(one, other, &format!("{happenings:?}"));
    });
}

/// A rollout's nodes come and go, and none that it has moved is moved back.
#[test]
fn the_granted_set_only_grows() {
    each_seed("order", SEEDS, |seed| {
        let mut dice = Dice::new(seed);
        let mut world = some_world(&mut dice);
        let moved = |world: &World, set: &str| -> Vec<u64> {
            let target = world.fleet.set(&key(set)).unwrap().target;
            let has = |node: &u64| {
                world.granted(*node, set).is_some_and(|grant| grant.revision == target)
            };
            (1..=NODES * 2).filter(has).collect()
        };
        let mut before = SETS.map(|set| moved(&world, set));
        for step in 0..20 {
            match dice.roll(4) {
                0 if step < NODES => {
                    world.join(NODES + 1 + step);
                    world.connect(id(NODES + 1 + step));
                }
                1 => world.lose(1 + dice.roll(NODES)),
                2 => world.connect(id(1 + dice.roll(NODES))),
                _ => {}
            }
            if dice.chance(9) {
                world.restart();
                (1..=NODES).for_each(|node| world.connect(id(node)));
            }
            world.round();
            world.wait(Duration::from_secs(dice.roll(30)));
            let now = SETS.map(|set| moved(&world, set));
            for (was, is) in before.iter().zip(&now) {
                assert!(was.iter().all(|node| is.contains(node)), "{was:?}, then {is:?}");
            }
            before = now;
        }
    });
}

/// Both sets are somewhere on their way from revision 1 to 2; some nodes are away.
fn some_world(dice: &mut Dice) -> World {
    let mut world = World::with_nodes(NODES);
    for set in SETS {
        world.put(some_set(dice, set), "1");
    }
    world.settle();
    for node in 1..=NODES {
        if dice.chance(3) {
            world.label(node, "role", "canary");
        }
        if dice.chance(5) {
            world.lose(node);
        }
    }
    for set in SETS {
        world.put(some_set(dice, set), "2");
    }
    if dice.chance(3) {
        world.bad.insert(revision("2"));
    }
    for _ in 0..dice.roll(5) {
        world.round();
        world.wait(Duration::from_secs(dice.roll(20)));
    }
    world
}

/// With canaries that nobody waits for, and no deadline: clocks begin anew with each coordinator.
fn some_set(dice: &mut Dice, name: &str) -> DaemonSet {
    let mut set = daemon_set(name, if name == "a" { 1 } else { 2 }, "");
    let most = match dice.chance(2) {
        true => IntOrPercent::Percent(25),
        false => IntOrPercent::Int(1 + u32::try_from(dice.roll(3)).unwrap()),
    };
    let surges = dice.chance(2);
    set.strategy = if surges { Strategy::surging(most) } else { Strategy::rolling(most) };
    let canary = Canary {
        selector: if dice.chance(2) { "role=canary".parse().ok() } else { None },
        nodes: dice.chance(2).then_some(IntOrPercent::Int(2)),
        wait: CanaryWait::Manual,
        approved: dice.chance(3).then(|| revision("2").short()),
    };
    set.rollout = RolloutPolicy {
        canary: dice.chance(3).then(|| Box::new(canary)),
        partition: dice.chance(4).then_some(IntOrPercent::Percent(40)),
        ..RolloutPolicy::default()
    };
    set
}

/// At most one of each node and each set, so that all of them commute.
fn happenings(dice: &mut Dice) -> Vec<Happening> {
    let mut all = Vec::new();
    for node in 1..=NODES {
        all.extend(match dice.roll(9) {
            0 | 1 => Some(Happening::Calls(node)),
            2 => Some(Happening::HangsUp(node)),
            3 | 4 => Some(Happening::Works(node)),
            5 => Some(Happening::Crashes(node, SETS[usize::from(dice.chance(2))])),
            6 => Some(Happening::Labelled(node, if dice.chance(2) { "canary" } else { "none" })),
            7 if dice.chance(2) => Some(Happening::Deleted(node)),
            _ => None,
        });
    }
    for set in SETS {
        if dice.chance(3) {
            let body = if dice.chance(2) { "2" } else { "3" };
            all.push(Happening::Applied(Box::new(some_set(dice, set)), body));
        }
    }
    all
}

fn happen(world: &mut World, happening: &Happening) {
    match happening {
        Happening::Calls(node) => world.connect(id(*node)),
        Happening::HangsUp(node) => world.disconnect(id(*node)),
        Happening::Works(node) => world.work(id(*node)),
        Happening::Crashes(node, set) => world.crash(id(*node), &key(set)),
        Happening::Labelled(node, role) => world.label(*node, "role", role),
        Happening::Deleted(node) => {
            world.follow(&Command::DeleteNode { name: name(*node), forget: false }).unwrap();
        }
        Happening::Applied(set, body) => {
            world.follow(&put((**set).clone(), body)).unwrap();
        }
    }
    world.check();
}

fn after(world: &World, happenings: &[Happening]) -> World {
    let mut world = world.clone();
    happenings.iter().for_each(|happening| happen(&mut world, happening));
    world
}

/// Both take the same steps to the same end.
fn same(mut one: World, mut other: World, how: &str) -> (World, World) {
    for _ in 0..100 {
        let steps = [&one, &other].map(|world| meaning(&world.fleet.step(world.now)));
        assert_eq!(steps[0], steps[1], "{how}");
        if steps[0].is_empty() {
            break;
        }
        one.step();
        other.step();
    }
    for node in 1..=NODES {
        let granted = |world: &World| SETS.map(|set| world.granted(node, set));
        assert_eq!(granted(&one), granted(&other), "node {node}: {how}");
    }
    (one, other)
}

/// What a step decides; in which order events were counted, and under which version, is told apart.
fn meaning(writes: &[Write]) -> Vec<Write> {
    let decides = |write: &&Write| !matches!(write.record, Some(Record::Event(_)));
    writes.iter().filter(decides).cloned().collect()
}

/// What people see of both sets, but for versions and ids.
fn shown(world: &World) -> Vec<String> {
    let view = |set: &&str| {
        let view = world.fleet.set(&key(set)).unwrap();
        format!("{:?} {:?} {:?} {:?}", view.status, view.stable, view.target, view.conditions)
    };
    SETS.iter().map(view).collect()
}
