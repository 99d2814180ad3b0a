//! One file over HTTP: TLS by the machine's own certificate authorities, redirects, and from any byte
//! on.
//!
//! The digest proves the content, whoever served it. So a mirror may be reached without TLS; a
//! template can't name such an address. Who asks is told to nobody but the host that was meant, and
//! never without TLS.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use everynode_transport::{Dial as _, Io, TcpDial};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, HOST, LOCATION, RANGE,
    USER_AGENT, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// As many as curl and containerd follow at least; a file's home is one or two away.
const REDIRECTS: usize = 10;
/// For a name, a connection and TLS.
const CONNECTS_WITHIN: Duration = Duration::from_secs(20);
/// For the answer to begin, and then for each further part of it.
const SILENT_WITHIN: Duration = Duration::from_secs(30);

/// Why a file did not come.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// The address is none that can be asked.
    #[error("{0} can't be asked for a file")]
    Address(String),
    /// Nobody is trusted.
    #[error("--artifact-ca {path}: {why}")]
    Trust { path: String, why: String },
    /// Nobody answers there.
    #[error("{address}: {source}")]
    Connect { address: String, source: io::Error },
    /// The connection broke.
    #[error("{address}: {line}")]
    Broken { address: String, line: String },
    /// It answers that it has none.
    #[error("{address}: {status}")]
    Refused { address: String, status: StatusCode },
    /// It does not believe who asks.
    #[error("{address}: unauthorized: {line}")]
    Unauthorized { address: String, line: String },
    /// It leads nowhere.
    #[error("{address}: redirected more than {REDIRECTS} times, or away from TLS")]
    Redirects { address: String },
}

/// What dials out.
#[derive(Clone)]
pub(super) struct Client {
    tls: TlsConnector,
}

/// What is asked for.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    /// Where.
    pub(super) address: &'a str,
    /// In which forms, where there is a choice.
    pub(super) accept: Option<&'a str>,
    /// Who asks: told to the host of `address` alone, and to that only by TLS.
    pub(super) authorization: Option<&'a str>,
}

/// What was answered at the place where it is.
pub(super) struct Answer {
    uri: Uri,
    from: u64,
    response: Response<Incoming>,
    /// Whether another host than that of the address has answered.
    led_away: bool,
}

/// A file on its way.
pub(super) struct Coming {
    address: String,
    body: Incoming,
    /// Where in the file it begins: 0 where the server did not go on from where it was asked to.
    pub(super) from: u64,
    /// How long the whole file is, if that was said.
    pub(super) length: Option<u64>,
}

impl Client {
    /// One that trusts whom this machine trusts, and the authorities in the file `ca`. Made for each
    /// fetch: certificates change, and most agents never need them.
    ///
    /// Reads files.
    pub(super) fn new(ca: Option<&Path>) -> Result<Self, FetchError> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = ca {
            let trust = |why: String| FetchError::Trust { path: path.display().to_string(), why };
            let own = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| trust(error.to_string()))?;
            if roots.add_parsable_certificates(own).0 == 0 {
                return Err(trust("no certificate is in it".into()));
            }
        }
        let config = rustls::ClientConfig::builder_with_provider(everynode_transport::provider())
            .with_safe_default_protocol_versions()
            // Never: the provider has all of them.
            .map_err(|error| FetchError::Address(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Asks for a file from byte `from` on, wherever it has gone.
    pub(super) async fn get(&self, address: &str, from: u64) -> Result<Coming, FetchError> {
        let ask = Ask { address, accept: None, authorization: None };
        self.ask(ask, from).await?.coming()
    }

    /// The same, and whatever is answered.
    pub(super) async fn ask(&self, ask: Ask<'_>, from: u64) -> Result<Answer, FetchError> {
        let no_address = || FetchError::Address(ask.address.to_owned());
        let first: Uri = ask.address.parse().map_err(|_| no_address())?;
        let (mut uri, mut led_away) = (first.clone(), false);
        for _ in 0..=REDIRECTS {
            let is_told = !led_away && uri.scheme_str() == Some("https");
            let authorization = ask.authorization.filter(|_| is_told);
            let response = self.once(&uri, Ask { authorization, ..ask }, from).await?;
            if !response.status().is_redirection() {
                return Ok(Answer { uri, from, response, led_away });
            }
            uri = redirected(&uri, response.headers())
                .ok_or_else(|| FetchError::Redirects { address: ask.address.to_owned() })?;
            // For good: whoever leads away may lead back with a question of its own.
            led_away |= (uri.scheme(), uri.authority()) != (first.scheme(), first.authority());
        }
        Err(FetchError::Redirects { address: ask.address.to_owned() })
    }

    async fn once(
        &self,
        uri: &Uri,
        ask: Ask<'_>,
        from: u64,
    ) -> Result<Response<Incoming>, FetchError> {
        let address = shown(uri);
        let no_address = || FetchError::Address(address.clone());
        let authority = uri.authority().ok_or_else(no_address)?;
        let secure = uri.scheme_str() == Some("https");
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let connecting = self.connect(authority.host(), port, secure);
        let connected = timeout(CONNECTS_WITHIN, connecting).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream =
            connected.map_err(|source| FetchError::Connect { address: address.clone(), source })?;
        let broken = |line: String| FetchError::Broken { address: address.clone(), line };
        let made = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = made.map_err(|error| broken(error.to_string()))?;
        // Ends with the answer, or when that is dropped.
        tokio::spawn(connection);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::get(path)
            .header(HOST, authority.as_str())
            .header(ACCEPT_ENCODING, "identity")
            .header(USER_AGENT, concat!("everynode-agent/", env!("CARGO_PKG_VERSION")));
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        if let Some(accept) = ask.accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some(authorization) = ask.authorization {
            // Not to be repeated in an error.
            let value = HeaderValue::from_str(authorization);
            let mut value = value.map_err(|_| broken("credentials that can't be sent".into()))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let request =
            request.body(Empty::<Bytes>::new()).map_err(|error| broken(error.to_string()))?;
        let answer = timeout(SILENT_WITHIN, sender.send_request(request)).await;
        let answer = answer.map_err(|_| broken("no answer".into()))?;
        answer.map_err(|error| broken(error.to_string()))
    }

    async fn connect(&self, host: &str, port: u16, secure: bool) -> io::Result<Box<dyn Io>> {
        let stream = TcpDial.dial(&format!("{host}:{port}")).await?;
        if !secure {
            return Ok(stream);
        }
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        Ok(Box::new(self.tls.connect(name, stream).await?))
    }
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// How the host that was asked wants to know who asks; nothing of another, to which it led.
    pub(super) fn challenges(&self) -> impl Iterator<Item = &str> {
        let values = self.response.headers().get_all(WWW_AUTHENTICATE).iter();
        values.filter(|_| !self.led_away).filter_map(|value| value.to_str().ok())
    }

    /// The file, if that is what was answered.
    pub(super) fn coming(self) -> Result<Coming, FetchError> {
        coming(&self.uri, self.from, self.response)
    }
}

impl Coming {
    /// All of it, up to `max` bytes: something small, which comes within the time for one part.
    pub(super) async fn all(mut self, max: usize) -> Result<Vec<u8>, FetchError> {
        let gathered = timeout(SILENT_WITHIN, self.gather(max)).await;
        gathered.unwrap_or_else(|_| Err(self.broken("too slow".into())))
    }

    async fn gather(&mut self, max: usize) -> Result<Vec<u8>, FetchError> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next().await? {
            if all.len().saturating_add(bytes.len()) > max {
                return Err(self.broken(format!("more than {max} bytes")));
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }

    /// The next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            let frame = timeout(SILENT_WITHIN, self.body.frame()).await;
            match frame.map_err(|_| self.broken("nothing came any more".into()))? {
                None => return Ok(None),
                Some(Err(error)) => return Err(self.broken(error.to_string())),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// That it came to nothing.
    pub(super) fn broken(&self, line: String) -> FetchError {
        FetchError::Broken { address: self.address.clone(), line }
    }
}

/// An address for people. What is in a query may be what lets in whoever has it.
fn shown(uri: &Uri) -> String {
    let whole = uri.to_string();
    match whole.split_once('?') {
        Some((address, _)) => format!("{address}?…"),
        None => whole,
    }
}

/// Where an answer leads; `None` where it must not be followed.
fn redirected(from: &Uri, headers: &HeaderMap) -> Option<Uri> {
    let to = headers.get(LOCATION)?.to_str().ok()?;
    let to = match to.starts_with('/') && !to.starts_with("//") {
        true => format!("{}://{}{to}", from.scheme_str()?, from.authority()?),
        false => to.to_owned(),
    };
    let to: Uri = to.parse().ok()?;
    let secure = to.scheme_str() == Some("https");
    let plain = to.scheme_str() == Some("http") && from.scheme_str() == Some("http");
    (secure || plain).then_some(to)
}

fn coming(uri: &Uri, from: u64, answer: Response<Incoming>) -> Result<Coming, FetchError> {
    let address = shown(uri);
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let (begins, length) = match answer.status() {
        StatusCode::OK => (0, text(CONTENT_LENGTH).and_then(number)),
        // RFC 9110 section 14.4: `bytes 3-9/10`, or `/*`.
        StatusCode::PARTIAL_CONTENT => {
            let range = text(CONTENT_RANGE).and_then(|range| range.strip_prefix("bytes "));
            let (span, all) = range.and_then(|range| range.split_once('/')).unwrap_or_default();
            let begins = span.split_once('-').and_then(|(begins, _)| number(begins));
            if begins != Some(from) {
                let line = "it goes on from somewhere else than it was asked to".into();
                return Err(FetchError::Broken { address, line });
            }
            (from, number(all))
        }
        status => return Err(FetchError::Refused { address, status }),
    };
    Ok(Coming { address, body: answer.into_body(), from: begins, length })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_not_told() {
        assert_eq!(shown(&"https://a:1/x?signature=y?z".parse().unwrap()), "https://a:1/x?…");
        assert_eq!(shown(&"https://a/x".parse().unwrap()), "https://a/x");
    }

    #[test]
    fn nobody_is_led_away_from_tls() {
        let led = |from: &str, to: &str| {
            let headers = HeaderMap::from_iter([(LOCATION, to.parse().unwrap())]);
            redirected(&from.parse().unwrap(), &headers).map(|to| to.to_string())
        };
        assert_eq!(led("https://a/x", "https://b/y?z"), Some("https://b/y?z".into()));
        assert_eq!(led("https://a:1/x", "/y"), Some("https://a:1/y".into()));
        assert_eq!(led("http://a/x", "http://b/y"), Some("http://b/y".into()));
        for to in ["http://b/y", "ftp://b/y", "y", "//b/y", ""] {
            assert_eq!(led("https://a/x", to), None, "{to}");
        }
    }
}
