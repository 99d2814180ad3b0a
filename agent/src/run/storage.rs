//! Measures what pods have on disk that may not have all of it, and tells the core.
//!
//! ```text
//!   one that is new: within ten seconds ─▶ measured ─▶ told ─▶ again ten seconds later, …
//! ```
//!
//! Off the loop, one pod after the other and never two at a time, so that a disk that hangs holds up one
//! thread and nothing else. Pods that come together are not in step, so that the disk is not either.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use everynode_agent_core::{Event, PodRef, StorageUse};
use everynode_model::PodUid;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::random::Random;

/// From the end of one walk through what a pod has to the next: as the kubelet's eviction manager
/// looks.
const EVERY: Duration = Duration::from_secs(10);

/// What measures what a pod has on disk. It may take long, and is called on a thread of its own.
pub trait Measure: fmt::Debug + Send + Sync + 'static {
    /// What the pod has now.
    ///
    /// # Errors
    /// When it can't be seen.
    fn measure(&self, pod: PodUid) -> io::Result<StorageUse>;
}

/// What pods have in this run directory of the process runtime.
#[derive(Debug)]
pub struct OnDisk(pub PathBuf);

impl Measure for OnDisk {
    fn measure(&self, pod: PodUid) -> io::Result<StorageUse> {
        everynode_runtime::storage(&self.0, pod)
    }
}

/// The loop's side: which pods are measured.
pub(super) struct Meter(watch::Sender<BTreeSet<PodRef>>);

impl Meter {
    /// Begins with no pod; what is measured is told there. Ends with the loop.
    pub(super) fn start(
        measure: Option<Arc<dyn Measure>>,
        events: mpsc::Sender<Event>,
        random: Random,
    ) -> Self {
        let (sender, pods) = watch::channel(BTreeSet::new());
        if let Some(measure) = measure {
            tokio::spawn(Rounds { measure, pods, events, random, due: BTreeMap::new() }.go());
        }
        Self(sender)
    }

    /// These pods, and no others.
    pub(super) fn measure(&self, pods: BTreeSet<PodRef>) {
        self.0.send_if_modified(|known| {
            let news = *known != pods;
            *known = pods;
            news
        });
    }
}

struct Rounds {
    measure: Arc<dyn Measure>,
    pods: watch::Receiver<BTreeSet<PodRef>>,
    events: mpsc::Sender<Event>,
    random: Random,
    /// When each is measured next.
    due: BTreeMap<PodRef, Instant>,
}

impl Rounds {
    async fn go(mut self) {
        loop {
            self.take_in();
            let next = self.due.iter().min_by_key(|(_, at)| **at);
            let next = next.map(|(pod, at)| (pod.clone(), *at));
            let due = async {
                match next {
                    Some((pod, at)) => {
                        tokio::time::sleep_until(at).await;
                        pod
                    }
                    None => std::future::pending().await,
                }
            };
            let pod = tokio::select! {
                changed = self.pods.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                pod = due => pod,
            };
            self.look_at(&pod).await;
            self.due.insert(pod, Instant::now() + EVERY);
        }
    }

    fn take_in(&mut self) {
        let pods = self.pods.borrow_and_update();
        self.due.retain(|pod, _| pods.contains(pod));
        for pod in pods.iter() {
            let random = &mut self.random;
            let first = || Instant::now() + random.below(EVERY);
            self.due.entry(pod.clone()).or_insert_with(first);
        }
    }

    async fn look_at(&self, pod: &PodRef) {
        let (measure, uid) = (Arc::clone(&self.measure), pod.uid);
        match tokio::task::spawn_blocking(move || measure.measure(uid)).await {
            Ok(Ok(used)) => {
                tracing::trace!(%pod, ?used, "measured");
                // The loop may have ended.
                let _ = self.events.send(Event::StorageUsed { pod: pod.clone(), used }).await;
            }
            Ok(Err(error)) => tracing::warn!(%pod, "what it has on disk is not known: {error}"),
            // The process ends.
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use everynode_model::PodKey;

    use super::*;

    /// Remembers who was measured, and how many at a time.
    #[derive(Debug, Default)]
    struct Scales {
        measured: Mutex<Vec<PodUid>>,
        now: AtomicUsize,
        most: AtomicUsize,
    }

    impl Measure for Scales {
        fn measure(&self, pod: PodUid) -> io::Result<StorageUse> {
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            self.measured.lock().unwrap().push(pod);
            std::thread::yield_now();
            self.now.fetch_sub(1, Ordering::SeqCst);
            let containers = [("main".to_owned(), 7)].into();
            Ok(StorageUse { containers, ..StorageUse::default() })
        }
    }

    fn pod(number: u128) -> PodRef {
        let key = PodKey::new("default", &format!("p{number}")).unwrap();
        PodRef { key, uid: PodUid::new(uuid::Uuid::from_u128(number)) }
    }

    #[tokio::test(start_paused = true)]
    async fn each_in_its_turn_and_out_of_step() {
        let scales = Arc::new(Scales::default());
        let (sender, mut events) = mpsc::channel(8);
        let meter = Meter::start(Some(scales.clone()), sender, Random::seeded([1, 2]));
        let pods: BTreeSet<PodRef> = (1..=3).map(pod).collect();
        let begin = Instant::now();
        meter.measure(pods.clone());
        let mut first = BTreeMap::new();
        for _ in 0..3 {
            let Some(Event::StorageUsed { pod, used }) = events.recv().await else { panic!() };
            assert_eq!(used.total(), 7);
            assert!(begin.elapsed() <= EVERY);
            first.insert(pod, begin.elapsed());
        }
        assert_eq!(first.keys().cloned().collect::<BTreeSet<_>>(), pods);
        let times: BTreeSet<Duration> = first.values().copied().collect();
        assert_eq!(times.len(), 3, "not in step: {first:?}");
        for _ in 0..3 {
            let Some(Event::StorageUsed { pod, .. }) = events.recv().await else { panic!() };
            let between = begin.elapsed() - first[&pod];
            assert!((EVERY..EVERY * 2).contains(&between), "{between:?}");
        }
        assert_eq!(scales.most.load(Ordering::SeqCst), 1, "one at a time");
        // Of those that are gone nothing is measured.
        meter.measure([pod(2)].into());
        tokio::time::sleep(EVERY * 3).await;
        while let Ok(event) = events.try_recv() {
            assert!(matches!(event, Event::StorageUsed { pod: one, .. } if one == pod(2)));
        }
        let seen = scales.measured.lock().unwrap().len();
        meter.measure(BTreeSet::new());
        tokio::time::sleep(EVERY * 3).await;
        assert_eq!(scales.measured.lock().unwrap().len(), seen);
    }
}
