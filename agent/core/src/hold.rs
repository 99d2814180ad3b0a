//! Holds: somebody at the machine keeps a place as it is, whatever is ordered.
//!
//! ```text
//!   not held ─────────────▶ what the newest order says
//!   held ─────────────────▶ what was to run there when the hold began runs on, and is restarted
//!                           when it dies; where nothing was to run, nothing is started
//!   held and stopped ─────▶ nothing runs, until it is released
//! ```
//!
//! A hold counts when the ledger that has it is on disk, and so does its end. Orders are accepted
//! all the while, and take effect on release. A machine that leaves its cluster heeds no hold.
//!
//! # Clocks
//!
//! A hold that ends by itself ends after its length by the steady clock: while an agent runs, no
//! step of the date ends it early or keeps it for longer. A new agent has only the date: it takes
//! what is left by it, and never more than the whole length, so that a clock which woke in 1970
//! keeps a hold for one more length at most.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use everynode_model::{HELD_ON_NODE, Item, Now, PodKey, Reason, Timestamp, WallTime};

use crate::status::rfc3339;

/// Somebody's wish to keep something as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Whether what is held is stopped and kept down, too.
    pub stop: bool,
    /// Who wanted it, for people.
    pub by: String,
    /// What for, for people; may be empty.
    pub reason: String,
    /// When it began.
    pub since: WallTime,
    /// When it ends by itself, if it does.
    pub until: Option<WallTime>,
}

/// What a hold is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// All places here, also those for which nothing was ever ordered.
    Node,
    /// One.
    Place(PodKey),
}

/// All holds of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    /// That of the whole node.
    pub node: Option<Hold>,
    /// Those of single places.
    pub places: BTreeMap<PodKey, Hold>,
    /// What was to run in held places when their hold began. Only places that are held are named.
    pub kept: BTreeMap<PodKey, Item>,
}

/// What somebody at the machine wants of holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldChange {
    /// A hold, in the place of a former one of the same scope.
    Hold {
        /// Of what.
        scope: Scope,
        /// See [`Hold::stop`].
        stop: bool,
        /// See [`Hold::by`].
        by: String,
        /// See [`Hold::reason`].
        reason: String,
        /// For how long; `None`: until it is released.
        lasting: Option<Duration>,
    },
    /// Its end. Of the node's, that of every single place's too.
    Release(Scope),
}

/// A wish that waits to be written, and the number of the request it came with.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) request: u64,
    pub(crate) change: HoldChange,
}

/// When holds end by the steady clock, as far as this agent knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ends {
    /// By scope: the hold's own two dates, and when it ends.
    known: BTreeMap<Scope, (WallTime, WallTime, Timestamp)>,
    over: BTreeSet<Scope>,
}

impl Hold {
    /// Why what it holds is as it is.
    pub fn why(&self) -> Reason {
        let what = if self.stop { "stopped and held" } else { "held as it is" };
        let mut line = format!("{what} at the node by {} since {}", self.by, rfc3339(self.since));
        if let Some(until) = self.until {
            line = format!("{line} until {}", rfc3339(until));
        }
        if !self.reason.is_empty() {
            line = format!("{line}: {}", self.reason);
        }
        Reason::new(HELD_ON_NODE, line)
    }
}

impl Holds {
    /// The hold of a place that counts: one that stops before one that does not, and else the
    /// place's own.
    pub fn of(&self, key: &PodKey) -> Option<&Hold> {
        let own = self.places.get(key);
        let both = [own, self.node.as_ref()];
        let stops = both.into_iter().flatten().find(|hold| hold.stop);
        stops.or(own).or(self.node.as_ref())
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.node.is_none() && self.places.is_empty()
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = (Scope, &Hold)> {
        let node = self.node.iter().map(|hold| (Scope::Node, hold));
        let places = self.places.iter().map(|(key, hold)| (Scope::Place(key.clone()), hold));
        node.chain(places)
    }

    /// Follows a wish; `to_run` is what is to run in each place without it.
    pub(crate) fn change(
        &mut self,
        change: HoldChange,
        to_run: &BTreeMap<PodKey, Item>,
        now: WallTime,
    ) {
        match change {
            HoldChange::Hold { scope, stop, by, reason, lasting } => {
                let until = lasting.map(|time| later(now, time));
                self.keep(&scope, to_run);
                let hold = Hold { stop, by, reason, since: now, until };
                match scope {
                    Scope::Node => self.node = Some(hold),
                    Scope::Place(key) => _ = self.places.insert(key, hold),
                }
            }
            HoldChange::Release(Scope::Node) => *self = Self::default(),
            HoldChange::Release(scope) => self.end(&scope),
        }
    }

    /// Ends one hold; what others hold stays as it is.
    pub(crate) fn end(&mut self, scope: &Scope) {
        match scope {
            Scope::Node => self.node = None,
            Scope::Place(key) => _ = self.places.remove(key),
        }
        if self.node.is_none() {
            self.kept.retain(|key, _| self.places.contains_key(key));
        }
    }

    /// Remembers what is to run in the places that are not held already.
    fn keep(&mut self, scope: &Scope, to_run: &BTreeMap<PodKey, Item>) {
        let named = |key: &PodKey| match scope {
            Scope::Node => true,
            Scope::Place(only) => only == key,
        };
        let new = to_run.iter().filter(|(key, _)| named(key) && self.of(key).is_none());
        let new: Vec<_> = new.map(|(key, item)| (key.clone(), item.clone())).collect();
        self.kept.extend(new);
    }
}

impl Ends {
    /// Learns of new holds, and which are over by now.
    pub(crate) fn follow(&mut self, holds: &Holds, now: Now) {
        let mut known = BTreeMap::new();
        for (scope, hold) in holds.all() {
            let Some(until) = hold.until else { continue };
            let dates = (hold.since, until);
            let end = match self.known.get(&scope) {
                Some((since, until, end)) if (*since, *until) == dates => *end,
                _ => now.steady.after(left(hold.since, until, now.wall)),
            };
            known.insert(scope, (hold.since, until, end));
        }
        self.known = known;
        let over = self.known.iter().filter(|(_, (_, _, end))| *end <= now.steady);
        self.over = over.map(|(scope, _)| scope.clone()).collect();
    }

    /// The holds that are over and not ended yet.
    pub(crate) fn over(&self) -> &BTreeSet<Scope> {
        &self.over
    }

    /// When the next one is over.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        let ahead = self.known.iter().filter(|(scope, _)| !self.over.contains(*scope));
        ahead.map(|(_, (_, _, end))| *end).min()
    }
}

fn left(since: WallTime, until: WallTime, now: WallTime) -> Duration {
    let between = |from: WallTime, to: WallTime| {
        let millis = to.unix_millis.saturating_sub(from.unix_millis);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    };
    between(now, until).min(between(since, until))
}

fn later(at: WallTime, by: Duration) -> WallTime {
    let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    WallTime::from_unix_millis(at.unix_millis.saturating_add(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(steady: Duration, wall: i64) -> Now {
        let steady = Timestamp::from_start(steady);
        Now { steady, wall: WallTime::from_unix_millis(wall * 1000) }
    }

    fn for_an_hour_from(wall: i64) -> Holds {
        let lasting = Some(HOUR);
        let (by, reason) = ("root".to_owned(), String::new());
        let change = HoldChange::Hold { scope: Scope::Node, stop: false, by, reason, lasting };
        let mut holds = Holds::default();
        holds.change(change, &BTreeMap::new(), WallTime::from_unix_millis(wall * 1000));
        holds
    }

    #[test]
    fn a_step_of_the_date_neither_ends_nor_prolongs_it() {
        let holds = for_an_hour_from(1_000_000);
        let mut ends = Ends::default();
        ends.follow(&holds, at(HOUR, 1_000_000));
        for wall in [0, 99_999_999] {
            ends.follow(&holds, at(HOUR * 2 - Duration::from_millis(1), wall));
            assert!(ends.over().is_empty());
        }
        ends.follow(&holds, at(HOUR * 2, 0));
        assert_eq!(ends.over(), &[Scope::Node].into());
        assert_eq!(ends.next(), None);
    }

    #[test]
    fn a_new_agent_goes_by_the_date_and_never_beyond_the_whole_length() {
        let holds = for_an_hour_from(1_000_000);
        // After half of it, in 1970, and long after its end.
        for (wall, left) in [(1_001_800, HOUR / 2), (0, HOUR), (9_000_000, Duration::ZERO)] {
            let mut ends = Ends::default();
            ends.follow(&holds, at(Duration::ZERO, wall));
            let end = ends.next().map_or(Duration::ZERO, Timestamp::since_start);
            assert_eq!(end, left, "{wall}");
        }
    }
}
