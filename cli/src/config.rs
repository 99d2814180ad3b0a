//! Which coordinator, and as whom: a file in kubeconfig's format.
//!
//! `--config`, else `$EVERYNODE_CONFIG`, else `~/.everynode/config`. Never `$KUBECONFIG`: a
//! command meant for a fleet must not reach a cluster by accident, nor the other way round.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

/// How to reach a coordinator, as its file says.
#[derive(Debug)]
pub(crate) struct Config {
    /// `HOST:PORT`.
    pub(crate) address: String,
    /// The authorities that may have signed its certificate, PEM.
    pub(crate) authorities: Vec<u8>,
    /// Our certificate and its chain, PEM.
    pub(crate) certificate: Vec<u8>,
    /// Our key, PEM.
    pub(crate) key: Vec<u8>,
    /// The namespace where none is given.
    pub(crate) namespace: Option<String>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// Neither said nor to be guessed.
    #[error(
        "no configuration: pass --config FILE or set EVERYNODE_CONFIG (the coordinator writes one \
         at its first start: admin.conf in its data directory)"
    )]
    Nowhere,
    /// The file is not there.
    #[error(
        "no configuration at {}: pass --config FILE or set EVERYNODE_CONFIG (the coordinator \
         writes one at its first start: admin.conf in its data directory)", .0.display()
    )]
    Missing(PathBuf),
    /// A file can't be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file says something else than a kubeconfig.
    #[error("{}: {what}", path.display())]
    Wrong {
        /// Which.
        path: PathBuf,
        /// What about it.
        what: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    clusters: Vec<Named>,
    #[serde(default)]
    users: Vec<Named>,
    #[serde(default)]
    contexts: Vec<Named>,
    #[serde(default)]
    current_context: String,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    #[serde(default)]
    cluster: ClusterEntry,
    #[serde(default)]
    user: UserEntry,
    #[serde(default)]
    context: ContextEntry,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct ClusterEntry {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct UserEntry {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ContextEntry {
    cluster: String,
    user: String,
    namespace: Option<String>,
}

impl Config {
    /// Reads the file given by `--config` or the environment (`said`), or the one in the home
    /// directory.
    pub(crate) fn load(said: Option<&Path>) -> Result<Self, ConfigError> {
        let path = match said {
            // An empty variable is none.
            Some(path) if !path.as_os_str().is_empty() => path.to_owned(),
            _ => default_path().ok_or(ConfigError::Nowhere)?,
        };
        let text = fs::read_to_string(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ConfigError::Missing(path.clone()),
            _ => ConfigError::Unreadable { path: path.clone(), source },
        })?;
        Self::read(&path, &text)
    }

    /// Reads a file's text; paths in it are relative to its directory.
    pub(crate) fn read(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let wrong = |what: String| ConfigError::Wrong { path: path.to_owned(), what };
        let file: File = serde_saphyr::from_str(text)
            .map_err(|error| wrong(first_line(&error.to_string()).to_owned()))?;
        let named = |entries: &[Named], name: &str, kind: &str| {
            let found = entries.iter().position(|entry| entry.name == name);
            found.ok_or_else(|| wrong(format!("there is no {kind} {name:?} in it")))
        };
        let context = named(&file.contexts, &file.current_context, "context")?;
        let context = &file.contexts[context].context;
        let cluster = &file.clusters[named(&file.clusters, &context.cluster, "cluster")?].cluster;
        let user = &file.users[named(&file.users, &context.user, "user")?].user;
        let part = |field: &str, data: &Option<String>, at: &Option<PathBuf>| {
            material(path, field, data.as_deref(), at.as_deref())
        };
        Ok(Self {
            address: address(&cluster.server).map_err(wrong)?,
            authorities: part(
                "certificate-authority",
                &cluster.certificate_authority_data,
                &cluster.certificate_authority,
            )?,
            certificate: part(
                "client-certificate",
                &user.client_certificate_data,
                &user.client_certificate,
            )?,
            key: part("client-key", &user.client_key_data, &user.client_key)?,
            namespace: context.namespace.clone().filter(|namespace| !namespace.is_empty()),
        })
    }
}

fn default_path() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty())?;
    Some(PathBuf::from(home).join(".everynode/config"))
}

/// `HOST:PORT` of a kubeconfig's `server`; TLS is the only way.
fn address(server: &str) -> Result<String, String> {
    let rest = match server.split_once("://") {
        None => server,
        Some(("https", rest)) => rest,
        Some(_) => return Err(format!("server: {server:?} is not an https:// address")),
    };
    let address = rest.trim_end_matches('/');
    if address.is_empty() || address.contains('/') {
        return Err(format!("server: {server:?} is not https://HOST:PORT"));
    }
    let after_host = address.rsplit(']').next().unwrap_or_default();
    Ok(if after_host.contains(':') { address.to_owned() } else { format!("{address}:443") })
}

/// What stands in the file itself (base64), or in another one that it names.
fn material(
    config: &Path,
    field: &str,
    data: Option<&str>,
    file: Option<&Path>,
) -> Result<Vec<u8>, ConfigError> {
    let wrong = |what: String| ConfigError::Wrong { path: config.to_owned(), what };
    match (data, file) {
        (Some(data), _) => BASE64_STANDARD
            .decode(data.split_whitespace().collect::<String>())
            .map_err(|error| wrong(format!("{field}-data is not base64: {error}"))),
        (None, Some(file)) => {
            let path = config.parent().unwrap_or_else(|| Path::new("")).join(file);
            fs::read(&path).map_err(|source| ConfigError::Unreadable { path, source })
        }
        (None, None) => Err(wrong(format!("neither {field}-data nor {field} is in it"))),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim_start_matches("error: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n\
        - name: c\n  context: {cluster: k, user: u, namespace: ops}\n\
        clusters:\n- name: k\n  cluster:\n    server: https://[::1]:7443/\n    \
        tls-server-name: everynode-coordinator\n    certificate-authority-data: Y2E=\n\
        users:\n- name: u\n  user:\n    client-certificate-data: Y2VydA==\n    client-key-data: a2V5\n";

    #[test]
    fn a_kubeconfig_is_read() {
        let config = Config::read(Path::new("f"), TEXT).unwrap();
        assert_eq!(config.address, "[::1]:7443");
        assert_eq!((&config.authorities[..], &config.key[..]), (&b"ca"[..], &b"key"[..]));
        assert_eq!(config.certificate, b"cert");
        assert_eq!(config.namespace.as_deref(), Some("ops"));
    }

    #[test]
    fn what_is_wrong_with_it_is_said_in_a_line() {
        for (from, to, expected) in [
            ("cluster: k,", "cluster: x,", "f: there is no cluster \"x\" in it"),
            ("https://", "http://", "f: server: \"http://[::1]:7443/\" is not an https:// address"),
            ("Y2E=", "Y", "f: certificate-authority-data is not base64"),
            ("client-key-data", "key-data", "f: neither client-key-data nor client-key is in it"),
            ("clusters:", "clusters: [", "f: "),
        ] {
            let error = Config::read(Path::new("f"), &TEXT.replace(from, to)).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
            assert!(!error.to_string().contains('\n'));
        }
        let missing = Config::load(Some(Path::new("/nowhere/config"))).unwrap_err().to_string();
        assert!(missing.contains("/nowhere/config") && missing.contains("admin.conf"), "{missing}");
    }

    #[test]
    fn a_server_without_a_port_means_443() {
        assert_eq!(address("https://a.example"), Ok("a.example:443".into()));
        assert_eq!(address("https://[::1]"), Ok("[::1]:443".into()));
        assert_eq!(address("a:1"), Ok("a:1".into()));
        assert!(address("https://a:1/path").is_err());
    }
}
