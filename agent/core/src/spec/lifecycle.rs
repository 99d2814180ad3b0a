//! When a container runs beside the others of its pod, and how it is known to be well.

use std::time::Duration;

use everynode_model::Role;

/// All that a template says of a container's life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lifecycle {
    /// When it runs.
    pub role: Role,
    /// How it is looked after.
    pub probes: Probes,
    /// What is done around its life.
    pub hooks: Hooks,
}

/// How it is looked after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// Until it has passed, the other two wait.
    pub startup: Option<Probe>,
    /// When it has failed the container is started again.
    pub liveness: Option<Probe>,
    /// While it fails the pod is not ready.
    pub readiness: Option<Probe>,
}

/// One probe, with Kubernetes' defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is asked.
    pub handler: Handler,
    /// From the container's start to the first try.
    pub initial_delay: Duration,
    /// From one try to the next; not zero.
    pub period: Duration,
    /// How long a try may take; not zero.
    pub timeout: Duration,
    /// How many tries in a row have to succeed; not zero.
    pub success_threshold: u32,
    /// How many tries in a row have to fail; not zero.
    pub failure_threshold: u32,
    /// `terminationGracePeriodSeconds` of the probe, where it outdoes the pod's.
    pub grace: Option<Duration>,
}

/// What is done around a container's life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Right after its start; it is ready no sooner, and started again if this fails.
    pub post_start: Option<Handler>,
    /// Before SIGTERM, within the grace period.
    pub pre_stop: Option<Handler>,
}

/// What a probe or a hook does. Of probes none sleeps; of hooks none is `Tcp` or `Grpc`, but what
/// Kubernetes still admits there is treated as it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handler {
    /// Runs a program in the container: exit code 0 is success.
    Exec(Vec<String>),
    /// GET: a status from 200 to 399 is success.
    Http {
        /// Without checking a certificate, as in Kubernetes.
        tls: bool,
        /// The pod's address without one.
        host: Option<String>,
        /// A number, looked up among the container's ports where a name was given.
        port: u16,
        /// With its query.
        path: String,
        /// In order; names may repeat.
        headers: Vec<(String, String)>,
    },
    /// Connecting is success.
    Tcp {
        /// The pod's address without one.
        host: Option<String>,
        /// A number, as above.
        port: u16,
    },
    /// `grpc.health.v1.Health/Check` saying SERVING is success.
    Grpc {
        /// A number.
        port: u16,
        /// May be empty: the server as a whole.
        service: String,
    },
    /// Waits.
    Sleep(Duration),
}
