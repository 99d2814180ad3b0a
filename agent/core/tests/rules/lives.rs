//! The lives of several containers in one pod: in which order they start and end, and what their
//! probes and hooks do.

use std::time::Duration;

use everynode_agent_core::{
    Event, HookKind, Lifecycle, Probe, ProbeKind, RestartBackoff, SupervisedContainer,
};
use everynode_model::{ContainerState, Exit, PodPhase};

use crate::pod::{
    Pod, adopted, init, liveness, main, post_start, pre_stop, probe, readiness, sidecar, startup,
    supervised, with,
};

#[test]
fn init_containers_run_one_after_the_other_then_the_main_ones() {
    let mut pod = Pod::new([init("a"), init("b"), main("x"), main("y")]);
    pod.does(&["start a"]).started("a").does(&[]);
    assert_eq!(pod.reason(), "PodInitializing: init container a is running");
    assert_eq!(pod.wakes_in(), None, "nothing but its end is waited for");
    pod.exits("a", Exit::Code(0)).does(&["start b"]);
    pod.started("b").exits("b", Exit::Code(0)).does(&["start x"]);
    assert_eq!(pod.bench.status("a").times_unready, 0);
    assert_eq!(pod.bench.status("a").last_failure, None);
    pod.started("x").does(&["start y"]);
    assert!(!pod.is_ready());
    pod.started("y").does(&[]);
    assert!(pod.is_ready());
    pod.exits("x", Exit::Code(1)).does(&["start x"]);
    assert!(!pod.is_ready(), "and no init container runs again");
}

#[test]
fn a_failing_init_container_is_tried_again_for_ever_and_nothing_passes_it() {
    let mut pod = Pod::new([init("a"), main("x")]);
    pod.does(&["start a"]).started("a").exits("a", Exit::Code(3)).does(&["start a"]);
    assert_eq!(pod.failure(), ("Error".into(), "container a ended: exit code 3".into()));
    let waits = (0..6).map(|_| {
        pod.started("a").exits("a", Exit::Code(3)).does(&[]);
        let wait = pod.wakes_in().unwrap();
        assert!(pod.reason().starts_with("CrashLoopBackOff: "), "{}", pod.reason());
        pod.pass(wait).does(&["start a"]);
        wait
    });
    assert_eq!(waits.collect::<Vec<_>>(), [10, 20, 40, 80, 160, 300]);
    assert_eq!(pod.bench.status("a").restarts, 6);
    pod.started("a").exits("a", Exit::Code(0)).does(&["start x"]);
}

#[test]
fn a_main_container_that_fails_to_start_does_not_keep_the_next_from_it() {
    let mut pod = Pod::new([main("x"), main("y")]);
    let (at, container) = (pod.at.clone(), "x".to_owned());
    pod.does(&["start x"]);
    let reason = crate::bench::reason();
    pod.apply(Event::StartFailed { pod: at, container, reason });
    pod.does(&["start x"]);
    pod.started("x").does(&["start y"]);
}

#[test]
fn a_sidecar_opens_the_way_when_it_has_started_and_is_restarted_for_ever() {
    let mut pod = Pod::new([startup(sidecar("s")), init("a"), main("x")]);
    pod.does(&["start s"]).started("s").does(&["try s Startup"]);
    pod.tried("s", ProbeKind::Startup, false).does(&[]);
    assert_eq!(
        pod.reason(),
        "ContainersNotReady: startup probe of s: 1 of 3 in a row failed: connection refused"
    );
    pod.pass(10).does(&["try s Startup"]).tried("s", ProbeKind::Startup, true).does(&["start a"]);
    pod.started("a").exits("s", Exit::Code(0)).does(&["start s"]);
    pod.exits("a", Exit::Code(0)).does(&["start x"]);
    pod.started("x").does(&[]);
    assert!(!pod.is_ready(), "its sidecar is not up");
    pod.started("s").does(&["try s Startup"]).tried("s", ProbeKind::Startup, true);
    assert!(pod.is_ready());
}

#[test]
fn a_startup_probe_keeps_the_others_back_and_a_failed_one_restarts() {
    let mut pod = Pod::new([readiness(liveness(startup(main("x"))))]);
    pod.does(&["start x"]).started("x").does(&["try x Startup"]);
    for _ in 0..2 {
        pod.tried("x", ProbeKind::Startup, false).does(&[]).pass(10).does(&["try x Startup"]);
    }
    pod.tried("x", ProbeKind::Startup, false).does(&["stop x"]);
    pod.exits("x", Exit::Signal(15)).does(&["start x"]);
    let line = "Startup probe failed: connection refused".to_owned();
    assert_eq!(pod.failure(), ("Unhealthy".into(), line));
    pod.started("x").does(&["try x Startup"]).tried("x", ProbeKind::Startup, true);
    pod.does(&["try x Liveness", "try x Readiness"]);
    assert!(!pod.is_ready());
    pod.tried("x", ProbeKind::Readiness, true);
    assert!(pod.is_ready());
}

#[test]
fn what_fails_its_liveness_probe_is_stopped_killed_after_its_grace_and_started_again() {
    let own = |it: &mut Lifecycle| {
        it.probes.liveness = Some(Probe { grace: Some(Duration::from_secs(4)), ..probe() });
    };
    let mut pod = Pod::new([with(pre_stop(main("x")), own), main("y")]);
    pod.does(&["start x"]).started("x").does(&["start y", "try x Liveness"]).started("y");
    for _ in 0..2 {
        pod.tried("x", ProbeKind::Liveness, false).pass(10).does(&["try x Liveness"]);
    }
    assert!(pod.is_ready());
    pod.tried("x", ProbeKind::Liveness, false).does(&["hook x PreStop 4s"]);
    assert!(!pod.is_ready());
    assert!(pod.reason().starts_with("Killing: stopping container x: Unhealthy: "));
    pod.pass(4).does(&["stop x"]).pass(2).does(&["kill x"]);
    pod.pass(1).does(&["kill x"]).exits("x", Exit::Signal(9)).does(&["start x"]);
    let line = "Liveness probe failed: connection refused".to_owned();
    assert_eq!(pod.failure(), ("Unhealthy".into(), line));
    let status = pod.bench.status("a");
    assert_eq!(status.last_failure.unwrap().exit, Some(Exit::Signal(9)));
    assert!(matches!(status.containers[1].state, ContainerState::Running { .. }), "y runs on");
    pod.started("x").exits("x", Exit::Code(1)).does(&["try x Liveness"]);
    assert_eq!(pod.wakes_in(), Some(10), "the back-off is that of an exit");
    assert_eq!((pod.bench.status("a").restarts, pod.is_ready()), (1, false));
}

#[test]
fn readiness_is_told_and_restarts_nothing() {
    let mut pod = Pod::new([readiness(main("x"))]);
    pod.does(&["start x"]).started("x").does(&["try x Readiness"]);
    assert!(!pod.is_ready());
    pod.pass(7).tried("x", ProbeKind::Readiness, true).does(&[]);
    assert!(pod.is_ready());
    for (left, expected) in [(2, true), (1, true), (0, false)] {
        pod.pass(pod.wakes_in().unwrap()).does(&["try x Readiness"]);
        pod.tried("x", ProbeKind::Readiness, false).does(&[]);
        assert_eq!(pod.is_ready(), expected, "{left} before it is believed");
    }
    let status = pod.bench.status("a");
    assert_eq!((status.phase, status.restarts, status.times_unready), (PodPhase::Running, 0, 1));
    assert!(
        pod.reason().ends_with("readiness probe of x: 3 of 3 in a row failed: connection refused")
    );
    pod.pass(10).does(&["try x Readiness"]).tried("x", ProbeKind::Readiness, true);
    assert!(pod.is_ready());
    assert_eq!(pod.bench.status("a").ready_for, Duration::ZERO, "since its last success");
}

#[test]
fn the_answer_to_a_former_run_says_nothing() {
    let mut pod = Pod::new([liveness(main("x"))]);
    pod.does(&["start x"]).started("x").does(&["try x Liveness"]);
    let late = pod.number("x", "Liveness");
    pod.exits("x", Exit::Code(1)).does(&["start x"]).started("x").does(&["try x Liveness"]);
    for number in [late, 999] {
        let (at, container) = (pod.at.clone(), "x".to_owned());
        let kind = ProbeKind::Liveness;
        pod.apply(Event::Probed { pod: at, container, kind, number, outcome: Err(String::new()) });
        pod.does(&[]).pass(60).does(&[]);
    }
    assert!(pod.is_ready());
}

#[test]
fn post_start_comes_before_ready_before_probes_and_before_the_next() {
    let mut pod = Pod::new([liveness(post_start(main("x"))), main("y")]);
    pod.does(&["start x"]).started("x").does(&["hook x PostStart"]).pass(100).does(&[]);
    assert_eq!(pod.reason(), "ContainersNotReady: the postStart hook of x is running");
    pod.hooked("x", HookKind::PostStart, true).does(&["start y", "try x Liveness"]);
    pod.started("y");
    assert!(pod.is_ready());
}

#[test]
fn a_failed_post_start_hook_ends_the_container_with_its_pre_stop_hook() {
    let mut pod = Pod::new([pre_stop(post_start(main("x")))]);
    pod.does(&["start x"]).started("x").does(&["hook x PostStart"]);
    pod.hooked("x", HookKind::PostStart, false).does(&["hook x PreStop 30s"]);
    pod.hooked("x", HookKind::PreStop, false).does(&["stop x"]);
    pod.exits("x", Exit::Code(0)).does(&["start x"]);
    let line = "PostStart hook failed: exit code 1".to_owned();
    assert_eq!(pod.failure(), ("PostStartHookError".into(), line));
}

#[test]
fn all_main_containers_end_at_once_then_sidecars_from_the_last_to_the_first() {
    let mut pod = Pod::new([sidecar("s"), pre_stop(sidecar("t")), pre_stop(main("x")), main("y")]);
    for name in ["s", "t", "x", "y"] {
        pod.started(name);
    }
    pod.open.clear();
    pod.end().does(&["close", "hook x PreStop 30s", "stop y"]);
    pod.exits("y", Exit::Code(0)).does(&[]);
    pod.pass(5).hooked("x", HookKind::PreStop, true).does(&["stop x"]);
    pod.exits("x", Exit::Code(0)).does(&["hook t PreStop 25s"]);
    pod.hooked("t", HookKind::PreStop, false).does(&["stop t"]);
    pod.exits("t", Exit::Code(0)).does(&["stop s"]);
    pod.exits("s", Exit::Code(0)).does(&[]);
    let actions = pod.bench.empty("a");
    pod.take(actions);
    pod.does(&["remove"]);
}

#[test]
fn the_grace_is_one_for_all_and_two_seconds_are_for_who_was_not_told() {
    let mut pod = Pod::new([sidecar("s"), main("x"), pre_stop(main("y"))]);
    for name in ["s", "x", "y"] {
        pod.started(name);
    }
    pod.open.clear();
    pod.end().does(&["close", "stop x", "hook y PreStop 30s"]);
    assert_eq!(pod.wakes_in(), Some(30));
    pod.pass(30).does(&["stop y", "kill x", "stop s"]);
    assert_eq!(pod.wakes_in(), Some(2));
    pod.hooked("y", HookKind::PreStop, true).does(&[]);
    pod.pass(2).does(&["kill all"]);
}

#[test]
fn what_all_were_told_in_time_is_killed_without_two_seconds_more() {
    let mut pod = Pod::new([pre_stop(main("x"))]);
    pod.started("x").open.clear();
    pod.end().does(&["close", "hook x PreStop 30s"]);
    pod.pass(10).hooked("x", HookKind::PreStop, true).does(&["stop x"]);
    assert_eq!(pod.wakes_in(), Some(20));
    pod.pass(20).does(&["kill all"]);
}

#[test]
fn a_stop_starts_nothing_and_tries_nothing() {
    let mut pod = Pod::new([init("a"), pre_stop(main("x")), liveness(main("y"))]);
    pod.started("a").open.clear();
    pod.end().does(&["close", "stop a"]).exits("a", Exit::Code(0)).does(&[]);
    pod.pass(29).does(&[]);
}

#[test]
fn a_start_that_was_under_way_is_ended_when_it_comes() {
    let mut pod = Pod::new([sidecar("s"), main("x")]);
    pod.started("s").does(&["start s", "start x"]);
    pod.end().does(&["close"]).pass(1).does(&[]);
    pod.started("x").does(&["stop x"]);
    pod.exits("x", Exit::Signal(15)).does(&["stop s"]);
}

#[test]
fn a_template_says_how_long_its_containers_wait() {
    let secs = |secs| Some(Duration::from_secs(secs));
    let mut pod = Pod::waiting([main("x")], RestartBackoff { first: secs(1), max: secs(3) });
    pod.does(&["start x"]);
    let waits = (0..5).map(|_| {
        pod.started("x").exits("x", Exit::Code(1));
        let wait = pod.wakes_in().unwrap_or(0);
        pod.pass(wait).does(&["start x"]);
        wait
    });
    assert_eq!(waits.collect::<Vec<_>>(), [0, 1, 2, 3, 3]);
}

#[test]
fn a_silent_supervisors_pod_is_not_tried_until_it_answers() {
    let mut pod = Pod::new([liveness(main("x"))]);
    pod.does(&["start x"]).started("x").does(&["try x Liveness"]);
    let at = pod.at.clone();
    pod.apply(Event::SupervisorSilent(at.clone()));
    for _ in 0..5 {
        pod.tried("x", ProbeKind::Liveness, false).pass(10).does(&[]);
    }
    pod.apply(Event::SupervisorHeard(at));
    pod.does(&["try x Liveness"]);
    assert!(pod.is_ready());
}

#[test]
fn under_a_new_agent_no_init_container_runs_again_and_it_goes_on_where_it_was() {
    let done = Some(Exit::Code(0));
    let mut pod = adopted(
        vec![
            supervised(init("a"), None, done),
            supervised(startup(sidecar("s")), Some(5), None),
            supervised(init("b"), None, done),
            supervised(main("x"), Some(6), None),
        ],
        false,
        true,
    );
    pod.does(&[]);
    assert!(pod.is_ready(), "{}", pod.reason());
    let status = pod.bench.status("a");
    assert_eq!((status.last_failure, status.times_unready), (None, 0));
    let mut pod = adopted(
        vec![
            supervised(init("a"), None, done),
            supervised(init("b"), None, None),
            supervised(main("x"), None, None),
        ],
        false,
        true,
    );
    pod.does(&["start b"]).started("b").exits("b", Exit::Code(0)).does(&["start x"]);
}

#[test]
fn under_a_new_agent_readiness_is_found_out_within_a_second() {
    let mut pod = adopted(vec![supervised(readiness(main("x")), Some(6), None)], false, true);
    pod.does(&[]);
    assert!(!pod.is_ready());
    pod.pass(1).does(&["try x Readiness"]).tried("x", ProbeKind::Readiness, true);
    assert!(pod.is_ready());
    assert_eq!(pod.bench.status("a").times_unready, 0);
}

#[test]
fn a_stop_under_way_goes_on_under_a_new_agent() {
    let asked = SupervisedContainer { asked: true, ..supervised(main("x"), Some(6), None) };
    let side = supervised(sidecar("s"), Some(5), None);
    for wanted in [true, false] {
        let mut pod = adopted(vec![side.clone(), asked.clone()], true, wanted);
        pod.does(&[]).exits("x", Exit::Signal(15)).does(&["stop s"]);
        let mut pod = adopted(
            vec![side.clone(), supervised(pre_stop(main("x")), Some(6), None)],
            true,
            wanted,
        );
        pod.does(&["hook x PreStop 30s"]).pass(30).does(&["stop x", "stop s"]);
    }
}

#[test]
fn a_liveness_stop_under_way_goes_on_under_a_new_agent() {
    let asked = SupervisedContainer { asked: true, ..supervised(main("x"), Some(6), None) };
    let mut pod = adopted(vec![asked], false, true);
    pod.does(&[]).pass(30).does(&["kill x"]);
    pod.exits("x", Exit::Signal(9)).does(&["start x"]);
}

#[test]
fn what_the_supervisor_can_no_longer_be_told_is_killed_without_waiting() {
    let mut pod = Pod::new([pre_stop(main("x"))]);
    pod.started("x").open.clear();
    pod.end().does(&["close", "hook x PreStop 30s"]);
    let at = pod.at.clone();
    pod.apply(Event::SupervisorLost(at));
    pod.does(&["kill all"]);
}

#[test]
fn containers_say_what_they_are_to_the_pod() {
    let mut pod = Pod::new([init("a"), main("x")]);
    let states = |pod: &Pod| pod.bench.status("a").containers.into_iter().map(|it| it.state);
    let codes = |pod: &Pod| {
        states(pod).map(|state| match state {
            ContainerState::Waiting(reason) => reason.code,
            ContainerState::Running { .. } => "Running".to_owned(),
            ContainerState::Terminated(exit) => exit.to_string(),
        })
    };
    assert_eq!(codes(&pod).collect::<Vec<_>>(), ["ContainerCreating", "PodInitializing"]);
    pod.started("a").exits("a", Exit::Code(0));
    assert_eq!(codes(&pod).collect::<Vec<_>>(), ["exit code 0", "ContainerCreating"]);
}
