//! Both clocks, behind one seam: the machine's in production, the simulator's in tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everynode_model::{Now, Timestamp, WallTime};
use tokio::time::Instant;

/// Reads both clocks together.
pub trait Clock: Send + Sync + 'static {
    /// The time now: steady for deciding, wall for showing and for the dates of certificates.
    fn now(&self) -> Now;
}

/// The machine's wall clock, and tokio's clock for the steady one.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

/// Clocks that go by tokio's alone, which can be paused: the same in every run of a simulation. All
/// clones are one.
#[derive(Clone, Debug)]
pub struct SimulatedClock {
    start: Instant,
    /// What the wall clock showed at the start, in milliseconds, if it was never set since.
    began: Arc<AtomicI64>,
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
        Self { start: Instant::now(), began: Arc::new(AtomicI64::new(began.unix_millis)) }
    }

    /// Sets the wall clock, as a person or NTP would; the steady one goes on as before.
    pub fn set(&self, wall: WallTime) {
        let began = wall.unix_millis.saturating_sub(millis(self.start.elapsed()));
        self.began.store(began, Ordering::Relaxed);
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        // A clock set before 1970 shows 1970: nothing is decided by it.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            steady: Timestamp::from_start(self.start.elapsed()),
            wall: WallTime::from_unix_millis(millis(since_epoch)),
        }
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Now {
        let elapsed = self.start.elapsed();
        let wall = self.began.load(Ordering::Relaxed).saturating_add(millis(elapsed));
        Now { steady: Timestamp::from_start(elapsed), wall: WallTime::from_unix_millis(wall) }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn simulated_clocks_move_together_and_only_with_tokios() {
        let clock = SimulatedClock::start(WallTime::from_unix_millis(1_000));
        let before = clock.now();
        assert_eq!(before, clock.now());
        tokio::time::sleep(Duration::from_millis(250)).await;
        assert_eq!(clock.now().steady, before.steady.after(Duration::from_millis(250)));
        assert_eq!(clock.now().wall, WallTime::from_unix_millis(1_250));
        clock.set(WallTime::from_unix_millis(5));
        assert_eq!(clock.now().steady, before.steady.after(Duration::from_millis(250)));
        assert_eq!(clock.now().wall, WallTime::from_unix_millis(5));
    }
}
