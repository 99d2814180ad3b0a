//! What a step of a rollout must not do, seen from the grants before and after it.

use std::collections::{BTreeMap, BTreeSet};

use everynode_model::{Digest, NodeUid, SetUid, Strategy};

use super::{Violation, holds};
use crate::Fleet;
use crate::record::GrantHead;
use crate::records::{Place, SetRecords};
use crate::status::{Cell, Stand};

/// How far one rollout has come, and how far it may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    rollout: u64,
    paused: bool,
    failed: bool,
    /// Whether a failed rollout is to be taken back.
    back: bool,
    past_canaries: bool,
    /// The nodes that have a place, and what each is granted.
    grants: BTreeMap<NodeUid, Option<Digest>>,
    /// Under which number each has its pod.
    replaced: BTreeMap<NodeUid, u64>,
    target: Digest,
    /// Whether nodes are moved under the number of the rollout, and whether to nothing but other labels.
    takes_steps: bool,
    relabels: bool,
    /// How many pods may be unavailable at a time.
    budget: usize,
    /// Nodes that can't be reached, and that nobody holds or has stopped.
    dark: BTreeSet<NodeUid>,
    /// Nodes whose available pod a step may end.
    waiting: BTreeSet<NodeUid>,
    canaries: BTreeSet<NodeUid>,
    /// How many canaries, and how many nodes in all, may have the target.
    canary_limit: Option<usize>,
    limit: usize,
}

/// In which rollout steps have moved which node: remembered by whoever looks on, also while the
/// coordinator starts anew, and so known without what a grant says of itself.
#[derive(Clone, Debug, Default)]
pub struct Moved(BTreeMap<(SetUid, NodeUid), u64>);

impl Moved {
    /// A node that a rollout has moved and that went dark since holds it, whoever leads now: no step
    /// ends available pods elsewhere beyond what the budget leaves beside it. It is never taken for
    /// one that was away before.
    ///
    /// # Errors
    /// When a step did.
    pub fn a_step_counts_whom_it_lost(
        &mut self,
        before: &BTreeMap<SetUid, Progress>,
        fleet: &Fleet,
    ) -> Result<(), Violation> {
        for (uid, after) in progress(fleet) {
            let Some(before) = before.get(&uid) else { continue };
            let had: BTreeSet<NodeUid> = before.moved().collect();
            let anew = |node: &NodeUid| before.replaced.get(node) != after.replaced.get(node);
            let new = after.moved().filter(|node| !had.contains(node) || anew(node));
            let new: Vec<NodeUid> = new.collect();
            let lost = |node: &&NodeUid| self.0.get(&(uid, **node)) == Some(&after.rollout);
            let lost = before.dark.intersection(&had).filter(lost).count();
            let ended = new.iter().filter(|node| before.waiting.contains(node)).count();
            let counts = before.takes_steps || after.takes_steps;
            let kept = ended == 0 || !counts || lost + ended <= before.budget;
            holds(kept, "a_step_counts_whom_it_lost", || {
                let budget = before.budget;
                format!("{uid}: {lost} went dark by it, {ended} more were moved, {budget} may be")
            })?;
            self.0.extend(new.into_iter().map(|node| ((uid, node), after.rollout)));
        }
        Ok(())
    }
}

/// How far each rollout has come; worked out anew from the records, without what is kept up to date.
pub fn progress(fleet: &Fleet) -> BTreeMap<SetUid, Progress> {
    let sets = fleet.records.sets.iter();
    sets.filter_map(|(uid, records)| Some((*uid, Progress::of(fleet, records)?))).collect()
}

/// A step moves nothing while the rollout is paused or has failed, only canaries before these are
/// available, and no more nodes than the policy lets it; within one rollout nobody is moved back.
///
/// # Errors
/// When it does otherwise.
pub fn a_step_obeys_its_policy(
    before: &BTreeMap<SetUid, Progress>,
    fleet: &Fleet,
) -> Result<(), Violation> {
    for (uid, after) in progress(fleet) {
        let Some(before) = before.get(&uid) else { continue };
        let found = before.broken_by(&after);
        holds(found.is_none(), "a_step_obeys_its_policy", || {
            format!("{uid}: {}: {before:?}, then {after:?}", found.unwrap_or_default())
        })?;
    }
    Ok(())
}

impl Progress {
    fn of(fleet: &Fleet, records: &SetRecords) -> Option<Self> {
        let set = &records.record.as_ref()?.set;
        let head: &GrantHead = records.head.as_ref()?;
        let nodes = fleet.records.nodes.values().map(AsRef::as_ref);
        let placed: Vec<_> = nodes.filter(|node| records.place(node) == Place::Run).collect();
        let policy = &set.rollout;
        let canary = policy.canary.as_ref();
        let selector = canary.and_then(|canary| canary.selector.as_ref());
        let cells: BTreeMap<NodeUid, _> =
            placed.iter().map(|it| (it.uid, fleet.cell(records, set.uid, it.uid).0)).collect();
        let those = |chosen: &dyn Fn(&Cell) -> bool| {
            let found = cells.iter().filter(|(_, cell)| chosen(cell));
            found.map(|(node, _)| *node).collect::<BTreeSet<NodeUid>>()
        };
        // One that has the target and is held, or dark since a former rollout, shows nothing of it.
        let silent = those(&|cell| cell.moved && !cell.shows_the_target());
        let chosen = placed
            .iter()
            .filter(|node| selector.is_none_or(|selector| selector.matches(&node.labels)))
            .filter(|node| !silent.contains(&node.uid));
        let canaries: BTreeSet<NodeUid> = chosen.map(|node| node.uid).collect();
        let desired = placed.len();
        let partition = policy.partition.filter(|_| head.is_under_way());
        let kept = partition.map_or(0, |partition| partition.of(desired));
        let failed = head.failure().is_some() && head.is_under_way();
        Some(Self {
            rollout: head.rollout,
            paused: policy.paused,
            failed,
            back: failed && head.goes_back(set),
            past_canaries: canary.is_none()
                || head.promoted == head.rollout
                || !head.is_under_way(),
            grants: placed
                .iter()
                .map(|node| (node.uid, records.grant(node.uid).map(|grant| grant.revision)))
                .collect(),
            replaced: placed
                .iter()
                .filter_map(|node| Some((node.uid, records.grant(node.uid)?.replace)))
                .collect(),
            target: head.target,
            takes_steps: head.takes_steps(),
            relabels: head.relabels,
            budget: match set.strategy {
                Strategy::RollingUpdate { max_unavailable, max_surge } => {
                    let surges = set.strategy.surges();
                    let most = if surges { max_surge } else { max_unavailable };
                    most.of(desired).max(1)
                }
                Strategy::OnDelete => 0,
            },
            dark: those(&|cell| !cell.reachable && cell.stand != Stand::Held),
            waiting: those(&|cell| cell.stand == Stand::Waiting),
            canary_limit: canary.map(|canary| {
                canary.nodes.map_or(canaries.len(), |nodes| nodes.of(desired).max(1))
            }),
            canaries,
            limit: desired.saturating_sub(kept),
        })
    }

    fn moved(&self) -> impl Iterator<Item = NodeUid> {
        let moved = |(_, grant): &(&NodeUid, &Option<Digest>)| **grant == Some(self.target);
        self.grants.iter().filter(moved).map(|(node, _)| *node)
    }

    /// What the step from here to there should not have done.
    fn broken_by(&self, after: &Self) -> Option<String> {
        // But for labels, where none is under way.
        let relabels = !self.takes_steps && after.relabels && self.rollout < after.rollout;
        if self.target != after.target || (self.rollout != after.rollout && !relabels) {
            return Some("a step begins no rollout".into());
        }
        if self.grants == after.grants {
            return None;
        }
        if self.paused || (self.failed && !self.back) {
            return Some("it moves something that is stopped".into());
        }
        let (was, is): (BTreeSet<_>, BTreeSet<_>) =
            (self.moved().collect(), after.moved().collect());
        if self.back {
            let more = is.difference(&was).next();
            return more.map(|node| format!("{node} gets what has failed"));
        }
        if let Some(node) = was.difference(&is).next() {
            return Some(format!("{node} is moved back"));
        }
        let more: BTreeSet<_> = is.difference(&was).copied().collect();
        if is.len() > was.len().max(self.limit) {
            return Some(format!("{} have it, and {} may", is.len(), self.limit));
        }
        let canary_limit = self.canary_limit.filter(|_| !self.past_canaries)?;
        if let Some(node) = more.difference(&self.canaries).next() {
            return Some(format!("{node} is no canary"));
        }
        let count = |moved: &BTreeSet<NodeUid>| moved.intersection(&self.canaries).count();
        let (had, have) = (count(&was), count(&is));
        (have > had.max(canary_limit))
            .then(|| format!("{have} canaries have it, not {canary_limit}"))
    }
}
