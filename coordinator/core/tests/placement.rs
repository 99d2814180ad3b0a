//! Kubernetes' placement rules, one row each.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod world;

use everynode_coordinator_core::{NodeRecord, NodeStanding, verdict};
use everynode_model::{
    DaemonSet, Digest, NodeSelectorTerm, Operator, Placement, Requirement, Toleration,
    TolerationOperator, WallTime,
};
use world::{daemon_set, id, labels, name};

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
        joined_labels: labels(&[]),
        public_key: Digest::of(b"key"),
        machine_id: String::new(),
        token_id: String::new(),
        joined_at: WallTime::default(),
        unschedulable: true,
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
