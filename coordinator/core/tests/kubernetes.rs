//! What Kubernetes' own unit tests of its DaemonSet controller ask for (`update_test.go`,
//! `daemon_controller_test.go`), under their names, where it has a meaning here. Batching, expectations,
//! caches and adoption have none: a node's assignment is a function of the records. Those about
//! `maxSurge` are in `surge.rs`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod world;

use everynode_coordinator_core::{Command, NodeChange, PodFilter};
use everynode_model::{
    DaemonSet, Effect, IntOrPercent, NodeSelectorTerm, Operator, Placement, PodPhase, Requirement,
    Strategy, Taint, Toleration, TolerationOperator,
};
use world::{LONG, World, create_namespace, daemon_set, id, key, labels, name, revision};

fn rolling(max_unavailable: IntOrPercent) -> DaemonSet {
    DaemonSet { strategy: Strategy::rolling(max_unavailable), ..daemon_set("a", 1, "1") }
}

/// The set under both strategies, as most of Kubernetes' tests have it.
fn both() -> [DaemonSet; 2] {
    let set = daemon_set("a", 1, "1");
    [DaemonSet { strategy: Strategy::OnDelete, ..set.clone() }, set]
}

fn running(nodes: u64, set: &DaemonSet) -> World {
    let mut world = World::with_nodes(nodes);
    world.put(set.clone(), "1");
    world.settle();
    world
}

fn placed(set: DaemonSet, placement: Placement) -> DaemonSet {
    DaemonSet { placement, ..set }
}

fn change(world: &mut World, node: u64, change: NodeChange) {
    let changes = vec![change];
    world.follow(&Command::ChangeNode { name: name(node), changes }).unwrap();
}

fn label(world: &mut World, node: u64, value: &str) {
    let (key, value) = ("zone".to_owned(), value.to_owned());
    change(world, node, NodeChange::SetLabel { key, value, overwrite: true });
}

fn taint(world: &mut World, node: u64, key: &str, effect: Effect) {
    let taint = Taint { key: key.into(), value: String::new(), effect };
    change(world, node, NodeChange::SetTaint { taint, overwrite: true });
}

/// Agents do all that they were told, and no step is taken.
fn obey(world: &mut World) {
    for _ in 0..5 {
        world.hand_out();
        world.obey_once();
    }
}

fn pods(world: &World) -> usize {
    world.agents.values().map(|agent| agent.pods.len()).sum()
}

// `update_test.go`

#[test]
fn daemon_set_updates_pods() {
    let set = rolling(IntOrPercent::Int(2));
    let mut world = running(5, &set);
    world.put(set, "2");
    let mut waves = Vec::new();
    for _ in 0..3 {
        let before = world.granted_count(5, "a", "2");
        world.take_steps();
        waves.push(world.granted_count(5, "a", "2") - before);
        obey(&mut world);
    }
    assert_eq!(waves, [2, 2, 1]);
}

#[test]
fn daemon_set_updates_when_new_pod_is_not_ready() {
    let set = rolling(IntOrPercent::Int(3));
    let mut world = running(100, &set);
    world.bad.insert(revision("2"));
    world.put(set, "2");
    world.settle();
    assert_eq!(world.granted_count(100, "a", "2"), 3, "it stops at the budget");
}

#[test]
fn daemon_set_updates_some_old_pods_not_ready() {
    let set = rolling(IntOrPercent::Int(3));
    let mut world = running(100, &set);
    for body in ["2", "3"] {
        world.bad.insert(revision(body));
        world.put(set.clone(), body);
        world.settle();
        assert_eq!(world.granted_count(100, "a", body), 3, "{body}: the slots that are broken");
        assert_eq!(world.status("a").available, 97);
    }
}

#[test]
fn daemon_set_updates_save_old_healthy_pods() {
    let set = rolling(IntOrPercent::Int(10));
    let mut world = running(20, &set);
    for number in 2..12 {
        let body = number.to_string();
        world.bad.insert(revision(&body));
        world.put(set.clone(), &body);
        world.settle();
        assert_eq!(world.granted_count(20, "a", &body), 10);
        assert_eq!(world.status("a").available, 10, "update {number} touches no healthy pod");
    }
    assert_eq!(world.granted_count(20, "a", "1"), 10);
}

#[test]
fn daemon_set_updates_all_old_not_ready_pods_and_new_not_ready_pods() {
    let set = rolling(IntOrPercent::Int(100));
    let mut world = running(100, &set);
    world.bad.insert(revision("2"));
    // 88 of the new that are bad, 2 of the old that are bad, 10 of the old that are well.
    let narrow = rolling(IntOrPercent::Int(88));
    world.put(narrow, "2");
    world.settle();
    assert_eq!(world.granted_count(100, "a", "2"), 88);
    let mut old =
        (1..=100).filter(|node| world.granted(*node, "a").unwrap().revision == revision("1"));
    let (one, other) = (old.next().unwrap(), old.next().unwrap());
    drop(old);
    world.put(rolling(IntOrPercent::Int(10)), "2");
    for node in [one, other] {
        world.crash(id(node), &key("a"));
    }
    world.take_steps();
    assert_eq!(world.granted_count(100, "a", "2"), 90, "the two that were bad, and nobody else");
}

#[test]
fn daemon_set_updates_all_old_pods_not_ready() {
    let set = rolling(IntOrPercent::Int(3));
    let mut world = World::with_nodes(20);
    world.bad.insert(revision("1"));
    world.put(set.clone(), "1");
    world.settle();
    world.put(set, "2");
    world.take_steps();
    assert_eq!(world.granted_count(20, "a", "2"), 20, "nothing is lost by it");
}

#[test]
fn daemon_set_updates_no_template_changed() {
    let set = rolling(IntOrPercent::Int(3));
    let mut world = running(5, &set);
    let uids: Vec<_> = (1..=5).map(|node| world.agents[&id(node)].pods[&key("a")].uid).collect();
    world.put(rolling(IntOrPercent::Int(1)), "1");
    world.settle();
    let after: Vec<_> = (1..=5).map(|node| world.agents[&id(node)].pods[&key("a")].uid).collect();
    assert_eq!(uids, after);
}

#[test]
fn get_unavailable_numbers() {
    for (max, nodes, moved) in [
        (IntOrPercent::Int(0), 1, 1), // both 0 at run time: 1
        (IntOrPercent::Int(1), 2, 1),
        (IntOrPercent::Percent(50), 2, 1),
        (IntOrPercent::Percent(50), 3, 2), // rounded up
        (IntOrPercent::Percent(1), 3, 1),
        (IntOrPercent::Int(9), 2, 2),
    ] {
        let set = rolling(max);
        let mut world = running(nodes, &set);
        world.bad.insert(revision("2"));
        world.put(set, "2");
        world.settle();
        assert_eq!(world.granted_count(nodes, "a", "2"), moved, "{max} of {nodes}");
    }
}

#[test]
fn controlled_histories_are_a_sets_own() {
    let mut world = running(1, &daemon_set("a", 1, "1"));
    world.follow(&create_namespace("other")).unwrap();
    let other = DaemonSet {
        key: everynode_model::PodKey::new("other", "a").unwrap(),
        ..daemon_set("a", 2, "1")
    };
    world.put(other, "1");
    world.settle();
    world.put(daemon_set("a", 1, "1"), "2");
    world.settle();
    assert_eq!(world.fleet.revisions(id(1)).len(), 2);
    assert_eq!(world.fleet.revisions(id(2)).len(), 1, "never across namespaces");
}

// `daemon_controller_test.go`

#[test]
fn simple_daemon_set_launches_pods() {
    for set in both() {
        let world = running(5, &set);
        let status = world.status("a");
        assert_eq!((pods(&world), status.desired, status.current, status.ready), (5, 5, 5, 5));
    }
}

#[test]
fn no_nodes_does_nothing() {
    for set in both() {
        let world = running(0, &set);
        assert_eq!((pods(&world), world.status("a").desired), (0, 0));
    }
}

#[test]
fn not_ready_node_daemon_does_launch_pod() {
    for set in both() {
        let mut world = World::with_nodes(1);
        taint(&mut world, 1, "node.kubernetes.io/not-ready", Effect::NoExecute);
        world.put(set, "1");
        world.settle();
        assert_eq!(pods(&world), 1);
    }
}

#[test]
fn unreachable_and_pressed_nodes_daemon_launches_pod() {
    for set in both() {
        for (key, effect) in [
            ("node.kubernetes.io/unreachable", Effect::NoExecute),
            ("node.kubernetes.io/memory-pressure", Effect::NoSchedule),
            ("node.kubernetes.io/disk-pressure", Effect::NoSchedule),
            ("node.kubernetes.io/pid-pressure", Effect::NoSchedule),
            ("node.kubernetes.io/unschedulable", Effect::NoSchedule),
        ] {
            let mut world = World::with_nodes(1);
            taint(&mut world, 1, key, effect);
            world.put(set.clone(), "1");
            world.settle();
            assert_eq!(pods(&world), 1, "{key}");
        }
    }
}

#[test]
fn network_unavailable_node_daemon_launches_pod_of_the_hosts_network() {
    for set in both() {
        for host_network in [true, false] {
            let mut world = World::with_nodes(1);
            taint(&mut world, 1, "node.kubernetes.io/network-unavailable", Effect::NoSchedule);
            world.put(placed(set.clone(), Placement { host_network, ..Placement::default() }), "1");
            world.settle();
            assert_eq!(pods(&world), usize::from(host_network));
        }
    }
}

#[test]
fn unschedulable_node_daemon_launches_pod() {
    for set in both() {
        let mut world = World::with_nodes(1);
        change(&mut world, 1, NodeChange::SetUnschedulable(true));
        world.put(set, "1");
        world.settle();
        assert_eq!(pods(&world), 1, "cordon is nothing to a DaemonSet");
    }
}

#[test]
fn selector_daemon_launches_and_deletes_unselected_pods() {
    for set in both() {
        let selects = Placement { node_selector: labels(&[("zone", "a")]), ..Placement::default() };
        let mut world = World::with_nodes(5);
        [1, 2].iter().for_each(|node| label(&mut world, *node, "a"));
        world.put(placed(set, selects), "1");
        world.settle();
        assert_eq!(pods(&world), 2);
        label(&mut world, 1, "b");
        label(&mut world, 3, "a");
        world.settle();
        let runs = |node| world.runs(node, "a").is_some();
        assert_eq!([1, 2, 3, 4, 5].map(runs), [false, true, true, false, false]);
    }
}

#[test]
fn bad_selector_daemon_does_nothing() {
    for set in both() {
        let selects = Placement { node_selector: labels(&[("zone", "x")]), ..Placement::default() };
        let mut world = World::with_nodes(3);
        world.put(placed(set, selects), "1");
        world.settle();
        assert_eq!((pods(&world), world.status("a").desired), (0, 0));
    }
}

#[test]
fn name_daemon_set_launches_pods_and_inconsistent_name_selector_does_nothing() {
    for set in both() {
        let mut world = World::with_nodes(3);
        label(&mut world, 2, "a");
        let node_name = Some(name(2).to_string());
        let named = Placement { node_name: node_name.clone(), ..Placement::default() };
        world.put(placed(set.clone(), named), "1");
        world.settle();
        assert_eq!((pods(&world), world.runs(2, "a").is_some()), (1, true));
        let node_selector = labels(&[("zone", "b")]);
        let torn = Placement { node_name, node_selector, ..Placement::default() };
        world.put(placed(set, torn), "1");
        world.settle();
        assert_eq!(pods(&world), 0);
    }
}

#[test]
fn daemon_set_with_node_selector_launches_pods_by_label_or_name() {
    let requirement = |key: &str, value: &str| Requirement {
        key: key.into(),
        operator: Operator::In,
        values: [value.to_owned()].into(),
    };
    let by_label = NodeSelectorTerm {
        match_expressions: vec![requirement("zone", "a")],
        match_fields: Vec::new(),
    };
    let by_name = NodeSelectorTerm {
        match_expressions: Vec::new(),
        match_fields: vec![requirement("metadata.name", name(6).as_str())],
    };
    for set in both() {
        let mut world = World::with_nodes(6);
        [1, 2].iter().for_each(|node| label(&mut world, *node, "a"));
        let terms = Some(vec![by_label.clone(), by_name.clone()]);
        world.put(placed(set, Placement { required_affinity: terms, ..Placement::default() }), "1");
        world.settle();
        assert_eq!(pods(&world), 3, "the terms are alternatives");
    }
}

#[test]
fn number_ready_status_follows_reports() {
    for set in both() {
        let mut world = running(2, &set);
        world.crash(id(1), &key("a"));
        assert_eq!(world.status("a").ready, 1);
        world.settle();
        assert_eq!(world.status("a").ready, 2);
    }
}

#[test]
fn observed_generation_is_raised_with_the_spec_alone() {
    let mut world = running(1, &daemon_set("a", 1, "1"));
    let generation = |world: &World| world.fleet.set(&key("a")).unwrap().record.set.generation;
    assert_eq!(generation(&world), 1);
    world.put(daemon_set("a", 1, "1"), "2");
    assert_eq!(generation(&world), 2);
}

#[test]
fn no_schedule_tainted_doesnt_evict_running_intolerant_pod() {
    for set in both() {
        let mut world = running(1, &set);
        taint(&mut world, 1, "t", Effect::NoSchedule);
        world.settle();
        let status = world.status("a");
        assert_eq!((pods(&world), status.desired, status.misscheduled), (1, 0, 1));
    }
}

#[test]
fn no_execute_tainted_does_evict_running_intolerant_pod() {
    for set in both() {
        let mut world = running(1, &set);
        taint(&mut world, 1, "t", Effect::NoExecute);
        world.settle();
        assert_eq!((pods(&world), world.status("a").misscheduled), (0, 0));
    }
}

#[test]
fn tainted_node_daemon_launches_only_a_tolerate_pod() {
    for set in both() {
        for tolerates in [false, true] {
            let mut world = World::with_nodes(1);
            taint(&mut world, 1, "t", Effect::NoSchedule);
            let exists = Toleration {
                key: "t".into(),
                operator: TolerationOperator::Exists,
                ..Toleration::default()
            };
            let tolerations = if tolerates { vec![exists] } else { Vec::new() };
            world.put(placed(set.clone(), Placement { tolerations, ..Placement::default() }), "1");
            world.settle();
            assert_eq!(pods(&world), usize::from(tolerates));
        }
    }
}

#[test]
fn tainted_node_untainted_gets_its_pod() {
    for set in both() {
        let mut world = World::with_nodes(2);
        taint(&mut world, 1, "t", Effect::NoSchedule);
        world.put(set, "1");
        world.settle();
        assert_eq!(pods(&world), 1);
        change(&mut world, 1, NodeChange::RemoveTaint { key: "t".into(), effect: None });
        world.settle();
        assert_eq!(pods(&world), 2);
    }
}

#[test]
fn add_node_gets_one_pod_and_delete_node_ends_it() {
    for set in both() {
        let mut world = running(1, &set);
        world.join(2);
        world.connect(id(2));
        world.settle();
        assert_eq!(pods(&world), 2);
        world.follow(&Command::DeleteNode { name: name(2), forget: false }).unwrap();
        world.settle();
        assert_eq!((world.status("a").desired, world.status("a").current), (1, 1));
    }
}

#[test]
fn update_node_touches_only_the_sets_whose_answer_changes() {
    let mut world = running(2, &daemon_set("a", 1, "1"));
    let selects = Placement { node_selector: labels(&[("zone", "a")]), ..Placement::default() };
    world.put(placed(daemon_set("b", 2, "1"), selects), "1");
    world.settle();
    let generation = |world: &World, node| world.agents[&id(node)].order.clone().unwrap().stamp;
    let before = (generation(&world, 1), generation(&world, 2));
    label(&mut world, 1, "b");
    world.settle();
    assert_eq!((generation(&world, 1), generation(&world, 2)), before, "no answer has changed");
    label(&mut world, 1, "a");
    world.settle();
    assert_ne!(generation(&world, 1), before.0);
    assert_eq!(generation(&world, 2), before.1);
}

#[test]
fn daemon_set_respects_termination() {
    let set = rolling(IntOrPercent::Int(1));
    let mut world = running(1, &set);
    world.follow(&Command::ReplacePod { node: id(1), key: key("a") }).unwrap();
    world.settle();
    let filter = PodFilter { node: Some(id(1)), ..PodFilter::default() };
    let shown = world.fleet.pods(&filter);
    let live = shown
        .iter()
        .filter(|pod| pod.status.as_ref().is_some_and(|status| status.phase != PodPhase::Stopping));
    assert_eq!(live.count(), 1, "there never is a second beside one that ends");
}

#[test]
fn daemon_set_min_ready_seconds_are_counted_by_the_node() {
    let set = DaemonSet { min_ready: LONG / 2, ..rolling(IntOrPercent::Int(1)) };
    let mut world = World::with_nodes(2);
    world.put(set.clone(), "1");
    obey(&mut world);
    assert_eq!((world.status("a").ready, world.status("a").available), (2, 0));
    world.wait(LONG);
    assert_eq!(world.status("a").available, 2);
    world.restart();
    (1..=2).for_each(|node| world.connect(id(node)));
    assert_eq!(world.status("a").available, 2, "a new coordinator does not count anew");
}
