//! What always holds, one function for each: looked at after every step, from outside of the cores
//! wherever that is possible.
//!
//! | of | names | where they look |
//! | --- | --- | --- |
//! | the promises | `p1` to `p9` | what lives on the machines, what is on the disks, what people were told |
//! | the coordinator | `c_…` | what leaves it, against what is stored |
//! | the cores' own | those of `check.rs` and `invariants.rs` there | each core after each of its events |
//!
//! What must hold in the end, when all is whole again, is in [`crate::ending`].

use std::collections::BTreeMap;

use everynode_agent_core::{Action, Ledger, PodRef, Standing};
use everynode_coordinator_core::{
    Fleet, NodeStanding, Order, Readiness, RecordKey, Write, invariants,
};
use everynode_model::{
    Assignment, Digest, Generation, Intent, Item, NodeUid, PodKey, PodStatus, PodUid, ReignId,
    SetUid, Stamp, Term, Timestamp,
};

use crate::account::{Account, nodes};
use crate::law::Law;
use crate::machine::{Body, Machine};
use crate::names::CLUSTER;
use crate::store::Records;

/// What a pod was made from.
pub(crate) type Identity = (SetUid, Digest, u64);

/// What an item asks for.
pub(crate) fn identity(item: &Item) -> Identity {
    (item.set, item.revision, item.replace)
}

/// What a ledger has run in a place: what is ordered, or what somebody at the machine holds.
pub(crate) fn to_run<'a>(ledger: &'a Ledger, key: &PodKey) -> Option<&'a Item> {
    match ledger.holds.of(key) {
        Some(hold) if hold.stop => None,
        Some(_) => ledger.holds.kept.get(key),
        None => ledger.assignment.get(key),
    }
}

/// P1: in one place of one machine at most one instance is alive, whoever made it, or two of which one
/// was made beside the other; and none is made where another lives, started while it runs, or removed
/// alive.
pub(crate) fn p1_at_most_one(machine: &Machine, law: &mut Law) {
    const RULE: &str = "p1_at_most_one";
    for (key, bodies) in &machine.bodies {
        let alive: Vec<&Body> = bodies.iter().filter(|body| body.populated()).collect();
        let right = match alive.as_slice() {
            [] | [_] => true,
            [old, new] => new.beside == Some(old.uid),
            _ => false,
        };
        law.holds(RULE, right, || format!("{} live in {key}: {bodies:?}", alive.len()));
    }
    if let Some(wrong) = &machine.wrong {
        law.broke(RULE, wrong.clone());
    }
}

/// P3: what is sound and as the ledger on disk wants it is neither asked nor forced to end, whatever
/// comes and goes meanwhile: coordinators, sessions, agents, orders that say the same. (Who has too much on
/// disk is not sound; that nobody else is evicted, the agent core's checker sees.)
pub(crate) fn p3_what_fits_is_left_alone(
    key: &PodKey,
    body: Option<&Body>,
    disk: &Ledger,
    (stays, alone): (bool, bool),
    law: &mut Law,
) {
    let wanted = to_run(disk, key).filter(|_| stays);
    let fits = |body: &&Body| {
        let (set, replace) = disk.counts_as(key, body.set, body.replace);
        let same = |item: &Item| match item.intent {
            Intent::Run => identity(item) == (set, body.revision, replace),
            // Of two that may stay, one does.
            Intent::Keep => item.set == set && alone,
            Intent::Stop => false,
        };
        let sound = body.is_sound() && !body.exceeds && !body.limits_in_doubt;
        sound && disk.is_ours(body.marks) && wanted.is_some_and(same)
    };
    let fit = body.filter(fits);
    law.holds("p3_what_fits_is_left_alone", fit.is_none(), || {
        format!("{key} is stopped, and is as the ledger wants it: {fit:?}")
    });
}

/// P4: nobody tears down of whom nobody asked it; not for being unknown, lost, or alone.
pub(crate) fn p4_only_the_removed_leave(ledger: &Ledger, account: &Account, law: &mut Law) {
    let asked = ledger.standing == Standing::Active || account.doomed.contains(&ledger.node);
    law.holds("p4_only_the_removed_leave", asked, || {
        format!("node {} leaves, and nobody asked for it: {:?}", ledger.node, ledger.standing)
    });
}

/// P4: a coordinator removes nobody whom nobody wanted gone.
pub(crate) fn p4_only_who_was_asked_to_is_removed(
    stored: &Records,
    account: &Account,
    law: &mut Law,
) {
    for node in nodes(stored).filter(|node| node.standing != NodeStanding::Active) {
        let asked = account.doomed.contains(&node.uid);
        law.holds("p4_only_who_was_asked_to_is_removed", asked, || {
            format!("node {} is {:?}, and nobody asked for it", node.uid, node.standing)
        });
    }
}

/// P4: a node that its coordinator has as removed, and so confirmed, has nothing alive anywhere. One
/// that was copied has a machine of which nobody can know.
pub(crate) fn p4_removed_is_empty(
    stored: &Records,
    machines: &[&Machine],
    account: &Account,
    law: &mut Law,
) {
    for node in nodes(stored) {
        if !matches!(node.standing, NodeStanding::Removed { .. })
            || account.copied.contains(&node.uid)
        {
            continue;
        }
        let alive = machines.iter().flat_map(|machine| machine.alive());
        let alive = alive.filter(|(_, body)| body.marks.node == node.uid).count();
        law.holds("p4_removed_is_empty", alive == 0, || {
            format!("node {} is stored as removed and runs {alive} pods", node.uid)
        });
    }
}

/// P4: a machine whose identity is wiped has nothing of the cluster alive.
pub(crate) fn p4_wiped_is_empty(machine: &Machine, law: &mut Law) {
    let left = machine.alive().find(|(_, body)| body.marks.cluster == CLUSTER);
    law.holds("p4_wiped_is_empty", left.is_none(), || format!("it has left, and {left:?} lives"));
}

/// P5: what an agent has accepted never goes back on its disk.
pub(crate) fn p5_accepted_never_falls(former: &Ledger, ledger: &Ledger, law: &mut Law) {
    let at = |ledger: &Ledger| ledger.accepted.map(|it| (it.term, it.generation));
    law.holds("p5_accepted_never_falls", at(ledger) >= at(former), || {
        format!("accepted fell from {:?} to {:?}", at(former), at(ledger))
    });
}

/// P5: one (term, generation) has one content, and one term one reign.
pub(crate) fn p5_one_content_per_order(former: &Ledger, ledger: &Ledger, law: &mut Law) {
    let (Some(old), Some(new)) = (former.accepted, ledger.accepted) else { return };
    let contradicts = new.contradicts(&old);
    law.holds("p5_one_content_per_order", !contradicts, || {
        format!("{old:?} was accepted, and then {new:?}")
    });
    let whole = new.digest == ledger.assignment.digest();
    law.holds("p5_one_content_per_order", whole, || {
        format!("the ledger's content is not that of its stamp: {ledger:?}")
    });
}

/// P5: an order that orders nothing counts only where it was meant so.
pub(crate) fn p5_empty_only_when_meant(
    former: &Ledger,
    ledger: &Ledger,
    forged: &[(NodeUid, Stamp)],
    law: &mut Law,
) {
    let hollow = ledger.accepted.filter(|stamp| forged.contains(&(ledger.node, *stamp)));
    let right = hollow.is_none() || ledger.accepted == former.accepted;
    law.holds("p5_empty_only_when_meant", right, || {
        format!("an empty order that nobody meant was accepted: {hollow:?}")
    });
}

/// P5: only one's own cluster's orders count.
pub(crate) fn p5_only_its_own_clusters(ledger: &Ledger, law: &mut Law) {
    let whose = ledger.accepted.map(|stamp| stamp.cluster);
    let right = whose.is_none_or(|whose| whose == ledger.cluster);
    law.holds("p5_only_its_own_clusters", right, || format!("accepted: {:?}", ledger.accepted));
}

/// P5, P6: what an agent makes is ordered by the ledger that is on its disk at that moment, also that it
/// is made beside another.
pub(crate) fn p5_acts_only_on_what_is_written(action: &Action, disk: &Ledger, law: &mut Law) {
    let Action::Create { pod, set, revision, replace, beside, .. } = action else { return };
    let item = to_run(disk, &pod.key).filter(|item| item.intent != Intent::Stop);
    let surges = item.is_some_and(|item| item.surge.is_some() && item.intent == Intent::Run);
    let ordered =
        item.map(identity) == Some((*set, *revision, *replace)) && (beside.is_none() || surges);
    law.holds("p5_acts_only_on_what_is_written", ordered, || {
        format!("{pod} is made, and the ledger on disk has {item:?}")
    });
}

/// P9: what this machine can't honour is left until something else is ordered.
pub(crate) fn p9_what_cannot_be_honoured_is_left(
    pod: &PodRef,
    made: Identity,
    refused: Option<&Identity>,
    law: &mut Law,
) {
    law.holds("p9_what_cannot_be_honoured_is_left", refused != Some(&made), || {
        format!("{pod} is made again although it can't be honoured here")
    });
}

/// A token lets in as many machines as it was made for, however often it is tried.
pub(crate) fn c_a_token_admits_no_more_than_it_may(
    stored: &Records,
    account: &Account,
    law: &mut Law,
) {
    let mut joined: BTreeMap<&str, usize> = BTreeMap::new();
    for node in nodes(stored) {
        *joined.entry(&node.token_id).or_default() += 1;
    }
    for (token, joined) in joined {
        let may = account.tokens.get(token).copied().unwrap_or_default();
        law.holds("c_a_token_admits_no_more_than_it_may", joined <= may, || {
            format!("{joined} nodes have joined with {token}, which is for {may}")
        });
    }
}

/// P8: what is counted of a pod only grows, also where another agent adopts it; but for how often probes
/// found it unready, of which no supervisor knows.
pub(crate) fn p8_counts_never_fall(
    counted: &mut BTreeMap<PodUid, (u64, u64)>,
    statuses: &[PodStatus],
    machine: &Machine,
    law: &mut Law,
) {
    for status in statuses {
        let said = (status.restarts, status.times_unready);
        let before = counted.entry(status.uid).or_insert(said);
        let grows =
            said.0 >= before.0 && (said.1 >= before.1 || machine.probes(&status.key, status.uid));
        law.holds("p8_counts_never_fall", grows, || {
            format!("restarts and times unready of {} were {before:?}, are {said:?}", status.key)
        });
        *before = said;
    }
}

/// Orders say what the store says, and what they need is with them.
pub(crate) fn c_orders_follow_the_store(
    node: NodeUid,
    order: &Order,
    replayed: &Fleet,
    law: &mut Law,
) {
    let stored = replayed.assignment(node);
    law.holds("c_orders_follow_the_store", order.assignment == stored, || {
        format!("node {node} is told {:?}, and stored is {stored:?}", order.assignment)
    });
    let active = replayed.standing(node) == Some(NodeStanding::Active);
    law.holds("c_orders_only_to_who_belongs", active, || {
        format!("node {node} gets an order, and is stored as {:?}", replayed.standing(node))
    });
}

/// A node that counts as there was heard of within its lease.
pub(crate) fn c_lost_is_by_lease(
    fleet: &Fleet,
    now: Timestamp,
    heard: impl Fn(NodeUid) -> Option<Timestamp>,
    law: &mut Law,
) {
    for node in fleet.nodes().iter().filter(|node| node.readiness == Readiness::Ready) {
        let uid = node.record.uid;
        let within = heard(uid).is_some_and(|heard| heard.after(fleet.config().lease) > now);
        law.holds("c_lost_is_by_lease", within, || {
            format!("node {uid} is ready at {now}, and was last heard of at {:?}", heard(uid))
        });
    }
}

/// What agents say is never stored, but for events: so a calm fleet, and a lost one, writes nothing
/// that anything follows from.
pub(crate) fn c_observations_store_only_events(writes: &[Write], law: &mut Law) {
    let other = writes.iter().find(|write| !matches!(write.key, RecordKey::Event(_)));
    law.holds("c_observations_store_only_events", other.is_none(), || format!("{other:?}"));
}

/// A fleet that is restored from the store is the one that was there.
pub(crate) fn c_a_restart_changes_nothing(fleet: &Fleet, replayed: &Fleet, law: &mut Law) {
    const RULE: &str = "c_a_restart_changes_nothing";
    let (is, would_be) = (assignments(fleet), assignments(replayed));
    law.holds(RULE, is == would_be, || format!("{is:?}, and after a restart {would_be:?}"));
    for uid in is.keys() {
        let (is, would_be) = (fleet.standing(*uid), replayed.standing(*uid));
        law.holds(RULE, is == would_be, || format!("{uid}: {is:?}, then {would_be:?}"));
    }
}

/// No node is given anything new by a step before all had the time to call.
pub(crate) fn c_no_step_before_nodes_could_call(
    waits: bool,
    before: &BTreeMap<NodeUid, Assignment>,
    fleet: &Fleet,
    law: &mut Law,
) {
    let same = !waits || *before == assignments(fleet);
    law.holds("c_no_step_before_nodes_could_call", same, || {
        "a rollout went on within the registration window".into()
    });
}

/// See the core's function of that name.
pub(crate) fn a_step_keeps_the_budget(before: &invariants::Budgets, fleet: &Fleet, law: &mut Law) {
    hear("a_step_keeps_the_budget", invariants::a_step_keeps_the_budget(before, fleet), law);
}

/// See the core's function of that name.
pub(crate) fn a_step_keeps_the_surge(before: &invariants::Surges, fleet: &Fleet, law: &mut Law) {
    hear("a_step_keeps_the_surge", invariants::a_step_keeps_the_surge(before, fleet), law);
}

/// See the core's function of that name.
pub(crate) fn a_step_obeys_its_policy(
    before: &BTreeMap<SetUid, invariants::Progress>,
    fleet: &Fleet,
    law: &mut Law,
) {
    hear("a_step_obeys_its_policy", invariants::a_step_obeys_its_policy(before, fleet), law);
}

/// See the core's function of that name.
pub(crate) fn a_step_counts_whom_it_lost(
    moved: &mut invariants::Moved,
    before: &BTreeMap<SetUid, invariants::Progress>,
    fleet: &Fleet,
    law: &mut Law,
) {
    let result = moved.a_step_counts_whom_it_lost(before, fleet);
    hear("a_step_counts_whom_it_lost", result, law);
}

/// All that the coordinator's core knows to check of itself at rest.
pub(crate) fn check_fleet(fleet: &Fleet, law: &mut Law) {
    hear("counters_equal_a_recount", invariants::counters_equal_a_recount(fleet), law);
    hear("no_order_ahead_of_records", invariants::no_order_ahead_of_records(fleet), law);
    hear("no_order_while_held", invariants::no_order_while_held(fleet), law);
    hear("grants_name_kept_revisions", invariants::grants_name_kept_revisions(fleet), law);
    hear("grants_name_known_nodes", invariants::grants_name_known_nodes(fleet), law);
    hear("names_are_unique", invariants::names_are_unique(fleet), law);
    hear("every_no_has_a_reason", invariants::every_no_has_a_reason(fleet), law);
    hear("deadlines_are_kept", invariants::deadlines_are_kept(fleet), law);
}

/// What every node is to run.
pub(crate) fn assignments(fleet: &Fleet) -> BTreeMap<NodeUid, Assignment> {
    let nodes = fleet.nodes();
    nodes.iter().map(|node| (node.record.uid, fleet.assignment(node.record.uid))).collect()
}

/// What was handed out in one history of the store.
#[derive(Debug, Default)]
pub(crate) struct Handed {
    newest: BTreeMap<NodeUid, Stamp>,
    contents: BTreeMap<(NodeUid, ReignId, Term, Generation), Digest>,
}

impl Handed {
    /// A node's next order is a higher one, or the same.
    pub(crate) fn c_generations_never_fall(&mut self, node: NodeUid, stamp: &Stamp, law: &mut Law) {
        if let Some(before) = self.newest.insert(node, *stamp) {
            let result = invariants::generations_never_fall(&before, stamp);
            hear("c_generations_never_fall", result, law);
        }
    }

    /// What one reign has given a number to, it never gives that number to anything else.
    pub(crate) fn c_one_content_per_generation(
        &mut self,
        node: NodeUid,
        stamp: &Stamp,
        law: &mut Law,
    ) {
        let place = (node, stamp.reign, stamp.term, stamp.generation);
        let first = *self.contents.entry(place).or_insert(stamp.digest);
        law.holds("c_one_content_per_generation", first == stamp.digest, || {
            format!("{place:?} was {first:?} and is {:?}", stamp.digest)
        });
    }
}

fn hear(rule: &'static str, result: Result<(), invariants::Violation>, law: &mut Law) {
    law.holds(rule, result.is_ok(), || match result {
        Err(violation) => violation.detail,
        Ok(()) => String::new(),
    });
}
