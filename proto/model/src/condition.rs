//! How a node is doing, as it says itself.

use crate::WallTime;

/// One condition of a node, such as Kubernetes' `DiskPressure`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCondition {
    /// A CamelCase word; Kubernetes' where it has one.
    pub kind: String,
    /// Whether it holds.
    pub holds: bool,
    /// Why, in a CamelCase word.
    pub reason: String,
    /// One line, as it was when that began.
    pub message: String,
    /// Since when, by the node's clock.
    pub since: WallTime,
}

/// Kubernetes' conditions of a node that is short of something.
pub const PRESSURES: [&str; 3] = ["MemoryPressure", "DiskPressure", "PIDPressure"];

/// Whether every limit that a template can set is enforced on the node.
pub const LIMITS_ENFORCED: &str = "LimitsEnforced";

/// Whether those whom the kernel is to kill last for memory are; only of a node that has such pods.
pub const OOM_SCORES_HONOURED: &str = "OOMScoresHonoured";

impl NodeCondition {
    /// Whether it is as it is on a node that lacks nothing.
    pub fn is_fine(&self) -> bool {
        self.holds != PRESSURES.contains(&self.kind.as_str())
    }
}
