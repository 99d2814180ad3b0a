//! Against a registry that says whatever it is wanted to, by TLS, so that names and passwords are
//! told.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::{AUTHORIZATION, LOCATION, RANGE, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::super::Artifacts;
use super::super::store::Mirror;
use super::*;

type Answer = Response<Full<Bytes>>;
type Says = Arc<dyn Fn(&Asked) -> Answer + Send + Sync>;

/// What was asked.
#[derive(Clone, Debug)]
struct Asked {
    /// With its query.
    path: String,
    authorization: String,
    range: String,
}

struct Server {
    address: SocketAddr,
    log: Arc<Mutex<Vec<Asked>>>,
}

/// A certificate for this machine, and who vouches for it: itself.
struct Identity {
    directory: tempfile::TempDir,
    acceptor: TlsAcceptor,
}

impl Identity {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(directory.path().join("ca"), own.cert.pem()).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
        let config = rustls::ServerConfig::builder_with_provider(everynode_transport::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        Self { directory, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    fn settings(&self) -> Settings {
        Settings { ca: Some(self.directory.path().join("ca")), ..Settings::default() }
    }
}

impl Server {
    /// By TLS, if there is an identity for it.
    async fn start(identity: Option<&Identity>, says: Says) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (kept, acceptor) = (Arc::clone(&log), identity.map(|it| it.acceptor.clone()));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (says, kept, acceptor) = (says.clone(), kept.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let service = service_fn(|request: Request<Incoming>| {
                        let asked = asked(&request);
                        kept.lock().unwrap().push(asked.clone());
                        let answer = says(&asked);
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = match acceptor {
                        None => http.serve_connection(TokioIo::new(stream), service).await,
                        Some(acceptor) => {
                            let stream = acceptor.accept(stream).await.unwrap();
                            http.serve_connection(TokioIo::new(stream), service).await
                        }
                    };
                });
            }
        });
        Self { address, log }
    }

    /// What was asked since this was asked last: path and authorization.
    fn log(&self) -> Vec<(String, String)> {
        let asked = std::mem::take(&mut *self.log.lock().unwrap());
        asked.into_iter().map(|asked| (asked.path, asked.authorization)).collect()
    }
}

fn asked(request: &Request<Incoming>) -> Asked {
    let header = |name| {
        let value = request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        value.unwrap_or_default()
    };
    let path = request.uri().path_and_query().unwrap().to_string();
    Asked { path, authorization: header(AUTHORIZATION), range: header(RANGE) }
}

fn answer(status: u16, body: impl Into<Bytes>) -> Answer {
    Response::builder().status(status).body(Full::new(body.into())).unwrap()
}

fn with(status: StatusCode, name: http::HeaderName, value: &str) -> Answer {
    let builder = Response::builder().status(status).header(name, value);
    builder.body(Full::new(Bytes::new())).unwrap()
}

/// Contents by the end of their addresses.
#[derive(Clone, Default)]
struct Contents(BTreeMap<String, Vec<u8>>);

impl Contents {
    fn add(&mut self, kind: &str, content: &[u8]) -> Digest {
        let digest = Digest::of(content);
        self.0.insert(format!("{kind}/sha256:{digest}"), content.to_vec());
        digest
    }

    /// An image of one file, and its index.
    fn image(files: &[(&str, &[u8])]) -> (Self, Digest) {
        let mut contents = Self::default();
        let layers: Vec<_> = files
            .iter()
            .map(|(name, content)| {
                let digest = contents.add("blobs", content);
                json!({"mediaType": "text/x", "digest": format!("sha256:{digest}"),
                    "size": content.len(),
                    "annotations": {"org.opencontainers.image.title": name}})
            })
            .collect();
        let manifest = json!({"schemaVersion": 2, "layers": layers}).to_string();
        let digest = contents.add("manifests", manifest.as_bytes());
        let platform = json!({"os": "linux", "architecture": everynode_model::go_arch()});
        let entry = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": format!("sha256:{digest}"), "size": manifest.len(), "platform": platform});
        let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
        let index = contents.add("manifests", index.as_bytes());
        (contents, index)
    }

    fn get(&self, asked: &Asked) -> Answer {
        let found = self.0.iter().find(|(end, _)| asked.path.ends_with(*end));
        let Some((_, content)) = found else { return answer(404, "") };
        let from = asked.range.strip_prefix("bytes=").and_then(|it| it.strip_suffix('-'));
        let Some(from) = from.map(|from| from.parse::<usize>().unwrap()) else {
            return answer(200, content.clone());
        };
        let range = format!("bytes {from}-{}/{}", content.len() - 1, content.len());
        let builder = Response::builder().status(206).header(http::header::CONTENT_RANGE, range);
        builder.body(Full::new(content[from..].to_vec().into())).unwrap()
    }
}

struct Tried {
    directory: tempfile::TempDir,
    artifact: Artifact,
    outcome: Result<(), String>,
}

impl Tried {
    fn file(&self, name: &str) -> Vec<u8> {
        let whole = self.directory.path().join("artifacts/sha256");
        std::fs::read(whole.join(self.artifact.digest.to_string()).join(name)).unwrap()
    }
}

async fn pull(registry: &Server, digest: Digest, settings: Settings, keyring: &Keyring) -> Tried {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("{}/team/x:1", registry.address);
    let artifact = Artifact { address, digest, inside: None };
    let artifacts = Artifacts::new(directory.path(), settings);
    let brought = artifacts.bring(&artifact, keyring, |_, _| ()).await;
    Tried { directory, artifact, outcome: brought.map_err(|reason| reason.to_string()) }
}

/// Some names and passwords, each for a host: `user:password`.
fn keyring(of: &[(SocketAddr, &str)]) -> Keyring {
    let mut keyring = Keyring::default();
    for (address, credential) in of {
        let (user, password) = credential.split_once(':').unwrap();
        let config =
            json!({"auths": {address.to_string(): {"username": user, "password": password}}});
        keyring.add_config(config.to_string().as_bytes()).unwrap();
    }
    keyring
}

const ALICE: &str = "Basic YWxpY2U6YQ==";

/// A registry that wants tokens, each good for so many requests; `alice:a` alone gets one.
fn with_tokens(contents: Contents, good_for: usize) -> Says {
    let given = Arc::new(Mutex::new((0_usize, 0_usize)));
    Arc::new(move |asked: &Asked| {
        let mut given = given.lock().unwrap();
        let (number, left) = *given;
        if let Some(query) = asked.path.strip_prefix("/token?") {
            assert_eq!(query, "service=the%20registry&scope=repository%3Ateam%2Fx%3Apull");
            if asked.authorization != ALICE {
                return answer(401, "");
            }
            *given = (number + 1, good_for);
            return answer(200, json!({"access_token": format!("t{}", number + 1)}).to_string());
        }
        if left > 0 && asked.authorization == format!("Bearer t{number}") {
            *given = (number, left - 1);
            return contents.get(asked);
        }
        let challenge = "Bearer realm=\"https://ADDRESS/token\",service=\"the registry\",\
                         scope=\"repository:team/x:pull\"";
        with(StatusCode::UNAUTHORIZED, WWW_AUTHENTICATE, challenge)
    })
}

/// The same, once the address is known.
async fn token_registry(identity: &Identity, contents: Contents, good_for: usize) -> Server {
    let known: Arc<Mutex<String>> = Arc::default();
    let (says, address) = (with_tokens(contents, good_for), Arc::clone(&known));
    let says: Says = Arc::new(move |asked| {
        let mut answer = says(asked);
        if let Some(value) = answer.headers_mut().get_mut(WWW_AUTHENTICATE) {
            let text = value.to_str().unwrap().replace("ADDRESS", &address.lock().unwrap());
            *value = text.parse().unwrap();
        }
        answer
    });
    let server = Server::start(Some(identity), says).await;
    *known.lock().unwrap() = server.address.to_string();
    server
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_again_when_it_has_ended() {
    let identity = Identity::new();
    let (contents, index) = Contents::image(&[("run", b"one"), ("data", b"two")]);
    for (good_for, tokens) in [(9, 1), (3, 2)] {
        let registry = token_registry(&identity, contents.clone(), good_for).await;
        // Two are known; the one that is tried first is not let in.
        let keyring = keyring(&[(registry.address, "bob:b"), (registry.address, "alice:a")]);
        let tried = pull(&registry, index, identity.settings(), &keyring).await;
        assert_eq!(tried.outcome, Ok(()));
        assert_eq!((tried.file("run"), tried.file("data")), (b"one".to_vec(), b"two".to_vec()));
        let log = registry.log();
        let asked = |by: &str| {
            log.iter().filter(|(path, who)| path.starts_with("/token") && who == by).count()
        };
        assert_eq!(asked(ALICE), tokens, "{log:?}");
        let passwords =
            log.iter().filter(|(path, who)| path.starts_with("/v2") && who.contains("Basic"));
        assert_eq!(passwords.count(), 0, "{log:?}");
    }
}

#[tokio::test]
async fn whoever_is_not_let_in_is_told_so() {
    let identity = Identity::new();
    let (contents, index) = Contents::image(&[("run", b"one")]);
    let registry = token_registry(&identity, contents, 9).await;
    let mut none = Keyring::default();
    none.lacks("regcred");
    for (keyring, words) in [
        (keyring(&[(registry.address, "alice:x")]), "401 Unauthorized (with the one password that"),
        (none, "(no password is known for it; of imagePullSecrets there is no regcred)"),
    ] {
        let tried = pull(&registry, index, identity.settings(), &keyring).await;
        let why = tried.outcome.unwrap_err();
        assert!(why.starts_with("ErrImagePull: ") && why.contains(": unauthorized: "), "{why}");
        assert!(why.contains(words) && !why.contains("alice"), "{why}");
    }
}

#[tokio::test]
async fn who_asks_is_told_to_no_other_host() {
    let identity = Identity::new();
    let (contents, index) = Contents::image(&[("run", b"one")]);
    let store = contents.clone();
    let storage = Server::start(Some(&identity), Arc::new(move |asked| store.get(asked))).await;
    // Whoever it leads to may not ask who asks.
    let asking = with_basic(Contents::default());
    let thief = Server::start(Some(&identity), asking).await;
    for (other, is_let_in) in [(&storage, true), (&thief, false)] {
        let (own, to) = (with_basic(contents.clone()), other.address);
        let says: Says = Arc::new(move |asked: &Asked| {
            let answer = own(asked);
            match answer.status() == StatusCode::OK && asked.path.contains("/blobs/") {
                true => {
                    let to = format!("https://{to}{}", asked.path);
                    with(StatusCode::TEMPORARY_REDIRECT, LOCATION, &to)
                }
                false => answer,
            }
        });
        let registry = Server::start(Some(&identity), says).await;
        let keyring = keyring(&[(registry.address, "alice:a")]);
        let tried = pull(&registry, index, identity.settings(), &keyring).await;
        assert_eq!(tried.outcome.is_ok(), is_let_in, "{:?}", tried.outcome);
        assert!(registry.log().iter().any(|(_, who)| who == ALICE));
        let log = other.log();
        assert!(!log.is_empty() && log.iter().all(|(_, who)| who.is_empty()), "{log:?}");
    }
}

/// A registry that wants `alice:a` with each request.
fn with_basic(contents: Contents) -> Says {
    Arc::new(move |asked| match asked.authorization == ALICE {
        true => contents.get(asked),
        false => with(StatusCode::UNAUTHORIZED, WWW_AUTHENTICATE, "Basic realm=\"x\""),
    })
}

#[tokio::test]
async fn a_mirror_comes_first_and_is_told_nothing_without_tls() {
    let identity = Identity::new();
    let (contents, index) = Contents::image(&[("run", b"one")]);
    let registry = Server::start(Some(&identity), with_basic(contents.clone())).await;
    let mirror = Server::start(None, with_basic(contents.clone())).await;
    let settings = |mirror: &Server| {
        let text = format!("{}/team/=http://{}/else/", registry.address, mirror.address);
        Settings { mirrors: vec![Mirror::parse(&text).unwrap()], ..identity.settings() }
    };
    let both = keyring(&[(registry.address, "alice:a"), (mirror.address, "alice:a")]);
    let tried = pull(&registry, index, settings(&mirror), &both).await;
    assert_eq!((tried.outcome.clone(), tried.file("run")), (Ok(()), b"one".to_vec()));
    let log = mirror.log();
    assert!(log[0].0.starts_with("/v2/else/x/manifests/sha256:"), "{log:?}");
    assert!(log.iter().all(|(_, who)| who.is_empty()), "{log:?}");
    assert!(!registry.log().is_empty());

    let open = Server::start(None, Arc::new(move |asked| contents.get(asked))).await;
    let tried = pull(&registry, index, settings(&open), &Keyring::default()).await;
    assert_eq!(tried.outcome, Ok(()));
    assert_eq!((registry.log().len(), open.log().len()), (0, 3));
}

#[tokio::test]
async fn what_is_not_what_was_named_is_refused() {
    let identity = Identity::new();
    let (good, index) = Contents::image(&[("run", b"one")]);
    let lies = |path: &str, content: &[u8]| {
        let mut lying = good.clone();
        let of = lying.0.iter_mut().find(|(end, _)| end.starts_with(path)).unwrap();
        *of.1 = content.to_vec();
        lying
    };
    let wrong = Digest::of(b"two");
    for (contents, words) in [
        (lies(&format!("manifests/sha256:{index}"), b"{}"), "has another content".to_owned()),
        (lies("blobs/", b"two"), format!("its digest is sha256:{wrong}")),
        (lies("blobs/", b"three"), "is not of the 3 bytes".to_owned()),
        (Contents::default(), "404 Not Found".to_owned()),
    ] {
        let registry = Server::start(Some(&identity), Arc::new(move |asked| contents.get(asked)));
        let registry = registry.await;
        let tried = pull(&registry, index, identity.settings(), &Keyring::default()).await;
        let why = tried.outcome.unwrap_err();
        assert!(why.contains(&words), "{why}");
        assert!(!tried.directory.path().join(format!("artifacts/sha256/{index}")).exists());
    }
}

#[tokio::test]
async fn sizes_are_bounded() {
    let identity = Identity::new();
    let (contents, index) = Contents::image(&[("run", b"one"), ("data", b"two")]);
    let registry = Server::start(Some(&identity), Arc::new(move |asked| contents.get(asked))).await;
    let settings = Settings { max_bytes: 5, ..identity.settings() };
    let tried = pull(&registry, index, settings, &Keyring::default()).await;
    assert!(tried.outcome.unwrap_err().contains("more than 5 bytes"), "both layers have 6");
    assert!(registry.log().iter().all(|(path, _)| path.contains("/manifests/")));

    let mut large = Contents::default();
    let text = format!("{{\"layers\":[]{}}}", " ".repeat(usize::try_from(MAX_DOCUMENT).unwrap()));
    let digest = large.add("manifests", text.as_bytes());
    let registry = Server::start(Some(&identity), Arc::new(move |asked| large.get(asked))).await;
    let tried = pull(&registry, digest, identity.settings(), &Keyring::default()).await;
    assert!(tried.outcome.unwrap_err().contains("more than 4194304 bytes"));
}

/// A portal's page, or a file that is something else: the registry has it nevertheless.
#[tokio::test]
async fn what_is_too_large_for_a_part_is_something_else() {
    let identity = Identity::new();
    let (contents, index) = Contents::image(&[("run", b"one")]);
    let registry = Server::start(Some(&identity), Arc::new(move |asked| contents.get(asked))).await;
    let page = vec![b' '; usize::try_from(MAX_DOCUMENT).unwrap() + 1];
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join(Digest::of(b"one").to_string()), b"too long").unwrap();
    let portal = Server::start(None, Arc::new(move |_| answer(200, page.clone()))).await;
    let mirror = format!("{}/=http://{}/", registry.address, portal.address);
    let mirrors = vec![Mirror::parse(&mirror).unwrap()];
    let settings = Settings { mirrors, ..identity.settings() };
    for directory in [None, Some(files.path().into())] {
        let settings = Settings { directory, ..settings.clone() };
        let tried = pull(&registry, index, settings, &Keyring::default()).await;
        assert_eq!((tried.outcome.clone(), tried.file("run")), (Ok(()), b"one".to_vec()));
        assert!(!portal.log().is_empty());
    }
}

#[tokio::test]
async fn nobody_asks_for_a_token_without_tls() {
    let identity = Identity::new();
    let tokens = Server::start(None, Arc::new(|_| answer(200, "{\"token\":\"t\"}"))).await;
    let long = "x".repeat(10_000);
    let challenge = format!("Bearer realm=\"http://{}/{long}\"", tokens.address);
    let says: Says =
        Arc::new(move |_| with(StatusCode::UNAUTHORIZED, WWW_AUTHENTICATE, &challenge));
    let registry = Server::start(Some(&identity), says).await;
    let index = Digest::of(b"x");
    for keyring in [Keyring::default(), keyring(&[(registry.address, "alice:a")])] {
        let why = pull(&registry, index, identity.settings(), &keyring).await.outcome.unwrap_err();
        assert!(why.contains("without TLS") && why.len() < 1000, "{why}");
        assert_eq!(tokens.log(), []);
    }
}

/// What came before a break is gone on with; of what is whole nothing is asked.
#[tokio::test]
async fn only_what_is_lacking_is_asked_for() {
    let identity = Identity::new();
    let (contents, index) = Contents::image(&[("run", b"one"), ("data", b"two")]);
    let says = contents.clone();
    let registry = Server::start(Some(&identity), Arc::new(move |asked| says.get(asked))).await;
    let directory = tempfile::tempdir().unwrap();
    let partial = directory.path().join("artifacts/partial");
    std::fs::create_dir_all(&partial).unwrap();
    for (end, content) in &contents.0 {
        let digest = end.rsplit(':').next().unwrap();
        let have = if content == b"two" { &content[..1] } else { content };
        let have = if content == b"one" { b"xxx" } else { have };
        std::fs::write(partial.join(format!("{index}.{digest}")), have).unwrap();
    }
    let address = format!("{}/team/x", registry.address);
    let artifact = Artifact { address, digest: index, inside: None };
    let artifacts = Artifacts::new(directory.path(), identity.settings());
    artifacts.bring(&artifact, &Keyring::default(), |_, _| ()).await.unwrap();
    let asked = registry.log.lock().unwrap().clone();
    let mut asked: Vec<_> =
        asked.iter().map(|asked| (asked.path.contains("/blobs/"), asked.range.as_str())).collect();
    asked.sort_unstable();
    // A damaged layer, and the rest of another.
    assert_eq!(asked, [(true, ""), (true, "bytes=1-")]);
    assert_eq!(std::fs::read_dir(partial).unwrap().count(), 0);
}

#[tokio::test]
async fn a_directory_of_blobs_does_without_a_network() {
    let (contents, index) = Contents::image(&[("run", b"one")]);
    let files = tempfile::tempdir().unwrap();
    for content in contents.0.values() {
        std::fs::write(files.path().join(Digest::of(content).to_string()), content).unwrap();
    }
    let settings = Settings { directory: Some(files.path().into()), ..Settings::default() };
    let nobody = Server::start(None, Arc::new(|_| answer(500, ""))).await;
    let tried = pull(&nobody, index, settings, &Keyring::default()).await;
    assert_eq!((tried.outcome.clone(), tried.file("run")), (Ok(()), b"one".to_vec()));
    assert_eq!(nobody.log(), []);
}

/// Read anew at each try; one that can't be read is told of, without what stands in it.
#[tokio::test]
async fn a_machine_has_passwords_of_its_own() {
    let identity = Identity::new();
    let (contents, index) = Contents::image(&[("run", b"one")]);
    let registry = Server::start(Some(&identity), with_basic(contents)).await;
    let file = identity.directory.path().join("config.json");
    let settings = Settings { registry_config: Some(file.clone()), ..identity.settings() };
    let none = Keyring::default();
    std::fs::write(&file, "secret").unwrap();
    let tried = pull(&registry, index, settings.clone(), &none).await;
    let why = tried.outcome.unwrap_err();
    assert!(why.contains("--registry-config ") && !why.contains("secret"), "{why}");
    let config = json!({"auths": {registry.address.to_string(): {"auth": "YWxpY2U6YQ=="}}});
    std::fs::write(&file, config.to_string()).unwrap();
    assert_eq!(pull(&registry, index, settings, &none).await.outcome, Ok(()));
}
