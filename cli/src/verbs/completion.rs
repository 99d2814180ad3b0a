//! `completion`: what a shell needs to complete this program's words.

use clap::{Command, CommandFactory as _};
use clap_complete::Shell as Target;

use crate::args::{Cli, CompletionArgs, Shell};
use crate::error::Error;
use crate::out::Out;

/// Prints the script.
pub(crate) fn run(args: &CompletionArgs, out: &mut Out) -> Result<(), Error> {
    let script = script(Cli::command(), args.shell);
    out.text(&String::from_utf8_lossy(&script))
}

/// The script for a program.
pub(super) fn script(mut command: Command, shell: Shell) -> Vec<u8> {
    let target = match shell {
        Shell::Bash => Target::Bash,
        Shell::Zsh => Target::Zsh,
        Shell::Fish => Target::Fish,
    };
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(target, &mut command, name, &mut script);
    script
}
