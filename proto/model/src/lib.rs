//! The vocabulary: every noun that the two sides agree on, parsed once and valid by type.
//!
//! - **Node**: a registered machine, known by its [`NodeUid`]; its [`NodeName`] is for people.
//! - **DaemonSet**: what must run once on every selected node, known by its [`PodKey`]
//!   (namespace and name) and, across deletion and re-creation, by its [`SetUid`].
//! - **Pod**: a DaemonSet's one instance on a node.
//! - **Revision**: one version of a pod template, known by the [`Digest`] of its meaning.
//! - **Assignment**: what one node must run, under one term and generation.
//! - **Session**: one agent's stream; **Term**: which coordinator's reign.
//!
//! Nothing here waits, reads a clock, draws a number or knows how it looks on the wire.

mod artifact;
mod assignment;
mod condition;
mod digest;
mod id;
mod log_tail;
mod object;
mod pod;
mod quantity;
mod restart_wait;
mod rlimit;
mod rollout;
mod selector;
mod set;
mod taint;
mod time;

pub use artifact::{Artifact, ArtifactError, ArtifactReference, ImageName, Packing, go_arch};
pub use assignment::{Assignment, Change, ChangeError, Intent, Item, Stamp, Surge};
pub use condition::{LIMITS_ENFORCED, NodeCondition, OOM_SCORES_HONOURED, PRESSURES};
pub use digest::{Digest, InvalidDigest};
pub use id::{
    ClusterId, Generation, InvalidName, NodeName, NodeUid, ObjectUid, PodKey, PodUid, ReignId,
    SessionNonce, SetUid, Term,
};
pub use log_tail::{Gatherer, LogTail, carry_log_tails};
pub use object::{BUILT_IN_NAMESPACES, ObjectKey, ObjectKind};
pub use pod::{
    ContainerState, ContainerStatus, EVICTED, Exit, Failure, FinishedRun, FormerFailure,
    HELD_ON_NODE, PodPhase, PodStatus, Reason, Role, pod_name,
};
pub use quantity::{IntOrPercent, InvalidIntOrPercent};
pub use restart_wait::{InvalidWait, RESTART_BACKOFF, RESTART_BACKOFF_MAX, restart_waits};
pub use rlimit::{InvalidRlimits, RLIMITS_ANNOTATION, RLIMITS_PREFIX, Resource, Rlimit, Rlimits};
pub use rollout::{Canary, CanaryWait, OnFailure, RolloutPolicy};
pub use selector::{
    InvalidSelector, Labels, Operator, Requirement, Selector, valid_label_value,
    valid_qualified_name,
};
pub use set::{
    DEFAULT_CONTAINER, DaemonSet, EXEC_FEATURE, Features, IMAGES_FEATURE, LOGS_FEATURE, NAMESPACES,
    NODE_LABELS_FEATURE, NodeSelectorTerm, PIDS_LIMIT, PROCESS_FEATURES, Placement, REQUIRE_LIMITS,
    STORAGE_FEATURE, SURGE_FEATURE, Strategy, USAGE_FEATURE, node_label,
};
pub use taint::{Effect, InvalidTaint, Taint, Toleration, TolerationOperator};
pub use time::{Now, Timestamp, WallTime};
