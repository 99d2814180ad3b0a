//! What is stored. Decisions are durable, observations are not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use everynode_model::{
    ClusterId, DaemonSet, Digest, Labels, NodeName, NodeUid, ObjectKey, ObjectUid, PodKey, ReignId,
    SetUid, Taint, Term, WallTime,
};

/// Which cluster this is and whose reign: raised durably before a coordinator serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterRecord {
    /// Made at the first start.
    pub id: ClusterId,
    /// Raised by one at every start.
    pub term: Term,
    /// Random, drawn with the term.
    pub reign: ReignId,
}

/// Orders are held: what is stored was restored from a copy, and agents may have heard what the copy
/// does not know. Stored by a restore; ends with [`crate::Command::Resume`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldRecord {
    /// When the copy was restored.
    pub since: WallTime,
    /// The reign in which the copy was taken: what was accepted under a later one, it can't know.
    pub copied_in: Term,
}

/// A registered machine, or the tombstone of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// Its identity.
    pub uid: NodeUid,
    /// Its name; free for another as soon as this one is not [`NodeStanding::Active`].
    pub name: NodeName,
    /// Whether it belongs.
    pub standing: NodeStanding,
    /// Its labels: those it joined with, `kubernetes.io/hostname`, and what operators made of them.
    pub labels: Labels,
    /// Its taints: likewise.
    pub taints: Vec<Taint>,
    /// Of taints that are tolerated for a time, for how many seconds they are known to have stood:
    /// written as such a time ends.
    pub stood: BTreeMap<Taint, u64>,
    /// The labels it joined with, for `describe node` to show where each comes from.
    pub joined_labels: Labels,
    /// SHA-256 of its public key (SubjectPublicKeyInfo): who may renew its certificate.
    pub public_key: Digest,
    /// Its machine id, as it said at join; equal ones only warn.
    pub machine_id: String,
    /// The token it joined with.
    pub token_id: String,
    /// When it joined.
    pub joined_at: WallTime,
    /// `spec.unschedulable`: DaemonSets take no notice, as in Kubernetes.
    pub unschedulable: bool,
    /// What people have ordered of all its pods together.
    pub order: NodeOrder,
    /// By DaemonSet, what its pod here was granted that reads labels of the node, where these have
    /// other values by now.
    pub granted: BTreeMap<SetUid, Labels>,
    /// The `resourceVersion` of its last stored change.
    pub resource_version: u64,
}

impl NodeRecord {
    /// Of a taint that has gone nothing is remembered: where it comes again, it is a new one.
    pub(crate) fn forget_removed_taints(&mut self) {
        let taints = &self.taints;
        self.stood.retain(|taint, _| taints.contains(taint));
    }
}

/// Whether a node belongs to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeStanding {
    /// It does.
    Active,
    /// It was removed; it has not said yet that it is empty.
    Leaving {
        /// Since when.
        since: WallTime,
    },
    /// It has said that it is empty. Kept so that a lost confirmation can be given again.
    Removed {
        /// When it said so.
        confirmed_at: WallTime,
    },
}

/// What people have ordered of a node's pods as a whole, until they say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodeOrder {
    /// Nothing: it runs what is wanted there.
    #[default]
    None,
    /// It goes on with what it has: no order goes out to it.
    Hold {
        /// Since when.
        since: WallTime,
        /// Until when; for ever where it is `None`. By the wall clock, since it outlives processes.
        until: Option<WallTime>,
        /// What for; may be empty.
        reason: String,
    },
    /// All its pods are stopped, and stay so.
    Stop {
        /// Since when.
        since: WallTime,
        /// What for; may be empty.
        reason: String,
    },
}

/// A stored DaemonSet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetRecord {
    /// What the deciding code sees of it.
    pub set: DaemonSet,
    /// The object itself: canonical Kubernetes JSON with defaults, without server-set metadata
    /// and status. Opaque here.
    pub object: Arc<[u8]>,
    /// When it was created.
    pub created_at: WallTime,
    /// The `resourceVersion` of its last stored change.
    pub resource_version: u64,
    /// Objects of which its revision has another content than they have now, because somebody went
    /// back to it; until the template or one of the objects it reads is next changed.
    pub drifted: BTreeSet<ObjectKey>,
}

/// A stored ConfigMap, Secret or Namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRecord {
    /// Its kind, namespace and name.
    pub key: ObjectKey,
    /// Its identity across deletion and re-creation.
    pub uid: ObjectUid,
    /// Its own labels, for selecting it in lists.
    pub labels: Labels,
    /// The object itself: canonical Kubernetes JSON without server-set metadata.
    pub object: Opaque,
    /// When it was created.
    pub created_at: WallTime,
    /// The `resourceVersion` of its last stored change.
    pub resource_version: u64,
    /// Since when a Namespace is being deleted, with all that is in it.
    pub terminating: Option<WallTime>,
}

/// By object, the DaemonSets that read it, and whose revisions are still to be made anew of it. One that is
/// put with what it has now, or is taken back to what it had, is due no more. What is of an object that is
/// gone, or of a set that does not read it any more, says nothing.
pub type Due = BTreeMap<ObjectKey, BTreeSet<SetUid>>;

/// Bytes that nothing here understands and that may be secret: shown by their number alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Opaque(pub Arc<[u8]>);

/// One version of a DaemonSet's template (ControllerRevision).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionRecord {
    /// Of which DaemonSet.
    pub set: SetUid,
    /// The digest of [`Self::body`].
    pub digest: Digest,
    /// Counts up; re-used revisions are renumbered to the newest, as in Kubernetes.
    pub number: u64,
    /// The template in its normal form: what agents get. Opaque here.
    pub body: Arc<[u8]>,
    /// Which version of the normal form the body is in.
    pub normal_form: u32,
    /// When it first came about.
    pub created_at: WallTime,
    /// `kubernetes.io/change-cause`; empty without one.
    pub change_cause: String,
    /// The content of ConfigMaps and Secrets that the body names: agents get it with the body.
    pub blobs: BTreeSet<Digest>,
    /// What its pods can't start without and was not there, one line each: no rollout leads to it.
    pub missing: Vec<String>,
    /// Which labels of its node a pod of it reads.
    pub labels: BTreeSet<String>,
}

/// The rule of a DaemonSet's grants: every node runs [`Self::stable`], but for the exceptions in
/// the chunks ([`RecordKey::GrantChunk`]). While the first rollout is under way the rule is that
/// nobody has a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantHead {
    /// Of which DaemonSet.
    pub set: SetUid,
    /// What a node gets that joins now: the last revision that was rolled out to the end, if one was.
    pub stable: Option<Digest>,
    /// Where the rollout leads; equal to `stable` when there is none under way.
    pub target: Digest,
    /// Which rollout leads there: a number that only grows (`next_rollout`).
    pub rollout: u64,
    /// Which rollout was let past its canaries last.
    pub promoted: u64,
    /// Which rollout came to its end last: what one after it has granted, and no rollout leads to any
    /// more, was given up. 0 where that is not known.
    pub settled: u64,
    /// Whether steps of this number take nodes that run the target to what their labels say now; only
    /// while no rollout is under way, which does so itself.
    pub relabels: bool,
    /// For how long it is known to have made no progress.
    pub stalled: Option<Stalled>,
    /// Marks of a rollout that must not go on as it is, by name, with why (`failed`: its target has).
    pub marks: BTreeMap<String, String>,
}

/// For how long a rollout is known to have made no progress, so that a coordinator which takes it up
/// need not count anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stalled {
    /// Which rollout ([`GrantHead::rollout`]); of another it says nothing.
    pub rollout: u64,
    /// How many nodes were moved.
    pub moved: u64,
    /// How many of them had an available pod of the target: with more of either it has gone on since.
    pub done: u64,
    /// By steady clocks, of all coordinators that looked on.
    pub time: Duration,
}

/// The stored decision that a node may run a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The revision.
    pub revision: Digest,
    /// Raised by `delete pod`.
    pub replace: u64,
    /// The rollout in which it was given ([`GrantHead::rollout`]): what a node makes of a grant says
    /// something about that rollout only. 0 where no rollout gave it.
    pub rollout: u64,
    /// Whether its pod may start beside the one that it takes over from. It is the grant's and not only
    /// the strategy's, so that what was begun as a surge ends as one: were the strategy changed under
    /// way, every old pod would go at once. What somebody deletes ends at once.
    pub surge: bool,
}

/// Where the term of the reign begins in the number of a rollout, so that one which a restored copy
/// knows is told from those of this reign: 2^32 rollouts of one DaemonSet in one term.
const ROLLOUT_TERM_SHIFT: u32 = 32;

/// The number of the rollout after `former`, in this term.
pub(crate) fn next_rollout(former: u64, term: Term) -> u64 {
    former.saturating_add(1).max(term.0 << ROLLOUT_TERM_SHIFT)
}

/// Whether the rollout began, or was taken up again after a restore, in this term.
pub(crate) const fn is_rollout_of(rollout: u64, term: Term) -> bool {
    rollout >> ROLLOUT_TERM_SHIFT >= term.0
}

/// A join token. The secret itself is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// Its public part.
    pub id: String,
    /// SHA-256 of its secret part.
    pub secret: Digest,
    /// When it was made.
    pub created_at: WallTime,
    /// When it ends.
    pub expires_at: WallTime,
    /// How many machines may still join with it; `None` for any number.
    pub uses_left: Option<u32>,
    /// The only name that may join with it, if any.
    pub node_name: Option<NodeName>,
    /// Whether a node of that name is replaced (it becomes [`NodeStanding::Leaving`]).
    pub replace: bool,
}

/// Whether an event is news or trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// News.
    Normal,
    /// Trouble.
    Warning,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InvolvedObject {
    /// `DaemonSet`, `Node` or `Pod`.
    pub kind: String,
    /// Empty for a node.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid, as text; may be empty.
    pub uid: String,
}

/// Something worth telling, as in Kubernetes' events; the same one again only counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRecord {
    /// Its place in the ring of kept events.
    pub sequence: u64,
    /// About what.
    pub about: InvolvedObject,
    /// News or trouble.
    pub event_type: EventType,
    /// A CamelCase word.
    pub reason: String,
    /// One line.
    pub message: String,
    /// How often it happened.
    pub count: u64,
    /// When first.
    pub first_at: WallTime,
    /// When last.
    pub last_at: WallTime,
}

/// Where a record is stored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordKey {
    /// [`ClusterRecord`].
    Cluster,
    /// [`HoldRecord`].
    Hold,
    /// [`NodeRecord`].
    Node(NodeUid),
    /// [`SetRecord`].
    Set(PodKey),
    /// [`ObjectRecord`].
    Object(ObjectKey),
    /// [`Due`]: one record for all.
    Due,
    /// Content that revisions name, under its digest.
    Blob(Digest),
    /// [`RevisionRecord`].
    Revision(SetUid, Digest),
    /// [`GrantHead`].
    GrantHead(SetUid),
    /// A chunk of exceptions: the nodes whose uid's digest begins with this six-bit number.
    GrantChunk(SetUid, u8),
    /// [`TokenRecord`].
    Token(String),
    /// [`EventRecord`].
    Event(u64),
}

/// One stored thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The cluster and the reign.
    Cluster(ClusterRecord),
    /// Orders are held.
    Hold(HoldRecord),
    /// A node.
    Node(NodeRecord),
    /// A DaemonSet.
    Set(SetRecord),
    /// A ConfigMap, Secret or Namespace.
    Object(ObjectRecord),
    /// Which DaemonSets are due to follow which objects.
    Due(Due),
    /// Content that revisions name.
    Blob(Digest, Opaque),
    /// A revision.
    Revision(RevisionRecord),
    /// The rule of a set's grants.
    GrantHead(GrantHead),
    /// Exceptions to the rule.
    GrantChunk(SetUid, u8, BTreeMap<NodeUid, Grant>),
    /// A join token.
    Token(TokenRecord),
    /// An event.
    Event(EventRecord),
}

/// A change of one record: the new one, or `None` to delete it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Where.
    pub key: RecordKey,
    /// What; its own key is [`Self::key`].
    pub record: Option<Record>,
}

impl NodeOrder {
    /// Whether no order goes out.
    pub const fn holds(&self) -> bool {
        matches!(self, Self::Hold { .. })
    }

    /// Whether no pod runs.
    pub const fn stops(&self) -> bool {
        matches!(self, Self::Stop { .. })
    }

    /// When it ends by itself.
    pub(crate) const fn ends(&self) -> Option<WallTime> {
        match self {
            Self::Hold { until, .. } => *until,
            Self::None | Self::Stop { .. } => None,
        }
    }
}

impl Record {
    /// Where this record is stored.
    pub fn key(&self) -> RecordKey {
        match self {
            Self::Cluster(_) => RecordKey::Cluster,
            Self::Hold(_) => RecordKey::Hold,
            Self::Node(node) => RecordKey::Node(node.uid),
            Self::Set(set) => RecordKey::Set(set.set.key.clone()),
            Self::Object(object) => RecordKey::Object(object.key.clone()),
            Self::Due(_) => RecordKey::Due,
            Self::Blob(digest, _) => RecordKey::Blob(*digest),
            Self::Revision(revision) => RecordKey::Revision(revision.set, revision.digest),
            Self::GrantHead(head) => RecordKey::GrantHead(head.set),
            Self::GrantChunk(set, bucket, _) => RecordKey::GrantChunk(*set, *bucket),
            Self::Token(token) => RecordKey::Token(token.id.clone()),
            Self::Event(event) => RecordKey::Event(event.sequence),
        }
    }
}

impl ObjectRecord {
    /// The `resourceVersion` of what is there without having been created: below all that are given
    /// away.
    pub(crate) const IMPLIED: u64 = 1;

    /// Whether it is a namespace that is there without having been created.
    pub const fn was_never_stored(&self) -> bool {
        self.resource_version == Self::IMPLIED
    }
}

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Write {
    /// Stores `record` in its place.
    pub fn put(record: Record) -> Self {
        Self { key: record.key(), record: Some(record) }
    }

    /// Deletes what is stored at `key`.
    pub const fn delete(key: RecordKey) -> Self {
        Self { key, record: None }
    }
}
