//! Orders are given again after a restore.

use std::collections::BTreeSet;

use everynode_model::Now;

use super::{Fleet, unchanged, within_limits};
use crate::command::{Decision, Outcome, Refusal};
use crate::record::{EventType, InvolvedObject, RecordKey, Write};

impl Fleet {
    /// Where orders are given, nothing is left to do. Reports that no grant has followed yet are
    /// followed in the same decision, so that no order says otherwise; where they don't fit into one,
    /// nothing is resumed before steps have followed them.
    pub(super) fn resume(&self, allow_removal: bool, now: Now) -> Result<Decision, Refusal> {
        if self.records.hold.is_none() {
            return Ok(unchanged(Outcome::Done));
        }
        // What goes with a namespace is not told before its DaemonSets are gone.
        if !self.namespace_step().is_empty() {
            return Err(Refusal::Conflict {
                what: "the hold".into(),
                detail: "a namespace is being deleted: try again".into(),
            });
        }
        let consequences = self.consequences();
        let removed: Vec<_> = consequences.iter().filter(|found| found.action.removes()).collect();
        if !allow_removal && !removed.is_empty() {
            let nodes: BTreeSet<_> = removed.iter().map(|found| found.node.uid).collect();
            return Err(Refusal::WouldRemove { pods: removed.len(), nodes: nodes.len() });
        }
        let unheard = self.not_called();
        if !allow_removal && unheard > 0 {
            return Err(Refusal::NotCalled { nodes: unheard });
        }
        let mut writes = vec![Write::delete(RecordKey::Hold)];
        writes.extend(self.follow_all().ok_or_else(not_all_followed)?);
        let about = InvolvedObject {
            kind: "Cluster".into(),
            namespace: String::new(),
            name: self.records.cluster.id.to_string(),
            uid: self.records.cluster.id.to_string(),
        };
        let message = "Orders are given again";
        writes.extend(self.events.draft(
            about,
            EventType::Normal,
            "OrdersResumed",
            message,
            now.wall,
        ));
        within_limits(writes, Outcome::Done).map_err(|_| not_all_followed())
    }
}

fn not_all_followed() -> Refusal {
    Refusal::Conflict {
        what: "the hold".into(),
        detail: "reports of nodes are still being taken in: try again".into(),
    }
}
