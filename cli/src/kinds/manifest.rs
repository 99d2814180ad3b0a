//! Metadata and specs between the wire and Kubernetes' JSON.

use std::collections::HashMap;

use everynode_proto::convert::json::from_struct;
use everynode_proto::v1::{DaemonSet, ObjectMeta, Reason};
use serde_json::{Map, Value, json};

use super::Names;
use crate::age::rfc3339;
use crate::error::Error;

/// The start of an object: its kind and its metadata.
pub(super) fn head(names: &Names, metadata: Option<&ObjectMeta>) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("apiVersion".into(), names.api_version.into());
    object.insert("kind".into(), names.kind.into());
    object.insert("metadata".into(), metadata.map_or_else(|| json!({}), metadata_json));
    object
}

/// Sets `key` unless the value says nothing: null, an empty text, list or map.
pub(crate) fn put(object: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    let value = value.into();
    let empty = match &value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        _ => false,
    };
    if !empty {
        object.insert(key.into(), value);
    }
}

/// A DaemonSet's spec as Kubernetes' JSON.
pub(crate) fn spec_json(set: &DaemonSet) -> Result<Value, Error> {
    Ok(match &set.spec {
        Some(spec) => Value::Object(from_struct(spec).map_err(|error| error.within("spec"))?),
        None => json!({}),
    })
}

/// The metadata of an object in a manifest. What has another type than it should is left out:
/// manifests are checked before.
pub(crate) fn metadata_from(object: &Value) -> ObjectMeta {
    let metadata = &object["metadata"];
    let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
    let map = |field: &str| -> HashMap<String, String> {
        let entries = metadata[field].as_object().into_iter().flatten();
        entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    };
    ObjectMeta {
        name: text("name"),
        namespace: text("namespace"),
        uid: text("uid"),
        resource_version: text("resourceVersion"),
        labels: map("labels"),
        annotations: map("annotations"),
        ..ObjectMeta::default()
    }
}

/// `Reason: message`, as much of it as there is.
pub(super) fn words(reason: &Reason) -> String {
    match reason.message.as_str() {
        "" => reason.code.clone(),
        message => format!("{}: {message}", reason.code),
    }
}

fn metadata_json(metadata: &ObjectMeta) -> Value {
    let mut object = Map::new();
    put(&mut object, "name", metadata.name.as_str());
    put(&mut object, "namespace", metadata.namespace.as_str());
    put(&mut object, "uid", metadata.uid.as_str());
    put(&mut object, "resourceVersion", metadata.resource_version.as_str());
    if metadata.generation != 0 {
        put(&mut object, "generation", metadata.generation);
    }
    put(&mut object, "creationTimestamp", metadata.creation_timestamp.as_ref().map(rfc3339));
    put(&mut object, "labels", map_json(&metadata.labels));
    put(&mut object, "annotations", map_json(&metadata.annotations));
    Value::Object(object)
}

pub(super) fn map_json(map: &HashMap<String, String>) -> Value {
    Value::Object(map.iter().map(|(key, value)| (key.clone(), json!(value))).collect())
}
