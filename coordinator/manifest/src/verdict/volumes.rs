//! What volumes come from: the API, a driver, or a directory that a kubelet would have made.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PodSpec, Volume, VolumeProjection};
use serde_json::Value;

use super::{Findings, Lack, containers};
use crate::FieldPath;

/// Kinds of volume that a node can make by itself, from the machine or from what it was sent.
const LOCAL: [&str; 8] =
    ["configMap", "downwardAPI", "emptyDir", "hostPath", "image", "name", "projected", "secret"];

/// The ConfigMap with the API's CA, which Kubernetes makes in every namespace.
const ROOT_CA: &str = "kube-root-ca.crt";

const NO_TOKENS: &str =
    "a token for the Kubernetes API; there is none here, and no service accounts";

pub(super) fn look(findings: &mut Findings, at: &FieldPath, pod: &PodSpec) {
    let mounted: BTreeSet<&str> = containers(at, pod)
        .flat_map(|(_, container)| container.volume_mounts.iter().flatten())
        .map(|mount| mount.name.as_str())
        .collect();
    for (index, volume) in pod.volumes.iter().flatten().enumerate() {
        let path = at.field("volumes").index(index);
        driver(findings, &path, volume);
        if volume.config_map.as_ref().is_some_and(|map| map.name == ROOT_CA) {
            let why = "the CA of the Kubernetes API, which is not here";
            findings.cannot(path.down("configMap.name"), Lack::KubernetesApi, why);
        }
        let sources = volume.projected.iter().flat_map(|projected| &projected.sources).flatten();
        for (index, source) in sources.enumerate() {
            projection(findings, &path.down("projected.sources").index(index), source);
        }
        // What nobody mounts is nobody's need.
        if let Some(host) = volume.host_path.as_ref()
            && mounted.contains(volume.name.as_str())
        {
            let kind = host.type_.as_deref().unwrap_or_default();
            host_path(findings, path.down("hostPath.path"), &host.path, kind);
        }
    }
}

/// Volumes that are attached by a driver, or claimed.
fn driver(findings: &mut Findings, path: &FieldPath, volume: &Volume) {
    let fields = serde_json::to_value(volume).unwrap_or_default();
    for kind in fields.as_object().into_iter().flat_map(|fields| fields.keys()) {
        if !LOCAL.contains(&kind.as_str()) {
            let why = match kind.as_str() {
                "csi" | "flexVolume" => "is attached by a kubelet's storage driver".into(),
                "ephemeral" | "persistentVolumeClaim" => {
                    "is claimed through the Kubernetes API".into()
                }
                "gitRepo" => {
                    "is no more in Kubernetes either: clone it in an init container".into()
                }
                kind => format!("a volume of kind {kind} is attached by a kubelet"),
            };
            let why = format!("{why}; use hostPath, mounted by the machine");
            findings.cannot(path.field(kind), Lack::PersistentVolumes, why);
        }
    }
}

fn projection(findings: &mut Findings, path: &FieldPath, source: &VolumeProjection) {
    let fields = serde_json::to_value(source).unwrap_or_default();
    for field in ["clusterTrustBundle", "podCertificate", "serviceAccountToken"] {
        if fields.get(field).is_some_and(|field| !field.is_null()) {
            let why = match field {
                "serviceAccountToken" => NO_TOKENS,
                _ => "certificates of the Kubernetes API, which is not here",
            };
            findings.cannot(path.field(field), Lack::KubernetesApi, why);
        }
    }
    if fields.pointer("/configMap/name").and_then(Value::as_str) == Some(ROOT_CA) {
        let why = "the CA of the Kubernetes API, which is not here";
        findings.cannot(path.down("configMap.name"), Lack::KubernetesApi, why);
    }
}

/// Directories that belong to a kubelet, to its plug-ins or to Kubernetes. `kind` is the
/// `hostPath.type`: some say that the path must be there before.
fn host_path(findings: &mut Findings, at: FieldPath, path: &str, kind: &str) {
    let path = path.replace('\\', "/");
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let has = |name: &str| parts.contains(&name);
    let below_kubelet = |name: &str| parts.windows(2).any(|pair| pair == ["kubelet", name]);
    if below_kubelet("device-plugins") {
        let why = "device plug-ins register there with the kubelet, and nodes here have none";
        findings.cannot(at, Lack::DevicePlugins, why);
    } else if below_kubelet("plugins") || below_kubelet("plugins_registry") {
        let why = "drivers register there with the kubelet, and nodes here have none";
        findings.cannot(at, Lack::KubeletPlugins, why);
    } else if has("kubelet-plugins") {
        let why = "volume plug-ins are put there for the kubelet, and nodes here have none";
        findings.cannot(at, Lack::KubeletPlugins, why);
    } else if has("cni") {
        let why = "a pod network's plug-ins (CNI) and their settings: there is no pod network here";
        findings.cannot(at, Lack::PodNetwork, why);
    } else if has("kubelet") || parts.starts_with(&["etc", "kubernetes"]) {
        nothing_there(
            findings,
            at,
            kind,
            "files of Kubernetes on the machine, made by its kubelet",
        );
    } else if [["var", "log", "pods"], ["var", "log", "containers"]]
        .iter()
        .any(|logs| parts == logs)
    {
        let what = "the kubelet's directory of container logs (Everynode's are in the agent's)";
        nothing_there(findings, at, kind, what);
    }
}

fn nothing_there(findings: &mut Findings, at: FieldPath, kind: &str, what: &str) {
    if ["Directory", "File", "Socket"].contains(&kind) {
        let why = format!("{what}: not here, and type {kind} says that it must be");
        findings.cannot(at, Lack::Kubelet, why);
    } else {
        findings.without(at, Lack::Kubelet, format!("{what}: nothing is there"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_says_whose_it_is() {
        for (path, code) in [
            ("/var/lib/kubelet/device-plugins", Some("DevicePlugins")),
            ("/var/lib/k0s/kubelet/plugins_registry/", Some("KubeletPlugins")),
            ("C:\\var\\lib\\kubelet\\plugins\\x\\", Some("KubeletPlugins")),
            ("/usr/libexec/kubernetes/kubelet-plugins/volume/exec", Some("KubeletPlugins")),
            ("/etc/cni/net.d", Some("PodNetwork")),
            ("/var/lib/kubelet/pods", Some("Kubelet")),
            ("/etc/kubernetes/pki", Some("Kubelet")),
            ("/var/log/pods", Some("Kubelet")),
            ("/var/log", None),
            ("/", None),
            ("/run/containerd/containerd.sock", None),
            ("/opt/my-cni-notes", None),
        ] {
            let mut findings = Findings::default();
            host_path(&mut findings, FieldPath::root(), path, "");
            assert_eq!(findings.0.first().map(|finding| finding.code), code, "{path}");
        }
    }

    #[test]
    fn what_must_be_there_and_is_not_can_not_be_mounted() {
        for (kind, outcome) in [
            ("", super::super::Outcome::RunsWithout),
            ("DirectoryOrCreate", super::super::Outcome::RunsWithout),
            ("Directory", super::super::Outcome::CannotRunHere),
        ] {
            let mut findings = Findings::default();
            host_path(&mut findings, FieldPath::root(), "/var/lib/kubelet/pods", kind);
            assert_eq!(findings.0[0].outcome, outcome, "{kind}");
        }
    }
}
