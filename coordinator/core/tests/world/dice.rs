//! Walks by chance: the same for the same seed, and a seed that fails says how to replay it.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Marsaglia's xorshift64: enough to choose by.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    pub fn chance(&mut self, one_in: u64) -> bool {
        self.roll(one_in) == 0
    }

    pub fn of<T: Copy>(&mut self, items: &[T]) -> T {
        items[usize::try_from(self.roll(items.len() as u64)).unwrap()]
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            let other = usize::try_from(self.roll(at as u64 + 1)).unwrap();
            items.swap(at, other);
        }
    }
}

/// Walks once for each seed, or for the one that `EVERYNODE_SEED` names; `test` is the file's name.
#[allow(clippy::print_stdout, reason = "how to replay a failing seed is for whoever ran the test")]
pub fn each_seed(test: &str, seeds: u64, walk: impl Fn(u64)) {
    // Replaying is the only thing that the environment decides, and only in tests.
    #[allow(clippy::disallowed_methods, reason = "see above")]
    let chosen = std::env::var("EVERYNODE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = chosen.map_or(1..=seeds, |seed: u64| seed..=seed);
    for seed in seeds {
        if let Err(cause) = catch_unwind(AssertUnwindSafe(|| walk(seed))) {
            println!(
                "replay: EVERYNODE_SEED={seed} cargo test -p everynode-coordinator-core --test {test}"
            );
            std::panic::resume_unwind(cause);
        }
    }
}
