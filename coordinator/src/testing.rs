//! What several tests of this crate need.

use std::sync::Mutex;
use std::time::Duration;

use everynode_model::{Now, Timestamp, WallTime};

use crate::clock::Clock;

/// Clocks that stand still until they are moved.
#[derive(Debug)]
pub(crate) struct ManualClock(Mutex<Duration>);

impl ManualClock {
    /// 2026-11-23.
    const BEGAN: i64 = 1_795_392_000_000;

    pub(crate) fn new() -> Self {
        Self(Mutex::new(Duration::ZERO))
    }

    pub(crate) fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }

    pub(crate) fn wall(&self) -> WallTime {
        self.now().wall
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        let elapsed = *self.0.lock().unwrap();
        let millis = i64::try_from(elapsed.as_millis()).unwrap();
        Now {
            steady: Timestamp::from_start(elapsed),
            wall: WallTime::from_unix_millis(Self::BEGAN + millis),
        }
    }
}
