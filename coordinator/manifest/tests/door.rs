//! The door from outside: text in, what people see out.

mod common;

use common::{TUTORIAL, admitted, errors, parse, refused, with};
use everynode_manifest::{
    FieldPath, NORMAL_FORM, Rejected, admit, admit_update, read, spec_changed, to_model,
};
use everynode_model::{Digest, Effect, IntOrPercent, SetUid, Strategy, TolerationOperator};
use serde_json::json;

#[test]
fn the_tutorial_is_admitted_with_kubernetes_defaults() {
    let set = admitted(&parse(TUTORIAL));
    assert_eq!(set.key.to_string(), "default/monitoring-daemon");
    assert_eq!(set.warnings, []);
    assert_eq!(
        set.object,
        json!({
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": "monitoring-daemon", "namespace": "default"},
            "spec": {
                "revisionHistoryLimit": 10,
                "selector": {"matchLabels": {"app": "monitoring-agent"}},
                "template": {
                    "metadata": {"labels": {"app": "monitoring-agent"}},
                    "spec": {
                        "containers": [{
                            "name": "monitoring-agent",
                            "image": "monitoring-agent",
                            "imagePullPolicy": "Always",
                            "resources": {},
                            "terminationMessagePath": "/dev/termination-log",
                            "terminationMessagePolicy": "File",
                        }],
                        "dnsPolicy": "ClusterFirst",
                        "restartPolicy": "Always",
                        "schedulerName": "default-scheduler",
                        "securityContext": {},
                        "terminationGracePeriodSeconds": 30,
                    },
                },
                "updateStrategy": {
                    "type": "RollingUpdate",
                    "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1},
                },
            },
        })
    );
    assert_eq!(set.revision, Digest::of(&set.body));
    assert_eq!(admitted(&set.object), set);
    assert_eq!(NORMAL_FORM, 1);
}

#[test]
fn more_defaults() {
    let set = admitted(&with(&[
        ("/spec/template/spec/hostNetwork", json!(true)),
        ("/spec/template/spec/serviceAccount", json!("s")),
        (
            "/spec/template/spec/volumes",
            json!([
                {"name": "a"}, {"name": "b", "configMap": {"name": "c"}}, {"name": "d", "hostPath": {"path": "/d"}},
            ]),
        ),
        ("/spec/template/spec/containers/0/ports", json!([{"containerPort": 80}])),
        ("/spec/template/spec/containers/0/livenessProbe", json!({"httpGet": {"port": "x"}})),
        (
            "/spec/template/spec/containers/0/env",
            json!([
                {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a']"}}},
            ]),
        ),
    ]));
    let pod = &set.object["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(
        container["ports"][0],
        json!({"containerPort": 80, "hostPort": 80, "protocol": "TCP"})
    );
    assert_eq!(
        container["livenessProbe"],
        json!({"httpGet": {"port": "x", "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
            "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3})
    );
    assert_eq!(container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"], "v1");
    assert_eq!((&pod["serviceAccountName"], &pod["serviceAccount"]), (&json!("s"), &json!("s")));
    assert_eq!(pod["volumes"][0], json!({"name": "a", "emptyDir": {}}));
    assert_eq!(pod["volumes"][1]["configMap"]["defaultMode"], 420);
    assert_eq!(pod["volumes"][2]["hostPath"]["type"], "");
}

#[test]
fn what_the_server_sets_is_passed_over() {
    let plain = admitted(&parse(TUTORIAL));
    let pasted = with(&[
        ("/status", json!({"desiredNumberScheduled": "nonsense"})),
        ("/metadata/uid", json!("u")),
        ("/metadata/creationTimestamp", json!("not a date")),
        ("/metadata/resourceVersion", json!("12")),
        ("/metadata/generation", json!(3)),
        ("/metadata/managedFields", json!([{"x": 1}])),
        ("/spec/template/metadata/creationTimestamp", json!(null)),
    ]);
    assert_eq!(admitted(&pasted), plain);
    let kept = admitted(&with(&[("/metadata/finalizers", json!(["x/y"]))]));
    assert_eq!(kept.warnings[0].to_string(), "metadata.finalizers: not kept");
}

#[test]
fn everything_wrong_is_told_at_once_and_at_its_place() {
    let text = TUTORIAL
        .replace(
            "        image: monitoring-agent",
            "        imagee: x\n        ports:\n        - containerPort: \"80\"",
        )
        .replace(
            "      app: monitoring-agent\n  template",
            "      app: other\n      v: 1.10\n  template",
        );
    let document = read("f.yaml", text.as_bytes()).unwrap().remove(0);
    let rejected = admit(&document.value).unwrap_err();
    assert_eq!(
        rejected.to_string(),
        "The DaemonSet \"monitoring-daemon\" is invalid: \
         \n* spec.selector.matchLabels[v]: Invalid value: 1.1: must be a string, not a number; write it in quotes (json: cannot unmarshal number into Go struct field LabelSelector.spec.selector.matchLabels of type string)\
         \n* spec.template.spec.containers[0].image: Required value: or, to run a program of the host, set spec.template.spec.runtimeClassName: process and a command\
         \n* spec.template.spec.containers[0].imagee: Unknown field: did you mean \"image\"?\
         \n* spec.template.spec.containers[0].ports[0].containerPort: Invalid value: \"80\": must be an integer, not a string (json: cannot unmarshal string into Go struct field ContainerPort.spec.template.spec.containers.ports.containerPort of type int32)"
    );
    let shown = document.explain(&rejected);
    assert!(shown.contains(
        "f.yaml:17:9: spec.template.spec.containers[0].imagee: Unknown field: did you mean \"image\"?\n  17 |         imagee: x\n     |         ^"
    ), "{shown}");
    assert!(shown.contains("f.yaml:9:7: spec.selector.matchLabels[v]"), "{shown}");
}

#[test]
fn the_kind_decides_and_slips_are_seen_through() {
    let other =
        admit(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "foo"}}));
    let other = other.unwrap_err();
    assert_eq!(
        other.to_string(),
        "ServiceAccount/foo skipped: Everynode has no ServiceAccount objects"
    );
    assert_eq!(other.clone().when_alone(), other);

    let slip = TUTORIAL.replace("kind: DaemonSet", "kind: ReplicaSet");
    let document = read("f.yaml", slip.as_bytes()).unwrap().remove(0);
    let rejected = admit(&document.value).unwrap_err();
    assert!(matches!(rejected, Rejected::OtherKind { daemon_set_like: true, .. }));
    assert_eq!(
        document.explain(&rejected.when_alone()),
        "f.yaml:2:1: kind: Unsupported value: \"ReplicaSet\": this looks like a DaemonSet: \
         write `kind: DaemonSet` here\n  2 | kind: ReplicaSet\n    | ^"
    );
    let replicas = with(&[("/kind", json!("Deployment")), ("/spec/replicas", json!(3))]);
    let rejected = admit(&replicas).unwrap_err().when_alone().to_string();
    assert!(rejected.contains("leave out") && rejected.contains("replicas"), "{rejected}");

    for (pointer, value, expected) in [
        (
            "/kind",
            json!("DeamonSet"),
            "kind: Unsupported value: \"DeamonSet\": no such kind; did you mean \"DaemonSet\"?",
        ),
        (
            "/kind",
            json!("Quux"),
            "kind: Unsupported value: \"Quux\": there is no such kind in \"apps/v1\"",
        ),
        ("/kind", json!(null), "kind: Required value"),
        ("/apiVersion", json!(null), "apiVersion: Required value"),
        (
            "/apiVersion",
            json!("v1"),
            "apiVersion: Unsupported value: \"v1\": supported values: \"apps/v1\"",
        ),
    ] {
        refused(pointer, value, &[expected]);
    }
    let custom = json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "Rule", "metadata": {"name": "r"}});
    assert!(matches!(admit(&custom), Err(Rejected::OtherKind { workload: false, .. })));
    for nonsense in [json!(null), json!([]), json!("x"), json!({}), json!({"kind": 5})] {
        assert!(!errors(&nonsense).is_empty());
    }
}

#[test]
fn old_versions_are_read_as_apps_v1() {
    let old = with(&[
        ("/apiVersion", json!("extensions/v1beta1")),
        ("/spec/selector", json!(null)),
        ("/spec/templateGeneration", json!(7)),
    ]);
    let set = admitted(&old);
    let messages: Vec<String> = set.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        messages,
        [
            "apiVersion: extensions/v1beta1 is no more: read as apps/v1, with its defaults",
            "spec.updateStrategy: no type given: RollingUpdate, as in apps/v1; in extensions/v1beta1 that was OnDelete",
            "spec.selector: not given: the labels of the template are taken",
        ]
    );
    assert_eq!(set.object, admitted(&parse(TUTORIAL)).object);
}

#[test]
fn an_update_keeps_what_is_immutable() {
    let old = admitted(&parse(TUTORIAL)).object;
    let image = with(&[("/spec/template/spec/containers/0/image", json!("x:2"))]);
    let new = admit_update(&old, &image).unwrap();
    assert!(spec_changed(&old, &new.object));
    assert_ne!(new.revision, admitted(&old).revision);

    let label = admit_update(&old, &with(&[("/metadata/labels", json!({"a": "b"}))])).unwrap();
    assert!(!spec_changed(&old, &label.object));

    let both = json!({"app": "x"});
    let selector = with(&[
        ("/spec/selector/matchLabels", both.clone()),
        ("/spec/template/metadata/labels", both),
    ]);
    let rejected = admit_update(&old, &selector).unwrap_err();
    assert_eq!(
        rejected.errors()[0].to_string(),
        "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"x\"}}: field is immutable"
    );
    let renamed = admit_update(&old, &with(&[("/metadata/name", json!("other"))])).unwrap_err();
    assert!(
        renamed.to_string().contains("metadata.name: Invalid value: \"other\": field is immutable")
    );
    let spelled = with(&[("/spec/selector/matchExpressions", json!([]))]);
    assert!(admit_update(&old, &spelled).is_ok());

    let all = with(&[
        ("/metadata/namespace", json!("other")),
        ("/spec/selector/matchLabels", json!({"app": "monitoring-agent", "tier": "x"})),
        ("/spec/minReadySeconds", json!(-1)),
        ("/spec/unheardOf", json!(1)),
    ]);
    let rejected = admit_update(&old, &all).unwrap_err();
    let told: Vec<String> = rejected.errors().iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "metadata.namespace: Invalid value: \"other\": field is immutable",
            "spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0",
            "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"monitoring-agent\",\"tier\":\"x\"}}: field is immutable",
            "spec.template.metadata.labels: Invalid value: {\"app\":\"monitoring-agent\"}: `selector` does not match template `labels`",
            "spec.unheardOf: Unknown field",
        ]
    );
    let without = with(&[("/spec/selector", json!(null))]);
    assert_eq!(admit_update(&old, &without).unwrap_err().errors().len(), 1);
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}});
    assert!(matches!(admit_update(&old, &service), Err(Rejected::OtherKind { .. })));
}

#[test]
fn the_model_has_what_decides() {
    let set = admitted(&with(&[
        ("/metadata/labels", json!({"team": "a"})),
        ("/spec/minReadySeconds", json!(5)),
        ("/spec/updateStrategy", json!({"rollingUpdate": {"maxUnavailable": "10%"}})),
        ("/spec/template/spec/nodeSelector", json!({"disk": "ssd"})),
        ("/spec/template/spec/hostNetwork", json!(true)),
        ("/spec/template/spec/tolerations", json!([{"operator": "Exists", "effect": "NoExecute"}])),
        (
            "/spec/template/spec/affinity",
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]}}}),
        ),
    ]));
    let uid = SetUid::new(uuid::Uuid::from_u128(1));
    let model = to_model(&set.object, uid, 3).unwrap();
    assert_eq!(
        (model.key.clone(), model.uid, model.generation, model.revision),
        (set.key, uid, 3, set.revision)
    );
    assert_eq!(model.labels["team"], "a");
    assert_eq!(model.min_ready.as_secs(), 5);
    assert_eq!(model.history_limit, 10);
    assert_eq!(model.strategy, Strategy::rolling(IntOrPercent::Percent(10)));
    assert_eq!(model.selector.to_string(), "app=monitoring-agent");
    assert_eq!(model.placement.node_selector["disk"], "ssd");
    assert!(model.placement.host_network);
    let toleration = &model.placement.tolerations[0];
    assert_eq!(
        (toleration.operator, toleration.effect),
        (TolerationOperator::Exists, Some(Effect::NoExecute))
    );
    assert_eq!(model.placement.required_affinity.unwrap()[0].match_fields[0].key, "metadata.name");
    assert!(model.features.contains("runtime/cri"));
    assert!(to_model(&json!({}), uid, 1).is_err());
}

/// What people, `kubectl get` and programs write, each with the names that are read.
#[test]
fn files_as_people_write_them() {
    let set = |name: &str| {
        format!(
            "{{\"apiVersion\":\"apps/v1\",\"kind\":\"DaemonSet\",\"metadata\":{{\"name\":\"{name}\"}}}}"
        )
    };
    let (a, b) = (set("a"), set("b"));
    for (text, names) in [
        (String::new(), &[][..]),
        ("# nothing but a comment\n---\n---\n...\n".into(), &[]),
        ("null\n---\n~\n".into(), &[]),
        (format!("{a}{b}"), &["a", "b"]),
        (format!("{a}\n{b}\n"), &["a", "b"]),
        (format!("{a}\n---\n{b}\n"), &["a", "b"]),
        (format!("\u{feff}---\r\n{a}\r\n---\r\n# x\r\n---\r\n{b}\r\n"), &["a", "b"]),
        (format!("{{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[{a},{b}]}}"), &["a", "b"]),
        (format!("apiVersion: apps/v1\nkind: DaemonSetList\nitems: [{a}, {b}]\n"), &["a", "b"]),
        ("apiVersion: v1\nkind: List\nitems: []\n".into(), &[]),
    ] {
        let documents = read("f.yaml", text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        let found: Vec<&str> = documents.iter().map(|document| document.name.as_str()).collect();
        assert_eq!(found, names, "{text}");
    }
}

#[test]
fn a_field_is_found_in_an_object_behind_another() {
    let text = "{\"a\": 1} {\"kind\":\n\"x\"}\n{\"kind\": \"y\"}";
    let documents = read("f.json", text.as_bytes()).unwrap();
    let places: Vec<_> = documents
        .iter()
        .map(|document| document.locate(&FieldPath::fields("kind")).unwrap())
        .map(|place| (place.line, place.column))
        .collect();
    assert_eq!(places, [(1, 1), (1, 11), (3, 2)]);
}

/// An item of a `DaemonSetList` needs no kind of its own: such a list's items have none.
#[test]
fn items_of_a_list_of_one_kind_are_of_that_kind() {
    let text = "apiVersion: apps/v1\nkind: DaemonSetList\nitems:\n- metadata: {name: a}\n";
    let documents = read("f.yaml", text.as_bytes()).unwrap();
    assert_eq!(
        (documents[0].kind.as_str(), documents[0].api_version.as_str()),
        ("DaemonSet", "apps/v1")
    );
    let mixed =
        read("f.yaml", b"apiVersion: v1\nkind: List\nitems:\n- metadata: {name: a}\n").unwrap();
    assert_eq!(mixed[0].kind, "");
}
