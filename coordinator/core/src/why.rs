//! Why a pod is as it is: no "no" without a reason.
//!
//! Asked in the order in which the answer would help: is the node wanted at all, is it there, was
//! it granted the newest revision, does it have the order, and what does it say itself.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use everynode_model::{
    CanaryWait, Digest, Failure, HELD_ON_NODE, NodeUid, PodKey, PodStatus, Reason, SetUid, Strategy,
};

use crate::Fleet;
use crate::hold::higher_term;
use crate::placement::verdict;
use crate::record::{Grant, GrantHead, NodeOrder, NodeRecord};
use crate::records::{Place, SetRecords};
use crate::seen::{Seen, is_ready};
use crate::stage::{Stage, are_canaries_left};
use crate::status::{Stand, Tally};
use crate::view::{Readiness, Why, WhyCount};

/// What to ask `why` about; everything where nothing is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WhyFilter {
    /// Only this node.
    pub node: Option<NodeUid>,
    /// Only sets of this namespace.
    pub namespace: Option<String>,
    /// Only this DaemonSet.
    pub set: Option<PodKey>,
}

/// How many nodes are named beside a count.
const EXAMPLES: usize = 3;

impl Fleet {
    /// Why each pod is, or is not, as it should be: one line per node and DaemonSet. Nodes on which
    /// a set has no place and no pod are told of only where the filter names node or set.
    pub fn why(&self, filter: &WhyFilter) -> Vec<Why> {
        let named = filter.node.is_some() || filter.set.is_some();
        let mut lines = Vec::new();
        for (key, uid) in &self.records.keys {
            let other_set = filter.set.as_ref().is_some_and(|only| only != key);
            let other_namespace =
                filter.namespace.as_ref().is_some_and(|only| only != key.namespace());
            if other_set || other_namespace {
                continue;
            }
            for node in self.records.names.values() {
                if filter.node.is_none_or(|only| only == *node) {
                    lines.extend(self.why_here(key, *uid, *node, named));
                }
            }
        }
        lines.extend(self.why_unknown(filter));
        lines
    }

    /// The same, counted by DaemonSet and reason: what is not as it should be first, then by how many
    /// nodes it is so on.
    pub fn why_counted(&self, filter: &WhyFilter) -> Vec<WhyCount> {
        let mut counts: BTreeMap<(PodKey, bool, String), WhyCount> = BTreeMap::new();
        let mut lines = self.why(filter);
        lines.sort_by(|one, other| one.node.name.cmp(&other.node.name));
        for line in lines {
            let sameness = (line.key.clone(), line.fine, line.reason.code.clone());
            let count = counts.entry(sameness).or_insert_with(|| WhyCount {
                key: line.key,
                fine: line.fine,
                reason: line.reason,
                nodes: 0,
                examples: Vec::new(),
            });
            count.nodes += 1;
            if count.examples.len() < EXAMPLES {
                count.examples.push(line.node.name.clone());
            }
        }
        let mut counts: Vec<WhyCount> = counts.into_values().collect();
        counts.sort_by_key(|count| (count.key.clone(), count.fine, Reverse(count.nodes)));
        counts
    }

    /// Why the pod of `set` on `node` is not the wanted one; `None` where it is. What a whole fleet
    /// waits for together has one word here: were it told pod by pod, each change of it would cost
    /// the fleet.
    pub(crate) fn reason(&self, set: SetUid, node: NodeUid) -> Option<Reason> {
        let records = self.records.sets.get(&set)?;
        let (fine, reason, _) = self.explain(records, set, node)?;
        let shared = ["CanaryWaiting", "Partitioned", "RegistrationWindow"];
        match shared.contains(&reason.code.as_str()) {
            _ if fine => None,
            true => Some(Reason::new("RolloutPending", reason.message)),
            false => Some(reason),
        }
    }

    /// Why pods are there whose DaemonSet the restored store does not know.
    fn why_unknown(&self, filter: &WhyFilter) -> Vec<Why> {
        if self.records.hold.is_none() {
            return Vec::new();
        }
        let mut lines = Vec::new();
        for node in self.records.names.values() {
            if filter.node.is_some_and(|only| only != *node) {
                continue;
            }
            for found in self.consequences_on(*node) {
                let known = self.records.keys.contains_key(&found.key);
                let other_set = filter.set.as_ref().is_some_and(|only| *only != found.key);
                let namespace = filter.namespace.as_ref();
                let other_namespace = namespace.is_some_and(|only| only != found.key.namespace());
                if !(known || other_set || other_namespace) {
                    let reason = orders_held(&found.reason.message);
                    let (node, key) = (found.node, found.key);
                    let (fine, last_exit, failure) = (false, None, None);
                    lines.push(Why { node, key, fine, reason, last_exit, failure });
                }
            }
        }
        lines
    }

    fn why_here(&self, key: &PodKey, uid: SetUid, node: NodeUid, named: bool) -> Option<Why> {
        let records = self.records.sets.get(&uid)?;
        let (fine, reason, pod) = self.explain(records, uid, node)?;
        let record = self.records.active(node)?;
        if !named && records.place(record) == Place::None && pod.is_none() {
            return None;
        }
        let failure = pod.and_then(|pod| pod.last_failure.as_ref());
        let last_exit = failure.and_then(|failure| failure.exit);
        let newest = records.head.as_ref().map(|head| head.target);
        let failure = pod.zip(newest).and_then(|(pod, newest)| failure_of(newest, pod)).cloned();
        let (node, key) = (Arc::clone(record), key.clone());
        Some(Why { node, key, fine, reason, last_exit, failure })
    }

    /// Whether all is as it should be, why, and the pod that is there.
    fn explain(
        &self,
        records: &SetRecords,
        uid: SetUid,
        node: NodeUid,
    ) -> Option<(bool, Reason, Option<&PodStatus>)> {
        let record = records.record.as_ref()?;
        let head = records.head.as_ref()?;
        let grant = records.grant(node);
        let active = self.records.active(node)?;
        let seen = self.seen.get(&node)?;
        let place = seen.places.get(&record.set.key);
        let pod = place.and_then(|place| place.pod_of(uid));
        let next = place.zip(grant).and_then(|(place, grant)| place.successor(uid, grant));
        if let Err(why) = verdict(&record.set, active).run {
            let kept = records.place(active) == Place::Keep;
            return Some(match (kept, pod) {
                (true, _) => (true, kept_reason(&why.reason()), pod),
                (false, None) => (true, why.reason(), pod),
                (false, Some(pod)) if pod.is_held() => (false, held(pod), Some(pod)),
                (false, Some(_)) if active.order.holds() => (false, ordered(active)?, pod),
                (false, Some(_)) if self.records.hold.is_some() => {
                    (false, orders_held(&why.reason().message), pod)
                }
                (false, Some(_)) => (false, being_removed(&why.reason()), pod),
            });
        }
        let cell = self.tallies.get(&uid).and_then(|tally| tally.cells.get(&node));
        let done = cell.is_some_and(|cell| cell.available && cell.stand == Stand::Done);
        let fault = self
            .absence(seen, active)
            .or_else(|| ordered(active).filter(|_| active.order.stops()))
            .or_else(|| pod.filter(|pod| pod.is_held() && !done).map(held))
            .or_else(|| match grant {
                _ if active.order.holds() => {
                    let newest = grant.is_some_and(|grant| grant.revision == head.target);
                    ordered(active).filter(|_| !(done && newest))
                }
                Some(grant) => self
                    .not_told(records, uid, head, grant, pod, active)
                    .or_else(|| next.map(|next| surging(pod, next)))
                    .or_else(|| self.not_running(records, seen, grant, pod, done)),
                None if self.records.hold.is_some() => {
                    Some(orders_held("its pod waits to be started"))
                }
                None => Some(self.not_granted(records, uid, head, active)),
            });
        let fine = fault.is_none() || mutated!(HideReason);
        let reason = fault.unwrap_or_else(|| {
            let hash = grant.map(|grant| grant.revision.short()).unwrap_or_default();
            Reason::new("Running", format!("revision {hash} is available"))
        });
        Some((fine, reason, next.or(pod)))
    }

    /// What stands between the newest revision and the agent: the rollout, the hold, the order.
    fn not_told(
        &self,
        records: &SetRecords,
        uid: SetUid,
        head: &GrantHead,
        grant: Grant,
        pod: Option<&PodStatus>,
        node: &NodeRecord,
    ) -> Option<Reason> {
        let seen = self.seen.get(&node.uid)?;
        if self.records.hold.is_some() {
            let runs = pod.map(|pod| (pod.revision, pod.replace));
            return match runs == Some((grant.revision, grant.replace)) {
                true if grant.revision == head.target => None,
                true => Some(orders_held("the newest revision waits")),
                false if pod.is_none() => Some(orders_held("its pod waits to be started")),
                false => Some(orders_held("the pod that is there is not the one wanted")),
            };
        }
        if grant.revision != head.target || records.is_behind(node) {
            return Some(self.not_granted(records, uid, head, node));
        }
        if let Some(term) = self.higher_term(node.uid) {
            let message = higher_term(node, term, self.records.cluster.term);
            return Some(Reason::new("HigherTerm", message));
        }
        self.not_ordered(seen, node.uid)
    }

    fn absence(&self, seen: &Seen, node: &NodeRecord) -> Option<Reason> {
        match seen.readiness {
            Readiness::Ready => None,
            Readiness::Unknown => {
                Some(Reason::new("NodeUnknown", format!("node {} has not called yet", node.name)))
            }
            Readiness::Lost { since: None } => Some(Reason::new(
                "NodeLost",
                format!("node {} has not called since the coordinator started", node.name),
            )),
            Readiness::Lost { since: Some(since) } => {
                let silent = self.now.steady.since(since).as_secs();
                let message = format!("node {} was last heard of {silent} s ago", node.name);
                Some(Reason::new("NodeLost", message))
            }
        }
    }

    /// Why a node has not been granted the newest revision, in the order in which a step looks at it.
    fn not_granted(
        &self,
        records: &SetRecords,
        uid: SetUid,
        head: &GrantHead,
        node: &NodeRecord,
    ) -> Reason {
        let empty = Tally::default();
        let tally = self.tallies.get(&uid).unwrap_or(&empty);
        let strategy = records.record.as_ref().map(|record| record.set.strategy);
        let stage = Stage::of(records, tally);
        if let Some(Stage::Stopped { reason, why }) = &stage {
            return Reason::new(*reason, format!("the rollout is stopped: {why}"));
        }
        if strategy == Some(Strategy::OnDelete) {
            let message = "updateStrategy is OnDelete: the pod is replaced when it is deleted";
            return Reason::new("OnDelete", message);
        }
        let cell = tally.cells.get(&node.uid);
        let canary = cell.is_some_and(|cell| cell.canary);
        match stage {
            Some(Stage::Back { why }) => {
                let hash = head.target.short();
                let message = format!("revision {hash} has failed, nodes go back from it: {why}");
                return Reason::new("RolledBack", message);
            }
            Some(Stage::Canary { limit, .. }) if !canary || tally.moved_canaries >= limit => {
                return Reason::new("CanaryWaiting", canary_message(records, tally, limit));
            }
            Some(Stage::Open { limit }) if tally.moved >= limit => {
                let message =
                    format!("partition: {} of {limit} nodes that may be were moved", tally.moved);
                return Reason::new("Partitioned", message);
            }
            _ => {}
        }
        let away = self.seen.get(&node.uid).is_none_or(|seen| !seen.is_ready());
        if !away && cell.is_some_and(|cell| cell.stand == Stand::Absent) {
            let message = "its agent can't start a new pod beside the old one: bring the agent up to date, \
                           or set maxUnavailable in place of maxSurge";
            return Reason::new("MissingFeature", message);
        }
        if !self.window_has_passed() {
            let message = "the coordinator began to lead a moment ago and waits for nodes to call";
            return Reason::new("RegistrationWindow", message);
        }
        let (spent, budget) = (tally.spending(), Self::budget(records, tally));
        let message = match records.surges() {
            true => format!("waits for its turn: {spent} of {budget} nodes may have a second pod"),
            false => format!("waits for its turn: {spent} of {budget} pods may be unavailable"),
        };
        Reason::new("RolloutPending", message)
    }

    fn not_ordered(&self, seen: &Seen, node: NodeUid) -> Option<Reason> {
        let order = self.order_of(node);
        let stamp = order.map(|order| order.stamp);
        if let Some((refused, why)) = &seen.refused
            && Some(*refused) == stamp
        {
            let message = format!("the agent refused its order: {why}");
            return Some(Reason::new("OrderRefused", message));
        }
        if seen.session.is_none() {
            let message = "the agent is not connected; it is expected back within its lease";
            return Some(Reason::new("Disconnected", message));
        }
        if self.desk.is_due(node) || order.is_none() {
            return Some(Reason::new("OrderDue", "the agent is about to be told"));
        }
        let has = seen.acknowledged.zip(stamp).is_some_and(|(has, stamp)| has == stamp);
        let message = "the agent has not said yet that it has its order on disk";
        (!has).then(|| Reason::new("OrderNotAcknowledged", message))
    }

    fn not_running(
        &self,
        records: &SetRecords,
        seen: &Seen,
        grant: Grant,
        pod: Option<&PodStatus>,
        done: bool,
    ) -> Option<Reason> {
        let record = records.record.as_ref()?;
        let Some(pod) = pod else {
            let lacks = seen.hello.as_ref().and_then(|hello| {
                record.set.features.iter().find(|feature| !hello.features.contains(*feature))
            });
            return Some(match lacks {
                Some(feature) => {
                    Reason::new("MissingFeature", format!("the node can't honour {feature}"))
                }
                None => Reason::new("NotReported", "the agent has not reported the pod yet"),
            });
        };
        if (pod.revision, pod.replace) != (grant.revision, grant.replace) {
            let message = format!("revision {} is being replaced", pod.revision.short());
            return Some(pod.reason.clone().unwrap_or_else(|| Reason::new("Replacing", message)));
        }
        if !is_ready(pod) {
            let message = format!("the pod is {} and not ready", pod.phase.as_str());
            return Some(pod.reason.clone().unwrap_or_else(|| Reason::new("NotReady", message)));
        }
        let message = format!("ready for less than {} s", record.set.min_ready.as_secs());
        (!done).then(|| Reason::new("MinReadySeconds", message))
    }
}

/// What went wrong last with this revision, in the pod or in the one before it.
fn failure_of(revision: Digest, pod: &PodStatus) -> Option<&Failure> {
    let former = || pod.former_failure.as_ref().filter(|former| former.revision == revision);
    let own = pod.last_failure.as_ref().filter(|_| pod.revision == revision);
    own.or_else(|| former().map(|former| &former.failure))
}

/// What is waited for before nodes that are no canaries are moved.
pub(crate) fn canary_message(records: &SetRecords, tally: &Tally, limit: usize) -> String {
    let canary = records.record.as_ref().and_then(|record| record.set.rollout.canary.as_ref());
    let done = format!("{} of {limit} canaries were moved", tally.moved_canaries);
    if tally.canaries == 0 {
        return "no node matches the canary selector: nothing is moved until one does".into();
    }
    let short = tally.moving.max(tally.moved_canaries.saturating_sub(tally.done_canaries));
    let (spent, budget) = (tally.spending(), Fleet::budget(records, tally));
    if short > 0 {
        return format!("{done}, and {short} are not available yet");
    }
    if tally.moved_canaries < limit && !are_canaries_left(tally) {
        return format!("{done}; the others can't be reached, or are held");
    }
    if tally.moved_canaries < limit {
        // What is broken elsewhere spends the budget, and has to wait for the canaries itself.
        return format!("{done}; the next waits: {spent} of {budget} pods may be unavailable");
    }
    match canary.map(|canary| canary.wait) {
        Some(CanaryWait::Manual) => {
            format!("{done} and are available: everynode rollout resume lets the others follow")
        }
        Some(CanaryWait::For(time)) => {
            format!(
                "{done} and are available; the others follow after {} s of that",
                time.as_secs()
            )
        }
        None => done,
    }
}

/// Why the pod that counts is still the old one: the new one's reason, where it has one.
fn surging(old: Option<&PodStatus>, next: &PodStatus) -> Reason {
    let is = old.map(|old| old.revision.short()).unwrap_or_default();
    let serves = format!("the pod of revision {is} serves until the new one takes over");
    match &next.reason {
        Some(reason) => Reason::new(reason.code.clone(), format!("{}; {serves}", reason.message)),
        None => Reason::new("Surging", serves),
    }
}

/// Why nothing happens on any node after a restore.
pub(crate) fn orders_held(what: &str) -> Reason {
    let message = format!(
        "{what}; orders are held since the store was restored: see everynode cluster status"
    );
    Reason::new("OrdersHeld", message)
}

/// What the agent says of a pod that is held; it names who, since when, and what for.
fn held(pod: &PodStatus) -> Reason {
    pod.reason.clone().unwrap_or_else(|| Reason::new(HELD_ON_NODE, ""))
}

/// What people have ordered of the whole node, and how it ends.
pub(crate) fn ordered(node: &NodeRecord) -> Option<Reason> {
    let what_for = |reason: &str| match reason {
        "" => String::new(),
        reason => format!(" ({reason})"),
    };
    let name = &node.name;
    Some(match &node.order {
        NodeOrder::None => return None,
        NodeOrder::Hold { reason, .. } => {
            let why = what_for(reason);
            let message =
                format!("node {name} is held as it is{why}: everynode node release {name} ends it");
            Reason::new("NodeHeld", message)
        }
        NodeOrder::Stop { reason, .. } => {
            let why = what_for(reason);
            let message =
                format!("node {name} is stopped{why}: everynode node start {name} ends it");
            Reason::new("NodeStopped", message)
        }
    })
}

fn kept_reason(why: &Reason) -> Reason {
    Reason::new("Kept", format!("the pod was there before and stays: {}", why.message))
}

fn being_removed(why: &Reason) -> Reason {
    Reason::new("BeingRemoved", format!("the pod is on its way out: {}", why.message))
}
