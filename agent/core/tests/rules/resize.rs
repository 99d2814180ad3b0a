//! A change of limits alone is made in the pod that runs.

use std::time::Duration;

use everynode_agent_core::{Action, Event, Found, HoldChange, Marks, PodRef, Scope, Unstaged};
use everynode_model::{Digest, Exit, Intent, Item, NodeUid, PodPhase, SetUid, Surge};
use uuid::Uuid;

use crate::bench::{Bench, OURS, found, item, key, made, reason, revision};

/// Revisions 1, 2 and 3 differ in their limits alone; 4 is another.
fn alike() -> [(Digest, Digest); 4] {
    let fixed = |text: &str| revision(if text == "4" { "other" } else { "fixed" });
    ["1", "2", "3", "4"].map(|text| (revision(text), fixed(text)))
}

fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.know_alike(alike());
    let actions = bench.accept([item("a", "1")]);
    bench.bring_up(actions);
    bench
}

/// The pod of revision 1 runs; `next` is ordered, and it is asked to be brought to that.
fn asked(next: Item) -> (Bench, PodRef) {
    let mut bench = bench();
    let pod = bench.pod("a");
    assert_eq!(bench.accept([next.clone()]), [resize(&pod, &next)]);
    (bench, pod)
}

fn resize(pod: &PodRef, item: &Item) -> Action {
    let Item { set, revision, replace, .. } = *item;
    Action::Resize { pod: pod.clone(), set, revision, replace }
}

fn resized(pod: &PodRef, text: &str) -> Event {
    Event::Resized { pod: pod.clone(), revision: revision(text) }
}

fn failed(pod: &PodRef, text: &str, in_doubt: bool) -> Event {
    let revision = revision(text);
    Event::ResizeFailed { pod: pod.clone(), revision, reason: reason(), in_doubt }
}

fn surging(text: &str) -> Item {
    Item { surge: Some(Surge { min_ready: Duration::ZERO }), ..item("a", text) }
}

fn stops(actions: &[Action], pod: &PodRef) -> bool {
    matches!(actions, [Action::Terminate(it)] if it == pod)
}

#[test]
fn the_pod_stays_and_is_of_the_new_revision() {
    for next in [item("a", "2"), surging("2")] {
        let (mut bench, pod) = asked(next);
        bench.pass_secs(5);
        let before = bench.status("a");
        assert_eq!((before.revision, before.ready), (revision("1"), true));
        assert_eq!(bench.why("a"), "PodResizeInProgress");
        assert_eq!(bench.apply(resized(&pod, "2")), []);
        let after = bench.status("a");
        assert_eq!(bench.statuses("a").len(), 1);
        assert_eq!((after.uid, after.started_at), (before.uid, before.started_at));
        assert_eq!((after.restarts, after.times_unready, after.ready), (0, 0, true));
        assert_eq!((after.revision, after.reason), (revision("2"), None));
        assert!(before.ready_for > Duration::ZERO);
        assert_eq!(after.ready_for, Duration::ZERO, "it has not shown that it can do with them");
        bench.pass_secs(5);
        assert_eq!(bench.status("a").ready_for, Duration::from_secs(5));
        assert_eq!(bench.accept([item("a", "1")]), [resize(&pod, &item("a", "1"))], "and back");
    }
}

#[test]
fn what_differs_in_more_is_replaced() {
    let others = [
        item("a", "4"),
        item("a", "never told"),
        Item { replace: 1, ..item("a", "2") },
        Item { set: SetUid::new(Uuid::from_u128(11)), ..item("a", "2") },
    ];
    for other in others {
        let mut bench = bench();
        let pod = bench.pod("a");
        assert!(stops(&bench.accept([other]), &pod));
    }
}

#[test]
fn what_is_kept_or_stopped_or_held_is_not_touched() {
    let (pod, mut bench) = (bench().pod("a"), bench());
    assert_eq!(bench.accept([Item { intent: Intent::Keep, ..item("a", "2") }]), []);
    assert_eq!(bench.why("a"), "Kept");
    assert!(stops(&bench.accept([Item { intent: Intent::Stop, ..item("a", "2") }]), &pod));

    let mut bench = self::bench();
    hold(&mut bench);
    assert_eq!(bench.accept([item("a", "2")]), []);
    let scope = Scope::Place(key("a"));
    bench.apply(Event::HoldRequested { request: 2, change: HoldChange::Release(scope) });
    let actions = bench.apply(Event::Persisted);
    assert!(actions.contains(&resize(&pod, &item("a", "2"))), "{actions:?}");
}

#[test]
fn a_pod_that_is_held_meanwhile_keeps_what_it_got() {
    let (mut bench, pod) = asked(item("a", "2"));
    hold(&mut bench);
    assert_eq!(bench.apply(resized(&pod, "2")), []);
    assert_eq!(bench.status("a").revision, revision("2"));
    assert_eq!(bench.accept([item("a", "3")]), []);
}

#[test]
fn one_change_at_a_time_and_the_last_order_counts() {
    let (mut bench, pod) = asked(item("a", "2"));
    assert_eq!(bench.accept([item("a", "3")]), []);
    assert_eq!(bench.apply(resized(&pod, "3")), [], "nobody has asked for that");
    assert_eq!(bench.apply(resized(&pod, "2")), [resize(&pod, &item("a", "3"))]);
    assert_eq!(bench.accept([item("a", "2")]), []);
    assert_eq!(bench.apply(resized(&pod, "3")), [resize(&pod, &item("a", "2"))]);
}

#[test]
fn one_that_fails_is_tried_once_and_replaced() {
    let (mut bench, pod) = asked(item("a", "2"));
    let actions = bench.apply(failed(&pod, "2", false));
    assert!(stops(&actions, &pod), "{actions:?}");
    let status = bench.status("a");
    assert_eq!((status.phase, status.revision), (PodPhase::Stopping, revision("1")));
    let line = status.reason.unwrap().message;
    assert!(line.contains("could not be given in place: Because: of a reason"), "{line}");
    made(&bench.empty("a"));
    let former = bench.status("a").former_failure.unwrap();
    assert_eq!(former.failure.reason, reason());
}

#[test]
fn one_that_fails_is_replaced_by_a_surge_where_that_is_ordered() {
    let (mut bench, pod) = asked(surging("2"));
    let actions = bench.apply(failed(&pod, "2", false));
    let [Action::Create { pod: new, beside, .. }] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(*beside, Some(pod.uid));
    let actions = bench.created(new);
    assert!(matches!(&actions[..], [Action::Start { pod, .. }] if pod == new), "{actions:?}");
    let (new, container) = (new.clone(), "main".to_owned());
    let actions = bench.apply(Event::Started { pod: new, container, pid: 7 });
    assert!(stops(&actions, &pod), "{actions:?}");
}

#[test]
fn the_one_that_is_left_of_two_that_were_found_is_brought_to_what_is_ordered() {
    let mut bench = Bench::unseen(bench().node.ledger().clone());
    bench.know_alike(alike());
    let two = [("1", 50), ("4", 51)].map(|(text, uid)| found(&item("a", text), uid, Some(OURS)));
    let [old, new] = two.each_ref().map(|one| PodRef { key: key("a"), uid: one.pod.unwrap() });
    assert!(stops(&bench.apply(Event::Looked(two.into())), &new));
    assert_eq!(bench.accept([item("a", "2")]), []);
    let actions = bench.apply(Event::PodEmpty(new.clone()));
    assert_eq!(actions, [Action::Remove(new), resize(&old, &item("a", "2"))]);
}

#[test]
fn one_that_did_not_hear_that_it_was_to_end_is_as_any_other() {
    let mut bench = Bench::unseen(bench().node.ledger().clone());
    bench.know_alike(alike());
    let alive = found(&item("a", "1"), 50, Some(OURS));
    let pod = PodRef { key: key("a"), uid: alive.pod.unwrap() };
    let silent = Found { supervised: None, silent: true, ..alive.clone() };
    assert_eq!(bench.apply(Event::Looked(vec![silent])), []);
    assert!(stops(&bench.accept([]), &pod));
    assert_eq!(bench.accept([item("a", "2")]), []);
    assert_eq!(bench.apply(Event::Answered(alive)), [resize(&pod, &item("a", "2"))]);
}

#[test]
fn what_failed_for_one_revision_may_do_for_another() {
    let (mut bench, pod) = asked(item("a", "2"));
    assert_eq!(bench.accept([item("a", "1")]), []);
    assert_eq!(bench.apply(failed(&pod, "2", false)), [], "it is as it is ordered");
    assert_eq!(bench.why("a"), "");
    assert_eq!(bench.accept([item("a", "3")]), [resize(&pod, &item("a", "3"))]);
}

#[test]
fn one_in_doubt_is_replaced_whatever_is_ordered() {
    let (mut bench, pod) = asked(item("a", "2"));
    assert_eq!(bench.accept([item("a", "1")]), []);
    assert!(stops(&bench.apply(failed(&pod, "2", true)), &pod));

    // Also where its agent died before it could be.
    let mut found = found(&item("a", "1"), pod.uid.uuid().as_u128(), Some(OURS));
    found.supervised.as_mut().unwrap().limits_in_doubt = true;
    let (_, actions) = bench.restarted(vec![found]);
    assert!(stops(&actions, &pod), "{actions:?}");
}

#[test]
fn another_agent_counts_from_when_the_limits_changed() {
    let (mut bench, pod) = asked(item("a", "2"));
    let mut found = found(&item("a", "2"), pod.uid.uuid().as_u128(), Some(OURS));
    let supervised = found.supervised.as_mut().unwrap();
    supervised.containers.iter_mut().for_each(|one| one.for_time = Duration::from_secs(1000));
    supervised.resized_for = Some(Duration::from_secs(7));
    bench.pass_secs(2000);
    let (next, _) = bench.restarted(vec![found.clone()]);
    assert_eq!(next.status("a").ready_for, Duration::from_secs(7));
    found.supervised.as_mut().unwrap().resized_for = None;
    let (next, _) = bench.restarted(vec![found]);
    assert_eq!(next.status("a").ready_for, Duration::from_secs(1000));
}

#[test]
fn an_answer_is_passed_over_where_the_pod_has_ended_or_is_lost() {
    let (mut bench, pod) = asked(item("a", "2"));
    assert!(stops(&bench.accept([item("a", "4")]), &pod));
    assert_eq!(bench.apply(resized(&pod, "2")), []);
    assert_eq!(bench.status("a").revision, revision("1"));
    made(&bench.empty("a"));
    assert_eq!(bench.apply(failed(&pod, "2", true)), []);

    let (mut bench, pod) = asked(item("a", "2"));
    assert_eq!(bench.apply(Event::SupervisorLost(pod.clone())), [Action::Kill(key("a"))]);
    assert_eq!(bench.apply(resized(&pod, "2")), []);
    assert_eq!(bench.apply(failed(&pod, "2", false)), []);
}

#[test]
fn containers_come_back_meanwhile_and_counts_go_on() {
    let (mut bench, pod) = asked(item("a", "2"));
    let actions = bench.exit("a", Exit::Code(1));
    bench.bring_up(actions);
    assert_eq!(bench.apply(resized(&pod, "2")), []);
    assert_eq!(bench.status("a").restarts, 1);
    let actions = bench.exit("a", Exit::Code(1));
    assert_eq!(actions.len(), 1, "as after a first failure: {actions:?}");
    bench.bring_up(actions);
    assert_eq!(bench.status("a").restarts, 2);
}

#[test]
fn one_that_waits_after_failures_is_tried_at_once_with_other_limits() {
    let mut bench = bench();
    let actions = bench.exit("a", Exit::Signal(9));
    bench.bring_up(actions);
    assert_eq!(bench.exit("a", Exit::Signal(9)), []);
    assert_eq!(bench.why("a"), "CrashLoopBackOff");
    let (pod, next) = (bench.pod("a"), item("a", "2"));
    assert_eq!(bench.accept([next.clone()]), [resize(&pod, &next)]);
    let start = Action::Start { pod: pod.clone(), container: "main".into() };
    assert_eq!(bench.apply(resized(&pod, "2")), [start]);
}

#[test]
fn one_that_is_being_made_is_resized_when_it_is_there() {
    let mut bench = Bench::new();
    bench.know_alike(alike());
    let pod = made(&bench.accept([item("a", "1")]));
    assert_eq!(bench.accept([item("a", "2")]), []);
    assert!(bench.created(&pod).contains(&resize(&pod, &item("a", "2"))));
}

#[test]
fn what_its_revision_needs_is_here_first() {
    let mut bench = bench();
    bench.know_stages([revision("2")]);
    let (pod, next) = (bench.pod("a"), item("a", "2"));
    let stage = Action::Stage { key: key("a"), revision: revision("2"), tries: 0 };
    assert_eq!(bench.accept([next.clone()]), [stage]);
    assert_eq!(bench.statuses("a").len(), 1, "no other pod is on its way");
    assert_eq!(bench.why("a"), "Staging");
    let staged = |outcome| Event::Staged { key: key("a"), revision: revision("2"), outcome };
    let again = Some(Duration::from_secs(1));
    assert_eq!(bench.apply(staged(Err(Unstaged { reason: reason(), again }))), []);
    assert_eq!(bench.status("a").reason.unwrap().code, reason().code, "it is told");
    assert_eq!(bench.pass_secs(1).len(), 1);
    assert_eq!(bench.apply(staged(Ok(()))), [resize(&pod, &next)]);
    assert_eq!(bench.apply(resized(&pod, "2")), []);
    assert_eq!((bench.statuses("a").len(), bench.why("a")), (1, String::new()));
}

#[test]
fn of_two_pods_the_one_that_can_be_given_the_limits_stays() {
    let surge = |bench: &mut Bench| {
        let actions = bench.accept([surging("4")]);
        assert!(matches!(&actions[..], [Action::Create { beside: Some(_), .. }]), "{actions:?}");
        made(&actions)
    };
    // The old one: the new one ends, and then it is asked.
    let mut bench = bench();
    let old = bench.pod("a");
    let new = surge(&mut bench);
    bench.created(&new);
    assert_eq!(bench.statuses("a").len(), 2);
    assert!(stops(&bench.accept([surging("2")]), &new));
    let actions = bench.apply(Event::PodEmpty(new.clone()));
    assert_eq!(actions, [Action::Remove(new), resize(&old, &surging("2"))]);
}

#[test]
fn an_interrupted_change_is_made_again() {
    let (bench, pod) = asked(item("a", "2"));
    let uid = pod.uid.uuid().as_u128();
    let again = |found: Found| {
        let mut next = Bench::unseen(bench.node.ledger().clone());
        next.know_alike(alike());
        next.apply(Event::Looked(vec![found]))
    };
    assert_eq!(again(found(&item("a", "1"), uid, Some(OURS))), [resize(&pod, &item("a", "2"))]);
    assert_eq!(again(found(&item("a", "2"), uid, Some(OURS))), [], "it was made");
    let stray = Marks { node: NodeUid::new(Uuid::from_u128(9)), ..OURS };
    let actions = again(found(&item("a", "1"), uid, Some(stray)));
    assert!(!actions.iter().any(|it| matches!(it, Action::Resize { .. })), "{actions:?}");
}

fn hold(bench: &mut Bench) {
    let (scope, by) = (Scope::Place(key("a")), "somebody".into());
    let change = HoldChange::Hold { scope, stop: false, by, reason: String::new(), lasting: None };
    bench.apply(Event::HoldRequested { request: 1, change });
    bench.apply(Event::Persisted);
}
