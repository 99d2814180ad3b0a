//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

const EXAMPLES: &str = "Examples:
  # Join this machine and run its daemons (as a service, for ever)
  everynode-agent --data-dir /var/lib/everynode-agent \\
      --coordinator coordinator.example:7443 --join-token-file /run/token

  # Once joined, the data directory is all it needs
  everynode-agent --data-dir /var/lib/everynode-agent

  # What this machine can honour: the first thing to run on it
  everynode-agent check

  # What runs here, why not, and what it prints; no coordinator is needed for any of these
  everynode-agent status
  everynode-agent pods -o wide
  everynode-agent why
  everynode-agent logs node-exporter --tail 20 -f

  # Keep a daemon as it is, or down, whatever is ordered
  everynode-agent hold node-exporter --stop --for 2h --reason 'replacing a disk'
  everynode-agent release node-exporter

  # Stop everything and leave the cluster
  everynode-agent leave

  # Go on under a coordinator that was built anew (apply its DaemonSets first), pods running on
  everynode-agent rejoin --coordinator coordinator.example:7443 --join-token-file /run/token

  # Stop everything because this machine goes down (its service manager runs this)
  everynode-agent shutdown";

/// Runs exactly one of every DaemonSet on this machine, as its coordinator says.
#[derive(Debug, Parser)]
#[command(name = "everynode-agent", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    #[command(flatten)]
    pub(crate) common: Common,

    #[command(flatten)]
    pub(crate) start: Start,
}

/// The command line as such, for its manual and for shells that complete it.
pub fn command_line() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

#[derive(Debug, Args)]
pub(crate) struct Common {
    /// A file with what flags and the environment do not say: YAML, its keys the flags' names
    /// [default: /etc/everynode/agent.yaml, if that is there]
    #[arg(long, value_name = "FILE", global = true, env = "EVERYNODE_AGENT_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Where key, certificate and ledger are kept; one agent per directory
    #[arg(
        long,
        value_name = "DIR",
        global = true,
        env = "EVERYNODE_AGENT_DATA_DIR",
        default_value = "/var/lib/everynode-agent"
    )]
    pub(crate) data_dir: PathBuf,

    /// Under which cgroup pods live, relative to the cgroup v2 mount
    #[arg(
        long,
        value_name = "NAME",
        global = true,
        env = "EVERYNODE_AGENT_CGROUP_ROOT",
        default_value = "everynode"
    )]
    pub(crate) cgroup_root: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct Start {
    /// Where coordinators are; remembered, and changed by giving it again
    #[arg(
        long,
        value_name = "HOST:PORT",
        value_delimiter = ',',
        env = "EVERYNODE_AGENT_COORDINATOR"
    )]
    pub(crate) coordinator: Vec<String>,

    /// The token to join with; visible to others on this machine, a file is not
    #[arg(
        long,
        value_name = "TOKEN",
        env = "EVERYNODE_AGENT_JOIN_TOKEN",
        hide_env_values = true,
        conflicts_with = "join_token_file"
    )]
    pub(crate) join_token: Option<String>,

    /// A file with the token to join with [default: systemd's credential join-token, if it is set]
    #[arg(long, value_name = "FILE", env = "EVERYNODE_AGENT_JOIN_TOKEN_FILE")]
    pub(crate) join_token_file: Option<PathBuf>,

    /// The node's name [default: the host's name]
    #[arg(long, value_name = "NAME", env = "EVERYNODE_AGENT_NODE_NAME")]
    pub(crate) node_name: Option<String>,

    /// A label the node begins with; operators own labels after it has joined
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',', env = "EVERYNODE_AGENT_LABEL")]
    pub(crate) label: Vec<String>,

    /// A taint the node begins with; operators own taints after it has joined
    #[arg(
        long,
        value_name = "KEY=VALUE:EFFECT",
        value_delimiter = ',',
        env = "EVERYNODE_AGENT_TAINT"
    )]
    pub(crate) taint: Vec<String>,

    /// Where the seccomp profiles are that pods name [default: seccomp in the data directory]
    #[arg(long, value_name = "DIR", env = "EVERYNODE_AGENT_SECCOMP_PROFILE_ROOT")]
    pub(crate) seccomp_profile_root: Option<PathBuf>,

    /// The size from which a container's log goes on in another file; five files are kept of a run
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "10Mi",
        env = "EVERYNODE_AGENT_CONTAINER_LOG_MAX_SIZE",
        value_parser = log_size
    )]
    pub(crate) container_log_max_size: u64,

    /// Let nobody run programs in pods from elsewhere (everynode exec), whatever the coordinator says
    #[arg(
        long,
        value_name = "BOOL",
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true",
        env = "EVERYNODE_AGENT_DENY_EXEC"
    )]
    pub(crate) deny_exec: bool,

    /// Where else delivered files are fetched from, and first: what begins with the first PREFIX is at
    /// the second; https:// or http://
    #[arg(
        long,
        value_name = "PREFIX=PREFIX",
        value_delimiter = ',',
        env = "EVERYNODE_AGENT_ARTIFACT_MIRROR"
    )]
    pub(crate) artifact_mirror: Vec<String>,

    /// A directory with delivered files, called by their SHA-256 (also parts of images) or their
    /// name; looked at before all else
    #[arg(long, value_name = "DIR", env = "EVERYNODE_AGENT_ARTIFACT_DIR")]
    pub(crate) artifact_dir: Option<PathBuf>,

    /// A file of certificate authorities to trust for fetching, besides the system's
    #[arg(long, value_name = "FILE", env = "EVERYNODE_AGENT_ARTIFACT_CA")]
    pub(crate) artifact_ca: Option<PathBuf>,

    /// A file of names and passwords for registries (a config.json of Docker's), besides
    /// imagePullSecrets
    #[arg(long, value_name = "FILE", env = "EVERYNODE_AGENT_REGISTRY_CONFIG")]
    pub(crate) registry_config: Option<PathBuf>,

    /// The largest file or image that is fetched, as 500Mi or 2Gi; it may hold four times as much
    /// unpacked
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "1Gi",
        env = "EVERYNODE_AGENT_ARTIFACT_MAX_SIZE"
    )]
    pub(crate) artifact_max_size: String,

    /// How log lines look
    #[arg(long, value_enum, default_value = "text", env = "EVERYNODE_AGENT_LOG_FORMAT")]
    pub(crate) log_format: LogFormat,

    /// The least important log lines shown
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "EVERYNODE_AGENT_LOG_LEVEL")]
    pub(crate) log_level: tracing::level_filters::LevelFilter,

    /// For tests that put several machines on one
    #[arg(long, value_name = "FILE", hide = true, env = "EVERYNODE_AGENT_BOOT_ID_FILE")]
    pub(crate) boot_id_file: Option<PathBuf>,

    /// For tests that put several machines on one
    #[arg(long, value_name = "FILE", hide = true, env = "EVERYNODE_AGENT_MACHINE_ID_FILE")]
    pub(crate) machine_id_file: Option<PathBuf>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For programs: one object per line.
    Json,
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum Command {
    /// Show who this machine is, whether it has a coordinator, and what is held
    ///
    /// Without a running agent it shows what identity and ledger say.
    #[command(after_help = "Examples:
  everynode-agent status
  everynode-agent status -o json")]
    Status {
        /// In which form, if not as text
        #[arg(short, long, value_enum, value_name = "FORMAT")]
        output: Option<Json>,
    },
    /// Show the pods of this machine
    ///
    /// Without a running agent it shows what the ledger wants and what lives in the cgroups.
    #[command(after_help = "Examples:
  everynode-agent pods
  everynode-agent pods -o wide
  everynode-agent pods -n monitoring -o json")]
    Pods {
        /// Only those of this namespace
        #[arg(short, long)]
        namespace: Option<String>,
        /// In which form, if not as a table
        #[arg(short, long, value_enum, value_name = "FORMAT")]
        output: Option<PodsFormat>,
    },
    /// Show why pods do not run as they ought to
    #[command(after_help = "Examples:
  # Everything that does not simply run
  everynode-agent why
  # One DaemonSet's pod
  everynode-agent why node-exporter -n monitoring")]
    Why {
        /// The DaemonSet; all without one
        name: Option<String>,
        /// The DaemonSet's namespace [default: default]
        #[arg(short, long)]
        namespace: Option<String>,
    },
    /// Print what a pod here has printed
    ///
    /// Read from the files in the data directory, so that it needs neither coordinator nor agent;
    /// also of a pod that is gone, as long as its files are there.
    #[command(after_help = "Examples:
  everynode-agent logs node-exporter
  # The last 20 lines, and what comes
  everynode-agent logs node-exporter -n monitoring --tail 20 -f
  # What it printed before it was restarted
  everynode-agent logs node-exporter --previous")]
    Logs(LogsArgs),
    /// Keep a pod as it is, whatever is ordered, until it is released
    ///
    /// What runs runs on at its revision, and is restarted when it dies; what does not run is not
    /// started. Orders are accepted, and take effect on release. It holds across restarts of the
    /// agent and the machine; a machine that leaves its cluster heeds no hold.
    #[command(after_help = "Examples:
  # No update while somebody looks into it
  everynode-agent hold node-exporter -n monitoring --reason 'looking into a leak'
  # Down for two hours, for work on the machine
  everynode-agent hold node-exporter --stop --for 2h
  # The machine as it is
  everynode-agent hold --all")]
    Hold {
        #[command(flatten)]
        what: What,
        /// Stop it, too, and keep it down; waits until it is down
        #[arg(long)]
        stop: bool,
        /// Release it by itself after so long, as 90s, 30m or 2h
        #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
        lasting: Option<Duration>,
        /// What for: shown here and by the coordinator
        #[arg(
            long,
            value_name = "TEXT",
            default_value = "",
            hide_default_value = true,
            value_parser = reason
        )]
        reason: String,
    },
    /// Let a pod that is held follow its orders again
    #[command(after_help = "Examples:
  everynode-agent release node-exporter -n monitoring
  # Everything that is held here
  everynode-agent release --all")]
    Release {
        #[command(flatten)]
        what: What,
    },
    /// Stop every pod and leave the cluster
    Leave,
    /// Take this machine to a coordinator that was built anew, or to another one: what runs goes on,
    /// and what the first order from there does not name is stopped
    Rejoin(Box<Start>),
    /// Stop every pod, and the agent, because this machine goes down; the agent's next start
    /// brings them back
    Shutdown,
    /// Show what this machine can honour, and what keeps it from running pods
    ///
    /// Exits with 1 when something essential is missing. To be run before a machine is joined, and
    /// whenever something is odd.
    #[command(after_help = "Examples:
  everynode-agent check
  # Whether the coordinator is in reach, too
  everynode-agent check --coordinator coordinator.example:7443 --join-token-file /run/token")]
    Check(CheckArgs),
}

/// Which pods.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct What {
    /// The DaemonSet
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) name: Option<String>,
    /// Everything on this node, also what is not ordered yet
    #[arg(long, conflicts_with = "namespace")]
    pub(crate) all: bool,
    /// The DaemonSet's namespace [default: default]
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct LogsArgs {
    /// The DaemonSet, or a pod's name or uid
    pub(crate) name: String,
    /// The DaemonSet's namespace [default: default]
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    /// The container; the first without one
    #[arg(short, long)]
    pub(crate) container: Option<String>,
    /// Only so many of the last lines; -1: all
    #[arg(long, value_name = "LINES", default_value_t = -1, allow_negative_numbers = true)]
    pub(crate) tail: i64,
    /// Go on with what comes, until the pod is gone
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// What was printed by the run before the present or last one
    #[arg(short, long, conflicts_with = "follow")]
    pub(crate) previous: bool,
    /// With the time of each line
    #[arg(long)]
    pub(crate) timestamps: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct CheckArgs {
    /// Where coordinators are, if no machine has joined here yet
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    pub(crate) coordinator: Vec<String>,
    /// A file with the token to join with: by it a coordinator is trusted
    #[arg(long, value_name = "FILE")]
    pub(crate) join_token_file: Option<PathBuf>,
    /// In which form, if not as text
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub(crate) output: Option<Json>,
}

/// The form that programs read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Json {
    /// JSON.
    Json,
}

/// Forms of a list of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PodsFormat {
    /// With more columns.
    Wide,
    /// As Kubernetes has them.
    Json,
    /// `pod/NAME`, one a line.
    Name,
}

/// The longest reason of a hold: what anybody reads, and, escaped sixfold at the worst, with room for
/// the rest of a question to the agent.
const MAX_REASON: usize = 512;

fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration < Duration::from_secs(1) => Err("less than a second".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; such as 90s, 30m or 2h")),
    }
}

/// The least size of a full log file in bytes: the longest record, and some more.
const MIN_LOG_SIZE: u64 = 32 * 1024;

fn log_size(text: &str) -> Result<u64, String> {
    match bytes(text, &BINARY) {
        Some(size) if size >= MIN_LOG_SIZE => Ok(size),
        Some(_) => Err("at least 32Ki, so that the longest line fits in".into()),
        None => Err("must be a number of bytes, such as 10Mi".into()),
    }
}

/// Units of sizes as Kubernetes writes them.
pub(crate) const BINARY: [(&str, u64); 3] = [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30)];

/// A whole number with one of these units, or of bytes.
pub(crate) fn bytes(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = match unit {
        "" => 1,
        unit => units.iter().find(|(name, _)| *name == unit)?.1,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// One line that fits where it is shown: in tables, and in one line of `why`.
fn reason(text: &str) -> Result<String, String> {
    if text.chars().any(char::is_control) {
        return Err("it must be one line".into());
    }
    match text.len() {
        0..=MAX_REASON => Ok(text.to_owned()),
        length => Err(format!("it has {length} bytes, and at most {MAX_REASON} are kept")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_data_directory_may_stand_on_either_side() {
        for line in [["x", "--data-dir", "/d", "leave"], ["x", "leave", "--data-dir", "/d"]] {
            let cli = Cli::try_parse_from(line).unwrap();
            assert_eq!(cli.command, Some(Command::Leave));
            assert_eq!(cli.common.data_dir, PathBuf::from("/d"));
        }
    }

    #[test]
    fn a_reason_is_one_line_that_a_question_holds() {
        let parse = |reason: &str| Cli::try_parse_from(["x", "hold", "a", "--reason", reason]);
        assert!(parse(&"r".repeat(MAX_REASON)).is_ok());
        for (reason, said) in [("two\nlines".to_owned(), "one line"), ("r".repeat(9_000), "9000")] {
            assert!(parse(&reason).unwrap_err().to_string().contains(said));
        }
    }

    #[test]
    fn sizes_of_logs_are_written_as_in_kubernetes() {
        let parse = |size| Cli::try_parse_from(["x", "--container-log-max-size", size]);
        for (text, size) in [("32Ki", 32 << 10), ("1Gi", 1 << 30), ("1000000", 1_000_000)] {
            assert_eq!(parse(text).unwrap().start.container_log_max_size, size);
        }
        let usual = Cli::try_parse_from(["x"]).unwrap().start.container_log_max_size;
        assert_eq!(usual, everynode_runtime::MAX_LOG_FILE);
        for bad in ["", "10", "31Ki", "-1", "1e6", "10M", "99999999999Gi"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_hold_is_of_one_or_of_all() {
        let parse = |words: &[&str]| Cli::try_parse_from([&["x"], words].concat());
        let held = parse(&["hold", "a", "-n", "b", "--stop", "--for", "2h"]).unwrap().command;
        let Some(Command::Hold { what, stop: true, lasting, .. }) = held else {
            panic!("{held:?}")
        };
        assert_eq!((what.name.as_deref(), what.namespace.as_deref()), (Some("a"), Some("b")));
        assert_eq!(lasting, Some(Duration::from_secs(7200)));
        assert!(parse(&["hold", "--all"]).is_ok());
        for bad in [
            &["hold"][..],
            &["hold", "a", "--all"],
            &["hold", "--all", "-n", "b"],
            &["hold", "a", "--for", "0s"],
            &["hold", "a", "--for", "soon"],
            &["release"],
            &["logs"],
            &["logs", "a", "-f", "-p"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn lists_may_be_repeated_or_joined() {
        let cli = Cli::try_parse_from(["x", "--coordinator", "a:1,b:1", "--coordinator", "c:1"]);
        assert_eq!(cli.unwrap().start.coordinator, ["a:1", "b:1", "c:1"]);
        assert!(Cli::try_parse_from(["x", "--join-token", "a", "--join-token-file", "b"]).is_err());
    }
}
