//! `delete daemonset --cascade=foreground`: its pods are waited for, where their nodes can say so.

use std::collections::BTreeSet;

use everynode_proto::v1::{ListRequest, Pod, WatchRequest};

use crate::connect::Client;
use crate::context::Context;
use crate::error::Error;
use crate::kinds::{Kind as _, Nodes, Pods, name_of, pods_of};
use crate::out::Out;
use crate::watch::{Change, Watch};

/// The pods of the set that nodes have reported: asked for before it is deleted, since later another
/// may have its name.
pub(super) async fn pods(client: &Client, namespace: &str, set: &str) -> Result<Vec<Pod>, Error> {
    let mut pods = pods_of(client, namespace, set, None).await?;
    pods.retain(|pod| pod.status.is_some());
    Ok(pods)
}

/// Waits until all are gone from nodes that are connected; says which of the others will stop theirs
/// when they call.
pub(super) async fn wait(
    namespace: &str,
    pods: Vec<Pod>,
    context: &Context,
    client: &Client,
    out: &mut Out,
) -> Result<(), Error> {
    let nodes = Nodes::list(client, ListRequest::default()).await?.items;
    let connected: BTreeSet<&str> = nodes
        .iter()
        .filter(|node| node.connected)
        .map(|node| name_of(node.metadata.as_ref()))
        .collect();
    let (here, away): (Vec<Pod>, Vec<Pod>) =
        pods.into_iter().partition(|pod| connected.contains(pod.node_name.as_str()));
    for pod in away {
        let node = &pod.node_name;
        out.note(format!("node {node:?} is not connected: its pod is stopped when it next calls"));
    }
    let uid = |pod: &Pod| pod.metadata.as_ref().map(|metadata| metadata.uid.clone());
    let mut left: BTreeSet<String> = here.iter().filter_map(uid).collect();
    let mut seen = BTreeSet::new();
    let request = WatchRequest { namespace: namespace.into(), ..WatchRequest::default() };
    let mut watch = Watch::<Pods>::new(context, client.clone(), request, &[]);
    while !left.is_empty() {
        out.progress(format!("waiting until {} pods are stopped", left.len()));
        match watch.next().await? {
            Change::Put(pod) => seen.extend(uid(&pod)),
            Change::Gone(pod) => _ = uid(&pod).map(|uid| left.remove(&uid)),
            // What was not there when the watch began had gone before.
            Change::Complete => left.retain(|uid| seen.contains(uid)),
            Change::Lost(error) => out.note(format!("{error}; waiting for it to come back")),
        }
    }
    Ok(())
}
