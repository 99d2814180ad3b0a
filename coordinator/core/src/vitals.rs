//! How a node's machine is doing, by its own word: kept with what it said first, and told to people
//! when it changes. It decides nothing: no pod is moved or stopped for it.

use std::sync::Arc;

use everynode_model::{LIMITS_ENFORCED, NodeCondition, NodeUid};

use crate::events::about_node;
use crate::record::EventType;
use crate::{Changed, Fleet};

impl Fleet {
    /// Takes in all conditions of a node.
    pub(crate) fn take_conditions(&mut self, node: NodeUid, conditions: Vec<NodeCondition>) {
        let version = self.next_version();
        let Some(seen) = self.seen.get_mut(&node) else { return };
        let Some(hello) = &mut seen.hello else { return };
        let former = std::mem::replace(&mut Arc::make_mut(hello).conditions, conditions.clone());
        seen.version = version;
        self.changed.insert(Changed::Node(node));
        self.tell_conditions(node, &former, &conditions);
    }

    /// Makes an event of each that has turned; of one that was not known, where it is bad.
    pub(crate) fn tell_conditions(
        &mut self,
        node: NodeUid,
        former: &[NodeCondition],
        conditions: &[NodeCondition],
    ) {
        let Some(about) = self.records.nodes.get(&node).map(|record| about_node(record)) else {
            return;
        };
        for condition in conditions {
            let before = former.iter().find(|former| former.kind == condition.kind);
            if before.map_or_else(|| condition.is_fine(), |before| before.holds == condition.holds)
            {
                continue;
            }
            let event_type = match condition.is_fine() {
                true => EventType::Normal,
                false => EventType::Warning,
            };
            let message = format!("{}: {}", told(&about.name, condition), condition.message);
            self.tell(about.clone(), event_type, &word(condition), &message);
        }
    }
}

/// The kubelet's line.
fn told(node: &str, condition: &NodeCondition) -> String {
    format!("Node {node} status is now: {}", word(condition))
}

/// The kubelet's word for a change: `NodeHasDiskPressure`.
fn word(condition: &NodeCondition) -> String {
    match condition.kind.as_str() {
        LIMITS_ENFORCED if condition.holds => LIMITS_ENFORCED.to_owned(),
        LIMITS_ENFORCED => "LimitsNotEnforced".to_owned(),
        _ => format!("Node{}", condition.reason),
    }
}
