//! What the core decided, done. Each call of the runtime is a task of its own, whose refusal comes
//! back as an event; what succeeds is told by the runtime itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use everynode_agent_core::{Action, Event, HostPort, Marks, Plan, PodRef, PodSpec, Probe};
use everynode_model::{ClusterId, Digest, Labels, Now, PodKey, PodUid, Reason, SetUid};
use everynode_runtime::{CreateError, CreateRequest, Runtime, RuntimeEvent};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::stage::Stager;
use super::tries::Tries;
use super::{Agent, Parts};
use crate::body::{self, Contents, Surroundings};
use crate::facts::Address;
use crate::holder;
use crate::identity::Identity;
use crate::ledger::LedgerStore;
use crate::probes::{Prober, Target};

/// Does what concerns the runtime.
#[derive(Clone)]
pub(super) struct Doer {
    runtime: Arc<dyn Runtime>,
    store: Arc<dyn LedgerStore>,
    pub(super) answers: mpsc::Sender<Event>,
    marks: Marks,
    /// Of which this machine is or was: what is killed bears the mark of one of them.
    clusters: Arc<BTreeSet<ClusterId>>,
    around: Arc<Around>,
    /// Those of pods that are being created.
    plans: Arc<Mutex<BTreeMap<PodRef, Plan>>>,
    prober: Prober,
    tries: Arc<Mutex<Tries>>,
    /// Those under way, by place; each ends within seconds.
    kills: Arc<Mutex<BTreeMap<PodKey, Vec<JoinHandle<()>>>>>,
    pub(super) stager: Stager,
}

/// What all pods here have around them.
#[derive(Clone)]
struct Around {
    node_name: everynode_model::NodeName,
    hostname: String,
    address: Address,
    agent_user: u32,
    capacity: BTreeMap<String, String>,
    proc: bool,
}

/// A pod to be created, as the core wants it.
struct Wanted {
    pod: PodRef,
    set: SetUid,
    revision: Digest,
    replace: u64,
    labels: Labels,
    restarts: u64,
    beside: Option<PodUid>,
    now: Now,
}

impl Agent {
    pub(super) fn act(&mut self, action: Action, now: Now) {
        match action {
            Action::Persist(ledger) => self.disk.put_ledger(ledger),
            Action::Acknowledge { stamp, refused: Some(reason) } => {
                tracing::warn!(generation = %stamp.generation, %reason, "order refused");
                if reason.code == "LedgerNotWritten" {
                    self.refuse(stamp, &reason);
                } else {
                    self.shared.outbox.acknowledge(&stamp, Some(&reason));
                }
            }
            Action::Acknowledge { stamp, refused: None } => {
                tracing::info!(term = %stamp.term, generation = %stamp.generation, "order accepted");
                self.shared.outbox.acknowledge(&stamp, None);
            }
            Action::Answer { request, refused } => {
                self.holders.answer(request, refused.as_ref(), &self.node);
            }
            Action::Create { pod, set, revision, replace, labels, restarts, beside } => {
                tracing::info!(%pod, revision = revision.short(), "creating");
                let wanted = Wanted { pod, set, revision, replace, labels, restarts, beside, now };
                self.doer.create(wanted);
            }
            Action::Stage { key, revision, tries } => self.doer.stage(key, revision, tries),
            Action::Resize { pod, set, revision, replace } => {
                tracing::info!(%pod, revision = revision.short(), "changing its limits");
                self.doer.resize(pod, (set, revision, replace));
            }
            Action::Start { pod, container } => self.doer.start(pod, container),
            Action::Terminate(pod) => {
                tracing::info!(%pod, "stopping");
                self.doer.terminate(pod);
            }
            Action::Close(pod) => {
                tracing::info!(%pod, "stopping");
                self.doer.close(pod);
            }
            Action::Stop { pod, container } => {
                tracing::info!(%pod, container, "stopping");
                self.doer.stop(pod, container);
            }
            Action::KillContainer { pod, container } => {
                tracing::info!(%pod, container, "killing");
                self.doer.kill_container(pod, container);
            }
            Action::Probe { pod, container, kind, number, probe } => {
                let prober = self.doer.prober.clone();
                self.doer.try_it(Target { pod, container }, async move |target| {
                    let Probe { handler, timeout, .. } = *probe;
                    let outcome = prober.probe(&target, &handler, timeout).await?;
                    let Target { pod, container } = target;
                    Some(Event::Probed { pod, container, kind, number, outcome })
                });
            }
            Action::Hook { pod, container, hook, number, handler, within } => {
                tracing::info!(%pod, container, ?hook, "running a hook");
                let prober = self.doer.prober.clone();
                self.doer.try_it(Target { pod, container }, async move |target| {
                    let outcome = prober.hook(&target, &handler, within).await?;
                    let Target { pod, container } = target;
                    if let Err(why) = &outcome {
                        tracing::warn!(%pod, container, ?hook, "a hook failed: {why}");
                    }
                    Some(Event::HookDone { pod, container, hook, number, outcome })
                });
            }
            Action::Kill(key) => {
                tracing::info!(place = %key, "killing");
                self.doer.kill(key);
            }
            Action::KillPod(pod) => {
                tracing::info!(%pod, "killing");
                self.doer.kill_pod(pod);
            }
            Action::Remove(pod) => self.doer.remove(pod),
            Action::ConfirmDeparture => self.shared.outbox.leave(true),
            Action::Wipe => self.wiped = true,
        }
    }
}

impl Doer {
    /// What runs pods here, for others.
    pub(super) fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::clone(&self.runtime)
    }

    pub(super) fn new(parts: &Parts, answers: mpsc::Sender<Event>, stager: Stager) -> Self {
        let fixed = || Address::fixed(parts.machine.address());
        let address = parts.vitals.address.clone().unwrap_or_else(fixed);
        Self {
            runtime: Arc::clone(&parts.runtime),
            store: Arc::clone(&parts.ledger),
            answers,
            marks: parts.identity.marks(),
            clusters: Arc::new(parts.identity.clusters()),
            around: Arc::new(Around {
                node_name: parts.identity.name.clone(),
                hostname: parts.machine.hostname.clone(),
                address: address.clone(),
                agent_user: rustix::process::geteuid().as_raw(),
                capacity: parts.machine.facts.clone(),
                proc: parts.vitals.proc,
            }),
            plans: Arc::default(),
            prober: Prober::new(Arc::clone(&parts.runtime), address),
            tries: Arc::default(),
            kills: Arc::default(),
            stager,
        }
    }

    pub(super) fn makes_namespaces(&self) -> bool {
        self.runtime.makes_namespaces()
    }

    /// From now on this machine is somebody else; what is under way ends as it began.
    pub(super) fn become_another(&mut self, identity: &Identity) {
        self.marks = identity.marks();
        self.clusters = Arc::new(identity.clusters());
        let node_name = identity.name.clone();
        self.around = Arc::new(Around { node_name, ..Around::clone(&self.around) });
    }

    /// What is decided of a pod that was just created; asked for once.
    pub(super) fn plan(&self, pod: &PodRef) -> Option<Plan> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner).remove(pod)
    }

    fn create(&self, wanted: Wanted) {
        let this = self.clone();
        let mut kills = this.kills.lock().unwrap_or_else(PoisonError::into_inner);
        let kills_here = kills.remove(&wanted.pod.key).unwrap_or_default();
        drop(kills);
        tokio::spawn(async move {
            // A kill that the place's end has overtaken would take the new pod for the old one.
            for kill in kills_here {
                let _ = kill.await;
            }
            let pod = wanted.pod.clone();
            if let Err((reason, retry, in_doubt)) = this.try_create(wanted).await {
                tracing::warn!(%pod, %reason, "not created");
                this.plan(&pod);
                this.say(Event::CreateFailed { pod, reason, retry, in_doubt }).await;
            }
        });
    }

    /// What of the content that a body names is on this machine.
    pub(super) async fn contents(&self, body: &[u8]) -> Contents {
        let mut contents = Contents::new();
        for digest in body::blobs_of(body) {
            contents.extend(self.store.body(digest).await.map(|blob| (digest, blob)));
        }
        contents
    }

    /// A template. On failure: why, and that another try may help.
    pub(super) async fn body(&self, revision: Digest) -> Result<Vec<u8>, (Reason, bool)> {
        self.store.body(revision).await.ok_or_else(|| {
            let line = format!("the template {revision} is not on this machine");
            (Reason::new("BodyMissing", line), true)
        })
    }

    /// The pod as its template wants it here. On failure: why, and whether another try may help.
    pub(super) async fn spec(
        &self,
        pod: &PodRef,
        content: &[u8],
        labels: Labels,
    ) -> Result<PodSpec, (Reason, bool)> {
        let around = Surroundings {
            key: pod.key.clone(),
            uid: pod.uid,
            node_name: self.around.node_name.clone(),
            node_labels: labels,
            hostname: self.around.hostname.clone(),
            makes_namespaces: self.runtime.makes_namespaces(),
            address: self.around.address.now(),
            agent_user: self.around.agent_user,
            capacity: self.around.capacity.clone(),
            contents: self.contents(content).await,
            artifacts: self.stager.directory(),
        };
        // Content that is lost comes again with the next order; nothing else mends a template.
        let refused = |reason: Reason| {
            let retry = reason.code == "BodyMissing";
            (reason, retry)
        };
        body::pod_spec(content, &around).map_err(refused)
    }

    /// On failure: why, whether to try again, and whether anything may be alive.
    async fn try_create(&self, wanted: Wanted) -> Result<(), (Reason, bool, bool)> {
        let Wanted { pod, set, revision, replace, labels, restarts, beside, now } = wanted;
        let refused = |(reason, retry)| (reason, retry, false);
        let content = self.body(revision).await.map_err(refused)?;
        let spec = self.spec(&pod, &content, labels).await.map_err(refused)?;
        // Before the call: the runtime may tell of the pod before the call returns.
        let plan = spec.plan();
        self.plans.lock().unwrap_or_else(PoisonError::into_inner).insert(pod.clone(), plan);
        let (marks, created_at) = (self.marks, now.wall);
        let request = CreateRequest {
            pod,
            marks,
            set,
            revision,
            replace,
            restarts,
            spec,
            created_at,
            beside,
        };
        let failed = |error: CreateError| (error.reason(), error.retry(), error.in_doubt());
        self.runtime.create(request).await.map_err(failed)
    }

    fn start(&self, pod: PodRef, container: String) {
        let this = self.clone();
        tokio::spawn(async move {
            if let Err(error) = this.runtime.start(&pod, &container).await {
                tracing::warn!(%pod, container, "not started: {error}");
                this.say(match error.in_doubt() {
                    true => Event::SupervisorLost(pod),
                    false => Event::StartFailed { pod, container, reason: error.reason() },
                })
                .await;
            }
        });
    }

    fn terminate(&self, pod: PodRef) {
        let this = self.clone();
        tokio::spawn(async move {
            if let Err(error) = this.runtime.terminate(&pod).await {
                // It is killed when its grace period is over.
                tracing::warn!(%pod, "not told to end: {error}");
            }
        });
    }

    /// A task that answers with an event, unless the run that it belongs to ends first.
    fn try_it<F>(&self, target: Target, trial: impl FnOnce(Target) -> F)
    where
        F: Future<Output = Option<Event>> + Send + 'static,
    {
        let this = self.clone();
        let (pod, container) = (target.pod.clone(), target.container.clone());
        let trial = trial(target);
        let task = tokio::spawn(async move {
            if let Some(event) = trial.await {
                this.say(event).await;
            }
        });
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        tries.add(pod, container, task.abort_handle());
    }

    /// Ends what was tried in runs that have ended.
    pub(super) fn ended(&self, event: &RuntimeEvent) {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner).saw(event);
    }

    fn close(&self, pod: PodRef) {
        let this = self.clone();
        tokio::spawn(async move {
            if let Err(error) = this.runtime.close(&pod).await {
                tracing::warn!(%pod, "not closed: {error}");
            }
        });
    }

    fn stop(&self, pod: PodRef, container: String) {
        let this = self.clone();
        tokio::spawn(async move {
            if let Err(error) = this.runtime.stop(&pod, &container).await {
                // It is killed when its time is over.
                tracing::warn!(%pod, container, "not told to end: {error}");
            }
        });
    }

    /// Repeated by the core until its end is told.
    fn kill_container(&self, pod: PodRef, container: String) {
        let this = self.clone();
        tokio::spawn(async move {
            if let Err(error) = this.runtime.kill_container(&pod, &container).await {
                tracing::warn!(%pod, container, "not empty yet: {error}");
            }
        });
    }

    fn kill(&self, key: PodKey) {
        let (this, place) = (self.clone(), key.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = this.runtime.kill(&key, &this.clusters).await {
                tracing::warn!(place = %key, "not empty yet: {error}");
                this.say(match error.ours_gone() {
                    true => Event::OursGone(key),
                    false => Event::KillFailed { key, reason: error.reason() },
                })
                .await;
            }
        });
        self.remember_kill(place, task);
    }

    /// One of two pods. It touches nothing of another, so that none has to wait for its end.
    fn kill_pod(&self, pod: PodRef) {
        let this = self.clone();
        tokio::spawn(async move {
            if let Err(error) = this.runtime.kill_pod(&pod, &this.clusters).await {
                tracing::warn!(%pod, "not empty yet: {error}");
                this.say(Event::KillFailed { key: pod.key, reason: error.reason() }).await;
            }
        });
    }

    fn remove(&self, pod: PodRef) {
        let this = self.clone();
        tokio::spawn(async move {
            if let Err(error) = this.runtime.remove(&pod).await {
                tracing::warn!(%pod, "remains were left: {error}");
            }
        });
    }

    /// A container has failed that declares ports: whether somebody else holds one is told to the core
    /// after its end. The back-off spaces these looks.
    pub(super) fn look_for_holder(&self, pod: &PodRef, container: &str, ports: Vec<HostPort>) {
        if ports.is_empty() || !self.around.proc {
            return;
        }
        let (this, pod, container) = (self.clone(), pod.clone(), container.to_owned());
        tokio::spawn(async move {
            let uid = pod.uid;
            let look = tokio::task::spawn_blocking(move || holder::holder(&ports, uid));
            if let Ok(Some(line)) = look.await {
                tracing::warn!(%pod, container, "{line}");
                this.say(Event::PortHeld { pod, container, line }).await;
            }
        });
    }

    /// Remembers a kill under way, for the next creation in its place to wait for.
    fn remember_kill(&self, place: PodKey, kill: JoinHandle<()>) {
        let mut kills = self.kills.lock().unwrap_or_else(PoisonError::into_inner);
        kills.values_mut().for_each(|tasks| tasks.retain(|task| !task.is_finished()));
        kills.retain(|_, tasks| !tasks.is_empty());
        kills.entry(place).or_default().push(kill);
    }

    pub(super) async fn say(&self, event: Event) {
        // The loop has ended: nobody is left to be told.
        let _ = self.answers.send(event).await;
    }
}
