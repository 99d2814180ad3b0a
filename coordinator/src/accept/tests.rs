use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use everynode_model::{ClusterId, WallTime};
use everynode_transport::channel::client_config;
use everynode_transport::{ClientIdentity, Peer, Role, SERVER_NAME, Trust};
use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_rustls::TlsConnector;
use tonic::transport::server::Connected as _;

use super::*;
use crate::clock::SimulatedClock;
use crate::entropy::Entropy;
use crate::pki::{Authority, Issued, Pki};

const FROM: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

/// Gives what was queued, then fails or waits for ever.
#[derive(Clone)]
struct Scripted {
    queue: Arc<Mutex<VecDeque<DuplexStream>>>,
    attempts: Arc<AtomicUsize>,
    then: Option<i32>,
}

impl Listen for Scripted {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        let next = self.queue.lock().unwrap().pop_front();
        match (next, self.then) {
            (Some(io), _) => Ok((io, FROM)),
            (None, Some(errno)) => Err(io::Error::from_raw_os_error(errno)),
            (None, None) => std::future::pending().await,
        }
    }
}

fn scripted(then: Option<i32>) -> Scripted {
    Scripted { queue: Arc::default(), attempts: Arc::default(), then }
}

impl Scripted {
    /// The client's end of a new arrival.
    fn arrive(&self) -> DuplexStream {
        let (client, server) = tokio::io::duplex(16 * 1024);
        self.queue.lock().unwrap().push_back(server);
        client
    }

    fn attempts(&self) -> usize {
        self.attempts.load(Ordering::Relaxed)
    }
}

fn cluster() -> ClusterId {
    ClusterId::new(uuid::Uuid::from_u128(5))
}

struct World {
    pki: Pki,
    tls: Tls,
    clock: Arc<dyn Clock>,
}

fn world() -> World {
    let clock: Arc<dyn Clock> =
        Arc::new(SimulatedClock::start(WallTime::from_unix_millis(1_795_392_000_000)));
    let entropy = Arc::new(Entropy::system());
    let authority = Authority::make(&entropy, clock.now().wall).unwrap();
    let pki = Pki::new(vec![authority], Arc::clone(&clock), entropy).unwrap();
    let tls = Tls::new(pki.issue_server(&[]).unwrap(), &pki.authorities()).unwrap();
    World { pki, tls, clock }
}

impl World {
    fn incoming(
        &self,
        listener: &Scripted,
        limits: Limits,
    ) -> ReceiverStream<Result<Connection<DuplexStream>, io::Error>> {
        incoming(listener.clone(), self.tls.clone(), Arc::clone(&self.clock), limits)
    }

    fn connector(&self, identity: Option<Issued>) -> TlsConnector {
        let trust = Trust::Authorities(self.pki.authorities());
        let identity = identity.map(|Issued { chain, key }| ClientIdentity { chain, key });
        let date = Some(self.clock.now().wall);
        TlsConnector::from(Arc::new(client_config(&trust, identity.as_ref(), date).unwrap()))
    }

    async fn dial(
        &self,
        socket: DuplexStream,
        identity: Option<Issued>,
    ) -> io::Result<tokio_rustls::client::TlsStream<DuplexStream>> {
        self.connector(identity).connect(SERVER_NAME.try_into().unwrap(), socket).await
    }
}

fn limits(connections: usize, handshakes: usize) -> Limits {
    Limits { connections, handshakes, time: Duration::from_secs(10) }
}

#[tokio::test(start_paused = true)]
async fn at_the_file_limit_it_does_not_spin() {
    let (world, listener) = (world(), scripted(Some(rustix::io::Errno::MFILE.raw_os_error())));
    let _stream = world.incoming(&listener, limits(10, 10));
    tokio::time::sleep(Duration::from_secs(60)).await;
    // 100, 200, 400, 800 ms, then every second.
    assert!((58..=66).contains(&listener.attempts()), "{} attempts", listener.attempts());
}

#[tokio::test(start_paused = true)]
async fn after_failures_it_goes_on() {
    let (world, listener) = (world(), scripted(Some(rustix::io::Errno::NFILE.raw_os_error())));
    let mut stream = world.incoming(&listener, limits(10, 10));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let client = listener.arrive();
    let (client, server) = tokio::join!(world.dial(client, None), stream.next());
    client.unwrap();
    assert!(server.unwrap().unwrap().connect_info().identity.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_peer_is_who_its_certificate_says() {
    let (world, listener) = (world(), scripted(None));
    let client = listener.arrive();
    let mut stream = world.incoming(&listener, limits(10, 10));
    let issued = world.pki.issue_user(cluster(), "ada", Role::Viewer).unwrap();
    let (client, server) = tokio::join!(world.dial(client, Some(issued)), stream.next());
    let (mut client, mut server) = (client.unwrap(), server.unwrap().unwrap());
    let identity = server.connect_info().identity.unwrap();
    assert_eq!(
        identity.peer,
        Peer::User { cluster: cluster(), name: "ada".into(), role: Role::Viewer }
    );
    assert!(!identity.expired);
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));

    client.write_all(b"there").await.unwrap();
    server.write_all(b"and back").await.unwrap();
    server.flush().await.unwrap();
    let (mut there, mut back) = ([0; 5], [0; 8]);
    server.read_exact(&mut there).await.unwrap();
    client.read_exact(&mut back).await.unwrap();
    assert_eq!((&there, &back), (b"there", b"and back"));
}

#[tokio::test(start_paused = true)]
async fn a_certificate_of_another_cluster_opens_nothing() {
    let (world, other, listener) = (world(), world(), scripted(None));
    let issued = other.pki.issue_user(cluster(), "eve", Role::Admin).unwrap();
    let socket = listener.arrive();
    let _stream = world.incoming(&listener, limits(10, 10));
    // In TLS 1.3 the client is done before the server has looked at its certificate.
    let mut client = world.dial(socket, Some(issued)).await.unwrap();
    assert!(client.read_u8().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_silent_and_the_garbled_make_way_for_others() {
    let (world, listener) = (world(), scripted(None));
    let _silent = listener.arrive();
    let mut garbled = listener.arrive();
    let last = listener.arrive();
    // One handshake at a time: who is before it holds up the last.
    let mut stream = world.incoming(&listener, limits(10, 1));
    garbled.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let began = tokio::time::Instant::now();
    let (client, server) = tokio::join!(world.dial(last, None), stream.next());
    client.unwrap();
    server.unwrap().unwrap();
    // The silent one had its ten seconds; the garbled one was told at once.
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn handshakes_are_bounded() {
    let (world, listener) = (world(), scripted(None));
    let _silent: Vec<_> = (0..50).map(|_| listener.arrive()).collect();
    let _stream = world.incoming(&listener, limits(100, 8));
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(listener.attempts(), 8);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(listener.attempts(), 16);
}

#[tokio::test(start_paused = true)]
async fn connections_are_bounded_and_an_ended_one_makes_room() {
    let (world, listener) = (world(), scripted(None));
    let sockets = [listener.arrive(), listener.arrive()];
    let mut stream = world.incoming(&listener, limits(1, 8));
    let [first, second] = sockets;
    let (first, held) = tokio::join!(world.dial(first, None), stream.next());
    first.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(listener.attempts(), 1);
    drop(held);
    let (second, server) = tokio::join!(world.dial(second, None), stream.next());
    second.unwrap();
    server.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_listener_goes_with_the_stream() {
    let (world, listener) = (world(), scripted(None));
    let stream = world.incoming(&listener, limits(10, 10));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(Arc::strong_count(&listener.attempts), 2);
    drop(stream);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(Arc::strong_count(&listener.attempts), 1);
}

#[tokio::test(start_paused = true)]
async fn a_new_certificate_is_shown_to_those_who_come_after() {
    let world = world();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let listener = scripted(None);
        let socket = listener.arrive();
        let mut stream = world.incoming(&listener, limits(10, 10));
        let (client, server) = tokio::join!(world.dial(socket, None), stream.next());
        server.unwrap().unwrap();
        seen.push(client.unwrap().get_ref().1.peer_certificates().unwrap()[0].clone());
        world.tls.replace(world.pki.issue_server(&[]).unwrap(), &world.pki.authorities()).unwrap();
    }
    assert_ne!(seen[0], seen[1]);
}

#[test]
fn a_fifth_of_the_files_is_kept_back() {
    assert_eq!(Limits::for_files(Some(1000)).connections, 800);
    assert_eq!(Limits::for_files(Some(0)).connections, 1);
    assert!(Limits::for_files(None).connections > 1_000_000);
}
