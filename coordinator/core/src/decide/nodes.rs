//! Nodes change, leave, and are gone.
//!
//! ```text
//!   Active ── delete, leave, replaced ──▶ Leaving ── says that it is empty ──▶ Removed
//!      │                                     │                                    │ 30 days
//!      └────────────── forget ───────────────┴────────────────────────────────────┴──▶ unknown
//! ```

use everynode_model::{Labels, NodeName, NodeUid, Now, PodKey, Taint};

use super::places::exception_after;
use super::{Fleet, orders, unchanged, within_limits};
use crate::command::{Decision, NodeChange, Outcome, Refusal};
use crate::events::about_node;
use crate::grants::ChunkEdits;
use crate::record::{
    EventType, Grant, NodeOrder, NodeRecord, NodeStanding, Record, RecordKey, Write,
};
use crate::records::Place;
use crate::seen::Seen;

/// How many labels and taints a node may have: several times what anybody gives one, and far from
/// what a store transaction holds.
const MAX_MARKS: usize = 1024;

impl Fleet {
    pub(super) fn delete_node(&self, name: &NodeName, now: Now) -> Result<Decision, Refusal> {
        let node = self.named(name)?;
        Ok(self.removal(node, now))
    }

    pub(super) fn forget_node(&self, name: &NodeName, now: Now) -> Result<Decision, Refusal> {
        Ok(self.forgetting(self.named(name)?, now))
    }

    pub(super) fn forget_uid(&self, uid: NodeUid, now: Now) -> Result<Decision, Refusal> {
        let node = self.records.nodes.get(&uid).ok_or(Refusal::NodeUnknown(uid))?;
        Ok(self.forgetting(node, now))
    }

    pub(super) fn leave(&self, uid: NodeUid, now: Now) -> Result<Decision, Refusal> {
        let node = self.records.nodes.get(&uid).ok_or(Refusal::NodeUnknown(uid))?;
        match node.standing {
            NodeStanding::Removed { .. } => Err(Refusal::NodeRemoved(uid)),
            NodeStanding::Active | NodeStanding::Leaving { .. } => Ok(self.removal(node, now)),
        }
    }

    pub(super) fn confirm_departure(&self, uid: NodeUid, now: Now) -> Result<Decision, Refusal> {
        let node = self.records.nodes.get(&uid).ok_or(Refusal::NodeUnknown(uid))?;
        match node.standing {
            NodeStanding::Active => Err(Refusal::NodeNotLeaving(uid)),
            NodeStanding::Removed { .. } => Ok(unchanged(Outcome::Done)),
            NodeStanding::Leaving { .. } => {
                let standing = NodeStanding::Removed { confirmed_at: now.wall };
                let record = self.changed_node(node, |node| node.standing = standing);
                let writes = vec![Write::put(Record::Node(record))];
                Ok(Decision { writes, outcome: Outcome::Done })
            }
        }
    }

    /// The node of that name that belongs, as it is and as it will be.
    pub(crate) fn node_after(
        &self,
        name: &NodeName,
        changes: &[NodeChange],
        now: Now,
    ) -> Result<(&NodeRecord, NodeRecord), Refusal> {
        let uid = self.records.names.get(name);
        let node = uid.and_then(|uid| self.records.active(*uid));
        let node = node.ok_or_else(|| Refusal::NodeNotFound(name.to_string()))?;
        let mut next = NodeRecord::clone(node);
        for change in changes {
            apply(&mut next, change, now)?;
        }
        Ok((node, next))
    }

    pub(super) fn change_node(
        &self,
        name: &NodeName,
        changes: &[NodeChange],
        now: Now,
    ) -> Result<Decision, Refusal> {
        let (node, mut next) = self.node_after(name, changes, now)?;
        if next == *node {
            return Ok(unchanged(Outcome::Node(Box::new(next))));
        }
        next.forget_removed_taints();
        self.records.keep_granted(node, &mut next);
        if next.labels.len() + next.taints.len() > MAX_MARKS {
            return Err(Refusal::TooMany { what: "labels and taints of a node", limit: MAX_MARKS });
        }
        next.resource_version = self.decided_version();
        let mut writes = vec![Write::put(Record::Node(next.clone()))];
        writes.extend(self.order_events(node, &next, now));
        for (uid, records) in &self.records.sets {
            let (Some(record), Some(head)) = (&records.record, &records.head) else { continue };
            let exception = exception_after(records, Some(node), &record.set, head.target, &next);
            if let Some(exception) = exception {
                let mut edits = ChunkEdits::new(*uid, records);
                edits.set(next.uid, exception);
                writes.extend(edits.into_writes());
            }
        }
        within_limits(writes, Outcome::Node(Box::new(next)))
    }

    /// On a node that would not get the pod again (it only keeps it), the pod is gone for good, as
    /// in Kubernetes. With OnDelete it comes back with the newest template, else with the one it
    /// was granted: the rollout has its own order.
    pub(super) fn replace_pod(&self, node: NodeUid, key: &PodKey) -> Result<Decision, Refusal> {
        let record = self.records.active(node).ok_or(Refusal::NodeUnknown(node))?;
        match record.order {
            NodeOrder::Hold { .. } => return Err(Refusal::NodeHeld(record.name.clone())),
            NodeOrder::Stop { .. } => return Err(Refusal::NodeStopped(record.name.clone())),
            NodeOrder::None => {}
        }
        let not_found = || Refusal::PodNotFound { node: record.name.clone(), key: key.clone() };
        let (uid, records) = self.records.set(key).ok_or_else(not_found)?;
        let (Some(set), Some(head)) = (&records.record, &records.head) else {
            return Err(not_found());
        };
        let granted = records.grant(node).ok_or_else(not_found)?;
        let on_delete = matches!(set.set.strategy, everynode_model::Strategy::OnDelete);
        let revision = if on_delete { head.target } else { granted.revision };
        let exception = match records.place(record) {
            Place::None => return Err(not_found()),
            Place::Keep => None,
            Place::Run => {
                // No machine that was another node before has a pod of that number.
                let replace = self.decided_version().max(granted.replace + 1);
                Some(Grant { revision, replace, surge: false, ..granted })
            }
        };
        let mut edits = ChunkEdits::new(uid, records);
        edits.set(node, exception);
        let mut writes = edits.into_writes();
        writes.extend(self.forget_granted(uid, node));
        within_limits(writes, Outcome::Done)
    }

    /// The record of a node that is told to leave.
    pub(super) fn leaving(&self, node: &NodeRecord, now: Now) -> NodeRecord {
        let standing = match mutated!(RemoveAtOnce) {
            true => NodeStanding::Removed { confirmed_at: now.wall },
            false => NodeStanding::Leaving { since: now.wall },
        };
        self.changed_node(node, |node| node.standing = standing)
    }

    /// Its name is free at once. Its exceptions mean nothing any more and are swept by steps: in
    /// one decision they might not fit.
    fn removal(&self, node: &NodeRecord, now: Now) -> Decision {
        let seen = self.seen.get(&node.uid);
        let pods = seen.map(|seen| seen.places.keys().cloned().collect()).unwrap_or_default();
        let connected = seen.is_some_and(Seen::is_in_reach);
        let (record, writes) = match node.standing {
            NodeStanding::Active => {
                let record = self.leaving(node, now);
                let mut writes = vec![Write::put(Record::Node(record.clone()))];
                let message = format!("Node {} is being removed", node.name);
                let (about, kind) = (about_node(node), EventType::Normal);
                writes.extend(self.events.draft(about, kind, "RemovingNode", &message, now.wall));
                (record, writes)
            }
            NodeStanding::Leaving { .. } | NodeStanding::Removed { .. } => {
                (node.clone(), Vec::new())
            }
        };
        let outcome = Outcome::NodeLeaving { record: Box::new(record), pods, connected };
        Decision { writes, outcome }
    }

    fn forgetting(&self, node: &NodeRecord, now: Now) -> Decision {
        let mut decision = self.removal(node, now);
        decision.writes.retain(|write| !matches!(write.key, RecordKey::Node(_)));
        decision.writes.push(Write::delete(RecordKey::Node(node.uid)));
        decision
    }

    /// The Active node of that name, or else the one that left last of those still leaving.
    fn named(&self, name: &NodeName) -> Result<&NodeRecord, Refusal> {
        let active = self.records.names.get(name).and_then(|uid| self.records.active(*uid));
        if let Some(node) = active {
            return Ok(node);
        }
        let since = |node: &&NodeRecord| match node.standing {
            NodeStanding::Leaving { since } => Some(since),
            NodeStanding::Active | NodeStanding::Removed { .. } => None,
        };
        let departed = self.records.departed.get(name).into_iter().flatten();
        let departed = departed.filter_map(|uid| self.records.nodes.get(uid)).map(AsRef::as_ref);
        departed
            .filter(|node| since(node).is_some())
            .max_by_key(since)
            .ok_or_else(|| Refusal::NodeNotFound(name.to_string()))
    }

    fn changed_node(&self, node: &NodeRecord, change: impl FnOnce(&mut NodeRecord)) -> NodeRecord {
        let mut next = node.clone();
        change(&mut next);
        next.resource_version = self.decided_version();
        next.forget_removed_taints();
        next
    }
}

fn apply(node: &mut NodeRecord, change: &NodeChange, now: Now) -> Result<(), Refusal> {
    match change {
        NodeChange::Hold { .. }
        | NodeChange::Release
        | NodeChange::Stop { .. }
        | NodeChange::Start => orders::apply(node, change, now),
        NodeChange::SetLabel { key, value, overwrite } => {
            set_label(&mut node.labels, key, value, *overwrite)
        }
        NodeChange::RemoveLabel(key) => {
            node.labels.remove(key);
            Ok(())
        }
        NodeChange::SetTaint { taint, overwrite } => set_taint(&mut node.taints, taint, *overwrite),
        NodeChange::RemoveTaint { key, effect } => {
            let before = node.taints.len();
            let hit = |taint: &Taint| {
                taint.key == *key && effect.is_none_or(|effect| effect == taint.effect)
            };
            node.taints.retain(|taint| !hit(taint));
            match node.taints.len() == before {
                true => Err(Refusal::TaintNotFound(key.clone())),
                false => Ok(()),
            }
        }
        NodeChange::SetUnschedulable(unschedulable) => {
            node.unschedulable = *unschedulable;
            Ok(())
        }
    }
}

fn set_label(labels: &mut Labels, key: &str, value: &str, overwrite: bool) -> Result<(), Refusal> {
    match labels.get(key) {
        Some(has) if has != value && !overwrite => {
            Err(Refusal::NotOverwritten { key: key.to_owned(), has: has.clone() })
        }
        _ => {
            labels.insert(key.to_owned(), value.to_owned());
            Ok(())
        }
    }
}

/// A node has one taint of one key and effect.
fn set_taint(taints: &mut Vec<Taint>, taint: &Taint, overwrite: bool) -> Result<(), Refusal> {
    let same = |other: &&mut Taint| other.key == taint.key && other.effect == taint.effect;
    match taints.iter_mut().find(same) {
        None => taints.push(taint.clone()),
        Some(former) if former.value != taint.value && !overwrite => {
            let has = former.value.clone();
            return Err(Refusal::NotOverwritten { key: taint.key.clone(), has });
        }
        Some(former) => former.value.clone_from(&taint.value),
    }
    Ok(())
}
