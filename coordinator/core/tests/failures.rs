//! What is kept and told of what containers printed before they failed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod world;

use std::time::Duration;

use everynode_coordinator_core::{Config, Observation, PodFilter, WhyFilter};
use everynode_model::{
    EVICTED, Exit, Failure, FormerFailure, LogTail, NodeUid, OnFailure, PodStatus, Reason,
    RolloutPolicy, WallTime,
};
use world::{World, daemon_set, id, key, revision};

fn failure(log_tail: LogTail) -> Failure {
    Failure {
        container: "main".into(),
        exit: Some(Exit::Code(3)),
        reason: Reason::new("Error", "it ended"),
        at: WallTime::default(),
        log_tail,
    }
}

fn running(nodes: u64) -> World {
    let mut world = World::with_nodes(nodes);
    world.put(daemon_set("a", 1, "1"), "1");
    world.settle();
    world
}

/// The node reports its pod, changed so.
fn report(world: &mut World, node: u64, change: impl FnOnce(&mut PodStatus)) {
    let node: NodeUid = id(node);
    let agent = world.agents.get_mut(&node).unwrap();
    let pod = agent.pods.get_mut(&key("a")).unwrap();
    change(pod);
    let (session, pods) = (agent.session.unwrap(), vec![pod.clone()]);
    world.observe(Observation::Status { node, session, places: vec![(key("a"), pods)] });
}

fn tail(world: &World, node: u64) -> LogTail {
    let filter = PodFilter { node: Some(id(node)), ..PodFilter::default() };
    let pod = world.fleet.pods(&filter).pop().unwrap();
    pod.status.unwrap().last_failure.unwrap().log_tail
}

#[test]
fn what_is_said_once_is_kept_with_the_place_until_something_else_is_said() {
    let mut world = running(1);
    let boom = LogTail::of("boom");
    report(&mut world, 1, |pod| pod.last_failure = Some(failure(boom.clone())));
    let id_alone = LogTail::known_elsewhere(boom.id());
    report(&mut world, 1, |pod| pod.last_failure = Some(failure(id_alone.clone())));
    assert_eq!(tail(&world, 1), boom);
    // Also where another revision's pod says it of the former, and when a session begins.
    let former = FormerFailure { revision: revision("0"), failure: failure(id_alone.clone()) };
    report(&mut world, 1, |pod| {
        (pod.last_failure, pod.former_failure) = (None, Some(former.clone()));
    });
    world.connect(id(1));
    report(&mut world, 1, |pod| pod.last_failure = Some(failure(id_alone)));
    assert_eq!(tail(&world, 1), boom);
    let bang = LogTail::known_elsewhere(LogTail::of("bang").id());
    report(&mut world, 1, |pod| pod.last_failure = Some(failure(bang)));
    assert!(tail(&world, 1).is_missing(), "another text is not taken for it");
}

#[test]
fn what_was_printed_is_no_second_failure() {
    let mut world = running(1);
    let told = |world: &World| {
        let of =
            |event: &&everynode_coordinator_core::EventRecord| event.reason == "FailedDaemonPod";
        world.fleet.events().filter(of).map(|event| event.count).sum::<u64>()
    };
    report(&mut world, 1, |pod| pod.last_failure = Some(failure(LogTail::default())));
    assert_eq!(told(&world), 1);
    report(&mut world, 1, |pod| pod.last_failure = Some(failure(LogTail::of("boom"))));
    assert_eq!(told(&world), 1);
}

#[test]
fn an_eviction_is_told_once_in_the_kubelets_words() {
    let mut world = running(1);
    let evicted = Failure {
        container: String::new(),
        exit: None,
        reason: Reason::new(
            EVICTED,
            "Usage of EmptyDir volume \"cache\" exceeds the limit \"1Gi\"",
        ),
        ..failure(LogTail::default())
    };
    for _ in 0..2 {
        report(&mut world, 1, |pod| pod.last_failure = Some(evicted.clone()));
    }
    let told: Vec<_> = world.fleet.events().filter(|event| event.reason == EVICTED).collect();
    let [event] = told.as_slice() else { panic!("{told:?}") };
    let told = "Usage of EmptyDir volume \"cache\" exceeds the limit \"1Gi\" on node node-1";
    assert_eq!((event.message.as_str(), event.count, event.about.kind.as_str()), (told, 1, "Pod"));
}

#[test]
fn a_pod_whose_limits_change_is_the_same_pod_and_that_is_told() {
    let mut world = running(1);
    let told = |world: &World, word: &str| {
        let of = |event: &&everynode_coordinator_core::EventRecord| event.reason == word;
        world.fleet.events().filter(of).map(|event| event.count).sum::<u64>()
    };
    let in_progress = || Some(Reason::new("PodResizeInProgress", "its limits"));
    for _ in 0..2 {
        report(&mut world, 1, |pod| pod.reason = in_progress());
    }
    report(&mut world, 1, |pod| (pod.reason, pod.revision) = (None, revision("2")));
    assert_eq!(told(&world, "ResizeStarted"), 1);
    assert_eq!(told(&world, "ResizeCompleted"), 1);
    assert_eq!((told(&world, "SuccessfulCreate"), told(&world, "SuccessfulDelete")), (1, 0));
    let failed = |code: &str| Failure {
        reason: Reason::new(code, "why"),
        exit: None,
        ..failure(LogTail::default())
    };
    for word in ["ResizeError", "ResizeInfeasible"] {
        report(&mut world, 1, |pod| pod.last_failure = Some(failed(word)));
        assert_eq!(told(&world, word), 1);
    }
}

#[test]
fn the_oldest_texts_go_where_there_are_too_many() {
    let config = Config { max_printed: 24, ..Config::default() };
    let mut world = World::of(config).and_nodes(4);
    world.put(daemon_set("a", 1, "1"), "1");
    world.settle();
    let say = |world: &mut World, node| {
        let twelve = LogTail::of(&format!("{node:>12}"));
        report(world, node, |pod| pod.last_failure = Some(failure(twelve)));
    };
    (1..=3).for_each(|node| say(&mut world, node));
    let kept = |world: &World, nodes: [u64; 3]| nodes.map(|node| !tail(world, node).is_missing());
    assert_eq!(kept(&world, [1, 2, 3]), [false, true, true]);
    report(&mut world, 2, |pod| pod.last_failure = None);
    say(&mut world, 4);
    assert_eq!(kept(&world, [1, 3, 4]), [false, true, true], "what is no longer said makes room");
    say(&mut world, 1);
    assert_eq!(kept(&world, [1, 3, 4]), [true, false, true]);
}

#[test]
fn why_tells_what_failed_of_the_newest_revision_where_nodes_went_back_from_it() {
    let mut world = running(3);
    world.bad.insert(revision("2"));
    let policy = RolloutPolicy {
        progress_deadline: Some(Duration::from_secs(100)),
        on_failure: OnFailure::Rollback,
        ..RolloutPolicy::default()
    };
    let set = everynode_model::DaemonSet { rollout: policy, ..daemon_set("a", 1, "1") };
    world.put(set, "2");
    world.settle();
    let moved = (1..=3).find(|node| world.runs(*node, "a") == Some(revision("2"))).unwrap();
    world.wait(Duration::from_secs(200));
    world.settle();
    let former = FormerFailure { revision: revision("2"), failure: failure(LogTail::of("boom")) };
    report(&mut world, moved, |pod| pod.former_failure = Some(former.clone()));
    let other = (1..=3).find(|node| *node != moved).unwrap();
    let old = FormerFailure { revision: revision("0"), ..former.clone() };
    report(&mut world, other, |pod| pod.former_failure = Some(old));
    let why = world.fleet.why(&WhyFilter { set: Some(key("a")), ..WhyFilter::default() });
    let told: Vec<_> = why.iter().filter_map(|line| line.failure.clone()).collect();
    assert_eq!(told, [former.failure], "and not of revisions before it");
    let line = why.iter().find(|line| line.failure.is_some()).unwrap();
    assert_eq!((line.node.uid, line.fine), (id(moved), false));
}
