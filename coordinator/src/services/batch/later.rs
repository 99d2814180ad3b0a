//! DaemonSets that follow an object which they read, where they don't fit into one transaction.
//!
//! ```text
//!   an object is put ─▶ it notes who is due ─▶ wake ─▶ the first of the due: looked at, composed anew,
//!                                                ▲      put in one transaction, and due no more
//!                                                └──────────────┘ until nobody is due: idle
//! ```
//!
//! Who is due is a record, so that a coordinator that begins to lead goes on where another ended. Each
//! gets a revision of what the objects say when its turn comes, in the order of their names: a change in
//! between costs no revision that nobody asked for, and one that was taken back meanwhile none at all.
//! Whoever puts an object waits for this for a while, and is told of those that are left.

use std::collections::BTreeSet;
use std::time::Duration;

use everynode_coordinator_core::{Command, Refusal};
use everynode_model::PodKey;
use everynode_store::StoreError;
use tokio::sync::{Notify, watch};
use tonic::Status;

use super::look::look_due;
use super::plan::{Plan, due};
use super::{Api, keep};
use crate::driver::CommandError;

/// How many sets one transaction puts: at three records each, and one that says who is due, half of what
/// fits. Where they are too many bytes, each is put alone.
const AT_ONCE: usize = 20;

/// How long whoever puts an object waits: 500 sets, which is all there may be, are 25 transactions.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is waited between tries that fail: from a conflict, which the next try settles, to a store that
/// takes nothing. The longest is also how often it is looked at whether anybody is due: some thousand
/// objects in memory.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Between those who put objects and the one who sees to what is due.
pub(crate) struct Later {
    wake: Notify,
    /// How often nobody was due any more.
    idle: watch::Sender<u64>,
}

impl Default for Later {
    fn default() -> Self {
        Self { wake: Notify::new(), idle: watch::Sender::new(0) }
    }
}

impl Later {
    /// Tells when nobody is due any more, from now on.
    pub(super) fn idle(&self) -> watch::Receiver<u64> {
        self.idle.subscribe()
    }

    /// Has what is due seen to, and waits for it; how many of these sets are due all the same.
    pub(super) async fn follow(
        &self,
        api: &Api,
        mut idle: watch::Receiver<u64>,
        sets: &[PodKey],
    ) -> Result<usize, Status> {
        self.wake.notify_one();
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let still: BTreeSet<PodKey> =
                api.read(|fleet, _| fleet.due()).await?.into_iter().collect();
            let left = sets.iter().filter(|key| still.contains(*key)).count();
            let over = left == 0 || tokio::time::timeout_at(end, idle.changed()).await.is_err();
            if over {
                return Ok(left);
            }
        }
    }
}

/// Sees to what is due, for ever.
pub(crate) async fn keep_following(api: &Api) {
    let later = &api.parts.later;
    let mut wait = FIRST_WAIT;
    loop {
        match round(api).await {
            Ok(true) => wait = FIRST_WAIT,
            Ok(false) => {
                later.idle.send_modify(|times| *times += 1);
                // Whoever put an object may be gone before it could say so.
                let _ = tokio::time::timeout(LONGEST_WAIT, later.wake.notified()).await;
            }
            Err(error) => {
                if wait > FIRST_WAIT {
                    tracing::warn!(%error, "DaemonSets can't follow what they read yet");
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    }
}

/// Puts the first that are due; whether there were any.
async fn round(api: &Api) -> Result<bool, CommandError> {
    let look = api.parts.handle.read(|fleet, _| look_due(fleet, AT_ONCE)).await?;
    if look.sets.is_empty() {
        return Ok(false);
    }
    let Plan { commands, blobs, .. } = due(&look, &api.parts.blob_key);
    keep(api, blobs).await?;
    match api.parts.handle.command(Command::All(commands.clone())).await {
        // One that is large must not keep the others from theirs.
        Err(error) if is_too_much(&error) => one_by_one(api, commands).await?,
        other => drop(other?),
    }
    Ok(true)
}

/// Whether the commands fit no transaction together: too many records, or too many bytes.
fn is_too_much(error: &CommandError) -> bool {
    match error {
        CommandError::Refused(refusal) => matches!(refusal, Refusal::TooMany { .. }),
        CommandError::Store(error) => matches!(**error, StoreError::TooLarge { .. }),
        _ => false,
    }
}

/// Each that can be put is, whatever becomes of those before it.
///
/// # Errors
/// The first.
async fn one_by_one(api: &Api, commands: Vec<Command>) -> Result<(), CommandError> {
    let mut all = Ok(());
    for command in commands {
        let put = api.parts.handle.command(command).await.map(drop);
        all = all.and(put);
    }
    all
}
