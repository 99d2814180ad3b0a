//! `Pods.Logs`: what a container prints.

use everynode_coordinator_core::{Fleet, PodView};
use everynode_model::{ContainerState, ContainerStatus, Role};
use everynode_proto::error::{Invalid, refusal};
use everynode_proto::v1;
use everynode_proto::v1::logs_input::Message;
use everynode_proto::v1::node_input::Message as ToNode;
use everynode_proto::v1::open_stream::What;
use futures_util::StreamExt as _;
use tonic::{Code, Status, Streaming};

use super::Api;
use super::pods::find;
use super::stream::{FIRST, Output, Wanted, open};
use crate::first::first;

pub(super) async fn logs(
    api: &Api,
    user: String,
    mut input: Streaming<v1::LogsInput>,
) -> Result<Output, Status> {
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
    let wanted = Wanted { pod, node, now, container, what: What::Logs(options), user };
    let (relay, output) = open(api, wanted, input.boxed()).await?;
    tokio::spawn(relay.run());
    Ok(output)
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
