//! Kubernetes' placement rules, one row each.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod world;

use std::time::Duration;

use everynode_coordinator_core::{NodeChange, NodeRecord, NodeStanding, verdict};
use everynode_model::{
    DaemonSet, Digest, NodeSelectorTerm, Operator, Placement, Requirement, Toleration,
    TolerationOperator, WallTime,
};
use world::{World, daemon_set, id, labels, name};

const NO: (bool, bool) = (false, false);
const KEEP: (bool, bool) = (false, true);
const YES: (bool, bool) = (true, true);

fn node(taints: &[&str]) -> NodeRecord {
    NodeRecord {
        uid: id(1),
        name: name(1),
        standing: NodeStanding::Active,
        labels: labels(&[("disk", "ssd"), ("cpus", "8")]),
        taints: taints.iter().map(|taint| taint.parse().unwrap()).collect(),
        stood: std::collections::BTreeMap::new(),
        joined_labels: labels(&[]),
        public_key: Digest::of(b"key"),
        machine_id: String::new(),
        token_id: String::new(),
        joined_at: WallTime::default(),
        unschedulable: true,
        order: everynode_coordinator_core::NodeOrder::None,
        granted: Default::default(),
        resource_version: 0,
    }
}

fn judged(placement: Placement, taints: &[&str]) -> (bool, bool) {
    let set = DaemonSet { placement, ..daemon_set("a", 1, "1") };
    let verdict = verdict(&set, &node(taints));
    (verdict.run.is_ok(), verdict.keep)
}

fn requirement(key: &str, operator: Operator, values: &[&str]) -> Requirement {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    Requirement { key: key.into(), operator, values }
}

fn affinity(terms: Vec<NodeSelectorTerm>) -> Placement {
    Placement { required_affinity: Some(terms), ..Placement::default() }
}

fn on_labels(requirements: Vec<Requirement>) -> NodeSelectorTerm {
    NodeSelectorTerm { match_expressions: requirements, match_fields: Vec::new() }
}

fn on_fields(requirements: Vec<Requirement>) -> NodeSelectorTerm {
    NodeSelectorTerm { match_expressions: Vec::new(), match_fields: requirements }
}

#[test]
fn names_and_labels() {
    let named = |name: &str| Placement { node_name: Some(name.into()), ..Placement::default() };
    assert_eq!(judged(Placement::default(), &[]), YES, "cordon is ignored");
    assert_eq!(judged(named("node-1"), &[]), YES);
    assert_eq!(judged(named("node-2"), &[]), NO);
    let selector = |pairs| Placement { node_selector: labels(pairs), ..Placement::default() };
    assert_eq!(judged(selector(&[("disk", "ssd")]), &[]), YES);
    assert_eq!(judged(selector(&[("disk", "ssd"), ("gpu", "")]), &[]), NO);
    assert_eq!(judged(selector(&[("disk", "hdd")]), &["a:NoSchedule"]), NO);
}

#[test]
fn required_affinity() {
    let ssd = || on_labels(vec![requirement("disk", Operator::In, &["ssd"])]);
    let many = || on_labels(vec![requirement("cpus", Operator::Gt, &["16"])]);
    assert_eq!(judged(affinity(vec![ssd()]), &[]), YES);
    assert_eq!(judged(affinity(vec![many()]), &[]), NO);
    assert_eq!(judged(affinity(vec![many(), ssd()]), &[]), YES, "one term is enough");
    assert_eq!(judged(affinity(vec![]), &[]), NO, "no term, no node");
    assert_eq!(judged(affinity(vec![NodeSelectorTerm::default()]), &[]), NO, "an empty term");
    let field = |key: &str, value: &str| {
        affinity(vec![on_fields(vec![requirement(key, Operator::In, &[value])])])
    };
    assert_eq!(judged(field("metadata.name", "node-1"), &[]), YES);
    assert_eq!(judged(field("metadata.name", "node-2"), &[]), NO);
    assert_eq!(judged(field("metadata.uid", "node-1"), &[]), NO);
    let both = Placement { node_selector: labels(&[("disk", "hdd")]), ..affinity(vec![ssd()]) };
    assert_eq!(judged(both, &[]), NO, "selector and affinity must both be met");
}

#[test]
fn taints() {
    let plain = Placement::default;
    assert_eq!(judged(plain(), &["a=b:PreferNoSchedule"]), YES);
    assert_eq!(judged(plain(), &["a=b:NoSchedule"]), KEEP);
    assert_eq!(judged(plain(), &["a=b:NoExecute"]), NO);
    assert_eq!(judged(plain(), &["a=b:NoSchedule", "c:NoExecute"]), NO);
    let toleration = Toleration { key: "a".into(), value: "b".into(), ..Toleration::default() };
    let tolerant = || Placement { tolerations: vec![toleration.clone()], ..plain() };
    assert_eq!(judged(tolerant(), &["a=b:NoSchedule"]), YES);
    assert_eq!(judged(tolerant(), &["a=c:NoSchedule"]), KEEP);
    let all = Toleration { operator: TolerationOperator::Exists, ..Toleration::default() };
    let all = Placement { tolerations: vec![all], ..plain() };
    assert_eq!(judged(all, &["a=c:NoExecute", "d:NoSchedule"]), YES);
}

#[test]
fn what_every_daemon_tolerates() {
    let always = [
        "not-ready:NoExecute",
        "unreachable:NoExecute",
        "disk-pressure:NoSchedule",
        "memory-pressure:NoSchedule",
        "pid-pressure:NoSchedule",
        "unschedulable:NoSchedule",
    ];
    for taint in always {
        let taint = format!("node.kubernetes.io/{taint}");
        assert_eq!(judged(Placement::default(), &[&taint]), YES, "{taint}");
    }
    let not_ready = "node.kubernetes.io/not-ready:NoSchedule";
    assert_eq!(judged(Placement::default(), &[not_ready]), KEEP, "with its own effect only");
    let network = "node.kubernetes.io/network-unavailable:NoSchedule";
    assert_eq!(judged(Placement::default(), &[network]), KEEP);
    let host = Placement { host_network: true, ..Placement::default() };
    assert_eq!(judged(host, &[network]), YES);
}

#[test]
fn a_no_names_what_is_in_the_way() {
    let why = |placement, taints: &[&str]| {
        let set = DaemonSet { placement, ..daemon_set("a", 1, "1") };
        verdict(&set, &node(taints)).run.unwrap_err().to_string()
    };
    let selector = Placement { node_selector: labels(&[("gpu", "yes")]), ..Placement::default() };
    assert_eq!(why(selector, &[]), "the node lacks the label gpu=yes");
    assert_eq!(
        why(Placement::default(), &["a=b:NoSchedule"]),
        "the node's taint a=b:NoSchedule is not tolerated"
    );
}

fn tolerating(times: &[Option<i64>]) -> Placement {
    let toleration = |seconds: &Option<i64>| Toleration {
        key: "gone".into(),
        operator: TolerationOperator::Exists,
        seconds: *seconds,
        ..Toleration::default()
    };
    Placement { tolerations: times.iter().map(toleration).collect(), ..Placement::default() }
}

#[test]
fn a_toleration_for_a_time_ends_when_that_is_written_down() {
    let stood = |seconds: u64, times: &[Option<i64>]| {
        let set = DaemonSet { placement: tolerating(times), ..daemon_set("a", 1, "1") };
        let mut node = node(&["gone:NoExecute"]);
        node.stood = [("gone:NoExecute".parse().unwrap(), seconds)].into();
        let verdict = verdict(&set, &node);
        (verdict.run.is_ok(), verdict.keep)
    };
    assert_eq!(stood(29, &[Some(30)]), YES);
    assert_eq!(stood(30, &[Some(30)]), NO);
    // Without a time it is tolerated for ever; of several, the shortest time counts.
    assert_eq!(stood(u64::MAX, &[None]), YES);
    assert_eq!(stood(30, &[None, Some(30)]), NO);
    assert_eq!(stood(30, &[Some(60), Some(30), None]), NO);
    assert_eq!(stood(0, &[Some(0)]), NO);
    assert_eq!(stood(0, &[Some(-5)]), NO);
    // Time means nothing to an effect that lets pods stay.
    let placement = tolerating(&[Some(0)]);
    assert_eq!(judged(placement, &["gone:NoSchedule"]), YES);
}

#[test]
fn a_pod_goes_when_its_time_is_over_and_comes_when_the_taint_has_gone() {
    let mut world = World::with_nodes(2);
    let short = DaemonSet { placement: tolerating(&[Some(30)]), ..daemon_set("short", 1, "1") };
    let long = DaemonSet { placement: tolerating(&[Some(300)]), ..daemon_set("long", 2, "1") };
    world.put(short, "1");
    world.put(long, "1");
    world.settle();
    let running = |world: &World| {
        ["short", "long"].map(|set| [1, 2].map(|node| world.runs(node, set).is_some()))
    };
    assert_eq!(running(&world), [[true, true], [true, true]]);
    world.taint(1, "gone:NoExecute");
    world.settle();
    let due = world.fleet.wake_at().unwrap();
    assert!(due <= world.now.steady.after(Duration::from_secs(30)), "{due:?}");
    world.wait(Duration::from_secs(31));
    world.settle();
    assert_eq!(running(&world), [[false, true], [true, true]]);
    // It is written down: a coordinator that begins to lead brings nothing back.
    world.restart();
    [1, 2].into_iter().for_each(|node| world.connect(id(node)));
    world.settle();
    assert_eq!(running(&world), [[false, true], [true, true]]);
    world.wait(Duration::from_secs(301));
    world.settle();
    assert_eq!(running(&world), [[false, true], [false, true]]);
    let change = NodeChange::RemoveTaint { key: "gone".into(), effect: None };
    world.change(1, change);
    world.settle();
    assert_eq!(running(&world), [[true, true], [true, true]]);
    // A taint that comes again is a new one.
    world.taint(1, "gone:NoExecute");
    world.settle();
    assert_eq!(running(&world), [[true, true], [true, true]]);
}

#[test]
fn a_set_that_comes_after_the_taint_has_its_time_too() {
    let mut world = World::with_nodes(1);
    world.taint(1, "gone:NoExecute");
    let set = DaemonSet { placement: tolerating(&[Some(30)]), ..daemon_set("a", 1, "1") };
    world.put(set, "1");
    world.settle();
    assert!(world.runs(1, "a").is_some());
    world.wait(Duration::from_secs(31));
    world.settle();
    assert!(world.runs(1, "a").is_none());
    assert_eq!(world.status("a").desired, 0);
}
