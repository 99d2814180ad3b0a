//! DaemonSets.

use everynode_proto::v1::{
    DaemonSet, DaemonSetEvent, DaemonSetStatus, EventKind, GetRequest, ListRequest, ObjectMeta,
    WatchRequest,
};
use serde_json::{Map, Value, json};
use tonic::Streaming;

use super::manifest::{head, put, spec_json};
use super::template::containers_and_programs;
use super::{Column, Kind, Listed, Names, column, pairs, wide};
use crate::age::age;
use crate::connect::Client;
use crate::error::Error;

/// The kind of DaemonSets.
pub(crate) struct DaemonSets;

impl Kind for DaemonSets {
    type Object = DaemonSet;
    type Event = DaemonSetEvent;

    const NAMES: Names = Names {
        kind: "DaemonSet",
        api_version: "apps/v1",
        singular: "daemonset.apps",
        namespaced: true,
    };
    const COLUMNS: &'static [Column] = &[
        column("NAME"),
        column("DESIRED"),
        column("CURRENT"),
        column("READY"),
        column("UP-TO-DATE"),
        column("AVAILABLE"),
        column("NODE SELECTOR"),
        column("AGE"),
        wide("CONTAINERS"),
        wide("IMAGES"),
        wide("SELECTOR"),
    ];

    fn metadata(object: &DaemonSet) -> Option<&ObjectMeta> {
        object.metadata.as_ref()
    }

    fn metadata_mut(object: &mut DaemonSet) -> Option<&mut ObjectMeta> {
        object.metadata.as_mut()
    }

    fn row(object: &DaemonSet, now: i64) -> Vec<String> {
        let metadata = object.metadata.as_ref();
        let status = object.status.clone().unwrap_or_default();
        let spec = spec_json(object).unwrap_or_default();
        let (names, programs) = containers_and_programs(&spec);
        vec![
            super::name_of(metadata).into(),
            status.desired_number_scheduled.to_string(),
            status.current_number_scheduled.to_string(),
            status.number_ready.to_string(),
            status.updated_number_scheduled.to_string(),
            status.number_available.to_string(),
            text_pairs(&spec["template"]["spec"]["nodeSelector"]),
            age(metadata.and_then(|metadata| metadata.creation_timestamp.as_ref()), now),
            names,
            programs,
            selector(&spec["selector"]),
        ]
    }

    fn manifest(object: &DaemonSet) -> Result<Value, Error> {
        let mut manifest = head(&Self::NAMES, object.metadata.as_ref());
        manifest.insert("spec".into(), spec_json(object)?);
        if let Some(status) = &object.status {
            manifest.insert("status".into(), status_json(status));
        }
        Ok(Value::Object(manifest))
    }

    async fn get(client: &Client, namespace: &str, name: &str) -> Result<DaemonSet, Error> {
        let request = GetRequest { namespace: namespace.into(), name: name.into() };
        client.answer(client.daemon_sets().get(client.request(request))).await
    }

    async fn list(client: &Client, request: ListRequest) -> Result<Listed<DaemonSet>, Error> {
        let list = client.answer(client.daemon_sets().list(client.request(request))).await?;
        Ok(Listed { resource_version: list.resource_version, items: list.items })
    }

    async fn watch(
        client: &Client,
        request: WatchRequest,
    ) -> Result<Streaming<DaemonSetEvent>, Error> {
        client.stream(client.daemon_sets().watch(request)).await
    }

    fn change(event: DaemonSetEvent) -> (EventKind, Option<DaemonSet>) {
        (event.kind(), event.object)
    }
}

/// A selector in the words of `-l`; `<none>` for an empty one.
pub(crate) fn selector(selector: &Value) -> String {
    let mut parts = Vec::new();
    if let Some(labels) = selector["matchLabels"].as_object() {
        parts.extend(labels.iter().map(|(key, value)| format!("{key}={}", plain(value))));
    }
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = plain(&expression["key"]);
        let values: Vec<String> =
            expression["values"].as_array().into_iter().flatten().map(plain).collect();
        let values = values.join(",");
        parts.push(match expression["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key,
            "DoesNotExist" => format!("!{key}"),
            other => format!("{key} {other} ({values})"),
        });
    }
    if parts.is_empty() { "<none>".into() } else { parts.join(",") }
}

fn text_pairs(map: &Value) -> String {
    let texts: Vec<(String, String)> = map
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), plain(value)))
        .collect();
    pairs(texts.iter().map(|(key, value)| (key, value)), ",")
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn status_json(status: &DaemonSetStatus) -> Value {
    let mut object = Map::new();
    for (key, number) in [
        ("observedGeneration", status.observed_generation),
        ("desiredNumberScheduled", status.desired_number_scheduled.into()),
        ("currentNumberScheduled", status.current_number_scheduled.into()),
        ("numberMisscheduled", status.number_misscheduled.into()),
        ("numberReady", status.number_ready.into()),
        ("updatedNumberScheduled", status.updated_number_scheduled.into()),
        ("numberAvailable", status.number_available.into()),
        ("numberUnavailable", status.number_unavailable.into()),
    ] {
        object.insert(key.into(), number.into());
    }
    let conditions = status.conditions.iter().map(|condition| {
        json!({"type": condition.r#type, "status": condition.status, "reason": condition.reason,
               "message": condition.message})
    });
    put(&mut object, "conditions", conditions.collect::<Vec<Value>>());
    put(&mut object, "currentRevision", status.current_revision.as_str());
    put(&mut object, "updateRevision", status.update_revision.as_str());
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_read_like_minus_l() {
        let all = json!({"matchLabels": {"a": "b"}, "matchExpressions": [
            {"key": "c", "operator": "In", "values": ["x", "y"]},
            {"key": "d", "operator": "NotIn", "values": ["z"]},
            {"key": "e", "operator": "Exists"},
            {"key": "f", "operator": "DoesNotExist"},
        ]});
        assert_eq!(selector(&all), "a=b,c in (x,y),d notin (z),e,!f");
        assert_eq!(selector(&json!({})), "<none>");
    }
}
