//! The command line: kubectl's words, flags and defaults.

mod exec;
mod get;
mod logs;
mod node;
mod rollout;
mod top;
mod wait;
mod write;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use exec::ExecArgs;
pub(crate) use get::{GetArgs, Output, Template};
pub(crate) use logs::LogsArgs;
pub(crate) use node::{DrainArgs, NodeVerb};
pub(crate) use rollout::{HistoryArgs, RolloutArgs, RolloutVerb, StatusArgs, UndoArgs};
pub(crate) use top::{SortBy, TopNodeArgs, TopPodArgs, TopVerb};
pub(crate) use wait::WaitArgs;
pub(crate) use write::{
    ApplyArgs, ApplyVerb, BareArgs, CreateArgs, CreateVerb, DiffArgs, EditArgs, PatchArgs,
    PatchType, SaveArgs, SecretVerb, ValuesArgs, ViewLastAppliedArgs, WriteArgs,
};

/// Runs exactly one instance of every DaemonSet on every registered machine.
#[derive(Debug, Parser)]
#[command(name = "everynode", version, disable_help_subcommand = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Flags that every verb takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Which coordinator, and as whom (a kubeconfig) [default: ~/.everynode/config]
    #[arg(
        long,
        global = true,
        env = "EVERYNODE_CONFIG",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub(crate) config: Option<PathBuf>,
    /// The namespace, for kinds that have one [default: the configuration's, else "default"]
    #[arg(short, long, global = true, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Change it also where that stops more than a tenth of a DaemonSet's running pods for good (the
    /// coordinator's --removal-limit), or, after a restore, pods that the store does not know
    #[arg(long, global = true)]
    pub(crate) allow_removal: bool,
    /// How long one request may take (1s, 2m, 1h; 0: as long as the coordinator allows)
    #[arg(long, global = true, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub(crate) request_timeout: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Create DaemonSets, ConfigMaps, Secrets and Namespaces from files
    Create(CreateArgs),
    /// Create objects from files, or change them to what the files say
    Apply(ApplyArgs),
    /// Replace DaemonSets by what files say
    Replace(SaveArgs),
    /// Show what applying files would change
    Diff(DiffArgs),
    /// Change an object in an editor
    Edit(EditArgs),
    /// Change an object by a patch
    Patch(PatchArgs),
    /// Delete DaemonSets, pods (they are replaced) or nodes (they are deregistered)
    #[command(after_help = DELETE_EXAMPLES)]
    Delete(DeleteArgs),
    /// Show objects, one per line
    Get(GetArgs),
    /// Show all about some objects
    Describe(DescribeArgs),
    /// Show what containers print
    Logs(LogsArgs),
    /// Run a program in a container
    Exec(ExecArgs),
    /// Show what nodes and pods use of processors and memory
    #[command(subcommand)]
    Top(TopVerb),
    /// Change labels of objects: KEY=VALUE sets one, KEY- removes it
    Label(ChangeArgs),
    /// Change annotations of objects: KEY=VALUE sets one, KEY- removes it
    Annotate(ChangeArgs),
    /// Change taints of nodes: KEY=VALUE:EFFECT sets one, KEY:EFFECT- or KEY- removes it
    Taint(ChangeArgs),
    /// Hold nodes as they are, or stop and start their pods
    #[command(subcommand)]
    Node(NodeVerb),
    /// Say what there is instead: nothing can be moved away from a node
    Drain(DrainArgs),
    /// Mark nodes as unschedulable (DaemonSets ignore it)
    Cordon(NodesArgs),
    /// Mark nodes as schedulable
    Uncordon(NodesArgs),
    /// Wait until something holds of objects, or they are gone, or there
    Wait(WaitArgs),
    /// Say why things do not run as wanted
    #[command(after_help = WHY_EXAMPLES)]
    Why(WhyArgs),
    /// Whether orders are given, and giving them again after the store was restored
    #[command(subcommand)]
    Cluster(ClusterVerb),
    /// Tokens with which machines join
    #[command(subcommand)]
    Token(TokenVerb),
    /// How a DaemonSet's newest revision gets around
    #[command(subcommand)]
    Rollout(RolloutVerb),
    /// Show the versions of this program and of the coordinator
    Version(VersionArgs),
    /// Print a shell's completion script
    #[command(after_help = COMPLETION_EXAMPLES)]
    Completion(CompletionArgs),
    /// Write man pages and completions of all programs
    #[command(hide = true)]
    Reference(ReferenceArgs),
    /// Run a coordinator and nodes on this machine and show what they do
    Demo(DemoArgs),
}

#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// A file, a directory of .yaml, .yml and .json files, or - for standard input
    #[arg(short, long = "filename", value_name = "FILE", value_delimiter = ',', required = true)]
    pub(crate) filename: Vec<PathBuf>,
    /// Read directories in directories too
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DryRunArgs {
    /// none; client: check here and send nothing; server: have the coordinator do all but store it,
    /// and say of a manifest whether it runs here, and what it would lack
    #[arg(long, value_enum, default_value = "none", require_equals = true, value_name = "WHERE")]
    pub(crate) dry_run: DryRun,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DryRun {
    None,
    Client,
    Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ObjectOutput {
    Name,
    Yaml,
    Json,
}

const DELETE_EXAMPLES: &str = "\
Examples:
  # A DaemonSet; and wait until its pods are stopped on all nodes that are connected.
  everynode delete daemonset agent
  everynode delete daemonset agent --cascade=foreground --timeout 1m

  # Leave its pods running, for one that is created later under the same name.
  everynode delete daemonset agent --cascade=orphan

  # Have pods replaced; deregister a machine.
  everynode delete pod -l app=agent
  everynode delete node edge-17

One DaemonSet is deleted by its name without more ado. Several that -l or --all choose, with more
than a tenth of all running pods (the coordinator's --removal-limit), want --allow-removal.";

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// TYPE NAME... or TYPE/NAME...
    #[arg(value_name = "TYPE NAME")]
    pub(crate) what: Vec<String>,
    /// Delete what a file, a directory or standard input (-) names
    #[arg(
        short,
        long = "filename",
        value_name = "FILE",
        value_delimiter = ',',
        conflicts_with = "what"
    )]
    pub(crate) filename: Vec<PathBuf>,
    /// Read directories in directories too
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// Those with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// All of the type in the namespace
    #[arg(long, conflicts_with = "selector")]
    pub(crate) all: bool,
    /// DaemonSets only; background: it is gone at once, and its pods stop as their nodes hear of it;
    /// foreground: wait until those of connected nodes have stopped; orphan: its pods run on, until
    /// each is deleted or a DaemonSet of its name and selector takes them over
    #[arg(long, value_enum, default_value = "background", value_name = "HOW")]
    pub(crate) cascade: Cascade,
    /// Wait until it has come about
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set,
          default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    pub(crate) wait: bool,
    /// How long to wait (0: for as long as it takes)
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Not heeded but for -1: pods have the grace of their template
    #[arg(long, value_name = "SECONDS", default_value_t = -1, allow_negative_numbers = true,
          hide_default_value = true)]
    pub(crate) grace_period: i64,
    /// Refused: pods have the grace of their template
    #[arg(long)]
    pub(crate) now: bool,
    /// Nodes only: drop it without its word; should it call again, it is refused and goes on
    /// running what it runs
    #[arg(long)]
    pub(crate) forget: bool,
    /// Nodes only: the one with this uid, where a removed one and its successor share a name
    #[arg(long, value_name = "UID", default_value = "", hide_default_value = true)]
    pub(crate) uid: String,
    /// What is not there counts as deleted
    #[arg(long)]
    pub(crate) ignore_not_found: bool,
    #[command(flatten)]
    pub(crate) dry_run: DryRunArgs,
    /// How to print what came of it
    #[arg(short, long, value_parser = ["name"])]
    pub(crate) output: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cascade {
    Background,
    Foreground,
    Orphan,
}

#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    /// TYPE [NAME...] or TYPE/NAME...: daemonset, node, pod
    #[arg(value_name = "TYPE NAME", required = true)]
    pub(crate) what: Vec<String>,
    /// Those with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// Of all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
}

/// `label`, `annotate` and `taint`.
#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    /// TYPE NAME... CHANGE... or TYPE/NAME CHANGE...; taints are of nodes only
    #[arg(value_name = "TYPE NAME CHANGE", required = true)]
    pub(crate) what: Vec<String>,
    /// Replace other values
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// All of the type in the namespace
    #[arg(long, conflicts_with = "selector")]
    pub(crate) all: bool,
    /// Those with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// Show what there is (not of taints)
    #[arg(long)]
    pub(crate) list: bool,
    /// Only if the object is of this version still (not of nodes)
    #[arg(long, value_name = "VERSION")]
    pub(crate) resource_version: Option<String>,
    #[command(flatten)]
    pub(crate) dry_run: DryRunArgs,
    /// How to print what came of it (not of taints)
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<ObjectOutput>,
}

#[derive(Debug, Args)]
pub(crate) struct NodesArgs {
    /// NODE...
    #[arg(value_name = "NODE", required = true)]
    pub(crate) nodes: Vec<String>,
}

const WHY_EXAMPLES: &str = "\
Examples:
  # All that is not as wanted; beyond a screen it is counted by reason.
  everynode why

  # One DaemonSet, counted by reason; and each of its nodes.
  everynode why daemonset agent
  everynode why daemonset agent --all

  # What one node does, and does not.
  everynode why node edge-17";

#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// node NAME, pod NAME or daemonset NAME; without, everything that does not run as wanted
    #[arg(value_name = "TYPE NAME")]
    pub(crate) what: Vec<String>,
    /// Each node on its own line, where nodes would be counted by reason
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterVerb {
    /// Show whether orders are given or held, and what giving them would change
    Status,
    /// Give orders again after a restore
    #[command(after_help = RESUME_EXAMPLES)]
    Resume(ResumeArgs),
}

const RESUME_EXAMPLES: &str = "\
Examples:
  # After everynode-coordinator store restore: what do the machines run that the store lacks?
  everynode cluster status

  # Apply what the store lacks; pods of the same meaning are not restarted.
  everynode apply -f manifests/

  # Then give orders again.
  everynode cluster resume";

#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    pub(crate) dry_run: DryRunArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenVerb {
    /// Make a token and print it; it is seen this once
    Create(TokenCreateArgs),
    /// Show the tokens that are good
    List,
    /// Make tokens useless; machines that joined with them stay
    Revoke {
        /// A token's id, or the whole token
        #[arg(value_name = "TOKEN", required = true)]
        tokens: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TokenCreateArgs {
    /// For how long it is good
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
    pub(crate) ttl: Duration,
    /// For how many machines it is good [default: any number]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) uses: Option<u32>,
    /// The only node name that may join with it
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// A node of that name is replaced: for a machine that was set up anew
    #[arg(long, requires = "node_name")]
    pub(crate) replace: bool,
    /// Print the command to run on the machine instead of the token alone
    #[arg(long)]
    pub(crate) print_join_command: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// Only this program's
    #[arg(long)]
    pub(crate) client: bool,
}

const COMPLETION_EXAMPLES: &str = "\
Examples:
  # In this shell, now.
  source <(everynode completion bash)

  # In every shell from now on.
  everynode completion bash >/etc/bash_completion.d/everynode
  everynode completion zsh >\"${fpath[1]}/_everynode\"
  everynode completion fish >~/.config/fish/completions/everynode.fish";

#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// For which shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// Shells that complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
pub(crate) struct ReferenceArgs {
    /// The directory to write them to, as they lie below /usr
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// How many nodes to begin with
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(3..=50))]
    pub(crate) nodes: u32,
    /// Where to keep everything: a directory that is empty or not there, removed at the end
    /// [default: a new one among the temporary files]
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Play the scenes and end; exit code 1 if anything was not as promised
    #[arg(long)]
    pub(crate) once: bool,
}

/// Reads `90`, `90s`, `1m30s`, `0`.
fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
