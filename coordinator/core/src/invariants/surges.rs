//! On how many nodes a step may have a second pod started, seen from grants and reports.

use std::collections::BTreeMap;

use everynode_model::{NodeUid, SetUid, Strategy};

use super::{Violation, holds};
use crate::Fleet;
use crate::records::{Place, SetRecords};

/// Of each set: on how many nodes an available pod is to be taken over from, and on how many that may be
/// so at a time; without a second number where its strategy does not surge.
pub type Surges = BTreeMap<SetUid, (usize, Option<usize>)>;

/// See [`Surges`]; counted anew, without what is kept up to date.
pub fn surges(fleet: &Fleet) -> Surges {
    let count = |(uid, records): (&SetUid, &SetRecords)| {
        let record = records.record.as_ref()?;
        let nodes = fleet.records.names.values().filter_map(|uid| fleet.records.active(*uid));
        let placed: Vec<NodeUid> =
            nodes.filter(|node| records.place(node) == Place::Run).map(|node| node.uid).collect();
        let two = placed.iter().filter(|node| has_two(fleet, records, *uid, **node)).count();
        let most = match record.set.strategy {
            Strategy::RollingUpdate { max_surge, .. } if !max_surge.is_zero() => {
                Some(max_surge.of(placed.len()))
            }
            Strategy::RollingUpdate { .. } | Strategy::OnDelete => None,
        };
        Some((*uid, (two, most)))
    };
    fleet.records.sets.iter().filter_map(count).collect()
}

/// A step has no more pods started beside available ones than the strategy allows. Beside one that is
/// not available it may: that one goes at once.
///
/// # Errors
/// When it does.
pub fn a_step_keeps_the_surge(before: &Surges, fleet: &Fleet) -> Result<(), Violation> {
    for (uid, (two, most)) in surges(fleet) {
        let was = before.get(&uid).map_or(0, |(was, _)| *was);
        let kept = most.is_none_or(|most| two <= was.max(most));
        holds(kept, "a_step_keeps_the_surge", || {
            format!("{uid}: {was} nodes with two pods before, {two} after, {most:?} allowed")
        })?;
    }
    Ok(())
}

/// Whether the node was granted another pod than the available one that counts there, to be started
/// beside it.
fn has_two(fleet: &Fleet, records: &SetRecords, set: SetUid, node: NodeUid) -> bool {
    let told = || {
        let (grant, record) = (records.grant(node)?, records.record.as_ref()?);
        let seen = fleet.seen.get(&node).filter(|seen| seen.is_ready())?;
        // What people hold as it is waits for them, and for no step.
        let ordered = fleet.records.active(node)?.order.holds();
        let place = seen.places.get(&record.set.key)?;
        let pod = place.pod_of(set).filter(|pod| crate::seen::is_ready(pod))?;
        let available = place.available_at(pod, record.set.min_ready) <= fleet.now.steady;
        let other = (pod.revision, pod.replace) != (grant.revision, grant.replace);
        Some(grant.surge && available && other && !ordered && !pod.is_held())
    };
    told().unwrap_or(false)
}
