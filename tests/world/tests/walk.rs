//! A short walk for every change; `cargo run --release -p world` takes longer ones.
#![allow(clippy::panic, reason = "a test fails by panicking")]

use world::run::{self, walk};
use world::world::Plan;

/// Some seconds, unoptimised.
const SEEDS: u64 = 60;
const STORM: u64 = 1000;

#[test]
fn whatever_happens_the_promises_hold() {
    if let (_, Some(failed)) = run::all(0, STORM, |number| number < SEEDS, |_| {}) {
        panic!("{failed}");
    }
}

#[test]
fn the_same_seed_is_the_same_walk() {
    for seed in 1000..1004 {
        let plan = Plan { steps: STORM, telling: true, only: None };
        let (one, other) = (walk(seed, plan), walk(seed, plan));
        let differs = one.lines.iter().zip(&other.lines).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        let untold = walk(seed, Plan { telling: false, ..plan });
        assert_eq!((one.digest, one.steps), (untold.digest, untold.steps), "seed {seed}");
        assert_ne!(one.digest, walk(seed + 1, plan).digest, "seed {seed}");
    }
}
