//! Creating and changing DaemonSets: through the same door as a manifest file, then as a command
//! that holds only for the object as it was when it was looked at.

use std::sync::Arc;

use everynode_coordinator_core::{Command, Fleet, Outcome, PutMode, Refusal, SetRecord};
use everynode_manifest::{
    Admitted, NORMAL_FORM, Rejected, Verdict, admit, admit_update, daemon_set_from, normal_form,
    spec_changed, verdict,
};
use everynode_model::{Digest, Features, PodKey, SetUid};
use everynode_proto::convert::json::from_struct;
use everynode_proto::v1;
use serde_json::{Map, Value, json};
use tonic::Status;

use super::convert::set;
use super::filter::{given, version};
use super::{Api, no_entropy, unexpected};
use crate::driver::CommandError;
use crate::status;

/// How often a put that found the object changed under it looks again. More than that in a row
/// means that several writers want different things, which no retry settles.
pub(super) const TRIES: usize = 5;

/// Where `kubectl` keeps what a change was for.
pub(super) const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";

/// What is stored of a set that is to be changed.
struct Existing {
    record: Arc<SetRecord>,
    /// The body and the normal form of its present revision, if the revision is kept.
    body: Option<(Arc<[u8]>, u32)>,
}

/// Why an attempt came to nothing.
enum Failure {
    /// The command was not followed.
    Command(CommandError),
    /// There was no command: the object may not become what was sent.
    Object(Status),
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        Self::Command(error)
    }
}

/// Follows a request to create or change a DaemonSet.
pub(super) async fn put(
    api: &Api,
    mode: PutMode,
    request: v1::PutDaemonSetRequest,
) -> Result<v1::PutDaemonSetResponse, Status> {
    const VERSION: &str = "daemon_set.metadata.resource_version";
    let sent = request.daemon_set.unwrap_or_default();
    let meta = sent.metadata.clone().unwrap_or_default();
    let seen = version(VERSION, &meta.resource_version)?;
    if mode == PutMode::Create && seen.is_some() {
        let rule = "resourceVersion should not be set on objects to be created";
        return Err(status::invalid(VERSION, rule));
    }
    let meant = meta.uid.clone();
    let object = object(&sent, meta, &request.api_version)?;
    let admitted = match admit(&object) {
        Ok(admitted) => admitted,
        Err(rejected) => return Err(not_admitted(api, mode, &object, &rejected).await),
    };
    let uid = SetUid::new(api.parts.entropy.uuid().map_err(no_entropy)?);
    let allow_removal = request.allow_removal;
    let put = Put { mode, object: &object, admitted: &admitted, seen, meant, uid, allow_removal };
    let mut tries = 1;
    loop {
        match put.attempt(api, request.dry_run).await {
            Err(Failure::Command(error)) if tries < TRIES && put.was_overtaken(&error) => {
                tries += 1;
            }
            Err(Failure::Command(error)) => return Err(status::command(&error)),
            Err(Failure::Object(status)) => return Err(status),
            Ok((outcome, effect)) => return response(api, outcome, effect, &admitted).await,
        }
    }
}

/// Why an object may not be put: all that is wrong with it, and all that it would change of a set
/// that is there and may not be changed.
async fn not_admitted(api: &Api, mode: PutMode, object: &Value, rejected: &Rejected) -> Status {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
    let namespace = text("/metadata/namespace").unwrap_or("default");
    let key = PodKey::new(namespace, text("/metadata/name").unwrap_or_default());
    if let Ok(key) = key
        && mode != PutMode::Create
        && let Ok(Some(existing)) = api.read(move |fleet, _| existing(fleet, &key)).await
        && let Err(both) = admit_update(&existing.object(), object)
    {
        return status::rejected(&both);
    }
    status::rejected(rejected)
}

/// One request, read and admitted.
struct Put<'a> {
    mode: PutMode,
    object: &'a Value,
    admitted: &'a Admitted,
    /// The version that the caller has seen, where it insists on it.
    seen: Option<u64>,
    /// The uid of the one that the caller means to change; empty where any will do.
    meant: String,
    /// The uid it gets if it is new.
    uid: SetUid,
    /// Whether it may take pods away.
    allow_removal: bool,
}

impl Put<'_> {
    /// Looks at what is there, and asks for the change on the condition that it still is.
    async fn attempt(&self, api: &Api, dry_run: bool) -> Result<(Outcome, v1::Effect), Failure> {
        let key = self.admitted.key.clone();
        let handle = &api.parts.handle;
        let existing = handle.read(move |fleet, _| existing(fleet, &key)).await?;
        let command = self.command(existing.as_ref()).map_err(Failure::Object)?;
        Ok(api.careful(command, self.allow_removal, dry_run).await?)
    }

    /// Whether somebody else was faster, and the caller has not asked to hear of that.
    fn was_overtaken(&self, error: &CommandError) -> bool {
        match error {
            CommandError::Refused(Refusal::Conflict { .. }) => self.seen.is_none(),
            CommandError::Refused(Refusal::SetExists(_)) => self.mode == PutMode::Apply,
            _ => false,
        }
    }

    fn command(&self, existing: Option<&Existing>) -> Result<Command, Status> {
        let admitted = self.admitted;
        let mut put = Changed {
            revision: admitted.revision,
            body: admitted.body.as_slice().into(),
            normal_form: NORMAL_FORM,
            spec_changed: true,
        };
        // Where it is not there, the same command must not change one that comes in between.
        let mut mode = match (self.mode, self.seen) {
            (PutMode::Apply, None) => PutMode::Create,
            (mode, _) => mode,
        };
        let mut expected = self.seen;
        if let Some(existing) = existing.filter(|_| self.mode != PutMode::Create) {
            self.check_meant(existing)?;
            put = put.against(existing, self.object, admitted)?;
            mode = PutMode::Replace;
            // Whoever has seen any version since the last stored change has seen that change.
            let present = existing.record.resource_version;
            expected = Some(self.seen.filter(|seen| *seen < present).unwrap_or(present));
        }
        let set =
            daemon_set_from(&admitted.object, self.uid, 0, put.revision).map_err(|error| {
                tracing::error!(%error, "an admitted object can't be used");
                Status::internal("the object was admitted and can't be used; the log says why")
            })?;
        Ok(Command::PutSet {
            mode,
            set: Box::new(set),
            object: admitted.object.to_string().into_bytes().into(),
            spec_changed: put.spec_changed,
            body: put.body,
            normal_form: put.normal_form,
            change_cause: change_cause(&admitted.object),
            expected_version: expected,
        })
    }
}

impl Put<'_> {
    /// Checks that what is there is not another one of the same name.
    fn check_meant(&self, existing: &Existing) -> Result<(), Status> {
        let present = existing.record.set.uid.to_string();
        if self.meant.is_empty() || self.meant == present {
            return Ok(());
        }
        let what = format!("daemonsets.apps {:?}", self.admitted.key.name());
        let detail = format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {present}",
            self.meant
        );
        Err(status::refused(&Refusal::Conflict { what, detail }))
    }
}

impl Existing {
    /// The canonical object.
    fn object(&self) -> Value {
        serde_json::from_slice(&self.record.object).unwrap_or_default()
    }
}

/// What a put does to the template.
struct Changed {
    revision: Digest,
    body: Arc<[u8]>,
    normal_form: u32,
    spec_changed: bool,
}

impl Changed {
    /// The same, where the set is there already.
    ///
    /// A template that means what the stored one means keeps the stored revision, also where that
    /// was digested in an earlier normal form: a new coordinator restarts nothing.
    fn against(
        mut self,
        existing: &Existing,
        object: &Value,
        admitted: &Admitted,
    ) -> Result<Self, Status> {
        let stored = existing.object();
        admit_update(&stored, object).map_err(|rejected| status::rejected(&rejected))?;
        self.spec_changed = spec_changed(&stored, &admitted.object);
        let template = stored.pointer("/spec/template").unwrap_or(&Value::Null);
        if let Some((body, form)) = &existing.body
            && normal_form(template) == admitted.body
        {
            self.revision = existing.record.set.revision;
            self.body = Arc::clone(body);
            self.normal_form = *form;
        }
        Ok(self)
    }
}

fn existing(fleet: &Fleet, key: &PodKey) -> Option<Existing> {
    let record = fleet.set(key)?.record;
    let revisions = fleet.revisions(record.set.uid);
    let present = revisions.iter().find(|revision| revision.digest == record.set.revision);
    let body = present.map(|revision| (Arc::clone(&revision.body), revision.normal_form));
    Some(Existing { record, body })
}

/// The object as its Kubernetes JSON.
fn object(sent: &v1::DaemonSet, meta: v1::ObjectMeta, api_version: &str) -> Result<Value, Status> {
    let mut metadata = Map::new();
    for (field, text) in [("name", meta.name), ("namespace", meta.namespace)] {
        metadata.extend(given(&text).map(|text| (field.to_owned(), Value::String(text))));
    }
    for (field, map) in [("labels", meta.labels), ("annotations", meta.annotations)] {
        if !map.is_empty() {
            metadata.insert(field.into(), json!(map));
        }
    }
    let spec = sent.spec.as_ref().map(from_struct).transpose();
    let spec = spec.map_err(|invalid| Status::from(invalid.within("daemon_set.spec")))?;
    let api_version = if api_version.is_empty() { "apps/v1" } else { api_version };
    let mut object = json!({
        "apiVersion": api_version, "kind": "DaemonSet", "metadata": metadata,
    });
    if let Some(spec) = spec {
        object["spec"] = Value::Object(spec);
    }
    Ok(object)
}

fn change_cause(object: &Value) -> String {
    let annotations = object.pointer("/metadata/annotations");
    let cause = annotations.and_then(|annotations| annotations.get(CHANGE_CAUSE));
    cause.and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The answer to a put that had this outcome.
pub(super) async fn response(
    api: &Api,
    outcome: Outcome,
    effect: v1::Effect,
    admitted: &Admitted,
) -> Result<v1::PutDaemonSetResponse, Status> {
    let Outcome::Set { record, created, changed } = outcome else {
        return Err(unexpected(&outcome));
    };
    let key = record.set.key.clone();
    let view = api.read(move |fleet, _| fleet.set(&key)).await?;
    let mut daemon_set = set::stored(&record);
    // How it is doing; of another set of that name, or before a dry run, there is nothing to say.
    if let Some(view) = view.filter(|view| view.record.set.uid == record.set.uid) {
        daemon_set.status = set::message(&view).status;
    }
    let mut warnings: Vec<String> = admitted.warnings.iter().map(ToString::to_string).collect();
    warnings.extend(no_containers(&record.set.features));
    let verdict = Some(verdict_message(verdict(Ok(admitted))));
    let daemon_set = Some(daemon_set);
    let effect = Some(effect);
    Ok(v1::PutDaemonSetResponse { daemon_set, created, changed, warnings, verdict, effect })
}

fn verdict_message(verdict: Verdict) -> v1::Verdict {
    let findings = verdict.findings.into_iter().map(|finding| v1::VerdictFinding {
        field: finding.path.to_string(),
        outcome: finding.outcome.as_str().into(),
        code: finding.code.into(),
        reason: finding.why,
    });
    v1::Verdict {
        outcome: verdict.outcome.as_str().into(),
        findings: findings.collect(),
        containers: verdict.containers,
    }
}

/// No agent of this version announces a runtime for images; said here rather than found out there.
fn no_containers(features: &Features) -> Option<String> {
    features.contains("runtime/cri").then(|| {
        "spec.template.spec: its pods stay Pending, as agents run no containers yet; to run a \
         program of the host, set runtimeClassName: process and a command"
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use everynode_model::WallTime;

    fn manifest(command: &str) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "x"},
            "spec": {
                "selector": {"matchLabels": {"app": "x"}},
                "template": {
                    "metadata": {"labels": {"app": "x"}},
                    "spec": {"runtimeClassName": "process", "hostNetwork": true,
                             "containers": [{"name": "x", "command": [command]}]},
                },
            },
        })
    }

    /// As an earlier version stored it, in a normal form of its own.
    fn stored_in_another_form() -> Existing {
        let object = admit(&manifest("/bin/a")).unwrap().object;
        let uid = SetUid::new(uuid::Uuid::nil());
        let set = daemon_set_from(&object, uid, 1, Digest::of(b"earlier form")).unwrap();
        let record = SetRecord {
            set,
            object: object.to_string().into_bytes().into(),
            created_at: WallTime::default(),
            resource_version: 1,
        };
        Existing { record: Arc::new(record), body: Some((b"earlier form".as_slice().into(), 0)) }
    }

    fn put_against_it(command: &str) -> Changed {
        let (object, existing) = (manifest(command), stored_in_another_form());
        let admitted = admit(&object).unwrap();
        let fresh = Changed {
            revision: admitted.revision,
            body: admitted.body.as_slice().into(),
            normal_form: NORMAL_FORM,
            spec_changed: true,
        };
        fresh.against(&existing, &object, &admitted).unwrap()
    }

    #[test]
    fn an_unchanged_template_keeps_its_stored_revision_whatever_its_normal_form() {
        let put = put_against_it("/bin/a");
        assert_eq!(put.revision, Digest::of(b"earlier form"));
        assert_eq!((&*put.body, put.normal_form), (b"earlier form".as_slice(), 0));
        assert!(!put.spec_changed);
    }

    #[test]
    fn a_changed_template_is_a_new_revision_in_the_present_form() {
        let put = put_against_it("/bin/b");
        assert_ne!(put.revision, Digest::of(b"earlier form"));
        assert_eq!(put.normal_form, NORMAL_FORM);
        assert!(put.spec_changed);
    }
}
