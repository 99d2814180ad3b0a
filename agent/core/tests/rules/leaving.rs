//! The way out: stop, say so, be heard, forget.

use everynode_agent_core::{Action, Departure, Event, Found, Ledger, Marks, Standing};
use everynode_model::{ClusterId, NodeUid, SessionNonce};
use uuid::Uuid;

use crate::bench::{Bench, OURS, found, item, key, order, reason};

#[test]
fn all_is_stopped_then_said_then_written_then_wiped() {
    let mut bench = Bench::running([item("a", "1")]);
    let pod = bench.pod("a");
    let actions = bench.apply(Event::Deregistered);
    assert!(matches!(&actions[..], [Action::Persist(_), Action::Terminate(it)] if *it == pod));
    assert_eq!(bench.apply(Event::Persisted), []);
    assert_eq!(bench.empty("a"), [Action::Remove(pod), Action::ConfirmDeparture]);
    assert!(matches!(bench.apply(Event::DepartureConfirmed).as_slice(), [Action::Persist(_)]));
    assert_eq!(bench.apply(Event::Persisted), [Action::Wipe]);
    assert_eq!(bench.node.ledger().standing, Standing::Left);
}

#[test]
fn a_full_disk_keeps_nothing_running_and_nothing_is_said_before_it_is_written() {
    let mut bench = Bench::running([item("a", "1")]);
    bench.apply(Event::Deregistered);
    assert_eq!(bench.apply(Event::PersistFailed(reason())), []);
    assert!(matches!(bench.empty("a").as_slice(), [Action::Remove(_)]));
    assert!(bench.node.is_empty_here());
    let why = bench.node.why_not_left().unwrap().message;
    assert_eq!(why, "the ledger can't be written: of a reason");
    assert!(matches!(bench.pass_secs(1).as_slice(), [Action::Persist(_)]));
    assert_eq!(bench.apply(Event::Persisted), [Action::ConfirmDeparture]);
}

#[test]
fn a_machine_that_leaves_accepts_no_order() {
    let mut bench = Bench::new();
    bench.apply(order(1, [item("a", "1")]));
    bench.apply(order(2, [item("a", "2")]));
    let refused = |actions: &[Action]| matches!(actions, [Action::Acknowledge { refused: Some(why), .. }] if why.code == "Leaving");
    assert!(refused(&bench.apply(Event::LeaveRequested)), "the one that waited");
    assert!(refused(&bench.apply(order(3, [item("a", "3")]))), "and every later one");
    let actions = bench.apply(Event::Persisted);
    assert!(matches!(actions.as_slice(), [Action::Persist(_), Action::Acknowledge { .. }]));
}

#[test]
fn it_goes_on_leaving_after_a_restart() {
    let mut bench = Bench::running([item("a", "1")]);
    bench.apply(Event::LeaveRequested);
    bench.apply(Event::Persisted);
    let ledger = bench.node.ledger().clone();
    assert_eq!(ledger.standing, Standing::Leaving(Departure::Requested));
    let mut bench = Bench::unseen(ledger);
    let actions = bench.apply(Event::Looked(vec![found(&item("a", "1"), 50, Some(OURS))]));
    assert!(matches!(actions.as_slice(), [Action::Terminate(_)]));
}

#[test]
fn it_says_again_that_it_is_empty_until_it_is_heard() {
    let mut bench = Bench::new();
    bench.apply(Event::Deregistered);
    assert_eq!(bench.apply(Event::Persisted), [Action::ConfirmDeparture]);
    assert_eq!(bench.pass_secs(60), []);
    assert_eq!(bench.apply(Event::Deregistered), [Action::ConfirmDeparture]);
    let actions = bench.apply(Event::Welcomed(SessionNonce::new(Uuid::from_u128(8))));
    assert!(actions.contains(&Action::ConfirmDeparture));
}

#[test]
fn a_confirmation_that_comes_too_early_is_none() {
    let mut bench = Bench::running([item("a", "1")]);
    assert_eq!(bench.apply(Event::DepartureConfirmed), []);
    bench.apply(Event::Deregistered);
    bench.apply(Event::Persisted);
    assert_eq!(bench.apply(Event::DepartureConfirmed), []);
    assert!(bench.node.why_not_left().unwrap().message.contains("default/a"));
}

#[test]
fn another_clusters_pod_beside_ours_does_not_keep_the_machine() {
    let foreign = Marks { cluster: ClusterId::new(Uuid::from_u128(9)), ..OURS };
    for holders in [vec![Some(OURS), Some(foreign)], vec![Some(OURS)]] {
        let mut bench = Bench::unseen(Bench::new().node.ledger().clone());
        let found =
            holders.iter().zip(50..).map(|(marks, uid)| found(&item("a", "1"), uid, *marks));
        bench.apply(Event::Looked(found.collect()));
        bench.apply(Event::Deregistered);
        // What was found, where it is kept, and then the departure.
        bench.apply(Event::Persisted);
        bench.apply(Event::Persisted);
        assert!(!bench.node.is_empty_here());
        let actions = bench.apply(Event::OursGone(key("a")));
        assert!(matches!(actions[..], [Action::Remove(_), Action::ConfirmDeparture]));
    }
}

#[test]
fn strays_of_the_cluster_go_too_and_others_stay() {
    let stray = Marks { node: NodeUid::new(Uuid::from_u128(3)), ..OURS };
    let unmarked = Found { supervised: None, ..found(&item("b", "1"), 51, None) };
    let mut bench = Bench::unseen(Bench::new().node.ledger().clone());
    bench.apply(Event::Looked(vec![found(&item("a", "1"), 50, Some(stray)), unmarked]));
    let actions = bench.apply(Event::Deregistered);
    assert!(
        matches!(&actions[..], [Action::Persist(_), Action::Terminate(pod)] if pod.key == key("a"))
    );
    bench.apply(Event::Persisted);
    assert!(bench.empty("a").contains(&Action::ConfirmDeparture));
}

#[test]
fn a_machine_that_goes_down_stops_all_writes_nothing_and_stays() {
    let mut bench = Bench::running([item("a", "1")]);
    let pod = bench.pod("a");
    assert_eq!(bench.apply(Event::GoingDown), [Action::Terminate(pod.clone())]);
    assert_eq!(bench.node.why(&key("a")).unwrap().code, "NodeShutdown");
    assert!(!bench.node.is_empty_here(), "not before its place was seen empty");
    assert_eq!(bench.empty("a"), [Action::Remove(pod)]);
    assert!(bench.node.is_empty_here());
    assert_eq!(bench.node.standing(), Standing::Active);
    assert_eq!(bench.pass_secs(600), []);

    let mut bench = Bench::unseen(bench.node.ledger().clone());
    let actions = bench.apply(Event::Looked(Vec::new()));
    assert!(matches!(actions.as_slice(), [Action::Create { .. }]), "the next boot: {actions:?}");
}

#[test]
fn a_machine_that_goes_down_stops_also_what_it_would_wait_for() {
    let mut bench = Bench::unseen(Ledger::joined(OURS.cluster, OURS.node));
    bench.apply(Event::GoingDown);
    let stray = Marks { node: NodeUid::new(Uuid::from_u128(77)), ..OURS };
    let actions = bench.apply(Event::Looked(vec![found(&item("a", "1"), 50, Some(stray))]));
    assert!(matches!(actions.as_slice(), [Action::Terminate(_)]), "{actions:?}");
}
