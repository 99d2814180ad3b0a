//! Every invariant can fail: each is seen red with the rule broken that it is there for.
//!
//! `cargo test -p world --features mutations --test mutations -- --nocapture` shows by which seed.
#![allow(clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};

use world::mutations::{TABLE, first_red};
use world::run::walk;
use world::world::Plan;

/// Many times as many as most need: any change of the cores makes other walks of the same seeds.
const SEEDS: u64 = 5000;
const STORM: u64 = 1000;

#[test]
fn every_invariant_is_seen_red() {
    // What is broken on purpose may well panic, and is told below.
    panic::set_hook(Box::new(|_| {}));
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut missed = Vec::new();
        while let Some((mutation, rule)) = TABLE.get(next.fetch_add(1, Ordering::Relaxed)) {
            match first_red(*mutation, rule, SEEDS, STORM) {
                Some(red) => println!("{mutation:?}: {rule} after {} walks", red.seed + 1),
                None => missed.push(format!("{mutation:?}: {rule}")),
            }
        }
        missed
    };
    let missed: Vec<String> = std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    });
    _ = panic::take_hook();
    assert_eq!(missed, Vec::<String>::new(), "not seen within {SEEDS} walks");
}

#[test]
fn no_invariant_is_left_out() {
    let table: BTreeSet<&str> = TABLE.iter().map(|(_, rule)| *rule).collect();
    let plan = Plan { steps: STORM, telling: false, only: None };
    let checked = (0..20).flat_map(|seed| walk(seed, plan).checked.into_keys());
    let left_out: BTreeSet<&str> = checked.filter(|rule| !table.contains(rule)).collect();
    assert_eq!(left_out, BTreeSet::new());
}
