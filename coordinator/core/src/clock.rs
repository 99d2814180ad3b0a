//! What a rollout's time is counted from: its last progress, and since when its canaries are available.
//!
//! No date decides, and a coordinator that begins to lead loses neither:
//!
//! - For how long canaries are available, their nodes say by their own boot clocks, to every coordinator.
//!   What ran the target before the rollout began counts from then, for the coordinator that saw it begin.
//! - For how long there was no progress, coordinators count by their steady clocks, and note every eighth
//!   of the deadline. What one had not noted when it ended, and the time in which nobody led, or nobody
//!   looked, is not counted: nothing ever fails too early, and it fails later by less than an eighth and
//!   a registration window for each coordinator. What was noted counts for nothing where the rollout has
//!   gone on since.
//!
//! Only pods that this rollout moved can make it fail: where none of them is short of being available, it
//! waits for something else.

use std::time::Duration;

use everynode_model::{CanaryWait, Now, SetUid, Strategy, Timestamp, WallTime};

use crate::Fleet;
use crate::events::about_set;
use crate::record::{EventType, GrantHead, Record, Stalled, Write};
use crate::records::SetRecords;
use crate::stage::{FAILED, Stage, canaries_are_available};
use crate::status::Tally;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    rollout: u64,
    promoted: u64,
    paused: bool,
    desired: u32,
    /// The most nodes that were moved, and that had an available pod of the target.
    moved: usize,
    done: usize,
    /// When one of the above last grew, or the first of the moved fell short.
    progress: Timestamp,
    short: bool,
    /// For how long there was none before that, by what former coordinators noted.
    before: Duration,
    /// Whether as many canaries as there should be are available.
    ripe: bool,
    /// When the rollout began; `None` where nobody of this process saw it.
    begun: Option<Timestamp>,
}

/// In how many parts a deadline is noted: often enough for coordinators that are restarted several
/// times within one, and few writes.
const NOTES: u32 = 8;

impl Fleet {
    /// Keeps the set's clock right after something about it has changed.
    pub(crate) fn set_clock(&mut self, set: SetUid) {
        let next = self.records.sets.get(&set).and_then(|records| self.clock(set, records));
        match next {
            Some(next) => self.clocks.insert(set, next),
            None => self.clocks.remove(&set),
        };
    }

    /// Whatever was not seen while nobody looked counts as not having taken any time.
    pub(crate) fn restart_clocks(&mut self) {
        let progress = self.looks_from();
        self.clocks.values_mut().for_each(|clock| clock.progress = progress);
    }

    /// Goes on counting from what former coordinators noted: these rollouts did not begin now.
    pub(crate) fn take_up_clocks(&mut self) {
        for (set, clock) in &mut self.clocks {
            clock.begun = None;
            let head = self.records.sets.get(set).and_then(|records| records.head.as_ref());
            if let Some(noted) = head.and_then(GrantHead::noted).filter(|_| !clock.paused) {
                let count = |noted: u64| usize::try_from(noted).unwrap_or(usize::MAX);
                clock.moved = clock.moved.max(count(noted.moved));
                clock.done = clock.done.max(count(noted.done));
                clock.before = noted.time;
            }
        }
    }

    /// The earliest time at which a rollout fails or goes past its canaries by itself.
    pub(crate) fn clocks_wake_at(&self) -> Option<Timestamp> {
        let due = |(set, clock): (&SetUid, &Clock)| {
            let records = self.records.sets.get(set)?;
            let promotes = promotes_at(records, clock, self.tallies.get(set)?);
            let (fails, notes) = (fails_at(records, clock), notes_at(records, clock));
            [promotes, fails, notes].into_iter().flatten().min()
        };
        self.clocks.iter().filter_map(due).filter(|at| *at > self.now.steady).min()
    }

    /// The write that time asks for: the target has failed, or goes past its canaries, or that it makes
    /// no progress is to be noted.
    pub(crate) fn clock_step(
        &self,
        uid: SetUid,
        records: &SetRecords,
        tally: &Tally,
        now: Now,
    ) -> Option<Vec<Write>> {
        let clock = self.clocks.get(&uid)?;
        let head = records.head.as_ref()?;
        if fails_at(records, clock).is_some_and(|at| at <= now.steady) {
            return Some(self.fail(uid, records, head, tally, now.wall));
        }
        let approved = is_approved(records, head) && clock.ripe;
        if approved || promotes_at(records, clock, tally).is_some_and(|at| at <= now.steady) {
            let next = GrantHead { promoted: head.rollout, ..head.clone() };
            let message = format!("Revision {} goes past its canaries", head.target.short());
            let what = (EventType::Normal, "CanaryPassed", message);
            return Some(self.head_and_event(uid, records, next, what, now.wall));
        }
        let stalled = clock.note(records, head, now.steady)?;
        Some(vec![Write::put(Record::GrantHead(GrantHead { stalled, ..head.clone() }))])
    }

    fn fail(
        &self,
        uid: SetUid,
        records: &SetRecords,
        head: &GrantHead,
        tally: &Tally,
        at: WallTime,
    ) -> Vec<Write> {
        let set = records.record.as_ref().map(|record| &record.set);
        let deadline = set.and_then(|set| set.rollout.progress_deadline).unwrap_or_default();
        let why = format!(
            "{} of {} nodes that were moved to revision {} have no available pod of it, and none came \
             right for {} s",
            tally.moving,
            tally.moved,
            head.target.short(),
            deadline.as_secs()
        );
        let mut next = head.clone();
        next.marks.insert(FAILED.into(), why.clone());
        next.stalled = None;
        let back = set.is_some_and(|set| next.goes_back(set));
        let then = match (back, head.stable) {
            (true, Some(stable)) => format!("; going back to revision {}", stable.short()),
            _ => "; nothing more is moved".into(),
        };
        let what = (EventType::Warning, "ProgressDeadlineExceeded", format!("{why}{then}"));
        self.head_and_event(uid, records, next, what, at)
    }

    /// A changed head, and the event that tells of it.
    pub(crate) fn head_and_event(
        &self,
        uid: SetUid,
        records: &SetRecords,
        head: GrantHead,
        (event_type, reason, message): (EventType, &str, String),
        at: WallTime,
    ) -> Vec<Write> {
        let mut writes = vec![Write::put(Record::GrantHead(head))];
        if let Some(record) = &records.record {
            let about = about_set(&record.set.key, uid);
            writes.extend(self.events.draft(about, event_type, reason, &message, at));
        }
        writes
    }

    /// The clock as it should be now; `None` where no rollout is under way.
    fn clock(&self, set: SetUid, records: &SetRecords) -> Option<Clock> {
        let head = records.head.as_ref().filter(|head| head.is_under_way())?;
        let paused = records.record.as_ref()?.set.rollout.paused;
        let empty = Tally::default();
        let tally = self.tallies.get(&set).unwrap_or(&empty);
        let (now, progress) = (self.now.steady, self.looks_from());
        let new = Clock {
            rollout: head.rollout,
            promoted: head.promoted,
            paused,
            desired: tally.status.desired,
            moved: tally.moved,
            done: tally.done,
            progress,
            short: tally.moving > 0 && !tally.is_cut_off(),
            before: Duration::ZERO,
            ripe: canaries_are_available(&Stage::of(records, tally)?, tally),
            begun: Some(now),
        };
        let known = self.clocks.get(&set).filter(|clock| clock.rollout == new.rollout);
        let new = Clock { begun: known.map_or(new.begun, |known| known.begun), ..new };
        let same = |clock: &&Clock| {
            (clock.rollout, clock.promoted, clock.paused) == (new.rollout, new.promoted, new.paused)
        };
        let former = self.clocks.get(&set).filter(same);
        let Some(former) = former else { return Some(new) };
        // Nodes that are gone take with them what they counted for; what is left has not grown by that.
        let gone = former.desired.saturating_sub(new.desired) as usize;
        let left = |most: usize, is: usize| match gone {
            0 => most,
            gone => most.saturating_sub(gone).max(is),
        };
        let (moved, done) = (left(former.moved, new.moved), left(former.done, new.done));
        let grew = new.moved > moved || new.done > done;
        let fell_short = new.short && !former.short;
        // Before all had the time to call, nothing was seen to fall short.
        let anew = grew || (fell_short && now >= self.window_ends);
        Some(Clock {
            moved: new.moved.max(moved),
            done: new.done.max(done),
            progress: if grew || fell_short { progress } else { former.progress },
            before: if anew { Duration::ZERO } else { former.before },
            ..new
        })
    }

    /// From when on it can be told who is away, and so that a rollout makes no progress.
    fn looks_from(&self) -> Timestamp {
        self.now.steady.max(self.window_ends)
    }
}

impl GrantHead {
    /// What was noted of this very rollout.
    fn noted(&self) -> Option<Stalled> {
        self.stalled.filter(|stalled| stalled.rollout == self.rollout)
    }
}

impl Clock {
    /// What is to be stored in the place of what is noted, if that is to be another.
    fn note(
        &self,
        records: &SetRecords,
        head: &GrantHead,
        now: Timestamp,
    ) -> Option<Option<Stalled>> {
        let time = self.before + now.since(self.progress);
        if head.stalled.is_some_and(|noted| noted.rollout != self.rollout || noted.time > time) {
            return Some(None);
        }
        let due = notes_at(records, self).is_some_and(|at| at <= now);
        let (moved, done) = (self.moved as u64, self.done as u64);
        due.then_some(Some(Stalled { rollout: self.rollout, moved, done, time }))
    }
}

/// When the next part of a deadline is over, that was not noted yet.
fn notes_at(records: &SetRecords, clock: &Clock) -> Option<Timestamp> {
    let fails = fails_at(records, clock)?;
    let deadline = records.record.as_ref()?.set.rollout.progress_deadline?;
    let noted = records.head.as_ref()?.noted().map_or(Duration::ZERO, |noted| noted.time);
    let next = noted.saturating_add(deadline / NOTES).saturating_sub(clock.before);
    Some(clock.progress.after(next)).filter(|at| *at < fails)
}

/// When the rollout will have failed, if nothing comes right until then.
fn fails_at(records: &SetRecords, clock: &Clock) -> Option<Timestamp> {
    let set = &records.record.as_ref()?.set;
    let failed = records.head.as_ref()?.failure().is_some();
    if failed || clock.paused || !clock.short || set.strategy == Strategy::OnDelete {
        return None;
    }
    Some(clock.progress.after(set.rollout.progress_deadline?.saturating_sub(clock.before)))
}

/// When the rollout goes past its canaries by itself.
fn promotes_at(records: &SetRecords, clock: &Clock, tally: &Tally) -> Option<Timestamp> {
    match records.record.as_ref()?.set.rollout.canary.as_ref()?.wait {
        CanaryWait::For(time) if clock.ripe => {
            let (proven, _) = tally.proven.last()?;
            Some(clock.begun.map_or(*proven, |begun| begun.after(time).max(*proven)))
        }
        CanaryWait::For(_) | CanaryWait::Manual => None,
    }
}

/// Whether a person has said that this very revision may go on.
fn is_approved(records: &SetRecords, head: &GrantHead) -> bool {
    let canary = records.record.as_ref().and_then(|record| record.set.rollout.canary.as_ref());
    let approved = canary.and_then(|canary| canary.approved.as_deref());
    approved.is_some_and(|approved| approved == head.target.short())
}
