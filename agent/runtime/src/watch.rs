//! Sees places become empty, and of two pods in one place each, and says so.
//!
//! One inotify descriptor and one task for all places: the kernel modifies a place's
//! `cgroup.events` when its last process dies, and a thread or poll entry per place would cost
//! more. Two things make sure that no end is missed: a place is looked at after its watch is set,
//! and those that are being stopped are looked at again every few seconds, whatever inotify says
//! (its queue can overflow, its watches can run out).
//!
//! ```text
//!             arm (something is alive there, or somebody wants to hear of its end)
//!   quiet ────────────────────────────────────────────────▶ armed
//!     ▲                                                       │ seen empty
//!     └──────────────────────── PlaceEmpty ◀──────────────────┘
//! ```

use std::collections::BTreeMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use everynode_agent_core::PodRef;
use everynode_model::PodKey;
use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use crate::RuntimeEvent;
use crate::cgroup::Cgroup;
use crate::sys;

/// How often places that are being stopped are looked at without being told to: seldom enough to
/// cost nothing, often enough that a missed notification is a delay and not a hang.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Room for 64 events without names: many more come with the next read.
const BUFFER: usize = 1024;

/// A cgroup whose end is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Spot {
    /// All of a place.
    Place(PodKey),
    /// One pod, where its place may hold another.
    Pod(PodRef),
}

/// The watched places and pods.
pub(crate) struct Watch {
    inotify: AsyncFd<OwnedFd>,
    /// Held while a place is looked at and the event is put into the channel, and never across an
    /// await: so the order of events is the order of facts.
    state: Mutex<State>,
    events: mpsc::Sender<RuntimeEvent>,
}

#[derive(Default)]
struct State {
    places: BTreeMap<Spot, Place>,
    by_watch: BTreeMap<i32, Spot>,
}

struct Place {
    cgroup: Cgroup,
    watch: Option<i32>,
    armed: bool,
    stopping: bool,
    /// Whether the last look failed.
    unseen: bool,
}

impl Watch {
    pub(crate) fn new(events: mpsc::Sender<RuntimeEvent>) -> io::Result<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let inotify = sys::readable(inotify::init(flags)?)?;
        Ok(Self { inotify, state: Mutex::default(), events })
    }

    /// Runs until its task is dropped.
    pub(crate) async fn run(&self) {
        let mut again = tokio::time::interval(LOOK_AGAIN);
        loop {
            let keys = tokio::select! {
                ready = self.inotify.readable() => match ready {
                    Ok(mut guard) => {
                        let keys = self.changed();
                        guard.clear_ready();
                        keys
                    }
                    Err(error) => {
                        tracing::error!(%error, "no word of places that end");
                        again.tick().await;
                        self.overdue()
                    }
                },
                _ = again.tick() => self.overdue(),
            };
            for key in keys {
                self.look(&key).await;
            }
        }
    }

    /// Something is alive in the place: its end is to be told, also one that came before this
    /// call. The pod's creation, where it is one, is told first.
    pub(crate) async fn arm(&self, key: &Spot, cgroup: Cgroup, created: Option<PodRef>) {
        // The receiver is gone only when nobody wants to hear.
        let Ok(permit) = self.events.reserve().await else { return };
        {
            let mut state = self.lock();
            let place = self.watched(&mut state, key, cgroup);
            place.armed = true;
            place.stopping &= created.is_none();
            match created {
                Some(pod) => permit.send(RuntimeEvent::Created(pod)),
                None => drop(permit),
            }
        }
        self.look(key).await;
    }

    /// The place is being emptied: its end is to be told even where it is empty already.
    pub(crate) async fn arm_stopping(&self, key: &Spot, cgroup: Cgroup) {
        {
            let mut state = self.lock();
            let place = self.watched(&mut state, key, cgroup);
            place.armed = true;
            place.stopping = true;
        }
        self.look(key).await;
    }

    /// The pod was told to end.
    pub(crate) fn stopping_now(&self, pod: &PodRef) {
        let mut state = self.lock();
        for spot in [Spot::Place(pod.key.clone()), Spot::Pod(pod.clone())] {
            if let Some(place) = state.places.get_mut(&spot) {
                place.stopping = true;
            }
        }
    }

    /// Removes the place's directory and forgets it, where no other pod has it.
    pub(crate) fn remove(&self, key: &PodKey, cgroup: &Cgroup) {
        // Before the lock, as rmdir may wait for the kernel; so the place may be in use again.
        if cgroup.remove().is_ok() {
            self.forget(&Spot::Place(key.clone()));
        }
    }

    /// Forgets what is gone, where its end was told.
    pub(crate) fn forget(&self, key: &Spot) {
        let mut state = self.lock();
        if state.places.get(key).is_some_and(|place| !place.armed)
            && let Some(place) = state.places.remove(key)
            && let Some(watch) = place.watch
        {
            state.by_watch.remove(&watch);
            // It goes with the file; asking is for the case that it has not yet.
            let _ = inotify::remove_watch(&self.inotify, watch);
        }
    }

    /// Looks at an armed place, and tells when it is empty.
    async fn look(&self, key: &Spot) {
        let Ok(permit) = self.events.reserve().await else { return };
        let mut state = self.lock();
        let Some(place) = state.places.get_mut(key).filter(|place| place.armed) else { return };
        match place.cgroup.populated() {
            Ok(true) => place.unseen = false,
            Ok(false) => {
                place.armed = false;
                place.unseen = false;
                place.stopping = false;
                permit.send(match key.clone() {
                    Spot::Place(key) => RuntimeEvent::PlaceEmpty(key),
                    Spot::Pod(pod) => RuntimeEvent::PodEmpty(pod),
                });
            }
            Err(error) => {
                // Not seen is not empty; the next look may see.
                place.unseen = true;
                tracing::warn!(?key, %error, "cannot look into a place");
            }
        }
    }

    /// The place's entry, with a watch on the directory that is there now.
    fn watched<'a>(&self, state: &'a mut State, key: &Spot, cgroup: Cgroup) -> &'a mut Place {
        let path = cgroup.file("cgroup.events");
        let watch = inotify::add_watch(&self.inotify, path, inotify::WatchFlags::MODIFY);
        let watch = watch.inspect_err(|error| {
            tracing::debug!(?key, %error, "a place is looked at now and then only");
        });
        let place = state.places.entry(key.clone()).or_insert_with(|| Place {
            cgroup,
            watch: None,
            armed: false,
            stopping: false,
            unseen: false,
        });
        if let Some(old) = place.watch.take() {
            state.by_watch.remove(&old);
        }
        if let Ok(new) = watch {
            place.watch = Some(new);
            state.by_watch.insert(new, key.clone());
        }
        place
    }

    /// The places that inotify speaks of: all, when it lost count.
    fn changed(&self) -> Vec<Spot> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let state = self.lock();
        let mut keys = Vec::new();
        while let Ok(event) = reader.next() {
            if event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW) {
                return state.places.keys().cloned().collect();
            }
            keys.extend(state.by_watch.get(&event.wd()).cloned());
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Those to look at without being told to: being stopped, without a watch, or not seen when
    /// they were looked at.
    fn overdue(&self) -> Vec<Spot> {
        let state = self.lock();
        let due = |place: &Place| {
            place.armed && (place.stopping || place.unseen || place.watch.is_none())
        };
        state.places.iter().filter(|(_, p)| due(p)).map(|(key, _)| key.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What a panicking holder left is still consistent: it is changed field by field.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
