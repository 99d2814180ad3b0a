//! Random walks: a node on a pretended machine through faults of every kind, every promise checked
//! after every step, and everything in order once the faults cease.
//!
//! A failing seed names itself. `EVERYNODE_SEED=<seed>` walks that one alone and prints its log.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, unreachable_pub)]
#![allow(clippy::disallowed_methods, reason = "a failing seed is told from outside")]

mod calm;
mod machine;
mod rng;
mod world;

use world::World;

/// Enough to break each promise in several hundred walks when its code is broken; a few seconds.
const SEEDS: u64 = 2000;
const STEPS: usize = 400;

#[test]
fn whatever_happens_the_promises_hold() {
    if let Some(seed) = std::env::var("EVERYNODE_SEED").ok().and_then(|seed| seed.parse().ok()) {
        let mut world = World::new(seed);
        world.log = Some(Vec::new());
        let outcome = world.run(STEPS);
        println!("{}", world.log.unwrap_or_default().join("\n"));
        outcome.unwrap();
        return;
    }
    let failed: Vec<(u64, String)> = (0..SEEDS)
        .filter_map(|seed| World::new(seed).run(STEPS).err().map(|why| (seed, why)))
        .collect();
    if let Some((seed, why)) = failed.first() {
        panic!(
            "{} of {SEEDS} walks failed; the first is seed {seed}: {why}\nreplay it with \
             EVERYNODE_SEED={seed} cargo test -p everynode-agent-core --test walk -- --nocapture",
            failed.len()
        );
    }
}

/// Every rule of a pod's life can be seen broken:
/// `cargo test -p everynode-agent-core --features mutations --test walk`.
#[cfg(feature = "mutations")]
#[test]
fn each_broken_rule_of_a_pods_life_is_seen() {
    use everynode_agent_core::mutation::{Mutation, choose};
    for (mutation, rule) in [
        (Mutation::StartOutOfTurn, "StartedOutOfTurn"),
        (Mutation::RepeatInits, "StartedOutOfTurn"),
        (Mutation::ProbeTwiceAtOnce, "TriedInVain"),
        (Mutation::ProbeBeforeStarted, "TriedInVain"),
        (Mutation::IgnoreThresholds, "ReadyOrNot"),
        (Mutation::ReadyForEver, "ReadyOrNot"),
        (Mutation::EndSidecarsFirst, "EndedOutOfTurn"),
        (Mutation::StartWhileEnding, "StartedWhileEnding"),
        (Mutation::IgnoreStorage, "OutlivedItsLimit"),
        (Mutation::EvictWithin, "EvictedWithinLimits"),
        (Mutation::ReplaceForLimits, "ReplacedForLimits"),
        (Mutation::ResizeUnstaged, "ResizedAmiss"),
        (Mutation::ResizeTwiceAtOnce, "ResizedAmiss"),
        (Mutation::ForgetDoubt, "DoubtForgotten"),
    ] {
        choose(Some(mutation));
        let red = |seed| World::new(seed).run(STEPS).is_err_and(|why| why.contains(rule));
        let seen = (0..SEEDS).any(red);
        choose(None);
        assert!(seen, "{mutation:?}: {rule}");
    }
}
