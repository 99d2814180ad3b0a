//! Each invariant is seen red once, by bad input.

use std::collections::BTreeMap;

use everynode_agent_core::{Departure, Marks};
use everynode_coordinator_core::{NodeOrder, NodeRecord};
use everynode_model::{Labels, NodeName, PodUid, WallTime};
use uuid::Uuid;

use super::*;

pub(crate) fn uid(number: u128) -> NodeUid {
    NodeUid::new(Uuid::from_u128(number))
}

/// A stored node that does not belong any more, or does.
pub(crate) fn node(number: u128, standing: NodeStanding) -> Record {
    Record::Node(NodeRecord {
        uid: uid(number),
        name: NodeName::new(&format!("node-{number}")).unwrap(),
        standing,
        labels: Labels::new(),
        taints: Vec::new(),
        stood: BTreeMap::new(),
        joined_labels: Labels::new(),
        public_key: Digest::of(b"key"),
        machine_id: String::new(),
        token_id: String::new(),
        joined_at: WallTime::default(),
        unschedulable: false,
        order: NodeOrder::None,
        granted: Default::default(),
        resource_version: 1,
    })
}

pub(crate) const GONE: NodeStanding =
    NodeStanding::Removed { confirmed_at: WallTime::from_unix_millis(0) };
pub(crate) const LEAVING: NodeStanding =
    NodeStanding::Leaving { since: WallTime::from_unix_millis(0) };

/// The machine of node 1.
pub(crate) fn seat() -> Seat {
    let seat = Seat::new("node-1".into(), 1, Log::default());
    seat.remember(uid(1));
    seat
}

fn life(number: u128, place: &str) -> Life {
    let cluster = everynode_model::ClusterId::new(Uuid::from_u128(9));
    Life {
        key: PodKey::new("default", place).unwrap(),
        uid: PodUid::new(Uuid::from_u128(number)),
        beside: None,
        marks: Marks { cluster, node: uid(number) },
        set: SetUid::new(Uuid::from_u128(7)),
        revision: Digest::of(b"1"),
        replace: 0,
        whole: true,
    }
}

fn is_p(number: u8, looked: Result<(), Violation>) {
    let violation = looked.unwrap_err();
    assert!(violation.starts_with(&format!("P{number}: ")), "{violation}");
}

#[test]
fn two_pods_in_one_place_are_seen() {
    let nothing = BTreeSet::new();
    p1_at_most_one(&[life(1, "a"), life(1, "b")], &nothing).unwrap();
    is_p(1, p1_at_most_one(&[life(1, "a"), life(1, "b"), life(2, "a")], &nothing));
}

#[test]
fn a_second_pod_that_was_not_ordered_or_not_made_beside_the_first_is_seen() {
    let old = life(1, "a");
    let new = Life { beside: Some(old.uid), ..life(2, "a") };
    let made = (new.key.clone(), new.set, new.revision, new.replace);
    let (surged, nothing) = (BTreeSet::from([made]), BTreeSet::new());
    p1_at_most_one(&[old.clone(), new.clone()], &surged).unwrap();
    is_p(1, p1_at_most_one(&[old.clone(), new.clone()], &nothing));
    is_p(1, p1_at_most_one(&[old.clone(), life(2, "a")], &surged));
    let third = Life { beside: Some(new.uid), ..life(3, "a") };
    is_p(1, p1_at_most_one(&[old, new, third], &surged));
}

#[test]
fn starts_and_stops_without_a_cause_are_seen() {
    let place = PodKey::new("default", "a").unwrap();
    p3_no_start_without_a_cause(&place, 2, 2).unwrap();
    is_p(3, p3_no_start_without_a_cause(&place, 2, 1));
    let stop = |settled| p3_no_stop_without_a_cause(&place, settled, SETTLED * 2);
    stop(None).unwrap();
    stop(Some(SETTLED * 2)).unwrap();
    is_p(3, stop(Some(SETTLED)));
}

#[test]
fn who_is_gone_and_lives_or_was_never_asked_to_go_is_seen() {
    let seats = [seat()];
    let mut asked = Account::default();
    asked.doomed.insert(uid(1));
    let mut witness = Witness::default();
    let look = |records: &[Record], witness: &Witness, law: &Law, account: &Account| {
        p4_gone_is_gone(records, &seats, std::slice::from_ref(witness), law, account)
    };
    let law = Law::default();
    look(&[node(1, GONE)], &witness, &law, &asked).unwrap();
    look(&[node(1, NodeStanding::Active)], &witness, &law, &Account::default()).unwrap();
    is_p(4, look(&[node(1, LEAVING)], &witness, &law, &Account::default()));
    // Nobody but the coordinator knows of it.
    look(&[node(2, LEAVING)], &witness, &law, &Account::default()).unwrap();

    witness.alive = vec![life(1, "a")];
    look(&[node(1, LEAVING)], &witness, &law, &asked).unwrap();
    is_p(4, look(&[node(1, GONE)], &witness, &law, &asked));
    let copied = Law { copied: BTreeSet::from([uid(1)]), ..Law::default() };
    look(&[node(1, GONE)], &witness, &copied, &asked).unwrap();
}

#[test]
fn who_leaves_unasked_is_seen() {
    let cluster = everynode_model::ClusterId::new(Uuid::from_u128(9));
    let mut ledger = Ledger::joined(cluster, uid(1));
    p4_only_the_removed_leave(&ledger, &Account::default()).unwrap();
    ledger.standing = Standing::Leaving(Departure::Requested);
    let mut asked = Account::default();
    asked.doomed.insert(uid(1));
    p4_only_the_removed_leave(&ledger, &asked).unwrap();
    is_p(4, p4_only_the_removed_leave(&ledger, &Account::default()));
}
