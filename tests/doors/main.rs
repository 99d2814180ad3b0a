//! The two doors agree: what the coordinator says a template needs, and what the agent runs.
//!
//! A template goes in at the coordinator's door, which names the features it needs, and its body
//! comes out at the agent's, which takes it or refuses it. If the agent announces every feature, it
//! must take it; if not, it must refuse it: nothing runs weaker than asked because one table has a
//! field that the other has forgotten.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::path::PathBuf;

use everynode_agent::body::{FEATURES, Surroundings, pod_spec};
use everynode_manifest::{
    Admitted, BlobKey, Composed, Use, admit, compose, needed_features, read, uses,
};
use everynode_model::{NodeName, PodKey, PodUid};
use serde_json::{Value, json};
use uuid::Uuid;

/// A file that may be delivered.
const ARTIFACT: &str = "https://dl.example/x.tar.gz#x@sha256:\
                        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// An image of a registry that may be.
const IMAGE: &str = "registry.example:5000/team/x:1@sha256:\
                     e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// One field each, put into the pod's spec or its container.
fn fields() -> Vec<(&'static str, Value)> {
    vec![
        ("/spec/securityContext", json!({"runAsUser": 7, "runAsGroup": 7, "runAsNonRoot": true})),
        ("/spec/securityContext", json!({"supplementalGroups": [5]})),
        ("/spec/securityContext", json!({"fsGroup": 5})),
        ("/spec/securityContext", json!({"seccompProfile": {"type": "RuntimeDefault"}})),
        ("/spec/securityContext", json!({"sysctls": [{"name": "kernel.x", "value": "1"}]})),
        ("/spec/hostPID", json!(false)),
        ("/spec/hostIPC", json!(false)),
        ("/spec/hostNetwork", json!(false)),
        ("/spec/dnsPolicy", json!("Default")),
        ("/spec/terminationGracePeriodSeconds", json!(5)),
        ("/spec/priorityClassName", json!("system-node-critical")),
        ("/spec/initContainers", json!([{"name": "i", "command": ["/bin/i"]}])),
        ("/spec/containers/0/securityContext", json!({"allowPrivilegeEscalation": false})),
        ("/spec/containers/0/securityContext", json!({"capabilities": {"drop": ["ALL"]}})),
        ("/spec/containers/0/securityContext", json!({"readOnlyRootFilesystem": true})),
        (
            "/spec/securityContext",
            json!({"supplementalGroups": [5], "supplementalGroupsPolicy": "Strict"}),
        ),
        (
            "/spec/containers/0/securityContext",
            json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "a.json"}}),
        ),
        ("/metadata/annotations", json!({"everynode.dev/rlimits": "nofile=1024"})),
        ("/spec/containers/0/securityContext", json!({"privileged": true})),
        (
            "/spec/containers/0/securityContext",
            json!({"appArmorProfile": {"type": "RuntimeDefault"}}),
        ),
        ("/spec/containers/0/resources", json!({"limits": {"memory": "1Gi"}})),
        ("/spec/containers/0/resources", json!({"limits": {"cpu": "1500m", "memory": "1e6"}})),
        ("/spec/containers/0/resources", json!({"limits": {"x.org/y": 1, "ephemeral-storage": 1}})),
        ("/spec/resources", json!({"limits": {"cpu": "1500m"}, "requests": {"memory": "1Mi"}})),
        ("/metadata/annotations", json!({"everynode.dev/require-limits": "true"})),
        ("/metadata/annotations", json!({"everynode.dev/pids-limit": "9"})),
        (
            "/spec/initContainers",
            json!([{"name": "i", "command": ["/bin/i"], "restartPolicy": "Always",
                "startupProbe": {"grpc": {"port": 1}}}]),
        ),
        ("/spec/containers/0/livenessProbe", json!({"exec": {"command": ["true"]}})),
        ("/spec/containers/0/readinessProbe", json!({"httpGet": {"port": 80, "path": "/x"}})),
        ("/spec/containers/0/lifecycle", json!({"postStart": {"sleep": {"seconds": 1}}})),
        ("/spec/containers/0/lifecycle", json!({"preStop": {"tcpSocket": {"port": 1}}})),
        ("/spec/containers/0/lifecycle", json!({"preStop": {"exec": {"command": ["true"]}}})),
        ("/spec/containers/0/workingDir", json!("/srv")),
        ("/spec/containers/0/ports", json!([{"containerPort": 80, "hostPort": 80}])),
        ("/spec/containers/0/env", json!([{"name": "A", "value": "$(B)"}])),
        (
            "/spec/containers/0/env",
            json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]),
        ),
        (
            "/spec/containers/0/env",
            json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "node.labels['site']"}}}]),
        ),
        (
            "/spec/containers/0/env",
            json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
        ),
        (
            "/spec/containers/0/env",
            json!([{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}}]),
        ),
        ("/spec/containers/0/envFrom", json!([{"configMapRef": {"name": "c"}}])),
        ("/spec/containers/0/tty", json!(true)),
    ]
}

#[test]
fn on_every_field() {
    for (path, value) in fields() {
        let mut object = plain();
        let (parent, name) = path.rsplit_once('/').unwrap();
        object["spec"]["template"].pointer_mut(parent).unwrap()[name] = value.clone();
        agree(&object, &format!("{path}: {value}"));
    }
}

/// Kubernetes has no pod with users of its own that shares anything else with the machine.
#[test]
fn on_users_of_its_own() {
    let mut object = plain();
    for field in ["hostNetwork", "hostPID", "hostIPC", "hostUsers"] {
        object["spec"]["template"]["spec"][field] = json!(false);
    }
    agree(&object, "hostUsers: false");
}

/// Pulled with a secret that only the agent reads.
#[test]
fn on_images_and_secrets_for_them() {
    let mut object = plain();
    let spec = &mut object["spec"]["template"]["spec"];
    spec["volumes"] = json!([{"name": "v", "image": {"reference": IMAGE}}]);
    spec["imagePullSecrets"] = json!([{"name": "registry"}]);
    agree(&object, "imagePullSecrets");
}

#[test]
fn on_processes_that_are_shared() {
    let mut object = plain();
    object["spec"]["template"]["spec"]["hostPID"] = json!(false);
    object["spec"]["template"]["spec"]["shareProcessNamespace"] = json!(true);
    agree(&object, "shareProcessNamespace: true");
}

#[test]
fn on_volumes_whose_size_is_required() {
    let mut object = plain();
    let template = &mut object["spec"]["template"];
    template["metadata"]["annotations"] = json!({"everynode.dev/require-limits": "true"});
    template["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]);
    agree(&object, "a size on disk");
}

/// Only what nothing enforces is not run.
#[test]
fn on_limits_that_are_required() {
    for name in ["memory", "cpu", "ephemeral-storage", "x.org/y"] {
        let mut object = plain();
        let template = &mut object["spec"]["template"];
        template["metadata"]["annotations"] = json!({"everynode.dev/require-limits": "true"});
        template["spec"]["containers"][0]["resources"] = json!({"limits": {name: "1"}});
        agree(&object, name);
    }
}

#[test]
fn on_volumes_and_mounts() {
    let labels = json!({"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}});
    let cpu =
        json!({"path": "c", "resourceFieldRef": {"resource": "limits.cpu", "containerName": "c"}});
    let keys = json!([{"key": "k", "path": "p/q", "mode": 256}]);
    let token = json!({"path": "t"});
    for source in [
        json!({"hostPath": {"path": "/", "type": "Directory"}}),
        json!({"emptyDir": {}}),
        json!({"emptyDir": {"sizeLimit": "1Mi"}}),
        json!({"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}),
        json!({"emptyDir": {"medium": "HugePages"}}),
        json!({"configMap": {"name": "c", "defaultMode": 256}}),
        json!({"configMap": {"name": "c", "items": keys, "optional": true}}),
        json!({"secret": {"secretName": "s", "items": keys}}),
        json!({"downwardAPI": {"items": [labels]}}),
        json!({"downwardAPI": {"items": [cpu]}}),
        json!({"projected": {"sources": [{"configMap": {"name": "c"}}, {"secret": {"name": "s"}}]}}),
        json!({"projected": {"sources": [{"downwardAPI": {"items": [labels]}}]}}),
        json!({"projected": {"sources": [{"serviceAccountToken": token}]}}),
        json!({"image": {"reference": ARTIFACT}}),
        json!({"image": {"reference": ARTIFACT, "pullPolicy": "Never"}}),
        json!({"image": {"reference": IMAGE}}),
        json!({"nfs": {"server": "s", "path": "/"}}),
        json!({"persistentVolumeClaim": {"claimName": "c"}}),
    ] {
        let mut object = plain();
        let mut volume = source.clone();
        volume["name"] = json!("v");
        object["spec"]["template"]["spec"]["volumes"] = json!([volume]);
        agree(&object, &source.to_string());
    }
    for more in [
        json!({}),
        json!({"readOnly": true, "recursiveReadOnly": "IfPossible", "mountPropagation": "None"}),
        json!({"subPath": "a/b", "mountPropagation": "HostToContainer"}),
        json!({"mountPropagation": "Bidirectional"}),
    ] {
        let mut object = plain();
        let spec = &mut object["spec"]["template"]["spec"];
        spec["volumes"] = json!([{"name": "v", "hostPath": {"path": "/"}}]);
        let mut mount = json!({"name": "v", "mountPath": "/v"});
        mount.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec["containers"][0]["volumeMounts"] = json!([mount]);
        spec["containers"][0]["securityContext"] = json!({"privileged": true});
        agree(&object, &format!("a mount with {more}"));
    }
}

/// What people really write, as host processes.
#[test]
fn on_published_manifests() {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    let folder = std::env::var_os("EVERYNODE_CORPUS").map_or(beside, PathBuf::from);
    let Ok(files) = std::fs::read_dir(&folder) else {
        println!("skipped: {} is not there", folder.display());
        return;
    };
    let mut compared = 0;
    for file in files.map(|file| file.unwrap().path()) {
        let name = file.display().to_string();
        if !name.ends_with(".yaml") {
            continue;
        }
        for document in read(&name, &std::fs::read(&file).unwrap()).unwrap() {
            if document.kind == "DaemonSet" {
                compared += 1;
                agree(&as_processes(document.value.clone()), &name);
            }
        }
    }
    assert!(compared > 50, "{compared} manifests compared");
}

fn plain() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "x"},
        "spec": {
            "selector": {"matchLabels": {"app": "x"}},
            "template": {
                "metadata": {"labels": {"app": "x"}},
                "spec": {
                    "runtimeClassName": "process",
                    "hostNetwork": true, "hostPID": true, "hostIPC": true,
                    "containers": [{"name": "c", "command": ["/bin/c"]}],
                },
            },
        },
    })
}

fn as_processes(mut object: Value) -> Value {
    let spec = &mut object["spec"]["template"]["spec"];
    spec["runtimeClassName"] = json!("process");
    for kind in ["containers", "initContainers"] {
        for container in spec[kind].as_array_mut().into_iter().flatten() {
            if container["command"].as_array().is_none_or(Vec::is_empty) {
                container["command"] = json!(["/bin/c"]);
            }
        }
    }
    object
}

fn agree(object: &Value, what: &str) {
    let admitted = match admit(object) {
        Ok(admitted) => admitted,
        Err(rejected) => panic!("{what}: {rejected}"),
    };
    let needs = needed_features(&admitted.object["spec"]["template"]);
    let lacking: Vec<_> =
        needs.iter().filter(|feature| !FEATURES.contains(&feature.as_str())).collect();
    let composed = with_content(&admitted);
    let around = Surroundings { contents: composed.blobs, ..around() };
    match pod_spec(&composed.body, &around) {
        Ok(_) => assert!(lacking.is_empty(), "{what}: runs without {lacking:?}"),
        Err(reason) => assert!(!lacking.is_empty(), "{what}: nothing is lacking, and {reason}"),
    }
}

/// The body with content for all that its template reads.
fn with_content(admitted: &Admitted) -> Composed {
    let uses = uses(&admitted.object["spec"]["template"], admitted.key.namespace());
    let object = |of: &Use| {
        let values = of.keys.keys().map(|key| (key.clone(), Value::from("eA==")));
        json!({"data": values.collect::<serde_json::Map<_, _>>()})
    };
    let objects = uses.iter().map(|(at, of)| (at.clone(), object(of))).collect();
    compose(&admitted.body, &uses, &objects, &BlobKey([0; 32]))
}

fn around() -> Surroundings {
    Surroundings {
        key: PodKey::new("default", "x").unwrap(),
        uid: PodUid::new(Uuid::from_u128(1)),
        node_name: NodeName::new("n").unwrap(),
        node_labels: [("site".to_owned(), "lab".to_owned())].into(),
        hostname: "n".into(),
        address: Some("192.0.2.1".into()),
        makes_namespaces: true,
        // Not root, so that `runAsNonRoot` alone can be met.
        agent_user: 1000,
        capacity: std::collections::BTreeMap::new(),
        contents: everynode_agent::body::Contents::new(),
        artifacts: "/store".into(),
    }
}
