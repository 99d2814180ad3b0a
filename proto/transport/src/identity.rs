//! Who a certificate says its holder is: one URI name of the scheme `everynode`.
//!
//! ```text
//!   everynode://<cluster>/node/<uid>
//!   everynode://<cluster>/user/<name>?role=admin|viewer
//! ```

use std::fmt;

use everynode_model::{ClusterId, NodeUid};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

const SCHEME: &str = "everynode://";
/// Longer names are nobody's; Kubernetes bounds names alike.
const MAX_USER_NAME: usize = 253;

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Admin,
    /// Read everything but secrets.
    Viewer,
}

/// Who holds a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A registered machine.
    Node {
        /// Of which cluster.
        cluster: ClusterId,
        /// Which one.
        uid: NodeUid,
    },
    /// A person or a program.
    User {
        /// Of which cluster.
        cluster: ClusterId,
        /// For the audit trail.
        name: String,
        /// What it may do.
        role: Role,
    },
}

/// When a certificate is valid, in seconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From then on.
    pub not_before: i64,
    /// Up to then.
    pub not_after: i64,
}

/// A text or certificate that names no peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdentity {
    /// The text is not one of the two forms.
    #[error("not an everynode identity: {0:?}")]
    Uri(String),
    /// The certificate can't be read.
    #[error("not an X.509 certificate")]
    Certificate,
    /// The certificate has no URI name of ours, or more than one.
    #[error("the certificate names {0} everynode identities instead of one")]
    Names(usize),
}

/// What a client shows of itself in the handshake.
pub struct ClientIdentity {
    /// Its certificate, then those that lead to a CA.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the first.
    pub key: PrivateKeyDer<'static>,
}

/// Text that holds no certificate or no key.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPem {
    /// There is no certificate in it.
    #[error("no certificate in the PEM text")]
    NoCertificate,
    /// A certificate can't be read.
    #[error("bad certificate in the PEM text: {0}")]
    Certificate(#[source] pem::Error),
    /// The key can't be read.
    #[error("bad private key in the PEM text: {0}")]
    Key(#[source] pem::Error),
}

impl Peer {
    /// The cluster it belongs to.
    pub const fn cluster(&self) -> ClusterId {
        match self {
            Self::Node { cluster, .. } | Self::User { cluster, .. } => *cluster,
        }
    }

    /// Its URI, as it stands in a certificate.
    pub fn to_uri(&self) -> String {
        match self {
            Self::Node { cluster, uid } => format!("{SCHEME}{cluster}/node/{uid}"),
            Self::User { cluster, name, role } => {
                format!("{SCHEME}{cluster}/user/{}?role={role}", encode(name))
            }
        }
    }

    /// The peer of a URI.
    ///
    /// # Errors
    /// [`InvalidIdentity::Uri`] for anything but what [`Peer::to_uri`] writes.
    pub fn parse_uri(uri: &str) -> Result<Self, InvalidIdentity> {
        let peer = parse(uri).ok_or_else(|| InvalidIdentity::Uri(uri.into()))?;
        // One identity has one spelling.
        if peer.to_uri() == uri { Ok(peer) } else { Err(InvalidIdentity::Uri(uri.into())) }
    }

    /// The peer a certificate (DER) names, and when it is valid. Verifies nothing else.
    ///
    /// # Errors
    /// When it is no certificate, or names none or several.
    pub fn from_certificate(der: &[u8]) -> Result<(Self, Validity), InvalidIdentity> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_| InvalidIdentity::Certificate)?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| InvalidIdentity::Certificate)?
            .map(|extension| extension.value.general_names.as_slice())
            .unwrap_or_default();
        let uris: Vec<&str> = names
            .iter()
            .filter_map(|name| match name {
                GeneralName::URI(uri) if uri.starts_with(SCHEME) => Some(*uri),
                _ => None,
            })
            .collect();
        match uris.as_slice() {
            [uri] => Ok((Self::parse_uri(uri)?, Validity::of(&certificate))),
            uris => Err(InvalidIdentity::Names(uris.len())),
        }
    }
}

impl Validity {
    /// When the certificate (DER) is valid, if it is one.
    pub fn of_der(der: &[u8]) -> Option<Self> {
        X509Certificate::from_der(der).ok().map(|(_, certificate)| Self::of(&certificate))
    }

    fn of(certificate: &X509Certificate<'_>) -> Self {
        Self {
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
        }
    }
}

impl ClientIdentity {
    /// From a PEM chain and a PEM key (PKCS#8, SEC1 or PKCS#1).
    ///
    /// # Errors
    /// When either can't be read.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, InvalidPem> {
        let key = PrivateKeyDer::from_pem_slice(key).map_err(InvalidPem::Key)?;
        Ok(Self { chain: certificates_from_pem(chain)?, key })
    }
}

impl Clone for ClientIdentity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdentity").field("chain", &self.chain.len()).finish_non_exhaustive()
    }
}

/// All certificates of a PEM text, in order.
///
/// # Errors
/// When there is none, or one can't be read.
pub fn certificates_from_pem(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, InvalidPem> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(InvalidPem::Certificate)?;
    if found.is_empty() { Err(InvalidPem::NoCertificate) } else { Ok(found) }
}

impl Role {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Viewer => "viewer",
        }
    }

    /// The role of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Admin, Self::Viewer].into_iter().find(|role| role.as_str() == word)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn parse(uri: &str) -> Option<Peer> {
    let (cluster, rest) = uri.strip_prefix(SCHEME)?.split_once('/')?;
    let cluster = cluster.parse().ok()?;
    match rest.split_once('/')? {
        ("node", uid) => Some(Peer::Node { cluster, uid: uid.parse().ok()? }),
        ("user", user) => {
            let (name, role) = user.split_once("?role=")?;
            let name = decode(name).filter(|name| (1..=MAX_USER_NAME).contains(&name.len()))?;
            Some(Peer::User { cluster, name, role: Role::from_word(role)? })
        }
        _ => None,
    }
}

/// RFC 3986 percent-encoding of all but unreserved characters and `@`.
fn encode(name: &str) -> String {
    use std::fmt::Write as _;
    name.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String can't fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    const CLUSTER: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

    fn user(name: &str) -> Peer {
        let cluster = CLUSTER.parse().unwrap();
        Peer::User { cluster, name: name.into(), role: Role::Viewer }
    }

    fn certificate(uris: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn uris_are_read_as_written() {
        let node = Peer::Node { cluster: CLUSTER.parse().unwrap(), uid: CLUSTER.parse().unwrap() };
        for peer in [node, user("alice@example.com"), user("böse/../?role=admin"), user("%41")] {
            assert_eq!(Peer::parse_uri(&peer.to_uri()), Ok(peer));
        }
    }

    #[test]
    fn nothing_else_is_an_identity() {
        for bad in [
            "",
            "https://x/node/y",
            "everynode://x/node/y",
            &format!("everynode://{CLUSTER}/node/{CLUSTER}/x"),
            &format!("everynode://{CLUSTER}/node/{}", CLUSTER.to_uppercase()),
            &format!("everynode://{CLUSTER}/user/?role=admin"),
            &format!("everynode://{CLUSTER}/user/a"),
            &format!("everynode://{CLUSTER}/user/a?role=root"),
            &format!("everynode://{CLUSTER}/user/%61?role=admin"),
            &format!("everynode://{CLUSTER}/user/a%?role=admin"),
        ] {
            assert!(Peer::parse_uri(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_certificate_names_exactly_one() {
        let (one, other) = (user("a").to_uri(), user("b").to_uri());
        let (peer, validity) = Peer::from_certificate(&certificate(&["https://x", &one])).unwrap();
        assert_eq!(peer, user("a"));
        assert!(validity.not_before < validity.not_after);
        let names = |uris: &[&str]| Peer::from_certificate(&certificate(uris));
        assert_eq!(names(&[]), Err(InvalidIdentity::Names(0)));
        assert_eq!(names(&[&one, &other]), Err(InvalidIdentity::Names(2)));
        assert_eq!(Peer::from_certificate(b"x"), Err(InvalidIdentity::Certificate));
    }

    #[test]
    fn pem_and_back() {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        let identity =
            ClientIdentity::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes())
                .unwrap();
        assert_eq!(identity.chain, [certificate.der().clone()]);
        assert!(matches!(certificates_from_pem(b""), Err(InvalidPem::NoCertificate)));
    }
}
