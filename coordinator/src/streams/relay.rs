//! One stream, between an operator's call and an agent's.
//!
//! ```text
//!   operator ── credit ───────▶ room of outputs ────▶ agent
//!            ◀─ outputs ── ≤ QUEUE ◀── room spent ◀──
//!            ◀─ credit ──────── room of input ◀──────
//!            ── input ── room spent ──▶ ≤ QUEUE ────▶
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
#[derive(Debug)]
pub(crate) enum End {
    /// All has been said.
    Complete,
    /// All has been said of a program that ended so.
    Exited(i32),
    /// Why not.
    Failed(Status),
    /// Nobody is there to be told.
    CallerGone,
}

/// What may still be sent.
#[derive(Default)]
struct Rooms {
    /// By the node, of outputs.
    outputs: Room,
    /// By the caller, of an input.
    input: Room,
    /// Whether that has ended.
    input_ended: bool,
}

impl Relay {
    /// Hands on until either side ends; how it did.
    pub(crate) async fn run(mut self) -> End {
        let end = self.exchange().await;
        if let End::Failed(status) = &end {
            // A caller who does not read learns it from the end of its call.
            let _ = self.caller.output.try_send(Err(status.clone()));
        }
        drop(self.place);
        end
    }

    async fn exchange(&mut self) -> End {
        let mut rooms = Rooms::default();
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
                        if let Err(status) = self.to_node(message, &mut rooms) {
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
                    match self.to_caller(message, &mut rooms) {
                        Ok(None) => {}
                        Ok(Some(end)) => return end,
                        Err(status) => return End::Failed(status),
                    }
                }
            }
        }
    }

    fn to_node(&self, message: ToNode, rooms: &mut Rooms) -> Result<(), Status> {
        match &message {
            ToNode::Credit(bytes) => rooms.outputs.grant(*bytes).map_err(over_credit)?,
            ToNode::Stdin(_) | ToNode::StdinEnd(_) if rooms.input_ended => {
                return Err(Invalid::new("stdin", "it has ended before").into());
            }
            ToNode::Stdin(data) => rooms.input.spend(data.len()).map_err(over_credit)?,
            ToNode::StdinEnd(_) => rooms.input_ended = true,
            ToNode::Resize(_) => rooms.input.spend(0).map_err(over_credit)?,
        }
        let message = v1::NodeInput { message: Some(message) };
        self.node.output.try_send(Ok(message)).map_err(|_| self.broken())
    }

    fn to_caller(&self, message: FromNode, rooms: &mut Rooms) -> Result<Option<End>, Status> {
        let (message, end) = match message {
            FromNode::Stdout(data) => {
                rooms.outputs.spend(data.len()).map_err(over_credit)?;
                (ToCaller::Stdout(data), None)
            }
            FromNode::Stderr(data) => {
                rooms.outputs.spend(data.len()).map_err(over_credit)?;
                (ToCaller::Stderr(data), None)
            }
            FromNode::Credit(bytes) => {
                rooms.input.grant(bytes).map_err(over_credit)?;
                (ToCaller::Credit(bytes), None)
            }
            FromNode::End(end) => match ended(end) {
                End::Exited(code) => {
                    (ToCaller::Exited(v1::Exited { code }), Some(End::Exited(code)))
                }
                end => return Ok(Some(end)),
            },
            FromNode::Attach(_) => {
                return Err(Invalid::new("attach", "only the first message may be one").into());
            }
        };
        let message = v1::PodOutput { message: Some(message) };
        match self.caller.output.try_send(Ok(message)) {
            Ok(()) => Ok(end),
            Err(_) => Ok(Some(end.unwrap_or(End::CallerGone))),
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
        Some(How::Exited(v1::Exited { code })) => End::Exited(code),
        Some(How::Refused(Refused { code, message })) => {
            End::Failed(refusal(Code::FailedPrecondition, &code, message))
        }
        None => End::Failed(Status::unknown("the node ended the stream and did not say why")),
    }
}

fn over_credit(broken: Broken) -> Status {
    refusal(Code::ResourceExhausted, "OverCredit", format!("against the rules of credit: {broken}"))
}
