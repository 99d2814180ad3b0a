//! The service `Events`.

use std::collections::BTreeSet;

use everynode_coordinator_core::{Changed, EventRecord, Fleet};
use everynode_model::Now;
use everynode_proto::v1::events_server::Events;
use everynode_proto::v1::{self, EventKind};
use tonic::{Request, Response, Status};

use super::convert::event;
use super::filter::{Filter, given};
use super::watch::{self, Gone, Watched};
use super::{Api, list};
use crate::status;

#[tonic::async_trait]
impl Events for Api {
    type WatchStream = watch::Events<v1::EventEvent>;

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::EventList>, Status> {
        let filter = Filter::of_list(request.get_ref())?;
        let about = given(&request.get_ref().field).map(|field| about(&field)).transpose()?;
        let (version, records) = self.read(|fleet, _| (fleet.version(), all(fleet))).await?;
        let wanted = |event: &v1::Event| {
            event.metadata.as_ref().is_some_and(|meta| filter.wants(meta))
                && about.as_ref().is_none_or(|(kind, name)| {
                    (kind, name) == (&event.involved_kind, &event.involved_name)
                })
        };
        list(v1::EventList {
            resource_version: version.to_string(),
            items: records.iter().map(event::message).filter(wanted).collect(),
        })
    }

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        watch::watch(self, AllEvents, request.get_ref()).await.map(Response::new)
    }
}

fn all(fleet: &Fleet) -> Vec<EventRecord> {
    fleet.events().cloned().collect()
}

/// `Kind/name`, taken apart.
fn about(field: &str) -> Result<(String, String), Status> {
    let (kind, name) = field
        .split_once('/')
        .ok_or_else(|| status::invalid("field", format!("{field:?} is not Kind/name")))?;
    Ok((kind.to_owned(), name.to_owned()))
}

#[derive(Clone)]
struct AllEvents;

impl Watched for AllEvents {
    type Scope = u64;
    type Object = v1::Event;
    type Event = v1::EventEvent;
    type View = Vec<EventRecord>;

    fn all(&self, fleet: &Fleet) -> Vec<EventRecord> {
        all(fleet)
    }

    fn at(&self, fleet: &Fleet, scopes: &BTreeSet<u64>) -> Vec<EventRecord> {
        fleet.events().filter(|event| scopes.contains(&event.sequence)).cloned().collect()
    }

    fn objects(&self, records: Vec<EventRecord>, _now: Now) -> Vec<(u64, v1::Event)> {
        records.iter().map(|record| (record.sequence, event::message(record))).collect()
    }

    fn scope(changed: &Changed) -> Option<u64> {
        match changed {
            Changed::Event(sequence) => Some(*sequence),
            _ => None,
        }
    }

    fn gone(_changed: &Changed, _present: &mut [v1::Event]) -> Gone<v1::Event> {
        // An event that fell out of the ring is missed by nobody.
        Gone::Nothing
    }

    fn meta(object: &mut v1::Event) -> &mut v1::ObjectMeta {
        object.metadata.get_or_insert_default()
    }

    fn event(kind: EventKind, object: v1::Event) -> v1::EventEvent {
        v1::EventEvent { kind: kind.into(), object: Some(object) }
    }
}
