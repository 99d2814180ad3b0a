//! Certificate requests (PKCS#10, RFC 2986): only the public key in them counts, and whoever sends
//! one must hold its private half.

use everynode_model::Digest;
use rcgen::SubjectPublicKeyInfo;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use super::PkiError;

/// A request whose signature was checked.
#[derive(Clone, Debug)]
pub struct Request {
    key: SubjectPublicKeyInfo,
    digest: Digest,
}

/// Reads a request (DER) and checks that it is signed by the key in it.
///
/// # Errors
/// [`PkiError::BadRequest`], [`PkiError::NotItsKey`], [`PkiError::UnsupportedKey`].
pub fn read_request(der: &[u8]) -> Result<Request, PkiError> {
    let (rest, request) = X509CertificationRequest::from_der(der)
        .map_err(|error| PkiError::BadRequest { detail: error.to_string() })?;
    if !rest.is_empty() {
        return Err(PkiError::BadRequest { detail: "bytes after its end".into() });
    }
    request.verify_signature().map_err(|_| PkiError::NotItsKey)?;
    let raw = request.certification_request_info.subject_pki.raw;
    let key = SubjectPublicKeyInfo::from_der(raw).map_err(|_| PkiError::UnsupportedKey)?;
    Ok(Request { key, digest: Digest::of(raw) })
}

impl Request {
    /// SHA-256 of the public key (SubjectPublicKeyInfo, DER): who the sender is before it has a
    /// certificate, and what the node's record keeps.
    pub const fn public_key(&self) -> Digest {
        self.digest
    }

    pub(super) const fn key(&self) -> &SubjectPublicKeyInfo {
        &self.key
    }
}
