//! Time as an argument: a steady clock for deciding, a wall clock for showing.

use std::fmt;
use std::time::Duration;

/// A point on a steady clock, counted from an arbitrary start.
///
/// On an agent it is the boot clock, so that it goes on through suspend; on a coordinator it is
/// the time since the process began. Points of two processes can't be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(Duration);

impl Timestamp {
    /// The start of the clock.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// The point `since_start` after the clock's start.
    pub const fn from_start(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// How long after the clock's start this is.
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// The time from `earlier` to this; zero where `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The point `wait` after this one.
    #[must_use]
    pub const fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }
}

/// A date for people: milliseconds since 1970-01-01T00:00:00Z. Never used to decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime {
    /// Milliseconds since the Unix epoch; negative before it.
    pub unix_millis: i64,
}

impl WallTime {
    /// The date so many milliseconds after the Unix epoch.
    pub const fn from_unix_millis(unix_millis: i64) -> Self {
        Self { unix_millis }
    }
}

/// Both clocks, read together by the shell when an event came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For deciding.
    pub steady: Timestamp,
    /// For showing.
    pub wall: WallTime,
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}s", self.0.as_secs_f64())
    }
}
