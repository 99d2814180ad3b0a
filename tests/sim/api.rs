//! The operator's calls, and what it sends in them.

use everynode_proto::convert::json::to_struct;
use everynode_proto::v1;
use everynode_proto::v1::daemon_sets_client::DaemonSetsClient;
use everynode_proto::v1::nodes_client::NodesClient;
use everynode_proto::v1::pods_client::PodsClient;
use everynode_proto::v1::tokens_client::TokensClient;
use serde_json::{Value, json};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::operator::{Content, Wish};

const NAMESPACE: &str = "default";
/// What the annotations of a rollout begin with.
pub(crate) const ROLLOUT: &str = "rollout.everynode.dev/";

/// Asks for it once. Gives what there is to add.
pub(crate) async fn call(wish: &Wish, channel: Channel) -> Result<String, Status> {
    match wish {
        Wish::Apply(set, content) => {
            DaemonSetsClient::new(channel).apply(put(set, content)).await?;
        }
        Wish::Create(set, content) => {
            DaemonSetsClient::new(channel).create(put(set, content)).await?;
        }
        Wish::DeleteSet(set) => {
            let request = v1::DeleteRequest {
                namespace: NAMESPACE.into(),
                name: (*set).into(),
                ..Default::default()
            };
            DaemonSetsClient::new(channel).delete(request).await?;
        }
        Wish::DeletePod(set, node) => return delete_pod(set, node, channel).await,
        Wish::Label(node, tier) => {
            NodesClient::new(channel).change(label(node, tier)).await?;
        }
        Wish::DeleteNode { name, uid, forget } => {
            let request = v1::DeleteNodeRequest {
                name: name.clone(),
                forget: *forget,
                uid: uid.to_string(),
                dry_run: false,
            };
            NodesClient::new(channel).delete(request).await?;
        }
        Wish::Token(seat) => {
            let request = v1::CreateTokenRequest {
                uses: 1,
                node_name: seat.name.clone(),
                replace: true,
                ..Default::default()
            };
            let created = TokensClient::new(channel).create(request).await?.into_inner();
            let token = created.secret.parse();
            seat.give_token(token.map_err(|_| Status::internal("not a token"))?);
        }
    }
    Ok(String::new())
}

async fn delete_pod(set: &str, node: &str, channel: Channel) -> Result<String, Status> {
    let request = v1::ListRequest { namespace: NAMESPACE.into(), ..Default::default() };
    let pods = PodsClient::new(channel.clone()).list(request).await?.into_inner().items;
    let here = |pod: &&v1::Pod| {
        pod.node_name == node && pod.daemon_set.as_ref().is_some_and(|key| key.name == set)
    };
    let Some(meta) = pods.iter().find(here).and_then(|pod| pod.metadata.clone()) else {
        return Ok(": it is not there".into());
    };
    let request =
        v1::DeleteRequest { namespace: NAMESPACE.into(), name: meta.name, ..Default::default() };
    PodsClient::new(channel).delete(request).await?;
    Ok(String::new())
}

fn label(node: &str, tier: &str) -> v1::ChangeNodeRequest {
    use v1::node_change::{Change, Label};
    let set = Change::SetLabel(Label { key: "tier".into(), value: tier.into() });
    v1::ChangeNodeRequest {
        name: node.into(),
        changes: vec![v1::NodeChange { change: Some(set), overwrite: true }],
        // What comes of it is what is tried here, not whether it was meant.
        allow_removal: true,
        ..Default::default()
    }
}

fn put(name: &str, content: &Content) -> v1::PutDaemonSetRequest {
    let command = |part: &str| {
        json!({
            "name": part,
            "command": ["/bin/serve", format!("--version={}", content.version)],
        })
    };
    // One of the sets has two containers a pod.
    let parts: &[&str] = if name == "pair" { &["one", "other"] } else { &["main"] };
    let containers: Vec<Value> = parts.iter().map(|part| command(part)).collect();
    let selector = content.tier.map_or_else(|| json!({}), |tier| json!({ "tier": tier }));
    let most = content.care.at_a_time();
    let (max_surge, max_unavailable) = if content.surge { (most, "0%") } else { ("0%", most) };
    let rolling = json!({ "maxSurge": max_surge, "maxUnavailable": max_unavailable });
    let spec = json!({
        "updateStrategy": { "rollingUpdate": rolling },
        "selector": { "matchLabels": { "app": name } },
        // There is no probe: what fails at once is never available.
        "minReadySeconds": 1,
        "template": {
            "metadata": { "labels": { "app": name } },
            "spec": {
                "runtimeClassName": "process",
                "hostNetwork": true,
                "terminationGracePeriodSeconds": 2,
                "nodeSelector": selector,
                "containers": containers,
            },
        },
    });
    let annotations = content.care.annotations().iter();
    let annotations = annotations.map(|(key, value)| (format!("{ROLLOUT}{key}"), (*value).into()));
    let metadata = v1::ObjectMeta {
        name: name.into(),
        namespace: NAMESPACE.into(),
        annotations: annotations.collect(),
        ..Default::default()
    };
    let spec = spec.as_object().map(to_struct);
    let daemon_set = v1::DaemonSet { metadata: Some(metadata), spec, ..Default::default() };
    let daemon_set = Some(daemon_set);
    v1::PutDaemonSetRequest { daemon_set, allow_removal: true, ..Default::default() }
}

/// Whether it certainly had no effect. Everything else leaves that open.
pub(crate) fn is_refusal(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::AlreadyExists
            | Code::NotFound
            | Code::InvalidArgument
            | Code::PermissionDenied
            | Code::Unauthenticated
    )
}
