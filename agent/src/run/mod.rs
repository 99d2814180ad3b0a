//! The one loop: an event in, the core decides, what it decided is done.
//!
//! ```text
//!   coordinator ◀──▶ session ◀─ inbox, outbox ─▶ ┌──────┐ ─▶ disk: ledger and bodies, in order
//!   runtime ── what it saw ────────────────────▶ │ loop │ ─▶ runtime: one task per call
//!   people  ── local socket ───────────────────▶ └──────┘
//!   clock   ── wake_at ─────────────────────────────┘
//! ```
//!
//! The machine is looked at, and what the ledger says is brought about, before anybody is dialled.
//! Nothing here waits for anything but the next event: a disk, a supervisor or a coordinator that
//! hangs keeps nobody from being served.

mod act;
mod artifacts;
mod begin;
mod disk;
mod down;
mod hear;
mod hold;
mod leave;
mod rejoin;
mod resize;
mod show;
mod stage;
mod storage;
mod tries;
mod vitals;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use everynode_agent_core::{Event, Ledger, Node, Policy, Readings};
use everynode_model::{Digest, Exit, Now, PodKey, Reason};
use everynode_runtime::{Runtime, RuntimeEvent};
use everynode_transport::Dial;
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::facts::Machine;
use crate::identity::{Identity, IdentityStore};
use crate::ledger::{LedgerStore, LoadError};
use crate::local;
use crate::random::Random;
use crate::report;
use crate::service::Heart;
use crate::session::inbox::Link;
use crate::session::{self, Line, Shared};
use crate::stage::Stage;
use crate::streams;
use act::Doer;
use artifacts::Delivered;
use begin::{ledger_of, look};
use disk::{Disk, Told};
use down::Waiters;
use hold::Holders;
use leave::Leavers;
use rejoin::Rejoining;
use stage::Stager;
use storage::Meter;
pub use storage::{Measure, OnDisk};
use vitals::Conditions;
pub use vitals::Vitals;

/// Everything that the loop needs of the world.
pub struct Parts {
    /// The way to coordinators.
    pub dial: Arc<dyn Dial>,
    /// What runs pods here.
    pub runtime: Arc<dyn Runtime>,
    /// What it sees.
    pub events: mpsc::Receiver<RuntimeEvent>,
    /// What survives.
    pub ledger: Arc<dyn LedgerStore>,
    /// What brings here and checks what pods need.
    pub stage: Arc<dyn Stage>,
    /// Who this machine is.
    pub identity: Identity,
    /// Where that is kept.
    pub identities: Arc<dyn IdentityStore>,
    /// What it is like.
    pub machine: Machine,
    /// By which waits.
    pub policy: Policy,
    /// Draws.
    pub random: Random,
    /// Both times.
    pub clock: Arc<dyn Clock>,
    /// People at this machine.
    pub requests: Option<mpsc::Receiver<local::Request>>,
    /// What people elsewhere may look at and do; nothing without.
    pub streams: Option<streams::Places>,
    /// What the service manager's watchdog hears of the loop.
    pub heart: Heart,
    /// How the machine is doing.
    pub vitals: Vitals,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was told to stop; pods run on.
    Stopped,
    /// The machine goes down: nothing of its cluster is alive on it any more.
    Down,
    /// The machine has left its cluster and is empty: its identity and ledger are to be wiped.
    Left,
}

/// Why it could not begin.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The ledger can't be looked at.
    #[error(transparent)]
    Ledger(#[from] LoadError),
}

/// Answers of calls that wait to be taken in: more than a machine has pods.
const ANSWERS: usize = 256;
/// tokio's timers are as fine as this; a due event that changes nothing must not spin.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);
/// A sleep does not count the time in which the machine is suspended; the clock does.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Runs until told to stop, or until the machine has left.
///
/// # Errors
/// When the file system does not give the ledger for now.
pub async fn run(
    parts: Parts,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<Outcome, RunError> {
    run_after(None, parts, shutdown).await
}

/// Stops all that runs, because the machine goes down, until nothing is left alive or told to stop.
///
/// # Errors
/// As [`run`].
pub async fn go_down(
    parts: Parts,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<Outcome, RunError> {
    run_after(Some(Event::GoingDown), parts, shutdown).await
}

async fn run_after(
    first: Option<Event>,
    mut parts: Parts,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<Outcome, RunError> {
    let mut heart = std::mem::replace(&mut parts.heart, Heart::none());
    let loaded = heart.through(parts.ledger.load(parts.identity.ever())).await?;
    let held = heart.through(parts.ledger.bodies()).await;
    let mut shutdown = std::pin::pin!(shutdown);
    let found = tokio::select! {
        () = &mut shutdown => return Ok(Outcome::Stopped),
        found = heart.through(look(&*parts.runtime)) => found,
    };
    let (ledger, trouble) = ledger_of(loaded, &parts.identity, &found);
    let (mut agent, mut sources) = Agent::begin(parts, ledger, held);
    agent.trouble(trouble);
    heart.through(agent.know_bodies()).await;
    for event in first.into_iter().chain([Event::Looked(found)]) {
        agent.apply(event);
    }
    agent.dial();
    let outcome = agent.serve(&mut sources, &mut heart, shutdown).await;
    if let Some(line) = agent.line {
        line.abort();
    }
    Ok(outcome)
}

/// What comes in.
struct Sources {
    events: mpsc::Receiver<RuntimeEvent>,
    answers: mpsc::Receiver<Event>,
    requests: Option<mpsc::Receiver<local::Request>>,
    readings: Option<mpsc::Receiver<Readings>>,
}

struct Agent {
    node: Node,
    identity: Identity,
    identities: Arc<dyn IdentityStore>,
    machine: Machine,
    random: Random,
    clock: Arc<dyn Clock>,
    store: Arc<dyn LedgerStore>,
    disk: Disk,
    doer: Doer,
    shared: Arc<Shared>,
    link: Link,
    dial: Arc<dyn Dial>,
    streams: Option<streams::Places>,
    /// The bodies on disk.
    held: BTreeSet<Digest>,
    /// Those that the newest order named: it may not be in the ledger yet.
    named: BTreeSet<Digest>,
    /// Which content each of the held bodies names.
    contents: BTreeMap<Digest, Vec<Digest>>,
    delivered: Delivered,
    leavers: Leavers,
    /// Those who wait for the machine to be ready to go down.
    waiters: Waiters,
    rejoining: Rejoining,
    /// The task that holds the session.
    line: Option<tokio::task::AbortHandle>,
    holders: Holders,
    conditions: Conditions,
    meter: Meter,
    /// What is wrong with this agent's own memory, for people.
    troubles: Vec<Reason>,
    /// Those of them that the coordinator has not heard of.
    untold: Vec<Reason>,
    /// How often in a row an order could not be written.
    unwritten: u32,
    wiped: bool,
}

impl Agent {
    fn begin(mut parts: Parts, ledger: Ledger, held: BTreeSet<Digest>) -> (Self, Sources) {
        let (answer, answers) = mpsc::channel(ANSWERS);
        let stager = Stager::new(Arc::clone(&parts.stage), parts.random.fork());
        let doer = Doer::new(&parts, answer, stager);
        let conditions = Conditions::new(&parts.vitals, parts.clock.now());
        let meter =
            Meter::start(parts.vitals.storage.take(), doer.answers.clone(), parts.random.fork());
        let (requests, readings) = (parts.requests, parts.vitals.readings);
        let sources = Sources { events: parts.events, answers, requests, readings };
        let agent = Self {
            node: Node::new(ledger, parts.policy),
            doer,
            disk: Disk::new(Arc::clone(&parts.ledger)),
            random: parts.random.fork(),
            identity: parts.identity,
            identities: parts.identities,
            machine: parts.machine,
            clock: parts.clock,
            store: parts.ledger,
            shared: Arc::default(),
            link: Link::Down("not dialled yet".into()),
            dial: parts.dial,
            streams: parts.streams,
            held,
            named: BTreeSet::new(),
            contents: BTreeMap::new(),
            delivered: Delivered::default(),
            leavers: Leavers::default(),
            waiters: Waiters::default(),
            rejoining: Rejoining::default(),
            line: None,
            holders: Holders::default(),
            conditions,
            meter,
            troubles: Vec::new(),
            untold: Vec::new(),
            unwritten: 0,
            wiped: false,
        };
        (agent, sources)
    }

    /// Says what is wrong: in one line here, and to the coordinator.
    fn trouble(&mut self, trouble: Option<Reason>) {
        let Some(reason) = trouble else { return };
        if reason.code == "LedgerCopyDamaged" {
            tracing::warn!("{reason}");
        } else {
            tracing::error!(
                "{reason}: what runs here is left running, and nothing is started that is not \
                 known, until the coordinator says what ought to run"
            );
        }
        self.troubles.push(reason.clone());
        self.untold.push(reason);
    }

    /// Reads from the bodies on disk what the core must know of them.
    async fn know_bodies(&mut self) {
        let ledger = self.node.ledger();
        let items = ledger.assignment.items().chain(ledger.holds.kept.values());
        let ordered: BTreeSet<Digest> = items.map(|item| item.revision).collect();
        let mut told = Told::default();
        // Also of revisions that are no longer ordered: pods of them may live.
        for revision in &self.held {
            let body = self.store.body(*revision).await;
            body.iter().for_each(|body| told.note(*revision, body));
        }
        let runtimes = self.know(told);
        let runtimes = runtimes.into_iter().filter(|(revision, _)| ordered.contains(revision));
        self.node.know_runtimes(runtimes);
    }

    /// Takes note of what bodies say, but for the runtimes that they ask for.
    fn know(&mut self, told: Told) -> BTreeMap<Digest, String> {
        let Told { runtimes, ports, storage, alike, promised, contents, artifacts, .. } = told;
        if promised && self.conditions.cannot_keep_promise(self.clock.now()) {
            self.shared.outbox.tell_conditions(&self.conditions.all());
        }
        self.contents.extend(contents);
        for (revision, names) in artifacts {
            self.delivered.know(revision, names);
        }
        self.node.know_stages(ports.iter().map(|(revision, _)| *revision));
        self.node.know_ports(ports);
        self.node.know_storage(storage);
        self.node.know_alike(alike);
        runtimes
    }

    fn dial(&mut self) {
        let (dial, clock) = (Arc::clone(&self.dial), Arc::clone(&self.clock));
        let places = self.streams.clone();
        let runtime = self.doer.runtime();
        let streams = places.map(|places| streams::begin(places, runtime, dial, clock));
        let line = Line {
            dial: Arc::clone(&self.dial),
            identity: self.identity.clone(),
            store: Arc::clone(&self.identities),
            clock: Arc::clone(&self.clock),
            streams,
        };
        let random = self.random.fork();
        let session = session::keep(line, Arc::clone(&self.shared), random);
        self.line = Some(tokio::spawn(session).abort_handle());
    }

    /// Inputs are taken in before time passes; of the inputs, what only ends or answers something
    /// comes first.
    async fn serve(
        &mut self,
        sources: &mut Sources,
        heart: &mut Heart,
        mut shutdown: impl Future<Output = ()> + Unpin,
    ) -> Outcome {
        loop {
            let shared = Arc::clone(&self.shared);
            if self.wiped {
                self.leavers.left().await;
                return Outcome::Left;
            }
            if self.node.is_going_down() && self.node.is_empty_here() {
                self.waiters.down().await;
                return Outcome::Down;
            }
            heart.beat();
            let sleep = self.until_due();
            tokio::select! {
                biased;
                () = &mut shutdown => return Outcome::Stopped,
                done = self.disk.done() => self.written(done),
                (request, outcome) = self.rejoining.done() => self.rejoined(request, outcome),
                Some(event) = sources.answers.recv() => self.apply(event),
                () = shared.inbox.arrived() => self.hear(shared.inbox.take()),
                Some(request) = next(&mut sources.requests) => self.answer(request),
                Some(event) = sources.events.recv() => self.saw(event),
                Some(readings) = next(&mut sources.readings) => self.measured(&readings),
                () = tokio::time::sleep(sleep.unwrap_or_default()), if sleep.is_some() => {
                    self.apply(Event::Woke);
                }
                () = heart.due() => {}
            }
            self.leavers.look(&self.node, &self.link);
            self.waiters.look(&self.node);
            self.holders.look(&self.node);
        }
    }

    /// Told when it is news; what a session begins with is in its Hello.
    fn measured(&mut self, readings: &Readings) {
        if self.conditions.take(readings, self.clock.now()) {
            self.shared.outbox.tell_conditions(&self.conditions.all());
        }
    }

    fn until_due(&self) -> Option<Duration> {
        let now = self.clock.now().steady;
        let due = self.node.wake_at().map(|at| at.since(now).clamp(SHORTEST_SLEEP, LONGEST_SLEEP));
        due.into_iter().chain(self.leavers.due()).min()
    }

    /// One event: decide, do, report.
    fn apply(&mut self, event: Event) {
        let now = self.clock.now();
        tracing::trace!(?event, "event");
        let counts = artifacts::may_change(&event);
        let random = &mut self.random;
        let actions = self.node.apply(event, now, &mut || random.pod_uid());
        for action in actions {
            self.act(action, now);
        }
        for key in self.node.take_dirty() {
            let statuses = self.node.statuses(&key, now);
            self.shared.outbox.report(&key, &statuses);
        }
        if counts {
            self.meter.measure(self.node.measured());
            self.keep_artifacts(now);
        }
    }

    fn saw(&mut self, event: RuntimeEvent) {
        self.doer.ended(&event);
        let event = match event {
            RuntimeEvent::Created(pod) => match self.doer.plan(&pod) {
                Some(plan) => Event::Created { pod, plan },
                // Not asked for by this agent: nothing that it could know how to handle.
                None => return tracing::warn!(%pod, "a pod was created that nobody asked for"),
            },
            RuntimeEvent::Started { pod, container, pid } => {
                tracing::info!(%pod, container, pid, "started");
                Event::Started { pod, container, pid }
            }
            RuntimeEvent::Exited { pod, container, exit } => {
                tracing::info!(%pod, container, "ended: {exit}");
                if exit != Exit::Code(0) {
                    self.doer.look_for_holder(&pod, &container, self.node.host_ports(&pod));
                }
                Event::Exited { pod, container, exit }
            }
            RuntimeEvent::OutOfMemory { pod, container } => {
                tracing::info!(%pod, container, "killed for want of memory");
                Event::OutOfMemory { pod, container }
            }
            RuntimeEvent::Printed { pod, container, log_tail } => {
                Event::Printed { pod, container, log_tail }
            }
            RuntimeEvent::SupervisorLost(pod) => {
                tracing::warn!(%pod, "its supervisor is lost");
                Event::SupervisorLost(pod)
            }
            RuntimeEvent::SupervisorSilent(pod) => {
                tracing::warn!(%pod, "its supervisor does not answer");
                Event::SupervisorSilent(pod)
            }
            RuntimeEvent::SupervisorHeard(pod) => {
                tracing::info!(%pod, "its supervisor answers again");
                Event::SupervisorHeard(pod)
            }
            RuntimeEvent::Answered(found) => Event::Answered(found),
            RuntimeEvent::PlaceEmpty(key) => Event::PlaceEmpty(key),
            RuntimeEvent::PodEmpty(pod) => Event::PodEmpty(pod),
        };
        self.apply(event);
    }

    fn answer(&mut self, request: local::Request) {
        let now = self.clock.now();
        match request.question {
            local::Question::Report => {
                let (identity, link) = (&self.identity, &self.link);
                let report = report::of_node(&self.node, identity, link, &self.troubles, now);
                // Serialising it can't fail: plain fields, and no writer but memory.
                request.finish(true, serde_json::to_string(&report).unwrap_or_default());
            }
            local::Question::Hold { .. } | local::Question::Release { .. } => {
                self.change_holds(request);
            }
            local::Question::Shutdown => {
                tracing::warn!("this machine goes down: stopping all pods");
                self.waiters.add(request);
                self.apply(Event::GoingDown);
            }
            local::Question::Rejoin => self.rejoin(request),
            local::Question::Leave => {
                tracing::warn!("somebody at this machine wants it to leave: stopping all pods");
                self.leavers.add(request);
                self.apply(Event::LeaveRequested);
                if matches!(self.link, Link::Up(_)) && !self.node.is_empty_here() {
                    self.shared.outbox.leave(false);
                }
            }
        }
    }
}

/// The next of what comes from there; where nothing can come, it waits for ever.
async fn next<T>(source: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    match source {
        Some(source) => source.recv().await,
        None => std::future::pending().await,
    }
}

/// A place and what the core says of it, for people and for Hello.
fn places(node: &Node, now: Now) -> Vec<(PodKey, Vec<everynode_model::PodStatus>)> {
    node.keys().map(|key| (key.clone(), node.statuses(key, now))).collect()
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::{fake_networks, fake_runtime};
