//! TLS as this server speaks it: 1.3 only, HTTP/2 only, client certificates optional.
//!
//! Any certificate of any authority this cluster ever had opens a connection, also an expired one:
//! what its holder may do then is decided per method ([`crate::auth`]), because a machine whose
//! certificate ran out while it was switched off must still be heard.

use std::sync::{Arc, PoisonError, RwLock};

use everynode_model::{Digest, WallTime};
use everynode_transport::{Peer, Validity, provider};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::pki::Issued;

/// Who is at the other end of a connection, as its certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Who.
    pub peer: Peer,
    /// Whether the certificate's time was over when the connection began.
    pub expired: bool,
    /// Its time.
    pub validity: Validity,
    /// SHA-256 of the certificate's public key (SubjectPublicKeyInfo, DER).
    pub public_key: Digest,
}

/// The server's side of TLS, exchangeable while connections are open; cheap to clone.
#[derive(Clone, Debug)]
pub struct Tls {
    current: Arc<RwLock<Arc<ServerConfig>>>,
}

/// Verifies client certificates, whatever their dates.
#[derive(Debug)]
struct Verifier {
    inner: Arc<dyn ClientCertVerifier>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Tls {
    /// Serves with `issued` and believes the certificates of `authorities`.
    ///
    /// # Errors
    /// When there is no authority, or the certificate and its key don't fit together.
    pub fn new(issued: Issued, authorities: &[CertificateDer<'static>]) -> Result<Self, Error> {
        let config = config(issued, authorities)?;
        Ok(Self { current: Arc::new(RwLock::new(config)) })
    }

    /// The same for connections that begin from now on.
    ///
    /// # Errors
    /// As [`Tls::new`]; all stays as it was then.
    pub fn replace(
        &self,
        issued: Issued,
        authorities: &[CertificateDer<'static>],
    ) -> Result<(), Error> {
        let config = config(issued, authorities)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// What a new connection is to use.
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The identity in a client's certificate that was verified in a handshake at `now`; `None` when it
/// is no identity of ours.
pub fn identity_of(certificate: &CertificateDer<'_>, now: WallTime) -> Option<PeerIdentity> {
    let (peer, validity) = Peer::from_certificate(certificate).ok()?;
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(PeerIdentity {
        peer,
        // One that is not valid yet passes: a clock set back here must not lock the fleet out.
        expired: validity.is_over(now),
        validity,
        public_key: Digest::of(parsed.tbs_certificate.subject_pki.raw),
    })
}

fn config(
    issued: Issued,
    authorities: &[CertificateDer<'static>],
) -> Result<Arc<ServerConfig>, Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(Verifier::new(authorities)?))
        .with_single_cert(issued.chain, issued.key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // No resumption: every connection is verified against the authorities of today, and thousands
    // of agents that rarely reconnect would only fill a cache.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

impl Verifier {
    fn new(authorities: &[CertificateDer<'static>]) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority.clone())?;
        }
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms;
        let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .allow_unauthenticated()
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { inner, algorithms })
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // None: a client has one identity for this cluster and need not be told which authorities
        // there are.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // As of the first moment at which it was valid; an authority's own dates are not looked at
        // by webpki, which takes it as an anchor.
        let began = not_before(end_entity)
            .ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        self.inner.verify_client_cert(end_entity, intermediates, began)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn not_before(certificate: &CertificateDer<'_>) -> Option<UnixTime> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let seconds = u64::try_from(parsed.validity().not_before.timestamp()).unwrap_or_default();
    Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SimulatedClock};
    use crate::entropy::Entropy;
    use crate::pki::{Authority, Pki};
    use everynode_model::ClusterId;
    use everynode_transport::Role;
    use std::time::Duration;

    const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);

    /// 2026-11-23.
    fn clock() -> Arc<dyn Clock> {
        Arc::new(SimulatedClock::start(WallTime::from_unix_millis(1_795_392_000_000)))
    }

    fn pki(clock: Arc<dyn Clock>) -> Pki {
        let entropy = Arc::new(Entropy::system());
        let authority = Authority::make(&entropy, clock.now().wall).unwrap();
        Pki::new(vec![authority], clock, entropy).unwrap()
    }

    fn user(pki: &Pki) -> CertificateDer<'static> {
        pki.issue_user(ClusterId::new(uuid::Uuid::nil()), "ada", Role::Viewer)
            .unwrap()
            .chain
            .remove(0)
    }

    fn verify(trusted: &[CertificateDer<'static>], leaf: &CertificateDer<'_>) -> bool {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1));
        Verifier::new(trusted).unwrap().verify_client_cert(leaf, &[], now).is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn dates_do_not_keep_a_certificate_out() {
        let clock = clock();
        let pki = pki(Arc::clone(&clock));
        let leaf = user(&pki);
        assert!(verify(&pki.authorities(), &leaf));
        assert!(!identity_of(&leaf, clock.now().wall).unwrap().expired);
        tokio::time::advance(YEAR).await;
        assert!(verify(&pki.authorities(), &leaf));
        assert!(identity_of(&leaf, clock.now().wall).unwrap().expired);
    }

    #[test]
    fn what_an_unset_clock_gave_is_never_over() {
        let unset: Arc<dyn Clock> = Arc::new(SimulatedClock::start(WallTime::default()));
        let pki = pki(unset);
        let leaf = user(&pki);
        assert!(verify(&pki.authorities(), &leaf));
        assert!(!identity_of(&leaf, clock().now().wall).unwrap().expired);
    }

    #[test]
    fn only_the_clusters_authorities_count_and_all_of_them() {
        let (ours, older, other) = (pki(clock()), pki(clock()), pki(clock()));
        let trusted = [ours.authorities(), older.authorities()].concat();
        assert!(verify(&trusted, &user(&ours)));
        assert!(verify(&trusted, &user(&older)));
        assert!(!verify(&trusted, &user(&other)));
    }

    #[test]
    fn a_servers_certificate_is_no_clients() {
        let pki = pki(clock());
        let server = pki.issue_server(&[]).unwrap().chain.remove(0);
        assert!(!verify(&pki.authorities(), &server));
        assert!(identity_of(&server, clock().now().wall).is_none());
    }
}
