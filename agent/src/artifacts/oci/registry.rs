//! One repository of a registry: the pulling part of the distribution specification, and who asks.
//!
//! ```text
//!   GET /v2/NAME/…  ──401──▶  Basic:   again, with user and password
//!                             Bearer:  GET REALM?service=…&scope=… ──▶ a token; again with it
//! ```
//!
//! Names and passwords go to the registry that they are for, and to the realm that it names, both
//! by TLS; who has no name asks for no token without it, either, unless the registry is a mirror
//! without it. Where one is refused, the next that matches is tried. A token is kept while this is,
//! and asked for again when the registry takes it no more.

use std::sync::{Mutex, PoisonError};

use everynode_model::{Digest, ImageName};
use http::StatusCode;
use serde::Deserialize;

use super::challenge::{Challenge, challenges};
use super::documents::ACCEPT;
use super::keyring::{Credential, Keyring};
use super::quoted;
use crate::artifacts::download::Source;
use crate::artifacts::fetch::{Answer, Ask, Client, Coming, FetchError};

/// `docker.io` has its registry somewhere else.
const DOCKER: (&str, &str) = ("docker.io", "registry-1.docker.io");
/// The most that an answer with a token may be: those with many claims have some KiB.
const MAX_TOKEN: usize = 64 << 10;
/// Names and passwords that are tried: each is a try that somebody may count.
const MAX_CREDENTIALS: usize = 8;

/// Where an image is.
pub(super) struct Registry<'a> {
    client: &'a Client,
    /// `https://HOST/v2/NAME/`.
    base: String,
    repository: String,
    credentials: Vec<Credential>,
    /// What is to be told of those that are lacking.
    lacking: String,
    /// How it was last told who asks. Held for no longer than it takes to copy it.
    authorization: Mutex<Option<String>>,
}

/// A manifest, an index or a blob in it.
pub(super) struct Content<'a> {
    registry: &'a Registry<'a>,
    address: String,
    accept: Option<&'static str>,
}

/// One of the two has it.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl<'a> Registry<'a> {
    /// The one that `image` names.
    pub(super) fn new(client: &'a Client, image: &ImageName, keyrings: [&Keyring; 2]) -> Self {
        let host = if image.registry == DOCKER.0 { DOCKER.1 } else { &image.registry };
        Self {
            client,
            base: format!("https://{host}/v2/{}/", image.repository),
            repository: image.repository.clone(),
            credentials: credentials(image, keyrings),
            lacking: lacking(keyrings),
            authorization: Mutex::default(),
        }
    }

    /// A mirror of one, at `https://HOST/NAME` or `http://HOST/NAME`; `None` where that is no
    /// address of a repository. One without TLS is told no password.
    pub(super) fn mirror(client: &'a Client, at: &str, keyrings: [&Keyring; 2]) -> Option<Self> {
        let (scheme, name) = at.split_once("://")?;
        // What has a host in its name is no name with Docker's defaults.
        let (host, path) = name.split_once('/')?;
        let host_with_dot =
            if host.contains(['.', ':']) { host.into() } else { format!("{host}:443") };
        let read = ImageName::parse(&format!("{host_with_dot}/{path}"))?;
        let image = ImageName { registry: host.into(), repository: path.into(), ..read };
        let mut registry = Self::new(client, &image, keyrings);
        registry.base = format!("{scheme}://{host}/v2/{path}/");
        if scheme != "https" {
            registry.credentials.clear();
        }
        Some(registry)
    }

    /// An index or a manifest.
    pub(super) fn manifest(&self, digest: Digest) -> Content<'_> {
        let address = format!("{}manifests/sha256:{digest}", self.base);
        Content { registry: self, address, accept: Some(ACCEPT) }
    }

    /// Something else.
    pub(super) fn blob(&self, digest: Digest) -> Content<'_> {
        let address = format!("{}blobs/sha256:{digest}", self.base);
        Content { registry: self, address, accept: None }
    }

    async fn get(&self, content: &Content<'_>, from: u64) -> Result<Coming, FetchError> {
        let known = self.lock().clone();
        let ask = Ask { address: &content.address, accept: content.accept, authorization: None };
        let answer = self.client.ask(Ask { authorization: known.as_deref(), ..ask }, from).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return answer.coming();
        }
        let asked: Vec<Challenge> = answer.challenges().flat_map(challenges).collect();
        let anonymous = self.credentials.is_empty().then_some(None);
        let who = self.credentials.iter().map(Some).chain(anonymous);
        let mut refused = String::new();
        for credential in who {
            let authorization = match self.authorize(&asked, credential).await? {
                Ok(authorization) => authorization,
                Err(line) => {
                    refused = line;
                    continue;
                }
            };
            let authorization = Some(authorization.as_str());
            let answer = self.client.ask(Ask { authorization, ..ask }, from).await?;
            if !is_refusal(&answer) {
                *self.lock() = authorization.map(str::to_owned);
                return answer.coming();
            }
            refused = answer.status().to_string();
        }
        let line = format!("{refused} ({})", self.who_asked());
        Err(FetchError::Unauthorized { address: content.address.clone(), line })
    }

    /// What to say to who asks so. The inner error is why nothing can be said for this one.
    async fn authorize(
        &self,
        asked: &[Challenge],
        credential: Option<&Credential>,
    ) -> Result<Result<String, String>, FetchError> {
        let mut line = "it asks in a way that is not known".to_owned();
        for challenge in asked {
            match (challenge, credential) {
                (Challenge::Bearer { realm, service, scope }, _) => {
                    let scope = scope.clone();
                    let scope =
                        scope.unwrap_or_else(|| format!("repository:{}:pull", self.repository));
                    return self.token(realm, service.as_deref(), &scope, credential).await;
                }
                (Challenge::Basic, Some(credential)) => return Ok(Ok(credential.basic())),
                (Challenge::Basic, None) => line = "it asks for a name and a password".into(),
            }
        }
        Ok(Err(line))
    }

    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: &str,
        credential: Option<&Credential>,
    ) -> Result<Result<String, String>, FetchError> {
        let shown = quoted(realm);
        let by_tls = credential.is_some() || self.base.starts_with("https://");
        if by_tls && !realm.starts_with("https://") {
            return Ok(Err(format!("its tokens are at {shown}, without TLS")));
        }
        let mut address = format!("{realm}{}", if realm.contains('?') { '&' } else { '?' });
        if let Some(service) = service {
            address.push_str(&format!("service={}&", encoded(service)));
        }
        address.push_str(&format!("scope={}", encoded(scope)));
        let basic = credential.map(Credential::basic);
        let ask = Ask { address: &address, accept: None, authorization: basic.as_deref() };
        let answer = self.client.ask(ask, 0).await?;
        if is_refusal(&answer) {
            return Ok(Err(format!("{shown}: {}", answer.status())));
        }
        let text = answer.coming()?.all(MAX_TOKEN).await?;
        // What stands in it is secret, also where it can't be read.
        let read = serde_json::from_slice::<Token>(&text).ok();
        let token = read.and_then(|read| read.token.or(read.access_token));
        let token = token.filter(|token| !token.is_empty());
        Ok(token.map(|token| format!("Bearer {token}")).ok_or_else(|| format!("{shown}: no token")))
    }

    fn who_asked(&self) -> String {
        let known = match self.credentials.len() {
            0 => "no password is known for it".to_owned(),
            1 => "with the one password that is known for it".to_owned(),
            many => format!("with each of {many} passwords that are known for it"),
        };
        format!("{known}{}", self.lacking)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Content<'_> {
    fn address(&self) -> &str {
        &self.address
    }

    async fn get(&self, from: u64) -> Result<Coming, FetchError> {
        self.registry.get(self, from).await
    }
}

/// Those of the pod first, then the machine's.
fn credentials(image: &ImageName, keyrings: [&Keyring; 2]) -> Vec<Credential> {
    keyrings.iter().flat_map(|keyring| keyring.of(image)).take(MAX_CREDENTIALS).collect()
}

fn lacking(keyrings: [&Keyring; 2]) -> String {
    let absent: Vec<&str> =
        keyrings.iter().flat_map(|keyring| keyring.absent()).map(String::as_str).collect();
    match absent.is_empty() {
        true => String::new(),
        false => format!("; of imagePullSecrets there is no {}", absent.join(", ")),
    }
}

/// Some say one, some the other.
fn is_refusal(answer: &Answer) -> bool {
    matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// As a value in a query (RFC 3986).
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            true => encoded.push(char::from(byte)),
            false => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring() -> Keyring {
        let mut keyring = Keyring::default();
        let config = br#"{"auths":{"m.io":{"auth":"dTpw"},"m.io:80":{"auth":"dTpw"}}}"#;
        keyring.add_config(config).unwrap();
        keyring
    }

    #[test]
    fn an_image_is_where_its_name_says_or_a_mirror() {
        let (client, keyring, none) = (Client::new(None).unwrap(), keyring(), Keyring::default());
        let keyrings = [&keyring, &none];
        let base =
            |name: &str| Registry::new(&client, &ImageName::parse(name).unwrap(), keyrings).base;
        assert_eq!(base("busybox:1"), "https://registry-1.docker.io/v2/library/busybox/");
        assert_eq!(base("localhost:5000/x"), "https://localhost:5000/v2/x/");
        let mirror = |at: &str| {
            let mirror = Registry::mirror(&client, at, keyrings)?;
            Some((mirror.base, mirror.credentials.len()))
        };
        assert_eq!(mirror("https://m.io/a/x"), Some(("https://m.io/v2/a/x/".into(), 1)));
        assert_eq!(mirror("http://m.io:80/x"), Some(("http://m.io:80/v2/x/".into(), 0)));
        assert_eq!(mirror("http://mirror/x"), Some(("http://mirror/v2/x/".into(), 0)));
        for none in ["http://m.io/", "http://m.io", "http://m.io/A", "m.io/x"] {
            assert_eq!(mirror(none), None, "{none}");
        }
    }

    #[test]
    fn values_are_encoded() {
        assert_eq!(encoded("repository:a/b-c_d.e:pull"), "repository%3Aa%2Fb-c_d.e%3Apull");
        assert_eq!(encoded("a b&c=ü~"), "a%20b%26c%3D%C3%BC~");
    }
}
