//! Pods that have more on disk than they may.

use std::collections::BTreeMap;
use std::time::Duration;

use everynode_agent_core::{
    Action, Event, HoldChange, Lifecycle, Plan, Planned, PodRef, Role, Scope, StorageLimits,
    StorageUse,
};
use everynode_model::{Exit, Item, PodPhase, Surge};

use crate::bench::{Bench, GRACE, OURS, found, item, key, made, revision};

fn cache(bytes: u64) -> BTreeMap<String, u64> {
    [("cache".to_owned(), bytes)].into()
}

fn limited(bench: &mut Bench) {
    let limits = StorageLimits { volumes: cache(10), ..StorageLimits::default() };
    bench.know_storage([(revision("1"), limits)]);
}

/// One that may have ten bytes in a volume.
fn running(items: impl IntoIterator<Item = Item>) -> Bench {
    let mut bench = Bench::new();
    limited(&mut bench);
    let actions = bench.accept(items);
    bench.bring_up(actions);
    bench
}

fn uses(bench: &mut Bench, pod: &PodRef, bytes: u64) -> Vec<Action> {
    let used = StorageUse { volumes: cache(bytes), ..StorageUse::default() };
    bench.apply(Event::StorageUsed { pod: pod.clone(), used })
}

#[test]
fn one_that_has_too_much_ends_soon_and_comes_again_after_the_back_off() {
    let mut bench = running([item("a", "1")]);
    // The first failure of a place is tried again at once, the second after ten seconds, then twenty.
    for wait in [0, 10, 20] {
        let pod = bench.pod("a");
        assert_eq!(uses(&mut bench, &pod, 10), []);
        assert_eq!(uses(&mut bench, &pod, 11), [Action::Terminate(pod.clone())]);
        let status = bench.status("a");
        let told = "Evicted: Usage of EmptyDir volume \"cache\" exceeds the limit \"10\"";
        assert_eq!(
            (status.phase, status.reason.unwrap().to_string()),
            (PodPhase::Stopping, told.into())
        );
        assert_eq!(status.last_failure.unwrap().reason.to_string(), told);
        assert_eq!(uses(&mut bench, &pod, 12), [], "it ends already");
        assert_eq!(bench.pass(Duration::from_millis(999)), []);
        assert_eq!(bench.pass(Duration::from_millis(1)), [Action::Kill(key("a"))]);
        let mut actions = bench.empty("a");
        assert_eq!(actions.first(), Some(&Action::Remove(pod)));
        if wait > 0 {
            assert_eq!(actions.len(), 1);
            let waits = bench.status("a").reason.unwrap();
            assert!(waits.code == "Evicted" && waits.message.contains("; next try at "));
            // A second of them has passed.
            assert_eq!(bench.pass_secs(wait - 2), []);
            actions = bench.pass_secs(1);
        }
        let next = made(&actions);
        actions.retain(|action| matches!(action, Action::Create { .. }));
        bench.bring_up(actions);
        let failure = bench.status("a").last_failure.unwrap();
        assert_eq!((bench.pod("a"), failure.reason.code), (next, "Evicted".into()));
    }
    assert_eq!((bench.status("a").restarts, bench.status("a").times_unready), (3, 3));
}

#[test]
fn only_who_runs_and_is_limited_is_measured() {
    let mut bench = running([item("a", "1"), item("b", "2")]);
    let (a, b) = (bench.pod("a"), bench.pod("b"));
    assert_eq!(bench.node.measured(), [a.clone()].into());
    assert_eq!(uses(&mut bench, &b, 11), [], "it may have what there is");
    uses(&mut bench, &a, 11);
    assert_eq!(bench.node.measured(), [].into());
    // Under another agent, too.
    let (mut bench, _) = bench.restarted(vec![found(&item("a", "1"), 50, Some(OURS))]);
    limited(&mut bench);
    let a = bench.pod("a");
    assert_eq!(bench.node.measured(), [a.clone()].into());
    assert_eq!(uses(&mut bench, &a, 11), [Action::Terminate(a)]);
}

#[test]
fn a_hold_does_not_save_it() {
    let mut bench = running([item("a", "1")]);
    let hold = HoldChange::Hold {
        scope: Scope::Place(key("a")),
        stop: false,
        by: "root".into(),
        reason: String::new(),
        lasting: None,
    };
    bench.apply(Event::HoldRequested { request: 1, change: hold });
    bench.apply(Event::Persisted);
    let pod = bench.pod("a");
    assert_eq!(uses(&mut bench, &pod, 11), [Action::Terminate(pod)]);
    let again = bench.empty("a");
    made(&again);
}

#[test]
fn of_two_only_the_one_that_has_too_much_ends() {
    let surging = |text| Item {
        surge: Some(Surge { min_ready: Duration::from_secs(10) }),
        ..item("a", text)
    };
    for evicted in [0, 1] {
        let mut bench = running([surging("1")]);
        let limits = StorageLimits { volumes: cache(10), ..StorageLimits::default() };
        bench.know_storage([(revision("2"), limits)]);
        let actions = bench.accept([surging("2")]);
        bench.bring_up(actions);
        let pods: Vec<PodRef> = bench
            .statuses("a")
            .iter()
            .map(|status| PodRef { key: key("a"), uid: status.uid })
            .collect();
        let pod = pods[evicted].clone();
        assert_eq!(uses(&mut bench, &pod, 11), [Action::Terminate(pod.clone())]);
        assert_eq!(bench.pass_secs(1), [Action::KillPod(pod.clone())]);
        let actions = bench.apply(Event::PodEmpty(pod.clone()));
        assert_eq!(actions.first(), Some(&Action::Remove(pod)));
        assert!(bench.statuses("a").iter().any(|status| status.uid == pods[1 - evicted].uid));
    }
}

#[test]
fn in_order_too_it_has_no_longer() {
    let mut bench = Bench::new();
    limited(&mut bench);
    let actions = bench.accept([item("a", "1")]);
    let pod = made(&actions);
    let planned = |(name, role): (&str, Role)| Planned {
        name: name.to_owned(),
        lifecycle: Lifecycle { role, ..Lifecycle::default() },
    };
    let containers = [("proxy", Role::Sidecar), ("main", Role::Main)].map(planned).into();
    let plan = Plan { containers, grace: GRACE, ..Plan::default() };
    let actions = bench.apply(Event::Created { pod: pod.clone(), plan });
    bench.bring_up(actions);
    let stop = |name: &str| Action::Stop { pod: pod.clone(), container: name.into() };
    assert_eq!(uses(&mut bench, &pod, 11), [Action::Close(pod.clone()), stop("main")]);
    // The time is over: who was told is killed, and the other is told.
    let actions = bench.pass_secs(1);
    assert!(actions.contains(&stop("proxy")), "{actions:?}");
    let exit = Exit::Signal(9);
    bench.apply(Event::Exited { pod, container: "main".into(), exit });
    assert!(bench.pass_secs(2).contains(&Action::Kill(key("a"))));
}
