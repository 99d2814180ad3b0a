//! Whether the machine is short of something: the kubelet's conditions of a node.
//!
//! ```text
//!                  a reading is beyond the threshold
//!   no pressure ───────────────────────────────────────▶ pressure ──┐ again: counted anew
//!        ▲                                                 │   ▲    │
//!        └──────── none was for the whole transition ──────┘   └────┘
//! ```
//!
//! Thresholds are the kubelet's defaults for hard eviction, and so is the time after which a
//! condition is taken back (`--eviction-pressure-transition-period`): one that comes and goes would
//! tell nothing. Nothing is evicted here: every daemon is wanted on every node.

use std::time::Duration;

use everynode_model::{NodeCondition, Now, PRESSURES, Timestamp, WallTime};

/// How long no reading may be beyond the threshold before the condition is taken back.
const TRANSITION: Duration = Duration::from_secs(5 * 60);

/// `memory.available<100Mi`.
const LEAST_MEMORY: u64 = 100 << 20;

/// How much there is of something, and how much of it is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// All there is.
    pub total: u64,
    /// What is left.
    pub left: u64,
}

/// What was measured at one time. What can't be, is not short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    /// Bytes of memory.
    pub memory: Option<Room>,
    /// Bytes of the disk on which the agent keeps logs and its ledger.
    pub disk: Option<Room>,
    /// Files that may be made on it.
    pub files: Option<Room>,
    /// Processes and threads.
    pub pids: Option<Room>,
}

/// The three conditions.
#[derive(Clone, Debug, Default)]
pub struct Pressure {
    gauges: [Gauge; 3],
}

/// One condition.
#[derive(Clone, Debug, Default)]
struct Gauge {
    /// When a reading was beyond the threshold last, while the condition holds.
    short: Option<Timestamp>,
    message: String,
    /// Since when it is as it is; `None` before anything was measured.
    since: Option<WallTime>,
}

/// What is said of each of [`PRESSURES`].
struct Words {
    /// The reason where it holds.
    bad: &'static str,
    /// The reason where it doesn't.
    good: &'static str,
    /// What the machine is short of.
    what: &'static str,
}

const WORDS: [Words; 3] = [
    Words { bad: "HasInsufficientMemory", good: "HasSufficientMemory", what: "memory" },
    Words { bad: "HasDiskPressure", good: "HasNoDiskPressure", what: "disk" },
    Words { bad: "HasInsufficientPID", good: "HasSufficientPID", what: "processes" },
];

impl Pressure {
    /// Takes in what was measured; whether a condition is another one now.
    pub fn take(&mut self, readings: &Readings, now: Now) -> bool {
        let short = [short_of_memory(readings), short_of_disk(readings), short_of_pids(readings)];
        let mut changed = false;
        for ((gauge, short), words) in self.gauges.iter_mut().zip(short).zip(&WORDS) {
            changed |= gauge.take(short, words.what, now);
        }
        changed
    }

    /// All of them; none before anything was measured.
    pub fn conditions(&self) -> Vec<NodeCondition> {
        let condition = |((gauge, words), kind): ((&Gauge, &Words), &str)| {
            let holds = gauge.short.is_some();
            Some(NodeCondition {
                kind: kind.to_owned(),
                holds,
                reason: if holds { words.bad } else { words.good }.to_owned(),
                message: gauge.message.clone(),
                since: gauge.since?,
            })
        };
        self.gauges.iter().zip(&WORDS).zip(PRESSURES).filter_map(condition).collect()
    }
}

impl Gauge {
    fn take(&mut self, short: Option<String>, what: &str, now: Now) -> bool {
        let held = self.short.is_some();
        let over = self.short.is_none_or(|last| now.steady.since(last) >= TRANSITION);
        match &short {
            Some(_) => self.short = Some(now.steady),
            None if over => self.short = None,
            None => {}
        }
        let changed = self.since.is_none() || held != self.short.is_some();
        if changed {
            self.since = Some(now.wall);
            self.message = short.unwrap_or_else(|| format!("enough {what} is left"));
        }
        changed
    }
}

fn short_of_memory(readings: &Readings) -> Option<String> {
    let left = readings.memory?.left;
    (left < LEAST_MEMORY).then(|| format!("{}Mi of memory is left, less than 100Mi", left >> 20))
}

fn short_of_disk(readings: &Readings) -> Option<String> {
    let space = readings.disk.and_then(|room| room.is_below(10));
    let space = space.map(|left| format!("{left} % of the disk is left, less than 10 %"));
    let files = || readings.files.and_then(|room| room.is_below(5));
    space.or_else(|| {
        files().map(|left| format!("{left} % of the disk's inodes are left, less than 5 %"))
    })
}

fn short_of_pids(readings: &Readings) -> Option<String> {
    let left = readings.pids?.is_below(10)?;
    Some(format!("{left} % of all process ids are left, less than 10 %"))
}

impl Room {
    /// How many percent are left, where that is less than so many. Of nothing, nothing is missing: some
    /// file systems have no fixed number of inodes.
    fn is_below(self, percent: u64) -> Option<u64> {
        let left = self.left.saturating_mul(100).checked_div(self.total)?;
        (left < percent).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now {
            steady: Timestamp::from_start(Duration::from_secs(seconds)),
            wall: WallTime::from_unix_millis(i64::try_from(seconds).unwrap() * 1000),
        }
    }

    fn disk(left: u64) -> Readings {
        Readings { disk: Some(Room { total: 1000, left }), ..Readings::default() }
    }

    fn shown(pressure: &Pressure) -> Vec<String> {
        let conditions = pressure.conditions().into_iter();
        conditions.map(|one| format!("{}={} {}", one.kind, one.holds, one.message)).collect()
    }

    #[test]
    fn each_threshold_is_the_kubelets() {
        let room = |total, left| Some(Room { total, left });
        let memory = |left| Readings { memory: room(1 << 40, left), ..Readings::default() };
        let files = |left| Readings { files: room(1000, left), ..Readings::default() };
        let pids = |left| Readings { pids: room(1000, left), ..Readings::default() };
        for (kind, fine, short) in [
            (0, memory(100 << 20), memory((100 << 20) - 1)),
            (1, disk(100), disk(99)),
            (1, files(50), files(49)),
            (2, pids(100), pids(99)),
        ] {
            let holds = |readings| {
                let mut pressure = Pressure::default();
                assert!(pressure.take(&readings, at(0)), "the first is news");
                pressure.conditions().iter().map(|one| one.holds).collect::<Vec<_>>()
            };
            assert_eq!(holds(fine), [false; 3]);
            let mut expected = [false; 3];
            expected[kind] = true;
            assert_eq!(holds(short), expected);
        }
        let nothing = Readings { files: room(0, 0), ..Readings::default() };
        assert!(short_of_disk(&nothing).is_none());
    }

    #[test]
    fn pressure_comes_at_once_and_goes_when_none_was_for_five_minutes() {
        let mut pressure = Pressure::default();
        assert!(pressure.conditions().is_empty());
        assert!(pressure.take(&disk(500), at(0)));
        assert!(!pressure.take(&disk(400), at(10)));
        assert!(pressure.take(&disk(80), at(20)));
        assert_eq!(
            shown(&pressure)[1],
            "DiskPressure=true 8 % of the disk is left, less than 10 %"
        );
        assert!(!pressure.take(&disk(10), at(30)), "the line is that of its beginning");
        assert!(!pressure.take(&disk(500), at(329)));
        assert!(!pressure.take(&disk(99), at(329)), "counted anew");
        assert!(!pressure.take(&disk(500), at(628)));
        assert!(pressure.take(&disk(500), at(629)));
        assert_eq!(shown(&pressure)[1], "DiskPressure=false enough disk is left");
        assert_eq!(pressure.conditions()[1].since, at(629).wall);
        assert_eq!(pressure.conditions()[0].since, at(0).wall);
    }
}
