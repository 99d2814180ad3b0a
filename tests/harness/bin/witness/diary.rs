//! What a witness writes down.

use std::fs::File;
use std::io::{self, Write as _};

use rustix::time::{ClockId, clock_gettime};

use crate::{Words, open};

/// The log of a node's witnesses: whoever plays a role there writes in it.
pub(crate) struct Diary {
    log: File,
    mark: String,
}

impl Diary {
    pub(crate) fn open(words: &Words) -> io::Result<Self> {
        let log = open(words.dir()?.join(format!("{}.log", words.node()?)))?;
        Ok(Self { log, mark: words.after("--mark").unwrap_or("-").to_owned() })
    }

    pub(crate) fn mark(&self) -> &str {
        &self.mark
    }

    /// Something has happened out of turn.
    pub(crate) fn early(&mut self, why: &str) -> io::Result<()> {
        self.say(&format!("early {why}"))
    }

    /// One line in one write: whole, or not there.
    pub(crate) fn say(&mut self, what: &str) -> io::Result<()> {
        let now = clock_gettime(ClockId::Boottime);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        let line = format!("{micros} {} {} {what}\n", std::process::id(), self.mark);
        self.log.write_all(line.as_bytes())
    }
}
