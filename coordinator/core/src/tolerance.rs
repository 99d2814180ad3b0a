//! Taints that are tolerated for a time only.
//!
//! A toleration with `tolerationSeconds` lets a pod stay for so long after a `NoExecute` taint came,
//! and then it goes, until the taint does. In Kubernetes it would be made anew at once and go again;
//! here it stays away.
//!
//! That the time is over is a record (`NodeRecord::stood`), so that a restart brings nothing back.
//! Until it is written the time goes by the steady clock of this reign: a coordinator that begins to
//! lead counts on from what is written, and so gives rather more time than less.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use everynode_model::{Effect, NodeUid, Taint, Timestamp};

use crate::Fleet;
use crate::placement::{Tolerance, tolerance};
use crate::record::{Record, Write};

/// The most nodes whose tolerations end in one turn: each is a write, and a transaction takes 128
/// with the events beside them. What was granted there is swept up afterwards, like all that has no
/// place any more.
const MOST_AT_ONCE: usize = 64;

/// Since when which taints of nodes stand, and when the next toleration of one ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tolerations {
    /// Of each `NoExecute` taint, when it was first seen, and for how many seconds it had stood then.
    seen: BTreeMap<NodeUid, BTreeMap<Taint, (Timestamp, u64)>>,
    armed: BTreeMap<NodeUid, Timestamp>,
    due: BTreeSet<(Timestamp, NodeUid)>,
}

impl Tolerations {
    /// When the next toleration ends.
    pub(crate) fn wake_at(&self) -> Option<Timestamp> {
        self.due.first().map(|(due, _)| *due)
    }

    fn arm(&mut self, node: NodeUid, due: Option<Timestamp>) {
        if let Some(former) = self.armed.remove(&node) {
            self.due.remove(&(former, node));
        }
        if let Some(due) = due {
            self.armed.insert(node, due);
            self.due.insert((due, node));
        }
    }
}

impl Fleet {
    /// The node's record has changed.
    pub(crate) fn follow_taints(&mut self, node: NodeUid) {
        let former = self.tolerations.seen.remove(&node).unwrap_or_default();
        let now = self.now.steady;
        let mut seen = BTreeMap::new();
        if let Some(record) = self.records.active(node) {
            for taint in record.taints.iter().filter(|taint| taint.effect == Effect::NoExecute) {
                let stood = record.stood.get(taint).copied().unwrap_or_default();
                let since = former.get(taint).copied().unwrap_or((now, stood));
                seen.insert(taint.clone(), since);
            }
        }
        if !seen.is_empty() {
            self.tolerations.seen.insert(node, seen);
        }
        if !former.is_empty() || self.tolerations.seen.contains_key(&node) {
            self.arm_tolerations(node);
        }
    }

    /// What sets tolerate has changed. Costs as much as there are nodes with `NoExecute` taints.
    pub(crate) fn follow_tolerations(&mut self) {
        let nodes: Vec<NodeUid> = self.tolerations.seen.keys().copied().collect();
        nodes.into_iter().for_each(|node| self.arm_tolerations(node));
    }

    /// Writes down which taints have stood for longer than a set tolerates them.
    pub(crate) fn end_tolerations(&mut self) -> Vec<Write> {
        let now = self.now.steady;
        let mut writes = Vec::new();
        while let Some(&(due, node)) = self.tolerations.due.first()
            && due <= now
            && writes.len() < MOST_AT_ONCE
        {
            let ended = self.ends(node).into_iter().filter(|(_, _, at)| *at <= now);
            let ended: Vec<(Taint, u64)> =
                ended.map(|(taint, seconds, _)| (taint, seconds)).collect();
            // Looked at again soon, should the write come to nothing; if not, its record says when.
            self.tolerations.arm(node, Some(now.after(self.config.heartbeat_interval)));
            let Some(record) = self.records.active(node) else { continue };
            let mut next = (**record).clone();
            for (taint, seconds) in ended {
                let stood = next.stood.entry(taint).or_default();
                *stood = seconds.max(*stood);
            }
            next.resource_version = self.decided_version();
            writes.push(Write::put(Record::Node(next)));
        }
        writes
    }

    fn arm_tolerations(&mut self, node: NodeUid) {
        let next = self.ends(node).into_iter().map(|(_, _, at)| at).min();
        self.tolerations.arm(node, next);
    }

    /// For each taint and each set that tolerates it for a time that is not written down as over,
    /// how long that is and when it ends.
    fn ends(&self, node: NodeUid) -> Vec<(Taint, u64, Timestamp)> {
        let Some(seen) = self.tolerations.seen.get(&node) else { return Vec::new() };
        let Some(record) = self.records.active(node) else { return Vec::new() };
        let mut ends = Vec::new();
        for (taint, (since, stood)) in seen {
            let written = record.stood.get(taint).copied();
            let sets = self.records.sets.values().filter_map(|records| records.record.as_ref());
            for set in sets {
                if let Tolerance::For(seconds) = tolerance(&set.set.placement, taint)
                    && written.is_none_or(|written| seconds > written)
                {
                    let rest = Duration::from_secs(seconds.saturating_sub(*stood));
                    ends.push((taint.clone(), seconds, since.after(rest)));
                }
            }
        }
        ends
    }
}
