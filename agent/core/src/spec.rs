//! What a runtime needs to know to run a pod: the template, parsed and filled in for this node.

mod lifecycle;
mod namespaces;
mod plan;
mod resources;
mod security;
mod storage;
mod volumes;

use std::fmt;
use std::time::Duration;

pub use everynode_model::Role;
use everynode_model::{PodKey, PodUid};

pub use lifecycle::{Handler, Hooks, Lifecycle, Probe, Probes};
pub use namespaces::{Namespaces, Pids};
pub use plan::{Plan, Planned, RestartBackoff};
pub use resources::Resources;
pub use security::{Capabilities, CapabilitySet, Seccomp, Security};
pub use storage::{StorageLimits, StorageUse};
pub use volumes::{
    ArtifactSource, HostPathKind, Propagation, ReadOnly, Volume, VolumeFile, VolumeMount,
    VolumeSource,
};

/// One pod on this machine: its place, and which of the pods that ever held it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodRef {
    /// The place: a DaemonSet's namespace and name.
    pub key: PodKey,
    /// The pod.
    pub uid: PodUid,
}

/// A pod's containers and how they end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSpec {
    /// At least one; names are unique. Init containers and sidecars first, in their order.
    pub containers: Vec<ContainerSpec>,
    /// How long after SIGTERM the pod is killed (`terminationGracePeriodSeconds`).
    pub grace: Duration,
    /// What its containers wait between restarts.
    pub restart: RestartBackoff,
    /// What the pod as a whole may use (`spec.resources`), beside what is said of its containers.
    pub resources: Resources,
    /// Whether it must not run where a limit of it can't be enforced.
    pub limits_required: bool,
    /// What its containers mount; names are unique.
    pub volumes: Vec<Volume>,
    /// The group of what is made for the pod in its volumes (`fsGroup`).
    pub fs_group: Option<u32>,
    /// What of the machine's it does not share.
    pub namespaces: Namespaces,
}

/// One process of the host, as the template wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerSpec {
    /// A DNS label.
    pub name: String,
    /// The program and its arguments (`command` then `args`); at least the program, found by
    /// `PATH` where it has no slash.
    pub argv: Vec<String>,
    /// The whole environment, nothing is inherited; a later entry outdoes an earlier one.
    pub env: Vec<(String, String)>,
    /// Where it starts; `/` without one.
    pub working_dir: Option<String>,
    /// When it runs, and how it is known to be well.
    pub lifecycle: Lifecycle,
    /// The number of the signal that asks it to end (`lifecycle.stopSignal`); SIGTERM without one.
    pub stop_signal: Option<i32>,
    /// As whom it runs, and what it may not do.
    pub security: Security,
    /// What it may use of the machine (`resources`).
    pub resources: Resources,
    /// How soon the kernel kills it when the machine has no memory left, from -1000 to 1000
    /// (`oom_score_adj`); as the agent's without. One below the agent's own may not be given, and then
    /// is not.
    pub oom_score: Option<i16>,
    /// What it sees of the pod's volumes; paths are unique.
    pub mounts: Vec<VolumeMount>,
}

impl PodSpec {
    /// The containers' names, in the template's order.
    pub fn container_names(&self) -> impl Iterator<Item = &str> {
        self.containers.iter().map(|container| container.name.as_str())
    }
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.key, self.uid)
    }
}
