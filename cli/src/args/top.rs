//! `top`.

use clap::{Args, Subcommand, ValueEnum};

const NODE_EXAMPLES: &str = "\
Examples:
  # All nodes, the busiest first.
  everynode top node --sort-by cpu

  # Those of a site.
  everynode top node -l site=lab";

const POD_EXAMPLES: &str = "\
Examples:
  # The pods of a DaemonSet on all nodes, and what they use together.
  everynode top pod -l app=agent --sum

  # Each container of one pod.
  everynode top pod agent-x7k2p --containers

Figures are measured when they are asked for, over a second, on every node at which one of the pods is.";

#[derive(Debug, Subcommand)]
pub(crate) enum TopVerb {
    /// What nodes use of their processors and memory
    #[command(alias = "nodes", alias = "no", after_help = NODE_EXAMPLES)]
    Node(TopNodeArgs),
    /// What pods use
    #[command(alias = "pods", alias = "po", after_help = POD_EXAMPLES)]
    Pod(TopPodArgs),
}

/// By what lines are put in order, the largest first; by name where it is not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortBy {
    Cpu,
    Memory,
}

#[derive(Debug, Args)]
pub(crate) struct TopNodeArgs {
    /// One node [default: all]
    #[arg(value_name = "NAME", conflicts_with = "selector")]
    pub(crate) name: Option<String>,
    /// Those with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// The largest first: cpu or memory
    #[arg(long, value_enum, value_name = "COLUMN")]
    pub(crate) sort_by: Option<SortBy>,
    /// No line with the columns' names
    #[arg(long)]
    pub(crate) no_headers: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TopPodArgs {
    /// One pod [default: all of the namespace]
    #[arg(value_name = "NAME", conflicts_with_all = ["selector", "all_namespaces"])]
    pub(crate) name: Option<String>,
    /// Those with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// Those of all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Each container by itself
    #[arg(long)]
    pub(crate) containers: bool,
    /// The largest first: cpu or memory
    #[arg(long, value_enum, value_name = "COLUMN")]
    pub(crate) sort_by: Option<SortBy>,
    /// No line with the columns' names
    #[arg(long)]
    pub(crate) no_headers: bool,
    /// At the end, what they use together
    #[arg(long)]
    pub(crate) sum: bool,
}
