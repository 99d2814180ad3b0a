//! The agent's side of one supervisor's connection: asks in order, hears what happened, comes back
//! once when the connection breaks.
//!
//! ```text
//!   connect ── account ──▶ conversing ──── leaving ──────────────▶ over, quietly
//!                 ▲            │
//!                 │            ├─ silent for too long ──────┐
//!                 │            └─ connection lost ─┐        ▼
//!                 └──────────── connects again ────┴─ or ▶ SupervisorLost
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use everynode_agent_core::{Marks, PodRef};
use everynode_model::Exit;
use rustix::fs::{Mode, OFlags};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::RuntimeEvent;
use crate::shim::protocol::{self, Account, MAX_LINE, Message, Request, SOCKET};

/// How long a supervisor may take for an answer. A start forks, and kills what is in its way for
/// up to a second; the rest of ten is for a machine that is short of everything.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long coming back may take: it only asks for the account, perhaps on a very busy machine.
const AGAIN_WITHIN: Duration = Duration::from_secs(5);

/// The pause before coming back, so that a supervisor that hangs up each time costs little.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Questions that wait to be sent: one for each container of a pod that starts, and some.
const ASKS: usize = 16;

/// A supervisor to talk to. Dropping it hangs up.
pub(super) struct Link {
    asks: mpsc::Sender<Ask>,
    killed: Arc<AtomicBool>,
    task: AbortHandle,
}

/// What asks, without keeping the link.
#[derive(Clone)]
pub(super) struct Asker(mpsc::Sender<Ask>);

/// A fresh connection, whose supervisor has given its account.
pub(super) struct Connected {
    address: Address,
    stream: UnixStream,
    received: Vec<u8>,
    /// What the supervisor said of its pod.
    pub(super) account: Account,
}

/// Whom to expect where.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) directory: PathBuf,
    pub(super) pod: PodRef,
    pub(super) marks: Marks,
}

struct Ask {
    request: Request,
    answer: oneshot::Sender<Message>,
}

struct Worker {
    address: Address,
    stream: UnixStream,
    received: Vec<u8>,
    asks: mpsc::Receiver<Ask>,
    /// Sent and not answered, with the time by which they must be.
    pending: VecDeque<(Ask, Instant)>,
    /// What was told to run.
    running: BTreeMap<String, u32>,
    events: mpsc::Sender<RuntimeEvent>,
    killed: Arc<AtomicBool>,
}

/// How a conversation ended.
enum End {
    Over,
    Lost,
    Silent,
}

impl Link {
    /// Begins to converse.
    pub(super) fn new(connected: Connected, events: mpsc::Sender<RuntimeEvent>) -> Self {
        let (asks, receiver) = mpsc::channel(ASKS);
        let killed = Arc::new(AtomicBool::new(false));
        let running = connected.account.containers.iter();
        let worker = Worker {
            address: connected.address,
            stream: connected.stream,
            received: connected.received,
            asks: receiver,
            pending: VecDeque::new(),
            running: running.filter_map(|c| Some((c.name.clone(), c.pid?))).collect(),
            events,
            killed: Arc::clone(&killed),
        };
        Self { asks, killed, task: tokio::spawn(worker.run()).abort_handle() }
    }

    pub(super) fn asker(&self) -> Asker {
        Asker(self.asks.clone())
    }

    /// Whether its supervisor still talks to us.
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
    /// The answer, within a bounded time; `None` where there will be none.
    pub(super) async fn ask(&self, request: Request) -> Option<Message> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Ask { request, answer }).await.ok()?;
        answered.await.ok()
    }
}

impl Address {
    /// Connects and asks for the account.
    ///
    /// # Errors
    /// Also when somebody else than the expected supervisor answers, or nobody in time.
    pub(super) async fn connect(&self, within: Duration) -> io::Result<Connected> {
        tokio::time::timeout(within, self.greet())
            .await
            .unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }

    async fn greet(&self) -> io::Result<Connected> {
        let mut stream = connect(&self.directory).await?;
        if stream.peer_cred()?.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("its socket belongs to another user"));
        }
        stream.write_all(&protocol::line(&Request::Account {})).await?;
        let mut received = Vec::new();
        let account = loop {
            if !receive(&mut stream, &mut received).await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(message) = next_message(&mut received) {
                match message? {
                    Message::Account(account) => break account,
                    // Told to all who are connected; the account will say it too.
                    _ => continue,
                }
            }
        };
        match account.identity.parse() {
            Ok((pod, marks)) if pod == self.pod && marks == self.marks => {}
            _ => return Err(io::Error::other("it is the supervisor of another pod")),
        }
        Ok(Connected { address: self.clone(), stream, received, account })
    }
}

impl Worker {
    async fn run(mut self) {
        loop {
            match self.converse().await {
                End::Over => return,
                End::Lost if self.come_back().await => {}
                End::Lost | End::Silent => break,
            }
        }
        // Those who ask hear that it is lost after everybody can know.
        if !self.killed.load(Ordering::Acquire) {
            let lost = RuntimeEvent::SupervisorLost(self.address.pod.clone());
            self.tell(lost).await;
        }
    }

    async fn converse(&mut self) -> End {
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
            let due = self.pending.front().map(|(_, due)| *due);
            tokio::select! {
                received = receive(&mut self.stream, &mut self.received) => match received {
                    Ok(true) => {}
                    Ok(false) | Err(_) => return End::Lost,
                },
                () = at(due) => return End::Silent,
                // The sender is dropped with the link, which ends this task.
                Some(ask) = self.asks.recv() => {
                    let line = protocol::line(&ask.request);
                    self.pending.push_back((ask, Instant::now() + ANSWER_WITHIN));
                    let sent = self.stream.write_all(&line);
                    match tokio::time::timeout(ANSWER_WITHIN, sent).await {
                        Ok(Ok(())) => {}
                        Ok(Err(_)) => return End::Lost,
                        Err(_) => return End::Silent,
                    }
                }
            }
        }
    }

    async fn hear(&mut self, message: Message) {
        match &message {
            Message::Exited { container, exit } => {
                return self.exited(container.clone(), (*exit).into()).await;
            }
            // Told before it is answered, so that its end can't be told first.
            Message::Started { container, pid } => self.started(container.clone(), *pid).await,
            _ => {}
        }
        if let Some((ask, _)) = self.pending.pop_front() {
            // Who asked may have gone.
            let _ = ask.answer.send(message);
        }
    }

    /// Connects again, and tells what happened in between; whether the supervisor is there.
    async fn come_back(&mut self) -> bool {
        if self.killed.load(Ordering::Acquire) {
            return false;
        }
        tokio::time::sleep(AGAIN_AFTER).await;
        match self.address.connect(AGAIN_WITHIN).await {
            Ok(connected) => {
                self.stream = connected.stream;
                self.received = connected.received;
                self.catch_up(connected.account).await;
                true
            }
            Err(error) => {
                tracing::warn!(pod = %self.address.pod, %error, "its supervisor is lost");
                false
            }
        }
    }

    /// The account says it all: a request of the old connection was either done before it, or
    /// never will be, and is sent again.
    async fn catch_up(&mut self, account: Account) {
        for container in &account.containers {
            let known = self.running.get(&container.name).copied();
            if known.is_some() && known != container.pid {
                let exit = container.last_exit.map_or(Exit::Unknown, Exit::from);
                self.exited(container.name.clone(), exit).await;
            }
            if let Some(pid) = container.pid.filter(|pid| known != Some(*pid)) {
                self.started(container.name.clone(), pid).await;
            }
        }
        let mut lines = Vec::new();
        for (ask, due) in std::mem::take(&mut self.pending) {
            match self.done_before(&ask.request) {
                Some(answer) => drop(ask.answer.send(answer)),
                None => {
                    lines.extend(protocol::line(&ask.request));
                    self.pending.push_back((ask, due));
                }
            }
        }
        // Where this fails the connection is broken again, which the next reading tells.
        let _ = tokio::time::timeout(AGAIN_WITHIN, self.stream.write_all(&lines)).await;
    }

    /// The answer to a request that can't be done twice, where it was done. (A start whose run has
    /// ended since is not: it is started again, as the one who asked expects it to run.)
    fn done_before(&self, request: &Request) -> Option<Message> {
        let Request::Start { container } = request else { return None };
        let pid = *self.running.get(container)?;
        Some(Message::Started { container: container.clone(), pid })
    }

    async fn started(&mut self, container: String, pid: u32) {
        self.running.insert(container.clone(), pid);
        let pod = self.address.pod.clone();
        self.tell(RuntimeEvent::Started { pod, container, pid }).await;
    }

    async fn exited(&mut self, container: String, exit: Exit) {
        self.running.remove(&container);
        let pod = self.address.pod.clone();
        self.tell(RuntimeEvent::Exited { pod, container, exit }).await;
    }

    async fn tell(&self, event: RuntimeEvent) {
        // Nobody listens only when the agent ends.
        let _ = self.events.send(event).await;
    }
}

/// Connects to the socket in a directory whose path may be longer than a socket's may be (108).
async fn connect(directory: &Path) -> io::Result<UnixStream> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd())).await
}

/// Reads what there is; `false` at the end. Loses nothing when it is dropped.
async fn receive(stream: &mut UnixStream, received: &mut Vec<u8>) -> io::Result<bool> {
    if received.len() > MAX_LINE {
        return Err(io::Error::other("a line without end"));
    }
    received.reserve(4096);
    Ok(stream.read_buf(received).await? > 0)
}

/// Takes the first whole line that says something known: what a later supervisor says beyond that
/// is not for us.
fn next_message(received: &mut Vec<u8>) -> Option<io::Result<Message>> {
    loop {
        let end = received.iter().position(|byte| *byte == b'\n')?;
        let message = serde_json::from_slice(&received[..end]);
        received.drain(..=end);
        match message {
            Err(error) if error.is_data() => tracing::debug!(%error, "unknown message"),
            message => return Some(message.map_err(io::Error::from)),
        }
    }
}

/// Waits until then; for ever without a time.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_later_supervisor_says_is_passed_over() {
        let mut received = b"{\"swapped\":{\"bytes\":7}}\n{\"leaving\":{}}\n{\"lea".to_vec();
        let message = next_message(&mut received).unwrap();
        assert_eq!(message.unwrap(), Message::Leaving {});
        assert!(next_message(&mut received).is_none(), "half a line is none");
        received.extend(b"\n");
        assert!(next_message(&mut received).unwrap().is_err());
    }
}
