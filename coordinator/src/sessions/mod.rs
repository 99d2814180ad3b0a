//! Agents' sessions: who is connected, what each is to be told, and when each was last heard.
//!
//! [`Sessions`] is the registry that the driver and the gRPC service share. The driver puts orders
//! in and asks when a node was last heard; it never waits here. What a session has not sent yet is
//! replaced by newer news, so a node that reads slowly costs one order, not a queue of them.

mod chunk;
mod claim;
mod farewell;
mod inbound;
mod issue;
mod join;
mod outbound;
mod service;
mod session;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everynode_coordinator_core::Order;
use everynode_model::{NodeUid, SessionNonce, Timestamp};
use everynode_proto::v1::OpenStream;
use tonic::Status;

pub use service::AgentService;
use session::Session;

/// The registry. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Sessions {
    living: Arc<Mutex<BTreeMap<NodeUid, Arc<Session>>>>,
}

/// A registered session's place: free again when this is dropped.
struct Registration {
    sessions: Sessions,
    node: NodeUid,
    session: Arc<Session>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.session.close();
        self.sessions.remove(self.node, self.session.nonce());
    }
}

impl Sessions {
    /// When a node was last heard in its present session; `None` without one.
    pub fn last_heard(&self, node: NodeUid) -> Option<Timestamp> {
        self.get(node).map(|session| session.last_heard())
    }

    /// How many nodes have a session.
    pub fn len(&self) -> usize {
        self.living().len()
    }

    /// Whether no node has a session.
    pub fn is_empty(&self) -> bool {
        self.living().is_empty()
    }

    /// The nodes that have a session.
    pub(crate) fn nodes(&self) -> Vec<NodeUid> {
        self.living().keys().copied().collect()
    }

    /// Gives a node its newest order, if it has a session.
    pub(crate) fn publish(&self, node: NodeUid, order: Arc<Order>) {
        if let Some(session) = self.get(node) {
            session.publish(order);
        }
    }

    /// The mark of a node's session, if it has one.
    pub(crate) fn nonce(&self, node: NodeUid) -> Option<SessionNonce> {
        self.get(node).map(|session| session.nonce())
    }

    /// Asks a node for a stream in that session; whether it is still there, and reads.
    pub(crate) fn open_stream(
        &self,
        node: NodeUid,
        nonce: SessionNonce,
        stream: OpenStream,
    ) -> bool {
        let session = self.get(node).filter(|session| session.nonce() == nonce);
        session.is_some_and(|session| session.open_stream(stream))
    }

    /// Tells a node that it was removed, if it has a session.
    pub(crate) fn deregister(&self, node: NodeUid) {
        if let Some(session) = self.get(node) {
            session.deregister();
        }
    }

    /// Ends the session of a node that is not known any more.
    pub(crate) fn forget(&self, node: NodeUid) {
        if let Some(session) = self.get(node) {
            session.end(farewell::unknown(node));
        }
    }

    /// Ends a node's session, if it has one, and says why; its agent dials again and says anew what
    /// it knows.
    pub(crate) fn end(&self, node: NodeUid, why: &str) {
        if let Some(session) = self.get(node) {
            session.end(Status::unavailable(why));
        }
    }

    /// Ends every session, and says why; agents dial again and say anew what they know.
    pub(crate) fn end_all(&self, why: &str) {
        for session in self.living().values() {
            session.end(Status::unavailable(why));
        }
    }

    fn get(&self, node: NodeUid) -> Option<Arc<Session>> {
        self.living().get(&node).map(Arc::clone)
    }

    /// Registers a session in the place of `former`, or of none; `None` if another has taken that
    /// place meanwhile.
    fn put(
        &self,
        node: NodeUid,
        former: Option<SessionNonce>,
        session: &Arc<Session>,
    ) -> Option<Registration> {
        let mut living = self.living();
        if living.get(&node).map(|session| session.nonce()) != former {
            return None;
        }
        living.insert(node, Arc::clone(session));
        Some(Registration { sessions: self.clone(), node, session: Arc::clone(session) })
    }

    /// Unregisters a session, unless another has taken its place.
    fn remove(&self, node: NodeUid, nonce: SessionNonce) {
        let mut living = self.living();
        if living.get(&node).is_some_and(|session| session.nonce() == nonce) {
            living.remove(&node);
        }
    }

    fn living(&self) -> MutexGuard<'_, BTreeMap<NodeUid, Arc<Session>>> {
        // Every statement under the lock leaves the map whole, so a panic can't have torn it.
        self.living.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
