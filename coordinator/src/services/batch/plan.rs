//! From what is wanted and what is there to commands: a pure function.
//!
//! A DaemonSet gets another revision where its template means something else, or where what it reads
//! of an object is changed by this batch; else it keeps the one that is stored, also where that was
//! digested in an earlier normal form or has content of another day (a new coordinator restarts
//! nothing, and who went back stays there until the next change).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use everynode_coordinator_core::{
    Command, Content, Opaque, PutMode, Refusal, RevisionRecord, SetRecord,
};
use everynode_manifest::{
    Admitted, AdmittedObject, BlobKey, Composed, NORMAL_FORM, Uses, admit_object_update,
    admit_update, compose, node_labels, normal_form, spec_changed, template_of, uses,
};
use everynode_model::{DaemonSet, Digest, ObjectKey, ObjectUid, PodKey, SetUid};
use serde_json::Value;
use tonic::Status;

use super::look::{Existing, Look, canonical_all, versions};
use super::{Item, What, usable};
use crate::services::put::CHANGE_CAUSE;
use crate::status;

/// What is to be done.
#[derive(Default)]
pub(super) struct Plan {
    /// Of the items, in their order, and then of sets that read what they change.
    pub(super) commands: Vec<Command>,
    /// The same of sets that follow later, since all together don't fit into one transaction.
    pub(super) later: Vec<Command>,
    /// Those that are not items and get another revision.
    pub(super) rolled_out: Vec<PodKey>,
    /// What must be kept before.
    pub(super) blobs: BTreeMap<Digest, Vec<u8>>,
    /// Whether a caller has seen less than there is, and wants to be told.
    pub(super) insists: bool,
}

/// See the module.
pub(super) fn plan(items: &[Item], look: &Look, key: &BlobKey) -> Result<Plan, Status> {
    let before = canonical_all(&look.objects);
    let mut after = before.clone();
    for item in items {
        if let What::Object { admitted, .. } = &item.what {
            after.insert(admitted.key.clone(), admitted.object.clone());
        }
    }
    let mut planner = Planner { look, key, before, after, plan: Plan::default() };
    for item in items {
        let command = match &item.what {
            What::Set { object, admitted, uid } => planner.set(item, object, admitted, *uid)?,
            What::Object { object, admitted, uid } => {
                planner.object(item, object, admitted, *uid)?
            }
        };
        planner.plan.commands.push(command);
    }
    let listed = |key: &PodKey| {
        items
            .iter()
            .any(|item| matches!(&item.what, What::Set { admitted, .. } if admitted.key == *key))
    };
    for (key, existing) in look.sets.iter().filter(|(key, _)| !listed(key)) {
        if let Some(command) = planner.reader(existing) {
            // What comes again as it was ends a drift, and is no rollout.
            let kept = existing.record.set.revision;
            if matches!(&command, Command::PutSet { set, .. } if set.revision != kept) {
                planner.plan.rolled_out.push(key.clone());
            }
            planner.plan.later.push(command);
        }
    }
    let mut plan = planner.plan;
    plan.put_off();
    Ok(plan)
}

/// What sets that are due to follow what they read are to be put with.
pub(super) fn due(look: &Look, key: &BlobKey) -> Plan {
    let after = canonical_all(&look.objects);
    let mut planner = Planner { look, key, before: after.clone(), after, plan: Plan::default() };
    let commands: Vec<_> = look.sets.values().filter_map(|set| planner.due(set)).collect();
    Plan { commands, ..planner.plan }
}

/// How many records the commands of one transaction may change, of 120 which the core lets one decision
/// change, and how many bytes these may take, of 1 MiB: the rest is for saying who is due.
const MOST_RECORDS: usize = 100;
const MOST_BYTES: usize = 960 * 1024;

/// What a command's records have beside what is counted: keys, numbers, digests, marks.
const OTHER_BYTES: usize = 1024;

impl Plan {
    /// Sets that only read what is put follow by the same transaction, if all of them fit; else each
    /// object says who is due to follow.
    fn put_off(&mut self) {
        let all = self.commands.iter().chain(&self.later).map(size);
        let (records, bytes) = all.fold((0, 0), |sum, its| (sum.0 + its.0, sum.1 + its.1));
        if records <= MOST_RECORDS && bytes <= MOST_BYTES {
            self.commands.append(&mut self.later);
        }
        for command in &mut self.commands {
            let Command::PutObject { key, due, .. } = command else { continue };
            let reads = |later: &Command| match later {
                Command::PutSet { set, .. } => set.reads.contains(key).then_some(set.uid),
                _ => None,
            };
            due.extend(self.later.iter().filter_map(reads));
        }
    }
}

/// How many records a command changes, and about how many bytes these take.
fn size(command: &Command) -> (usize, usize) {
    match command {
        // Its record, its revision, and where its rollout leads.
        Command::PutSet { object, body, content, .. } => {
            let missing = content.missing.iter().map(String::len).sum::<usize>();
            let labels = content.labels.iter().map(String::len).sum::<usize>();
            let entries = content.blobs.len() + content.missing.len() + content.labels.len();
            (3, object.len() + body.len() + missing + labels + 40 * entries + OTHER_BYTES)
        }
        Command::PutObject { object, .. } => (1, object.0.len() + OTHER_BYTES),
        _ => (1, OTHER_BYTES),
    }
}

struct Planner<'a> {
    look: &'a Look,
    key: &'a BlobKey,
    before: BTreeMap<ObjectKey, Value>,
    after: BTreeMap<ObjectKey, Value>,
    plan: Plan,
}

/// The revision that a set is put with.
struct Revised {
    revision: Digest,
    body: Arc<[u8]>,
    normal_form: u32,
    content: Content,
}

impl Planner<'_> {
    fn object(
        &mut self,
        item: &Item,
        sent: &Value,
        admitted: &AdmittedObject,
        uid: ObjectUid,
    ) -> Result<Command, Status> {
        let (mut mode, mut expected) = (created_where_absent(item), item.seen);
        let former = self.look.objects.get(&admitted.key);
        let former = former.filter(|_| item.mode != PutMode::Create);
        if former.is_some_and(|record| record.was_never_stored()) {
            // A namespace that is there without having been created gets its record.
            (mode, expected) = (PutMode::Apply, None);
        } else if let Some(former) = former {
            check_meant(&item.meant, &former.uid.to_string(), || admitted.key.in_messages())?;
            let old = self.before.get(&admitted.key).unwrap_or(&Value::Null);
            admit_object_update(old, sent).map_err(|rejected| status::rejected(&rejected))?;
            mode = PutMode::Replace;
            expected = Some(self.expected(item, former.resource_version));
        }
        Ok(Command::PutObject {
            mode,
            key: admitted.key.clone(),
            uid,
            labels: admitted.labels.clone(),
            object: Opaque(admitted.object.to_string().into_bytes().into()),
            expected_version: expected,
            readers: self.look.readers.get(&admitted.key).cloned().unwrap_or_default(),
            due: BTreeSet::new(),
        })
    }

    fn set(
        &mut self,
        item: &Item,
        sent: &Value,
        admitted: &Admitted,
        uid: SetUid,
    ) -> Result<Command, Status> {
        let uses = uses(&admitted.object["spec"]["template"], admitted.key.namespace());
        let existing = self.look.sets.get(&admitted.key);
        let existing = existing.filter(|_| item.mode != PutMode::Create);
        let (mut mode, mut expected) = (created_where_absent(item), item.seen);
        let (mut spec_changes, mut kept) = (true, None);
        if let Some(existing) = existing {
            let present = existing.record.set.uid.to_string();
            check_meant(&item.meant, &present, || admitted.key.in_messages())?;
            let stored = existing.object();
            admit_update(&stored, sent).map_err(|rejected| status::rejected(&rejected))?;
            spec_changes = spec_changed(&stored, &admitted.object);
            mode = PutMode::Replace;
            expected = Some(self.expected(item, existing.record.resource_version));
            let same_template = normal_form(&stored["spec"]["template"]) == admitted.body;
            kept = existing.revision.as_ref().filter(|_| same_template);
        }
        let revised = match kept {
            Some(kept) => self.kept(kept, &uses),
            None => {
                let composed = compose(&admitted.body, &uses, &self.after, self.key);
                self.revised(composed, NORMAL_FORM, &uses)
            }
        };
        let set = usable(admitted, uid, revised.revision)?;
        Ok(Command::PutSet {
            mode,
            set: Box::new(set),
            object: admitted.object.to_string().into_bytes().into(),
            spec_changed: spec_changes,
            body: revised.body,
            normal_form: revised.normal_form,
            change_cause: change_cause(&admitted.object),
            expected_version: expected,
            content: Box::new(revised.content),
        })
    }

    /// A set that is not put and reads an object that is: nothing where what it reads stays the same.
    fn reader(&mut self, existing: &Existing) -> Option<Command> {
        let Existing { record, revision } = existing;
        let uses = uses(&existing.object()["spec"]["template"], record.set.key.namespace());
        let revised = self.kept(revision.as_ref()?, &uses);
        revised.content.drifted.as_ref()?;
        Some(put_anew(record, revised))
    }

    /// A set that is due: with what it reads as it is now, also where that is what it has.
    fn due(&mut self, existing: &Existing) -> Option<Command> {
        let Existing { record, revision } = existing;
        let uses = uses(&existing.object()["spec"]["template"], record.set.key.namespace());
        let kept = revision.as_ref()?;
        let composed = compose(&template_of(&kept.body), &uses, &self.after, self.key);
        let revised = self.revised(composed, kept.normal_form, &uses);
        Some(put_anew(record, revised))
    }

    /// The stored revision, unless this batch changes what its template reads.
    fn kept(&mut self, kept: &RevisionRecord, uses: &Uses) -> Revised {
        let body = template_of(&kept.body);
        let [before, after] =
            [&self.before, &self.after].map(|objects| compose(&body, uses, objects, self.key));
        if before.revision != after.revision {
            return self.revised(after, kept.normal_form, uses);
        }
        Revised {
            revision: kept.digest,
            body: Arc::clone(&kept.body),
            normal_form: kept.normal_form,
            content: Content::default(),
        }
    }

    /// A revision with what its template reads as it will be.
    fn revised(&mut self, composed: Composed, form: u32, uses: &Uses) -> Revised {
        let Composed { body, revision, blobs, missing } = composed;
        let content = Content {
            blobs: blobs.keys().copied().collect(),
            missing,
            labels: node_labels(&body),
            seen: versions(uses, &self.look.objects),
            drifted: Some(Default::default()),
        };
        self.plan.blobs.extend(blobs);
        Revised { revision, body: body.into(), normal_form: form, content }
    }

    /// Whoever has seen any version since the last stored change has seen that change.
    fn expected(&mut self, item: &Item, present: u64) -> u64 {
        let less = item.seen.filter(|seen| *seen < present);
        self.plan.insists |= less.is_some();
        less.unwrap_or(present)
    }
}

/// A stored set with another revision, and nothing else of it changed.
fn put_anew(record: &SetRecord, revised: Revised) -> Command {
    Command::PutSet {
        mode: PutMode::Replace,
        set: Box::new(DaemonSet { revision: revised.revision, ..record.set.clone() }),
        object: Arc::clone(&record.object),
        spec_changed: false,
        body: revised.body,
        normal_form: revised.normal_form,
        change_cause: String::new(),
        expected_version: Some(record.resource_version),
        content: Box::new(revised.content),
    }
}

/// Where it is not there, a put must not change one that comes in between.
fn created_where_absent(item: &Item) -> PutMode {
    match (item.mode, item.seen) {
        (PutMode::Apply, None) => PutMode::Create,
        (mode, _) => mode,
    }
}

/// Checks that what is there is not another one of the same name.
fn check_meant(meant: &str, present: &str, what: impl FnOnce() -> String) -> Result<(), Status> {
    if meant.is_empty() || meant == present {
        return Ok(());
    }
    let detail =
        format!("Precondition failed: UID in precondition: {meant}, UID in object meta: {present}");
    Err(status::refused(&Refusal::Conflict { what: what(), detail }))
}

fn change_cause(object: &Value) -> String {
    let annotations = object.pointer("/metadata/annotations");
    let cause = annotations.and_then(|annotations| annotations.get(CHANGE_CAUSE));
    cause.and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
