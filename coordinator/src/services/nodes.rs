//! The service `Nodes`.

use std::collections::BTreeSet;

use everynode_coordinator_core::{
    Changed, Command, Fleet, NodeChange, NodeStanding, NodeView, Outcome,
};
use everynode_model::{
    Effect, NodeName, NodeUid, Now, Taint, WallTime, valid_label_value, valid_qualified_name,
};
use everynode_proto::v1::node_change::Change;
use everynode_proto::v1::nodes_server::Nodes;
use everynode_proto::v1::{self, EventKind};
use tonic::{Request, Response, Status};

use super::convert::node;
use super::filter::{Filter, given, meant};
use super::watch::{self, Gone, Watched};
use super::{Api, list, unexpected, usage};
use crate::sessions::Sessions;
use crate::status;

/// How many changes one call may make of a node: far more than any person writes on one line.
const MAX_CHANGES: usize = 256;

/// How many seconds a hold may last: a year. Longer than that is for ever, which can be said.
const LONGEST_HOLD: u64 = 366 * 24 * 60 * 60;

/// How long the reason for a hold or a stop may be: a line, as at the agent's.
const MAX_REASON: usize = 256;

#[tonic::async_trait]
impl Nodes for Api {
    type WatchStream = watch::Events<v1::NodeEvent>;
    type UsageStream = usage::Output;

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::Node>, Status> {
        let name = request.into_inner().name;
        let asked = name.clone();
        let (now, view) = self.read(move |fleet, now| (now, named(fleet, &asked))).await?;
        let view = view.ok_or_else(|| status::not_found("nodes", &name))?;
        Ok(Response::new(self.shown(&view, now)))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::NodeList>, Status> {
        // Nodes are in no namespace; one that is named means nothing, as in kubectl.
        let filter = Filter { namespace: None, ..Filter::of_list(request.get_ref())? };
        let (version, now, views) =
            self.read(|fleet, now| (fleet.version(), now, fleet.nodes())).await?;
        let all = views.iter().map(|view| self.shown(view, now));
        let wanted =
            |node: &v1::Node| node.metadata.as_ref().is_some_and(|meta| filter.wants(meta));
        let mut items: Vec<v1::Node> = all.filter(wanted).collect();
        items.sort_by(|one, other| name_of(one).cmp(name_of(other)));
        list(v1::NodeList { resource_version: version.to_string(), items })
    }

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = v1::WatchRequest { namespace: String::new(), ..request.into_inner() };
        let watched = AllNodes { sessions: self.parts.sessions.clone() };
        watch::watch(self, watched, &request).await.map(Response::new)
    }

    async fn usage(
        &self,
        request: Request<v1::UsageRequest>,
    ) -> Result<Response<Self::UsageStream>, Status> {
        usage::usage(self, request.into_inner()).await.map(Response::new)
    }

    async fn change(
        &self,
        request: Request<v1::ChangeNodeRequest>,
    ) -> Result<Response<v1::Node>, Status> {
        let v1::ChangeNodeRequest { name, changes, dry_run, allow_removal, names } =
            request.into_inner();
        if changes.len() > MAX_CHANGES {
            return Err(status::invalid("changes", format!("more than {MAX_CHANGES}")));
        }
        let now = self.parts.clock.now().wall;
        let changes: Vec<NodeChange> =
            changes.into_iter().map(|one| change(one, now)).collect::<Result<_, _>>()?;
        let command = |name: &str| {
            Ok::<_, Status>(Command::ChangeNode {
                name: node_name(name)?,
                changes: changes.clone(),
            })
        };
        let together = match names.as_slice() {
            [] => None,
            _ if !dry_run => return Err(status::invalid("names", "wants dry_run")),
            names => {
                let all = std::iter::once(&name).chain(names).map(|name| command(name));
                Some(self.foretold(all.collect::<Result<_, _>>()?, allow_removal).await?)
            }
        };
        let asked_for = changes.iter().all(is_asked_for);
        let done = self.careful(command(&name)?, allow_removal || asked_for, dry_run).await;
        let (outcome, effect) = done.map_err(|error| status::command(&error))?;
        let Outcome::Node(record) = outcome else { return Err(unexpected(&outcome)) };
        let uid = record.uid;
        let (now, view) = self.read(move |fleet, now| (now, fleet.node(uid))).await?;
        let mut view = view.ok_or_else(|| status::not_found("nodes", &name))?;
        view.record = (*record).into();
        let effect = Some(together.unwrap_or(effect));
        Ok(Response::new(v1::Node { effect, ..self.shown(&view, now) }))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteNodeRequest>,
    ) -> Result<Response<v1::DeleteNodeResponse>, Status> {
        let v1::DeleteNodeRequest { name, forget, uid, dry_run } = request.into_inner();
        let uid: Option<NodeUid> = meant("uid", &uid)?;
        let asked = name.clone();
        let find = move |fleet: &Fleet, now| (now, doomed(fleet, &asked, uid));
        let (now, view) = self.read(find).await?;
        let mut view = view.ok_or_else(|| status::not_found("nodes", &name))?;
        let uid = view.record.uid;
        let command = if forget { Command::ForgetNode { uid } } else { Command::Leave { uid } };
        let outcome = self.command(command, dry_run).await?;
        let Outcome::NodeLeaving { record, pods, connected } = outcome else {
            return Err(unexpected(&outcome));
        };
        view.record = (*record).into();
        Ok(Response::new(v1::DeleteNodeResponse {
            node: Some(self.shown(&view, now)),
            pods: pods.iter().map(Into::into).collect(),
            connected,
        }))
    }
}

impl Api {
    fn shown(&self, view: &NodeView, now: Now) -> v1::Node {
        node::message(view, self.parts.sessions.last_heard(view.record.uid), now)
    }
}

/// The node of that name: the one that belongs, else the one that was removed last.
fn named(fleet: &Fleet, name: &str) -> Option<NodeView> {
    let belongs = NodeName::new(name).ok().and_then(|name| fleet.node_by_name(&name));
    belongs.or_else(|| {
        let mut leaving = fleet.nodes();
        leaving.retain(|view| view.record.name.as_str() == name);
        leaving.into_iter().max_by_key(|view| match view.record.standing {
            NodeStanding::Leaving { since } => Some(since),
            NodeStanding::Active | NodeStanding::Removed { .. } => None,
        })
    })
}

/// The node that is to be removed: the one with that uid, if the caller names one.
fn doomed(fleet: &Fleet, name: &str, uid: Option<NodeUid>) -> Option<NodeView> {
    let Some(uid) = uid else { return named(fleet, name) };
    let fits = |view: &NodeView| name.is_empty() || view.record.name.as_str() == name;
    fleet.node(uid).filter(fits)
}

fn node_name(name: &str) -> Result<NodeName, Status> {
    // A name that can't be a node's is not found, as in kubectl.
    NodeName::new(name).map_err(|_| status::not_found("nodes", name))
}

fn name_of(node: &v1::Node) -> &str {
    node.metadata.as_ref().map_or("", |meta| &meta.name)
}

/// Whether the change says in so many words what becomes of pods.
const fn is_asked_for(change: &NodeChange) -> bool {
    matches!(
        change,
        NodeChange::Hold { .. } | NodeChange::Release | NodeChange::Stop { .. } | NodeChange::Start
    )
}

fn change(change: v1::NodeChange, now: WallTime) -> Result<NodeChange, Status> {
    let overwrite = change.overwrite;
    match change.change {
        Some(Change::SetLabel(v1::node_change::Label { key, value })) => {
            label_key(&key)?;
            if !valid_label_value(&value) {
                return Err(status::invalid("changes.set_label.value", bad_value(&value)));
            }
            Ok(NodeChange::SetLabel { key, value, overwrite })
        }
        Some(Change::RemoveLabel(key)) => {
            label_key(&key)?;
            Ok(NodeChange::RemoveLabel(key))
        }
        Some(Change::SetTaint(v1::Taint { key, value, effect })) => {
            let text = format!("{key}={value}:{effect}");
            let taint: Taint =
                text.parse().map_err(|error| status::invalid("changes.set_taint", error))?;
            Ok(NodeChange::SetTaint { taint, overwrite })
        }
        Some(Change::RemoveTaint(v1::Taint { key, effect, .. })) => {
            let effect = given(&effect).map(|effect| effect.parse::<Effect>()).transpose();
            let effect =
                effect.map_err(|error| status::invalid("changes.remove_taint.effect", error))?;
            Ok(NodeChange::RemoveTaint { key, effect })
        }
        Some(Change::Unschedulable(cordoned)) => Ok(NodeChange::SetUnschedulable(cordoned)),
        Some(Change::Hold(v1::node_change::Hold { seconds, reason })) => {
            if seconds > LONGEST_HOLD {
                return Err(status::invalid("changes.hold.seconds", "a hold lasts a year at most"));
            }
            // At most a year, so it fits.
            let millis = i64::try_from(seconds * 1000).unwrap_or(i64::MAX);
            let until = WallTime::from_unix_millis(now.unix_millis.saturating_add(millis));
            let until = (seconds > 0).then_some(until);
            Ok(NodeChange::Hold { until, reason: what_for("changes.hold.reason", reason)? })
        }
        Some(Change::Release(_)) => Ok(NodeChange::Release),
        Some(Change::Stop(v1::node_change::Stop { reason })) => {
            Ok(NodeChange::Stop { reason: what_for("changes.stop.reason", reason)? })
        }
        Some(Change::Start(_)) => Ok(NodeChange::Start),
        None => Err(status::invalid("changes", "a change says nothing that this version knows")),
    }
}

fn what_for(field: &str, reason: String) -> Result<String, Status> {
    if reason.len() > MAX_REASON || reason.chars().any(char::is_control) {
        let rule = format!("a reason is one line of at most {MAX_REASON} bytes");
        return Err(status::invalid(field, rule));
    }
    Ok(reason)
}

fn label_key(key: &str) -> Result<(), Status> {
    if valid_qualified_name(key) {
        return Ok(());
    }
    let rule = "a name of letters, digits, '-', '_' and '.', at most 63, with an optional DNS \
                prefix and '/' before it";
    Err(status::invalid("changes", format!("{key:?} is not a label's key: {rule}")))
}

fn bad_value(value: &str) -> String {
    format!("{value:?} is not a label's value: at most 63 letters, digits, '-', '_' and '.'")
}

#[derive(Clone)]
struct AllNodes {
    sessions: Sessions,
}

impl Watched for AllNodes {
    type Scope = NodeUid;
    type Object = v1::Node;
    type Event = v1::NodeEvent;
    type View = Vec<NodeView>;

    fn all(&self, fleet: &Fleet) -> Vec<NodeView> {
        fleet.nodes()
    }

    fn at(&self, fleet: &Fleet, scopes: &BTreeSet<NodeUid>) -> Vec<NodeView> {
        scopes.iter().filter_map(|uid| fleet.node(*uid)).collect()
    }

    fn objects(&self, views: Vec<NodeView>, now: Now) -> Vec<(NodeUid, v1::Node)> {
        let object = |view: NodeView| {
            let heard = self.sessions.last_heard(view.record.uid);
            (view.record.uid, node::message(&view, heard, now))
        };
        views.into_iter().map(object).collect()
    }

    fn scope(changed: &Changed) -> Option<NodeUid> {
        match changed {
            Changed::Node(uid) => Some(*uid),
            _ => None,
        }
    }

    fn gone(_changed: &Changed, present: &mut [v1::Node]) -> Gone<v1::Node> {
        if present.is_empty() { Gone::Unknown } else { Gone::Nothing }
    }

    fn meta(object: &mut v1::Node) -> &mut v1::ObjectMeta {
        object.metadata.get_or_insert_default()
    }

    fn event(kind: EventKind, object: v1::Node) -> v1::NodeEvent {
        v1::NodeEvent { kind: kind.into(), object: Some(object) }
    }
}
