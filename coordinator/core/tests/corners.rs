//! Rollouts where several things come together: undo and partition, canaries that are dark or held,
//! nodes that leave or return while a revision fails, a coordinator that starts anew.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod world;

use std::time::Duration;

use everynode_coordinator_core::{Command, NodeChange, WhyFilter};
use everynode_model::{
    Canary, CanaryWait, DaemonSet, IntOrPercent, OnFailure, RolloutPolicy, Strategy,
};
use world::{LONG, World, daemon_set, id, key, name, revision};

fn rolling(max_unavailable: u32, policy: RolloutPolicy) -> DaemonSet {
    let max_unavailable = IntOrPercent::Int(max_unavailable);
    let strategy = Strategy::rolling(max_unavailable);
    DaemonSet { strategy, rollout: policy, ..daemon_set("a", 1, "1") }
}

fn plain(max_unavailable: u32) -> DaemonSet {
    rolling(max_unavailable, RolloutPolicy::default())
}

fn canary(nodes: u32) -> RolloutPolicy {
    let canary = Canary {
        selector: None,
        nodes: Some(IntOrPercent::Int(nodes)),
        wait: CanaryWait::For(Duration::ZERO),
        approved: None,
    };
    RolloutPolicy { canary: Some(Box::new(canary)), ..RolloutPolicy::default() }
}

fn deadline(seconds: u64, on_failure: OnFailure) -> RolloutPolicy {
    let progress_deadline = Some(Duration::from_secs(seconds));
    RolloutPolicy { progress_deadline, on_failure, ..RolloutPolicy::default() }
}

/// All nodes run revision 1 of a set without a policy.
fn running(nodes: u64) -> World {
    let mut world = World::with_nodes(nodes);
    world.put(plain(1), "1");
    world.settle();
    assert_eq!(world.status("a").available, u32::try_from(nodes).unwrap());
    world
}

/// The nodes, of the first so many, that are granted that revision.
fn granted(world: &World, nodes: u64, body: &str) -> Vec<u64> {
    let has = |node: &u64| {
        world.granted(*node, "a").is_some_and(|grant| grant.revision == revision(body))
    };
    (1..=nodes).filter(has).collect()
}

fn progressing(world: &World) -> (bool, String) {
    let view = world.fleet.set(&key("a")).unwrap();
    let found = view.conditions.into_iter().find(|(name, ..)| name == "Progressing");
    found.map(|(_, holds, reason)| (holds, reason.code)).unwrap()
}

fn stable(world: &World) -> Option<everynode_model::Digest> {
    world.fleet.set(&key("a")).unwrap().stable
}

fn events(world: &World, reason: &str) -> usize {
    world.fleet.events().filter(|event| event.reason == reason).count()
}

fn why(world: &World, node: u64) -> String {
    let filter = WhyFilter { node: Some(id(node)), ..WhyFilter::default() };
    world.fleet.why(&filter).into_iter().map(|line| line.reason.code).collect()
}

/// The coordinator starts anew, and these nodes call at once.
fn restart(world: &mut World, nodes: &[u64]) {
    world.restart();
    nodes.iter().for_each(|node| world.connect(id(*node)));
}

#[test]
fn an_undo_goes_back_everywhere_whatever_the_partition() {
    let partition = Some(IntOrPercent::Percent(50));
    let set = rolling(1, RolloutPolicy { partition, ..RolloutPolicy::default() });
    let mut world = running(6);
    world.put(set.clone(), "2");
    world.settle();
    assert_eq!(world.granted_count(6, "a", "2"), 3);
    world.put(set, "1");
    world.settle();
    assert_eq!(world.granted_count(6, "a", "1"), 6);
    assert_eq!(world.status("a").updated, 6);
    assert_eq!(progressing(&world), (false, "Complete".into()));
}

#[test]
fn a_canary_that_is_held_at_its_node_lets_nobody_follow() {
    let mut world = running(5);
    world.put(rolling(5, canary(1)), "2");
    assert!(world.step());
    let [first] = granted(&world, 5, "2")[..] else { panic!("one canary") };
    world.hold(id(first), "a", Some(false));
    world.work(id(first));
    world.bad.insert(revision("2"));
    world.settle();
    // Another takes its turn, and shows what the revision is worth.
    assert_eq!(world.granted_count(5, "a", "2"), 2);
    assert_eq!(progressing(&world), (true, "CanaryWaiting".into()));
    world.bad.clear();
    world.settle();
    assert_eq!(world.status("a").updated, 4, "all but the one that is held");
}

#[test]
fn a_canary_that_is_dark_since_a_former_rollout_lets_nobody_follow() {
    let mut world = running(5);
    world.put(rolling(5, canary(1)), "2");
    assert!(world.step());
    let [first] = granted(&world, 5, "2")[..] else { panic!("one canary") };
    world.lose(first);
    world.put(rolling(5, canary(1)), "3");
    world.put(rolling(5, canary(1)), "2");
    world.bad.insert(revision("2"));
    world.settle();
    assert_eq!(world.granted_count(5, "a", "2"), 2, "another takes its turn");
    assert_eq!(progressing(&world), (true, "CanaryWaiting".into()));
    world.bad.clear();
    world.settle();
    assert_eq!(world.status("a").updated, 4);
}

#[test]
fn a_canary_that_limps_since_a_former_rollout_lets_nobody_follow() {
    let mut world = running(5);
    world.bad.insert(revision("2"));
    world.put(rolling(5, canary(1)), "2");
    world.settle();
    assert_eq!(world.granted_count(5, "a", "2"), 1);
    let paused = RolloutPolicy { paused: true, ..canary(1) };
    world.put(rolling(5, paused), "3");
    world.put(rolling(5, canary(1)), "2");
    world.settle();
    assert_eq!(world.granted_count(5, "a", "2"), 1);
    assert_eq!(progressing(&world), (true, "CanaryWaiting".into()));
    world.bad.clear();
    world.settle();
    assert_eq!(world.status("a").updated, 5);
}

#[test]
fn a_canary_is_waited_for_although_all_nodes_are_canaries() {
    let mut world = running(2);
    let by_hand = Canary {
        selector: None,
        nodes: Some(IntOrPercent::Int(2)),
        wait: CanaryWait::Manual,
        approved: None,
    };
    let policy = RolloutPolicy { canary: Some(Box::new(by_hand)), ..RolloutPolicy::default() };
    world.put(rolling(2, policy), "2");
    world.settle();
    assert_eq!(world.status("a").updated, 2);
    assert_eq!(stable(&world), Some(revision("1")), "a newcomer gets the former one");
    assert_eq!(progressing(&world), (true, "CanaryWaiting".into()));
}

#[test]
fn a_rollout_in_which_nobody_could_take_part_is_not_over() {
    let mut world = running(3);
    (1..=3).for_each(|node| world.lose(node));
    world.bad.insert(revision("2"));
    world.put(rolling(3, deadline(100, OnFailure::Rollback)), "2");
    world.settle();
    assert_eq!(stable(&world), Some(revision("1")), "nobody has tried it");
    assert_eq!(progressing(&world), (true, "NodesAway".into()));
    (1..=3).for_each(|node| world.connect(id(node)));
    world.settle();
    assert_eq!(world.granted_count(3, "a", "2"), 3);
    world.wait(LONG);
    world.settle();
    assert_eq!(world.granted_count(3, "a", "1"), 3, "and it can fail");
    assert_eq!(progressing(&world), (false, "RolledBack".into()));
}

#[test]
fn what_nobody_can_be_reached_for_is_no_failure() {
    let mut world = running(4);
    world.put(rolling(2, deadline(100, OnFailure::Rollback)), "2");
    assert!(world.step());
    world.hand_out();
    (1..=4).for_each(|node| world.lose(node));
    world.wait(LONG * 10);
    world.settle();
    assert_eq!(events(&world, "ProgressDeadlineExceeded"), 0, "the way to the nodes is cut");
    // Those that were not moved are back, the others are not: now it is the revision.
    let moved = granted(&world, 4, "2");
    (1..=4).filter(|node| !moved.contains(node)).for_each(|node| world.connect(id(node)));
    world.settle();
    assert_eq!(events(&world, "ProgressDeadlineExceeded"), 0, "from when it can be told");
    world.wait(LONG);
    world.settle();
    assert_eq!(world.granted_count(4, "a", "1"), 4);
}

#[test]
fn a_revision_that_takes_the_whole_fleet_with_it_fails() {
    let mut world = running(2);
    world.put(rolling(2, deadline(100, OnFailure::Rollback)), "2");
    assert!(world.step());
    world.hand_out();
    (1..=2).for_each(|node| world.lose(node));
    world.wait(LONG * 2);
    world.settle();
    assert_eq!(world.granted_count(2, "a", "1"), 2, "also where nobody is left to compare with");
}

#[test]
fn a_deadline_that_is_shorter_than_the_registration_window_counts_from_its_end() {
    let mut world = running(3);
    world.put(rolling(1, deadline(20, OnFailure::Rollback)), "2");
    assert!(world.step());
    world.hand_out();
    let [moved] = granted(&world, 3, "2")[..] else { panic!("one at a time") };
    let others: Vec<u64> = (1..=3).filter(|node| *node != moved).collect();
    restart(&mut world, &others);
    world.wait(Duration::from_secs(61));
    world.step();
    assert_eq!(events(&world, "ProgressDeadlineExceeded"), 0);
    world.wait(Duration::from_secs(20));
    world.settle();
    assert_eq!(events(&world, "ProgressDeadlineExceeded"), 1);
}

#[test]
fn a_rollout_that_goes_on_and_on_does_not_fail_however_long_it_takes() {
    let set = |policy| DaemonSet { min_ready: Duration::from_secs(20), ..rolling(2, policy) };
    let mut world = World::with_nodes(12);
    world.put(set(RolloutPolicy::default()), "1");
    for _ in 0..4 {
        world.settle();
        world.wait(LONG);
    }
    world.put(set(deadline(50, OnFailure::Rollback)), "2");
    world.round();
    // One of the first two begins its time anew, so that from now on one is always on its way.
    let first = granted(&world, 12, "2")[0];
    for round in 0..40 {
        world.round();
        world.wait(Duration::from_secs(5));
        if round == 1 {
            world.crash(id(first), &key("a"));
        }
    }
    assert_eq!((stable(&world), world.status("a").updated), (Some(revision("2")), 12));
    assert_eq!(events(&world, "ProgressDeadlineExceeded"), 0);
}

#[test]
fn nodes_that_leave_take_no_progress_with_them() {
    let set = |policy| DaemonSet { min_ready: Duration::from_secs(20), ..rolling(2, policy) };
    let mut world = World::with_nodes(16);
    world.put(set(RolloutPolicy::default()), "1");
    for _ in 0..4 {
        world.settle();
        world.wait(LONG);
    }
    world.put(set(deadline(50, OnFailure::Rollback)), "2");
    let moved = |world: &World| granted(world, 16, "2");
    world.round();
    // One of the first two begins its time anew, so that from now on one is always on its way.
    let first = moved(&world)[0];
    for _ in 0..2 {
        world.round();
        world.wait(Duration::from_secs(5));
    }
    world.crash(id(first), &key("a"));
    for _ in 0..60 {
        if moved(&world).len() >= 10 {
            break;
        }
        world.round();
        world.wait(Duration::from_secs(5));
    }
    let done = |node: &u64| {
        let filter = WhyFilter { node: Some(id(*node)), ..WhyFilter::default() };
        world.fleet.why(&filter).iter().all(|line| line.fine)
    };
    let done: Vec<u64> = moved(&world).into_iter().filter(done).collect();
    assert_eq!(done.len(), 8);
    for node in &done {
        world.follow(&Command::DeleteNode { name: name(*node), forget: true }).unwrap();
        world.agents.remove(&id(*node));
    }
    for _ in 0..40 {
        world.round();
        world.wait(Duration::from_secs(5));
    }
    assert_eq!(events(&world, "ProgressDeadlineExceeded"), 0, "it goes on, one after the other");
    assert_eq!((stable(&world), world.status("a").updated), (Some(revision("2")), 8));
}

/// One of four nodes is granted revision 2 and does not hear of it before that has failed.
fn failed_behind_a_hold(hold: impl Fn(&mut World, u64)) -> (World, u64) {
    let mut world = running(4);
    world.bad.insert(revision("2"));
    world.put(rolling(2, deadline(100, OnFailure::Rollback)), "2");
    assert!(world.step());
    let moved = granted(&world, 4, "2");
    assert_eq!(moved.len(), 2);
    hold(&mut world, moved[0]);
    world.settle();
    world.wait(LONG);
    world.settle();
    assert_eq!(world.runs(moved[1], "a"), Some(revision("1")), "the other has gone back");
    (world, moved[0])
}

/// No step is taken before it hears of its order: as in a registration window.
fn obeys_at_once(world: &mut World, node: u64) {
    world.hand_out();
    world.work(id(node));
}

/// Whether revision 2 is started on the node while all settles.
fn starts_the_failed_one(world: &mut World, node: u64) -> bool {
    for _ in 0..5 {
        if world.runs(node, "a") == Some(revision("2")) {
            return true;
        }
        world.round();
        world.wait(Duration::from_secs(1));
    }
    world.runs(node, "a") == Some(revision("2"))
}

#[test]
fn what_is_released_does_not_start_what_has_failed_meanwhile() {
    let (mut world, node) = failed_behind_a_hold(|world, node| {
        world.change(node, NodeChange::Hold { until: None, reason: String::new() });
    });
    assert_eq!(world.runs(node, "a"), Some(revision("1")));
    world.change(node, NodeChange::Release);
    obeys_at_once(&mut world, node);
    assert!(!starts_the_failed_one(&mut world, node), "a node that was held");

    let (mut world, node) = failed_behind_a_hold(|world, node| {
        world.change(node, NodeChange::Stop { reason: String::new() });
    });
    world.change(node, NodeChange::Start);
    obeys_at_once(&mut world, node);
    assert!(!starts_the_failed_one(&mut world, node), "a node that was stopped");

    let (mut world, node) = failed_behind_a_hold(|world, node| {
        world.hold(id(node), "a", Some(false));
        world.work(id(node));
    });
    world.hold(id(node), "a", None);
    obeys_at_once(&mut world, node);
    assert!(!starts_the_failed_one(&mut world, node), "a pod that was held at the machine");
}

#[test]
fn what_never_heard_of_a_revision_does_not_start_it_after_an_undo() {
    let mut world = running(4);
    world.put(plain(2), "2");
    assert!(world.step());
    let moved = granted(&world, 4, "2");
    assert_eq!(moved.len(), 2);
    moved.iter().for_each(|node| world.lose(*node));
    world.put(plain(1), "1");
    world.settle();
    // Another spends the whole budget.
    let other = (1..=4).find(|node| !moved.contains(node)).unwrap();
    world.crash(id(other), &key("a"));
    world.disconnect(id(other));
    for node in &moved {
        let pod = world.agents[&id(*node)].pods[&key("a")].uid;
        world.connect(id(*node));
        assert!(!starts_the_failed_one(&mut world, *node));
        assert_eq!(world.agents[&id(*node)].pods[&key("a")].uid, pod, "nor is its pod replaced");
    }
    world.connect(id(other));
    world.settle();
    assert_eq!(world.status("a").updated, 4);
}

#[test]
fn an_undo_recalls_at_once_what_can_not_hear_of_it() {
    for restarts in [false, true] {
        let mut world = running(4);
        world.put(plain(1), "2");
        assert!(world.step());
        let [moved] = granted(&world, 4, "2")[..] else { panic!("one at a time") };
        world.lose(moved);
        world.put(plain(1), "1");
        if restarts {
            restart(&mut world, &(1..=4).filter(|node| *node != moved).collect::<Vec<_>>());
            world.wait(LONG);
        }
        world.settle();
        assert_eq!(granted(&world, 4, "2"), [] as [u64; 0], "restarted: {restarts}");
        world.connect(id(moved));
        obeys_at_once(&mut world, moved);
        assert!(!starts_the_failed_one(&mut world, moved), "restarted: {restarts}");
    }
}

#[test]
fn what_a_finished_rollout_has_left_behind_is_not_recalled() {
    let mut world = running(4);
    world.lose(1);
    // Also where nobody had the time to tidy up: a rollout that was finished has given it what it runs.
    for body in ["2", "3"] {
        world.put(plain(4), body);
        world.settle();
    }
    assert_eq!(granted(&world, 4, "3"), [2, 3, 4]);
    world.connect(id(1));
    world.settle();
    assert!(world.step() || granted(&world, 4, "3") == [1, 2, 3, 4]);
    world.put(plain(1), "4");
    while world.status("a").updated < 3 {
        world.round();
    }
    let last = (1..=4).find(|node| world.runs(*node, "a") == Some(revision("3"))).unwrap();
    world.lose(last);
    world.settle();
    assert_eq!(stable(&world), Some(revision("4")));
    assert_eq!(granted(&world, 4, "3"), [last], "it comes in its turn, when it is there");
}

#[test]
fn a_pod_that_was_deleted_once_is_not_replaced_when_its_node_goes_back() {
    let mut world = running(3);
    (1..=3).for_each(|node| {
        world.follow(&Command::ReplacePod { node: id(node), key: key("a") }).unwrap();
    });
    world.settle();
    world.put(rolling(1, deadline(100, OnFailure::Rollback)), "2");
    assert!(world.step());
    let [moved] = granted(&world, 3, "2")[..] else { panic!("one at a time") };
    let pod = world.agents[&id(moved)].pods[&key("a")].uid;
    world.lose(moved);
    world.wait(LONG);
    world.settle();
    assert_eq!(progressing(&world), (false, "RolledBack".into()));
    world.connect(id(moved));
    world.settle();
    assert_eq!(world.runs(moved, "a"), Some(revision("1")));
    assert_eq!(world.agents[&id(moved)].pods[&key("a")].uid, pod, "it never heard of another");
}

#[test]
fn a_first_rollout_that_has_failed_stays_so_when_its_care_is_taken_away() {
    for strategy in [Strategy::OnDelete, plain(1).strategy] {
        let mut world = World::with_nodes(3);
        world.bad.insert(revision("1"));
        let policy =
            RolloutPolicy { progress_deadline: Some(Duration::from_secs(100)), ..canary(1) };
        world.put(rolling(1, policy), "1");
        world.settle();
        world.wait(LONG);
        world.settle();
        assert_eq!(progressing(&world), (false, "ProgressDeadlineExceeded".into()));
        world.put(DaemonSet { strategy, ..plain(1) }, "1");
        world.settle();
        assert_eq!(world.status("a").current, 1, "the same template is not tried again");
        world.put(DaemonSet { strategy, ..plain(1) }, "2");
        world.settle();
        assert_eq!(world.status("a").current, 3, "{strategy:?}");
    }
}

#[test]
fn where_the_former_revision_is_bad_too_nothing_goes_to_and_fro() {
    let mut world = running(4);
    world.bad.insert(revision("2"));
    world.put(rolling(2, deadline(100, OnFailure::Rollback)), "2");
    world.settle();
    world.bad.insert(revision("1"));
    world.wait(LONG);
    world.settle();
    assert_eq!(world.granted_count(4, "a", "1"), 4);
    let before = world.writes;
    for _ in 0..20 {
        world.settle();
        world.wait(LONG);
    }
    assert_eq!(world.granted_count(4, "a", "1"), 4);
    assert_eq!(events(&world, "ProgressDeadlineExceeded"), 1);
    assert!(world.writes - before < 20, "{} writes", world.writes - before);
}

#[test]
fn an_undo_while_a_canary_is_watched_brings_only_the_canary_back() {
    let mut world = running(5);
    let by_hand = Canary {
        selector: None,
        nodes: Some(IntOrPercent::Int(1)),
        wait: CanaryWait::Manual,
        approved: None,
    };
    let policy = RolloutPolicy { canary: Some(Box::new(by_hand)), ..RolloutPolicy::default() };
    world.put(rolling(1, policy.clone()), "2");
    world.settle();
    let pods = |world: &World| -> Vec<_> {
        (1..=5).map(|node| world.agents[&id(node)].pods[&key("a")].uid).collect()
    };
    let before = pods(&world);
    world.put(rolling(1, policy), "1");
    world.settle();
    let restarted = pods(&world).iter().zip(&before).filter(|(new, old)| new != old).count();
    assert_eq!((restarted, world.status("a").updated), (1, 5));
    assert_eq!(progressing(&world), (false, "Complete".into()));
}

#[test]
fn canaries_that_become_others_are_watched_anew() {
    let mut world = running(4);
    let select = Canary {
        selector: Some("role=canary".parse().unwrap()),
        nodes: None,
        wait: CanaryWait::For(LONG * 2),
        approved: None,
    };
    let policy = RolloutPolicy { canary: Some(Box::new(select)), ..RolloutPolicy::default() };
    world.label(1, "role", "canary");
    world.put(rolling(1, policy), "2");
    world.settle();
    world.wait(LONG);
    world.settle();
    world.change(1, NodeChange::RemoveLabel("role".into()));
    world.label(2, "role", "canary");
    world.settle();
    assert_eq!(granted(&world, 4, "2"), [1, 2], "who was moved stays, who is chosen now is moved");
    world.wait(LONG + LONG / 2);
    world.settle();
    assert_eq!(world.granted_count(4, "a", "2"), 2, "its own time has not passed");
    world.change(2, NodeChange::RemoveLabel("role".into()));
    world.settle();
    world.wait(LONG * 3);
    world.settle();
    assert_eq!(world.granted_count(4, "a", "2"), 2, "without canaries nobody follows");
    assert_eq!(progressing(&world), (true, "CanaryWaiting".into()));
}

#[test]
fn fleets_of_no_one_and_two_nodes_get_to_the_end() {
    for nodes in 0..=2 {
        for share in [1, 34, 50, 100] {
            let mut world = World::with_nodes(nodes);
            let strategy = Strategy::rolling(IntOrPercent::Percent(share));
            let set = DaemonSet { strategy, ..plain(1) };
            world.put(set.clone(), "1");
            world.settle();
            world.put(set, "2");
            world.settle();
            assert_eq!(world.granted_count(nodes, "a", "2") as u64, nodes, "{share}");
            assert_eq!(stable(&world), Some(revision("2")), "{nodes} nodes, {share} %");
        }
    }
}

#[test]
fn a_node_that_is_deleted_in_its_wave_makes_room_for_the_next() {
    let mut world = running(4);
    world.bad.insert(revision("2"));
    world.put(plain(1), "2");
    world.settle();
    let [moved] = granted(&world, 4, "2")[..] else { panic!("one at a time") };
    world.lose(moved);
    world.settle();
    assert_eq!(world.granted_count(4, "a", "2"), 1, "it holds the rollout");
    world.bad.clear();
    world.follow(&Command::DeleteNode { name: name(moved), forget: false }).unwrap();
    world.settle();
    assert_eq!((world.status("a").updated, world.status("a").desired), (3, 3));
    assert_eq!(stable(&world), Some(revision("2")));
}

#[test]
fn a_set_that_is_made_again_remembers_nothing_of_its_former_self() {
    let mut world = running(3);
    world.bad.insert(revision("2"));
    world.put(rolling(1, deadline(100, OnFailure::Rollback)), "2");
    world.settle();
    world.wait(LONG);
    world.settle();
    assert_eq!(progressing(&world), (false, "RolledBack".into()));
    world.follow(&Command::DeleteSet { key: key("a"), uid: None }).unwrap();
    world.bad.clear();
    world.put(DaemonSet { uid: id(2), ..rolling(1, deadline(100, OnFailure::Rollback)) }, "2");
    world.settle();
    assert_eq!((world.status("a").updated, world.status("a").available), (3, 3));
    assert_eq!(progressing(&world), (false, "Complete".into()));
}

#[test]
fn a_pod_that_is_deleted_moves_nobody_on_in_a_rollout_that_is_stopped() {
    let mut world = running(3);
    world.put(rolling(1, RolloutPolicy { paused: true, ..RolloutPolicy::default() }), "2");
    world.follow(&Command::ReplacePod { node: id(2), key: key("a") }).unwrap();
    world.settle();
    assert_eq!(world.runs(2, "a"), Some(revision("1")));
    assert_eq!(why(&world, 2), "RolloutPaused");
    world.put(plain(1), "2");
    world.settle();
    assert_eq!(world.status("a").updated, 3);
}

#[test]
fn a_taint_that_is_tolerated_for_a_time_ends_a_wave_on_its_node() {
    let mut world = running(3);
    world.put(plain(1), "2");
    assert!(world.step());
    let [moved] = granted(&world, 3, "2")[..] else { panic!("one at a time") };
    world.lose(moved);
    world.settle();
    assert_eq!(world.granted_count(3, "a", "2"), 1, "it holds the rollout");
    world.taint(moved, "gone=:NoExecute");
    world.settle();
    assert_eq!((world.status("a").updated, world.status("a").desired), (2, 2));
    assert_eq!(stable(&world), Some(revision("2")));
    world.change(moved, NodeChange::RemoveTaint { key: "gone".into(), effect: None });
    world.connect(id(moved));
    world.settle();
    assert_eq!(world.status("a").updated, 3);
}

/// Why the canaries are still waited for.
fn waits(world: &World) -> String {
    let view = world.fleet.set(&key("a")).unwrap();
    let found = view.conditions.into_iter().find(|(name, ..)| name == "Progressing");
    let (.., reason) = found.unwrap();
    assert_eq!(reason.code, "CanaryWaiting");
    reason.message
}

#[test]
fn what_keeps_canaries_from_their_turn_is_told() {
    let mut world = running(4);
    world.label(1, "role", "canary");
    let select = Canary {
        selector: Some("role=canary".parse().unwrap()),
        nodes: None,
        wait: CanaryWait::For(Duration::ZERO),
        approved: None,
    };
    let policy = RolloutPolicy { canary: Some(Box::new(select)), ..RolloutPolicy::default() };
    world.lose(1);
    world.put(rolling(1, policy), "2");
    world.settle();
    assert!(waits(&world).contains("the others can't be reached"), "{}", waits(&world));

    // Another is broken, and can't be moved before the canary was.
    world.crash(id(3), &key("a"));
    world.disconnect(id(3));
    world.connect(id(1));
    world.take_steps();
    assert!(waits(&world).contains("1 of 1 pods may be unavailable"), "{}", waits(&world));
    world.connect(id(3));
    world.settle();
    assert_eq!(world.status("a").updated, 4);
}
