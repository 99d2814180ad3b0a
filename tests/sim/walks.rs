//! Many walks, each a process of its own: tokio numbers tasks through the whole process, and drops
//! those of a crashed host in an order that follows from their numbers. So a seed's story is the
//! same alone and among others.
//!
//! One that fails is walked again with all that the shells say, into a file: its event log.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The test that walks alone when it is given a seed.
const TEST: &str = "promises_hold_through_every_walk";
/// How much is told of a story that ends badly: the part that leads to its end.
const TOLD: usize = 60;
/// What the lines begin with that are for [`all`] and not for people.
const MARK: &str = "== ";
/// After so many failures there are no more walks: the first few are enough to work on.
const FAILURES: usize = 10;
/// Between two lines that say how far it has come.
const PROGRESS: Duration = Duration::from_secs(10);

/// What came of one walk.
#[derive(Default)]
pub(crate) struct Walked {
    pub(crate) story: Vec<String>,
    pub(crate) ticks: u64,
    pub(crate) simulated: Duration,
    /// How long it took until all was as it should be.
    pub(crate) healed: Duration,
    pub(crate) faults: BTreeMap<String, u64>,
}

/// What came of all.
#[derive(Default)]
pub(crate) struct Summary {
    walks: u64,
    total: Walked,
    /// One text for each walk that failed.
    failures: Vec<String>,
}

/// How far it has come.
struct Progress {
    begun: Instant,
    said: Instant,
    seeds: u64,
}

/// Walks all these seeds, on as many processors as there are.
///
/// # Panics
/// When one failed, with what there is to know of each that did.
pub(crate) fn all(seeds: Range<u64>) -> Summary {
    let next = AtomicU64::new(seeds.start);
    let begun = Instant::now();
    let progress = Progress { begun, said: begun, seeds: seeds.end - seeds.start };
    let shared = Mutex::new((Summary::default(), progress));
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || lock(&shared).0.failures.len() >= FAILURES {
                return;
            }
            let walked = apart(seed);
            let (summary, progress) = &mut *lock(&shared);
            summary.add(seed, walked);
            progress.tell(summary);
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| _ = scope.spawn(worker));
    });
    let (summary, _) = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    let failures = &summary.failures;
    assert!(failures.is_empty(), "{} walks failed:\n\n{}", failures.len(), failures.join("\n\n"));
    summary
}

/// One walk, in a process of its own; or what there is to know of its failure.
pub(crate) fn apart(seed: u64) -> Result<Walked, String> {
    let output = walk(seed, None);
    let told = text(&output.stdout);
    if output.status.success() {
        return Ok(Walked::read(&told));
    }
    let again = walk(seed, Some("debug"));
    let log = format!("{}\n{}", text(&again.stdout), text(&again.stderr));
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("sim-{seed}.log"));
    let written = fs::write(&path, log).map_or_else(
        |error| format!("no event log: {}: {error}", path.display()),
        |()| format!("event log:   {}", path.display()),
    );
    let lines: Vec<&str> = told.lines().collect();
    let end = lines[lines.len().saturating_sub(TOLD)..].join("\n");
    Err(format!(
        "{end}\n{}\n{written}\nreplay with: EVERYNODE_SEED={seed} cargo test -p everynode-tests \
         --test sim -- --nocapture {TEST}",
        text(&output.stderr).trim()
    ))
}

fn walk(seed: u64, log_level: Option<&str>) -> Output {
    let this = std::env::current_exe().unwrap();
    let mut command = Command::new(this);
    command.args(["--exact", "--nocapture", TEST]).env("EVERYNODE_SEED", seed.to_string());
    command.env("RUST_BACKTRACE", "0").env_remove("RUST_LOG").env_remove("EVERYNODE_SEEDS");
    command.envs(log_level.map(|level| ("RUST_LOG", level)));
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Walked {
    /// Reads what another process has written.
    fn read(told: &str) -> Self {
        let mut walked = Self::default();
        for line in told.lines() {
            let Some(count) = line.strip_prefix(MARK) else {
                walked.story.push(line.to_owned());
                continue;
            };
            let (count, of) = count.split_once(' ').unwrap();
            let count = count.parse().unwrap();
            match of {
                "ticks" => walked.ticks = count,
                "ms simulated" => walked.simulated = Duration::from_millis(count),
                "ms until all was well" => walked.healed = Duration::from_millis(count),
                fault => _ = walked.faults.insert(fault.to_owned(), count),
            }
        }
        // What the test runner says of itself has the time in it.
        walked.story.retain(|line| !line.starts_with("test result"));
        walked
    }
}

impl fmt::Display for Walked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.story {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "{MARK}{} ticks", self.ticks)?;
        writeln!(f, "{MARK}{} ms simulated", self.simulated.as_millis())?;
        writeln!(f, "{MARK}{} ms until all was well", self.healed.as_millis())?;
        self.faults.iter().try_for_each(|(kind, count)| writeln!(f, "{MARK}{count} {kind}"))
    }
}

impl Summary {
    fn add(&mut self, seed: u64, walked: Result<Walked, String>) {
        self.walks += 1;
        let walked = match walked {
            Ok(walked) => walked,
            Err(failure) => {
                println!("seed {seed} failed:\n{failure}\n");
                return self.failures.push(failure);
            }
        };
        self.total.ticks += walked.ticks;
        self.total.simulated += walked.simulated;
        self.total.healed = self.total.healed.max(walked.healed);
        for (kind, count) in walked.faults {
            *self.total.faults.entry(kind).or_default() += count;
        }
    }
}

impl Progress {
    fn tell(&mut self, summary: &Summary) {
        if self.said.elapsed() < PROGRESS {
            return;
        }
        self.said = Instant::now();
        let took = self.begun.elapsed();
        let left = u32::try_from(self.seeds - summary.walks.min(self.seeds)).unwrap_or(u32::MAX);
        let walks = u32::try_from(summary.walks).unwrap_or(u32::MAX).max(1);
        println!(
            "{} of {} walks, {} failed, {:.0?}, about {:.0?} left",
            summary.walks,
            self.seeds,
            summary.failures.len(),
            took,
            took / walks * left
        );
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, count) in &self.total.faults {
            writeln!(f, "{count:>8}  {kind}")?;
        }
        let (ticks, hours) = (self.total.ticks, self.total.simulated.as_secs_f64() / 3600.0);
        let healed = self.total.healed.as_secs();
        write!(f, "{} walks, {ticks} steps, {hours:.1} h simulated, ", self.walks)?;
        write!(f, "all well after at most {healed} s, ")
    }
}
