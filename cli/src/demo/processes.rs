//! Child processes: this program under a hidden name, with a log file each.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::error::Error;

/// How often it is looked whether a process has ended.
const LOOK: Duration = Duration::from_millis(50);

/// How much of a log's end an error shows.
const LOG_LINES: usize = 5;

/// A child process, killed if it is forgotten.
pub(super) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts this program with these arguments; what it says goes to the end of `log`.
    pub(super) fn start(arguments: &[OsString], log: &Path) -> Result<Self, Error> {
        let failed = |source| Error::File { path: log.display().to_string(), source };
        let file = File::options().append(true).create(true).open(log).map_err(failed)?;
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(failed)?)
            .stderr(file)
            // The terminal's Ctrl-C is for the demo, which ends them in order.
            .process_group(0);
        // Whatever configures others on this machine does not configure these.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("EVERYNODE_") {
                command.env_remove(name);
            }
        }
        let child = command.spawn().map_err(failed)?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Whether it runs.
    pub(super) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its process id while it runs.
    pub(super) fn running_pid(&mut self) -> Option<u32> {
        self.runs().then(|| self.child.id())
    }

    /// The last lines of its log.
    pub(super) fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// Kills it on the spot and waits for its end.
    pub(super) fn kill(&mut self) {
        // One that has ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end.
    pub(super) fn terminate(&mut self) {
        if self.runs() {
            signal(self.child.id(), Signal::TERM);
        }
    }

    /// Waits until it has ended by itself; whether it has.
    pub(super) async fn ends(&mut self, within: Duration) -> bool {
        let end = Instant::now() + within;
        while self.runs() {
            if Instant::now() >= end {
                return false;
            }
            tokio::time::sleep(LOOK).await;
        }
        true
    }

    /// Asks it to end, and kills it when it has not within this time.
    pub(super) async fn stop(&mut self, within: Duration) {
        self.terminate();
        if !self.ends(within).await {
            self.kill();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to a process that is known to be there.
pub(super) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended a moment ago.
        let _ = kill_process(pid, signal);
    }
}

/// A port of 127.0.0.1 that nothing listens on now.
pub(super) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
