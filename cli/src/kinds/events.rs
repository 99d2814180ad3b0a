//! Events.

use everynode_proto::v1::{Event, EventEvent, EventKind, ListRequest, ObjectMeta, WatchRequest};
use serde_json::{Value, json};
use tonic::Streaming;

use super::manifest::{head, put};
use super::{Column, Kind, Listed, Names, column, wide};
use crate::age::{age, rfc3339};
use crate::connect::Client;
use crate::error::Error;

/// The kind of events.
pub(crate) struct Events;

impl Kind for Events {
    type Object = Event;
    type Event = EventEvent;

    const NAMES: Names =
        Names { kind: "Event", api_version: "v1", singular: "event", namespaced: true };
    const COLUMNS: &'static [Column] = &[
        column("LAST SEEN"),
        column("TYPE"),
        column("REASON"),
        column("OBJECT"),
        column("MESSAGE"),
        wide("FIRST SEEN"),
        wide("COUNT"),
        wide("NAME"),
    ];

    fn metadata(object: &Event) -> Option<&ObjectMeta> {
        object.metadata.as_ref()
    }

    fn metadata_mut(object: &mut Event) -> Option<&mut ObjectMeta> {
        object.metadata.as_mut()
    }

    fn row(object: &Event, now: i64) -> Vec<String> {
        vec![
            age(object.last_timestamp.as_ref(), now),
            object.r#type.clone(),
            object.reason.clone(),
            format!("{}/{}", object.involved_kind.to_lowercase(), object.involved_name),
            object.message.trim().to_owned(),
            age(object.first_timestamp.as_ref(), now),
            object.count.to_string(),
            super::name_of(object.metadata.as_ref()).into(),
        ]
    }

    fn manifest(object: &Event) -> Result<Value, Error> {
        let mut manifest = head(&Self::NAMES, object.metadata.as_ref());
        let mut involved = serde_json::Map::new();
        put(&mut involved, "kind", object.involved_kind.as_str());
        put(&mut involved, "namespace", object.involved_namespace.as_str());
        put(&mut involved, "name", object.involved_name.as_str());
        put(&mut involved, "uid", object.involved_uid.as_str());
        manifest.insert("involvedObject".into(), Value::Object(involved));
        manifest.insert("type".into(), json!(object.r#type));
        manifest.insert("reason".into(), json!(object.reason));
        manifest.insert("message".into(), json!(object.message));
        manifest.insert("count".into(), json!(object.count));
        put(&mut manifest, "firstTimestamp", object.first_timestamp.as_ref().map(rfc3339));
        put(&mut manifest, "lastTimestamp", object.last_timestamp.as_ref().map(rfc3339));
        Ok(Value::Object(manifest))
    }

    async fn get(client: &Client, namespace: &str, name: &str) -> Result<Event, Error> {
        let request = ListRequest { namespace: namespace.into(), ..ListRequest::default() };
        let mut found = Self::list(client, request).await?.items.into_iter();
        let named = |event: &Event| super::name_of(event.metadata.as_ref()) == name;
        found.rfind(named).ok_or_else(|| super::not_found("events", name))
    }

    async fn list(client: &Client, request: ListRequest) -> Result<Listed<Event>, Error> {
        let list = client.answer(client.events().list(client.request(request))).await?;
        Ok(Listed { resource_version: list.resource_version, items: list.items })
    }

    async fn watch(client: &Client, request: WatchRequest) -> Result<Streaming<EventEvent>, Error> {
        client.stream(client.events().watch(request)).await
    }

    fn change(event: EventEvent) -> (EventKind, Option<Event>) {
        (event.kind(), event.object)
    }
}
