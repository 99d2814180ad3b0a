//! The service `Objects`: ConfigMaps, Secrets, Namespaces; and several objects at once.

use std::collections::BTreeSet;

use everynode_coordinator_core::{Changed, Command, Fleet, ObjectRecord, Outcome, Refusal};
use everynode_model::{Now, ObjectKey, ObjectKind};
use everynode_proto::error::refusal;
use everynode_proto::v1::objects_server::Objects;
use everynode_proto::v1::{self, EventKind};
use tonic::{Code, Request, Response, Status};

use super::convert::object;
use super::filter::{DEFAULT_NAMESPACE, Filter, meant};
use super::watch::{self, Gone, Watched};
use super::{Api, list, put, unexpected};
use crate::auth::is_admin;
use crate::status;

#[tonic::async_trait]
impl Objects for Api {
    type WatchStream = watch::Events<v1::ObjectEvent>;

    async fn put(
        &self,
        request: Request<v1::PutObjectsRequest>,
    ) -> Result<Response<v1::PutObjectsResponse>, Status> {
        put::put_all(self, request.into_inner()).await.map(Response::new)
    }

    async fn get(
        &self,
        request: Request<v1::GetObjectRequest>,
    ) -> Result<Response<v1::Object>, Status> {
        may_see(&request, request.get_ref().show_values)?;
        let v1::GetObjectRequest { kind, namespace, name, show_values } = request.into_inner();
        let key = key(&kind, &namespace, &name)?;
        let asked = key.clone();
        let record = self.read(move |fleet, _| fleet.object(&asked)).await?;
        let record = record.ok_or_else(|| status::refused(&Refusal::ObjectNotFound(key)))?;
        Ok(Response::new(object::message(&record, show_values)))
    }

    async fn list(
        &self,
        request: Request<v1::ListObjectsRequest>,
    ) -> Result<Response<v1::ObjectList>, Status> {
        may_see(&request, request.get_ref().show_values)?;
        let v1::ListObjectsRequest { kind, list: asked, show_values } = request.into_inner();
        let kind = kind_of(&kind)?;
        let filter = of_kind(kind, Filter::of_list(&asked.unwrap_or_default())?);
        let namespace = filter.namespace.clone();
        let read =
            move |fleet: &Fleet, _| (fleet.version(), fleet.objects(kind, namespace.as_deref()));
        let (version, records) = self.read(read).await?;
        let shown = records.iter().map(|record| object::message(record, show_values));
        let wanted =
            |object: &v1::Object| object.metadata.as_ref().is_some_and(|meta| filter.wants(meta));
        list(v1::ObjectList {
            resource_version: version.to_string(),
            items: shown.filter(wanted).collect(),
        })
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteObjectRequest>,
    ) -> Result<Response<v1::Object>, Status> {
        let v1::DeleteObjectRequest { kind, delete, allow_removal } = request.into_inner();
        let v1::DeleteRequest { namespace, name, uid, dry_run, .. } = delete.unwrap_or_default();
        let key = key(&kind, &namespace, &name)?;
        let uid = meant("delete.uid", &uid)?;
        let command = Command::DeleteObject { key: key.clone(), uid };
        let done = self.careful(command, allow_removal, dry_run).await;
        let (outcome, effect) = done.map_err(|error| status::command(&error))?;
        let Outcome::ObjectDeleted(record) = outcome else { return Err(unexpected(&outcome)) };
        let effect = Some(effect);
        Ok(Response::new(v1::Object { effect, ..object::message(&record, false) }))
    }

    async fn watch(
        &self,
        request: Request<v1::WatchObjectsRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let v1::WatchObjectsRequest { kind, watch } = request.into_inner();
        let kind = kind_of(&kind)?;
        let mut asked = watch.unwrap_or_default();
        if kind == ObjectKind::Namespace {
            asked.namespace.clear();
        }
        // Of which kind it is, is a part of the type: each watch looks at one.
        match kind {
            ObjectKind::ConfigMap => watch::watch(self, All::<0>, &asked).await,
            ObjectKind::Secret => watch::watch(self, All::<1>, &asked).await,
            ObjectKind::Namespace => watch::watch(self, All::<2>, &asked).await,
        }
        .map(Response::new)
    }
}

/// Whether the caller may see a Secret's values, where it asks for them.
fn may_see<T>(request: &Request<T>, show_values: bool) -> Result<(), Status> {
    if !show_values || is_admin(request) {
        return Ok(());
    }
    let message = "values of Secrets are shown to users with the role admin";
    Err(refusal(Code::PermissionDenied, "Forbidden", message))
}

fn kind_of(kind: &str) -> Result<ObjectKind, Status> {
    ObjectKind::parse(kind).ok_or_else(|| {
        status::invalid("kind", format!("{kind:?} is none of ConfigMap, Secret, Namespace"))
    })
}

fn key(kind: &str, namespace: &str, name: &str) -> Result<ObjectKey, Status> {
    let kind = kind_of(kind)?;
    let namespace = match (kind, namespace) {
        (ObjectKind::Namespace, _) => "",
        (_, "") => DEFAULT_NAMESPACE,
        (_, namespace) => namespace,
    };
    Ok(ObjectKey { kind, namespace: namespace.to_owned(), name: name.to_owned() })
}

/// Namespaces are in none; one that is named means nothing, as in kubectl.
fn of_kind(kind: ObjectKind, filter: Filter) -> Filter {
    match kind {
        ObjectKind::Namespace => Filter { namespace: None, ..filter },
        _ => filter,
    }
}

/// All objects of the kind with this place in [`ObjectKind::ALL`].
#[derive(Clone)]
struct All<const KIND: usize>;

impl<const KIND: usize> Watched for All<KIND> {
    type Scope = ObjectKey;
    type Object = v1::Object;
    type Event = v1::ObjectEvent;
    type View = Vec<ObjectRecord>;

    fn all(&self, fleet: &Fleet) -> Vec<ObjectRecord> {
        fleet.objects(ObjectKind::ALL[KIND], None)
    }

    fn at(&self, fleet: &Fleet, scopes: &BTreeSet<ObjectKey>) -> Vec<ObjectRecord> {
        scopes.iter().filter_map(|key| fleet.object(key)).collect()
    }

    fn objects(&self, records: Vec<ObjectRecord>, _now: Now) -> Vec<(ObjectKey, v1::Object)> {
        let shown = |record: ObjectRecord| (record.key.clone(), object::message(&record, false));
        records.into_iter().map(shown).collect()
    }

    fn scope(changed: &Changed) -> Option<ObjectKey> {
        match changed {
            Changed::Object(key) if key.kind == ObjectKind::ALL[KIND] => Some(key.clone()),
            _ => None,
        }
    }

    fn gone(changed: &Changed, present: &mut [v1::Object]) -> Gone<v1::Object> {
        match changed {
            // Which one it was, by its uid, is not kept; by its name it is.
            Changed::Object(key) if present.is_empty() => {
                let metadata = v1::ObjectMeta {
                    name: key.name.clone(),
                    namespace: key.namespace.clone(),
                    ..Default::default()
                };
                let (kind, metadata) = (key.kind.to_string(), Some(metadata));
                Gone::Object(v1::Object { kind, metadata, ..Default::default() })
            }
            _ => Gone::Nothing,
        }
    }

    fn meta(object: &mut v1::Object) -> &mut v1::ObjectMeta {
        object.metadata.get_or_insert_default()
    }

    fn event(kind: EventKind, object: v1::Object) -> v1::ObjectEvent {
        v1::ObjectEvent { kind: kind.into(), object: Some(object) }
    }
}
