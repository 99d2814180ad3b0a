//! ConfigMaps, Secrets and Namespaces.

use everynode_manifest::{admit_object, redact_secret};
use everynode_model::ObjectKind;
use everynode_proto::convert::json::{from_struct, to_struct};
use everynode_proto::v1::put_object::Object as Sent;
use everynode_proto::v1::{
    DeleteObjectRequest, DeleteRequest, EventKind, GetObjectRequest, ListObjectsRequest,
    ListRequest, Object, ObjectEvent, ObjectMeta, PutObject, WatchObjectsRequest, WatchRequest,
};
use serde_json::{Map, Value, json};
use tonic::Streaming;

use super::manifest::head;
use super::{Column, Kind, Listed, Names, Resource, column, metadata_from, text};
use crate::age::age;
use crate::connect::Client;
use crate::error::Error;

/// The kind with this place in [`ObjectKind::ALL`].
pub(crate) struct Stored<const KIND: usize>;

/// The kind of ConfigMaps.
pub(crate) type ConfigMaps = Stored<0>;
/// The kind of Secrets.
pub(crate) type Secrets = Stored<1>;
/// The kind of Namespaces.
pub(crate) type Namespaces = Stored<2>;

impl<const KIND: usize> Kind for Stored<KIND> {
    type Object = Object;
    type Event = ObjectEvent;

    const NAMES: Names = match ObjectKind::ALL[KIND] {
        ObjectKind::ConfigMap => names("ConfigMap", "configmap", true),
        ObjectKind::Secret => names("Secret", "secret", true),
        ObjectKind::Namespace => names("Namespace", "namespace", false),
    };
    const COLUMNS: &'static [Column] = match ObjectKind::ALL[KIND] {
        ObjectKind::ConfigMap => &[column("NAME"), column("DATA"), column("AGE")],
        ObjectKind::Secret => &[column("NAME"), column("TYPE"), column("DATA"), column("AGE")],
        ObjectKind::Namespace => &[column("NAME"), column("STATUS"), column("AGE")],
    };

    fn metadata(object: &Object) -> Option<&ObjectMeta> {
        object.metadata.as_ref()
    }

    fn metadata_mut(object: &mut Object) -> Option<&mut ObjectMeta> {
        object.metadata.as_mut()
    }

    fn row(object: &Object, now: i64) -> Vec<String> {
        let content = content(object);
        let meta = object.metadata.clone().unwrap_or_default();
        let mut row = vec![meta.name.clone()];
        match ObjectKind::ALL[KIND] {
            ObjectKind::ConfigMap => row.push(entries(&content).to_string()),
            ObjectKind::Secret => {
                row.push(content["type"].as_str().unwrap_or_default().to_owned());
                row.push(entries(&content).to_string());
            }
            ObjectKind::Namespace => row.push(object.phase.clone()),
        }
        row.push(age(created(&meta), now));
        row
    }

    fn manifest(object: &Object) -> Result<Value, Error> {
        let mut manifest = head(&Self::NAMES, object.metadata.as_ref());
        if object.metadata.as_ref().is_some_and(|meta| created(meta).is_none()) {
            let metadata = manifest.get_mut("metadata").and_then(Value::as_object_mut);
            metadata.map(|metadata| metadata.remove("creationTimestamp"));
        }
        if let Value::Object(content) = content(object) {
            manifest.extend(content);
        }
        if !object.phase.is_empty() {
            manifest.insert("status".into(), json!({"phase": object.phase}));
        }
        Ok(Value::Object(manifest))
    }

    async fn get(client: &Client, namespace: &str, name: &str) -> Result<Object, Error> {
        let request = client.request(GetObjectRequest {
            kind: Self::NAMES.kind.into(),
            namespace: namespace.into(),
            name: name.into(),
            show_values: client.shows_secrets() && Self::NAMES.kind == "Secret",
        });
        client.answer(client.objects().get(request)).await
    }

    async fn list(client: &Client, request: ListRequest) -> Result<Listed<Object>, Error> {
        let request = client.request(ListObjectsRequest {
            kind: Self::NAMES.kind.into(),
            list: Some(request),
            show_values: client.shows_secrets() && Self::NAMES.kind == "Secret",
        });
        let list = client.answer(client.objects().list(request)).await?;
        Ok(Listed { resource_version: list.resource_version, items: list.items })
    }

    async fn watch(
        client: &Client,
        request: WatchRequest,
    ) -> Result<Streaming<ObjectEvent>, Error> {
        let request = WatchObjectsRequest { kind: Self::NAMES.kind.into(), watch: Some(request) };
        client.stream(client.objects().watch(request)).await
    }

    fn change(event: ObjectEvent) -> (EventKind, Option<Object>) {
        (event.kind(), event.object)
    }
}

impl<const KIND: usize> Stored<KIND> {
    /// Deletes one of them.
    pub(crate) async fn delete(client: &Client, request: DeleteRequest) -> Result<Object, Error> {
        let request = client.request(DeleteObjectRequest {
            kind: Self::NAMES.kind.into(),
            delete: Some(request),
            allow_removal: client.allows_removal(),
        });
        client.answer(client.objects().delete(request)).await
    }
}

/// An object in a manifest as one to put; a Secret's `stringData` is part of its `data`.
pub(crate) fn to_put(object: &Value) -> PutObject {
    let mut content = object.as_object().cloned().unwrap_or_default();
    ["apiVersion", "kind", "metadata", "status"].iter().for_each(|it| drop(content.remove(*it)));
    let object_message = Object {
        metadata: Some(metadata_from(object)),
        kind: text(object, "/kind").into(),
        content: Some(to_struct(&content)),
        ..Object::default()
    };
    PutObject {
        object: Some(Sent::Other(object_message)),
        api_version: text(object, "/apiVersion").to_owned(),
        ..PutObject::default()
    }
}

/// The object that came of putting `sent`. The answer has no values of a Secret; whoever sent them
/// knows them.
pub(crate) fn answered(kind: Resource, answer: &Object, sent: &Value) -> Result<Value, Error> {
    let mut object = match kind {
        Resource::Secrets => Secrets::manifest(answer)?,
        Resource::Namespaces => Namespaces::manifest(answer)?,
        _ => ConfigMaps::manifest(answer)?,
    };
    if kind == Resource::Secrets
        && let Ok(admitted) = admit_object(sent)
    {
        let [data, annotations] =
            ["/data", "/metadata/annotations"].map(|at| admitted.object.pointer(at).cloned());
        if let Some(data) = data {
            object["data"] = data;
        }
        if let Some(annotations) = annotations {
            object["metadata"]["annotations"] = annotations;
        }
    }
    Ok(object)
}

/// The object as it may be printed: without a Secret's values.
pub(crate) fn printable(mut object: Value) -> Value {
    if text(&object, "/kind") == "Secret" {
        redact_secret(&mut object);
    }
    object
}

/// The rest of an object beside its metadata.
pub(crate) fn content(object: &Object) -> Value {
    let content = object.content.as_ref().map(from_struct).and_then(Result::ok);
    Value::Object(content.unwrap_or_default())
}

/// How many keys it has.
fn entries(content: &Value) -> usize {
    ["data", "binaryData"]
        .iter()
        .filter_map(|field| content[*field].as_object())
        .map(Map::len)
        .sum()
}

/// When it was created; what was always there was not.
fn created(meta: &ObjectMeta) -> Option<&prost_types::Timestamp> {
    meta.creation_timestamp.as_ref().filter(|at| at.seconds != 0)
}

const fn names(kind: &'static str, singular: &'static str, namespaced: bool) -> Names {
    Names { kind, api_version: "v1", singular, namespaced }
}
