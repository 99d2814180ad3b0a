//! `everynode`: what people type.
//!
//! Read in this order: [`args`] (the words), [`verbs`] (what each does), [`kinds`] (how objects
//! look), [`connect`] and [`watch`] (the coordinator), [`demo`] (all of it on one machine).
//!
//! `demo` needs a coordinator and agents: it runs this same program under hidden first words
//! ([`inner`]), and an agent runs it once more as the supervisor of a pod.

mod age;
mod args;
mod config;
mod connect;
mod context;
mod demo;
mod error;
mod expiry;
mod failure;
mod files;
mod inner;
mod jsonpath;
mod kinds;
mod out;
mod placed;
mod stdio;
mod table;
mod targets;
mod verbs;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use crate::args::Cli;
use crate::context::Context;
use crate::error::Error;
use crate::out::Out;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = inner::run(&arguments) {
        return code;
    }
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let mut out = Out::standard();
    let context = Context::new(cli.global);
    // One thread: a command does one thing at a time, and a child process whose parent thread
    // ends is told so (`inner`); this thread lives as long as the process.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(verbs::run(cli.verb, &context, &mut out)),
        Err(error) => Err(Error::Failed(format!("can't start: {error}"))),
    };
    context.tell_warnings(&mut out);
    if let Some(line) = context.warning() {
        out.note(line);
    }
    match outcome {
        Ok(()) | Err(Error::Closed) => ExitCode::SUCCESS,
        Err(Error::Told) => ExitCode::FAILURE,
        Err(Error::Exit(code)) => ExitCode::from(code),
        Err(error) => {
            out.note(error);
            ExitCode::FAILURE
        }
    }
}

/// Prints help (0) or what is wrong with the command line (1, as kubectl).
fn usage(error: &clap::Error) -> ExitCode {
    // Nobody to tell is no other outcome.
    let _ = error.print();
    if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
