//! Rollouts: the budget, absent nodes, bad revisions, OnDelete, rollback, history.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod world;

use std::time::Duration;

use everynode_coordinator_core::{Command, WhyFilter};
use everynode_model::{DaemonSet, IntOrPercent, Labels, Strategy};
use world::{LONG, World, daemon_set, id, key, revision};

fn rolling(max_unavailable: IntOrPercent) -> DaemonSet {
    DaemonSet { strategy: Strategy::rolling(max_unavailable), ..daemon_set("a", 1, "1") }
}

/// All nodes run revision 1 of set `a`.
fn running(nodes: u64, set: &DaemonSet) -> World {
    let mut world = World::with_nodes(nodes);
    world.put(set.clone(), "1");
    world.settle();
    assert_eq!(world.status("a").available, u32::try_from(nodes).unwrap());
    world
}

#[test]
fn the_first_rollout_goes_everywhere_at_once() {
    let mut world = World::with_nodes(5);
    world.put(rolling(IntOrPercent::Int(1)), "1");
    world.hand_out();
    assert_eq!(world.granted_count(5, "a", "1"), 5);
    assert!(!world.step(), "and needs no steps");
}

#[test]
fn a_change_goes_as_fast_as_the_budget_and_no_faster() {
    for (max_unavailable, at_a_time) in [
        (IntOrPercent::Int(1), 1),
        (IntOrPercent::Int(3), 3),
        (IntOrPercent::Percent(1), 1),
        (IntOrPercent::Percent(21), 3), // 2.1 of 10, rounded up
        (IntOrPercent::Percent(100), 10),
    ] {
        let set = rolling(max_unavailable);
        let mut world = running(10, &set);
        world.bad.insert(revision("2"));
        world.put(set, "2");
        world.settle();
        assert_eq!(world.granted_count(10, "a", "2"), at_a_time, "{max_unavailable}");
        world.bad.clear();
        world.settle();
        assert_eq!(world.status("a").updated, 10);
        let view = world.fleet.set(&key("a")).unwrap();
        assert_eq!((view.stable, view.target), (Some(revision("2")), revision("2")));
    }
}

#[test]
fn pods_that_are_not_available_anyway_are_replaced_at_once() {
    let set = rolling(IntOrPercent::Int(1));
    let mut world = World::with_nodes(4);
    world.bad.insert(revision("1"));
    world.put(set.clone(), "1");
    world.settle();
    world.put(set, "2");
    world.take_steps();
    assert_eq!(world.granted_count(4, "a", "2"), 4);
}

#[test]
fn a_node_that_was_away_neither_blocks_nor_spends_and_catches_up() {
    let set = rolling(IntOrPercent::Int(1));
    let mut world = running(4, &set);
    world.lose(2);
    world.put(set, "2");
    world.settle();
    let view = world.fleet.set(&key("a")).unwrap();
    assert_eq!((view.stable, view.status.updated), (Some(revision("2")), 3));
    assert_eq!(world.granted(2, "a").unwrap().revision, revision("1"), "pinned");

    world.bad.insert(revision("2"));
    world.connect(id(2));
    world.hand_out();
    assert_eq!(world.runs(2, "a"), Some(revision("1")), "returning restarts nothing");
    world.bad.clear();
    world.settle();
    assert_eq!(world.runs(2, "a"), Some(revision("2")));
    assert_eq!(world.status("a").updated, 4);
}

#[test]
fn a_node_that_goes_dark_after_its_grant_holds_the_rollout() {
    let set = rolling(IntOrPercent::Int(1));
    let mut world = running(4, &set);
    world.put(set, "2");
    assert!(world.step());
    let moved =
        (1..=4).find(|node| world.granted(*node, "a").unwrap().revision == revision("2")).unwrap();
    world.lose(moved);
    world.settle();
    assert_eq!(world.granted_count(4, "a", "2"), 1);
    world.connect(id(moved));
    world.settle();
    assert_eq!(world.status("a").updated, 4);
}

/// One of four nodes was granted revision 2 and is gone since.
fn one_gone_after_its_step(set: &DaemonSet) -> (World, u64) {
    let mut world = running(4, set);
    world.put(set.clone(), "2");
    assert!(world.step());
    let moved =
        (1..=4).find(|node| world.granted(*node, "a").unwrap().revision == revision("2")).unwrap();
    world.lose(moved);
    (world, moved)
}

#[test]
fn a_node_killed_by_the_revision_is_not_taken_for_one_that_was_away_after_a_restart() {
    let set = rolling(IntOrPercent::Int(1));
    let (mut world, moved) = one_gone_after_its_step(&set);
    world.restart();
    (1..=4).filter(|node| *node != moved).for_each(|node| world.connect(id(node)));
    world.wait(LONG);
    world.settle();
    assert_eq!(world.granted_count(4, "a", "2"), 1, "it went dark by this rollout");
}

#[test]
fn what_a_former_rollout_granted_to_a_node_that_is_gone_neither_blocks_nor_spends() {
    let set = rolling(IntOrPercent::Int(1));
    let (mut world, gone) = one_gone_after_its_step(&set);
    world.put(set.clone(), "1");
    world.settle();
    world.put(set, "2");
    world.settle();
    let view = world.fleet.set(&key("a")).unwrap();
    assert_eq!((view.status.updated, view.stable), (3, Some(revision("2"))));
    world.connect(id(gone));
    world.settle();
    assert_eq!(world.status("a").updated, 4);
}

#[test]
fn no_step_before_the_registration_window_has_passed() {
    let set = rolling(IntOrPercent::Int(1));
    let mut world = running(3, &set);
    world.put(set, "2");
    world.restart();
    for node in 1..=3 {
        world.connect(id(node));
    }
    world.hand_out();
    world.wait(Duration::from_secs(59));
    assert!(!world.step());
    world.fleet.frozen(world.now);
    world.wait(Duration::from_secs(59));
    assert!(!world.step(), "a freeze begins the window anew");
    world.wait(Duration::from_secs(2));
    assert!(world.step());
}

#[test]
fn rolling_back_moves_only_who_was_moved() {
    let set = rolling(IntOrPercent::Int(1));
    let mut world = running(4, &set);
    world.bad.insert(revision("2"));
    world.put(set.clone(), "2");
    world.settle();
    let pods = |world: &World| -> Vec<_> {
        (1..=4).map(|node| world.agents[&id(node)].pods[&key("a")].uid).collect()
    };
    let before = pods(&world);
    world.put(set, "1");
    world.settle();
    let restarted = pods(&world).iter().zip(&before).filter(|(new, old)| new != old).count();
    assert_eq!((restarted, world.status("a").updated), (1, 4));
    let numbers: Vec<_> =
        world.fleet.revisions(id(1)).iter().map(|revision| revision.number).collect();
    assert_eq!(numbers, [2, 3], "the former revision is used again, as the newest");
}

#[test]
fn min_ready_seconds_are_waited_for() {
    let set = DaemonSet { min_ready: Duration::from_secs(30), ..rolling(IntOrPercent::Int(1)) };
    let mut world = World::with_nodes(2);
    world.put(set, "1");
    for _ in 0..3 {
        world.round();
    }
    assert_eq!((world.status("a").ready, world.status("a").available), (2, 0));
    assert_eq!(world.fleet.why(&WhyFilter::default())[0].reason.code, "MinReadySeconds");
    let wake = world.fleet.wake_at().unwrap();
    assert!(wake <= world.now.steady.after(Duration::from_secs(30)));
    world.wait(Duration::from_secs(30));
    assert_eq!(world.status("a").available, 2);
}

#[test]
fn on_delete_waits_for_the_operator_but_not_for_new_nodes() {
    let set = DaemonSet { strategy: Strategy::OnDelete, ..daemon_set("a", 1, "1") };
    let mut world = running(3, &set);
    world.put(set.clone(), "2");
    world.join(4);
    world.connect(id(4));
    world.settle();
    assert_eq!(world.granted_count(4, "a", "2"), 1);
    assert_eq!(world.runs(4, "a"), Some(revision("2")));
    world.follow(&Command::ReplacePod { node: id(1), key: key("a") }).unwrap();
    world.settle();
    assert_eq!(
        (world.runs(1, "a"), world.runs(2, "a")),
        (Some(revision("2")), Some(revision("1")))
    );
    world.put(rolling(IntOrPercent::Int(1)), "2");
    world.settle();
    assert_eq!(world.status("a").updated, 4, "switching to RollingUpdate rolls");
}

#[test]
fn replaced_pods_are_of_the_granted_revision() {
    let set = rolling(IntOrPercent::Int(1));
    let mut world = running(2, &set);
    let before = world.agents[&id(1)].pods[&key("a")].uid;
    world.follow(&Command::ReplacePod { node: id(1), key: key("a") }).unwrap();
    world.settle();
    let after = &world.agents[&id(1)].pods[&key("a")];
    assert_ne!(after.uid, before);
    assert_eq!(after.revision, revision("1"));
    assert!(after.replace > 0);
    assert_eq!(world.status("a").updated, 2);
}

#[test]
fn old_revisions_are_kept_up_to_the_limit_and_while_in_use() {
    let set = DaemonSet { history_limit: 1, ..rolling(IntOrPercent::Int(1)) };
    let mut world = running(2, &set);
    world.lose(2);
    for body in ["2", "3", "4"] {
        world.put(set.clone(), body);
        world.settle();
    }
    let kept: Vec<_> = world.fleet.revisions(id(1)).iter().map(|kept| kept.digest).collect();
    assert_eq!(kept, ["1", "3", "4"].map(revision), "1 is what the absent node has");
}

#[test]
fn a_calm_fleet_writes_nothing() {
    let set = rolling(IntOrPercent::Int(1));
    let mut world = running(5, &set);
    world.lose(5);
    world.put(set, "2");
    world.settle();
    let before = (world.writes, world.fleet.version());
    for _ in 0..20 {
        world.round();
        world.wait(LONG);
    }
    assert_eq!((world.writes, world.fleet.version()), before);
}

#[test]
fn what_does_not_change_the_template_restarts_nothing() {
    let set = rolling(IntOrPercent::Int(1));
    let mut world = running(2, &set);
    let stamps = world.stamps.clone();
    let labels = Labels::from([("team".to_owned(), "x".to_owned())]);
    world.put(DaemonSet { labels, ..set }, "1");
    world.settle();
    assert_eq!(world.stamps, stamps);
    world.restart();
    for node in 1..=2 {
        world.connect(id(node));
    }
    world.settle();
    let same = |node| world.stamps[&id(node)].digest == stamps[&id(node)].digest;
    assert!(same(1) && same(2));
}

#[test]
fn a_step_is_cut_to_what_one_transaction_holds() {
    let set = rolling(IntOrPercent::Percent(100));
    let mut world = World::new();
    world.put(set.clone(), "1");
    // As many nodes as two steps can grant, all reachable and none with a pod.
    let nodes = 14_000;
    let mut writes = Vec::new();
    for number in 1..=nodes {
        let command = World::join_command(number, world::name(number));
        let decision = world.fleet.decide(&command, world.now).unwrap();
        writes.extend(
            decision.writes.into_iter().filter(|write| {
                matches!(write.key, everynode_coordinator_core::RecordKey::Node(_))
            }),
        );
    }
    world.fleet.record(&writes, world.now);
    for number in 1..=nodes {
        world.connect(id(number));
    }
    world.wait(LONG);
    world.put(set, "2");
    assert!(world.step());
    let granted = world.granted_count(nodes, "a", "2");
    assert!((11_000..=12_000).contains(&granted), "{granted}");
    world.take_steps();
    assert_eq!(world.granted_count(nodes, "a", "2"), 14_000);
}

#[test]
fn a_node_whose_pod_is_held_neither_blocks_nor_spends_nor_counts_as_done() {
    for (stop, granted_first) in [(false, false), (true, false), (false, true), (true, true)] {
        let set = rolling(IntOrPercent::Int(1));
        let mut world = running(4, &set);
        let first = if granted_first {
            // The rollout has just come to one when somebody there holds it.
            world.put(set.clone(), "2");
            assert!(world.step());
            let granted = |node: &u64| world.granted(*node, "a").unwrap().revision == revision("2");
            (1..=4).find(granted).unwrap()
        } else {
            2
        };
        world.hold(id(first), "a", Some(stop));
        world.work(id(first));
        if !granted_first {
            world.put(set, "2");
        }
        world.settle();
        let status = world.status("a");
        let available = if stop { 3 } else { 4 };
        assert_eq!((status.updated, status.available, status.desired), (3, available, 4));
        assert_eq!(world.runs(first, "a"), Some(revision("1")));
        let lines = world.fleet.why(&WhyFilter::default());
        let no: Vec<_> = lines.iter().filter(|line| !line.fine).collect();
        assert_eq!(no.len(), 1, "{no:?}");
        assert_eq!((no[0].node.uid, no[0].reason.code.as_str()), (id(first), "HeldOnNode"));
        let view = world.fleet.set(&key("a")).unwrap();
        let progressing = view.conditions.iter().find(|(name, ..)| name == "Progressing").unwrap();
        assert_eq!((progressing.1, progressing.2.code.as_str()), (false, "HeldOnNode"));

        world.hold(id(first), "a", None);
        world.settle();
        assert_eq!((world.status("a").updated, world.status("a").available), (4, 4));
    }
}

#[test]
fn a_held_pod_that_is_as_granted_is_simply_fine() {
    let set = rolling(IntOrPercent::Int(1));
    let mut world = running(2, &set);
    world.hold(id(1), "a", Some(false));
    world.settle();
    assert!(world.fleet.why(&WhyFilter::default()).iter().all(|line| line.fine));
    assert_eq!(world.status("a").available, 2);
}
