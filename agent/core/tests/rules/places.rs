//! One place's life: replaced, restarted, refused, waiting.

use everynode_agent_core::{Action, Event};
use everynode_model::{Exit, Intent, Item, PodPhase, SetUid};
use uuid::Uuid;

use crate::bench::{Bench, GRACE, item, key, made, reason};

fn start(bench: &Bench) -> Action {
    Action::Start { pod: bench.pod("a"), container: "main".into() }
}

#[test]
fn another_revision_waits_until_the_place_is_seen_empty() {
    let mut bench = Bench::running([item("a", "1")]);
    let old = bench.pod("a");
    assert_eq!(bench.accept([item("a", "2")]), [Action::Terminate(old.clone())]);
    assert_eq!(bench.exit("a", Exit::Signal(15)), []);
    assert_eq!(bench.status("a").last_failure, None, "an ordered end is no failure");
    assert_eq!(bench.pass(GRACE), [Action::Kill(key("a"))]);
    for wait in [1, 2, 4, 8, 16, 30, 30] {
        assert_eq!(bench.pass_secs(wait - 1), []);
        assert_eq!(bench.pass_secs(1), [Action::Kill(key("a"))]);
    }
    bench.apply(Event::KillFailed { key: key("a"), reason: reason() });
    assert_eq!((bench.status("a").phase, bench.why("a").as_str()), (PodPhase::Stopping, "Because"));
    let actions = bench.empty("a");
    assert_eq!(actions[0], Action::Remove(old.clone()));
    assert_ne!(made(&actions), old);
}

#[test]
fn an_order_taken_back_while_stopping_still_ends_in_a_new_pod() {
    let mut bench = Bench::running([item("a", "1")]);
    bench.accept([item("a", "2")]);
    assert_eq!(bench.accept([item("a", "1")]), []);
    made(&bench.empty("a"));
}

#[test]
fn a_raised_replace_counter_or_another_set_replaces() {
    let base = item("a", "1");
    for changed in [
        Item { replace: 1, ..base.clone() },
        Item { set: SetUid::new(Uuid::from_u128(11)), ..base.clone() },
        Item { set: SetUid::new(Uuid::from_u128(11)), intent: Intent::Keep, ..base.clone() },
        Item { intent: Intent::Stop, ..base.clone() },
    ] {
        let mut bench = Bench::running([base.clone()]);
        let pod = bench.pod("a");
        assert_eq!(bench.accept([changed]), [Action::Terminate(pod)]);
    }
}

#[test]
fn keep_leaves_any_revision_and_says_so() {
    let mut bench = Bench::running([item("a", "1")]);
    let keep = Item { intent: Intent::Keep, replace: 5, ..item("a", "2") };
    assert_eq!(bench.accept([keep.clone()]), []);
    assert_eq!((bench.status("a").reason, bench.why("a").as_str()), (None, "Kept"));
    assert_eq!(bench.exit("a", Exit::Code(1)), [start(&bench)], "it is restarted in place");
    let actions = Bench::new().accept([keep.clone()]);
    assert!(
        matches!(&actions[..], [Action::Create { revision, .. }] if *revision == keep.revision)
    );
}

#[test]
fn a_crashing_container_is_restarted_at_once_and_then_with_back_off() {
    let mut bench = Bench::running([item("a", "1")]);
    assert_eq!(bench.exit("a", Exit::Code(1)), [start(&bench)]);
    for wait in [10, 20, 40, 80, 160, 300, 300] {
        let pod = bench.pod("a");
        bench.apply(Event::Started { pod, container: "main".into(), pid: 8 });
        assert!(bench.status("a").ready);
        assert_eq!(bench.exit("a", Exit::Code(1)), []);
        assert_eq!(bench.why("a"), "CrashLoopBackOff");
        assert_eq!(bench.pass_secs(wait - 1), []);
        assert_eq!(bench.pass_secs(1), [start(&bench)]);
    }
    let status = bench.status("a");
    assert_eq!((status.restarts, status.times_unready, status.ready), (7, 8, false));
    assert_eq!(status.last_failure.unwrap().exit, Some(Exit::Code(1)));
}

#[test]
fn a_back_off_says_how_long_and_until_when() {
    let mut bench = Bench::running([item("a", "1")]);
    bench.exit("a", Exit::Code(0));
    let pod = bench.pod("a");
    bench.apply(Event::Started { pod, container: "main".into(), pid: 8 });
    bench.exit("a", Exit::Signal(9));
    assert_eq!(
        bench.status("a").reason.unwrap().to_string(),
        "CrashLoopBackOff: back-off 10s restarting failed container=main (signal 9); \
         next try at 1970-01-12T13:46:50Z"
    );
}

#[test]
fn a_container_that_cannot_be_started_waits_with_the_runtimes_reason() {
    let mut bench = Bench::new();
    let pod = made(&bench.accept([item("a", "1")]));
    bench.created(&pod);
    let failed =
        || Event::StartFailed { pod: pod.clone(), container: "main".into(), reason: reason() };
    assert_eq!(bench.apply(failed()), [start(&bench)], "the first time at once");
    assert_eq!(bench.apply(failed()), []);
    assert_eq!(bench.why("a"), "Because");
    assert_eq!(bench.pass_secs(10), [start(&bench)]);
}

#[test]
fn a_lost_supervisor_is_a_failure_and_the_place_must_be_seen_empty() {
    let mut bench = Bench::running([item("a", "1")]);
    let lost = bench.pod("a");
    assert_eq!(bench.apply(Event::SupervisorLost(lost)), [Action::Kill(key("a"))]);
    let actions = bench.empty("a");
    made(&actions);
    assert!(matches!(actions.last(), Some(Action::Create { restarts: 1, .. })), "{actions:?}");
    let status = bench.status("a");
    assert_eq!((status.restarts, status.times_unready), (1, 1));
    assert_eq!(status.last_failure.unwrap().exit, Some(Exit::Unknown));
    bench.bring_up(actions[1..].to_vec());
    let lost = bench.pod("a");
    bench.apply(Event::SupervisorLost(lost));
    assert!(matches!(bench.empty("a").as_slice(), [Action::Remove(_)]), "now it backs off");
    made(&bench.pass_secs(10));
}

#[test]
fn what_the_machine_cannot_honour_waits_for_another_revision() {
    let mut bench = Bench::new();
    let pod = made(&bench.accept([item("a", "1")]));
    let failed = Event::CreateFailed { pod, reason: reason(), retry: false, in_doubt: false };
    assert!(matches!(bench.apply(failed).as_slice(), [Action::Remove(_)]));
    assert_eq!(bench.pass_secs(100_000), []);
    assert_eq!((bench.status("a").phase, bench.why("a").as_str()), (PodPhase::Pending, "Because"));
    assert_eq!(bench.accept([item("a", "1")]), [], "the same again is still refused");
    made(&bench.accept([item("a", "2")]));
}

#[test]
fn a_create_in_doubt_is_killed_before_it_is_tried_again() {
    let mut bench = Bench::new();
    let pod = made(&bench.accept([item("a", "1")]));
    let failed = Event::CreateFailed { pod, reason: reason(), retry: true, in_doubt: true };
    assert_eq!(bench.apply(failed), [Action::Kill(key("a"))]);
    made(&bench.empty("a"));
}

#[test]
fn an_old_word_of_emptiness_proves_nothing() {
    let mut bench = Bench::running([item("a", "1")]);
    bench.accept([item("a", "2")]);
    let new = made(&bench.empty("a"));
    assert_eq!(bench.empty("a"), [], "while the next is being made");
    assert_eq!(bench.created(&new).len(), 1, "it is there, and its container starts");
}

#[test]
fn a_pod_that_died_as_a_whole_is_made_anew() {
    let mut bench = Bench::running([item("a", "1")]);
    let old = bench.pod("a");
    let actions = bench.empty("a");
    assert_eq!(actions[0], Action::Remove(old.clone()));
    assert!(matches!(actions.last(), Some(Action::Create { restarts: 1, .. })), "{actions:?}");
    assert_eq!(bench.status("a").last_failure.unwrap().reason.code, "PodDied");
    assert_eq!(bench.apply(Event::SupervisorLost(old)), [], "the same death");
    bench.bring_up(actions[1..].to_vec());
    assert!(matches!(bench.empty("a").as_slice(), [Action::Remove(_)]), "now it backs off");
    made(&bench.pass_secs(10));
}

#[test]
fn an_item_that_goes_while_its_pod_is_made_is_stopped_once_it_is_there() {
    let mut bench = Bench::new();
    let pod = made(&bench.accept([item("a", "1")]));
    assert_eq!(bench.accept([]), []);
    assert_eq!(bench.created(&pod), [Action::Terminate(pod)]);
}

#[test]
fn a_pod_waits_for_those_before_it_but_never_in_a_circle() {
    let after = |name: &str, on: &str| Item { after: vec![key(on)], ..item(name, "1") };
    let mut bench = Bench::new();
    let actions = bench.accept([after("a", "b"), item("b", "1"), after("c", "elsewhere")]);
    assert_eq!(bench.why("a"), "WaitingFor");
    assert!(matches!(&actions[..], [Action::Create { pod: b, .. }, Action::Create { pod: c, .. }]
        if b.key == key("b") && c.key == key("c")));
    bench.bring_up(actions[1..].to_vec());
    let start_b = bench.created(&bench.pod("b"));
    assert_eq!(bench.why("a"), "WaitingFor");
    assert!(matches!(&start_b[..], [Action::Start { .. }]));
    let pod = bench.pod("b");
    let actions = bench.apply(Event::Started { pod, container: "main".into(), pid: 7 });
    assert_eq!(made(&actions).key, key("a"));

    let circle = [after("a", "b"), after("b", "c"), after("c", "a")];
    assert_eq!(Bench::new().accept(circle).len(), 3);
}

#[test]
fn being_ready_for_longer_is_no_change() {
    let mut bench = Bench::running([item("a", "1")]);
    assert_eq!(bench.node.take_dirty(), [key("a")].into());
    bench.pass_secs(60);
    assert_eq!(bench.status("a").ready_for.as_secs(), 60);
    assert_eq!(bench.node.take_dirty(), [].into());
    bench.exit("a", Exit::Code(1));
    assert_eq!(bench.node.take_dirty(), [key("a")].into());
}
