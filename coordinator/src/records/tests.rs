use std::collections::BTreeMap;
use std::time::Duration;

use everynode_coordinator_core::{
    ClusterRecord, EventRecord, EventType, Grant, GrantHead, HoldRecord, InvolvedObject,
    NodeRecord, NodeStanding, ObjectRecord, Opaque, RecordKey, RevisionRecord, SetRecord, Stalled,
    TokenRecord,
};
use everynode_model::{
    ClusterId, Digest, NodeName, NodeUid, ObjectKey, ObjectKind, ObjectUid, PodKey, ReignId,
    SetUid, Term, WallTime,
};
use everynode_store::MemoryStore;
use serde_json::json;
use uuid::Uuid;

use super::*;

const SET: SetUid = SetUid::new(Uuid::from_u128(3));
const AT: WallTime = WallTime::from_unix_millis(1_795_392_000_123);

fn node(number: u128, standing: NodeStanding) -> Record {
    Record::Node(NodeRecord {
        uid: NodeUid::new(Uuid::from_u128(number)),
        name: NodeName::new("edge-1").unwrap(),
        standing,
        labels: [("zone".to_owned(), "a".to_owned())].into(),
        taints: vec!["a=b:NoSchedule".parse().unwrap(), "c:NoExecute".parse().unwrap()],
        stood: [("c:NoExecute".parse().unwrap(), 30)].into(),
        joined_labels: BTreeMap::new(),
        public_key: Digest::of(b"key"),
        machine_id: "m".into(),
        token_id: "0123456789".into(),
        joined_at: AT,
        unschedulable: true,
        granted: [(SetUid::new(Uuid::from_u128(5)), [("site".into(), "lab".into())].into())].into(),
        order: everynode_coordinator_core::NodeOrder::Hold {
            since: WallTime::from_unix_millis(5),
            until: Some(WallTime::from_unix_millis(6)),
            reason: "a visit".into(),
        },
        resource_version: 1 << 50,
    })
}

fn set_record(revision: Digest) -> SetRecord {
    let object = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "x", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": "x"}},
            "template": {
                "metadata": {"labels": {"app": "x"}},
                "spec": {"runtimeClassName": "process", "hostNetwork": true,
                         "containers": [{"name": "x", "command": ["/bin/x"]}]},
            },
        },
    });
    let admitted = everynode_manifest::admit(&object).unwrap();
    let set = everynode_manifest::daemon_set_from(&admitted.object, SET, 4, revision).unwrap();
    SetRecord {
        set,
        object: admitted.object.to_string().into_bytes().into(),
        created_at: AT,
        resource_version: 9,
        drifted: [ObjectKey { kind: ObjectKind::Secret, namespace: "n".into(), name: "x".into() }]
            .into(),
    }
}

fn orphan(record: SetRecord) -> SetRecord {
    SetRecord { set: record.set.orphaned(), ..record }
}

fn chunk(grants: impl IntoIterator<Item = (u128, &'static str, u64)>) -> Record {
    let grants = grants.into_iter().map(|(node, revision, replace)| {
        let rollout = u64::from(replace > 3);
        let surge = replace > 4;
        let grant = Grant { revision: Digest::of(revision.as_bytes()), replace, rollout, surge };
        (NodeUid::new(Uuid::from_u128(node)), grant)
    });
    Record::GrantChunk(SET, 7, grants.collect())
}

fn token(node_name: Option<&str>, uses_left: Option<u32>) -> Record {
    Record::Token(TokenRecord {
        id: "0123456789".into(),
        secret: Digest::of(b"secret"),
        created_at: AT,
        expires_at: AT,
        uses_left,
        node_name: node_name.map(|name| NodeName::new(name).unwrap()),
        replace: node_name.is_some(),
    })
}

fn object(kind: ObjectKind, namespace: &str, terminating: Option<WallTime>) -> Record {
    let object = br#"{"metadata":{"labels":{"a":"b"}}}"#.as_slice();
    Record::Object(ObjectRecord {
        key: ObjectKey { kind, namespace: namespace.into(), name: "x".into() },
        uid: ObjectUid::new(Uuid::from_u128(4)),
        labels: [("a".to_owned(), "b".to_owned())].into(),
        object: Opaque(object.into()),
        created_at: AT,
        resource_version: 5,
        terminating,
    })
}

fn due<const N: usize>(objects: [(&str, &[u128]); N]) -> everynode_coordinator_core::Due {
    let object = |(name, sets): (&str, &[u128])| {
        let (namespace, name) = ("n".to_owned(), name.to_owned());
        let sets = sets.iter().map(|set| SetUid::new(Uuid::from_u128(*set)));
        (ObjectKey { kind: ObjectKind::ConfigMap, namespace, name }, sets.collect())
    };
    objects.into_iter().map(object).collect()
}

/// One of every kind, and more of those that have forms.
fn every_kind() -> Vec<Record> {
    vec![
        Record::Cluster(ClusterRecord {
            id: ClusterId::new(Uuid::from_u128(1)),
            term: Term(3),
            reign: ReignId::new(Uuid::from_u128(2)),
        }),
        Record::Hold(HoldRecord { since: AT, copied_in: Term(2) }),
        node(1, NodeStanding::Active),
        node(2, NodeStanding::Leaving { since: AT }),
        node(3, NodeStanding::Removed { confirmed_at: AT }),
        Record::Set(set_record(Digest::of(b"stored"))),
        Record::Set(orphan(set_record(Digest::of(b"stored")))),
        Record::Revision(RevisionRecord {
            set: SET,
            digest: Digest::of(b"body"),
            number: 2,
            body: b"body".as_slice().into(),
            normal_form: 1,
            created_at: AT,
            change_cause: "because".into(),
            blobs: [Digest::of(b"blob")].into(),
            missing: vec!["secret \"x\" not found".into()],
            labels: ["site".to_owned()].into(),
        }),
        object(ObjectKind::ConfigMap, "n", None),
        object(ObjectKind::Secret, "n", None),
        object(ObjectKind::Namespace, "", Some(AT)),
        Record::Due(due([("a", &[1, 2]), ("b", &[2])])),
        Record::Blob(Digest::of(b"blob"), Opaque(b"blob".as_slice().into())),
        Record::GrantHead(GrantHead {
            set: SET,
            stable: Some(Digest::of(b"1")),
            target: Digest::of(b"2"),
            rollout: 7,
            promoted: 6,
            settled: 5,
            relabels: true,
            stalled: Some(Stalled {
                rollout: 7,
                moved: 3,
                done: 2,
                time: Duration::from_millis(90_001),
            }),
            marks: [("paused".to_owned(), "by hand".to_owned())].into(),
        }),
        Record::GrantHead(GrantHead {
            set: SetUid::new(Uuid::from_u128(9)),
            stable: None,
            target: Digest::of(b"2"),
            rollout: 1,
            promoted: 0,
            settled: 0,
            relabels: false,
            stalled: None,
            marks: Default::default(),
        }),
        chunk([(1, "1", 0), (2, "2", 5), (u128::MAX, "1", u64::MAX)]),
        token(None, None),
        token(Some("edge-1"), Some(0)),
        Record::Event(EventRecord {
            sequence: 12,
            about: InvolvedObject {
                kind: "Node".into(),
                namespace: String::new(),
                name: "edge-1".into(),
                uid: "u".into(),
            },
            event_type: EventType::Warning,
            reason: "Lost".into(),
            message: "not heard of for 40 s".into(),
            count: 3,
            first_at: AT,
            last_at: AT,
        }),
    ]
}

fn stored(record: &Record) -> KeyValue {
    match encode(&Write::put(record.clone())) {
        Op::Put { key, value } => KeyValue { key, value, mod_revision: 1 },
        Op::Delete { key } => panic!("{key} is deleted"),
    }
}

#[test]
fn every_kind_is_read_as_it_was_written() {
    for record in every_kind() {
        assert_eq!(decode(&stored(&record)).unwrap(), Some(record));
    }
}

#[test]
fn a_deletion_names_the_place_of_what_was_put() {
    for record in every_kind() {
        let Op::Delete { key } = encode(&Write::delete(record.key())) else {
            panic!("not deleted")
        };
        assert_eq!(key, stored(&record).key);
    }
}

#[test]
fn the_keys_are_those_of_the_contract() {
    let key = |key| match encode(&Write::delete(key)) {
        Op::Delete { key } | Op::Put { key, .. } => key,
    };
    let uid = "00000000-0000-0000-0000-000000000003";
    assert_eq!(key(RecordKey::Cluster), CLUSTER_KEY);
    assert_eq!(key(RecordKey::Set(PodKey::new("ns", "a.b").unwrap())), "/daemonsets/ns/a.b");
    assert_eq!(key(RecordKey::GrantHead(SET)), format!("/grants/{uid}/head"));
    assert_eq!(key(RecordKey::GrantChunk(SET, 7)), format!("/grants/{uid}/chunk/07"));
    assert_eq!(key(RecordKey::Event(12)), "/events/00000000000000000012");
}

#[test]
fn fields_of_a_later_version_do_no_harm() {
    // Field 1000, a string.
    let later = [0xc2, 0x3e, 3, b'n', b'e', b'w'];
    for record in every_kind() {
        let mut item = stored(&record);
        item.value = [item.value.as_ref(), &later].concat().into();
        assert_eq!(decode(&item).unwrap(), Some(record));
    }
}

#[test]
fn a_stored_digest_is_never_computed_anew() {
    let of_another_normal_form = Digest::of(b"computed by another version");
    let record = Record::Set(set_record(of_another_normal_form));
    let Some(Record::Set(read)) = decode(&stored(&record)).unwrap() else { panic!("no set") };
    assert_eq!(read.set.revision, of_another_normal_form);
    assert_eq!(read.set.generation, 4);
}

#[test]
fn a_chunk_names_each_revision_once() {
    let many = chunk((0..500).map(|node| (node, if node % 2 == 0 { "a" } else { "b" }, 0)));
    let size = stored(&many).value.len();
    assert!(size < 500 * 20 + 200, "{size} bytes");
}

#[test]
fn grants_from_before_rollouts_had_numbers_are_of_none() {
    use everynode_proto::storage;
    use prost::Message as _;
    let old = storage::GrantChunk {
        revisions: vec![Digest::of(b"1").as_bytes().to_vec()],
        nodes: vec![0; 16],
        revision_of: vec![0],
        replace: vec![3],
        rollouts: Vec::new(),
        surges: Vec::new(),
    };
    let stored = KeyValue { value: old.encode_to_vec().into(), ..stored(&chunk([])) };
    let Ok(Some(Record::GrantChunk(_, _, grants))) = decode(&stored) else { panic!("unreadable") };
    let said = |grant: &Grant| (grant.replace, grant.rollout, grant.surge);
    assert!(grants.values().all(|grant| said(grant) == (3, 0, false)));
}

#[test]
fn damage_is_told_by_its_field() {
    let damaged = |record: &Record, value: Vec<u8>| {
        decode(&KeyValue { value: value.into(), ..stored(record) }).unwrap_err().to_string()
    };
    use everynode_proto::storage;
    use prost::Message as _;
    let node = node(1, NodeStanding::Active);
    assert!(damaged(&node, vec![0xff]).starts_with("its bytes are damaged"));
    let unknown = storage::NodeRecord { name: "a".into(), standing: 9, ..Default::default() };
    assert!(damaged(&node, unknown.encode_to_vec()).starts_with("standing:"));
    let uneven = storage::GrantChunk { nodes: vec![0; 17], ..Default::default() };
    assert!(damaged(&chunk([]), uneven.encode_to_vec()).starts_with("nodes:"));
    let astray = storage::GrantChunk {
        nodes: vec![0; 16],
        revision_of: vec![1],
        replace: vec![0],
        ..Default::default()
    };
    assert!(damaged(&chunk([]), astray.encode_to_vec()).starts_with("revision_of:"));

    let moved = KeyValue { key: "/daemonsets/default/y".into(), ..stored(&every_kind()[5]) };
    assert!(decode(&moved).unwrap_err().to_string().starts_with("object:"));
}

#[tokio::test]
async fn a_whole_store_is_read_and_a_bad_record_is_named() {
    let store = MemoryStore::new();
    // Some share one place.
    let all: BTreeMap<_, _> =
        every_kind().into_iter().map(|record| (record.key(), record)).collect();
    let ops = all.values().map(|record| encode(&Write::put(record.clone()))).collect();
    let txn = everynode_store::Txn { compares: Vec::new(), ops };
    let txn = txn.put("/authorities/1", "not the fleet's").put("/newer/1", "not known yet");
    store.txn(txn).await.unwrap();
    assert_eq!(load(&store).await.unwrap().len(), all.len());

    store.txn(everynode_store::Txn::new().put("/nodes/x", "")).await.unwrap();
    let error = load(&store).await.unwrap_err().to_string();
    assert!(
        error.starts_with("the record /nodes/x can't be read: its key is malformed"),
        "{error}"
    );
}
