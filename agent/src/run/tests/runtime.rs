//! A runtime in memory, which keeps to the contract and can be told to hang.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everynode_agent_core::{
    Found, Lifecycle, Marks, PodRef, RestartBackoff, Supervised, SupervisedContainer,
};
use everynode_model::{ClusterId, Exit, PodKey};
use everynode_runtime::{
    CreateError, CreateRequest, ExecError, ExecRequest, Executed, KillError, ListError,
    RemoveError, Runtime, RuntimeEvent, StartError, TerminateError,
};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::net::TcpSocket;
use tokio::sync::mpsc;

/// The machine: it stays when its agent goes.
#[derive(Clone, Default)]
pub(super) struct Machine(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    pods: BTreeMap<PodKey, Pod>,
    /// All that was ever created.
    created: Vec<CreateRequest>,
    hanging: bool,
    /// How long a kill goes on after the place is empty.
    kills_take: Duration,
    killing: BTreeSet<PodKey>,
    /// How many were asked for, where pods have networks of their own.
    sockets: Option<usize>,
    events: Option<mpsc::Sender<RuntimeEvent>>,
}

struct Pod {
    request: CreateRequest,
    running: BTreeSet<String>,
    closed: bool,
}

impl Machine {
    /// The runtime of an agent that begins now.
    pub(super) fn open(&self) -> (Arc<dyn Runtime>, mpsc::Receiver<RuntimeEvent>) {
        let (sender, receiver) = mpsc::channel(64);
        self.0.lock().unwrap().events = Some(sender);
        (Arc::new(self.clone()), receiver)
    }

    pub(super) fn hang(&self) {
        self.0.lock().unwrap().hanging = true;
    }

    pub(super) fn kill_slowly(&self) {
        self.0.lock().unwrap().kills_take = Duration::from_secs(5);
    }

    /// From now on pods have networks of their own, which are the machine's none the less.
    pub(super) fn give_networks(&self) {
        self.0.lock().unwrap().sockets = Some(0);
    }

    /// How many sockets were asked for since then.
    pub(super) fn sockets(&self) -> usize {
        self.0.lock().unwrap().sockets.unwrap()
    }

    pub(super) fn lose_supervisor(&self, pod: &PodRef) {
        self.0.lock().unwrap().say([RuntimeEvent::SupervisorLost(pod.clone())]);
    }

    /// All of a pod is dead, and nobody is there to hear of it.
    pub(super) fn die_unseen(&self, pod: &PodRef) {
        self.0.lock().unwrap().pods.remove(&pod.key);
    }

    pub(super) fn created(&self) -> Vec<CreateRequest> {
        self.0.lock().unwrap().created.clone()
    }

    pub(super) fn running(&self) -> Vec<PodRef> {
        let state = self.0.lock().unwrap();
        let runs = |pod: &&Pod| !pod.running.is_empty();
        state.pods.values().filter(runs).map(|pod| pod.request.pod.clone()).collect()
    }

    fn end(&self, key: &PodKey) {
        let mut state = self.0.lock().unwrap();
        let mut events = Vec::new();
        if let Some(Pod { request, running, .. }) = state.pods.remove(key) {
            events.extend(running.into_iter().map(|container| RuntimeEvent::Exited {
                pod: request.pod.clone(),
                container,
                exit: Exit::Signal(15),
            }));
        }
        events.push(RuntimeEvent::PlaceEmpty(key.clone()));
        state.say(events);
    }
}

impl State {
    /// One container ends, and its pod with it, if that was closed and this was the last.
    fn end_one(&mut self, pod: &PodRef, container: &str, signal: i32) {
        let Some(found) = self.pods.get_mut(&pod.key) else { return };
        if found.running.remove(container) {
            let (pod, container) = (pod.clone(), container.to_owned());
            self.say([RuntimeEvent::Exited { pod, container, exit: Exit::Signal(signal) }]);
        }
        self.end_if_over(pod);
    }

    fn end_if_over(&mut self, pod: &PodRef) {
        let over = |pod: &Pod| pod.closed && pod.running.is_empty();
        if self.pods.get(&pod.key).is_some_and(over) {
            self.pods.remove(&pod.key);
            self.say([RuntimeEvent::PlaceEmpty(pod.key.clone())]);
        }
    }

    fn say(&self, events: impl IntoIterator<Item = RuntimeEvent>) {
        for event in events {
            self.events.as_ref().unwrap().try_send(event).unwrap();
        }
    }
}

impl Runtime for Machine {
    fn name(&self) -> &'static str {
        "process"
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Found>, ListError>> {
        let state = self.0.lock().unwrap();
        let found = state.pods.values().map(found).collect();
        async move { Ok(found) }.boxed()
    }

    fn create(&self, request: CreateRequest) -> BoxFuture<'_, Result<(), CreateError>> {
        let mut state = self.0.lock().unwrap();
        let pod = request.pod.clone();
        assert!(!state.pods.contains_key(&pod.key), "two pods in one place");
        assert!(!state.killing.contains(&pod.key), "what is created now would be killed");
        state.created.push(request.clone());
        state
            .pods
            .insert(pod.key.clone(), Pod { request, running: BTreeSet::new(), closed: false });
        state.say([RuntimeEvent::Created(pod)]);
        async { Ok(()) }.boxed()
    }

    fn start<'a>(
        &'a self,
        pod: &'a PodRef,
        container: &'a str,
    ) -> BoxFuture<'a, Result<u32, StartError>> {
        let mut state = self.0.lock().unwrap();
        if state.hanging {
            return std::future::pending().boxed();
        }
        state.pods.get_mut(&pod.key).unwrap().running.insert(container.to_owned());
        let (pod, container) = (pod.clone(), container.to_owned());
        state.say([RuntimeEvent::Started { pod, container, pid: 7 }]);
        async { Ok(7) }.boxed()
    }

    fn terminate<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, Result<(), TerminateError>> {
        self.end(&pod.key);
        async { Ok(()) }.boxed()
    }

    fn close<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, Result<(), TerminateError>> {
        let mut state = self.0.lock().unwrap();
        if let Some(found) = state.pods.get_mut(&pod.key) {
            found.closed = true;
        }
        state.end_if_over(pod);
        async { Ok(()) }.boxed()
    }

    fn stop<'a>(
        &'a self,
        pod: &'a PodRef,
        container: &'a str,
    ) -> BoxFuture<'a, Result<(), TerminateError>> {
        self.0.lock().unwrap().end_one(pod, container, 15);
        async { Ok(()) }.boxed()
    }

    fn kill_container<'a>(
        &'a self,
        pod: &'a PodRef,
        container: &'a str,
    ) -> BoxFuture<'a, Result<(), KillError>> {
        self.0.lock().unwrap().end_one(pod, container, 9);
        async { Ok(()) }.boxed()
    }

    /// Every program succeeds.
    fn exec<'a>(
        &'a self,
        _pod: &'a PodRef,
        _container: &'a str,
        _request: ExecRequest,
    ) -> BoxFuture<'a, Result<Executed, ExecError>> {
        async { Ok(Executed { exit: Exit::Code(0), timed_out: false }) }.boxed()
    }

    fn socket<'a>(
        &'a self,
        _pod: &'a PodRef,
        v6: bool,
    ) -> BoxFuture<'a, Result<Option<TcpSocket>, ExecError>> {
        let mut state = self.0.lock().unwrap();
        let socket = state.sockets.as_mut().map(|asked| {
            *asked += 1;
            if v6 { TcpSocket::new_v6().unwrap() } else { TcpSocket::new_v4().unwrap() }
        });
        async { Ok(socket) }.boxed()
    }

    fn kill<'a>(
        &'a self,
        key: &'a PodKey,
        _clusters: &'a BTreeSet<ClusterId>,
    ) -> BoxFuture<'a, Result<(), KillError>> {
        async move {
            let take = self.0.lock().unwrap().kills_take;
            self.0.lock().unwrap().killing.insert(key.clone());
            self.end(key);
            tokio::time::sleep(take).await;
            self.0.lock().unwrap().killing.remove(key);
            Ok(())
        }
        .boxed()
    }

    fn kill_pod<'a>(
        &'a self,
        pod: &'a PodRef,
        clusters: &'a BTreeSet<ClusterId>,
    ) -> BoxFuture<'a, Result<(), KillError>> {
        // It never has two in one place.
        self.kill(&pod.key, clusters)
    }

    fn remove<'a>(&'a self, _pod: &'a PodRef) -> BoxFuture<'a, Result<(), RemoveError>> {
        async { Ok(()) }.boxed()
    }
}

fn found(pod: &Pod) -> Found {
    let CreateRequest {
        pod: at, marks, set, revision, replace, restarts, spec, created_at, ..
    } = pod.request.clone();
    let container = |name: &str| SupervisedContainer {
        name: name.into(),
        lifecycle: Lifecycle::default(),
        asked: false,
        pid: pod.running.contains(name).then_some(7),
        last_exit: None,
        oom: false,
        for_time: Duration::from_secs(60),
    };
    Found {
        key: at.key,
        pod: Some(at.uid),
        marks: Some(Marks { ..marks }),
        populated: true,
        supervised: Some(Supervised {
            set,
            revision,
            replace,
            grace: spec.grace,
            restart: RestartBackoff::default(),
            created_at,
            terminating: false,
            limits_in_doubt: false,
            resized_for: None,
            restarts,
            containers: spec.container_names().map(container).collect(),
        }),
        silent: false,
    }
}
