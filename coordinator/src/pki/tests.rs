use std::sync::Arc;

use everynode_model::WallTime;
use rcgen::CertificateParams;
use uuid::Uuid;

use super::*;
use crate::clock::SimulatedClock;

const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// 2026-11-23.
fn clock() -> Arc<dyn Clock> {
    Arc::new(SimulatedClock::start(WallTime::from_unix_millis(1_795_392_000_000)))
}

fn authority() -> Authority {
    Authority::make(&Entropy::system(), clock().now().wall).unwrap()
}

fn of(authorities: Vec<Authority>) -> Result<Pki, PkiError> {
    Pki::new(authorities, clock(), Arc::new(Entropy::seeded(1)))
}

fn pki() -> Pki {
    of(vec![authority()]).unwrap()
}

fn cluster() -> ClusterId {
    ClusterId::new(Uuid::from_u128(1))
}

fn request(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
}

#[test]
fn a_node_gets_its_own_name_for_a_year_whatever_it_asked_for() {
    let uid = NodeUid::new(Uuid::from_u128(2));
    let mut params = CertificateParams::new(["evil.example".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let request = params.serialize_request(&key).unwrap();
    let chain = pki().issue_node(request.der(), cluster(), uid, YEAR).unwrap();

    let (peer, validity) = Peer::from_certificate(&chain[0]).unwrap();
    assert_eq!(peer, Peer::Node { cluster: cluster(), uid });
    assert_eq!(validity.not_after - validity.not_before, 365 * 86_400 + 3_600);
    let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    assert!(!leaf.is_ca());
    assert_eq!(leaf.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 1);
    let (_, ca) = x509_parser::parse_x509_certificate(&chain[1]).unwrap();
    assert!(ca.is_ca());
    leaf.verify_signature(Some(ca.public_key())).unwrap();
}

#[test]
fn the_public_key_is_the_same_in_request_and_certificate() {
    let key = KeyPair::generate().unwrap();
    let bytes = request(&key);
    let chain = pki().issue_node(&bytes, cluster(), NodeUid::new(Uuid::nil()), YEAR).unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    assert_eq!(
        read_request(&bytes).unwrap().public_key(),
        Digest::of(leaf.tbs_certificate.subject_pki.raw)
    );
}

#[test]
fn a_request_that_does_not_prove_its_key_is_refused() {
    let mut bytes = request(&KeyPair::generate().unwrap());
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert!(matches!(read_request(&bytes), Err(PkiError::NotItsKey | PkiError::BadRequest { .. })));

    let (mut one, other) =
        (request(&KeyPair::generate().unwrap()), request(&KeyPair::generate().unwrap()));
    // The other's public key in the one's request: 65 bytes after the key's algorithm.
    let point = |bytes: &[u8]| bytes.windows(4).position(|window| window == [0x03, 0x42, 0, 4]);
    let (to, from) = (point(&one).unwrap(), point(&other).unwrap());
    one[to..to + 68].copy_from_slice(&other[from..from + 68]);
    assert!(matches!(read_request(&one), Err(PkiError::NotItsKey)));

    for garbage in [&b""[..], b"x", &[0x30, 0x82, 0xff, 0xff]] {
        assert!(matches!(read_request(garbage), Err(PkiError::BadRequest { .. })));
    }
}

#[test]
fn a_stored_authority_signs_as_before() {
    let made = authority();
    let (certificate, key) = (made.certificate().clone(), made.key().to_vec());
    let serial = made.serial().to_owned();
    let loaded = Authority::load(certificate.to_vec(), key).unwrap();
    assert_eq!(loaded.serial(), serial);
    assert_eq!(loaded.certificate(), &certificate);
    let pki = of(vec![loaded]).unwrap();
    assert_eq!(pki.digest(), Digest::of(&certificate));
    let chain = pki.issue_user(cluster(), "admin", Role::Admin).unwrap().chain;
    let (_, ca) = x509_parser::parse_x509_certificate(&certificate).unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    leaf.verify_signature(Some(ca.public_key())).unwrap();
    assert_eq!(leaf.issuer(), ca.subject());
}

#[test]
fn the_newest_authority_signs_and_all_are_trusted() {
    let (old, new) = (authority(), authority());
    let newest = new.certificate().clone();
    let pki = of(vec![old, new]).unwrap();
    assert_eq!(pki.authorities().len(), 2);
    assert_eq!(pki.issue_server(&[]).unwrap().chain[1], newest);
    assert!(matches!(of(Vec::new()), Err(PkiError::NoAuthority)));
}

#[test]
fn the_server_is_known_by_one_name_and_by_each_host_once() {
    let hosts = ["10.0.0.1", "::1", "example.com", "example.com"].map(str::to_owned);
    let chain = pki().issue_server(&hosts).unwrap().chain;
    let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap().value.general_names.clone();
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(pki().issue_server(&["böse".to_owned()]).is_err());
}

#[tokio::test]
async fn authorities_are_stored_and_found_again() {
    use everynode_store::{MemoryStore, Store as _, Txn};
    let memory = MemoryStore::new();
    let load = || store::load(&memory, clock(), Arc::new(Entropy::seeded(1)));
    assert!(matches!(load().await, Err(store::LoadError::None(PkiError::NoAuthority))));
    let (old, new) = (authority(), authority());
    for authority in [&old, &new] {
        let txn = Txn { compares: Vec::new(), ops: vec![store::put(authority)] };
        memory.txn(txn).await.unwrap();
    }
    let pki = load().await.unwrap();
    assert_eq!(pki.authorities(), [new.certificate().clone(), old.certificate().clone()]);
}

#[test]
fn what_a_clock_in_1970_gives_is_a_certificate_all_the_same() {
    let unset = |seconds: i64| -> Arc<dyn Clock> {
        Arc::new(SimulatedClock::start(WallTime::from_unix_millis(seconds * 1000)))
    };
    for seconds in [-5, 0, 600, 7200] {
        let clock = unset(seconds);
        let authority = Authority::make(&Entropy::system(), clock.now().wall).unwrap();
        let pki = Pki::new(vec![authority], clock, Arc::new(Entropy::seeded(1))).unwrap();
        let issued = pki.issue_user(cluster(), "ada", Role::Viewer).unwrap();
        let (_, validity) = Peer::from_certificate(&issued.chain[0]).unwrap();
        assert_eq!(validity.not_before, (seconds - 3600).max(0));
        // The library that reads it must be able to.
        let server = pki.issue_server(&[]).unwrap();
        let tls = crate::tls::Tls::new(server, &pki.authorities());
        assert!(tls.is_ok(), "{seconds}");
    }
}
