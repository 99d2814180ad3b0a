//! The coordinator's store: what is durable, and what an operator has put away of it.

use std::collections::BTreeMap;

use everynode_coordinator_core::{ClusterRecord, HoldRecord, Record, RecordKey, Write};
use everynode_model::{ReignId, Term, WallTime};

use crate::names::CLUSTER;

/// Everything that is stored, by where.
pub(crate) type Records = BTreeMap<RecordKey, Record>;

/// How far `store restore` raises the term beyond the highest that is known, as the real one.
const RESTORE_RAISES: u64 = 1_000;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    pub(crate) records: Records,
    backup: Option<Records>,
    /// The highest term that ever began.
    newest: Term,
    /// Whether terms may have begun twice.
    by_hand: bool,
    /// Writes that were taken, ever.
    pub(crate) writes: u64,
}

impl Store {
    /// Takes these writes, all of them.
    pub(crate) fn take(&mut self, writes: &[Write]) {
        for write in writes {
            self.writes += 1;
            match &write.record {
                Some(record) => self.records.insert(write.key.clone(), record.clone()),
                None => self.records.remove(&write.key),
            };
        }
    }

    /// Raises the term, durably, for a reign with this mark.
    pub(crate) fn begin_reign(&mut self, reign: ReignId) -> ClusterRecord {
        let term = self.cluster().map_or(Term(1), |former| former.term.next());
        self.put_cluster(ClusterRecord { id: CLUSTER, term, reign })
    }

    /// Keeps what is stored now, in case.
    pub(crate) fn back_up(&mut self) {
        self.backup = Some(self.records.clone());
    }

    /// Goes back to what was kept: in a term above all that is known, and with orders held; or, where
    /// it is done `by_hand`, just so. Says whether there was anything to go back to.
    pub(crate) fn restore(&mut self, by_hand: bool, since: WallTime) -> bool {
        let Some(backup) = self.backup.clone() else { return false };
        let present = self.cluster().map_or(Term(0), |cluster| cluster.term);
        self.records = backup;
        self.by_hand |= by_hand;
        if let (false, Some(copied)) = (by_hand, self.cluster()) {
            self.hold(copied.term, since);
            self.raise_term(Term(present.max(copied.term).0 + RESTORE_RAISES));
        }
        true
    }

    /// From the next start on, orders are held.
    pub(crate) fn hold(&mut self, copied_in: Term, since: WallTime) {
        let hold = Record::Hold(HoldRecord { since, copied_in });
        self.records.insert(RecordKey::Hold, hold);
    }

    /// Raises the term beyond this one, durably.
    pub(crate) fn raise_term(&mut self, beyond: Term) {
        if let Some(former) = self.cluster() {
            self.put_cluster(ClusterRecord { term: beyond.next(), ..former });
        }
    }

    /// The highest term that ever began, where one may have begun twice.
    pub(crate) fn terms_begun_twice(&self) -> Option<Term> {
        self.by_hand.then_some(self.newest)
    }

    pub(crate) fn cluster(&self) -> Option<ClusterRecord> {
        match self.records.get(&RecordKey::Cluster) {
            Some(Record::Cluster(cluster)) => Some(*cluster),
            _ => None,
        }
    }

    fn put_cluster(&mut self, cluster: ClusterRecord) -> ClusterRecord {
        self.newest = self.newest.max(cluster.term);
        self.records.insert(RecordKey::Cluster, Record::Cluster(cluster));
        cluster
    }
}
