//! TLS to whoever answers: as the kubelet, a probe asks whether somebody serves, and not who.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Makes such connections.
#[derive(Clone)]
pub(super) struct Trusting(Option<TlsConnector>);

impl Trusting {
    pub(super) fn new() -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let anybody = Arc::new(Anybody(Arc::clone(&provider)));
        // It fails only for a provider that has none of the versions.
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .ok()
            .map(|builder| builder.dangerous().with_custom_certificate_verifier(anybody));
        Self(config.map(|config| Arc::new(config.with_no_client_auth()).into()))
    }

    /// # Errors
    /// When the other side does not speak it.
    pub(super) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<Noted>, TlsError> {
        let connector = self.0.as_ref().ok_or_else(|| io::Error::other("no TLS here"))?;
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let noted = Noted { stream, first: Vec::new() };
        let connected = connector.connect(name, noted).into_fallible().await;
        connected.map_err(|(error, noted)| match noted.first.as_slice() {
            HTTP => TlsError::Http,
            _ => TlsError::Io(error),
        })
    }
}

/// How an answer in plain HTTP begins.
const HTTP: &[u8] = b"HTTP/";

/// Why there is no secure connection.
#[derive(Debug)]
pub(super) enum TlsError {
    /// The other side speaks plain HTTP.
    Http,
    Io(io::Error),
}

impl From<io::Error> for TlsError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A connection that notes how what comes over it begins.
pub(super) struct Noted {
    stream: TcpStream,
    first: Vec<u8>,
}

impl AsyncRead for Noted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let missing = HTTP.len() - self.first.len();
        self.first.extend(buffer.filled()[before..].iter().take(missing));
        polled
    }
}

impl AsyncWrite for Noted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
