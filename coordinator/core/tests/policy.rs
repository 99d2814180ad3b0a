//! What `rollout.everynode.dev/…` adds to a rollout: canaries, partition, pause, deadline, going back.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod world;

use std::time::Duration;

use everynode_coordinator_core::{Command, NodeChange, WhyFilter};
use everynode_model::{
    Canary, CanaryWait, DaemonSet, IntOrPercent, OnFailure, RolloutPolicy, Strategy,
};
use world::dice::Dice;
use world::{LONG, World, daemon_set, id, key, name, revision};

fn set(policy: RolloutPolicy) -> DaemonSet {
    let strategy = Strategy::rolling(IntOrPercent::Int(3));
    DaemonSet { strategy, rollout: policy, ..daemon_set("a", 1, "1") }
}

fn canary(nodes: Option<IntOrPercent>, wait: CanaryWait) -> RolloutPolicy {
    let canary = Canary { selector: None, nodes, wait, approved: None };
    RolloutPolicy { canary: Some(Box::new(canary)), ..RolloutPolicy::default() }
}

fn at_once() -> CanaryWait {
    CanaryWait::For(Duration::ZERO)
}

fn deadline(on_failure: OnFailure) -> RolloutPolicy {
    let progress_deadline = Some(Duration::from_secs(100));
    RolloutPolicy { progress_deadline, on_failure, ..RolloutPolicy::default() }
}

/// All nodes run revision 1 of a set without a policy.
fn running(nodes: u64) -> World {
    let mut world = World::with_nodes(nodes);
    world.put(set(RolloutPolicy::default()), "1");
    world.settle();
    assert_eq!(world.status("a").available, u32::try_from(nodes).unwrap());
    world
}

fn progressing(world: &World) -> (bool, String) {
    let view = world.fleet.set(&key("a")).unwrap();
    let found = view.conditions.into_iter().find(|(name, ..)| name == "Progressing");
    found.map(|(_, holds, reason)| (holds, reason.code)).unwrap()
}

/// The reasons of nodes that do not run the newest revision.
fn reasons(world: &World) -> Vec<String> {
    let lines = world.fleet.why(&WhyFilter::default()).into_iter();
    let mut codes: Vec<_> = lines.filter(|line| !line.fine).map(|line| line.reason.code).collect();
    codes.sort();
    codes.dedup();
    codes
}

fn events(world: &World, reason: &str) -> usize {
    world.fleet.events().filter(|event| event.reason == reason).count()
}

fn label(world: &mut World, node: u64, key: &str, value: &str) {
    let change = NodeChange::SetLabel { key: key.into(), value: value.into(), overwrite: true };
    let changes = vec![change];
    world.follow(&Command::ChangeNode { name: name(node), changes }).unwrap();
}

#[test]
fn canaries_go_first_and_the_others_wait_for_them() {
    for (nodes, how_many) in [
        (Some(IntOrPercent::Int(2)), 2),
        (Some(IntOrPercent::Percent(11)), 2), // 1.1 of 10, rounded up
        (Some(IntOrPercent::Int(4)), 3),      // never more than the budget at a time
    ] {
        let mut world = running(10);
        world.bad.insert(revision("2"));
        world.put(set(canary(nodes, at_once())), "2");
        world.settle();
        assert_eq!(world.granted_count(10, "a", "2"), how_many, "{nodes:?}");
        assert_eq!(progressing(&world), (true, "CanaryWaiting".into()));
        world.bad.clear();
        world.settle();
        assert_eq!(world.status("a").updated, 10);
        assert_eq!(events(&world, "CanaryPassed"), 1);
        assert_eq!(progressing(&world), (false, "Complete".into()));
    }
}

#[test]
fn the_others_follow_when_canaries_have_been_available_for_long_enough() {
    let ten_minutes = Duration::from_secs(600);
    let mut world = running(5);
    let policy = canary(Some(IntOrPercent::Int(1)), CanaryWait::For(ten_minutes));
    world.put(set(policy), "2");
    world.settle();
    world.wait(ten_minutes - Duration::from_secs(60));
    world.settle();
    assert_eq!(world.granted_count(5, "a", "2"), 1);
    assert_eq!(reasons(&world), ["CanaryWaiting"]);
    world.wait(Duration::from_secs(60));
    world.settle();
    assert_eq!(world.status("a").updated, 5);
}

#[test]
fn a_canary_that_falls_over_while_it_is_watched_begins_its_time_anew() {
    let hour = Duration::from_secs(3_600);
    let mut world = running(5);
    world.put(set(canary(Some(IntOrPercent::Int(1)), CanaryWait::For(hour))), "2");
    world.settle();
    let first = (1..=5).find(|node| world.runs(*node, "a") == Some(revision("2"))).unwrap();
    world.wait(hour - LONG);
    world.crash(id(first), &key("a"));
    world.settle();
    world.wait(LONG * 2);
    world.settle();
    assert_eq!(world.granted_count(5, "a", "2"), 1);
}

#[test]
fn selected_nodes_are_the_canaries() {
    let mut world = running(5);
    label(&mut world, 4, "role", "canary");
    let chosen = Canary {
        selector: Some("role=canary".parse().unwrap()),
        nodes: None,
        wait: CanaryWait::Manual,
        approved: None,
    };
    let policy =
        RolloutPolicy { canary: Some(Box::new(chosen.clone())), ..RolloutPolicy::default() };
    world.put(set(policy.clone()), "2");
    world.settle();
    assert_eq!(world.runs(4, "a"), Some(revision("2")));
    assert_eq!(world.granted_count(5, "a", "2"), 1);
    world.wait(LONG * 10);
    world.settle();
    assert_eq!(world.granted_count(5, "a", "2"), 1, "it waits for a person");
    assert_eq!(reasons(&world), ["CanaryWaiting"]);

    let wrong = Canary { approved: Some(revision("1").short()), ..chosen.clone() };
    world.put(set(RolloutPolicy { canary: Some(Box::new(wrong)), ..policy.clone() }), "2");
    world.settle();
    assert_eq!(world.granted_count(5, "a", "2"), 1, "another revision was approved");
    let right = Canary { approved: Some(revision("2").short()), ..chosen };
    world.put(set(RolloutPolicy { canary: Some(Box::new(right)), ..policy }), "2");
    world.settle();
    assert_eq!(world.status("a").updated, 5);
}

#[test]
fn without_a_canary_that_matches_nothing_is_moved() {
    let mut world = running(3);
    let canary = Canary {
        selector: Some("role=canary".parse().unwrap()),
        nodes: None,
        wait: at_once(),
        approved: None,
    };
    let policy = RolloutPolicy { canary: Some(Box::new(canary)), ..RolloutPolicy::default() };
    world.put(set(policy), "2");
    world.settle();
    assert_eq!(world.granted_count(3, "a", "2"), 0);
    let lines = world.fleet.why(&WhyFilter::default());
    assert!(lines.iter().all(|line| line.reason.message.contains("no node matches")), "{lines:?}");
    label(&mut world, 2, "role", "canary");
    world.settle();
    assert_eq!(world.status("a").updated, 3);
}

#[test]
fn what_was_let_past_its_canaries_stays_so_after_a_restart() {
    let mut world = running(5);
    world.put(set(canary(Some(IntOrPercent::Int(1)), CanaryWait::For(LONG))), "2");
    world.settle();
    world.wait(LONG);
    assert!(world.step(), "it goes past its canary");
    world.restart();
    (1..=5).for_each(|node| world.connect(id(node)));
    world.wait(Duration::from_secs(61));
    assert!(world.step());
    assert!(world.granted_count(5, "a", "2") > 1, "without waiting for the canary again");
}

#[test]
fn a_partition_keeps_so_many_nodes_where_they_are() {
    let mut world = running(5);
    let partition =
        |share| set(RolloutPolicy { partition: Some(share), ..RolloutPolicy::default() });
    world.put(partition(IntOrPercent::Percent(50)), "2");
    world.settle();
    assert_eq!(world.status("a").updated, 2, "2.5 of 5, rounded up, are kept");
    assert_eq!(progressing(&world), (false, "Partitioned".into()));
    assert_eq!(reasons(&world), ["Partitioned"]);

    world.join(6);
    world.connect(id(6));
    assert_eq!(world.granted(6, "a").unwrap().revision, revision("1"), "until its turn");
    world.settle();
    assert_eq!(world.status("a").updated, 3, "3 of 6 are kept");
    world.put(partition(IntOrPercent::Int(1)), "2");
    world.settle();
    assert_eq!(world.status("a").updated, 5);
    world.put(partition(IntOrPercent::Int(0)), "2");
    world.settle();
    assert_eq!(world.status("a").updated, 6);
    assert_eq!(world.fleet.set(&key("a")).unwrap().stable, Some(revision("2")));
}

#[test]
fn nothing_is_moved_while_it_is_paused_not_even_what_is_broken() {
    let mut world = running(3);
    world.crash(id(2), &key("a"));
    let paused = RolloutPolicy { paused: true, ..deadline(OnFailure::Rollback) };
    world.put(set(paused), "2");
    world.settle();
    world.wait(LONG * 10);
    world.settle();
    assert_eq!(world.granted_count(3, "a", "2"), 0);
    assert_eq!(progressing(&world), (false, "RolloutPaused".into()));
    assert_eq!(reasons(&world), ["RolloutPaused"]);
    world.put(set(deadline(OnFailure::Rollback)), "2");
    world.settle();
    assert_eq!(world.status("a").updated, 3, "and the pause did not count against it");
}

#[test]
fn a_rollout_that_makes_no_progress_fails_and_holds() {
    let mut world = running(5);
    world.bad.insert(revision("2"));
    world.put(set(deadline(OnFailure::Hold)), "2");
    world.settle();
    let moved = world.granted_count(5, "a", "2");
    assert_eq!(moved, 3);
    world.wait(LONG);
    world.settle();
    assert_eq!(progressing(&world), (false, "ProgressDeadlineExceeded".into()));
    assert_eq!(events(&world, "ProgressDeadlineExceeded"), 1);
    assert!(reasons(&world).contains(&"RolloutFailed".to_owned()), "{:?}", reasons(&world));
    world.bad.clear();
    world.settle();
    assert_eq!(world.granted_count(5, "a", "2"), moved, "it has failed, whatever comes later");
    world.restart();
    (1..=5).for_each(|node| world.connect(id(node)));
    world.wait(LONG);
    world.settle();
    assert_eq!(world.granted_count(5, "a", "2"), moved, "and a restart does not forget it");
    world.put(set(deadline(OnFailure::Hold)), "3");
    world.settle();
    assert_eq!(world.status("a").updated, 5, "another template tries again");
}

#[test]
fn a_failed_rollout_goes_back_by_itself_and_leaves_the_spec_alone() {
    let mut world = running(5);
    world.bad.insert(revision("2"));
    world.put(set(deadline(OnFailure::Rollback)), "2");
    world.settle();
    world.wait(LONG);
    world.settle();
    assert_eq!(world.granted_count(5, "a", "1"), 5);
    let view = world.fleet.set(&key("a")).unwrap();
    assert_eq!((view.target, view.record.set.revision), (revision("2"), revision("2")));
    assert_eq!((view.status.available, view.status.updated), (5, 0));
    assert_eq!(progressing(&world), (false, "RolledBack".into()));
    assert_eq!(reasons(&world), ["RolledBack"]);

    world.bad.clear();
    world.put(set(deadline(OnFailure::Rollback)), "2");
    world.settle();
    assert_eq!(world.granted_count(5, "a", "1"), 5, "the same template is not tried again");
    world.join(6);
    world.connect(id(6));
    world.settle();
    assert_eq!(world.runs(6, "a"), Some(revision("1")), "a newcomer does not try it either");
    world.put(set(deadline(OnFailure::Rollback)), "3");
    world.settle();
    assert_eq!(world.status("a").updated, 6);
}

#[test]
fn a_node_that_the_revision_killed_does_not_start_it_again_when_it_returns() {
    let mut world = running(5);
    world.bad.insert(revision("2"));
    let one = Strategy::rolling(IntOrPercent::Int(1));
    world.put(DaemonSet { strategy: one, ..set(deadline(OnFailure::Rollback)) }, "2");
    assert!(world.step());
    let killed =
        (1..=5).find(|node| world.granted(*node, "a").unwrap().revision == revision("2")).unwrap();
    world.lose(killed);
    world.settle();
    assert_eq!(world.granted_count(5, "a", "2"), 1, "it holds the rollout");
    world.wait(LONG);
    world.settle();
    assert_eq!(world.granted_count(5, "a", "1"), 5, "also for the one that is gone");
    world.connect(id(killed));
    world.settle();
    assert_eq!(world.runs(killed, "a"), Some(revision("1")));
    assert_eq!(world.status("a").available, 5);
}

#[test]
fn a_frozen_coordinator_fails_nothing_for_its_own_sleep() {
    let mut world = running(3);
    world.bad.insert(revision("2"));
    world.put(set(deadline(OnFailure::Rollback)), "2");
    world.settle();
    world.now.steady = world.now.steady.after(LONG * 10);
    world.fleet.frozen(world.now);
    world.step();
    assert_eq!(world.granted_count(3, "a", "2"), 3);
    assert_eq!(events(&world, "ProgressDeadlineExceeded"), 0);
}

#[test]
fn a_first_rollout_obeys_its_policy() {
    let mut world = World::with_nodes(5);
    world.bad.insert(revision("1"));
    let policy = RolloutPolicy {
        progress_deadline: Some(Duration::from_secs(100)),
        on_failure: OnFailure::Rollback,
        ..canary(Some(IntOrPercent::Int(2)), at_once())
    };
    world.put(set(policy.clone()), "1");
    world.settle();
    assert_eq!(world.status("a").current, 2, "only the canaries have a pod");
    assert_eq!(world.status("a").desired, 5);
    world.wait(LONG);
    world.settle();
    assert_eq!(progressing(&world), (false, "ProgressDeadlineExceeded".into()));
    assert_eq!(world.status("a").current, 2, "there is nothing to go back to");
    world.join(6);
    world.connect(id(6));
    world.settle();
    assert_eq!(world.status("a").current, 2, "nor does a newcomer get what has failed");
    world.put(set(policy), "2");
    world.settle();
    let view = world.fleet.set(&key("a")).unwrap();
    assert_eq!((view.status.updated, view.stable), (6, Some(revision("2"))));
}

#[test]
fn a_first_rollout_that_is_asked_for_no_care_any_more_goes_everywhere() {
    for strategy in [Strategy::OnDelete, set(RolloutPolicy::default()).strategy] {
        let mut world = World::with_nodes(4);
        world.put(set(RolloutPolicy { paused: true, ..RolloutPolicy::default() }), "1");
        world.settle();
        assert_eq!(world.status("a").current, 0);
        world.put(DaemonSet { strategy, ..set(RolloutPolicy::default()) }, "1");
        world.settle();
        assert_eq!(world.status("a").available, 4, "{strategy:?}");
    }
}

#[test]
fn crashes_long_after_a_partitioned_rollout_count_from_when_they_begin() {
    let mut world = running(4);
    let policy =
        RolloutPolicy { partition: Some(IntOrPercent::Int(2)), ..deadline(OnFailure::Rollback) };
    world.put(set(policy), "2");
    world.settle();
    world.wait(LONG * 20);
    world.settle();
    let moved = (1..=4).find(|node| world.runs(*node, "a") == Some(revision("2"))).unwrap();
    world.crash(id(moved), &key("a"));
    world.wait(Duration::from_secs(50));
    world.settle();
    assert_eq!(world.granted_count(4, "a", "2"), 2, "its deadline has just begun");
}

/// The coordinator starts anew, and nodes call at once.
fn restart(world: &mut World, nodes: u64) {
    world.restart();
    (1..=nodes).for_each(|node| world.connect(id(node)));
}

#[test]
fn the_time_of_canaries_outlives_the_coordinator() {
    let fifteen_minutes = Duration::from_secs(900);
    let mut world = running(5);
    world.put(set(canary(Some(IntOrPercent::Int(1)), CanaryWait::For(fifteen_minutes))), "2");
    world.settle();
    for _ in 0..2 {
        world.wait(Duration::from_secs(400));
        restart(&mut world, 5);
        world.settle();
    }
    assert_eq!(world.granted_count(5, "a", "2"), 1, "not before its time");
    world.wait(Duration::from_secs(150));
    world.settle();
    assert_eq!(world.status("a").updated, 5, "and not much later");
}

#[test]
fn a_canary_that_falls_over_while_nobody_leads_begins_its_time_anew() {
    let hour = Duration::from_secs(3_600);
    let mut world = running(5);
    world.put(set(canary(Some(IntOrPercent::Int(1)), CanaryWait::For(hour))), "2");
    world.settle();
    let first = (1..=5).find(|node| world.runs(*node, "a") == Some(revision("2"))).unwrap();
    world.wait(hour - LONG);
    world.restart();
    world.crash(id(first), &key("a"));
    (1..=5).for_each(|node| world.connect(id(node)));
    world.settle();
    world.wait(LONG * 2);
    world.settle();
    assert_eq!(world.granted_count(5, "a", "2"), 1);
    world.wait(hour);
    world.settle();
    assert_eq!(world.status("a").updated, 5);
}

#[test]
fn what_ran_the_target_before_is_watched_from_the_beginning() {
    let mut world = running(5);
    let policy = canary(Some(IntOrPercent::Int(1)), CanaryWait::For(LONG * 5));
    world.put(set(policy.clone()), "2");
    world.settle();
    let first = (1..=5).find(|node| world.runs(*node, "a") == Some(revision("2"))).unwrap();
    world.lose(first);
    world.wait(LONG * 10);
    world.put(set(policy.clone()), "1");
    world.settle();
    world.put(set(policy), "2");
    // It never heard that it was to go back.
    world.connect(id(first));
    world.settle();
    world.wait(LONG * 4);
    world.settle();
    assert_eq!(world.granted_count(5, "a", "2"), 1, "it was asked for as long anew");
    world.wait(LONG * 2);
    world.settle();
    assert_eq!(world.status("a").updated, 5);
}

/// One of so many nodes at a time, with ten minutes to make progress.
fn patient() -> DaemonSet {
    let one = Strategy::rolling(IntOrPercent::Int(1));
    let progress_deadline = Some(Duration::from_secs(600));
    let rollout = RolloutPolicy { progress_deadline, ..RolloutPolicy::default() };
    DaemonSet { strategy: one, ..set(rollout) }
}

#[test]
fn a_deadline_outlives_the_coordinator() {
    let mut world = running(3);
    world.bad.insert(revision("2"));
    world.put(patient(), "2");
    world.settle();
    for round in 0..5 {
        assert_eq!(events(&world, "ProgressDeadlineExceeded"), 0, "round {round}");
        world.wait(Duration::from_secs(160));
        world.settle();
        restart(&mut world, 3);
    }
    world.wait(LONG);
    world.settle();
    world.wait(LONG);
    world.settle();
    assert_eq!(progressing(&world), (false, "ProgressDeadlineExceeded".into()));
}

#[test]
fn progress_that_no_coordinator_saw_counts() {
    let mut world = running(3);
    world.bad.insert(revision("2"));
    world.put(patient(), "2");
    world.settle();
    world.wait(Duration::from_secs(580));
    world.settle();
    world.restart();
    world.bad.clear();
    (0..3).for_each(|_| (1..=3).for_each(|node| world.work(id(node))));
    world.bad.insert(revision("2"));
    (1..=3).for_each(|node| world.connect(id(node)));
    world.wait(LONG);
    world.settle();
    assert_eq!(world.granted_count(3, "a", "2"), 2, "it goes on to the next");
    world.wait(Duration::from_secs(400));
    world.settle();
    assert_eq!(events(&world, "ProgressDeadlineExceeded"), 0, "its ten minutes begin anew");
    world.wait(Duration::from_secs(300));
    world.settle();
    assert_eq!(progressing(&world), (false, "ProgressDeadlineExceeded".into()));
}

/// Whatever comes in between, coordinators that start anew as well: nothing fails earlier than its deadline
/// after it last made progress.
#[test]
fn at_random_nothing_fails_before_its_time() {
    let mut failed = 0;
    for seed in 1..=80_u64 {
        let mut dice = Dice::new(seed);
        let mut world = running(4);
        world.put(patient(), "2");
        let (mut progress, mut most, mut body) = (world.now.steady, (0, 0), 2);
        for _ in 0..60 {
            match dice.roll(8) {
                0 => drop(world.bad.insert(revision(&body.to_string()))),
                1 if dice.chance(4) => world.bad.clear(),
                2 => restart(&mut world, 4),
                3 => {
                    let node = 1 + dice.roll(4);
                    world.crash(id(node), &key("a"));
                }
                4 if dice.roll(4) == 0 => {
                    body += 1;
                    world.put(patient(), &body.to_string());
                    (progress, most) = (world.now.steady, (0, 0));
                }
                _ => world.wait(Duration::from_secs(dice.roll(200))),
            }
            let before = events(&world, "ProgressDeadlineExceeded");
            world.round();
            let name = body.to_string();
            let is = (world.granted_count(4, "a", &name), world.status("a").updated);
            if is.0 > most.0 || is.1 > most.1 {
                (progress, most) = (world.now.steady, (is.0.max(most.0), is.1.max(most.1)));
            }
            if events(&world, "ProgressDeadlineExceeded") > before {
                let waited = world.now.steady.since(progress);
                assert!(waited >= Duration::from_secs(600), "seed {seed}: after {waited:?}");
                failed += 1;
            }
            world.check();
        }
    }
    assert!(failed > 5, "{failed} failed: the walk tries nothing");
}
