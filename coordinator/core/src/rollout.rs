//! The next durable step of a rollout.
//!
//! ```text
//!   target = stable ──── a changed template ────▶ target ≠ stable ──── failed ───▶ goal = stable
//!        ▲                                             │ grant: broken nodes at once, then │
//!        │                                             │ available ones within the budget, │ grant, as
//!        │                                             ▼ as far as the stage allows        ▼ before
//!   tidy: drop exceptions ◀── finish: the rule ◀── pin: nodes that are away      tidy, and wait for
//!   that say what the         becomes the target    keep what they have, as      another target
//!   rule says                                       exceptions
//! ```
//!
//! Only *grant* changes what a node must run; the other steps rewrite the same meaning, and may be
//! cut into as many writes as they need. Nodes that return later, pinned to a former revision, are
//! granted the target under the same budget. How far grants may go is the stage's word
//! ([`crate::stage`]); when a target fails, and when canaries have been watched for long enough, is the
//! clock's ([`crate::clock`]).
//!
//! The budget is Kubernetes' `maxUnavailable` of the desired nodes, at least one; or `maxSurge`, where a
//! new pod starts beside the old one. A node spends it while it is reachable and the pod that it is
//! granted is not available, and also while it is dark but was granted the target by this very rollout ([`crate::status::Stand`]). One that was away before its turn
//! neither spends nor blocks, also where a former rollout had granted it what is wanted again; nor
//! does one whose pod is held at the machine, whatever it was granted; it is not done either. With
//! OnDelete nothing is granted by steps: `delete pod` grants, and a node that gets a place gets the
//! newest revision at once; the rule follows when all have it.
//!
//! Where pods are surged, a node whose agent can't do so is as one that is away, while it would lose an
//! available pod by its turn.
//!
//! So that the two can be told apart, no step is taken before a registration window has
//! passed; and none at all while orders are held (see the module `hold`).
//!
//! Labels that pods read (module `environment`) are followed by the same steps. Where no rollout is under
//! way, the first of them begins one more number, under which nodes are moved that run the target already
//! (`relabels`): whoever goes dark after such a step holds the next ones, as in a rollout, until nobody is
//! left to be moved. Canaries and a partition have no say in that: they say on how many nodes a revision
//! is tried, and on how many nodes another label is tried says whoever changes them. While a rollout is
//! under way its own steps bring the labels of the day, so that no pod is replaced twice; a node that
//! canaries or a partition keep where it is reads them when its turn comes.

use everynode_model::{Digest, NodeUid, Now, SetUid, Strategy};

use crate::Fleet;
use crate::config::MAX_WRITES;
use crate::grants::ChunkEdits;
use crate::record::{EventType, Grant, GrantHead, Record, Write, next_rollout};
use crate::records::SetRecords;
use crate::stage::Stage;
use crate::status::{Tally, Turn};

/// How many nodes' records one step may change beside chunks of grants, of which there are 64.
const MAX_FORGOTTEN: usize = MAX_WRITES / 3;

impl Fleet {
    /// The next step that should become durable: at most 120 writes and 12,000 grants. Once they
    /// are stored and recorded, there may be another; empty when there is nothing to do.
    pub fn step(&self, now: Now) -> Vec<Write> {
        if self.records.hold.is_some() {
            let followed = self.follow_step();
            // Deleting a namespace goes on: what ends with it is told before orders are given again, and
            // what is made again in it need not wait for them.
            return if followed.is_empty() { self.namespace_step() } else { followed };
        }
        let released = self.release_step(now);
        if !released.is_empty() {
            return released;
        }
        let swept = self.sweep(now);
        if !swept.is_empty() {
            return swept;
        }
        if now.steady < self.window_ends && !mutated!(IgnoreWindow) {
            return Vec::new();
        }
        let sets = self.records.sets.iter();
        let steps = sets.filter_map(|(uid, records)| self.rollout_step(*uid, records, now));
        steps.into_iter().find(|writes| !writes.is_empty()).unwrap_or_default()
    }

    /// How many nodes of a set may be on their way at a time: without an available pod, or, where new
    /// pods start beside old ones, with two.
    pub(crate) fn budget(records: &SetRecords, tally: &Tally) -> usize {
        let strategy = records.record.as_ref().map(|record| record.set.strategy);
        match strategy {
            Some(Strategy::RollingUpdate { max_unavailable, max_surge }) => {
                let most = if max_surge.is_zero() { max_unavailable } else { max_surge };
                // Zero of both is refused at the door; if it came here, a rollout would never end.
                most.of(tally.status.desired as usize).max(1)
            }
            Some(Strategy::OnDelete) | None => 0,
        }
    }

    /// How many nodes of a set may be without an available pod while it is as it should be.
    pub(crate) fn may_lack(records: &SetRecords, tally: &Tally) -> usize {
        if records.surges() { 0 } else { Self::budget(records, tally) }
    }

    fn rollout_step(&self, uid: SetUid, records: &SetRecords, now: Now) -> Option<Vec<Write>> {
        // Pods without a DaemonSet are led nowhere.
        let record = records.record.as_ref().filter(|record| !record.set.is_orphaned())?;
        let head = records.head.as_ref()?;
        // A set that no node has anything to do with has no tally, and a rollout that is over.
        let empty = Tally::default();
        let tally = self.tallies.get(&uid).unwrap_or(&empty);
        let stage = Stage::of(records, tally)?;
        if matches!(stage, Stage::Stopped { .. }) {
            return None;
        }
        if let Some(writes) = self.clock_step(uid, records, tally, now) {
            return Some(writes);
        }
        if matches!(record.set.strategy, Strategy::RollingUpdate { .. }) {
            let grants = self.grant_step(uid, records, head, &stage, tally);
            if !grants.is_empty() {
                return Some(grants);
            }
        } else if tally.absent + tally.held > 0 {
            // With OnDelete no node catches up by itself, so that it can't be left behind.
            return None;
        }
        if tally.to_move() > 0 {
            return None;
        }
        if head.stable == Some(head.goal(&record.set)) {
            let over = GrantHead { relabels: false, ..head.clone() };
            return Some(match head.relabels {
                true => vec![Write::put(Record::GrantHead(over))],
                false => tidy_step(uid, records, tally),
            });
        }
        // Canaries that wait for somebody, a partition, and that nobody was there keep it from its end.
        let desired = tally.status.desired as usize;
        if !matches!(stage, Stage::Open { limit } if limit >= desired) || tally.is_untried() {
            return None;
        }
        let pins = head.stable.map(|stable| pin_step(uid, records, stable, tally));
        let pins = pins.filter(|pins| !pins.is_empty());
        Some(pins.unwrap_or_else(|| self.finish_step(uid, records, head, tally, now)))
    }

    fn finish_step(
        &self,
        uid: SetUid,
        records: &SetRecords,
        head: &GrantHead,
        tally: &Tally,
        now: Now,
    ) -> Vec<Write> {
        let (stable, settled) = (Some(head.target), head.rollout);
        let next = GrantHead { stable, settled, stalled: None, ..head.clone() };
        let (done, desired) = (tally.done, tally.status.desired);
        let hash = head.target.short();
        let message = format!("Revision {hash} was rolled out: {done} of {desired} nodes run it");
        let what = (EventType::Normal, "RolloutComplete", message);
        self.head_and_event(uid, records, next, what, now.wall)
    }

    /// Nodes whose pod is not available anyway are moved at once, as in Kubernetes; then available
    /// ones, in order, while the budget lasts; none further than the stage allows.
    fn grant_step(
        &self,
        uid: SetUid,
        records: &SetRecords,
        head: &GrantHead,
        stage: &Stage,
        tally: &Tally,
    ) -> Vec<Write> {
        let (limit, only_canaries) = match stage {
            Stage::Stopped { .. } => return Vec::new(),
            Stage::Back { .. } => (usize::MAX, false),
            Stage::Canary { limit, open } => {
                let left = limit.saturating_sub(tally.moved_canaries);
                (left.min(open.saturating_sub(tally.moved)), true)
            }
            Stage::Open { limit } => (limit.saturating_sub(tally.moved), false),
        };
        let budget = if mutated!(IgnoreBudget) { usize::MAX } else { Self::budget(records, tally) };
        let spare = budget.saturating_sub(tally.spending());
        let at_once = tally.recalled.iter().chain(&tally.broken);
        let chosen = at_once.chain(tally.waiting.iter().take(spare));
        let chosen = chosen.filter(|(other, ..)| !only_canaries || !other).take(limit);
        let back = head.stable.filter(|_| matches!(stage, Stage::Back { .. }));
        let revision = back.unwrap_or(head.target);
        let next = self.head_of_step(head);
        let mut relabels = false;
        let mut edits = ChunkEdits::new(uid, records);
        let mut nodes = Vec::new();
        for (.., node) in chosen {
            if !edits.has_room_for(*node) || nodes.len() >= MAX_FORGOTTEN {
                break;
            }
            // What goes back, or comes late, was moved by nobody's rollout: where it is dark, nothing is
            // to be learnt of it.
            let behind = self.records.active(*node).is_some_and(|node| records.is_behind(node));
            let asked = back.is_none() && (head.is_under_way() || behind);
            let rollout = if asked { next.rollout } else { 0 };
            let replace = self.replaced(uid, records, *node, revision);
            edits.set(*node, Some(Grant { replace, rollout, ..records.unasked(revision) }));
            nodes.extend(self.forget_granted(uid, *node));
            relabels |= asked && !head.takes_steps();
        }
        let mut writes = edits.into_writes();
        writes.extend(nodes);
        writes.extend(relabels.then(|| Write::put(Record::GrantHead(next))));
        writes
    }

    /// The head under whose number nodes are moved now: labels are followed under one of their own.
    fn head_of_step(&self, head: &GrantHead) -> GrantHead {
        if head.takes_steps() {
            return head.clone();
        }
        let rollout = next_rollout(head.rollout, self.records.cluster.term);
        GrantHead { rollout, relabels: true, ..head.clone() }
    }

    /// Under which number the node was last seen to run that very revision, so that a pod which is
    /// there already is not replaced; another one, where it is to read other labels than it was granted.
    fn replaced(&self, set: SetUid, records: &SetRecords, node: NodeUid, revision: Digest) -> u64 {
        let granted = records.grant(node).filter(|granted| granted.revision == revision);
        let behind = self.records.active(node).is_some_and(|node| records.is_behind(node));
        if let Some(granted) = granted.filter(|_| behind) {
            return self.decided_version().max(granted.replace + 1);
        }
        let key = records.record.as_ref().map(|record| &record.set.key);
        let place = key.and_then(|key| self.seen.get(&node)?.places.get(key));
        let pod = place.and_then(|place| place.pod_of(set));
        pod.filter(|pod| pod.revision == revision).map_or(0, |pod| pod.replace)
    }
}

/// Nodes that are away keep what they have, whatever the rule becomes.
fn pin_step(uid: SetUid, records: &SetRecords, stable: Digest, tally: &Tally) -> Vec<Write> {
    let mut edits = ChunkEdits::new(uid, records);
    let pin = records.unasked(stable);
    edit_while_there_is_room(&mut edits, tally.unpinned.iter(), |_| Some(pin));
    edits.into_writes()
}

/// Drops exceptions that say what the rule says.
fn tidy_step(uid: SetUid, records: &SetRecords, tally: &Tally) -> Vec<Write> {
    let mut edits = ChunkEdits::new(uid, records);
    edit_while_there_is_room(&mut edits, tally.redundant.iter(), |_| None);
    edits.into_writes()
}

/// Returns whether there was room for all.
pub(crate) fn edit_while_there_is_room<'a>(
    edits: &mut ChunkEdits<'_>,
    nodes: impl Iterator<Item = &'a Turn>,
    grant: impl Fn(NodeUid) -> Option<Grant>,
) -> bool {
    for (.., node) in nodes {
        if !edits.has_room_for(*node) {
            return false;
        }
        edits.set(*node, grant(*node));
    }
    true
}
