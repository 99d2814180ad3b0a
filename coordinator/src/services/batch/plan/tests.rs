use everynode_coordinator_core::{ObjectRecord, SetRecord};
use everynode_manifest::{admit, admit_object};
use everynode_model::{ObjectKind, WallTime};
use serde_json::json;
use uuid::Uuid;

use super::*;

const KEY: BlobKey = BlobKey([1; 32]);

fn manifest(command: &str) -> Value {
    let from = json!({"configMapKeyRef": {"name": "m", "key": "k", "optional": true}});
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "x"},
        "spec": {
            "selector": {"matchLabels": {"app": "x"}},
            "template": {
                "metadata": {"labels": {"app": "x"}},
                "spec": {"runtimeClassName": "process", "hostNetwork": true,
                         "containers": [{"name": "x", "command": [command],
                                         "env": [{"name": "K", "valueFrom": from}]}]},
            },
        },
    })
}

fn set_item(command: &str) -> Item {
    let object = manifest(command);
    let admitted = Box::new(admit(&object).unwrap());
    let what = What::Set { object, admitted, uid: SetUid::new(Uuid::nil()) };
    Item { mode: PutMode::Apply, what, seen: None, meant: String::new() }
}

fn map_item(data: Value) -> Item {
    let object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data});
    let admitted = Box::new(admit_object(&object).unwrap());
    let what = What::Object { object, admitted, uid: ObjectUid::new(Uuid::nil()) };
    Item { mode: PutMode::Apply, what, seen: None, meant: String::new() }
}

fn map_key() -> ObjectKey {
    ObjectKey { kind: ObjectKind::ConfigMap, namespace: "default".into(), name: "m".into() }
}

/// The store after these commands, as far as they look at it.
fn followed(commands: &[Command], mut look: Look) -> Look {
    for command in commands {
        match command {
            Command::PutSet { set, object, body, normal_form, content, .. } => {
                let record = SetRecord {
                    set: everynode_model::DaemonSet::clone(set),
                    object: Arc::clone(object),
                    created_at: WallTime::default(),
                    resource_version: 7,
                    drifted: Default::default(),
                };
                look.readers.insert(map_key(), [(set.uid, 7)].into());
                let revision = RevisionRecord {
                    set: set.uid,
                    digest: set.revision,
                    number: 1,
                    body: Arc::clone(body),
                    normal_form: *normal_form,
                    created_at: WallTime::default(),
                    change_cause: String::new(),
                    blobs: content.blobs.clone(),
                    missing: content.missing.clone(),
                    labels: content.labels.clone(),
                };
                let (record, revision) = (Arc::new(record), Some(Arc::new(revision)));
                look.sets.insert(set.key.clone(), Existing { record, revision });
            }
            Command::PutObject { key, uid, labels, object, .. } => {
                let record = ObjectRecord {
                    key: key.clone(),
                    uid: *uid,
                    labels: labels.clone(),
                    object: object.clone(),
                    created_at: WallTime::default(),
                    resource_version: 7,
                    terminating: None,
                };
                look.objects.insert(key.clone(), record);
            }
            other => panic!("{other:?}"),
        }
    }
    look
}

fn planned(items: &[Item], look: &Look) -> Plan {
    plan(items, look, &KEY).unwrap()
}

fn revision(plan: &Plan) -> Option<Digest> {
    plan.commands.iter().find_map(|command| match command {
        Command::PutSet { set, .. } => Some(set.revision),
        _ => None,
    })
}

fn content(plan: &Plan) -> Content {
    let of = |command: &Command| match command {
        Command::PutSet { content, .. } => Some(Content::clone(content)),
        _ => None,
    };
    plan.commands.iter().find_map(of).unwrap()
}

#[test]
fn a_template_and_what_it_reads_in_one_batch_are_one_revision() {
    let items = [map_item(json!({"k": "1"})), set_item("/bin/a")];
    let plan = planned(&items, &Look::default());
    assert_eq!((plan.commands.len(), plan.rolled_out.len(), plan.blobs.len()), (2, 0, 1));
    let content = content(&plan);
    assert_eq!(content.seen, [(map_key(), None)].into(), "it was not there when it was looked at");
    assert_eq!(
        content.blobs.into_iter().collect::<Vec<_>>(),
        plan.blobs.into_keys().collect::<Vec<_>>()
    );
}

#[test]
fn who_reads_a_changed_object_is_put_with_it_and_nobody_else() {
    let items = [map_item(json!({"k": "1"})), set_item("/bin/a")];
    let first = planned(&items, &Look::default());
    let look = followed(&first.commands, Look::default());
    let changed = planned(&[map_item(json!({"k": "2"}))], &look);
    assert_eq!(changed.rolled_out.len(), 1);
    assert_ne!(revision(&changed), revision(&first));
    assert_eq!(content(&changed).seen, [(map_key(), Some(7))].into());
    let other_key = planned(&[map_item(json!({"k": "1", "other": "2"}))], &look);
    assert_eq!((other_key.commands.len(), other_key.rolled_out.len()), (1, 0));
    let Command::PutObject { readers, .. } = &other_key.commands[0] else { panic!("a put") };
    assert_eq!(readers.len(), 1, "it was looked at all the same");
}

#[test]
fn an_unchanged_template_keeps_its_stored_revision_whatever_its_normal_form_and_content() {
    let first = planned(&[map_item(json!({"k": "1"})), set_item("/bin/a")], &Look::default());
    let mut look = followed(&first.commands, Look::default());
    let earlier = Digest::of(b"earlier form");
    let existing = look.sets.values_mut().next().unwrap();
    Arc::get_mut(&mut existing.record).unwrap().set.revision = earlier;
    let kept = existing.revision.as_mut().and_then(Arc::get_mut).unwrap();
    (kept.digest, kept.normal_form) = (earlier, 0);
    kept.body = b"earlier form".as_slice().into();
    let again = planned(&[set_item("/bin/a")], &look);
    assert_eq!((revision(&again), content(&again)), (Some(earlier), Content::default()));
    let Command::PutSet { body, normal_form: 0, spec_changed: false, .. } = &again.commands[0]
    else {
        panic!("{:?}", again.commands)
    };
    assert_eq!(&**body, b"earlier form");

    let edited = planned(&[set_item("/bin/b")], &look);
    assert_ne!(revision(&edited), Some(earlier));
    let Command::PutSet { normal_form: NORMAL_FORM, spec_changed: true, .. } = &edited.commands[0]
    else {
        panic!("{:?}", edited.commands)
    };
    assert_eq!(content(&edited).drifted, Some(Default::default()), "an edit ends a pin");
}

#[test]
fn what_was_seen_is_insisted_on_and_what_is_meant_is_checked() {
    let first = planned(&[map_item(json!({"k": "1"}))], &Look::default());
    let look = followed(&first.commands, Look::default());
    let stale = Item { seen: Some(6), ..map_item(json!({"k": "2"})) };
    assert!(planned(&[stale], &look).insists);
    let newer = planned(&[Item { seen: Some(9), ..map_item(json!({"k": "2"})) }], &look);
    assert!(!newer.insists);
    let Command::PutObject { expected_version, .. } = &newer.commands[0] else { panic!("a put") };
    assert_eq!(*expected_version, Some(7));
    let other = Item { meant: Uuid::max().to_string(), ..map_item(json!({"k": "2"})) };
    assert!(plan(&[other], &look, &KEY).is_err());
}

#[test]
fn what_comes_again_as_it_was_is_no_rollout() {
    let items = [map_item(json!({"k": "1"})), set_item("/bin/a")];
    let first = planned(&items, &Look::default());
    let mut look = followed(&first.commands, Look::default());
    look.objects.clear();
    let again = planned(&[map_item(json!({"k": "1"}))], &look);
    assert_eq!(revision(&again), revision(&first), "put all the same: it ends a drift");
    assert!(again.rolled_out.is_empty());
    assert_eq!(planned(&[map_item(json!({"k": "2"}))], &look).rolled_out.len(), 1);
}
