//! What this node and its pods use of the machine, measured when somebody asks, for a stream.
//!
//! How much of the processors is used takes two looks. The one before is that of whoever asked before, if
//! that was not long ago: then the answer is there at once, and is of the time in between. Else a second
//! is waited for. So nothing is measured where nobody asks.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use everynode_model::{PodUid, Reason};
use everynode_proto::v1::stream_end::{Complete, How};
use everynode_proto::v1::{ContainerUsage, NodeUsage, PodUsage};
use everynode_runtime::{MachineError, PodUse, Use, machine_usage, usage};
use prost::Message as _;
use tokio::sync::{Semaphore, mpsc};

use super::wire::Piece;

/// Over how long the use of processors is measured at least: long enough for the kernel's ticks of 10 ms
/// to be a hundredth, short enough to be waited for.
const WINDOW: Duration = Duration::from_secs(1);

/// Over how long at most: what is older says too little of now.
const LONGEST: Duration = Duration::from_secs(60);

/// Looks that are kept: the last, and, where that was a moment ago, the one before.
const KEPT: usize = 2;

/// One look.
struct Look {
    at: Instant,
    machine: Use,
    memory: u64,
    pods: Vec<PodUse>,
}

/// Looks of those who asked before, the oldest first.
#[derive(Clone, Default)]
pub(super) struct Looks(Arc<Mutex<VecDeque<Arc<Look>>>>);

impl Looks {
    /// The last look from which on the use of processors can be told until `at`.
    fn before(&self, at: Instant) -> Option<Arc<Look>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = |look: &Look| at.saturating_duration_since(look.at);
        let fits = |look: &&Arc<Look>| (WINDOW..=LONGEST).contains(&age(look));
        kept.iter().rev().find(fits).cloned()
    }

    /// Keeps a look for those who ask later, unless the last one was a moment before it.
    fn keep(&self, look: Arc<Look>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = kept.back().map(|last| look.at.saturating_duration_since(last.at));
        if last.is_none_or(|last| last >= WINDOW) {
            kept.push_back(look);
        }
        while kept.len() > KEPT {
            kept.pop_front();
        }
    }
}

/// Says it.
pub(super) async fn tell(
    cgroup_root: PathBuf,
    readers: Arc<Semaphore>,
    looks: Looks,
    say: mpsc::Sender<Piece>,
) -> Result<How, Reason> {
    let usage = measure(&cgroup_root, &readers, &looks).await?;
    // Nobody may be there any more.
    let _ = say.send(Piece::Stdout(usage.encode_to_vec())).await;
    Ok(How::Complete(Complete {}))
}

async fn measure(root: &Path, readers: &Semaphore, looks: &Looks) -> Result<NodeUsage, Reason> {
    let first = look(root, readers).await?;
    let (first, second) = match looks.before(first.at) {
        Some(before) => (before, first),
        None => {
            tokio::time::sleep(WINDOW).await;
            (first, look(root, readers).await?)
        }
    };
    looks.keep(Arc::clone(&second));
    Ok(between(&first, &second))
}

async fn look(root: &Path, readers: &Semaphore) -> Result<Arc<Look>, Reason> {
    let root = root.to_owned();
    let looked = super::block(readers, move || {
        let (machine, memory) = machine_usage()?;
        // The files of one look are read one after the other; their time is that of the first.
        let at = Instant::now();
        Ok::<_, MachineError>(Arc::new(Look { at, machine, memory, pods: usage(&root)? }))
    });
    looked.await?.map_err(|error| Reason::new("UsageUnreadable", error.to_string()))
}

/// What was used between two looks; of what began after the first, since then.
fn between(first: &Look, second: &Look) -> NodeUsage {
    let window = second.at.duration_since(first.at);
    let mut before: BTreeMap<(PodUid, &str), Duration> = BTreeMap::new();
    for pod in &first.pods {
        before
            .extend(pod.containers.iter().map(|(name, used)| ((pod.pod, name.as_str()), used.cpu)));
    }
    let container = |pod: PodUid, (name, used): &(String, Use)| {
        let earlier = before.get(&(pod, name.as_str())).copied().unwrap_or_default();
        ContainerUsage {
            name: name.clone(),
            cpu_nanocores: rate(earlier, used.cpu, window),
            memory_bytes: used.memory,
        }
    };
    let pods = second.pods.iter().map(|pod| PodUsage {
        uid: pod.pod.to_string(),
        containers: pod.containers.iter().map(|one| container(pod.pod, one)).collect(),
    });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    NodeUsage {
        cpu_nanocores: rate(first.machine.cpu, second.machine.cpu, window),
        cpu_capacity_nanocores: u64::try_from(cores).unwrap_or_default() * NANOS,
        memory_bytes: second.machine.memory,
        memory_capacity_bytes: second.memory,
        pods: pods.collect(),
    }
}

const NANOS: u64 = 1_000_000_000;

/// Processor time over time, in billionths of a processor. A cgroup that was made anew under its name
/// began with nothing.
fn rate(before: Duration, after: Duration, window: Duration) -> u64 {
    let used = after.checked_sub(before).unwrap_or(after).as_nanos();
    let rate = used.saturating_mul(NANOS.into()) / window.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use everynode_model::PodKey;
    use uuid::Uuid;

    use super::*;

    fn used(millis: u64, memory: u64) -> Use {
        Use { cpu: Duration::from_millis(millis), memory }
    }

    fn look_at(at: Instant, machine: u64, containers: &[(&str, u64)]) -> Look {
        let containers = containers.iter().map(|(name, cpu)| ((*name).to_owned(), used(*cpu, 7)));
        let pod = PodUse {
            key: PodKey::new("default", "a").unwrap(),
            pod: PodUid::new(Uuid::from_u128(1)),
            containers: containers.collect(),
        };
        Look { at, machine: used(machine, 5), memory: 9, pods: vec![pod] }
    }

    #[test]
    fn who_asks_again_is_told_of_the_time_in_between() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let looks = Looks::default();
        let since = |looks: &Looks, millis| Some(looks.before(at(millis))?.at - start);
        assert_eq!(since(&looks, 0), None, "nobody has asked yet");
        looks.keep(Arc::new(look_at(at(0), 0, &[])));
        assert_eq!(since(&looks, 999), None, "too short to be measured");
        assert_eq!(since(&looks, 1000), Some(Duration::ZERO));
        looks.keep(Arc::new(look_at(at(500), 0, &[])));
        looks.keep(Arc::new(look_at(at(10_000), 0, &[])));
        assert_eq!(since(&looks, 10_500), Some(Duration::ZERO), "many may ask at once");
        assert_eq!(since(&looks, 11_000), Some(Duration::from_secs(10)));
        assert_eq!(since(&looks, 70_001), None, "that was too long ago");
        looks.keep(Arc::new(look_at(at(20_000), 0, &[])));
        assert_eq!(looks.0.lock().unwrap().len(), KEPT);
    }

    #[test]
    fn processors_are_used_at_a_rate() {
        let start = Instant::now();
        let first = look_at(start, 1000, &[("a", 100), ("again", 900)]);
        let later = start + Duration::from_secs(2);
        let second = look_at(later, 4000, &[("a", 1100), ("again", 200), ("new", 20)]);
        let found = between(&first, &second);
        assert_eq!((found.cpu_nanocores, found.memory_bytes), (1_500_000_000, 5));
        assert_eq!(found.memory_capacity_bytes, 9);
        let rates: Vec<_> = found.pods[0]
            .containers
            .iter()
            .map(|one| (one.name.as_str(), one.cpu_nanocores))
            .collect();
        assert_eq!(rates, [("a", 500_000_000), ("again", 100_000_000), ("new", 10_000_000)]);
        assert_eq!(found.pods[0].containers[0].memory_bytes, 7);
    }
}
