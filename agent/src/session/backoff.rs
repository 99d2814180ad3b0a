//! How long until the next dial: drawn between nothing and a bound that doubles, so that a fleet
//! that lost its coordinator at one moment does not come back at one moment.

use std::time::Duration;

use everynode_agent_core::Doubling;

use crate::random::Random;

/// The bounds. At the last one 20,000 agents are 1,300 dials a second in the mean, which a
/// coordinator's paced admission can turn away.
const BOUNDS: Doubling =
    Doubling { first: Duration::from_millis(500), cap: Duration::from_secs(30) };
/// The bound where coming soon can't help: the coordinator does not know us, or somebody else is us.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Counts the failures in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure.
    pub(crate) fn next(&mut self, random: &mut Random) -> Duration {
        let bound = BOUNDS.nth(self.failures);
        self.failures = self.failures.saturating_add(1);
        random.below(bound)
    }

    /// Something went well.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wait_is_drawn_from_nothing_to_its_bound_also_at_the_cap() {
        let mut random = Random::seeded([1, 2]);
        for (failures, seconds) in [(0, 0.5), (1, 1.0), (2, 2.0), (5, 16.0), (6, 30.0), (99, 30.0)]
        {
            let drawn: Vec<f64> = (0..500)
                .map(|_| Backoff { failures }.next(&mut random).as_secs_f64() / seconds)
                .collect();
            assert!(drawn.iter().all(|part| (0.0..1.0).contains(part)), "{failures}");
            assert!(drawn.iter().any(|part| *part < 0.1), "{failures}");
            assert!(drawn.iter().any(|part| *part > 0.9), "{failures}");
        }
    }

    #[test]
    fn failures_add_up_and_are_forgotten() {
        let mut random = Random::seeded([1, 2]);
        let mut backoff = Backoff::default();
        for _ in 0..20 {
            backoff.next(&mut random);
        }
        assert_eq!(backoff.failures, 20);
        backoff.reset();
        assert!(backoff.next(&mut random) < BOUNDS.first);
    }
}
