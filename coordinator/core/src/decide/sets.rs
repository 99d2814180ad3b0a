//! DaemonSets are created, changed and deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use everynode_model::{DaemonSet, Now, PodKey, RolloutPolicy, SetUid, Strategy, Term};

use super::places::exception_after;
use super::{Coming, Fleet, unchanged, within_limits};
use crate::command::{Command, Content, Decision, Outcome, PutMode, Refusal};
use crate::config::MAX_WRITES;
use crate::grants::ChunkEdits;
use crate::record::{GrantHead, Record, RevisionRecord, SetRecord, Write, next_rollout};
use crate::records::SetRecords;
use crate::stage::FAILED;
use crate::sweep::all_of_set;

/// [`Command::PutSet`], taken apart.
pub(super) struct Put<'a> {
    pub(super) set: &'a DaemonSet,
    pub(super) object: &'a Arc<[u8]>,
    spec_changed: bool,
    body: &'a Arc<[u8]>,
    normal_form: u32,
    change_cause: &'a str,
    pub(super) content: &'a Content,
}

impl Fleet {
    pub(super) fn put_set(
        &self,
        command: &Command,
        now: Now,
        coming: &Coming,
    ) -> Result<Decision, Refusal> {
        let Command::PutSet {
            mode,
            set,
            object,
            spec_changed,
            body,
            normal_form,
            change_cause,
            expected_version,
            content,
        } = command
        else {
            return Ok(unchanged(Outcome::Done));
        };
        let put = Put {
            set,
            object,
            spec_changed: *spec_changed,
            body,
            normal_form: *normal_form,
            change_cause,
            content,
        };
        self.check_content(content, &set.key.in_messages())?;
        let existing = self.stored_set(&set.key).filter(|(.., record)| !record.set.is_orphaned());
        match (existing, mode) {
            (Some(_), PutMode::Create) => Err(Refusal::SetExists(set.key.clone())),
            (None, PutMode::Replace) => Err(Refusal::SetNotFound(set.key.clone())),
            (None, PutMode::Apply) if expected_version.is_some() => {
                Err(conflict(&set.key, "it is not there any more"))
            }
            (None, _) => self.create_set(&put, now, coming),
            (Some((_, _, record)), _)
                if expected_version.is_some_and(|seen| seen != record.resource_version) =>
            {
                Err(conflict(&set.key, "it has been changed since it was read"))
            }
            (Some((uid, records, record)), _) => self.change_set(&put, uid, records, record, now),
        }
    }

    pub(super) fn delete_set(
        &self,
        key: &PodKey,
        uid: Option<SetUid>,
    ) -> Result<Decision, Refusal> {
        let (present, records, record) = self.deletable(key, uid)?;
        let writes = all_of_set(present, records).take(MAX_WRITES).collect();
        let record = Box::new(SetRecord::clone(record));
        Ok(Decision { writes, outcome: Outcome::SetDeleted(record) })
    }

    /// The set of that name, if it is one that may be deleted.
    pub(super) fn deletable(
        &self,
        key: &PodKey,
        uid: Option<SetUid>,
    ) -> Result<(SetUid, &SetRecords, &SetRecord), Refusal> {
        let stored = self.stored_set(key).filter(|(.., record)| !record.set.is_orphaned());
        let (present, records, record) = stored.ok_or_else(|| Refusal::SetNotFound(key.clone()))?;
        if uid.is_some_and(|uid| uid != present) {
            return Err(conflict(key, "it has another uid than the one to be deleted"));
        }
        Ok((present, records, record))
    }

    /// The set of that name, also where only its pods are left of it.
    fn stored_set(&self, key: &PodKey) -> Option<(SetUid, &SetRecords, &SetRecord)> {
        let (uid, records) = self.records.set(key)?;
        Some((uid, records, records.record.as_ref()?))
    }

    /// The first rollout goes everywhere at once: nothing is lost by it, as in Kubernetes; but by steps
    /// where its policy asks for care. A set that nodes run already is the one that they run: see
    /// [`Fleet::uid_in_use`]. Pods of one that was deleted without them are taken over, unless nodes run
    /// one that came after these pods had gone, as may be after a restore.
    fn create_set(&self, put: &Put<'_>, now: Now, coming: &Coming) -> Result<Decision, Refusal> {
        let key = &put.set.key;
        self.may_create_in(key.namespace(), || key.in_messages(), coming)?;
        let in_use = self.uid_in_use(put.set);
        if let Some((uid, records, orphan)) = self.stored_set(key)
            && in_use.is_none_or(|in_use| in_use == uid)
        {
            return self.adopt(put, (uid, records, orphan), now);
        }
        if self.records.keys.len() + coming.sets >= self.config.max_sets {
            return Err(Refusal::TooMany { what: "DaemonSets", limit: self.config.max_sets });
        }
        let uid = in_use.unwrap_or(put.set.uid);
        let record = self.new_record(put, uid, now);
        let writes = vec![
            Write::put(Record::Set(record.clone())),
            Write::put(Record::Revision(put.revision(uid, 1, now))),
            Write::put(Record::GrantHead(self.new_head(None, &record.set))),
        ];
        let record = Box::new(record);
        Ok(Decision { writes, outcome: Outcome::Set { record, created: true, changed: true } })
    }

    /// The record of a set that is created.
    pub(super) fn new_record(&self, put: &Put<'_>, uid: SetUid, now: Now) -> SetRecord {
        SetRecord {
            set: DaemonSet { uid, generation: 1, ..put.set.clone() },
            object: Arc::clone(put.object),
            created_at: now.wall,
            resource_version: self.decided_version(),
            drifted: put.content.drifted.clone().unwrap_or_default(),
        }
    }

    /// The head of a set that is created, where `former` is of the one whose pods it takes over.
    pub(super) fn new_head(&self, former: Option<&GrantHead>, set: &DaemonSet) -> GrantHead {
        let stable = former.and_then(|head| head.stable);
        let rollout =
            next_rollout(former.map_or(0, |head| head.rollout), self.records.cluster.term);
        let at_once = stable.is_none() && !is_careful(set);
        GrantHead {
            set: set.uid,
            stable: stable.or_else(|| at_once.then_some(set.revision)),
            target: set.revision,
            rollout,
            promoted: 0,
            settled: if at_once { rollout } else { former.map_or(0, |head| head.settled) },
            relabels: false,
            stalled: None,
            marks: BTreeMap::new(),
        }
    }

    fn change_set(
        &self,
        put: &Put<'_>,
        uid: SetUid,
        records: &SetRecords,
        former: &SetRecord,
        now: Now,
    ) -> Result<Decision, Refusal> {
        if put.set.selector != former.set.selector {
            return Err(Refusal::SelectorImmutable(put.set.key.clone()));
        }
        let generation = former.set.generation + u64::from(put.spec_changed);
        let set = DaemonSet { uid, generation, ..put.set.clone() };
        let drifted = put.content.drifted.as_ref().unwrap_or(&former.drifted).clone();
        let followed = self.no_longer_due(uid, put.content);
        if set == former.set && *put.object == former.object && drifted == former.drifted {
            let record = Box::new(former.clone());
            let outcome = Outcome::Set { record, created: false, changed: false };
            return Ok(Decision { writes: followed.into_iter().collect(), outcome });
        }
        let record = SetRecord {
            set,
            object: Arc::clone(put.object),
            created_at: former.created_at,
            resource_version: self.decided_version(),
            drifted,
        };
        let mut writes = vec![Write::put(Record::Set(record.clone()))];
        writes.truncate(usize::from(!mutated!(LoseWrite)));
        writes.extend(followed);
        writes.extend(put.changed_revision(uid, records, now));
        writes.extend(changed_head(uid, records, &record.set, self.records.cluster.term));
        writes.extend(self.changed_places(uid, records, former, &record.set));
        let record = Box::new(record);
        within_limits(writes, Outcome::Set { record, created: false, changed: true })
    }

    pub(super) fn changed_places(
        &self,
        uid: SetUid,
        records: &SetRecords,
        former: &SetRecord,
        set: &DaemonSet,
    ) -> Vec<Write> {
        if set.placement == former.set.placement {
            return Vec::new();
        }
        let mut edits = ChunkEdits::new(uid, records);
        for node in self.records.names.values().filter_map(|node| self.records.active(*node)) {
            let after = exception_after(records, Some(node), set, set.revision, node);
            if let Some(exception) = after {
                edits.set(node.uid, exception);
            }
        }
        edits.into_writes()
    }
}

impl Put<'_> {
    fn revision(&self, set: SetUid, number: u64, now: Now) -> RevisionRecord {
        RevisionRecord {
            set,
            digest: self.set.revision,
            number,
            body: Arc::clone(self.body),
            normal_form: self.normal_form,
            created_at: now.wall,
            change_cause: self.change_cause.to_owned(),
            blobs: self.content.blobs.clone(),
            missing: self.content.missing.clone(),
            labels: self.content.labels.clone(),
        }
    }

    /// The record of the revision that is the newest from now on: a former one is used again and
    /// renumbered, as in Kubernetes.
    pub(super) fn changed_revision(
        &self,
        set: SetUid,
        records: &SetRecords,
        now: Now,
    ) -> Option<Write> {
        let newest = records.newest_number();
        let next = match records.revisions.get(&self.set.revision) {
            None => self.revision(set, newest + 1, now),
            Some(known) => {
                let number = if known.number == newest { newest } else { newest + 1 };
                let cause = match self.change_cause {
                    "" => known.change_cause.clone(),
                    cause => cause.to_owned(),
                };
                let next =
                    RevisionRecord { number, change_cause: cause, ..RevisionRecord::clone(known) };
                if next == **known {
                    return None;
                }
                next
            }
        };
        Some(Write::put(Record::Revision(next)))
    }
}

fn changed_head(uid: SetUid, records: &SetRecords, set: &DaemonSet, term: Term) -> Option<Write> {
    let head = match &records.head {
        // A first one that has failed has done so also where no care is asked for any more.
        Some(head)
            if head.target == set.revision
                && (head.stable.is_some() || is_careful(set) || head.failure().is_some()) =>
        {
            return None;
        }
        Some(head) => {
            let mut marks = head.marks.clone();
            marks.remove(FAILED);
            let same = head.target == set.revision;
            let rollout = if same { head.rollout } else { next_rollout(head.rollout, term) };
            let at_once = head.stable.is_none() && !is_careful(set);
            let stable = head.stable.or_else(|| at_once.then_some(set.revision));
            let settled = if at_once { rollout } else { head.settled };
            let relabels = head.relabels && same;
            let target = set.revision;
            GrantHead { stable, target, rollout, settled, relabels, marks, ..head.clone() }
        }
        None => {
            let rollout = next_rollout(0, term);
            GrantHead {
                set: uid,
                stable: Some(set.revision),
                target: set.revision,
                rollout,
                promoted: 0,
                settled: rollout,
                relabels: false,
                stalled: None,
                marks: BTreeMap::new(),
            }
        }
    };
    Some(Write::put(Record::GrantHead(head)))
}

/// Whether its first rollout goes by steps, too.
fn is_careful(set: &DaemonSet) -> bool {
    set.strategy != Strategy::OnDelete && set.rollout != RolloutPolicy::default()
}

pub(super) fn conflict(key: &PodKey, detail: &str) -> Refusal {
    Refusal::Conflict { what: key.in_messages(), detail: detail.to_owned() }
}
