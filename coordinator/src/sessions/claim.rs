//! Who may speak for a node when two want to: the first one, if it still answers.
//!
//! ```text
//!   no session ───────────────────────────────▶ admitted
//!   a session ── probed ── answers in 2 s ────▶ newcomer refused, alarm (a clone)
//!                      └── silent ────────────▶ old one ended, newcomer admitted
//!                                               (a reboot, a half-open connection)
//! ```

use std::time::Duration;

use everynode_coordinator_core::{EventType, InvolvedObject, Observation};
use everynode_model::{NodeUid, Reason, SessionNonce};
use everynode_proto::error::refusal;
use tonic::{Code, Status};

use super::Sessions;
use crate::driver::Handle;

/// How long a session has to answer a probe: long enough for a slow link, short enough for a
/// rebooted machine to wait.
const PROBE: Duration = Duration::from_secs(2);

/// Waits until `node` has no living session, and says which dead one holds its place, if one still
/// does; or refuses the claim.
///
/// # Errors
/// ALREADY_EXISTS with reason `NodeInUse`, when the session there is alive.
pub(super) async fn claim(
    sessions: &Sessions,
    handle: &Handle,
    node: NodeUid,
    from: &str,
) -> Result<Option<SessionNonce>, Status> {
    let Some(session) = sessions.get(node) else { return Ok(None) };
    let alive = tokio::select! {
        biased;
        () = session.closed() => false,
        answer = tokio::time::timeout(PROBE, session.probe(1)) => answer.is_ok(),
    };
    if !alive {
        session.end(refusal(Code::Aborted, "Replaced", "another session took this one's place"));
        session.close();
        return Ok(Some(session.nonce()));
    }
    notice(handle, node, from).await;
    let message = format!(
        "node {node} is in use: a living agent answers for it; this is a copy of its data \
         directory, and it must join with a token of its own"
    );
    Err(refusal(Code::AlreadyExists, "NodeInUse", message))
}

async fn notice(handle: &Handle, node: NodeUid, from: &str) {
    tracing::warn!(%node, from, "a second claim on a living node was refused");
    let line = format!("a second agent at {from} claims to be this node; it was refused");
    warn(handle, node, Reason::new("CloneRefused", line)).await;
}

/// Makes an event of something about a node that people should see.
pub(super) async fn warn(handle: &Handle, node: NodeUid, reason: Reason) {
    let name = handle
        .read(move |fleet, _| fleet.node(node).map(|view| view.record.name.to_string()))
        .await
        .ok()
        .flatten();
    let noticed = Observation::Noticed {
        about: InvolvedObject {
            kind: "Node".into(),
            namespace: String::new(),
            name: name.unwrap_or_else(|| node.to_string()),
            uid: node.to_string(),
        },
        event_type: EventType::Warning,
        reason: reason.code,
        message: reason.message,
    };
    // The loop has ended: then nobody could see the event either.
    let _ = handle.observe(noticed).await;
}
