//! Ctrl-C and SIGTERM: the first ends the demo in order, the second in haste.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::Error;

/// The signals by which people end a program.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    /// From now on they end nothing by themselves.
    pub(super) fn catch() -> Result<Self, Error> {
        let catch = |kind| {
            signal(kind).map_err(|error| Error::Failed(format!("can't catch signals: {error}")))
        };
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            hang_up: catch(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
