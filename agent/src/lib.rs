//! The agent: exactly one of each DaemonSet on this machine, whoever else is away.
//!
//! What ought to be done is decided by `everynode-agent-core`; pods are run by
//! `everynode-runtime`. This crate is the shell between them, the disk, the coordinator and people.
//! Read in this order: [`command`](main_with_args) (from arguments to the loop), [`run`](mod@run)
//! (the loop), `session` (the line to the coordinator), [`ledger`] (what survives), [`body`] (a
//! template at the agent's door), [`stage`] (what must be here before a pod is made).

pub mod artifacts;
pub mod body;
mod check;
mod cli;
pub mod clock;
mod command;
pub mod config;
pub mod data_dir;
pub mod facts;
mod holder;
pub mod identity;
pub mod join;
pub mod ledger;
pub mod local;
mod logs;
mod people;
mod probes;
pub mod random;
mod rejoin;
pub mod report;
pub mod run;
pub mod service;
mod session;
pub mod stage;
pub mod streams;

pub use cli::command_line;
pub use command::main_with_args;
pub use run::{Outcome, Parts, RunError, run};
