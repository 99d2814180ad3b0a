//! What a runtime makes of a template's fields: honoured, passed over with a warning, or needed.
//!
//! A field that **confines** a pod, or without which its program can't do its work, is a feature:
//! a node whose agent did not announce it leaves the pod Pending and never runs it weaker than
//! asked. A field that only helps is passed over, and the writer is told.

mod limits;
mod volumes;

use everynode_model::{
    Features, IMAGES_FEATURE, NAMESPACES, NODE_LABELS_FEATURE, RLIMITS_ANNOTATION, RLIMITS_PREFIX,
};
use serde_json::Value;

use crate::check::Check;
use crate::normal::normal_value;
use crate::path::Segment;
use crate::{FieldPath, node_labels, validate};

/// What the process runtime makes of a field.
#[derive(Clone, Copy)]
enum Honour {
    /// It does what it says, or there is nothing to be done.
    Honoured,
    /// It has no effect, and confines nothing.
    Ignored(&'static str),
    /// A node must have announced this feature.
    Needs(&'static str),
}

use Honour::{Honoured, Ignored, Needs};

/// The features that come with the runtime itself.
const RUNTIME_PROCESS: &str = "runtime/process";
const RUNTIME_CRI: &str = "runtime/cri";

const HOSTS_NAMES: &str = "not honoured: processes use the host's name and resolver";

/// The process runtime's word on each field, by its path with `[*]` for items and entries;
/// `initContainers` are told as `containers`. A field that is not here is judged by its parts; a
/// single value that is not here is passed over with a warning, or, in a security context,
/// needed.
const PROCESS: &[(&str, Honour)] = &[
    ("metadata", Honoured),
    ("spec.affinity", Honoured),
    ("spec.automountServiceAccountToken", Honoured),
    ("spec.containers[*].args", Honoured),
    ("spec.containers[*].command", Honoured),
    ("spec.containers[*].env[*].name", Honoured),
    ("spec.containers[*].env[*].value", Honoured),
    ("spec.containers[*].env[*].valueFrom.configMapKeyRef", Needs("env.configMapKeyRef")),
    ("spec.containers[*].env[*].valueFrom.fieldRef", Needs("env.fieldRef")),
    ("spec.containers[*].env[*].valueFrom.fileKeyRef", Needs("env.fileKeyRef")),
    ("spec.containers[*].env[*].valueFrom.resourceFieldRef", Needs("env.resourceFieldRef")),
    ("spec.containers[*].env[*].valueFrom.secretKeyRef", Needs("env.secretKeyRef")),
    ("spec.containers[*].envFrom", Needs("envFrom")),
    // A warning of its own tells that the image is not used.
    ("spec.containers[*].image", Honoured),
    ("spec.containers[*].imagePullPolicy", Honoured),
    ("spec.containers[*].lifecycle", Needs("lifecycle")),
    ("spec.containers[*].livenessProbe", Needs("probes")),
    ("spec.containers[*].name", Honoured),
    ("spec.containers[*].ports", Honoured),
    ("spec.containers[*].readinessProbe", Needs("probes")),
    // Where a container is to be restarted for a change of limits, its pod is replaced.
    ("spec.containers[*].resizePolicy", Honoured),
    ("spec.containers[*].resources.claims", Needs("resources.claims")),
    // Processes of the host's root have what this gives.
    ("spec.containers[*].securityContext.privileged", Honoured),
    // Of an init container, which is needed itself: it makes a sidecar of it.
    ("spec.containers[*].restartPolicy", Honoured),
    ("spec.containers[*].startupProbe", Needs("probes")),
    ("spec.containers[*].volumeDevices", Needs("volumeDevices")),
    ("spec.containers[*].volumeMounts", Needs("volumeMounts")),
    ("spec.containers[*].workingDir", Honoured),
    ("spec.dnsConfig", Ignored(HOSTS_NAMES)),
    ("spec.dnsPolicy", Ignored(HOSTS_NAMES)),
    // There are no Services to link to.
    ("spec.enableServiceLinks", Honoured),
    ("spec.hostAliases", Ignored(HOSTS_NAMES)),
    ("spec.hostIPC", Honoured),
    ("spec.hostNetwork", Honoured),
    ("spec.hostPID", Honoured),
    ("spec.hostUsers", Needs("hostUsers")),
    ("spec.hostname", Ignored(HOSTS_NAMES)),
    // Used where a volume is an image of a registry.
    ("spec.imagePullSecrets", Ignored("not used: no image is pulled")),
    ("spec.nodeName", Honoured),
    ("spec.nodeSelector", Honoured),
    ("spec.os", Needs("os")),
    ("spec.resourceClaims", Needs("resources.claims")),
    ("spec.runtimeClassName", Honoured),
    ("spec.shareProcessNamespace", Needs("shareProcessNamespace")),
    // Of volumes; either way all of one is the group's in the end.
    ("spec.securityContext.fsGroupChangePolicy", Honoured),
    ("spec.subdomain", Ignored(HOSTS_NAMES)),
    ("spec.terminationGracePeriodSeconds", Honoured),
    ("spec.tolerations", Honoured),
];

const NOT_HONOURED: &str = "not honoured by `runtimeClassName: process`";

/// What a node must be able to do to run `template` (`spec.template` of a canonical object).
///
/// For `runtimeClassName: process` that is `runtime/process` and the plain name of each further
/// feature (`runAsUser`, `volumes.secret`, `env.fieldRef`, …). For pods with images it is `runtime/cri`
/// and the same names with `cri/` in front, so that what an agent can do for the one runtime is
/// never taken for what it can do for the other.
pub fn needed_features(template: &Value) -> Features {
    let normal = normal_value(template);
    let class = normal.pointer("/spec/runtimeClassName").and_then(Value::as_str);
    let process = class == Some(validate::PROCESS);
    let named = |feature: &str| if process { feature.into() } else { format!("cri/{feature}") };
    let mut features = Features::new();
    let mut note = |_: &FieldPath, word: Word<'_>| {
        if let Word::Needs(feature) = word {
            features.insert(named(feature));
        }
    };
    walk(&normal, &mut FieldPath::root(), &mut note);
    features.extend(limits::needed(&normal).iter().map(|feature| named(feature)));
    if process {
        features.extend(namespaces(&normal).map(String::from));
        features.extend(volumes::have_images(&normal).then(|| IMAGES_FEATURE.to_owned()));
    }
    if node_labels::read_by(&normal).next().is_some() {
        features.insert(named(NODE_LABELS_FEATURE));
    }
    if has_rlimits(&normal) {
        features.insert(named("rlimits"));
    }
    features.insert(if process { RUNTIME_PROCESS.into() } else { RUNTIME_CRI.into() });
    if let Some(class) = class.filter(|_| !process) {
        // A runtime class is asked for to be sandboxed: another one is no substitute.
        features.insert(format!("cri/runtimeClass/{class}"));
    }
    features
}

/// What a pod of processes needs that does not share all of the machine's namespaces: as in Kubernetes,
/// one that says nothing shares none. (Every container runtime has them.)
fn namespaces(template: &Value) -> impl Iterator<Item = &'static str> {
    let [network, ipc, pids, _] = NAMESPACES;
    let own = |field: &str| template["spec"][field] != true;
    let needed = [(own("hostNetwork"), network), (own("hostIPC"), ipc), (own("hostPID"), pids)];
    needed.into_iter().filter_map(|(own, feature)| own.then_some(feature))
}

/// Whether an annotation asks for resource limits.
fn has_rlimits(template: &Value) -> bool {
    let annotations = template.pointer("/metadata/annotations").and_then(Value::as_object);
    let asks = |key: &String| key == RLIMITS_ANNOTATION || key.starts_with(RLIMITS_PREFIX);
    annotations.is_some_and(|annotations| annotations.keys().any(asks))
}

/// Warns of the fields of a process pod that have no effect.
pub(crate) fn warn_of_ignored(check: &mut Check, template: &Value) {
    let at = FieldPath::fields("spec.template");
    each_word(template, &mut |path, word| {
        if let Word::Ignored(why) = word {
            check.warn(at.join(path), why);
        }
    });
}

/// The process runtime's word on each field of `template` that it does not simply honour.
pub(crate) fn each_word(template: &Value, note: &mut impl FnMut(&FieldPath, Word<'_>)) {
    let normal = normal_value(template);
    let pulled = volumes::have_images(&normal);
    let pull_secrets = FieldPath::fields("spec.imagePullSecrets");
    walk(&normal, &mut FieldPath::root(), &mut |path, word| {
        if !pulled || *path != pull_secrets {
            note(path, word);
        }
    });
}

/// The word on one field that is given in a template.
pub(crate) enum Word<'a> {
    /// It has no effect, for this reason.
    Ignored(&'static str),
    /// A node must have announced this feature.
    Needs(&'a str),
}

fn walk(value: &Value, path: &mut FieldPath, note: &mut impl FnMut(&FieldPath, Word<'_>)) {
    let pattern = pattern(path);
    if pattern == "spec.containers" && *path == FieldPath::fields("spec.initContainers") {
        note(path, Word::Needs("initContainers"));
    }
    if pattern == "spec.volumes[*]" {
        return volumes::each_word(value, path, note);
    }
    let known = PROCESS.iter().find(|(at, _)| *at == pattern).map(|(_, honour)| *honour);
    let known = known.or_else(|| limits::word(&pattern));
    match (known, value) {
        (_, value) if grants(&pattern, value) => {}
        (Some(Honoured), _) => {}
        (Some(Ignored(why)), _) => note(path, Word::Ignored(why)),
        (Some(Needs(feature)), _) => note(path, Word::Needs(feature)),
        (None, value) => {
            if let Some(feature) = confinement(path) {
                return note(path, Word::Needs(&feature));
            }
            match value {
                Value::Object(fields) => {
                    for (name, value) in fields {
                        path.push(Segment::Field(name.clone()));
                        walk(value, path, note);
                        path.pop();
                    }
                }
                Value::Array(items) => {
                    for (index, value) in items.iter().enumerate() {
                        path.push(Segment::Index(index));
                        walk(value, path, note);
                        path.pop();
                    }
                }
                _ => note(path, Word::Ignored(NOT_HONOURED)),
            }
        }
    }
}

/// Whether the value asks for no more than every process has anyhow.
fn grants(pattern: &str, value: &Value) -> bool {
    match pattern.rsplit('.').next() {
        Some("runAsNonRoot") => value == &Value::Bool(false),
        Some("allowPrivilegeEscalation") => value == &Value::Bool(true),
        Some("seccompProfile" | "appArmorProfile") => value["type"] == "Unconfined",
        Some("os") => value["name"] == "linux",
        _ => false,
    }
}

/// The feature that a field of a security context is: the field's own name, so that what
/// Kubernetes adds there is never passed over.
fn confinement(path: &FieldPath) -> Option<String> {
    match path.segments() {
        [.., Segment::Field(context), Segment::Field(name)] if context == "securityContext" => {
            Some(name.clone())
        }
        _ => None,
    }
}

fn pattern(path: &FieldPath) -> String {
    let mut text = String::new();
    for segment in path.segments() {
        match segment {
            Segment::Field(name) => {
                let name = if name == "initContainers" { "containers" } else { name };
                text.push_str(if text.is_empty() { "" } else { "." });
                text.push_str(name);
            }
            Segment::Index(_) | Segment::Key(_) => text.push_str("[*]"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use everynode_model::{PIDS_LIMIT, REQUIRE_LIMITS};
    use serde_json::json;

    use super::*;

    fn process(fields: Value) -> Value {
        let mut spec = json!({
            "runtimeClassName": "process", "containers": [{"name": "a"}],
            "hostNetwork": true, "hostIPC": true, "hostPID": true,
        });
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({"spec": spec})
    }

    fn features(fields: Value) -> Vec<String> {
        let features = needed_features(&process(fields));
        let further = features.iter().filter(|feature| *feature != RUNTIME_PROCESS);
        assert_eq!(further.clone().count() + 1, features.len(), "the runtime itself is needed");
        further.cloned().collect()
    }

    fn in_container(fields: Value) -> Vec<String> {
        features(json!({"containers": [fields]}))
    }

    #[test]
    fn what_confines_is_a_feature() {
        for (context, feature) in [
            (json!({"runAsUser": 1}), "runAsUser"),
            (json!({"runAsNonRoot": true}), "runAsNonRoot"),
            (json!({"readOnlyRootFilesystem": true}), "readOnlyRootFilesystem"),
            (json!({"capabilities": {"drop": ["ALL"]}}), "capabilities"),
            (json!({"seccompProfile": {"type": "RuntimeDefault"}}), "seccompProfile"),
            (json!({"allowPrivilegeEscalation": false}), "allowPrivilegeEscalation"),
            (json!({"supplementalGroupsPolicy": "Strict"}), "supplementalGroupsPolicy"),
            (json!({"inventedNextYear": {"deep": 1}}), "inventedNextYear"),
        ] {
            let wanted = [feature.to_owned()];
            assert_eq!(in_container(json!({"securityContext": context})), wanted);
            assert_eq!(features(json!({"securityContext": context})), wanted);
            let init = features(json!({"initContainers": [{"securityContext": context}]}));
            assert!(init.contains(&feature.to_owned()) && init.contains(&"initContainers".into()));
        }
        assert_eq!(features(json!({"hostUsers": false})), ["hostUsers"]);
        assert_eq!(features(json!({"os": {"name": "windows"}})), ["os"]);
        assert_eq!(features(json!({"hostPID": false})), ["namespaces.pid"]);
        let own = json!({"hostNetwork": null, "hostIPC": null, "shareProcessNamespace": true});
        let wanted = ["namespaces.ipc", "namespaces.network", "shareProcessNamespace"];
        assert_eq!(features(own), wanted);
    }

    #[test]
    fn what_the_program_can_not_do_without_is_a_feature() {
        for (fields, feature) in [
            (json!({"volumeMounts": [{"name": "a", "mountPath": "/a"}]}), "volumeMounts"),
            (json!({"volumeDevices": [{"name": "a", "devicePath": "/a"}]}), "volumeDevices"),
            (json!({"envFrom": [{"secretRef": {"name": "a"}}]}), "envFrom"),
            (json!({"livenessProbe": {"exec": {"command": ["x"]}}}), "probes"),
            (json!({"lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}), "lifecycle"),
            (
                json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]}),
                "env.fieldRef",
            ),
            (
                json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"key": "a"}}}]}),
                "env.secretKeyRef",
            ),
        ] {
            assert_eq!(in_container(fields), [feature]);
        }
    }

    #[test]
    fn an_image_of_a_registry_is_a_feature_of_its_own() {
        let digest = format!("@sha256:{}", "a".repeat(64));
        let volumes = |reference: &str| {
            let reference = format!("{reference}{digest}");
            json!({"volumes": [{"name": "v", "image": {"reference": reference}}],
                "imagePullSecrets": [{"name": "s"}]})
        };
        let said = |reference: &str| {
            let mut said = Vec::new();
            each_word(&process(volumes(reference)), &mut |path, word| match word {
                Word::Ignored(_) => said.push(path.to_string()),
                Word::Needs(_) => {}
            });
            said
        };
        let image = "quay.io/x:1";
        assert_eq!(features(volumes(image)), ["volumes.image", "volumes.image.oci"]);
        assert_eq!(features(volumes("https://h/x")), ["volumes.image"]);
        assert_eq!(said(image), [""; 0]);
        assert_eq!(said("https://h/x"), ["spec.imagePullSecrets"]);
        let containers = json!({"spec": {"containers": [], "volumes": volumes(image)["volumes"]}});
        assert!(!needed_features(&containers).iter().any(|it| it.ends_with("oci")));
    }

    #[test]
    fn each_kind_of_volume_is_a_feature() {
        let labels =
            json!({"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]});
        let cpu = json!({"items": [{"path": "c", "resourceFieldRef": {"resource": "limits.cpu"}}]});
        let with_cpu = |feature: &'static str| vec![feature, "volumes.resourceFieldRef"];
        for (volume, wanted) in [
            (json!({}), vec!["volumes.emptyDir"]),
            (json!({"emptyDir": {"medium": "Memory"}}), vec!["volumes.emptyDir"]),
            (
                json!({"emptyDir": {"medium": "HugePages"}}),
                vec!["volumes.emptyDir", "volumes.emptyDir.medium"],
            ),
            (json!({"hostPath": {"path": "/"}}), vec!["volumes.hostPath"]),
            (json!({"configMap": {"name": "c", "defaultMode": 256}}), vec!["volumes.configMap"]),
            (json!({"secret": {"secretName": "s"}}), vec!["volumes.secret"]),
            (json!({"downwardAPI": labels}), vec!["volumes.downwardAPI"]),
            (json!({"downwardAPI": cpu}), with_cpu("volumes.downwardAPI")),
            (json!({"nfs": {"server": "a", "path": "/"}}), vec!["volumes.nfs"]),
            (json!({"inventedNextYear": {"deep": 1}}), vec!["volumes.inventedNextYear"]),
            (
                json!({"projected": {"sources": [{"secret": {"name": "s"}}, {"downwardAPI": cpu}]}}),
                with_cpu("volumes.projected"),
            ),
            (
                json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}),
                vec!["volumes.projected", "volumes.serviceAccountToken"],
            ),
        ] {
            let mut named = json!({"name": "v"});
            named.as_object_mut().unwrap().extend(volume.as_object().unwrap().clone());
            assert_eq!(features(json!({"volumes": [named]})), wanted, "{volume}");
        }
    }

    #[test]
    fn what_asks_for_nothing_more_needs_nothing_more() {
        let plain = json!({
            "hostNetwork": true, "hostPID": true, "os": {"name": "linux"}, "tolerations": [{"operator": "Exists"}],
            "securityContext": {"runAsNonRoot": false, "seccompProfile": {"type": "Unconfined"}},
            "containers": [{"name": "a", "command": ["x"], "env": [{"name": "A", "value": "b"}],
                "securityContext": {"privileged": true, "readOnlyRootFilesystem": false}}],
        });
        assert_eq!(features(plain.clone()), [""; 0]);
        let mut check = Check::default();
        warn_of_ignored(&mut check, &process(plain));
        assert_eq!(check.warnings, []);
    }

    #[test]
    fn resource_limits_are_a_feature() {
        for key in ["everynode.dev/rlimits", "rlimits.everynode.dev/a"] {
            let mut template = process(json!({}));
            template["metadata"] = json!({"annotations": {key: "nofile=1"}});
            assert!(needed_features(&template).contains("rlimits"), "{key}");
            template["spec"]["runtimeClassName"] = Value::Null;
            assert!(needed_features(&template).contains("cri/rlimits"), "{key}");
        }
    }

    #[test]
    fn another_runtime_has_features_of_its_own() {
        let features = needed_features(&json!({"spec": {"containers": [
            {"image": "x", "securityContext": {"runAsUser": 1}}]}}));
        assert_eq!(features.into_iter().collect::<Vec<_>>(), ["cri/runAsUser", RUNTIME_CRI]);
        let features = needed_features(&json!({
            "metadata": {"annotations": {PIDS_LIMIT: "9", REQUIRE_LIMITS: "true"}},
            "spec": {"containers": [{"image": "x", "resources": {"limits": {"x.org/y": "1"}}}]},
        }));
        let limits = ["cri/limits.pids", "cri/limits.required", "cri/limits.x.org/y", RUNTIME_CRI];
        assert_eq!(features.into_iter().collect::<Vec<_>>(), limits);
        let features = needed_features(&json!({"spec": {"runtimeClassName": "gvisor"}}));
        assert!(features.contains("cri/runtimeClass/gvisor") && features.contains(RUNTIME_CRI));
    }

    #[test]
    fn what_has_no_effect_is_warned_of_at_its_place() {
        let mut check = Check::default();
        let template = process(json!({
            "hostname": "x", "priorityClassName": "p",
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}},
                {"name": "m", "emptyDir": {"sizeLimit": "1Mi", "medium": "Memory"}}],
            "containers": [{"name": "a"}, {"name": "b", "stdin": true,
                "resources": {
                    "limits": {"cpu": 1, "hugepages-2Mi": "2Mi", "ephemeral-storage": "1Gi"},
                    "requests": {"cpu": 1, "memory": "1Mi"},
                }}],
        }));
        warn_of_ignored(&mut check, &template);
        let paths: Vec<String> =
            check.warnings.iter().map(|warning| warning.path.to_string()).collect();
        assert_eq!(
            paths,
            [
                "spec.template.spec.containers[1].resources.requests.memory",
                "spec.template.spec.containers[1].stdin",
                "spec.template.spec.hostname",
                "spec.template.spec.priorityClassName",
            ]
        );
    }
}
