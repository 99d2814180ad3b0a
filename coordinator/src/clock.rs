//! Both clocks, behind one seam: the machine's in production, the simulator's in tests.

use std::time::{SystemTime, UNIX_EPOCH};

use everynode_model::{Now, Timestamp, WallTime};
use tokio::time::Instant;

/// Reads both clocks together.
pub trait Clock: Send + Sync + 'static {
    /// The time now: steady for deciding, wall for showing and for certificates.
    fn now(&self) -> Now;
}

/// The machine's wall clock, and tokio's clock for the steady one, so that paused or simulated time
/// moves what is decided by it.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

/// A wall clock that follows tokio's: the same in every run of a simulation.
#[derive(Clone, Copy, Debug)]
pub struct SimulatedClock {
    start: Instant,
    began: WallTime,
}

impl SystemClock {
    /// A clock whose steady side starts now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }
}

impl SimulatedClock {
    /// A clock whose steady side starts now, when the wall clock shows `began`.
    pub fn start(began: WallTime) -> Self {
        Self { start: Instant::now(), began }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        // A clock set before 1970 shows 1970: it is only for people and certificates' dates.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { steady: Timestamp::from_start(self.start.elapsed()), wall: wall(since_epoch) }
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Now {
        let elapsed = self.start.elapsed();
        let millis = self.began.unix_millis.saturating_add(wall(elapsed).unix_millis);
        Now { steady: Timestamp::from_start(elapsed), wall: WallTime::from_unix_millis(millis) }
    }
}

fn wall(since_epoch: std::time::Duration) -> WallTime {
    WallTime::from_unix_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}
