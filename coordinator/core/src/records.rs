//! The durable half of the fleet, and the one function from it to a node's assignment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use everynode_model::{
    Assignment, DaemonSet, Digest, Intent, Item, NodeName, NodeUid, ObjectKey, PodKey, SetUid,
    Surge, WallTime,
};

use crate::grants::{Chunk, bucket};
use crate::placement::verdict;
use crate::record::{
    ClusterRecord, Due, Grant, GrantHead, HoldRecord, NodeRecord, NodeStanding, ObjectRecord,
    Opaque, Record, RecordKey, RevisionRecord, SetRecord, TokenRecord, Write,
};

/// All records but events, with the indexes that make them quick to find.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    pub(crate) cluster: ClusterRecord,
    /// While it is there, no order goes out.
    pub(crate) hold: Option<HoldRecord>,
    pub(crate) nodes: BTreeMap<NodeUid, Arc<NodeRecord>>,
    /// Of Active nodes only: a leaving node's name is free.
    pub(crate) names: BTreeMap<NodeName, NodeUid>,
    /// Of all others: who had a name before.
    pub(crate) departed: BTreeMap<NodeName, BTreeSet<NodeUid>>,
    /// Of Active nodes, by [`join_mark`]: so that a repeated join finds its node.
    pub(crate) joins: BTreeMap<Digest, NodeUid>,
    /// Of Active nodes: the one that came last with a machine id.
    pub(crate) machines: BTreeMap<String, NodeUid>,
    /// Confirmed departures by time, for sweeping.
    pub(crate) tombstones: BTreeSet<(WallTime, NodeUid)>,
    /// Holds of Active nodes by the time at which they end by themselves.
    pub(crate) holds: BTreeSet<(WallTime, NodeUid)>,
    pub(crate) sets: BTreeMap<SetUid, SetRecords>,
    pub(crate) keys: BTreeMap<PodKey, SetUid>,
    pub(crate) objects: BTreeMap<ObjectKey, Arc<ObjectRecord>>,
    /// Namespaces that are being deleted.
    pub(crate) going: BTreeSet<ObjectKey>,
    pub(crate) due: Due,
    /// By object, the DaemonSets whose templates read it.
    pub(crate) readers: BTreeMap<ObjectKey, BTreeSet<SetUid>>,
    pub(crate) blobs: BTreeMap<Digest, Opaque>,
    /// How many revisions name a blob.
    pub(crate) blob_uses: BTreeMap<Digest, u32>,
    pub(crate) tokens: BTreeMap<String, TokenRecord>,
}

/// All records of one DaemonSet. Without [`Self::record`] it is a deleted one's leftovers.
#[derive(Clone, Debug, Default)]
pub(crate) struct SetRecords {
    pub(crate) record: Option<Arc<SetRecord>>,
    pub(crate) head: Option<GrantHead>,
    pub(crate) chunks: BTreeMap<u8, Chunk>,
    pub(crate) revisions: BTreeMap<Digest, Arc<RevisionRecord>>,
    /// How many exceptions name a revision.
    pub(crate) uses: BTreeMap<Digest, u32>,
}

/// What a node has to do with a set, by the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nothing.
    #[default]
    None,
    /// It runs the set's pod.
    Run,
    /// It keeps the pod it had; it would get none now.
    Keep,
}

/// What writes have touched, so that what follows from it can be computed anew.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    pub(crate) nodes: BTreeSet<NodeUid>,
    pub(crate) sets: BTreeSet<SetUid>,
    /// Sets of whose heads only numbers were changed.
    pub(crate) numbered: BTreeSet<SetUid>,
    pub(crate) grants: BTreeSet<(SetUid, NodeUid)>,
    /// Sets that are no longer there.
    pub(crate) gone: Vec<(PodKey, SetUid)>,
    /// Sets that were not there before; the uid may be one that nodes run already.
    pub(crate) come: Vec<(PodKey, SetUid)>,
    /// Whether orders began to be held, or are not any more.
    pub(crate) hold: bool,
    /// Names that another node has now, or none: those who had them are shown otherwise.
    pub(crate) names: BTreeSet<NodeName>,
    /// Sets that are due to follow an object, or are not any more.
    pub(crate) due: BTreeSet<SetUid>,
    /// Objects that were written or deleted.
    pub(crate) objects: BTreeSet<ObjectKey>,
    /// Blobs that came, or that another number of revisions names.
    pub(crate) blobs: BTreeSet<Digest>,
}

/// By what a repeated join is recognised.
pub(crate) fn join_mark(token: &str, public_key: Digest) -> Digest {
    Digest::of_parts([token.as_bytes(), public_key.as_bytes().as_slice()])
}

impl Records {
    pub(crate) fn new(cluster: ClusterRecord) -> Self {
        Self {
            cluster,
            hold: None,
            nodes: BTreeMap::new(),
            names: BTreeMap::new(),
            departed: BTreeMap::new(),
            joins: BTreeMap::new(),
            machines: BTreeMap::new(),
            tombstones: BTreeSet::new(),
            holds: BTreeSet::new(),
            sets: BTreeMap::new(),
            keys: BTreeMap::new(),
            objects: BTreeMap::new(),
            going: BTreeSet::new(),
            due: Due::new(),
            readers: BTreeMap::new(),
            blobs: BTreeMap::new(),
            blob_uses: BTreeMap::new(),
            tokens: BTreeMap::new(),
        }
    }

    /// Follows one write. Events are kept elsewhere and passed over.
    pub(crate) fn apply(&mut self, write: &Write, touched: &mut Touched) {
        match &write.record {
            Some(record) => self.put(record, touched),
            None => self.delete(&write.key, touched),
        }
    }

    /// The node, if it belongs.
    pub(crate) fn active(&self, node: NodeUid) -> Option<&Arc<NodeRecord>> {
        self.nodes.get(&node).filter(|record| record.standing == NodeStanding::Active)
    }

    /// The set of that name.
    pub(crate) fn set(&self, key: &PodKey) -> Option<(SetUid, &SetRecords)> {
        let uid = *self.keys.get(key)?;
        self.sets.get(&uid).map(|set| (uid, set))
    }

    /// The objects that the set's revision is still to follow.
    pub(crate) fn due_of(&self, set: &DaemonSet) -> Vec<ObjectKey> {
        let due = |key: &&ObjectKey| {
            self.objects.contains_key(*key)
                && self.due.get(*key).is_some_and(|sets| sets.contains(&set.uid))
        };
        set.reads.iter().filter(due).cloned().collect()
    }

    /// What `node` must run: a function of the records and nothing else.
    pub(crate) fn assignment(&self, node: NodeUid) -> Assignment {
        let Some(node) = self.active(node) else { return Assignment::default() };
        Assignment::new(self.keys.values().filter_map(|uid| self.sets.get(uid)?.item(node)))
    }

    fn put(&mut self, record: &Record, touched: &mut Touched) {
        match record {
            Record::Cluster(cluster) => self.cluster = *cluster,
            Record::Hold(hold) => {
                self.hold = Some(*hold);
                touched.hold = true;
            }
            Record::Node(node) => {
                let holder = self.names.get(&node.name).copied();
                self.unindex_node(node.uid);
                self.index_node(node);
                self.nodes.insert(node.uid, Arc::new(node.clone()));
                touched.nodes.insert(node.uid);
                if self.names.get(&node.name).copied() != holder {
                    touched.names.insert(node.name.clone());
                }
            }
            Record::Set(set) => {
                self.unindex_reader(&set.set.key);
                for object in &set.set.reads {
                    self.readers.entry(object.clone()).or_default().insert(set.set.uid);
                }
                if let Some(former) = self.keys.insert(set.set.key.clone(), set.set.uid)
                    && former != set.set.uid
                {
                    self.sets.entry(former).or_default().record = None;
                    touched.sets.insert(former);
                    touched.gone.push((set.set.key.clone(), former));
                }
                let records = self.sets.entry(set.set.uid).or_default();
                let former = records.record.replace(Arc::new(set.clone()));
                let was_shown = former.is_some_and(|former| !former.set.is_orphaned());
                match (was_shown, !set.set.is_orphaned()) {
                    (false, true) => touched.come.push((set.set.key.clone(), set.set.uid)),
                    (true, false) => touched.gone.push((set.set.key.clone(), set.set.uid)),
                    _ => {}
                }
                touched.sets.insert(set.set.uid);
            }
            Record::Revision(revision) => {
                self.count_blobs(&revision.blobs, touched, |uses| *uses += 1);
                let set = self.sets.entry(revision.set).or_default();
                let former = set.revisions.insert(revision.digest, Arc::new(revision.clone()));
                if let Some(former) = former {
                    self.count_blobs(&former.blobs, touched, |uses| *uses -= 1);
                }
            }
            Record::Object(object) => {
                match object.terminating {
                    Some(_) => _ = self.going.insert(object.key.clone()),
                    None => _ = self.going.remove(&object.key),
                }
                self.objects.insert(object.key.clone(), Arc::new(object.clone()));
                touched.objects.insert(object.key.clone());
            }
            Record::Due(due) => {
                let none = BTreeSet::new();
                for key in self.due.keys().chain(due.keys()) {
                    let [former, next] = [&self.due, due].map(|due| due.get(key).unwrap_or(&none));
                    touched.due.extend(former.symmetric_difference(next));
                }
                self.due = due.clone();
            }
            Record::Blob(digest, content) => {
                self.blobs.insert(*digest, content.clone());
                touched.blobs.insert(*digest);
            }
            Record::GrantHead(head) => {
                let former = self.sets.entry(head.set).or_default().head.replace(head.clone());
                match former.is_some_and(|former| former.is_same_rule(head)) {
                    true => touched.numbered.insert(head.set),
                    false => touched.sets.insert(head.set),
                };
            }
            Record::GrantChunk(set, number, chunk) => self.put_chunk(*set, *number, chunk, touched),
            Record::Token(token) => {
                self.tokens.insert(token.id.clone(), token.clone());
            }
            Record::Event(_) => {}
        }
    }

    fn delete(&mut self, key: &RecordKey, touched: &mut Touched) {
        match key {
            RecordKey::Node(uid) => {
                self.unindex_node(*uid);
                let former = self.nodes.remove(uid);
                touched.nodes.insert(*uid);
                touched.names.extend(former.map(|node| node.name.clone()));
            }
            RecordKey::Set(key) => {
                self.unindex_reader(key);
                if let Some(uid) = self.keys.remove(key) {
                    let former = self.sets.entry(uid).or_default().record.take();
                    touched.sets.insert(uid);
                    // One that only its pods were left of is gone already.
                    if former.is_none_or(|former| !former.set.is_orphaned()) {
                        touched.gone.push((key.clone(), uid));
                    }
                }
            }
            RecordKey::Revision(set, digest) => {
                let former = self.sets.entry(*set).or_default().revisions.remove(digest);
                if let Some(former) = former {
                    self.count_blobs(&former.blobs, touched, |uses| *uses -= 1);
                }
                touched.sets.extend(self.leftover(*set));
            }
            RecordKey::Object(key) => {
                self.going.remove(key);
                self.objects.remove(key);
                touched.due.extend(self.due.get(key).into_iter().flatten());
                touched.objects.insert(key.clone());
            }
            RecordKey::Due => self.put(&Record::Due(Due::new()), touched),
            RecordKey::Blob(digest) => {
                self.blobs.remove(digest);
                touched.blobs.insert(*digest);
            }
            RecordKey::GrantHead(set) => {
                self.sets.entry(*set).or_default().head = None;
                touched.sets.insert(*set);
            }
            RecordKey::GrantChunk(..) if mutated!(KeepDeletedGrants) => {}
            RecordKey::GrantChunk(set, number) => {
                self.put_chunk(*set, *number, &Chunk::new(), touched);
                touched.sets.extend(self.leftover(*set));
            }
            RecordKey::Token(id) => {
                self.tokens.remove(id);
            }
            RecordKey::Hold => {
                self.hold = None;
                touched.hold = true;
            }
            RecordKey::Cluster | RecordKey::Event(_) => {}
        }
    }

    /// The set of that name reads nothing any more.
    fn unindex_reader(&mut self, key: &PodKey) {
        let uid = self.keys.get(key).copied();
        let Some((uid, record)) =
            uid.and_then(|uid| Some((uid, self.sets.get(&uid)?.record.clone()?)))
        else {
            return;
        };
        for object in &record.set.reads {
            if let Some(readers) = self.readers.get_mut(object) {
                readers.remove(&uid);
                if readers.is_empty() {
                    self.readers.remove(object);
                }
            }
        }
    }

    fn count_blobs(
        &mut self,
        blobs: &BTreeSet<Digest>,
        touched: &mut Touched,
        change: impl Fn(&mut u32),
    ) {
        for digest in blobs {
            let uses = self.blob_uses.entry(*digest).or_default();
            change(uses);
            if *uses == 0 {
                self.blob_uses.remove(digest);
            }
            touched.blobs.insert(*digest);
        }
    }

    /// The set, where only leftovers of it are there: it may have to be forgotten.
    fn leftover(&self, set: SetUid) -> Option<SetUid> {
        self.sets.get(&set).filter(|records| records.record.is_none()).map(|_| set)
    }

    fn put_chunk(&mut self, set: SetUid, number: u8, chunk: &Chunk, touched: &mut Touched) {
        let records = self.sets.entry(set).or_default();
        let former = records.chunks.remove(&number).unwrap_or_default();
        for (node, grant) in &former {
            if chunk.get(node) != Some(grant) {
                touched.grants.insert((set, *node));
            }
            records.uncount(grant.revision);
        }
        for (node, grant) in chunk {
            if former.get(node) != Some(grant) {
                touched.grants.insert((set, *node));
            }
            *records.uses.entry(grant.revision).or_default() += 1;
        }
        if !chunk.is_empty() {
            records.chunks.insert(number, chunk.clone());
        }
    }

    fn index_node(&mut self, node: &NodeRecord) {
        if node.standing != NodeStanding::Active {
            self.departed.entry(node.name.clone()).or_default().insert(node.uid);
        }
        match node.standing {
            NodeStanding::Active => {
                self.names.insert(node.name.clone(), node.uid);
                self.joins.insert(join_mark(&node.token_id, node.public_key), node.uid);
                self.machines.insert(node.machine_id.clone(), node.uid);
                self.holds.extend(node.order.ends().map(|ends| (ends, node.uid)));
            }
            NodeStanding::Leaving { .. } => {}
            NodeStanding::Removed { confirmed_at } => {
                self.tombstones.insert((confirmed_at, node.uid));
            }
        }
    }

    fn unindex_node(&mut self, uid: NodeUid) {
        let Some(former) = self.nodes.get(&uid) else { return };
        // In one batch, the newcomer to a name may be written before the one who leaves it.
        if self.names.get(&former.name) == Some(&uid) {
            self.names.remove(&former.name);
        }
        if let Some(departed) = self.departed.get_mut(&former.name) {
            departed.remove(&uid);
            if departed.is_empty() {
                self.departed.remove(&former.name);
            }
        }
        let mark = join_mark(&former.token_id, former.public_key);
        if self.joins.get(&mark) == Some(&uid) {
            self.joins.remove(&mark);
        }
        if self.machines.get(&former.machine_id) == Some(&uid) {
            self.machines.remove(&former.machine_id);
        }
        if let Some(ends) = former.order.ends() {
            self.holds.remove(&(ends, uid));
        }
        if let NodeStanding::Removed { confirmed_at } = former.standing {
            self.tombstones.remove(&(confirmed_at, uid));
        }
    }
}

impl SetRecords {
    /// Whether nothing at all is left of it.
    pub(crate) fn is_empty(&self) -> bool {
        self.record.is_none()
            && self.head.is_none()
            && self.chunks.is_empty()
            && self.revisions.is_empty()
    }

    /// The node's exception, if it has one.
    pub(crate) fn exception(&self, node: NodeUid) -> Option<Grant> {
        self.chunks.get(&bucket(node))?.get(&node).copied()
    }

    /// What the node is granted: its exception, or else the rule. Nothing while its turn in the first
    /// rollout has not come.
    pub(crate) fn grant(&self, node: NodeUid) -> Option<Grant> {
        let rule = |head: &GrantHead| Some(self.unasked(head.stable?));
        self.exception(node).or_else(|| self.head.as_ref().and_then(rule))
    }

    /// A grant of this revision that no rollout gave.
    pub(crate) fn unasked(&self, revision: Digest) -> Grant {
        Grant { revision, replace: 0, rollout: 0, surge: self.surges() }
    }

    /// Whether new pods start beside old ones, by the strategy.
    pub(crate) fn surges(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.set.strategy.surges())
    }

    /// What the node has to do with this set.
    pub(crate) fn place(&self, node: &NodeRecord) -> Place {
        let (Some(record), Some(_)) = (&self.record, &self.head) else { return Place::None };
        if node.standing != NodeStanding::Active {
            return Place::None;
        }
        let verdict = verdict(&record.set, node);
        match verdict.run {
            Ok(()) => Place::Run,
            Err(_) if verdict.keep && self.exception(node.uid).is_some() => Place::Keep,
            Err(_) => Place::None,
        }
    }

    /// The newest number of its revisions; 0 without any.
    pub(crate) fn newest_number(&self) -> u64 {
        self.revisions.values().map(|revision| revision.number).max().unwrap_or(0)
    }

    fn item(&self, node: &NodeRecord) -> Option<Item> {
        let intent = match self.place(node) {
            Place::None => return None,
            Place::Run | Place::Keep if node.order.stops() => Intent::Stop,
            Place::Run => Intent::Run,
            Place::Keep => Intent::Keep,
        };
        let record = self.record.as_ref()?;
        let grant = self.grant(node.uid)?;
        let surges = grant.surge && intent == Intent::Run;
        Some(Item {
            key: record.set.key.clone(),
            set: record.set.uid,
            revision: grant.revision,
            replace: grant.replace,
            intent,
            after: Vec::new(),
            surge: surges.then_some(Surge { min_ready: record.set.min_ready }),
            labels: self.environment(node),
        })
    }

    fn uncount(&mut self, revision: Digest) {
        if let Some(uses) = self.uses.get_mut(&revision) {
            *uses -= 1;
            if *uses == 0 {
                self.uses.remove(&revision);
            }
        }
    }
}
