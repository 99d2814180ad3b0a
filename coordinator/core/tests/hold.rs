//! A store restored from a copy: nothing is ordered until somebody has looked, and what is the same
//! in meaning is not restarted.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod world;

use std::collections::BTreeSet;

use everynode_coordinator_core::{
    Action, Changed, Command, Hello, NodeRecord, Observation, Order, Outcome, Record, RecordKey,
    Refusal, WhyFilter,
};
use everynode_model::{Digest, PodKey, PodStatus, Reason};
use world::copy::told;
use world::{LONG, World, daemon_set, hello, id, key, name, revision};

/// Three nodes on which `a` runs at its first revision: yesterday.
fn yesterday() -> World {
    let mut world = World::with_nodes(3);
    world.put(daemon_set("a", 10, "1"), "1");
    world.settle();
    world
}

/// What happened since: `a` at its second revision, `b` made, node 4 joined.
fn today(world: &mut World) {
    world.put(daemon_set("a", 10, "2"), "2");
    world.put(daemon_set("b", 20, "1"), "1");
    world.join(4);
    world.connect(id(4));
    world.wait(LONG);
    world.settle();
    for node in 1..=4 {
        assert_eq!(world.runs(node, "a"), Some(revision("2")));
    }
}

fn reasons(world: &World) -> Vec<(Action, PodKey, String)> {
    let found = world.fleet.consequences().into_iter();
    let mut found: Vec<_> =
        found.map(|found| (found.action, found.key, found.reason.code)).collect();
    found.sort();
    found.dedup();
    found
}

fn events(world: &World, reason: &str) -> Vec<String> {
    let events = world.fleet.events().filter(|event| event.reason == reason);
    events.map(|event| event.message.clone()).collect()
}

#[test]
fn nobody_is_ordered_before_somebody_says_so() {
    let mut world = yesterday();
    let copy = world.copy();
    today(&mut world);
    let ran = world.ran();
    world.restore(copy);
    world.connect_all();
    assert!(world.fleet.take_orders().is_empty());
    world.wait(LONG);
    world.settle();
    assert!(world.fleet.take_orders().is_empty());
    assert!(world.ended(&ran).iter().all(|(node, _)| *node == id(4)), "only the unknown is gone");

    let replaced = (Action::Replace, key("a"), "UnknownRevision".to_owned());
    let stopped = (Action::Stop, key("b"), "UnknownDaemonSet".to_owned());
    assert_eq!(reasons(&world), [stopped, replaced]);
    assert_eq!(
        world.resume(false),
        Err(Refusal::WouldRemove { pods: 6, nodes: 3 }),
        "what runs is not ended by the way"
    );
    assert_eq!(world.fleet.not_called(), 0);
}

#[test]
fn what_is_applied_again_is_what_runs_already() {
    let mut world = yesterday();
    let copy = world.copy();
    today(&mut world);
    let (last, ran) = (world.copy(), world.ran());
    world.restore(copy);
    world.connect_all();
    let ran: world::copy::Ran = ran.into_iter().filter(|((node, _), _)| *node != id(4)).collect();
    world.apply_again(&last);
    world.settle();
    assert_eq!(reasons(&world), []);
    assert_eq!(world.fleet.set(&key("b")).unwrap().record.set.uid, id(20), "its uid is kept");
    assert_eq!(world.resume(false), Ok(Outcome::Done));
    world.wait(LONG);
    world.settle();
    assert_eq!(world.ran(), ran, "nothing was restarted");
    for node in 1..=3 {
        let order = world.agents[&id(node)].order.clone().unwrap();
        assert_eq!(order.stamp.term, world.fleet.cluster().term, "orders are of the new term");
    }
    assert_eq!(world.resume(false), Ok(Outcome::Done), "there is nothing left to resume");
}

#[test]
fn reports_that_are_not_followed_yet_are_followed_by_the_resumption_itself() {
    let mut world = yesterday();
    let copy = world.copy();
    today(&mut world);
    let (last, ran) = (world.copy(), world.ran());
    world.restore(copy);
    world.connect_all();
    world.apply_again(&last);
    world.resume(false).unwrap();
    world.obey_once();
    assert!(world.ended(&ran).iter().all(|(node, _)| *node == id(4)));
}

/// More nodes than one decision's grants hold.
const VERY_MANY: u64 = 12_100;

/// The first revision is what the rule says, the second is what every node runs; both are known.
#[test]
fn reports_that_fit_no_single_decision_are_followed_before_anything_is_resumed() {
    let mut world = yesterday();
    world.put(daemon_set("a", 10, "2"), "2");
    let mut stored = world.copy();
    let model = stored.values().find_map(|record| match record {
        Record::Node(node) => Some(node.clone()),
        _ => None,
    });
    let Some(model) = model else { panic!("there are nodes") };
    let pod = PodStatus { revision: revision("2"), ..world.agents[&id(1)].pods[&key("a")].clone() };
    stored.retain(|_, record| !matches!(record, Record::Node(_)));
    for number in 1_001..=1_000 + VERY_MANY {
        let node = NodeRecord { uid: id(number), name: name(number), ..model.clone() };
        stored.insert(RecordKey::Node(node.uid), Record::Node(node));
    }
    world.restore(stored);
    let mut fleet = world.fleet.clone();
    for number in 1_001..=1_000 + VERY_MANY {
        let hello = Hello { places: vec![(key("a"), vec![pod.clone()])], ..hello() };
        let (node, session) = (id(number), id(number));
        fleet.observe(Observation::Connected { node, session, hello: Box::new(hello) }, world.now);
    }
    let resume = Command::Resume { allow_removal: false };
    let refused = fleet.decide(&resume, world.now);
    assert!(matches!(refused, Err(Refusal::Conflict { .. })), "{refused:?}");
    loop {
        let writes = fleet.step(world.now);
        if writes.is_empty() {
            break;
        }
        fleet.record(&writes, world.now);
    }
    let decision = fleet.decide(&resume, world.now).unwrap();
    fleet.record(&decision.writes, world.now);
    let orders = fleet.take_orders();
    assert_eq!(orders.len() as u64, VERY_MANY);
    let same = |order: &Order| order.assignment.items().all(|item| item.revision == revision("2"));
    assert!(orders.iter().all(|(_, order)| same(order)), "nothing is replaced");
}

#[test]
fn what_nobody_has_heard_of_is_not_ended_by_the_way_either() {
    let mut world = yesterday();
    let copy = world.copy();
    world.put(daemon_set("b", 20, "1"), "1");
    world.settle();
    let ran = world.ran();
    world.restore(copy);
    for node in [1, 2] {
        world.connect(id(node));
    }
    world.put(daemon_set("b", 30, "1"), "1");
    world.settle();
    assert_eq!(reasons(&world), [], "those that have called would lose nothing");
    assert_eq!(world.resume(false), Err(Refusal::NotCalled { nodes: 1 }));
    world.connect(id(3));
    world.settle();
    assert_eq!(world.resume(false), Ok(Outcome::Done));
    world.settle();
    assert_eq!(world.ran(), ran);
}

#[test]
fn a_pod_that_was_replaced_since_is_not_replaced_again() {
    let mut world = yesterday();
    let copy = world.copy();
    world.follow(&Command::ReplacePod { node: id(2), key: key("a") }).unwrap();
    world.settle();
    let ran = world.ran();
    world.restore(copy);
    world.connect_all();
    world.settle();
    world.resume(false).unwrap();
    world.wait(LONG);
    world.settle();
    assert_eq!(world.ran(), ran);
}

#[test]
fn a_pod_that_only_stays_goes_on_staying() {
    let mut world = yesterday();
    let copy = world.copy();
    world.taint(2, "t:NoSchedule");
    world.settle();
    let ran = world.ran();
    assert!(world.runs(2, "a").is_some());
    world.restore(copy);
    world.connect_all();
    world.taint(2, "t:NoSchedule");
    world.settle();
    world.resume(false).unwrap();
    world.settle();
    assert_eq!(world.ran(), ran);
}

#[test]
fn with_leave_what_the_store_does_not_know_goes() {
    let mut world = yesterday();
    let copy = world.copy();
    today(&mut world);
    let ran = world.ran();
    world.restore(copy);
    world.connect_all();
    let told = told(&world.fleet);
    assert_eq!(told.len(), 6);
    assert_eq!(world.resume(true), Ok(Outcome::Done));
    world.obey_once();
    let ended = world.ended(&ran);
    assert_eq!(ended.into_iter().filter(|(node, _)| *node != id(4)).collect::<Vec<_>>(), {
        told.into_iter().collect::<Vec<_>>()
    });
}

#[test]
fn why_and_events_tell_of_the_hold_and_of_who_is_ahead() {
    let mut world = yesterday();
    let copy = world.copy();
    today(&mut world);
    world.restart();
    world.connect_all();
    world.settle();
    world.restore(copy);
    world.connect_all();
    for line in world.fleet.why(&WhyFilter::default()) {
        assert!(!line.fine && line.reason.code == "OrdersHeld", "{line:?}");
    }
    let lines = world.fleet.why(&WhyFilter { set: Some(key("b")), ..WhyFilter::default() });
    assert_eq!(lines.len(), 3, "also of what the store does not know: {lines:?}");
    for view in world.fleet.nodes() {
        let ahead = view.ahead.unwrap();
        assert_eq!(ahead.code, "AheadOfStore");
        assert!(ahead.message.contains("term 2") && ahead.message.contains("term 1"), "{ahead:?}");
        assert!(ahead.message.contains("stop 1 and replace 1"), "{ahead:?}");
    }
    assert_eq!(events(&world, "AheadOfStore").len(), 3);
    assert!(events(&world, "HigherTerm").is_empty());
}

#[test]
fn a_higher_term_is_an_alarm_and_is_never_adopted() {
    let mut world = yesterday();
    world.restart();
    world.connect_all();
    world.settle();
    // The store is put back by hand, and a coordinator started on it: the term is an old one again.
    let term = world.fleet.cluster().term;
    for (node, behind) in [(1, 1), (2, 0)] {
        let agent = world.agents.get_mut(&id(node)).unwrap();
        let mut order = (**agent.order.as_ref().unwrap()).clone();
        order.stamp.term.0 = term.0 + behind;
        order.stamp.reign = id(9_999);
        agent.order = Some(order.into());
        world.connect(id(node));
    }
    let told = events(&world, "HigherTerm");
    assert_eq!(told.len(), 2, "{told:?}");
    let wanted = format!("--term {}", term.0 + 2);
    assert!(told[0].contains("node-1") && told[0].contains(&wanted), "{told:?}");
    let lines = world.fleet.why(&WhyFilter { node: Some(id(1)), ..WhyFilter::default() });
    assert!(lines.iter().all(|line| line.reason.code == "HigherTerm"), "{lines:?}");
    assert_eq!(world.fleet.cluster().term, term);
}

#[test]
fn a_uid_is_adopted_only_while_held() {
    let mut world = yesterday();
    let copy = world.copy();
    today(&mut world);
    world.restore(copy.clone());
    world.connect_all();
    world.put(daemon_set("b", 30, "older"), "older");
    assert_eq!(world.fleet.set(&key("b")).unwrap().record.set.uid, id(20));
    world.put(daemon_set("b", 30, "1"), "1");
    assert!(!reasons(&world).iter().any(|(_, set, _)| *set == key("b")), "found after a detour");
    world.restore(copy);
    world.connect_all();
    world.resume(true).unwrap();
    world.put(daemon_set("b", 31, "1"), "1");
    assert_eq!(world.fleet.set(&key("b")).unwrap().record.set.uid, id(31));
}

#[test]
fn rollouts_wait_and_nothing_is_swept() {
    let mut world = yesterday();
    world.put(daemon_set("a", 10, "2"), "2");
    assert!(world.step());
    let copy = world.copy();
    world.restore(copy);
    world.connect_all();
    world.wait(LONG);
    let before: Vec<Digest> =
        world.fleet.pods(&Default::default()).iter().map(|pod| pod.revision).collect();
    world.take_steps();
    world.hand_out();
    world.check();
    let after: Vec<Digest> =
        world.fleet.pods(&Default::default()).iter().map(|pod| pod.revision).collect();
    assert_eq!(before, after);
    world.resume(false).unwrap();
    world.settle();
    assert_eq!(world.granted_count(3, "a", "2"), 3, "and then it goes on");
}

#[test]
fn a_removed_node_is_told_of() {
    let mut world = yesterday();
    world.disconnect(id(3));
    world.follow(&Command::Leave { uid: id(3) }).unwrap();
    let copy = world.copy();
    world.restore(copy);
    world.connect_all();
    let removed = Reason::new("NodeRemoved", "the store says that the node was removed");
    let found = world.fleet.consequences();
    assert!(found.iter().any(|found| found.node.uid == id(3) && found.reason == removed));
}

#[test]
fn a_grant_of_the_copy_to_a_node_that_never_calls_does_not_hold_the_rollout() {
    let mut world = yesterday();
    world.put(daemon_set("a", 10, "2"), "2");
    assert!(world.step(), "the copy is taken in mid-rollout");
    let granted =
        (1..=3).find(|node| world.granted(*node, "a").unwrap().revision == revision("2")).unwrap();
    let copy = world.copy();
    world.restore(copy);
    let called: Vec<u64> = (1..=3).filter(|node| *node != granted).collect();
    called.iter().for_each(|node| world.connect(id(*node)));
    world.wait(LONG);
    world.settle();
    world.resume(true).unwrap();
    world.settle();
    for node in called {
        assert_eq!(world.runs(node, "a"), Some(revision("2")), "node {node}");
    }
}

#[test]
fn a_node_that_called_during_the_hold_and_goes_dark_later_holds_the_rollout() {
    let mut world = yesterday();
    world.put(daemon_set("a", 10, "2"), "2");
    assert!(world.step());
    world.hand_out();
    let granted =
        (1..=3).find(|node| world.granted(*node, "a").unwrap().revision == revision("2")).unwrap();
    world.obey_once();
    let copy = world.copy();
    world.restore(copy);
    world.connect_all();
    world.settle();
    world.lose(granted);
    world.resume(true).unwrap();
    world.wait(LONG);
    world.settle();
    assert_eq!(world.granted_count(3, "a", "2"), 1, "it had the revision when it went");
}

#[test]
fn watchers_are_told_of_a_leaving_nodes_pod_when_its_daemonset_is_made_again() {
    let mut world = yesterday();
    world.put(daemon_set("b", 20, "1"), "1");
    world.settle();
    let last = world.copy();
    world.follow(&Command::DeleteSet { key: key("b"), uid: None }).unwrap();
    world.follow(&Command::DeleteNode { name: name(1), forget: false }).unwrap();
    let copy = world.copy();
    world.restore(copy);
    world.connect_all();
    world.fleet.take_changes();
    let shown = |world: &World| {
        let pods = world.fleet.place(id(1), &key("b"));
        pods.first().and_then(|pod| pod.reason.clone()).map(|reason| reason.code)
    };
    let before = shown(&world);
    let Some(Record::Set(set)) = last.get(&RecordKey::Set(key("b"))) else { panic!("b was there") };
    world.put(set.set.clone(), "1");
    assert_ne!(shown(&world), before);
    assert!(world.fleet.take_changes().contains(&Changed::Pod(id(1), key("b"))));
}

/// Also where no cell shows it: neither what was granted nor what runs is the newest revision.
#[test]
fn watchers_are_told_when_a_grant_follows_what_runs() {
    let mut world = yesterday();
    world.put(daemon_set("a", 10, "2"), "2");
    world.put(daemon_set("a", 10, "3"), "3");
    let copy = world.copy();
    world.put(daemon_set("a", 10, "2"), "2");
    world.settle();
    world.restore(copy);
    world.connect_all();
    let shown = |world: &World| -> Vec<Option<Reason>> {
        let reason = |node| world.fleet.place(id(node), &key("a")).first()?.reason.clone();
        (1..=3).map(reason).collect()
    };
    let mut followed = BTreeSet::new();
    loop {
        let before = shown(&world);
        world.fleet.take_changes();
        if !world.step() {
            break;
        }
        let (after, told) = (shown(&world), world.fleet.take_changes());
        let reasons = (1..).zip(before.iter().zip(&after));
        for (node, _) in reasons.filter(|(_, (was, is))| was != is) {
            assert!(told.contains(&Changed::Pod(id(node), key("a"))), "{node}: {told:?}");
            followed.insert(node);
        }
    }
    assert_eq!(followed, [1, 2, 3].into());
}
