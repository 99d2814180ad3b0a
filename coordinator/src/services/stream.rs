//! A stream from a node: what logs, programs and figures have in common.

use std::time::Duration;

use everynode_coordinator_core::{NodeView, PodView, Readiness};
use everynode_model::{EXEC_FEATURE, LOGS_FEATURE, Now, USAGE_FEATURE};
use everynode_proto::error::refusal;
use everynode_proto::v1;
use everynode_proto::v1::node_input::Message as ToNode;
use everynode_proto::v1::open_stream::What;
use futures_util::stream::BoxStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::Api;
use crate::streams::{Caller, NodeEnd, Place, QUEUE, Relay};

/// How long an agent may take to attach, by the contract.
const ATTACH: Duration = Duration::from_secs(10);

/// How long a caller may take to say what it wants.
pub(super) const FIRST: Duration = Duration::from_secs(10);

/// What the caller of a stream receives.
pub(super) type Output = ReceiverStream<Result<v1::PodOutput, Status>>;

/// A stream to open.
pub(super) struct Wanted {
    pub(super) pod: PodView,
    /// That the pod is on.
    pub(super) node: NodeView,
    pub(super) now: Now,
    pub(super) container: String,
    pub(super) what: What,
    /// Who asked.
    pub(super) user: String,
}

/// Opens a stream between the caller and the node. The relay is to be run.
pub(super) async fn open(
    api: &Api,
    wanted: Wanted,
    input: BoxStream<'static, Result<ToNode, Status>>,
) -> Result<(Relay, Output), Status> {
    let Wanted { pod, node, now, container, what, user } = wanted;
    let pod_uid = pod.status.as_ref().map(|status| status.uid.to_string()).unwrap_or_default();
    let about = v1::OpenStream {
        namespace: pod.key.namespace().into(),
        name: pod.key.name().into(),
        pod_uid,
        container,
        user,
        ..Default::default()
    };
    let (place, end) = attach(api, &node, now, (what, None), about).await?;
    let (output, messages) = mpsc::channel(QUEUE);
    let caller = Caller { input, output };
    let node_name = node.record.name.to_string();
    let closing = api.parts.closing.clone();
    let relay = Relay { caller, node: end, node_name, place, closing };
    Ok((relay, ReceiverStream::new(messages)))
}

/// Asks the node for a stream, and waits until it has it; `about` says of which pod and for whom. Who has
/// a turn `among` others already, takes none of those for people.
pub(super) async fn attach(
    api: &Api,
    node: &NodeView,
    now: Now,
    (what, among): (What, Option<OwnedSemaphorePermit>),
    about: v1::OpenStream,
) -> Result<(Place, NodeEnd), Status> {
    let (uid, sessions) = (node.record.uid, &api.parts.sessions);
    let session = sessions.nonce(uid).ok_or_else(|| not_connected(node, now))?;
    let (hello, feature) = (node.hello.as_ref(), feature(&what));
    if !hello.is_some_and(|hello| hello.features.contains(feature)) {
        return Err(not_supported(node.record.name.as_str(), feature));
    }
    let (place, attaching) = match among {
        Some(among) => api.parts.streams.wait_among(among, uid, session)?,
        None => api.parts.streams.wait(uid, session)?,
    };
    let message = v1::OpenStream { number: place.number(), what: Some(what), ..about };
    if !sessions.open_stream(uid, session, message) {
        return Err(not_connected(node, now));
    }
    match tokio::time::timeout(ATTACH, attaching).await {
        Ok(Ok(end)) => Ok((place, end)),
        Ok(Err(_)) | Err(_) => Err(not_attached(api, node, now)),
    }
}

/// What an agent that can do it has announced.
const fn feature(what: &What) -> &'static str {
    match what {
        What::Logs(_) => LOGS_FEATURE,
        What::Exec(_) => EXEC_FEATURE,
        What::Usage(_) => USAGE_FEATURE,
    }
}

pub(super) fn not_connected(node: &NodeView, now: Now) -> Status {
    let seen = match node.readiness {
        Readiness::Lost { since: Some(since) } => {
            let ago = Duration::from_secs(now.steady.since(since).as_secs());
            format!("last seen {} ago", humantime::format_duration(ago))
        }
        Readiness::Ready => "last seen a moment ago".into(),
        Readiness::Lost { since: None } | Readiness::Unknown => {
            "not seen since this coordinator was started".into()
        }
    };
    let message = format!("node {:?} is not connected ({seen})", node.record.name.as_str());
    refusal(Code::FailedPrecondition, "NodeNotConnected", message)
}

fn not_supported(node: &str, feature: &str) -> Status {
    let message =
        format!("the agent of node {node:?} can't do it ({feature}): it is of an older version");
    refusal(Code::FailedPrecondition, "NotSupported", message)
}

fn not_attached(api: &Api, node: &NodeView, now: Now) -> Status {
    if api.parts.sessions.nonce(node.record.uid).is_none() {
        return not_connected(node, now);
    }
    let message = format!(
        "the agent of node {:?} has a session and opened no stream within {} s: its log says why",
        node.record.name.as_str(),
        ATTACH.as_secs(),
    );
    refusal(Code::FailedPrecondition, "NotAttached", message)
}
