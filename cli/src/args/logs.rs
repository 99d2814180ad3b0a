//! `logs`.

use std::time::Duration;

use clap::{ArgAction, Args};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LogsArgs {
    /// POD and maybe CONTAINER, or pod/NAME, or daemonset/NAME
    #[arg(value_name = "POD", num_args = 0..=2, required_unless_present = "selector")]
    pub(crate) what: Vec<String>,
    /// Pods with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "what")]
    pub(crate) selector: Option<String>,
    /// Of a DaemonSet or of those with labels: the pod on this node
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// Of a DaemonSet: all its pods, each line with the pod that it is of
    #[arg(long)]
    pub(crate) all_pods: bool,
    /// The container [default: the first]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) container: Option<String>,
    /// All containers of the pods
    #[arg(long, conflicts_with = "container", action = ArgAction::Set, default_value_t = false, hide_default_value = true,
          default_missing_value = "true", num_args = 0..=1, require_equals = true,
          hide_possible_values = true, value_name = "BOOL")]
    pub(crate) all_containers: bool,
    /// Go on with what comes, until the container ends
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Of the run before the present or last one
    #[arg(short, long)]
    pub(crate) previous: bool,
    /// Only so many of the last lines, -1: all [default: -1; with -l 10]
    #[arg(long, value_name = "LINES", allow_negative_numbers = true,
          value_parser = clap::value_parser!(i64).range(-1..))]
    pub(crate) tail: Option<i64>,
    /// Only what is younger than that (5s, 2m, 3h), by the clocks of the nodes
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    pub(crate) since: Option<Duration>,
    /// Only what came after that date (RFC 3339)
    #[arg(long, value_name = "DATE", conflicts_with = "since", value_parser = date)]
    pub(crate) since_time: Option<prost_types::Timestamp>,
    /// Each line with its date
    #[arg(long, action = ArgAction::Set, default_value_t = false, hide_default_value = true,
          default_missing_value = "true", num_args = 0..=1, require_equals = true,
          hide_possible_values = true, value_name = "BOOL")]
    pub(crate) timestamps: bool,
    /// Each line with the pod and the container that it is of
    #[arg(long, action = ArgAction::Set, default_value_t = false, hide_default_value = true,
          default_missing_value = "true", num_args = 0..=1, require_equals = true,
          hide_possible_values = true, value_name = "BOOL")]
    pub(crate) prefix: bool,
    /// With -f: how many containers may be followed at a time
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) max_log_requests: usize,
    /// No more bytes than that, of each container
    #[arg(long, value_name = "BYTES")]
    pub(crate) limit_bytes: Option<u64>,
    /// Say what fails, and go on with the others
    #[arg(long)]
    pub(crate) ignore_errors: bool,
}

const EXAMPLES: &str = "\
The coordinator keeps nothing of it: it is read on the nodes, from the files of the present or last
run and of the run before. A node that is not connected can't be asked; on it, there is
`everynode-agent logs`.

Examples:
  # What the DaemonSet's pod on one machine prints, and goes on printing.
  everynode logs ds/node-exporter --node edge-17 -f

  # Why it was restarted.
  everynode logs node-exporter-x7k2p --previous --tail 50

  # The last ten minutes of all pods.
  everynode logs ds/node-exporter --all-pods --since 10m --timestamps";

fn date(text: &str) -> Result<prost_types::Timestamp, String> {
    let date: jiff::Timestamp = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    Ok(prost_types::Timestamp { seconds: date.as_second(), nanos: date.subsec_nanosecond() })
}
