//! Nodes: joining, taints and labels, leaving, leases, sessions.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod world;

use std::time::Duration;

use everynode_coordinator_core::{
    Changed, Command, NodeChange, NodeStanding, Observation, Outcome, Readiness, Refusal,
    TokenRecord, WhyFilter,
};
use everynode_model::{DaemonSet, Digest, Intent, Placement, Reason, WallTime};
use world::{LONG, World, daemon_set, id, key, labels, name, put, token};

fn codes(world: &World) -> Vec<&str> {
    world.fleet.events().map(|event| event.reason.as_str()).collect()
}

#[test]
fn a_join_is_refused_by_name_and_in_order() {
    let mut world = World::new();
    let with = |id: &str, change: fn(&mut TokenRecord)| {
        let mut token = token(id);
        change(&mut token);
        Command::CreateToken(token)
    };
    world.follow(&with("old", |token| token.expires_at = WallTime::default())).unwrap();
    world.follow(&with("used", |token| token.uses_left = Some(0))).unwrap();
    world.follow(&with("other", |token| token.node_name = Some(name(9)))).unwrap();
    let join = |id: &str| {
        let Command::Join {
            token_secret, uid, name, public_key, machine_id, labels, taints, ..
        } = World::join_command(1, name(1))
        else {
            unreachable!()
        };
        let token_id = id.to_owned();
        Command::Join { token_id, token_secret, uid, name, public_key, machine_id, labels, taints }
    };
    assert_eq!(world.follow(&join("none")), Err(Refusal::TokenInvalid));
    assert_eq!(world.follow(&join("old")), Err(Refusal::TokenExpired));
    assert_eq!(world.follow(&join("used")), Err(Refusal::TokenUsedUp));
    assert_eq!(world.follow(&join("other")), Err(Refusal::TokenForOtherNode { name: name(9) }));
    let mut wrong = join("old");
    if let Command::Join { token_secret, .. } = &mut wrong {
        *token_secret = Digest::of(b"guess");
    }
    assert_eq!(world.follow(&wrong), Err(Refusal::TokenInvalid), "before anything else is said");
}

#[test]
fn a_repeated_join_is_answered_again_and_spends_nothing() {
    let mut world = World::new();
    world.follow(&Command::RevokeToken { id: "t".into() }).unwrap();
    world.follow(&Command::CreateToken(TokenRecord { uses_left: Some(1), ..token("t") })).unwrap();
    let join = World::join_command(1, name(1));
    let first = world.follow(&join).unwrap();
    let mut again = join;
    if let Command::Join { uid, .. } = &mut again {
        *uid = id(2);
    }
    assert_eq!(world.follow(&again), Ok(first));
    let other = World::join_command(3, name(3));
    assert_eq!(world.follow(&other), Err(Refusal::TokenUsedUp));
}

#[test]
fn a_name_is_taken_until_its_node_leaves_or_is_replaced() {
    let mut world = World::with_nodes(1);
    let second = World::join_command(2, name(1));
    assert_eq!(world.follow(&second), Err(Refusal::NameTaken { name: name(1) }));
    world.follow(&Command::RevokeToken { id: "t".into() }).unwrap();
    let replacing = TokenRecord { replace: true, node_name: Some(name(1)), ..token("t") };
    world.follow(&Command::CreateToken(replacing)).unwrap();
    world.follow(&second).unwrap();
    assert!(matches!(world.fleet.standing(id(1)), Some(NodeStanding::Leaving { .. })));
    assert_eq!(world.fleet.node_by_name(&name(1)).unwrap().record.uid, id(2));
    world.check();
}

#[test]
fn a_node_joins_with_a_hostname_and_a_copy_is_warned_about() {
    let mut world = World::with_nodes(1);
    let mut copy = World::join_command(2, name(2));
    if let Command::Join { machine_id, .. } = &mut copy {
        *machine_id = "machine-1".into();
    }
    let Ok(Outcome::Joined(node)) = world.follow(&copy) else { panic!("it may join") };
    assert_eq!(node.labels, labels(&[("kubernetes.io/hostname", "node-2")]));
    assert!(codes(&world).contains(&"DuplicateMachineId"));
}

#[test]
fn no_schedule_keeps_what_runs_and_no_execute_does_not() {
    let mut world = World::with_nodes(2);
    world.put(daemon_set("a", 1, "1"), "1");
    world.settle();
    world.taint(1, "t:NoSchedule");
    world.join(3);
    world.taint(3, "t:NoSchedule");
    let mut tainted = World::join_command(4, name(4));
    if let Command::Join { taints, .. } = &mut tainted {
        *taints = vec!["t:NoSchedule".parse().unwrap()];
    }
    world.follow(&tainted).unwrap();
    world.connect(id(3));
    world.connect(id(4));
    world.settle();
    let kept = world.fleet.assignment(id(1));
    assert_eq!(kept.get(&key("a")).map(|item| item.intent), Some(Intent::Keep));
    assert!(world.granted(4, "a").is_none(), "it never had one");
    let status = world.status("a");
    assert_eq!((status.desired, status.current, status.misscheduled), (1, 1, 2));

    world.restart();
    assert!(world.granted(1, "a").is_some(), "the mark is durable");
    world.taint(1, "t:NoExecute");
    assert!(world.granted(1, "a").is_none());
    let change = NodeChange::RemoveTaint {
        key: "t".into(),
        effect: Some(everynode_model::Effect::NoExecute),
    };
    world.change(1, change);
    assert!(world.granted(1, "a").is_none(), "what has left is not there to be kept");
    world.check();
}

#[test]
fn deleting_a_kept_pod_ends_it() {
    let mut world = World::with_nodes(1);
    world.put(daemon_set("a", 1, "1"), "1");
    world.settle();
    world.taint(1, "t:NoSchedule");
    world.follow(&Command::ReplacePod { node: id(1), key: key("a") }).unwrap();
    assert!(world.granted(1, "a").is_none());
    let again = world.follow(&Command::ReplacePod { node: id(1), key: key("a") });
    assert_eq!(again, Err(Refusal::PodNotFound { node: name(1), key: key("a") }));
}

#[test]
fn a_lost_toleration_keeps_what_runs() {
    let mut world = World::with_nodes(1);
    let tolerant = Placement {
        tolerations: vec![everynode_model::Toleration {
            operator: everynode_model::TolerationOperator::Exists,
            ..everynode_model::Toleration::default()
        }],
        ..Placement::default()
    };
    world.put(DaemonSet { placement: tolerant, ..daemon_set("a", 1, "1") }, "1");
    world.taint(1, "t:NoSchedule");
    world.settle();
    world.put(daemon_set("a", 1, "2"), "2");
    world.settle();
    let kept = world.fleet.assignment(id(1));
    let kept = kept.get(&key("a")).unwrap();
    assert_eq!((kept.intent, kept.revision), (Intent::Keep, world::revision("1")));
}

#[test]
fn a_label_decides_and_what_comes_back_gets_the_rule() {
    let mut world = World::with_nodes(2);
    let placement = Placement { node_selector: labels(&[("x", "1")]), ..Placement::default() };
    world.put(DaemonSet { placement, ..daemon_set("a", 1, "1") }, "1");
    world.label(1, "x", "1");
    world.settle();
    assert_eq!((world.granted(1, "a").is_some(), world.granted(2, "a").is_some()), (true, false));
    let set_label = |value: &str, overwrite| NodeChange::SetLabel {
        key: "x".into(),
        value: value.into(),
        overwrite,
    };
    let changes = vec![set_label("2", false)];
    let refused = world.follow(&Command::ChangeNode { name: name(1), changes });
    assert_eq!(refused, Err(Refusal::NotOverwritten { key: "x".into(), has: "1".into() }));
    world.change(1, set_label("2", true));
    world.settle();
    assert_eq!(world.runs(1, "a"), None);
}

#[test]
fn a_removed_node_is_told_and_confirms_for_ever() {
    let mut world = World::with_nodes(2);
    world.put(daemon_set("a", 1, "1"), "1");
    world.settle();
    let confirm = Command::ConfirmDeparture { uid: id(1) };
    assert_eq!(world.follow(&confirm), Err(Refusal::NodeNotLeaving(id(1))));
    let delete = Command::DeleteNode { name: name(1), forget: false };
    let Ok(Outcome::NodeLeaving { pods, connected, .. }) = world.follow(&delete) else {
        panic!("it leaves")
    };
    assert_eq!((pods, connected), (vec![key("a")], true));
    assert!(world.fleet.assignment(id(1)).is_empty());
    assert!(world.fleet.take_orders().is_empty(), "an empty order is never how it learns");
    world.follow(&Command::Leave { uid: id(1) }).unwrap();
    world.follow(&confirm).unwrap();
    world.follow(&confirm).unwrap();
    assert!(matches!(world.fleet.standing(id(1)), Some(NodeStanding::Removed { .. })));
    let unknown = Command::ConfirmDeparture { uid: id(77) };
    assert_eq!(world.follow(&unknown), Err(Refusal::NodeUnknown(id(77))));
    world.wait(Duration::from_secs(31 * 24 * 60 * 60));
    world.take_steps();
    assert_eq!(world.fleet.standing(id(1)), None, "its tombstone is swept in time");
}

#[test]
fn forgetting_leaves_nothing_behind() {
    let mut world = World::with_nodes(2);
    world.put(daemon_set("a", 1, "1"), "1");
    world.settle();
    world.follow(&Command::ReplacePod { node: id(1), key: key("a") }).unwrap();
    world.follow(&Command::DeleteNode { name: name(1), forget: true }).unwrap();
    world.check();
    world.take_steps();
    world.check();
    let chunk = |key: &everynode_coordinator_core::RecordKey| {
        matches!(key, everynode_coordinator_core::RecordKey::GrantChunk(..))
    };
    assert!(!world.store.keys().any(chunk));
    assert_eq!(world.fleet.standing(id(1)), None);
}

#[test]
fn a_lease_outlives_its_session_and_nothing_follows_from_its_end() {
    let mut world = World::with_nodes(1);
    world.put(daemon_set("a", 1, "1"), "1");
    world.settle();
    let readiness = |world: &World| world.fleet.node(id(1)).unwrap().readiness;
    world.disconnect(id(1));
    world.wait(Duration::from_secs(30));
    assert_eq!(readiness(&world), Readiness::Ready);
    world.wait(Duration::from_secs(11));
    assert!(matches!(readiness(&world), Readiness::Lost { since: Some(_) }));
    let status = world.status("a");
    assert_eq!((status.desired, status.current, status.ready), (1, 1, 0));
    assert!(world.granted(1, "a").is_some());
    world.connect(id(1));
    assert_eq!(readiness(&world), Readiness::Ready);
    assert_eq!(world.status("a").ready, 1);
    let told = codes(&world);
    assert!(told.contains(&"NodeNotReady") && told.contains(&"NodeReady"), "{told:?}");
}

#[test]
fn a_silent_session_is_lost_and_found_again() {
    let mut world = World::with_nodes(1);
    world.agents.get_mut(&id(1)).unwrap().mute = true;
    world.wait(LONG);
    let readiness = |world: &World| world.fleet.node(id(1)).unwrap().readiness;
    assert!(matches!(readiness(&world), Readiness::Lost { .. }));
    world.agents.get_mut(&id(1)).unwrap().mute = false;
    world.wait(Duration::from_secs(20));
    assert_eq!(readiness(&world), Readiness::Ready);
}

#[test]
fn after_a_start_nodes_are_unknown_then_lost() {
    let mut world = World::with_nodes(1);
    world.restart();
    let readiness = |world: &World| world.fleet.node(id(1)).unwrap().readiness;
    world.wait(Duration::from_secs(59));
    assert_eq!(readiness(&world), Readiness::Unknown);
    world.wait(Duration::from_secs(2));
    assert_eq!(readiness(&world), Readiness::Lost { since: None });
}

#[test]
fn what_a_replaced_session_says_is_not_heeded() {
    let mut world = World::with_nodes(1);
    world.put(daemon_set("a", 1, "1"), "1");
    world.settle();
    let old = world.agents[&id(1)].session.unwrap();
    world.connect(id(1));
    world.observe(Observation::Disconnected { node: id(1), session: old });
    let places = vec![(key("a"), Vec::new())];
    world.observe(Observation::Status { node: id(1), session: old, places });
    assert!(world.fleet.node(id(1)).unwrap().connected);
    assert_eq!(world.status("a").current, 1);
}

#[test]
fn a_fleet_restored_within_its_reign_goes_on_from_what_agents_accepted() {
    let mut world = World::with_nodes(1);
    world.put(daemon_set("a", 1, "1"), "1");
    world.settle();
    world.put(daemon_set("b", 2, "1"), "1");
    world.settle();
    let before = world.stamps[&id(1)];
    world.fleet = world.restored();
    world.connect(id(1));
    world.hand_out();
    assert_eq!(world.stamps[&id(1)], before, "the same order has the same stamp");
    world.fleet = world.restored();
    world.put(daemon_set("c", 3, "1"), "1");
    world.connect(id(1));
    world.hand_out();
    assert!(world.stamps[&id(1)].is_newer_than(&before));
}

#[test]
fn a_restored_fleet_contradicts_nothing_that_may_still_be_on_its_way() {
    let mut world = World::with_nodes(1);
    world.put(daemon_set("a", 1, "1"), "1");
    world.settle();
    let accepted = world.agents[&id(1)].order.clone();
    world.put(daemon_set("b", 2, "1"), "1");
    world.hand_out();
    let unheard = world.stamps[&id(1)];
    world.agents.get_mut(&id(1)).unwrap().order = accepted;
    let mut fleet = world.restored();
    assert_eq!(fleet.succeed(world.fleet.clone()), []);
    // What was told of lately may be gone, so nobody may go on watching from where they were.
    assert!(fleet.version() > world.fleet.version());
    world.fleet = fleet;
    world.put(daemon_set("c", 3, "1"), "1");
    world.connect(id(1));
    world.hand_out();
    let stamp = world.stamps[&id(1)];
    assert!(stamp.is_newer_than(&unheard) && !stamp.contradicts(&unheard), "{stamp:?}");
}

#[test]
fn a_removal_that_was_not_stored_takes_no_generation_with_it() {
    for forget in [true, false] {
        let mut world = World::with_nodes(1);
        world.put(daemon_set("a", 1, "1"), "1");
        world.hand_out();
        let heard = world.stamps[&id(1)];
        // Decided and recorded, up to the end; then the store fails.
        let mut former = world.fleet.clone();
        for command in [
            Command::DeleteNode { name: name(1), forget },
            Command::ConfirmDeparture { uid: id(1) },
        ] {
            let writes = former.decide(&command, world.now).map(|it| it.writes).unwrap_or_default();
            former.record(&writes, world.now);
        }
        let mut fleet = world.restored();
        assert_eq!(fleet.succeed(former), [id(1)]);
        world.fleet = fleet;
        world.put(daemon_set("b", 2, "1"), "1");
        world.agents.get_mut(&id(1)).unwrap().order = None;
        world.connect(id(1));
        world.hand_out();
        let stamp = world.stamps[&id(1)];
        assert!(stamp.is_newer_than(&heard) && !stamp.contradicts(&heard), "{stamp:?}");
    }
}

#[test]
fn records_that_were_not_stored_take_nothing_back_that_agents_said() {
    let mut world = World::with_nodes(2);
    world.put(daemon_set("a", 1, "1"), "1");
    world.settle();
    let before = (world.status("a"), world.stamps.clone());
    world.forget(&put(daemon_set("b", 2, "1"), "1"));
    world.forget(&World::join_command(3, name(3)));
    assert_eq!(world.go_back(), []);
    world.check();
    assert!(world.fleet.set(&key("b")).is_none() && world.fleet.node(id(3)).is_none());
    assert_eq!(world.fleet.node(id(1)).unwrap().readiness, Readiness::Ready);
    world.hand_out();
    assert_eq!((world.status("a"), world.stamps.clone()), before, "nothing is said anew");

    // The rollout goes on at once: no window begins again.
    world.put(daemon_set("a", 1, "2"), "2");
    world.settle();
    assert_eq!(world.granted_count(2, "a", "2"), 2);
}

#[test]
fn a_node_whose_removal_was_not_stored_says_again_what_runs_there() {
    let mut world = World::with_nodes(2);
    world.put(daemon_set("a", 1, "1"), "1");
    world.settle();
    world.forget(&Command::DeleteNode { name: name(1), forget: true });
    assert_eq!(world.go_back(), [id(1)]);
    world.check();
    assert_eq!(world.status("a").desired, 2);
    world.connect(id(1));
    world.settle();
    assert_eq!(world.status("a").available, 2);
}

#[test]
fn ten_frozen_minutes_lose_no_node_and_move_no_rollout() {
    let mut world = World::with_nodes(3);
    world.put(daemon_set("a", 1, "1"), "1");
    world.settle();
    world.put(daemon_set("a", 1, "2"), "2");
    world.step();
    let granted = world.granted_count(3, "a", "2");
    assert_eq!(granted, 1);
    // Nothing was heard, and nothing done, for ten minutes.
    world.sleep(Duration::from_secs(600));
    for number in 1..=3 {
        assert_eq!(world.fleet.node(id(number)).unwrap().readiness, Readiness::Ready, "{number}");
    }
    let told = world.fleet.events().any(|event| event.reason == "NodeNotReady");
    assert!(!told && !world.step(), "something was concluded from its own sleep");
    world.wait(LONG);
    world.settle();
    assert_eq!(world.granted_count(3, "a", "2"), 3);
}

#[test]
fn whoever_watches_pods_hears_of_those_that_nobody_has_reported() {
    let mut world = World::with_nodes(1);
    world.put(daemon_set("a", 1, "1"), "1");
    world.join(2);
    let pod = Changed::Pod(id(2), key("a"));
    world.fleet.take_changes();
    world.connect(id(2));
    assert!(world.fleet.take_changes().contains(&pod), "its node is there");
    world.hand_out();
    assert!(world.fleet.take_changes().contains(&pod), "its node has its order");
}

#[test]
fn whoever_watches_pods_hears_that_the_set_of_a_leaving_nodes_is_gone() {
    let mut world = World::with_nodes(1);
    world.put(daemon_set("a", 1, "1"), "1");
    world.settle();
    world.follow(&Command::DeleteNode { name: name(1), forget: false }).unwrap();
    world.fleet.take_changes();
    world.follow(&Command::DeleteSet { key: key("a"), uid: None }).unwrap();
    assert!(world.fleet.take_changes().contains(&Changed::Pod(id(1), key("a"))));
    let reason = world.fleet.place(id(1), &key("a")).pop().and_then(|pod| pod.reason);
    assert_eq!(reason.map(|reason| reason.code), Some("BeingRemoved".to_owned()));
}

#[test]
fn whoever_watches_nodes_hears_that_a_leaving_nodes_name_is_anothers_now_or_nobodys() {
    let mut world = World::with_nodes(1);
    world.follow(&Command::DeleteNode { name: name(1), forget: false }).unwrap();
    world.fleet.take_changes();
    world.follow(&World::join_command(2, name(1))).unwrap();
    assert!(world.fleet.take_changes().contains(&Changed::Node(id(1))), "it is another's");
    world.follow(&Command::DeleteNode { name: name(1), forget: true }).unwrap();
    assert!(world.fleet.take_changes().contains(&Changed::Node(id(1))), "it is nobody's");
}

#[test]
fn a_crash_loop_counts_and_seldom_writes() {
    let mut world = World::with_nodes(1);
    world.put(daemon_set("a", 1, "1"), "1");
    world.settle();
    let before = world.writes;
    for _ in 0..100 {
        world.crash(id(1), &key("a"));
        world.work(id(1));
    }
    let counted = world.fleet.events().find(|event| event.reason == "BackOff").unwrap().count;
    assert_eq!(counted, 100);
    assert_eq!(world.writes - before, 7, "1, 2, 4, ... 64");
}

#[test]
fn a_refusal_that_comes_after_the_acceptance_of_the_same_order_is_late() {
    let mut world = World::with_nodes(1);
    world.put(daemon_set("a", 1, "1"), "1");
    world.settle();
    let stamp = world.agents[&id(1)].order.clone().unwrap().stamp;
    let refused = Some(Reason::new("LedgerNotWritten", "the disk was full"));
    let late = Observation::Acknowledged { node: id(1), stamp, refused };
    let writes = world.fleet.observe(late, world.now);
    assert_eq!(writes, []);
    let lines = world.fleet.why(&WhyFilter::default());
    assert!(lines.iter().all(|line| line.fine), "{lines:?}");
}
