//! ConfigMaps, Secrets and Namespaces are created, changed and deleted.
//!
//! What a DaemonSet's pods read of them is part of its revision: who changes an object says which
//! DaemonSets were looked at, and puts those whose revision becomes another by the same transaction; where
//! they don't fit, it says who is due to follow ([`super::due`]).
//! Deleting one changes nothing that runs: revisions keep their content.
//!
//! ```text
//!   namespace:  named by an object in it ──▶ there ◀── created     deleted ──▶ terminating ──▶ gone
//!                                              (or built in)        what is in it goes by steps
//! ```

use std::collections::BTreeMap;

use everynode_model::{BUILT_IN_NAMESPACES, Digest, Now, ObjectKey, ObjectKind, ObjectUid, SetUid};

use super::{Coming, Fleet, unchanged};
use crate::command::{Command, Content, Decision, Outcome, PutMode, Refusal};
use crate::config::MAX_WRITES;
use crate::record::{ObjectRecord, Opaque, Record, RecordKey, Write};
use crate::sweep::all_of_set;

impl Fleet {
    pub(super) fn put_object(
        &self,
        command: &Command,
        now: Now,
        coming: &Coming,
    ) -> Result<Decision, Refusal> {
        let Command::PutObject { mode, key, uid, labels, object, expected_version, readers, due } =
            command
        else {
            return Ok(unchanged(Outcome::Done));
        };
        self.check_readers(key, readers)?;
        if due.iter().any(|set| !readers.contains_key(set)) {
            return Err(conflict(key, "a DaemonSet that is to follow it does not read it"));
        }
        let existing = self.records.objects.get(key);
        if existing.is_some_and(|record| record.terminating.is_some()) {
            return Err(terminating(&key.name, key.in_messages()));
        }
        let former = match (existing, mode) {
            (Some(_), PutMode::Create) => return Err(Refusal::ObjectExists(key.clone())),
            (None, PutMode::Create) if self.is_built_in(key) => {
                return Err(Refusal::ObjectExists(key.clone()));
            }
            (None, PutMode::Replace) => return Err(Refusal::ObjectNotFound(key.clone())),
            (None, PutMode::Apply) if expected_version.is_some() => {
                return Err(conflict(key, "it is not there any more"));
            }
            (former, _) => former,
        };
        if let (Some(seen), Some(former)) = (expected_version, former)
            && *seen != former.resource_version
        {
            return Err(conflict(key, "it has been changed since it was read"));
        }
        let record = ObjectRecord {
            key: key.clone(),
            uid: former.map_or(*uid, |former| former.uid),
            labels: labels.clone(),
            object: object.clone(),
            created_at: former.map_or(now.wall, |former| former.created_at),
            resource_version: self.decided_version(),
            terminating: None,
        };
        if let Some(former) = former.filter(|former| former.object == record.object) {
            let record = Box::new(ObjectRecord::clone(former));
            let outcome = Outcome::Object { record, created: false, changed: false };
            return Ok(unchanged(outcome));
        }
        if former.is_none() {
            self.may_create_object(key, coming)?;
        }
        let mut writes = vec![Write::put(Record::Object(record.clone()))];
        writes.extend(self.put_due(key, readers, due)?);
        let (record, created) = (Box::new(record), former.is_none());
        Ok(Decision { writes, outcome: Outcome::Object { record, created, changed: true } })
    }

    pub(super) fn delete_object(
        &self,
        key: &ObjectKey,
        uid: Option<ObjectUid>,
        now: Now,
    ) -> Result<Decision, Refusal> {
        if self.is_built_in(key) {
            return Err(Refusal::NamespaceBuiltIn(key.name.clone()));
        }
        let record = self.object(key).ok_or_else(|| Refusal::ObjectNotFound(key.clone()))?;
        if uid.is_some_and(|uid| uid != record.uid) {
            return Err(conflict(key, "it has another uid than the one to be deleted"));
        }
        let write = match key.kind {
            ObjectKind::Namespace if record.terminating.is_some() => None,
            ObjectKind::Namespace if !self.is_empty_namespace(&key.name) => {
                Some(Write::put(Record::Object(ObjectRecord {
                    terminating: Some(now.wall),
                    resource_version: self.decided_version(),
                    ..record.clone()
                })))
            }
            _ => Some(Write::delete(RecordKey::Object(key.clone()))),
        };
        let outcome = Outcome::ObjectDeleted(Box::new(record));
        Ok(Decision { writes: write.into_iter().collect(), outcome })
    }

    pub(super) fn keep_blob(&self, digest: Digest, blob: &Opaque) -> Decision {
        let known = self.records.blobs.contains_key(&digest);
        let write = (!known).then(|| Write::put(Record::Blob(digest, blob.clone())));
        Decision { writes: write.into_iter().collect(), outcome: Outcome::Done }
    }

    /// Whether something may be created in a namespace, in Kubernetes' words.
    pub(super) fn may_create_in(
        &self,
        namespace: &str,
        what: impl FnOnce() -> String,
        coming: &Coming,
    ) -> Result<(), Refusal> {
        let key = ObjectKey::namespace(namespace);
        match self.object(&key) {
            Some(record) if record.terminating.is_some() => Err(terminating(namespace, what())),
            Some(_) => Ok(()),
            None if coming.namespaces.contains(namespace) => Ok(()),
            None => Err(Refusal::ObjectNotFound(key)),
        }
    }

    /// Whether what a revision has of objects is what they say now, and is kept.
    pub(super) fn check_content(&self, content: &Content, what: &str) -> Result<(), Refusal> {
        let conflict = |detail: String| Refusal::Conflict { what: what.to_owned(), detail };
        for (key, seen) in &content.seen {
            let present = self.records.objects.get(key).map(|record| record.resource_version);
            if present != *seen {
                return Err(conflict(format!("{key}, which it reads, has been changed meanwhile")));
            }
        }
        match content.blobs.iter().find(|blob| !self.records.blobs.contains_key(*blob)) {
            None => Ok(()),
            Some(blob) => Err(conflict(format!("the content {blob} is not kept any more"))),
        }
    }

    /// The next writes by which what is in deleted namespaces goes, and then they themselves.
    pub(crate) fn namespace_step(&self) -> Vec<Write> {
        self.records.going.first().map(|namespace| self.emptying(namespace)).unwrap_or_default()
    }

    fn emptying(&self, key: &ObjectKey) -> Vec<Write> {
        let sets = self.records.keys.iter().filter(|(set, _)| set.namespace() == key.name);
        let sets = sets.filter_map(|(_, uid)| Some((*uid, self.records.sets.get(uid)?)));
        let sets = sets.flat_map(|(uid, records)| all_of_set(uid, records));
        let objects = self.records.objects.keys().filter(|it| it.namespace == key.name);
        let objects = objects.map(|it| Write::delete(RecordKey::Object(it.clone())));
        let writes: Vec<_> = sets.chain(objects).take(MAX_WRITES).collect();
        if writes.is_empty() { vec![Write::delete(RecordKey::Object(key.clone()))] } else { writes }
    }

    fn is_built_in(&self, key: &ObjectKey) -> bool {
        key.kind == ObjectKind::Namespace && BUILT_IN_NAMESPACES.contains(&key.name.as_str())
    }

    fn may_create_object(&self, key: &ObjectKey, coming: &Coming) -> Result<(), Refusal> {
        if self.records.objects.len() + coming.objects >= self.config.max_objects {
            let (what, limit) = ("ConfigMaps, Secrets and Namespaces", self.config.max_objects);
            return Err(Refusal::TooMany { what, limit });
        }
        match key.kind {
            ObjectKind::Namespace => Ok(()),
            _ => self.may_create_in(&key.namespace, || key.in_messages(), coming),
        }
    }

    /// Whether just these DaemonSets read it, as they were looked at.
    fn check_readers(
        &self,
        key: &ObjectKey,
        readers: &BTreeMap<SetUid, u64>,
    ) -> Result<(), Refusal> {
        let present = self.readers(key);
        let same = present.len() == readers.len()
            && present
                .iter()
                .all(|record| readers.get(&record.set.uid) == Some(&record.resource_version));
        match same {
            true => Ok(()),
            false => Err(conflict(key, "a DaemonSet that reads it has been changed meanwhile")),
        }
    }
}

fn terminating(namespace: &str, what: String) -> Refusal {
    Refusal::NamespaceTerminating { namespace: namespace.to_owned(), what }
}

fn conflict(key: &ObjectKey, detail: &str) -> Refusal {
    Refusal::Conflict { what: key.in_messages(), detail: detail.to_owned() }
}
