//! Streams between people and nodes: who waits for one, and how many there are.
//!
//! ```text
//!   a call ─▶ place taken ─▶ OpenStream to the session ─▶ waiting ─┬─▶ attached ─▶ relay
//!                 │ too many        │ no session                   └─▶ 10 s, or the caller gone
//! ```
//!
//! [`relay`] has both ends once the agent has attached. Nothing here is stored, and nothing passes
//! through the loop.

mod relay;
mod service;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everynode_model::{NodeUid, SessionNonce};
use everynode_proto::credit::MAX_PIECES;
use everynode_proto::error::refusal;
use everynode_proto::v1;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tonic::{Code, Status, Streaming};

pub(crate) use relay::{Caller, End, Relay};
pub(crate) use service::StreamService;

/// Streams of one node at a time, by the contract.
pub(crate) const PER_NODE: usize = 32;

/// Streams at a time, by the contract.
const IN_ALL: usize = 256;

/// Nodes that are asked for figures at a time, by the contract. Beside the streams of people, so that
/// neither waits for the other: an answer is some KiB and read at once, at its longest 256 KiB, so all of
/// them are at most 128 MiB.
pub(crate) const FIGURES: usize = 512;

/// Messages that wait for one reader: all pieces that it may have granted, as many grants in the
/// other direction, and an end. One for whom more would have to wait breaks the rules of credit.
pub(crate) const QUEUE: usize = 2 * MAX_PIECES + 16;

/// The registry. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Streams(Arc<Registry>);

struct Registry {
    next: AtomicU64,
    in_all: Arc<Semaphore>,
    figures: Arc<Semaphore>,
    open: Mutex<BTreeMap<NodeUid, BTreeMap<u64, Option<Waiting>>>>,
}

/// A stream that its agent has not attached to yet.
struct Waiting {
    session: SessionNonce,
    attached: oneshot::Sender<NodeEnd>,
}

/// The agent's call.
pub(crate) struct NodeEnd {
    pub(crate) input: Streaming<v1::NodeOutput>,
    pub(crate) output: mpsc::Sender<Result<v1::NodeInput, Status>>,
}

/// A stream's place among all: free again when this is dropped.
pub(crate) struct Place {
    streams: Streams,
    node: NodeUid,
    number: u64,
    _among: OwnedSemaphorePermit,
}

impl Default for Streams {
    fn default() -> Self {
        Self(Arc::new(Registry {
            next: AtomicU64::new(1),
            in_all: Arc::new(Semaphore::new(IN_ALL)),
            figures: Arc::new(Semaphore::new(FIGURES)),
            open: Mutex::default(),
        }))
    }
}

impl Streams {
    /// Takes a place for a stream of this node in this session; where its agent's call will come.
    ///
    /// # Errors
    /// When there are too many.
    pub(crate) fn wait(
        &self,
        node: NodeUid,
        session: SessionNonce,
    ) -> Result<(Place, oneshot::Receiver<NodeEnd>), Status> {
        let among = Arc::clone(&self.0.in_all).try_acquire_owned();
        let among = among.map_err(|_| too_many("all nodes together", IN_ALL))?;
        self.wait_among(among, node, session)
    }

    /// Waits for its turn among those who are asked for figures; `None` when the coordinator ends.
    pub(crate) async fn turn_for_figures(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.figures).acquire_owned().await.ok()
    }

    /// The same as [`Self::wait`], for whom a place among all was taken.
    ///
    /// # Errors
    /// When there are too many of this node.
    pub(crate) fn wait_among(
        &self,
        among: OwnedSemaphorePermit,
        node: NodeUid,
        session: SessionNonce,
    ) -> Result<(Place, oneshot::Receiver<NodeEnd>), Status> {
        let (attached, attaching) = oneshot::channel();
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let mut open = self.open();
        let of_node = open.entry(node).or_default();
        if of_node.len() >= PER_NODE {
            return Err(too_many("this node", PER_NODE));
        }
        of_node.insert(number, Some(Waiting { session, attached }));
        drop(open);
        Ok((Place { streams: self.clone(), node, number, _among: among }, attaching))
    }

    /// Hands an agent's call to whoever waits for it.
    ///
    /// # Errors
    /// When nobody does, or not in this session of this node.
    fn attach(&self, node: NodeUid, attach: &v1::Attach, end: NodeEnd) -> Result<(), Status> {
        let mut open = self.open();
        let slot = open.get_mut(&node).and_then(|streams| streams.get_mut(&attach.number));
        let of_session = |waiting: &mut Waiting| waiting.session.to_string() == attach.session;
        let waiting = slot.and_then(|slot| slot.take_if(of_session));
        drop(open);
        let attached = waiting.is_some_and(|waiting| waiting.attached.send(end).is_ok());
        let message = "nobody waits for this stream any more";
        let refused = || refusal(Code::FailedPrecondition, "NoSuchStream", message);
        attached.then_some(()).ok_or_else(refused)
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.open().values().map(BTreeMap::len).sum()
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<NodeUid, BTreeMap<u64, Option<Waiting>>>> {
        // Every statement under the lock leaves the map whole, so a panic can't have torn it.
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Its number, by which its agent names it.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.open();
        if let Some(streams) = open.get_mut(&self.node) {
            streams.remove(&self.number);
            if streams.is_empty() {
                open.remove(&self.node);
            }
        }
    }
}

fn too_many(of: &str, most: usize) -> Status {
    let message = format!("{most} streams of {of} are open, and more are not: try again later");
    refusal(Code::ResourceExhausted, "TooManyStreams", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use everynode_proto::error::reason_of;
    use uuid::Uuid;

    #[test]
    fn places_are_bounded_and_free_again() {
        let streams = Streams::default();
        let node = |number| NodeUid::new(Uuid::from_u128(number));
        let session = SessionNonce::new(Uuid::from_u128(9));
        let mut held: Vec<_> =
            (0..PER_NODE).map(|_| streams.wait(node(1), session).unwrap()).collect();
        let refused = streams.wait(node(1), session).err().unwrap();
        assert_eq!(reason_of(&refused).as_deref(), Some("TooManyStreams"));
        held.pop();
        held.push(streams.wait(node(1), session).unwrap());
        for number in 2.. {
            let Ok(more) = streams.wait(node(number), session) else { break };
            held.push(more);
            assert!(held.len() <= IN_ALL);
        }
        let numbers: std::collections::BTreeSet<u64> =
            held.iter().map(|(place, _)| place.number()).collect();
        assert_eq!((numbers.len(), streams.len()), (held.len(), held.len()));
        drop(held);
        assert_eq!(streams.len(), 0);
        assert_eq!(streams.0.in_all.available_permits(), IN_ALL);
    }
}
