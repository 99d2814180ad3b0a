//! This process' own terminal and input.

use std::io::{self, IsTerminal as _, Read as _};

use everynode_proto::credit::MAX_PIECE;
use everynode_proto::v1::TerminalSize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::error::Error;

/// Signals that end this process, when it can put its terminal right before.
const ENDING: [SignalKind; 4] =
    [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate()];

/// A terminal that hands on every key; as it was before when this is dropped.
pub(super) struct Raw(Termios);

/// What is watched for while there is one.
#[derive(Default)]
pub(super) struct Watch {
    resized: Option<Signal>,
    ending: Vec<(u8, Signal)>,
}

/// What happened to this process.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Happened {
    /// The terminal has another size.
    Resized,
    /// A signal is to end it; with the exit code that says so.
    Signal(u8),
}

/// Whether the input is a terminal.
pub(super) fn is_one() -> bool {
    io::stdin().is_terminal()
}

/// The size of the one that is printed to, if any is.
pub(super) fn size() -> Option<TerminalSize> {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin())).ok()?;
    Some(TerminalSize { columns: size.ws_col.into(), rows: size.ws_row.into() })
}

/// What comes in, as far as it is taken; its end when this ends. A thread of its own, which nobody
/// waits for: at the end of this process it may still be waiting for a key.
pub(super) fn stdin() -> Result<mpsc::Receiver<Vec<u8>>, Error> {
    let (say, said) = mpsc::channel(1);
    let read = move || {
        let mut buffer = vec![0; MAX_PIECE];
        loop {
            match io::stdin().read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(length @ 1..) => {
                    if say.blocking_send(buffer[..length].to_vec()).is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    };
    let thread = std::thread::Builder::new().spawn(read);
    thread.map(|_| said).map_err(|error| Error::Failed(format!("can't read the input: {error}")))
}

impl Raw {
    /// Begins to hand on every key.
    pub(super) fn begin() -> Result<Self, Error> {
        let failed = |error| Error::Failed(format!("can't set the terminal: {error}"));
        let before = tcgetattr(io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw).map_err(failed)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}

impl Watch {
    /// Begins to watch; from then on these signals end nobody by themselves.
    pub(super) fn new() -> Result<Self, Error> {
        let failed = |error| Error::Failed(format!("can't watch for signals: {error}"));
        let resized = signal(SignalKind::window_change()).map_err(failed)?;
        let ending = ENDING.map(|kind| {
            let code = 128 + u8::try_from(kind.as_raw_value()).unwrap_or(0);
            signal(kind).map(|signal| (code, signal))
        });
        let ending = ending.into_iter().collect::<io::Result<_>>().map_err(failed)?;
        Ok(Self { resized: Some(resized), ending })
    }

    /// Waits for the next.
    pub(super) async fn next(&mut self) -> Happened {
        std::future::poll_fn(|context| {
            for (code, signal) in &mut self.ending {
                if signal.poll_recv(context).is_ready() {
                    return Happened::Signal(*code).into();
                }
            }
            match &mut self.resized {
                Some(signal) => signal.poll_recv(context).map(|_| Happened::Resized),
                None => std::task::Poll::Pending,
            }
        })
        .await
    }
}
