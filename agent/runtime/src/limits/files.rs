//! What is written to which file of a cgroup, in both of the kernel's dialects.
//!
//! As the kubelet and its runtime do: limits in `cpu.max` and `memory.max` (v1: `cpu.cfs_quota_us`,
//! `memory.limit_in_bytes`), requests in `cpu.weight` (`cpu.shares`) alone, and nothing in
//! `memory.min` and its like, which belong to memory QoS, off by default. A container with a memory
//! limit doesn't swap (`NoSwap`), and dies as a whole (`singleProcessOOMKill: false`).

use everynode_agent_core::Resources;
use serde::{Deserialize, Serialize};

use super::Controller;

/// The span in which a quota of processor time is used, in microseconds: Kubernetes'.
const CPU_PERIOD: u64 = 100_000;

/// The least quota that the kernel takes, in microseconds.
const MIN_CPU_QUOTA: u64 = 1000;

/// The least and the most of v1's `cpu.shares`.
const SHARES: (u64, u64) = (2, 262_144);

/// The most of v2's `cpu.weight`; the least is 1.
const MAX_WEIGHT: u64 = 10_000;

/// Which dialect a hierarchy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// cgroup v2.
    Unified,
    /// cgroup v1.
    Legacy,
}

/// Whose cgroup it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Pod,
    Container,
}

/// One file of a cgroup and what is written to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setting {
    pub(crate) file: String,
    pub(crate) value: String,
    /// It limits nothing by itself: where it can't be set, nothing is weaker than was asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) weak: bool,
}

/// All that `controller` is to hold a cgroup to, in the order of writing.
pub(crate) fn settings(
    controller: Controller,
    dialect: Dialect,
    level: Level,
    of: &Resources,
) -> Vec<Setting> {
    match (controller, dialect) {
        (Controller::Cpu, Dialect::Unified) => {
            cpu(of, dialect, |quota| vec![strong("cpu.max", format!("{quota} {CPU_PERIOD}"))])
        }
        (Controller::Cpu, Dialect::Legacy) => cpu(of, dialect, |quota| {
            let period = strong("cpu.cfs_period_us", CPU_PERIOD);
            vec![period, strong("cpu.cfs_quota_us", quota)]
        }),
        (Controller::Memory, Dialect::Unified) => unified_memory(of, level),
        (Controller::Memory, Dialect::Legacy) => {
            let limit = |bytes| {
                [strong("memory.limit_in_bytes", bytes), weak("memory.memsw.limit_in_bytes", bytes)]
            };
            of.memory_limit.into_iter().flat_map(limit).collect()
        }
        (Controller::Pids, _) => {
            of.pids_limit.iter().map(|most| strong("pids.max", most)).collect()
        }
        (Controller::Hugetlb, _) => {
            of.hugepages.iter().flat_map(|(size, bytes)| huge(dialect, *size, *bytes)).collect()
        }
    }
}

/// What says of a cgroup that `controller` holds it to nothing.
pub(crate) fn unlimited(controller: Controller, dialect: Dialect, level: Level) -> Vec<Setting> {
    match (controller, dialect) {
        (Controller::Cpu, Dialect::Unified) => {
            vec![strong("cpu.max", format!("max {CPU_PERIOD}"))]
        }
        (Controller::Cpu, Dialect::Legacy) => vec![strong("cpu.cfs_quota_us", -1)],
        (Controller::Memory, Dialect::Unified) => {
            let swap = (level == Level::Container).then(|| weak("memory.swap.max", "max"));
            [strong("memory.max", "max")].into_iter().chain(swap).collect()
        }
        (Controller::Memory, Dialect::Legacy) => {
            vec![strong("memory.limit_in_bytes", -1), weak("memory.memsw.limit_in_bytes", -1)]
        }
        (Controller::Pids, _) if level == Level::Pod => vec![strong("pids.max", "max")],
        // The one is limited for the pod alone, of the other nothing is to be had that is not said.
        (Controller::Pids | Controller::Hugetlb, _) => Vec::new(),
    }
}

/// The file of a cgroup's share of the processors.
pub(crate) const fn share_file(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Unified => "cpu.weight",
        Dialect::Legacy => "cpu.shares",
    }
}

/// The most that may stand in it.
pub(crate) const fn most_share(dialect: Dialect) -> u64 {
    match dialect {
        Dialect::Unified => MAX_WEIGHT,
        Dialect::Legacy => SHARES.1,
    }
}

fn cpu(of: &Resources, dialect: Dialect, quota: impl Fn(u64) -> Vec<Setting>) -> Vec<Setting> {
    let share = weak(share_file(dialect), share(of.cpu_share(), dialect));
    let limit = of
        .cpu_limit
        .map(|millis| quota((millis.saturating_mul(CPU_PERIOD) / 1000).max(MIN_CPU_QUOTA)));
    [share].into_iter().chain(limit.into_iter().flatten()).collect()
}

/// A request in the kernel's measure: 1024 shares are a processor, and a weight is the same on
/// another scale (KEP-2254).
fn share(millis: u64, dialect: Dialect) -> u64 {
    let shares = (millis.saturating_mul(1024) / 1000).clamp(SHARES.0, SHARES.1);
    match dialect {
        Dialect::Legacy => shares,
        Dialect::Unified => 1 + (shares - SHARES.0) * (MAX_WEIGHT - 1) / (SHARES.1 - SHARES.0),
    }
}

fn unified_memory(of: &Resources, level: Level) -> Vec<Setting> {
    let mut settings: Vec<_> =
        of.memory_limit.iter().map(|bytes| strong("memory.max", bytes)).collect();
    if level == Level::Container {
        settings.extend(of.memory_limit.map(|_| weak("memory.swap.max", 0)));
        settings.push(weak("memory.oom.group", 1));
    }
    settings
}

/// Of pages of one size: what is used, and in v2 also what is only reserved.
fn huge(dialect: Dialect, size: u64, bytes: u64) -> Vec<Setting> {
    let name = page_name(size);
    match dialect {
        Dialect::Unified => vec![
            strong(&format!("hugetlb.{name}.max"), bytes),
            weak(&format!("hugetlb.{name}.rsvd.max"), bytes),
        ],
        Dialect::Legacy => vec![strong(&format!("hugetlb.{name}.limit_in_bytes"), bytes)],
    }
}

/// As the kernel writes a page's size (`mem_fmt` of mm/hugetlb_cgroup.c).
fn page_name(size: u64) -> String {
    match size {
        0x4000_0000.. => format!("{}GB", size >> 30),
        0x10_0000.. => format!("{}MB", size >> 20),
        _ => format!("{}KB", size >> 10),
    }
}

fn strong(file: &str, value: impl ToString) -> Setting {
    Setting { file: file.to_owned(), value: value.to_string(), weak: false }
}

fn weak(file: &str, value: impl ToString) -> Setting {
    Setting { weak: true, ..strong(file, value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(
        controller: Controller,
        dialect: Dialect,
        level: Level,
        of: &Resources,
    ) -> Vec<String> {
        let settings = settings(controller, dialect, level, of);
        settings.iter().map(|setting| format!("{}={}", setting.file, setting.value)).collect()
    }

    #[test]
    fn processors_are_written_as_the_kubelet_writes_them() {
        let of =
            |cpu_request, cpu_limit| Resources { cpu_request, cpu_limit, ..Resources::default() };
        for (request, limit, unified, legacy) in [
            (None, None, &["cpu.weight=1"][..], &["cpu.shares=2"][..]),
            (Some(100), None, &["cpu.weight=4"], &["cpu.shares=102"]),
            (Some(1000), None, &["cpu.weight=39"], &["cpu.shares=1024"]),
            (Some(u64::MAX), None, &["cpu.weight=10000"], &["cpu.shares=262144"]),
            (
                None,
                Some(1500),
                &["cpu.weight=59", "cpu.max=150000 100000"],
                &["cpu.shares=1536", "cpu.cfs_period_us=100000", "cpu.cfs_quota_us=150000"],
            ),
            (
                Some(0),
                Some(1),
                &["cpu.weight=1", "cpu.max=1000 100000"],
                &["cpu.shares=2", "cpu.cfs_period_us=100000", "cpu.cfs_quota_us=1000"],
            ),
        ] {
            let of = of(request, limit);
            assert_eq!(lines(Controller::Cpu, Dialect::Unified, Level::Pod, &of), unified);
            assert_eq!(lines(Controller::Cpu, Dialect::Legacy, Level::Pod, &of), legacy);
        }
    }

    #[test]
    fn memory_processes_and_pages_have_their_files() {
        let of = Resources {
            memory_limit: Some(64 << 20),
            pids_limit: Some(9),
            hugepages: [(64 << 10, 1), (2 << 20, 2), (1 << 30, 3)].into(),
            ..Resources::default()
        };
        let memory = |dialect, level| lines(Controller::Memory, dialect, level, &of);
        assert_eq!(memory(Dialect::Unified, Level::Pod), ["memory.max=67108864"]);
        assert_eq!(
            memory(Dialect::Unified, Level::Container),
            ["memory.max=67108864", "memory.swap.max=0", "memory.oom.group=1"]
        );
        let legacy = ["memory.limit_in_bytes=67108864", "memory.memsw.limit_in_bytes=67108864"];
        assert_eq!(memory(Dialect::Legacy, Level::Container), legacy);
        assert_eq!(lines(Controller::Pids, Dialect::Legacy, Level::Pod, &of), ["pids.max=9"]);
        let pages = lines(Controller::Hugetlb, Dialect::Legacy, Level::Pod, &of);
        let names = ["64KB", "2MB", "1GB"].iter().zip(1..);
        let names: Vec<_> =
            names.map(|(name, bytes)| format!("hugetlb.{name}.limit_in_bytes={bytes}")).collect();
        assert_eq!(pages, names);
        let nothing = Resources::default();
        let unlimited = lines(Controller::Memory, Dialect::Unified, Level::Container, &nothing);
        assert_eq!(unlimited, ["memory.oom.group=1"]);
    }
}
