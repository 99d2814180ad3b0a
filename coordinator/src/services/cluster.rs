//! The service `Cluster`.

use everynode_coordinator_core::{Command, Consequence, Fleet, Refusal, Why, WhyCount, WhyFilter};
use everynode_model::{Failure, NodeName, PodKey};
use everynode_proto::v1;
use everynode_proto::v1::cluster_server::Cluster;
use tonic::{Request, Response, Status};

use super::convert::timestamp;
use super::filter::{given, set_key};
use super::{Api, list};
use crate::status;

#[tonic::async_trait]
impl Cluster for Api {
    async fn info(
        &self,
        _request: Request<v1::InfoRequest>,
    ) -> Result<Response<v1::InfoResponse>, Status> {
        let cluster = &self.parts.cluster;
        Ok(Response::new(v1::InfoResponse {
            version: env!("CARGO_PKG_VERSION").into(),
            cluster_id: cluster.id.to_string(),
            term: cluster.term.0,
            addresses: self.parts.addresses.clone(),
        }))
    }

    async fn why(
        &self,
        request: Request<v1::WhyRequest>,
    ) -> Result<Response<v1::WhyResponse>, Status> {
        let v1::WhyRequest { node, namespace, daemon_set, counted, only_faults } =
            request.into_inner();
        let set = given(&daemon_set).map(|name| set_key(&namespace, &name)).transpose()?;
        let node = given(&node);
        let namespace = given(&namespace).filter(|_| set.is_none());
        let read = move |fleet: &Fleet, _| {
            let filter = why_filter(fleet, node.as_deref(), namespace, set)?;
            Ok::<_, Status>(match counted {
                true => (Vec::new(), fleet.why_counted(&filter)),
                false => (fleet.why(&filter), Vec::new()),
            })
        };
        let (lines, groups) = self.read(read).await??;
        let lines = lines.iter().filter(|line| !(only_faults && line.fine));
        let groups = groups.iter().filter(|group| !(only_faults && group.fine));
        list(v1::WhyResponse {
            lines: lines.map(line).collect(),
            groups: groups.map(group).collect(),
        })
    }

    async fn status(
        &self,
        _request: Request<v1::ClusterStatusRequest>,
    ) -> Result<Response<v1::ClusterStatus>, Status> {
        list(self.read(|fleet, _| status_of(fleet)).await?)
    }

    async fn resume(
        &self,
        request: Request<v1::ResumeRequest>,
    ) -> Result<Response<v1::ResumeResponse>, Status> {
        let v1::ResumeRequest { allow_removal, dry_run } = request.into_inner();
        let was_held = self.read(|fleet, _| fleet.hold().is_some()).await?;
        self.command(Command::Resume { allow_removal }, dry_run).await?;
        Ok(Response::new(v1::ResumeResponse { was_held }))
    }
}

fn status_of(fleet: &Fleet) -> v1::ClusterStatus {
    let cluster = fleet.cluster();
    let (nodes, not_called) = (fleet.active_nodes(), fleet.not_called());
    let mut consequences: Vec<v1::Consequence> =
        fleet.consequences().iter().map(consequence).collect();
    consequences.sort_by(|one, other| place(one).cmp(&place(other)));
    v1::ClusterStatus {
        cluster_id: cluster.id.to_string(),
        term: cluster.term.0,
        nodes: count(nodes),
        nodes_called: count(nodes.saturating_sub(not_called)),
        hold: fleet.hold().map(|hold| v1::Hold {
            since: Some(timestamp(hold.since)),
            copied_in_term: hold.copied_in.0,
        }),
        consequences,
    }
}

fn count(nodes: usize) -> u32 {
    u32::try_from(nodes).unwrap_or(u32::MAX)
}

fn place(found: &v1::Consequence) -> (&str, Option<(&str, &str)>) {
    let key = found.daemon_set.as_ref();
    (&found.node, key.map(|key| (key.namespace.as_str(), key.name.as_str())))
}

fn consequence(found: &Consequence) -> v1::Consequence {
    v1::Consequence {
        node: found.node.name.to_string(),
        daemon_set: Some((&found.key).into()),
        action: found.action.as_str().into(),
        reason: Some((&found.reason).into()),
    }
}

fn why_filter(
    fleet: &Fleet,
    node: Option<&str>,
    namespace: Option<String>,
    set: Option<PodKey>,
) -> Result<WhyFilter, Status> {
    let named = |name: &str| {
        let view = NodeName::new(name).ok().and_then(|name| fleet.node_by_name(&name));
        view.map(|view| view.record.uid).ok_or_else(|| status::not_found("nodes", name))
    };
    let node = node.map(named).transpose()?;
    if let Some(key) = set.as_ref().filter(|key| fleet.set(key).is_none()) {
        return Err(status::refused(&Refusal::SetNotFound(key.clone())));
    }
    Ok(WhyFilter { node, namespace, set })
}

fn group(count: &WhyCount) -> v1::WhyGroup {
    v1::WhyGroup {
        daemon_set: Some((&count.key).into()),
        fine: count.fine,
        reason: Some((&count.reason).into()),
        nodes: self::count(count.nodes),
        examples: count.examples.iter().map(ToString::to_string).collect(),
    }
}

fn line(why: &Why) -> v1::WhyLine {
    // The last exit is part of the line, so that one line says all.
    let mut reason = why.reason.clone();
    let failure = why.failure.as_ref();
    let exit = failure.map_or(why.last_exit, |failure| failure.exit);
    if let Some(exit) = exit.filter(|_| !why.fine) {
        let printed = failure.and_then(|failure| failure.log_tail.last_line());
        let printed = printed.map(|line| format!(": {}", line.trim())).unwrap_or_default();
        reason.message = format!("{} (last: {exit}{printed})", reason.message);
    }
    v1::WhyLine {
        node: why.node.name.to_string(),
        daemon_set: Some((&why.key).into()),
        fine: why.fine,
        reason: Some((&reason).into()),
        failure: why.failure.as_ref().map(with_last_line),
    }
}

/// A failure with the last line of what was printed.
fn with_last_line(failure: &Failure) -> v1::Failure {
    let last = failure.log_tail.last_line().unwrap_or_default().to_owned();
    v1::Failure { log_tail: last, ..failure.into() }
}
