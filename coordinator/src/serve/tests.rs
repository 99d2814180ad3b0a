//! The whole coordinator over sockets in memory: real TLS, real HTTP/2, the real services.

mod held;
mod identity;
mod objects;
mod streams;

use std::io;
use std::net::SocketAddr;

use everynode_model::WallTime;
use everynode_proto::convert::json::to_struct;
use everynode_proto::error::reason_of;
use everynode_proto::v1::cluster_client::ClusterClient;
use everynode_proto::v1::daemon_sets_client::DaemonSetsClient;
use everynode_proto::v1::events_client::EventsClient;
use everynode_proto::v1::nodes_client::NodesClient;
use everynode_proto::v1::pods_client::PodsClient;
use everynode_proto::v1::tokens_client::TokensClient;
use everynode_proto::v1::{EventKind, agent_client::AgentClient};
use everynode_store::MemoryStore;
use everynode_transport::{
    ClientIdentity, Dial, Io, JoinToken, Options, Role, Trust, Validity, connect,
};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use super::*;
use crate::clock::SimulatedClock;

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A network of one listener.
#[derive(Clone)]
struct Network(mpsc::Sender<DuplexStream>);

struct Listener(mpsc::Receiver<DuplexStream>);

impl Listen for Listener {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.0.recv().await {
            Some(io) => Ok((io, SocketAddr::from(([10, 0, 0, 1], 1)))),
            None => std::future::pending().await,
        }
    }
}

impl Dial for Network {
    fn dial(&self, _address: &str) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        let arrivals = self.0.clone();
        async move {
            let (client, server) = tokio::io::duplex(64 * 1024);
            arrivals.send(server).await.map_err(|_| io::ErrorKind::ConnectionRefused)?;
            Ok(Box::new(client) as Box<dyn Io>)
        }
        .boxed()
    }
}

struct Coordinator {
    clock: SimulatedClock,
    network: Network,
    pki: Pki,
    cluster: ClusterId,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), ServeError>>,
}

async fn coordinator(store: &MemoryStore) -> Coordinator {
    // 2026-11-23.
    started_at(store, WallTime::from_unix_millis(1_795_392_000_000)).await
}

async fn started_at(store: &MemoryStore, date: WallTime) -> Coordinator {
    let (arrivals, listener) = mpsc::channel(16);
    let clock = SimulatedClock::start(date);
    let world = World {
        listener: Listener(listener),
        store: Arc::new(store.clone()),
        clock: Arc::new(clock.clone()),
        entropy: Arc::new(Entropy::seeded(7)),
        settings: Settings {
            fleet: Config::default(),
            advertise: vec!["coordinator.example:7443".into()],
            limits: Limits::for_files(Some(1000)),
            node_certificates: YEAR,
        },
    };
    let booted = boot(&*world.store, Config::default(), &world.clock, &world.entropy).await;
    let booted = booted.unwrap();
    let (pki, cluster) = (booted.pki.clone(), booted.cluster.id);
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(run(world, booted, shutdown.clone().cancelled_owned()));
    Coordinator { clock, network: Network(arrivals), pki, cluster, shutdown, task }
}

impl Coordinator {
    async fn channel(&self, identity: Option<ClientIdentity>) -> Channel {
        let trust = Trust::Digest(self.pki.digest());
        let addresses = ["coordinator.example:7443".to_owned()];
        let date = Some(self.clock.now().wall);
        let (dial, options) = (&self.network, Options { date, ..Options::default() });
        connect(dial, &addresses, &trust, identity.as_ref(), options).await.unwrap().channel
    }

    async fn user(&self, role: Role) -> Channel {
        let issued = self.pki.issue_user(self.cluster, "ada", role).unwrap();
        self.channel(Some(ClientIdentity { chain: issued.chain, key: issued.key })).await
    }
}

fn put(name: &str, version: &str) -> v1::PutDaemonSetRequest {
    let spec = json!({
        "selector": {"matchLabels": {"app": name}},
        "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {
                "runtimeClassName": "process", "hostNetwork": true,
                "containers": [{"name": "main", "command": ["/bin/daemon", version]}],
            },
        },
    });
    let labels = [("tier".to_owned(), name.to_owned())].into();
    let metadata = v1::ObjectMeta { name: name.into(), labels, ..Default::default() };
    v1::PutDaemonSetRequest {
        daemon_set: Some(v1::DaemonSet {
            metadata: Some(metadata),
            spec: spec.as_object().map(to_struct),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn get(name: &str) -> v1::GetRequest {
    v1::GetRequest { namespace: "default".into(), name: name.into() }
}

fn meta(set: Option<v1::DaemonSet>) -> v1::ObjectMeta {
    set.unwrap().metadata.unwrap()
}

async fn next(stream: &mut Streaming<v1::DaemonSetEvent>) -> (EventKind, v1::ObjectMeta) {
    let event = stream.message().await.unwrap().unwrap();
    (event.kind(), meta(event.object))
}

#[tokio::test(start_paused = true)]
async fn a_daemon_set_lives_as_in_kubectl() {
    let coordinator = coordinator(&MemoryStore::new()).await;
    let mut sets = DaemonSetsClient::new(coordinator.user(Role::Admin).await);

    let dry = v1::PutDaemonSetRequest { dry_run: true, ..put("x", "1") };
    assert!(sets.create(dry).await.unwrap().into_inner().created);
    let missing = sets.get(get("x")).await.unwrap_err();
    assert_eq!(missing.message(), "daemonsets.apps \"x\" not found");

    let created = sets.create(put("x", "1")).await.unwrap().into_inner();
    assert!(created.created && created.changed);
    assert_eq!(meta(created.daemon_set).generation, 1);
    let again = sets.create(put("x", "1")).await.unwrap_err();
    assert_eq!(again.code(), Code::AlreadyExists);
    let same = sets.apply(put("x", "1")).await.unwrap().into_inner();
    assert!(!same.created && !same.changed);

    let changed = sets.apply(put("x", "2")).await.unwrap().into_inner();
    assert!(changed.changed);
    let changed = meta(changed.daemon_set);
    assert_eq!(changed.generation, 2);
    let revisions = sets.revisions(get("x")).await.unwrap().into_inner().items;
    assert_eq!(revisions.iter().map(|revision| revision.number).collect::<Vec<_>>(), [1, 2]);

    let mut stale = put("x", "3");
    let metadata = stale.daemon_set.as_mut().unwrap().metadata.as_mut().unwrap();
    metadata.resource_version = "1".into();
    let conflict = sets.replace(stale.clone()).await.unwrap_err();
    assert_eq!(reason_of(&conflict).as_deref(), Some("Conflict"), "{conflict:?}");
    let metadata = stale.daemon_set.as_mut().unwrap().metadata.as_mut().unwrap();
    metadata.resource_version = changed.resource_version;
    sets.replace(stale).await.unwrap();

    let deleted = v1::DeleteRequest { name: "x".into(), ..Default::default() };
    sets.delete(deleted.clone()).await.unwrap();
    assert_eq!(sets.delete(deleted).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_former_revision_is_used_again() {
    let coordinator = coordinator(&MemoryStore::new()).await;
    let mut sets = DaemonSetsClient::new(coordinator.user(Role::Admin).await);
    let undo =
        |to_revision| v1::UndoRequest { name: "x".into(), to_revision, ..Default::default() };
    let first = sets.create(put("x", "1")).await.unwrap().into_inner().daemon_set.unwrap();
    let refused = sets.undo(undo(0)).await.unwrap_err();
    assert_eq!(refused.message(), "no last revision to roll back to");
    let mut second = put("x", "2");
    let cause = [("kubernetes.io/change-cause".to_owned(), "more".to_owned())].into();
    second.daemon_set.as_mut().unwrap().metadata.as_mut().unwrap().annotations = cause;
    sets.apply(second).await.unwrap();

    let dry = v1::UndoRequest { dry_run: true, ..undo(0) };
    assert!(sets.undo(dry).await.unwrap().into_inner().changed);
    assert_eq!(sets.get(get("x")).await.unwrap().into_inner().metadata.unwrap().generation, 2);

    let back = sets.undo(undo(1)).await.unwrap().into_inner();
    let set = back.daemon_set.unwrap();
    assert!(back.changed);
    assert_eq!(
        (&set.spec, meta(Some(set.clone())).generation),
        (&first.spec, 3),
        "defaults and all"
    );
    assert!(meta(Some(set)).annotations.is_empty(), "what the other change was for");
    let revisions = sets.revisions(get("x")).await.unwrap().into_inner().items;
    let shown: Vec<_> = revisions.iter().map(|it| (it.number, it.change_cause.as_str())).collect();
    assert_eq!(shown, [(2, "more"), (3, "")], "renumbered, none added");
    assert!(!sets.undo(undo(3)).await.unwrap().into_inner().changed);
    let refused = sets.undo(undo(1)).await.unwrap_err();
    assert_eq!(refused.message(), "unable to find specified revision 1 in history");
    let all = v1::GetRequest::default();
    assert_eq!(sets.revisions(all).await.unwrap().into_inner().items.len(), 2);

    let again = sets.undo(undo(0)).await.unwrap().into_inner().daemon_set;
    assert_eq!(meta(again).annotations["kubernetes.io/change-cause"], "more");
}

#[tokio::test(start_paused = true)]
async fn what_a_change_does_to_pods_is_told_with_its_answer() {
    let coordinator = coordinator(&MemoryStore::new()).await;
    let mut sets = DaemonSetsClient::new(coordinator.user(Role::Admin).await);
    let created = sets.create(put("x", "1")).await.unwrap().into_inner();
    assert_eq!(created.effect, Some(v1::Effect::default()), "there are no nodes");
    sets.create(put("y", "1")).await.unwrap();
    let together =
        v1::DeleteRequest { name: "x".into(), names: vec!["y".into()], ..Default::default() };
    let refused = sets.delete(together.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "only a dry run is of several");
    let dry = v1::DeleteRequest { dry_run: true, ..together };
    assert!(sets.delete(dry).await.unwrap().into_inner().effect.is_some());
    assert!(sets.get(get("x")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_bad_object_is_refused_by_field() {
    let coordinator = coordinator(&MemoryStore::new()).await;
    let mut sets = DaemonSetsClient::new(coordinator.user(Role::Admin).await);
    let mut bad = put("x", "1");
    let spec = bad.daemon_set.as_mut().unwrap().spec.as_mut().unwrap();
    spec.fields.insert(
        "minReadySeconds".into(),
        prost_types::Value { kind: Some(prost_types::value::Kind::StringValue("5".into())) },
    );
    let refused = sets.apply(bad).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("spec.minReadySeconds"), "{}", refused.message());
}

#[tokio::test(start_paused = true)]
async fn a_watch_tells_what_there_is_and_what_becomes_of_it() {
    let coordinator = coordinator(&MemoryStore::new()).await;
    let channel = coordinator.user(Role::Admin).await;
    let mut sets = DaemonSetsClient::new(channel.clone());
    sets.create(put("x", "1")).await.unwrap();
    let select = v1::WatchRequest { label_selector: "tier=x".into(), ..Default::default() };
    let mut watch = sets.watch(select).await.unwrap().into_inner();
    assert_eq!(next(&mut watch).await.0, EventKind::Added);
    let (kind, bookmark) = next(&mut watch).await;
    assert_eq!(kind, EventKind::Bookmark);

    // Another set is nobody's business here.
    sets.create(put("y", "1")).await.unwrap();
    sets.apply(put("x", "2")).await.unwrap();
    let (kind, modified) = next(&mut watch).await;
    assert_eq!((kind, modified.name.as_str()), (EventKind::Modified, "x"));

    // Out of the selection, and back in.
    let mut other = put("x", "2");
    let metadata = other.daemon_set.as_mut().unwrap().metadata.as_mut().unwrap();
    metadata.labels = [("tier".to_owned(), "other".to_owned())].into();
    sets.apply(other).await.unwrap();
    let (kind, last) = next(&mut watch).await;
    assert_eq!(kind, EventKind::Deleted);
    assert_eq!(last.labels["tier"], "x");
    sets.apply(put("x", "2")).await.unwrap();
    assert_eq!(next(&mut watch).await.0, EventKind::Added);
    sets.delete(v1::DeleteRequest { name: "x".into(), ..Default::default() }).await.unwrap();
    assert_eq!(next(&mut watch).await.0, EventKind::Deleted);

    // Whoever comes from the bookmark hears of both.
    let from =
        v1::WatchRequest { resource_version: bookmark.resource_version, ..Default::default() };
    let mut resumed = sets.watch(from).await.unwrap().into_inner();
    let mut heard = std::collections::BTreeSet::new();
    while !(heard.contains("x Deleted") && heard.contains("y Modified")) {
        let (kind, meta) = next(&mut resumed).await;
        heard.insert(format!("{} {kind:?}", meta.name));
    }
    let old = v1::WatchRequest { resource_version: "1".into(), ..Default::default() };
    let expired = sets.watch(old).await.unwrap_err();
    assert_eq!(expired.code(), Code::OutOfRange);
    assert_eq!(reason_of(&expired).as_deref(), Some("Expired"));
}

#[tokio::test(start_paused = true)]
async fn a_machine_joins_and_is_deregistered() {
    let coordinator = coordinator(&MemoryStore::new()).await;
    let channel = coordinator.user(Role::Admin).await;
    let asked = v1::CreateTokenRequest { uses: 1, ..Default::default() };
    let created = TokensClient::new(channel.clone()).create(asked).await.unwrap().into_inner();
    let token: JoinToken = created.secret.parse().unwrap();
    assert_eq!(token.authority, coordinator.pki.digest());
    assert_eq!(created.addresses, ["coordinator.example:7443"]);

    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&key).unwrap();
    let join = v1::JoinRequest {
        token_id: token.id.clone(),
        token_secret: token.secret.clone(),
        certificate_request: request.der().to_vec(),
        node_name: "edge-1".into(),
        machine_id: "m".into(),
        ..Default::default()
    };
    let mut agent = AgentClient::new(coordinator.channel(None).await);
    let joined = agent.join(join.clone()).await.unwrap().into_inner();
    let again = agent.join(join).await.unwrap().into_inner();
    assert_eq!(joined.node_uid, again.node_uid);

    let mut nodes = NodesClient::new(channel.clone());
    let node = nodes.get(get("edge-1")).await.unwrap().into_inner();
    assert_eq!(node.state, "Unknown");
    assert_eq!(node.metadata.unwrap().uid, joined.node_uid);
    let label = v1::node_change::Label { key: "zone".into(), value: "a".into() };
    let change =
        v1::NodeChange { change: Some(v1::node_change::Change::SetLabel(label)), overwrite: false };
    let change = v1::ChangeNodeRequest {
        name: "edge-1".into(),
        changes: vec![change],
        ..Default::default()
    };
    let changed = nodes.change(change).await.unwrap().into_inner();
    assert_eq!(changed.metadata.unwrap().labels["zone"], "a");

    // It is held and released; a reason is a line.
    let order = |change| v1::ChangeNodeRequest {
        name: "edge-1".into(),
        changes: vec![v1::NodeChange { change: Some(change), overwrite: true }],
        ..Default::default()
    };
    use v1::node_change::{Change, Hold, Stop};
    let hold = |seconds, reason: &str| Change::Hold(Hold { seconds, reason: reason.into() });
    let held = nodes.change(order(hold(60, "a visit"))).await.unwrap().into_inner().order.unwrap();
    assert_eq!((held.kind.as_str(), held.reason.as_str()), ("Hold", "a visit"));
    assert_eq!(held.until.unwrap().seconds - held.since.unwrap().seconds, 60);
    let refused = nodes.change(order(Change::Stop(Stop::default()))).await.unwrap_err();
    assert_eq!(reason_of(&refused).as_deref(), Some("NodeHeld"));
    for bad in [hold(u64::MAX, ""), hold(0, "two\nlines")] {
        assert_eq!(nodes.change(order(bad)).await.unwrap_err().code(), Code::InvalidArgument);
    }
    assert!(nodes.change(order(Change::Release(true))).await.unwrap().into_inner().order.is_none());

    // Its pods are wanted, and it can be said why they are not there.
    DaemonSetsClient::new(channel.clone()).create(put("x", "1")).await.unwrap();
    let on_it = v1::ListRequest { field: "edge-1".into(), ..Default::default() };
    let pods = PodsClient::new(channel.clone()).list(on_it).await.unwrap().into_inner().items;
    assert_eq!(pods.len(), 1);
    assert_eq!(pods[0].metadata.as_ref().unwrap().labels["app"], "x");
    let why = ClusterClient::new(channel.clone()).why(v1::WhyRequest::default()).await.unwrap();
    assert_eq!(why.into_inner().lines.len(), 1);
    let counted = v1::WhyRequest { counted: true, ..Default::default() };
    let why = ClusterClient::new(channel.clone()).why(counted).await.unwrap().into_inner();
    assert!(why.lines.is_empty());
    assert_eq!(
        (why.groups[0].nodes, why.groups[0].examples.as_slice()),
        (1, &["edge-1".into()][..])
    );

    let uid = joined.node_uid.clone();
    let delete = v1::DeleteNodeRequest { uid, ..Default::default() };
    let deleted = nodes.delete(delete).await.unwrap().into_inner();
    assert!(!deleted.connected);
    assert_eq!(nodes.get(get("edge-1")).await.unwrap().into_inner().state, "Leaving");
}

#[tokio::test(start_paused = true)]
async fn nobody_gets_further_than_their_role() {
    let coordinator = coordinator(&MemoryStore::new()).await;
    let mut nobody = NodesClient::new(coordinator.channel(None).await);
    let denied = nobody.list(v1::ListRequest::default()).await.unwrap_err();
    assert_eq!(reason_of(&denied).as_deref(), Some("NoCertificate"));
    let mut viewer = DaemonSetsClient::new(coordinator.user(Role::Viewer).await);
    viewer.list(v1::ListRequest::default()).await.unwrap();
    let denied = viewer.apply(put("x", "1")).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    assert_eq!(reason_of(&denied).as_deref(), Some("Forbidden"));
}

#[tokio::test(start_paused = true)]
async fn health_and_reflection_are_open_to_all() {
    let coordinator = coordinator(&MemoryStore::new()).await;
    let channel = coordinator.channel(None).await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let answer = health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
    assert_eq!(answer.into_inner().status(), ServingStatus::Serving.into());

    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
    let mut reflection = ServerReflectionClient::new(channel);
    let asked = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let asked = tokio_stream::once(asked);
    let answers = reflection.server_reflection_info(asked).await.unwrap();
    let answer: ServerReflectionResponse = answers.into_inner().message().await.unwrap().unwrap();
    assert!(format!("{answer:?}").contains("everynode.v1.DaemonSets"), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn at_shutdown_streams_end_with_a_reason_and_nothing_is_lost() {
    let store = MemoryStore::new();
    let first = coordinator(&store).await;
    let mut sets = DaemonSetsClient::new(first.user(Role::Admin).await);
    sets.create(put("x", "1")).await.unwrap();
    let mut watch = sets.watch(v1::WatchRequest::default()).await.unwrap().into_inner();
    next(&mut watch).await;
    next(&mut watch).await;
    first.shutdown.cancel();
    let ended = watch.message().await.unwrap_err();
    assert_eq!(reason_of(&ended).as_deref(), Some("ShuttingDown"), "{ended:?}");
    let began = tokio::time::Instant::now();
    first.task.await.unwrap().unwrap();
    assert!(began.elapsed() <= GRACE);

    let second = coordinator(&store).await;
    let mut sets = DaemonSetsClient::new(second.user(Role::Admin).await);
    let kept = sets.get(get("x")).await.unwrap().into_inner();
    let spec: Value =
        everynode_proto::convert::json::from_struct(&kept.spec.unwrap()).unwrap().into();
    assert_eq!(spec.pointer("/template/spec/containers/0/command/1"), Some(&json!("1")));
}

#[test]
fn hosts_are_told_from_ports() {
    let addresses = ["a.example:1", "[::1]:2", "10.0.0.1:3"].map(str::to_owned);
    assert_eq!(hosts(&addresses), ["a.example", "::1", "10.0.0.1"]);
}
