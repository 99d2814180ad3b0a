//! Which DaemonSets are due to follow an object that they read, where they don't fit into the transaction
//! that changes it: an object that is put notes them, and each set that is put takes itself off.
//!
//! It is one small record for all, apart from the objects: an object may be nearly all that a transaction
//! takes, and who follows several must not have to write them again.

use std::collections::{BTreeMap, BTreeSet};

use everynode_model::{ObjectKey, SetUid};

use super::Fleet;
use crate::command::{Content, Refusal};
use crate::record::{Due, Record, RecordKey, Write};

/// How many bytes the record may take, so that the largest set that there may be is put beside it: its
/// object and its template have 480 KiB each of the 1 MiB of a transaction. Enough for 500 sets and 30
/// objects that all of them read.
const MAX_BYTES: usize = 48 * 1024;

impl Fleet {
    /// An object is put that these sets read, and some of them are due to follow it. Who had not followed
    /// the change before this one has to follow this one.
    ///
    /// # Errors
    /// [`Refusal::TooMany`] where more are due than can be noted.
    pub(super) fn put_due(
        &self,
        key: &ObjectKey,
        readers: &BTreeMap<SetUid, u64>,
        due: &BTreeSet<SetUid>,
    ) -> Result<Option<Write>, Refusal> {
        if due.is_empty() && !self.records.due.contains_key(key) {
            return Ok(None);
        }
        let mut all = self.still_due();
        let sets = all.entry(key.clone()).or_default();
        sets.extend(due);
        sets.retain(|set| readers.contains_key(set));
        may_be_noted(&all)?;
        Ok(Some(written(all)))
    }

    /// The set is due to follow nothing any more: its revision was made of what is there, or somebody took
    /// it back to another.
    pub(super) fn no_longer_due(&self, set: SetUid, content: &Content) -> Option<Write> {
        let is_due = self.records.due.values().any(|sets| sets.contains(&set));
        if content.drifted.is_none() || !is_due {
            return None;
        }
        let mut all = self.still_due();
        all.values_mut().for_each(|sets| _ = sets.remove(&set));
        Some(written(all))
    }

    /// The same writes with one that says who is due: who is by any of them, and has followed by none.
    ///
    /// # Errors
    /// [`Refusal::TooMany`] where more are due than can be noted.
    pub(super) fn due_once(&self, writes: Vec<Write>) -> Result<Vec<Write>, Refusal> {
        let (dues, mut others): (Vec<Write>, Vec<Write>) =
            writes.into_iter().partition(|write| write.key == RecordKey::Due);
        if dues.is_empty() {
            return Ok(others);
        }
        let stored = pairs(&self.still_due());
        let (mut came, mut followed) = (BTreeSet::new(), BTreeSet::new());
        for write in dues {
            let Some(Record::Due(due)) = write.record else { continue };
            let pairs = pairs(&due);
            came.extend(pairs.difference(&stored).cloned());
            followed.extend(stored.difference(&pairs).cloned());
        }
        let mut all = Due::new();
        for (key, set) in stored.union(&came).filter(|pair| !followed.contains(*pair)) {
            all.entry(key.clone()).or_default().insert(*set);
        }
        if !came.is_empty() {
            may_be_noted(&all)?;
        }
        others.push(written(all));
        Ok(others)
    }

    /// Who is due, without objects that are not there any more and sets that don't read them any more.
    fn still_due(&self) -> Due {
        let records = &self.records;
        let still = |(key, sets): (&ObjectKey, &BTreeSet<SetUid>)| {
            let readers = records.readers.get(key).filter(|_| records.objects.contains_key(key))?;
            Some((key.clone(), sets.intersection(readers).copied().collect()))
        };
        records.due.iter().filter_map(still).collect()
    }
}

fn written(mut due: Due) -> Write {
    due.retain(|_, sets| !sets.is_empty());
    Write::put(Record::Due(due))
}

fn pairs(due: &Due) -> BTreeSet<(ObjectKey, SetUid)> {
    due.iter().flat_map(|(key, sets)| sets.iter().map(|set| (key.clone(), *set))).collect()
}

/// What it takes at most when it is stored, each set once and a number for each in each object, must leave
/// room for those who follow.
fn may_be_noted(due: &Due) -> Result<(), Refusal> {
    let sets: BTreeSet<_> = due.values().flatten().collect();
    let of_object = |(key, sets): (&ObjectKey, &BTreeSet<SetUid>)| {
        32 + key.namespace.len() + key.name.len() + 2 * sets.len()
    };
    match 18 * sets.len() + due.iter().map(of_object).sum::<usize>() {
        0..=MAX_BYTES => Ok(()),
        _ => {
            let what = "bytes of who is due to follow which object";
            Err(Refusal::TooMany { what, limit: MAX_BYTES })
        }
    }
}
