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
mod disk;
mod leave;
mod show;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use everynode_agent_core::{Departure, Event, Found, Ledger, Node, Policy, Standing};
use everynode_model::{Assignment, Digest, Intent, Item, Now, PodKey, Reason};
use everynode_runtime::{Runtime, RuntimeEvent};
use everynode_transport::Dial;
use tokio::sync::mpsc;

use crate::body;
use crate::clock::Clock;
use crate::facts::Machine;
use crate::identity::Identity;
use crate::ledger::{LedgerStore, LoadError, Loaded};
use crate::local;
use crate::random::Random;
use crate::session::assemble::Order;
use crate::session::inbox::{Link, News, Opening};
use crate::session::{self, Line, Shared};
use act::Doer;
use disk::{Disk, Done};
use leave::Leavers;

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
    /// Who this machine is.
    pub identity: Identity,
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
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was told to stop; pods run on.
    Stopped,
    /// The machine has left its cluster and is empty: its identity and ledger are to be wiped.
    Left,
}

/// Why it could not begin.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The ledger must not be touched.
    #[error(transparent)]
    Ledger(#[from] LoadError),
}

/// Answers of calls that wait to be taken in: more than a machine has pods.
const ANSWERS: usize = 256;
/// Between attempts at looking at the machine.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Until the whole assignment is asked for again after an order that could not be written.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// tokio's timers are as fine as this; a due event that changes nothing must not spin.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);

/// Runs until told to stop, or until the machine has left.
///
/// # Errors
/// When the ledger was written by a newer agent or can't be read.
pub async fn run(
    parts: Parts,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<Outcome, RunError> {
    let loaded = parts.ledger.load().await?;
    let held = parts.ledger.bodies().await;
    let mut shutdown = std::pin::pin!(shutdown);
    let found = tokio::select! {
        () = &mut shutdown => return Ok(Outcome::Stopped),
        found = look(&*parts.runtime) => found,
    };
    let ledger = ledger_of(loaded, &parts.identity, &found);
    let (mut agent, mut sources) = Agent::begin(parts, ledger, held);
    agent.know_runtimes().await;
    agent.apply(Event::Looked(found));
    let line = agent.dial();
    let outcome = agent.serve(&mut sources, shutdown).await;
    line.abort();
    Ok(outcome)
}

/// What comes in.
struct Sources {
    events: mpsc::Receiver<RuntimeEvent>,
    answers: mpsc::Receiver<Event>,
    requests: Option<mpsc::Receiver<local::Request>>,
}

struct Agent {
    node: Node,
    identity: Identity,
    machine: Machine,
    random: Random,
    clock: Arc<dyn Clock>,
    store: Arc<dyn LedgerStore>,
    disk: Disk,
    doer: Doer,
    shared: Arc<Shared>,
    link: Link,
    dial: Arc<dyn Dial>,
    /// The bodies on disk.
    held: BTreeSet<Digest>,
    /// Those that the newest order named: it may not be in the ledger yet.
    named: BTreeSet<Digest>,
    leavers: Leavers,
    wiped: bool,
}

impl Agent {
    fn begin(mut parts: Parts, ledger: Ledger, held: BTreeSet<Digest>) -> (Self, Sources) {
        let (answer, answers) = mpsc::channel(ANSWERS);
        let doer = Doer::new(&parts, answer);
        let sources = Sources { events: parts.events, answers, requests: parts.requests };
        let agent = Self {
            node: Node::new(ledger, parts.policy),
            doer,
            disk: Disk::new(Arc::clone(&parts.ledger)),
            random: parts.random.fork(),
            identity: parts.identity,
            machine: parts.machine,
            clock: parts.clock,
            store: parts.ledger,
            shared: Arc::default(),
            link: Link::Down("not dialled yet".into()),
            dial: parts.dial,
            held,
            named: BTreeSet::new(),
            leavers: Leavers::default(),
            wiped: false,
        };
        (agent, sources)
    }

    async fn know_runtimes(&mut self) {
        let items: Vec<_> = self.node.ledger().assignment.items().cloned().collect();
        let mut known = Vec::new();
        for item in items {
            let body = self.store.body(item.revision).await;
            let runtime = body.as_deref().and_then(body::runtime_of);
            known.extend(runtime.map(|runtime| (item.key, runtime.to_owned())));
        }
        self.node.know_runtimes(known);
    }

    fn dial(&mut self) -> tokio::task::AbortHandle {
        let line = Line { dial: Arc::clone(&self.dial), identity: self.identity.clone() };
        let random = self.random.fork();
        tokio::spawn(session::keep(line, Arc::clone(&self.shared), random)).abort_handle()
    }

    /// Inputs are taken in before time passes; of the inputs, what only ends or answers something
    /// comes first.
    async fn serve(
        &mut self,
        sources: &mut Sources,
        mut shutdown: impl Future<Output = ()> + Unpin,
    ) -> Outcome {
        let shared = Arc::clone(&self.shared);
        loop {
            if self.wiped {
                self.leavers.left().await;
                return Outcome::Left;
            }
            let sleep = self.until_due();
            tokio::select! {
                biased;
                () = &mut shutdown => return Outcome::Stopped,
                done = self.disk.done() => self.written(done),
                Some(event) = sources.answers.recv() => self.apply(event),
                () = shared.inbox.arrived() => self.hear(shared.inbox.take()),
                Some(request) = ask(&mut sources.requests) => self.answer(request),
                Some(event) = sources.events.recv() => self.saw(event),
                () = tokio::time::sleep(sleep.unwrap_or_default()), if sleep.is_some() => {
                    self.apply(Event::Woke);
                }
            }
            self.leavers.look(&self.node, &self.link);
        }
    }

    fn until_due(&self) -> Option<Duration> {
        let now = self.clock.now().steady;
        let due = self.node.wake_at().map(|at| at.since(now).max(SHORTEST_SLEEP));
        due.into_iter().chain(self.leavers.due()).min()
    }

    /// One event: decide, do, report.
    fn apply(&mut self, event: Event) {
        let now = self.clock.now();
        tracing::trace!(?event, "event");
        let random = &mut self.random;
        let actions = self.node.apply(event, now, &mut || random.pod_uid());
        for action in actions {
            self.act(action, now);
        }
        for key in self.node.take_dirty() {
            let statuses = self.node.statuses(&key, now);
            self.shared.outbox.report(&key, &statuses);
        }
    }

    fn saw(&mut self, event: RuntimeEvent) {
        let event = match event {
            RuntimeEvent::Created(pod) => match self.doer.shape(&pod) {
                Some((containers, grace)) => Event::Created { pod, containers, grace },
                // Not asked for by this agent: nothing that it could know how to handle.
                None => return tracing::warn!(%pod, "a pod was created that nobody asked for"),
            },
            RuntimeEvent::Started { pod, container, pid } => {
                tracing::info!(%pod, container, pid, "started");
                Event::Started { pod, container, pid }
            }
            RuntimeEvent::Exited { pod, container, exit } => {
                tracing::info!(%pod, container, "ended: {exit}");
                Event::Exited { pod, container, exit }
            }
            RuntimeEvent::SupervisorLost(pod) => {
                tracing::warn!(%pod, "its supervisor is lost");
                Event::SupervisorLost(pod)
            }
            RuntimeEvent::PlaceEmpty(key) => Event::PlaceEmpty(key),
        };
        self.apply(event);
    }

    /// Takes in what came from the coordinator, in the order in which it is meant.
    fn hear(&mut self, news: News) {
        if let Some(link) = news.link {
            self.link = link;
        }
        if let Some(ask) = news.hello {
            // Hello says it all; what waited to be said is in it.
            self.shared.outbox.clear();
            let _ = ask.send(self.opening());
        }
        if let Some(session) = news.welcomed {
            self.apply(Event::Welcomed(session));
            if self.node.standing() == Standing::Leaving(Departure::Requested)
                && !self.node.is_empty_here()
            {
                self.shared.outbox.leave(false);
            }
        }
        if news.deregistered {
            tracing::warn!("this machine was removed from its cluster: stopping all pods");
            self.apply(Event::Deregistered);
        }
        if let Some(order) = news.order {
            self.take_order(order);
        }
        // One that does not know a node that leaves does not wait to hear of it either.
        let unknown = news.unknown && self.node.standing() != Standing::Active;
        if news.farewell || unknown {
            self.apply(Event::DepartureConfirmed);
        }
    }

    /// Bodies first, then the order that needs them.
    fn take_order(&mut self, order: Order) {
        let there = |item: &&Item| {
            self.held.contains(&item.revision) || order.bodies.contains_key(&item.revision)
        };
        // What is kept or stopped runs, or does not: it needs no body.
        let run = |item: &&Item| item.intent == Intent::Run;
        if let Some(item) = order.assignment.items().filter(run).find(|item| !there(item)) {
            let line = format!("{} needs the body {}", item.key, item.revision);
            self.shared.outbox.ask_for_whole(&Reason::new("BodyMissing", line));
            return;
        }
        self.named = order.assignment.items().map(|item| item.revision).collect();
        self.disk.put_order(order);
    }

    fn written(&mut self, done: Done) {
        match done {
            Done::Ledger(Ok(())) => self.apply(Event::Persisted),
            Done::Ledger(Err(error)) => {
                tracing::error!("cannot write the ledger: {error}");
                self.apply(Event::PersistFailed(Reason::new("WriteFailed", error.to_string())));
            }
            Done::Order(order, Ok(runtimes)) => {
                self.held.extend(order.bodies.keys());
                self.apply(Event::Ordered {
                    stamp: order.stamp,
                    assignment: order.assignment,
                    empty_is_meant: order.empty_is_meant,
                    runtimes,
                });
            }
            Done::Order(order, Err(error)) => {
                tracing::error!("cannot write pod templates: {error}");
                let reason = Reason::new("LedgerNotWritten", error.to_string());
                self.refuse(order.stamp, &reason);
            }
            Done::Kept => {}
        }
    }

    /// Refuses an order that the disk would not take, and asks for it again later.
    fn refuse(&mut self, stamp: everynode_model::Stamp, reason: &Reason) {
        self.shared.outbox.acknowledge(&stamp, Some(reason));
        let (shared, reason) = (Arc::clone(&self.shared), reason.clone());
        tokio::spawn(async move {
            tokio::time::sleep(ASK_AGAIN).await;
            shared.outbox.ask_for_whole(&reason);
        });
    }

    fn opening(&mut self) -> Opening {
        self.drop_unneeded_bodies();
        let hello = show::hello(&self.node, &self.machine, &self.held, self.clock.now());
        Opening { hello, accepted: self.node.ledger().assignment.clone() }
    }

    /// Removes the bodies that nothing names any more. Only between sessions: within one the
    /// coordinator takes all that it sent for held.
    fn drop_unneeded_bodies(&mut self) {
        let named = self.node.ledger().assignment.items().map(|item| item.revision);
        let needed: BTreeSet<Digest> = named.chain(self.named.iter().copied()).collect();
        if !self.held.is_subset(&needed) {
            self.held.retain(|digest| needed.contains(digest));
            self.disk.keep_bodies(needed);
        }
    }

    fn answer(&mut self, request: local::Request) {
        let now = self.clock.now();
        match request.question {
            local::Question::Status => {
                let text = show::status(&self.node, &self.identity, &self.link);
                request.finish(true, text);
            }
            local::Question::Pods => request.finish(true, show::pods(&self.node, now)),
            local::Question::Why => request.finish(true, show::why(&self.node)),
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

async fn ask(requests: &mut Option<mpsc::Receiver<local::Request>>) -> Option<local::Request> {
    match requests {
        Some(requests) => requests.recv().await,
        None => std::future::pending().await,
    }
}

/// Looks at the machine until it can be seen: nothing may be decided, and nobody told, before.
async fn look(runtime: &dyn Runtime) -> Vec<Found> {
    loop {
        match runtime.list().await {
            Ok(found) => return found,
            Err(error) => tracing::error!("cannot look at what runs here: {error}"),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The ledger to begin with. Where there was one that can't be read, what runs is kept as it is,
/// until an order says what ought to run.
fn ledger_of(loaded: Loaded, identity: &Identity, found: &[Found]) -> Ledger {
    let new = Ledger::joined(identity.cluster, identity.node);
    match loaded {
        Loaded::Nothing => new,
        Loaded::Ledger(ledger)
            if (ledger.cluster, ledger.node) == (identity.cluster, identity.node) =>
        {
            *ledger
        }
        Loaded::Ledger(ledger) => {
            tracing::warn!(node = %ledger.node, "the ledger is of an earlier identity: ignored");
            new
        }
        Loaded::Corrupt(why) => {
            tracing::error!(
                "both copies of the ledger are damaged ({why}): what runs here is left running, \
                 until the coordinator says what ought to"
            );
            kept_as_found(new, found)
        }
    }
}

fn kept_as_found(mut ledger: Ledger, found: &[Found]) -> Ledger {
    let whose = (ledger.cluster, ledger.node);
    let ours = |found: &&Found| {
        found.populated && found.marks.is_some_and(|marks| (marks.cluster, marks.node) == whose)
    };
    let keep = |found: &Found| {
        found.supervised.as_ref().map(|supervised| Item {
            key: found.key.clone(),
            set: supervised.set,
            revision: supervised.revision,
            replace: supervised.replace,
            intent: Intent::Keep,
            after: Vec::new(),
        })
    };
    ledger.assignment = Assignment::new(found.iter().filter(ours).filter_map(keep));
    let runtime = |item: &Item| (item.key.clone(), "process".to_owned());
    ledger.places = ledger.assignment.items().map(runtime).collect();
    ledger
}

/// A place and what the core says of it, for people and for Hello.
fn places(node: &Node, now: Now) -> Vec<(PodKey, Vec<everynode_model::PodStatus>)> {
    node.keys().map(|key| (key.clone(), node.statuses(key, now))).collect()
}

#[cfg(test)]
mod tests;
