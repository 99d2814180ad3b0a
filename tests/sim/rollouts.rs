//! Rollouts as the store tells of them, one transaction after the other: what the real coordinators
//! decided, through crashes, failed commits and new reigns, held against the core's own invariants.
//!
//! A transaction that writes nothing but chunks of grants is a step; every other is somebody's wish, a
//! mark, an end, or a node's coming and going.

use std::collections::BTreeMap;

use everynode_coordinator::records::load_listing;
use everynode_coordinator_core::{Config, Fleet, GrantHead, Record, RecordKey, Write, invariants};
use everynode_model::Now;
use everynode_store::{MemoryStore, Store as _};
use futures_util::FutureExt as _;

use crate::invariants::Violation;
use crate::log::Log;

/// What was stored up to some revision.
#[derive(Default)]
pub(crate) struct Rollouts {
    revision: u64,
    records: BTreeMap<RecordKey, Record>,
    fleet: Option<Fleet>,
}

impl Rollouts {
    /// Follows whatever was stored since the last look.
    pub(crate) fn look(&mut self, store: &MemoryStore, log: &Log) -> Result<(), Violation> {
        let newest = store.revision().now_or_never().and_then(Result::ok);
        for revision in self.revision + 1..=newest.unwrap_or(self.revision) {
            let listing = store.list("/", Some(revision)).now_or_never();
            let listing = listing.ok_or("the store in memory did not answer at once")?;
            let listing = listing.map_err(|error| format!("revision {revision}: {error}"))?;
            let records = load_listing(&listing).map_err(|error| format!("P6: {error}"))?;
            self.follow(records, log)?;
            self.revision = revision;
        }
        Ok(())
    }

    /// The next transaction has left these records.
    fn follow(&mut self, records: Vec<Record>, log: &Log) -> Result<(), Violation> {
        let records: BTreeMap<RecordKey, Record> =
            records.into_iter().map(|record| (record.key(), record)).collect();
        let writes = difference(&self.records, &records);
        self.records = records;
        let Some(fleet) = &mut self.fleet else {
            self.fleet = fleet_of(&self.records);
            return Ok(());
        };
        let before = invariants::progress(fleet);
        fleet.record(&writes, Now::default());
        let grants = |write: &Write| matches!(write.key, RecordKey::GrantChunk(..));
        if !writes.is_empty() && writes.iter().all(grants) {
            log.fault("rollout step looked at", "");
            let obeyed = invariants::a_step_obeys_its_policy(&before, fleet);
            return obeyed.map_err(|violation| format!("{}: {}", violation.rule, violation.detail));
        }
        for write in writes {
            if let Some(Record::GrantHead(GrantHead { marks, .. })) = write.record
                && let Some(why) = marks.get("failed")
            {
                log.fault("rollout failed", why);
            }
        }
        Ok(())
    }
}

/// Before the first reign there is no cluster, and no fleet.
fn fleet_of(records: &BTreeMap<RecordKey, Record>) -> Option<Fleet> {
    Fleet::restore(records.values().cloned(), Config::default(), Now::default()).ok()
}

fn difference(
    before: &BTreeMap<RecordKey, Record>,
    after: &BTreeMap<RecordKey, Record>,
) -> Vec<Write> {
    let new = after.iter().filter(|(key, record)| before.get(*key) != Some(*record));
    let new = new.map(|(_, record)| Write::put(record.clone()));
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    // Events come and go beside everything else.
    let told = |write: &Write| !matches!(write.key, RecordKey::Event(_));
    new.chain(gone.cloned().map(Write::delete)).filter(told).collect()
}
