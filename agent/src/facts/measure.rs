//! What there is of memory, disk and processes, and what is left of it.

use std::fs;
use std::path::{Path, PathBuf};

use everynode_agent_core::{Readings, Room};
use rustix::fs::StatVfs;
use tokio::sync::mpsc;

use super::EVERY;

/// Measures for as long as anybody reads. A disk that hangs keeps only this from going on.
pub fn readings(disk: PathBuf) -> mpsc::Receiver<Readings> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut every = tokio::time::interval(EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let disk = disk.clone();
            let Ok(readings) = tokio::task::spawn_blocking(move || measure(&disk)).await else {
                return;
            };
            if sender.send(readings).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// What the whole machine has, beside its processors and memory: names and amounts as of Kubernetes.
pub(super) fn capacity(disk: Option<&Path>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if let Some(space) = disk.and_then(file_system).map(|found| space(&found)) {
        found.push(("ephemeral-storage".to_owned(), format!("{}Ki", space.total >> 10)));
    }
    found.extend(pids().map(|pids| ("pids".to_owned(), pids.total.to_string())));
    let sizes = fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    for size in sizes {
        let name = size.file_name();
        // hugepages-2048kB
        let kib =
            name.to_str().and_then(|name| name.strip_prefix("hugepages-")?.strip_suffix("kB"));
        let pages = number(&size.path().join("nr_hugepages"));
        if let (Some(kib), Some(pages)) = (kib.and_then(|kib| kib.parse::<u64>().ok()), pages) {
            let size = match kib {
                0x10_0000.. => format!("{}Gi", kib >> 20),
                0x400.. => format!("{}Mi", kib >> 10),
                _ => format!("{kib}Ki"),
            };
            let all = pages.saturating_mul(kib);
            let all = if all == 0 { "0".to_owned() } else { format!("{all}Ki") };
            found.push((format!("hugepages-{size}"), all));
        }
    }
    found
}

fn measure(disk: &Path) -> Readings {
    let found = file_system(disk);
    let (disk, files) = (found.as_ref().map(space), found.as_ref().map(files));
    Readings { memory: memory(), disk, files, pids: pids() }
}

/// What the kernel could give without swapping.
fn memory() -> Option<Room> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    Some(Room { total: kib(&text, "MemTotal:")? << 10, left: kib(&text, "MemAvailable:")? << 10 })
}

pub(super) fn kib(meminfo: &str, key: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn file_system(disk: &Path) -> Option<StatVfs> {
    rustix::fs::statvfs(disk).ok()
}

/// What others than root may take: as `df` shows.
fn space(found: &StatVfs) -> Room {
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Room { total: bytes(found.f_blocks), left: bytes(found.f_bavail) }
}

fn files(found: &StatVfs) -> Room {
    Room { total: found.f_files, left: found.f_favail }
}

/// Threads count as processes.
fn pids() -> Option<Room> {
    let most = |file: &str| number(Path::new(file)).unwrap_or(u64::MAX);
    let total = most("/proc/sys/kernel/pid_max").min(most("/proc/sys/kernel/threads-max"));
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    let used: u64 = load.split(' ').nth(3)?.split_once('/')?.1.parse().ok()?;
    Some(Room { total, left: total.saturating_sub(used) })
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_measured() {
        let readings = measure(Path::new("/"));
        for room in [readings.memory, readings.disk, readings.pids] {
            let room = room.unwrap();
            assert!(room.left > 0 && room.left <= room.total, "{readings:?}");
        }
        let capacity = capacity(Some(Path::new("/")));
        assert!(
            capacity
                .iter()
                .any(|(name, amount)| name == "ephemeral-storage" && amount.ends_with("Ki"))
        );
    }
}
