//! What the core knows, for the coordinator: Hello, and the long part of it that follows.

use std::collections::BTreeSet;

use everynode_agent_core::Node;
use everynode_model::{
    Digest, EXEC_FEATURE, LOGS_FEATURE, LogTail, NAMESPACES, NodeCondition, Now, PodKey, PodStatus,
    Reason, SURGE_FEATURE, USAGE_FEATURE,
};
use everynode_proto::convert::status;
use everynode_proto::v1;

use super::places;
use crate::body::FEATURES;
use crate::facts::Machine;

pub(super) fn hello(
    node: &Node,
    machine: &Machine,
    held: &BTreeSet<Digest>,
    (troubles, conditions): (&[Reason], &[NodeCondition]),
    makes_namespaces: bool,
    now: Now,
) -> v1::Hello {
    let ledger = node.ledger();
    v1::Hello {
        protocol_versions: vec![1],
        agent_version: env!("CARGO_PKG_VERSION").into(),
        machine_id: machine.machine_id.clone(),
        boot_id: machine.boot_id.clone(),
        features: features(makes_namespaces).map(String::from).collect(),
        facts: machine.facts.clone().into_iter().collect(),
        accepted: ledger.accepted.as_ref().map(Into::into),
        places: places(node, now).into_iter().map(place).collect(),
        bodies: held.iter().map(|digest| digest.as_bytes().to_vec()).collect(),
        troubles: troubles.iter().map(Into::into).collect(),
        conditions: conditions.iter().map(Into::into).collect(),
        last_session: ledger.session.map(|session| session.to_string()).unwrap_or_default(),
    }
}

/// All that this version honours, but for what this machine does not let it.
fn features(makes_namespaces: bool) -> impl Iterator<Item = &'static str> {
    let honoured = move |feature: &&str| makes_namespaces || !NAMESPACES.contains(feature);
    FEATURES.iter().copied().filter(honoured).chain([SURGE_FEATURE])
}

/// Says that this machine has streams for people, and knows of which kinds.
pub(super) fn with_streams(mut hello: v1::Hello) -> v1::Hello {
    hello.features.extend([LOGS_FEATURE, EXEC_FEATURE, USAGE_FEATURE].map(str::to_owned));
    hello
}

/// What was printed comes after the Hello, in reports: all of it together may be too much for one
/// message.
fn place((key, mut pods): (PodKey, Vec<PodStatus>)) -> v1::Place {
    let failures = pods.iter_mut().flat_map(PodStatus::failures_mut);
    failures.for_each(|failure| failure.log_tail.forget());
    status::place(&key, &pods)
}

/// The places in which something failed that had printed something.
pub(super) fn printed(node: &Node, now: Now) -> impl Iterator<Item = (PodKey, Vec<PodStatus>)> {
    let printed = |failure: &everynode_model::Failure| failure.log_tail != LogTail::default();
    places(node, now)
        .into_iter()
        .filter(move |(_, pods)| pods.iter().flat_map(PodStatus::failures).any(printed))
}
