//! All about a node, and what it runs.

use std::collections::HashMap;
use std::fmt::Write as _;

use everynode_proto::v1::{ListRequest, Node, NodeOrder, Pod};

use super::{events, push_lines};
use crate::age::{age, rfc3339, unix_now};
use crate::connect::Client;
use crate::error::Error;
use crate::kinds::{
    Kind as _, Nodes, Pods, addresses, capacity, conditions, ready_of, restarts, roles, standing,
};

pub(super) async fn describe(client: &Client, name: &str) -> Result<String, Error> {
    let node = Nodes::get(client, "", name).await?;
    let request = ListRequest { field: name.into(), ..ListRequest::default() };
    let pods = Pods::list(client, request).await?.items;
    let events = events::about(client, "", "Node", name).await?;
    Ok(text(&node, &pods, unix_now()) + &events)
}

fn text(node: &Node, pods: &[Pod], now: i64) -> String {
    let metadata = node.metadata.clone().unwrap_or_default();
    let mut text = String::new();
    let _ = writeln!(text, "Name:\t{}", metadata.name);
    let _ = writeln!(text, "Roles:\t{}", roles(node));
    push_lines(&mut text, "Labels", &labels(&metadata.labels, &node.joined_labels));
    let taints: Vec<String> = node
        .taints
        .iter()
        .map(|taint| match taint.value.as_str() {
            "" => format!("{}:{}", taint.key, taint.effect),
            value => format!("{}={value}:{}", taint.key, taint.effect),
        })
        .collect();
    let created = metadata.creation_timestamp.as_ref();
    let _ = writeln!(
        text,
        "CreationTimestamp:\t{}",
        created.map_or_else(|| "<unknown>".into(), rfc3339)
    );
    push_lines(&mut text, "Taints", &taints);
    let _ = writeln!(text, "Unschedulable:\t{}", node.unschedulable);
    let _ = writeln!(text, "State:\t{}", node.state);
    if let Some(reason) = &node.reason {
        let _ = writeln!(text, "Reason:\t{}: {}", reason.code, reason.message);
    }
    if let Some(order) = &node.order {
        let _ = writeln!(text, "People's Order:\t{}", order_words(order));
    }
    if let Some(accepted) = &node.accepted {
        let (term, generation) = (accepted.term, accepted.generation);
        let _ = writeln!(text, "Accepted Order:\tgeneration {generation} of term {term}");
    }
    if let Some(ahead) = &node.ahead {
        let _ = writeln!(text, "Ahead Of Store:\t{}", ahead.message);
    }
    let _ = writeln!(text, "Connected:\t{}", node.connected);
    let heard = node.last_heard.as_ref();
    let heard = heard.map_or_else(
        || "<never>".into(),
        |at| format!("{} ago ({})", age(Some(at), now), rfc3339(at)),
    );
    let _ = writeln!(text, "Last Heard:\t{heard}");
    push_conditions(&mut text, node);
    push_machine(&mut text, node);
    push_lines(&mut text, "Can Honour", &node.features);
    push_pods(&mut text, pods, now);
    text
}

/// kubectl's table.
fn push_conditions(text: &mut String, node: &Node) {
    text.push_str("Conditions:\n");
    text.push_str("  Type\tStatus\tLastHeartbeatTime\tLastTransitionTime\tReason\tMessage\n");
    text.push_str("  ----\t------\t-----------------\t------------------\t------\t-------\n");
    let heard = node.last_heard.as_ref().map_or_else(|| "<never>".into(), rfc3339);
    for one in conditions(node) {
        let since = one.since.unwrap_or_else(|| "<unknown>".into());
        let _ = writeln!(
            text,
            "  {}\t{}\t{heard}\t{since}\t{}\t{}",
            one.kind, one.status, one.reason, one.message
        );
    }
}

/// What it is, and what there is of it.
fn push_machine(text: &mut String, node: &Node) {
    text.push_str("Addresses:\n");
    for (kind, address) in addresses(node) {
        let _ = writeln!(text, "  {kind}:\t{address}");
    }
    text.push_str("Capacity:\n");
    for (name, amount) in capacity(node) {
        let _ = writeln!(text, "  {name}:\t{amount}");
    }
    text.push_str("System Info:\n");
    let fact = |name: &str| node.facts.get(name).map_or("", String::as_str);
    for (title, value) in [
        ("UID", node.metadata.as_ref().map_or("", |metadata| &metadata.uid)),
        ("Machine ID", &node.machine_id),
        ("Boot ID", &node.boot_id),
        ("Kernel Version", fact("kernel")),
        ("OS Image", fact("osImage")),
        ("Operating System", fact("os")),
        ("Architecture", fact("arch")),
        ("Agent Version", &node.agent_version),
    ] {
        let _ = writeln!(text, "  {title}:\t{value}");
    }
}

/// `Hold since … until …: what for (everynode node release ends it)`.
fn order_words(order: &NodeOrder) -> String {
    let since = order.since.as_ref().map_or_else(|| "<unknown>".into(), rfc3339);
    let until = order.until.as_ref().map(|at| format!(" until {}", rfc3339(at)));
    let what_for = match order.reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    let end = if order.kind == "Stop" { "start" } else { "release" };
    let until = until.unwrap_or_default();
    format!("{} since {since}{until}{what_for} (everynode node {end} ends it)", order.kind)
}

/// Each label, marked where it came with the machine.
fn labels(labels: &HashMap<String, String>, joined: &HashMap<String, String>) -> Vec<String> {
    let mut lines: Vec<String> = labels
        .iter()
        .map(|(key, value)| match joined.get(key) {
            Some(first) if first == value => format!("{key}={value} (joined with it)"),
            Some(first) => format!("{key}={value} (joined with {first:?})"),
            None => format!("{key}={value}"),
        })
        .collect();
    lines.sort_unstable();
    lines
}

fn push_pods(text: &mut String, pods: &[Pod], now: i64) {
    let _ = writeln!(text, "Pods:\t({} in total)", pods.len());
    if pods.is_empty() {
        return;
    }
    text.push_str("  Namespace\tName\tReady\tStatus\tRestarts\tAge\n");
    text.push_str("  ---------\t----\t-----\t------\t--------\t---\n");
    for pod in pods {
        let metadata = pod.metadata.clone().unwrap_or_default();
        let _ = writeln!(
            text,
            "  {}\t{}\t{}\t{}\t{}\t{}",
            metadata.namespace,
            metadata.name,
            ready_of(pod),
            standing(pod),
            restarts(pod, now),
            age(metadata.creation_timestamp.as_ref(), now),
        );
    }
}

#[cfg(test)]
mod tests {
    use everynode_proto::v1::{NodeCondition, ObjectMeta, Reason, Taint};

    use super::*;
    use crate::table::align_tabs;

    #[test]
    fn a_node_shows_where_its_labels_come_from() {
        let map = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
            pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        let node = Node {
            metadata: Some(ObjectMeta {
                name: "n1".into(),
                labels: map(&[("a", "1"), ("b", "2"), ("c", "3")]),
                ..ObjectMeta::default()
            }),
            joined_labels: map(&[("a", "1"), ("b", "1")]),
            taints: vec![Taint { key: "k".into(), value: "v".into(), effect: "NoExecute".into() }],
            state: "NotReady".into(),
            reason: Some(Reason { code: "NodeLost".into(), message: "silent".into() }),
            conditions: vec![NodeCondition {
                r#type: "DiskPressure".into(),
                reason: "HasNoDiskPressure".into(),
                message: "enough disk is left".into(),
                ..NodeCondition::default()
            }],
            facts: map(&[("arch", "arm64"), ("cpu", "4"), ("addresses", "192.0.2.1")]),
            ..Node::default()
        };
        let shown = align_tabs(&text(&node, &[Pod::default()], 0));
        for line in [
            "Labels:             a=1 (joined with it)\n                    b=2 (joined with \"1\")\n                    c=3\n",
            "Taints:             k=v:NoExecute\n",
            "Reason:             NodeLost: silent\n",
            "Last Heard:         <never>\n",
            "(1 in total)\n",
            "  Ready         False    <never>            <unknown>             NodeLost           silent\n",
            "  DiskPressure  Unknown  <never>            1970-01-01T00:00:00Z  HasNoDiskPressure  enough disk is left\n",
            "  InternalIP:  192.0.2.1\n",
            "Capacity:\n  cpu:  4\n",
            "  Architecture:      arm64\n",
        ] {
            assert!(shown.contains(line), "{line}\nnot in\n{shown}");
        }
    }
}
