//! Whether this process was run all the time: stopped by a signal, or in a machine that was paused,
//! it has not heard what it would have heard, and may conclude nothing from its silence.
//!
//! ```text
//!   beat ── beat ── beat ────────────── gap ──────────────▶ beat: frozen
//!    └──┬────┘ never further apart than half a limit, also while the store is waited for
//! ```

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use everynode_model::Timestamp;

use crate::clock::Clock;

/// The loop's pulse.
pub(super) struct Pulse {
    clock: Arc<dyn Clock>,
    /// A gap longer than this is a freeze.
    limit: Duration,
    beat_at: Timestamp,
    /// The longest gap that was not told yet.
    gap: Option<Duration>,
    /// How many beats there were, for whoever watches from outside.
    beats: Arc<AtomicU64>,
}

impl Pulse {
    /// A pulse whose first beat is now.
    pub(super) fn new(clock: Arc<dyn Clock>, limit: Duration) -> Self {
        let beat_at = clock.now().steady;
        Self { clock, limit, beat_at, gap: None, beats: Arc::default() }
    }

    /// Counts the beats; while the number grows, the loop turns, or waits for the store.
    pub(super) fn beats(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.beats)
    }

    /// One beat.
    pub(super) fn beat(&mut self) {
        let now = self.clock.now().steady;
        let gap = now.since(self.beat_at);
        if gap > self.limit {
            self.gap = self.gap.max(Some(gap));
        }
        self.beat_at = now;
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// For how long the process was frozen since this was last asked, if it was.
    pub(super) fn frozen(&mut self) -> Option<Duration> {
        self.beat();
        self.gap.take()
    }

    /// Waits for `work` and goes on beating: one that takes long is no freeze, and a freeze in its
    /// midst is none the less one.
    pub(super) async fn through<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => {
                    self.beat();
                    return done;
                }
                () = tokio::time::sleep(self.limit / 2) => self.beat(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SimulatedClock;
    use everynode_model::WallTime;

    const LIMIT: Duration = Duration::from_secs(10);

    fn pulse() -> Pulse {
        let clock = SimulatedClock::start(WallTime::from_unix_millis(0));
        Pulse::new(Arc::new(clock), LIMIT)
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_takes_long_is_no_freeze() {
        let mut pulse = pulse();
        pulse.through(tokio::time::sleep(LIMIT * 60)).await;
        assert_eq!(pulse.frozen(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn it_beats_while_the_store_is_waited_for() {
        let mut pulse = pulse();
        let beats = pulse.beats();
        pulse.through(tokio::time::sleep(LIMIT * 5)).await;
        assert!(beats.load(Ordering::Relaxed) >= 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_freeze_is_told_once_also_in_the_midst_of_work() {
        let mut pulse = pulse();
        tokio::time::advance(LIMIT * 60).await;
        assert_eq!(pulse.frozen(), Some(LIMIT * 60));
        assert_eq!(pulse.frozen(), None);
        pulse
            .through(async {
                tokio::task::yield_now().await;
                tokio::time::advance(LIMIT * 60).await;
            })
            .await;
        assert_eq!(pulse.frozen(), Some(LIMIT * 60));
    }
}
