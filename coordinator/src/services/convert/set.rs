//! DaemonSets and their revisions.

use everynode_coordinator_core::{RevisionRecord, SetRecord, SetView};
use everynode_manifest::{named_content, template_of};
use everynode_model::PodKey;
use everynode_proto::convert::json::to_struct;
use everynode_proto::v1;
use serde_json::{Map, Value};

use super::pod::template_labels;
use super::{annotations, timestamp};

/// A DaemonSet and how it is doing.
pub(in crate::services) fn message(view: &SetView) -> v1::DaemonSet {
    let mut message = stored(&view.record);
    if let Some(meta) = &mut message.metadata {
        meta.resource_version = view.resource_version.to_string();
    }
    message.status = Some(status(view));
    message
}

/// A DaemonSet as it is stored.
pub(in crate::services) fn stored(record: &SetRecord) -> v1::DaemonSet {
    // What is stored was admitted, so it is JSON; were it not, there would be nothing to show.
    let object: Map<String, Value> = serde_json::from_slice(&record.object).unwrap_or_default();
    let set = &record.set;
    v1::DaemonSet {
        metadata: Some(v1::ObjectMeta {
            name: set.key.name().into(),
            namespace: set.key.namespace().into(),
            uid: set.uid.to_string(),
            resource_version: record.resource_version.to_string(),
            generation: i64::try_from(set.generation).unwrap_or(i64::MAX),
            creation_timestamp: Some(timestamp(record.created_at)),
            labels: set.labels.clone().into_iter().collect(),
            annotations: annotations(&object),
        }),
        spec: object.get("spec").and_then(Value::as_object).map(to_struct),
        status: None,
        effect: None,
    }
}

/// One version of a set's template; `set` is its DaemonSet's name.
pub(in crate::services) fn revision(set: &PodKey, record: &RevisionRecord) -> v1::Revision {
    let template: Map<String, Value> =
        serde_json::from_slice(&template_of(&record.body)).unwrap_or_default();
    let content = named_content(&record.body, set.namespace()).into_iter();
    let content = content.map(|(key, blob)| v1::RevisionContent {
        kind: key.kind.to_string(),
        name: key.name,
        hash: blob.map(|blob| blob.short()).unwrap_or_default(),
    });
    let name = format!("{}-{}", set.name(), record.digest.short());
    let created = Some(timestamp(record.created_at));
    v1::Revision {
        name: name.clone(),
        number: i64::try_from(record.number).unwrap_or(i64::MAX),
        change_cause: record.change_cause.clone(),
        creation_timestamp: created,
        template: Some(to_struct(&template)),
        metadata: Some(v1::ObjectMeta {
            name,
            namespace: set.namespace().into(),
            creation_timestamp: created,
            labels: template_labels(&record.body, record.digest).into_iter().collect(),
            ..Default::default()
        }),
        daemon_set: set.name().into(),
        content: content.collect(),
    }
}

fn status(view: &SetView) -> v1::DaemonSetStatus {
    let count = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let status = view.status;
    let conditions = view.conditions.iter().map(|(name, holds, reason)| v1::Condition {
        r#type: name.clone(),
        status: if *holds { "True" } else { "False" }.into(),
        reason: reason.code.clone(),
        message: reason.message.clone(),
    });
    v1::DaemonSetStatus {
        // What is shown was computed from the record that is shown.
        observed_generation: i64::try_from(view.record.set.generation).unwrap_or(i64::MAX),
        desired_number_scheduled: count(status.desired),
        current_number_scheduled: count(status.current),
        number_misscheduled: count(status.misscheduled),
        number_ready: count(status.ready),
        updated_number_scheduled: count(status.updated),
        number_available: count(status.available),
        number_unavailable: count(status.desired.saturating_sub(status.available)),
        conditions: conditions.collect(),
        update_revision: view.target.short(),
        current_revision: view.stable.map(|stable| stable.short()).unwrap_or_default(),
    }
}
