//! A coordinator in memory: what the test says is what it says, behind real TLS and real gRPC.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use everynode_model::{ClusterId, NodeUid};
use everynode_proto::v1;
use everynode_proto::v1::agent_message::Message as Said;
use everynode_proto::v1::agent_server::{Agent, AgentServer};
use everynode_proto::v1::coordinator_message::Message;
use everynode_transport::{ClientIdentity, Dial, Io, Peer, SERVER_NAME, provider};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

/// A cluster's CA and a network with one coordinator in it.
pub(super) struct Coordinator {
    authority: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    sessions: mpsc::Receiver<Session>,
    network: Arc<Network>,
    joining: Arc<Mutex<Joining>>,
}

/// What is answered to those who want to join or to renew, and what they asked.
#[derive(Default)]
struct Joining {
    answers: VecDeque<Result<v1::JoinResponse, Status>>,
    asked: Vec<v1::JoinRequest>,
    renewals: VecDeque<Result<v1::RenewResponse, Status>>,
    renewed: usize,
}

/// One agent's session, as the coordinator sees it.
pub(super) struct Session {
    pub(super) hello: v1::Hello,
    said: Streaming<v1::AgentMessage>,
    say: mpsc::Sender<Result<v1::CoordinatorMessage, Status>>,
}

/// The way to the coordinator, which may be cut.
struct Network {
    acceptor: TlsAcceptor,
    incoming: mpsc::Sender<io::Result<Conn>>,
    cut: Mutex<bool>,
}

impl Coordinator {
    pub(super) fn new() -> Self {
        Self::with_certificate(|_| {})
    }

    /// One whose certificate was made by a clock that showed this, an hour ahead of its time as
    /// the real one's, for a year.
    pub(super) fn with_clock_at(unix_millis: i64) -> Self {
        let seconds = unix_millis / 1000;
        let date = |seconds: i64| OffsetDateTime::from_unix_timestamp(seconds.max(0)).unwrap();
        Self::with_certificate(move |params| {
            params.not_before = date(seconds - 3600);
            params.not_after = date(seconds + 365 * 24 * 3600);
        })
    }

    fn with_certificate(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        let (incoming, connections) = mpsc::channel(8);
        let (arrive, sessions) = mpsc::channel(8);
        let joining = Arc::new(Mutex::new(Joining::default()));
        let server = Server::builder()
            .add_service(AgentServer::new(Door { arrive, joining: Arc::clone(&joining) }));
        tokio::spawn(server.serve_with_incoming(ReceiverStream::new(connections)));
        let acceptor = acceptor(&issuer, &authority, change);
        let network = Arc::new(Network { acceptor, incoming, cut: Mutex::new(false) });
        Self { authority, issuer, sessions, network, joining }
    }

    pub(super) fn authority(&self) -> CertificateDer<'static> {
        self.authority.clone()
    }

    pub(super) fn network(&self) -> Arc<dyn Dial> {
        Arc::new(Way(Arc::clone(&self.network)))
    }

    pub(super) fn cut(&self, cut: bool) {
        *self.network.cut.lock().unwrap() = cut;
    }

    pub(super) fn answer_joins(
        &self,
        answers: impl IntoIterator<Item = Result<v1::JoinResponse, Status>>,
    ) {
        self.joining.lock().unwrap().answers.extend(answers);
    }

    pub(super) fn joins(&self) -> Vec<v1::JoinRequest> {
        self.joining.lock().unwrap().asked.clone()
    }

    pub(super) fn answer_renewals(
        &self,
        answers: impl IntoIterator<Item = Result<v1::RenewResponse, Status>>,
    ) {
        self.joining.lock().unwrap().renewals.extend(answers);
    }

    /// How often a renewal was asked for.
    pub(super) fn renewals(&self) -> usize {
        self.joining.lock().unwrap().renewed
    }

    pub(super) fn client(&self, cluster: ClusterId, uid: NodeUid) -> ClientIdentity {
        let key = KeyPair::generate().unwrap();
        ClientIdentity {
            chain: vec![self.certificate(&key, cluster, uid)],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }

    /// A node's certificate for this key, another one each time.
    pub(super) fn certificate(
        &self,
        key: &KeyPair,
        cluster: ClusterId,
        uid: NodeUid,
    ) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        let uri = Peer::Node { cluster, uid }.to_uri();
        params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
        params.signed_by(key, &self.issuer).unwrap().der().clone()
    }

    /// The next session that is opened.
    pub(super) async fn session(&mut self) -> Session {
        self.sessions.recv().await.unwrap()
    }

    /// The same, welcomed.
    pub(super) async fn welcomed(&mut self) -> Session {
        self.welcomed_to_renew(None).await
    }

    /// The same, with a certificate that is to be renewed after so long.
    pub(super) async fn welcomed_to_renew(&mut self, after: Option<Duration>) -> Session {
        let session = self.session().await;
        session
            .say(Message::Welcome(v1::Welcome {
                session: "6ba7b810-9dad-41d1-80b4-00c04fd430c8".into(),
                heartbeat_millis: 10_000,
                lease_millis: 40_000,
                protocol_version: 1,
                renew_in_millis: after.map(|after| u64::try_from(after.as_millis()).unwrap()),
            }))
            .await;
        session
    }
}

impl Session {
    pub(super) async fn say(&self, message: Message) {
        let message = v1::CoordinatorMessage { message: Some(message) };
        self.say.send(Ok(message)).await.unwrap();
    }

    /// To somebody who may have gone.
    pub(super) async fn say_in_vain(&self, message: Message) {
        let message = v1::CoordinatorMessage { message: Some(message) };
        let _gone = self.say.send(Ok(message)).await;
    }

    pub(super) async fn refuse(self, status: Status) {
        self.say.send(Err(status)).await.unwrap();
    }

    /// The next thing said that is of interest to the test.
    pub(super) async fn next<T>(&mut self, wanted: impl Fn(Said) -> Option<T>) -> T {
        let search = async {
            loop {
                let message = self.said.message().await.unwrap().expect("the session goes on");
                if let Some(found) = message.message.and_then(&wanted) {
                    return found;
                }
            }
        };
        // By the clock of the test, which moves when nothing else does.
        tokio::time::timeout(Duration::from_secs(120), search).await.expect("it is said")
    }

    pub(super) async fn ack(&mut self) -> v1::Ack {
        self.next(|said| if let Said::Ack(ack) = said { Some(ack) } else { None }).await
    }

    pub(super) async fn status(&mut self, wanted: impl Fn(&v1::PodStatus) -> bool) {
        self.next(|said| match said {
            Said::Status(status) => {
                let mut pods = status.places.iter().flat_map(|place| &place.pods);
                pods.any(&wanted).then_some(())
            }
            _ => None,
        })
        .await;
    }
}

struct Door {
    arrive: mpsc::Sender<Session>,
    joining: Arc<Mutex<Joining>>,
}

#[tonic::async_trait]
impl Agent for Door {
    type SessionStream = ReceiverStream<Result<v1::CoordinatorMessage, Status>>;

    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        let mut joining = self.joining.lock().unwrap();
        joining.asked.push(request.into_inner());
        joining.answers.pop_front().unwrap().map(Response::new)
    }

    async fn renew(
        &self,
        _request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::RenewResponse>, Status> {
        let mut joining = self.joining.lock().unwrap();
        joining.renewed += 1;
        let answer = joining.renewals.pop_front();
        answer.unwrap_or_else(|| Err(Status::unavailable("not now"))).map(Response::new)
    }

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut said = request.into_inner();
        let Some(Said::Hello(hello)) = said.message().await?.and_then(|first| first.message) else {
            return Err(Status::invalid_argument("Hello comes first"));
        };
        let (say, answers) = mpsc::channel(8);
        let session = Session { hello, said, say };
        self.arrive.send(session).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

fn acceptor(
    issuer: &Issuer<'static, KeyPair>,
    authority: &CertificateDer<'static>,
    change: impl FnOnce(&mut CertificateParams),
) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([SERVER_NAME.to_owned()]).unwrap();
    change(&mut params);
    let leaf = params.signed_by(&key, issuer).unwrap().der().clone();
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf, authority.clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config).into()
}

/// A way that may come to lead somewhere else.
#[derive(Clone)]
pub(super) struct Switch(Arc<Mutex<Arc<dyn Dial>>>);

impl Switch {
    pub(super) fn to(way: Arc<dyn Dial>) -> Self {
        Self(Arc::new(Mutex::new(way)))
    }

    pub(super) fn point_to(&self, way: Arc<dyn Dial>) {
        *self.0.lock().unwrap() = way;
    }
}

impl Dial for Switch {
    fn dial(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        self.0.lock().unwrap().dial(address)
    }
}

struct Way(Arc<Network>);

impl Dial for Way {
    fn dial(&self, _address: &str) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        let network = Arc::clone(&self.0);
        async move {
            if *network.cut.lock().unwrap() {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (near, far) = tokio::io::duplex(64 * 1024);
            let (acceptor, incoming) = (network.acceptor.clone(), network.incoming.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(far).await {
                    let _ = incoming.send(Ok(Conn(stream))).await;
                }
            });
            Ok(Box::new(near) as Box<dyn Io>)
        }
        .boxed()
    }
}

struct Conn(TlsStream<DuplexStream>);

impl Connected for Conn {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
