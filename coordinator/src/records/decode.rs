//! Bytes to records.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use everynode_coordinator_core::{
    ClusterRecord, Due, EventRecord, EventType, Grant, GrantHead, HoldRecord, InvolvedObject,
    NodeOrder, NodeRecord, NodeStanding, ObjectRecord, Opaque, Record, RecordKey, RevisionRecord,
    SetRecord, Stalled, TokenRecord,
};
use everynode_model::{
    Digest, NodeName, NodeUid, ObjectKey, ObjectKind, PodKey, SetUid, Term, WallTime,
};
use everynode_proto::storage;
use everynode_proto::storage::node_record::{Order, Standing};
use prost::Message;
use uuid::Uuid;

/// Why a stored record can't be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Its key is not of its kind's form.
    #[error("its key is malformed: {0}")]
    Key(String),
    /// Its bytes are not a message.
    #[error("its bytes are damaged: {0}")]
    Bytes(#[from] prost::DecodeError),
    /// A field of it can't be taken.
    #[error("{field}: {detail}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        detail: String,
    },
}

/// The record stored at `key`.
pub(super) fn value(key: &RecordKey, bytes: &[u8]) -> Result<Record, DecodeError> {
    Ok(match key {
        RecordKey::Cluster => Record::Cluster(cluster(&read(bytes)?)?),
        RecordKey::Hold => Record::Hold(hold(&read(bytes)?)),
        RecordKey::Node(uid) => Record::Node(node(*uid, read(bytes)?)?),
        RecordKey::Set(key) => Record::Set(set(key, read(bytes)?)?),
        RecordKey::Object(key) => Record::Object(object(key, read(bytes)?)?),
        RecordKey::Due => Record::Due(due(&read(bytes)?)?),
        RecordKey::Blob(digest) => {
            let stored: storage::BlobRecord = read(bytes)?;
            Record::Blob(*digest, Opaque(stored.content.into()))
        }
        RecordKey::Revision(set, digest) => {
            Record::Revision(revision(*set, *digest, read(bytes)?)?)
        }
        RecordKey::GrantHead(set) => Record::GrantHead(grant_head(*set, read(bytes)?)?),
        RecordKey::GrantChunk(set, number) => {
            Record::GrantChunk(*set, *number, grant_chunk(&read(bytes)?)?)
        }
        RecordKey::Token(id) => Record::Token(token(id, &read(bytes)?)?),
        RecordKey::Event(sequence) => Record::Event(event(*sequence, read(bytes)?)),
    })
}

impl DecodeError {
    pub(super) fn key(detail: impl Display) -> Self {
        Self::Key(detail.to_string())
    }

    fn field(field: &'static str, detail: impl Display) -> Self {
        Self::Field { field, detail: detail.to_string() }
    }
}

fn read<M: Message + Default>(bytes: &[u8]) -> Result<M, DecodeError> {
    Ok(M::decode(bytes)?)
}

fn cluster(stored: &storage::ClusterRecord) -> Result<ClusterRecord, DecodeError> {
    Ok(ClusterRecord {
        id: text("id", &stored.id)?,
        term: Term(stored.term),
        reign: text("reign", &stored.reign)?,
    })
}

fn hold(stored: &storage::HoldRecord) -> HoldRecord {
    HoldRecord { since: at(stored.since_millis), copied_in: Term(stored.copied_in_term) }
}

fn node(uid: NodeUid, stored: storage::NodeRecord) -> Result<NodeRecord, DecodeError> {
    Ok(NodeRecord {
        uid,
        name: NodeName::new(&stored.name).map_err(|error| DecodeError::field("name", error))?,
        standing: standing(stored.standing, stored.standing_since_millis)?,
        labels: stored.labels.into_iter().collect(),
        taints: stored
            .taints
            .iter()
            .map(|taint| text("taints", taint))
            .collect::<Result<_, _>>()?,
        stood: stored
            .stood
            .iter()
            .map(|(taint, stood)| Ok::<_, DecodeError>((text("stood", taint)?, *stood)))
            .collect::<Result<_, _>>()?,
        joined_labels: stored.joined_labels.into_iter().collect(),
        public_key: digest("public_key", &stored.public_key)?,
        machine_id: stored.machine_id,
        token_id: stored.token_id,
        joined_at: at(stored.joined_at_millis),
        unschedulable: stored.unschedulable,
        order: order(stored.order),
        granted: stored
            .granted
            .into_iter()
            .map(|(set, granted)| {
                Ok::<_, DecodeError>((text("granted", &set)?, granted.labels.into_iter().collect()))
            })
            .collect::<Result<_, _>>()?,
        resource_version: stored.resource_version,
    })
}

fn order(stored: Option<Order>) -> NodeOrder {
    match stored {
        None => NodeOrder::None,
        Some(Order::Hold(hold)) => NodeOrder::Hold {
            since: at(hold.since_millis),
            until: hold.until_millis.map(at),
            reason: hold.reason,
        },
        Some(Order::Stop(stop)) => {
            NodeOrder::Stop { since: at(stop.since_millis), reason: stop.reason }
        }
    }
}

/// A standing that this version does not know is no reason to guess: taken for Active it could run
/// what must not run, taken for Removed it could tear down what must stay.
fn standing(standing: i32, since: i64) -> Result<NodeStanding, DecodeError> {
    match Standing::try_from(standing) {
        Ok(Standing::Active) => Ok(NodeStanding::Active),
        Ok(Standing::Leaving) => Ok(NodeStanding::Leaving { since: at(since) }),
        Ok(Standing::Removed) => Ok(NodeStanding::Removed { confirmed_at: at(since) }),
        Err(_) => Err(DecodeError::field("standing", "not one this version knows")),
    }
}

fn set(key: &PodKey, stored: storage::SetRecord) -> Result<SetRecord, DecodeError> {
    let object = serde_json::from_slice(&stored.object)
        .map_err(|error| DecodeError::field("object", error))?;
    let uid = text("uid", &stored.uid)?;
    let revision = digest("revision", &stored.revision)?;
    let set = everynode_manifest::daemon_set_from(&object, uid, stored.generation, revision)
        .map_err(|error| DecodeError::field("object", error))?;
    if set.key != *key {
        return Err(DecodeError::field("object", format!("it is of {}", set.key)));
    }
    let set = if stored.orphaned { set.orphaned() } else { set };
    Ok(SetRecord {
        set,
        object: stored.object.into(),
        created_at: at(stored.created_at_millis),
        resource_version: stored.resource_version,
        drifted: stored
            .drifted
            .iter()
            .map(|key| object_key("drifted", key))
            .collect::<Result<_, _>>()?,
    })
}

fn object_key(field: &'static str, stored: &storage::ObjectRef) -> Result<ObjectKey, DecodeError> {
    let kind = ObjectKind::parse(&stored.kind)
        .ok_or_else(|| DecodeError::field(field, "not a kind this version knows"))?;
    Ok(ObjectKey { kind, namespace: stored.namespace.clone(), name: stored.name.clone() })
}

fn object(key: &ObjectKey, stored: storage::ObjectRecord) -> Result<ObjectRecord, DecodeError> {
    let object: serde_json::Value = serde_json::from_slice(&stored.object)
        // Where in a Secret it is damaged is told, what stands there is not.
        .map_err(|error| {
            DecodeError::field("object", format!("not JSON, column {}", error.column()))
        })?;
    let labels = object.pointer("/metadata/labels").and_then(serde_json::Value::as_object);
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let labels = labels.into_iter().flatten().map(|(key, value)| (key.clone(), text(value)));
    Ok(ObjectRecord {
        key: key.clone(),
        uid: self::text("uid", &stored.uid)?,
        labels: labels.collect(),
        object: Opaque(stored.object.into()),
        created_at: at(stored.created_at_millis),
        resource_version: stored.resource_version,
        terminating: stored.terminating_millis.map(at),
    })
}

fn due(stored: &storage::DueRecord) -> Result<Due, DecodeError> {
    let uid = |bytes: &Vec<u8>| {
        let uuid = Uuid::from_slice(bytes).map_err(|error| DecodeError::field("sets", error))?;
        Ok(SetUid::new(uuid))
    };
    let sets: Vec<SetUid> = stored.sets.iter().map(uid).collect::<Result<_, DecodeError>>()?;
    let set = |place: &u32| {
        let set = usize::try_from(*place).ok().and_then(|place| sets.get(place)).copied();
        set.ok_or_else(|| DecodeError::field("objects", "it points beyond the sets"))
    };
    let object = |stored: &storage::due_record::Object| {
        let key = object_key("objects", &stored.object.clone().unwrap_or_default())?;
        Ok((key, stored.sets.iter().map(set).collect::<Result<_, _>>()?))
    };
    stored.objects.iter().map(object).collect()
}

fn revision(
    set: SetUid,
    digest: Digest,
    stored: storage::RevisionRecord,
) -> Result<RevisionRecord, DecodeError> {
    let blobs = stored.blobs.iter().map(|bytes| self::digest("blobs", bytes));
    Ok(RevisionRecord {
        set,
        digest,
        blobs: blobs.collect::<Result<_, _>>()?,
        missing: stored.missing,
        labels: stored.labels.into_iter().collect(),
        number: stored.number,
        body: stored.body.into(),
        normal_form: stored.normal_form,
        created_at: at(stored.created_at_millis),
        change_cause: stored.change_cause,
    })
}

fn grant_head(set: SetUid, stored: storage::GrantHead) -> Result<GrantHead, DecodeError> {
    Ok(GrantHead {
        set,
        stable: match stored.stable.is_empty() {
            true => None,
            false => Some(digest("stable", &stored.stable)?),
        },
        target: digest("target", &stored.target)?,
        marks: stored.marks.into_iter().collect(),
        rollout: stored.rollout,
        promoted: stored.promoted,
        settled: stored.settled,
        relabels: stored.relabels,
        stalled: stored.stalled.map(|stalled| Stalled {
            rollout: stalled.rollout,
            moved: stalled.moved,
            done: stalled.done,
            time: Duration::from_millis(stalled.time_millis),
        }),
    })
}

fn grant_chunk(stored: &storage::GrantChunk) -> Result<BTreeMap<NodeUid, Grant>, DecodeError> {
    let revisions: Vec<Digest> = stored
        .revisions
        .iter()
        .map(|bytes| digest("revisions", bytes))
        .collect::<Result<_, _>>()?;
    let (nodes, rest) = stored.nodes.as_chunks::<16>();
    let of_one_length = nodes.len() == stored.revision_of.len();
    if !rest.is_empty() || !of_one_length || nodes.len() != stored.replace.len() {
        return Err(DecodeError::field("nodes", "the columns are not of one length"));
    }
    let rows = nodes.iter().zip(&stored.revision_of).zip(&stored.replace);
    rows.map(|((node, place), replace)| {
        let place = usize::try_from(*place).unwrap_or(usize::MAX);
        let revision = *revisions
            .get(place)
            .ok_or_else(|| DecodeError::field("revision_of", "it points beyond the revisions"))?;
        // A store from before rollouts had numbers has none; nor did older ones surge.
        let rollout = stored.rollouts.get(place).copied().unwrap_or(0);
        let surge = stored.surges.get(place).copied().unwrap_or(false);
        let grant = Grant { revision, replace: *replace, rollout, surge };
        Ok((NodeUid::new(Uuid::from_bytes(*node)), grant))
    })
    .collect()
}

fn token(id: &str, stored: &storage::TokenRecord) -> Result<TokenRecord, DecodeError> {
    let node_name = match stored.node_name.as_str() {
        "" => None,
        name => Some(NodeName::new(name).map_err(|error| DecodeError::field("node_name", error))?),
    };
    Ok(TokenRecord {
        id: id.to_owned(),
        secret: digest("secret_sha256", &stored.secret_sha256)?,
        created_at: at(stored.created_at_millis),
        expires_at: at(stored.expires_at_millis),
        uses_left: stored.uses_left,
        node_name,
        replace: stored.replace,
    })
}

fn event(sequence: u64, stored: storage::EventRecord) -> EventRecord {
    EventRecord {
        sequence,
        about: InvolvedObject {
            kind: stored.kind,
            namespace: stored.namespace,
            name: stored.name,
            uid: stored.uid,
        },
        event_type: if stored.warning { EventType::Warning } else { EventType::Normal },
        reason: stored.reason,
        message: stored.message,
        count: stored.count,
        first_at: at(stored.first_at_millis),
        last_at: at(stored.last_at_millis),
    }
}

const fn at(unix_millis: i64) -> WallTime {
    WallTime::from_unix_millis(unix_millis)
}

fn text<T: std::str::FromStr>(field: &'static str, text: &str) -> Result<T, DecodeError>
where
    T::Err: Display,
{
    text.parse().map_err(|error| DecodeError::field(field, error))
}

fn digest(field: &'static str, bytes: &[u8]) -> Result<Digest, DecodeError> {
    Digest::try_from(bytes).map_err(|error| DecodeError::field(field, error))
}
