//! What can be asked for, and the named reasons for refusing it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use everynode_model::{
    DaemonSet, Digest, Effect, Labels, NodeName, NodeUid, ObjectKey, ObjectUid, PodKey, SetUid,
    Taint, WallTime,
};

use crate::record::{NodeRecord, ObjectRecord, Opaque, SetRecord, TokenRecord, Write};

/// Something that somebody asks for. Ids and secrets were drawn by the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A machine joins with a token. Repeated with the same token and key it is answered the same
    /// way again, so that a lost answer costs nothing.
    Join {
        /// The token's public part.
        token_id: String,
        /// SHA-256 of the token's secret part.
        token_secret: Digest,
        /// The uid it gets if it is new.
        uid: NodeUid,
        /// The name it wants.
        name: NodeName,
        /// SHA-256 of its public key.
        public_key: Digest,
        /// Its machine id.
        machine_id: String,
        /// Its labels.
        labels: Labels,
        /// Its taints.
        taints: Vec<Taint>,
    },
    /// Keep a new join token.
    CreateToken(TokenRecord),
    /// End a join token.
    RevokeToken {
        /// Its public part.
        id: String,
    },
    /// Create or change a DaemonSet; it has been admitted at the door.
    PutSet {
        /// What must, or must not, be there already.
        mode: PutMode,
        /// The set; its `uid` is the one it gets if it is new, its `generation` is ignored.
        set: Box<DaemonSet>,
        /// The canonical object.
        object: Arc<[u8]>,
        /// Whether the spec differs from the stored object's: raises the generation.
        spec_changed: bool,
        /// The template's normal form.
        body: Arc<[u8]>,
        /// Which version of it.
        normal_form: u32,
        /// `kubernetes.io/change-cause`; empty without one.
        change_cause: String,
        /// The `resourceVersion` the caller has seen, if it insists on it.
        expected_version: Option<u64>,
        /// What its revision has of the objects that the template reads.
        content: Box<Content>,
    },
    /// Keep content that revisions are about to name. What none names is swept after a while.
    KeepBlob {
        /// Its digest.
        digest: Digest,
        /// The bytes.
        blob: Opaque,
    },
    /// Create or change a ConfigMap, Secret or Namespace; it has been admitted at the door.
    PutObject {
        /// What must, or must not, be there already.
        mode: PutMode,
        /// Which.
        key: ObjectKey,
        /// The uid it gets if it is new.
        uid: ObjectUid,
        /// Its labels.
        labels: Labels,
        /// The canonical object.
        object: Opaque,
        /// The `resourceVersion` the caller has seen, if it insists on it.
        expected_version: Option<u64>,
        /// The DaemonSets that read it, each with the `resourceVersion` at which it was looked at:
        /// those whose revision becomes another are put by the same transaction, or are among `due`.
        readers: BTreeMap<SetUid, u64>,
        /// Those of them that follow later, where they are too many for one transaction: each is put
        /// with a revision of what is there then ([`Fleet::due`](crate::Fleet::due)).
        due: BTreeSet<SetUid>,
    },
    /// Delete a ConfigMap, a Secret, or a Namespace with all that is in it. DaemonSets that read it
    /// keep the content that their revisions have.
    DeleteObject {
        /// Which.
        key: ObjectKey,
        /// The uid it must have, if the caller insists.
        uid: Option<ObjectUid>,
    },
    /// Follow all of them, or none: one transaction.
    All(Vec<Command>),
    /// Delete a DaemonSet; its pods are stopped as nodes learn of it.
    DeleteSet {
        /// Its namespace and name.
        key: PodKey,
        /// The uid it must have, if the caller insists.
        uid: Option<SetUid>,
    },
    /// Delete a DaemonSet and leave its pods: they run on until each is deleted, or a DaemonSet of the
    /// same name and selector takes them over.
    OrphanSet {
        /// Its namespace and name.
        key: PodKey,
        /// The uid it must have, if the caller insists.
        uid: Option<SetUid>,
    },
    /// Remove a node: it is told to tear down when it next calls.
    DeleteNode {
        /// Its name.
        name: NodeName,
        /// Do not wait for its confirmation: forget it. If it ever calls, it is refused as
        /// unknown, and goes on running what it runs.
        forget: bool,
    },
    /// Forget this very node, also one that left its name to another: as with
    /// [`Command::DeleteNode`].
    ForgetNode {
        /// Which.
        uid: NodeUid,
    },
    /// The machine itself wants to leave.
    Leave {
        /// Which.
        uid: NodeUid,
    },
    /// A removed machine says that it is empty.
    ConfirmDeparture {
        /// Which.
        uid: NodeUid,
    },
    /// Change a node's labels, taints or cordon.
    ChangeNode {
        /// Its name.
        name: NodeName,
        /// The changes, in order; all or none.
        changes: Vec<NodeChange>,
    },
    /// Give orders again: a person has looked at what the restored store leads to.
    Resume {
        /// Whether pods that run may be stopped or replaced by that.
        allow_removal: bool,
    },
    /// Follow the other one unless more running pods would end by it than may without being asked
    /// for: see the module `effect`.
    Careful(Box<Command>),
    /// Have one pod replaced (`delete pod`).
    ReplacePod {
        /// On which node.
        node: NodeUid,
        /// Of which DaemonSet.
        key: PodKey,
    },
}

/// What a revision has beside the template: content of ConfigMaps and Secrets, as it was read at the
/// door.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// What the body names; kept before.
    pub blobs: BTreeSet<Digest>,
    /// What pods can't start without and is not there, one line each.
    pub missing: Vec<String>,
    /// Which labels of its node a pod reads.
    pub labels: BTreeSet<String>,
    /// The `resourceVersion` of each object that was looked at; `None` where it was not there.
    pub seen: BTreeMap<ObjectKey, Option<u64>>,
    /// Objects of which the revision has another content than they have now; `None` where the
    /// revision stays what it is.
    pub drifted: Option<BTreeSet<ObjectKey>>,
}

/// Whether a put creates, changes, or either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutMode {
    /// It must not be there.
    Create,
    /// It must be there.
    Replace,
    /// Either.
    Apply,
}

/// One change of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeChange {
    /// Set a label.
    SetLabel {
        /// Its key.
        key: String,
        /// Its value.
        value: String,
        /// Whether another value may be overwritten (kubectl's `--overwrite`).
        overwrite: bool,
    },
    /// Remove a label; nothing happens where it is not there.
    RemoveLabel(String),
    /// Set a taint; one with the same key and effect is overwritten only if so allowed.
    SetTaint {
        /// The taint.
        taint: Taint,
        /// Whether another value may be overwritten.
        overwrite: bool,
    },
    /// Remove the taints with this key, and with this effect where one is given.
    RemoveTaint {
        /// The key.
        key: String,
        /// The effect.
        effect: Option<Effect>,
    },
    /// Cordon or uncordon.
    SetUnschedulable(bool),
    /// Hold it as it is, or with other words or for another time.
    Hold {
        /// Until when; for ever where it is `None`.
        until: Option<WallTime>,
        /// What for.
        reason: String,
    },
    /// End a hold.
    Release,
    /// Stop all its pods.
    Stop {
        /// What for.
        reason: String,
    },
    /// Run what is wanted there again.
    Start,
}

/// A command's effect: what to store, and what to answer once it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// To be stored, all or none; empty where nothing changes.
    pub writes: Vec<Write>,
    /// The answer.
    pub outcome: Outcome,
}

/// What a command led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The machine is (already) registered.
    Joined(Box<NodeRecord>),
    /// The token is kept, or ended.
    Token(Box<TokenRecord>),
    /// The DaemonSet as it is stored now.
    Set {
        /// The record.
        record: Box<SetRecord>,
        /// Whether it was created.
        created: bool,
        /// Whether anything changed.
        changed: bool,
    },
    /// The DaemonSet is gone.
    SetDeleted(Box<SetRecord>),
    /// The node is on its way out, or out.
    NodeLeaving {
        /// The record.
        record: Box<NodeRecord>,
        /// The pods that it is known to run and that will be stopped there.
        pods: Vec<PodKey>,
        /// Whether it is in reach, so that it will be soon.
        connected: bool,
    },
    /// The object as it is stored now.
    Object {
        /// The record.
        record: Box<ObjectRecord>,
        /// Whether it was created.
        created: bool,
        /// Whether anything changed.
        changed: bool,
    },
    /// The object is gone; a Namespace as soon as what is in it is.
    ObjectDeleted(Box<ObjectRecord>),
    /// What each of several commands led to.
    All(Vec<Self>),
    /// The node was changed, or was so already.
    Node(Box<NodeRecord>),
    /// Nothing more to say.
    Done,
}

/// Why a command was not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No such token, or its secret is another: never said which.
    TokenInvalid,
    /// The token has ended.
    TokenExpired,
    /// As many machines as it allows have joined with it.
    TokenUsedUp,
    /// The token is for another node name.
    TokenForOtherNode {
        /// The only name it is for.
        name: NodeName,
    },
    /// A node of that name is registered, and the token does not say `--replace`.
    NameTaken {
        /// The name.
        name: NodeName,
    },
    /// A DaemonSet of that name is there.
    SetExists(PodKey),
    /// There is none.
    SetNotFound(PodKey),
    /// An object of that name is there.
    ObjectExists(ObjectKey),
    /// There is none.
    ObjectNotFound(ObjectKey),
    /// The namespace is being deleted: nothing can be created in it.
    NamespaceTerminating {
        /// Which namespace.
        namespace: String,
        /// What was to be created, such as `configmaps "x"`.
        what: String,
    },
    /// The namespace is always there.
    NamespaceBuiltIn(String),
    /// It is another one than the caller means, or has changed since.
    Conflict {
        /// About what, such as `daemonsets.apps "x"`.
        what: String,
        /// How.
        detail: String,
    },
    /// `spec.selector` can't be changed.
    SelectorImmutable(PodKey),
    /// No such node by name.
    NodeNotFound(String),
    /// No node with that uid was ever registered here, or it was forgotten. Not a reason to tear
    /// anything down.
    NodeUnknown(NodeUid),
    /// The node has been removed.
    NodeRemoved(NodeUid),
    /// The node has not been removed: it can't confirm its departure.
    NodeNotLeaving(NodeUid),
    /// No such pod.
    PodNotFound {
        /// On which node.
        node: NodeName,
        /// Of which DaemonSet.
        key: PodKey,
    },
    /// A label or taint has another value, and overwriting was not asked for.
    NotOverwritten {
        /// Its key.
        key: String,
        /// The value it has.
        has: String,
    },
    /// No such token.
    TokenNotFound(String),
    /// A label or taint to remove is not there.
    TaintNotFound(String),
    /// Pods that run would be stopped or replaced, and that was not allowed.
    WouldRemove {
        /// How many pods.
        pods: usize,
        /// On how many nodes.
        nodes: usize,
    },
    /// More running pods of one DaemonSet would be gone than may be without being asked for.
    WouldRemoveOf {
        /// Which.
        key: PodKey,
        /// How many pods.
        pods: usize,
        /// Of how many that run.
        of: usize,
    },
    /// Several DaemonSets would be gone, and with them more of all running pods than may be without
    /// being asked for.
    WouldRemoveSets {
        /// How many DaemonSets.
        sets: usize,
        /// How many pods.
        pods: usize,
        /// Of how many that run.
        of: usize,
    },
    /// People hold the node as it is.
    NodeHeld(NodeName),
    /// People have stopped the node.
    NodeStopped(NodeName),
    /// Nobody holds the node.
    NodeNotHeld(NodeName),
    /// Nobody has stopped the node.
    NodeNotStopped(NodeName),
    /// Nodes have not called since the restore, so that nobody knows what of theirs would be stopped
    /// or replaced, and that was not allowed.
    NotCalled {
        /// How many nodes.
        nodes: usize,
    },
    /// A limit is reached.
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
}
