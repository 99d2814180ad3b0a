//! Probes against real servers on this machine.

use std::sync::Mutex;

use bytes::Bytes;
use everynode_model::{PodKey, PodUid};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tonic_health::ServingStatus;

use super::*;
use crate::run::{fake_networks, fake_runtime};

const LONG: Duration = Duration::from_secs(20);

type Answer = fn(&Request<hyper::body::Incoming>) -> Response<Full<Bytes>>;

/// A server on a port of its own, for as long as the test runs, and what it was asked.
struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn plain(answer: Answer) -> Self {
        Self::over(answer, |stream| async { Some(stream) }).await
    }

    /// Under a certificate that nobody signed.
    async fn secure(answer: Answer) -> Self {
        let key = rcgen::generate_simple_self_signed(vec!["nobody".into()]).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![key.cert.der().clone()],
                rustls_pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap(),
            )
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        Self::over(answer, move |stream| {
            let acceptor = acceptor.clone();
            async move { acceptor.accept(stream).await.ok() }
        })
        .await
    }

    async fn over<F, S>(answer: Answer, wrap: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Option<S>> + Send,
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Some(stream) = wrap(stream).await else { continue };
                let heard = Arc::clone(&heard);
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    heard.lock().unwrap().push(line(&request));
                    let answer = answer(&request);
                    async { Ok::<_, std::convert::Infallible>(answer) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { port, asked }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// Path, host, and who asks.
fn line(request: &Request<hyper::body::Incoming>) -> String {
    let header = |name: &str| request.headers().get(name).map_or("-", |v| v.to_str().unwrap());
    let words = [request.uri().to_string(), header("host").into(), header("x").into()];
    assert!(header("connection") == "close");
    words.join(" ")
}

fn status(code: u16, body: &'static [u8]) -> Response<Full<Bytes>> {
    Response::builder().status(code).body(Full::new(Bytes::from_static(body))).unwrap()
}

fn to(location: &str) -> Response<Full<Bytes>> {
    let response = Response::builder().status(302).header("location", location);
    response.body(Full::default()).unwrap()
}

fn prober() -> Prober {
    Prober::new(fake_runtime(), Address::fixed(None))
}

fn target() -> Target {
    let uid = PodUid::new(uuid::Uuid::from_u128(1));
    let pod = PodRef { key: PodKey::new("default", "x").unwrap(), uid };
    Target { pod, container: "main".into() }
}

fn http(port: u16, path: &str) -> Handler {
    Handler::Http { tls: false, host: None, port, path: path.into(), headers: Vec::new() }
}

async fn try_it(handler: &Handler, timeout: Duration) -> Result<(), String> {
    prober().probe(&target(), handler, timeout).await.unwrap()
}

/// A port on which nobody listens.
async fn closed() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// A port whose connections are taken by the kernel and by nobody else.
async fn hanging() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[tokio::test]
async fn a_pod_with_its_own_network_is_asked_for_one_socket_a_connection() {
    let server = Server::plain(|request| match request.uri().path() {
        "/here" => to("/ok"),
        _ => status(200, b""),
    })
    .await;
    let tcp = |host: Option<&str>, port| Handler::Tcp { host: host.map(str::to_owned), port };
    for (handler, sockets, succeeds) in [
        (http(server.port, "/ok"), 1, true),
        (tcp(None, server.port), 1, true),
        (http(server.port, "/here"), 2, true),
        // The other address of that name is asked, too.
        (tcp(Some("localhost"), closed().await), 2, false),
        (Handler::Exec(vec!["true".into()]), 0, true),
    ] {
        let (runtime, asked) = fake_networks();
        let prober = Prober::new(runtime, Address::fixed(Some("192.0.2.1")));
        let outcome = prober.probe(&target(), &handler, LONG).await.unwrap();
        assert_eq!((asked(), outcome.is_ok()), (sockets, succeeds), "{handler:?}");
    }
}

#[tokio::test]
async fn a_status_is_the_answer() {
    let server = Server::plain(|request| match request.uri().path() {
        "/ok" => status(204, b""),
        "/large" => status(200, &[b'x'; 1_000_000]),
        "/moved" => to("//elsewhere.invalid/"),
        "/here" => to("/ok"),
        "/round" => to("/round"),
        _ => status(503, b"secret"),
    })
    .await;
    for path in ["/ok", "ok", "/large", "/moved", "/here"] {
        assert_eq!(try_it(&http(server.port, path), LONG).await, Ok(()), "{path}");
    }
    let failed = try_it(&http(server.port, "/bad"), LONG).await;
    assert_eq!(failed.unwrap_err(), "HTTP probe failed with statuscode: 503");
    server.asked();
    let url = format!("http://127.0.0.1:{}/round", server.port);
    let failed = try_it(&http(server.port, "/round"), LONG).await.unwrap_err();
    assert_eq!(failed, format!("Get \"{url}\": stopped after 10 redirects"));
    assert_eq!(server.asked().len(), 10);
}

#[tokio::test]
async fn it_is_asked_for_as_the_template_says() {
    let server = Server::plain(|_| status(200, b"")).await;
    let headers = [("Host", "me.test"), ("X", "1")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let (tls, host, port) = (false, Some("localhost".to_owned()), server.port);
    let path = "/a?b".to_owned();
    let handler = Handler::Http { tls, host, port, path, headers: headers.to_vec() };
    assert_eq!(try_it(&handler, LONG).await, Ok(()));
    assert_eq!(try_it(&http(port, "/"), LONG).await, Ok(()));
    assert_eq!(server.asked(), ["/a?b me.test 1".to_owned(), format!("/ 127.0.0.1:{port} -")]);
}

#[tokio::test]
async fn no_certificate_is_checked() {
    let secure = Server::secure(|_| status(200, b"")).await;
    let plain = Server::plain(|_| status(200, b"")).await;
    let over_tls = |port| {
        let (host, path, headers) = (None, "/".to_owned(), Vec::new());
        Handler::Http { tls: true, host, port, path, headers }
    };
    assert_eq!(try_it(&over_tls(secure.port), LONG).await, Ok(()));
    let failed = try_it(&over_tls(plain.port), LONG).await.unwrap_err();
    let url = format!("https://127.0.0.1:{}/", plain.port);
    let said = format!("Get \"{url}\": http: server gave HTTP response to HTTPS client");
    assert_eq!(failed, said);
    assert_eq!(plain.asked(), [""; 0], "a probe is no hook");
}

#[tokio::test]
async fn who_does_not_answer_fails_in_the_kubelets_words() {
    let port = closed().await;
    let refused = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
    let tcp = |port| Handler::Tcp { host: None, port };
    let grpc = |port| Handler::Grpc { port, service: String::new() };
    assert_eq!(try_it(&tcp(port), LONG).await, Err(refused.clone()));
    let url = format!("http://127.0.0.1:{port}/x");
    assert_eq!(try_it(&http(port, "/x"), LONG).await, Err(format!("Get \"{url}\": {refused}")));
    let failed = try_it(&grpc(port), LONG).await.unwrap_err();
    let at = format!("error: failed to connect service at \"127.0.0.1:{port}\"");
    assert_eq!(failed, format!("{at}: connect: connection refused"));
    let (_listener, port) = hanging().await;
    let short = Duration::from_millis(50);
    assert_eq!(try_it(&tcp(port), LONG).await, Ok(()), "the kernel has accepted it");
    let url = format!("http://127.0.0.1:{port}/x");
    let late = format!("Get \"{url}\": {TOO_LATE}");
    assert_eq!(try_it(&http(port, "/x"), short).await, Err(late));
    let failed = try_it(&grpc(port), short).await.unwrap_err();
    assert!(failed.starts_with("timeout: ") && failed.ends_with("within 50ms"), "{failed}");
    // One that hangs up.
    let (listener, port) = hanging().await;
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let failed = try_it(&http(port, "/x"), LONG).await.unwrap_err();
    assert!(failed.starts_with(&format!("Get \"http://127.0.0.1:{port}/x\": ")), "{failed}");
}

#[tokio::test]
async fn grpc_health_is_asked() {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("good", ServingStatus::Serving).await;
    reporter.set_service_status("bad", ServingStatus::NotServing).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming),
    );
    let ask = |service: &str| Handler::Grpc { port, service: service.to_owned() };
    assert_eq!(try_it(&ask(""), LONG).await, Ok(()));
    assert_eq!(try_it(&ask("good"), LONG).await, Ok(()));
    let failed = try_it(&ask("bad"), LONG).await.unwrap_err();
    assert_eq!(failed, "service unhealthy (responded with \"NOT_SERVING\")");
    let failed = try_it(&ask("other"), LONG).await.unwrap_err();
    assert!(failed.starts_with("error: health rpc probe failed: "), "{failed}");
}

#[tokio::test]
async fn a_hook_is_done_as_the_kubelet_does_it() {
    let server = Server::plain(|_| status(500, b"")).await;
    let run =
        async |handler: &Handler, within| prober().hook(&target(), handler, within).await.unwrap();
    assert_eq!(run(&http(server.port, "/"), None).await, Ok(()), "whatever is answered");
    assert!(run(&http(closed().await, "/"), None).await.is_err());
    assert_eq!(run(&Handler::Exec(vec!["true".into()]), None).await, Ok(()));
    assert_eq!(run(&Handler::Sleep(Duration::ZERO), None).await, Ok(()));
    let late = run(&Handler::Sleep(LONG), Some(Duration::from_millis(1))).await;
    assert_eq!(late.unwrap_err(), "not done within 1ms");
    let tcp = Handler::Tcp { host: None, port: server.port };
    assert_eq!(run(&tcp, None).await.unwrap_err(), "invalid handler: tcpSocket");
}

#[tokio::test]
async fn a_hook_that_asks_by_https_makes_do_with_http() {
    let server = Server::plain(|request| {
        assert!(!request.headers().contains_key("authorization"));
        status(200, b"")
    })
    .await;
    let headers = [("Authorization", "Bearer x"), ("X", "1")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let secure = |port| Handler::Http {
        tls: true,
        host: None,
        port,
        path: "/bye".into(),
        headers: headers.to_vec(),
    };
    let run = async |handler: &Handler| prober().hook(&target(), handler, None).await.unwrap();
    assert_eq!(run(&secure(server.port)).await, Ok(()));
    assert_eq!(server.asked(), [format!("/bye 127.0.0.1:{} 1", server.port)]);
    // What speaks neither is not asked twice.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let dialled = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&dialled);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"SSH-2.0-x\r\n").await;
        }
    });
    let failed = run(&secure(port)).await.unwrap_err();
    assert!(
        failed.starts_with(&format!("Get \"https://127.0.0.1:{port}/bye\": tls: ")),
        "{failed}"
    );
    assert_eq!(dialled.load(std::sync::atomic::Ordering::Relaxed), 1);
}
