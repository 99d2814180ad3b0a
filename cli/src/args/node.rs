//! The words of `node` and `drain`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{DryRunArgs, NodesArgs, duration};

#[derive(Debug, Subcommand)]
pub(crate) enum NodeVerb {
    /// Let nodes go on with what they have, whatever is applied, deleted or labelled meanwhile
    #[command(after_help = HOLD_EXAMPLES)]
    Hold(HoldArgs),
    /// Give orders to held nodes again
    Release(NodesArgs),
    /// Stop all pods of nodes, in order, until they are started; also across reboots
    #[command(after_help = STOP_EXAMPLES)]
    Stop(StopArgs),
    /// Run what is wanted on stopped nodes again
    Start(NodesArgs),
}

const HOLD_EXAMPLES: &str = "\
Examples:
  everynode node hold edge-17 --for 2h --reason 'disk is being changed'
  everynode node release edge-17

A held node is given no orders. Crashed pods come back there, rollouts pass it by, and what was missed
reaches it when it is released. To hold one pod on its machine: everynode-agent hold.";

const STOP_EXAMPLES: &str = "\
Examples:
  everynode node stop edge-17 --reason maintenance
  everynode node start edge-17

The node stays registered and its DaemonSets keep their places. To let a machine go for good:
everynode delete node.";

#[derive(Debug, Args)]
pub(crate) struct HoldArgs {
    #[command(flatten)]
    pub(crate) nodes: NodesArgs,
    /// After how long it ends by itself (0: when somebody ends it)
    #[arg(long = "for", value_name = "DURATION", default_value = "0", value_parser = duration)]
    pub(crate) time: Duration,
    /// What for, on one line: describe, get and why tell it
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) dry_run: DryRunArgs,
}

#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    #[command(flatten)]
    pub(crate) nodes: NodesArgs,
    /// What for, on one line: describe, get and why tell it
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) dry_run: DryRunArgs,
}

/// `drain`: whatever is said, it is answered.
#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// NODE, and kubectl's flags
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) what: Vec<String>,
}
