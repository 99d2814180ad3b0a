//! `Pods.Exec`: a program in a container, for somebody who may; and that it was run.

mod audit;

use everynode_coordinator_core::{Fleet, PodView};
use everynode_model::{ContainerState, Role};
use everynode_proto::error::{Invalid, refusal};
use everynode_proto::v1;
use everynode_proto::v1::exec_input::Message;
use everynode_proto::v1::node_input::Message as ToNode;
use everynode_proto::v1::open_stream::What;
use futures_util::StreamExt as _;
use tonic::{Code, Status, Streaming};

use super::Api;
use super::convert::pod::default_container;
use super::pods::find;
use super::stream::{FIRST, Output, Wanted, open};
use crate::first::first;
use audit::Audit;

/// By the contract; what is longer is for a script.
const MAX_WORDS: usize = 1024;
const MAX_COMMAND: usize = 32 * 1024;

pub(super) async fn exec(
    api: &Api,
    user: String,
    mut input: Streaming<v1::ExecInput>,
) -> Result<Output, Status> {
    let request = first(&mut input, FIRST, ["the", "request"], |said| match said.message {
        Some(Message::Open(request)) => Some(request),
        _ => None,
    });
    let v1::ExecRequest { namespace, name, container, options } = request.await?;
    let options = checked(options.unwrap_or_default())?;
    let more = |fleet: &Fleet, pod: &PodView, now| {
        Some((fleet.node(pod.node.uid)?, default_container(fleet, pod), now))
    };
    let (pod, (node, default, now)) = find(api, namespace, name, more).await?;
    let container = container_of(&pod, &container, default.as_deref())?;
    let mut audit = Audit::new(api, &pod, &container, &user, &options.command);
    audit.begun().await;
    let what = What::Exec(options);
    let input = input.map(|said| to_node(said?)).boxed();
    let wanted = Wanted { pod, node, now, container, what, user };
    match open(api, wanted, input).await {
        Ok((relay, output)) => {
            tokio::spawn(async move { audit.ended(&relay.run().await) });
            Ok(output)
        }
        Err(status) => {
            audit.refused(&status);
            Err(status)
        }
    }
}

fn to_node(said: v1::ExecInput) -> Result<ToNode, Status> {
    match said.message {
        Some(Message::Credit(bytes)) => Ok(ToNode::Credit(bytes)),
        Some(Message::Stdin(data)) => Ok(ToNode::Stdin(data)),
        Some(Message::StdinEnd(end)) => Ok(ToNode::StdinEnd(end)),
        Some(Message::Resize(size)) => Ok(ToNode::Resize(size)),
        Some(Message::Open(_)) | None => {
            Err(Invalid::new("message", "only the first one may be a request").into())
        }
    }
}

fn checked(options: v1::ExecOptions) -> Result<v1::ExecOptions, Status> {
    let words = &options.command;
    let invalid = |detail: &str| Err(Invalid::new("options.command", detail).into());
    if words.first().is_none_or(String::is_empty) {
        return invalid("you must specify at least one command for the container");
    }
    if words.len() > MAX_WORDS || words.iter().map(String::len).sum::<usize>() > MAX_COMMAND {
        return invalid("it may have 1,024 words and 32 KiB");
    }
    if words.iter().any(|word| word.contains('\0')) {
        return invalid("a word with a zero byte can't be handed to a program");
    }
    Ok(options)
}

/// The container that was asked for, or else the template's default, or else the first main one. It runs, as
/// far as is known.
fn container_of(pod: &PodView, asked: &str, default: Option<&str>) -> Result<String, Status> {
    let bad = |message: String| Err(refusal(Code::InvalidArgument, "BadRequest", message));
    let all = pod.status.iter().flat_map(|status| &status.containers);
    let named = |wanted: &str| all.clone().find(|container| container.name == wanted);
    let found = match (asked, default) {
        ("", default) => {
            let main = || all.clone().find(|container| container.role == Role::Main);
            default.and_then(named).or_else(main)
        }
        (asked, _) => named(asked),
    };
    let name = &pod.name;
    match found {
        None if pod.status.is_none() => {
            let why = pod.reason.as_ref().map_or_else(|| "Pending".into(), ToString::to_string);
            bad(format!("pod {name} does not run: {why}"))
        }
        None => bad(format!("container {asked} not found in pod {name}")),
        Some(container) => {
            let why = match &container.state {
                ContainerState::Running { .. } => return Ok(container.name.clone()),
                ContainerState::Waiting(reason) => reason.to_string(),
                ContainerState::Terminated(exit) => format!("it has ended, {exit}"),
            };
            bad(format!("container {} in pod {name} is not running: {why}", container.name))
        }
    }
}
