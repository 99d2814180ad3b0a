//! What must hold for any input: a template's spelling never changes its revision, and whatever a
//! file has in it, it is read or refused, in words.
//!
//! `PROPTEST_CASES=N` makes more of each; what fails is made small, and kept beside this file.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::sync::LazyLock;

use common::TUTORIAL;
use everynode_manifest::{Rejected, admit, normal_form, read};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// A template's choices, each of which may be left out.
fn template() -> impl Strategy<Value = Value> {
    let quantity = prop::sample::select(vec!["100m", "0.1", "1", "1000m", "1Gi", "1024Mi"]);
    let container = (
        "[a-z]{1,5}",
        prop::option::of(prop::sample::select(vec!["Always", "IfNotPresent"])),
        prop::option::of(prop::collection::vec("[a-z ]{0,3}", 0..3)),
        prop::option::of(quantity),
        prop::option::of(any::<bool>()),
    )
        .prop_map(|(name, policy, args, cpu, no_escalation)| {
            json!({
                "name": name, "image": "x", "imagePullPolicy": policy, "args": args,
                "resources": {"limits": cpu.map(|cpu| json!({"cpu": cpu}))},
                "securityContext": {"allowPrivilegeEscalation": no_escalation},
            })
        });
    (
        container,
        prop::option::of(any::<bool>()),
        prop::collection::btree_map("[a-z]{1,3}", "[a-z]{0,3}", 0..3),
        prop::option::of(0_i64..60),
    )
        .prop_map(|(container, host_network, selector, grace)| {
            json!({
                "metadata": {"labels": {"app": "a"}},
                "spec": {
                    "containers": [container], "hostNetwork": host_network,
                    "nodeSelector": selector, "terminationGracePeriodSeconds": grace,
                },
            })
        })
}

fn daemon_set(template: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "a"},
        "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template},
    })
}

/// The same JSON with every map's entries put in the other way round, and without its nulls.
fn respelled(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().rev().filter(|(_, value)| !value.is_null());
            Value::Object(
                kept.map(|(name, value)| (name.clone(), respelled(value))).collect::<Map<_, _>>(),
            )
        }
        Value::Array(items) => items.iter().map(respelled).collect(),
        scalar => scalar.clone(),
    }
}

proptest! {
    #[test]
    fn spelling_and_explicit_defaults_do_not_change_the_revision(template in template()) {
        let admitted = admit(&daemon_set(&template)).unwrap();
        let again = admit(&daemon_set(&respelled(&template))).unwrap();
        prop_assert_eq!(admitted.revision, again.revision);
        // With every default written out, and as it was written: one form.
        prop_assert_eq!(&normal_form(&admitted.object["spec"]["template"]), &normal_form(&template));
        // The form is itself a template, with itself as its form.
        let body: Value = serde_json::from_slice(&admitted.body).unwrap();
        prop_assert_eq!(normal_form(&body), admitted.body.clone());
        prop_assert_eq!(admit(&admitted.object).unwrap(), admitted);
    }

    #[test]
    fn no_object_makes_the_door_panic(text in "\\PC*", number in any::<f64>()) {
        for pointer in ["/spec", "/spec/template", "/spec/template/spec", "/spec/selector", "/metadata", "/spec/template/spec/containers"] {
            for value in [json!(text), json!(number), json!([text]), json!({text.clone(): number}), json!([{"name": text}])] {
                let mut object = daemon_set(&json!({"metadata": {}, "spec": {"containers": []}}));
                *object.pointer_mut(pointer).unwrap() = value;
                prop_assert!(admit(&object).is_err());
                normal_form(&object);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check_file(&bytes)?;
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[-:{}\\[\\]&*!|>'\"%@`#,?~<=a0 \\n\\t]{0,60}") {
        check_file(text.as_bytes())?;
    }

    #[test]
    fn any_scalars_are_read_or_refused(
        scalars in prop::collection::vec("[-+.0-9a-fxobeEyYnN_:~]{0,8}", 1..8),
    ) {
        check_file(format!("a: [{}]", scalars.join(", ")).as_bytes())?;
        let entries: Vec<String> =
            scalars.iter().enumerate().map(|(i, scalar)| format!("{i}x{scalar}: {scalar}\n{scalar}: 1\n")).collect();
        check_file(entries.concat().as_bytes())?;
    }

    #[test]
    fn a_manifest_with_slips_is_read_or_refused(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), edit()), 1..6),
    ) {
        let mut bytes = which.get(&MANIFESTS).clone();
        for (at, edit) in edits {
            edit.apply(&mut bytes, at);
        }
        check_file(&bytes)?;
    }
}

/// Manifests to make slips in: our own, and published ones where there are any.
static MANIFESTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let rich = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "a", "labels": {"a": "b"}, "annotations": {"c": "d"}},
        "spec": {
            "selector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["a"]}]},
            "updateStrategy": {"rollingUpdate": {"maxUnavailable": "10%"}},
            "template": {
                "metadata": {"labels": {"app": "a"}},
                "spec": {
                    "hostNetwork": true, "tolerations": [{"operator": "Exists"}],
                    "volumes": [{"name": "v", "hostPath": {"path": "/"}}],
                    "containers": [{
                        "name": "a", "image": "b:1", "ports": [{"containerPort": 80}],
                        "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
                        "livenessProbe": {"httpGet": {"port": 80}}, "volumeMounts": [{"name": "v", "mountPath": "/h"}],
                        "resources": {"limits": {"cpu": "100m", "memory": "1Gi"}},
                        "securityContext": {"runAsUser": 0, "capabilities": {"add": ["NET_ADMIN"]}},
                    }],
                },
            },
        },
    });
    let merged = "x: &x {app: a}\n---\nbase: &b\n  kind: A\n<<: *b\nkind: DaemonSet\nitems: [*b, !!str 5, 0644, yes]\n";
    let mut manifests = vec![TUTORIAL.into(), rich.to_string().into_bytes(), merged.into()];
    manifests.extend(common::corpus().unwrap_or_default().into_iter().map(|(_, bytes)| bytes));
    manifests
});

/// A slip in a file.
#[derive(Clone, Debug)]
enum Edit {
    Insert(Vec<u8>),
    Overwrite(u8),
    Remove(usize),
    Repeat(usize),
    Cut,
}

impl Edit {
    fn apply(self, bytes: &mut Vec<u8>, at: prop::sample::Index) {
        let at = at.index(bytes.len() + 1);
        let len = bytes.len();
        let some = |most: usize| at..(at + most).min(len);
        match self {
            Self::Insert(token) => drop(bytes.splice(at..at, token)),
            Self::Overwrite(byte) => bytes[some(1)].fill(byte),
            Self::Remove(most) => drop(bytes.drain(some(most))),
            Self::Repeat(most) => {
                let piece = bytes[some(most)].to_vec();
                bytes.splice(at..at, piece);
            }
            Self::Cut => bytes.truncate(at),
        }
    }
}

fn edit() -> impl Strategy<Value = Edit> {
    let tokens = [
        ": ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\n",
        "\n---\n",
        "\n...\n",
        "&a ",
        "*a",
        "<<: ",
        "? ",
        "| \n",
        ">-\n",
        "!!str ",
        "!!int ",
        "!x ",
        "%YAML 1.1\n",
        "#",
        " #",
        "\t",
        "\0",
        "\u{feff}",
        "\u{85}",
        "\"",
        "'",
        "\\",
        "~",
        "null",
        "0644",
        "1e3",
        ".inf",
        "yes",
        "-1",
        "99999999999999999999",
        "{{ x }}",
        "\u{7f}",
        "\u{1b}[2J",
    ];
    let token = prop::sample::select(tokens.map(|token| token.as_bytes().to_vec()).to_vec());
    prop_oneof![
        4 => token.prop_map(Edit::Insert),
        1 => prop::collection::vec(any::<u8>(), 1..4).prop_map(Edit::Insert),
        2 => any::<u8>().prop_map(Edit::Overwrite),
        2 => (1_usize..40).prop_map(Edit::Remove),
        2 => (1_usize..200).prop_map(Edit::Repeat),
        1 => Just(Edit::Cut),
    ]
}

/// Checks that a file is refused in words that show where, or read to objects that say the same
/// when they are written and read once more, and that each of those is admitted or refused.
fn check_file(bytes: &[u8]) -> Result<(), TestCaseError> {
    let documents = match read("f", bytes) {
        Ok(documents) => documents,
        Err(errors) => {
            prop_assert!(!errors.0.is_empty());
            for error in &errors.0 {
                prop_assert!(!error.message.is_empty() && !error.message.contains('\n'));
                prop_assert!(error.to_string().starts_with("f:"));
            }
            return Ok(());
        }
    };
    for document in documents {
        let again = read("f", document.value.to_string().as_bytes());
        let again: Vec<Value> =
            again.unwrap_or_default().into_iter().map(|document| document.value).collect();
        // A list that is taken apart, or not, is the same list.
        prop_assert_eq!(&again, std::slice::from_ref(&document.value));
        match admit(&document.value) {
            Ok(admitted) => {
                let again = admit(&admitted.object).unwrap();
                prop_assert_eq!(&again.object, &admitted.object);
                prop_assert_eq!((again.revision, again.body), (admitted.revision, admitted.body));
            }
            Err(Rejected::OtherKind { .. }) => {}
            Err(rejected) => {
                prop_assert!(!rejected.errors().is_empty());
                prop_assert!(document.explain(&rejected).contains("f:"));
            }
        }
    }
    Ok(())
}
