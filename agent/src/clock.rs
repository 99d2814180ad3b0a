//! Both clocks, behind a seam: a simulation brings its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
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

/// tokio's clock, which tests can move, beginning at a date that can be set. All clones are one.
#[derive(Clone, Debug)]
pub struct TokioClock {
    start: Instant,
    /// The date at the start, in milliseconds since 1970, if it was never set since.
    date: Arc<AtomicI64>,
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
        Self { start: Instant::now(), date: Arc::new(AtomicI64::new(date.unix_millis)) }
    }

    /// Sets the date, as a person or NTP would; the steady clock goes on as before.
    pub fn set(&self, date: WallTime) {
        let began = date.unix_millis.saturating_sub(millis(self.start.elapsed()));
        self.date.store(began, Ordering::Relaxed);
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Now {
        let since = self.start.elapsed();
        let date = self.date.load(Ordering::Relaxed).saturating_add(millis(since));
        Now { steady: Timestamp::from_start(since), wall: WallTime::from_unix_millis(date) }
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
