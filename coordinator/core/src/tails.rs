//! How much is kept of what containers printed before they failed: the newest, within a bound.
//!
//! A DaemonSet that fails on every node of a large fleet says the same everywhere; a few thousand
//! examples tell as much as all of them. Of the others it stays known that there was something, and
//! their machines have it.

use std::collections::BTreeMap;

use everynode_model::{Failure, NodeUid, PodKey, PodStatus};

use crate::Fleet;

/// Which places' texts are kept, by their age.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tails {
    kept: BTreeMap<u64, (NodeUid, PodKey, usize)>,
    /// Of all texts together.
    bytes: usize,
    next: u64,
}

impl Tails {
    /// Notes what was said of a place; the number under which it is kept, if anything was printed.
    pub(crate) fn keep(&mut self, node: NodeUid, key: &PodKey, pods: &[PodStatus]) -> Option<u64> {
        let bytes = pods.iter().flat_map(PodStatus::failures).map(size).sum();
        if bytes == 0 {
            return None;
        }
        self.next += 1;
        self.bytes += bytes;
        self.kept.insert(self.next, (node, key.clone(), bytes));
        Some(self.next)
    }

    /// It is kept no more.
    pub(crate) fn give_back(&mut self, number: u64) {
        let bytes = self.kept.remove(&number).map_or(0, |(_, _, bytes)| bytes);
        self.bytes -= bytes;
    }
}

impl Fleet {
    /// Drops the oldest texts until the rest is within the bound.
    pub(crate) fn forget_tails(&mut self) {
        while self.tails.bytes > self.config.max_printed
            && let Some((_, (node, key, bytes))) = self.tails.kept.pop_first()
        {
            self.tails.bytes -= bytes;
            let place = self.seen.get_mut(&node).and_then(|seen| seen.places.get_mut(&key));
            // A node that was forgotten in a commit that failed has none.
            let Some(place) = place else { continue };
            place.printed = None;
            let failures = place.pods.iter_mut().flat_map(PodStatus::failures_mut);
            failures.for_each(|failure| failure.log_tail.forget());
        }
    }
}

fn size(failure: &Failure) -> usize {
    failure.log_tail.as_str().len()
}
