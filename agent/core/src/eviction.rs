//! A pod that has more on disk than it may ends as a whole, as the kubelet evicts it.
//!
//! ```text
//!   Running ── StorageUsed beyond a limit: a failure, told to end ──▶ Stopping ── killed soon ──▶ …
//!              within its limits, or not known of any: nothing
//! ```
//!
//! Afterwards it is a failure of the place as any other ([`crate::place`]): what the pod had is removed
//! with it, and another is made after the back-off. (In Kubernetes the DaemonSet's controller makes it
//! anew at once, as often as it is evicted: k/k#65240.)

use std::collections::BTreeSet;
use std::time::Duration;

use everynode_model::{PodUid, Reason};

use crate::book::Book;
use crate::node::Node;
use crate::place::{Life, Place, Turn, terminate};
use crate::spec::{PodRef, StorageUse};

/// How long it may take to end, whatever its own grace is: the kubelet's
/// `immediateEvictionGracePeriodSeconds`. It would go on writing.
const GRACE: Duration = Duration::from_secs(1);

impl Node {
    /// The pods of which has to be measured what they have on disk: that run, and may not have all of
    /// it.
    pub fn measured(&self) -> BTreeSet<PodRef> {
        let lives = self.places.values().flat_map(Place::lives);
        let limited = lives.filter_map(|life| match life {
            Life::Running(pod) if self.book.storage(pod.identity.revision).is_some() => {
                Some(pod.at.clone())
            }
            _ => None,
        });
        limited.collect()
    }
}

impl Place {
    /// `StorageUsed`.
    pub(crate) fn storage_used(
        &mut self,
        uid: PodUid,
        used: &StorageUse,
        book: &Book,
        turn: &mut Turn<'_>,
    ) {
        let Some(beside) = self.is_beside(uid) else { return };
        let exceeded = |life: &Life| match life {
            Life::Running(pod) => book.storage(pod.identity.revision)?.exceeded_by(used),
            _ => None,
        };
        let why = match exceeded(self.at(beside)) {
            Some(_) if mutated!(IgnoreStorage) => return,
            Some(why) => why,
            None if mutated!(EvictWithin) => Reason::new(everynode_model::EVICTED, "for nothing"),
            None => return,
        };
        let life = std::mem::replace(self.at(beside), Life::Empty);
        *self.at(beside) = match life {
            Life::Running(mut pod) => {
                pod.note_failure("", None, why.clone(), turn.now);
                self.failed_as_a_whole(&pod, &why, turn);
                // Of the next one: another agent would not know it of this one, and counts never fall.
                let goes_on = self.memory.identity == Some(pod.identity);
                self.memory.times_unready += u64::from(goes_on && pod.ready_since.is_some());
                pod.grace = pod.grace.min(GRACE);
                terminate(pod, why, turn)
            }
            other => other,
        };
    }
}
