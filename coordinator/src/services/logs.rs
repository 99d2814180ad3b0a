//! `Pods.Logs`: from a pod's name to a stream from its node.

use std::time::Duration;

use everynode_coordinator_core::{Fleet, NodeView, PodView, Readiness};
use everynode_model::{ContainerState, ContainerStatus, LOGS_FEATURE, Now, Role};
use everynode_proto::error::{Invalid, refusal};
use everynode_proto::v1;
use everynode_proto::v1::logs_input::Message;
use everynode_proto::v1::node_input::Message as ToNode;
use everynode_proto::v1::open_stream::What;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::Api;
use super::pods::find;
use crate::first::first;
use crate::streams::{Caller, QUEUE, Relay};

/// How long an agent may take to attach, by the contract.
const ATTACH: Duration = Duration::from_secs(10);

/// How long a caller may take to say what it wants.
const FIRST: Duration = Duration::from_secs(10);

/// What the caller of a stream receives.
pub(super) type Output = ReceiverStream<Result<v1::PodOutput, Status>>;

/// A pod, and the node that it is on.
struct Found {
    pod: PodView,
    node: NodeView,
    now: Now,
}

pub(super) async fn logs(api: &Api, mut input: Streaming<v1::LogsInput>) -> Result<Output, Status> {
    let request = first(&mut input, FIRST, ["the", "request"], |said| match said.message {
        Some(Message::Open(request)) => Some(request),
        _ => None,
    });
    let v1::LogsRequest { namespace, name, container, options } = request.await?;
    let on_node = |fleet: &Fleet, pod: &PodView, now| Some((fleet.node(pod.node.uid)?, now));
    let (pod, (node, now)) = find(api, namespace, name, on_node).await?;
    let container = container_of(&pod, &container)?;
    let options = options.unwrap_or_default();
    if options.since_seconds.is_some() && options.since_time.is_some() {
        let detail = "at most one of since_time and since_seconds may be given";
        return Err(Invalid::new("options", detail).into());
    }
    let input = input.map(|said| match said?.message {
        Some(Message::Credit(bytes)) => Ok(ToNode::Credit(bytes)),
        _ => Err(Invalid::new("message", "only the first one may be a request").into()),
    });
    open(api, Found { pod, node, now }, container, options, input.boxed()).await
}

/// Asks the node for a stream, and waits until it has it.
async fn open(
    api: &Api,
    found: Found,
    container: String,
    options: v1::LogOptions,
    input: BoxStream<'static, Result<ToNode, Status>>,
) -> Result<Output, Status> {
    let Found { pod, node, now } = found;
    let (uid, node_name) = (node.record.uid, node.record.name.to_string());
    let sessions = &api.parts.sessions;
    let session = sessions.nonce(uid).ok_or_else(|| not_connected(&node, now))?;
    let hello = node.hello.as_ref();
    if !hello.is_some_and(|hello| hello.features.contains(LOGS_FEATURE)) {
        return Err(not_supported(&node_name));
    }
    let pod_uid = pod.status.as_ref().map(|status| status.uid.to_string()).unwrap_or_default();
    let (place, attaching) = api.parts.streams.wait(uid, session)?;
    let message = v1::OpenStream {
        number: place.number(),
        namespace: pod.key.namespace().into(),
        name: pod.key.name().into(),
        pod_uid,
        container,
        what: Some(What::Logs(options)),
    };
    if !sessions.open_stream(uid, session, message) {
        return Err(not_connected(&node, now));
    }
    let (output, messages) = mpsc::channel(QUEUE);
    let node = match tokio::time::timeout(ATTACH, attaching).await {
        Ok(Ok(end)) => end,
        Ok(Err(_)) | Err(_) => return Err(not_attached(api, &node, now)),
    };
    let caller = Caller { input, output };
    let closing = api.parts.closing.clone();
    tokio::spawn(Relay { caller, node, node_name, place, closing }.run());
    Ok(ReceiverStream::new(messages))
}

/// The container that was asked for, or the first main one; in kubectl's words where it has printed
/// nothing.
fn container_of(pod: &PodView, asked: &str) -> Result<String, Status> {
    let bad = |message: String| Err(refusal(Code::InvalidArgument, "BadRequest", message));
    let name = &pod.name;
    let waits = |container: &str, why: &str| {
        bad(format!("container {container:?} in pod {name:?} is waiting to start: {why}"))
    };
    let why =
        |pod: &PodView| pod.reason.as_ref().map_or_else(|| "Pending".into(), ToString::to_string);
    let Some(status) = &pod.status else { return waits(asked, &why(pod)) };
    let has_ended = status.last_failure.as_ref().is_some_and(|failure| failure.exit.is_some());
    let all = &status.containers;
    let wanted = |container: &&ContainerStatus| match asked {
        "" => container.role == Role::Main,
        asked => container.name == asked,
    };
    match all.iter().find(wanted) {
        None if all.is_empty() => waits(asked, &why(pod)),
        None => bad(format!("container {asked} is not valid for pod {name}")),
        Some(container) => match &container.state {
            ContainerState::Waiting(reason) if container.restarts == 0 && !has_ended => {
                waits(&container.name, &reason.to_string())
            }
            _ => Ok(container.name.clone()),
        },
    }
}

fn not_connected(node: &NodeView, now: Now) -> Status {
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

fn not_supported(node: &str) -> Status {
    let message = format!(
        "the agent of node {node:?} can't do it ({LOGS_FEATURE}): it is of an older version"
    );
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
