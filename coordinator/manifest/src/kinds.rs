//! The kinds people write in manifests: what Everynode has, and what it knows to pass over.

use crate::suggest::nearest;

/// A kind of object that Everynode knows by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownKind {
    /// As in a manifest: `DaemonSet`.
    pub kind: &'static str,
    /// Its API group; empty for the core group.
    pub group: &'static str,
    /// As in a command and a URL: `daemonsets`.
    pub plural: &'static str,
    /// What may be typed instead: `ds`.
    pub short: &'static [&'static str],
    /// What Everynode does with it.
    pub role: Role,
}

/// What a kind is to Everynode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// One of its own kinds.
    Ours,
    /// Another way to run pods: may have been meant as a DaemonSet.
    Workload,
    /// Something else of Kubernetes: passed over.
    Other,
}

/// Every kind known by name, Everynode's own first.
pub const KNOWN_KINDS: &[KnownKind] = &[
    kind("DaemonSet", "apps", "daemonsets", &["ds"], Role::Ours),
    kind("Node", "", "nodes", &["no"], Role::Ours),
    kind("Pod", "", "pods", &["po"], Role::Ours),
    kind("Event", "", "events", &["ev"], Role::Ours),
    kind("ControllerRevision", "apps", "controllerrevisions", &[], Role::Ours),
    kind("ConfigMap", "", "configmaps", &["cm"], Role::Ours),
    kind("Secret", "", "secrets", &[], Role::Ours),
    kind("Namespace", "", "namespaces", &["ns"], Role::Ours),
    kind("Deployment", "apps", "deployments", &["deploy"], Role::Workload),
    kind("ReplicaSet", "apps", "replicasets", &["rs"], Role::Workload),
    kind("StatefulSet", "apps", "statefulsets", &["sts"], Role::Workload),
    kind("ReplicationController", "", "replicationcontrollers", &["rc"], Role::Workload),
    kind("Job", "batch", "jobs", &[], Role::Workload),
    kind("CronJob", "batch", "cronjobs", &["cj"], Role::Workload),
    kind("PodTemplate", "", "podtemplates", &[], Role::Workload),
    kind("Service", "", "services", &["svc"], Role::Other),
    kind("Endpoints", "", "endpoints", &["ep"], Role::Other),
    kind("ServiceAccount", "", "serviceaccounts", &["sa"], Role::Other),
    kind("PersistentVolume", "", "persistentvolumes", &["pv"], Role::Other),
    kind("PersistentVolumeClaim", "", "persistentvolumeclaims", &["pvc"], Role::Other),
    kind("LimitRange", "", "limitranges", &["limits"], Role::Other),
    kind("ResourceQuota", "", "resourcequotas", &["quota"], Role::Other),
    kind("ClusterRole", "rbac.authorization.k8s.io", "clusterroles", &[], Role::Other),
    kind(
        "ClusterRoleBinding",
        "rbac.authorization.k8s.io",
        "clusterrolebindings",
        &[],
        Role::Other,
    ),
    kind("Role", "rbac.authorization.k8s.io", "roles", &[], Role::Other),
    kind("RoleBinding", "rbac.authorization.k8s.io", "rolebindings", &[], Role::Other),
    kind("Ingress", "networking.k8s.io", "ingresses", &["ing"], Role::Other),
    kind("IngressClass", "networking.k8s.io", "ingressclasses", &[], Role::Other),
    kind("NetworkPolicy", "networking.k8s.io", "networkpolicies", &["netpol"], Role::Other),
    kind("PodDisruptionBudget", "policy", "poddisruptionbudgets", &["pdb"], Role::Other),
    kind("PodSecurityPolicy", "policy", "podsecuritypolicies", &["psp"], Role::Other),
    kind("PriorityClass", "scheduling.k8s.io", "priorityclasses", &["pc"], Role::Other),
    kind("StorageClass", "storage.k8s.io", "storageclasses", &["sc"], Role::Other),
    kind("CSIDriver", "storage.k8s.io", "csidrivers", &[], Role::Other),
    kind("RuntimeClass", "node.k8s.io", "runtimeclasses", &[], Role::Other),
    kind(
        "HorizontalPodAutoscaler",
        "autoscaling",
        "horizontalpodautoscalers",
        &["hpa"],
        Role::Other,
    ),
    kind("Lease", "coordination.k8s.io", "leases", &[], Role::Other),
    kind(
        "CustomResourceDefinition",
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        &["crd"],
        Role::Other,
    ),
    kind("APIService", "apiregistration.k8s.io", "apiservices", &[], Role::Other),
    kind(
        "MutatingWebhookConfiguration",
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        &[],
        Role::Other,
    ),
    kind(
        "ValidatingWebhookConfiguration",
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
        &[],
        Role::Other,
    ),
];

/// The kind that a command's argument means: its kind in any case, plural, singular or short name,
/// with or without its group (`daemonset`, `ds`, `daemonsets.apps`).
pub fn find_kind(typed: &str) -> Option<&'static KnownKind> {
    let typed = typed.to_lowercase();
    let (name, group) = typed.split_once('.').map_or((typed.as_str(), None), |(name, group)| {
        // `daemonsets.v1.apps` is kubectl's way to name a version as well.
        (name, Some(group.strip_prefix("v1.").unwrap_or(group)))
    });
    KNOWN_KINDS.iter().find(|known| {
        group.is_none_or(|group| group == known.group)
            && (known.plural == name
                || known.kind.eq_ignore_ascii_case(name)
                || known.short.contains(&name))
    })
}

/// The known kind with exactly this name.
pub(crate) fn exact_kind(kind: &str) -> Option<&'static KnownKind> {
    KNOWN_KINDS.iter().find(|known| known.kind == kind)
}

/// The known kind that a mistyped one is nearest to.
pub(crate) fn nearest_kind(kind: &str) -> Option<&'static str> {
    nearest(kind, KNOWN_KINDS.iter().map(|known| known.kind))
}

const fn kind(
    kind: &'static str,
    group: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    role: Role,
) -> KnownKind {
    KnownKind { kind, group, plural, short, role }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_name_a_kind() {
        for typed in ["ds", "daemonset", "DaemonSet", "daemonsets", "daemonsets.apps", "ds.v1.apps"]
        {
            assert_eq!(find_kind(typed).map(|known| known.kind), Some("DaemonSet"), "{typed}");
        }
        for typed in ["", "d", "daemonsets.batch", "nodes.apps"] {
            assert_eq!(find_kind(typed), None, "{typed}");
        }
    }

    #[test]
    fn no_name_means_two_kinds() {
        let mut names: Vec<&str> = KNOWN_KINDS
            .iter()
            .flat_map(|known| known.short.iter().copied().chain([known.plural]))
            .collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
