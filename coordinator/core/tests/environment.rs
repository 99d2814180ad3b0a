//! Labels of nodes that pods read: a change of one is paced like a rollout, and never comes by itself.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod world;

use std::collections::BTreeMap;

use everynode_coordinator_core::{Command, NodeChange};
use everynode_model::{
    Canary, CanaryWait, DaemonSet, IntOrPercent, Item, Labels, RolloutPolicy, Strategy,
};
use world::{World, daemon_set, id, key, labels, name, put};

/// A set whose pods read the label `site`.
fn reading(set: DaemonSet, body: &str) -> Command {
    let mut command = put(set, body);
    if let Command::PutSet { content, .. } = &mut command {
        content.labels = ["site".to_owned()].into();
    }
    command
}

fn rolling(max_unavailable: u32) -> DaemonSet {
    let strategy = Strategy::rolling(IntOrPercent::Int(max_unavailable));
    DaemonSet { strategy, ..daemon_set("a", 1, "1") }
}

fn item(world: &World, node: u64) -> Item {
    world.fleet.assignment(id(node)).get(&key("a")).unwrap().clone()
}

/// On how many of the nodes the pod reads that, by their orders.
fn told(world: &World, nodes: u64, site: &str) -> usize {
    let wanted = labels(&[("site", site)]);
    (1..=nodes).filter(|node| item(world, *node).labels == wanted).count()
}

/// Nodes of the site `lab`, with a pod that reads it.
fn in_the_lab(nodes: u64, max_unavailable: u32) -> World {
    let mut world = World::with_nodes(nodes);
    (1..=nodes).for_each(|node| world.label(node, "site", "lab"));
    world.follow(&reading(rolling(max_unavailable), "1")).unwrap();
    world.settle();
    assert_eq!(told(&world, nodes, "lab"), usize::try_from(nodes).unwrap());
    world
}

#[test]
fn a_changed_label_reaches_pods_by_steps() {
    let mut world = in_the_lab(6, 2);
    (1..=6).for_each(|node| world.label(node, "site", "field"));
    assert_eq!(told(&world, 6, "lab"), 6, "no order changes by itself");
    assert_eq!(world.status("a").updated, 0);
    assert!(world.step());
    assert_eq!(told(&world, 6, "field"), 2, "as many as the budget lets");
    world.settle();
    assert_eq!(told(&world, 6, "field"), 6);
    let status = world.status("a");
    assert_eq!((status.updated, status.available), (6, 6));
    assert!((1..=6).all(|node| item(&world, node).replace > 0), "each pod was replaced");
    assert!(world.fleet.nodes().iter().all(|node| node.record.granted.is_empty()));
}

#[test]
fn what_is_set_back_in_time_restarts_nobody() {
    let mut world = in_the_lab(2, 1);
    let before = world.fleet.assignment(id(1));
    world.label(1, "site", "field");
    world.label(1, "site", "lab");
    world.settle();
    assert_eq!(world.fleet.assignment(id(1)), before);
    world.change(2, NodeChange::RemoveLabel("site".into()));
    world.settle();
    assert_eq!(item(&world, 2).labels, Labels::new(), "one that is gone is not told");
}

#[test]
fn who_reads_no_label_is_left_alone() {
    let mut world = World::with_nodes(2);
    world.put(rolling(1), "1");
    world.settle();
    let before = world.fleet.assignment(id(1));
    world.label(1, "site", "field");
    assert!(!world.step());
    assert_eq!(world.fleet.assignment(id(1)), before);
    assert_eq!(before.get(&key("a")).unwrap().labels, Labels::new());
}

#[test]
fn how_many_pods_a_label_restarts_is_told_before() {
    let mut world = in_the_lab(3, 1);
    let site = |node, value: &str| Command::ChangeNode {
        name: name(node),
        changes: vec![NodeChange::SetLabel {
            key: "site".into(),
            value: value.into(),
            overwrite: true,
        }],
    };
    let effect = world.fleet.effect(&[site(1, "field"), site(2, "lab")], world.now);
    assert_eq!((effect.gains, effect.loses, effect.restarts), (0, 0, 1));
    world.label(1, "site", "field");
    world.settle();
    let effect = world.fleet.effect(&[site(1, "field")], world.now);
    assert_eq!(effect.restarts, 0);
}

#[test]
fn a_pod_that_is_deleted_comes_back_with_the_labels_of_today() {
    let mut world = in_the_lab(2, 1);
    let paused = everynode_model::RolloutPolicy { paused: true, ..Default::default() };
    world.follow(&reading(DaemonSet { rollout: paused, ..rolling(1) }, "1")).unwrap();
    (1..=2).for_each(|node| world.label(node, "site", "field"));
    world.settle();
    assert_eq!(told(&world, 2, "lab"), 2, "a pause holds this back, too");
    world.follow(&Command::ReplacePod { node: id(1), key: key("a") }).unwrap();
    assert_eq!(item(&world, 1).labels, labels(&[("site", "field")]));
    assert_eq!(item(&world, 2).labels, labels(&[("site", "lab")]));
}

#[test]
fn a_new_template_brings_the_labels_of_today() {
    let mut world = in_the_lab(3, 1);
    world.label(2, "site", "field");
    world.follow(&reading(rolling(1), "2")).unwrap();
    world.settle();
    assert_eq!((told(&world, 3, "lab"), told(&world, 3, "field")), (2, 1));
    assert_eq!(world.granted_count(3, "a", "2"), 3);
    assert_eq!(item(&world, 2).replace, 0, "another revision is another pod already");
}

fn surging(max_surge: u32) -> DaemonSet {
    let (none, some) = (IntOrPercent::Int(0), IntOrPercent::Int(max_surge));
    let strategy = Strategy::RollingUpdate { max_unavailable: none, max_surge: some };
    DaemonSet { strategy, ..daemon_set("a", 1, "1") }
}

/// The only node whose pod was granted what its label says now.
fn the_moved_one(world: &World, nodes: u64) -> u64 {
    let wanted = labels(&[("site", "field")]);
    let moved: Vec<u64> = (1..=nodes).filter(|node| item(world, *node).labels == wanted).collect();
    assert_eq!(moved.len(), 1, "{moved:?}");
    moved[0]
}

#[test]
fn a_changed_label_is_surged_where_revisions_are() {
    let mut world = in_the_lab(4, 1);
    world.follow(&reading(surging(2), "1")).unwrap();
    world.settle();
    (1..=4).for_each(|node| world.label(node, "site", "field"));
    assert!(world.step());
    let beside =
        |node: &u64| item(&world, *node).surge.is_some() && item(&world, *node).replace > 0;
    assert_eq!((1..=4).filter(beside).count(), 2, "two at a time, each beside the old one");
    for _ in 0..20 {
        world.round();
        assert_eq!(world.status("a").available, 4, "no pod ends before another is ready");
    }
    assert_eq!(told(&world, 4, "field"), 4);
    assert!(!world.agents.values().any(|agent| !agent.beside.is_empty()));
}

#[test]
fn what_is_deleted_ends_first_also_where_labels_are_surged() {
    let mut world = in_the_lab(1, 1);
    world.follow(&reading(surging(1), "1")).unwrap();
    world.label(1, "site", "field");
    world.settle();
    let surged = item(&world, 1);
    assert!(surged.replace > 0 && surged.surge.is_some());
    world.follow(&Command::ReplacePod { node: id(1), key: key("a") }).unwrap();
    let deleted = item(&world, 1);
    assert!(deleted.replace > surged.replace && deleted.surge.is_none());
}

#[test]
fn a_node_that_goes_dark_with_its_new_labels_holds_the_others() {
    let mut world = in_the_lab(3, 1);
    (1..=3).for_each(|node| world.label(node, "site", "field"));
    assert!(world.step());
    let dark = the_moved_one(&world, 3);
    world.lose(dark);
    world.settle();
    assert_eq!(told(&world, 3, "field"), 1, "as with another revision");
    world.restart();
    let others: Vec<u64> = (1..=3).filter(|node| *node != dark).collect();
    others.iter().for_each(|node| world.connect(id(*node)));
    world.wait(world::LONG);
    world.settle();
    assert_eq!(told(&world, 3, "field"), 1, "whoever leads");
    world.connect(id(dark));
    world.settle();
    assert_eq!(told(&world, 3, "field"), 3);
    // It is over: what happens now is no fault of it.
    world.lose(dark);
    others.iter().for_each(|node| world.label(*node, "site", "sea"));
    world.settle();
    assert_eq!(told(&world, 3, "sea"), 2, "nobody waits for who was away before");
    world.label(dark, "site", "sea");
    world.connect(id(dark));
    world.settle();
    assert_eq!(told(&world, 3, "sea"), 3);
}

#[test]
fn another_template_ends_what_labels_began() {
    let mut world = in_the_lab(3, 1);
    (1..=3).for_each(|node| world.label(node, "site", "field"));
    assert!(world.step());
    let dark = the_moved_one(&world, 3);
    world.lose(dark);
    world.follow(&reading(rolling(1), "2")).unwrap();
    world.settle();
    assert_eq!(world.granted_count(3, "a", "2"), 2, "who was dark before it holds it not");
    assert_eq!(told(&world, 3, "field"), 3);
    world.connect(id(dark));
    world.settle();
    assert_eq!(world.granted_count(3, "a", "2"), 3);
}

/// Canaries and a partition say on how many nodes a revision is tried; where labels are changed says
/// whoever changes them.
#[test]
fn canaries_and_a_partition_are_of_revisions() {
    let mut world = in_the_lab(4, 1);
    let canary = Canary {
        nodes: Some(IntOrPercent::Int(1)),
        selector: None,
        wait: CanaryWait::Manual,
        approved: None,
    };
    let partition = Some(IntOrPercent::Int(3));
    let rollout = RolloutPolicy { canary: Some(Box::new(canary)), partition, ..Default::default() };
    let careful = DaemonSet { rollout, ..rolling(1) };
    world.follow(&reading(careful.clone(), "1")).unwrap();
    (1..=4).for_each(|node| world.label(node, "site", "field"));
    world.settle();
    assert_eq!(told(&world, 4, "field"), 4, "no rollout is under way");
    world.follow(&reading(careful, "2")).unwrap();
    (1..=4).for_each(|node| world.label(node, "site", "sea"));
    world.settle();
    assert_eq!(world.granted_count(4, "a", "2"), 1);
    assert_eq!(told(&world, 4, "sea"), 1, "the others read it when their turn comes");
}

/// Whatever happens: under one number a pod reads one thing only, no step takes more than the budget
/// (the world looks at each), and in the end all read what their nodes say.
#[test]
fn at_random_nobody_reads_something_else_without_being_replaced() {
    for seed in 1..=60_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut draw = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut world = in_the_lab(5, 1 + u32::try_from(draw(2)).unwrap());
        let mut known: BTreeMap<(u64, everynode_model::Digest, u64), Labels> = BTreeMap::new();
        let mut body = 1;
        for _ in 0..60 {
            let node = 1 + draw(5);
            match draw(9) {
                0 => world.label(node, "site", "lab"),
                1 => world.label(node, "site", "field"),
                2 => world.label(node, "site", "sea"),
                3 => world.change(node, NodeChange::RemoveLabel("site".into())),
                4 => world.lose(node),
                5 => world.connect(id(node)),
                6 => drop(world.follow(&Command::ReplacePod { node: id(node), key: key("a") })),
                7 if draw(4) == 0 => {
                    body += 1;
                    world.follow(&reading(rolling(1), &body.to_string())).unwrap();
                }
                _ => world.round(),
            }
            world.check();
            for node in 1..=5 {
                let Item { revision, replace, labels, .. } = item(&world, node);
                let said = known.entry((node, revision, replace)).or_insert_with(|| labels.clone());
                assert_eq!(*said, labels, "seed {seed}: node {node} in {revision}/{replace}");
            }
        }
        (1..=5).for_each(|node| world.connect(id(node)));
        world.settle();
        for node in 1..=5 {
            let has = world.fleet.node(id(node)).unwrap();
            let site = has.record.labels.get("site").map(|site| ("site".to_owned(), site.clone()));
            let wanted: Labels = site.into_iter().collect();
            assert_eq!(item(&world, node).labels, wanted, "seed {seed}: node {node}");
            assert!(has.record.granted.is_empty(), "seed {seed}: {:?}", has.record.granted);
        }
    }
}
