//! One simulated machine: what is alive on it.
//!
//! A [`Machine`] outlives its agent, as real processes do. The world moves it on with
//! [`Machine::advance`]; nothing here spawns or sleeps on its own account, so a crashed agent leaves
//! it exactly as it was. It keeps its own record of what must never be ([`Machine::violations`]).
//! How an agent sees and changes it is in [`crate::runtime`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use everynode_agent_core::{
    Found, Lifecycle, Marks, PodRef, RestartBackoff, Supervised, SupervisedContainer,
};
use everynode_model::{Digest, Exit, PodKey, PodUid, SetUid};
use everynode_runtime::{CreateRequest, RuntimeEvent};
use tokio::sync::mpsc;

/// How long a pod takes to end once it was told to.
const ENDING: Duration = Duration::from_millis(300);

/// How long what was started of a bad version lives: less than what makes it available.
const FAILING: Duration = Duration::from_millis(200);

/// A machine. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(crate) struct Machine(Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    pub(crate) now: Duration,
    pub(crate) pods: Vec<Pod>,
    pub(crate) events: Option<mpsc::Sender<RuntimeEvent>>,
    next_pid: u32,
    changes: u64,
    /// Starts of containers, ever, by place.
    starts: BTreeMap<PodKey, u64>,
    /// Places in which an agent asked something alive to end, since the world last looked.
    stops: Vec<PodKey>,
    violations: Vec<String>,
    bad: BTreeMap<u64, Bad>,
    /// Where something failed for its version, since the world last looked.
    failed: Vec<PodKey>,
    /// Whether something took the machine off the network since then.
    went_dark: bool,
}

/// What a version does on a machine that it is not good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// It ends a moment after each start.
    Fails,
    /// It takes the machine off the network.
    GoesDark,
}

pub(crate) struct Pod {
    pub(crate) request: CreateRequest,
    pub(crate) supervised: bool,
    pub(crate) terminating: bool,
    /// SIGTERM is ignored: only a kill ends it.
    pub(crate) stubborn: bool,
    dies_at: Option<Duration>,
    pub(crate) containers: Vec<Container>,
    /// When what was started of a bad version ends.
    fails_at: Option<Duration>,
}

pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) pid: Option<u32>,
    last_exit: Option<Exit>,
    since: Duration,
}

/// What lives in one place, for the world to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) key: PodKey,
    pub(crate) uid: PodUid,
    /// The one that it was made beside.
    pub(crate) beside: Option<PodUid>,
    pub(crate) marks: Marks,
    pub(crate) set: SetUid,
    pub(crate) revision: Digest,
    pub(crate) replace: u64,
    /// Supervised, every container running, and not told to end.
    pub(crate) whole: bool,
}

impl Machine {
    /// All that is alive here.
    pub(crate) fn alive(&self) -> Vec<Life> {
        let life = |pod: &Pod| Life {
            key: pod.request.pod.key.clone(),
            uid: pod.request.pod.uid,
            beside: pod.request.beside,
            marks: pod.request.marks,
            set: pod.request.set,
            revision: pod.request.revision,
            replace: pod.request.replace,
            whole: pod.supervised
                && !pod.terminating
                && pod.containers.iter().all(|container| container.pid.is_some()),
        };
        self.state().pods.iter().filter(|pod| pod.populated()).map(life).collect()
    }

    /// What must never be and was.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    /// Grows with every change here.
    pub(crate) fn changes(&self) -> u64 {
        self.state().changes
    }

    /// How many containers were started in each place, ever.
    pub(crate) fn starts(&self) -> BTreeMap<PodKey, u64> {
        self.state().starts.clone()
    }

    /// Where something was asked to end since the last call.
    pub(crate) fn take_stops(&self) -> Vec<PodKey> {
        std::mem::take(&mut self.state().stops)
    }

    /// Time passes: what was told to end and does, ends.
    pub(crate) fn advance(&self, now: Duration) {
        let mut state = self.state();
        state.now = now;
        let due = |pod: &&Pod| pod.dies_at.is_some_and(|at| at <= now);
        let dying: Vec<PodRef> =
            state.pods.iter().filter(due).map(|pod| pod.request.pod.clone()).collect();
        for pod in dying {
            state.end(&pod, Exit::Signal(15));
        }
        state.fail_what_is_bad();
    }

    /// From now on this version is bad here, or is not.
    pub(crate) fn spoil(&self, version: u64, bad: Option<Bad>) {
        let mut state = self.state();
        match bad {
            Some(bad) => _ = state.bad.insert(version, bad),
            None => _ = state.bad.remove(&version),
        }
    }

    /// Every version is good here.
    pub(crate) fn forget_bad_versions(&self) {
        self.state().bad.clear();
    }

    /// Where something failed for its version since the last call, and whether something took the
    /// machine off the network.
    pub(crate) fn take_failures(&self) -> (Vec<PodKey>, bool) {
        let mut state = self.state();
        (std::mem::take(&mut state.failed), std::mem::take(&mut state.went_dark))
    }

    /// A container's process dies of its own accord. Says where.
    pub(crate) fn crash_container(&self, nth: usize) -> Option<PodKey> {
        let mut state = self.state();
        let running: Vec<(PodRef, String)> = state
            .pods
            .iter()
            .flat_map(|pod| pod.running().map(|name| (pod.request.pod.clone(), name)))
            .collect();
        let (pod, name) = running.get(nth.checked_rem(running.len())?)?;
        state.exit(pod, name, Exit::Code(1));
        Some(pod.key.clone())
    }

    /// A supervisor is killed; what it started goes on. Says where.
    pub(crate) fn kill_supervisor(&self, nth: usize) -> Option<PodKey> {
        let mut state = self.state();
        let supervised = state.pods.iter().filter(|pod| pod.supervised);
        let supervised: Vec<PodRef> = supervised.map(|pod| pod.request.pod.clone()).collect();
        let pod = supervised.get(nth.checked_rem(supervised.len())?)?;
        if let Some(found) = state.pod_mut(pod) {
            found.supervised = false;
            // Whom SIGTERM reaches is the supervisor's business: it is gone, they are not.
            found.dies_at = None;
        }
        state.say(RuntimeEvent::SupervisorLost(pod.clone()));
        state.say_if_one_of_two(pod);
        state.say_if_empty(&pod.key);
        Some(pod.key.clone())
    }

    /// From now on a pod heeds no SIGTERM. Says which.
    pub(crate) fn make_stubborn(&self, nth: usize) -> Option<PodKey> {
        let mut state = self.state();
        let nth = nth.checked_rem(state.pods.len())?;
        let pod = state.pods.get_mut(nth)?;
        pod.stubborn = true;
        Some(pod.request.pod.key.clone())
    }

    /// The power fails: nothing is alive afterwards. Says where something was.
    pub(crate) fn reboot(&self) -> Vec<PodKey> {
        let mut state = self.state();
        state.events = None;
        state.changes += 1;
        let pods = std::mem::take(&mut state.pods);
        pods.into_iter().map(|pod| pod.request.pod.key).collect()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pod {
    pub(crate) fn new(request: CreateRequest, now: Duration) -> Self {
        let container = |name: &str| Container {
            name: name.to_owned(),
            pid: None,
            last_exit: None,
            since: now,
        };
        Self {
            containers: request.spec.container_names().map(container).collect(),
            supervised: true,
            terminating: false,
            stubborn: false,
            dies_at: None,
            fails_at: None,
            request,
        }
    }

    pub(crate) fn populated(&self) -> bool {
        self.supervised || self.running().next().is_some()
    }

    /// The version that its template names.
    fn version(&self) -> Option<u64> {
        let mut words = self.request.spec.containers.first()?.argv.iter();
        words.find_map(|word| word.strip_prefix("--version=")?.parse().ok())
    }

    fn running(&self) -> impl Iterator<Item = String> + '_ {
        let running = self.containers.iter().filter(|container| container.pid.is_some());
        running.map(|container| container.name.clone())
    }

    pub(crate) fn found(&self, now: Duration) -> Found {
        let containers = self.containers.iter().map(|container| SupervisedContainer {
            name: container.name.clone(),
            lifecycle: Lifecycle::default(),
            asked: false,
            pid: container.pid,
            last_exit: container.last_exit,
            oom: false,
            for_time: now.saturating_sub(container.since),
        });
        let supervised = Supervised {
            set: self.request.set,
            revision: self.request.revision,
            replace: self.request.replace,
            grace: self.request.spec.grace,
            restart: RestartBackoff::default(),
            created_at: self.request.created_at,
            terminating: self.terminating,
            limits_in_doubt: false,
            resized_for: None,
            restarts: self.request.restarts,
            containers: containers.collect(),
        };
        Found {
            key: self.request.pod.key.clone(),
            pod: Some(self.request.pod.uid),
            marks: Some(self.request.marks),
            populated: self.populated(),
            supervised: self.supervised.then_some(supervised),
            silent: false,
        }
    }
}

impl State {
    pub(crate) fn pod_mut(&mut self, pod: &PodRef) -> Option<&mut Pod> {
        self.changes += 1;
        self.pods.iter_mut().find(|found| found.request.pod == *pod)
    }

    pub(crate) fn populated(&self, key: &PodKey) -> bool {
        self.pods.iter().any(|pod| pod.request.pod.key == *key && pod.populated())
    }

    pub(crate) fn violated(&mut self, what: String) {
        self.changes += 1;
        self.violations.push(what);
    }

    pub(crate) fn add(&mut self, pod: Pod) {
        self.changes += 1;
        self.say(RuntimeEvent::Created(pod.request.pod.clone()));
        self.pods.push(pod);
    }

    pub(crate) fn run(&mut self, pod: &PodRef, name: &str) -> Option<u32> {
        self.next_pid += 1;
        let (pid, now) = (self.next_pid, self.now);
        let containers = &mut self.pod_mut(pod)?.containers;
        let container = containers.iter_mut().find(|container| container.name == name)?;
        (container.pid, container.since) = (Some(pid), now);
        self.spoil_start(pod);
        *self.starts.entry(pod.key.clone()).or_default() += 1;
        self.say(RuntimeEvent::Started { pod: pod.clone(), container: name.into(), pid });
        Some(pid)
    }

    /// What was started just now may be of a version that is bad here.
    fn spoil_start(&mut self, pod: &PodRef) {
        let fails_at = self.now + FAILING;
        let found = self.pods.iter_mut().find(|found| found.request.pod == *pod);
        let Some(found) = found else { return };
        match found.version().and_then(|version| self.bad.get(&version)) {
            Some(Bad::Fails) => found.fails_at = Some(fails_at),
            Some(Bad::GoesDark) => self.went_dark = true,
            None => {}
        }
    }

    fn fail_what_is_bad(&mut self) {
        let now = self.now;
        let due = self.pods.iter_mut().filter(|pod| pod.fails_at.is_some_and(|at| at <= now));
        let due: Vec<(PodRef, Vec<String>)> = due
            .map(|pod| {
                pod.fails_at = None;
                (pod.request.pod.clone(), pod.running().collect())
            })
            .collect();
        for (pod, running) in due {
            for name in running {
                self.exit(&pod, &name, Exit::Code(1));
            }
            self.failed.push(pod.key);
        }
    }

    /// SIGTERM: what heeds it ends in a moment.
    pub(crate) fn ask_to_end(&mut self, pod: &PodRef) {
        let at = self.now + ENDING;
        if let Some(found) = self.pod_mut(pod) {
            found.terminating = true;
            found.dies_at = (!found.stubborn).then_some(at);
        }
        self.stops.push(pod.key.clone());
    }

    /// Starts nothing in a pod any more; whether it has a supervisor.
    pub(crate) fn close(&mut self, pod: &PodRef) -> bool {
        let Some(found) = self.pod_mut(pod).filter(|found| found.supervised) else { return false };
        found.terminating = true;
        let over = found.running().next().is_none();
        self.stops.push(pod.key.clone());
        if over {
            self.end(pod, Exit::Code(0));
        }
        true
    }

    /// One container ends, if it runs.
    pub(crate) fn end_container(&mut self, pod: &PodRef, name: &str, exit: Exit) {
        let running = |found: &mut Pod| found.running().any(|running| running == name);
        if self.pod_mut(pod).is_some_and(running) {
            self.exit(pod, name, exit);
        }
    }

    /// Whether a container of a supervised pod runs; `None` without a supervisor.
    pub(crate) fn runs(&mut self, pod: &PodRef, name: &str) -> Option<bool> {
        let found = self.pod_mut(pod).filter(|found| found.supervised)?;
        Some(found.running().any(|running| running == name))
    }

    /// SIGKILL, to all of a pod.
    pub(crate) fn kill(&mut self, pod: &PodRef) {
        if let Some(found) = self.pod_mut(pod) {
            // A supervisor that is killed says nothing any more of its containers.
            found.supervised = false;
        }
        self.stops.push(pod.key.clone());
        self.end(pod, Exit::Signal(9));
    }

    /// One container ends; its pod goes on, unless it was told to end and this was the last.
    fn exit(&mut self, pod: &PodRef, name: &str, exit: Exit) {
        let now = self.now;
        let Some(found) = self.pod_mut(pod) else { return };
        for container in found.containers.iter_mut().filter(|container| container.name == name) {
            (container.pid, container.last_exit, container.since) = (None, Some(exit), now);
        }
        let told = found.supervised;
        found.supervised &= !found.terminating || found.running().next().is_some();
        if told {
            self.say(RuntimeEvent::Exited { pod: pod.clone(), container: name.into(), exit });
        }
        self.say_if_one_of_two(pod);
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
        for name in &running {
            self.exit(pod, name, exit);
        }
        if let Some(found) = self.pod_mut(pod).filter(|found| found.supervised) {
            found.supervised = false;
            self.say_if_one_of_two(pod);
            self.say_if_empty(&pod.key);
        }
    }

    fn say_if_one_of_two(&mut self, pod: &PodRef) {
        if self.populated(&pod.key) {
            self.say_if_pod_empty(pod);
        }
    }

    pub(crate) fn say_if_pod_empty(&mut self, pod: &PodRef) {
        if !self.pods.iter().any(|found| found.request.pod == *pod && found.populated()) {
            self.say(RuntimeEvent::PodEmpty(pod.clone()));
        }
    }

    pub(crate) fn say_if_empty(&mut self, key: &PodKey) {
        if !self.populated(key) {
            self.say(RuntimeEvent::PlaceEmpty(key.clone()));
        }
    }

    fn say(&mut self, event: RuntimeEvent) {
        let Some(events) = &self.events else { return };
        if let Err(mpsc::error::TrySendError::Full(event)) = events.try_send(event) {
            self.violated(format!("the agent does not read its events: {event:?}"));
        }
    }
}
