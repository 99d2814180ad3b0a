//! Everything on one port, over a listener, a store and clocks that are handed in: the same code
//! serves in production and in simulation.
//!
//! ```text
//!   boot ─▶ driver ─┐
//!   listener ─▶ accept ─▶ TLS ─▶ HTTP/2 ─▶ auth ─▶ agents' and operators' services
//!   shutdown ─▶ no new connections, streams end with a reason, ≤ 5 s ─▶ driver stops
//! ```

use std::sync::Arc;
use std::time::Duration;

use everynode_coordinator_core::Config;
use everynode_model::{ClusterId, WallTime};
use everynode_proto::v1;
use everynode_proto::v1::agent_server::AgentServer;
use everynode_proto::v1::cluster_server::ClusterServer;
use everynode_proto::v1::daemon_sets_server::DaemonSetsServer;
use everynode_proto::v1::events_server::EventsServer;
use everynode_proto::v1::nodes_server::NodesServer;
use everynode_proto::v1::objects_server::ObjectsServer;
use everynode_proto::v1::pods_server::PodsServer;
use everynode_proto::v1::streams_server::StreamsServer;
use everynode_proto::v1::tokens_server::TokensServer;
use everynode_store::Store;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::layer::util::Stack;

use crate::accept::{self, Limits, Listen};
use crate::auth::AuthLayer;
use crate::boot::{BootError, Booted, boot};
use crate::clock::Clock;
use crate::driver;
use crate::entropy::Entropy;
use crate::held::HeldLayer;
use crate::pki::{Pki, PkiError};
use crate::service;
use crate::services::{Api, MAX_LIST_BYTES, Parts};
use crate::sessions::{AgentService, Sessions};
use crate::streams::{StreamService, Streams};
use crate::tls::Tls;

/// Streams on one connection: an agent needs one, or 32 on its second one; an operator's program may
/// watch every kind for dozens of its own users.
const MAX_STREAMS: u32 = 128;

/// How often a silent connection is asked whether it is still there, and how long it may take to
/// answer. Without it an agent that lost its power would keep its place for ever.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// The longest time until a call is answered (streams: until they begin); callers may name less.
const DEADLINE: Duration = Duration::from_secs(60);

/// The largest message that is read: gRPC's usual limit. A Hello of a thousand places has some
/// 500 KiB, an object at most 1 MiB.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// How long connections have to end by themselves at shutdown.
const GRACE: Duration = Duration::from_secs(5);

/// How old, in seconds, the coordinator's own certificate, valid for a year, becomes before it is made
/// anew: 30 days.
const RENEWAL: i64 = 30 * 24 * 60 * 60;

/// How far the clock may be set back before it is made anew: it begins an hour before it was made.
const SET_BACK: i64 = 30 * 60;

/// How often that is looked at: a clock that is set minutes after the start is no rare thing.
const LOOK: Duration = Duration::from_secs(60);

/// What a coordinator is made of.
pub struct World<L> {
    /// Where connections come from.
    pub listener: L,
    /// What is stored.
    pub store: Arc<dyn Store>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// For ids and secrets.
    pub entropy: Arc<Entropy>,
    /// The rest.
    pub settings: Settings,
}

/// What may be chosen.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The numbers that are decided by.
    pub fleet: Config,
    /// Under which agents reach this coordinator, each `host:port`.
    pub advertise: Vec<String>,
    /// How many connections there may be.
    pub limits: Limits,
    /// How long a node's certificate lasts.
    pub node_certificates: Duration,
}

/// Why a coordinator ended that was not told to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It could not begin.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// Its own certificate could not be made.
    #[error("the coordinator's certificate could not be made")]
    Certificate(#[from] PkiError),
    /// Its certificate can't be used.
    #[error("the coordinator's certificate can't be used")]
    Tls(#[from] rustls::Error),
    /// The contract can't be shown.
    #[error("server reflection could not be set up")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The server failed.
    #[error("the server failed")]
    Server(#[from] tonic::transport::Error),
    /// The loop behind it could not go on.
    #[error(transparent)]
    Driver(#[from] driver::Ended),
    /// The server or the loop behind it ended by itself.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
}

/// Begins a reign and serves until `shutdown` completes.
///
/// # Errors
/// See [`ServeError`].
pub async fn serve<L: Listen>(
    world: World<L>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let World { store, clock, entropy, settings, .. } = &world;
    let booted = boot(&**store, settings.fleet.clone(), clock, entropy).await?;
    run(world, booted, shutdown).await
}

/// Serves a reign that has begun, until `shutdown` completes.
///
/// # Errors
/// See [`ServeError`].
pub async fn run<L: Listen>(
    world: World<L>,
    booted: Booted,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let World { listener, store, clock, entropy, settings } = world;
    let Booted { fleet, fence, pki, cluster, blob_key } = booted;
    let hosts = hosts(&settings.advertise);
    let made = clock.now().wall;
    let tls = Tls::new(pki.issue_server(&hosts)?, &pki.authorities())?;
    let (closing, stop) = (CancellationToken::new(), CancellationToken::new());
    let sessions = Sessions::default();
    let stopped = stop.clone().cancelled_owned();
    let (handle, turns) =
        driver::new(fleet, store, fence, sessions.clone(), Arc::clone(&clock), stopped);
    let dates = Arc::clone(&clock);
    let beating = handle.clone();
    let warning = HeldLayer::new(handle.clone());
    let parts = Parts {
        handle,
        sessions: sessions.clone(),
        streams: Streams::default(),
        pki: pki.clone(),
        cluster,
        clock: Arc::clone(&clock),
        entropy,
        addresses: settings.advertise,
        blob_key,
        later: Default::default(),
        closing: closing.clone(),
    };
    let (health, routes, api) = routes(parts, settings.node_certificates)?;
    let incoming = accept::incoming(listener, tls.clone(), clock, settings.limits);
    let serving = server(cluster.id, warning, routes)
        .serve_with_incoming_shutdown(incoming, closing.clone().cancelled_owned());
    let mut turns = tokio::spawn(turns);
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        () = shutdown => Ok(()),
        result = &mut serving => result.map_err(Into::into).and(Err(ServeError::Ended("the server"))),
        ended = &mut turns => Err(match ended {
            Ok(Err(error)) => error.into(),
            Ok(Ok(())) | Err(_) => ServeError::Ended("the driver"),
        }),
        () = renew(&tls, &pki, &hosts, &*dates, made) => Ok(()),
        () = api.keep_following() => Ok(()),
        () = service::watchdog(|| beating.beats()) => Ok(()),
    };
    health.set_service_status("", ServingStatus::NotServing).await;
    closing.cancel();
    sessions.end_all("the coordinator shuts down");
    if ended.is_ok() && tokio::time::timeout(GRACE, serving).await.is_err() {
        tracing::info!("connections that did not end by themselves are closed");
    }
    stop.cancel();
    if !turns.is_finished()
        && let Err(error) = turns.await
    {
        tracing::error!(%error, "the driver did not stop cleanly");
    }
    ended
}

/// All services, the switch for their health, and what those for operators share.
fn routes(
    parts: Parts,
    node_certificates: Duration,
) -> Result<(HealthReporter, Routes, Api), ServeError> {
    let agents = AgentService::new(
        parts.handle.clone(),
        parts.sessions.clone(),
        (parts.pki.clone(), parts.cluster.id, node_certificates),
        Arc::clone(&parts.clock),
        Arc::clone(&parts.entropy),
    );
    let streams = StreamService::new(parts.streams.clone());
    let api = Api::new(parts);
    let (health, health_service) = tonic_health::server::health_reporter();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(v1::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    macro_rules! operators {
        ($server:ident) => {
            $server::new(api.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_LIST_BYTES)
        };
    }
    let mut routes = Routes::builder();
    routes
        .add_service(AgentServer::new(agents).max_decoding_message_size(MAX_MESSAGE))
        .add_service(StreamsServer::new(streams).max_decoding_message_size(MAX_MESSAGE))
        .add_service(operators!(DaemonSetsServer))
        .add_service(operators!(NodesServer))
        .add_service(operators!(ObjectsServer))
        .add_service(operators!(PodsServer))
        .add_service(operators!(EventsServer))
        .add_service(operators!(TokensServer))
        .add_service(operators!(ClusterServer))
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    Ok((health, routes.routes(), api))
}

/// What a call passes before it reaches a service.
type Layers = Stack<HeldLayer, Stack<AuthLayer, tower::layer::util::Identity>>;

/// HTTP/2 as it is spoken here. Windows stay at their defaults: smaller ones would let a slow reader
/// of small messages lose its connection sooner, and save nothing on idle ones.
fn server(cluster: ClusterId, warning: HeldLayer, routes: Routes) -> Router<Layers> {
    Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .timeout(DEADLINE)
        .layer(AuthLayer::new(cluster))
        .layer(warning)
        .add_routes(routes)
}

/// Makes the coordinator's certificate anew, now and then and when the clock was set, for ever.
async fn renew(tls: &Tls, pki: &Pki, hosts: &[String], clock: &dyn Clock, mut made: WallTime) {
    loop {
        tokio::time::sleep(LOOK).await;
        let now = clock.now().wall;
        if !is_stale(made, now) {
            continue;
        }
        // Once per age also when it fails: the present one lasts for eleven months more.
        made = now;
        let renewed = pki.issue_server(hosts).map_err(ServeError::from);
        let renewed = renewed.and_then(|issued| Ok(tls.replace(issued, &pki.authorities())?));
        match renewed {
            Ok(()) => tracing::info!("the coordinator's certificate was renewed"),
            Err(error) => tracing::error!(%error, "the certificate could not be renewed"),
        }
    }
}

/// Whether a certificate made on that date is too old, or from a future that the clock has left.
fn is_stale(made: WallTime, now: WallTime) -> bool {
    let age = (now.unix_millis - made.unix_millis).div_euclid(1000);
    !(-SET_BACK..RENEWAL).contains(&age)
}

/// The hosts of addresses, without ports and brackets.
fn hosts(addresses: &[String]) -> Vec<String> {
    let host = |address: &String| {
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _port)| host);
        host.trim_matches(['[', ']']).to_owned()
    };
    addresses.iter().map(host).collect()
}

#[cfg(test)]
mod tests;
