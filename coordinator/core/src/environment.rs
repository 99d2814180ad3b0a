//! Labels of a node that pods read (`node.labels['site']`): a change of one reaches them by steps.
//!
//! A pod has the values that its node's labels had when it was granted. Where a label that it reads
//! is changed, the node's record keeps those values beside the new ones, so that its order stays what
//! it was; the node is *behind* then, and is moved as one that has another revision: in its turn,
//! within the budget. The step that grants it anew forgets them, and gives the pod another number, so
//! that it is replaced, or surged, as by another revision. In a calm fleet nothing is kept anywhere, and
//! of templates that read no labels nothing is ever looked at.

use std::collections::BTreeMap;

use everynode_model::{Labels, NodeUid, SetUid};

use crate::Fleet;
use crate::record::{NodeRecord, Record, Write};
use crate::records::{Place, Records, SetRecords};

impl SetRecords {
    /// The values that the pod which the node is granted reads.
    pub(crate) fn environment(&self, node: &NodeRecord) -> Labels {
        let granted = self.record.as_ref().and_then(|record| node.granted.get(&record.set.uid));
        self.read_of(node, |key| granted.unwrap_or(&node.labels).get(key))
    }

    /// Whether these are not those that its labels have now.
    pub(crate) fn is_behind(&self, node: &NodeRecord) -> bool {
        let kept = self.record.as_ref().is_some_and(|it| node.granted.contains_key(&it.set.uid));
        kept && self.falls_behind(node, node)
    }

    /// Whether what its pod was granted is not what the labels of `next`, the node as it will be (or is),
    /// say.
    pub(crate) fn falls_behind(&self, node: &NodeRecord, next: &NodeRecord) -> bool {
        self.environment(node) != self.read_of(next, |key| next.labels.get(key))
    }

    fn read_of<'a>(&self, node: &NodeRecord, value: impl Fn(&str) -> Option<&'a String>) -> Labels {
        let grant = self.grant(node.uid);
        let revision = grant.and_then(|grant| self.revisions.get(&grant.revision));
        let keys = revision.into_iter().flat_map(|revision| &revision.labels);
        keys.filter_map(|key| Some((key.clone(), value(key)?.clone()))).collect()
    }
}

impl Records {
    /// Keeps in `next`, a node as it will be, what pods were granted that read of its labels something
    /// else than they will say.
    pub(crate) fn keep_granted(&self, node: &NodeRecord, next: &mut NodeRecord) {
        if node.labels == next.labels {
            let mut granted = std::mem::take(&mut next.granted);
            let stays = |records: &SetRecords| records.place(next) != Place::None;
            granted.retain(|set, _| self.sets.get(set).is_some_and(stays));
            next.granted = granted;
            return;
        }
        let mut granted = BTreeMap::new();
        for (uid, records) in &self.sets {
            let has = |node| records.place(node) != Place::None;
            if !has(node) || !has(next) || records.grant(node.uid).is_none() {
                continue;
            }
            if records.falls_behind(node, next) {
                granted.insert(*uid, records.environment(node));
            }
        }
        next.granted = granted;
    }
}

impl Fleet {
    /// The node's record once the set's pod on it is granted anew; none where that changes nothing.
    pub(crate) fn forget_granted(&self, set: SetUid, node: NodeUid) -> Option<Write> {
        let record = self.records.active(node)?;
        record.granted.contains_key(&set).then(|| {
            let mut next = NodeRecord::clone(record);
            next.granted.remove(&set);
            next.resource_version = self.decided_version();
            Write::put(Record::Node(next))
        })
    }
}
