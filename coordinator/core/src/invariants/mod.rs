//! What always holds of a fleet, as functions: checked after every step of every test.

mod rollouts;
mod surges;

use std::collections::{BTreeMap, BTreeSet};

use everynode_model::{Digest, NodeUid, ObjectKey, PodKey, SetUid, Stamp};

use crate::Fleet;
use crate::record::NodeStanding;
use crate::records::{Place, SetRecords};
use crate::status::{Stand, Tally};
use crate::why::WhyFilter;

pub use rollouts::{Moved, Progress, a_step_obeys_its_policy, progress};
pub use surges::{Surges, a_step_keeps_the_surge, surges};

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The invariant's name: its function's.
    pub rule: &'static str,
    /// What was found.
    pub detail: String,
}

/// Checks everything that can be seen of one fleet at rest.
///
/// # Errors
/// The first invariant that does not hold.
pub fn check(fleet: &Fleet) -> Result<(), Violation> {
    counters_equal_a_recount(fleet)?;
    no_order_ahead_of_records(fleet)?;
    no_order_while_held(fleet)?;
    grants_name_kept_revisions(fleet)?;
    revisions_name_kept_content(fleet)?;
    namespaces_that_go_are_known(fleet)?;
    grants_name_known_nodes(fleet)?;
    names_are_unique(fleet)?;
    every_no_has_a_reason(fleet)?;
    deadlines_are_kept(fleet)
}

/// The sums that events keep up to date are those of a count from scratch.
///
/// # Errors
/// When they differ.
pub fn counters_equal_a_recount(fleet: &Fleet) -> Result<(), Violation> {
    let mut reported: BTreeMap<&PodKey, BTreeSet<NodeUid>> = BTreeMap::new();
    for (node, seen) in &fleet.seen {
        seen.places.keys().for_each(|key| _ = reported.entry(key).or_default().insert(*node));
    }
    holds(
        reported.into_iter().eq(fleet.reported.iter().map(|(key, nodes)| (key, nodes.clone()))),
        "counters_equal_a_recount",
        || "the index by place is not what was reported".to_owned(),
    )?;
    for (uid, records) in &fleet.records.sets {
        let mut recount = Tally::default();
        for node in fleet.records.nodes.keys() {
            recount.replace(*node, fleet.cell(records, *uid, *node).0);
        }
        for node in records.chunks.values().flat_map(|chunk| chunk.keys()) {
            recount.replace(*node, fleet.cell(records, *uid, *node).0);
        }
        let empty = Tally::default();
        let kept = fleet.tallies.get(uid).unwrap_or(&empty);
        let same = *kept == recount;
        holds(same, "counters_equal_a_recount", || {
            let differs =
                recount.cells.iter().find(|(node, cell)| kept.cells.get(node) != Some(*cell));
            format!(
                "{uid}: kept {:?}, counted {:?}, first {differs:?}",
                kept.status, recount.status
            )
        })?;
    }
    Ok(())
}

/// What a node was told is what the records say, unless it is about to be told anew.
///
/// # Errors
/// When an order says something else.
pub fn no_order_ahead_of_records(fleet: &Fleet) -> Result<(), Violation> {
    for (node, order) in fleet.desk.handed() {
        let connected = fleet.seen.get(node).is_some_and(|seen| seen.session.is_some());
        let active = fleet.records.active(*node).is_some();
        let settled = connected && active && !fleet.desk.is_due(*node);
        let right = order.assignment == fleet.told(*node);
        holds(!settled || right, "no_order_ahead_of_records", || format!("{node}: {order:?}"))?;
        let whole = order.assignment.items().all(|item| order.bodies.contains_key(&item.revision));
        holds(whole, "no_order_ahead_of_records", || format!("{node} lacks a body: {order:?}"))?;
        let revisions = order
            .assignment
            .items()
            .filter_map(|item| fleet.records.sets.get(&item.set)?.revisions.get(&item.revision));
        let lacks = revisions.flat_map(|it| &it.blobs).find(|it| !order.bodies.contains_key(*it));
        holds(lacks.is_none(), "no_order_ahead_of_records", || format!("{node} lacks {lacks:?}"))?;
    }
    Ok(())
}

/// While orders are held, nobody has one of this reign.
///
/// # Errors
/// When a node was given one.
pub fn no_order_while_held(fleet: &Fleet) -> Result<(), Violation> {
    let given = fleet.desk.handed().keys().next().filter(|_| fleet.records.hold.is_some());
    holds(given.is_none(), "no_order_while_held", || format!("{given:?} has an order"))
}

/// The next order of a node has a higher generation than the one before, or is the same one.
///
/// # Errors
/// When the generation has fallen, or stands for something else.
pub fn generations_never_fall(before: &Stamp, next: &Stamp) -> Result<(), Violation> {
    let follows = next.is_newer_than(before) || next == before;
    holds(follows, "generations_never_fall", || format!("{before:?}, then {next:?}"))
}

/// Grants are only for revisions that have a record.
///
/// # Errors
/// When one is not.
pub fn grants_name_kept_revisions(fleet: &Fleet) -> Result<(), Violation> {
    for (uid, records) in fleet.records.sets.iter().filter(|(_, set)| set.record.is_some()) {
        let head =
            records.head.iter().flat_map(|head| head.stable.into_iter().chain([head.target]));
        let exceptions = records.chunks.values().flat_map(|chunk| chunk.values());
        for digest in head.chain(exceptions.map(|grant| grant.revision)) {
            let kept = records.revisions.contains_key(&digest);
            holds(kept, "grants_name_kept_revisions", || format!("{uid}: {digest:?}"))?;
        }
    }
    Ok(())
}

/// The content that revisions name is kept, and each is known by who names it; readers of objects are
/// those that their templates say.
///
/// # Errors
/// When one is not.
pub fn revisions_name_kept_content(fleet: &Fleet) -> Result<(), Violation> {
    const RULE: &str = "revisions_name_kept_content";
    let mut uses: BTreeMap<Digest, u32> = BTreeMap::new();
    let mut readers: BTreeMap<&ObjectKey, BTreeSet<SetUid>> = BTreeMap::new();
    for (uid, records) in &fleet.records.sets {
        for digest in records.revisions.values().flat_map(|revision| &revision.blobs) {
            let kept = fleet.records.blobs.contains_key(digest);
            holds(kept, RULE, || format!("{uid}: {digest:?}"))?;
            *uses.entry(*digest).or_default() += 1;
        }
        for object in records.record.iter().flat_map(|record| &record.set.reads) {
            readers.entry(object).or_default().insert(*uid);
        }
    }
    holds(uses == fleet.records.blob_uses, RULE, || "uses are counted wrongly".to_owned())?;
    let known = fleet.records.readers.iter().map(|(key, uids)| (key, uids.clone()));
    holds(readers.into_iter().eq(known), RULE, || "the index of readers is wrong".to_owned())
}

/// The index of namespaces that are being deleted is what their records say.
///
/// # Errors
/// When it is not.
pub fn namespaces_that_go_are_known(fleet: &Fleet) -> Result<(), Violation> {
    let records = &fleet.records;
    let going = records.objects.values().filter(|record| record.terminating.is_some());
    let same = going.map(|record| &record.key).eq(&records.going);
    holds(same, "namespaces_that_go_are_known", || format!("known: {:?}", records.going))
}

/// Exceptions are of nodes that have a place for the set, or are about to be swept.
///
/// # Errors
/// When one is neither.
pub fn grants_name_known_nodes(fleet: &Fleet) -> Result<(), Violation> {
    for (uid, records) in fleet.records.sets.iter().filter(|(_, set)| set.record.is_some()) {
        for node in records.chunks.values().flat_map(|chunk| chunk.keys()) {
            let active = fleet.records.active(*node);
            let placed = active.map(|node| records.place(node) != Place::None);
            // Only nodes that are gone may wait for a step; decisions take care of the others.
            let right = placed.unwrap_or_else(|| {
                let strays = fleet.tallies.get(uid).map(|tally| &tally.strays);
                strays.is_some_and(|strays| strays.iter().any(|(.., stray)| stray == node))
            });
            holds(right, "grants_name_known_nodes", || format!("{uid}: {node}"))?;
        }
    }
    Ok(())
}

/// No two Active nodes have one name.
///
/// # Errors
/// When two have.
pub fn names_are_unique(fleet: &Fleet) -> Result<(), Violation> {
    let nodes = fleet.records.nodes.values();
    for node in nodes.filter(|node| node.standing == NodeStanding::Active) {
        let holder = fleet.records.names.get(&node.name);
        holds(holder == Some(&node.uid), "names_are_unique", || format!("{node:?}: {holder:?}"))?;
    }
    Ok(())
}

/// Every node that has a place for a set and does not run the wanted revision says why; no node
/// that does is called anything but fine.
///
/// # Errors
/// When one does not.
pub fn every_no_has_a_reason(fleet: &Fleet) -> Result<(), Violation> {
    let mut told = 0;
    for line in fleet.why(&WhyFilter::default()) {
        let Some((uid, records)) = fleet.records.set(&line.key) else { continue };
        if records.place(&line.node) != Place::Run {
            continue;
        }
        told += 1;
        let (cell, _) = fleet.cell(records, uid, line.node.uid);
        let settled = cell.updated && cell.available && cell.stand == Stand::Done;
        let said = !line.reason.code.is_empty() && (settled || !line.fine);
        holds(said, "every_no_has_a_reason", || format!("{line:?}, though {cell:?}"))?;
    }
    let wanted: u32 = fleet.tallies.values().map(|tally| tally.status.desired).sum();
    holds(told == wanted, "every_no_has_a_reason", || format!("{told} lines for {wanted} places"))
}

/// Every connected node has a lease that will be looked at.
///
/// # Errors
/// When one would be forgotten.
pub fn deadlines_are_kept(fleet: &Fleet) -> Result<(), Violation> {
    for (node, seen) in fleet.seen.iter().filter(|(_, seen)| seen.is_ready()) {
        let kept = fleet.leases.contains(&(seen.deadline, *node));
        holds(kept, "deadlines_are_kept", || format!("{node}: {seen:?}"))?;
    }
    Ok(())
}

/// Of each set: how many nodes spend its budget, how large that is, and what its steps lead to.
pub type Budgets = BTreeMap<SetUid, (usize, usize, Option<Digest>)>;

/// See [`Budgets`].
pub fn budgets(fleet: &Fleet) -> Budgets {
    let spent = |(uid, records): (&SetUid, &SetRecords)| {
        let tally = fleet.tallies.get(uid)?;
        let set = records.record.as_ref().map(|record| &record.set);
        let goal = records.head.as_ref().zip(set).map(|(head, set)| head.goal(set));
        Some((*uid, (tally.spending(), Fleet::budget(records, tally), goal)))
    };
    fleet.records.sets.iter().filter_map(spent).collect()
}

/// A step of a rollout makes no more pods unavailable than the budget allows. It may well find
/// more of them so; and the step by which a rollout turns back moves nothing, but judges by another
/// revision who is right.
///
/// # Errors
/// When it does.
pub fn a_step_keeps_the_budget(before: &Budgets, fleet: &Fleet) -> Result<(), Violation> {
    for (uid, (spent, budget, goal)) in budgets(fleet) {
        let (was, _, led_to) = before.get(&uid).copied().unwrap_or((0, 0, goal));
        let kept = spent <= was.max(budget) || led_to != goal;
        holds(kept, "a_step_keeps_the_budget", || {
            format!("{uid}: {was} unavailable before, {spent} after, {budget} allowed")
        })?;
    }
    Ok(())
}

fn holds(
    right: bool,
    rule: &'static str,
    detail: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if right { Ok(()) } else { Err(Violation { rule, detail: detail() }) }
}
