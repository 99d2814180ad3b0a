//! Two pods in one place: an old one, and a new one that takes over.

use std::time::Duration;

use everynode_agent_core::{Action, Event, HoldChange, PodRef, Scope};
use everynode_model::{Exit, Intent, Item, PodUid, Surge};

use crate::bench::{Bench, GRACE, OURS, found, item, key, reason};

const MIN_READY: Duration = Duration::from_secs(10);

fn surging(text: &str) -> Item {
    Item { surge: Some(Surge { min_ready: MIN_READY }), ..item("a", text) }
}

/// The one pod made, and beside which.
fn made_beside(actions: &[Action]) -> (PodRef, Option<PodUid>) {
    let made = actions.iter().filter_map(|action| match action {
        Action::Create { pod, beside, .. } => Some((pod.clone(), *beside)),
        _ => None,
    });
    let made: Vec<_> = made.collect();
    assert_eq!(made.len(), 1, "{actions:?}");
    made[0].clone()
}

/// The first revision runs, and the second is being made beside it.
fn two() -> (Bench, PodRef, PodRef) {
    let mut bench = Bench::running([surging("1")]);
    let old = bench.pod("a");
    let (new, beside) = made_beside(&bench.accept([surging("2")]));
    assert_eq!(beside, Some(old.uid));
    (bench, old, new)
}

/// Both run.
fn both_run() -> (Bench, PodRef, PodRef) {
    let (mut bench, old, new) = two();
    let actions = bench.created(&new);
    bench.bring_up(actions);
    (bench, old, new)
}

#[test]
fn the_old_one_ends_when_the_new_one_was_ready_for_long_enough() {
    let (mut bench, old, new) = both_run();
    assert_eq!(bench.why("a"), "Surging");
    assert_eq!(bench.pass(MIN_READY - Duration::from_millis(1)), []);
    assert_eq!(bench.pass(Duration::from_millis(1)), [Action::Terminate(old.clone())]);
    assert_eq!(bench.pass(GRACE), [Action::KillPod(old.clone())], "and nothing else is forced");
    assert_eq!(bench.apply(Event::PodEmpty(old.clone())), [Action::Remove(old)]);
    assert_eq!((bench.pod("a"), bench.why("a")), (new, String::new()));
}

#[test]
fn a_new_one_that_never_becomes_ready_leaves_the_old_one_alone() {
    let (mut bench, old, new) = both_run();
    for _ in 0..20 {
        let exit = Exit::Code(1);
        let actions =
            bench.apply(Event::Exited { pod: new.clone(), container: "main".into(), exit });
        let later = bench.pass_secs(400);
        let all: Vec<_> = actions.into_iter().chain(later).collect();
        assert!(all.iter().all(|it| matches!(it, Action::Start { pod, .. } if *pod == new)));
        bench.bring_up(all);
        assert_eq!(bench.pass(MIN_READY / 2), [], "ready anew, and for less than it must be");
    }
    let failed = Event::SupervisorLost(new.clone());
    assert_eq!(bench.apply(failed), [Action::KillPod(new.clone())]);
    assert_eq!(bench.apply(Event::PodEmpty(new.clone())).first(), Some(&Action::Remove(new)));
    let uids: Vec<PodUid> = bench.statuses("a").iter().map(|status| status.uid).collect();
    assert!(uids.contains(&old.uid) && uids.len() == 2, "the next try is told of");
}

#[test]
fn an_old_one_that_is_not_ready_is_not_waited_for() {
    let (mut bench, old, _) = both_run();
    let exit = Exit::Code(1);
    let actions = bench.apply(Event::Exited { pod: old.clone(), container: "main".into(), exit });
    assert_eq!(actions, [Action::Terminate(old)]);

    let mut bench = Bench::running([surging("1")]);
    bench.exit("a", exit);
    let old = bench.pod("a");
    bench.apply(Event::Exited { pod: old.clone(), container: "main".into(), exit });
    assert_eq!(bench.accept([surging("2")]), [Action::Terminate(old)], "nothing is made beside it");
}

#[test]
fn another_order_ends_the_new_one_before_a_third_is_made() {
    let (mut bench, old, new) = both_run();
    assert_eq!(bench.accept([surging("3")]), [Action::Terminate(new.clone())]);
    assert_eq!(bench.pass(GRACE), [Action::KillPod(new.clone())]);
    let actions = bench.apply(Event::PodEmpty(new.clone()));
    let (third, beside) = made_beside(&actions);
    assert!(third != new && beside == Some(old.uid));
}

#[test]
fn the_old_one_ordered_again_stays_and_the_new_one_ends() {
    let (mut bench, old, new) = both_run();
    assert_eq!(bench.accept([surging("1")]), [Action::Terminate(new.clone())]);
    bench.apply(Event::PodEmpty(new));
    assert_eq!((bench.pod("a"), bench.why("a")), (old, String::new()));
}

#[test]
fn without_surge_the_one_that_does_not_fit_ends_at_once() {
    let (mut bench, old, _) = both_run();
    assert_eq!(bench.accept([item("a", "2")]), [Action::Terminate(old)]);
    let (mut bench, _, new) = both_run();
    assert_eq!(bench.accept([item("a", "1")]), [Action::Terminate(new)]);
    let (mut bench, _, new) = both_run();
    let keep = Item { intent: Intent::Keep, ..item("a", "2") };
    assert_eq!(
        bench.accept([keep]),
        [Action::Terminate(new)],
        "one is kept: the one that was there"
    );
}

#[test]
fn what_stops_one_stops_both() {
    let stop = HoldChange::Hold {
        scope: Scope::Place(key("a")),
        stop: true,
        by: "root".into(),
        reason: String::new(),
        lasting: None,
    };
    let events: [fn(&mut Bench, HoldChange) -> Vec<Action>; 4] = [
        |bench, _| bench.apply(Event::Deregistered),
        |bench, _| bench.apply(Event::GoingDown),
        |bench, _| bench.accept([]),
        |bench, stop| {
            bench.apply(Event::HoldRequested { request: 1, change: stop });
            bench.apply(Event::Persisted)
        },
    ];
    for event in events {
        let (mut bench, old, new) = both_run();
        let actions = event(&mut bench, stop.clone());
        for pod in [old, new] {
            assert!(actions.contains(&Action::Terminate(pod)), "{actions:?}");
        }
        let killed = bench.pass(GRACE);
        let kills = killed.iter().filter(|action| matches!(action, Action::KillPod(_)));
        assert_eq!(kills.count(), 2, "{killed:?}");
        let gone = bench.empty("a");
        let removed = gone.iter().filter(|action| matches!(action, Action::Remove(_)));
        assert_eq!(removed.count(), 2, "{gone:?}");
    }
}

#[test]
fn a_place_seen_empty_while_the_new_one_is_made_speaks_of_the_old_one() {
    let (mut bench, old, new) = two();
    assert_eq!(bench.empty("a"), [Action::Remove(old)]);
    let actions = bench.created(&new);
    bench.bring_up(actions);
    assert_eq!((bench.pod("a"), bench.why("a")), (new, String::new()));
}

#[test]
fn one_that_cannot_be_made_leaves_the_old_one_alone() {
    for (retry, in_doubt) in [(true, false), (false, false), (true, true)] {
        let (mut bench, old, new) = two();
        // The first try after a failure is made at once, the second waits.
        let mut tries = vec![new];
        while let Some(pod) = tries.pop() {
            let failed =
                Event::CreateFailed { pod: pod.clone(), reason: reason(), retry, in_doubt };
            let mut actions = bench.apply(failed);
            if in_doubt {
                assert_eq!(actions, [Action::KillPod(pod.clone())]);
                actions = bench.apply(Event::PodEmpty(pod.clone()));
            }
            assert_eq!(actions.remove(0), Action::Remove(pod));
            tries.extend((!actions.is_empty()).then(|| made_beside(&actions).0));
        }
        let [status, next] = &bench.statuses("a")[..] else { panic!("the next try is told of") };
        assert!(status.uid == old.uid && status.ready && next.reason.is_some());
        let later = bench.pass_secs(1000);
        assert_eq!(retry, later.iter().any(|it| matches!(it, Action::Create { .. })), "{later:?}");
    }
}

#[test]
fn what_cannot_be_made_is_not_tried_again_because_the_old_one_dies() {
    let (mut bench, old, new) = two();
    let refused = Event::CreateFailed { pod: new, reason: reason(), retry: false, in_doubt: false };
    bench.apply(refused);
    assert_eq!(bench.empty("a"), [Action::Remove(old)]);
    assert_eq!(bench.pass_secs(1000), []);
    assert_eq!(bench.statuses("a")[0].reason, Some(reason()));
}

#[test]
fn what_cannot_be_made_is_not_tried_again_because_the_old_one_crashes() {
    let (mut bench, old, new) = two();
    let refused = Event::CreateFailed { pod: new, reason: reason(), retry: false, in_doubt: false };
    bench.apply(refused);
    let crash = Event::Exited { pod: old.clone(), container: "main".into(), exit: Exit::Code(1) };
    assert_eq!(bench.apply(crash), [Action::Terminate(old.clone())]);
    assert_eq!(bench.empty("a"), [Action::Remove(old)]);
    assert_eq!(bench.pass_secs(1000), []);
}

#[test]
fn an_old_one_that_may_stay_is_made_again_as_itself() {
    let (mut bench, old, new) = two();
    let refused = Event::CreateFailed { pod: new, reason: reason(), retry: false, in_doubt: false };
    bench.apply(refused);
    let actions = bench.accept([surging("1")]);
    assert!(!actions.iter().any(|it| matches!(it, Action::Create { .. })), "{actions:?}");
    let again = bench.empty("a");
    assert_eq!(again.first(), Some(&Action::Remove(old)));
    let restarts = again.iter().find_map(|action| match action {
        Action::Create { restarts, beside: None, .. } => Some(*restarts),
        _ => None,
    });
    assert_eq!(restarts, Some(1), "its count goes on: {again:?}");
}

#[test]
fn both_are_adopted_and_it_is_known_which_is_which() {
    for uids in [[50, 51], [51, 50]] {
        let (bench, ..) = both_run();
        let two = [("1", uids[0]), ("2", uids[1])];
        let two = two.map(|(text, uid)| found(&surging(text), uid, Some(OURS)));
        let pods = two.clone().map(|one| PodRef { key: one.key, uid: one.pod.unwrap() });
        let (mut bench, actions) = bench.restarted(two.to_vec());
        assert_eq!(actions, [Action::Terminate(pods[0].clone())], "the new one runs for a minute");
        bench.apply(Event::PodEmpty(pods[0].clone()));
        assert_eq!(bench.pod("a"), pods[1]);
    }
}

#[test]
fn what_is_left_of_one_without_a_supervisor_ends_and_the_other_lives_on() {
    for lost in [0, 1] {
        let (bench, ..) = both_run();
        let two = [("1", 50), ("2", 51)];
        let mut two = two.map(|(text, uid)| found(&surging(text), uid, Some(OURS)));
        let pods = two.clone().map(|one| PodRef { key: one.key, uid: one.pod.unwrap() });
        two[lost].supervised = None;
        let (mut bench, actions) = bench.restarted(two.to_vec());
        assert_eq!(actions, [Action::KillPod(pods[lost].clone())]);
        assert_eq!(bench.pod("a"), pods[1 - lost]);
        let actions = bench.apply(Event::PodEmpty(pods[lost].clone()));
        assert_eq!(actions[0], Action::Remove(pods[lost].clone()));
        // Where the old one is left, a new one is made beside it again.
        let made = actions[1..].iter().filter(|it| matches!(it, Action::Create { .. })).count();
        assert_eq!((made, actions.len()), (lost, 1 + lost), "{actions:?}");
    }
}

#[test]
fn a_place_without_surge_wants_to_be_seen_empty_as_a_whole() {
    let mut bench = Bench::running([item("a", "1")]);
    let old = bench.pod("a");
    bench.accept([item("a", "2")]);
    assert_eq!(bench.apply(Event::PodEmpty(old.clone())), []);
    let actions = bench.empty("a");
    assert_eq!(actions.first(), Some(&Action::Remove(old)));
    assert_eq!(made_beside(&actions).1, None);
}
