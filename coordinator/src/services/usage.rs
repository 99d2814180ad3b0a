//! `Nodes.Usage`: what nodes and their pods use, asked of each of them.
//!
//! Nothing is kept: heartbeats carry no figures, and a fleet that nobody looks at measures nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use everynode_coordinator_core::{Fleet, NodeView};
use everynode_model::Now;
use everynode_proto::credit::WINDOW;
use everynode_proto::error::{reason_of, refusal};
use everynode_proto::v1;
use everynode_proto::v1::node_input::Message as ToNode;
use everynode_proto::v1::node_output::Message as FromNode;
use everynode_proto::v1::open_stream::What;
use everynode_proto::v1::stream_end::{How, Refused};
use everynode_proto::v1::usage_response::What as Told;
use futures_util::StreamExt as _;
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::Api;
use super::filter::selector;
use super::stream::{attach, not_connected};
use crate::status;
use crate::streams::{FIGURES, NodeEnd};

/// How long one node may take, by the contract: the time for attaching, and some for measuring.
const WITHIN: Duration = Duration::from_secs(15);

/// Answers that wait for a caller who reads slowly: then no more nodes are asked than have a turn.
const QUEUE: usize = 64;

/// What the caller receives.
pub(super) type Output = ReceiverStream<Result<v1::UsageResponse, Status>>;

/// Asks all that are meant, and hands on each answer as it comes; no further when nobody listens.
pub(super) async fn usage(api: &Api, request: v1::UsageRequest) -> Result<Output, Status> {
    let (nodes, missing, now) = meant(api, request).await?;
    let (output, answers) = mpsc::channel(QUEUE);
    let api = api.clone();
    tokio::spawn(async move {
        for node in missing {
            let reason = reason(&status::not_found("nodes", &node));
            let what = Some(Told::Unknown(reason));
            let _ = output.send(Ok(v1::UsageResponse { node, what })).await;
        }
        let ask = |node: NodeView| answer(&api, node, now);
        let mut answers = futures_util::stream::iter(nodes).map(ask).buffer_unordered(FIGURES);
        loop {
            let answer = tokio::select! {
                () = output.closed() => return,
                () = api.parts.closing.cancelled() => return,
                answer = answers.next() => answer,
            };
            let Some(answer) = answer else { return };
            if output.send(Ok(answer)).await.is_err() {
                return;
            }
        }
    });
    Ok(ReceiverStream::new(answers))
}

/// The nodes that are meant, and the names of those that are not there.
async fn meant(
    api: &Api,
    request: v1::UsageRequest,
) -> Result<(Vec<NodeView>, BTreeSet<String>, Now), Status> {
    let v1::UsageRequest { names, label_selector } = request;
    let selector = selector(&label_selector)?;
    let mut names: BTreeSet<String> = names.into_iter().collect();
    let named = !names.is_empty();
    let read = |fleet: &Fleet, now| (fleet.nodes(), now);
    let (mut nodes, now) = api.read(read).await?;
    nodes.retain(|node| {
        let asked = !named || names.remove(node.record.name.as_str());
        asked && !node.replaced && selector.matches(&node.record.labels)
    });
    Ok((nodes, names, now))
}

async fn answer(api: &Api, node: NodeView, now: Now) -> v1::UsageResponse {
    let name = node.record.name.to_string();
    // Others may be asking, too: what is waited for them is not the node's fault.
    let turn = api.parts.streams.turn_for_figures().await;
    let late = || refusal(Code::DeadlineExceeded, "NotAttached", "it took too long to answer");
    let told = match tokio::time::timeout(WITHIN, ask(api, &node, now, turn)).await {
        Ok(told) => told,
        Err(_) => Err(late()),
    };
    let what = told.map_or_else(|status| Told::Unknown(reason(&status)), Told::Usage);
    v1::UsageResponse { node: name, what: Some(what) }
}

fn reason(status: &Status) -> v1::Reason {
    let code = reason_of(status).unwrap_or_else(|| "Unknown".into());
    v1::Reason { code, message: status.message().to_owned() }
}

async fn ask(
    api: &Api,
    node: &NodeView,
    now: Now,
    turn: Option<OwnedSemaphorePermit>,
) -> Result<v1::NodeUsage, Status> {
    // Of one that was cut off a session may still be there, for which all would wait.
    if !node.connected {
        return Err(not_connected(node, now));
    }
    let what = (What::Usage(v1::UsageOptions {}), turn);
    let (_place, end) = attach(api, node, now, what, v1::OpenStream::default()).await?;
    read(end, node.record.name.as_str()).await
}

/// Reads the whole answer, for which there is room from the start.
async fn read(mut end: NodeEnd, node: &str) -> Result<v1::NodeUsage, Status> {
    let gone = || {
        let message = format!("node {node:?} ended the stream before it had answered");
        refusal(Code::Aborted, "NodeGone", message)
    };
    let credit = v1::NodeInput { message: Some(ToNode::Credit(WINDOW)) };
    end.output.try_send(Ok(credit)).map_err(|_| gone())?;
    let most = usize::try_from(WINDOW).unwrap_or(usize::MAX);
    let mut said = Vec::new();
    loop {
        let Ok(Some(output)) = end.input.message().await else { return Err(gone()) };
        match output.message {
            Some(FromNode::Stdout(piece)) if said.len() + piece.len() <= most => said.extend(piece),
            Some(FromNode::Stdout(_)) => {
                let why = format!("node {node:?} says more than {most} bytes");
                return Err(refusal(Code::ResourceExhausted, "OverCredit", why));
            }
            Some(FromNode::End(v1::StreamEnd { how: Some(How::Complete(_)) })) => break,
            Some(FromNode::End(v1::StreamEnd { how: Some(How::Refused(refused)) })) => {
                let Refused { code, message } = refused;
                return Err(refusal(Code::FailedPrecondition, &code, message));
            }
            Some(FromNode::End(_)) => return Err(gone()),
            // Of a kind that has nothing to do with this.
            _ => {}
        }
    }
    v1::NodeUsage::decode(said.as_slice()).map_err(|_| gone())
}
