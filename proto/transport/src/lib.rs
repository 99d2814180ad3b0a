//! How a peer is reached and who it is: dialling, trust, and the identities in certificates.
//!
//! Read in this order: [`token`] (what a machine is given to join), [`identity`] (who a certificate
//! says its holder is), [`verify`] (whom a dialling side believes), [`dial`] (bytes to an address;
//! a simulation puts its own network here), [`channel`] (all of them together).
//!
//! There is TLS 1.3 and nothing else, with ring as the only provider, always named and never the
//! process' default.

pub mod channel;
pub mod dial;
pub mod identity;
pub mod token;
pub mod verify;

mod error;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use channel::{Connected, Options, connect};
pub use dial::{Dial, Io, TcpDial};
pub use error::ConnectError;
pub use identity::{ClientIdentity, Peer, Role, Validity};
pub use token::JoinToken;
pub use verify::{Trust, is_plausible};

/// The DNS name in every coordinator's certificate. Clients verify against this name and no other,
/// so a coordinator may be reached by any address.
pub const SERVER_NAME: &str = "everynode-coordinator";

/// The one provider of cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
