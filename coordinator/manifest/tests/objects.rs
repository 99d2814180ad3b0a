//! The door for ConfigMaps, Secrets and Namespaces, and what a template uses of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use everynode_manifest::{admit_object, admit_object_update, redact_secret, uses};
use serde_json::{Value, json};

/// An object named `a` with these further fields.
fn object(kind: &str, fields: Value) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "a"}});
    let Value::Object(fields) = fields else { panic!("fields are an object") };
    object.as_object_mut().unwrap().extend(fields);
    object
}

fn said(rejected: Result<impl Sized, everynode_manifest::Rejected>) -> Vec<String> {
    rejected.err().map_or_else(Vec::new, |rejected| {
        rejected.errors().iter().map(ToString::to_string).collect()
    })
}

#[test]
fn each_broken_rule_is_told_in_kubernetes_words() {
    const KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' \
                       (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation \
                       is '[-._a-zA-Z0-9]+')";
    let bad_key = |field: &str| format!("{field}[a b]: Invalid value: \"a b\": {KEY}");
    let big = "x".repeat(1024 * 1024 + 1);
    let docker = "kubernetes.io/dockerconfigjson";
    let table = [
        ("ConfigMap", json!({"data": {"a b": ""}}), vec![bad_key("data")]),
        ("ConfigMap", json!({"binaryData": {"a b": ""}}), vec![bad_key("binaryData")]),
        (
            "ConfigMap",
            json!({"data": {"k": ""}, "binaryData": {"k": ""}}),
            vec![
                "binaryData[k]: Invalid value: \"k\": duplicate of key present in data".into(),
                "data[k]: Invalid value: \"k\": duplicate of key present in binaryData".into(),
            ],
        ),
        (
            "ConfigMap",
            json!({"data": {"k": big}}),
            vec!["Too long: may not be more than 1048576 bytes".into()],
        ),
        ("Secret", json!({"stringData": {"a b": ""}}), vec![bad_key("data")]),
        (
            "Secret",
            json!({"type": "kubernetes.io/tls"}),
            vec!["data[tls.crt]: Required value".into(), "data[tls.key]: Required value".into()],
        ),
        (
            "Secret",
            json!({"type": docker, "stringData": {".dockerconfigjson": "hunter2"}}),
            vec![
                "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": must be a \
                 JSON object"
                    .into(),
            ],
        ),
        (
            "Secret",
            json!({"type": "kubernetes.io/ssh-auth", "data": {"ssh-privatekey": ""}}),
            vec!["data[ssh-privatekey]: Required value".into()],
        ),
        (
            "Namespace",
            json!({"metadata": {"name": "a", "namespace": "b"}}),
            vec!["metadata.namespace: Forbidden: not allowed on this type".into()],
        ),
    ];
    for (kind, fields, expected) in table {
        assert_eq!(said(admit_object(&object(kind, fields))), expected, "{kind}");
    }
}

#[test]
fn no_error_shows_a_value_of_a_secret() {
    for fields in [
        json!({"data": {"k": "hunter2!"}}),
        json!({"data": {"k": 77777}}),
        json!({"data": "hunter2"}),
        json!({"stringData": {"k": 77777}}),
        json!({"stringData": "hunter2"}),
    ] {
        let told = said(admit_object(&object("Secret", fields.clone())));
        assert!(!told.is_empty(), "{fields} was admitted");
        let shows = |told: &String| told.contains("hunter2") || told.contains("77777");
        assert!(!told.iter().any(shows), "{told:?}");
    }
    let admitted = admit_object(&object("Secret", json!({"stringData": {"k": "hunter2"}})));
    assert!(!format!("{:?}", admitted.unwrap()).contains("aHVudGVyMg"));
}

#[test]
fn defaults_are_filled_in_and_admitting_again_gives_the_same() {
    let secret = object("Secret", json!({"data": {"k": "b2xk"}, "stringData": {"k": "new"}}));
    let admitted = admit_object(&secret).unwrap();
    assert_eq!(admitted.object["data"], json!({"k": "bmV3"}), "what stringData says counts");
    assert_eq!(admitted.object.get("stringData"), None);
    assert_eq!(admitted.object["type"], "Opaque");
    assert_eq!((admitted.key.namespace.as_str(), admitted.key.name.as_str()), ("default", "a"));
    let namespace = admit_object(&object("Namespace", json!({"spec": {}, "status": {}}))).unwrap();
    assert_eq!(namespace.object["metadata"]["labels"]["kubernetes.io/metadata.name"], "a");
    assert_eq!(namespace.key.namespace, "");
    for admitted in [admitted, namespace] {
        assert_eq!(admit_object(&admitted.object).unwrap(), admitted);
    }
}

#[test]
fn what_is_immutable_is_not_changed() {
    let old = admit_object(&object("ConfigMap", json!({"immutable": true, "data": {"k": "1"}})));
    let old = old.unwrap().object;
    let new = object("ConfigMap", json!({"data": {"k": "2"}}));
    let sealed = |field| format!("{field}: Forbidden: field is immutable when `immutable` is set");
    assert_eq!(said(admit_object_update(&old, &new)), [sealed("data"), sealed("immutable")]);
    assert_eq!(said(admit_object_update(&old, &old)), [""; 0]);
    let old = admit_object(&object("Secret", json!({}))).unwrap().object;
    let new = object("Secret", json!({"type": "mine"}));
    let told = said(admit_object_update(&old, &new));
    assert_eq!(told, ["type: Invalid value: \"mine\": field is immutable"]);
}

/// What pulls is a pod of processes that has an image delivered.
#[test]
fn secrets_for_pulling_are_used_where_something_is_pulled() {
    let told = |reference: &str, class: &str| {
        let image = json!({"reference": format!("{reference}@sha256:{}", "a".repeat(64))});
        let template = json!({"spec": {
            "runtimeClassName": class,
            "containers": [{"name": "c", "command": ["c"]}],
            "volumes": [{"name": "v", "image": image}],
            "imagePullSecrets": [{"name": "registry"}, {}],
        }});
        let used = uses(&template, "n");
        let told = used.into_iter().map(|(at, of)| {
            assert!(!of.needed && !of.whole && of.keys.values().all(|needed| !needed));
            format!("{at} {:?}", of.keys.keys().collect::<Vec<_>>())
        });
        told.collect::<Vec<_>>()
    };
    let wanted = [r#"Secret n/registry [".dockercfg", ".dockerconfigjson"]"#];
    assert_eq!(told("quay.io/x:1", "process"), wanted);
    assert_eq!(told("https://h/x", "process"), [""; 0]);
    assert_eq!(told("quay.io/x:1", "kata"), [""; 0]);
}

#[test]
fn a_template_uses_what_its_variables_and_volumes_name() {
    let template = json!({"spec": {
        "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "from"}}]}],
        "containers": [{"name": "c", "env": [
            {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "both", "key": "k"}}},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}},
        ]}],
        "volumes": [
            {"name": "v", "configMap": {"name": "both", "optional": true}},
            {"name": "w", "secret": {"secretName": "files", "optional": true}},
            {"name": "x", "projected": {"sources": [{"secret": {"name": "part"}}]}},
        ],
        "imagePullSecrets": [{"name": "registry"}],
    }});
    let used = uses(&template, "n");
    let told: Vec<String> = used
        .iter()
        .map(|(at, of)| {
            let keys: Vec<_> = of.keys.keys().map(String::as_str).collect();
            format!("{at} {} {} {}", of.needed, of.whole, keys.join(","))
        })
        .collect();
    assert_eq!(
        told,
        [
            "ConfigMap n/both true true k",
            "ConfigMap n/from true true ",
            "Secret n/files false true ",
            "Secret n/key true false k",
            "Secret n/part true true ",
        ]
    );
}

#[test]
fn a_secret_is_shown_by_lengths() {
    let mut secret = object("Secret", json!({"data": {"k": "aHVudGVyMg==", "e": ""}}));
    secret["metadata"]["annotations"] =
        json!({"kubectl.kubernetes.io/last-applied-configuration": "hunter2", "mine": "x"});
    redact_secret(&mut secret);
    assert_eq!(secret["data"], json!({"k": "<redacted: 7 bytes>", "e": "<redacted: 0 bytes>"}));
    assert_eq!(secret["metadata"]["annotations"], json!({"mine": "x"}));
    assert!(!said(admit_object(&secret)).is_empty(), "what is shown can't be put back");
}
