//! Containers of one pod that end one by one, and what is run in them.

use std::time::Duration;

use everynode_agent_core::{
    ContainerSpec, Handler, Hooks, Lifecycle, PodRef, Probe, Probes, RestartBackoff, Role,
};
use everynode_model::Exit;

use super::{Does, Factory, Machine, exited, request, spec_of};
use crate::{Captured, ExecError, Executed, RuntimeEvent, capture};

/// Runs every case of this file.
pub(super) async fn every_case(factory: &dyn Factory) {
    one_container_is_told_to_end(factory).await;
    one_container_is_killed(factory).await;
    a_closed_pod_ends_with_its_last_container(factory).await;
    a_closed_pod_in_which_nothing_runs_is_over(factory).await;
    what_is_run_in_a_container_is_told_as_it_ended(factory).await;
    what_is_run_in_a_container_ends_in_time_and_with_it(factory).await;
    nothing_is_run_in_a_container_that_does_not_run(factory).await;
    a_new_runtime_is_told_the_plan(factory).await;
}

/// The others go on, it can be started again, and that it was told is remembered for one run.
pub async fn one_container_is_told_to_end(factory: &dyn Factory) {
    let mut machine = Machine::open(factory).await;
    let does = [("a", Does::Run), ("b", Does::Run), ("stubborn", Does::IgnoreTerm)];
    let pod = machine.create(request("stop", spec_of(factory, &does))).await;
    machine.runtime.stop(&pod, "a").await.expect("what does not run is not told");
    machine.start(&pod, "a").await;
    let b = machine.start(&pod, "b").await;
    let stubborn = machine.start(&pod, "stubborn").await;
    factory.ignores_term(stubborn).await;
    for container in ["a", "stubborn"] {
        machine.runtime.stop(&pod, container).await.expect("it is supervised");
    }
    machine.expect(exited(&pod, "a", Exit::Signal(15))).await;
    let mut machine = machine.reopen().await;
    let told = machine.supervised(&pod).await.containers;
    let told: Vec<_> = told.iter().map(|told| (told.pid, told.asked)).collect();
    assert_eq!(told, [(None, false), (Some(b), false), (Some(stubborn), true)]);
    machine.start(&pod, "a").await;
    assert!(!machine.supervised(&pod).await.containers[0].asked, "its next run was not told");
    machine.end(&pod).await;
}

/// The others go on, and it can be started again.
pub async fn one_container_is_killed(factory: &dyn Factory) {
    let mut machine = Machine::open(factory).await;
    let does = [("a", Does::IgnoreTerm), ("b", Does::Run), ("never", Does::Run)];
    let pod = machine.create(request("kill-one", spec_of(factory, &does))).await;
    machine.start(&pod, "a").await;
    let b = machine.start(&pod, "b").await;
    machine.runtime.kill_container(&pod, "never").await.expect("nothing of it is there");
    for _ in 0..2 {
        machine.runtime.kill_container(&pod, "a").await.expect("it can be killed");
        machine.expect(exited(&pod, "a", Exit::Signal(9))).await;
        machine.start(&pod, "a").await;
    }
    assert_eq!(machine.supervised(&pod).await.containers[1].pid, Some(b));
    machine.end(&pod).await;
}

/// Nothing is started in it any more, what runs goes on until it is told, and then the place is
/// empty; and no word of a lost supervisor.
pub async fn a_closed_pod_ends_with_its_last_container(factory: &dyn Factory) {
    let mut machine = Machine::open(factory).await;
    let does = [("a", Does::Run), ("b", Does::Run), ("never", Does::Run)];
    let pod = machine.create(request("close", spec_of(factory, &does))).await;
    machine.start(&pod, "a").await;
    let b = machine.start(&pod, "b").await;
    machine.runtime.close(&pod).await.expect("it is supervised");
    let error = machine.runtime.start(&pod, "never").await.expect_err("must be refused");
    assert!(!error.in_doubt(), "{error}");
    machine.runtime.stop(&pod, "a").await.expect("it is supervised");
    machine.expect(exited(&pod, "a", Exit::Signal(15))).await;
    // A successor finds the rest of it, and may still run a hook in it.
    let mut machine = machine.reopen().await;
    let supervised = machine.supervised(&pod).await;
    assert!(supervised.terminating);
    let told = supervised.containers;
    assert_eq!((told[0].pid, told[1].pid, told[1].asked), (None, Some(b), false));
    assert_eq!(machine.run(&pod, "b", Does::Exit(0), None).await, Ok(Exit::Code(0)));
    machine.runtime.stop(&pod, "b").await.expect("it is supervised");
    machine.expect(exited(&pod, "b", Exit::Signal(15))).await;
    machine.expect(RuntimeEvent::PlaceEmpty(pod.key.clone())).await;
    machine.runtime.remove(&pod).await.expect("it is dead");
}

/// There is no last container to wait for.
pub async fn a_closed_pod_in_which_nothing_runs_is_over(factory: &dyn Factory) {
    let mut machine = Machine::open(factory).await;
    let pod = machine.create(request("hollow", spec_of(factory, &[("a", Does::Run)]))).await;
    machine.runtime.close(&pod).await.expect("it is supervised");
    machine.expect(RuntimeEvent::PlaceEmpty(pod.key.clone())).await;
    machine.runtime.remove(&pod).await.expect("it is dead");
}

/// Its exit, and not the container's.
pub async fn what_is_run_in_a_container_is_told_as_it_ended(factory: &dyn Factory) {
    let mut machine = Machine::open(factory).await;
    let pod = machine.create(request("exec", spec_of(factory, &[("a", Does::Run)]))).await;
    let pid = machine.start(&pod, "a").await;
    assert_eq!(machine.run(&pod, "a", Does::Exit(0), None).await, Ok(Exit::Code(0)));
    assert_eq!(machine.run(&pod, "a", Does::Exit(7), None).await, Ok(Exit::Code(7)));
    assert_eq!(machine.run(&pod, "a", Does::Die, None).await, Ok(Exit::Signal(9)));
    let error = machine.run(&pod, "a", Does::Nothing, None).await.expect_err("can't be run");
    let program = &factory.container("x", Does::Nothing).argv[0];
    assert!(error.contains(program), "{error}");
    // Several at once, each with an answer of its own.
    let (zero, one) = tokio::join!(
        machine.run(&pod, "a", Does::Exit(0), None),
        machine.run(&pod, "a", Does::Exit(1), None)
    );
    assert_eq!((zero, one), (Ok(Exit::Code(0)), Ok(Exit::Code(1))));
    assert_eq!(machine.supervised(&pod).await.containers[0].pid, Some(pid));
    machine.end(&pod).await;
}

/// Of the two it is the first that counts.
pub async fn what_is_run_in_a_container_ends_in_time_and_with_it(factory: &dyn Factory) {
    let mut machine = Machine::open(factory).await;
    let pod = machine.create(request("exec-ends", spec_of(factory, &[("a", Does::Run)]))).await;
    machine.start(&pod, "a").await;
    let timeout = Some(Duration::from_millis(50));
    let captured = machine.capture(&pod, "a", Does::IgnoreTerm, timeout).await;
    let executed = captured.expect("it was run").executed;
    assert_eq!(executed, Executed { exit: Exit::Signal(9), timed_out: true });
    let runtime = &machine.runtime;
    let argv = factory.container("x", Does::Run).argv;
    let (captured, killed) = tokio::join!(capture(&**runtime, &pod, "a", argv, None), async {
        // After the request that is in the same order of questions.
        tokio::task::yield_now().await;
        runtime.list().await.expect("it can be listed");
        runtime.kill_container(&pod, "a").await
    });
    killed.expect("it can be killed");
    // Whichever comes first: it was killed with its container, or not run in one that was dead.
    match captured {
        Ok(captured) => assert_eq!(captured.executed.exit, Exit::Signal(9)),
        Err(error) => assert!(matches!(error, ExecError::Refused(_)), "{error}"),
    }
    machine.expect(exited(&pod, "a", Exit::Signal(9))).await;
    machine.end(&pod).await;
}

/// Neither before it was started nor after it has ended.
pub async fn nothing_is_run_in_a_container_that_does_not_run(factory: &dyn Factory) {
    let mut machine = Machine::open(factory).await;
    let pod = machine.create(request("exec-none", spec_of(factory, &[("a", Does::Exit(1))]))).await;
    for _ in 0..2 {
        for container in ["a", "stranger"] {
            let error = machine.capture(&pod, container, Does::Exit(0), None).await;
            let error = error.expect_err("must be refused");
            assert!(matches!(error, ExecError::Refused(_)), "{error}");
        }
        machine.start(&pod, "a").await;
        machine.expect(exited(&pod, "a", Exit::Code(1))).await;
    }
    machine.end(&pod).await;
    let error = machine.capture(&pod, "a", Does::Exit(0), None).await.expect_err("it is gone");
    assert!(matches!(error, ExecError::NotSupervised(_)), "{error}");
}

/// Whoever adopts a pod looks after it as its maker did.
pub async fn a_new_runtime_is_told_the_plan(factory: &dyn Factory) {
    let mut machine = Machine::open(factory).await;
    let command = vec!["x".repeat(100_000)];
    let probe = Probe {
        handler: Handler::Tcp { host: None, port: 80 },
        initial_delay: Duration::ZERO,
        period: Duration::from_secs(3),
        timeout: Duration::from_secs(2),
        success_threshold: 1,
        failure_threshold: 4,
        grace: None,
    };
    let side = Lifecycle {
        role: Role::Sidecar,
        probes: Probes { readiness: Some(probe), ..Probes::default() },
        // Longer than the first supervisors' lines were.
        hooks: Hooks { pre_stop: Some(Handler::Exec(command)), ..Hooks::default() },
    };
    let containers = vec![
        ContainerSpec { lifecycle: side.clone(), ..factory.container("side", Does::Run) },
        factory.container("main", Does::Run),
    ];
    let mut request = request("plan", spec_of(factory, &[]));
    request.spec.containers = containers;
    request.spec.restart =
        RestartBackoff { first: Some(Duration::from_secs(1)), max: Some(Duration::from_secs(5)) };
    let pod = machine.create(request.clone()).await;
    for _ in 0..2 {
        let supervised = machine.supervised(&pod).await;
        assert_eq!(supervised.restart, request.spec.restart);
        let told = supervised.containers.iter().map(|container| &container.lifecycle);
        assert!(told.eq([&side, &Lifecycle::default()]));
        machine = machine.reopen().await;
    }
    machine.end(&pod).await;
}

impl Machine<'_> {
    /// Runs what a container of this kind would run.
    async fn capture(
        &self,
        pod: &PodRef,
        container: &str,
        does: Does,
        timeout: Option<Duration>,
    ) -> Result<Captured, ExecError> {
        let argv = self.factory.container("x", does).argv;
        capture(&*self.runtime, pod, container, argv, timeout).await
    }

    /// How it ended by itself.
    async fn run(
        &self,
        pod: &PodRef,
        container: &str,
        does: Does,
        timeout: Option<Duration>,
    ) -> Result<Exit, String> {
        let captured = self.capture(pod, container, does, timeout).await;
        let executed = captured.map_err(|error| error.to_string())?.executed;
        assert!(!executed.timed_out);
        Ok(executed.exit)
    }
}
