//! ControllerRevisions: the versions of DaemonSets' templates that are kept.

use everynode_model::Selector;
use everynode_proto::convert::json::from_struct;
use everynode_proto::v1::{EventKind, GetRequest, ListRequest, ObjectMeta, Revision, WatchRequest};
use serde_json::{Value, json};
use tonic::Streaming;

use super::manifest::{head, put};
use super::{Column, Kind, Listed, Names, column};
use crate::age::age;
use crate::connect::Client;
use crate::error::Error;

/// The kind of revisions.
pub(crate) struct ControllerRevisions;

impl Kind for ControllerRevisions {
    type Object = Revision;
    type Event = Revision;

    const NAMES: Names = Names {
        kind: "ControllerRevision",
        api_version: "apps/v1",
        singular: "controllerrevision.apps",
        namespaced: true,
    };
    const COLUMNS: &'static [Column] =
        &[column("NAME"), column("CONTROLLER"), column("REVISION"), column("AGE")];

    fn metadata(object: &Revision) -> Option<&ObjectMeta> {
        object.metadata.as_ref()
    }

    fn metadata_mut(object: &mut Revision) -> Option<&mut ObjectMeta> {
        object.metadata.as_mut()
    }

    fn row(object: &Revision, now: i64) -> Vec<String> {
        vec![
            object.name.clone(),
            format!("daemonset.apps/{}", object.daemon_set),
            object.number.to_string(),
            age(object.creation_timestamp.as_ref(), now),
        ]
    }

    fn manifest(object: &Revision) -> Result<Value, Error> {
        let mut metadata = object.metadata.clone().unwrap_or_default();
        if !object.change_cause.is_empty() {
            let cause = object.change_cause.clone();
            metadata.annotations.insert("kubernetes.io/change-cause".into(), cause);
        }
        let mut manifest = head(&Self::NAMES, Some(&metadata));
        let owner = json!([{"apiVersion": "apps/v1", "kind": "DaemonSet",
                            "name": object.daemon_set, "controller": true}]);
        put_owner(&mut manifest, owner);
        let template = object.template.as_ref().map(from_struct).transpose()?;
        manifest.insert("data".into(), json!({"spec": {"template": template}}));
        put(&mut manifest, "revision", object.number);
        Ok(Value::Object(manifest))
    }

    async fn get(client: &Client, namespace: &str, name: &str) -> Result<Revision, Error> {
        let request = ListRequest { namespace: namespace.into(), ..ListRequest::default() };
        let found = Self::list(client, request).await?.items;
        let named = found.into_iter().find(|revision| revision.name == name);
        named.ok_or_else(|| super::not_found("controllerrevisions.apps", name))
    }

    async fn list(client: &Client, request: ListRequest) -> Result<Listed<Revision>, Error> {
        let selector: Selector = request
            .label_selector
            .parse()
            .map_err(|error| Error::Usage(format!("-l {:?}: {error}", request.label_selector)))?;
        let asked = GetRequest { namespace: request.namespace, name: String::new() };
        let list = client.answer(client.daemon_sets().revisions(client.request(asked))).await?;
        let wanted = |revision: &Revision| {
            let labels = revision.metadata.as_ref().map(|metadata| metadata.labels.clone());
            selector.matches(&labels.unwrap_or_default().into_iter().collect())
        };
        let items = list.items.into_iter().filter(wanted).collect();
        Ok(Listed { resource_version: String::new(), items })
    }

    async fn watch(_client: &Client, _request: WatchRequest) -> Result<Streaming<Revision>, Error> {
        Err(Error::Usage("controllerrevisions can't be watched: watch their daemonset".into()))
    }

    fn change(event: Revision) -> (EventKind, Option<Revision>) {
        (EventKind::Modified, Some(event))
    }
}

fn put_owner(manifest: &mut serde_json::Map<String, Value>, owner: Value) {
    if let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("ownerReferences".into(), owner);
    }
}
