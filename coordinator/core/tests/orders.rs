//! Nodes that people hold or stop, and how far a command reaches.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod world;

use everynode_coordinator_core::{
    Command, Effect, NodeChange, NodeOrder, Outcome, Refusal, WhyFilter,
};
use everynode_model::{DaemonSet, Intent, Placement, Strategy, WallTime};
use world::{World, daemon_set, id, key, labels, name, put, revision};

fn hold(until: Option<i64>) -> NodeChange {
    let until = until.map(WallTime::from_unix_millis);
    NodeChange::Hold { until, reason: "a visit".into() }
}

fn stop() -> NodeChange {
    NodeChange::Stop { reason: String::new() }
}

fn change(node: u64, change: NodeChange) -> Command {
    Command::ChangeNode { name: name(node), changes: vec![change] }
}

fn tier(node: u64, value: &str) -> Command {
    let (key, value) = ("tier".to_owned(), value.to_owned());
    change(node, NodeChange::SetLabel { key, value, overwrite: true })
}

fn on_tier(set: DaemonSet, value: &str) -> DaemonSet {
    let node_selector = labels(&[("tier", value)]);
    DaemonSet { placement: Placement { node_selector, ..Placement::default() }, ..set }
}

fn why(world: &World, node: u64) -> (bool, String) {
    let filter = WhyFilter { node: Some(id(node)), ..WhyFilter::default() };
    let lines = world.fleet.why(&filter);
    let line = lines.iter().find(|line| line.key == key("a")).unwrap();
    (line.fine, line.reason.code.clone())
}

fn order_of(world: &World, node: u64) -> NodeOrder {
    world.fleet.node(id(node)).unwrap().record.order.clone()
}

#[test]
fn a_held_node_goes_on_with_what_it_has_whatever_becomes_of_the_rest() {
    let mut world = World::with_nodes(3);
    for (set, uid) in [("a", 1), ("b", 2)] {
        world.put(daemon_set(set, uid, "1"), "1");
    }
    world.settle();
    world.change(1, hold(None));
    assert_eq!(why(&world, 1), (true, "Running".into()), "what is as wanted is fine");
    let before = world.agents[&id(1)].pods.clone();
    world.put(daemon_set("a", 1, "1"), "2");
    world.follow(&Command::DeleteSet { key: key("b"), uid: None }).unwrap();
    world.put(daemon_set("c", 3, "1"), "1");
    world.label(1, "x", "y");
    world.settle();
    assert_eq!(world.agents[&id(1)].pods, before);
    assert_eq!(world.runs(2, "a"), Some(revision("2")), "the rollout goes by");
    assert_eq!(why(&world, 1), (false, "NodeHeld".into()));
    assert_eq!(
        world.follow(&Command::ReplacePod { node: id(1), key: key("a") }),
        Err(Refusal::NodeHeld(name(1)))
    );

    world.restart();
    for node in 1..=3 {
        world.connect(id(node));
    }
    world.wait(world::LONG);
    world.settle();
    assert_eq!(world.agents[&id(1)].pods, before, "also under a coordinator that was restarted");

    world.change(1, NodeChange::Release);
    world.settle();
    assert_eq!(world.runs(1, "a"), Some(revision("2")));
    assert_eq!((world.runs(1, "b"), world.runs(1, "c")), (None, Some(revision("1"))));
    assert_eq!(why(&world, 1), (true, "Running".into()));
}

#[test]
fn a_hold_ends_by_itself_and_the_loop_is_woken_for_it() {
    let mut world = World::with_nodes(1);
    world.put(daemon_set("a", 1, "1"), "1");
    world.settle();
    let until = world.now.wall.unix_millis + 5_000;
    world.change(1, hold(Some(until)));
    world.put(daemon_set("a", 1, "1"), "2");
    world.round();
    assert!(matches!(order_of(&world, 1), NodeOrder::Hold { .. }));
    assert_eq!(world.runs(1, "a"), Some(revision("1")));
    assert!(
        world.fleet.wake_at().unwrap() <= world.now.steady.after(std::time::Duration::from_secs(5))
    );
    world.now.wall = WallTime::from_unix_millis(until);
    world.settle();
    assert_eq!(order_of(&world, 1), NodeOrder::None);
    assert_eq!(world.runs(1, "a"), Some(revision("2")));
}

#[test]
fn a_stopped_node_runs_nothing_and_blocks_nobody() {
    let mut world = World::with_nodes(3);
    world.put(daemon_set("a", 1, "1"), "1");
    world.settle();
    let effect = world.fleet.effect(&[change(1, stop())], world.now);
    assert_eq!(effect, Effect { loses: 1, ..Effect::default() });
    world.change(1, stop());
    world.settle();
    assert_eq!(world.runs(1, "a"), None);
    let item = world.fleet.assignment(id(1)).get(&key("a")).cloned().unwrap();
    assert_eq!(item.intent, Intent::Stop, "the place is kept");
    assert_eq!(why(&world, 1), (false, "NodeStopped".into()));
    world.put(daemon_set("a", 1, "1"), "2");
    world.settle();
    assert_eq!(
        (world.runs(2, "a"), world.runs(3, "a")),
        (Some(revision("2")), Some(revision("2")))
    );
    assert_eq!(
        world.follow(&Command::ReplacePod { node: id(1), key: key("a") }),
        Err(Refusal::NodeStopped(name(1)))
    );
    let effect = world.fleet.effect(&[change(1, NodeChange::Start)], world.now);
    assert_eq!(effect, Effect { gains: 1, ..Effect::default() });
    world.change(1, NodeChange::Start);
    world.settle();
    assert_eq!(world.runs(1, "a"), Some(revision("2")));
}

#[test]
fn one_order_of_people_ends_before_another_begins() {
    let mut world = World::with_nodes(1);
    assert_eq!(world.follow(&change(1, NodeChange::Release)), Err(Refusal::NodeNotHeld(name(1))));
    assert_eq!(world.follow(&change(1, NodeChange::Start)), Err(Refusal::NodeNotStopped(name(1))));
    world.change(1, hold(None));
    assert_eq!(world.follow(&change(1, stop())), Err(Refusal::NodeHeld(name(1))));
    let Ok(Outcome::Node(again)) = world.follow(&change(1, hold(Some(9)))) else { panic!() };
    assert!(matches!(again.order, NodeOrder::Hold { until: Some(_), .. }), "for another time");
    world.change(1, NodeChange::Release);
    world.change(1, stop());
    assert_eq!(world.follow(&change(1, hold(None))), Err(Refusal::NodeStopped(name(1))));
}

#[test]
fn an_effect_is_counted_by_place_and_template() {
    let mut world = World::with_nodes(4);
    let effect = |world: &World, command: &Command| {
        let Effect { gains, loses, restarts } =
            world.fleet.effect(std::slice::from_ref(command), world.now);
        (gains, loses, restarts)
    };
    let new = put(daemon_set("a", 1, "1"), "1");
    assert_eq!(effect(&world, &new), (4, 0, 0));
    world.follow(&new).unwrap();
    world.settle();
    assert_eq!(effect(&world, &new), (0, 0, 0), "the same again");
    assert_eq!(effect(&world, &put(daemon_set("a", 1, "1"), "2")), (0, 0, 4));
    let by_hand = DaemonSet { strategy: Strategy::OnDelete, ..daemon_set("a", 1, "1") };
    assert_eq!(effect(&world, &put(by_hand, "2")), (0, 0, 0), "nothing by itself");
    world.label(1, "tier", "edge");
    assert_eq!(effect(&world, &put(on_tier(daemon_set("a", 1, "1"), "edge"), "2")), (0, 3, 1));
    let delete = Command::DeleteSet { key: key("a"), uid: None };
    assert_eq!(effect(&world, &delete), (0, 4, 0));
    let node = Command::DeleteNode { name: name(1), forget: false };
    assert_eq!(effect(&world, &node), (0, 1, 0));
    world.follow(&put(on_tier(daemon_set("a", 1, "1"), "edge"), "1")).unwrap();
    assert_eq!(effect(&world, &tier(2, "edge")), (1, 0, 0));
    assert_eq!(effect(&world, &tier(1, "core")), (0, 1, 0));
}

#[test]
fn what_takes_away_too_much_by_mistake_is_refused() {
    let mut world = World::with_nodes(20);
    for node in 1..=20 {
        world.label(node, "tier", "edge");
    }
    let wanted = || on_tier(daemon_set("a", 1, "1"), "edge");
    world.put(wanted(), "1");
    world.put(daemon_set("b", 2, "1"), "1");
    world.settle();
    let careful = |command: Command| Command::Careful(Box::new(command));
    let mistyped = put(on_tier(daemon_set("a", 1, "1"), "egde"), "2");
    let refused = Err(Refusal::WouldRemoveOf { key: key("a"), pods: 20, of: 20 });
    assert_eq!(world.follow(&careful(mistyped)), refused);
    let labels = |nodes: std::ops::RangeInclusive<u64>| {
        nodes.map(|node| tier(node, "core")).collect::<Vec<_>>()
    };
    assert!(world.fleet.may_remove(&labels(1..=2), world.now).is_ok(), "10 % and no more");
    assert_eq!(
        world.fleet.may_remove(&labels(1..=3), world.now),
        Err(Refusal::WouldRemoveOf { key: key("a"), pods: 3, of: 20 })
    );
    let delete = |set: &str| Command::DeleteSet { key: key(set), uid: None };
    assert!(world.fleet.may_remove(&[delete("a")], world.now).is_ok(), "one by its name");
    assert_eq!(
        world.fleet.may_remove(&[delete("a"), delete("b")], world.now),
        Err(Refusal::WouldRemoveSets { sets: 2, pods: 40, of: 40 })
    );
    assert!(world.fleet.may_remove(&[put(wanted(), "2")], world.now).is_ok(), "restarts");
    world.follow(&careful(tier(1, "core"))).unwrap();
}

#[test]
fn in_a_small_fleet_one_pod_is_no_mistake() {
    let mut world = World::with_nodes(3);
    for node in 1..=3 {
        world.label(node, "tier", "edge");
    }
    world.put(on_tier(daemon_set("a", 1, "1"), "edge"), "1");
    let both = |world: &World| world.fleet.may_remove(&[tier(1, "x"), tier(2, "x")], world.now);
    assert!(both(&world).is_ok(), "none is there");
    world.round();
    assert_eq!(world.status("a").current, 3);
    assert!(both(&world).is_ok(), "none runs yet");
    world.settle();
    assert!(world.fleet.may_remove(&[tier(1, "x")], world.now).is_ok());
    assert_eq!(both(&world), Err(Refusal::WouldRemoveOf { key: key("a"), pods: 2, of: 3 }));

    // Of nodes that have not called nothing is known: they may run it.
    world.restart();
    assert_eq!(both(&world), Err(Refusal::WouldRemoveOf { key: key("a"), pods: 2, of: 3 }));
}

#[test]
fn what_several_commands_do_to_one_node_is_counted_once_and_together() {
    let mut world = World::with_nodes(3);
    for node in 1..=3 {
        world.label(node, "tier", "edge");
        world.label(node, "rack", "1");
    }
    world.put(on_tier(daemon_set("a", 1, "1"), "edge"), "1");
    world.settle();
    let twice = [tier(1, "core"), change(1, NodeChange::RemoveLabel("rack".into()))];
    let loses = |commands: &[Command]| world.fleet.effect(commands, world.now).loses;
    assert_eq!(loses(&twice), 1);
    assert_eq!(loses(&[tier(1, "core"), tier(1, "other")]), 1);
    assert_eq!(loses(&[tier(1, "core"), tier(1, "edge")]), 0, "it is back where it was");
    assert!(world.fleet.may_remove(&[tier(1, "core"), tier(1, "other")], world.now).is_ok());
    // What is refused keeps nothing else from being counted.
    let refused = change(1, NodeChange::Start);
    assert_eq!(loses(&[refused.clone(), tier(1, "core"), refused]), 1);
}

#[test]
fn a_pod_that_goes_only_by_two_changes_together_is_counted() {
    let mut world = World::with_nodes(2);
    for node in 1..=2 {
        world.label(node, "tier", "edge");
        world.label(node, "rack", "1");
    }
    let either = |key: &str, value: &str| everynode_model::NodeSelectorTerm {
        match_expressions: vec![everynode_model::Requirement {
            key: key.into(),
            operator: everynode_model::Operator::In,
            values: [value.to_owned()].into(),
        }],
        ..Default::default()
    };
    let affinity = Some(vec![either("tier", "edge"), either("rack", "1")]);
    let placement = Placement { required_affinity: affinity, ..Placement::default() };
    world.put(DaemonSet { placement, ..daemon_set("a", 1, "1") }, "1");
    world.settle();
    let both = |node| [tier(node, "core"), change(node, NodeChange::RemoveLabel("rack".into()))];
    let all: Vec<Command> = [both(1), both(2)].concat();
    let refused = Err(Refusal::WouldRemoveOf { key: key("a"), pods: 2, of: 2 });
    assert_eq!(world.fleet.may_remove(&all, world.now), refused);
}
