//! One stream, between an operator's call and an agent's.
//!
//! ```text
//!   operator ── credit ───────▶ room ──────────▶ agent
//!            ◀─ data ── ≤ QUEUE ◀── room spent ◀─
//! ```
//!
//! Both are read at once whatever comes, and what comes is handed on without waiting: a writer has
//! no more room than its reader has granted, so that what waits for a reader is bounded by that.
//! When one of the calls ends, so does the other.

use everynode_proto::credit::{Broken, Room};
use everynode_proto::error::{Invalid, refusal};
use everynode_proto::v1;
use everynode_proto::v1::node_input::Message as ToNode;
use everynode_proto::v1::node_output::Message as FromNode;
use everynode_proto::v1::pod_output::Message as ToCaller;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::{NodeEnd, Place};

/// The operator's call.
pub(crate) struct Caller {
    /// What it says after its first message, for the node.
    pub(crate) input: BoxStream<'static, Result<ToNode, Status>>,
    pub(crate) output: mpsc::Sender<Result<v1::PodOutput, Status>>,
}

/// A stream with both its ends.
pub(crate) struct Relay {
    pub(crate) caller: Caller,
    pub(crate) node: NodeEnd,
    /// For people.
    pub(crate) node_name: String,
    pub(crate) place: Place,
    /// The coordinator's own end.
    pub(crate) closing: CancellationToken,
}

/// How it ended.
enum End {
    /// All has been said.
    Complete,
    /// Why not.
    Failed(Status),
    /// Nobody is there to be told.
    CallerGone,
}

impl Relay {
    /// Hands on until either side ends.
    pub(crate) async fn run(mut self) {
        let end = self.exchange().await;
        if let End::Failed(status) = end {
            // A caller who does not read learns it from the end of its call.
            let _ = self.caller.output.try_send(Err(status));
        }
        drop(self.place);
    }

    async fn exchange(&mut self) -> End {
        // What the node may send.
        let mut room = Room::default();
        let mut caller_speaks = true;
        loop {
            tokio::select! {
                () = self.closing.cancelled() => {
                    let why = "the coordinator shuts down";
                    return End::Failed(refusal(Code::Unavailable, "ShuttingDown", why));
                }
                () = self.caller.output.closed() => return End::CallerGone,
                said = self.caller.input.next(), if caller_speaks => match said {
                    Some(Ok(message)) => {
                        if let Err(status) = self.to_node(message, &mut room) {
                            return End::Failed(status);
                        }
                    }
                    Some(Err(status)) => return End::Failed(status),
                    None => caller_speaks = false,
                },
                said = self.node.input.message() => {
                    let message = match said {
                        Ok(Some(v1::NodeOutput { message: Some(message) })) => message,
                        // Of a kind that this version does not know.
                        Ok(Some(v1::NodeOutput { message: None })) => continue,
                        Ok(None) | Err(_) => return End::Failed(self.broken()),
                    };
                    match self.to_caller(message, &mut room) {
                        Ok(None) => {}
                        Ok(Some(end)) => return end,
                        Err(status) => return End::Failed(status),
                    }
                }
            }
        }
    }

    fn to_node(&self, message: ToNode, room: &mut Room) -> Result<(), Status> {
        let ToNode::Credit(bytes) = &message;
        room.grant(*bytes).map_err(over_credit)?;
        let message = v1::NodeInput { message: Some(message) };
        self.node.output.try_send(Ok(message)).map_err(|_| self.broken())
    }

    fn to_caller(&self, message: FromNode, room: &mut Room) -> Result<Option<End>, Status> {
        let message = match message {
            FromNode::Stdout(data) => {
                room.spend(data.len()).map_err(over_credit)?;
                ToCaller::Stdout(data)
            }
            FromNode::Stderr(data) => {
                room.spend(data.len()).map_err(over_credit)?;
                ToCaller::Stderr(data)
            }
            FromNode::End(end) => return Ok(Some(ended(end))),
            FromNode::Attach(_) => {
                return Err(Invalid::new("attach", "only the first message may be one").into());
            }
        };
        let message = v1::PodOutput { message: Some(message) };
        match self.caller.output.try_send(Ok(message)) {
            Ok(()) => Ok(None),
            Err(_) => Ok(Some(End::CallerGone)),
        }
    }

    fn broken(&self) -> Status {
        let node = &self.node_name;
        let message = format!("node {node:?} ended the stream: its agent or its connection ended");
        refusal(Code::Aborted, "NodeGone", message)
    }
}

fn ended(end: v1::StreamEnd) -> End {
    use v1::stream_end::{How, Refused};
    match end.how {
        Some(How::Complete(_)) => End::Complete,
        Some(How::Refused(Refused { code, message })) => {
            End::Failed(refusal(Code::FailedPrecondition, &code, message))
        }
        None => End::Failed(Status::unknown("the node ended the stream and did not say why")),
    }
}

fn over_credit(broken: Broken) -> Status {
    refusal(Code::ResourceExhausted, "OverCredit", format!("against the rules of credit: {broken}"))
}
