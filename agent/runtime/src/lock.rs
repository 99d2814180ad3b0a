//! One agent per cgroup root: a lock on the root's directory, held for life.
//!
//! The lock goes with the machine's places, not with a data directory: two agents with different
//! ones would still share every place. The kernel drops it when its holder dies, however it does.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::FlockOperation;

use crate::error::{MachineError, OpenError};
use crate::place::Root;

/// How often, and at what distance, taking the lock is tried: for two seconds, so that an agent
/// that is being restarted does not stumble over the end of its predecessor, nor over a child of
/// it that is just about to exec.
const TRIES: u32 = 40;
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// The right to make and kill pods under a root; given back by dropping it.
#[derive(Debug)]
pub(crate) struct RootLock {
    /// Close-on-exec, so that no supervisor keeps the lock when the agent dies.
    _directory: OwnedFd,
}

impl RootLock {
    /// Takes the lock of a root that exists.
    ///
    /// # Errors
    /// [`OpenError::AnotherAgent`] when it stays held.
    pub(crate) async fn acquire(root: &Root) -> Result<Self, OpenError> {
        let path = root.cgroup().path();
        let directory = root.cgroup().open().map_err(|source| MachineError::io(path, source))?;
        for _ in 0..TRIES {
            match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _directory: directory }),
                Err(rustix::io::Errno::WOULDBLOCK) => tokio::time::sleep(BETWEEN_TRIES).await,
                Err(errno) => return Err(MachineError::io(path, errno).into()),
            }
        }
        Err(OpenError::AnotherAgent(path.to_owned()))
    }
}
