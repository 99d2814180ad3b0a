//! One simulated machine: what is alive on it, and a runtime through which an agent sees it.
//!
//! A [`Machine`] outlives its agent, as real processes do. The world moves it on with
//! [`Machine::advance`]; nothing here spawns or sleeps on its own account, so a crashed agent leaves
//! it exactly as it was. It keeps its own record of what must never be ([`Machine::violations`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use everynode_agent_core::{Found, Marks, PodRef, Supervised, SupervisedContainer};
use everynode_model::{ClusterId, Exit, PodKey, Reason};
use everynode_runtime::{
    CreateError, CreateRequest, KillError, ListError, RemoveError, Runtime, RuntimeEvent,
    StartError, TerminateError,
};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

/// Enough for every event of one step of the world.
const EVENTS: usize = 1024;

/// A machine. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(crate) struct Machine(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    now: Duration,
    pods: Vec<Pod>,
    next_pid: u32,
    events: Option<mpsc::Sender<RuntimeEvent>>,
    /// Starts of containers, ever, by place.
    starts: BTreeMap<PodKey, u64>,
    violations: Vec<String>,
}

struct Pod {
    request: CreateRequest,
    supervised: bool,
    terminating: bool,
    /// SIGTERM is ignored: only a kill ends it.
    stubborn: bool,
    dies_at: Option<Duration>,
    containers: Vec<Container>,
}

struct Container {
    name: String,
    pid: Option<u32>,
    last_exit: Option<Exit>,
    since: Duration,
}

/// What lives in one place, for the world to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) key: PodKey,
    pub(crate) marks: Marks,
    pub(crate) revision: everynode_model::Digest,
    pub(crate) set: everynode_model::SetUid,
    pub(crate) pids: Vec<u32>,
}

impl Machine {
    /// All that is alive here.
    pub(crate) fn alive(&self) -> Vec<Life> {
        let life = |pod: &Pod| Life {
            key: pod.request.pod.key.clone(),
            marks: pod.request.marks,
            revision: pod.request.revision,
            set: pod.request.set,
            pids: pod.containers.iter().filter_map(|container| container.pid).collect(),
        };
        self.state().pods.iter().filter(|pod| pod.populated()).map(life).collect()
    }

    /// What must never be and was.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    /// How many containers were started here, ever.
    pub(crate) fn starts(&self) -> u64 {
        self.state().starts.values().sum()
    }

    /// Time passes: what was told to end and does, ends.
    pub(crate) fn advance(&self, now: Duration) {
        let mut state = self.state();
        state.now = now;
        let due = |pod: &Pod| pod.dies_at.is_some_and(|at| at <= now);
        let dying: Vec<PodRef> =
            state.pods.iter().filter(|pod| due(pod)).map(|pod| pod.request.pod.clone()).collect();
        for pod in dying {
            state.end(&pod, Exit::Signal(15));
        }
    }

    /// A container's process dies of its own accord.
    pub(crate) fn crash_container(&self, nth: usize) {
        let mut state = self.state();
        let running: Vec<(PodRef, String)> = state
            .pods
            .iter()
            .flat_map(|pod| pod.running().map(|name| (pod.request.pod.clone(), name)))
            .collect();
        if let Some((pod, name)) = running.get(nth % running.len().max(1)).cloned() {
            state.exit(&pod, &name, Exit::Code(1));
        }
    }

    /// A supervisor is killed; what it started goes on.
    pub(crate) fn kill_supervisor(&self, nth: usize) {
        let mut state = self.state();
        let supervised: Vec<PodRef> = state
            .pods
            .iter()
            .filter(|pod| pod.supervised)
            .map(|pod| pod.request.pod.clone())
            .collect();
        if let Some(pod) = supervised.get(nth % supervised.len().max(1)).cloned() {
            if let Some(found) = state.pod_mut(&pod) {
                found.supervised = false;
            }
            state.say(RuntimeEvent::SupervisorLost(pod.clone()));
            state.say_if_empty(&pod.key);
        }
    }

    /// From now on the pod heeds no SIGTERM.
    pub(crate) fn make_stubborn(&self, nth: usize) {
        let mut state = self.state();
        let count = state.pods.len().max(1);
        if let Some(pod) = state.pods.get_mut(nth % count) {
            pod.stubborn = true;
        }
    }

    /// The power fails: nothing is alive afterwards.
    pub(crate) fn reboot(&self) {
        let mut state = self.state();
        state.pods.clear();
        state.events = None;
    }

    /// A runtime for an agent that starts on this machine, and its events.
    pub(crate) fn runtime(&self) -> (SimRuntime, mpsc::Receiver<RuntimeEvent>) {
        let (sender, receiver) = mpsc::channel(EVENTS);
        self.state().events = Some(sender);
        (SimRuntime(self.clone()), receiver)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pod {
    fn populated(&self) -> bool {
        self.supervised || self.containers.iter().any(|container| container.pid.is_some())
    }

    fn running(&self) -> impl Iterator<Item = String> + '_ {
        self.containers
            .iter()
            .filter(|container| container.pid.is_some())
            .map(|container| container.name.clone())
    }

    fn found(&self, now: Duration) -> Found {
        let containers = self.containers.iter().map(|container| SupervisedContainer {
            name: container.name.clone(),
            pid: container.pid,
            last_exit: container.last_exit,
            for_time: now.saturating_sub(container.since),
        });
        let supervised = Supervised {
            set: self.request.set,
            revision: self.request.revision,
            replace: self.request.replace,
            grace: self.request.spec.grace,
            created_at: self.request.created_at,
            terminating: self.terminating,
            restarts: self.request.restarts,
            containers: containers.collect(),
        };
        Found {
            key: self.request.pod.key.clone(),
            pod: Some(self.request.pod.uid),
            marks: Some(self.request.marks),
            populated: self.populated(),
            supervised: self.supervised.then_some(supervised),
        }
    }
}

impl State {
    fn pod_mut(&mut self, pod: &PodRef) -> Option<&mut Pod> {
        self.pods.iter_mut().find(|found| found.request.pod == *pod)
    }

    fn populated(&self, key: &PodKey) -> bool {
        self.pods.iter().any(|pod| pod.request.pod.key == *key && pod.populated())
    }

    fn create(&mut self, request: CreateRequest) -> Result<(), CreateError> {
        let key = request.pod.key.clone();
        if self.populated(&key) {
            self.violations.push(format!("P1: a second pod of {key} was to be created"));
            return Err(CreateError::Occupied(key));
        }
        let containers = request.spec.container_names().map(|name| Container {
            name: name.to_owned(),
            pid: None,
            last_exit: None,
            since: self.now,
        });
        let pod = Pod {
            containers: containers.collect(),
            supervised: true,
            terminating: false,
            stubborn: false,
            dies_at: None,
            request,
        };
        self.say(RuntimeEvent::Created(pod.request.pod.clone()));
        self.pods.push(pod);
        Ok(())
    }

    fn start(&mut self, pod: &PodRef, name: &str) -> Result<u32, StartError> {
        self.next_pid += 1;
        let (pid, now) = (self.next_pid, self.now);
        let refused = |code: &str| Err(StartError::Refused(Reason::new(code, "refused")));
        let Some(found) = self.pod_mut(pod).filter(|pod| pod.supervised) else {
            return Err(StartError::NotSupervised(pod.clone()));
        };
        if found.terminating {
            return refused("Terminating");
        }
        let container = found.containers.iter_mut().find(|container| container.name == name);
        let Some(container) = container.filter(|container| container.pid.is_none()) else {
            return refused("AlreadyRunning");
        };
        (container.pid, container.since) = (Some(pid), now);
        *self.starts.entry(pod.key.clone()).or_default() += 1;
        self.say(RuntimeEvent::Started { pod: pod.clone(), container: name.into(), pid });
        Ok(pid)
    }

    /// One container ends; its pod goes on.
    fn exit(&mut self, pod: &PodRef, name: &str, exit: Exit) {
        let now = self.now;
        let Some(found) = self.pod_mut(pod) else { return };
        for container in found.containers.iter_mut().filter(|container| container.name == name) {
            (container.pid, container.last_exit, container.since) = (None, Some(exit), now);
        }
        if found.supervised {
            self.say(RuntimeEvent::Exited { pod: pod.clone(), container: name.into(), exit });
        }
        self.say_if_empty(&pod.key);
    }

    /// All of a pod ends, its supervisor last.
    fn end(&mut self, pod: &PodRef, exit: Exit) {
        let running: Vec<String> = match self.pod_mut(pod) {
            Some(found) => {
                found.dies_at = None;
                found.running().collect()
            }
            None => return,
        };
        for name in running {
            self.exit(pod, &name, exit);
        }
        if let Some(found) = self.pod_mut(pod) {
            found.supervised = false;
        }
        self.say_if_empty(&pod.key);
    }

    fn say_if_empty(&mut self, key: &PodKey) {
        if !self.populated(key) {
            self.say(RuntimeEvent::PlaceEmpty(key.clone()));
        }
    }

    fn say(&mut self, event: RuntimeEvent) {
        if let Some(events) = &self.events
            && let Err(mpsc::error::TrySendError::Full(event)) = events.try_send(event)
        {
            self.violations.push(format!("the agent does not read its events: {event:?}"));
        }
    }
}

/// The machine, as its agent's runtime. Every call takes a moment before and after its effect, so
/// that crashes fall between.
pub(crate) struct SimRuntime(Machine);

const MOMENT: Duration = Duration::from_millis(20);

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
            let state = self.0.state();
            let mut found: Vec<Found> = state.pods.iter().map(|pod| pod.found(state.now)).collect();
            found.sort_by(|one, other| one.key.cmp(&other.key));
            Ok(found)
        }
        .boxed()
    }

    fn create(&self, request: CreateRequest) -> BoxFuture<'_, Result<(), CreateError>> {
        async move {
            moment().await;
            let created = self.0.state().create(request);
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
            let started = self.0.state().start(pod, container);
            moment().await;
            started
        }
        .boxed()
    }

    fn terminate<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, Result<(), TerminateError>> {
        async move {
            moment().await;
            let mut state = self.0.state();
            let at = state.now + Duration::from_millis(300);
            match state.pod_mut(pod).filter(|pod| pod.supervised) {
                Some(found) => {
                    found.terminating = true;
                    found.dies_at = (!found.stubborn).then_some(at);
                    Ok(())
                }
                None => Err(TerminateError::NotSupervised(pod.clone())),
            }
        }
        .boxed()
    }

    fn kill<'a>(
        &'a self,
        key: &'a PodKey,
        cluster: ClusterId,
    ) -> BoxFuture<'a, Result<(), KillError>> {
        async move {
            moment().await;
            let mut state = self.0.state();
            let ours: Vec<PodRef> = state
                .pods
                .iter()
                .filter(|pod| pod.request.pod.key == *key && pod.request.marks.cluster == cluster)
                .map(|pod| pod.request.pod.clone())
                .collect();
            for pod in &ours {
                if let Some(found) = state.pod_mut(pod) {
                    found.supervised = false;
                }
                state.end(pod, Exit::Signal(9));
            }
            state.say_if_empty(key);
            Ok(())
        }
        .boxed()
    }

    fn remove<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, Result<(), RemoveError>> {
        async move {
            moment().await;
            let mut state = self.0.state();
            if state.pod_mut(pod).is_some_and(|found| found.populated()) {
                state.violations.push(format!("P1: {pod} was to be removed alive"));
                return Err(RemoveError::Alive(pod.clone()));
            }
            state.pods.retain(|found| found.request.pod != *pod);
            Ok(())
        }
        .boxed()
    }
}
