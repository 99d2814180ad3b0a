//! What must hold for any template: its spelling never changes the revision.

use everynode_manifest::{admit, normal_form};
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
    fn no_text_makes_the_reader_panic(text in "[-:{}\\[\\]&*!|>'\"%@`#,?~<=a0 \\n\\t]{0,60}") {
        let _ = everynode_manifest::read("f", text.as_bytes());
    }
}
