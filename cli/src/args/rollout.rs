//! The words of `rollout`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{DryRunArgs, ObjectOutput, duration};

#[derive(Debug, Subcommand)]
pub(crate) enum RolloutVerb {
    /// Follow a rollout until it is done or has failed
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArgs),
    /// Show the revisions that are kept
    #[command(after_help = HISTORY_EXAMPLES)]
    History(HistoryArgs),
    /// Go back to a former revision
    #[command(after_help = UNDO_EXAMPLES)]
    Undo(UndoArgs),
    /// Replace all pods, as a changed template would: within the budget, node by node
    #[command(after_help = RESTART_EXAMPLES)]
    Restart(RolloutArgs),
    /// Take no more steps: nodes stay on the revision that they have
    #[command(after_help = PAUSE_EXAMPLES)]
    Pause(RolloutArgs),
    /// Go on with a rollout that is paused, or that waits for a person after its canaries
    #[command(after_help = RESUME_EXAMPLES)]
    Resume(RolloutArgs),
}

const STATUS_EXAMPLES: &str = "\
Examples:
  # Wait until every node runs the newest revision; exit code 1 when that has failed.
  everynode rollout status daemonset/agent --timeout 10m

  # How far it is, without waiting.
  everynode rollout status daemonset/agent --watch=false";

const HISTORY_EXAMPLES: &str = "\
Examples:
  everynode rollout history daemonset/agent
  everynode rollout history daemonset/agent --revision 3
  everynode rollout history daemonset/agent --revision 3 -o yaml";

const UNDO_EXAMPLES: &str = "\
Examples:
  # The revision before the present one.
  everynode rollout undo daemonset/agent

  # A certain one; first only look at it.
  everynode rollout undo daemonset/agent --to-revision 3 --dry-run=client
  everynode rollout undo daemonset/agent --to-revision 3";

const RESTART_EXAMPLES: &str = "\
Examples:
  everynode rollout restart daemonset/agent
  everynode rollout restart daemonset -l app=agent";

const PAUSE_EXAMPLES: &str = "\
Examples:
  everynode rollout pause daemonset/agent

  # What it has moved so far; then on, or back.
  everynode rollout status daemonset/agent --watch=false
  everynode rollout resume daemonset/agent
  everynode rollout undo daemonset/agent";

const RESUME_EXAMPLES: &str = "\
Examples:
  everynode rollout resume daemonset/agent

  # With the annotation rollout.everynode.dev/canary-wait: manual, the others follow the canaries
  # when this is said; it holds for that revision only.
  everynode rollout resume daemonset/agent";

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// daemonset/NAME
    #[arg(value_name = "TYPE NAME", required = true)]
    pub(crate) what: Vec<String>,
    /// Wait for the end
    #[arg(short, long, default_value_t = true, action = clap::ArgAction::Set,
          default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    pub(crate) watch: bool,
    /// How long to wait (0: for as long as it takes)
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Fail if the newest revision has another number, now or later (0: any)
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) revision: i64,
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// daemonset/NAME
    #[arg(value_name = "TYPE NAME", required = true)]
    pub(crate) what: Vec<String>,
    /// Show this one's pod template (0: all in short)
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) revision: i64,
    /// How to print
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<ObjectOutput>,
}

#[derive(Debug, Args)]
pub(crate) struct UndoArgs {
    /// daemonset/NAME...
    #[arg(value_name = "TYPE NAME", required = true)]
    pub(crate) what: Vec<String>,
    /// To which revision (0: the one before the present)
    #[arg(long, value_name = "NUMBER", default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) to_revision: i64,
    #[command(flatten)]
    pub(crate) dry_run: DryRunArgs,
}

/// `restart`, `pause`, `resume`.
#[derive(Debug, Args)]
pub(crate) struct RolloutArgs {
    /// daemonset/NAME..., or daemonset with -l
    #[arg(value_name = "TYPE NAME", required = true)]
    pub(crate) what: Vec<String>,
    /// Those with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
}
