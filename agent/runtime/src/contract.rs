//! The tests that every [`Runtime`] must pass: its contract, run.
//!
//! Each case takes a [`Factory`] and panics where the contract is broken. A runtime's own tests
//! call [`every_case`], or one by one what they want to see fail alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

pub mod lives;

use std::sync::Arc;
use std::time::Duration;

use everynode_agent_core::{ContainerSpec, Found, Marks, PodRef, PodSpec, Supervised};
use everynode_model::{ClusterId, Digest, Exit, NodeUid, PodKey, PodUid, SetUid, WallTime};
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{CreateRequest, Runtime, RuntimeEvent};

/// How long any one thing may take before the case fails: no measure, only an end of waiting.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes runtimes over one machine.
pub trait Factory: Send + Sync {
    /// A runtime over the machine, whose former one, if there was one, is dropped.
    fn open(&self) -> BoxFuture<'_, (Arc<dyn Runtime>, mpsc::Receiver<RuntimeEvent>)>;

    /// A container that does this.
    fn container(&self, name: &str, does: Does) -> ContainerSpec;

    /// Waits until the process, of a container that ignores SIGTERM, does so.
    fn ignores_term(&self, pid: u32) -> BoxFuture<'_, ()>;
}

/// What a container is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    /// Run until SIGTERM, and end by it.
    Run,
    /// Run, and not heed SIGTERM.
    IgnoreTerm,
    /// End at once with this code.
    Exit(u8),
    /// End at once by SIGKILL.
    Die,
    /// Nothing: it can't be executed.
    Nothing,
}

/// A runtime and what it says.
pub struct Machine<'a> {
    factory: &'a dyn Factory,
    /// The runtime under test.
    pub runtime: Arc<dyn Runtime>,
    /// Its events.
    pub events: mpsc::Receiver<RuntimeEvent>,
}

/// Runs every case, one after the other.
pub async fn every_case(factory: &dyn Factory) {
    a_container_starts_ends_and_starts_again(factory).await;
    a_program_that_cannot_run_is_refused(factory).await;
    a_populated_place_refuses_another_pod(factory).await;
    a_terminated_pod_leaves_its_place_empty(factory).await;
    a_pod_is_ended_once_and_starts_nothing_more(factory).await;
    what_ignores_sigterm_is_killed(factory).await;
    killing_an_empty_place_says_so(factory).await;
    only_the_given_cluster_is_killed(factory).await;
    a_new_runtime_adopts(factory).await;
    places_do_not_touch_each_other(factory).await;
    two_in_one_place_and_never_three(factory).await;
    lives::every_case(factory).await;
}

/// create, start, the exit as it was, start again; nothing is left in the end.
pub async fn a_container_starts_ends_and_starts_again(factory: &dyn Factory) {
    let mut machine = Machine::open(factory).await;
    let spec = [("seven", Does::Exit(7)), ("nine", Does::Die)];
    let pod = machine.create(request("restart", spec_of(factory, &spec))).await;
    for _ in 0..2 {
        machine.start(&pod, "seven").await;
        machine.expect(exited(&pod, "seven", Exit::Code(7))).await;
        machine.start(&pod, "nine").await;
        machine.expect(exited(&pod, "nine", Exit::Signal(9))).await;
    }
    let supervised = machine.supervised(&pod).await;
    assert_eq!(supervised.restarts, 3 + 2, "three before, two since");
    assert_eq!(supervised.containers[1].last_exit, Some(Exit::Signal(9)));
    machine.end(&pod).await;
    assert_eq!(machine.found(&pod).await, None, "nothing is left");
}

/// It is no exit, and the reason names the program.
pub async fn a_program_that_cannot_run_is_refused(factory: &dyn Factory) {
    let mut machine = Machine::open(factory).await;
    let pod = machine.create(request("refused", spec_of(factory, &[("a", Does::Nothing)]))).await;
    let error = machine.runtime.start(&pod, "a").await.expect_err("must be refused");
    let program = &factory.container("a", Does::Nothing).argv[0];
    assert!(!error.in_doubt());
    assert!(error.reason().message.contains(program), "{error}");
    let error = machine.runtime.start(&pod, "b").await.expect_err("no such container");
    assert!(!error.in_doubt(), "{error}");
    machine.end(&pod).await;
}

/// The last defence of "at most one": whatever the agent believes.
pub async fn a_populated_place_refuses_another_pod(factory: &dyn Factory) {
    let mut machine = Machine::open(factory).await;
    let first = request("occupied", spec_of(factory, &[("a", Does::Run)]));
    let pod = machine.create(first.clone()).await;
    machine.start(&pod, "a").await;
    let mut second = first;
    second.pod.uid = PodUid::new(Uuid::new_v4());
    second.marks.cluster = ClusterId::new(Uuid::new_v4());
    let error = machine.runtime.create(second.clone()).await.expect_err("must be refused");
    assert!(error.in_doubt() && error.retry(), "{error}");
    machine.end(&pod).await;
    let pod = machine.create(second).await;
    machine.end(&pod).await;
}

/// SIGTERM, the exit, the empty place; and no word of a lost supervisor.
pub async fn a_terminated_pod_leaves_its_place_empty(factory: &dyn Factory) {
    let mut machine = Machine::open(factory).await;
    let spec = spec_of(factory, &[("a", Does::Run), ("b", Does::Run), ("never", Does::Run)]);
    let pod = machine.create(request("terminate", spec)).await;
    machine.start(&pod, "a").await;
    machine.start(&pod, "b").await;
    machine.runtime.terminate(&pod).await.expect("it is supervised");
    let mut expected = vec![
        exited(&pod, "a", Exit::Signal(15)),
        exited(&pod, "b", Exit::Signal(15)),
        RuntimeEvent::PlaceEmpty(pod.key.clone()),
    ];
    while !expected.is_empty() {
        let event = machine.next().await;
        let before = expected.len();
        expected.retain(|expected| *expected != event);
        assert!(expected.len() < before, "unexpected {event:?}");
    }
    machine.runtime.remove(&pod).await.expect("it is dead");
    assert_eq!(machine.found(&pod).await, None, "nothing is left");
    machine.runtime.remove(&pod).await.expect("done is done");
}

/// What is being ended starts nothing; ending it again changes nothing.
pub async fn a_pod_is_ended_once_and_starts_nothing_more(factory: &dyn Factory) {
    let mut machine = Machine::open(factory).await;
    let spec = spec_of(factory, &[("a", Does::IgnoreTerm), ("b", Does::Run)]);
    let pod = machine.create(request("ending", spec)).await;
    let pid = machine.start(&pod, "a").await;
    factory.ignores_term(pid).await;
    machine.runtime.terminate(&pod).await.expect("it is supervised");
    machine.runtime.terminate(&pod).await.expect("it still is");
    let error = machine.runtime.start(&pod, "b").await.expect_err("must be refused");
    assert!(!error.in_doubt(), "{error}");
    assert!(machine.supervised(&pod).await.terminating);
    assert!(machine.runtime.remove(&pod).await.is_err(), "what lives is not removed");
    machine.end(&pod).await;
}

/// It lives on after SIGTERM, and not after kill.
pub async fn what_ignores_sigterm_is_killed(factory: &dyn Factory) {
    let mut machine = Machine::open(factory).await;
    let pod =
        machine.create(request("stubborn", spec_of(factory, &[("a", Does::IgnoreTerm)]))).await;
    let pid = machine.start(&pod, "a").await;
    factory.ignores_term(pid).await;
    machine.runtime.terminate(&pod).await.expect("it is supervised");
    assert_eq!(machine.supervised(&pod).await.containers[0].pid, Some(pid));
    machine.end(&pod).await;
}

/// Whoever asks for a place's end hears of it, also when it came before.
pub async fn killing_an_empty_place_says_so(factory: &dyn Factory) {
    let mut machine = Machine::open(factory).await;
    let key = PodKey::new("contract", "empty").expect("a good name");
    machine.runtime.kill(&key, &[marks().cluster].into()).await.expect("there is nothing to kill");
    machine.expect(RuntimeEvent::PlaceEmpty(key)).await;
}

/// A pod of another cluster in the same place is not touched, and keeps it from being empty.
pub async fn only_the_given_cluster_is_killed(factory: &dyn Factory) {
    let mut machine = Machine::open(factory).await;
    let pod = machine.create(request("foreign", spec_of(factory, &[("a", Does::Run)]))).await;
    let pid = machine.start(&pod, "a").await;
    let others = [ClusterId::new(Uuid::new_v4()), ClusterId::new(Uuid::new_v4())].into();
    machine.runtime.kill(&pod.key, &others).await.expect_err("the place is not empty");
    assert_eq!(machine.supervised(&pod).await.containers[0].pid, Some(pid));
    machine.end(&pod).await;
}

/// The runtime dies, the pods do not: the same processes, and what happened meanwhile is known.
pub async fn a_new_runtime_adopts(factory: &dyn Factory) {
    let mut machine = Machine::open(factory).await;
    let request = request("adopted", spec_of(factory, &[("a", Does::Run), ("b", Does::Exit(3))]));
    let pod = machine.create(request.clone()).await;
    let pid = machine.start(&pod, "a").await;
    machine.start(&pod, "b").await;
    // Dropped at once: the end of "b" may come before or after.
    let mut machine = machine.reopen().await;
    let mut found = machine.found(&pod).await.expect("it is there");
    if found.supervised.as_ref().expect("and supervised").containers[1].pid.is_some() {
        machine.expect(exited(&pod, "b", Exit::Code(3))).await;
        found = machine.found(&pod).await.expect("it still is");
    }
    assert_eq!(found.marks, Some(request.marks));
    let supervised = found.supervised.expect("and supervised");
    assert_eq!(supervised.set, request.set);
    assert_eq!(supervised.revision, request.revision);
    assert_eq!(supervised.replace, request.replace);
    assert_eq!(supervised.created_at, request.created_at);
    assert_eq!(supervised.grace, request.spec.grace);
    assert_eq!(supervised.restarts, request.restarts);
    assert_eq!(supervised.containers[0].pid, Some(pid), "the same process");
    assert_eq!(supervised.containers[1].last_exit, Some(Exit::Code(3)));
    // Events flow again.
    machine.start(&pod, "b").await;
    machine.expect(exited(&pod, "b", Exit::Code(3))).await;
    machine.end(&pod).await;
}

/// One takes over from another: each has a death of its own, and there is never a third.
pub async fn two_in_one_place_and_never_three(factory: &dyn Factory) {
    let mut machine = Machine::open(factory).await;
    let first = request("two", spec_of(factory, &[("a", Does::Run)]));
    let old = machine.create(first.clone()).await;
    machine.start(&old, "a").await;
    let another = |beside| {
        let mut another = first.clone();
        another.pod.uid = PodUid::new(Uuid::new_v4());
        CreateRequest { beside, ..another }
    };
    let stranger = Some(PodUid::new(Uuid::new_v4()));
    machine.runtime.create(another(stranger)).await.expect_err("it is beside another");
    let beside = another(Some(old.uid));
    let new = beside.pod.clone();
    machine.runtime.create(beside).await.expect("the one other may be there");
    machine.until(&RuntimeEvent::Created(new.clone())).await;
    let pid = machine.start(&new, "a").await;
    for beside in [old.uid, new.uid] {
        let error = machine.runtime.create(another(Some(beside))).await.expect_err("a third");
        assert!(error.in_doubt() && error.retry(), "{error}");
    }
    // A successor finds both, and is told of the end of each.
    let mut machine = machine.reopen().await;
    assert!(machine.found(&old).await.is_some() && machine.found(&new).await.is_some());
    let clusters = [marks().cluster].into();
    machine.runtime.kill_pod(&old, &clusters).await.expect("it can be killed");
    machine.until(&RuntimeEvent::PodEmpty(old.clone())).await;
    machine.runtime.remove(&old).await.expect("it is dead");
    assert_eq!(machine.supervised(&new).await.containers[0].pid, Some(pid));
    let gone = request("two", spec_of(factory, &[("a", Does::Run)])).pod;
    machine.runtime.kill_pod(&gone, &clusters).await.expect("there is nothing to kill");
    machine.until(&RuntimeEvent::PodEmpty(gone)).await;
    machine.runtime.kill(&new.key, &clusters).await.expect("it can be killed");
    machine.until(&RuntimeEvent::PlaceEmpty(new.key.clone())).await;
    machine.runtime.remove(&new).await.expect("it is dead");
}

/// The same name in two namespaces, and two names in one.
pub async fn places_do_not_touch_each_other(factory: &dyn Factory) {
    let mut machine = Machine::open(factory).await;
    let spec = spec_of(factory, &[("a", Does::Run)]);
    let mut other = request("one", spec.clone());
    other.pod.key = PodKey::new("other", "one").expect("a good name");
    let first = machine.create(request("one", spec.clone())).await;
    let mut rest = Vec::new();
    for request in [other, request("two", spec)] {
        let pod = machine.create(request).await;
        let pid = machine.start(&pod, "a").await;
        rest.push((pod, pid));
    }
    machine.start(&first, "a").await;
    machine.end(&first).await;
    for (pod, pid) in rest {
        assert_eq!(machine.supervised(&pod).await.containers[0].pid, Some(pid));
        machine.end(&pod).await;
    }
}

impl<'a> Machine<'a> {
    /// A runtime of the factory.
    pub async fn open(factory: &'a dyn Factory) -> Self {
        let (runtime, events) = factory.open().await;
        Self { factory, runtime, events }
    }

    /// The runtime's death, and its successor.
    pub async fn reopen(self) -> Self {
        let factory = self.factory;
        drop(self);
        Self::open(factory).await
    }

    /// Creates a pod and hears of it.
    pub async fn create(&mut self, request: CreateRequest) -> PodRef {
        let pod = request.pod.clone();
        self.runtime.create(request).await.expect("a good pod in an empty place");
        self.expect(RuntimeEvent::Created(pod.clone())).await;
        pod
    }

    /// Starts a container and hears of it.
    pub async fn start(&mut self, pod: &PodRef, container: &str) -> u32 {
        let pid = self.runtime.start(pod, container).await.expect("a good container");
        let (pod, container) = (pod.clone(), container.to_owned());
        self.expect(RuntimeEvent::Started { pod, container, pid }).await;
        pid
    }

    /// Kills a pod, hears of its place's end, and removes what is left.
    pub async fn end(&mut self, pod: &PodRef) {
        // Among others: a machine may have been of several clusters.
        let clusters = [ClusterId::new(Uuid::new_v4()), self.cluster_of(pod).await].into();
        self.runtime.kill(&pod.key, &clusters).await.expect("it can be killed");
        loop {
            match self.next().await {
                RuntimeEvent::PlaceEmpty(key) if key == pod.key => break,
                RuntimeEvent::Exited { .. } => {}
                other => panic!("unexpected {other:?}"),
            }
        }
        self.runtime.remove(pod).await.expect("it is dead");
    }

    /// What the list says of a pod.
    pub async fn found(&self, pod: &PodRef) -> Option<Found> {
        let found = self.runtime.list().await.expect("it can be listed");
        found.into_iter().find(|found| found.pod == Some(pod.uid))
    }

    /// What the supervisor of a pod says, which is alive.
    pub async fn supervised(&self, pod: &PodRef) -> Supervised {
        let found = self.found(pod).await.expect("it is there");
        found.supervised.expect("and supervised")
    }

    /// Passes over ends of containers and pods until this is told.
    pub async fn until(&mut self, event: &RuntimeEvent) {
        loop {
            match self.next().await {
                next if next == *event => return,
                RuntimeEvent::Exited { .. } | RuntimeEvent::PodEmpty(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    /// The next event, which must be this one.
    pub async fn expect(&mut self, event: RuntimeEvent) {
        assert_eq!(self.next().await, event);
    }

    /// The next event, but for what containers have printed: a runtime may say that or not.
    pub async fn next(&mut self) -> RuntimeEvent {
        loop {
            match self.next_of_all().await {
                RuntimeEvent::Printed { .. } => {}
                event => return event,
            }
        }
    }

    /// The next event, whatever it is.
    pub async fn next_of_all(&mut self) -> RuntimeEvent {
        let next = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        next.expect("an event was expected").expect("the runtime lives")
    }

    async fn cluster_of(&self, pod: &PodRef) -> ClusterId {
        self.found(pod).await.and_then(|found| found.marks).expect("it is listed").cluster
    }
}

/// A request for a new pod of this name in the namespace `contract`.
pub fn request(name: &str, spec: PodSpec) -> CreateRequest {
    CreateRequest {
        pod: PodRef {
            key: PodKey::new("contract", name).expect("a good name"),
            uid: PodUid::new(Uuid::new_v4()),
        },
        marks: marks(),
        set: SetUid::new(Uuid::from_u128(3)),
        revision: Digest::of(b"revision"),
        replace: 4,
        restarts: 3,
        spec,
        created_at: WallTime::from_unix_millis(1_767_323_045_123),
        beside: None,
    }
}

/// The marks of the pods of [`request`].
pub fn marks() -> Marks {
    Marks { cluster: ClusterId::new(Uuid::from_u128(1)), node: NodeUid::new(Uuid::from_u128(2)) }
}

/// An end of a container.
pub fn exited(pod: &PodRef, container: &str, exit: Exit) -> RuntimeEvent {
    RuntimeEvent::Exited { pod: pod.clone(), container: container.to_owned(), exit }
}

fn spec_of(factory: &dyn Factory, containers: &[(&str, Does)]) -> PodSpec {
    PodSpec {
        containers: containers.iter().map(|(name, does)| factory.container(name, *does)).collect(),
        grace: Duration::from_secs(30),
        ..PodSpec::default()
    }
}
