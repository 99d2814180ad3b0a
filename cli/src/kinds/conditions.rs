//! How a node is doing, and what it has, in kubectl's words.

use everynode_proto::v1::{Node, NodeCondition};

use crate::age::rfc3339_millis;

/// One line of a node's conditions.
pub(crate) struct Condition {
    pub(crate) kind: String,
    /// `True`, `False` or `Unknown`.
    pub(crate) status: &'static str,
    pub(crate) reason: String,
    pub(crate) message: String,
    /// Since when, where that is known.
    pub(crate) since: Option<String>,
    /// Whether it is not as it should be.
    pub(crate) is_bad: bool,
}

/// What Kubernetes counts in a node's capacity, before huge pages.
const CAPACITY: [&str; 4] = ["cpu", "ephemeral-storage", "memory", "pids"];

/// `Ready`, and what the node says of itself: nobody knows what has become of that while it is lost.
pub(crate) fn conditions(node: &Node) -> Vec<Condition> {
    let status = match node.state.as_str() {
        "Ready" => "True",
        "NotReady" | "Leaving" => "False",
        _ => "Unknown",
    };
    let reason = node.reason.clone().unwrap_or_default();
    let ready = Condition {
        kind: "Ready".into(),
        status,
        reason: if status == "True" { "AgentReady".into() } else { reason.code },
        message: if status == "True" { "the agent answers".into() } else { reason.message },
        since: None,
        is_bad: status != "True",
    };
    let own = |one: &NodeCondition| Condition {
        kind: one.r#type.clone(),
        status: match (status, one.status) {
            ("True", true) => "True",
            ("True", false) => "False",
            _ => "Unknown",
        },
        reason: one.reason.clone(),
        message: one.message.clone(),
        since: Some(rfc3339_millis(one.since_millis)),
        is_bad: !everynode_model::NodeCondition::from(one).is_fine(),
    };
    [ready].into_iter().chain(node.conditions.iter().map(own)).collect()
}

/// By Kubernetes' types.
pub(crate) fn addresses(node: &Node) -> Vec<(&'static str, &str)> {
    let ips = node.facts.get("addresses").into_iter().flat_map(|list| list.split(','));
    let ips = ips.filter(|ip| !ip.is_empty()).map(|ip| ("InternalIP", ip));
    let name = node.facts.get("hostname").map(|name| ("Hostname", name.as_str()));
    ips.chain(name).collect()
}

/// What there is of it, in order of names.
pub(crate) fn capacity(node: &Node) -> Vec<(String, String)> {
    let counts = |name: &str| CAPACITY.contains(&name) || name.starts_with("hugepages-");
    let facts = node.facts.iter().filter(|(name, _)| counts(name));
    let mut found: Vec<_> = facts.map(|(name, amount)| (name.clone(), amount.clone())).collect();
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_lost_node_said_of_itself_is_unknown() {
        let condition = |kind: &str, status| NodeCondition {
            r#type: kind.into(),
            status,
            ..NodeCondition::default()
        };
        let mut node = Node {
            state: "Ready".into(),
            conditions: vec![condition("DiskPressure", true), condition("LimitsEnforced", true)],
            ..Node::default()
        };
        let shown = |node: &Node| {
            conditions(node).into_iter().map(|one| (one.status, one.is_bad)).collect::<Vec<_>>()
        };
        assert_eq!(shown(&node), [("True", false), ("True", true), ("True", false)]);
        node.state = "NotReady".into();
        assert_eq!(shown(&node), [("False", true), ("Unknown", true), ("Unknown", false)]);
    }

    #[test]
    fn facts_are_shown_as_kubernetes_sorts_them() {
        let facts =
            [("addresses", "10.0.0.1,::2"), ("hostname", "h"), ("cpu", "2"), ("os", "linux")];
        let facts = facts.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let node = Node { facts, ..Node::default() };
        let expected = [("InternalIP", "10.0.0.1"), ("InternalIP", "::2"), ("Hostname", "h")];
        assert_eq!(addresses(&node), expected);
        assert_eq!(capacity(&node), [("cpu".to_owned(), "2".to_owned())]);
    }
}
