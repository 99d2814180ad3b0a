//! Nodes.

use everynode_coordinator_core::{NodeOrder, NodeStanding, NodeView, Readiness};
use everynode_model::{Now, Reason, Taint, Timestamp, WallTime};
use everynode_proto::v1;

use super::timestamp;

/// A node and how it is doing; `last_heard` is when its present session was heard last.
pub(in crate::services) fn message(
    view: &NodeView,
    last_heard: Option<Timestamp>,
    now: Now,
) -> v1::Node {
    let record = &view.record;
    let hello = view.hello.as_deref();
    let (state, reason) = state(view, now);
    v1::Node {
        metadata: Some(v1::ObjectMeta {
            name: record.name.to_string(),
            uid: record.uid.to_string(),
            resource_version: view.resource_version.to_string(),
            creation_timestamp: Some(timestamp(record.joined_at)),
            labels: record.labels.clone().into_iter().collect(),
            ..Default::default()
        }),
        taints: record.taints.iter().map(taint).collect(),
        unschedulable: record.unschedulable,
        state: state.into(),
        reason: reason.as_ref().map(Into::into),
        connected: view.connected,
        last_heard: last_heard
            .or_else(|| lost_since(view))
            .map(|at| timestamp(on_the_wall(at, now))),
        machine_id: hello.map_or(&record.machine_id, |hello| &hello.machine_id).clone(),
        boot_id: hello.map(|hello| hello.boot_id.clone()).unwrap_or_default(),
        agent_version: hello.map(|hello| hello.agent_version.clone()).unwrap_or_default(),
        features: hello.into_iter().flat_map(|hello| hello.features.iter().cloned()).collect(),
        facts: hello.into_iter().flat_map(|hello| hello.facts.clone()).collect(),
        joined_labels: record.joined_labels.clone().into_iter().collect(),
        accepted: view.acknowledged.as_ref().map(Into::into),
        ahead: view.ahead.as_ref().map(Into::into),
        order: order(&record.order),
        effect: None,
        conditions: hello.into_iter().flat_map(|hello| &hello.conditions).map(Into::into).collect(),
    }
}

/// A taint.
pub(in crate::services) fn taint(taint: &Taint) -> v1::Taint {
    v1::Taint {
        key: taint.key.clone(),
        value: taint.value.clone(),
        effect: taint.effect.as_str().into(),
    }
}

fn order(order: &NodeOrder) -> Option<v1::NodeOrder> {
    let (kind, since, until, reason) = match order {
        NodeOrder::None => return None,
        NodeOrder::Hold { since, until, reason } => ("Hold", since, *until, reason),
        NodeOrder::Stop { since, reason } => ("Stop", since, None, reason),
    };
    Some(v1::NodeOrder {
        kind: kind.into(),
        since: Some(timestamp(*since)),
        until: until.map(timestamp),
        reason: reason.clone(),
    })
}

fn state(view: &NodeView, now: Now) -> (&'static str, Option<Reason>) {
    if view.record.standing != NodeStanding::Active {
        return ("Leaving", Some(why_it_leaves(view)));
    }
    match view.readiness {
        Readiness::Ready => ("Ready", None),
        Readiness::Lost { since: Some(since) } => {
            let silent = now.steady.since(since).as_secs();
            let message = format!("the agent was last heard of {silent} s ago");
            ("NotReady", Some(Reason::new("NodeLost", message)))
        }
        Readiness::Lost { since: None } => {
            let message = "the agent has not called since the coordinator started";
            ("NotReady", Some(Reason::new("NodeLost", message)))
        }
        Readiness::Unknown => {
            let message = "the coordinator has just started and waits for the agent to call";
            ("Unknown", Some(Reason::new("NodeUnknown", message)))
        }
    }
}

fn why_it_leaves(view: &NodeView) -> Reason {
    if !view.replaced {
        let message = "it was removed, and has not said yet that nothing of ours runs there";
        return Reason::new("Deregistered", message);
    }
    let (name, uid) = (&view.record.name, view.record.uid);
    let message = format!(
        "another machine has its name now, and it has not said yet that nothing of ours runs \
         there; if it never will: everynode delete node {name} --uid {uid} --forget"
    );
    Reason::new("Replaced", message)
}

fn lost_since(view: &NodeView) -> Option<Timestamp> {
    match view.readiness {
        Readiness::Lost { since } => since,
        Readiness::Ready | Readiness::Unknown => None,
    }
}

/// What the wall clock showed when the steady one showed `at`.
fn on_the_wall(at: Timestamp, now: Now) -> WallTime {
    let ago = i64::try_from(now.steady.since(at).as_millis()).unwrap_or(i64::MAX);
    WallTime::from_unix_millis(now.wall.unix_millis.saturating_sub(ago))
}
