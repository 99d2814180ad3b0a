//! The agent's side of one supervisor's connection: asks in order, hears what happened, comes back
//! when the connection breaks.
//!
//! ```text
//!                  account                        leaving
//!   connecting ──────────────────▶ conversing ──────────────▶ over, quietly
//!       │                              │
//!       │ not in time                  │ connection lost
//!       ▼         account              ▼
//!    seeking ── (Answered) ──▶ conversing
//!     │   ▲
//!     │   └─ not in time, again and again
//!     └───── its cgroup empty, or nobody at its socket ──▶ SupervisorLost
//! ```
//!
//! A supervisor that takes long is not dead: it waits for a disk, or for a processor. Who asks it
//! is told so after a while, and what it says then still counts. It is lost when its cgroup was
//! seen empty, or when nobody holds its socket any more.
//!
//! One that was stopped (SIGSTOP) looks alive and tells of no end, so it is asked now and then
//! whether it is there.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use everynode_agent_core::Found;
use everynode_model::{Exit, LogTail, Reason};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::connect::{AGAIN_WITHIN, Address, Connected, next_message, receive};
use crate::shim::brought;
use crate::shim::protocol::{Account, ExecWanted, Message, Request};
use crate::{Executed, RuntimeEvent, descriptors};

/// How long who asks waits for an answer. A start forks, and kills what is in its way for up to a
/// second; the rest of ten is for a machine that is short of everything.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How often a supervisor of whom nothing was heard is asked whether it is there; it is silent when
/// it has not answered by the next time. As often as a node is heard of: it costs two wake-ups.
const CHECK_EVERY: Duration = Duration::from_secs(10);

/// Questions that wait to be sent, and as many that were sent and wait for their answers: one for
/// each container of a pod that starts, and some. All of them fit into a socket's buffer.
const ASKS: usize = 16;

/// A supervisor to talk to. Dropping it hangs up.
pub(super) struct Link {
    asks: mpsc::Sender<Ask>,
    killed: Arc<AtomicBool>,
    /// Whether its pod is known to have a network of its own: said with the plan, and so before
    /// anything else can be known of the pod.
    own_network: Arc<AtomicBool>,
    task: AbortHandle,
}

/// What asks, without keeping the link.
#[derive(Clone)]
pub(super) struct Asker(mpsc::Sender<Ask>);

/// Why a question was not answered.
pub(super) enum NoAnswer {
    /// It may be yet: what was asked may still be done, and is told then.
    Silent,
    /// There will be none: the supervisor is dead.
    Lost,
}

struct Ask {
    request: Request,
    answer: oneshot::Sender<Message>,
    /// What goes with it.
    fds: Vec<OwnedFd>,
    /// Of what it runs in a container: for its end.
    ended: Option<oneshot::Sender<Executed>>,
}

struct Worker {
    address: Address,
    stream: UnixStream,
    received: Vec<u8>,
    asks: mpsc::Receiver<Ask>,
    /// Sent and not answered, in order.
    pending: VecDeque<Ask>,
    /// What was told to run.
    running: BTreeMap<String, u32>,
    /// Those who wait for the end of what they had run in a container.
    executing: BTreeMap<u64, oneshot::Sender<Executed>>,
    events: mpsc::Sender<RuntimeEvent>,
    killed: Arc<AtomicBool>,
    /// When to look whether anything was heard.
    check_at: Instant,
    /// Whether anything was, since the last look.
    heard: bool,
    /// What was told of that.
    silent: bool,
    /// Of whose last run it is to be asked what it printed.
    failed: Option<String>,
}

/// How a conversation ended.
enum End {
    Over,
    Lost,
}

impl Link {
    /// Begins to converse.
    pub(super) fn new(connected: Connected, events: mpsc::Sender<RuntimeEvent>) -> Self {
        let (asks, receiver) = mpsc::channel(ASKS);
        let killed = Arc::new(AtomicBool::new(false));
        let own_network = Arc::new(AtomicBool::new(connected.plan.own_network()));
        let worker = Worker::new(connected, receiver, events, Arc::clone(&killed));
        Self { asks, killed, own_network, task: tokio::spawn(worker.run()).abort_handle() }
    }

    /// Seeks the supervisor of what was found, which is alive and has not answered; tells when it
    /// does, or that it is lost.
    pub(super) fn seeking(
        address: Address,
        found: Found,
        events: mpsc::Sender<RuntimeEvent>,
    ) -> Self {
        let (asks, receiver) = mpsc::channel(ASKS);
        let killed = Arc::new(AtomicBool::new(false));
        let shared = Arc::clone(&killed);
        let own_network = Arc::new(AtomicBool::new(false));
        let network = Arc::clone(&own_network);
        let seeking = async move {
            let connected = address.seek(&shared).await;
            let said = connected.and_then(|it| Some((it.account.parse(&it.plan).ok()?, it)));
            if let Some((supervised, connected)) = said {
                network.store(connected.plan.own_network(), Ordering::Release);
                let found = Found { supervised: Some(supervised), silent: false, ..found };
                // Nobody listens only when the agent ends.
                let _ = events.send(RuntimeEvent::Answered(found)).await;
                Worker::new(connected, receiver, events, shared).run().await;
            } else if !shared.load(Ordering::Acquire) {
                let _ = events.send(RuntimeEvent::SupervisorLost(address.pod)).await;
            }
        };
        Self { asks, killed, own_network, task: tokio::spawn(seeking).abort_handle() }
    }

    pub(super) fn asker(&self) -> Asker {
        Asker(self.asks.clone())
    }

    /// Whether its pod has a network of its own.
    pub(super) fn has_own_network(&self) -> bool {
        self.own_network.load(Ordering::Acquire)
    }

    /// Whether its supervisor is not known to be dead.
    pub(super) fn is_open(&self) -> bool {
        !self.asks.is_closed()
    }

    /// The supervisor is about to be killed: its silence is no news.
    pub(super) fn expect_death(&self) {
        self.killed.store(true, Ordering::Release);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Asker {
    /// Asks, and waits a bounded time for the answer.
    ///
    /// # Errors
    /// Without an answer in time, or ever.
    pub(super) async fn ask(&self, request: Request) -> Result<Message, NoAnswer> {
        let (ask, answered) = Ask::new(request);
        self.send(ask, answered).await
    }

    /// Has something run in a container, and waits a bounded time for the answer. The end comes by
    /// the channel; a channel that closes without it says that nobody will tell.
    ///
    /// # Errors
    /// Without an answer in time, or ever.
    pub(super) async fn exec(
        &self,
        wanted: ExecWanted,
        fds: [OwnedFd; 3],
    ) -> Result<(Message, oneshot::Receiver<Executed>), NoAnswer> {
        let (ended, end) = oneshot::channel();
        let (ask, answered) = Ask::new(Request::Exec(wanted));
        let ask = Ask { fds: fds.into(), ended: Some(ended), ..ask };
        Ok((self.send(ask, answered).await?, end))
    }

    /// Asks, with a descriptor, and waits a bounded time for the answer.
    ///
    /// # Errors
    /// Without an answer in time, or ever.
    pub(super) async fn ask_with(
        &self,
        request: Request,
        fd: OwnedFd,
    ) -> Result<Message, NoAnswer> {
        let (ask, answered) = Ask::new(request);
        self.send(Ask { fds: vec![fd], ..ask }, answered).await
    }

    /// Has what was run killed, after what waits to be asked.
    pub(super) fn end_exec(&self, id: u64) {
        let (ask, _nobody) = Ask::new(Request::EndExec { id });
        // Where the link or this process ends first, the supervisor kills it by itself.
        if let Err(TrySendError::Full(ask)) = self.0.try_send(ask)
            && let Ok(tasks) = tokio::runtime::Handle::try_current()
        {
            let asks = self.0.clone();
            tasks.spawn(async move { asks.send(ask).await });
        }
    }

    async fn send(
        &self,
        ask: Ask,
        answered: oneshot::Receiver<Message>,
    ) -> Result<Message, NoAnswer> {
        let asked = async {
            self.0.send(ask).await.ok()?;
            answered.await.ok()
        };
        match tokio::time::timeout(ANSWER_WITHIN, asked).await {
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(NoAnswer::Lost),
            Err(_) => Err(NoAnswer::Silent),
        }
    }
}

impl Ask {
    fn new(request: Request) -> (Self, oneshot::Receiver<Message>) {
        let (answer, answered) = oneshot::channel();
        (Self { request, answer, fds: Vec::new(), ended: None }, answered)
    }

    /// Whether nobody wants it done any more. An end that was ordered stays ordered.
    fn is_moot(&self) -> bool {
        use Request::{Close, EndExec, Stop, Terminate};
        let ends = matches!(self.request, Terminate {} | Close {} | Stop { .. } | EndExec { .. });
        self.answer.is_closed() && !ends
    }
}

impl Worker {
    fn new(
        connected: Connected,
        asks: mpsc::Receiver<Ask>,
        events: mpsc::Sender<RuntimeEvent>,
        killed: Arc<AtomicBool>,
    ) -> Self {
        let running = connected.account.containers.iter();
        Self {
            running: running.filter_map(|c| Some((c.name.clone(), c.pid?))).collect(),
            failed: failed(&connected.account),
            address: connected.address,
            stream: connected.stream,
            received: connected.received,
            asks,
            pending: VecDeque::new(),
            executing: BTreeMap::new(),
            events,
            killed,
            check_at: Instant::now() + CHECK_EVERY,
            heard: true,
            silent: false,
        }
    }

    async fn run(mut self) {
        loop {
            match self.converse().await {
                End::Over => return,
                End::Lost if self.come_back().await => {}
                End::Lost => break,
            }
        }
        // Those who ask hear that it is lost after everybody can know.
        if !self.killed.load(Ordering::Acquire) {
            let lost = RuntimeEvent::SupervisorLost(self.address.pod.clone());
            self.tell(lost).await;
        }
    }

    async fn converse(&mut self) -> End {
        if let Some(container) = self.failed.take()
            && !self.ask(Request::Printed { container }).await
        {
            return End::Lost;
        }
        loop {
            while let Some(message) = next_message(&mut self.received) {
                match message {
                    Ok(Message::Leaving {}) => return End::Over,
                    Ok(message) => self.hear(message).await,
                    Err(error) => {
                        tracing::warn!(pod = %self.address.pod, %error, "not understood");
                        return End::Lost;
                    }
                }
            }
            let room = self.pending.len() < ASKS;
            tokio::select! {
                // What was said is heard before more is asked.
                biased;
                received = receive(&mut self.stream, &mut self.received) => match received {
                    Ok(true) => {}
                    Ok(false) | Err(_) => return End::Lost,
                },
                // The sender is dropped with the link, which ends this task.
                Some(ask) = self.asks.recv(), if room => {
                    if !ask.is_moot() && !self.send(ask).await {
                        return End::Lost;
                    }
                }
                () = tokio::time::sleep_until(self.check_at) => {
                    if !self.check().await {
                        return End::Lost;
                    }
                }
            }
        }
    }

    /// Looks whether anything was heard since the last look, and asks where nobody else has;
    /// whether the connection is of any more use.
    async fn check(&mut self) -> bool {
        self.check_at = Instant::now() + CHECK_EVERY;
        let heard = std::mem::replace(&mut self.heard, false);
        if self.pending.is_empty() {
            return self.ask(Request::Account {}).await;
        }
        if !heard && !std::mem::replace(&mut self.silent, true) {
            self.tell(RuntimeEvent::SupervisorSilent(self.address.pod.clone())).await;
        }
        true
    }

    /// It has said something.
    async fn is_heard(&mut self) {
        self.heard = true;
        if std::mem::replace(&mut self.silent, false) {
            self.tell(RuntimeEvent::SupervisorHeard(self.address.pod.clone())).await;
        }
    }

    /// Asks for what is heard by itself; whether the connection is of any more use.
    async fn ask(&mut self, request: Request) -> bool {
        let (ask, _nobody) = Ask::new(request);
        self.send(ask).await
    }

    /// Sends a question; whether the connection is of any more use.
    async fn send(&mut self, mut ask: Ask) -> bool {
        let line = brought::line(&ask.request, ask.fds.len());
        // Closed when they are sent: else what is run would never see the end of its input.
        let fds = std::mem::take(&mut ask.fds);
        self.pending.push_back(ask);
        let sent = write_all(&mut self.stream, &line, &fds);
        match tokio::time::timeout(ANSWER_WITHIN, sent).await {
            Ok(Ok(())) => true,
            // The other side has gone: what it said before it went is still to be read, and may be
            // that it went in order.
            Ok(Err(error)) => error.kind() == io::ErrorKind::BrokenPipe,
            Err(_) => false,
        }
    }

    async fn hear(&mut self, message: Message) {
        self.is_heard().await;
        match &message {
            Message::Exited { container, exit, oom, printed } => {
                self.exited(container.clone(), (*exit).into(), *oom).await;
                return self.printed(container.clone(), printed).await;
            }
            Message::Executed { id, exit, timed_out } => {
                let (exit, timed_out) = ((*exit).into(), *timed_out);
                if let Some(ended) = self.executing.remove(id) {
                    // Who waited may have gone.
                    let _ = ended.send(Executed { exit, timed_out });
                }
                return;
            }
            Message::Printed { container, text } => self.printed(container.clone(), text).await,
            // Told before it is answered, so that its end can't be told first.
            Message::Started { container, pid } => self.started(container.clone(), *pid).await,
            _ => {}
        }
        let Some(ask) = self.pending.pop_front() else { return };
        if let (Message::Executing { id, .. }, Some(ended)) = (&message, ask.ended) {
            // Before anybody can ask for its end.
            self.executing.insert(*id, ended);
        }
        // Who asked may have gone.
        let _ = ask.answer.send(message);
    }

    /// Connects again, and tells what happened in between; whether the supervisor is there.
    async fn come_back(&mut self) -> bool {
        let Some(connected) = self.address.seek(&self.killed).await else { return false };
        self.stream = connected.stream;
        self.received = connected.received;
        self.is_heard().await;
        self.failed = failed(&connected.account);
        self.catch_up(connected.account).await;
        true
    }

    /// The account says it all: a request of the old connection was either done before it, or
    /// never will be, and is sent again.
    async fn catch_up(&mut self, account: Account) {
        for container in &account.containers {
            let known = self.running.get(&container.name).copied();
            if known.is_some() && known != container.pid {
                let exit = container.last_exit.map_or(Exit::Unknown, Exit::from);
                self.exited(container.name.clone(), exit, container.oom).await;
            }
            if let Some(pid) = container.pid.filter(|pid| known != Some(*pid)) {
                self.started(container.name.clone(), pid).await;
            }
        }
        // What was run for this agent was killed when the connection broke: who waits hears no end.
        self.executing.clear();
        let mut lines = Vec::new();
        for ask in std::mem::take(&mut self.pending) {
            match self.done_before(&ask.request) {
                Some(answer) => drop(ask.answer.send(answer)),
                None if ask.is_moot() => {}
                None => {
                    lines.extend(brought::line(&ask.request, 0));
                    self.pending.push_back(ask);
                }
            }
        }
        // Where this fails the connection is broken again, which the next reading tells.
        let _ = tokio::time::timeout(AGAIN_WITHIN, self.stream.write_all(&lines)).await;
    }

    /// The answer to a request that can't be done twice, where it was done. (A start whose run has
    /// ended since is not: it is started again, as the one who asked expects it to run.)
    fn done_before(&self, request: &Request) -> Option<Message> {
        match request {
            Request::Start { container } => {
                let pid = *self.running.get(container)?;
                Some(Message::Started { container: container.clone(), pid })
            }
            // What goes with it went with the connection.
            Request::Exec(_) | Request::Socket { .. } => {
                let line = "the connection to the pod's supervisor broke";
                Some(Message::refused(Reason::new("ConnectionLost", line)))
            }
            _ => None,
        }
    }

    async fn started(&mut self, container: String, pid: u32) {
        self.running.insert(container.clone(), pid);
        let pod = self.address.pod.clone();
        self.tell(RuntimeEvent::Started { pod, container, pid }).await;
    }

    async fn exited(&mut self, container: String, exit: Exit, oom: bool) {
        self.running.remove(&container);
        let pod = self.address.pod.clone();
        if oom {
            let (pod, container) = (pod.clone(), container.clone());
            self.tell(RuntimeEvent::OutOfMemory { pod, container }).await;
        }
        self.tell(RuntimeEvent::Exited { pod, container, exit }).await;
    }

    async fn printed(&self, container: String, text: &str) {
        let (pod, log_tail) = (self.address.pod.clone(), LogTail::of(text));
        if log_tail != LogTail::default() {
            self.tell(RuntimeEvent::Printed { pod, container, log_tail }).await;
        }
    }

    async fn tell(&self, event: RuntimeEvent) {
        // Nobody listens only when the agent ends.
        let _ = self.events.send(event).await;
    }
}

/// Writes it all, and with its first byte these descriptors.
async fn write_all(stream: &mut UnixStream, line: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
    if fds.is_empty() {
        return stream.write_all(line).await;
    }
    let fds: Vec<_> = fds.iter().map(OwnedFd::as_fd).collect();
    let send = || Ok(descriptors::send(&*stream, line, &fds)?);
    let sent = stream.async_io(Interest::WRITABLE, send).await?;
    stream.write_all(&line[sent..]).await
}

/// The container whose failure counts as the pod's last: as the agent's core reads an account.
fn failed(account: &Account) -> Option<String> {
    let failed = account.containers.iter().rev().find(|one| one.last_exit.is_some());
    failed.map(|one| one.name.clone())
}
