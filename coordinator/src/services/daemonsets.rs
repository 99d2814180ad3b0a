//! The service `DaemonSets`.

use std::collections::BTreeSet;

use everynode_coordinator_core::{Changed, Command, Fleet, Outcome, PutMode, Refusal, SetView};
use everynode_model::{DaemonSet, Now, PodKey};
use everynode_proto::v1::daemon_sets_server::DaemonSets;
use everynode_proto::v1::{self, EventKind};
use tonic::{Request, Response, Status};

use super::convert::set;
use super::filter::{Filter, given, meant, set_key};
use super::watch::{self, Gone, Watched};
use super::{Api, list, put, undo, unexpected};
use crate::status;

#[tonic::async_trait]
impl DaemonSets for Api {
    type WatchStream = watch::Events<v1::DaemonSetEvent>;

    async fn create(
        &self,
        request: Request<v1::PutDaemonSetRequest>,
    ) -> Result<Response<v1::PutDaemonSetResponse>, Status> {
        put::put(self, PutMode::Create, request.into_inner()).await.map(Response::new)
    }

    async fn apply(
        &self,
        request: Request<v1::PutDaemonSetRequest>,
    ) -> Result<Response<v1::PutDaemonSetResponse>, Status> {
        put::put(self, PutMode::Apply, request.into_inner()).await.map(Response::new)
    }

    async fn replace(
        &self,
        request: Request<v1::PutDaemonSetRequest>,
    ) -> Result<Response<v1::PutDaemonSetResponse>, Status> {
        put::put(self, PutMode::Replace, request.into_inner()).await.map(Response::new)
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::DaemonSet>, Status> {
        let v1::GetRequest { namespace, name } = request.into_inner();
        let view = named(self, set_key(&namespace, &name)?).await?;
        Ok(Response::new(set::message(&view)))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::DaemonSetList>, Status> {
        let filter = Filter::of_list(request.get_ref())?;
        let namespace = filter.namespace.clone();
        let read = move |fleet: &Fleet, _| (fleet.version(), fleet.sets(namespace.as_deref()));
        let (version, views) = self.read(read).await?;
        let wanted = |object: &v1::DaemonSet| {
            object.metadata.as_ref().is_some_and(|meta| filter.wants(meta))
        };
        list(v1::DaemonSetList {
            resource_version: version.to_string(),
            items: views.iter().map(set::message).filter(wanted).collect(),
        })
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DaemonSet>, Status> {
        let v1::DeleteRequest { namespace, name, uid, dry_run, names, orphan } =
            request.into_inner();
        let uid = meant("uid", &uid)?;
        let command = |name: &str, uid| {
            let key = set_key(&namespace, name)?;
            Ok::<_, Status>(match orphan {
                true => Command::OrphanSet { key, uid },
                false => Command::DeleteSet { key, uid },
            })
        };
        let first = command(&name, uid)?;
        let together = match names.as_slice() {
            [] => None,
            _ if !dry_run => return Err(status::invalid("names", "wants dry_run")),
            names => {
                let others = names.iter().map(|name| command(name, None));
                let all = std::iter::once(Ok(first.clone())).chain(others);
                Some(self.foretold(all.collect::<Result<_, _>>()?, false).await?)
            }
        };
        // One that is deleted by its name was meant.
        let done = self.careful(first, true, dry_run).await;
        let (outcome, effect) = done.map_err(|error| status::command(&error))?;
        let Outcome::SetDeleted(record) = outcome else { return Err(unexpected(&outcome)) };
        let effect = Some(together.unwrap_or(effect));
        Ok(Response::new(v1::DaemonSet { effect, ..set::stored(&record) }))
    }

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        watch::watch(self, Sets, request.get_ref()).await.map(Response::new)
    }

    async fn revisions(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::RevisionList>, Status> {
        let v1::GetRequest { namespace, name } = request.into_inner();
        let views = match name.as_str() {
            "" => {
                let namespace = given(&namespace);
                self.read(move |fleet, _| fleet.sets(namespace.as_deref())).await?
            }
            name => vec![named(self, set_key(&namespace, name)?).await?],
        };
        let sets: Vec<_> = views.iter().map(|view| view.record.set.clone()).collect();
        let read = move |fleet: &Fleet, _| {
            let of = |set: DaemonSet| (fleet.revisions(set.uid), set.key);
            sets.into_iter().map(of).collect::<Vec<_>>()
        };
        let found = self.read(read).await?;
        let shown = found
            .iter()
            .flat_map(|(revisions, key)| revisions.iter().map(|record| set::revision(key, record)));
        list(v1::RevisionList { items: shown.collect() })
    }

    async fn undo(
        &self,
        request: Request<v1::UndoRequest>,
    ) -> Result<Response<v1::PutDaemonSetResponse>, Status> {
        undo::undo(self, request.into_inner()).await.map(Response::new)
    }
}

async fn named(api: &Api, key: PodKey) -> Result<SetView, Status> {
    let asked = key.clone();
    let view = api.read(move |fleet, _| fleet.set(&asked)).await?;
    view.ok_or_else(|| status::refused(&Refusal::SetNotFound(key)))
}

#[derive(Clone)]
struct Sets;

impl Watched for Sets {
    type Scope = PodKey;
    type Object = v1::DaemonSet;
    type Event = v1::DaemonSetEvent;
    type View = Vec<SetView>;

    fn all(&self, fleet: &Fleet) -> Vec<SetView> {
        fleet.sets(None)
    }

    fn at(&self, fleet: &Fleet, scopes: &BTreeSet<PodKey>) -> Vec<SetView> {
        scopes.iter().filter_map(|key| fleet.set(key)).collect()
    }

    fn objects(&self, views: Vec<SetView>, _now: Now) -> Vec<(PodKey, v1::DaemonSet)> {
        let object = |view: SetView| (view.record.set.key.clone(), set::message(&view));
        views.into_iter().map(object).collect()
    }

    fn scope(changed: &Changed) -> Option<PodKey> {
        match changed {
            Changed::Set(key, _) => Some(key.clone()),
            _ => None,
        }
    }

    fn gone(changed: &Changed, present: &mut [v1::DaemonSet]) -> Gone<v1::DaemonSet> {
        let Changed::Set(key, uid) = changed else { return Gone::Nothing };
        let uid = uid.to_string();
        if present.iter_mut().any(|object| Self::meta(object).uid == uid) {
            return Gone::Nothing;
        }
        let metadata = v1::ObjectMeta {
            name: key.name().into(),
            namespace: key.namespace().into(),
            uid,
            ..Default::default()
        };
        Gone::Object(v1::DaemonSet { metadata: Some(metadata), ..Default::default() })
    }

    fn meta(object: &mut v1::DaemonSet) -> &mut v1::ObjectMeta {
        object.metadata.get_or_insert_default()
    }

    fn event(kind: EventKind, object: v1::DaemonSet) -> v1::DaemonSetEvent {
        v1::DaemonSetEvent { kind: kind.into(), object: Some(object) }
    }
}
