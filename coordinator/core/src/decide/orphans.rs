//! A DaemonSet is deleted without its pods, and one of its name takes them over.
//!
//! ```text
//!                OrphanSet                     PutSet, with the same selector
//!   DaemonSet ──────────────▶ pods without one ──────────────────────────────▶ DaemonSet
//!                              │ each goes by `delete pod`, with its node, or by a NoExecute taint
//!                              ▼
//!                             none left: swept
//! ```
//!
//! In Kubernetes such a pod needs nobody. Here a node runs what it is ordered to, so the record stays
//! as what the orders come from, marked so that nobody is shown it; each pod has its exception, and so
//! it is kept as where only a `NoSchedule` taint came (`decide::places`). Where a rollout had not come
//! yet there is none.
//!
//! One of another selector would have pods of its own beside them in Kubernetes. Here a node has at most
//! one pod of a name, so it has to wait until they are gone.

use everynode_model::{Now, PodKey, SetUid};

use super::sets::{Put, conflict};
use super::{Fleet, within_limits};
use crate::command::{Decision, Outcome, Refusal};
use crate::record::{Record, SetRecord, Write};
use crate::records::SetRecords;

impl Fleet {
    pub(super) fn orphan_set(
        &self,
        key: &PodKey,
        uid: Option<SetUid>,
    ) -> Result<Decision, Refusal> {
        let (present, records, record) = self.deletable(key, uid)?;
        let orphan = SetRecord {
            set: record.set.clone().orphaned(),
            resource_version: self.decided_version(),
            ..record.clone()
        };
        let mut writes = self.changed_places(present, records, record, &orphan.set);
        writes.push(Write::put(Record::Set(orphan)));
        within_limits(writes, Outcome::SetDeleted(Box::new(record.clone())))
    }

    /// The new DaemonSet is the one whose pods they are, so that none has to go for it: those of its
    /// revision stay as they are, the others are rolled out to as at any change. What the former one
    /// had tried and failed is nothing to it.
    pub(super) fn adopt(
        &self,
        put: &Put<'_>,
        (uid, records, orphan): (SetUid, &SetRecords, &SetRecord),
        now: Now,
    ) -> Result<Decision, Refusal> {
        if put.set.selector != orphan.set.selector {
            let detail = "pods of a DaemonSet of this name run on, which was deleted without them, and \
                          its selector was another one: use that to take them over, or delete them \
                          first";
            return Err(conflict(&put.set.key, detail));
        }
        let record = self.new_record(put, uid, now);
        let mut writes = vec![Write::put(Record::Set(record.clone()))];
        writes.extend(put.changed_revision(uid, records, now));
        let head = self.new_head(records.head.as_ref(), &record.set);
        writes.push(Write::put(Record::GrantHead(head)));
        writes.extend(self.changed_places(uid, records, orphan, &record.set));
        let record = Box::new(record);
        within_limits(writes, Outcome::Set { record, created: true, changed: true })
    }
}
