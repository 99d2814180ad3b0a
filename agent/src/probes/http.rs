//! GET, as the kubelet asks: without a proxy, on a connection of its own, following redirects to the
//! same host; one to another host is an answer like any other.

use std::fmt;
use std::io;

use bytes::Bytes;
use http::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, HOST, HeaderName, HeaderValue, LOCATION, USER_AGENT,
};
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::dial::{self, DialError, Place};
use super::network::Network;
use super::tls::{TlsError, Trusting};

/// How much of an answer is read; the rest is not waited for.
const MAX_BODY: usize = 10 * 1024;

/// How many redirects are followed, as in Go.
const MAX_REDIRECTS: usize = 10;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    tls: bool,
    place: Place,
    /// With its query, and a slash before it.
    path: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum GetError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("tls: {0}")]
    Tls(io::Error),
    /// In Go's words.
    #[error("http: server gave HTTP response to HTTPS client")]
    NotTls,
    #[error("net/http: invalid header field {0:?}")]
    Header(String),
    #[error("net/http: invalid path {0:?}")]
    Path(String),
    #[error("stopped after {MAX_REDIRECTS} redirects")]
    Redirects,
    /// Nothing was answered, or only a part.
    #[error("EOF")]
    Eof,
    #[error("net/http: {0}")]
    Http(hyper::Error),
}

/// What an answer came to.
struct Answer {
    status: StatusCode,
    location: Option<String>,
}

/// Asks; the status of the last answer.
pub(super) async fn get(
    url: &Url,
    headers: &[(String, String)],
    tls: &Trusting,
    network: &Network,
) -> Result<StatusCode, GetError> {
    let headers = header_map(headers)?;
    let mut at = url.clone();
    for _ in 0..MAX_REDIRECTS {
        let answer = get_once(&at, &headers, tls, network).await?;
        let next = answer.location.and_then(|location| at.redirected(&location));
        match next.filter(|next| next.place.host == url.place.host) {
            Some(next) => at = next,
            None => return Ok(answer.status),
        }
    }
    Err(GetError::Redirects)
}

/// The same; where it was to be TLS and plain HTTP was answered, asks once more in plain HTTP, without
/// what would give a secret away. As the kubelet does of hooks, which once were never asked by TLS,
/// and not of probes.
pub(super) async fn get_or_plain(
    url: &Url,
    headers: &[(String, String)],
    tls: &Trusting,
    network: &Network,
) -> Result<StatusCode, GetError> {
    let got = get(url, headers, tls, network).await;
    let Err(GetError::NotTls) = got else { return got };
    let open = |(name, _): &&(String, String)| !name.eq_ignore_ascii_case(AUTHORIZATION.as_str());
    let headers: Vec<_> = headers.iter().filter(open).cloned().collect();
    let plain = Url { tls: false, ..url.clone() };
    match get(&plain, &headers, tls, network).await {
        Ok(status) => {
            tracing::warn!(%url, "a hook asks by HTTPS and was answered in HTTP: asked again so");
            Ok(status)
        }
        Err(_) => got,
    }
}

/// A status from 200 to 399 is success.
pub(super) fn judge(status: StatusCode) -> Result<(), String> {
    match status.is_success() || status.is_redirection() {
        true => Ok(()),
        false => Err(format!("HTTP probe failed with statuscode: {}", status.as_u16())),
    }
}

async fn get_once(
    url: &Url,
    headers: &HeaderMap,
    tls: &Trusting,
    network: &Network,
) -> Result<Answer, GetError> {
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = url.path.parse().map_err(|_| GetError::Path(url.path.clone()))?;
    *request.headers_mut() = headers.clone();
    if !headers.contains_key(HOST) {
        let host = url.place.to_string();
        let value = host.parse().map_err(|_| GetError::Header(host))?;
        request.headers_mut().insert(HOST, value);
    }
    let stream = dial::dial(&url.place, network).await?;
    match url.tls {
        true => {
            let secure =
                tls.connect(&url.place.host, stream).await.map_err(|error| match error {
                    TlsError::Http => GetError::NotTls,
                    TlsError::Io(error) => GetError::Tls(error),
                })?;
            exchange(secure, request).await
        }
        false => exchange(stream, request).await,
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    request: Request<Empty<Bytes>>,
) -> Result<Answer, GetError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let asked = async {
        let mut response = sender.send_request(request).await?;
        let mut read = 0;
        while read < MAX_BODY
            && let Some(frame) = response.frame().await
        {
            read += frame?.data_ref().map_or(0, Bytes::len);
        }
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let redirects = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
        let location = location.filter(|_| redirects).map(str::to_owned);
        Ok(Answer { status: response.status(), location })
    };
    let carried = async {
        // Whatever ends it, the one who asks hears of it.
        let _ = connection.await;
        std::future::pending::<std::convert::Infallible>().await
    };
    tokio::select! {
        answer = asked => answer,
        never = carried => match never {},
    }
}

fn header_map(given: &[(String, String)]) -> Result<HeaderMap, GetError> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let invalid = || GetError::Header(name.clone());
        let parsed: HeaderName = name.parse().map_err(|_| invalid())?;
        headers.append(parsed, HeaderValue::from_str(value).map_err(|_| invalid())?);
    }
    if !headers.contains_key(USER_AGENT) {
        headers.insert(USER_AGENT, HeaderValue::from_static(super::USER_AGENT));
    }
    match headers.get(ACCEPT) {
        None => _ = headers.insert(ACCEPT, HeaderValue::from_static("*/*")),
        // Asked for without one.
        Some(empty) if empty.is_empty() => _ = headers.remove(ACCEPT),
        Some(_) => {}
    }
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(headers)
}

impl Url {
    pub(super) fn new(tls: bool, place: Place, path: &str) -> Self {
        let slash = if path.starts_with('/') { "" } else { "/" };
        Self { tls, place, path: encoded(&format!("{slash}{path}")) }
    }

    /// Where an answer sends whoever asks; `None` where that is nowhere.
    fn redirected(&self, location: &str) -> Option<Self> {
        let location = encoded(location);
        let absolute = match location.strip_prefix("//") {
            Some(rest) => format!("{}://{rest}", self.scheme()),
            None => location.clone(),
        };
        if let Some((scheme, _)) = absolute.split_once("://") {
            let uri: Uri = absolute.parse().ok()?;
            let tls = match &*scheme.to_ascii_lowercase() {
                "http" => false,
                "https" => true,
                _ => return None,
            };
            let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
            let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            return Some(Self::new(tls, Place { host, port }, path));
        }
        let path = match location.starts_with('/') {
            true => location,
            false => {
                let path = self.path.split('?').next().unwrap_or_default();
                let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                format!("{folder}/{location}")
            }
        };
        Some(Self { path, ..self.clone() })
    }

    const fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

/// As it may stand in a request: without a fragment, and with `%` and a number for what may not.
fn encoded(path: &str) -> String {
    let path = path.split('#').next().unwrap_or_default();
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b' '
            | b'"'
            | b'<'
            | b'>'
            | b'\\'
            | b'^'
            | b'`'
            | b'{'
            | b'|'
            | b'}'
            | 0..=0x1f
            | 0x7f.. => {
                text.push_str(&format!("%{byte:02X}"));
            }
            plain => text.push(char::from(plain)),
        }
    }
    text
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.place, self.path)
    }
}

impl From<hyper::Error> for GetError {
    fn from(error: hyper::Error) -> Self {
        match error.is_incomplete_message() || error.is_closed() {
            true => Self::Eof,
            false => Self::Http(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(path: &str) -> Url {
        Url::new(false, Place { host: "10.0.0.1".into(), port: 8080 }, path)
    }

    #[test]
    fn a_path_is_asked_for_as_go_writes_it() {
        for (path, written) in [
            ("healthz", "http://10.0.0.1:8080/healthz"),
            ("/a b?c=\"d\"#e", "http://10.0.0.1:8080/a%20b?c=%22d%22"),
            ("/ü%20", "http://10.0.0.1:8080/%C3%BC%20"),
            ("", "http://10.0.0.1:8080/"),
        ] {
            assert_eq!(url(path).to_string(), written);
        }
        let six = Url::new(true, Place { host: "::1".into(), port: 1 }, "/");
        assert_eq!(six.to_string(), "https://[::1]:1/");
    }

    #[test]
    fn a_redirect_leads_where_it_says() {
        let from = url("/a/b?c");
        for (location, to) in [
            ("/d?e", "http://10.0.0.1:8080/d?e"),
            ("d", "http://10.0.0.1:8080/a/d"),
            ("https://10.0.0.1/x", "https://10.0.0.1:443/x"),
            ("//other:1", "http://other:1/"),
            ("HTTP://[::1]:7/y", "http://[::1]:7/y"),
        ] {
            assert_eq!(from.redirected(location).unwrap().to_string(), to, "{location}");
        }
        assert_eq!(from.redirected("ftp://x/"), None);
    }

    #[test]
    fn headers_are_the_kubelets_unless_they_are_given() {
        let none = header_map(&[]).unwrap();
        assert_eq!(
            (&none[ACCEPT], &none[CONNECTION]),
            (&"*/*".parse().unwrap(), &"close".parse().unwrap())
        );
        assert!(none[USER_AGENT].to_str().unwrap().starts_with("everynode-probe/"));
        let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let given = [("accept", ""), ("User-Agent", "me"), ("X", "1"), ("x", "2")].map(pair);
        let map = header_map(&given).unwrap();
        assert!(!map.contains_key(ACCEPT));
        assert_eq!(map[USER_AGENT], "me");
        assert_eq!(map.get_all("x").iter().count(), 2);
        assert!(header_map(&[pair(("X", "a\nb"))]).is_err());
    }
}
