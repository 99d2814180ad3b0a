//! Where each record is stored; the table stands in `storage.proto`.

use everynode_coordinator_core::RecordKey;
use everynode_model::{ObjectKey, ObjectKind, PodKey};

use super::DecodeError;
use crate::pki::store::PREFIX as AUTHORITIES;

/// Where the cluster's record is stored; its revision is what every commit is fenced by.
pub const CLUSTER_KEY: &str = "/cluster";

/// What blobs are salted with.
pub const BLOB_KEY: &str = "/blob-key";

/// What a stored key is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A record of the fleet's.
    Record(RecordKey),
    /// Something that another part of the coordinator keeps.
    Elsewhere,
    /// Of a kind that this version does not know.
    Unknown,
}

/// The path of a record.
pub(super) fn path(key: &RecordKey) -> String {
    match key {
        RecordKey::Cluster => CLUSTER_KEY.into(),
        RecordKey::Hold => "/hold".into(),
        RecordKey::Node(uid) => format!("/nodes/{uid}"),
        RecordKey::Set(key) => format!("/daemonsets/{}/{}", key.namespace(), key.name()),
        RecordKey::Object(key) => match key.kind {
            ObjectKind::Namespace => format!("/objects/namespaces/{}", key.name),
            kind => format!("/objects/{}/{}/{}", kind.plural(), key.namespace, key.name),
        },
        RecordKey::Due => "/due".into(),
        RecordKey::Blob(digest) => format!("/blobs/{digest}"),
        RecordKey::Revision(set, digest) => format!("/revisions/{set}/{digest}"),
        RecordKey::GrantHead(set) => format!("/grants/{set}/head"),
        RecordKey::GrantChunk(set, number) => format!("/grants/{set}/chunk/{number:02}"),
        RecordKey::Token(id) => format!("/tokens/{id}"),
        // As wide as any u64, so that events are listed in their order.
        RecordKey::Event(sequence) => format!("/events/{sequence:020}"),
    }
}

/// What is stored at a path.
pub(super) fn parse(path: &str) -> Result<Place, DecodeError> {
    if path.starts_with(AUTHORITIES) || path == BLOB_KEY {
        return Ok(Place::Elsewhere);
    }
    let parts: Vec<&str> = path.split('/').collect();
    let key = match parts.as_slice() {
        ["", "cluster"] => RecordKey::Cluster,
        ["", "hold"] => RecordKey::Hold,
        ["", "nodes", uid] => RecordKey::Node(part(uid)?),
        ["", "daemonsets", namespace, name] => {
            RecordKey::Set(PodKey::new(namespace, name).map_err(DecodeError::key)?)
        }
        ["", "objects", "namespaces", name] => RecordKey::Object(ObjectKey::namespace(name)),
        ["", "objects", kind, namespace, name] => match kind_of(kind) {
            Some(kind) => RecordKey::Object(ObjectKey {
                kind,
                namespace: (*namespace).to_owned(),
                name: (*name).to_owned(),
            }),
            None => return Ok(Place::Unknown),
        },
        ["", "due"] => RecordKey::Due,
        ["", "blobs", digest] => RecordKey::Blob(part(digest)?),
        ["", "revisions", set, digest] => RecordKey::Revision(part(set)?, part(digest)?),
        ["", "grants", set, "head"] => RecordKey::GrantHead(part(set)?),
        ["", "grants", set, "chunk", number] => RecordKey::GrantChunk(part(set)?, part(number)?),
        ["", "tokens", id] => RecordKey::Token((*id).to_owned()),
        ["", "events", sequence] => RecordKey::Event(part(sequence)?),
        _ => return Ok(Place::Unknown),
    };
    Ok(Place::Record(key))
}

fn kind_of(plural: &str) -> Option<ObjectKind> {
    ObjectKind::ALL.into_iter().find(|kind| kind.plural() == plural)
}

fn part<T: std::str::FromStr>(text: &str) -> Result<T, DecodeError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(DecodeError::key)
}
