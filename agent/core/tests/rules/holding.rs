//! Somebody at the machine keeps places as they are, whatever is ordered.

use std::time::Duration;

use everynode_agent_core::{Action, Event, HoldChange, Marks, PodRef, Scope};
use everynode_model::{Assignment, Exit, HELD_ON_NODE, NodeUid, PodPhase};
use uuid::Uuid;

use crate::bench::{Bench, OURS, found, item, key, made, order, order_in, reason, revision, stamp};

fn hold(scope: Scope, stop: bool, lasting: Option<Duration>) -> HoldChange {
    HoldChange::Hold { scope, stop, by: "root".into(), reason: "a look".into(), lasting }
}

fn place(name: &str) -> Scope {
    Scope::Place(key(name))
}

/// Asks, has it written, and gives what follows the answer.
fn ask(bench: &mut Bench, change: HoldChange) -> Vec<Action> {
    let actions = bench.apply(Event::HoldRequested { request: 1, change });
    assert!(matches!(actions.as_slice(), [Action::Persist(_)]), "{actions:?}");
    let mut actions = bench.apply(Event::Persisted);
    assert_eq!(actions.remove(0), Action::Answer { request: 1, refused: None });
    actions
}

fn refusal(bench: &mut Bench, change: HoldChange) -> String {
    match bench.apply(Event::HoldRequested { request: 1, change }).as_slice() {
        [Action::Answer { request: 1, refused: Some(reason) }] => reason.code.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_runs_runs_on_at_its_revision_and_is_restarted_and_made_anew() {
    let mut bench = Bench::running([item("a", "1")]);
    assert_eq!(ask(&mut bench, hold(place("a"), false, None)), []);
    assert_eq!(bench.accept([item("a", "2")]), [], "accepted, and not followed");
    let line = bench.status("a").reason.unwrap().to_string();
    assert!(line.contains("at the node by root since ") && line.ends_with(": a look"), "{line}");
    assert!(bench.status("a").ready);

    let actions = bench.exit("a", Exit::Code(1));
    assert!(matches!(actions.as_slice(), [Action::Start { .. }]), "{actions:?}");
    bench.bring_up(actions);
    let actions = bench.empty("a");
    let [_, Action::Create { revision: made, .. }] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert_eq!(*made, revision("1"));
    bench.bring_up(actions[1..].to_vec());

    let actions = ask(&mut bench, HoldChange::Release(place("a")));
    assert!(matches!(actions.as_slice(), [Action::Terminate(_)]), "{actions:?}");
    let actions = bench.empty("a");
    let [_, Action::Create { revision: made, .. }] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert_eq!(*made, revision("2"));
}

#[test]
fn what_is_no_longer_ordered_runs_on_until_it_is_released() {
    let mut bench = Bench::running([item("a", "1"), item("b", "1")]);
    ask(&mut bench, hold(Scope::Node, false, None));
    assert_eq!(bench.accept([item("b", "1")]), []);
    assert_eq!(bench.why("a"), HELD_ON_NODE);
    assert!(bench.status("a").ready);
    let actions = ask(&mut bench, HoldChange::Release(Scope::Node));
    assert!(matches!(actions.as_slice(), [Action::Terminate(pod)] if pod.key == key("a")));
}

#[test]
fn what_does_not_run_is_not_started_by_an_order_and_says_so() {
    let mut bench = Bench::running([item("a", "1")]);
    ask(&mut bench, hold(Scope::Node, false, None));
    assert_eq!(bench.accept([item("a", "1"), item("b", "1")]), []);
    let status = bench.status("b");
    assert_eq!((status.phase, status.is_held()), (PodPhase::Pending, true));
    assert_eq!(status.revision, revision("1"));
    assert_eq!(bench.pass_secs(100_000), []);
    made(&ask(&mut bench, HoldChange::Release(Scope::Node)));
}

#[test]
fn what_is_stopped_stays_down_and_comes_back_as_ordered() {
    let mut bench = Bench::running([item("a", "1")]);
    let actions = ask(&mut bench, hold(place("a"), true, None));
    assert!(matches!(actions.as_slice(), [Action::Terminate(_)]), "{actions:?}");
    assert!(matches!(bench.empty("a").as_slice(), [Action::Remove(_)]));
    assert_eq!(bench.accept([item("a", "2")]), []);
    assert_eq!(bench.pass_secs(100_000), []);
    let status = bench.status("a");
    assert_eq!(
        (status.phase, status.revision, status.is_held()),
        (PodPhase::Pending, revision("1"), true)
    );
    // Held without being stopped, it runs as it did.
    let actions = ask(&mut bench, hold(place("a"), false, None));
    let [Action::Create { revision: made, .. }] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(*made, revision("1"));
    bench.bring_up(actions);
    let actions = ask(&mut bench, HoldChange::Release(place("a")));
    assert!(matches!(actions.as_slice(), [Action::Terminate(_)]), "{actions:?}");
}

#[test]
fn it_holds_across_a_restart_and_a_reboot() {
    for reboot in [false, true] {
        let mut bench = Bench::running([item("a", "1")]);
        ask(&mut bench, hold(place("a"), false, None));
        bench.accept([item("a", "2")]);
        let mut bench = Bench::unseen(bench.node.ledger().clone());
        if reboot {
            let actions = bench.apply(Event::Looked(Vec::new()));
            let [Action::Create { revision: made, .. }] = actions.as_slice() else {
                panic!("{actions:?}")
            };
            assert_eq!(*made, revision("1"));
        } else {
            let alive = found(&item("a", "1"), 50, Some(OURS));
            assert_eq!(bench.apply(Event::Looked(vec![alive])), []);
            assert!(bench.status("a").is_held());
        }
    }
}

/// A copied data directory: the hold is of what the node had, not of what another has left here.
#[test]
fn what_bears_another_nodes_marks_is_not_what_is_held() {
    let mut bench = Bench::running([item("a", "1")]);
    ask(&mut bench, hold(Scope::Node, false, None));
    let mut bench = Bench::unseen(bench.node.ledger().clone());
    let stray = Marks { node: NodeUid::new(Uuid::from_u128(3)), ..OURS };
    let actions = bench.apply(Event::Looked(vec![found(&item("a", "1"), 50, Some(stray))]));
    assert!(matches!(actions.as_slice(), [Action::Terminate(_)]), "{actions:?}");
    made(&bench.empty("a"));
}

#[test]
fn it_counts_when_it_is_on_disk_and_not_before() {
    let mut bench = Bench::running([item("a", "1")]);
    let change = hold(place("a"), true, None);
    let actions = bench.apply(Event::HoldRequested { request: 7, change });
    assert!(matches!(actions.as_slice(), [Action::Persist(_)]), "{actions:?}");
    assert!(!bench.status("a").is_held());
    let actions = bench.apply(Event::PersistFailed(reason()));
    let [Action::Answer { request: 7, refused: Some(why) }] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert_eq!(why.code, "LedgerNotWritten");
    assert_eq!(bench.pass_secs(100_000), [], "and is not tried behind their back");
}

#[test]
fn an_order_written_together_with_a_hold_does_not_get_there_first() {
    let mut bench = Bench::running([item("a", "1")]);
    // A write is under way while both come.
    bench.apply(order(2, [item("a", "1"), item("b", "1")]));
    assert_eq!(bench.apply(order(3, [item("a", "2")])), []);
    let change = hold(place("a"), false, None);
    assert_eq!(bench.apply(Event::HoldRequested { request: 1, change }), []);
    let actions = bench.apply(Event::Persisted);
    assert!(actions.iter().any(|action| matches!(action, Action::Persist(_))), "{actions:?}");
    let actions = bench.apply(Event::Persisted);
    assert!(
        !actions
            .iter()
            .any(|action| matches!(action, Action::Terminate(pod) if pod.key == key("a")))
    );
    assert!(bench.status("a").ready);
}

#[test]
fn it_ends_by_itself_once_that_is_written() {
    let mut bench = Bench::running([item("a", "1")]);
    ask(&mut bench, hold(place("a"), false, Some(Duration::from_secs(60))));
    bench.accept([item("a", "2")]);
    assert_eq!(bench.pass_secs(59), []);
    assert!(bench.node.wake_at().is_some());
    assert!(matches!(bench.pass_secs(1).as_slice(), [Action::Persist(_)]));
    assert_eq!(bench.apply(Event::PersistFailed(reason())), []);
    assert!(matches!(bench.pass_secs(1).as_slice(), [Action::Persist(_)]));
    let actions = bench.apply(Event::Persisted);
    assert!(matches!(actions.as_slice(), [Action::Terminate(_)]), "{actions:?}");
    assert!(bench.node.ledger().holds.is_empty());
}

#[test]
fn leaving_outranks_it() {
    let mut bench = Bench::running([item("a", "1")]);
    ask(&mut bench, hold(Scope::Node, false, None));
    let actions = bench.apply(Event::Deregistered);
    assert!(matches!(actions.as_slice(), [Action::Persist(_), Action::Terminate(_)]));
    assert_eq!(refusal(&mut bench, hold(Scope::Node, false, None)), "Leaving");
}

#[test]
fn a_wish_that_waits_when_the_machine_leaves_is_refused() {
    let mut bench = Bench::running([item("a", "1")]);
    bench.apply(order(2, [item("a", "1"), item("b", "1")]));
    bench.apply(Event::HoldRequested { request: 1, change: hold(Scope::Node, false, None) });
    let actions = bench.apply(Event::LeaveRequested);
    assert!(
        matches!(
            &actions[..],
            [Action::Answer { request: 1, refused: Some(_) }, Action::Terminate(_)]
        ),
        "{actions:?}"
    );
}

#[test]
fn every_refusal_has_its_name() {
    let mut bench = Bench::running([item("a", "1")]);
    assert_eq!(refusal(&mut bench, hold(place("typo"), false, None)), "NotFound");
    assert_eq!(refusal(&mut bench, HoldChange::Release(place("typo"))), "NotFound");
    assert_eq!(refusal(&mut bench, HoldChange::Release(place("a"))), "NotHeld");
    assert_eq!(refusal(&mut bench, HoldChange::Release(Scope::Node)), "NotHeld");
    ask(&mut bench, hold(Scope::Node, false, None));
    assert_eq!(refusal(&mut bench, HoldChange::Release(place("a"))), "HeldWithNode");
    let mut unseen = Bench::unseen(bench.node.ledger().clone());
    assert_eq!(refusal(&mut unseen, hold(Scope::Node, false, None)), "NotLooked");
}

#[test]
fn of_two_holds_each_has_its_own_end() {
    let mut bench = Bench::running([item("a", "1"), item("b", "1")]);
    ask(&mut bench, hold(place("a"), false, None));
    ask(&mut bench, hold(Scope::Node, false, Some(Duration::from_secs(60))));
    bench.accept([item("a", "2"), item("b", "2")]);
    bench.pass_secs(60);
    let actions = bench.apply(Event::Persisted);
    let only = |pod: &PodRef| pod.key == key("b");
    assert!(matches!(actions.as_slice(), [Action::Terminate(pod)] if only(pod)), "{actions:?}");
    assert!(bench.status("a").is_held());
}

#[test]
fn a_held_pod_is_made_where_the_ledger_names_its_runtime() {
    let mut bench = Bench::running([item("a", "1")]);
    let next = Assignment::new([item("a", "2")]);
    let ordered = bench.apply(order_in("cri", stamp(2, &next), next));
    assert!(matches!(ordered.as_slice(), [Action::Persist(_)]), "{ordered:?}");
    let [_, Action::Terminate(_)] = bench.apply(Event::Persisted)[..] else {
        panic!("not stopped")
    };
    // What is to go on is the new one, which is not there yet.
    ask(&mut bench, hold(place("a"), false, None));
    let actions = bench.empty("a");
    let [Action::Persist(ledger), Action::Remove(_)] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert_eq!(ledger.places[&key("a")], "cri", "its death was seen where it lived");
    let actions = bench.apply(Event::Persisted);
    let [Action::Create { revision: made, .. }] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(*made, revision("2"));
}

#[test]
fn a_held_pod_is_made_again_where_it_was_whatever_is_ordered_meanwhile() {
    let mut bench = Bench::running([item("a", "1")]);
    ask(&mut bench, hold(place("a"), false, None));
    let [_, Action::Create { .. }] = bench.empty("a")[..] else { panic!("not made again") };
    let pod = bench.pod("a");
    bench.apply(Event::CreateFailed { pod, reason: reason(), retry: true, in_doubt: false });
    let next = Assignment::new([item("a", "2")]);
    bench.apply(order_in("cri", stamp(2, &next), next));
    bench.apply(Event::Persisted);
    assert_eq!(bench.node.ledger().places[&key("a")], "process");
}
