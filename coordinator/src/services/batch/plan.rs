//! From what is wanted and what is there to commands: a pure function.
//!
//! A DaemonSet gets another revision where its template means something else, or where what it reads
//! of an object is changed by this batch; else it keeps the one that is stored, also where that was
//! digested in an earlier normal form or has content of another day (a new coordinator restarts
//! nothing, and who went back stays there until the next change).

use std::collections::BTreeMap;
use std::sync::Arc;

use everynode_coordinator_core::{Command, Content, Opaque, PutMode, Refusal};
use everynode_manifest::{
    Admitted, AdmittedObject, BlobKey, Composed, NORMAL_FORM, admit_object_update, admit_update,
    compose, daemon_set_from, normal_form, spec_changed, template_of, uses,
};
use everynode_model::{Digest, ObjectKey, ObjectUid, PodKey, SetUid};
use serde_json::Value;
use tonic::Status;

use super::look::{Existing, Look};
use super::{Item, What};
use crate::services::put::CHANGE_CAUSE;
use crate::status;

/// What is to be done.
pub(super) struct Plan {
    /// Of the items, in their order, and then of sets that read what they change.
    pub(super) commands: Vec<Command>,
    /// How many of them are items.
    pub(super) items: usize,
    /// Those that are not.
    pub(super) rolled_out: Vec<PodKey>,
    /// What must be kept before.
    pub(super) blobs: BTreeMap<Digest, Vec<u8>>,
    /// Whether a caller has seen less than there is, and wants to be told.
    pub(super) insists: bool,
}

/// See the module.
pub(super) fn plan(items: &[Item], look: &Look, key: &BlobKey) -> Result<Plan, Status> {
    let before = look.objects.iter().map(|(at, record)| {
        (at.clone(), serde_json::from_slice(&record.object.0).unwrap_or_default())
    });
    let before: BTreeMap<ObjectKey, Value> = before.collect();
    let mut after = before.clone();
    for item in items {
        if let What::Object { admitted, .. } = &item.what {
            after.insert(admitted.key.clone(), admitted.object.clone());
        }
    }
    let mut planner = Planner { look, key, before, after, plan: Plan::new(items.len()) };
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
        if let Some(command) = planner.reader(existing)? {
            // What comes again as it was ends a drift, and is no rollout.
            let kept = existing.record.set.revision;
            if matches!(&command, Command::PutSet { set, .. } if set.revision != kept) {
                planner.plan.rolled_out.push(key.clone());
            }
            planner.plan.commands.push(command);
        }
    }
    Ok(planner.plan)
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
            let name = format!("{} {:?}", admitted.key.kind.plural(), admitted.key.name);
            check_meant(&item.meant, &former.uid.to_string(), &name)?;
            let old: Value = serde_json::from_slice(&former.object.0).unwrap_or_default();
            admit_object_update(&old, sent).map_err(|rejected| status::rejected(&rejected))?;
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
        })
    }

    fn set(
        &mut self,
        item: &Item,
        sent: &Value,
        admitted: &Admitted,
        uid: SetUid,
    ) -> Result<Command, Status> {
        let namespace = admitted.key.namespace();
        let template = &admitted.object["spec"]["template"];
        let existing = self.look.sets.get(&admitted.key);
        let existing = existing.filter(|_| item.mode != PutMode::Create);
        let (mut mode, mut expected) = (created_where_absent(item), item.seen);
        let mut spec_changes = true;
        if let Some(existing) = existing {
            let name = format!("daemonsets.apps {:?}", admitted.key.name());
            check_meant(&item.meant, &existing.record.set.uid.to_string(), &name)?;
            let stored = existing.object();
            admit_update(&stored, sent).map_err(|rejected| status::rejected(&rejected))?;
            spec_changes = spec_changed(&stored, &admitted.object);
            mode = PutMode::Replace;
            expected = Some(self.expected(item, existing.record.resource_version));
        }
        let same = existing.and_then(|existing| existing.with_same_template(admitted));
        let revised = match same {
            Some(kept) => self.kept(kept, template, namespace),
            None => self.revised(&admitted.body, NORMAL_FORM, template, namespace),
        };
        let set = daemon_set_from(&admitted.object, uid, 0, revised.revision);
        let set = set.map_err(|error| {
            tracing::error!(%error, "an admitted object can't be used");
            Status::internal("the object was admitted and can't be used; the log says why")
        })?;
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
    fn reader(&mut self, existing: &Existing) -> Result<Option<Command>, Status> {
        let record = &existing.record;
        let object = existing.object();
        let template = object.pointer("/spec/template").unwrap_or(&Value::Null);
        let Some((body, form)) = existing.body.clone() else { return Ok(None) };
        let kept = Kept { revision: record.set.revision, body, normal_form: form };
        let revised = self.kept(kept, template, record.set.key.namespace());
        if revised.content.drifted.is_none() {
            return Ok(None);
        }
        let set = everynode_model::DaemonSet { revision: revised.revision, ..record.set.clone() };
        Ok(Some(Command::PutSet {
            mode: PutMode::Replace,
            set: Box::new(set),
            object: Arc::clone(&record.object),
            spec_changed: false,
            body: revised.body,
            normal_form: revised.normal_form,
            change_cause: String::new(),
            expected_version: Some(record.resource_version),
            content: Box::new(revised.content),
        }))
    }

    /// The stored revision, unless this batch changes what its template reads.
    fn kept(&mut self, kept: Kept, template: &Value, namespace: &str) -> Revised {
        let uses = uses(template, namespace);
        let body = template_of(&kept.body);
        let [before, after] =
            [&self.before, &self.after].map(|objects| compose(&body, &uses, objects, self.key));
        if before.revision != after.revision {
            return self.revised(&body, kept.normal_form, template, namespace);
        }
        Revised {
            revision: kept.revision,
            body: kept.body,
            normal_form: kept.normal_form,
            content: Content::default(),
        }
    }

    /// A revision of this template with what it reads as it will be.
    fn revised(&mut self, body: &[u8], form: u32, template: &Value, namespace: &str) -> Revised {
        let uses = uses(template, namespace);
        let Composed { body, revision, blobs, missing } =
            compose(body, &uses, &self.after, self.key);
        let version =
            |key: &ObjectKey| self.look.objects.get(key).map(|record| record.resource_version);
        let content = Content {
            blobs: blobs.keys().copied().collect(),
            missing,
            seen: uses.keys().map(|key| (key.clone(), version(key))).collect(),
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

/// A stored revision.
struct Kept {
    revision: Digest,
    body: Arc<[u8]>,
    normal_form: u32,
}

impl Existing {
    /// Its revision, where the template means what this one means.
    fn with_same_template(&self, admitted: &Admitted) -> Option<Kept> {
        let stored = self.object();
        let template = stored.pointer("/spec/template").unwrap_or(&Value::Null);
        let (body, form) = self.body.as_ref()?;
        (normal_form(template) == admitted.body).then(|| Kept {
            revision: self.record.set.revision,
            body: Arc::clone(body),
            normal_form: *form,
        })
    }
}

impl Plan {
    fn new(items: usize) -> Self {
        Self {
            commands: Vec::new(),
            items,
            rolled_out: Vec::new(),
            blobs: BTreeMap::new(),
            insists: false,
        }
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
fn check_meant(meant: &str, present: &str, what: &str) -> Result<(), Status> {
    if meant.is_empty() || meant == present {
        return Ok(());
    }
    let detail =
        format!("Precondition failed: UID in precondition: {meant}, UID in object meta: {present}");
    Err(status::refused(&Refusal::Conflict { what: what.to_owned(), detail }))
}

fn change_cause(object: &Value) -> String {
    let annotations = object.pointer("/metadata/annotations");
    let cause = annotations.and_then(|annotations| annotations.get(CHANGE_CAUSE));
    cause.and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
