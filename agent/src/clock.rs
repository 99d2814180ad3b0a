//! Both clocks, behind a seam: a simulation brings its own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everynode_model::{Now, Timestamp, WallTime};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// Tells both times.
pub trait Clock: Send + Sync + 'static {
    /// The times now.
    fn now(&self) -> Now;
}

/// The machine's boot clock (`CLOCK_BOOTTIME`: it goes on through suspend), and its date.
#[derive(Clone, Copy, Debug, Default)]
pub struct BootClock;

/// tokio's clock, which tests can move, beginning at a date.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    start: Instant,
    date: WallTime,
}

impl Clock for BootClock {
    fn now(&self) -> Now {
        let boot = Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default();
        let date = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => millis(since),
            Err(before) => -millis(before.duration()),
        };
        Now { steady: Timestamp::from_start(boot), wall: WallTime::from_unix_millis(date) }
    }
}

impl TokioClock {
    /// A clock that begins now, at `date`.
    pub fn starting_at(date: WallTime) -> Self {
        Self { start: Instant::now(), date }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Now {
        let since = self.start.elapsed();
        let date = self.date.unix_millis.saturating_add(millis(since));
        Now { steady: Timestamp::from_start(since), wall: WallTime::from_unix_millis(date) }
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
