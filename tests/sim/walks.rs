//! Many walks, each a process of its own: tokio numbers tasks through the whole process, and drops
//! those of a crashed host in an order that follows from their numbers. So a seed's story is the
//! same alone and among others.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The test that walks alone when it is given a seed.
const TEST: &str = "promises_hold_through_every_walk";
/// How much is told of a story that ends badly: the part that leads to its end.
const TOLD: usize = 120;
/// What the lines begin with that are for [`all`] and not for people.
const MARK: &str = "== ";

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
}

/// All seeds from 0, on as many processors as there are. The first one that fails ends it.
pub(crate) fn all(seeds: u64) -> Summary {
    let (next, summary) = (AtomicU64::new(0), Mutex::new(Summary::default()));
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            // Whatever panics here is told below.
            let _told = Stop(&next, seeds);
            let walked = apart(seed);
            summary.lock().unwrap().add(walked);
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

/// Leaves no seeds for others when its thread panics.
struct Stop<'a>(&'a AtomicU64, u64);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fetch_max(self.1, Ordering::Relaxed);
        }
    }
}

/// One walk, in a process of its own.
pub(crate) fn apart(seed: u64) -> Walked {
    let this = std::env::current_exe().unwrap();
    let output = Command::new(this)
        .args(["--exact", "--nocapture", TEST])
        .env("EVERYNODE_SEED", seed.to_string())
        .env("RUST_BACKTRACE", "0")
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    let (told, cried) = (text(&output.stdout), text(&output.stderr));
    if !output.status.success() {
        let lines: Vec<&str> = told.lines().collect();
        for line in lines.iter().skip(lines.len().saturating_sub(TOLD)) {
            println!("{line}");
        }
        panic!(
            "{cried}\nreplay with: EVERYNODE_SEED={seed} cargo test -p everynode-tests --test sim \
             -- --nocapture {TEST}"
        );
    }
    Walked::read(&told)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
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
    fn add(&mut self, walked: Walked) {
        self.walks += 1;
        self.total.ticks += walked.ticks;
        self.total.simulated += walked.simulated;
        self.total.healed = self.total.healed.max(walked.healed);
        for (kind, count) in walked.faults {
            *self.total.faults.entry(kind).or_default() += count;
        }
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
