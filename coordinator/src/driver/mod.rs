//! The one loop that owns the fleet.
//!
//! ```text
//!   commands ─┐        ┌──────────────── one turn ────────────────┐
//!   reports  ─┼─inbox─▶│ decide · record ─▶ commit ─▶ orders out   │
//!   reads    ─┤        │                          ─▶ answers        │
//!   timers   ─┘        └──────────────────────────────────────────┘
//! ```
//!
//! A turn takes what has come in, decides each in order, stores everything in as few transactions
//! as fit, and only then lets anything out: orders to nodes, answers to callers, changes to
//! watchers. If a commit fails, the records are thrown away and restored from the store, so that
//! nothing undurable was ever seen (see the module `turn`); from then on each decision is stored
//! before it is recorded, until the store takes one (see the module `careful`).
//!
//! The loop never waits for a node or a caller. It does wait for the store, and so do reads behind
//! a commit; heartbeats do not pass through here, so a slow disk makes nobody look lost.

mod careful;
mod changes;
mod commit;
mod pulse;
mod turn;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use everynode_coordinator_core::{Command, Fleet, Observation, Outcome, Refusal};
use everynode_model::{Now, Timestamp};
use everynode_store::{Store, StoreError};
use tokio::sync::{mpsc, oneshot};

pub use changes::{ChangeStream, Changes, Expired, Lagged};
pub use commit::Fence;

use crate::clock::Clock;
use crate::records;
use crate::sessions::Sessions;
use changes::Ring;
use turn::{Driver, Outlets};

/// How many inputs may wait for the loop: some thousand nodes that report at once, at a few hundred
/// bytes each. Who finds it full waits its turn.
const INBOX: usize = 4096;

/// How many inputs one turn takes: enough to share a commit, few enough to keep answers prompt.
const BATCH: usize = 256;

/// The longest the loop sleeps. Waking so often costs nothing, and a longer gap between two turns
/// shows that the process was frozen.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// A question to the fleet, asked on the loop.
type Question = Box<dyn FnOnce(&Fleet, Now) + Send>;

/// Something for the loop to do.
enum Input {
    Command { command: Box<Command>, answer: oneshot::Sender<Result<Outcome, CommandError>> },
    Observation(Box<Observation>),
    Question(Question),
}

/// Why a command had no effect.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommandError {
    /// It was refused, with a reason.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    /// It could not be stored. It may be tried again.
    #[error("the store did not take it: {0}")]
    Store(Arc<StoreError>),
    /// The coordinator is shutting down.
    #[error("the coordinator is shutting down")]
    Closed,
}

/// Why the loop ended that was not told to.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// Another coordinator leads this cluster now.
    #[error("another coordinator has begun to lead on the same store: let one of them lead")]
    Overtaken,
    /// After a failed commit the store could not be read either.
    #[error("the store can't be read any more: {0}")]
    Store(#[source] records::LoadError),
    /// After a failed commit the stored records made no fleet.
    #[error("the stored records make no fleet ({0}): restore a backup")]
    Records(String),
}

/// Speaks to the loop. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    inbox: mpsc::Sender<Input>,
    ring: Arc<Ring>,
    held: Arc<AtomicBool>,
    beats: Arc<AtomicU64>,
}

/// Makes the loop and the handle to it. The loop runs while the returned future is polled, until
/// `shutdown` completes; what is in its inbox then is answered with [`CommandError::Closed`].
pub fn new(
    fleet: Fleet,
    store: Arc<dyn Store>,
    fence: Fence,
    sessions: Sessions,
    clock: Arc<dyn Clock>,
    shutdown: impl Future<Output = ()> + Send,
) -> (Handle, impl Future<Output = Result<(), Ended>> + Send) {
    let (inbox, inputs) = mpsc::channel(INBOX);
    let ring = Arc::new(Ring::new(fleet.version()));
    let held = Arc::new(AtomicBool::new(fleet.hold().is_some()));
    let outlets = Outlets { sessions, ring: Arc::clone(&ring), held: Arc::clone(&held) };
    let driver = Driver::new(fleet, store, fence, outlets, clock);
    let beats = driver.pulse.beats();
    (Handle { inbox, ring, held, beats }, run(driver, inputs, shutdown))
}

impl Handle {
    /// Follows a command. When this returns `Ok`, its effect is durable.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn command(&self, command: Command) -> Result<Outcome, CommandError> {
        let (answer, answered) = oneshot::channel();
        self.send(Input::Command { command: Box::new(command), answer }).await?;
        answered.await.map_err(|_| CommandError::Closed)?
    }

    /// Asks the fleet as it is now; everything that is seen is durable.
    ///
    /// # Errors
    /// [`CommandError::Closed`] only.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Fleet, Now) -> T + Send + 'static,
    ) -> Result<T, CommandError> {
        let (answer, answered) = oneshot::channel();
        let question = Box::new(move |fleet: &Fleet, now| {
            // Whoever asked may have gone; then nobody misses the answer.
            let _ = answer.send(read(fleet, now));
        });
        self.send(Input::Question(question)).await?;
        answered.await.map_err(|_| CommandError::Closed)
    }

    /// Tells of something seen.
    ///
    /// # Errors
    /// [`CommandError::Closed`] only.
    pub async fn observe(&self, observation: Observation) -> Result<(), CommandError> {
        self.send(Input::Observation(Box::new(observation))).await
    }

    /// Waits until an observation can be told without waiting; dropping the future is harmless.
    pub(crate) async fn ready_to_observe(&self) -> Result<ObservationSlot<'_>, CommandError> {
        self.inbox.reserve().await.map(ObservationSlot).map_err(|_| CommandError::Closed)
    }

    /// All that changes after the version `after`, or from now on.
    ///
    /// # Errors
    /// [`Expired`] when changes since then are no longer kept.
    pub fn watch(&self, after: Option<u64>) -> Result<ChangeStream, Expired> {
        self.ring.watch(after)
    }

    /// The `resourceVersion` of everything as of the last turn.
    pub fn version(&self) -> u64 {
        self.ring.version()
    }

    /// Whether orders are held, as of the last turn.
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// A number that grows while the loop turns, or waits for the store, and stands when it hangs.
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    async fn send(&self, input: Input) -> Result<(), CommandError> {
        self.inbox.send(input).await.map_err(|_| CommandError::Closed)
    }
}

/// A place in the loop's inbox.
pub(crate) struct ObservationSlot<'a>(mpsc::Permit<'a, Input>);

impl ObservationSlot<'_> {
    /// Fills it.
    pub(crate) fn observe(self, observation: Observation) {
        self.0.send(Input::Observation(Box::new(observation)));
    }
}

async fn run(
    mut driver: Driver,
    mut inputs: mpsc::Receiver<Input>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Ended> {
    let mut shutdown = std::pin::pin!(shutdown);
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let wake = driver.wake_at(LONGEST_SLEEP);
        // Inputs before timers: a report that is already here must not lose to a deadline.
        tokio::select! {
            biased;
            () = &mut shutdown => return Ok(()),
            _ = inputs.recv_many(&mut batch, BATCH) => {}
            () = tokio::time::sleep_until(wake) => {}
        }
        driver.turn(&mut batch).await?;
        batch.clear();
        tokio::task::yield_now().await;
    }
}

/// The later of a deadline and now, but no later than `longest` from now.
fn bounded(deadline: Option<Timestamp>, now: Timestamp, longest: Duration) -> Timestamp {
    let latest = now.after(longest);
    deadline.map_or(latest, |deadline| deadline.clamp(now, latest))
}
