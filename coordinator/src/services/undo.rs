//! `rollout undo`: back to the template of a former revision.
//!
//! The template is stored in its normal form, which is an object too: what was dropped from it are
//! defaults, and the door puts them back. It keeps the digest and the body under which it is stored,
//! also where they were made in an earlier normal form: nodes that still run it are not restarted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use everynode_coordinator_core::{
    Command, Content, Fleet, ObjectRecord, Outcome, PutMode, Refusal, RevisionRecord, SetRecord,
};
use everynode_manifest::{
    Admitted, BlobKey, admit, compose, daemon_set_from, named_content, spec_changed, template_of,
    uses,
};
use everynode_model::{ObjectKey, PodKey};
use everynode_proto::error::refusal;
use everynode_proto::v1;
use serde_json::Value;
use tonic::{Code, Status};

use super::Api;
use super::batch::TRIES;
use super::filter::set_key;
use super::put::{CHANGE_CAUSE, response};
use crate::driver::CommandError;
use crate::status;

/// What there is, and where it is to go back to.
struct Way {
    record: Arc<SetRecord>,
    to: Arc<RevisionRecord>,
    /// What its template reads, as it is now.
    objects: BTreeMap<ObjectKey, ObjectRecord>,
}

/// Follows a request to go back.
pub(super) async fn undo(
    api: &Api,
    request: v1::UndoRequest,
) -> Result<v1::PutDaemonSetResponse, Status> {
    let key = set_key(&request.namespace, &request.name)?;
    let mut tries = 1;
    loop {
        let (asked, number) = (key.clone(), request.to_revision);
        let way = api.read(move |fleet, _| find(fleet, &asked, number)).await??;
        let admitted = way.admitted()?;
        let command = way.command(&admitted, &api.parts.blob_key)?;
        match way.follow(api, command, &request).await {
            Err(CommandError::Refused(Refusal::Conflict { .. })) if tries < TRIES => tries += 1,
            Err(error) => return Err(status::command(&error)),
            Ok((outcome, effect)) => return response(api, outcome, effect, &admitted).await,
        }
    }
}

fn find(fleet: &Fleet, key: &PodKey, number: i64) -> Result<Way, Status> {
    let view = fleet.set(key);
    let record = view.ok_or_else(|| status::not_found("daemonsets.apps", key.name()))?.record;
    let revisions = fleet.revisions(record.set.uid);
    // One that could not start was never rolled out: who means it says its number.
    let ran = |revision: &RevisionRecord| {
        revision.digest != record.set.revision && revision.missing.is_empty()
    };
    let to = match number {
        0 => revisions.iter().rev().find(|revision| ran(revision)),
        number => revisions
            .iter()
            .find(|revision| i64::try_from(revision.number).is_ok_and(|known| known == number)),
    };
    let to = to.cloned().ok_or_else(|| {
        let message = match number {
            0 => "no last revision to roll back to".to_owned(),
            number => format!("unable to find specified revision {number} in history"),
        };
        refusal(Code::NotFound, "RevisionNotFound", message)
    })?;
    let template = serde_json::from_slice(&template_of(&to.body)).unwrap_or_default();
    let read = uses(&template, key.namespace()).into_keys();
    let objects = read.filter_map(|at| fleet.object(&at).map(|object| (at, object))).collect();
    Ok(Way { record, to, objects })
}

impl Way {
    /// The object with the former template, through the door.
    fn admitted(&self) -> Result<Admitted, Status> {
        let mut object: Value = serde_json::from_slice(&self.record.object).unwrap_or_default();
        let template = template_of(&self.to.body);
        object["spec"]["template"] = serde_json::from_slice(&template).unwrap_or_default();
        // What the change was for, people read at the object as well.
        let cause = self.to.change_cause.as_str();
        match object["metadata"]["annotations"].as_object_mut() {
            Some(annotations) if cause.is_empty() => _ = annotations.remove(CHANGE_CAUSE),
            Some(annotations) => _ = annotations.insert(CHANGE_CAUSE.into(), cause.into()),
            None if cause.is_empty() => {}
            None => object["metadata"]["annotations"][CHANGE_CAUSE] = cause.into(),
        }
        admit(&object).map_err(|rejected| status::rejected(&rejected))
    }

    async fn follow(
        &self,
        api: &Api,
        command: Command,
        request: &v1::UndoRequest,
    ) -> Result<(Outcome, v1::Effect), CommandError> {
        if self.record.set.revision == self.to.digest {
            let record = Box::new(SetRecord::clone(&self.record));
            let outcome = Outcome::Set { record, created: false, changed: false };
            return Ok((outcome, v1::Effect::default()));
        }
        api.careful(command, request.allow_removal, request.dry_run).await
    }

    fn command(&self, admitted: &Admitted, key: &BlobKey) -> Result<Command, Status> {
        let (record, to) = (&self.record, &self.to);
        let set =
            daemon_set_from(&admitted.object, record.set.uid, 0, to.digest).map_err(|error| {
                tracing::error!(%error, "a former template was admitted and can't be used");
                Status::internal("the template was admitted and can't be used; the log says why")
            })?;
        let stored: Value = serde_json::from_slice(&record.object).unwrap_or_default();
        Ok(Command::PutSet {
            mode: PutMode::Replace,
            set: Box::new(set),
            object: admitted.object.to_string().into_bytes().into(),
            spec_changed: spec_changed(&stored, &admitted.object),
            body: Arc::clone(&to.body),
            normal_form: to.normal_form,
            // Its own stays with it.
            change_cause: String::new(),
            expected_version: Some(record.resource_version),
            content: Box::new(self.content(key)),
        })
    }

    /// The revision's own content, and which objects have another one by now.
    fn content(&self, key: &BlobKey) -> Content {
        let template_body = template_of(&self.to.body);
        let template: Value = serde_json::from_slice(&template_body).unwrap_or_default();
        let namespace = self.record.set.key.namespace();
        let uses = uses(&template, namespace);
        let parsed =
            |record: &ObjectRecord| serde_json::from_slice(&record.object.0).unwrap_or_default();
        let now = self.objects.iter().map(|(at, record)| (at.clone(), parsed(record))).collect();
        let now = named_content(&compose(&template_body, &uses, &now, key).body, namespace);
        let own = named_content(&self.to.body, namespace);
        let drifted: BTreeSet<ObjectKey> =
            uses.keys().filter(|at| now.get(*at) != own.get(*at)).cloned().collect();
        let version = |at: &ObjectKey| self.objects.get(at).map(|it| it.resource_version);
        Content {
            blobs: self.to.blobs.clone(),
            missing: self.to.missing.clone(),
            seen: uses.keys().map(|at| (at.clone(), version(at))).collect(),
            drifted: Some(drifted),
        }
    }
}
