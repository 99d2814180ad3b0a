//! What can be read off a fleet: for people, for watchers, and for sessions.

use std::collections::BTreeMap;
use std::sync::Arc;

use everynode_model::{
    Assignment, Digest, Exit, Failure, NodeName, NodeUid, ObjectKey, PodKey, PodStatus, Reason,
    SetUid, Stamp, Timestamp,
};

use crate::observe::Hello;
use crate::record::{NodeRecord, SetRecord};

/// What one node must run now. A session sends it whole, or as the change from what it last sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Whose, the how-manieth, of what.
    pub stamp: Stamp,
    /// What to run.
    pub assignment: Assignment,
    /// The templates of its items, by revision, and the content that they name, by digest.
    pub bodies: BTreeMap<Digest, Arc<[u8]>>,
}

/// The counters of a DaemonSet's status, with exactly Kubernetes' meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetStatus {
    /// Nodes that should run it (`desiredNumberScheduled`).
    pub desired: u32,
    /// Of those, nodes that have a pod of it (`currentNumberScheduled`).
    pub current: u32,
    /// Nodes that should not run it and have a pod of it (`numberMisscheduled`).
    pub misscheduled: u32,
    /// Of the desired, nodes whose pod is ready (`numberReady`).
    pub ready: u32,
    /// Of the desired, nodes whose pod is of the newest revision (`updatedNumberScheduled`).
    pub updated: u32,
    /// Of the desired, nodes whose pod has been ready long enough (`numberAvailable`).
    pub available: u32,
}

/// A DaemonSet and how it is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetView {
    /// What is stored.
    pub record: Arc<SetRecord>,
    /// The counters.
    pub status: SetStatus,
    /// What is rolled out to new nodes; `None` while the first rollout is under way.
    pub stable: Option<Digest>,
    /// Where the rollout leads; the same as `stable` when none is under way.
    pub target: Digest,
    /// Conditions: type, whether it holds, and why. `Progressing`, `Available`, `Degraded`.
    pub conditions: Vec<(String, bool, Reason)>,
    /// The `resourceVersion` of what is shown here.
    pub resource_version: u64,
}

/// How a node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It is connected, or was heard of within the lease.
    Ready,
    /// It has not been heard of for longer than the lease.
    Lost {
        /// When it was last heard of, by this coordinator's steady clock; `None` if never in this
        /// reign.
        since: Option<Timestamp>,
    },
    /// It has not been heard of in this reign, which began less than a registration window ago.
    Unknown,
}

/// A node and how it is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// What is stored.
    pub record: Arc<NodeRecord>,
    /// How it is doing.
    pub readiness: Readiness,
    /// Whether another, which belongs, has its name now.
    pub replaced: bool,
    /// Whether it has a session now, on which it was heard within the lease.
    pub connected: bool,
    /// What it said when its last session began; `None` before the first of this reign.
    pub hello: Option<Arc<Hello>>,
    /// The newest order it has on disk.
    pub acknowledged: Option<Stamp>,
    /// While orders are held: what it runs or has heard that the restored store does not know.
    pub ahead: Option<Reason>,
    /// The `resourceVersion` of what is shown here.
    pub resource_version: u64,
}

/// A pod as its node last reported it, or one that is wanted and not reported yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// Its name: the set's, and five characters drawn from its identity.
    pub name: String,
    /// On which node.
    pub node: Arc<NodeRecord>,
    /// Of which DaemonSet.
    pub key: PodKey,
    /// Which DaemonSet of that name.
    pub set: SetUid,
    /// Whether that was deleted without it: then nobody owns it.
    pub orphaned: bool,
    /// What the node said; `None` while it has said nothing.
    pub status: Option<PodStatus>,
    /// Why it is not running the wanted revision; `None` when it is.
    pub reason: Option<Reason>,
    /// The pod's labels: the template's.
    pub revision: Digest,
    /// Whether its node is lost, so that what it said may no longer hold.
    pub stale: bool,
    /// The `resourceVersion` of what is shown here.
    pub resource_version: u64,
}

/// One line of an answer to `why`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// On which node.
    pub node: Arc<NodeRecord>,
    /// Of which DaemonSet.
    pub key: PodKey,
    /// Whether it runs the wanted revision.
    pub fine: bool,
    /// Why it is as it is.
    pub reason: Reason,
    /// The last failure's exit, where there was one.
    pub last_exit: Option<Exit>,
    /// What went wrong last with the newest revision there, also where the node has gone back from it.
    pub failure: Option<Failure>,
}

/// Why one DaemonSet is as it is on some nodes: the answers that have one reason, counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhyCount {
    /// Of which DaemonSet.
    pub key: PodKey,
    /// Whether they run the wanted revision.
    pub fine: bool,
    /// Why they are as they are, in the words of the first of the examples.
    pub reason: Reason,
    /// How many nodes.
    pub nodes: usize,
    /// Some of them, by name.
    pub examples: Vec<NodeName>,
}

/// Something that watchers may want to know of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Changed {
    /// A DaemonSet, its status, or its deletion (of the set with this uid).
    Set(PodKey, SetUid),
    /// A node, how it is doing, or its removal.
    Node(NodeUid),
    /// What is in one place of one node.
    Pod(NodeUid, PodKey),
    /// An event.
    Event(u64),
    /// A ConfigMap, Secret or Namespace.
    Object(ObjectKey),
}
