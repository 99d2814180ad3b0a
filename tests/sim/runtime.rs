//! A machine, as its agent's runtime. Every call takes a moment before and after its effect, so that
//! crashes fall between.

use std::collections::BTreeSet;
use std::time::Duration;

use everynode_agent_core::{Found, PodRef};
use everynode_model::{ClusterId, Exit, PodKey, Reason};
use everynode_runtime::{
    CreateError, CreateRequest, ExecError, ExecRequest, Executed, KillError, ListError,
    RemoveError, Runtime, RuntimeEvent, StartError, TerminateError,
};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use crate::machine::{Machine, Pod, State};

/// Enough for every event of one step of the world.
const EVENTS: usize = 1024;
const MOMENT: Duration = Duration::from_millis(20);

/// See the module.
pub(crate) struct SimRuntime {
    machine: Machine,
    events: mpsc::Sender<RuntimeEvent>,
}

impl SimRuntime {
    /// A runtime for an agent that starts on this machine, and its events. They flow from the first
    /// look on, as with supervisors that are connected to by then.
    pub(crate) fn on(machine: &Machine) -> (Self, mpsc::Receiver<RuntimeEvent>) {
        let (events, receiver) = mpsc::channel(EVENTS);
        (Self { machine: machine.clone(), events }, receiver)
    }
}

async fn moment() {
    tokio::time::sleep(MOMENT).await;
}

impl Runtime for SimRuntime {
    fn name(&self) -> &'static str {
        "process"
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Found>, ListError>> {
        async move {
            moment().await;
            let mut state = self.machine.state();
            state.events = Some(self.events.clone());
            let mut found: Vec<Found> = state.pods.iter().map(|pod| pod.found(state.now)).collect();
            found.sort_by(|one, other| one.key.cmp(&other.key));
            Ok(found)
        }
        .boxed()
    }

    fn create(&self, request: CreateRequest) -> BoxFuture<'_, Result<(), CreateError>> {
        async move {
            moment().await;
            let created = create(&mut self.machine.state(), request);
            moment().await;
            created
        }
        .boxed()
    }

    fn start<'a>(
        &'a self,
        pod: &'a PodRef,
        container: &'a str,
    ) -> BoxFuture<'a, Result<u32, StartError>> {
        async move {
            moment().await;
            let started = start(&mut self.machine.state(), pod, container);
            moment().await;
            started
        }
        .boxed()
    }

    fn terminate<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, Result<(), TerminateError>> {
        async move {
            moment().await;
            let mut state = self.machine.state();
            if !state.pod_mut(pod).is_some_and(|found| found.supervised) {
                return Err(TerminateError::NotSupervised(pod.clone()));
            }
            state.ask_to_end(pod);
            Ok(())
        }
        .boxed()
    }

    fn close<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, Result<(), TerminateError>> {
        async move {
            moment().await;
            let closed = self.machine.state().close(pod);
            closed.then_some(()).ok_or_else(|| TerminateError::NotSupervised(pod.clone()))
        }
        .boxed()
    }

    fn stop<'a>(
        &'a self,
        pod: &'a PodRef,
        container: &'a str,
    ) -> BoxFuture<'a, Result<(), TerminateError>> {
        async move {
            moment().await;
            let mut state = self.machine.state();
            let Some(found) = state.pod_mut(pod).filter(|found| found.supervised) else {
                return Err(TerminateError::NotSupervised(pod.clone()));
            };
            if !found.stubborn {
                state.end_container(pod, container, Exit::Signal(15));
            }
            Ok(())
        }
        .boxed()
    }

    fn kill_container<'a>(
        &'a self,
        pod: &'a PodRef,
        container: &'a str,
    ) -> BoxFuture<'a, Result<(), KillError>> {
        async move {
            moment().await;
            self.machine.state().end_container(pod, container, Exit::Signal(9));
            Ok(())
        }
        .boxed()
    }

    /// Whatever is run does nothing, and succeeds.
    fn exec<'a>(
        &'a self,
        pod: &'a PodRef,
        container: &'a str,
        _request: ExecRequest,
    ) -> BoxFuture<'a, Result<Executed, ExecError>> {
        async move {
            moment().await;
            match self.machine.state().runs(pod, container) {
                Some(true) => Ok(Executed { exit: Exit::Code(0), timed_out: false }),
                Some(false) => {
                    Err(ExecError::Refused(Reason::new("NotRunning", "it does not run")))
                }
                None => Err(ExecError::NotSupervised(pod.clone())),
            }
        }
        .boxed()
    }

    fn kill<'a>(
        &'a self,
        key: &'a PodKey,
        clusters: &'a BTreeSet<ClusterId>,
    ) -> BoxFuture<'a, Result<(), KillError>> {
        async move {
            moment().await;
            let mut state = self.machine.state();
            let ours = |pod: &&Pod| {
                pod.request.pod.key == *key
                    && clusters.contains(&pod.request.marks.cluster)
                    && pod.populated()
            };
            let ours: Vec<PodRef> =
                state.pods.iter().filter(ours).map(|pod| pod.request.pod.clone()).collect();
            for pod in &ours {
                state.kill(pod);
            }
            state.say_if_empty(key);
            Ok(())
        }
        .boxed()
    }

    fn kill_pod<'a>(
        &'a self,
        pod: &'a PodRef,
        clusters: &'a BTreeSet<ClusterId>,
    ) -> BoxFuture<'a, Result<(), KillError>> {
        async move {
            moment().await;
            let mut state = self.machine.state();
            let ours = |found: &&mut Pod| {
                clusters.contains(&found.request.marks.cluster) && found.populated()
            };
            match state.pod_mut(pod).filter(ours).is_some() {
                true => state.kill(pod),
                false => state.say_if_pod_empty(pod),
            }
            Ok(())
        }
        .boxed()
    }

    fn remove<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, Result<(), RemoveError>> {
        async move {
            moment().await;
            let mut state = self.machine.state();
            if state.pod_mut(pod).is_some_and(|found| found.populated()) {
                state.violated(format!("P1: {pod} was to be removed alive"));
                return Err(RemoveError::Alive(pod.clone()));
            }
            state.pods.retain(|found| found.request.pod != *pod);
            Ok(())
        }
        .boxed()
    }
}

/// The contract says that an occupied place is refused; that it was asked for is a violation.
fn create(state: &mut State, request: CreateRequest) -> Result<(), CreateError> {
    let key = request.pod.key.clone();
    let other = |pod: &&Pod| {
        let beside = request.beside == Some(pod.request.pod.uid);
        pod.request.pod.key == key && pod.populated() && !beside
    };
    if state.pods.iter().any(|pod| other(&pod)) {
        state.violated(format!("P1: a pod of {key} too many was to be created"));
        return Err(CreateError::Occupied(key));
    }
    if let Some(uid) = request.beside {
        state.say_if_pod_empty(&PodRef { key, uid });
    }
    let pod = Pod::new(request, state.now);
    state.add(pod);
    Ok(())
}

fn start(state: &mut State, pod: &PodRef, name: &str) -> Result<u32, StartError> {
    let refused = |code: &str| Err(StartError::Refused(Reason::new(code, "refused")));
    let not_supervised = || StartError::NotSupervised(pod.clone());
    let found = state.pod_mut(pod).filter(|pod| pod.supervised).ok_or_else(not_supervised)?;
    if found.terminating {
        return refused("Terminating");
    }
    if found.containers.iter().any(|container| container.name == name && container.pid.is_some()) {
        return refused("AlreadyRunning");
    }
    state.run(pod, name).ok_or_else(not_supervised)
}
