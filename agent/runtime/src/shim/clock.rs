//! The two clocks of a supervisor.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// The boot clock, which goes on while the machine sleeps: for deciding and measuring.
pub(super) fn boot() -> Duration {
    duration(clock_gettime(ClockId::Boottime))
}

/// The time since 1970, zero before: for the dates of log lines only.
pub(super) fn wall() -> Duration {
    duration(clock_gettime(ClockId::Realtime))
}

fn duration(time: Timespec) -> Duration {
    Duration::try_from(time).unwrap_or_default()
}
