//! `kill -9` of everything at moments drawn from a seed: agents, supervisors, workloads and the
//! coordinator, while somebody changes what is to run all the time.
//!
//! ```text
//!   calm ─▶ kills, and changes by a writer ─▶ everything is started again ─▶ calm ─▶ …
//!    │         (killer, moment)  (writer)                                     │
//!    └──────────── every count of processes, cgroups, files … is the same ────┘
//! ```
//!
//! What runs is plain pods and whole ones (see [`sets`]): init containers, sidecars, probes, hooks,
//! volumes, surges. No lock witness may ever have met another, nothing in a pod may have happened out
//! of turn, every acknowledged change is there, and in calm nothing
//! is left of what was killed: see [`calm`].
//!
//! ```text
//!   tests/chaos --kills 3000 [--seed 7]      by the thousand
//! ```
//!
//! - `EVERYNODE_KILLS=N`: how many kills (100 without).
//! - `EVERYNODE_SEED=N`: whom, when, and what is changed meanwhile. The moments are those of real
//!   processes, so two runs of a seed are alike, and not the same.

mod calm;
mod killer;
mod moment;
mod sets;
mod writer;

use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use everynode_agent::random::Random;
use everynode_tests::ground::Ground;
use everynode_tests::{Context as _, Fleet, Outcome, failure, runner};

use self::calm::Calm;
use self::killer::Killer;
use self::writer::Writer;

/// How many kills there are where nobody says: what takes about a minute.
const KILLS: u64 = 100;
/// How many kills there are from one calm to the next: enough that many things go wrong together,
/// few enough that what went wrong is told from the rest.
const BETWEEN_CALMS: u64 = 100;
/// Machines: enough for a rollout to be under way on one while it waits on others.
pub(crate) const NODES: u8 = 3;

/// So that logs rotate every second or two.
const SMALL_LOGS: (&str, &str) = ("EVERYNODE_AGENT_CONTAINER_LOG_MAX_SIZE", "32Ki");

/// See the module.
pub(crate) fn everything_is_killed(ground: &Ground) -> Outcome {
    let kills = number("EVERYNODE_KILLS").unwrap_or(KILLS);
    let seed = number("EVERYNODE_SEED").unwrap_or(1);
    let again = format!("replay with: tests/chaos --kills {kills} --seed {seed}");
    Fleet::play(ground, NODES, |fleet| play(fleet, kills, seed).context(again))
}

fn play(fleet: &mut Fleet<'_>, kills: u64, seed: u64) -> Outcome {
    let begun = Instant::now();
    let mut random = Random::seeded([seed, 0x0c4a_0500]);
    let mut writer = Writer::new(fleet, random.fork())?;
    let mut killer = Killer::new(random.fork());
    // Whoever joined has what joining takes open; from now on all are as they come back, and have
    // made every pod themselves.
    for name in (1..=NODES).map(|number| format!("n{number}")) {
        fleet.machine_mut(&name)?.tell(SMALL_LOGS.0, SMALL_LOGS.1);
    }
    killer.restart_all(fleet)?;
    writer.settle()?;
    let calm = Calm::reached(fleet, &writer, None)?;
    while killer.kills() < kills {
        let segment = BETWEEN_CALMS.min(kills - killer.kills());
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| writer.write_until(&over));
            let killed = killer.kill(fleet, segment);
            over.store(true, Ordering::Release);
            let written = writing.join().unwrap_or_else(|_| Err(failure!("the writer panicked")));
            killed.and(written)
        })?;
        killer.revive_all(fleet)?;
        writer.settle()?;
        Calm::reached(fleet, &writer, Some(&calm))?;
        let (seconds, done) = (begun.elapsed().as_secs(), killer.kills());
        runner::say(&format!("chaos: {done} of {kills} kills, {seconds} s; {writer}"));
    }
    let starts = calm::starts(fleet)?;
    runner::say(&format!("chaos: seed {seed}: {killer}"));
    runner::say(&format!("chaos: {starts} starts of witnesses; {writer}"));
    Ok(())
}

fn number<T: FromStr>(variable: &str) -> Option<T> {
    std::env::var(variable).ok()?.parse().ok()
}
