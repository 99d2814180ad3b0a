//! Draws: for spreading a fleet's dials, and for ids of pods. Seeded, so that a simulation repeats.

use std::io;
use std::time::Duration;

use everynode_model::PodUid;
use uuid::Builder;

/// A source of numbers (xoroshiro128++ by Blackman and Vigna): good for spreading and for ids,
/// not for secrets.
#[derive(Debug)]
pub struct Random {
    state: [u64; 2],
}

impl Random {
    /// The source that this seed leads to.
    pub fn seeded(seed: [u64; 2]) -> Self {
        // The one state it would never leave.
        let state = if seed == [0, 0] { [1, 0] } else { seed };
        let mut random = Self { state };
        // Seeds that look alike have drifted apart after some rounds.
        for _ in 0..16 {
            random.next_u64();
        }
        random
    }

    /// A source seeded by the kernel.
    ///
    /// # Errors
    /// When the kernel has no random bytes to give.
    pub fn from_system() -> io::Result<Self> {
        let draw = || getrandom::u64().map_err(|error| io::Error::other(error.to_string()));
        Ok(Self::seeded([draw()?, draw()?]))
    }

    /// Another source, for somebody else, that goes its own way.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self::seeded([self.next_u64(), self.next_u64()])
    }

    /// Any of all numbers.
    pub fn next_u64(&mut self) -> u64 {
        let [a, mut b] = self.state;
        let drawn = a.wrapping_add(b).rotate_left(17).wrapping_add(a);
        b ^= a;
        self.state = [a.rotate_left(49) ^ b ^ (b << 21), b.rotate_left(28)];
        drawn
    }

    /// A span of time from nothing up to, and without, `limit`; nothing when that is nothing.
    pub fn below(&mut self, limit: Duration) -> Duration {
        let nanos = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        let drawn = (u128::from(self.next_u64()) * u128::from(nanos)) >> 64;
        Duration::from_nanos(u64::try_from(drawn).unwrap_or(u64::MAX))
    }

    /// `span`, give or take a tenth.
    pub fn about(&mut self, span: Duration) -> Duration {
        span * 9 / 10 + self.below(span / 5)
    }

    /// An id that no pod ever had (a version 4 UUID).
    pub fn pod_uid(&mut self) -> PodUid {
        let bytes = (u128::from(self.next_u64()) << 64) | u128::from(self.next_u64());
        PodUid::new(Builder::from_random_bytes(bytes.to_be_bytes()).into_uuid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_one_sequence() {
        let drawn = |seed| {
            let mut random = Random::seeded(seed);
            [random.next_u64(), random.next_u64()]
        };
        assert_eq!(drawn([1, 2]), drawn([1, 2]));
        assert_ne!(drawn([1, 2]), drawn([1, 3]));
        assert_ne!(drawn([0, 0])[0], 0);
    }

    #[test]
    fn spans_fill_their_range() {
        let mut random = Random::seeded([1, 2]);
        let limit = Duration::from_secs(30);
        let drawn: Vec<_> = (0..1000).map(|_| random.below(limit)).collect();
        assert!(drawn.iter().all(|span| *span < limit));
        assert!(drawn.iter().any(|span| *span < limit / 20));
        assert!(drawn.iter().any(|span| *span > limit * 19 / 20));
        assert_eq!(random.below(Duration::ZERO), Duration::ZERO);
        let about = random.about(limit);
        assert!(about >= limit * 9 / 10 && about <= limit * 11 / 10);
    }
}
