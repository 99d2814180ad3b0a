//! The fields of a template: those that are honoured, those that are passed over because they
//! confine nothing here, and everything else, which is refused.

use std::collections::BTreeMap;

use everynode_model::Reason;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::content::Named;
use super::lifecycle::{Around, Asked, Port};
use super::resources::Wanted;
use super::security::{ContainerSecurity, PodSecurity};
use super::{is_empty, mounts, unsupported, volumes};

/// The fields beside those that are read: refused, unless they say nothing.
pub(super) type Rest = Map<String, Value>;

#[derive(Debug, Deserialize)]
pub(super) struct Template {
    #[serde(default)]
    pub(super) metadata: Metadata,
    pub(super) spec: Spec,
    /// Not of the template: what the coordinator says it reads.
    #[serde(default)]
    pub(super) config: Vec<Named>,
    #[serde(flatten)]
    pub(super) rest: Rest,
}

/// Labels and annotations inform; whatever else is in a template's metadata does nothing.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Metadata {
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    pub(super) containers: Vec<Container>,
    #[serde(default)]
    pub(super) init_containers: Vec<Container>,
    pub(super) runtime_class_name: Option<String>,
    pub(super) termination_grace_period_seconds: Option<i64>,
    pub(super) priority_class_name: Option<String>,
    pub(super) host_network: Option<bool>,
    #[serde(rename = "hostIPC")]
    pub(super) host_ipc: Option<bool>,
    #[serde(rename = "hostPID")]
    pub(super) host_pid: Option<bool>,
    pub(super) share_process_namespace: Option<bool>,
    pub(super) security_context: Option<PodSecurity>,
    #[serde(default)]
    pub(super) volumes: Vec<volumes::Written>,
    #[serde(default)]
    pub(super) resources: Wanted,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Container {
    pub(super) name: String,
    #[serde(default)]
    pub(super) command: Vec<String>,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env: Vec<EnvVar>,
    #[serde(default)]
    pub(super) env_from: Vec<EnvFrom>,
    pub(super) working_dir: Option<String>,
    pub(super) restart_policy: Option<String>,
    #[serde(default)]
    pub(super) ports: Vec<Port>,
    pub(super) startup_probe: Option<Asked>,
    pub(super) liveness_probe: Option<Asked>,
    pub(super) readiness_probe: Option<Asked>,
    pub(super) lifecycle: Option<Around>,
    pub(super) security_context: Option<ContainerSecurity>,
    #[serde(default)]
    pub(super) volume_mounts: Vec<mounts::Mount>,
    #[serde(default)]
    pub(super) resources: Wanted,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EnvVar {
    pub(super) name: String,
    #[serde(default)]
    pub(super) value: String,
    pub(super) value_from: Option<ValueFrom>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ValueFrom {
    pub(super) field_ref: Option<FieldRef>,
    pub(super) config_map_key_ref: Option<KeyRef>,
    pub(super) secret_key_ref: Option<KeyRef>,
    pub(super) resource_field_ref: Option<ResourceRef>,
    #[serde(flatten)]
    pub(super) rest: Rest,
}

/// One key of a ConfigMap or Secret.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyRef {
    #[serde(default)]
    pub(super) name: String,
    pub(super) key: String,
    #[serde(default)]
    pub(super) optional: bool,
}

/// All keys of a ConfigMap or Secret.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EnvFrom {
    #[serde(default)]
    pub(super) prefix: String,
    pub(super) config_map_ref: Option<ObjectRef>,
    pub(super) secret_ref: Option<ObjectRef>,
    #[serde(flatten)]
    pub(super) rest: Rest,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ObjectRef {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) optional: bool,
}

/// An amount of a container's resources.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResourceRef {
    /// The container itself without one.
    pub(super) container_name: Option<String>,
    pub(super) resource: String,
    pub(super) divisor: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FieldRef {
    pub(super) field_path: String,
}

/// Of a pod spec: what places it, names it or orders it among others; what a process of the host
/// has anyhow (the host's network, processes and IPC). The coordinator warns of those that have no
/// effect. Secrets for pulling are read elsewhere: a pod may be without one.
const PASSED_OVER_IN_SPEC: &[&str] = &[
    "affinity",
    "automountServiceAccountToken",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "hostAliases",
    "hostname",
    "hostnameOverride",
    "imagePullSecrets",
    "nodeName",
    "nodeSelector",
    "overhead",
    "preemptionPolicy",
    "priority",
    "readinessGates",
    "schedulerName",
    "serviceAccount",
    "serviceAccountName",
    "setHostnameAsFQDN",
    "subdomain",
    "tolerations",
    "topologySpreadConstraints",
];

/// Of a container: its image is not used; its end is told by its last lines.
const PASSED_OVER_IN_CONTAINER: &[&str] = &[
    "image",
    "imagePullPolicy",
    "resizePolicy",
    "stdin",
    "stdinOnce",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "tty",
];

impl Spec {
    pub(super) fn check(&self) -> Result<(), Reason> {
        let rest = self.rest.iter().filter(|(name, value)| match name.as_str() {
            "restartPolicy" => *value != "Always",
            // The host's user namespace, as without the field.
            "hostUsers" => *value != &Value::Bool(true),
            "os" => value.get("name") != Some(&"linux".into()),
            _ => true,
        });
        refuse(rest, "spec", PASSED_OVER_IN_SPEC)
    }
}

impl Metadata {
    /// An annotation, and where it stands.
    pub(super) fn annotation(&self, key: &str) -> Option<(&str, String)> {
        let text = self.annotations.get(key)?;
        Some((text, format!("metadata.annotations[{key}]")))
    }
}

impl Container {
    pub(super) fn check(&self, path: &str) -> Result<(), Reason> {
        refuse_rest(&self.rest, path, PASSED_OVER_IN_CONTAINER)
    }
}

/// Refuses the first of `rest` that says anything and is not passed over.
pub(super) fn refuse_rest(rest: &Rest, path: &str, passed_over: &[&str]) -> Result<(), Reason> {
    refuse(rest.iter(), path, passed_over)
}

pub(super) fn refuse<'a>(
    mut rest: impl Iterator<Item = (&'a String, &'a Value)>,
    path: &str,
    passed_over: &[&str],
) -> Result<(), Reason> {
    let refused = rest
        .find(|(name, value)| !passed_over.contains(&name.as_str()) && !is_empty(value))
        .map(|(name, _)| if path.is_empty() { name.clone() } else { format!("{path}.{name}") });
    match refused {
        Some(path) => Err(unsupported(&path, "this agent does not honour it for host processes")),
        None => Ok(()),
    }
}
