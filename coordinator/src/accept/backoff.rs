//! What the accept loop does when accepting fails: waits, longer each time, and says so once.

use std::io::{self, ErrorKind};
use std::time::Duration;

/// Short enough that one lost moment is not noticed.
const FIRST: Duration = Duration::from_millis(100);
/// At the file limit only the end of a connection helps; looking once a second costs nothing.
const LONGEST: Duration = Duration::from_secs(1);

/// How accepting has been going.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failing: Option<Failing>,
}

#[derive(Debug)]
struct Failing {
    how: (ErrorKind, Option<i32>),
    wait: Duration,
}

impl Backoff {
    /// A connection was accepted.
    pub(super) fn succeeded(&mut self) {
        if self.failing.take().is_some() {
            tracing::info!("connections are accepted again");
        }
    }

    /// Accepting failed; returns when it may be tried again.
    pub(super) async fn failed(&mut self, error: &io::Error) {
        if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) {
            // Only that one connection failed; the next is another.
            return;
        }
        let how = (error.kind(), error.raw_os_error());
        let wait = match &self.failing {
            Some(failing) if failing.how == how => (failing.wait * 2).min(LONGEST),
            _ => {
                tracing::error!(%error, "connections can't be accepted; trying again");
                FIRST
            }
        };
        self.failing = Some(Failing { how, wait });
        tokio::time::sleep(wait).await;
    }
}
