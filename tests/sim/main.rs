//! The real shells, coordinator and agent, on a simulated network, with stores and machines that
//! fail; and the promises P1 to P6, looked at after every step.
//!
//! A walk is drawn from its seed: what is done to the world, when, and how long messages take. It
//! ends by making everything whole, after which all must come to be as it was asked for. A seed that
//! fails prints the end of its story, where its event log is (the whole story among all that the
//! shells said), and the command that walks it again.
//!
//! ```text
//!   tests/sim/run --seeds 5000 [--from 1000]     thousands, on all processors, with progress
//! ```
//!
//! - `EVERYNODE_SEEDS=N` or `EVERYNODE_SEEDS=A..B`: how many walks, or which (200 without).
//! - `EVERYNODE_SEED=N`: only this one. With `RUST_LOG` the shells' own logs are shown.

#![cfg(test)]

mod api;
mod desk;
mod ending;
mod faults;
mod invariants;
mod log;
mod machine;
mod net;
mod operator;
mod people;
mod rollouts;
mod runtime;
mod seat;
mod stranger;
mod walks;
mod watcher;
mod world;

use std::ops::Range;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::invariants::Violation;
use crate::operator::Wish;
use crate::walks::{Summary, Walked};
use crate::world::World;

/// How many walks there are where nobody says.
const SEEDS: u64 = 200;
/// How many things happen in a walk: enough that several are under way at any time.
const STEPS: u64 = 30;
/// How long nothing happens in [`nothing_happens_in_calm`]: many times the longest of the times after
/// which something looks after itself.
const CALM: Duration = Duration::from_secs(15 * 60);

#[test]
fn promises_hold_through_every_walk() {
    if let Some(seed) = number::<u64>("EVERYNODE_SEED") {
        return walk(seed);
    }
    let began = Instant::now();
    let summary: Summary = walks::all(seeds());
    println!("{summary}in {:.0?}", began.elapsed());
}

#[test]
fn one_seed_has_one_story() {
    for seed in 1000..1004 {
        let [one, other] = [seed; 2].map(|seed| walks::apart(seed).unwrap());
        let differs = one.story.iter().zip(&other.story).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(one.story.len(), other.story.len(), "seed {seed}");
    }
}

#[test]
fn nothing_happens_in_calm() {
    let mut world = World::new(1);
    world.settle_in();
    world.heal().unwrap();
    world.stay_calm(CALM).unwrap();
}

#[test]
fn what_happens_in_calm_is_seen() {
    let mut world = World::new(1);
    world.settle_in();
    world.heal().unwrap();
    let node = world.seats[0].name.clone();
    world.operator.wish(Wish::Label(node, "c"));
    let told = world.stay_calm(Duration::from_secs(10)).unwrap_err();
    assert!(told.starts_with("P7: "), "{told}");
}

/// `RUST_LOG=debug` shows what the shells say; without it, only trouble.
fn log_level() -> tracing::Level {
    let chosen = std::env::var("RUST_LOG").ok().and_then(|level| level.parse().ok());
    chosen.unwrap_or(tracing::Level::ERROR)
}

/// One walk, in this process: tells its story, and panics with what was wrong.
fn walk(seed: u64) {
    tracing_subscriber::fmt().with_max_level(log_level()).without_time().with_ansi(false).init();
    let mut world = World::new(seed);
    let walked = stroll(&mut world);
    let story = world.log.lines();
    let walked = walked.map(|healed| Walked {
        story,
        ticks: world.ticks,
        simulated: world.log.now(),
        healed,
        faults: world.log.faults(),
    });
    match walked {
        Ok(walked) => print!("{walked}"),
        Err(violation) => {
            world.log.lines().iter().for_each(|line| println!("{line}"));
            panic!("seed {seed}: {violation}");
        }
    }
}

fn stroll(world: &mut World) -> Result<Duration, Violation> {
    world.settle_in();
    world.run_for(Duration::from_secs(5))?;
    for _ in 0..STEPS {
        world.disturb();
        let pause = world.pause();
        world.run_for(pause)?;
    }
    world.heal()
}

/// The walks that were asked for.
fn seeds() -> Range<u64> {
    let Ok(asked) = std::env::var("EVERYNODE_SEEDS") else { return 0..SEEDS };
    let (from, to) = asked.split_once("..").unwrap_or(("0", &asked));
    let number = |text: &str| text.parse().expect("EVERYNODE_SEEDS is N or A..B");
    number(from)..number(to)
}

fn number<T: FromStr>(variable: &str) -> Option<T> {
    std::env::var(variable).ok()?.parse().ok()
}
