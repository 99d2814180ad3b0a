//! What happened, line by line: the same lines for the same seed, and the story of one that failed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The log of one run. All clones are one.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    now: Duration,
    lines: Vec<String>,
    faults: BTreeMap<String, u64>,
}

impl Log {
    /// From now on lines bear this time.
    pub(crate) fn tick(&self, now: Duration) {
        self.state().now = now;
    }

    /// The time of the next line.
    pub(crate) fn now(&self) -> Duration {
        self.state().now
    }

    /// Adds a line.
    pub(crate) fn say(&self, line: impl std::fmt::Display) {
        let mut state = self.state();
        let line = format!("{:>8.2}  {line}", state.now.as_secs_f64());
        // Among what the shells say, for who looks at one seed.
        tracing::info!(target: "story", "{line}");
        state.lines.push(line);
    }

    /// Adds a line about something that was done to the world, and counts it under its kind.
    pub(crate) fn fault(&self, kind: &'static str, detail: impl std::fmt::Display) {
        *self.state().faults.entry(kind.to_owned()).or_default() += 1;
        self.say(format_args!("* {kind} {detail}"));
    }

    /// Every line so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.state().lines.clone()
    }

    /// How often each kind of thing was done.
    pub(crate) fn faults(&self) -> BTreeMap<String, u64> {
        self.state().faults.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
