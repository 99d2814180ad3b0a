//! `reference`: the man pages and completions of all three programs, for packages. This program links
//! the other two, so that they need not carry what makes these.
//!
//! ```text
//!   DIR/man1/everynode.1, everynode-get.1 …      one page for each verb
//!   DIR/man8/everynode-agent.8, …
//!   DIR/bash/PROGRAM, DIR/zsh/_PROGRAM, DIR/fish/PROGRAM.fish
//! ```

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use super::completion::script;
use crate::args::{Cli, ReferenceArgs, Shell};
use crate::error::Error;

/// Writes them all; what is there already is replaced.
pub(crate) fn run(args: &ReferenceArgs) -> Result<(), Error> {
    programs().into_iter().try_for_each(|(program, section)| {
        let written =
            pages(&program, section, &args.dir).and_then(|()| completions(&program, &args.dir));
        written.map_err(|source| Error::File { path: args.dir.display().to_string(), source })
    })
}

/// Each with the section of the manual that it belongs to.
fn programs() -> Vec<(Command, &'static str)> {
    let coordinator = everynode_coordinator::config::Cli::command();
    vec![(Cli::command(), "1"), (everynode_agent::command_line(), "8"), (coordinator, "8")]
}

fn completions(program: &Command, dir: &Path) -> io::Result<()> {
    let name = program.get_name();
    for (shell, folder, file) in [
        (Shell::Bash, "bash", name.to_owned()),
        (Shell::Zsh, "zsh", format!("_{name}")),
        (Shell::Fish, "fish", format!("{name}.fish")),
    ] {
        let folder = dir.join(folder);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(file), script(program.clone(), shell))?;
    }
    Ok(())
}

/// A page for the program, and one for each of its subcommands.
fn pages(program: &Command, section: &str, dir: &Path) -> io::Result<()> {
    let folder = dir.join(format!("man{section}"));
    fs::create_dir_all(&folder)?;
    let mut program = program.clone().disable_help_subcommand(true);
    program.build();
    page_and_below(&program, section, &folder)
}

fn page_and_below(command: &Command, section: &str, folder: &Path) -> io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        page_and_below(below, section, folder)?;
    }
    let man = Man::new(command.clone()).section(section);
    let mut page = Vec::new();
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    // Without a date: the same program has the same pages.
    let version = env!("CARGO_PKG_VERSION");
    writeln!(page, ".TH {} {section} \"\" \"Everynode {version}\" Everynode", name.to_uppercase())?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|below| !below.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(text) = command.get_after_help() {
        examples(&text.to_string(), &mut page)?;
    }
    fs::write(folder.join(man.get_filename()), page)
}

/// What stands below a command's help, line for line: they are commands.
fn examples(text: &str, page: &mut Vec<u8>) -> io::Result<()> {
    let text = text.strip_prefix("Examples:\n").unwrap_or(text);
    writeln!(page, ".SH EXAMPLES\n.nf")?;
    for line in text.lines() {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        // Else a request to the formatter.
        let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
        writeln!(page, "{guard}{line}")?;
    }
    writeln!(page, ".fi")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_a_page_and_every_program_completes() {
        let dir = tempfile::tempdir().unwrap();
        run(&ReferenceArgs { dir: dir.path().into() }).unwrap();
        let read = |path: &str| fs::read_to_string(dir.path().join(path)).unwrap();
        for page in [
            "man1/everynode.1",
            "man1/everynode-apply.1",
            "man1/everynode-rollout-undo.1",
            "man8/everynode-agent.8",
            "man8/everynode-agent-leave.8",
            "man8/everynode-coordinator-store-restore.8",
        ] {
            assert!(read(page).contains(".SH SYNOPSIS"), "{page}");
        }
        let page = read("man8/everynode-agent.8");
        assert!(page.contains("EVERYNODE_AGENT_NODE_NAME"), "a variable is missing: {page}");
        assert!(!page.contains("boot\\-id\\-file"), "a hidden flag is shown: {page}");
        assert!(!dir.path().join("man1/everynode-reference.1").exists(), "a hidden verb is shown");
        for (script, word) in [
            ("bash/everynode", "rollout"),
            ("zsh/_everynode-agent", "--join-token-file"),
            ("fish/everynode-coordinator.fish", "removal-limit"),
        ] {
            assert!(read(script).contains(word), "{word} is not in {script}");
        }
    }

    #[test]
    fn commands_stay_as_they_are() {
        let mut page = Vec::new();
        examples("Examples:\n  a --b \\\n.c", &mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        assert_eq!(page, ".SH EXAMPLES\n.nf\n  a \\-\\-b \\e\n\\&.c\n.fi\n");
    }
}
