//! People hold a node as it is, or stop all its pods, until they say otherwise.
//!
//! ```text
//!            hold                          stop
//!   Hold ◀───────── nothing is ordered ─────────▶ Stop
//!     │                ▲         ▲                 │
//!     └─ release, or ──┘         └───── start ─────┘
//!        its time is over
//! ```
//!
//! A held node is given no orders, so that it goes on with the last one: whatever is applied, deleted
//! or relabelled meanwhile, and across reboots. A stopped one is ordered to stop each of its pods.
//! Rollouts pass by both (`Stand::Held`). Each must end before the other begins: to stop what is held
//! would break one promise by the other.

use everynode_model::Now;

use super::Fleet;
use crate::command::{NodeChange, Refusal};
use crate::config::MAX_WRITES;
use crate::events::about_node;
use crate::record::{EventType, NodeOrder, NodeRecord, Record, Write};

pub(super) fn apply(node: &mut NodeRecord, change: &NodeChange, now: Now) -> Result<(), Refusal> {
    let name = || node.name.clone();
    node.order = match (change, &node.order) {
        (NodeChange::Hold { .. }, NodeOrder::Stop { .. }) => {
            return Err(Refusal::NodeStopped(name()));
        }
        (NodeChange::Stop { .. }, NodeOrder::Hold { .. }) => return Err(Refusal::NodeHeld(name())),
        (NodeChange::Hold { until, reason }, former) => {
            let since = match former {
                NodeOrder::Hold { since, .. } => *since,
                NodeOrder::None | NodeOrder::Stop { .. } => now.wall,
            };
            NodeOrder::Hold { since, until: *until, reason: reason.clone() }
        }
        (NodeChange::Stop { reason }, former) => {
            let since = match former {
                NodeOrder::Stop { since, .. } => *since,
                NodeOrder::None | NodeOrder::Hold { .. } => now.wall,
            };
            NodeOrder::Stop { since, reason: reason.clone() }
        }
        (NodeChange::Release, NodeOrder::Hold { .. })
        | (NodeChange::Start, NodeOrder::Stop { .. }) => NodeOrder::None,
        (NodeChange::Release, _) => return Err(Refusal::NodeNotHeld(name())),
        (NodeChange::Start, _) => return Err(Refusal::NodeNotStopped(name())),
        (_, former) => former.clone(),
    };
    Ok(())
}

impl Fleet {
    /// What people are told of another order.
    pub(super) fn order_events(&self, from: &NodeRecord, to: &NodeRecord, now: Now) -> Vec<Write> {
        if from.order == to.order {
            return Vec::new();
        }
        let name = &to.name;
        let what_for =
            |reason: &str| if reason.is_empty() { String::new() } else { format!(": {reason}") };
        let (word, message) = match (&from.order, &to.order) {
            (_, NodeOrder::Hold { reason, .. }) => {
                ("NodeHeld", format!("Node {name} is held as it is{}", what_for(reason)))
            }
            (_, NodeOrder::Stop { reason, .. }) => {
                ("NodeStopped", format!("The pods of node {name} are stopped{}", what_for(reason)))
            }
            (NodeOrder::Stop { .. }, NodeOrder::None) => {
                ("NodeStarted", format!("Node {name} runs what is wanted there again"))
            }
            (_, NodeOrder::None) => ("NodeReleased", format!("Node {name} is given orders again")),
        };
        self.events.draft(about_node(to), EventType::Normal, word, &message, now.wall)
    }

    /// Ends holds whose time is over.
    pub(crate) fn release_step(&self, now: Now) -> Vec<Write> {
        let over = self.records.holds.iter().take_while(|(until, _)| *until <= now.wall);
        let nodes = over.filter_map(|(_, node)| self.records.active(*node));
        // No events: several in one decision would have to know of one another.
        let released = |node: &std::sync::Arc<NodeRecord>| {
            Write::put(Record::Node(NodeRecord {
                order: NodeOrder::None,
                resource_version: self.decided_version(),
                ..NodeRecord::clone(node)
            }))
        };
        nodes.take(MAX_WRITES).map(released).collect()
    }
}
