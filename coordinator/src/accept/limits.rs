//! How much the accept loop takes on, and the limit of open files behind it.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Bounds of the accept loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at a time.
    pub connections: usize,
    /// Handshakes under way at a time. 256: two cores do some thousands a second, so that more at
    /// once would only make each of them slower.
    pub handshakes: usize,
    /// How long one handshake may take. 10 s: several round trips over a bad satellite link.
    pub time: Duration,
}

impl Limits {
    /// For a process that may have so many files open (`None`: any number).
    ///
    /// A fifth is kept back for the store, for logs, and for sockets that were accepted and not
    /// counted yet.
    pub fn for_files(files: Option<u64>) -> Self {
        let files = files.and_then(|files| usize::try_from(files).ok());
        let connections = files.map_or(usize::MAX, |files| files - files / 5);
        Self {
            // tokio's semaphores hold no more than this.
            connections: connections.clamp(1, tokio::sync::Semaphore::MAX_PERMITS),
            handshakes: 256,
            time: Duration::from_secs(10),
        }
    }
}

/// Raises this process' limit of open files as far as it may on its own, and returns it.
///
/// The usual soft limit of 1,024 is for programs that use `select(2)`; this one does not.
pub fn raise_file_limit() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::debug!(%error, "the limit of open files stays as it is");
            current
        }
    }
}
