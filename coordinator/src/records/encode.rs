//! Records to bytes.

use std::collections::{BTreeMap, BTreeSet};

use everynode_coordinator_core::{
    ClusterRecord, Due, EventRecord, EventType, Grant, GrantHead, HoldRecord, NodeOrder,
    NodeRecord, NodeStanding, ObjectRecord, Record, RevisionRecord, SetRecord, TokenRecord,
};
use everynode_model::{Digest, Labels, NodeName, NodeUid, ObjectKey, SetUid};
use everynode_proto::storage;
use everynode_proto::storage::node_record::{Order, Standing};
use prost::Message as _;

/// A record's value.
pub(super) fn value(record: &Record) -> Vec<u8> {
    match record {
        Record::Cluster(cluster) => self::cluster(cluster).encode_to_vec(),
        Record::Hold(hold) => self::hold(hold).encode_to_vec(),
        Record::Node(node) => self::node(node).encode_to_vec(),
        Record::Set(set) => self::set(set).encode_to_vec(),
        Record::Object(object) => self::object(object).encode_to_vec(),
        Record::Due(due) => self::due(due).encode_to_vec(),
        Record::Blob(_, content) => {
            storage::BlobRecord { content: content.0.to_vec() }.encode_to_vec()
        }
        Record::Revision(revision) => self::revision(revision).encode_to_vec(),
        Record::GrantHead(head) => self::grant_head(head).encode_to_vec(),
        Record::GrantChunk(_, _, grants) => grant_chunk(grants).encode_to_vec(),
        Record::Token(token) => self::token(token).encode_to_vec(),
        Record::Event(event) => self::event(event).encode_to_vec(),
    }
}

fn cluster(cluster: &ClusterRecord) -> storage::ClusterRecord {
    storage::ClusterRecord {
        id: cluster.id.to_string(),
        term: cluster.term.0,
        reign: cluster.reign.to_string(),
    }
}

fn hold(hold: &HoldRecord) -> storage::HoldRecord {
    storage::HoldRecord { since_millis: hold.since.unix_millis, copied_in_term: hold.copied_in.0 }
}

fn node(node: &NodeRecord) -> storage::NodeRecord {
    let (standing, since) = match node.standing {
        NodeStanding::Active => (Standing::Active, 0),
        NodeStanding::Leaving { since } => (Standing::Leaving, since.unix_millis),
        NodeStanding::Removed { confirmed_at } => (Standing::Removed, confirmed_at.unix_millis),
    };
    storage::NodeRecord {
        uid: node.uid.to_string(),
        name: node.name.to_string(),
        standing: standing.into(),
        standing_since_millis: since,
        labels: node.labels.clone().into_iter().collect(),
        taints: node.taints.iter().map(ToString::to_string).collect(),
        stood: node.stood.iter().map(|(taint, stood)| (taint.to_string(), *stood)).collect(),
        joined_labels: node.joined_labels.clone().into_iter().collect(),
        public_key: bytes(node.public_key),
        machine_id: node.machine_id.clone(),
        token_id: node.token_id.clone(),
        joined_at_millis: node.joined_at.unix_millis,
        unschedulable: node.unschedulable,
        order: order(&node.order),
        granted: node.granted.iter().map(granted).collect(),
        resource_version: node.resource_version,
    }
}

fn granted((set, labels): (&SetUid, &Labels)) -> (String, storage::node_record::Granted) {
    let labels = labels.clone().into_iter().collect();
    (set.to_string(), storage::node_record::Granted { labels })
}

fn order(order: &NodeOrder) -> Option<Order> {
    use storage::node_record::{Hold, Stop};
    Some(match order {
        NodeOrder::None => return None,
        NodeOrder::Hold { since, until, reason } => Order::Hold(Hold {
            since_millis: since.unix_millis,
            until_millis: until.map(|until| until.unix_millis),
            reason: reason.clone(),
        }),
        NodeOrder::Stop { since, reason } => {
            Order::Stop(Stop { since_millis: since.unix_millis, reason: reason.clone() })
        }
    })
}

fn set(set: &SetRecord) -> storage::SetRecord {
    storage::SetRecord {
        uid: set.set.uid.to_string(),
        generation: set.set.generation,
        object: set.object.to_vec(),
        created_at_millis: set.created_at.unix_millis,
        resource_version: set.resource_version,
        revision: bytes(set.set.revision),
        drifted: set.drifted.iter().map(object_ref).collect(),
        orphaned: set.set.is_orphaned(),
    }
}

fn object_ref(key: &ObjectKey) -> storage::ObjectRef {
    storage::ObjectRef {
        kind: key.kind.to_string(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
    }
}

fn object(object: &ObjectRecord) -> storage::ObjectRecord {
    storage::ObjectRecord {
        uid: object.uid.to_string(),
        object: object.object.0.to_vec(),
        created_at_millis: object.created_at.unix_millis,
        resource_version: object.resource_version,
        terminating_millis: object.terminating.map(|since| since.unix_millis),
    }
}

/// Each set once, since all of them may read the same objects.
fn due(due: &Due) -> storage::DueRecord {
    let sets: BTreeSet<&SetUid> = due.values().flatten().collect();
    let places: BTreeMap<&SetUid, u32> = sets.iter().copied().zip(0..).collect();
    let objects = due.iter().map(|(key, sets)| storage::due_record::Object {
        object: Some(object_ref(key)),
        sets: sets.iter().filter_map(|set| places.get(set).copied()).collect(),
    });
    storage::DueRecord {
        objects: objects.collect(),
        sets: sets.into_iter().map(|set| set.uuid().as_bytes().to_vec()).collect(),
    }
}

fn revision(revision: &RevisionRecord) -> storage::RevisionRecord {
    storage::RevisionRecord {
        number: revision.number,
        body: revision.body.to_vec(),
        normal_form: revision.normal_form,
        created_at_millis: revision.created_at.unix_millis,
        change_cause: revision.change_cause.clone(),
        blobs: revision.blobs.iter().copied().map(bytes).collect(),
        missing: revision.missing.clone(),
        labels: revision.labels.iter().cloned().collect(),
    }
}

fn grant_head(head: &GrantHead) -> storage::GrantHead {
    storage::GrantHead {
        stable: head.stable.map(bytes).unwrap_or_default(),
        target: bytes(head.target),
        marks: head.marks.clone().into_iter().collect(),
        rollout: head.rollout,
        promoted: head.promoted,
        settled: head.settled,
        relabels: head.relabels,
        stalled: head.stalled.map(|stalled| storage::Stalled {
            rollout: stalled.rollout,
            moved: stalled.moved,
            done: stalled.done,
            time_millis: u64::try_from(stalled.time.as_millis()).unwrap_or(u64::MAX),
        }),
    }
}

/// Columns instead of rows, and each revision once: a chunk of a large fleet has hundreds of nodes
/// and rarely more than two revisions.
fn grant_chunk(grants: &BTreeMap<NodeUid, Grant>) -> storage::GrantChunk {
    let mut chunk = storage::GrantChunk::default();
    let mut places: BTreeMap<(Digest, u64, bool), u32> = BTreeMap::new();
    for (node, grant) in grants {
        chunk.nodes.extend_from_slice(node.uuid().as_bytes());
        let place =
            *places.entry((grant.revision, grant.rollout, grant.surge)).or_insert_with(|| {
                chunk.revisions.push(bytes(grant.revision));
                chunk.rollouts.push(grant.rollout);
                chunk.surges.push(grant.surge);
                // A chunk fits into 1 MiB, so its revisions can be counted.
                u32::try_from(chunk.revisions.len() - 1).unwrap_or(u32::MAX)
            });
        chunk.revision_of.push(place);
        chunk.replace.push(grant.replace);
    }
    chunk
}

fn token(token: &TokenRecord) -> storage::TokenRecord {
    storage::TokenRecord {
        secret_sha256: bytes(token.secret),
        created_at_millis: token.created_at.unix_millis,
        expires_at_millis: token.expires_at.unix_millis,
        uses_left: token.uses_left,
        node_name: token.node_name.as_ref().map_or_else(String::new, NodeName::to_string),
        replace: token.replace,
    }
}

fn event(event: &EventRecord) -> storage::EventRecord {
    storage::EventRecord {
        kind: event.about.kind.clone(),
        namespace: event.about.namespace.clone(),
        name: event.about.name.clone(),
        uid: event.about.uid.clone(),
        warning: event.event_type == EventType::Warning,
        reason: event.reason.clone(),
        message: event.message.clone(),
        count: event.count,
        first_at_millis: event.first_at.unix_millis,
        last_at_millis: event.last_at.unix_millis,
    }
}

fn bytes(digest: Digest) -> Vec<u8> {
    digest.as_bytes().to_vec()
}
