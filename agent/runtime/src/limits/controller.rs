//! The kernel's controllers, and which of them a pod asks for anything.

use std::fmt;

use everynode_agent_core::{PodSpec, Resources};

/// What in the kernel holds to a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// Time of processors.
    Cpu,
    /// Memory.
    Memory,
    /// Number of processes and threads.
    Pids,
    /// Huge pages.
    Hugetlb,
}

impl Controller {
    pub(super) const ALL: [Self; 4] = [Self::Cpu, Self::Memory, Self::Pids, Self::Hugetlb];

    /// The kernel's name for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Hugetlb => "hugetlb",
        }
    }

    /// Whether a pod wants anything of it.
    pub(super) fn is_asked(self, spec: &PodSpec) -> bool {
        let all = spec.containers.iter().map(|container| &container.resources);
        all.chain([&spec.resources]).any(|one| self.is_asked_by(one))
    }

    fn is_asked_by(self, of: &Resources) -> bool {
        match self {
            Self::Cpu => of.cpu_share() > 0 || of.cpu_limit.is_some(),
            Self::Memory => of.memory_limit.is_some(),
            Self::Pids => of.pids_limit.is_some(),
            Self::Hugetlb => !of.hugepages.is_empty(),
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
