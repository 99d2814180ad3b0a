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
    Admitted, BlobKey, Uses, admit, compose, named_content, spec_changed, template_of, uses,
};
use everynode_model::{ObjectKey, PodKey};
use everynode_proto::error::refusal;
use everynode_proto::v1;
use serde_json::Value;
use tonic::{Code, Status};

use super::Api;
use super::batch::{TRIES, canonical_all, usable, versions};
use super::filter::set_key;
use super::put::{CHANGE_CAUSE, response};
use crate::driver::CommandError;
use crate::status;

/// What there is, and where it is to go back to.
struct Way {
    record: Arc<SetRecord>,
    to: Arc<RevisionRecord>,
    /// Its template, in its normal form.
    template: Vec<u8>,
    /// What that reads.
    uses: Uses,
    /// What is there of that now.
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
    let record = view.ok_or_else(|| status::refused(&Refusal::SetNotFound(key.clone())))?.record;
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
    let template = template_of(&to.body);
    let uses = uses(&serde_json::from_slice(&template).unwrap_or_default(), key.namespace());
    let objects = uses.keys().filter_map(|at| Some((at.clone(), fleet.object(at)?))).collect();
    Ok(Way { record, to, template, uses, objects })
}

impl Way {
    /// The object with the former template, through the door.
    fn admitted(&self) -> Result<Admitted, Status> {
        let mut object: Value = serde_json::from_slice(&self.record.object).unwrap_or_default();
        object["spec"]["template"] = serde_json::from_slice(&self.template).unwrap_or_default();
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
        let set = usable(admitted, record.set.uid, to.digest)?;
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
        let namespace = self.record.set.key.namespace();
        let now = compose(&self.template, &self.uses, &canonical_all(&self.objects), key);
        let now = named_content(&now.body, namespace);
        let own = named_content(&self.to.body, namespace);
        let drifted: BTreeSet<ObjectKey> =
            self.uses.keys().filter(|at| now.get(*at) != own.get(*at)).cloned().collect();
        Content {
            blobs: self.to.blobs.clone(),
            missing: self.to.missing.clone(),
            labels: self.to.labels.clone(),
            seen: versions(&self.uses, &self.objects),
            drifted: Some(drifted),
        }
    }
}
