//! What was given on the command line, checked; every complaint names its flag.

use std::io;
use std::path::{Path, PathBuf};

use everynode_model::{
    InvalidName, InvalidTaint, Labels, NodeName, Taint, valid_label_value, valid_qualified_name,
};
use everynode_transport::JoinToken;
use everynode_transport::token::InvalidToken;

use crate::artifacts;
use crate::cli::{BINARY, Cli, LogFormat, bytes};
use crate::data_dir::read_bounded;
use crate::facts::IdFiles;

/// Where settings are that no flag and no variable gives.
pub const CONFIG_FILE: &str = "/etc/everynode/agent.yaml";

/// The name of systemd's credential that is a token (`LoadCredential=join-token:FILE`), and the
/// variable with the directory of all credentials (`systemd.exec(5)`).
const CREDENTIAL: &str = "join-token";
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// A token has some 150 characters.
const MAX_TOKEN_FILE: u64 = 4096;

/// What the agent was told to be.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Under which cgroup pods live.
    pub cgroup_root: PathBuf,
    /// Where `localhostProfile` of a `seccompProfile` is looked for.
    pub seccomp_profile_root: PathBuf,
    /// The size from which a container's log goes on in another file, in bytes.
    pub max_log_file: u64,
    /// Where delivered files come from, and how large they may be.
    pub artifacts: artifacts::Settings,
    /// Where coordinators are; empty: as remembered.
    pub coordinators: Vec<String>,
    /// Where the token to join with comes from.
    pub token: Option<TokenSource>,
    /// The name to join with, if not the host's.
    pub node_name: Option<NodeName>,
    /// Labels to join with.
    pub labels: Labels,
    /// Taints to join with.
    pub taints: Vec<Taint>,
    /// Whether nobody may run programs in pods from elsewhere.
    pub deny_exec: bool,
    /// Where ids of machine and boot are read.
    pub ids: IdFiles,
    pub(crate) log_format: LogFormat,
    pub(crate) log_level: tracing::level_filters::LevelFilter,
}

/// Where a token comes from; read only when it is needed, so that its file may be gone afterwards.
#[derive(Clone, Debug)]
pub enum TokenSource {
    /// Given itself.
    Given(JoinToken),
    /// In a file.
    File(PathBuf),
}

/// What is wrong with the command line.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not `key=value` with a valid key and value.
    #[error("--label {0:?}: must be KEY=VALUE with a valid label key and value")]
    Label(String),
    /// Not where something else is.
    #[error(
        "--artifact-mirror {0:?}: must be PREFIX=PREFIX, as \
         https://github.com/=https://mirror.example/github/ or \
         docker.io/=https://mirror.example/hub/"
    )]
    Mirror(String),
    /// Not an amount of bytes.
    #[error("--artifact-max-size {0:?}: must be a size such as 500Mi or 2Gi")]
    Size(String),
    /// Not a taint.
    #[error("--taint {0:?}: {1}")]
    Taint(String, InvalidTaint),
    /// Not a name for a node.
    #[error("--node-name {0:?}: {1}")]
    NodeName(String, InvalidName),
    /// The token is not one.
    #[error("--join-token: {0}")]
    Token(#[source] InvalidToken),
    /// The file's content is not a token.
    #[error("--join-token-file {0}: {1}")]
    TokenInFile(PathBuf, InvalidToken),
    /// The file can't be read.
    #[error("--join-token-file {0}: {1}")]
    TokenFile(PathBuf, io::Error),
}

impl Config {
    /// Checks what was given.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn from_cli(cli: Cli) -> Result<Self, ConfigError> {
        let Cli { common, start, .. } = cli;
        let ids = IdFiles::default();
        let name = |name: String| NodeName::new(&name).map_err(|e| ConfigError::NodeName(name, e));
        let token = match (start.join_token, start.join_token_file) {
            (Some(token), _) => {
                Some(TokenSource::Given(token.parse().map_err(ConfigError::Token)?))
            }
            (None, file) => file.or_else(credential).map(TokenSource::File),
        };
        let seccomp = start.seccomp_profile_root;
        Ok(Self {
            seccomp_profile_root: seccomp.unwrap_or_else(|| common.data_dir.join("seccomp")),
            max_log_file: start.container_log_max_size,
            data_dir: common.data_dir,
            cgroup_root: common.cgroup_root,
            artifacts: artifacts::Settings {
                directory: start.artifact_dir,
                mirrors: start.artifact_mirror.into_iter().map(mirror).collect::<Result<_, _>>()?,
                ca: start.artifact_ca,
                registry_config: start.registry_config,
                max_bytes: size(start.artifact_max_size)?,
            },
            coordinators: start.coordinator,
            token,
            node_name: start.node_name.map(name).transpose()?,
            labels: start.label.iter().map(|text| label(text)).collect::<Result<_, _>>()?,
            taints: start.taint.iter().map(|text| taint(text)).collect::<Result<_, _>>()?,
            deny_exec: start.deny_exec,
            ids: IdFiles {
                machine: start.machine_id_file.unwrap_or(ids.machine),
                boot: start.boot_id_file.unwrap_or(ids.boot),
            },
            log_format: start.log_format,
            log_level: start.log_level,
        })
    }
}

impl TokenSource {
    /// The token itself.
    ///
    /// # Errors
    /// When the file can't be read or holds none.
    pub fn token(&self) -> Result<JoinToken, ConfigError> {
        match self {
            Self::Given(token) => Ok(token.clone()),
            Self::File(path) => read_token(path),
        }
    }
}

fn mirror(text: String) -> Result<artifacts::Mirror, ConfigError> {
    artifacts::Mirror::parse(&text).ok_or(ConfigError::Mirror(text))
}

fn size(text: String) -> Result<u64, ConfigError> {
    let decimal = [("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000)];
    let size = bytes(&text, &[decimal, BINARY].concat());
    size.filter(|size| *size > 0).ok_or(ConfigError::Size(text))
}

/// The token that the service manager has put there for this service alone.
fn credential() -> Option<PathBuf> {
    in_credentials(Path::new(&std::env::var_os(CREDENTIALS)?))
}

fn in_credentials(directory: &Path) -> Option<PathBuf> {
    let file = directory.join(CREDENTIAL);
    file.is_file().then_some(file)
}

fn read_token(path: &Path) -> Result<JoinToken, ConfigError> {
    let failed = |error| ConfigError::TokenFile(path.to_owned(), error);
    let content = read_bounded(path, MAX_TOKEN_FILE).map_err(failed)?;
    let content = content.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    String::from_utf8_lossy(&content)
        .parse()
        .map_err(|error| ConfigError::TokenInFile(path.to_owned(), error))
}

fn label(text: &str) -> Result<(String, String), ConfigError> {
    text.split_once('=')
        .filter(|(key, value)| valid_qualified_name(key) && valid_label_value(value))
        .map(|(key, value)| (key.into(), value.into()))
        .ok_or_else(|| ConfigError::Label(text.into()))
}

fn taint(text: &str) -> Result<Taint, ConfigError> {
    text.parse().map_err(|error| ConfigError::Taint(text.into(), error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn config(line: &[&str]) -> Result<Config, ConfigError> {
        let words = ["everynode-agent"].iter().chain(line);
        Config::from_cli(Cli::try_parse_from(words).unwrap())
    }

    #[test]
    fn everything_is_taken() {
        let config = config(&[
            "--coordinator",
            "a:1,b:2",
            "--label",
            "a=b",
            "--label",
            "c=",
            "--taint",
            "a=b:NoExecute",
            "--node-name",
            "n",
        ])
        .unwrap();
        assert_eq!(config.coordinators, ["a:1", "b:2"]);
        assert_eq!((config.labels.len(), config.taints.len()), (2, 1));
    }

    #[test]
    fn complaints_name_the_flag() {
        for (flag, value) in [
            ("--label", "a"),
            ("--label", "a b=c"),
            ("--taint", "a:Never"),
            ("--node-name", "Upper"),
            ("--join-token", "enj1.x"),
        ] {
            let complaint = config(&[flag, value]).unwrap_err().to_string();
            assert!(complaint.starts_with(flag), "{complaint}");
        }
        let source = config(&["--join-token-file", "/no/such"]).unwrap().token.unwrap();
        assert!(source.token().unwrap_err().to_string().starts_with("--join-token-file /no/such"));
    }

    #[test]
    fn where_files_come_from_and_how_large_they_may_be() {
        let given = config(&[
            "--artifact-mirror=https://a/=https://m/a/,https://b/=http://m/b/,a.io/=http://m:5000/",
            "--artifact-max-size=1500M",
            "--artifact-dir=/srv/files",
            "--registry-config=/root/.docker/config.json",
        ]);
        let given = given.unwrap().artifacts;
        assert_eq!((given.mirrors.len(), given.max_bytes), (3, 1_500_000_000));
        assert_eq!(given.directory, Some("/srv/files".into()));
        assert_eq!(given.registry_config, Some("/root/.docker/config.json".into()));
        let default = config(&[]).unwrap().artifacts;
        assert_eq!(default, artifacts::Settings::default());
        for size in ["0", "1Ti", "-1", "1.5Gi", "", "18446744073709551615Gi"] {
            let said = config(&[&format!("--artifact-max-size={size}")]).unwrap_err().to_string();
            assert!(said.starts_with("--artifact-max-size"), "{said}");
        }
        let said = config(&["--artifact-mirror=mirror.lan"]).unwrap_err().to_string();
        assert!(said.starts_with("--artifact-mirror \"mirror.lan\": must be"), "{said}");
    }

    #[test]
    fn a_credential_is_a_token_file_if_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(in_credentials(dir.path()), None);
        let file = dir.path().join("join-token");
        std::fs::write(&file, "").unwrap();
        assert_eq!(in_credentials(dir.path()), Some(file));
    }

    #[test]
    fn a_complaint_about_a_token_does_not_show_it() {
        let secret = "5".repeat(63);
        let text = format!("enj1.0123456789.{secret}.{}", "6".repeat(64));
        let complaint = config(&["--join-token", &text]).unwrap_err();
        assert!(!format!("{complaint} {complaint:?}").contains(&secret));
    }
}
