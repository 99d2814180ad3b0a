//! Programs that are run in a container beside its first process.

use std::os::fd::OwnedFd;
use std::time::Duration;

use everynode_agent_core::PodRef;
use everynode_model::Exit;

use crate::Runtime;
use crate::ends::{self, LAST_BYTES, Reader};
use crate::error::ExecError;

/// What is kept of what a program prints; the kubelet's bound for probes and hooks.
pub const MAX_OUTPUT: usize = 10 * 1024;

/// What to run in a container, with what for its input and outputs.
#[derive(Debug)]
pub struct ExecRequest {
    /// The program and its arguments; found by the container's `PATH` where it has no slash.
    pub argv: Vec<String>,
    /// Its descriptor 0.
    pub stdin: OwnedFd,
    /// Its descriptor 1.
    pub stdout: OwnedFd,
    /// Its descriptor 2.
    pub stderr: OwnedFd,
    /// Whether `stdin` is a terminal, which is to control the program's session.
    pub terminal: bool,
    /// After which it is killed.
    pub timeout: Option<Duration>,
}

/// How a program in a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executed {
    /// Its exit.
    pub exit: Exit,
    /// Whether it was killed because its time was over.
    pub timed_out: bool,
}

/// A program in a container that has ended, and what it printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// How it ended.
    pub executed: Executed,
    /// The first [`MAX_OUTPUT`] bytes of both outputs, as they came.
    pub output: Vec<u8>,
}

/// Runs a program in a container with nothing for its input, and keeps what it prints.
///
/// # Errors
/// When it was not run, or nobody knows how it ended.
pub async fn capture(
    runtime: &dyn Runtime,
    pod: &PodRef,
    container: &str,
    argv: Vec<String>,
    timeout: Option<Duration>,
) -> Result<Captured, ExecError> {
    let stdin = ends::nothing()?;
    let (stdout, printed) = ends::output()?;
    let stderr = stdout.try_clone()?;
    let request = ExecRequest { argv, stdin, stdout, stderr, terminal: false, timeout };
    let mut output = Output::default();
    let mut running = runtime.exec(pod, container, request);
    let executed = tokio::select! {
        executed = &mut running => executed?,
        // A program may close its outputs and go on.
        () = output.keep(&printed) => running.await?,
    };
    output.finish(&printed);
    Ok(Captured { executed, output: output.kept })
}

/// What came out of a pipe, up to the bound.
#[derive(Default)]
struct Output {
    kept: Vec<u8>,
}

impl Output {
    /// Reads to the end, so that no writer ever waits.
    async fn keep(&mut self, printed: &Reader) {
        let mut buffer = [0; 4096];
        // What can't be read is as good as its end.
        while let Ok(length @ 1..) = printed.read(&mut buffer).await {
            self.add(&buffer[..length]);
        }
    }

    /// Reads what is left.
    fn finish(&mut self, printed: &Reader) {
        let mut buffer = [0; 4096];
        let mut left = LAST_BYTES;
        while left > 0
            && let Ok(length @ 1..) = printed.try_read(&mut buffer)
        {
            self.add(&buffer[..length]);
            left = left.saturating_sub(length);
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        let room = MAX_OUTPUT - self.kept.len();
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}
