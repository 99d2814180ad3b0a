//! Reading the fleet. Views may walk over it; nothing here is called for an event.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use everynode_model::{
    BUILT_IN_NAMESPACES, Digest, NodeName, NodeUid, ObjectKey, ObjectKind, ObjectUid, PodKey,
    PodStatus, Reason, SetUid, WallTime, pod_name,
};

use crate::Fleet;
use crate::conditions::conditions;
use crate::record::{
    EventRecord, NodeRecord, ObjectRecord, Opaque, RevisionRecord, SetRecord, TokenRecord,
};
use crate::records::Place;
use crate::seen::Seen;
use crate::status::Tally;
use crate::view::{NodeView, PodView, Readiness, SetView};
use crate::why::{ordered, orders_held};

/// Which pods to show; all where nothing is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFilter {
    /// Only on this node.
    pub node: Option<NodeUid>,
    /// Only of this namespace.
    pub namespace: Option<String>,
    /// Only of this DaemonSet.
    pub set: Option<PodKey>,
}

impl Fleet {
    /// The DaemonSets of a namespace, or all, by namespace and name.
    pub fn sets(&self, namespace: Option<&str>) -> Vec<SetView> {
        let keys = self.records.keys.keys();
        let named = keys.filter(|key| namespace.is_none_or(|only| only == key.namespace()));
        named.filter_map(|key| self.set(key)).collect()
    }

    /// One DaemonSet.
    pub fn set(&self, key: &PodKey) -> Option<SetView> {
        let (uid, records) = self.records.set(key)?;
        let record = records.record.as_ref().filter(|record| !record.set.is_orphaned())?;
        let head = records.head.as_ref()?;
        let empty = Tally::default();
        let tally = self.tallies.get(&uid).unwrap_or(&empty);
        let shown = self.status_versions.get(&uid).copied().unwrap_or(0);
        Some(SetView {
            record: Arc::clone(record),
            status: tally.status,
            stable: head.stable,
            target: head.target,
            conditions: conditions(records, head, tally, &self.records.due_of(&record.set)),
            resource_version: shown.max(record.resource_version),
        })
    }

    /// All nodes, by uid; tombstones are not among them.
    pub fn nodes(&self) -> Vec<NodeView> {
        self.seen.keys().filter_map(|uid| self.node(*uid)).collect()
    }

    /// One node, unless it is unknown or only a tombstone is left of it.
    pub fn node(&self, uid: NodeUid) -> Option<NodeView> {
        let record = self.records.nodes.get(&uid)?;
        let holder = self.records.names.get(&record.name);
        let replaced = holder.is_some_and(|holder| *holder != uid);
        self.seen.get(&uid).map(|seen| node_view(record, replaced, seen, self.ahead(uid)))
    }

    /// The Active node of that name.
    pub fn node_by_name(&self, name: &NodeName) -> Option<NodeView> {
        self.node(*self.records.names.get(name)?)
    }

    /// Pods as their nodes reported them, and those that are wanted and not reported yet.
    pub fn pods(&self, filter: &PodFilter) -> Vec<PodView> {
        match filter.node {
            Some(node) => self.pods_of(node, filter),
            None => self.seen.keys().flat_map(|node| self.pods_of(*node, filter)).collect(),
        }
    }

    /// The pod of that namespace and name. Looks through those of the DaemonSet whose name it bears
    /// ([`pod_name`]).
    pub fn pod(&self, namespace: &str, name: &str) -> Option<PodView> {
        let (set, _) = name.rsplit_once('-')?;
        let key = PodKey::new(namespace, set).ok()?;
        self.seen.keys().flat_map(|node| self.place(*node, &key)).find(|pod| pod.name == name)
    }

    /// What a watcher of pods needs after [`crate::Changed::Pod`]: what is in that place now.
    pub fn place(&self, node: NodeUid, key: &PodKey) -> Vec<PodView> {
        let filter = PodFilter { set: Some(key.clone()), ..PodFilter::default() };
        self.pods_of(node, &filter)
    }

    /// The kept events, oldest first.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = &EventRecord> {
        self.events.kept()
    }

    /// A set's revisions, oldest first.
    pub fn revisions(&self, set: SetUid) -> Vec<Arc<RevisionRecord>> {
        let records = self.records.sets.get(&set);
        let all = records.map(|records| records.revisions.values().cloned());
        let mut all: Vec<_> = all.into_iter().flatten().collect();
        all.sort_by_key(|revision| revision.number);
        all
    }

    /// That revision of a set, as long as it is kept.
    pub fn revision(&self, set: SetUid, digest: Digest) -> Option<&Arc<RevisionRecord>> {
        self.records.sets.get(&set)?.revisions.get(&digest)
    }

    /// The object of that key. A namespace is also there where something is in it.
    pub fn object(&self, key: &ObjectKey) -> Option<ObjectRecord> {
        let record = self.records.objects.get(key).map(|record| ObjectRecord::clone(record));
        record.or_else(|| self.implied(key))
    }

    /// The objects of a kind, in a namespace or in all, by namespace and name.
    pub fn objects(&self, kind: ObjectKind, namespace: Option<&str>) -> Vec<ObjectRecord> {
        let all = self.records.objects.values().filter(|record| record.key.kind == kind);
        let mut all: BTreeMap<ObjectKey, ObjectRecord> =
            all.map(|record| (record.key.clone(), ObjectRecord::clone(record))).collect();
        if kind == ObjectKind::Namespace {
            let named = self.records.keys.keys().map(PodKey::namespace);
            let named = named.chain(BUILT_IN_NAMESPACES).map(ObjectKey::namespace);
            for key in named.collect::<BTreeSet<_>>() {
                let implied = self.implied(&key).filter(|_| !all.contains_key(&key));
                all.extend(implied.map(|record| (key, record)));
            }
        }
        let named =
            |record: &ObjectRecord| namespace.is_none_or(|only| only == record.key.namespace);
        all.into_values().filter(named).collect()
    }

    /// What is stored of the DaemonSets whose templates read this object.
    pub fn readers(&self, key: &ObjectKey) -> Vec<Arc<SetRecord>> {
        let readers = self.records.readers.get(key).into_iter().flatten();
        readers.filter_map(|uid| self.records.sets.get(uid)?.record.clone()).collect()
    }

    /// The DaemonSets whose revisions are to follow an object that they read, by namespace and name.
    /// Whoever puts objects sees to it, also after a restart: each needs a revision of what the objects
    /// say now, for which its content must be kept.
    pub fn due(&self) -> Vec<PodKey> {
        let due = self.records.due.values().flatten();
        let sets =
            due.collect::<BTreeSet<_>>().into_iter().filter_map(|uid| self.records.sets.get(uid));
        let shown = sets.filter_map(|records| records.record.as_ref());
        let shown = shown.filter(|record| !record.set.is_orphaned());
        let due = shown.filter(|record| !self.records.due_of(&record.set).is_empty());
        due.map(|record| record.set.key.clone()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Whether this content is kept.
    pub fn has_blob(&self, digest: Digest) -> bool {
        self.records.blobs.contains_key(&digest)
    }

    /// Kept content.
    pub fn blob(&self, digest: Digest) -> Option<Opaque> {
        self.records.blobs.get(&digest).cloned()
    }

    pub(crate) fn is_empty_namespace(&self, name: &str) -> bool {
        let sets = self.records.keys.keys().any(|key| key.namespace() == name);
        !sets && !self.records.objects.keys().any(|key| key.namespace == name)
    }

    /// A namespace that nobody has created: built in, or from before namespaces were objects.
    fn implied(&self, key: &ObjectKey) -> Option<ObjectRecord> {
        let name = key.name.as_str();
        let there = BUILT_IN_NAMESPACES.contains(&name) || !self.is_empty_namespace(name);
        let label = ("kubernetes.io/metadata.name".to_owned(), name.to_owned());
        let object = format!(
            r#"{{"apiVersion":"v1","kind":"Namespace","metadata":{{"labels":{{"{}":"{name}"}},"name":"{name}"}}}}"#,
            label.0
        );
        (key.kind == ObjectKind::Namespace && there).then(|| ObjectRecord {
            key: key.clone(),
            // The same each time, and for each cluster: there is nothing else it could be.
            uid: ObjectUid::from_name(self.records.cluster.id, name),
            labels: [label].into(),
            object: Opaque(object.into_bytes().into()),
            created_at: WallTime::default(),
            resource_version: ObjectRecord::IMPLIED,
            terminating: None,
        })
    }

    /// The join tokens, by id.
    pub fn tokens(&self) -> impl Iterator<Item = &TokenRecord> {
        self.records.tokens.values()
    }

    /// A node's record, also a tombstone's.
    pub fn node_record(&self, uid: NodeUid) -> Option<&Arc<NodeRecord>> {
        self.records.nodes.get(&uid)
    }

    fn pods_of(&self, uid: NodeUid, filter: &PodFilter) -> Vec<PodView> {
        let (Some(node), Some(seen)) = (self.records.nodes.get(&uid), self.seen.get(&uid)) else {
            return Vec::new();
        };
        let shown = |key: &PodKey| {
            filter.set.as_ref().is_none_or(|only| only == key)
                && filter.namespace.as_ref().is_none_or(|only| only == key.namespace())
        };
        let mut pods = Vec::new();
        for (key, place) in seen.places.iter().filter(|(key, _)| shown(key)) {
            let version = place.version.max(seen.version);
            pods.extend(place.pods.iter().map(|pod| self.reported(node, seen, key, pod, version)));
        }
        for (key, set) in self.records.keys.iter().filter(|(key, _)| shown(key)) {
            pods.extend(self.awaited(node, seen, key, *set));
        }
        pods
    }

    fn reported(
        &self,
        node: &Arc<NodeRecord>,
        seen: &Seen,
        key: &PodKey,
        pod: &PodStatus,
        resource_version: u64,
    ) -> PodView {
        // Leftovers of a deleted set may be there for a while.
        let set = self.records.sets.get(&pod.set);
        let reason = match set.is_some_and(|set| set.record.is_some()) {
            true => self.reason(pod.set, node.uid),
            false if pod.is_held() => None,
            false if node.order.holds() => ordered(node),
            false if self.hold().is_some() => {
                Some(orders_held("the store does not know its DaemonSet"))
            }
            false => Some(Reason::new("BeingRemoved", "its DaemonSet is not there any more")),
        };
        let record = set.and_then(|set| set.record.as_ref());
        PodView {
            name: pod_name(key, pod.uid.uuid().as_bytes()),
            node: Arc::clone(node),
            key: key.clone(),
            set: pod.set,
            orphaned: record.is_some_and(|record| record.set.is_orphaned()),
            status: Some(pod.clone()),
            reason: reason.or_else(|| pod.reason.clone()),
            revision: pod.revision,
            stale: matches!(seen.readiness, Readiness::Lost { .. }),
            resource_version,
        }
    }

    fn awaited(
        &self,
        node: &Arc<NodeRecord>,
        seen: &Seen,
        key: &PodKey,
        set: SetUid,
    ) -> Option<PodView> {
        let records = self.records.sets.get(&set)?;
        let record = records.record.as_ref()?;
        let here = seen.places.get(key).and_then(|place| place.pod_of(set));
        if here.is_some() || records.place(node) != Place::Run {
            return None;
        }
        let grant = records.grant(node.uid)?;
        let (set_id, node_id) = (set.uuid(), node.uid.uuid());
        let identity = Digest::of_parts([
            set_id.as_bytes().as_slice(),
            node_id.as_bytes().as_slice(),
            grant.revision.as_bytes().as_slice(),
        ]);
        Some(PodView {
            name: pod_name(key, identity.as_bytes()),
            node: Arc::clone(node),
            key: key.clone(),
            set,
            orphaned: false,
            status: None,
            reason: self.reason(set, node.uid),
            revision: grant.revision,
            stale: matches!(seen.readiness, Readiness::Lost { .. }),
            resource_version: seen.version.max(record.resource_version).max(node.resource_version),
        })
    }
}

fn node_view(
    record: &Arc<NodeRecord>,
    replaced: bool,
    seen: &Seen,
    ahead: Option<Reason>,
) -> NodeView {
    NodeView {
        record: Arc::clone(record),
        readiness: seen.readiness,
        replaced,
        connected: seen.is_in_reach(),
        hello: seen.hello.clone(),
        acknowledged: seen.acknowledged,
        ahead,
        resource_version: record.resource_version.max(seen.version),
    }
}
