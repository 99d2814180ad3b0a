//! What a program is told: by flags, by the environment, by its file, and else by its defaults, in this
//! order.
//!
//! A file is YAML, and its keys are the program's flags without their dashes: what a flag takes, a key
//! takes, and nothing else. So there is one list of settings, the one of the command line, and one
//! place that checks a value. A flag that may be repeated is a list, or, if its values are `KEY=VALUE`,
//! a mapping. A setting is taken from one place as a whole: lists are not joined.
//!
//! Nothing is known here of what the settings mean.

mod file;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, Parser};

use file::{Entry, Values, entries};
pub use file::{FileError, Trouble};

/// The flag that names the file; a program that reads one has it.
pub const CONFIG: &str = "config";

/// Why settings can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// What clap says of the command line; also help and version, which are to be printed.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    /// Something is wrong with the file.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Reads a command line, the program's name first, and what is not said there or in the environment
/// from the file that `--config` names, or else from `default` if that is there.
///
/// # Errors
/// See [`SettingsError`].
pub fn read<P: Parser>(
    args: impl IntoIterator<Item = OsString>,
    default: &Path,
) -> Result<P, SettingsError> {
    let args: Vec<OsString> = args.into_iter().collect();
    let command = P::command();
    let matches = command.clone().try_get_matches_from(&args)?;
    let (path, text) = match matches.get_one::<PathBuf>(CONFIG) {
        Some(path) => (path.as_path(), Some(file::read(path)?)),
        None => (default, file::read_if_there(default)?),
    };
    let Some(text) = text else { return Ok(P::try_parse_from(args)?) };
    let located = |trouble: (u64, Trouble)| FileError::at(path, trouble.0, trouble.1);
    let mut from_file = FromFile { command: &command, matches: &matches, top: vec![], sub: vec![] };
    for entry in entries(&text, |key| is_list(&command, key)).map_err(located)? {
        let line = entry.line;
        from_file.take(entry).map_err(|trouble| located((line, trouble)))?;
    }
    let FromFile { top, sub, .. } = from_file;
    let mut args = args.into_iter();
    let program = args.next().unwrap_or_else(|| command.get_name().into());
    Ok(P::try_parse_from([program].into_iter().chain(top).chain(args).chain(sub))?)
}

/// The words of a command line that say what `text`, a file's, does: an entry each.
///
/// # Errors
/// The first line that is wrong.
pub fn lines(text: &str, command: &Command) -> Result<Vec<Vec<OsString>>, FileError> {
    let located = |(line, trouble)| FileError::at(Path::new("text"), line, trouble);
    let entries = entries(text, |key| is_list(command, key)).map_err(located)?;
    let said = entries.into_iter().map(|entry| {
        let line = entry.line;
        said(command, entry).map(|(_, words)| words).map_err(|trouble| located((line, trouble)))
    });
    said.collect()
}

/// What a file adds to a command line.
struct FromFile<'a> {
    command: &'a Command,
    matches: &'a ArgMatches,
    /// Before everything else.
    top: Vec<OsString>,
    /// For the subcommand, after everything else.
    sub: Vec<OsString>,
}

impl FromFile<'_> {
    fn take(&mut self, entry: Entry) -> Result<(), Trouble> {
        let (flag, words) = said(self.command, entry)?;
        if !is_said(self.command, self.matches, flag) {
            self.top.extend(words.iter().cloned());
        }
        if let Some((name, matches)) = self.matches.subcommand()
            && let Some(command) = self.command.find_subcommand(name)
            && let Some(its) = of_its_own(command, flag)
            && !is_said(command, matches, its)
        {
            self.sub.extend(words);
        }
        Ok(())
    }
}

/// The flag that an entry is about, and the words that say the same on a command line.
fn said(command: &Command, entry: Entry) -> Result<(&Arg, Vec<OsString>), Trouble> {
    let flag = flag(command, &entry.key)?;
    let words = words(flag, entry)?;
    check(command, flag, &words)?;
    Ok((flag, words))
}

/// Whether the flag would take them, had it stood alone.
fn check(command: &Command, flag: &Arg, words: &[OsString]) -> Result<(), Trouble> {
    let program = OsString::from(command.get_name());
    let alone = command.clone().mut_args(|arg| arg.env(Resettable::Reset));
    match alone.try_get_matches_from([program].iter().chain(words)) {
        Ok(_) => Ok(()),
        Err(error) => {
            let text = error.to_string();
            let said = text.lines().next().unwrap_or_default();
            let said = said.strip_prefix("error: ").unwrap_or(said).to_owned();
            Err(Trouble::Value { key: name_of(flag).into(), said })
        }
    }
}

/// The flag of this name.
fn flag<'a>(command: &'a Command, key: &str) -> Result<&'a Arg, Trouble> {
    settable(command)
        .find(|arg| name_of(arg) == key)
        .ok_or_else(|| Trouble::Unknown { key: key.into(), known: known(command) })
}

/// Flags that a file may set: all that are shown and take a value, but the one that names the file.
fn settable(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| {
        let takes_value = arg.get_action().takes_values();
        arg.get_long().is_some() && takes_value && !arg.is_hide_set() && arg.get_id() != CONFIG
    })
}

fn known(command: &Command) -> String {
    settable(command).map(name_of).collect::<Vec<_>>().join(", ")
}

fn name_of(arg: &Arg) -> &str {
    arg.get_long().unwrap_or_default()
}

/// Whether the key's flag may be repeated.
fn is_list(command: &Command, key: &str) -> bool {
    flag(command, key).is_ok_and(|flag| flag.get_value_delimiter().is_some())
}

/// The words that say on a command line what the entry says.
fn words(flag: &Arg, entry: Entry) -> Result<Vec<OsString>, Trouble> {
    if entry.values == Values::None {
        return Err(Trouble::NoValue { key: entry.key });
    }
    let word = |value: &String| OsString::from(format!("--{}={value}", name_of(flag)));
    Ok(entry.values.iter().map(word).collect())
}

/// Whether the flag, or one that can't be given with it, was given or is in the environment.
fn is_said(command: &Command, matches: &ArgMatches, flag: &Arg) -> bool {
    let said = |arg: &Arg| {
        let source = matches.value_source(arg.get_id().as_str());
        matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
    };
    let others = command.get_arguments().filter(|other| {
        let conflict = |one, two: &Arg| {
            command.get_arg_conflicts_with(one).iter().any(|arg| arg.get_id() == two.get_id())
        };
        conflict(flag, other) || conflict(other, flag)
    });
    said(flag) || others.into_iter().any(said)
}

/// The subcommand's own flag of the same name; one that holds everywhere has been given once.
fn of_its_own<'a>(command: &'a Command, flag: &Arg) -> Option<&'a Arg> {
    let same = |arg: &&Arg| arg.get_long() == flag.get_long() && !flag.is_global_set();
    command.get_arguments().find(same)
}

#[cfg(test)]
mod tests;
