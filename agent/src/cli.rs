//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

const EXAMPLES: &str = "Examples:
  # Join this machine and run its daemons (as a service, for ever)
  everynode-agent --data-dir /var/lib/everynode-agent \\
      --coordinator coordinator.example:7443 --join-token-file /run/token

  # Once joined, the data directory is all it needs
  everynode-agent --data-dir /var/lib/everynode-agent

  # What runs here, and why not
  everynode-agent pods
  everynode-agent why

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

#[derive(Debug, Args)]
pub(crate) struct Common {
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

    /// A file with the token to join with
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
    /// Show who this machine is and whether it has a coordinator
    Status,
    /// Show the pods of this machine
    Pods,
    /// Show why pods do not run as they ought to
    Why,
    /// Stop every pod and leave the cluster
    Leave,
    /// Take this machine to a coordinator that was built anew, or to another one: what runs goes on,
    /// and what the first order from there does not name is stopped
    Rejoin(Box<Start>),
    /// Stop every pod, and the agent, because this machine goes down; the agent's next start
    /// brings them back
    Shutdown,
    /// Show what this machine can honour
    Check,
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
    fn lists_may_be_repeated_or_joined() {
        let cli = Cli::try_parse_from(["x", "--coordinator", "a:1,b:1", "--coordinator", "c:1"]);
        assert_eq!(cli.unwrap().start.coordinator, ["a:1", "b:1", "c:1"]);
        assert!(Cli::try_parse_from(["x", "--join-token", "a", "--join-token-file", "b"]).is_err());
    }
}
