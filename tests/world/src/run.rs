//! Many walks, and what came of them.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::law::Violation;
use crate::world::{Plan, World};

/// How many lines of a story that ends badly are told: the part that leads to its end.
const TOLD: usize = 80;

/// What came of one walk.
#[derive(Clone, Debug)]
pub struct Walked {
    /// Of which seed.
    pub seed: u64,
    /// How many events went into a core.
    pub steps: u64,
    /// The same for the same story.
    pub digest: u64,
    /// The first invariant that was broken.
    pub broken: Option<Violation>,
    /// How often each thing was done to the world.
    pub faults: BTreeMap<&'static str, u64>,
    /// How often each invariant was looked at.
    pub checked: BTreeMap<&'static str, u64>,
    /// The story, where it was wanted.
    pub lines: Vec<String>,
}

/// What came of all.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// How many walks there were.
    pub walks: u64,
    /// How many events went into a core.
    pub steps: u64,
    faults: BTreeMap<&'static str, u64>,
    checked: BTreeMap<&'static str, u64>,
}

/// A walk that broke something.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Its seed.
    pub seed: u64,
    /// How many steps its storm had.
    pub storm: u64,
    /// What it broke.
    pub violation: Violation,
    /// What happened last.
    pub lines: Vec<String>,
}

/// One walk.
pub fn walk(seed: u64, plan: Plan) -> Walked {
    let mut world = World::new(seed, plan);
    let walked = catch_unwind(AssertUnwindSafe(|| world.walk(plan)));
    world.law.holds("nothing_panics", walked.is_ok(), || {
        // What a panic says is text, of one kind or the other.
        let cause = walked.err();
        let text = cause.as_ref().and_then(|cause| {
            let text = cause.downcast_ref::<&str>().map(ToString::to_string);
            text.or_else(|| cause.downcast_ref::<String>().cloned())
        });
        text.unwrap_or_default()
    });
    Walked {
        seed,
        steps: world.steps,
        digest: world.log.digest(),
        broken: world.law.broken().cloned(),
        faults: world.log.faults().clone(),
        checked: world.law.checked().clone(),
        lines: world.log.lines().to_vec(),
    }
}

/// Walks from `first` on, for as long as `more` says of the number of walks begun so far, on as many
/// threads as there are processors; `told` hears what came of all so far after each. The first walk
/// that broke something ends it, and is walked again to be told.
pub fn all(
    first: u64,
    storm: u64,
    more: impl Fn(u64) -> bool + Sync,
    told: impl Fn(&Summary) + Sync,
) -> (Summary, Option<Failed>) {
    let plan = Plan { steps: storm, telling: false, only: None };
    let next = AtomicU64::new(0);
    let state: Mutex<(Summary, Option<u64>)> = Mutex::default();
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    let worker = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if lock().1.is_some() || !more(number) {
                return;
            }
            let walked = walk(first + number, plan);
            let mut state = lock();
            state.0.add(&walked);
            if walked.broken.is_some() {
                // Of several, the lowest: the same one each time.
                state.1 = Some(state.1.map_or(walked.seed, |seed| seed.min(walked.seed)));
            }
            told(&state.0);
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| _ = scope.spawn(worker));
    });
    let (summary, failed) = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    let failed = failed.and_then(|seed| tell(seed, storm));
    (summary, failed)
}

/// The end of the story of a walk that breaks something; `None` where it does not.
pub fn tell(seed: u64, storm: u64) -> Option<Failed> {
    let walked = walk(seed, Plan { steps: storm, telling: true, only: None });
    let violation = walked.broken?;
    let from = walked.lines.len().saturating_sub(TOLD);
    Some(Failed { seed, storm, violation, lines: walked.lines[from..].to_vec() })
}

impl Summary {
    fn add(&mut self, walked: &Walked) {
        self.walks += 1;
        self.steps += walked.steps;
        for (kind, count) in &walked.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        for (rule, count) in &walked.checked {
            *self.checked.entry(rule).or_default() += count;
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "done to the world:")?;
        self.faults.iter().try_for_each(|(kind, count)| writeln!(f, "{count:>12}  {kind}"))?;
        writeln!(f, "looked at:")?;
        self.checked.iter().try_for_each(|(rule, count)| writeln!(f, "{count:>12}  {rule}"))?;
        write!(f, "{} seeds, {} steps", self.walks, self.steps)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        let Self { seed, storm, violation, .. } = self;
        writeln!(f, "seed {seed}: {}: {}", violation.rule, violation.detail)?;
        write!(f, "replay with: cargo run --release -p world -- --seed {seed} --steps {storm}")
    }
}
