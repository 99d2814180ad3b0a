//! What a program that ran to its end said.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::ensure;
use crate::failure::{Context as _, Outcome};

/// A finished program's words and exit code.
#[derive(Clone, Debug)]
pub struct Said {
    /// What was run, for messages.
    pub line: String,
    /// `None`: ended by a signal.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Said {
    /// Runs the command to its end, without input.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn by(mut command: Command) -> Outcome<Self> {
        let line = format!("{command:?}");
        let output = command.stdin(Stdio::null()).output().context(&line)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let (out, err) = (text(output.stdout), text(output.stderr));
        Ok(Self { line, code: output.status.code(), out, err })
    }

    /// Its standard output, of one that did what it was told.
    ///
    /// # Errors
    /// When its exit code is not 0.
    pub fn ok(self) -> Outcome<String> {
        ensure!(self.code == Some(0), "{self}");
        Ok(self.out)
    }

    /// Its standard output as JSON, of one that did what it was told.
    ///
    /// # Errors
    /// When its exit code is not 0, or it said something else.
    pub fn json(self) -> Outcome<Value> {
        Ok(serde_json::from_str(&self.ok()?)?)
    }

    /// Its standard error, of one that refused with exit code 1, each of `words` in it.
    ///
    /// # Errors
    /// When it did not, or says something else.
    pub fn refused(self, words: &[&str]) -> Outcome<String> {
        ensure!(self.code == Some(1), "exit code 1 was expected of {self}");
        for word in words {
            ensure!(self.err.contains(word), "{word:?} was expected in {self}");
        }
        ensure!(!self.err.contains("panicked"), "a panic: {self}");
        Ok(self.err)
    }
}

/// Sees that two texts are the same.
///
/// # Errors
/// When they are not.
pub fn same(one: &str, other: &str) -> Outcome {
    ensure!(one == other, "{one:?} is not {other:?}");
    Ok(())
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { line, code, out, err } = self;
        write!(f, "{line}\n  exit code {code:?}\n  out: {out}\n  err: {err}")
    }
}
