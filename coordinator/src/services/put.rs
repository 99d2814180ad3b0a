//! Creating and changing DaemonSets and other objects: from a request through the door to a batch, and
//! from what came of it to the answer.

use std::collections::BTreeSet;

use everynode_coordinator_core::{Outcome, PutMode};
use everynode_manifest::{Admitted, Rejected, Verdict, admit, admit_object, admit_update, verdict};
use everynode_model::{Features, ObjectUid, PodKey, SetUid};
use everynode_proto::convert::json::from_struct;
use everynode_proto::v1;
use everynode_proto::v1::put_object::Object as Sent;
use serde_json::{Map, Value, json};
use tonic::Status;

use super::batch::{self, Item, Manner, What};
use super::convert::{self, set};
use super::filter::{given, version};
use super::{Api, no_entropy, unexpected};
use crate::status;

/// Where `kubectl` keeps what a change was for.
pub(super) const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";

/// The most objects of one call: they must fit into one transaction of 128 writes.
const MAX_OBJECTS: usize = 100;

/// Follows a request to create or change a DaemonSet.
pub(super) async fn put(
    api: &Api,
    mode: PutMode,
    request: v1::PutDaemonSetRequest,
) -> Result<v1::PutDaemonSetResponse, Status> {
    let v1::PutDaemonSetRequest { daemon_set, dry_run, api_version, allow_removal } = request;
    let sent = daemon_set.unwrap_or_default();
    let item = set_item(api, mode, &sent, &api_version).await?;
    let manner = Manner { dry_run, allow_removal };
    let done = batch::put(api, std::slice::from_ref(&item), manner).await?;
    let What::Set { admitted, .. } = &item.what else { return Err(Status::internal("no set")) };
    let outcome = done.outcomes.into_iter().next().unwrap_or(Outcome::Done);
    response(api, outcome, done.effect, admitted).await
}

/// Follows a request to put several objects.
pub(super) async fn put_all(
    api: &Api,
    request: v1::PutObjectsRequest,
) -> Result<v1::PutObjectsResponse, Status> {
    let v1::PutObjectsRequest { objects, dry_run, allow_removal } = request;
    if objects.is_empty() || objects.len() > MAX_OBJECTS {
        return Err(status::invalid("objects", format!("1 to {MAX_OBJECTS}, in one call")));
    }
    let mut items = Vec::new();
    for (number, sent) in objects.iter().enumerate() {
        let mode = match v1::PutMode::try_from(sent.mode) {
            Ok(v1::PutMode::Unspecified) => PutMode::Apply,
            Ok(v1::PutMode::Create) => PutMode::Create,
            Ok(v1::PutMode::Replace) => PutMode::Replace,
            Err(_) => return Err(status::invalid(&format!("objects[{number}].mode"), "unknown")),
        };
        items.push(match &sent.object {
            Some(Sent::DaemonSet(set)) => set_item(api, mode, set, &sent.api_version).await?,
            Some(Sent::Other(object)) => object_item(api, mode, object, &sent.api_version)?,
            None => return Err(status::invalid(&format!("objects[{number}]"), "no object")),
        });
    }
    none_twice(&items)?;
    let done = batch::put(api, &items, Manner { dry_run, allow_removal }).await?;
    let mut results = Vec::new();
    for (item, outcome) in items.iter().zip(done.outcomes) {
        results.push(result(api, item, outcome).await?);
    }
    if let (Some(first), 1..) = (results.first_mut(), done.due) {
        first.warnings.push(format!(
            "{} of {} DaemonSets that read what was changed are still to follow: everynode rollout \
             status waits for one",
            done.due,
            done.rolled_out.len()
        ));
    }
    Ok(v1::PutObjectsResponse {
        results,
        effect: Some(done.effect),
        rolled_out: done.rolled_out.iter().map(Into::into).collect(),
    })
}

async fn set_item(
    api: &Api,
    mode: PutMode,
    sent: &v1::DaemonSet,
    api_version: &str,
) -> Result<Item, Status> {
    const VERSION: &str = "daemon_set.metadata.resource_version";
    let meta = sent.metadata.clone().unwrap_or_default();
    let seen = seen(mode, VERSION, &meta)?;
    let meant = meta.uid.clone();
    let spec = sent.spec.as_ref().map(from_struct).transpose();
    let spec = spec.map_err(|invalid| Status::from(invalid.within("daemon_set.spec")))?;
    let api_version = if api_version.is_empty() { "apps/v1" } else { api_version };
    let mut object = object("DaemonSet", api_version, meta);
    if let Some(spec) = spec {
        object["spec"] = Value::Object(spec);
    }
    let admitted = match admit(&object) {
        Ok(admitted) => Box::new(admitted),
        Err(rejected) => return Err(not_admitted(api, mode, &object, &rejected).await),
    };
    let uid = SetUid::new(api.parts.entropy.uuid().map_err(no_entropy)?);
    Ok(Item { mode, what: What::Set { object, admitted, uid }, seen, meant })
}

fn object_item(
    api: &Api,
    mode: PutMode,
    sent: &v1::Object,
    api_version: &str,
) -> Result<Item, Status> {
    let meta = sent.metadata.clone().unwrap_or_default();
    let seen = seen(mode, "metadata.resource_version", &meta)?;
    let meant = meta.uid.clone();
    let content = sent.content.as_ref().map(from_struct).transpose();
    let content = content.map_err(|invalid| Status::from(invalid.within("content")))?;
    let api_version = if api_version.is_empty() { "v1" } else { api_version };
    let mut object = object(&sent.kind, api_version, meta);
    let fields = content.unwrap_or_default().into_iter();
    for (name, value) in fields.filter(|(name, _)| object.get(name).is_none()).collect::<Vec<_>>() {
        object[name] = value;
    }
    let admitted = admit_object(&object).map_err(|rejected| status::rejected(&rejected))?;
    let uid = ObjectUid::new(api.parts.entropy.uuid().map_err(no_entropy)?);
    Ok(Item { mode, what: What::Object { object, admitted: Box::new(admitted), uid }, seen, meant })
}

fn seen(mode: PutMode, field: &str, meta: &v1::ObjectMeta) -> Result<Option<u64>, Status> {
    let seen = version(field, &meta.resource_version)?;
    if mode == PutMode::Create && seen.is_some() {
        let rule = "resourceVersion should not be set on objects to be created";
        return Err(status::invalid(field, rule));
    }
    Ok(seen)
}

fn none_twice(items: &[Item]) -> Result<(), Status> {
    let mut named = BTreeSet::new();
    for (number, item) in items.iter().enumerate() {
        let name = match &item.what {
            What::Set { admitted, .. } => format!("DaemonSet {}", admitted.key),
            What::Object { admitted, .. } => admitted.key.to_string(),
        };
        if named.contains(&name) {
            let rule = format!("{name} is among them twice");
            return Err(status::invalid(&format!("objects[{number}]"), rule));
        }
        named.insert(name);
    }
    Ok(())
}

/// Why an object may not be put: all that is wrong with it, and all that it would change of a set
/// that is there and may not be changed.
async fn not_admitted(api: &Api, mode: PutMode, object: &Value, rejected: &Rejected) -> Status {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
    let namespace = text("/metadata/namespace").unwrap_or("default");
    let key = PodKey::new(namespace, text("/metadata/name").unwrap_or_default());
    if let Ok(key) = key
        && mode != PutMode::Create
        && let Ok(Some(existing)) = api.read(move |fleet, _| batch::existing(fleet, &key)).await
        && let Err(both) = admit_update(&existing.object(), object)
    {
        return status::rejected(&both);
    }
    status::rejected(rejected)
}

/// An object as its Kubernetes JSON, as far as its metadata goes.
fn object(kind: &str, api_version: &str, meta: v1::ObjectMeta) -> Value {
    let mut metadata = Map::new();
    for (field, text) in [("name", meta.name), ("namespace", meta.namespace)] {
        metadata.extend(given(&text).map(|text| (field.to_owned(), Value::String(text))));
    }
    for (field, map) in [("labels", meta.labels), ("annotations", meta.annotations)] {
        if !map.is_empty() {
            metadata.insert(field.into(), json!(map));
        }
    }
    json!({"apiVersion": api_version, "kind": kind, "metadata": metadata})
}

async fn result(api: &Api, item: &Item, outcome: Outcome) -> Result<v1::PutResult, Status> {
    match (&item.what, outcome) {
        (What::Set { admitted, .. }, outcome) => {
            let told = response(api, outcome, v1::Effect::default(), admitted).await?;
            let v1::PutDaemonSetResponse {
                daemon_set, created, changed, warnings, verdict, ..
            } = told;
            let object = daemon_set.map(v1::put_result::Object::DaemonSet);
            Ok(v1::PutResult { object, created, changed, warnings, verdict })
        }
        (What::Object { admitted, .. }, Outcome::Object { record, created, changed }) => {
            let object = convert::object::message(&record, false);
            Ok(v1::PutResult {
                object: Some(v1::put_result::Object::Other(object)),
                created,
                changed,
                warnings: admitted.warnings.iter().map(ToString::to_string).collect(),
                verdict: None,
            })
        }
        (_, outcome) => Err(unexpected(&outcome)),
    }
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
