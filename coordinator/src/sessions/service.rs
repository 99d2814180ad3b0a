//! The agents' gRPC service: joining, renewal, and the one long stream.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use everynode_coordinator_core::{Hello, NodeRecord, NodeStanding, Observation};
use everynode_model::{ClusterId, Digest, NodeCondition, NodeUid, Reason, SessionNonce, Stamp};
use everynode_proto::convert::{digest, status as report};
use everynode_proto::error::Invalid;
use everynode_proto::v1;
use everynode_proto::v1::agent_message::Message;
use everynode_proto::v1::coordinator_message::Message as Reply;
use futures_util::stream::Stream;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::chunk::Sent;
use super::inbound::{Inbound, MAX_PLACES};
use super::issue::{Issuer, when};
use super::session::Session;
use super::{Registration, Sessions, claim, farewell, join, outbound};
use crate::accept::ConnectInfo;
use crate::auth;
use crate::auth::nodes::may_open_session;
use crate::clock::Clock;
use crate::driver::Handle;
use crate::entropy::Entropy;
use crate::first::first;
use crate::pki::Pki;
use crate::status;
use crate::tls::PeerIdentity;

/// How long an agent may take to send Hello.
const HELLO: Duration = Duration::from_secs(10);

/// How many of the bodies that a Hello names are noted: as many as there may be places, twice over for
/// rollouts, and as many contents of ConfigMaps and Secrets. What is beyond that is sent again.
const MAX_BODIES: usize = 4 * MAX_PLACES;

/// How often a claim is made again when another was faster: two claims at once need two.
const CLAIMS: usize = 3;

/// The longest text that a Hello may have in any one place, and the most features and facts.
const MAX_TEXT: usize = 1024;
const MAX_WORDS: usize = 256;

/// How many conditions a node may have, by the contract.
const MAX_CONDITIONS: usize = 16;

/// How many troubles of its own an agent may tell, by the contract.
const MAX_TROUBLES: usize = 8;

/// The version of the protocol that this side speaks.
const PROTOCOL: u32 = 1;

/// What agents call.
#[derive(Clone)]
pub struct AgentService {
    handle: Handle,
    sessions: Sessions,
    issuer: Issuer,
    clock: Arc<dyn Clock>,
    entropy: Arc<Entropy>,
}

/// Who opens a session, and from where.
struct Caller {
    node: NodeUid,
    identity: PeerIdentity,
    from: String,
}

impl AgentService {
    /// A service for the agents of a cluster that answers from the driver behind `handle`. Its
    /// certificates last for `lasts`.
    pub fn new(
        handle: Handle,
        sessions: Sessions,
        (pki, cluster, lasts): (Pki, ClusterId, Duration),
        clock: Arc<dyn Clock>,
        entropy: Arc<Entropy>,
    ) -> Self {
        Self { handle, sessions, issuer: Issuer { pki, cluster, lasts }, clock, entropy }
    }
}

type Outbound = Pin<Box<dyn Stream<Item = Result<v1::CoordinatorMessage, Status>> + Send>>;

#[tonic::async_trait]
impl v1::agent_server::Agent for AgentService {
    type SessionStream = Outbound;

    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        let fresh = self.fresh()?;
        let request = request.into_inner();
        join::join(&self.handle, &self.issuer, request, fresh).await.map(Response::new)
    }

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::RenewResponse>, Status> {
        let (node, identity) = auth::node_of(&request)?;
        let (record, now) = (self.recorded(node).await?, self.clock.now().wall);
        let renewed = self.issuer.renew(&identity, &record, request.get_ref(), now);
        match &renewed {
            Ok(_) => tracing::info!(%node, name = %record.name, "its certificate was renewed"),
            Err(status) => tracing::warn!(%node, reason = status.message(), "not renewed"),
        }
        renewed.map(Response::new)
    }

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Outbound>, Status> {
        let (node, identity) = auth::node_of(&request)?;
        may_open_session(&identity, &*self.recorded(node).await?)?;
        let caller = Caller { node, identity, from: origin(&request) };
        let mut stream = request.into_inner();
        let hello = first(&mut stream, HELLO, ["a", "Hello"], |said| match said.message {
            Some(Message::Hello(hello)) => Some(hello),
            _ => None,
        });
        let hello = hello.await?;
        self.open(&caller, &hello, stream).await.map(Response::new)
    }
}

impl AgentService {
    /// Whether a node that is not a stranger is to hear that it does not belong any more. Not while
    /// orders are held: what a restored store says of it may be old news, and waits with the orders.
    async fn must_go(&self, node: NodeUid) -> Result<bool, Status> {
        let standing = self.handle.read(move |fleet, _| (fleet.standing(node), fleet.hold())).await;
        let (standing, hold) = standing.map_err(|error| status::command(&error))?;
        let standing = standing.ok_or_else(|| farewell::unknown(node))?;
        Ok(standing != NodeStanding::Active && hold.is_none())
    }

    /// What is recorded of a node, also of one that was removed.
    async fn recorded(&self, node: NodeUid) -> Result<Arc<NodeRecord>, Status> {
        let recorded = self.handle.read(move |fleet, _| fleet.node_record(node).cloned()).await;
        let recorded = recorded.map_err(|error| status::command(&error))?;
        let Some(recorded) = recorded else {
            farewell::notice_unknown(&self.handle, node).await;
            return Err(farewell::unknown(node));
        };
        Ok(recorded)
    }

    async fn open(
        &self,
        caller: &Caller,
        hello: &v1::Hello,
        stream: Streaming<v1::AgentMessage>,
    ) -> Result<Outbound, Status> {
        let node = caller.node;
        if !hello.protocol_versions.contains(&PROTOCOL) {
            let detail = format!("this coordinator speaks version {PROTOCOL} only");
            return Err(Invalid::new("protocol_versions", detail).into());
        }
        let troubles: Vec<Reason> =
            hello.troubles.iter().take(MAX_TROUBLES).map(Into::into).collect();
        let (hello, bodies) = (parse(hello)?, held(hello)?);
        let nonce = SessionNonce::new(self.fresh()?);
        let session = Session::new(nonce, self.clock.now().steady);
        self.welcome(caller, &session).await?;
        let registration = self.register(node, &caller.from, &session).await?;
        // Asked only now: a node that is removed from here on finds its session registered.
        if self.must_go(node).await? {
            session.deregister();
        }
        let connected = Observation::Connected { node, session: nonce, hello: Box::new(hello) };
        self.handle.observe(connected).await.map_err(|error| status::command(&error))?;
        for trouble in troubles {
            tracing::warn!(%node, "its agent says: {trouble}");
            claim::warn(&self.handle, node, trouble).await;
        }
        let inbound = Inbound {
            node,
            session: Arc::clone(&session),
            registration,
            handle: self.handle.clone(),
            clock: Arc::clone(&self.clock),
        };
        tokio::spawn(inbound.drain(stream));
        Ok(Box::pin(outbound::stream(session, Sent::holding(bodies))))
    }

    /// Takes the node's place among the sessions. Of several claims at once one gets it, and the
    /// others find it living.
    async fn register(
        &self,
        node: NodeUid,
        from: &str,
        session: &Arc<Session>,
    ) -> Result<Registration, Status> {
        for _ in 0..CLAIMS {
            let former = claim::claim(&self.sessions, &self.handle, node, from).await?;
            if let Some(registration) = self.sessions.put(node, former, session) {
                return Ok(registration);
            }
        }
        Err(Status::unavailable("several sessions claim this node at once; dial again"))
    }

    fn fresh(&self) -> Result<Uuid, Status> {
        self.entropy.uuid().map_err(|error| Status::unavailable(error.to_string()))
    }

    async fn welcome(&self, caller: &Caller, session: &Session) -> Result<(), Status> {
        let config = self.handle.read(|fleet, _| fleet.config().clone()).await;
        let config = config.map_err(|error| status::command(&error))?;
        session.say(Reply::Welcome(v1::Welcome {
            session: session.nonce().to_string(),
            heartbeat_millis: millis(config.heartbeat_interval),
            lease_millis: millis(config.lease),
            protocol_version: PROTOCOL,
            renew_in_millis: when(caller.identity.validity, caller.node, self.clock.now().wall),
        }));
        Ok(())
    }
}

/// Where a request comes from, for people.
fn origin<T>(request: &Request<T>) -> String {
    let info = request.extensions().get::<ConnectInfo>();
    info.map_or_else(|| "an unknown address".into(), |info| info.peer_addr.to_string())
}

fn parse(hello: &v1::Hello) -> Result<Hello, Invalid> {
    if hello.places.len() > MAX_PLACES {
        return Err(Invalid::new("places", format!("more than {MAX_PLACES}")));
    }
    check_texts(hello)?;
    Ok(Hello {
        machine_id: hello.machine_id.clone(),
        boot_id: hello.boot_id.clone(),
        agent_version: hello.agent_version.clone(),
        features: hello.features.iter().cloned().collect(),
        facts: hello.facts.clone().into_iter().collect(),
        conditions: conditions(&hello.conditions)?,
        accepted: hello.accepted.as_ref().map(Stamp::try_from).transpose()?,
        // Empty before the first; what is none tells nothing.
        last_session: hello.last_session.parse().ok(),
        places: hello.places.iter().map(report::try_place).collect::<Result<_, _>>()?,
    })
}

/// How a machine is doing, of texts that people can read.
pub(super) fn conditions(said: &[v1::NodeCondition]) -> Result<Vec<NodeCondition>, Invalid> {
    let too_long = |text: &String| text.len() > MAX_TEXT;
    let texts = said.iter().flat_map(|one| [&one.r#type, &one.reason, &one.message]);
    match said.len() > MAX_CONDITIONS || texts.into_iter().any(too_long) {
        true => Err(Invalid::new("conditions", "too many, or too long")),
        false => Ok(said.iter().map(Into::into).collect()),
    }
}

fn check_texts(hello: &v1::Hello) -> Result<(), Invalid> {
    if hello.features.len() > MAX_WORDS || hello.facts.len() > MAX_WORDS {
        return Err(Invalid::new("features", format!("more than {MAX_WORDS} features or facts")));
    }
    let facts = hello.facts.iter().flat_map(|(name, fact)| [name, fact]);
    let ids = [&hello.machine_id, &hello.boot_id, &hello.agent_version];
    let too_long = |text: &String| text.len() > MAX_TEXT;
    if hello.features.iter().chain(facts).chain(ids).any(too_long) {
        return Err(Invalid::new("hello", format!("a text is longer than {MAX_TEXT} bytes")));
    }
    Ok(())
}

fn held(hello: &v1::Hello) -> Result<std::collections::BTreeSet<Digest>, Invalid> {
    hello.bodies.iter().take(MAX_BODIES).map(|bytes| digest("bodies", bytes)).collect()
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
