//! What an agent does about what it finds.

use std::time::Duration;

use everynode_agent_core::check::{Checker, Violation};
use everynode_agent_core::{Action, Event, Found, Ledger, Marks, PodRef};
use everynode_model::{ClusterId, Exit, NodeUid};
use uuid::Uuid;

use crate::bench::{Bench, CLUSTER, GRACE, NODE, OURS, found, item, key, made};

const STRAY: Marks = Marks { node: NodeUid::new(Uuid::from_u128(3)), ..OURS };
const FOREIGN: Marks = Marks { cluster: ClusterId::new(Uuid::from_u128(9)), ..OURS };

/// An agent that starts again with a ledger that orders "a" in revision "1".
fn restarted() -> Bench {
    let before = Bench::running([item("a", "1")]);
    Bench::unseen(before.node.ledger().clone())
}

fn unsupervised(marks: Option<Marks>) -> Found {
    Found { supervised: None, ..found(&item("a", "1"), 50, marks) }
}

#[test]
fn what_lives_and_is_wanted_is_adopted_without_a_touch() {
    let mut bench = restarted();
    assert_eq!(bench.why("a"), "NotLooked");
    let mut one = found(&item("a", "1"), 50, Some(OURS));
    one.supervised.as_mut().unwrap().restarts = 3;
    assert_eq!(bench.apply(Event::Looked(vec![one])), []);
    let status = bench.status("a");
    assert!(status.ready);
    assert_eq!((status.restarts, status.ready_for), (3, Duration::from_secs(60)));
}

#[test]
fn what_lives_and_is_not_wanted_like_this_is_replaced() {
    let mut bench = restarted();
    let actions = bench.apply(Event::Looked(vec![found(&item("a", "0"), 50, Some(OURS))]));
    assert!(matches!(actions.as_slice(), [Action::Terminate(_)]));
}

#[test]
fn a_container_found_down_is_restarted_after_what_is_left_of_its_back_off() {
    let mut bench = restarted();
    let mut one = found(&item("a", "1"), 50, Some(OURS));
    let supervised = one.supervised.as_mut().unwrap();
    supervised.restarts = 1;
    supervised.containers[0].pid = None;
    supervised.containers[0].last_exit = Some(Exit::Code(1));
    supervised.containers[0].for_time = Duration::from_secs(4);
    assert_eq!(bench.apply(Event::Looked(vec![one])), []);
    assert_eq!(bench.why("a"), "CrashLoopBackOff");
    assert_eq!(bench.pass_secs(5), []);
    assert!(matches!(bench.pass_secs(1).as_slice(), [Action::Start { .. }]));
}

#[test]
fn after_a_reboot_everything_is_made_from_the_ledger() {
    let mut bench = restarted();
    let leftover = Found { populated: false, ..unsupervised(Some(OURS)) };
    made(&bench.apply(Event::Looked(vec![leftover])));
}

#[test]
fn what_was_told_to_end_is_waited_for_and_killed_after_its_grace() {
    let mut bench = restarted();
    let mut one = found(&item("a", "1"), 50, Some(OURS));
    one.supervised.as_mut().unwrap().terminating = true;
    assert_eq!(bench.apply(Event::Looked(vec![one])), []);
    assert_eq!(bench.pass(GRACE), [Action::Kill(key("a"))]);
    made(&bench.empty("a"));
}

#[test]
fn what_has_no_supervisor_or_no_readable_id_is_killed() {
    let nameless = Found { pod: None, ..found(&item("a", "1"), 50, Some(OURS)) };
    for one in [unsupervised(Some(OURS)), nameless] {
        let mut bench = restarted();
        assert_eq!(bench.apply(Event::Looked(vec![one])), [Action::Kill(key("a"))]);
        let actions = bench.empty("a");
        assert!(matches!(actions.last(), Some(Action::Create { .. })));
    }
}

#[test]
fn of_two_in_one_place_none_is_adopted() {
    let mut bench = restarted();
    let two = [50, 51].map(|uid| found(&item("a", "1"), uid, Some(OURS)));
    let actions = bench.apply(Event::Looked(two.to_vec()));
    assert!(matches!(actions.as_slice(), [Action::Terminate(_), Action::Terminate(_)]));
    assert_eq!(bench.pass(GRACE), [Action::Kill(key("a"))]);
}

#[test]
fn a_stray_is_left_alone_until_this_node_was_told_what_to_run() {
    let mut bench = Bench::unseen(Ledger::joined(CLUSTER, NODE));
    let stray = found(&item("a", "1"), 50, Some(STRAY));
    assert_eq!(bench.apply(Event::Looked(vec![stray])), []);
    assert_eq!(bench.pass_secs(1000), []);
    assert_eq!(bench.why("a"), "StrayPod");
    let actions = bench.accept([item("a", "1")]);
    assert!(matches!(actions.as_slice(), [Action::Terminate(_)]), "{actions:?}");
    assert_eq!(bench.why("a"), "StrayPod");
    assert_eq!(bench.pass(GRACE), [Action::Kill(key("a"))]);
    made(&bench.empty("a"));
}

#[test]
fn what_is_not_of_our_cluster_is_never_touched_and_blocks_its_place() {
    for (marks, code) in [(Some(FOREIGN), "HeldByAnotherCluster"), (None, "HeldByUnknown")] {
        let mut bench = restarted();
        assert_eq!(bench.apply(Event::Looked(vec![unsupervised(marks)])), []);
        assert_eq!(bench.pass_secs(1000), []);
        assert_eq!(bench.status("a").reason.unwrap().code, code);
        assert_eq!(bench.accept([]), []);
    }
}

#[test]
fn orders_before_the_look_are_taken_and_nothing_starts() {
    let mut bench = Bench::unseen(Ledger::joined(CLUSTER, NODE));
    assert_eq!(bench.accept([item("a", "1")]), []);
    made(&bench.apply(Event::Looked(Vec::new())));
}

fn silent(marks: Marks) -> Found {
    Found { silent: true, ..unsupervised(Some(marks)) }
}

#[test]
fn a_silent_supervisor_is_waited_for_and_its_pod_adopted_without_a_touch() {
    let mut bench = restarted();
    assert_eq!(bench.apply(Event::Looked(vec![silent(OURS)])), []);
    assert_eq!(bench.why("a"), "SupervisorSilent");
    assert_eq!(bench.pass_secs(100_000), []);
    assert_eq!(bench.apply(Event::Answered(found(&item("a", "1"), 50, Some(OURS)))), []);
    assert!(bench.status("a").ready);
    assert_eq!(bench.exit("a", Exit::Code(1)).len(), 1, "and is ours to restart");
}

#[test]
fn nobody_waits_for_the_answer_of_a_pod_without_an_id() {
    let mut bench = restarted();
    let nameless = Found { pod: None, ..silent(OURS) };
    assert_eq!(bench.apply(Event::Looked(vec![nameless])), [Action::Kill(key("a"))]);
    made(&bench.empty("a"));
}

#[test]
fn a_supervisor_that_falls_silent_costs_readiness_and_nothing_else() {
    let mut bench = Bench::running([item("a", "1")]);
    let pod = bench.pod("a");
    assert_eq!(bench.apply(Event::SupervisorSilent(pod.clone())), []);
    assert_eq!(bench.why("a"), "SupervisorSilent");
    let status = bench.status("a");
    assert!(!status.ready && status.restarts == 0, "{status:?}");
    assert_eq!(bench.pass_secs(100_000), [], "nothing is made beside it");
    assert_eq!(bench.apply(Event::SupervisorHeard(pod)), []);
    assert!(bench.status("a").ready);
    assert_eq!(bench.why("a"), "");
    assert_eq!(bench.exit("a", Exit::Code(1)).len(), 1, "and is restarted as ever");
}

#[test]
fn a_silent_supervisor_that_dies_leaves_a_pod_to_kill() {
    let mut bench = restarted();
    bench.apply(Event::Looked(vec![silent(OURS)]));
    let pod = PodRef { key: key("a"), uid: silent(OURS).pod.unwrap() };
    assert_eq!(bench.apply(Event::SupervisorLost(pod)), [Action::Kill(key("a"))]);
    made(&bench.empty("a"));
}

#[test]
fn what_is_not_wanted_is_stopped_though_its_supervisor_is_silent() {
    for (marks, answers) in [(OURS, false), (OURS, true), (STRAY, false), (STRAY, true)] {
        let mut bench = restarted();
        bench.apply(Event::Looked(vec![silent(marks)]));
        bench.accept([]);
        if answers {
            let word = Event::Answered(found(&item("a", "1"), 50, Some(marks)));
            // Asked again, as the silent one may not have heard.
            assert!(matches!(bench.apply(word).as_slice(), [Action::Terminate(_)]));
        }
        assert_eq!(bench.pass(GRACE), [Action::Kill(key("a"))]);
        assert!(matches!(bench.empty("a").as_slice(), [Action::Remove(_)]));
    }
}

#[test]
fn ours_that_die_beside_others_are_gone_and_the_place_stays_theirs() {
    let mut bench = restarted();
    let foreign = found(&item("a", "1"), 51, Some(FOREIGN));
    bench.apply(Event::Looked(vec![unsupervised(Some(OURS)), foreign]));
    let actions = bench.apply(Event::OursGone(key("a")));
    assert!(matches!(actions.as_slice(), [Action::Remove(_)]), "{actions:?}");
    assert_eq!(bench.why("a"), "HeldByAnotherCluster");
    assert_eq!(bench.pass_secs(1000), [], "nothing is killed or made there");
    made(&bench.empty("a"));
}

#[test]
fn where_no_order_is_known_what_runs_is_kept_until_one_comes() {
    let mut bench = Bench::unseen(Ledger::joined(CLUSTER, NODE));
    let slow = Found { key: key("b"), ..silent(OURS) };
    let orphan = Found { key: key("c"), ..unsupervised(Some(OURS)) };
    let actions =
        bench.apply(Event::Looked(vec![found(&item("a", "1"), 50, Some(OURS)), slow, orphan]));
    assert!(matches!(actions.as_slice(), [Action::Persist(_)]), "{actions:?}");
    assert_eq!(bench.apply(Event::Persisted), []);
    assert_eq!(bench.pass_secs(100_000), [], "nothing is stopped, nothing is made");
    assert_eq!(bench.exit("a", Exit::Code(1)).len(), 1, "but it is restarted");
    // Even where all of it dies.
    made(&bench.empty("a"));

    let word = Found { key: key("b"), ..found(&item("b", "1"), 50, Some(OURS)) };
    let actions = bench.apply(Event::Answered(word));
    assert!(matches!(actions.as_slice(), [Action::Persist(_)]), "{actions:?}");
    bench.apply(Event::Persisted);
    let kept: Vec<_> = bench.node.ledger().assignment.items().map(|it| it.key.clone()).collect();
    assert_eq!(kept, [key("a"), key("b")]);

    // The first order counts, whatever its number.
    let actions = bench.accept([item("b", "1")]);
    assert!(actions.contains(&Action::Kill(key("c"))), "{actions:?}");
    assert!(bench.status("b").ready);
}

#[test]
fn a_stop_that_nobody_has_ordered_is_seen_by_the_checker() {
    for marks in [OURS, STRAY] {
        let ledger = Ledger::joined(CLUSTER, NODE);
        let (mut checker, bench) = (Checker::new(&ledger), Bench::new());
        let one = found(&item("a", "1"), 50, Some(marks));
        let pod = PodRef { key: key("a"), uid: one.pod.unwrap() };
        let stops = [Action::Terminate(pod.clone())];
        let broken = checker.check(&Event::Looked(vec![one]), &stops, &bench.node);
        assert!(broken.contains(&Violation::StoppedWithoutOrder(pod)), "{marks:?}: {broken:?}");
    }
}
