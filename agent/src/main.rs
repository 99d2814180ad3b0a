//! `everynode-agent`; run again with `shim`, the supervisor of one pod.

use std::process::ExitCode;

fn main() -> ExitCode {
    everynode_agent::main_with_args(std::env::args_os())
}
