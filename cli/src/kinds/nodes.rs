//! Nodes.

use everynode_proto::v1::{
    EventKind, GetRequest, ListRequest, Node, NodeEvent, ObjectMeta, WatchRequest,
};
use serde_json::{Map, Value, json};
use tonic::Streaming;

use super::conditions::{Condition, addresses, capacity, conditions};
use super::manifest::{head, map_json, put};
use super::{Column, Kind, Listed, Names, column, wide};
use crate::age::{age, rfc3339};
use crate::connect::Client;
use crate::error::Error;

/// The kind of nodes.
pub(crate) struct Nodes;

const ROLE_LABEL: &str = "node-role.kubernetes.io/";

impl Kind for Nodes {
    type Object = Node;
    type Event = NodeEvent;

    const NAMES: Names =
        Names { kind: "Node", api_version: "v1", singular: "node", namespaced: false };
    const COLUMNS: &'static [Column] = &[
        column("NAME"),
        column("STATUS"),
        column("ROLES"),
        column("AGE"),
        column("VERSION"),
        wide("INTERNAL-IP"),
        wide("OS-IMAGE"),
        wide("KERNEL-VERSION"),
        wide("LAST HEARD"),
        wide("CONDITIONS"),
    ];

    fn metadata(object: &Node) -> Option<&ObjectMeta> {
        object.metadata.as_ref()
    }

    fn metadata_mut(object: &mut Node) -> Option<&mut ObjectMeta> {
        object.metadata.as_mut()
    }

    fn row(object: &Node, now: i64) -> Vec<String> {
        let metadata = object.metadata.as_ref();
        let fact = |key: &str| object.facts.get(key).cloned().unwrap_or_else(|| "<unknown>".into());
        let version = match object.agent_version.as_str() {
            "" => "<unknown>".into(),
            version => format!("v{}", version.trim_start_matches('v')),
        };
        vec![
            super::name_of(metadata).into(),
            state_words(object),
            roles(object),
            age(metadata.and_then(|metadata| metadata.creation_timestamp.as_ref()), now),
            version,
            fact("addresses").split(',').next().unwrap_or_default().into(),
            fact("osImage"),
            fact("kernel"),
            object.last_heard.as_ref().map_or_else(|| "<never>".into(), |at| age(Some(at), now)),
            bad_conditions(object),
        ]
    }

    fn manifest(object: &Node) -> Result<Value, Error> {
        let mut manifest = head(&Self::NAMES, object.metadata.as_ref());
        let mut spec = Map::new();
        let taints = object.taints.iter().map(|taint| {
            let mut entry = Map::new();
            entry.insert("key".into(), taint.key.as_str().into());
            put(&mut entry, "value", taint.value.as_str());
            entry.insert("effect".into(), taint.effect.as_str().into());
            Value::Object(entry)
        });
        put(&mut spec, "taints", taints.collect::<Vec<_>>());
        if object.unschedulable {
            put(&mut spec, "unschedulable", true);
        }
        if let Some(order) = &object.order {
            let mut entry = Map::new();
            put(&mut entry, "kind", order.kind.as_str());
            put(&mut entry, "since", order.since.as_ref().map(rfc3339));
            put(&mut entry, "until", order.until.as_ref().map(rfc3339));
            put(&mut entry, "reason", order.reason.as_str());
            put(&mut spec, "order", Value::Object(entry));
        }
        manifest.insert("spec".into(), Value::Object(spec));
        manifest.insert("status".into(), status_json(object));
        Ok(Value::Object(manifest))
    }

    async fn get(client: &Client, _namespace: &str, name: &str) -> Result<Node, Error> {
        let request = GetRequest { namespace: String::new(), name: name.into() };
        client.answer(client.nodes().get(client.request(request))).await
    }

    async fn list(client: &Client, request: ListRequest) -> Result<Listed<Node>, Error> {
        let request = ListRequest { namespace: String::new(), ..request };
        let list = client.answer(client.nodes().list(client.request(request))).await?;
        Ok(Listed { resource_version: list.resource_version, items: list.items })
    }

    async fn watch(client: &Client, request: WatchRequest) -> Result<Streaming<NodeEvent>, Error> {
        let request = WatchRequest { namespace: String::new(), ..request };
        client.stream(client.nodes().watch(request)).await
    }

    fn change(event: NodeEvent) -> (EventKind, Option<Node>) {
        (event.kind(), event.object)
    }
}

/// `Ready`, `NotReady,SchedulingDisabled`, `Ready,AheadOfStore`, ….
fn state_words(node: &Node) -> String {
    let state = if node.state.is_empty() { "Unknown" } else { &node.state };
    let cordoned = if node.unschedulable { ",SchedulingDisabled" } else { "" };
    let ahead = node.ahead.as_ref().map_or_else(String::new, |ahead| format!(",{}", ahead.code));
    let order = match node.order.as_ref().map(|order| order.kind.as_str()) {
        Some("Hold") => ",Held",
        Some("Stop") => ",Stopped",
        _ => "",
    };
    format!("{state}{cordoned}{order}{ahead}")
}

/// The roles that labels give it, or `<none>`.
pub(crate) fn roles(node: &Node) -> String {
    let labels = node.metadata.as_ref().map(|metadata| &metadata.labels);
    let mut roles: Vec<&str> =
        labels.into_iter().flatten().filter_map(|(key, _)| key.strip_prefix(ROLE_LABEL)).collect();
    roles.sort_unstable();
    if roles.is_empty() { "<none>".into() } else { roles.join(",") }
}

/// What is not as it should be, by the node's own word; `<none>` where all is well.
fn bad_conditions(node: &Node) -> String {
    let shown = conditions(node).into_iter().skip(1).filter(|one| one.is_bad);
    let shown: Vec<String> = shown.map(|one| one.kind).collect();
    if shown.is_empty() { "<none>".into() } else { shown.join(",") }
}

fn status_json(node: &Node) -> Value {
    let condition = |one: Condition| {
        let mut entry = Map::new();
        entry.insert("type".into(), one.kind.into());
        entry.insert("status".into(), one.status.into());
        put(&mut entry, "reason", one.reason.as_str());
        put(&mut entry, "message", one.message.as_str());
        put(&mut entry, "lastHeartbeatTime", node.last_heard.as_ref().map(rfc3339));
        put(&mut entry, "lastTransitionTime", one.since);
        Value::Object(entry)
    };
    let mut status = Map::new();
    status.insert("phase".into(), node.state.as_str().into());
    status.insert("connected".into(), node.connected.into());
    let conditions: Vec<_> = conditions(node).into_iter().map(condition).collect();
    status.insert("conditions".into(), conditions.into());
    let addresses = addresses(node).into_iter();
    let addresses = addresses.map(|(kind, address)| json!({"type": kind, "address": address}));
    put(&mut status, "addresses", addresses.collect::<Vec<_>>());
    let capacity = capacity(node).into_iter();
    put(&mut status, "capacity", capacity.map(|(k, v)| (k, v.into())).collect::<Map<_, _>>());
    let mut info = Map::new();
    put(&mut info, "machineID", node.machine_id.as_str());
    put(&mut info, "bootID", node.boot_id.as_str());
    for (name, fact) in [
        ("kernelVersion", "kernel"),
        ("osImage", "osImage"),
        ("operatingSystem", "os"),
        ("architecture", "arch"),
    ] {
        put(&mut info, name, node.facts.get(fact).map(String::as_str));
    }
    put(&mut info, "agentVersion", node.agent_version.as_str());
    put(&mut status, "nodeInfo", info);
    put(&mut status, "facts", map_json(&node.facts));
    put(&mut status, "features", node.features.clone());
    put(&mut status, "joinedLabels", map_json(&node.joined_labels));
    Value::Object(status)
}

#[cfg(test)]
mod tests {
    use everynode_proto::v1::Reason;

    use super::*;

    #[test]
    fn a_row_is_kubectls() {
        let labels = [("node-role.kubernetes.io/edge".to_owned(), String::new())].into();
        let node = Node {
            metadata: Some(ObjectMeta { name: "n1".into(), labels, ..ObjectMeta::default() }),
            state: "NotReady".into(),
            unschedulable: true,
            ahead: Some(Reason { code: "AheadOfStore".into(), message: String::new() }),
            agent_version: "0.1.0".into(),
            ..Node::default()
        };
        let row = Nodes::row(&node, 0);
        let state = "NotReady,SchedulingDisabled,AheadOfStore";
        assert_eq!(row[..5], ["n1", state, "edge", "<unknown>", "v0.1.0"]);
        assert_eq!(row.len(), Nodes::COLUMNS.len());
    }
}
