//! What pods use of the machine, for people: processor time and memory, as the kernel counts them.
//! Asks no supervisor, takes no lock, changes nothing.
//!
//! Processor time is counted in every cgroup of v2, whichever controllers are where. Memory is a
//! container's *working set* as the kubelet computes it: what is charged to its cgroup, without pages of
//! files that were not used lately, which the kernel gives up first. Where no controller counts it (v1
//! keeps it, and the pod has no limit there), it is the anonymous memory of its processes.

use std::fs;
use std::path::Path;
use std::time::Duration;

use everynode_model::{PodKey, PodUid};

use crate::cgroup::Cgroup;
use crate::error::MachineError;
use crate::mounts;
use crate::place::{Root, container_leaf, containers_of};

/// Ticks of `/proc/stat` in a second: what the kernel shows to programs (USER_HZ), on every machine that
/// this runs on.
const TICKS: u64 = 100;

/// A pod and what its containers use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodUse {
    /// Its place.
    pub key: PodKey,
    /// Which pod.
    pub pod: PodUid,
    /// Its containers that run, by name.
    pub containers: Vec<(String, Use)>,
}

/// What one container, or the machine, has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Processor time since its beginning.
    pub cpu: Duration,
    /// Memory now, in bytes.
    pub memory: u64,
}

/// What each living pod under this root uses, whose name is relative to the cgroup v2 mount.
///
/// # Errors
/// When the cgroups can't be read.
pub fn usage(root: &Path) -> Result<Vec<PodUse>, MachineError> {
    let mount = mounts::cgroup2()?;
    let root = Root::new(&mount, root)?;
    let legacy = mounts::legacy(&mounts::read().unwrap_or_default(), "memory");
    let mut found = Vec::new();
    for key in root.places().map_err(|source| MachineError::io(root.cgroup().path(), source))? {
        let at = |source| MachineError::io(root.place(&key).path(), source);
        for (cgroup, mark) in root.pods(&key).map_err(at)? {
            let Some(mark) = mark else { continue };
            let legacy = legacy.as_deref();
            let mirror = legacy.and_then(|to| mounts::mirror(to, &mount, cgroup.path()));
            let containers = containers(&cgroup, mirror.as_deref()).map_err(at)?;
            if !containers.is_empty() {
                found.push(PodUse { key: key.clone(), pod: mark.pod, containers });
            }
        }
    }
    Ok(found)
}

/// What the whole machine has used, and how much memory it has.
///
/// # Errors
/// When `/proc` can't be read.
pub fn machine_usage() -> Result<(Use, u64), MachineError> {
    let read =
        |path: &str| fs::read_to_string(path).map_err(|source| MachineError::io(path, source));
    let (stat, meminfo) = (read("/proc/stat")?, read("/proc/meminfo")?);
    let kib = |name: &str| field(&meminfo, name).unwrap_or_default().saturating_mul(1024);
    let total = kib("MemTotal:");
    let used = total.saturating_sub(kib("MemFree:")).saturating_sub(kib("Inactive(file):"));
    Ok((Use { cpu: busy(&stat), memory: used }, total))
}

fn containers(pod: &Cgroup, legacy: Option<&Path>) -> std::io::Result<Vec<(String, Use)>> {
    let mut containers = Vec::new();
    for (name, cgroup) in containers_of(pod)? {
        if cgroup.populated()? {
            let legacy = legacy.map(|pod| pod.join(container_leaf(&name)));
            let memory = memory(&cgroup, legacy.as_deref());
            containers.push((name, Use { cpu: cpu(&cgroup), memory }));
        }
    }
    Ok(containers)
}

fn cpu(cgroup: &Cgroup) -> Duration {
    let stat = fs::read_to_string(cgroup.file("cpu.stat")).unwrap_or_default();
    Duration::from_micros(field(&stat, "usage_usec").unwrap_or_default())
}

fn memory(cgroup: &Cgroup, legacy: Option<&Path>) -> u64 {
    let counted = in_use(cgroup.path()).or_else(|| legacy.and_then(in_use));
    counted.unwrap_or_else(|| anonymous(cgroup))
}

/// The working set of a cgroup in the hierarchy, of v2 or v1, that counts memory; `None` in others.
pub(crate) fn in_use(directory: &Path) -> Option<u64> {
    let unified = working_set(directory, ("memory.current", "inactive_file"));
    let legacy = ("memory.usage_in_bytes", "total_inactive_file");
    unified.or_else(|| working_set(directory, legacy))
}

/// What is charged, without what is given up first; `None` where nobody counts.
fn working_set(directory: &Path, (charged, inactive): (&str, &str)) -> Option<u64> {
    let charged = fs::read_to_string(directory.join(charged)).ok()?.trim().parse::<u64>().ok()?;
    let stat = fs::read_to_string(directory.join("memory.stat")).ok()?;
    Some(charged.saturating_sub(field(&stat, inactive).unwrap_or_default()))
}

/// The anonymous memory of all processes in it. Pages that a parent and its child still share are
/// counted in both.
fn anonymous(cgroup: &Cgroup) -> u64 {
    let of = |pid: i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        field(&status, "RssAnon:").unwrap_or_default().saturating_mul(1024)
    };
    cgroup.pids().unwrap_or_default().into_iter().map(of).sum()
}

/// The number after `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    let mut found = lines.find_map(|mut words| (words.next()? == name).then_some(words))?;
    found.next()?.parse().ok()
}

/// proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal, in ticks; guests are in user.
fn busy(stat: &str) -> Duration {
    let words = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<u64> = words.filter_map(|word| word.parse().ok()).take(8).collect();
    let idle = [3, 4];
    let busy = ticks.iter().enumerate().filter(|(at, _)| !idle.contains(at)).map(|(_, n)| n);
    Duration::from_millis(busy.sum::<u64>().saturating_mul(1000) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(directory).unwrap();
        files.iter().for_each(|(name, text)| fs::write(directory.join(name), text).unwrap());
    }

    #[test]
    fn memory_is_the_working_set_wherever_it_is_counted() {
        let files = tempfile::tempdir().unwrap();
        let (unified, legacy) = (files.path().join("v2"), files.path().join("v1"));
        write(
            &unified,
            &[("memory.current", "1000\n"), ("memory.stat", "anon 5\ninactive_file 300\n")],
        );
        let stat = "inactive_file 1\ntotal_inactive_file 500\n";
        write(&legacy, &[("memory.usage_in_bytes", "2000\n"), ("memory.stat", stat)]);
        let cgroup = Cgroup::at(&unified);
        assert_eq!(memory(&cgroup, Some(&legacy)), 700);
        fs::remove_file(unified.join("memory.current")).unwrap();
        assert_eq!(memory(&cgroup, Some(&legacy)), 1500);
        // Between two reads it may shrink.
        write(&legacy, &[("memory.usage_in_bytes", "100\n")]);
        assert_eq!(memory(&cgroup, Some(&legacy)), 0);
        let own = std::process::id().to_string();
        write(&unified, &[("cgroup.procs", &own)]);
        assert!(memory(&cgroup, None) > 0, "the anonymous memory of its processes");
    }

    #[test]
    fn processor_time_is_what_was_not_idle() {
        let stat = "cpu  100 0 50 999 999 0 0 50 70 0\ncpu0 1 1\n";
        assert_eq!(busy(stat), Duration::from_secs(2));
        assert_eq!(field("usage_usec 12\nuser_usec 1\n", "usage_usec"), Some(12));
        assert_eq!(field("x", "usage_usec"), None);
    }

    #[test]
    fn this_machine_uses_something() {
        let (used, total) = machine_usage().unwrap();
        assert!(used.cpu > Duration::ZERO && used.memory > 0 && used.memory < total);
    }
}
