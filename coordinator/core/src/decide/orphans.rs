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

use std::collections::BTreeMap;
use std::sync::Arc;

use everynode_model::{DaemonSet, Now, PodKey, SetUid};

use super::sets::{Put, conflict, is_careful, named};
use super::{Coming, Fleet, within_limits};
use crate::command::{Decision, Outcome, Refusal};
use crate::record::{GrantHead, Record, SetRecord, Write, next_rollout};
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
        coming: &Coming,
    ) -> Result<Decision, Refusal> {
        let key = &put.set.key;
        self.may_create_in(key.namespace(), || named(key), coming)?;
        if put.set.selector != orphan.set.selector {
            let detail = "pods of a DaemonSet of this name run on, which was deleted without them, and \
                          its selector was another one: use that to take them over, or delete them \
                          first";
            return Err(conflict(key, detail));
        }
        let record = SetRecord {
            set: DaemonSet { uid, generation: 1, ..put.set.clone() },
            object: Arc::clone(put.object),
            created_at: now.wall,
            resource_version: self.decided_version(),
            drifted: put.content.drifted.clone().unwrap_or_default(),
        };
        let mut writes = vec![Write::put(Record::Set(record.clone()))];
        writes.extend(put.changed_revision(uid, records, now));
        writes.push(Write::put(Record::GrantHead(self.head_of(uid, records, &record.set))));
        writes.extend(self.changed_places(uid, records, orphan, &record.set));
        let record = Box::new(record);
        within_limits(writes, Outcome::Set { record, created: true, changed: true })
    }

    fn head_of(&self, uid: SetUid, records: &SetRecords, set: &DaemonSet) -> GrantHead {
        let former = records.head.as_ref();
        let stable = former.and_then(|head| head.stable);
        GrantHead {
            set: uid,
            stable: stable.or_else(|| (!is_careful(set)).then_some(set.revision)),
            target: set.revision,
            rollout: next_rollout(former.map_or(0, |head| head.rollout), self.records.cluster.term),
            promoted: 0,
            marks: BTreeMap::new(),
        }
    }
}
