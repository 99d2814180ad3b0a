//! What the command line and the environment say, checked once.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use everynode_coordinator_core::Config;
use everynode_settings::SettingsError;

/// Where settings are that no flag and no variable gives.
pub const CONFIG_FILE: &str = "/etc/everynode/coordinator.yaml";

/// The longest heartbeat: a node must be heard twice within the registration window.
const LONGEST_HEARTBEAT: Duration = Duration::from_secs(30);

/// How long a node's certificate may last: tests want a few seconds, and beyond the authority's own
/// twenty years nothing is gained.
const CERTIFICATE_LIFETIMES: RangeInclusive<Duration> =
    Duration::from_secs(10)..=Duration::from_secs(10 * 365 * 24 * 60 * 60);

const EXAMPLES: &str = "\
Examples:
  # On this machine only; the first start makes D/admin.conf for the everynode command.
  everynode-coordinator --data-dir /var/lib/everynode-coordinator

  # For a fleet: listen everywhere, and say how agents get here.
  everynode-coordinator --data-dir D --listen '[::]:7443' --advertise coordinator.example:7443

  # A new admin.conf; the coordinator must not be running.
  everynode-coordinator admin-conf --data-dir D

  # A copy of everything that is stored; the coordinator may be running.
  everynode-coordinator store backup /backup/everynode.db --data-dir D

  # Back to that copy; the coordinator must not be running.
  everynode-coordinator store restore /backup/everynode.db --data-dir D --force";

const BACKUP_EXAMPLES: &str = "\
Examples:
  # Every night, by cron; each in a file of its own.
  everynode-coordinator store backup \"/backup/everynode-$(date +%F).db\" --data-dir D

  # Always the same file: replaced only when the new copy is whole and verified.
  everynode-coordinator store backup /backup/everynode.db --force --data-dir D";

const VERIFY_EXAMPLES: &str = "\
Examples:
  # The store in the data directory; the coordinator may be running.
  everynode-coordinator store verify --data-dir D

  # A backup, also on media that can't be written.
  everynode-coordinator store verify /backup/everynode.db --data-dir D";

const RESTORE_EXAMPLES: &str = "\
Examples:
  # A damaged or lost store. Orders are held until you have looked.
  systemctl stop everynode-coordinator
  everynode-coordinator store restore /backup/everynode.db --data-dir D
  systemctl start everynode-coordinator
  everynode cluster status
  everynode apply -f manifests/
  everynode cluster resume

  # Back to yesterday although the store is sound; it is kept as D/store.db.before-restore-…
  everynode-coordinator store restore /backup/yesterday.db --force --data-dir D

  # An event says that an agent accepted orders of term 12: begin above it, with the same store.
  everynode-coordinator store restore D/store.db --force --term 13 --data-dir D";

/// Says what must run on every machine of a fleet, and sees that it does.
#[derive(Debug, Parser)]
#[command(name = "everynode-coordinator", version, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// A file with what flags and the environment do not say: YAML, its keys the flags' names
    /// [default: /etc/everynode/coordinator.yaml, if that is there].
    #[arg(long, global = true, value_name = "FILE", env = "EVERYNODE_COORDINATOR_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where the store and admin.conf are; made at the first start.
    #[arg(long, global = true, value_name = "DIR", env = "EVERYNODE_COORDINATOR_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// How to serve.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// How to serve.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// The address to listen on.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:7443")]
    #[arg(env = "EVERYNODE_COORDINATOR_LISTEN")]
    pub listen: SocketAddr,
    /// Addresses under which agents and users reach this coordinator [default: the one it listens
    /// on, or this machine's name where that is any].
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',', value_parser = host_port)]
    #[arg(env = "EVERYNODE_COORDINATOR_ADVERTISE")]
    pub advertise: Vec<String>,
    /// How often agents are heard, at most 30s.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    #[arg(env = "EVERYNODE_COORDINATOR_HEARTBEAT")]
    pub heartbeat: Duration,
    /// After how long without a word a node is shown as lost.
    #[arg(long, value_name = "TIME", default_value = "40s", value_parser = duration)]
    #[arg(env = "EVERYNODE_COORDINATOR_LEASE")]
    pub lease: Duration,
    /// How long after the start no rollout goes on, so that nodes can call first.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    #[arg(env = "EVERYNODE_COORDINATOR_REGISTRATION_WINDOW")]
    pub registration_window: Duration,
    /// How long a node's certificate lasts; nodes renew theirs after half of it, or a little later.
    #[arg(long, value_name = "TIME", default_value = "365d", value_parser = duration)]
    #[arg(env = "EVERYNODE_COORDINATOR_NODE_CERTIFICATE_LIFETIME")]
    pub node_certificate_lifetime: Duration,
    /// How many percent of a DaemonSet's running pods one change may stop for good, or all running
    /// pods a deletion of several DaemonSets, without --allow-removal (100: any).
    ///
    /// Fewer than two pods are never too many; pods that are restarted don't count, nor does a
    /// DaemonSet that is deleted by its name.
    #[arg(long, value_name = "PERCENT", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=100))]
    #[arg(env = "EVERYNODE_COORDINATOR_REMOVAL_LIMIT")]
    pub removal_limit: u32,
    /// Where to keep what is stored.
    #[arg(long, value_enum, default_value_t = Engine::Sqlite)]
    #[arg(env = "EVERYNODE_COORDINATOR_STORE")]
    pub store: Engine,
    /// How log lines look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    #[arg(env = "EVERYNODE_COORDINATOR_LOG_FORMAT")]
    pub log_format: LogFormat,
}

/// What to do instead of serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a new admin.conf; the old one goes on being valid until it expires.
    AdminConf,
    /// Look after what is stored.
    #[command(subcommand)]
    Store(StoreCommand),
}

/// What can be done with the store.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Copy it to a file; the coordinator may be running.
    ///
    /// The copy is verified before it gets its name. It holds the cluster's keys and secrets: it is
    /// readable for its owner only, and whoever has it is the cluster.
    #[command(after_help = BACKUP_EXAMPLES)]
    Backup {
        /// The file to make.
        file: PathBuf,
        /// Replace a file that is there.
        #[arg(long)]
        force: bool,
    },
    /// Read every page and record and see that they belong together; the coordinator may be running.
    ///
    /// Changes nothing. What is wrong is printed, one line each; the exit code is 1 then.
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify {
        /// The file to check [default: the store in the data directory].
        file: Option<PathBuf>,
    },
    /// Put a copy in the store's place; the coordinator must not be running.
    ///
    /// The former store is kept beside. The copy may know less than the machines do, so that it begins
    /// a new term and holds all orders: nothing is started, stopped or replaced on any machine before
    /// somebody has looked (everynode cluster status) and said so (everynode cluster resume).
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore {
        /// The copy, made by store backup.
        file: PathBuf,
        /// Replace a store that is sound, too.
        #[arg(long)]
        force: bool,
        /// The term to begin: above any that agents have accepted orders of [default: 1000 above the
        /// highest that the copy, the present store and cluster.json tell of].
        #[arg(long, value_name = "N")]
        term: Option<u64>,
    },
}

/// Where things are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// One file in the data directory.
    Sqlite,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object on each line.
    Json,
}

/// Values that make no sense together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No data directory.
    #[error("--data-dir is required: where the store and admin.conf are to be")]
    NoDataDir,
    /// The heartbeat is zero or too long.
    #[error("--heartbeat must be more than 0 and at most 30s")]
    Heartbeat,
    /// The lease ends before a node could be heard twice.
    #[error(
        "--lease must be at least twice --heartbeat, or one lost packet makes a node look lost"
    )]
    Lease,
    /// The window ends before a node could be heard twice.
    #[error("--registration-window must be at least twice --heartbeat")]
    RegistrationWindow,
    /// Certificates would run out before they could be renewed, or never.
    #[error("--node-certificate-lifetime must be between 10s and 10 years")]
    NodeCertificateLifetime,
}

impl Cli {
    /// Reads a command line, the program's name first, the environment, and the file.
    ///
    /// # Errors
    /// What clap says of the line; also help and version, which are to be printed. What is wrong
    /// with the file.
    pub fn read<I: IntoIterator<Item = OsString>>(args: I) -> Result<Self, SettingsError> {
        everynode_settings::read(args, Path::new(CONFIG_FILE))
    }

    /// The data directory.
    ///
    /// # Errors
    /// When none is named.
    pub fn data_dir(&self) -> Result<PathBuf, ConfigError> {
        self.data_dir.clone().ok_or(ConfigError::NoDataDir)
    }
}

impl ServeArgs {
    /// The numbers that are decided by.
    ///
    /// # Errors
    /// When they make no sense together.
    pub fn fleet(&self) -> Result<Config, ConfigError> {
        if self.heartbeat.is_zero() || self.heartbeat > LONGEST_HEARTBEAT {
            return Err(ConfigError::Heartbeat);
        }
        let twice = self.heartbeat.saturating_mul(2);
        if self.lease < twice {
            return Err(ConfigError::Lease);
        }
        if self.registration_window < twice {
            return Err(ConfigError::RegistrationWindow);
        }
        if !CERTIFICATE_LIFETIMES.contains(&self.node_certificate_lifetime) {
            return Err(ConfigError::NodeCertificateLifetime);
        }
        Ok(Config {
            lease: self.lease,
            registration_window: self.registration_window,
            heartbeat_interval: self.heartbeat,
            removal_percent: self.removal_limit,
            ..Config::default()
        })
    }

    /// The addresses to advertise, when listening on `bound` on a machine of that name.
    pub fn advertised(&self, bound: SocketAddr, machine: &str) -> Vec<String> {
        if !self.advertise.is_empty() {
            return self.advertise.clone();
        }
        if bound.ip().is_unspecified() {
            return vec![format!("{machine}:{}", bound.port())];
        }
        vec![bound.to_string()]
    }

    /// The address for an admin.conf on this machine.
    pub fn for_admin(&self, bound: SocketAddr) -> String {
        match (self.advertise.first(), bound.ip()) {
            (Some(first), _) => first.clone(),
            (None, IpAddr::V4(ip)) if ip.is_unspecified() => format!("127.0.0.1:{}", bound.port()),
            (None, IpAddr::V6(ip)) if ip.is_unspecified() => format!("[::1]:{}", bound.port()),
            (None, _) => bound.to_string(),
        }
    }
}

fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(text)
}

fn host_port(text: &str) -> Result<String, String> {
    let told = || format!("{text:?} is not HOST:PORT");
    let (host, port) = text.rsplit_once(':').ok_or_else(told)?;
    let bare = host.trim_matches(['[', ']']);
    let shaped = match bare.contains(':') {
        true => host.starts_with('[') && host.ends_with(']') && bare.parse::<IpAddr>().is_ok(),
        false => {
            host == bare && !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_graphic())
        }
    };
    let port: u16 = port.parse().map_err(|_| told())?;
    if shaped && port > 0 { Ok(text.to_owned()) } else { Err(told()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn read(args: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(["everynode-coordinator"].iter().chain(args).map(OsString::from))
    }

    fn fleet(args: &[&str]) -> Result<Config, ConfigError> {
        read(args).unwrap().serve.fleet()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let cli = read(&["--data-dir", "/d"]).unwrap();
        assert_eq!(cli.data_dir(), Ok(PathBuf::from("/d")));
        assert_eq!(cli.serve.listen, "127.0.0.1:7443".parse().unwrap());
        assert_eq!(cli.serve.fleet(), Ok(Config::default()));
        assert!(cli.command.is_none());
    }

    #[test]
    fn subcommands_take_the_data_directory_on_either_side() {
        for args in [["--data-dir", "/d", "admin-conf"], ["admin-conf", "--data-dir", "/d"]] {
            let cli = read(&args).unwrap();
            assert!(matches!(cli.command, Some(Command::AdminConf)));
            assert_eq!(cli.data_dir(), Ok(PathBuf::from("/d")));
        }
    }

    #[test]
    fn values_that_make_no_sense_are_named() {
        assert_eq!(fleet(&["--heartbeat", "31s"]), Err(ConfigError::Heartbeat));
        assert_eq!(fleet(&["--heartbeat", "0s"]), Err(ConfigError::Heartbeat));
        assert_eq!(fleet(&["--lease", "15s"]), Err(ConfigError::Lease));
        assert_eq!(fleet(&["--registration-window", "1s"]), Err(ConfigError::RegistrationWindow));
        for bad in ["9s", "11years"] {
            let refused = fleet(&["--node-certificate-lifetime", bad]);
            assert_eq!(refused, Err(ConfigError::NodeCertificateLifetime), "{bad}");
        }
        assert_eq!(read(&[]).unwrap().data_dir(), Err(ConfigError::NoDataDir));
        for bad in ["x", ":1", "x:", "x:0", "x:70000", "::1:7443", "[x:1", "a b:1"] {
            assert!(read(&["--advertise", bad]).is_err(), "{bad}");
        }
        assert!(read(&["--store", "floppy"]).is_err());
    }

    #[test]
    fn addresses_are_those_that_are_told_or_can_be_guessed() {
        let args = |args: &[&str]| read(args).unwrap().serve;
        let (any, one): (SocketAddr, SocketAddr) =
            ("[::]:7443".parse().unwrap(), "10.0.0.1:9".parse().unwrap());
        let told = args(&["--advertise", "a:1,[::1]:2"]);
        assert_eq!(told.advertised(any, "m"), ["a:1", "[::1]:2"]);
        assert_eq!(told.for_admin(any), "a:1");
        assert_eq!(args(&[]).advertised(any, "m"), ["m:7443"]);
        assert_eq!(args(&[]).for_admin(any), "[::1]:7443");
        assert_eq!(args(&[]).advertised(one, "m"), ["10.0.0.1:9"]);
    }
}
