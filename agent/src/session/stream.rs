//! One session, from dialling to its end.
//!
//! ```text
//!   dial ─▶ handshake ─▶ Hello ─▶ Welcome ─▶ orders, probes … / reports, heartbeats … ─▶ end
//!     └─────────┴──────────┴────────┴──── no answer in time, refused, lost ───────────────┘
//!                          └─ CertificateExpired ─▶ Renew ─▶ end, dial again at once
//! ```

use std::time::Duration;

use everynode_model::SessionNonce;
use everynode_proto::error::reason_of;
use everynode_proto::v1;
use everynode_proto::v1::agent_client::AgentClient;
use everynode_proto::v1::coordinator_message::Message;
use everynode_transport::{Connected, Options, connect};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::assemble::Assembler;
use super::inbox::{Link, Opening};
use super::renew::{Outcome, Renewals, renew};
use super::{Line, Shared};
use crate::identity::Identity;
use crate::random::Random;
use crate::streams::Ask;

/// The contract's time for Hello, and for what must follow it.
const OPENING: Duration = Duration::from_secs(10);
/// One message waits for the connection; all others wait where newer ones can replace them.
const OUTGOING: usize = 1;
/// The contract's longest heartbeat interval; and the shortest that is not a mistake.
const HEARTBEATS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// How a session ended.
#[derive(Debug)]
pub(super) struct End {
    /// For how long it was welcomed; `None` when it never was.
    pub(super) welcomed_for: Option<Duration>,
    /// Why, in one line.
    pub(super) why: String,
    /// What is to be done next.
    pub(super) next: Next,
}

/// What a session's end says of the next one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Dial again with back-off.
    Dial,
    /// Dial again after this.
    After(Duration),
    /// Dial there, at once.
    Elsewhere(Vec<String>),
    /// Dial again, at once: the certificate that was too old is a new one now.
    Renewed,
    /// Dial again, and give it time: this node is unknown there.
    Unknown,
    /// Dial again, and give it time: somebody else claims this node.
    InUse,
    /// There is nothing more to say: the machine has left.
    Gone,
}

/// What to do where another coordinator is found than the one that was joined.
const REBUILT: &str = "what runs here runs on; if the coordinator was built anew, this machine is \
                       taken to it by `everynode-agent rejoin`";

/// The longest wait that a coordinator may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Holds a session with the first of `addresses` that answers.
pub(super) async fn hold(
    line: &mut Line,
    shared: &Shared,
    addresses: &[String],
    random: &mut Random,
) -> End {
    let (trust, client) = (line.identity.trust(), Some(&line.identity.client));
    let options = Options { date: Some(line.clock.now().wall), ..Options::default() };
    let never = |(why, next): (String, Next)| End { welcomed_for: None, why, next };
    match connect(&*line.dial, addresses, &trust, client, options).await {
        Err(error) if error.is_not_trusted() => never((format!("{error}; {REBUILT}"), Next::Dial)),
        Err(error) => never((error.to_string(), Next::Dial)),
        Ok(connected) => match open(connected, shared).await {
            Ok(mut session) => session.run(line, shared, random).await,
            Err((connected, ended)) if ended.is_too_late() => {
                never(renew_late(&connected, line, shared).await)
            }
            Err((_, ended)) => never(ended.judge()),
        },
    }
}

/// Renews a certificate that the coordinator takes for nothing else.
async fn renew_late(connected: &Connected, line: &mut Line, shared: &Shared) -> (String, Next) {
    match renew(connected, &line.identity, &line.store).await {
        Ok(renewed) => {
            tracing::info!("the certificate had expired and was renewed");
            line.take(renewed.identity, shared);
            ("the certificate had expired and was renewed".into(), Next::Renewed)
        }
        Err(error) => {
            let unknown = error.reason().as_deref() == Some("NodeUnknown");
            let why = format!("the certificate has expired and could not be renewed: {error}");
            (why, if unknown { Next::Unknown } else { Next::Dial })
        }
    }
}

impl Line {
    /// From now on this machine shows its new certificate.
    fn take(&mut self, identity: Identity, shared: &Shared) {
        self.identity = identity.clone();
        shared.inbox.put(|news| news.identity = Some(Box::new(identity)));
    }
}

/// Why it ended, before it is judged.
enum Ended {
    Refused(Status),
    Closed,
    Silent,
    AgentGone,
    Farewell,
    Said(String, Next),
}

struct Session {
    connected: Connected,
    incoming: Streaming<v1::CoordinatorMessage>,
    outgoing: mpsc::Sender<v1::AgentMessage>,
    assembler: Assembler,
    /// Its mark, once it was welcomed.
    nonce: Option<SessionNonce>,
    /// When it was welcomed.
    welcomed: Option<Instant>,
    /// The interval told then.
    heartbeat: Option<Duration>,
    renewals: Renewals,
}

/// Opens a session over this connection, or says why there is none.
async fn open(connected: Connected, shared: &Shared) -> Result<Session, (Connected, Ended)> {
    match begin(&connected, shared).await {
        Ok((incoming, outgoing, assembler)) => Ok(Session {
            connected,
            incoming,
            outgoing,
            assembler,
            nonce: None,
            welcomed: None,
            heartbeat: None,
            renewals: Renewals::default(),
        }),
        Err(ended) => Err((connected, ended)),
    }
}

type Begun = (Streaming<v1::CoordinatorMessage>, mpsc::Sender<v1::AgentMessage>, Assembler);

async fn begin(connected: &Connected, shared: &Shared) -> Result<Begun, Ended> {
    let (ask, answer) = oneshot::channel();
    shared.inbox.put(|news| news.hello = Some(ask));
    let Opening { hello, accepted } = answer.await.map_err(|_| Ended::AgentGone)?;
    let (outgoing, requests) = mpsc::channel(OUTGOING);
    let hello = v1::agent_message::Message::Hello(hello);
    let hello = v1::AgentMessage { message: Some(hello) };
    outgoing.send(hello).await.map_err(|_| Ended::Closed)?;
    let mut client = AgentClient::new(connected.channel.clone());
    let stream = client.session(ReceiverStream::new(requests));
    let incoming = match tokio::time::timeout(OPENING, stream).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return Err(Ended::Refused(status)),
        Err(_) => return Err(Ended::Silent),
    };
    Ok((incoming, outgoing, Assembler::new(accepted)))
}

impl Session {
    async fn run(&mut self, line: &mut Line, shared: &Shared, random: &mut Random) -> End {
        let (why, next) = match self.exchange(line, shared, random).await {
            ended if ended.is_too_late() => renew_late(&self.connected, line, shared).await,
            ended => ended.judge(),
        };
        End { welcomed_for: self.welcomed.map(|at| at.elapsed()), why, next }
    }

    /// Reads at once whatever comes; says what there is to say when the connection takes it.
    async fn exchange(&mut self, line: &mut Line, shared: &Shared, random: &mut Random) -> Ended {
        // Until it is welcomed, when the coordinator counts as silent; then, when to say something.
        let mut due = Instant::now() + OPENING;
        let outgoing = self.outgoing.clone();
        loop {
            let welcomed = self.heartbeat.is_some();
            let has_news = welcomed && !shared.outbox.is_empty();
            // Inputs before timers: a loop that was frozen finds first what came meanwhile.
            tokio::select! {
                biased;
                message = self.incoming.message() => {
                    let taken = match message {
                        Ok(Some(message)) => self.take(message, line, shared),
                        Ok(None) => Err(Ended::Closed),
                        Err(status) => Err(Ended::Refused(status)),
                    };
                    match (taken, self.heartbeat) {
                        (Err(ended), _) => return ended,
                        (Ok(()), Some(every)) if !welcomed => due = next(random, every),
                        _ => {}
                    }
                },
                permit = outgoing.reserve(), if has_news => {
                    let Ok(permit) = permit else { return Ended::Closed };
                    if let Some(message) = shared.outbox.next() {
                        permit.send(message);
                    }
                    due = next(random, self.heartbeat.unwrap_or(OPENING));
                },
                () = shared.outbox.changed(), if welcomed && !has_news => {}
                outcome = self.renewals.done(|| renew(&self.connected, &line.identity, &line.store))
                    => self.renewed(outcome, line, shared, random),
                () = tokio::time::sleep_until(due) => match self.heartbeat {
                    Some(every) => {
                        shared.outbox.heartbeat();
                        due = next(random, every);
                    }
                    None => return Ended::Silent,
                },
            }
        }
    }

    /// The session goes on as it began; the next one shows the new certificate.
    fn renewed(&mut self, outcome: Outcome, line: &mut Line, shared: &Shared, random: &mut Random) {
        match outcome {
            Ok(renewed) => {
                tracing::info!("the certificate was renewed");
                self.renewals.told(renewed.next);
                line.take(renewed.identity, shared);
            }
            Err(error) => {
                tracing::warn!("the certificate was not renewed, trying again later: {error}");
                self.renewals.later(random);
            }
        }
    }

    fn take(
        &mut self,
        message: v1::CoordinatorMessage,
        line: &Line,
        shared: &Shared,
    ) -> Result<(), Ended> {
        // A kind of message that this version does not know is passed over.
        let Some(message) = message.message else { return Ok(()) };
        match message {
            Message::Welcome(welcome) => return self.welcome(&welcome, shared),
            Message::Probe(v1::Probe { number }) => shared.outbox.answer_probe(number),
            Message::Assignment(chunk) => match self.assembler.take(chunk) {
                Ok(Some(order)) => shared.inbox.put_order(order),
                Ok(None) => {}
                Err(gap) => {
                    let reason = gap.reason();
                    tracing::warn!(%reason, "asking for the whole assignment");
                    shared.outbox.ask_for_whole(&reason);
                }
            },
            Message::OpenStream(stream) => self.open_stream(stream, line),
            Message::Deregister(_) => shared.inbox.put(|news| news.deregistered = true),
            Message::Farewell(_) => {
                shared.inbox.put(|news| news.farewell = true);
                return Err(Ended::Farewell);
            }
            Message::Redirect(v1::Redirect { addresses }) => {
                let why = format!("the coordinator sends us to {}", addresses.join(", "));
                return Err(Ended::Said(why, Next::Elsewhere(addresses)));
            }
            Message::RetryAfter(v1::RetryAfter { millis, reason }) => {
                let wait = Duration::from_millis(millis.into()).min(LONGEST_WAIT);
                let why = reason.map_or_else(|| "it is too busy".into(), |reason| reason.message);
                return Err(Ended::Said(why, Next::After(wait)));
            }
        }
        Ok(())
    }

    fn open_stream(&self, stream: v1::OpenStream, line: &Line) {
        if let (Some(door), Some(session)) = (&line.streams, self.nonce) {
            let (address, identity) = (self.connected.address.clone(), line.identity.clone());
            door.ask(Ask { stream, session, address, identity });
        }
    }

    fn welcome(&mut self, welcome: &v1::Welcome, shared: &Shared) -> Result<(), Ended> {
        let Ok(session) = welcome.session.parse::<SessionNonce>() else {
            let why = "the coordinator's Welcome has no valid session".to_owned();
            return Err(Ended::Said(why, Next::Dial));
        };
        let interval = Duration::from_millis(welcome.heartbeat_millis.into());
        self.nonce = Some(session);
        self.welcomed = Some(Instant::now());
        self.heartbeat = Some(interval.clamp(HEARTBEATS.0, HEARTBEATS.1));
        self.renewals.told(welcome.renew_in_millis.map(Duration::from_millis));
        let address = self.connected.address.clone();
        tracing::info!(coordinator = address, %session, "session open");
        shared.inbox.put(|news| {
            news.welcomed = Some(session);
            news.link = Some(Link::Up(address));
        });
        Ok(())
    }
}

impl Ended {
    /// Whether the coordinator takes this machine's certificate for nothing but its renewal.
    fn is_too_late(&self) -> bool {
        matches!(self, Self::Refused(status)
            if reason_of(status).as_deref() == Some("CertificateExpired"))
    }

    fn judge(self) -> (String, Next) {
        match self {
            Self::Closed => ("the coordinator ended the session".into(), Next::Dial),
            Self::Farewell => ("it has taken note that this machine left".into(), Next::Gone),
            Self::Silent => ("the coordinator does not answer".into(), Next::Dial),
            Self::AgentGone => ("the agent is ending".into(), Next::Dial),
            Self::Said(why, next) => (why, next),
            Self::Refused(status) => {
                let next = match reason_of(&status).as_deref() {
                    Some("NodeUnknown") => Next::Unknown,
                    Some("NodeInUse") => Next::InUse,
                    _ => Next::Dial,
                };
                let line = format!("{} ({:?})", status.message(), status.code());
                match next {
                    Next::Unknown => (format!("{line}; {REBUILT}"), next),
                    _ => (line, next),
                }
            }
        }
    }
}

/// When to say something if nothing else is said before.
fn next(random: &mut Random, interval: Duration) -> Instant {
    Instant::now() + random.about(interval)
}
