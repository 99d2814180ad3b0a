//! A cgroup whose first process has ended: what that left behind is killed until it is seen empty,
//! or its end is told all the same.

use std::time::Duration;

use super::clock;
use crate::cgroup::{Cgroup, Events, Force};

/// How long leftovers may take to die before the end is told all the same. Only a process in an
/// uninterruptible wait needs more than a moment, and that may last for ever.
const EMPTY_WITHIN: Duration = Duration::from_secs(10);

/// How often leftovers are killed again: without `cgroup.kill` one pass can miss a fork.
pub(super) const KILL_AGAIN: Duration = Duration::from_millis(250);

/// A leaf that is being emptied.
pub(super) struct Emptying {
    /// None where descriptors were short: then it is only looked at from time to time.
    events: Option<Events>,
    /// When to kill again, and when to tell all the same, by the boot clock.
    again: Duration,
    until: Duration,
}

impl Emptying {
    pub(super) fn begin(leaf: &Cgroup) -> Self {
        Self {
            events: leaf.events().ok(),
            again: Duration::ZERO,
            until: clock::boot() + EMPTY_WITHIN,
        }
    }

    /// Kills again where it is time to; whether anything is alive.
    pub(super) fn progress(&mut self, leaf: &Cgroup, force: Force, now: Duration) -> bool {
        let populated = match &self.events {
            Some(events) => events.populated(),
            None => leaf.populated(),
        };
        // Not seen empty is not empty.
        let populated = populated.unwrap_or(true);
        if populated && now >= self.again {
            self.again = now + KILL_AGAIN;
            // What can't be killed now is tried again.
            let _ = leaf.force(force);
        }
        populated
    }

    /// Whether its end is to be told whoever is alive.
    pub(super) fn is_late(&self, now: Duration) -> bool {
        now >= self.until
    }

    /// When [`Self::progress`] is due without being told to, by the boot clock.
    pub(super) fn wake_at(&self) -> Duration {
        self.again
    }

    /// What to wait for.
    pub(super) fn events(&self) -> Option<&Events> {
        self.events.as_ref()
    }
}
