//! What the coordinator must understand of a DaemonSet; the rest travels as an encoded body.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::{
    Digest, IntOrPercent, Labels, ObjectKey, PodKey, Requirement, RolloutPolicy, Selector, SetUid,
    Taint, Toleration,
};

/// A DaemonSet as the deciding code sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonSet {
    /// Namespace and name.
    pub key: PodKey,
    /// Its identity across deletion and re-creation.
    pub uid: SetUid,
    /// Raised by one with every change of its spec (`metadata.generation`).
    pub generation: u64,
    /// Its own labels (`metadata.labels`), for selecting it in lists.
    pub labels: Labels,
    /// `spec.selector`.
    pub selector: Selector,
    /// Which nodes it wants.
    pub placement: Placement,
    /// How a changed template reaches the nodes.
    pub strategy: Strategy,
    /// How carefully it does (`metadata.annotations[rollout.everynode.dev/…]`).
    pub rollout: RolloutPolicy,
    /// How long a pod must be ready to count as available (`spec.minReadySeconds`).
    pub min_ready: Duration,
    /// How many old revisions are kept (`spec.revisionHistoryLimit`).
    pub history_limit: u32,
    /// The digest of its present revision: the template's meaning, and the content of what it reads.
    pub revision: Digest,
    /// The ConfigMaps and Secrets that its template reads, whether they are there or not.
    pub reads: BTreeSet<ObjectKey>,
    /// What a node must be able to do to run the template.
    pub features: Features,
}

/// Which nodes a template wants: the parts of a pod spec that decide placement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// `spec.template.spec.nodeName`.
    pub node_name: Option<String>,
    /// `spec.template.spec.nodeSelector`.
    pub node_selector: Labels,
    /// `requiredDuringSchedulingIgnoredDuringExecution`: one of the terms must be met. `None`
    /// without such an affinity; an empty list is met by no node.
    pub required_affinity: Option<Vec<NodeSelectorTerm>>,
    /// The template's own tolerations, without the automatic ones.
    pub tolerations: Vec<Toleration>,
    /// Whether the pod shares the host's network: such pods tolerate `network-unavailable`.
    pub host_network: bool,
    /// Whether the DaemonSet was deleted without its pods (`--cascade=orphan`): where there is one it
    /// stays, and nowhere else comes any.
    pub orphaned: bool,
}

impl DaemonSet {
    /// What is left of it when it is deleted without its pods. It reads nothing any more: no change
    /// of what it read may reach them.
    pub fn orphaned(mut self) -> Self {
        self.placement.orphaned = true;
        self.reads.clear();
        self
    }

    /// Whether only its pods are left of it.
    pub const fn is_orphaned(&self) -> bool {
        self.placement.orphaned
    }
}

/// One alternative of a required node affinity; all of it must be met. An empty term is met by no
/// node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSelectorTerm {
    /// On the node's labels.
    pub match_expressions: Vec<Requirement>,
    /// On the node's fields; `metadata.name` is the only one there is.
    pub match_fields: Vec<Requirement>,
}

/// How a changed template reaches the nodes (`spec.updateStrategy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Node by node, within a budget.
    RollingUpdate {
        /// How many of the desired pods may be unavailable at a time; 0 where pods are surged.
        max_unavailable: IntOrPercent,
        /// On how many of the desired nodes a new pod may run beside the old one that it takes over
        /// from; 0 where pods are replaced one after the other. The door admits one of the two.
        max_surge: IntOrPercent,
    },
    /// Only where a pod is deleted by hand, and on nodes that have none yet.
    OnDelete,
}

/// Names of abilities, sorted: what an agent can honour, or a template needs.
pub type Features = BTreeSet<String>;

/// The features of this version's agents for pods of host processes: what they announce, and what a
/// template may need without waiting for a later version.
pub const PROCESS_FEATURES: &[&str] = &[
    "runtime/process",
    "runAsUser",
    "runAsGroup",
    "runAsNonRoot",
    "allowPrivilegeEscalation",
    "capabilities",
    "fsGroup",
    "readOnlyRootFilesystem",
    "rlimits",
    "seccompProfile",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "env.configMapKeyRef",
    "env.fieldRef",
    NODE_LABELS_FEATURE,
    "env.resourceFieldRef",
    "env.secretKeyRef",
    "envFrom",
    "initContainers",
    "lifecycle",
    "probes",
    STORAGE_FEATURE,
    "limits.pids",
    "limits.required",
    NAMESPACES[0],
    NAMESPACES[1],
    NAMESPACES[2],
    NAMESPACES[3],
    "volumeMounts",
    "volumes.configMap",
    "volumes.downwardAPI",
    "volumes.emptyDir",
    "volumes.hostPath",
    "volumes.image",
    IMAGES_FEATURE,
    "volumes.projected",
    "volumes.secret",
];

/// Of those, the ones that take the right to make namespaces: of network, IPC and process ids, and to
/// share those of process ids in a pod.
pub const NAMESPACES: [&str; 4] =
    ["namespaces.network", "namespaces.ipc", "namespaces.pid", "shareProcessNamespace"];

/// Which label of its node a container reads by such a `fieldRef.fieldPath` (`node.labels['site']`).
/// Kubernetes has no such field: there, an init container that asks the API is what people write.
pub fn node_label(field_path: &str) -> Option<&str> {
    field_path.strip_prefix("node.labels['")?.strip_suffix("']")
}

/// The annotation of a template whose pods must not run where a limit of theirs is not enforced:
/// `"true"`.
pub const REQUIRE_LIMITS: &str = "everynode.dev/require-limits";

/// The annotation of a template that says how many processes and threads a pod of it may have, all
/// of its containers together; Kubernetes has only a setting of each kubelet (`podPidsLimit`).
pub const PIDS_LIMIT: &str = "everynode.dev/pids-limit";

/// The annotation of a template that names the container which is meant where none is named: kubectl's.
pub const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// The feature of an agent that can start a new pod beside the old one. Apart from those that a
/// template may need: without it a node's pods are replaced one after the other.
pub const SURGE_FEATURE: &str = "surge";

/// The feature of an agent that lets pods read labels of the node: what a template needs that does.
pub const NODE_LABELS_FEATURE: &str = "env.nodeLabels";

/// The feature of an agent that measures what pods have on disk and ends those that have more than
/// their limits: what a template needs that has such a limit and requires its limits.
pub const STORAGE_FEATURE: &str = "limits.ephemeral-storage";

/// The feature of an agent that fetches images of registries: what a template needs whose `image`
/// volume is none of a file.
pub const IMAGES_FEATURE: &str = "volumes.image.oci";

/// What an agent announces that hands on what its pods print.
pub const LOGS_FEATURE: &str = "logs";

/// What an agent announces that knows what it is to run a program in a container for somebody. Also
/// where the machine's settings deny it: that is the agent's to say.
pub const EXEC_FEATURE: &str = "exec";

/// What an agent announces that measures what its node and pods use when it is asked.
pub const USAGE_FEATURE: &str = "usage";

impl Strategy {
    /// Node by node, an old pod ending before the new one starts.
    pub const fn rolling(max_unavailable: IntOrPercent) -> Self {
        Self::RollingUpdate { max_unavailable, max_surge: IntOrPercent::Int(0) }
    }

    /// Node by node, a new pod starting beside the old one.
    pub const fn surging(max_surge: IntOrPercent) -> Self {
        Self::RollingUpdate { max_unavailable: IntOrPercent::Int(0), max_surge }
    }

    /// Whether a new pod starts beside the old one.
    pub fn surges(&self) -> bool {
        matches!(self, Self::RollingUpdate { max_surge, .. } if !max_surge.is_zero())
    }
}

impl Placement {
    /// Whether the template tolerates `taint` by one of its own tolerations.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.tolerations.iter().any(|toleration| toleration.tolerates(taint))
    }
}
