//! Which orders count, and from when.

use everynode_agent_core::{Action, Event};
use everynode_model::{Assignment, ClusterId, Generation, ReignId, SessionNonce, Stamp, Term};
use uuid::Uuid;

use crate::bench::{Bench, item, made, order, order_in, reason, stamp};

/// The word with which `actions`, all of them, refuse.
fn refusal(actions: &[Action]) -> &str {
    match actions {
        [Action::Acknowledge { refused: Some(reason), .. }] => &reason.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_counts_before_it_is_on_disk() {
    let mut bench = Bench::new();
    let actions = bench.apply(order(1, [item("a", "1")]));
    assert!(matches!(actions.as_slice(), [Action::Persist(_)]));
    assert_eq!(bench.pass_secs(60), []);
    let actions = bench.apply(Event::Persisted);
    assert!(matches!(
        actions.as_slice(),
        [Action::Acknowledge { refused: None, .. }, Action::Create { .. }]
    ));
}

#[test]
fn an_order_that_cannot_be_written_is_refused_and_the_old_one_goes_on() {
    let mut bench = Bench::running([item("a", "1")]);
    bench.apply(order(2, [item("a", "2")]));
    let actions = bench.apply(Event::PersistFailed(reason()));
    assert_eq!(refusal(&actions), "LedgerNotWritten");
    assert!(bench.status("a").ready);
    assert_eq!(bench.node.wake_at(), None);
    assert_eq!(bench.node.ledger().accepted.unwrap().generation, Generation(1));
}

#[test]
fn of_orders_that_come_during_a_write_only_the_newest_is_kept() {
    let mut bench = Bench::new();
    bench.apply(order(1, [item("a", "1")]));
    assert_eq!(bench.apply(order(2, [item("a", "2")])), []);
    assert_eq!(bench.apply(order(3, [item("a", "3")])), []);
    assert_eq!(refusal(&bench.apply(order(2, [item("a", "2")]))), "StaleOrder");
    let actions = bench.apply(Event::Persisted);
    let Some(Action::Persist(ledger)) = actions.first() else { panic!("{actions:?}") };
    assert_eq!(ledger.accepted.unwrap().generation, Generation(3));
}

#[test]
fn the_same_order_again_is_acknowledged_and_nothing_else() {
    let mut bench = Bench::running([item("a", "1")]);
    let actions = bench.apply(order(1, [item("a", "1")]));
    assert!(matches!(actions.as_slice(), [Action::Acknowledge { refused: None, .. }]));
}

#[test]
fn a_newer_stamp_on_the_same_content_is_written_and_restarts_nothing() {
    let mut bench = Bench::running([item("a", "1")]);
    assert_eq!(bench.accept([item("a", "1")]), []);
    assert_eq!(bench.node.ledger().accepted.unwrap().generation, Generation(2));
}

#[test]
fn every_refusal_has_its_name() {
    let mut bench = Bench::running([item("a", "1")]);
    bench.accept([item("a", "1")]);
    let other = Assignment::new([item("a", "other")]);
    let newer = stamp(3, &other);
    let refused = [
        (Stamp { cluster: ClusterId::new(Uuid::from_u128(99)), ..newer }, "OtherCluster"),
        (Stamp { generation: Generation(1), ..newer }, "StaleOrder"),
        (Stamp { term: Term(0), reign: ReignId::new(Uuid::nil()), ..newer }, "StaleOrder"),
        (Stamp { generation: Generation(2), ..newer }, "ContradictoryOrder"),
        (Stamp { reign: ReignId::new(Uuid::from_u128(6)), ..newer }, "ContradictoryOrder"),
    ];
    for (stamp, code) in refused {
        let actions = bench.apply(order_in("process", stamp, other.clone()));
        assert_eq!(refusal(&actions), code);
    }
    let (assignment, runtimes) = (Assignment::default(), Vec::new());
    let stamp = stamp(3, &assignment);
    let unmarked = Event::Ordered { stamp, assignment, empty_is_meant: false, runtimes };
    assert_eq!(refusal(&bench.apply(unmarked)), "UnmarkedEmpty");
    assert!(bench.status("a").ready);
}

#[test]
fn an_empty_order_that_is_meant_stops_everything() {
    let mut bench = Bench::running([item("a", "1")]);
    let pod = bench.pod("a");
    assert_eq!(bench.accept([]), [Action::Terminate(pod)]);
}

#[test]
fn a_session_is_written_once() {
    let mut bench = Bench::new();
    let session = SessionNonce::new(Uuid::from_u128(8));
    assert!(matches!(bench.apply(Event::Welcomed(session)).as_slice(), [Action::Persist(_)]));
    assert_eq!(bench.apply(Event::Persisted), []);
    assert_eq!(bench.apply(Event::Welcomed(session)), []);
}

#[test]
fn the_ledger_names_the_new_runtime_before_the_pod_is_made_there() {
    let mut bench = Bench::running([item("a", "1")]);
    let assignment = Assignment::new([item("a", "2")]);
    bench.apply(order_in("cri", stamp(2, &assignment), assignment));
    bench.apply(Event::Persisted);
    let key = &item("a", "1").key;
    assert_eq!(bench.node.ledger().places[key], "process", "it still lives there");
    let actions = bench.empty("a");
    assert!(matches!(actions.as_slice(), [Action::Persist(_), Action::Remove(_)]), "{actions:?}");
    assert_eq!(bench.why("a"), "LedgerNotWritten");
    made(&bench.apply(Event::Persisted));
    assert_eq!(bench.node.ledger().places[key], "cri");
}
