//! The cluster's certificate authority: who signs, what is signed, and for how long.
//!
//! A cluster has one authority to begin with and may come to have more; the newest signs, all of
//! them are trusted. This module does no I/O: [`store`] keeps the authorities, and who may have a
//! certificate was decided before anything here is called.

mod authority;
mod renewal;
mod request;
pub mod store;

use std::sync::Arc;
use std::time::Duration;

use everynode_model::{ClusterId, Digest, NodeUid};
use everynode_transport::{Peer, Role, SERVER_NAME};
use rcgen::{ExtendedKeyUsagePurpose, KeyPair, SanType};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

pub use authority::Authority;
pub use renewal::renew_in;
pub use request::{Request, read_request};

use self::authority::{LEAF_LASTS, Leaf};
use crate::clock::Clock;
use crate::entropy::Entropy;

/// All authorities of one cluster; cheap to clone.
#[derive(Clone)]
pub struct Pki {
    inner: Arc<Inner>,
}

struct Inner {
    /// The one that signs.
    newest: Authority,
    /// The ones before it.
    older: Vec<Authority>,
    clock: Arc<dyn Clock>,
    entropy: Arc<Entropy>,
}

/// A certificate with the key that it is for.
pub struct Issued {
    /// The certificate, then the authority's.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
}

/// Why no certificate was made, or a stored authority can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The bytes are no PKCS#10 request.
    #[error("the certificate request can't be read: {detail}")]
    BadRequest {
        /// What was found.
        detail: String,
    },
    /// Whoever sent the request does not hold the key in it.
    #[error("the certificate request is not signed by its own key")]
    NotItsKey,
    /// The key is of a kind that is not used here.
    #[error("the certificate request's key is of an unsupported kind: use ECDSA P-256")]
    UnsupportedKey,
    /// A name that can't be written into a certificate.
    #[error("{name:?} can't be written into a certificate")]
    BadName {
        /// The name.
        name: String,
    },
    /// The date is beyond what certificates can say.
    #[error("the clock is at an impossible date: set it")]
    BadDate,
    /// There is no authority.
    #[error("the store has a cluster and no certificate authority: restore a backup")]
    NoAuthority,
    /// The crypto library refused.
    #[error("making a certificate failed")]
    Crypto(#[from] rcgen::Error),
    /// No random serial number.
    #[error("making a certificate failed")]
    NoEntropy(#[from] crate::entropy::NoEntropy),
}

impl Pki {
    /// The authorities of a cluster, oldest first.
    ///
    /// # Errors
    /// [`PkiError::NoAuthority`] when there is none.
    pub fn new(
        mut authorities: Vec<Authority>,
        clock: Arc<dyn Clock>,
        entropy: Arc<Entropy>,
    ) -> Result<Self, PkiError> {
        let newest = authorities.pop().ok_or(PkiError::NoAuthority)?;
        Ok(Self { inner: Arc::new(Inner { newest, older: authorities, clock, entropy }) })
    }

    /// Certificates of every authority this cluster ever had, the signing one first.
    pub fn authorities(&self) -> Vec<CertificateDer<'static>> {
        let all = std::iter::once(&self.inner.newest).chain(&self.inner.older);
        all.map(|authority| authority.certificate().clone()).collect()
    }

    /// SHA-256 of the signing authority's certificate: what a join token pins.
    pub fn digest(&self) -> Digest {
        Digest::of(self.inner.newest.certificate())
    }

    /// A node's certificate for the key in its request (PKCS#10, DER), valid for so long from now
    /// on; nothing else in the request counts. The chain is the node's certificate, then the
    /// authority's.
    ///
    /// # Errors
    /// When the request can't be read or isn't signed by its own key.
    pub fn issue_node(
        &self,
        request: &[u8],
        cluster: ClusterId,
        uid: NodeUid,
        lasts: Duration,
    ) -> Result<Vec<CertificateDer<'static>>, PkiError> {
        let request = read_request(request)?;
        let leaf = Leaf {
            common_name: format!("node {uid}"),
            names: vec![uri(&Peer::Node { cluster, uid })?],
            usage: ExtendedKeyUsagePurpose::ClientAuth,
            lasts: lasts.try_into().map_err(|_| PkiError::BadDate)?,
        };
        self.sign(leaf, request.key())
    }

    /// A user's certificate with a new key.
    ///
    /// # Errors
    /// When the name can't be written into a certificate, or the crypto library refuses.
    pub fn issue_user(
        &self,
        cluster: ClusterId,
        name: &str,
        role: Role,
    ) -> Result<Issued, PkiError> {
        let peer = Peer::User { cluster, name: name.to_owned(), role };
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        let (common_name, names) = (name.to_owned(), vec![uri(&peer)?]);
        self.issue(Leaf { common_name, names, usage, lasts: LEAF_LASTS })
    }

    /// The coordinator's own certificate with a new key that is kept in memory only: for
    /// [`SERVER_NAME`], which clients verify, and for `hosts` (names and addresses), which other
    /// tools may.
    ///
    /// # Errors
    /// When a host can't be written into a certificate, or the crypto library refuses.
    pub fn issue_server(&self, hosts: &[String]) -> Result<Issued, PkiError> {
        let mut names = vec![dns(SERVER_NAME)?];
        for host in hosts {
            let name = match host.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => dns(host)?,
            };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        self.issue(Leaf { common_name: SERVER_NAME.into(), names, usage, lasts: LEAF_LASTS })
    }

    fn issue(&self, leaf: Leaf) -> Result<Issued, PkiError> {
        let key = KeyPair::generate()?;
        let chain = self.sign(leaf, &key)?;
        Ok(Issued { chain, key: PrivatePkcs8KeyDer::from(key.serialize_der()).into() })
    }

    fn sign(
        &self,
        leaf: Leaf,
        key: &impl rcgen::PublicKeyData,
    ) -> Result<Vec<CertificateDer<'static>>, PkiError> {
        let authority = &self.inner.newest;
        let (serial, now) = (self.inner.entropy.uuid()?, self.inner.clock.now().wall);
        let certificate = authority.sign(leaf, key, serial, now)?;
        Ok(vec![certificate, authority.certificate().clone()])
    }
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki").field("newest", &self.inner.newest).finish_non_exhaustive()
    }
}

fn uri(peer: &Peer) -> Result<SanType, PkiError> {
    let uri = peer.to_uri();
    uri.as_str().try_into().map(SanType::URI).map_err(|_| PkiError::BadName { name: uri.clone() })
}

fn dns(name: &str) -> Result<SanType, PkiError> {
    name.try_into().map(SanType::DnsName).map_err(|_| PkiError::BadName { name: name.to_owned() })
}

#[cfg(test)]
mod tests;
