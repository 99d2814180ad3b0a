//! `wait`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WaitArgs {
    /// TYPE NAME... or TYPE/NAME...
    #[arg(value_name = "TYPE NAME", required_unless_present = "filename")]
    pub(crate) what: Vec<String>,
    /// What a file names
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
    /// create, delete, condition=NAME[=STATUS] or jsonpath='{PATH}'[=VALUE]
    #[arg(long, value_name = "WHAT", required = true)]
    pub(crate) r#for: String,
    /// How long to wait for all of them together (0: look once; below: a week)
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = patience,
          allow_hyphen_values = true)]
    pub(crate) timeout: Duration,
}

const EXAMPLES: &str = "\
Exit codes: 0 it holds of all of them, 1 it did not come about in time.

Examples:
  everynode wait ds/agent --for=condition=Available --timeout=5m
  everynode wait node --all --for=condition=Ready
  everynode wait ds/agent --for=jsonpath='{.status.numberReady}'=3
  everynode wait pod -l app=old --for=delete --timeout=60s";

/// As [`super::duration`]; one below zero is a week, as to kubectl.
fn patience(text: &str) -> Result<Duration, String> {
    match text.strip_prefix('-') {
        Some(less) => super::duration(less).map(|_| Duration::from_secs(7 * 24 * 60 * 60)),
        None => super::duration(text),
    }
}
