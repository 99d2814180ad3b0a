//! The end of a node's life in the cluster, seen from its session.
//!
//! ```text
//!   agent: Leave{}       ─▶ stored as Leaving ─▶ Deregister ┐
//!   operator: delete node ─▶ stored as Leaving ─▶ Deregister ┴▶ agent tears down
//!   agent: Leave{empty}  ─▶ stored as Removed ─▶ Farewell, end of the session
//! ```
//!
//! Every step may be repeated: an answer that was lost is given again.

use std::sync::Arc;

use everynode_coordinator_core::{Command, EventType, InvolvedObject, Observation, Refusal};
use everynode_model::NodeUid;
use everynode_proto::error::refusal;
use everynode_proto::v1::Farewell;
use everynode_proto::v1::coordinator_message::Message;
use tonic::{Code, Status};

use super::session::Session;
use crate::driver::{CommandError, Handle};

/// The refusal of a node that was never here, or was forgotten. It tears nothing down.
pub(super) fn unknown(node: NodeUid) -> Status {
    let message = format!("this coordinator does not know node {node}");
    refusal(Code::FailedPrecondition, "NodeUnknown", message)
}

/// Tells people of a machine that was refused as unknown: it runs on, and only they can help it.
pub(super) async fn notice_unknown(handle: &Handle, node: NodeUid) {
    let noticed = Observation::Noticed {
        about: InvolvedObject {
            kind: "Node".into(),
            namespace: String::new(),
            name: node.to_string(),
            uid: node.to_string(),
        },
        event_type: EventType::Warning,
        reason: "NodeUnknown".into(),
        message: "A machine with a certificate of this cluster calls as a node that is not known \
                  here; it is refused, and goes on running what it runs"
            .into(),
    };
    // The loop has ended: then nobody could see the event either.
    let _ = handle.observe(noticed).await;
}

/// Follows an agent's Leave: takes note that it wants to leave, or that it is empty.
pub(super) async fn leave(handle: Handle, session: Arc<Session>, node: NodeUid, empty: bool) {
    let followed = if empty { confirm(&handle, node).await } else { request(&handle, node).await };
    match followed {
        Ok(()) if empty => {
            session.say(Message::Farewell(Farewell {}));
            session.end(Status::ok(""));
        }
        Ok(()) => session.deregister(),
        Err(CommandError::Refused(Refusal::NodeUnknown(_))) => session.end(unknown(node)),
        Err(error) => {
            tracing::warn!(%node, %error, "a node's leave could not be stored");
            session.end(Status::unavailable("the leave could not be stored; say it again"));
        }
    }
}

async fn request(handle: &Handle, node: NodeUid) -> Result<(), CommandError> {
    handle.command(Command::Leave { uid: node }).await.map(drop)
}

/// A machine that tore down by itself while nobody could hear it says both at once.
async fn confirm(handle: &Handle, node: NodeUid) -> Result<(), CommandError> {
    let confirm = || handle.command(Command::ConfirmDeparture { uid: node });
    match confirm().await {
        Err(CommandError::Refused(Refusal::NodeNotLeaving(_))) => {
            request(handle, node).await?;
            confirm().await.map(drop)
        }
        other => other.map(drop),
    }
}
