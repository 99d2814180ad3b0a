//! `exec`.

use std::time::Duration;

use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, override_usage =
          "everynode exec [OPTIONS] <POD | TYPE/NAME> -- <COMMAND> [ARGS]...")]
pub(crate) struct ExecArgs {
    /// POD, pod/NAME or daemonset/NAME
    #[arg(value_name = "POD")]
    pub(crate) what: Vec<String>,
    /// The program and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
    /// The container [default: the template's kubectl.kubernetes.io/default-container, or else the
    /// first]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) container: Option<String>,
    /// Hand it what comes in here
    #[arg(short = 'i', long)]
    pub(crate) stdin: bool,
    /// Give it a terminal, if this is one, too (with -i)
    #[arg(short = 't', long)]
    pub(crate) tty: bool,
    /// Print only what it prints
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Of a DaemonSet: the pod on this node
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// Of a DaemonSet: how long to wait until a pod of it runs
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = super::duration)]
    pub(crate) pod_running_timeout: Duration,
}

const EXAMPLES: &str = "\
The program runs as the container's own does: as its user, with its environment and its mounts, and no
less confined. It ends with this command: what is left of it 5 seconds later is killed, as is what it
leaves behind when it ends by itself. It takes the role admin, and the machine's own settings may deny
it (everynode-agent --deny-exec). Who ran what is kept as an event of the pod.

Exit code: the program's; 1 where it was not run.

Examples:
  # What the pod on one machine sees.
  everynode exec ds/node-exporter --node edge-17 -- cat /etc/resolv.conf

  # A shell in it.
  everynode exec -it node-exporter-x7k2p -- sh

  # A file into it, and out of it.
  everynode exec -i node-exporter-x7k2p -- tar xf - -C /data <backup.tar
  everynode exec node-exporter-x7k2p -- tar cf - /data >backup.tar";
