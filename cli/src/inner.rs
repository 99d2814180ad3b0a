//! The programs that `demo` runs, which are this one under hidden first words.

use std::ffi::OsString;
use std::process::ExitCode;

use rustix::process::Signal;

/// The first word of a demo's coordinator.
pub(crate) const COORDINATOR: &str = "__coordinator";
/// The first word of a demo's agents.
pub(crate) const AGENT: &str = "__agent";
/// The first word of a pod's supervisor, as an agent gives it to the program it is.
const SHIM: &str = "shim";

/// Runs what the first word says; `None` for everything that people type.
pub(crate) fn run(arguments: &[OsString]) -> Option<ExitCode> {
    let (program, rest) = arguments.split_first()?;
    let (word, rest) = rest.split_first()?;
    let under = |name: &str| {
        let name = program.to_string_lossy().into_owned() + " " + name;
        std::iter::once(OsString::from(name)).chain(rest.iter().cloned()).collect::<Vec<_>>()
    };
    match word.to_str()? {
        // Before any thread or runtime is there: a supervisor has neither.
        SHIM => Some(everynode_runtime::shim::main()),
        COORDINATOR => {
            end_with_parent();
            Some(everynode_coordinator::main_with_args(under(COORDINATOR)))
        }
        AGENT => {
            end_with_parent();
            Some(everynode_agent::main_with_args(under(AGENT)))
        }
        _ => None,
    }
}

/// Should the demo itself be killed, its coordinator and agents are asked to end too. (Pods stay,
/// as always when an agent ends.)
fn end_with_parent() {
    // Where this does not work, they go on until somebody ends them: no reason not to start.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::TERM));
}
