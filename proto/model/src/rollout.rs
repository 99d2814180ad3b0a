//! How carefully a changed template goes through the fleet: what `rollout.everynode.dev/…` asks for
//! beyond Kubernetes' `updateStrategy`.

use std::time::Duration;

use crate::{IntOrPercent, Selector};

/// The rules of a DaemonSet's rollouts; the default adds nothing to Kubernetes'.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RolloutPolicy {
    /// No step is taken.
    pub paused: bool,
    /// Which nodes go first, and what the others wait for.
    pub canary: Option<Box<Canary>>,
    /// So many of the desired nodes keep what they have; a share is rounded up. The last ones in the
    /// order of rollouts.
    pub partition: Option<IntOrPercent>,
    /// For how long a rollout may make no progress before it has failed.
    pub progress_deadline: Option<Duration>,
    /// What follows when it has.
    pub on_failure: OnFailure,
}

/// The nodes that get a revision first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    /// Which nodes, by their labels; any where it is `None`.
    pub selector: Option<Selector>,
    /// How many of those; a share is of the desired nodes, rounded up. All where it is `None`.
    pub nodes: Option<IntOrPercent>,
    /// What the others wait for, once the pods of these are available.
    pub wait: CanaryWait,
    /// The short hash of the revision that a person has let go on, if any.
    pub approved: Option<String>,
}

/// What nodes that are no canaries wait for, once all canaries are available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CanaryWait {
    /// That they have been so for this long.
    For(Duration),
    /// That a person says so ([`Canary::approved`]).
    Manual,
}

/// What follows when a rollout has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// Nothing more is moved, until somebody changes the template.
    #[default]
    Hold,
    /// What was moved goes back to the last revision that was rolled out to the end.
    Rollback,
}
