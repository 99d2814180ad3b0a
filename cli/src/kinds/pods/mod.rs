//! Pods.

mod row;
mod status;

use everynode_proto::convert::json::from_struct;
use everynode_proto::v1::{
    EventKind, GetRequest, ListRequest, ObjectMeta, Pod, PodEvent, PodList, WatchRequest,
};
use serde_json::{Map, Value, json};
use tonic::Streaming;

pub(crate) use self::row::{is_main, ready_of, restarts, standing};
pub(crate) use self::status::{conditions as pod_conditions, container_json};
use super::manifest::{head, put};
use super::template::running_pids;
use super::{Column, Kind, Listed, Names, column, wide};
use crate::age::age;
use crate::connect::Client;
use crate::error::Error;

/// The kind of pods.
pub(crate) struct Pods;

impl Kind for Pods {
    type Object = Pod;
    type Event = PodEvent;

    const NAMES: Names =
        Names { kind: "Pod", api_version: "v1", singular: "pod", namespaced: true };
    const COLUMNS: &'static [Column] = &[
        column("NAME"),
        column("READY"),
        column("STATUS"),
        column("RESTARTS"),
        column("AGE"),
        wide("NODE"),
        wide("REVISION"),
        wide("PID"),
    ];

    fn metadata(object: &Pod) -> Option<&ObjectMeta> {
        object.metadata.as_ref()
    }

    fn metadata_mut(object: &mut Pod) -> Option<&mut ObjectMeta> {
        object.metadata.as_mut()
    }

    fn row(object: &Pod, now: i64) -> Vec<String> {
        let metadata = object.metadata.as_ref();
        let created = metadata.and_then(|metadata| metadata.creation_timestamp.as_ref());
        let pids: Vec<String> =
            running_pids(object.status.as_ref()).iter().map(u32::to_string).collect();
        vec![
            super::name_of(metadata).into(),
            ready_of(object),
            standing(object).to_string(),
            restarts(object, now),
            age(created, now),
            or_none(&object.node_name),
            or_none(&object.revision),
            or_none(&pids.join(",")),
        ]
    }

    fn manifest(object: &Pod) -> Result<Value, Error> {
        let mut manifest = head(&Self::NAMES, object.metadata.as_ref());
        if let Some(owner) = owner(object) {
            manifest["metadata"]["ownerReferences"] = json!([owner]);
        }
        let mut spec = spec_of(object)?;
        put(&mut spec, "nodeName", object.node_name.as_str());
        manifest.insert("status".into(), status::status(object, &spec));
        manifest.insert("spec".into(), Value::Object(spec));
        Ok(Value::Object(manifest))
    }

    async fn get(client: &Client, namespace: &str, name: &str) -> Result<Pod, Error> {
        let request = GetRequest { namespace: namespace.into(), name: name.into() };
        client.answer(client.pods().get(client.request(request))).await
    }

    async fn list(client: &Client, request: ListRequest) -> Result<Listed<Pod>, Error> {
        let list = client.answer(client.pods().list(client.request(request))).await?;
        Ok(Listed { resource_version: list.resource_version.clone(), items: with_specs(list) })
    }

    async fn watch(client: &Client, request: WatchRequest) -> Result<Streaming<PodEvent>, Error> {
        client.stream(client.pods().watch(request)).await
    }

    fn change(event: PodEvent) -> (EventKind, Option<Pod>) {
        (event.kind(), event.object)
    }
}

/// The pods of a DaemonSet; on one node, where that is named.
pub(crate) async fn pods_of(
    client: &Client,
    namespace: &str,
    set: &str,
    node: Option<&str>,
) -> Result<Vec<Pod>, Error> {
    let request = ListRequest {
        namespace: namespace.into(),
        field: node.unwrap_or_default().into(),
        ..ListRequest::default()
    };
    let mut pods = Pods::list(client, request).await?.items;
    pods.retain(|pod| pod.daemon_set.as_ref().is_some_and(|key| key.name == set));
    Ok(pods)
}

/// What its template says; empty where nobody has said.
pub(crate) fn spec_of(pod: &Pod) -> Result<Map<String, Value>, Error> {
    let spec = pod.spec.as_ref().map(from_struct).transpose();
    Ok(spec.map_err(|error| error.within("spec"))?.unwrap_or_default())
}

/// The pods of a list, each with its spec.
fn with_specs(PodList { mut items, specs, .. }: PodList) -> Vec<Pod> {
    for pod in &mut items {
        let number = usize::try_from(pod.spec_number).unwrap_or_default();
        pod.spec = number.checked_sub(1).and_then(|number| specs.get(number).cloned());
    }
    items
}

fn owner(pod: &Pod) -> Option<Value> {
    let (set, status) = (pod.daemon_set.as_ref()?, pod.status.as_ref()?);
    Some(json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "name": set.name, "uid": status.set_uid,
        "controller": true, "blockOwnerDeletion": true,
    }))
}

fn or_none(text: &str) -> String {
    if text.is_empty() { "<none>".into() } else { text.into() }
}
