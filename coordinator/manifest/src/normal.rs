//! The normal form of a pod template: one sequence of bytes for one meaning.
//!
//! **Frozen.** The bytes are the body that agents get and their digest is the revision, so a change
//! of what [`normal_form`] gives for any template restarts fleets. What is here stays; anything
//! else is a version 2 beside it, used for templates that change anyway. The golden tests below
//! stand guard.
//!
//! Dropped are nulls, empty strings, lists and maps where they say nothing, values that are the
//! known default, and what is not of the template's meaning (its metadata other than labels and
//! annotations). Quantities become plain numbers; keys are sorted. The order of lists stays.

use serde_json::{Map, Value};

use crate::Quantity;
use crate::defaults::pull_policy;

/// The version of the normal form that [`normal_form`] gives, to be stored with its digest.
pub const NORMAL_FORM: u32 = 1;

/// The normal form of `template` (`spec.template` of a canonical object): compact JSON.
///
/// Its digest (`everynode_model::Digest::of`) is the revision. The function is total: of a value
/// that is no template it gives some bytes, too.
pub fn normal_form(template: &Value) -> Vec<u8> {
    let mut out = String::new();
    write_sorted(&normal_value(template), &mut out);
    out.into_bytes()
}

/// The normal form before it is written.
pub(crate) fn normal_value(template: &Value) -> Value {
    let mut normal = Map::new();
    let mut metadata = Map::new();
    for name in ["annotations", "labels"] {
        let entries = template.get("metadata").and_then(|metadata| metadata.get(name));
        let entries = entries.map(|entries| reduce(entries, &format!("metadata.{name}")));
        insert_if_any(&mut metadata, name, entries);
    }
    insert_if_any(&mut normal, "metadata", Some(Value::Object(metadata)));
    let spec = template.get("spec").map(|spec| {
        let mut spec = reduce(spec, "");
        drop_dependent_defaults(&mut spec);
        spec
    });
    insert_if_any(&mut normal, "spec", spec);
    Value::Object(normal)
}

/// A value that says nothing where it stands, by the path of its field: list items are `*`, and
/// names that share their rules are told by one (see [`family`]).
const DEFAULTS: &[(&str, Known)] = &[
    ("dnsPolicy", Known::Text("ClusterFirst")),
    ("enableServiceLinks", Known::Flag(true)),
    ("hostIPC", Known::Flag(false)),
    ("hostNetwork", Known::Flag(false)),
    ("hostPID", Known::Flag(false)),
    ("hostUsers", Known::Flag(true)),
    ("preemptionPolicy", Known::Text("PreemptLowerPriority")),
    ("restartPolicy", Known::Text("Always")),
    ("schedulerName", Known::Text("default-scheduler")),
    ("setHostnameAsFQDN", Known::Flag(false)),
    ("shareProcessNamespace", Known::Flag(false)),
    ("terminationGracePeriodSeconds", Known::Number(30)),
    ("securityContext.fsGroupChangePolicy", Known::Text("Always")),
    ("securityContext.supplementalGroupsPolicy", Known::Text("Merge")),
    ("tolerations.*.operator", Known::Text("Equal")),
    ("containers.*.env.*.valueFrom.configMapKeyRef.optional", Known::Flag(false)),
    ("containers.*.env.*.valueFrom.fieldRef.apiVersion", Known::Text("v1")),
    ("containers.*.env.*.valueFrom.resourceFieldRef.divisor", Known::Text("0")),
    ("containers.*.env.*.valueFrom.secretKeyRef.optional", Known::Flag(false)),
    ("containers.*.envFrom.*.configMapRef.optional", Known::Flag(false)),
    ("containers.*.envFrom.*.secretRef.optional", Known::Flag(false)),
    ("containers.*.lifecycle.HOOK.httpGet.path", Known::Text("/")),
    ("containers.*.lifecycle.HOOK.httpGet.scheme", Known::Text("HTTP")),
    ("containers.*.PROBE.failureThreshold", Known::Number(3)),
    ("containers.*.PROBE.httpGet.path", Known::Text("/")),
    ("containers.*.PROBE.httpGet.scheme", Known::Text("HTTP")),
    ("containers.*.PROBE.initialDelaySeconds", Known::Number(0)),
    ("containers.*.PROBE.periodSeconds", Known::Number(10)),
    ("containers.*.PROBE.successThreshold", Known::Number(1)),
    ("containers.*.PROBE.timeoutSeconds", Known::Number(1)),
    ("containers.*.ports.*.hostPort", Known::Number(0)),
    ("containers.*.ports.*.protocol", Known::Text("TCP")),
    ("containers.*.securityContext.privileged", Known::Flag(false)),
    ("containers.*.securityContext.procMount", Known::Text("Default")),
    ("containers.*.securityContext.readOnlyRootFilesystem", Known::Flag(false)),
    ("containers.*.stdin", Known::Flag(false)),
    ("containers.*.stdinOnce", Known::Flag(false)),
    ("containers.*.terminationMessagePath", Known::Text("/dev/termination-log")),
    ("containers.*.terminationMessagePolicy", Known::Text("File")),
    ("containers.*.tty", Known::Flag(false)),
    ("containers.*.volumeMounts.*.mountPropagation", Known::Text("None")),
    ("containers.*.volumeMounts.*.readOnly", Known::Flag(false)),
    ("containers.*.volumeMounts.*.recursiveReadOnly", Known::Text("Disabled")),
    ("volumes.*.azureDisk.cachingMode", Known::Text("ReadWrite")),
    ("volumes.*.azureDisk.fsType", Known::Text("ext4")),
    ("volumes.*.azureDisk.kind", Known::Text("Shared")),
    ("volumes.*.azureDisk.readOnly", Known::Flag(false)),
    ("volumes.*.configMap.defaultMode", Known::Number(0o644)),
    ("volumes.*.configMap.optional", Known::Flag(false)),
    ("volumes.*.downwardAPI.defaultMode", Known::Number(0o644)),
    ("volumes.*.downwardAPI.items.*.fieldRef.apiVersion", Known::Text("v1")),
    ("volumes.*.ephemeral.volumeClaimTemplate.spec.volumeMode", Known::Text("Filesystem")),
    ("volumes.*.iscsi.iscsiInterface", Known::Text("default")),
    ("volumes.*.projected.defaultMode", Known::Number(0o644)),
    ("volumes.*.projected.sources.*.downwardAPI.items.*.fieldRef.apiVersion", Known::Text("v1")),
    ("volumes.*.projected.sources.*.serviceAccountToken.expirationSeconds", Known::Number(3600)),
    ("volumes.*.rbd.keyring", Known::Text("/etc/ceph/keyring")),
    ("volumes.*.rbd.pool", Known::Text("rbd")),
    ("volumes.*.rbd.user", Known::Text("admin")),
    ("volumes.*.scaleIO.fsType", Known::Text("xfs")),
    ("volumes.*.scaleIO.storageMode", Known::Text("ThinProvisioned")),
    ("volumes.*.secret.defaultMode", Known::Number(0o644)),
    ("volumes.*.secret.optional", Known::Flag(false)),
];

/// Maps whose keys are the writer's own: there an empty string is a value.
const FREE_MAPS: &[&str] = &[
    "annotations",
    "labels",
    "limits",
    "matchLabels",
    "nodeSelector",
    "options",
    "overhead",
    "requests",
    "volumeAttributes",
];

/// Selectors, which select everything when empty and nothing when absent.
const MEANT_WHEN_EMPTY: &[&str] = &["labelSelector", "namespaceSelector"];

#[derive(Debug)]
enum Known {
    Text(&'static str),
    Number(i64),
    Flag(bool),
}

impl Known {
    fn is(&self, value: &Value) -> bool {
        match self {
            Self::Text(text) => value.as_str() == Some(text),
            Self::Number(number) => value.as_i64() == Some(*number),
            Self::Flag(flag) => value.as_bool() == Some(*flag),
        }
    }
}

/// Drops what says nothing from `value`, which is at `path` of the pod spec.
fn reduce(value: &Value, path: &str) -> Value {
    match value {
        Value::Object(fields) => {
            let name = path.rsplit('.').next().unwrap_or_default();
            let free = FREE_MAPS.contains(&name);
            let is_volume = path == "volumes.*";
            let mut kept = Map::new();
            for (name, value) in fields {
                let value = if free {
                    reduce_entry(value, path)
                } else {
                    reduce(value, &child(path, family(name)))
                };
                // Of a volume's source even its empty form tells which one it is.
                let meant = free || is_volume || MEANT_WHEN_EMPTY.contains(&name.as_str());
                if !value.is_null() && ((meant && value != "") || !says_nothing(&value, path, name))
                {
                    kept.insert(name.clone(), value);
                } else if free {
                    kept.insert(name.clone(), Value::String(String::new()));
                }
            }
            Value::Object(kept)
        }
        Value::Array(items) => {
            // Items count by their place, so none is dropped.
            let item = child(path, "*");
            Value::Array(items.iter().map(|value| reduce(value, &item)).collect())
        }
        scalar if is_quantity(path) => normal_quantity(scalar),
        scalar => scalar.clone(),
    }
}

fn reduce_entry(value: &Value, path: &str) -> Value {
    let quantities = ["limits", "requests", "overhead"];
    if quantities.iter().any(|name| path == *name || path.ends_with(&format!(".{name}"))) {
        normal_quantity(value)
    } else {
        value.clone()
    }
}

fn says_nothing(value: &Value, path: &str, name: &str) -> bool {
    let empty = match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    let path = child(path, family(name));
    empty || DEFAULTS.iter().any(|(at, known)| *at == path && known.is(value))
}

/// Defaults that depend on other fields: the pull policy on the image, a host port on the network,
/// a field's old name on its new one; and a volume without a source is an empty directory.
fn drop_dependent_defaults(spec: &mut Value) {
    let host_network = spec.get("hostNetwork").and_then(Value::as_bool) == Some(true);
    let Some(spec) = spec.as_object_mut() else { return };
    if let Some(old) = spec.remove("serviceAccount") {
        spec.entry("serviceAccountName").or_insert(old);
    }
    for list in ["containers", "initContainers"] {
        for container in items(spec, list) {
            drop_default_pull_policy(container, "image", "imagePullPolicy");
            for port in items(container, "ports") {
                if host_network && port.get("hostPort") == port.get("containerPort") {
                    port.remove("hostPort");
                }
            }
        }
    }
    for volume in items(spec, "volumes") {
        if volume.keys().all(|name| name == "name") {
            volume.insert("emptyDir".into(), Value::Object(Map::new()));
        }
        if let Some(image) = volume.get_mut("image").and_then(Value::as_object_mut) {
            drop_default_pull_policy(image, "reference", "pullPolicy");
        }
    }
}

fn drop_default_pull_policy(fields: &mut Map<String, Value>, image: &str, policy: &str) {
    let image = fields.get(image).and_then(Value::as_str).unwrap_or_default();
    if fields.get(policy).and_then(Value::as_str) == Some(pull_policy(image)) {
        fields.remove(policy);
    }
}

/// The items of the list `name` that are maps.
fn items<'a>(
    fields: &'a mut Map<String, Value>,
    name: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    let items = fields.get_mut(name).and_then(Value::as_array_mut);
    items.into_iter().flatten().filter_map(Value::as_object_mut)
}

/// The one name under which [`DEFAULTS`] has the rules that several fields share.
fn family(name: &str) -> &str {
    match name {
        "initContainers" => "containers",
        "livenessProbe" | "readinessProbe" | "startupProbe" => "PROBE",
        "postStart" | "preStop" => "HOOK",
        name => name,
    }
}

fn is_quantity(path: &str) -> bool {
    path.ends_with(".emptyDir.sizeLimit") || path.ends_with(".resourceFieldRef.divisor")
}

/// The plain number as a string; what is no quantity stays.
fn normal_quantity(value: &Value) -> Value {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        other => return other.clone(),
    };
    text.parse::<Quantity>().map_or_else(|_| value.clone(), |amount| amount.to_string().into())
}

fn child(path: &str, name: &str) -> String {
    if path.is_empty() { name.into() } else { format!("{path}.{name}") }
}

fn insert_if_any(fields: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    let value = value.filter(|value| value.as_object().is_none_or(|fields| !fields.is_empty()));
    if let Some(value) = value.filter(|value| !value.is_null()) {
        fields.insert(name.into(), value);
    }
}

/// Writes compact JSON with sorted keys, whatever order `serde_json`'s maps are built to have.
pub(crate) fn write_sorted(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            out.push('{');
            for (position, (name, value)) in fields.into_iter().enumerate() {
                out.push_str(if position == 0 { "" } else { "," });
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write_sorted(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (position, value) in items.iter().enumerate() {
                out.push_str(if position == 0 { "" } else { "," });
                write_sorted(value, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use everynode_model::Digest;
    use serde_json::json;

    use super::*;

    fn text(template: &Value) -> String {
        String::from_utf8(normal_form(template)).unwrap()
    }

    fn container(fields: Value) -> Value {
        json!({"spec": {"containers": [fields]}})
    }

    #[test]
    fn golden() {
        let small = json!({
            "metadata": {"labels": {"app": "a"}, "name": "dropped", "creationTimestamp": null},
            "spec": {
                "containers": [{
                    "name": "a", "image": "nginx", "imagePullPolicy": "Always",
                    "resources": {"limits": {"cpu": "1000m", "memory": "1Gi"}},
                    "env": [{"name": "E", "value": ""}],
                }],
                "dnsPolicy": "ClusterFirst", "securityContext": {},
            },
        });
        assert_eq!(
            text(&small),
            r#"{"metadata":{"labels":{"app":"a"}},"spec":{"containers":[{"env":[{"name":"E"}],"image":"nginx","name":"a","resources":{"limits":{"cpu":"1","memory":"1073741824"}}}]}}"#
        );
        let large = json!({
            "metadata": {"labels": {"app": "b", "empty": ""}, "annotations": {"n": ""}},
            "spec": {
                "hostNetwork": true, "hostPID": false, "serviceAccount": "s",
                "nodeSelector": {"os": "linux", "edge": ""},
                "tolerations": [{"operator": "Exists"}, {"key": "a", "operator": "Equal", "value": "b"}],
                "initContainers": [{"name": "i", "image": "x:1", "terminationMessagePolicy": "File"}],
                "containers": [{
                    "name": "b", "image": "b:2", "imagePullPolicy": "Always", "args": ["", "x"],
                    "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}],
                    "livenessProbe": {"httpGet": {"path": "/", "port": "web", "scheme": "HTTP"}, "periodSeconds": 20, "failureThreshold": 3},
                    "securityContext": {"runAsNonRoot": false, "privileged": false, "allowPrivilegeEscalation": false},
                }],
                "volumes": [
                    {"name": "e", "emptyDir": {}},
                    {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "0.5Gi"}},
                    {"name": "c", "configMap": {"name": "c", "defaultMode": 420}},
                    {"name": "h", "hostPath": {"path": "/", "type": ""}},
                ],
                "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                    {"labelSelector": {}, "topologyKey": "z"}]}},
            },
        });
        assert_eq!(
            text(&large),
            r#"{"metadata":{"annotations":{"n":""},"labels":{"app":"b","empty":""}},"spec":{"affinity":{"podAntiAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"labelSelector":{},"topologyKey":"z"}]}},"containers":[{"args":["","x"],"image":"b:2","imagePullPolicy":"Always","livenessProbe":{"httpGet":{"port":"web"},"periodSeconds":20},"name":"b","ports":[{"containerPort":80}],"securityContext":{"allowPrivilegeEscalation":false,"runAsNonRoot":false}}],"hostNetwork":true,"initContainers":[{"image":"x:1","name":"i"}],"nodeSelector":{"edge":"","os":"linux"},"serviceAccountName":"s","tolerations":[{"operator":"Exists"},{"key":"a","value":"b"}],"volumes":[{"emptyDir":{},"name":"e"},{"emptyDir":{"medium":"Memory","sizeLimit":"536870912"},"name":"m"},{"configMap":{"name":"c"},"name":"c"},{"hostPath":{"path":"/"},"name":"h"}]}}"#
        );
        assert_eq!(
            [&small, &large].map(|template| Digest::of(&normal_form(template)).to_string()),
            [
                "201ccb38cfac8bf9eb51c67eb1156dc787a312c5a044895d8ec6f03f0d0475bf",
                "1f59efc80ee86afb83d7d462035c73ae5f35eb0adb83c984182949fa244471aa",
            ]
        );
        assert_eq!(text(&json!({})), "{}");
    }

    #[test]
    fn the_tables_are_frozen() {
        let tables = format!("{DEFAULTS:?}{FREE_MAPS:?}{MEANT_WHEN_EMPTY:?}");
        assert_eq!(Digest::of(tables.as_bytes()).short(), "c24361546f");
    }

    #[test]
    fn other_spellings_of_one_meaning_are_one() {
        let base = container(json!({"name": "a", "image": "x:1"}));
        for same in [
            container(json!({"image": "x:1", "name": "a", "command": null, "args": []})),
            container(
                json!({"name": "a", "image": "x:1", "imagePullPolicy": "IfNotPresent", "resources": {"limits": {}}}),
            ),
            json!({"metadata": {"name": "x", "labels": {}}, "spec": {"restartPolicy": "Always", "containers": [{"name": "a", "image": "x:1", "tty": false}]}}),
        ] {
            assert_eq!(text(&same), text(&base));
        }
        let limit = |cpu: Value| text(&container(json!({"resources": {"limits": {"cpu": cpu}}})));
        assert_eq!(limit(json!("1000m")), limit(json!(1)));
        assert_eq!(limit(json!("0.5")), limit(json!("500m")));
    }

    #[test]
    fn what_changes_the_meaning_changes_the_form() {
        let of = |fields: Value| text(&container(fields));
        let base = of(json!({"name": "a", "image": "x:1"}));
        for other in [
            json!({"name": "a", "image": "x:2"}),
            json!({"name": "b", "image": "x:1"}),
            json!({"name": "a", "image": "x:1", "command": [""]}),
            json!({"name": "a", "image": "x:1", "imagePullPolicy": "Always"}),
            json!({"name": "a", "image": "x:1", "securityContext": {"allowPrivilegeEscalation": false}}),
            json!({"name": "a", "image": "x:1", "resources": {"limits": {"cpu": "1"}}}),
        ] {
            assert_ne!(of(other), base);
        }
        assert_ne!(of(json!({"args": ["a", "b"]})), of(json!({"args": ["b", "a"]})));
        let volume = |source: Value| text(&json!({"spec": {"volumes": [source]}}));
        assert_ne!(volume(json!({"emptyDir": {}})), volume(json!({"projected": {}})));
        let labels = |labels: Value| text(&json!({"metadata": {"labels": labels}}));
        assert_ne!(labels(json!({"a": ""})), labels(json!({})));
    }
}
