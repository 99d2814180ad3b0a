//! One connection to one coordinator, with no hidden life of its own.
//!
//! A [`Channel`] made here never dials again: when its connection ends, calls on it fail, and whoever
//! holds it decides when to connect anew. Otherwise nobody could say how often a fleet dials.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everynode_model::WallTime;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use crate::dial::{Dial, Io};
use crate::error::ConnectError;
use crate::identity::ClientIdentity;
use crate::verify::{Trust, Verifier, is_authority};
use crate::{SERVER_NAME, provider};

/// How a connection is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// For dialling, handshake and HTTP/2 together, per address.
    pub connect_timeout: Duration,
    /// How often the other side is pinged; a ping unanswered for as long ends the connection.
    pub keepalive: Duration,
    /// The date by which certificates are looked at; without one, the machine's.
    pub date: Option<WallTime>,
}

/// A new connection.
#[derive(Debug)]
pub struct Connected {
    /// For calls. It never reconnects.
    pub channel: Channel,
    /// The CA certificates in the chain that the coordinator showed.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Which address it was.
    pub address: String,
}

impl Default for Options {
    fn default() -> Self {
        let (connect_timeout, keepalive) = (Duration::from_secs(10), Duration::from_secs(20));
        Self { connect_timeout, keepalive, date: None }
    }
}

/// Connects to the first of `addresses` (each `host:port`) that answers and is trusted.
///
/// # Errors
/// When none does; one line for each.
pub async fn connect(
    dial: &dyn Dial,
    addresses: &[String],
    trust: &Trust,
    identity: Option<&ClientIdentity>,
    options: Options,
) -> Result<Connected, ConnectError> {
    let tls = TlsConnector::from(Arc::new(client_config(trust, identity, options.date)?));
    let mut failed = Vec::new();
    for address in addresses {
        let timed = tokio::time::timeout(options.connect_timeout, async {
            let stream = handshake(dial, address, &tls).await?;
            over(stream, address, options).await
        });
        match timed.await {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(error)) => failed.push(error),
            Err(_) => failed.push(ConnectError::TimedOut { address: address.clone() }),
        }
    }
    match failed.len() {
        0 => Err(ConnectError::NoAddress),
        1 => Err(failed.remove(0)),
        _ => Err(ConnectError::Each(failed)),
    }
}

/// TLS as a client of this system speaks it: 1.3, HTTP/2, and a certificate of its own or none; by
/// the machine's clock where no `date` is given.
///
/// # Errors
/// When the certificate and the key do not fit together.
pub fn client_config(
    trust: &Trust,
    identity: Option<&ClientIdentity>,
    date: Option<WallTime>,
) -> Result<ClientConfig, ConnectError> {
    let provider = provider();
    let verifier = Verifier::new(trust.clone(), date, Arc::clone(&provider));
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(ConnectError::Identity)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some(identity) => builder
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(ConnectError::Identity)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    // One handshake per connection: there is nothing to resume with a configuration used once.
    config.resumption = Resumption::disabled();
    Ok(config)
}

type Stream = TlsStream<Box<dyn Io>>;

async fn handshake(
    dial: &dyn Dial,
    address: &str,
    tls: &TlsConnector,
) -> Result<Stream, ConnectError> {
    if !is_host_and_port(address) {
        return Err(ConnectError::BadAddress { address: address.into() });
    }
    let io = dial.dial(address).await.map_err(|error| ConnectError::dialling(address, error))?;
    let failed = |error| ConnectError::handshake(address, error);
    let name =
        ServerName::try_from(SERVER_NAME).map_err(|error| failed(io::Error::other(error)))?;
    tls.connect(name, io).await.map_err(failed)
}

async fn over(stream: Stream, address: &str, options: Options) -> Result<Connected, ConnectError> {
    let (_, session) = stream.get_ref();
    let http2 = |source| ConnectError::Http2 { address: address.into(), source };
    if session.alpn_protocol() != Some(b"h2") {
        return Err(http2("it did not choose h2 in the handshake".into()));
    }
    let shown = session.peer_certificates().unwrap_or_default();
    let authorities = shown.iter().filter(|der| is_authority(der)).cloned().collect();
    // Handed out once; every later dial that tonic thinks of is refused.
    let once = Mutex::new(Some(TokioIo::new(stream)));
    let connector = tower::service_fn(move |_: Uri| {
        let stream = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        std::future::ready(stream.ok_or_else(|| io::Error::other("the connection has ended")))
    });
    let channel = endpoint(options).connect_with_connector(connector).await;
    let channel = channel.map_err(|error| http2(Box::new(error)))?;
    Ok(Connected { channel, authorities, address: address.into() })
}

fn endpoint(options: Options) -> Endpoint {
    // The connector makes the connection; the URI is what requests say of it. Its scheme tells
    // tonic that it need not do TLS, and `origin` tells the other side that it was done.
    Endpoint::from_static("http://everynode-coordinator")
        .origin(Uri::from_static("https://everynode-coordinator"))
        .http2_keep_alive_interval(options.keepalive)
        .keep_alive_timeout(options.keepalive)
        .keep_alive_while_idle(true)
}

fn is_host_and_port(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_fits = match bare {
        Some(bare) => bare.contains(':'),
        None => !host.is_empty() && !host.contains([':', '/', '[', ']', ' ', '@']),
    };
    host_fits && port.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
mod tests;
