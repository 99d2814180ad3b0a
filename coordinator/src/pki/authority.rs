//! One certificate authority: its making, its stored form, and its signature.

use everynode_model::WallTime;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::PkiError;
use crate::entropy::Entropy;

/// How far back certificates begin: clocks of machines that have just booted are often minutes
/// behind, and an hour hides nothing worth hiding.
pub(super) const BACKDATED: Duration = Duration::hours(1);

/// How long a user's or the coordinator's certificate lasts.
pub(super) const LEAF_LASTS: Duration = Duration::days(365);

/// How long an authority lasts. Our own checks do not look at its dates (a token pins its digest);
/// other tools do.
const AUTHORITY_LASTS: Duration = Duration::days(20 * 365);

/// A certificate authority with its key.
pub struct Authority {
    certificate: CertificateDer<'static>,
    serial: String,
    issuer: Issuer<'static, KeyPair>,
}

/// What a certificate says of whom it is for.
pub(super) struct Leaf {
    /// For people who look at it.
    pub(super) common_name: String,
    /// Who it is, for programs.
    pub(super) names: Vec<SanType>,
    /// Client or server.
    pub(super) usage: ExtendedKeyUsagePurpose,
    /// For how long, from now on.
    pub(super) lasts: Duration,
}

impl Authority {
    /// A new one, with a new ECDSA P-256 key.
    ///
    /// # Errors
    /// When the crypto library refuses, or the clock is at an impossible date.
    pub fn make(entropy: &Entropy, now: WallTime) -> Result<Self, PkiError> {
        let key = KeyPair::generate()?;
        let serial = entropy.uuid()?;
        let mut params = params(now, AUTHORITY_LASTS, serial.as_bytes())?;
        // The serial is in the name too, so that two authorities of one cluster have two names.
        params.distinguished_name = named(&format!("everynode {}", serial.simple()));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        let certificate = params.self_signed(&key)?.der().clone();
        Self::with_key(certificate, key)
    }

    /// A stored one, from its certificate (DER) and its key (PKCS#8, DER).
    ///
    /// # Errors
    /// When either can't be read.
    pub fn load(certificate: Vec<u8>, key: Vec<u8>) -> Result<Self, PkiError> {
        let key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(key))?;
        Self::with_key(CertificateDer::from(certificate), key)
    }

    /// Its certificate.
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its private key (PKCS#8, DER), for storing.
    pub fn key(&self) -> &[u8] {
        self.issuer.key().serialized_der()
    }

    /// Its serial number in hexadecimal digits: the name it is stored under.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// A certificate for `key`.
    pub(super) fn sign(
        &self,
        leaf: Leaf,
        key: &impl PublicKeyData,
        serial: Uuid,
        now: WallTime,
    ) -> Result<CertificateDer<'static>, PkiError> {
        let mut params = params(now, leaf.lasts, serial.as_bytes())?;
        params.distinguished_name = named(&leaf.common_name);
        params.subject_alt_names = leaf.names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![leaf.usage];
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(key, &self.issuer)?.der().clone())
    }

    fn with_key(certificate: CertificateDer<'static>, key: KeyPair) -> Result<Self, PkiError> {
        let serial = serial_of(&certificate)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self { certificate, serial, issuer })
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("serial", &self.serial).finish_non_exhaustive()
    }
}

fn params(now: WallTime, lasts: Duration, serial: &[u8]) -> Result<CertificateParams, PkiError> {
    let now = OffsetDateTime::from_unix_timestamp(now.unix_millis.div_euclid(1000))
        .map_err(|_| PkiError::BadDate)?;
    let mut params = CertificateParams::default();
    // No verifier reads a date before 1970, where a clock that was never set begins.
    let now = now.max(OffsetDateTime::UNIX_EPOCH);
    params.not_before = now.saturating_sub(BACKDATED).max(OffsetDateTime::UNIX_EPOCH);
    params.not_after = now.checked_add(lasts).ok_or(PkiError::BadDate)?;
    params.serial_number = Some(SerialNumber::from_slice(serial));
    Ok(params)
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn serial_of(certificate: &[u8]) -> Result<String, PkiError> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|_| PkiError::Crypto(rcgen::Error::CouldNotParseCertificate))?;
    Ok(format!("{:032x}", parsed.tbs_certificate.serial))
}
