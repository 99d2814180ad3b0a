//! Whether what is stored is what a coordinator wrote: every record reads, every body has its digest,
//! and together they make a fleet in which everything holds that always does.

use everynode_coordinator_core::invariants;
use everynode_coordinator_core::{
    ClusterRecord, Config, Fleet, HoldRecord, NodeStanding, Record, RevisionRecord,
};
use everynode_model::{Digest, Now};
use everynode_proto::storage::AuthorityRecord;
use everynode_store::KeyValue;
use prost::Message as _;

use crate::pki::Authority;
use crate::pki::store::PREFIX as AUTHORITIES;
use crate::records;

/// What stored entries come to.
#[derive(Debug, Default)]
pub struct Verified {
    /// Which cluster, if they say it.
    pub cluster: Option<ClusterRecord>,
    /// Whether orders are held.
    pub hold: Option<HoldRecord>,
    /// How many nodes belong.
    pub nodes: usize,
    /// How many DaemonSets there are.
    pub sets: usize,
    /// What is wrong, one line each; none in a sound store.
    pub faults: Vec<String>,
}

/// Looks at everything that is stored.
pub fn verify(items: &[KeyValue]) -> Verified {
    let mut verified = Verified::default();
    if items.is_empty() {
        verified.faults.push("nothing is stored".into());
        return verified;
    }
    let mut read = Vec::with_capacity(items.len());
    for item in items {
        match records::decode(item) {
            Ok(record) => read.extend(record),
            Err(error) => verified.faults.push(format!("{} can't be read: {error}", item.key)),
        }
    }
    verified.faults.extend(authorities(items));
    verified.faults.extend(read.iter().filter_map(fault));
    for record in &read {
        match record {
            Record::Cluster(cluster) => verified.cluster = Some(*cluster),
            Record::Hold(hold) => verified.hold = Some(*hold),
            Record::Node(node) if node.standing == NodeStanding::Active => verified.nodes += 1,
            Record::Set(_) => verified.sets += 1,
            _ => {}
        }
    }
    match Fleet::restore(read, Config::default(), Now::default()) {
        Ok(fleet) => {
            verified.faults.extend(together(&fleet));
            if verified.faults.is_empty() {
                verified.faults.extend(invariants::check(&fleet).err().map(told));
            }
        }
        Err(error) => verified.faults.push(error.to_string()),
    }
    verified
}

/// What is wrong with one record by itself.
pub fn fault(record: &Record) -> Option<String> {
    match record {
        Record::Revision(RevisionRecord { set, digest, body, .. })
            if Digest::of(body) != *digest =>
        {
            Some(format!("/revisions/{set}/{digest} has another body than its digest is of"))
        }
        Record::Blob(digest, content) if Digest::of(&content.0) != *digest => {
            Some(format!("/blobs/{digest} has another content than its digest is of"))
        }
        _ => None,
    }
}

/// What is wrong with the records together, although each can be read. Of all that always holds, this
/// is what orders and names rest on; it costs a walk over the grants.
pub fn together(fleet: &Fleet) -> Vec<String> {
    let rules = [
        invariants::names_are_unique,
        invariants::grants_name_kept_revisions,
        invariants::revisions_name_kept_content,
    ];
    rules.iter().filter_map(|rule| rule(fleet).err()).map(told).collect()
}

fn told(violation: invariants::Violation) -> String {
    format!("{}: {}", violation.rule.replace('_', " "), violation.detail)
}

fn authorities(items: &[KeyValue]) -> Vec<String> {
    let mut stored = items.iter().filter(|item| item.key.starts_with(AUTHORITIES)).peekable();
    if stored.peek().is_none() {
        return vec!["there is no certificate authority".into()];
    }
    let fault = |item: &KeyValue| {
        let usable = AuthorityRecord::decode(item.value.as_ref()).is_ok_and(|record| {
            Authority::load(record.certificate_der, record.key_pkcs8_der).is_ok()
        });
        (!usable).then(|| format!("{} can't be used", item.key))
    };
    stored.filter_map(fault).collect()
}

#[cfg(test)]
mod tests {
    use everynode_coordinator_core::{GrantHead, NodeRecord, RecordKey, Write};
    use everynode_model::{ClusterId, NodeName, NodeUid, ReignId, SetUid, Term, WallTime};
    use everynode_store::Op;
    use uuid::Uuid;

    use super::*;
    use crate::entropy::Entropy;
    use crate::pki::store::put as put_authority;

    const SET: SetUid = SetUid::new(Uuid::from_u128(3));

    fn stored(op: Op) -> KeyValue {
        match op {
            Op::Put { key, value } => KeyValue { key, value, mod_revision: 1 },
            Op::Delete { key } => panic!("{key} is deleted"),
        }
    }

    fn record(record: Record) -> KeyValue {
        stored(records::encode(&Write::put(record)))
    }

    fn cluster() -> KeyValue {
        record(Record::Cluster(ClusterRecord {
            id: ClusterId::new(Uuid::from_u128(1)),
            term: Term(3),
            reign: ReignId::new(Uuid::from_u128(2)),
        }))
    }

    fn authority() -> KeyValue {
        let now = WallTime::from_unix_millis(1_795_392_000_000);
        stored(put_authority(&Authority::make(&Entropy::system(), now).unwrap()))
    }

    fn node(uid: u128) -> KeyValue {
        record(Record::Node(NodeRecord {
            uid: NodeUid::new(Uuid::from_u128(uid)),
            name: NodeName::new("edge-1").unwrap(),
            standing: NodeStanding::Active,
            labels: Default::default(),
            taints: Vec::new(),
            stood: std::collections::BTreeMap::new(),
            joined_labels: Default::default(),
            public_key: Digest::of(b"key"),
            machine_id: "m".into(),
            token_id: format!("t{uid}"),
            joined_at: WallTime::default(),
            unschedulable: false,
            order: everynode_coordinator_core::NodeOrder::None,
            granted: Default::default(),
            resource_version: 1,
        }))
    }

    fn revision(digest: Digest) -> KeyValue {
        record(Record::Revision(RevisionRecord {
            set: SET,
            digest,
            number: 1,
            body: b"body".as_slice().into(),
            normal_form: 1,
            created_at: WallTime::default(),
            change_cause: String::new(),
            blobs: Default::default(),
            missing: Vec::new(),
            labels: Default::default(),
        }))
    }

    fn faults(items: Vec<KeyValue>) -> Vec<String> {
        verify(&items).faults
    }

    #[test]
    fn a_sound_store_has_no_faults_and_says_what_it_holds() {
        let verified = verify(&[cluster(), authority(), node(1), revision(Digest::of(b"body"))]);
        assert!(verified.faults.is_empty(), "{:?}", verified.faults);
        assert_eq!(
            (verified.cluster.unwrap().term, verified.nodes, verified.sets),
            (Term(3), 1, 0)
        );
    }

    #[test]
    fn every_fault_is_named() {
        assert_eq!(faults(Vec::new()), ["nothing is stored"]);
        let damaged = KeyValue { value: vec![0xff].into(), ..node(1) };
        let found = faults(vec![cluster(), authority(), damaged, revision(Digest::of(b"other"))]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("/nodes/00000000-0000-0000-0000-000000000001 can't be read"));
        assert!(found[1].starts_with("/revisions/") && found[1].contains("another body"));

        let found = faults(vec![cluster(), node(1), node(2)]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0], "there is no certificate authority");
        assert!(found[1].starts_with("names are unique: "), "{found:?}");

        let found = faults(vec![authority(), node(1)]);
        assert_eq!(found, ["the store does not say which cluster it is of"]);
        let unusable = KeyValue { value: "x".into(), ..authority() };
        assert!(faults(vec![cluster(), unusable])[0].ends_with("can't be used"));
    }

    #[test]
    fn a_grant_of_a_revision_that_is_not_kept_is_a_fault() {
        let object = serde_json::json!({
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
        let digest = Digest::of(b"body");
        let set = everynode_manifest::daemon_set_from(&admitted.object, SET, 1, digest).unwrap();
        let set = record(Record::Set(everynode_coordinator_core::SetRecord {
            set,
            object: admitted.object.to_string().into_bytes().into(),
            created_at: WallTime::default(),
            resource_version: 1,
            drifted: Default::default(),
        }));
        let head = GrantHead {
            set: SET,
            stable: Some(digest),
            target: digest,
            rollout: 1,
            promoted: 0,
            settled: 1,
            relabels: false,
            stalled: None,
            marks: Default::default(),
        };
        let head = record(Record::GrantHead(head));
        let sound = vec![cluster(), authority(), set, head, revision(digest)];
        assert!(faults(sound.clone()).is_empty());
        let key = match records::encode(&Write::delete(RecordKey::Revision(SET, digest))) {
            Op::Delete { key } | Op::Put { key, .. } => key,
        };
        let torn: Vec<KeyValue> = sound.into_iter().filter(|item| item.key != key).collect();
        let found = faults(torn);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("grants name kept revisions: "), "{found:?}");
    }
}
