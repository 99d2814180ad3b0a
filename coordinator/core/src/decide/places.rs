//! What a decision does to grants when it changes where a set has its place.
//!
//! Exceptions must follow in the same decision, so that a node's assignment stays a function of
//! the records:
//!
//! | before → after | exception |
//! | --- | --- |
//! | none → run | none; with OnDelete in mid-change, the newest revision (Kubernetes' rule for new nodes) |
//! | run → keep | the present grant, as the mark that the pod was there |
//! | run or keep → none | ends |
//! | anything else | stays as it is |

use everynode_model::{DaemonSet, Digest, NodeUid, Strategy};

use crate::placement::verdict;
use crate::record::{Grant, NodeRecord};
use crate::records::{Place, SetRecords};

/// What the exception of a node must become; outer `None` where it stays as it is.
///
/// `records` are the set's as they are before; `set`, `target` and `node` as they will be.
pub(super) fn exception_after(
    records: &SetRecords,
    before: Option<&NodeRecord>,
    set: &DaemonSet,
    target: Digest,
    node: &NodeRecord,
) -> Option<Option<Grant>> {
    let former = before.map_or(Place::None, |before| records.place(before));
    let held = records.exception(node.uid);
    let after = verdict(set, node);
    match (former, after.run.is_ok(), after.keep) {
        (Place::None, true, _) => newcomer(records, set, target, node.uid),
        (_, true, _) => None,
        (Place::Run, false, true) if held.is_none() => Some(records.grant(node.uid)),
        (Place::Run | Place::Keep, false, true) => None,
        (_, false, _) => held.filter(|_| !mutated!(KeepStrays)).map(|_| None),
    }
}

/// The exception of a node that gets a place now.
fn newcomer(
    records: &SetRecords,
    set: &DaemonSet,
    target: Digest,
    node: NodeUid,
) -> Option<Option<Grant>> {
    let stable = records.head.as_ref().and_then(|head| head.stable);
    let changing = stable.is_some_and(|stable| stable != target);
    match set.strategy {
        // No step gave it: should steps follow, it is none of theirs.
        Strategy::OnDelete if changing => {
            Some(Some(Grant { revision: target, replace: 0, rollout: 0, surge: false }))
        }
        // A stray that was not swept yet is not its grant.
        _ => records.exception(node).map(|_| None),
    }
}
