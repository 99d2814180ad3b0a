//! What of a template is decided by the core: how a pod's containers live together. What they run is
//! the runtime's business.

use std::time::Duration;

use super::{Lifecycle, PodSpec};

/// A pod, as far as the core decides on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Its containers, in their order: init containers and sidecars first.
    pub containers: Vec<Planned>,
    /// How long after it was told to end the pod is killed.
    pub grace: Duration,
    /// What its containers wait between restarts.
    pub restart: RestartBackoff,
}

/// A container, likewise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Planned {
    /// Its name.
    pub name: String,
    /// When it runs, and how it is looked after.
    pub lifecycle: Lifecycle,
}

/// What the containers of a pod wait between restarts, where its template says so: the annotations
/// `everynode.dev/restart-backoff` (`first`) and `everynode.dev/restart-backoff-max` (`max`). What it
/// does not say is the agent's [`Policy`](crate::Policy).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestartBackoff {
    /// The shortest wait, after the first restart, which comes at once. At least a second.
    pub first: Option<Duration>,
    /// The longest wait.
    pub max: Option<Duration>,
}

impl PodSpec {
    /// What is decided of it.
    pub fn plan(&self) -> Plan {
        let planned = |container: &super::ContainerSpec| Planned {
            name: container.name.clone(),
            lifecycle: container.lifecycle.clone(),
        };
        Plan {
            containers: self.containers.iter().map(planned).collect(),
            grace: self.grace,
            restart: self.restart,
        }
    }
}

impl Plan {
    /// Main containers of these names without probes and hooks.
    pub fn of_mains(names: impl IntoIterator<Item = String>, grace: Duration) -> Self {
        let planned = |name| Planned { name, lifecycle: Lifecycle::default() };
        let containers = names.into_iter().map(planned).collect();
        Self { containers, grace, restart: RestartBackoff::default() }
    }
}
