//! Whose names and passwords are for which registries: files as Docker has them, and Secrets that
//! hold one, matched as Kubernetes' credential provider does.
//!
//! ```text
//!   registry.example            all of that host        *.example.org/team    by parts of the name
//!   registry.example:5000/team  of that port, and that begins so
//! ```
//!
//! The more specific comes first, and all that match are tried. What Docker calls
//! `https://index.docker.io/v1/` is `docker.io`.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use everynode_model::ImageName;
use serde::Deserialize;

/// Where names and passwords for `docker.io` are, by an old custom.
const DOCKER_KEY: &str = "index.docker.io";
const DOCKER: &str = "docker.io";

/// Names and passwords, and for what. Says none of them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keyring {
    /// Sorted backwards by `of`, so that what is more specific comes first.
    keys: Vec<Key>,
    /// Secrets that a pod names and that are not there.
    absent: Vec<String>,
}

#[derive(Clone, PartialEq, Eq)]
struct Key {
    /// A host, which may have a port and the beginning of a path.
    of: String,
    credential: Credential,
}

/// A user's name and password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credential {
    user: String,
    password: String,
}

/// Why a file is none; not what stands in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a configuration file of Docker")]
pub struct NotAConfig;

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    /// Both in base64, with a colon between; it counts where it is there.
    #[serde(default)]
    auth: String,
}

impl Keyring {
    /// Adds what stands in a `config.json` (`kubernetes.io/dockerconfigjson`).
    ///
    /// # Errors
    /// When it is none; then nothing is added.
    pub fn add_config(&mut self, file: &[u8]) -> Result<(), NotAConfig> {
        let config: Config = serde_json::from_slice(file).map_err(|_| NotAConfig)?;
        self.add(config.auths)
    }

    /// Adds what stands in a `.dockercfg`, Docker's older form (`kubernetes.io/dockercfg`).
    ///
    /// # Errors
    /// When it is none; then nothing is added.
    pub fn add_old_config(&mut self, file: &[u8]) -> Result<(), NotAConfig> {
        self.add(serde_json::from_slice(file).map_err(|_| NotAConfig)?)
    }

    /// Notes a Secret that is not there.
    pub fn lacks(&mut self, name: &str) {
        self.absent.push(name.to_owned());
    }

    pub(crate) fn absent(&self) -> &[String] {
        &self.absent
    }

    fn add(&mut self, entries: BTreeMap<String, Entry>) -> Result<(), NotAConfig> {
        let read: Result<Vec<Option<Key>>, _> = entries
            .into_iter()
            .map(|(of, entry)| Ok(entry.read()?.map(|it| key(&of, it))))
            .collect();
        self.keys.extend(read?.into_iter().flatten());
        self.keys.sort_by(|a, b| b.of.cmp(&a.of));
        Ok(())
    }

    /// What may be for an image, the more specific first.
    pub(super) fn of(&self, name: &ImageName) -> Vec<Credential> {
        let whole = format!("{}/{}", name.registry, name.repository);
        let of = |matches: &dyn Fn(&str) -> bool| -> Vec<Credential> {
            let keys = self.keys.iter().filter(|key| matches(&key.of));
            keys.map(|key| key.credential.clone()).collect()
        };
        let found = of(&|key| matches(key, &whole));
        match found.is_empty() && name.registry == DOCKER {
            true => of(&|key| key == DOCKER_KEY),
            false => found,
        }
    }
}

impl Entry {
    fn read(self) -> Result<Option<Credential>, NotAConfig> {
        let Self { mut username, mut password, auth } = self;
        if !auth.is_empty() {
            let bytes =
                BASE64_STANDARD.decode(&auth).or_else(|_| BASE64_STANDARD_NO_PAD.decode(&auth));
            let text =
                bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(NotAConfig)?;
            let (user, secret) = text.split_once(':').ok_or(NotAConfig)?;
            // Docker itself once ended it with zeros.
            (username, password) = (user.into(), secret.trim_end_matches('\0').into());
        }
        // What a helper of Docker's would know stands there without a name.
        Ok((!username.is_empty()).then_some(Credential { user: username, password }))
    }
}

impl Credential {
    /// As the value of `Authorization`.
    pub(super) fn basic(&self) -> String {
        let Self { user, password } = self;
        format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({} keys)", self.keys.len())
    }
}

fn key(of: &str, credential: Credential) -> Key {
    let of = of.strip_prefix("https://").or_else(|| of.strip_prefix("http://")).unwrap_or(of);
    let (host, path) = of.split_once('/').map_or((of, ""), |(host, path)| (host, path));
    // Docker's own prefixes of its API say nothing.
    let path = ["v1/", "v2/"].iter().find_map(|api| path.strip_prefix(api)).unwrap_or(path);
    let of = if path.is_empty() { host.to_owned() } else { format!("{host}/{path}") };
    Key { of, credential }
}

fn matches(key: &str, name: &str) -> bool {
    let split = |text: &str| {
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        let port = host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
        let (host, port) = port.unwrap_or((host, ""));
        (host.to_owned(), port.to_owned(), path.to_owned())
    };
    let ((host, port, path), (of_host, of_port, of_path)) = (split(key), split(name));
    let (parts, of_parts): (Vec<_>, Vec<_>) =
        (host.split('.').collect(), of_host.split('.').collect());
    port == of_port
        && of_path.starts_with(&path)
        && parts.len() == of_parts.len()
        && parts.iter().zip(&of_parts).all(|(part, of)| is_like(part.as_bytes(), of.as_bytes()))
}

/// Whether a part of a host's name is as a pattern says: `*` for any letters, `?` for one.
fn is_like(pattern: &[u8], text: &[u8]) -> bool {
    // Where to go on if what follows the last `*` does not fit: with one letter more for it.
    let (mut at, mut in_text, mut star) = (0, 0, None);
    while let Some(letter) = text.get(in_text) {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, in_text));
                at += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted == letter => {
                (at, in_text) = (at + 1, in_text + 1)
            }
            _ => match star {
                None => return false,
                Some((star_at, from)) => {
                    (at, in_text) = (star_at + 1, from + 1);
                    star = Some((star_at, from + 1));
                }
            },
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|rest| *rest == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(config: &str, image: &str) -> Vec<String> {
        let mut keyring = Keyring::default();
        keyring.add_config(config.as_bytes()).unwrap();
        let found = keyring.of(&ImageName::parse(image).unwrap());
        found.into_iter().map(|credential| credential.user).collect()
    }

    fn config(keys: &[&str]) -> String {
        let auths = keys.iter().enumerate();
        let auths = auths.map(|(n, key)| format!(r#""{key}":{{"username":"{n}","password":"p"}}"#));
        format!(r#"{{"auths":{{{}}},"credsStore":"x"}}"#, auths.collect::<Vec<_>>().join(","))
    }

    /// The cases of Kubernetes' `keyring_test.go`, and some more.
    #[test]
    fn matched_as_kubernetes_does() {
        for (key, image, is) in [
            ("prefix.kubernetes.io", "prefix.kubernetes.io/x", true),
            ("https://prefix.kubernetes.io/v2/", "prefix.kubernetes.io/x", true),
            ("http://prefix.kubernetes.io/v1/a", "prefix.kubernetes.io/a/x", true),
            ("*.kubernetes.io", "prefix.kubernetes.io/x", true),
            ("prefix.*.io", "prefix.kubernetes.io/x", true),
            ("pr*ix.kub*.io", "prefix.kubernetes.io/x", true),
            ("p?efix.kubernetes.io", "prefix.kubernetes.io/x", true),
            ("*.io", "prefix.kubernetes.io/x", false),
            ("*.prefix.kubernetes.io", "prefix.kubernetes.io/x", false),
            ("kubernetes.io", "prefix.kubernetes.io/x", false),
            ("pre*y.kubernetes.io", "prefix.kubernetes.io/x", false),
            ("prefix.kubernetes.io:80", "prefix.kubernetes.io:80/x", true),
            ("prefix.kubernetes.io:80", "prefix.kubernetes.io/x", false),
            ("prefix.kubernetes.io", "prefix.kubernetes.io:80/x", false),
            ("prefix.kubernetes.io/a", "prefix.kubernetes.io/a/x", true),
            ("prefix.kubernetes.io/a", "prefix.kubernetes.io/b/x", false),
            ("prefix.kubernetes.io/a/x/y", "prefix.kubernetes.io/a/x", false),
            ("[fd00::1]:5000", "[fd00::1]:5000/x", true),
            ("[fd00::1]", "[fd00::1]:5000/x", false),
            ("https://index.docker.io/v1/", "busybox", true),
            ("index.docker.io", "docker.io/team/x", true),
            ("docker.io", "team/x", true),
            ("https://index.docker.io/v1/", "quay.io/x", false),
        ] {
            assert_eq!(users(&config(&[key]), image).len(), usize::from(is), "{key} {image}");
        }
    }

    #[test]
    fn the_more_specific_comes_first() {
        let keys = config(&["quay.io", "quay.io/team", "*.io", "quay.io/team/x", "other.io"]);
        assert_eq!(users(&keys, "quay.io/team/x"), ["3", "1", "0", "2"]);
        let keys = config(&["https://index.docker.io/v1/", "docker.io"]);
        assert_eq!(users(&keys, "busybox"), ["1"]);
    }

    #[test]
    fn secrets_have_two_forms() {
        let mut keyring = Keyring::default();
        let encoded = r#"{"username":"no","password":"no","auth":"dXNlcjpwYTpzcw=="}"#;
        let unpadded = r#"{"auth":"dXNlcjpwYTpzcw"}"#;
        keyring.add_old_config(format!(r#"{{"a.io":{encoded}}}"#).as_bytes()).unwrap();
        keyring
            .add_config(format!(r#"{{"auths":{{"a.io":{unpadded},"b.io":{{}}}}}}"#).as_bytes())
            .unwrap();
        let of = |image: &str| keyring.of(&ImageName::parse(image).unwrap());
        let wanted = Credential { user: "user".into(), password: "pa:ss".into() };
        assert!(of("a.io/x") == [wanted.clone(), wanted.clone()] && of("b.io/x").is_empty());
        assert_eq!(wanted.basic(), "Basic dXNlcjpwYTpzcw==");
        assert_eq!(format!("{keyring:?}"), "Keyring(2 keys)");
        for bad in
            ["", "[]x", r#"{"auths":{"a":{"auth":"!"}}}"#, r#"{"auths":{"a":{"auth":"eA=="}}}"#]
        {
            assert_eq!(keyring.add_config(bad.as_bytes()), Err(NotAConfig), "{bad}");
        }
    }
}
