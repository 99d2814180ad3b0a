//! A process that was started here and runs until it is ended, with its output in a file.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::Signal;

use crate::failure::{Context as _, Outcome};
use crate::{failure, proc, wait};

/// A running program. Dropped, it is killed.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it; both its outputs are appended to `log`.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(mut command: Command, log: &Path) -> Outcome<Self> {
        let out = open(log).context(log.display())?;
        let child = command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).spawn();
        let child = child.context(format!("starting {command:?}"))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it and its predecessors with the same file have said.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it with no chance to do anything (SIGKILL), and sees it dead.
    ///
    /// # Errors
    /// When it can't be.
    pub fn kill(mut self) -> Outcome {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end (SIGTERM), and sees it dead.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(mut self) -> Outcome<ExitStatus> {
        proc::signal(self.pid(), Signal::TERM)?;
        self.ended()
    }

    /// How it ended by itself, if it has.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn has_ended(&mut self) -> Outcome<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// How it ended by itself, once it has.
    ///
    /// # Errors
    /// When it goes on.
    pub fn ended(&mut self) -> Outcome<ExitStatus> {
        wait::soon("the program ends", || self.ended_already()?.ok_or_else(|| failure!("it runs")))
    }

    /// How it ended by itself, if it has already.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn ended_already(&mut self) -> Outcome<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may be dead and waited for already; then neither does anything.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn open(log: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(log)
}
