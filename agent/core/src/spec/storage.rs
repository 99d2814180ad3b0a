//! What a pod may have on the machine's disk, and what it has.

use std::collections::BTreeMap;

use everynode_model::{EVICTED, Reason};

/// Limits on what a pod has on disk, all in bytes; none is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageLimits {
    /// `limits.ephemeral-storage` of each container that has it.
    pub containers: BTreeMap<String, u64>,
    /// `sizeLimit` of each `emptyDir` on disk that has it.
    pub volumes: BTreeMap<String, u64>,
    /// What the containers with a limit may have together, for all that the pod has.
    pub pod: Option<u64>,
}

/// What a pod has on disk, in bytes of blocks that are taken, as `du` counts them.
///
/// A host process has no writable layer: what it writes elsewhere on the machine is counted nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageUse {
    /// The logs of each container: of its present run and of the one before.
    pub containers: BTreeMap<String, u64>,
    /// What is in each `emptyDir` on disk.
    pub volumes: BTreeMap<String, u64>,
}

impl StorageLimits {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.volumes.is_empty() && self.pod.is_none()
    }

    /// Which of them is exceeded: the kubelet's order and words (`localStorageEviction`).
    pub fn exceeded_by(&self, used: &StorageUse) -> Option<Reason> {
        let message = over(&self.volumes, &used.volumes)
            .map(|(name, limit)| {
                let limit = quantity(limit);
                format!("Usage of EmptyDir volume {name:?} exceeds the limit {limit:?}")
            })
            .or_else(|| {
                let limit = self.pod.filter(|limit| used.total() > *limit)?;
                let line =
                    "Pod ephemeral local storage usage exceeds the total limit of containers";
                Some(format!("{line} {}", quantity(limit)))
            })
            .or_else(|| {
                let (name, limit) = over(&self.containers, &used.containers)?;
                let limit = quantity(limit);
                Some(format!(
                    "Container {name} exceeded its local ephemeral storage limit {limit:?}"
                ))
            })?;
        Some(Reason::new(EVICTED, message))
    }
}

impl StorageUse {
    /// All of it.
    pub fn total(&self) -> u64 {
        let parts = self.containers.values().chain(self.volumes.values());
        parts.fold(0, |total, part| total.saturating_add(*part))
    }
}

/// The first that has more than it may.
fn over<'a>(
    limits: &'a BTreeMap<String, u64>,
    used: &BTreeMap<String, u64>,
) -> Option<(&'a String, u64)> {
    let over = |(name, limit): &(&String, &u64)| used.get(*name).is_some_and(|it| it > limit);
    limits.iter().find(over).map(|(name, limit)| (name, *limit))
}

/// Bytes as Kubernetes writes them, in the shortest way. (How the template's writer wrote them is lost
/// in its normal form.)
fn quantity(bytes: u64) -> String {
    let written = |base: u64, units: [&str; 6]| {
        (1..=6_u32).rev().zip(units).find_map(|(power, unit)| {
            let one = base.checked_pow(power)?;
            bytes.is_multiple_of(one).then(|| format!("{}{unit}", bytes / one))
        })
    };
    let binary = written(1024, ["Ei", "Pi", "Ti", "Gi", "Mi", "Ki"]);
    let decimal = written(1000, ["E", "P", "T", "G", "M", "k"]);
    let ways = [binary, decimal, Some(bytes.to_string())].into_iter().flatten();
    ways.min_by_key(String::len).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<const N: usize>(amounts: [(&str, u64); N]) -> BTreeMap<String, u64> {
        amounts.map(|(name, amount)| (name.to_owned(), amount)).into()
    }

    #[test]
    fn the_first_limit_that_is_exceeded_is_told_in_the_kubelets_words() {
        let limits = StorageLimits {
            containers: of([("main", 1 << 30)]),
            volumes: of([("cache", 10 << 20), ("free", 7)]),
            pod: Some(1 << 30),
        };
        let told = |containers, volumes| {
            limits.exceeded_by(&StorageUse { containers, volumes }).map(|reason| reason.to_string())
        };
        assert_eq!(told(of([("main", 1 << 20)]), of([("cache", 10 << 20), ("other", 5)])), None);
        assert_eq!(
            told(of([("main", 2 << 30)]), of([("cache", (10 << 20) + 1)])).unwrap(),
            r#"Evicted: Usage of EmptyDir volume "cache" exceeds the limit "10Mi""#
        );
        assert_eq!(
            told(of([("main", 1 << 29), ("unlimited", 1 << 29)]), of([("other", 1)])).unwrap(),
            "Evicted: Pod ephemeral local storage usage exceeds the total limit of containers 1Gi"
        );
        let apart = StorageLimits { containers: of([("a", 5), ("b", 5)]), ..limits.clone() };
        let used = StorageUse { containers: of([("a", 1), ("b", 6)]), ..StorageUse::default() };
        assert_eq!(
            apart.exceeded_by(&used).unwrap().message,
            r#"Container b exceeded its local ephemeral storage limit "5""#
        );
    }

    #[test]
    fn amounts_are_written_in_the_shortest_way() {
        for (bytes, text) in [
            (1, "1"),
            (1023, "1023"),
            (1000, "1k"),
            (1 << 10, "1Ki"),
            (5 << 20, "5Mi"),
            (3 << 29, "1536Mi"),
            (2_000_000_000, "2G"),
            (15_000_001, "15000001"),
            (u64::MAX, "18446744073709551615"),
        ] {
            assert_eq!(quantity(bytes), text);
        }
    }
}
