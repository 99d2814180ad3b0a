//! A program in a container, for somebody elsewhere.
//!
//! ```text
//!           turn taken            it has ended
//!   asked ─────────────▶ running ──────────────▶ its last words said ─▶ told how it ended
//!     │ denied, too many,   │ nobody listens any more
//!     ▼ not to be run       ▼
//!   refused              hung up: input and outputs closed ── 5 s ──▶ killed
//! ```
//!
//! The program is the supervisor's child, in its container's cgroup, and no byte of it passes through
//! there: its other ends are here, so that it sees them close however this process ends.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use everynode_model::{Exit, Reason};
use everynode_proto::v1;
use everynode_proto::v1::stream_end::How;
use everynode_runtime::{
    Ends, ExecError, Executed, LAST_BYTES, Reader, Runtime, Terminal, WindowSize, Writer, by_pipes,
    by_terminal,
};
use tokio::sync::{Semaphore, mpsc, watch};

use super::AT_ONCE;
use super::stdin::{Inlet, Outlet, size_of, stdin};
use super::target::Target;
use super::wire::Piece;

/// At a time, by the contract: a fraction of what a supervisor runs at once, so that probes and hooks
/// have the rest.
pub(super) const MAX_EXECS: usize = 16;

/// How long a program may go on that nobody listens to, by the contract: enough to end in order.
const HANGUP: Duration = Duration::from_secs(5);

/// What was asked for.
pub(super) struct Job {
    pub(super) target: Target,
    pub(super) options: v1::ExecOptions,
}

/// Why nobody is to run anything here.
pub(super) fn denied() -> Reason {
    let line = "this machine denies exec: --deny-exec in its agent's settings";
    Reason::new("ExecDenied", line)
}

/// Both sides of what goes to the program, if anything may.
pub(super) fn input(options: &v1::ExecOptions) -> (Option<Inlet>, Option<Outlet>) {
    if !options.stdin && !options.tty {
        return (None, None);
    }
    let (inlet, outlet) = stdin(size_of(&options.size.unwrap_or_default()));
    (Some(inlet), Some(outlet))
}

/// Runs it to its end, and answers how that was; hangs up when nobody listens.
pub(super) async fn run(
    job: Job,
    runtime: Arc<dyn Runtime>,
    turns: Arc<Semaphore>,
    outlet: Option<Outlet>,
    say: mpsc::Sender<Piece>,
) -> Result<How, Reason> {
    let code = match attended(job, &*runtime, &turns, outlet, &say).await? {
        Exit::Code(code) => code,
        Exit::Signal(signal) => 128 + signal,
        Exit::Unknown => {
            let line = "the program has ended, and nobody saw how";
            return Err(Reason::new("ExitUnknown", line));
        }
    };
    Ok(How::Exited(v1::Exited { code }))
}

async fn attended(
    job: Job,
    runtime: &dyn Runtime,
    turns: &Semaphore,
    outlet: Option<Outlet>,
    say: &mpsc::Sender<Piece>,
) -> Result<Exit, Reason> {
    let _turn = turns.try_acquire().map_err(|_| {
        let line = format!("{MAX_EXECS} programs are being run by people on this machine already");
        Reason::new("TooManyExecs", line)
    })?;
    let Job { target: Target { pod, container }, options } = job;
    let size = size_of(&options.size.unwrap_or_default());
    let connected = match options.tty {
        true => by_terminal(options.command, size),
        false => by_pipes(options.command, options.stdin),
    };
    let (request, ends) = connected.map_err(|error| reason(ExecError::Plumbing(error)))?;
    let Ends { stdin, stdout, stderr, terminal } = ends;
    let mut running = runtime.exec(&pod, &container, request);
    let (over, is_over) = watch::channel(false);
    let mut outputs = Box::pin(speak(stdout, stderr, say, is_over));
    let mut input = Box::pin(hear(stdin, terminal, outlet));
    // A program may close any of them and go on.
    let (mut speaks, mut hears) = (true, true);
    let executed = loop {
        tokio::select! {
            biased;
            executed = &mut running => break executed,
            () = say.closed() => {
                drop((outputs, input));
                return hung_up(running).await;
            }
            () = &mut outputs, if speaks => speaks = false,
            () = &mut input, if hears => hears = false,
        }
    };
    over.send_replace(true);
    if speaks && executed.is_ok() {
        outputs.await;
    }
    executed.map(|executed| executed.exit).map_err(reason)
}

/// Nobody listens: waits a while for its end, and kills it by waiting no longer.
async fn hung_up(
    running: impl Future<Output = Result<Executed, ExecError>>,
) -> Result<Exit, Reason> {
    match tokio::time::timeout(HANGUP, running).await {
        Ok(executed) => executed.map(|executed| executed.exit).map_err(reason),
        Err(_) => Ok(Exit::Unknown),
    }
}

/// Says what comes from both outputs, to their ends.
async fn speak(
    stdout: Reader,
    stderr: Option<Reader>,
    say: &mpsc::Sender<Piece>,
    over: watch::Receiver<bool>,
) {
    let out = hand_on(stdout, Piece::Stdout, say, over.clone());
    let err = async {
        if let Some(stderr) = stderr {
            hand_on(stderr, Piece::Stderr, say, over).await;
        }
    };
    tokio::join!(out, err);
}

/// Hands the program what comes for it.
async fn hear(stdin: Option<Writer>, terminal: Option<Terminal>, outlet: Option<Outlet>) {
    let Some(Outlet { data, taken, size }) = outlet else { return };
    tokio::join!(feed(stdin, data, taken), fit(terminal, size));
}

/// Says what comes from one output, to its end. When the program is over, what is left of it: all
/// that it started is dead then, and who has the other end all the same is nobody's business.
async fn hand_on(
    from: Reader,
    piece: fn(Vec<u8>) -> Piece,
    say: &mpsc::Sender<Piece>,
    mut over: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; AT_ONCE];
    let mut left = LAST_BYTES;
    while left > 0 {
        let is_over = *over.borrow_and_update();
        let read = match is_over {
            true => from.try_read(&mut buffer),
            false => tokio::select! {
                read = from.read(&mut buffer) => read,
                Ok(()) = over.changed() => continue,
            },
        };
        // What can't be read is as good as its end.
        let Ok(length @ 1..) = read else { return };
        if say.send(piece(buffer[..length].to_vec())).await.is_err() {
            return;
        }
        left -= if is_over { length.min(left) } else { 0 };
    }
}

/// Hands what comes to the program, as fast as that reads. One that reads no more is sent no more.
async fn feed(
    mut to: Option<Writer>,
    mut data: mpsc::Receiver<Vec<u8>>,
    taken: mpsc::Sender<usize>,
) {
    while let Some(piece) = data.recv().await {
        let Some(writer) = &mut to else { return };
        if writer.write_all(&piece).await.is_err() || taken.send(piece.len()).await.is_err() {
            return;
        }
    }
}

/// Keeps the terminal's size what it is said to be.
async fn fit(terminal: Option<Terminal>, mut size: watch::Receiver<WindowSize>) {
    let Some(terminal) = terminal else { return };
    while size.changed().await.is_ok() {
        let now = *size.borrow_and_update();
        if let Err(error) = terminal.resize(now) {
            tracing::warn!(%error, "the size of a terminal was not changed");
        }
    }
}

fn reason(error: ExecError) -> Reason {
    let code = match &error {
        ExecError::Refused(reason) => return reason.clone(),
        ExecError::Silent(_) => "SupervisorSilent",
        ExecError::Interrupted(_) | ExecError::NotSupervised(_) => "SupervisorLost",
        ExecError::Plumbing(_) => "ExecError",
    };
    Reason::new(code, error.to_string())
}

#[cfg(test)]
mod tests;
