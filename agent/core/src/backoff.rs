//! How long to wait before the next try. It only counts; whose try it is, others know.

use std::time::Duration;

use crate::spec::RestartBackoff;

/// Waits that double from `first` up to `cap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubling {
    /// The shortest wait.
    pub first: Duration,
    /// The longest.
    pub cap: Duration,
}

/// Every number the agent waits by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Between restarts of a container, and between attempts at making a pod. The first comes at
    /// once, the second after `restart.first`.
    pub restart: Doubling,
    /// After a run this long a failure counts as the first again.
    pub reset_after: Duration,
    /// Between forced stops of one place.
    pub kill: Doubling,
    /// Between attempts at writing a ledger that could not be written.
    pub write: Doubling,
}

/// How many failures there were in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Default for Policy {
    /// Restarts as the kubelet does: 10 s to 5 min, as new after 10 min. Kills from 1 s, because a
    /// process in an uninterruptible wait often leaves it soon, to 30 s, because one that does not
    /// must still be stopped within a heartbeat of becoming stoppable. Writes likewise.
    fn default() -> Self {
        let secs = Duration::from_secs;
        Self {
            restart: Doubling { first: secs(10), cap: secs(300) },
            reset_after: secs(600),
            kill: Doubling { first: secs(1), cap: secs(30) },
            write: Doubling { first: secs(1), cap: secs(30) },
        }
    }
}

impl Policy {
    /// The same for a pod whose template says what its containers wait. Where it names only the first
    /// wait, none is shorter; where it names the longest, none is longer.
    pub(crate) fn with(&self, own: RestartBackoff) -> Self {
        let first = own.first.unwrap_or(self.restart.first);
        let cap = own.max.unwrap_or_else(|| self.restart.cap.max(first));
        Self { restart: Doubling { first, cap }, ..*self }
    }
}

impl Doubling {
    /// The wait number `n`, counted from 0.
    pub fn nth(&self, n: u32) -> Duration {
        // 31 doublings of any wait worth naming are beyond any cap, and fit the shift.
        self.first.saturating_mul(1_u32 << n.min(31)).min(self.cap)
    }
}

impl Backoff {
    /// That of something known to have failed before, but not how often in a row.
    pub(crate) fn resumed(failed_before: bool) -> Self {
        Self { failures: u32::from(failed_before) }
    }

    /// Counts a failure after a run of `clean_run`, and says how long to wait.
    pub(crate) fn failed(&mut self, policy: &Policy, clean_run: Duration) -> Duration {
        if clean_run >= policy.reset_after {
            self.failures = 0;
        }
        let wait = match self.failures {
            0 => Duration::ZERO,
            earlier => policy.restart.nth(earlier - 1),
        };
        self.failures = self.failures.saturating_add(1);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_once_then_ten_seconds_doubling_to_five_minutes() {
        let policy = Policy::default();
        let mut backoff = Backoff::default();
        let waits: Vec<u64> =
            (0..9).map(|_| backoff.failed(&policy, Duration::ZERO).as_secs()).collect();
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn ten_clean_minutes_make_it_new() {
        let policy = Policy::default();
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.failed(&policy, Duration::from_secs(599));
        }
        assert_eq!(backoff.failed(&policy, Duration::from_secs(599)).as_secs(), 160);
        assert_eq!(backoff.failed(&policy, Duration::from_secs(600)), Duration::ZERO);
    }

    #[test]
    fn a_template_says_what_its_containers_wait() {
        let secs = |secs| Some(Duration::from_secs(secs));
        for (first, max, expected) in [
            (secs(1), None, [0, 1, 2, 4, 8]),
            (secs(1), secs(3), [0, 1, 2, 3, 3]),
            (None, secs(15), [0, 10, 15, 15, 15]),
            (None, secs(2), [0, 2, 2, 2, 2]),
            (secs(400), None, [0, 400, 400, 400, 400]),
        ] {
            let policy = Policy::default().with(RestartBackoff { first, max });
            let mut backoff = Backoff::default();
            let waits = [(); 5].map(|()| backoff.failed(&policy, Duration::ZERO).as_secs());
            assert_eq!(waits, expected, "{first:?} {max:?}");
        }
    }

    #[test]
    fn it_never_overflows() {
        let policy = Policy::default();
        let mut backoff = Backoff { failures: u32::MAX };
        assert_eq!(backoff.failed(&policy, Duration::ZERO), policy.restart.cap);
    }
}
