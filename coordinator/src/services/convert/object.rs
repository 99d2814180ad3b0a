//! ConfigMaps, Secrets and Namespaces.

use everynode_coordinator_core::ObjectRecord;
use everynode_manifest::redact_secret;
use everynode_model::ObjectKind;
use everynode_proto::convert::json::to_struct;
use everynode_proto::v1;
use serde_json::{Map, Value};

use super::{annotations, timestamp};

/// The canonical object. What is stored was admitted, so it is JSON; were it not, there would be nothing
/// to show.
pub(in crate::services) fn canonical(record: &ObjectRecord) -> Value {
    serde_json::from_slice(&record.object.0).unwrap_or_default()
}

/// An object; a Secret's values only where they are to be shown.
pub(in crate::services) fn message(record: &ObjectRecord, show_values: bool) -> v1::Object {
    let mut object = canonical(record);
    if record.key.kind == ObjectKind::Secret && !show_values {
        redact_secret(&mut object);
    }
    let mut content = match object {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    let annotations = annotations(&content);
    ["apiVersion", "kind", "metadata"].iter().for_each(|field| drop(content.remove(*field)));
    let phase = match (record.key.kind, record.terminating) {
        (ObjectKind::Namespace, None) => "Active",
        (ObjectKind::Namespace, Some(_)) => "Terminating",
        _ => "",
    };
    v1::Object {
        metadata: Some(v1::ObjectMeta {
            name: record.key.name.clone(),
            namespace: record.key.namespace.clone(),
            uid: record.uid.to_string(),
            resource_version: record.resource_version.to_string(),
            generation: 0,
            creation_timestamp: Some(timestamp(record.created_at)),
            labels: record.labels.clone().into_iter().collect(),
            annotations,
        }),
        kind: record.key.kind.to_string(),
        content: Some(to_struct(&content)),
        phase: phase.into(),
        effect: None,
    }
}
