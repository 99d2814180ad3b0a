//! Who and what there is in this world, by number.

use std::time::Duration;

use everynode_agent_core::{Doubling, Policy, StorageLimits};
use everynode_model::{ClusterId, Digest, NodeName, PodKey};
use uuid::Uuid;

/// The cluster.
pub(crate) const CLUSTER: ClusterId = ClusterId::new(Uuid::from_u128(1));
/// One that some machine was a part of before.
pub(crate) const ELSEWHERE: ClusterId = ClusterId::new(Uuid::from_u128(2));

/// The DaemonSets' names. Few, so that everything happens to each.
pub(crate) const SETS: [&str; 3] = ["a", "b", "c"];

/// The templates that sets may have.
pub(crate) const BODIES: [&str; 5] = ["1", "2", "3", "in-a-container", "beyond-this-machine"];
/// One that no machine here can honour.
const UNFIT: &str = BODIES[4];
/// One that is run by another runtime.
const CONTAINER: &str = BODIES[3];

/// The place of a set.
pub(crate) fn key(name: &str) -> PodKey {
    PodKey::new("default", name).expect("a DNS label")
}

/// A machine's name.
pub(crate) fn node_name(seat: usize) -> NodeName {
    NodeName::new(&format!("node-{seat}")).expect("letters, digits and a dash")
}

/// A template's revision.
pub(crate) fn revision(body: &str) -> Digest {
    Digest::of(body.as_bytes())
}

/// What has something to be staged before a pod of it is made.
pub(crate) fn staged_bodies() -> [Digest; 3] {
    [revision(BODIES[1]), revision(BODIES[2]), revision(UNFIT)]
}

/// What has more on disk than this, in bytes, is evicted.
pub(crate) const MOST_ON_DISK: u64 = 10;

/// What may not have all of the disk.
pub(crate) fn limited_bodies() -> Vec<(Digest, StorageLimits)> {
    let limits = StorageLimits { pod: Some(MOST_ON_DISK), ..StorageLimits::default() };
    [BODIES[0], BODIES[2]].map(|body| (revision(body), limits.clone())).into()
}

/// Revisions that differ in limits alone, so that a pod of one is brought to another as it runs: by what
/// they have in common.
pub(crate) fn alike_bodies() -> [(Digest, Digest); 2] {
    [BODIES[0], BODIES[2]].map(|body| (revision(body), revision("in common")))
}

/// What of a revision can't change in a pod that runs.
pub(crate) fn fixed_of(digest: Digest) -> Digest {
    let fixed = alike_bodies().into_iter().find(|(revision, _)| *revision == digest);
    fixed.map_or(digest, |(_, fixed)| fixed)
}

/// Whether machines here can honour this revision.
pub(crate) fn can_be_honoured(digest: Digest) -> bool {
    digest != revision(UNFIT)
}

/// Which runtime a revision asks for.
pub(crate) fn runtime_of(digest: Digest) -> &'static str {
    if digest == revision(CONTAINER) { "cri" } else { "process" }
}

/// Waits in proportion to walks of minutes: many of each fit into one.
pub(crate) fn policy() -> Policy {
    let secs = Duration::from_secs;
    Policy {
        restart: Doubling { first: secs(1), cap: secs(8) },
        reset_after: secs(20),
        kill: Doubling { first: secs(1), cap: secs(4) },
        write: Doubling { first: secs(1), cap: secs(4) },
    }
}
