//! Why no connection came about, in one line that says what to do.

use std::io;

use rustls::CertificateError;

use crate::dial::ResolveFailed;

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no address to dial.
    #[error("no coordinator address is known")]
    NoAddress,
    /// An address is not `host:port`.
    #[error("{address:?} is not HOST:PORT")]
    BadAddress {
        /// As it was given.
        address: String,
    },
    /// The name has no address.
    #[error("cannot resolve {address}: {source}")]
    Resolve {
        /// As it was given.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The host is there; the port is not.
    #[error("nothing listens on {address}: is the coordinator running there?")]
    Refused {
        /// As it was given.
        address: String,
    },
    /// No answer within the time allowed.
    #[error("{address} does not answer: is the address right, and does a firewall let us through?")]
    TimedOut {
        /// As it was given.
        address: String,
    },
    /// The network refuses.
    #[error("cannot reach {address}: {source}")]
    Unreachable {
        /// As it was given.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Somebody is there, and it is not whom we trust.
    #[error("the coordinator at {address} is not the one the token or configuration is for")]
    NotTrusted {
        /// As it was given.
        address: String,
    },
    /// Somebody is there whose certificate is not valid on the date that it is here.
    #[error(
        "the certificate of the coordinator at {address} is not valid by this machine's clock: is \
         the date right here, and there? ({source})"
    )]
    Dates {
        /// As it was given.
        address: String,
        /// What was compared.
        source: io::Error,
    },
    /// The handshake failed in another way.
    #[error("TLS handshake with {address} failed: {source}")]
    Tls {
        /// As it was given.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Our own certificate and key do not fit together.
    #[error("this side's certificate or key cannot be used: {0}")]
    Identity(#[source] rustls::Error),
    /// The other side speaks TLS, but not HTTP/2.
    #[error("{address} does not speak HTTP/2: {source}")]
    Http2 {
        /// As it was given.
        address: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Several addresses were tried, each in vain.
    #[error("{}", join(.0))]
    Each(Vec<ConnectError>),
}

impl ConnectError {
    pub(crate) fn dialling(address: &str, error: io::Error) -> Self {
        let address = address.to_owned();
        let unresolved = error.get_ref().is_some_and(|inner| inner.is::<ResolveFailed>());
        match error.kind() {
            _ if unresolved => Self::Resolve { address, source: error },
            io::ErrorKind::ConnectionRefused => Self::Refused { address },
            io::ErrorKind::TimedOut => Self::TimedOut { address },
            _ => Self::Unreachable { address, source: error },
        }
    }

    pub(crate) fn handshake(address: &str, error: io::Error) -> Self {
        let address = address.to_owned();
        let not_ours = |certificate: &CertificateError| {
            matches!(
                certificate,
                CertificateError::UnknownIssuer
                    | CertificateError::BadSignature
                    | CertificateError::NotValidForName
                    | CertificateError::NotValidForNameContext { .. }
            )
        };
        let dates = |certificate: &CertificateError| {
            matches!(
                certificate,
                CertificateError::Expired
                    | CertificateError::ExpiredContext { .. }
                    | CertificateError::NotValidYet
                    | CertificateError::NotValidYetContext { .. }
            )
        };
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(reason)) if not_ours(reason) => {
                Self::NotTrusted { address }
            }
            Some(rustls::Error::InvalidCertificate(reason)) if dates(reason) => {
                Self::Dates { address, source: error }
            }
            _ => Self::Tls { address, source: error },
        }
    }

    /// Whether somebody was reached whom we do not trust: waiting does not mend it.
    pub fn is_not_trusted(&self) -> bool {
        match self {
            Self::NotTrusted { .. } => true,
            Self::Each(errors) => errors.iter().all(Self::is_not_trusted),
            _ => false,
        }
    }
}

fn join(errors: &[ConnectError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
