//! Orders are held: the store was restored from a copy, and may know less than the nodes do.
//!
//! ```text
//!   restore ─▶ held: sessions are open, reports come in, people apply what the copy lacks
//!                │        grants follow what nodes run, where the store knows the revision
//!                │        nobody is given an order
//!                ▼
//!   resume ──▶ every node gets its order, in the new term
//! ```
//!
//! So that what is the same in meaning is not restarted, records learn from reports while orders are
//! held, and only then: a grant follows the pod that its node runs ([`Fleet::follow_step`]), and a
//! DaemonSet that is made again is the one that nodes run ([`Fleet::uid_in_use`]). What is left is
//! what the end of the hold would change, told place by place ([`Fleet::consequences`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use everynode_model::{
    DaemonSet, Intent, Item, NodeUid, PodKey, PodPhase, PodStatus, Reason, SetUid, Term,
};

use crate::Fleet;
use crate::config::MAX_WRITES;
use crate::events::about_node;
use crate::grants::ChunkEdits;
use crate::placement::{Verdict, verdict};
use crate::record::{
    EventType, Grant, GrantHead, HoldRecord, NodeRecord, NodeStanding, Record, Write,
    is_rollout_of, next_rollout,
};
use crate::records::SetRecords;
use crate::rollout::edit_while_there_is_room;
use crate::seen::Seen;

/// What would become of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Its pod is stopped.
    Stop,
    /// Its pod is stopped, and another is started.
    Replace,
    /// A pod is started; there is none.
    Start,
}

/// What the end of the hold would change in one place of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consequence {
    /// On which node.
    pub node: Arc<NodeRecord>,
    /// In which place.
    pub key: PodKey,
    /// What.
    pub action: Action,
    /// Why, and what to do where that is not wanted.
    pub reason: Reason,
}

impl Action {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Replace => "replace",
            Self::Start => "start",
        }
    }

    /// Whether a pod that runs ends by it.
    pub const fn removes(self) -> bool {
        matches!(self, Self::Stop | Self::Replace)
    }
}

impl Fleet {
    /// Since when orders are held, and after what; `None` where they are given.
    pub const fn hold(&self) -> Option<HoldRecord> {
        self.records.hold
    }

    /// What the end of the hold would change on the nodes that have called in this reign; nothing
    /// where orders are given. Walks over the fleet.
    pub fn consequences(&self) -> Vec<Consequence> {
        if self.records.hold.is_none() {
            return Vec::new();
        }
        self.seen.keys().flat_map(|node| self.consequences_on(*node)).collect()
    }

    /// How many nodes belong.
    pub fn active_nodes(&self) -> usize {
        self.records.names.len()
    }

    /// How many nodes belong and have not called in this reign: what they run is not known.
    pub fn not_called(&self) -> usize {
        let called = |node: &&NodeUid| self.seen.get(node).is_some_and(|seen| seen.hello.is_some());
        self.records.names.values().filter(|node| !called(node)).count()
    }

    /// What of a node the restored store does not know, in one line; `None` where nothing, and where
    /// orders are given.
    pub(crate) fn ahead(&self, node: NodeUid) -> Option<Reason> {
        let hold = self.records.hold?;
        let accepted = self.seen.get(&node)?.acknowledged?;
        let removes = self.consequences_on(node);
        let count = |action| removes.iter().filter(|found| found.action == action).count();
        let (stop, replace) = (count(Action::Stop), count(Action::Replace));
        let later = accepted.term > hold.copied_in;
        let message = match (later, stop + replace) {
            (false, 0) => return None,
            (true, 0) => format!(
                "its orders are of term {}, and the restored copy is of term {}; it runs nothing \
                 that the store does not know",
                accepted.term, hold.copied_in
            ),
            (_, _) => format!(
                "it accepted orders of term {}, and the restored copy is of term {}: resuming would \
                 stop {stop} and replace {replace} of its pods",
                accepted.term, hold.copied_in
            ),
        };
        Some(Reason::new("AheadOfStore", message))
    }

    /// Tells people of a node whose agent has heard what this coordinator does not know.
    pub(crate) fn tell_if_ahead(&mut self, node: NodeUid) {
        let Some(record) = self.records.nodes.get(&node).cloned() else { return };
        if let Some(term) = self.higher_term(node) {
            let message = higher_term(&record, term, self.records.cluster.term);
            self.tell(about_node(&record), EventType::Warning, "HigherTerm", &message);
        }
        if let Some(reason) = self.ahead(node) {
            let message = format!("Node {}: {}", record.name, reason.message);
            self.tell(about_node(&record), EventType::Warning, &reason.code, &message);
        }
    }

    /// The term that the node's agent has accepted orders under, if it will take none of this reign:
    /// it is a later one, or the same and another's. Never adopted.
    pub(crate) fn higher_term(&self, node: NodeUid) -> Option<Term> {
        let accepted = self.seen.get(&node)?.acknowledged?;
        let cluster = self.records.cluster;
        let others = (accepted.term, accepted.reign) != (cluster.term, cluster.reign);
        let ours = accepted.cluster == cluster.id;
        Some(accepted.term).filter(|term| ours && others && *term >= cluster.term)
    }

    /// The grant that the node should have for what it runs, where orders are held, the store knows
    /// the revision, and the grant is another.
    pub(crate) fn followed(
        &self,
        records: &SetRecords,
        node: &NodeRecord,
        seen: &Seen,
    ) -> Option<Grant> {
        self.records.hold?;
        let set = &records.record.as_ref()?.set;
        let pod = seen.places.get(&set.key).and_then(|place| place.pod_of(set.uid))?;
        let known = records.revisions.contains_key(&pod.revision);
        // A lost node's word may no longer hold; it is given again when the node calls.
        if !known || pod.phase == PodPhase::Stopping || !seen.is_ready() {
            return None;
        }
        let place = verdict(set, node);
        let granted = match (place.run.is_ok(), place.keep) {
            (true, _) => records.grant(node.uid),
            // The exception is also the mark that the pod was there.
            (false, true) => records.exception(node.uid),
            (false, false) => return None,
        };
        // Whoever has called with the target goes on in the rollout that is taken up again.
        let head = records.head.as_ref()?;
        let on_target = pod.revision == head.target && head.is_under_way();
        let given = granted.map_or(0, |grant| grant.rollout);
        let rollout = if on_target { head.rollout } else { given };
        let surge = granted.is_some_and(|grant| grant.surge);
        let runs = Grant { revision: pod.revision, replace: pod.replace, rollout, surge };
        Some(runs).filter(|runs| granted != Some(*runs))
    }

    /// While orders are held these are the only steps: rollouts of the copy begin anew, so that a node
    /// which was granted their target long ago and does not call is not one that went dark by it; and
    /// grants follow what nodes run.
    pub(crate) fn follow_step(&self) -> Vec<Write> {
        let begun_anew: Vec<Write> = self.begun_anew().take(MAX_WRITES).collect();
        if !begun_anew.is_empty() {
            return begun_anew;
        }
        let sets = self.records.sets.iter();
        sets.map(|(uid, records)| self.follow(*uid, records).0)
            .find(|writes| !writes.is_empty())
            .unwrap_or_default()
    }

    /// The heads of rollouts under way that the copy knows and this reign has not taken up yet.
    fn begun_anew(&self) -> impl Iterator<Item = Write> {
        let term = self.records.cluster.term;
        let live = self.records.sets.values().filter(|records| records.record.is_some());
        let heads = live.filter_map(|records| records.head.as_ref());
        let of_copy =
            heads.filter(move |head| head.takes_steps() && !is_rollout_of(head.rollout, term));
        of_copy.map(move |head| {
            let rollout = next_rollout(head.rollout, term);
            Write::put(Record::GrantHead(GrantHead { rollout, relabels: false, ..head.clone() }))
        })
    }

    /// Everything that [`Fleet::follow_step`] would come to, if it is to be stored at once; `None`
    /// where one set alone needs several steps.
    pub(crate) fn follow_all(&self) -> Option<Vec<Write>> {
        let mut writes: Vec<Write> = self.begun_anew().collect();
        if writes.len() > MAX_WRITES {
            return None;
        }
        for (uid, records) in &self.records.sets {
            let (followed, all) = self.follow(*uid, records);
            if !all {
                return None;
            }
            writes.extend(followed);
        }
        Some(writes)
    }

    /// The uid under which most nodes run a set of this name, first of all with this template, where
    /// orders are held and the store does not know that uid: a set that is made again must not replace
    /// the pods that are already its own.
    pub(crate) fn uid_in_use(&self, set: &DaemonSet) -> Option<SetUid> {
        self.records.hold?;
        let mut found: BTreeMap<SetUid, (usize, usize)> = BTreeMap::new();
        for seen in self.seen.values() {
            let pods = seen.places.get(&set.key).map(|place| place.pods.iter());
            let stays = |pod: &&PodStatus| pod.phase != PodPhase::Stopping;
            for pod in pods.into_iter().flatten().filter(stays) {
                if !self.records.sets.contains_key(&pod.set) {
                    let (same, all) = found.entry(pod.set).or_default();
                    *same += usize::from(pod.revision == set.revision);
                    *all += 1;
                }
            }
        }
        found.into_iter().map(|(uid, nodes)| (nodes, uid)).max().map(|(_, uid)| uid)
    }

    /// One step for one set, and whether that is all there is to follow.
    fn follow(&self, uid: SetUid, records: &SetRecords) -> (Vec<Write>, bool) {
        let Some(tally) = self.tallies.get(&uid) else { return (Vec::new(), true) };
        let runs = |node: NodeUid| {
            self.followed(records, self.records.active(node)?, self.seen.get(&node)?)
        };
        let mut edits = ChunkEdits::new(uid, records);
        let all = edit_while_there_is_room(&mut edits, tally.astray.iter(), runs);
        (edits.into_writes(), all)
    }

    /// What the end of the hold would change on one node, if it has called.
    pub(crate) fn consequences_on(&self, node: NodeUid) -> Vec<Consequence> {
        let (Some(record), Some(seen)) = (self.records.nodes.get(&node), self.seen.get(&node))
        else {
            return Vec::new();
        };
        if self.records.hold.is_none() || seen.hello.is_none() {
            return Vec::new();
        }
        let assignment = self.records.assignment(node);
        let mut found = Vec::new();
        let mut taken = BTreeSet::new();
        for (key, place) in &seen.places {
            let stays = |pod: &&PodStatus| pod.phase != PodPhase::Stopping;
            let Some(pod) = place.pods.iter().find(stays) else { continue };
            taken.insert(key);
            let records = self.records.sets.get(&pod.set);
            if records.is_some_and(|records| self.followed(records, record, seen).is_some()) {
                // Its grant is about to follow.
                continue;
            }
            let change = match assignment.get(key) {
                None => Some((Action::Stop, self.why_stop(record, key, pod))),
                Some(item) => self.change(item, pod),
            };
            found.extend(change.map(|(action, reason)| (key.clone(), action, reason)));
        }
        for item in assignment.items().filter(|item| !taken.contains(&item.key)) {
            let reason = Reason::new("NotRunning", "the node does not run it");
            found.push((item.key.clone(), Action::Start, reason));
        }
        let on_node =
            |(key, action, reason)| Consequence { node: Arc::clone(record), key, action, reason };
        found.into_iter().map(on_node).collect()
    }

    /// What following the item would do to the pod that is there.
    fn change(&self, item: &Item, pod: &PodStatus) -> Option<(Action, Reason)> {
        let as_ordered = (item.revision, item.replace) == (pod.revision, pod.replace);
        if item.set == pod.set && (item.intent != Intent::Run || as_ordered) {
            return None;
        }
        let records = self.records.sets.get(&item.set)?;
        let reason = unknown(records, item.set, pod).unwrap_or_else(|| {
            Reason::new("OtherRevision", format!("it runs revision {}", pod.revision.short()))
        });
        Some((Action::Replace, reason))
    }

    fn why_stop(&self, node: &NodeRecord, key: &PodKey, pod: &PodStatus) -> Reason {
        if node.standing != NodeStanding::Active {
            return Reason::new("NodeRemoved", "the store says that the node was removed");
        }
        let set = self.records.set(key);
        let set = set.and_then(|(uid, records)| Some((uid, records, records.record.as_ref()?)));
        let verdict = set.map(|(uid, records, record)| (uid, records, verdict(&record.set, node)));
        match verdict {
            // Where it may stay, something else is in the way.
            Some((uid, records, Verdict { run: Err(why), keep: true })) => {
                unknown(records, uid, pod).unwrap_or_else(|| why.reason())
            }
            Some((_, _, Verdict { run: Err(why), .. })) => why.reason(),
            Some((_, _, Verdict { run: Ok(()), .. })) | None => Reason::new(
                "UnknownDaemonSet",
                "the store does not know this DaemonSet: to keep its pod, apply its manifest",
            ),
        }
    }
}

/// What the store does not know of a pod of a set that it has by name.
fn unknown(records: &SetRecords, set: SetUid, pod: &PodStatus) -> Option<Reason> {
    if pod.set != set {
        let message = "the node runs another DaemonSet of this name: to keep its pod, delete this one \
                       and apply its manifest again";
        return Some(Reason::new("AnotherDaemonSet", message));
    }
    let message = format!(
        "the store does not know revision {}: to keep the pod, apply the manifest that it was made \
         from",
        pod.revision.short()
    );
    let known = records.revisions.contains_key(&pod.revision);
    (!known).then(|| Reason::new("UnknownRevision", message))
}

/// One line for a term that this coordinator is not in.
pub(crate) fn higher_term(node: &NodeRecord, accepted: Term, own: Term) -> String {
    format!(
        "Node {} accepted orders of term {accepted} and will refuse those of this coordinator's term \
         {own}: its store is older than the fleet; stop it and run everynode-coordinator store \
         restore with --term {}",
        node.name,
        accepted.next()
    )
}
