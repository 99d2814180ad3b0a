//! The real shells, coordinator and agent, on a simulated network, with stores and machines that
//! fail; and the promises P1 to P6, looked at after every step.
//!
//! A walk is drawn from its seed: what is done to the world, when, and how long messages take. It
//! ends by making everything whole, after which all must come to be as it was asked for. A seed that
//! fails prints its story and the command that tells it again.
//!
//! - `EVERYNODE_SEEDS=N`: how many walks (300 without).
//! - `EVERYNODE_SEED=N`: only this one. With `RUST_LOG` the shells' own logs are shown.

#![cfg(test)]

mod ending;
mod faults;
mod invariants;
mod log;
mod machine;
mod net;
mod operator;
mod runtime;
mod shells;
mod world;

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::invariants::Violation;
use crate::log::Log;
use crate::world::World;

/// How many walks there are where nobody says.
const SEEDS: u64 = 300;
/// How many things happen in a walk: enough that several are under way at any time.
const STEPS: u64 = 30;
/// How much of a story is told: the part that leads to its end.
const TOLD: usize = 120;

/// What came of walks.
#[derive(Default)]
struct Summary {
    walks: u64,
    ticks: u64,
    simulated: Duration,
    slowest: Duration,
    faults: BTreeMap<&'static str, u64>,
}

#[test]
fn promises_hold_through_every_walk() {
    let began = Instant::now();
    if let Some(seed) = number::<u64>("EVERYNODE_SEED") {
        tell_everything();
        let (log, walked) = walk(seed);
        log.lines().iter().for_each(|line| println!("{line}"));
        let (ticks, healed) = walked.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        return println!("seed {seed}: {ticks} ticks, healed in {healed:?}");
    }
    let summary = walk_all(number("EVERYNODE_SEEDS").unwrap_or(SEEDS));
    println!(
        "{} walks in {:.0?}: {} ticks, {:.1} h simulated, healed in at most {:?}",
        summary.walks,
        began.elapsed(),
        summary.ticks,
        summary.simulated.as_secs_f64() / 3600.0,
        summary.slowest
    );
    for (kind, count) in summary.faults {
        println!("{count:>8}  {kind}");
    }
}

#[test]
fn one_seed_has_one_story() {
    for seed in 1000..1080 {
        let stories = [walk(seed), walk(seed)].map(|(log, _)| log.lines());
        let [one, other] = &stories;
        let differs = one.iter().zip(other).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(one.len(), other.len(), "seed {seed}");
    }
}

/// All seeds from 0, on as many threads as there are processors; the first violation ends it.
fn walk_all(seeds: u64) -> Summary {
    let (next, summary) = (AtomicU64::new(0), Mutex::new(Summary::default()));
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            let (log, walked) = walk(seed);
            match walked {
                Ok((ticks, healed)) => summary.lock().unwrap().add(&log, ticks, healed),
                Err(violation) => {
                    next.store(seeds, Ordering::Relaxed);
                    fail(seed, &log, &violation);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    summary.into_inner().unwrap()
}

/// One walk: its story, and how many ticks it had and how long healing took, or what was wrong.
fn walk(seed: u64) -> (Log, Result<(u64, Duration), Violation>) {
    let mut world = World::new(seed);
    let walked = stroll(&mut world);
    let log = world.log.clone();
    if let Err(violation) = &walked {
        log.say(format_args!("VIOLATION {violation}"));
    }
    (log, walked.map(|healed| (world.ticks, healed)))
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

impl Summary {
    fn add(&mut self, log: &Log, ticks: u64, healed: Duration) {
        self.walks += 1;
        self.ticks += ticks;
        self.simulated += log.now();
        self.slowest = self.slowest.max(healed);
        for (kind, count) in log.faults() {
            *self.faults.entry(kind).or_default() += count;
        }
    }
}

fn fail(seed: u64, log: &Log, violation: &Violation) -> ! {
    let lines = log.lines();
    for line in lines.iter().skip(lines.len().saturating_sub(TOLD)) {
        println!("{line}");
    }
    panic!(
        "seed {seed}: {violation}\nreplay with: EVERYNODE_SEED={seed} cargo test \
         -p everynode-tests --test sim -- --nocapture promises_hold_through_every_walk"
    );
}

fn tell_everything() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    // Another test of this process may have been first.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).without_time().try_init();
}

fn number<T: FromStr>(variable: &str) -> Option<T> {
    std::env::var(variable).ok()?.parse().ok()
}
