//! The service `Pods`.

use std::collections::BTreeSet;
use std::slice;

use everynode_coordinator_core::{Changed, Command, Fleet, Outcome, PodFilter, PodView, Refusal};
use everynode_model::{NodeName, NodeUid, Now, PodKey};
use everynode_proto::v1::pods_server::Pods;
use everynode_proto::v1::{self, EventKind};
use tonic::{Request, Response, Status, Streaming};

use super::convert::pod::{self, Templates};
use super::filter::{Filter, given, or_default};
use super::watch::{self, Gone, Watched};
use super::{Api, exec, list, logs, stream, unexpected};
use crate::{auth, status};

#[tonic::async_trait]
impl Pods for Api {
    type WatchStream = watch::Events<v1::PodEvent>;
    type LogsStream = stream::Output;
    type ExecStream = stream::Output;

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::Pod>, Status> {
        let v1::GetRequest { namespace, name } = request.into_inner();
        named(self, namespace, name).await.map(|(_, pod)| Response::new(pod))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::PodList>, Status> {
        let filter = Filter::of_list(request.get_ref())?;
        let (namespace, node) = (filter.namespace.clone(), given(&request.get_ref().field));
        let whole = request.get_ref().log_tails;
        let read = move |fleet: &Fleet, _| {
            let pods = pods_on(fleet, namespace, node.as_deref());
            let templates = pod::templates(fleet, &pods);
            (fleet.version(), pods, templates)
        };
        let (version, views, templates) = self.read(read).await?;
        let (specs, numbers) = match request.get_ref().specs {
            true => pod::specs(&views, &templates),
            false => Default::default(),
        };
        let all = views.iter().map(|view| {
            let spec_number = numbers.get(&(view.set, view.revision)).copied().unwrap_or_default();
            v1::Pod { spec_number, ..pod::message(view, &templates) }
        });
        let all = all.map(|pod| if whole { pod } else { pod::short(pod) });
        let wanted = |pod: &v1::Pod| pod.metadata.as_ref().is_some_and(|meta| filter.wants(meta));
        let mut items: Vec<v1::Pod> = all.filter(wanted).collect();
        items.sort_by(|one, other| place_of(one).cmp(&place_of(other)));
        list(v1::PodList { resource_version: version.to_string(), items, specs })
    }

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        watch::watch(self, AllPods, request.get_ref()).await.map(Response::new)
    }

    async fn logs(
        &self,
        request: Request<Streaming<v1::LogsInput>>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        let user = auth::user_of(&request);
        logs::logs(self, user, request.into_inner()).await.map(Response::new)
    }

    async fn exec(
        &self,
        request: Request<Streaming<v1::ExecInput>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        let user = auth::user_of(&request);
        exec::exec(self, user, request.into_inner()).await.map(Response::new)
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::Pod>, Status> {
        let v1::DeleteRequest { namespace, name, uid, dry_run, .. } = request.into_inner();
        let (view, pod) = named(self, namespace, name).await?;
        let present = pod.metadata.as_ref().map_or("", |meta| &meta.uid);
        if !uid.is_empty() && uid != present {
            return Err(status::refused(&Refusal::Conflict {
                what: format!("pods {:?}", view.name),
                detail: "it has another uid than the one to be deleted".into(),
            }));
        }
        let command = Command::ReplacePod { node: view.node.uid, key: view.key };
        match self.command(command, dry_run).await? {
            Outcome::Done => Ok(Response::new(pod)),
            other => Err(unexpected(&other)),
        }
    }
}

async fn named(api: &Api, namespace: String, name: String) -> Result<(PodView, v1::Pod), Status> {
    let template =
        |fleet: &Fleet, view: &PodView, _| Some(pod::templates(fleet, slice::from_ref(view)));
    let (view, templates) = find(api, namespace, name, template).await?;
    let spec = pod::spec(&view, &templates);
    let pod = v1::Pod { spec, ..pod::message(&view, &templates) };
    Ok((view, pod))
}

/// The pod of that name, with what else is known of it then.
pub(super) async fn find<T: Send + 'static>(
    api: &Api,
    namespace: String,
    name: String,
    more: impl FnOnce(&Fleet, &PodView, Now) -> Option<T> + Send + 'static,
) -> Result<(PodView, T), Status> {
    let asked = name.clone();
    let read = move |fleet: &Fleet, now| {
        let view = fleet.pod(or_default(&namespace), &asked)?;
        let more = more(fleet, &view, now)?;
        Some((view, more))
    };
    api.read(read).await?.ok_or_else(|| status::not_found("pods", &name))
}

/// The pods on the node of that name, or on all; none on a node that is not there, as in kubectl.
fn pods_on(fleet: &Fleet, namespace: Option<String>, node: Option<&str>) -> Vec<PodView> {
    let Some(node) = node else {
        return fleet.pods(&PodFilter { namespace, ..PodFilter::default() });
    };
    let name = NodeName::new(node).ok();
    let belongs = name.as_ref().and_then(|name| fleet.node_by_name(name));
    let Some(view) = belongs else { return Vec::new() };
    fleet.pods(&PodFilter { namespace, node: Some(view.record.uid), set: None })
}

fn place_of(pod: &v1::Pod) -> (&str, &str) {
    pod.metadata.as_ref().map_or(("", ""), |meta| (&meta.namespace, &meta.name))
}

#[derive(Clone)]
struct AllPods;

impl Watched for AllPods {
    type Scope = (NodeUid, PodKey);
    type Object = v1::Pod;
    type Event = v1::PodEvent;
    type View = (Vec<PodView>, Templates);

    fn all(&self, fleet: &Fleet) -> Self::View {
        let pods = fleet.pods(&PodFilter::default());
        let templates = pod::templates(fleet, &pods);
        (pods, templates)
    }

    fn at(&self, fleet: &Fleet, scopes: &BTreeSet<Self::Scope>) -> Self::View {
        let place = |(node, key): &Self::Scope| fleet.place(*node, key);
        let pods: Vec<PodView> = scopes.iter().flat_map(place).collect();
        let templates = pod::templates(fleet, &pods);
        (pods, templates)
    }

    fn objects(&self, (pods, templates): Self::View, _now: Now) -> Vec<(Self::Scope, v1::Pod)> {
        let object = |view: PodView| {
            ((view.node.uid, view.key.clone()), pod::short(pod::message(&view, &templates)))
        };
        pods.into_iter().map(object).collect()
    }

    fn scope(changed: &Changed) -> Option<Self::Scope> {
        match changed {
            Changed::Pod(node, key) => Some((*node, key.clone())),
            _ => None,
        }
    }

    fn gone(_changed: &Changed, _present: &mut [v1::Pod]) -> Gone<v1::Pod> {
        // A pod may have been replaced by another, whose name says nothing of the first.
        Gone::Unknown
    }

    fn meta(object: &mut v1::Pod) -> &mut v1::ObjectMeta {
        object.metadata.get_or_insert_default()
    }

    fn event(kind: EventKind, object: v1::Pod) -> v1::PodEvent {
        v1::PodEvent { kind: kind.into(), object: Some(object) }
    }
}
