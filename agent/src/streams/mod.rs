//! Streams between people and what runs here, over a connection of their own (`streams.proto`).
//!
//! ```text
//!   session ── OpenStream ──▶ [`Door`] ──▶ host ──▶ dial once ──▶ Attach ──▶ one task per stream
//!                                            └──── none for a minute: the connection is closed
//! ```
//!
//! Nothing here knows or changes what ought to run: files are read, and programs are run beside it. Read
//! in this order: [`logs`], [`exec`] and [`usage`] (what is said), [`wire`] (how it is sent, as far as
//! there is credit), [`stdin`] (what comes the other way).

mod exec;
mod logs;
mod stdin;
mod target;
mod usage;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use everynode_model::{Reason, SessionNonce};
use everynode_proto::v1;
use everynode_proto::v1::node_output::Message;
use everynode_proto::v1::open_stream::What;
use everynode_proto::v1::stream_end::How;
use everynode_proto::v1::streams_client::StreamsClient;
use everynode_runtime::Runtime;
use everynode_transport::{Connected, Dial, Options, connect};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::clock::Clock;
use crate::identity::Identity;
use stdin::Inlet;
use target::Target;
use wire::{Piece, Wire};

/// Streams at a time, by the contract.
const MAX_STREAMS: usize = 32;

/// The contract's time for attaching.
const ATTACH: Duration = Duration::from_secs(10);

/// For how long an unused connection is kept: whoever looks at logs looks again.
const IDLE: Duration = Duration::from_secs(60);

/// Of the threads that wait for disks, those that may read logs at a time: a disk that hangs leaves
/// the others to the ledger.
const READERS: usize = 2;

/// What is read at once: as much as goes into one message.
const AT_ONCE: usize = everynode_proto::credit::MAX_PIECE;

/// Pieces that wait to be sent, beside the one that is being sent.
const PIECES: usize = 1;

/// Where what is asked for is on this machine, and what of it may not be.
#[derive(Clone, Debug)]
pub struct Places {
    /// The directories of pods, with their logs.
    pub run_dir: PathBuf,
    /// Under which cgroup they live.
    pub cgroup_root: PathBuf,
    /// Whether nobody may run programs in them.
    pub deny_exec: bool,
}

/// What a session was asked for.
pub(crate) struct Ask {
    pub(crate) stream: v1::OpenStream,
    pub(crate) session: SessionNonce,
    /// Where the coordinator is that asks.
    pub(crate) address: String,
    pub(crate) identity: Identity,
}

/// Where sessions hand in what they were asked for.
#[derive(Clone, Debug)]
pub(crate) struct Door(mpsc::Sender<Ask>);

struct Host {
    places: Places,
    dial: Arc<dyn Dial>,
    clock: Arc<dyn Clock>,
    connection: Option<Connected>,
    runtime: Arc<dyn Runtime>,
    running: JoinSet<()>,
    readers: Arc<Semaphore>,
    /// Programs that may be run at a time.
    execs: Arc<Semaphore>,
    looks: usage::Looks,
}

type Attached = (mpsc::Sender<v1::NodeOutput>, Streaming<v1::NodeInput>);

/// Of one stream: says all, and answers how that ended; and the other direction, if it has one.
type Begun = (BoxFuture<'static, Result<How, Reason>>, Option<Inlet>);

/// Serves streams until the last door is dropped.
pub(crate) fn begin(
    places: Places,
    runtime: Arc<dyn Runtime>,
    dial: Arc<dyn Dial>,
    clock: Arc<dyn Clock>,
) -> Door {
    let (door, asks) = mpsc::channel(MAX_STREAMS);
    let host = Host {
        places,
        dial,
        clock,
        connection: None,
        runtime,
        running: JoinSet::new(),
        readers: Arc::new(Semaphore::new(READERS)),
        execs: Arc::new(Semaphore::new(exec::MAX_EXECS)),
        looks: usage::Looks::default(),
    };
    tokio::spawn(host.serve(asks));
    Door(door)
}

impl Door {
    /// Hands in. Where too much waits already it is passed over: whoever asked hears of it when the
    /// time for attaching is over.
    pub(crate) fn ask(&self, ask: Ask) {
        let number = ask.stream.number;
        if self.0.try_send(ask).is_err() {
            tracing::warn!(number, "too many streams are asked for at once: not opened");
        }
    }
}

impl Host {
    async fn serve(mut self, mut asks: mpsc::Receiver<Ask>) {
        loop {
            let idle = self.running.is_empty() && self.connection.is_some();
            tokio::select! {
                ask = asks.recv() => match ask {
                    Some(ask) => self.open(ask).await,
                    None => return,
                },
                Some(_) = self.running.join_next(), if !self.running.is_empty() => {}
                () = tokio::time::sleep(IDLE), if idle => self.connection = None,
            }
        }
    }

    async fn open(&mut self, ask: Ask) {
        let number = ask.stream.number;
        if self.running.len() >= MAX_STREAMS {
            tracing::warn!(number, "too many streams are open: not opened");
            return;
        }
        match tokio::time::timeout(ATTACH, self.attach(&ask)).await {
            Ok(Ok(attached)) => self.begin(ask.stream, attached),
            Ok(Err(why)) => tracing::warn!(number, "a stream could not be opened: {why}"),
            Err(_) => tracing::warn!(number, "a stream could not be opened: no answer"),
        }
    }

    /// Begins to tell, and says at the end how that was. Both are dropped together: when nobody wants to
    /// hear any more, nothing is read.
    fn begin(&mut self, stream: v1::OpenStream, (output, input): Attached) {
        let (say, pieces) = mpsc::channel(PIECES);
        let (telling, inlet) = self.telling(stream, say.clone()).unwrap_or_else(|reason| {
            tracing::info!(%reason, "a stream was refused");
            (std::future::ready(Err(reason)).boxed(), None)
        });
        let wire = Wire::new(output, input, pieces, inlet);
        let told = async move {
            let end = telling.await.unwrap_or_else(refused);
            // Nobody may be there any more.
            let _ = say.send(Piece::End(end)).await;
        };
        self.running.spawn(async move {
            tokio::join!(wire.run(), told);
        });
    }

    /// What says what was asked for, and what takes in what comes the other way.
    fn telling(&self, stream: v1::OpenStream, say: mpsc::Sender<Piece>) -> Result<Begun, Reason> {
        if let Some(What::Usage(_)) = stream.what {
            let (root, readers) = (self.places.cgroup_root.clone(), Arc::clone(&self.readers));
            return Ok((usage::tell(root, readers, self.looks.clone(), say).boxed(), None));
        }
        let target = Target::of(&stream)?;
        match stream.what {
            Some(What::Logs(options)) => {
                let job = logs::Job::new(&self.places, target, &options, self.clock.now().wall);
                Ok((logs::tell(job, Arc::clone(&self.readers), say).boxed(), None))
            }
            Some(What::Exec(options)) => {
                let (pod, container) = (&target.pod, &target.container);
                tracing::info!(user = stream.user, %pod, container, command = ?options.command, "exec");
                if self.places.deny_exec {
                    return Err(exec::denied());
                }
                let (inlet, outlet) = exec::input(&options);
                let (runtime, turns) = (Arc::clone(&self.runtime), Arc::clone(&self.execs));
                let job = exec::Job { target, options };
                Ok((exec::run(job, runtime, turns, outlet, say).boxed(), inlet))
            }
            Some(What::Usage(_)) | None => {
                let line = "this agent knows no stream of that kind";
                Err(Reason::new("NotSupported", line))
            }
        }
    }

    /// Attaches over the connection that there is, or, where that has ended, over a new one.
    async fn attach(&mut self, ask: &Ask) -> Result<Attached, String> {
        let present = self.connection.take().filter(|present| present.address == ask.address);
        if let Some(present) = present {
            match attach(&present, ask).await {
                Ok(attached) => {
                    self.connection = Some(present);
                    return Ok(attached);
                }
                Err(status) if std::error::Error::source(&status).is_none() => {
                    self.connection = Some(present);
                    return Err(status.message().to_owned());
                }
                Err(_) => {}
            }
        }
        let options = Options { date: Some(self.clock.now().wall), ..Options::default() };
        let (trust, client) = (ask.identity.trust(), Some(&ask.identity.client));
        let addresses = std::slice::from_ref(&ask.address);
        let connected = connect(&*self.dial, addresses, &trust, client, options).await;
        let connected = connected.map_err(|error| error.to_string())?;
        let attached = attach(&connected, ask).await;
        self.connection = Some(connected);
        attached.map_err(|status| status.message().to_owned())
    }
}

async fn attach(connected: &Connected, ask: &Ask) -> Result<Attached, Status> {
    let (output, messages) = mpsc::channel(PIECES);
    let attach = v1::Attach { session: ask.session.to_string(), number: ask.stream.number };
    let first = v1::NodeOutput { message: Some(Message::Attach(attach)) };
    output.send(first).await.map_err(|_| Status::cancelled("the call has ended"))?;
    let mut client = StreamsClient::new(connected.channel.clone());
    let answer = client.attach(ReceiverStream::new(messages)).await?;
    Ok((output, answer.into_inner()))
}

/// It can't be, or not any further.
fn refused(reason: Reason) -> How {
    How::Refused(v1::stream_end::Refused { code: reason.code, message: reason.message })
}

/// Does what waits for disks on a thread for that, in turn.
async fn block<T: Send + 'static>(
    readers: &Semaphore,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Reason> {
    let ended = |_| Reason::new("AgentStopping", "the agent is ending");
    let _turn = readers.acquire().await.map_err(|_| ended(()))?;
    tokio::task::spawn_blocking(work).await.map_err(|_| ended(()))
}
