//! Handshakes over memory, with certificates made on the spot.

use std::collections::BTreeMap;

use everynode_model::Digest;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use super::*;

struct Ca {
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

fn ca() -> Ca {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let der = params.self_signed(&key).unwrap().der().clone();
    Ca { der, issuer: Issuer::new(params, key) }
}

fn server(ca: &Ca, alpn: &[u8]) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([SERVER_NAME.to_owned()]).unwrap();
    let leaf = params.signed_by(&key, &ca.issuer).unwrap().der().clone();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf, ca.der.clone()], key)
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    Arc::new(config).into()
}

/// A network of servers in memory; other addresses refuse.
struct Memory(BTreeMap<String, TlsAcceptor>);

impl Dial for Memory {
    fn dial(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        let acceptor = self.0.get(address).cloned();
        async move {
            let acceptor = acceptor.ok_or(io::ErrorKind::ConnectionRefused)?;
            let (near, far) = tokio::io::duplex(64 * 1024);
            tokio::spawn(async move {
                let stream = acceptor.accept(far).await;
                // Held open until the client goes.
                if let Ok(mut stream) = stream {
                    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                }
            });
            Ok(Box::new(near) as Box<dyn Io>)
        }
        .boxed()
    }
}

async fn try_connect(
    network: &Memory,
    addresses: &[&str],
    trust: Trust,
) -> Result<Connected, ConnectError> {
    let addresses: Vec<String> = addresses.iter().map(|&text| text.into()).collect();
    connect(network, &addresses, &trust, None, Options::default()).await
}

#[tokio::test]
async fn a_pinned_coordinator_is_found_behind_a_dead_address() {
    let ours = ca();
    let network = Memory([("b:1".to_owned(), server(&ours, b"h2"))].into());
    let trust = Trust::Digest(Digest::of(&ours.der));
    let connected = try_connect(&network, &["a:1", "b:1"], trust).await.unwrap();
    assert_eq!(connected.address, "b:1");
    assert_eq!(connected.authorities, [ours.der]);
}

#[tokio::test]
async fn every_refusal_has_its_name() {
    let (ours, other) = (ca(), ca());
    let network = Memory(
        [
            ("foreign:1".to_owned(), server(&other, b"h2")),
            ("web:1".to_owned(), server(&ours, b"http/1.1")),
        ]
        .into(),
    );
    let trust = Trust::Authorities(vec![ours.der]);
    let attempt = async |addresses: &[&str]| {
        try_connect(&network, addresses, trust.clone()).await.unwrap_err()
    };
    assert!(matches!(attempt(&[]).await, ConnectError::NoAddress));
    assert!(matches!(attempt(&["gone:1"]).await, ConnectError::Refused { .. }));
    assert!(matches!(attempt(&["foreign:1"]).await, ConnectError::NotTrusted { .. }));
    assert!(matches!(
        attempt(&["web:1"]).await,
        ConnectError::Http2 { .. } | ConnectError::Tls { .. }
    ));
    for bad in ["x", "x:", "x:0", "x:99999", "a:b:1", "https://x:1", "[x]:1", ":1"] {
        assert!(matches!(attempt(&[bad]).await, ConnectError::BadAddress { .. }), "{bad}");
    }
    let both = attempt(&["gone:1", "foreign:1"]).await;
    assert!(both.to_string().contains("nothing listens on gone:1"), "{both}");
    assert!(!both.is_not_trusted(), "the dead one may come back");
}

#[test]
fn ipv6_addresses_are_addresses() {
    assert!(is_host_and_port("[::1]:7443"));
    assert!(is_host_and_port("host.example:7443"));
}
