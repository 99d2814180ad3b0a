//! What changed, turn by turn, for those who watch: a ring of the past, and the present as it comes.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everynode_coordinator_core::Changed;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::broadcast;

/// How many turns are kept: minutes of a busy fleet, hours of a calm one, a few MB at most.
const KEPT: usize = 4096;

/// How many turns a watcher may lag behind before it is told to list again.
const LAG: usize = 1024;

/// What one turn changed.
#[derive(Debug, PartialEq, Eq)]
pub struct Changes {
    /// The `resourceVersion` after it.
    pub version: u64,
    /// Which things changed.
    pub changed: BTreeSet<Changed>,
}

/// The changes since a version are no longer kept; list anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: changes are kept from {oldest} on")]
pub struct Expired {
    /// The oldest version from which one may watch.
    pub oldest: u64,
}

/// A watcher read too slowly and has missed something; list anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the watcher was too slow and has missed changes")]
pub struct Lagged;

/// Turn by turn; ends after an error, and when the coordinator does.
pub type ChangeStream = BoxStream<'static, Result<Arc<Changes>, Lagged>>;

/// The past and the present.
pub(super) struct Ring {
    version: AtomicU64,
    past: Mutex<Past>,
}

struct Past {
    /// Watching is possible from this version on.
    oldest: u64,
    turns: VecDeque<Arc<Changes>>,
    present: broadcast::Sender<Arc<Changes>>,
}

impl Ring {
    pub(super) fn new(version: u64) -> Self {
        Self { version: AtomicU64::new(version), past: Mutex::new(Past::from(version)) }
    }

    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Adds a turn. Under the lock, so that a watcher finds each turn either in the past or in the
    /// present, and never in both.
    pub(super) fn publish(&self, version: u64, changed: BTreeSet<Changed>) {
        self.version.store(version, Ordering::Release);
        if changed.is_empty() {
            return;
        }
        let changes = Arc::new(Changes { version, changed });
        let mut past = self.past();
        past.turns.push_back(Arc::clone(&changes));
        if past.turns.len() > KEPT
            && let Some(dropped) = past.turns.pop_front()
        {
            past.oldest = dropped.version;
        }
        // No receivers, no matter.
        let _ = past.present.send(changes);
    }

    /// Begins anew at `version`, after changes that nobody was told of: all who watch are ended, and
    /// nobody may go on from an older version.
    pub(super) fn begin_anew(&self, version: u64) {
        self.version.store(version, Ordering::Release);
        *self.past() = Past::from(version);
    }

    pub(super) fn watch(&self, after: Option<u64>) -> Result<ChangeStream, Expired> {
        let past = self.past();
        let missed: Vec<_> = match after {
            Some(after) if after < past.oldest => return Err(Expired { oldest: past.oldest }),
            Some(after) => past.turns.iter().filter(|turn| turn.version > after).cloned().collect(),
            None => Vec::new(),
        };
        let present = stream::unfold(Some(past.present.subscribe()), next);
        Ok(stream::iter(missed.into_iter().map(Ok)).chain(present).boxed())
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        // The data is whole after every statement above, so a panic elsewhere can't have torn it.
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Past {
    fn from(version: u64) -> Self {
        Self { oldest: version, turns: VecDeque::new(), present: broadcast::channel(LAG).0 }
    }
}

type Receiver = broadcast::Receiver<Arc<Changes>>;

async fn next(state: Option<Receiver>) -> Option<(Result<Arc<Changes>, Lagged>, Option<Receiver>)> {
    let mut receiver = state?;
    match receiver.recv().await {
        Ok(changes) => Some((Ok(changes), Some(receiver))),
        Err(broadcast::error::RecvError::Lagged(_)) => Some((Err(Lagged), None)),
        Err(broadcast::error::RecvError::Closed) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(number: u64) -> BTreeSet<Changed> {
        [Changed::Event(number)].into()
    }

    #[tokio::test]
    async fn a_watcher_sees_the_past_and_the_present_once() {
        let ring = Ring::new(10);
        ring.publish(11, changed(1));
        ring.publish(12, changed(2));
        let mut watch = ring.watch(Some(11)).unwrap();
        ring.publish(13, changed(3));
        assert_eq!(watch.next().await.unwrap().unwrap().version, 12);
        assert_eq!(watch.next().await.unwrap().unwrap().version, 13);
    }

    #[tokio::test]
    async fn an_old_version_is_expired() {
        let ring = Ring::new(10);
        assert_eq!(ring.watch(Some(9)).err(), Some(Expired { oldest: 10 }));
        for number in 11..=11 + KEPT as u64 {
            ring.publish(number, changed(number));
        }
        assert_eq!(ring.watch(Some(10)).err(), Some(Expired { oldest: 11 }));
        assert!(ring.watch(Some(11)).is_ok());
    }

    #[tokio::test]
    async fn a_new_beginning_ends_who_watches_and_expires_what_was() {
        let ring = Ring::new(0);
        ring.publish(1, changed(1));
        let mut watch = ring.watch(Some(0)).unwrap();
        ring.begin_anew(9);
        assert_eq!(watch.next().await.unwrap().unwrap().version, 1);
        assert_eq!(watch.next().await, None);
        assert_eq!(ring.watch(Some(1)).err(), Some(Expired { oldest: 9 }));
        assert_eq!(ring.version(), 9);
    }

    #[tokio::test]
    async fn a_slow_watcher_is_told_so_and_ended() {
        let ring = Ring::new(0);
        let mut watch = ring.watch(None).unwrap();
        for number in 1..=LAG as u64 + 1 {
            ring.publish(number, changed(number));
        }
        assert_eq!(watch.next().await, Some(Err(Lagged)));
        assert_eq!(watch.next().await, None);
    }
}
