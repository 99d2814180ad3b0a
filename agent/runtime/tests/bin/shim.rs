//! A pod's supervisor and nothing else, so that this crate's tests need no agent.

fn main() -> std::process::ExitCode {
    everynode_runtime::shim::main()
}
