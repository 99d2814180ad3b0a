//! How far a rollout may go now: a pure function of the records, the policy and the sums.
//!
//! ```text
//!             failed, and on-failure: rollback
//!   Stopped ◀── paused, failed, held      ┌──────▶ Back: what was moved returns to `stable`
//!      │                                  │
//!      ▼                                  │
//!   Canary: only canaries, so many ── all of them available for so long, ──▶ Open: so many nodes,
//!                                     or somebody says so                    all but the partition
//! ```
//!
//! Canaries are the nodes that the policy selects, or any; they, and then the others, are moved in
//! the order of their rank. A share is counted of the desired nodes and rounded up, as Kubernetes
//! counts all its shares; that the set of moved nodes only grows is due to grants being stored.

use std::collections::BTreeSet;

use everynode_model::{Canary, DaemonSet, Digest, OnFailure, Strategy};

use crate::record::{Grant, GrantHead};
use crate::records::SetRecords;
use crate::status::{Tally, Turn};

/// The mark of a target that has failed; it ends with the target. All other marks are somebody's
/// who has put the rollout on hold.
pub(crate) const FAILED: &str = "failed";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No step is taken; a word for it, and why.
    Stopped { reason: &'static str, why: String },
    /// What was moved returns to the last revision that was rolled out to the end.
    Back { why: String },
    /// Only canaries are moved, until so many of them are, and no more nodes than may be in all.
    Canary { limit: usize, open: usize },
    /// Nodes are moved until so many are.
    Open { limit: usize },
}

impl GrantHead {
    /// Whether a rollout leads from one revision to another, or to a first one.
    pub fn is_under_way(&self) -> bool {
        self.stable != Some(self.target)
    }

    /// Whether steps are taken under its number: towards the target, or after labels.
    pub(crate) fn takes_steps(&self) -> bool {
        self.is_under_way() || self.relabels
    }

    /// Whether a rollout gave this grant that has never come to its end, and back from which somebody
    /// went to what was rolled out before.
    pub(crate) fn has_given_up(&self, grant: Grant) -> bool {
        let unfinished = self.settled != 0 && grant.rollout > self.settled;
        !self.is_under_way() && unfinished && grant.revision != self.target
    }

    /// Whether the other one says the same of all nodes but those with exceptions.
    pub(crate) fn is_same_rule(&self, other: &Self) -> bool {
        (self.stable, self.target, &self.marks) == (other.stable, other.target, &other.marks)
    }

    /// Why the target has failed, if it has.
    pub fn failure(&self) -> Option<&str> {
        self.marks.get(FAILED).map(String::as_str)
    }

    /// Whether what was moved returns to where it came from. A first rollout has nowhere to return to.
    pub(crate) fn goes_back(&self, set: &DaemonSet) -> bool {
        let policy = &set.rollout;
        let asked = policy.on_failure == OnFailure::Rollback && self.failure().is_some();
        let by_steps = set.strategy != Strategy::OnDelete;
        asked && by_steps && self.is_under_way() && self.stable.is_some() && !policy.paused
    }

    /// The revision that steps lead to.
    pub(crate) fn goal(&self, set: &DaemonSet) -> Digest {
        match self.stable {
            Some(stable) if self.goes_back(set) => stable,
            _ => self.target,
        }
    }
}

impl Stage {
    /// How far the set's rollout may go now; `None` where it has no records to go by.
    pub(crate) fn of(records: &SetRecords, tally: &Tally) -> Option<Self> {
        let set = &records.record.as_ref()?.set;
        let (head, policy) = (records.head.as_ref()?, &set.rollout);
        if let Some(stopped) = stopped(records, head, set) {
            return Some(stopped);
        }
        if head.goes_back(set) {
            return Some(Self::Back { why: head.failure().unwrap_or_default().to_owned() });
        }
        let desired = tally.status.desired as usize;
        // It keeps nodes where they are, and nobody from going back to that.
        let partition = policy.partition.filter(|_| head.is_under_way());
        let open = desired.saturating_sub(partition.map_or(0, |partition| partition.of(desired)));
        let by_steps = matches!(set.strategy, Strategy::RollingUpdate { .. });
        Some(match policy.canary.as_ref().filter(|_| by_steps && !is_past_canaries(head)) {
            Some(canary) => Self::Canary { limit: canaries(canary, tally).min(open), open },
            None => Self::Open { limit: open },
        })
    }
}

/// Whether this very rollout has been let past its canaries.
pub(crate) fn is_past_canaries(head: &GrantHead) -> bool {
    !head.is_under_way() || head.promoted == head.rollout
}

/// Whether as many canaries as there should be, of those that can be reached, have an available pod
/// of the target; at least one.
pub(crate) fn canaries_are_available(stage: &Stage, tally: &Tally) -> bool {
    let Stage::Canary { limit, .. } = stage else { return false };
    let moved = tally.moved_canaries;
    let fine = tally.moving == 0 && tally.done_canaries == moved;
    moved > 0 && fine && (moved >= *limit || !are_canaries_left(tally))
}

/// Whether canaries that can be reached have not been moved.
pub(crate) fn are_canaries_left(tally: &Tally) -> bool {
    let begins = |nodes: &BTreeSet<Turn>| nodes.first().is_some_and(|(other, ..)| !other);
    begins(&tally.broken) || begins(&tally.waiting)
}

fn stopped(records: &SetRecords, head: &GrantHead, set: &DaemonSet) -> Option<Stage> {
    if set.rollout.paused && !mutated!(IgnorePause) {
        let why = "paused by its annotation: everynode rollout resume lets it go on";
        return Some(Stage::Stopped { reason: "RolloutPaused", why: why.into() });
    }
    let other = head.marks.iter().find(|(mark, _)| *mark != FAILED);
    if let Some((mark, why)) = other {
        return Some(Stage::Stopped { reason: "RolloutHeld", why: format!("{mark}: {why}") });
    }
    let missing = records.revisions.get(&head.target).map(|revision| &revision.missing);
    if let Some(missing) = missing.filter(|missing| !missing.is_empty() && head.is_under_way()) {
        let why = format!("its pods could not start: {}", missing.join(", "));
        return Some(Stage::Stopped { reason: "ConfigMissing", why });
    }
    match head.failure() {
        Some(why) if !head.goes_back(set) && head.is_under_way() && !mutated!(IgnoreFailure) => {
            let why = format!("{why}; change the template, or restart, to try again");
            Some(Stage::Stopped { reason: "RolloutFailed", why })
        }
        _ => None,
    }
}

fn canaries(canary: &Canary, tally: &Tally) -> usize {
    if mutated!(IgnoreCanaries) {
        return usize::MAX;
    }
    let desired = tally.status.desired as usize;
    canary.nodes.map_or(tally.canaries, |nodes| nodes.of(desired).max(1)).min(tally.canaries)
}
