//! What a slow reader costs those who serve it: its windows, and nobody a session.

use everynode_tests::{Fleet, Outcome, ensure, failure, proc};

/// Windows, and what allocators keep, in KiB.
const MAY_GROW: u64 = 16 * 1024;

/// What the first machine's agent and the coordinator have in memory, in KiB, and how many sessions
/// there were.
pub(crate) struct Upkeep {
    resident: [u64; 2],
    sessions: usize,
}

impl Upkeep {
    pub(crate) fn of(fleet: &Fleet<'_>) -> Outcome<Self> {
        let agent = fleet.machine("n1")?.agent_pid().ok_or_else(|| failure!("no agent runs"))?;
        let resident = [proc::resident(agent)?, proc::resident(fleet.coordinator().pid()?)?];
        Ok(Self { resident, sessions: fleet.sessions() })
    }

    /// Sees that it is no more now than windows are.
    pub(crate) fn is_still(&self, fleet: &Fleet<'_>) -> Outcome {
        let now = Self::of(fleet)?;
        for (before, after) in self.resident.iter().zip(&now.resident) {
            ensure!(after.saturating_sub(*before) < MAY_GROW, "{before} KiB became {after} KiB");
        }
        ensure!(now.sessions == self.sessions, "a session has ended");
        fleet.nobody_was_lost()
    }
}
