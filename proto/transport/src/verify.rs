//! Whom a dialling side believes: a coordinator of a CA it knows, under the one server name.

use std::sync::Arc;

use everynode_model::{Digest, WallTime};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use crate::identity::Validity;

/// 2026-01-01T00:00:00Z, in seconds since 1970. This program is younger, so a clock before that is
/// wrong, and so was one by which a certificate ended before that.
const FIRST_PLAUSIBLE: i64 = 1_767_225_600;

/// Which coordinators are believed.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Those with a certificate of one of these CAs.
    Authorities(Vec<CertificateDer<'static>>),
    /// Those that show a CA certificate with this SHA-256, and have one of that CA: all that a
    /// machine with nothing but a join token knows.
    Digest(Digest),
}

/// [`Trust`] as rustls asks for it.
///
/// Where a clock is implausible, dates don't count: the CA does. A board without a battery wakes in
/// 1970, and a certificate that ended long before this program was written was made by one. It is
/// looked at as of the moment at which it began to be valid.
#[derive(Debug)]
pub struct Verifier {
    trust: Trust,
    /// The date to go by; without one, the machine's.
    date: Option<WallTime>,
    provider: Arc<CryptoProvider>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    /// A verifier that believes as `trust` says, on that `date`, or else by the machine's clock.
    pub fn new(trust: Trust, date: Option<WallTime>, provider: Arc<CryptoProvider>) -> Self {
        let algorithms = provider.signature_verification_algorithms;
        Self { trust, date, provider, algorithms }
    }

    /// As of when a certificate is looked at.
    fn moment(&self, shown: &CertificateDer<'_>, now: UnixTime) -> UnixTime {
        let now = self.date.map_or(now, |date| since_1970(date.unix_millis.div_euclid(1000)));
        let plausible = i64::try_from(now.as_secs()).is_ok_and(|now| now >= FIRST_PLAUSIBLE);
        match Validity::of_der(shown) {
            Some(validity) if !(plausible && validity.is_plausible()) => {
                since_1970(validity.not_before)
            }
            _ => now,
        }
    }

    fn roots(&self, shown: &[&CertificateDer<'_>]) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        match &self.trust {
            Trust::Authorities(authorities) => {
                for authority in authorities {
                    roots.add(authority.clone())?;
                }
            }
            Trust::Digest(digest) => {
                let pinned = shown
                    .iter()
                    .find(|der| Digest::of(der) == *digest && is_authority(der))
                    .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
                roots.add((**pinned).clone().into_owned())?;
            }
        }
        Ok(roots)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown: Vec<_> = std::iter::once(end_entity).chain(intermediates).collect();
        let now = self.moment(end_entity, now);
        WebPkiServerVerifier::builder_with_provider(
            Arc::new(self.roots(&shown)?),
            Arc::clone(&self.provider),
        )
        .build()
        // Only an empty root store is refused: nothing is trusted then.
        .map_err(|_| Error::InvalidCertificate(CertificateError::UnknownIssuer))?
        .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
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

/// Whether this is a CA's certificate.
pub(crate) fn is_authority(der: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, certificate)| certificate.is_ca())
}

/// Whether a clock that shows this can be right.
pub fn is_plausible(date: WallTime) -> bool {
    date.unix_millis.div_euclid(1000) >= FIRST_PLAUSIBLE
}

impl Validity {
    /// Whether it was given by a clock that can have been right.
    pub const fn is_plausible(&self) -> bool {
        self.not_after >= FIRST_PLAUSIBLE
    }

    /// Whether its time was over on that date. What an unset clock gave says nothing of time.
    pub const fn is_over(&self, date: WallTime) -> bool {
        self.is_plausible() && self.not_after < date.unix_millis.div_euclid(1000)
    }
}

/// A date before 1970 is 1970's first moment: no certificate knows an earlier one.
fn since_1970(seconds: i64) -> UnixTime {
    let seconds = u64::try_from(seconds).unwrap_or_default();
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SERVER_NAME, provider};
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

    struct Ca {
        der: CertificateDer<'static>,
        issuer: Issuer<'static, KeyPair>,
    }

    fn ca() -> Ca {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2099, 1, 1);
        let der = params.self_signed(&key).unwrap().der().clone();
        Ca { der, issuer: Issuer::new(params, key) }
    }

    fn server(ca: &Ca, name: &str, until: i32) -> CertificateDer<'static> {
        dated(ca, name, (2026, until))
    }

    fn dated(ca: &Ca, name: &str, (from, until): (i32, i32)) -> CertificateDer<'static> {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(from, 2, 1);
        params.not_after = date_time_ymd(until, 3, 1);
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, &ca.issuer).unwrap().der().clone()
    }

    fn verify(
        trust: Trust,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        year: u64,
    ) -> Result<(), Error> {
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        // The middle of that year.
        let seconds = (year - 1970) * 31_556_952 + 15_000_000;
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let by_the_machine = Verifier::new(trust.clone(), None, provider());
        let verdict = by_the_machine.verify_server_cert(leaf, rest, &name, &[], now).map(|_| ());
        // A date that is given counts alone.
        let date = WallTime::from_unix_millis(i64::try_from(seconds).unwrap() * 1000);
        let given = Verifier::new(trust, Some(date), provider());
        let other = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1));
        let same = given.verify_server_cert(leaf, rest, &name, &[], other).map(|_| ());
        assert_eq!(same, verdict);
        verdict
    }

    fn digest(ca: &Ca) -> Trust {
        Trust::Digest(Digest::of(&ca.der))
    }

    fn known(ca: &Ca) -> Trust {
        Trust::Authorities(vec![ca.der.clone()])
    }

    /// The CAs made here share one name, so another's leaf looks badly signed.
    fn unknown(result: &Result<(), Error>) -> bool {
        use CertificateError::{BadSignature, UnknownIssuer};
        matches!(result, Err(Error::InvalidCertificate(UnknownIssuer | BadSignature)))
    }

    #[test]
    fn the_right_ca_is_believed_and_no_other() {
        let (ours, other) = (ca(), ca());
        let leaf = server(&ours, SERVER_NAME, 2040);
        let chain = [ours.der.clone()];
        assert_eq!(verify(digest(&ours), &leaf, &chain, 2030), Ok(()));
        assert_eq!(verify(known(&ours), &leaf, &[], 2030), Ok(()));
        assert!(unknown(&verify(digest(&other), &leaf, &chain, 2030)));
        assert!(unknown(&verify(known(&other), &leaf, &chain, 2030)));
        assert!(unknown(&verify(Trust::Authorities(vec![]), &leaf, &chain, 2030)));
    }

    #[test]
    fn showing_the_pinned_ca_is_not_enough() {
        let (ours, other) = (ca(), ca());
        let forged = server(&other, SERVER_NAME, 2040);
        let chain = [ours.der.clone(), other.der.clone()];
        assert!(verify(digest(&ours), &forged, &chain, 2030).is_err());
    }

    #[test]
    fn a_pinned_certificate_that_is_no_ca_pins_nothing() {
        let ours = ca();
        let leaf = server(&ours, SERVER_NAME, 2040);
        let trust = Trust::Digest(Digest::of(&leaf));
        assert!(unknown(&verify(trust, &leaf, std::slice::from_ref(&ours.der), 2030)));
    }

    #[test]
    fn another_name_is_another_server() {
        let ours = ca();
        let leaf = server(&ours, "everynode-other", 2040);
        assert!(verify(known(&ours), &leaf, &[], 2030).is_err());
    }

    #[test]
    fn dates_count_unless_the_clock_is_implausible() {
        let ours = ca();
        let chain = [ours.der.clone()];
        let leaf = server(&ours, SERVER_NAME, 2028);
        assert!(verify(known(&ours), &leaf, &chain, 2030).is_err());
        assert_eq!(verify(known(&ours), &leaf, &chain, 1970), Ok(()));
        let other = ca();
        assert!(unknown(&verify(known(&other), &leaf, &chain, 1970)));
    }

    #[test]
    fn a_coordinator_whose_clock_was_never_set_is_known_by_its_ca() {
        let ours = ca();
        let leaf = dated(&ours, SERVER_NAME, (1970, 1971));
        for year in [1970, 1971, 2026, 2050] {
            assert_eq!(verify(known(&ours), &leaf, &[], year), Ok(()), "{year}");
            assert!(unknown(&verify(known(&ca()), &leaf, &[], year)), "{year}");
        }
    }
}
