//! Turns while the store does not take what it is given: a full disk, or one that is read-only.
//!
//! ```text
//!   decide ─▶ store ─┬─ taken ──▶ record ─▶ orders out, and trust again
//!                    └─ refused ─▶ the same refusal to whoever asked; nothing was recorded
//! ```
//!
//! A turn that records before it stores must be taken back when the store refuses, by reading all
//! of it. Here nothing has to be: each decision is stored alone, and counts only then. Whoever asks
//! is the probe, so that the first write after space was made goes through. What nobody waits for
//! (rollout steps, events) is tried now and then. Reads, sessions and leases go on as ever.

use std::sync::Arc;
use std::time::Duration;

use everynode_coordinator_core::{Command, Outcome, Write};
use everynode_model::Timestamp;
use everynode_store::StoreError;

use super::commit::{CommitError, Group};
use super::turn::{Driver, Gathered};
use super::{CommandError, Ended, Input};

/// Between two attempts at what nobody waits for, at first and at most: soon after somebody has
/// made room, and without a log full of refusals.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(8);

/// A store that refuses.
pub(super) struct Refusing {
    /// The next attempt at what nobody waits for.
    again_at: Timestamp,
    wait: Duration,
}

/// What became of an attempt.
type Attempt<T> = Result<T, Arc<StoreError>>;

impl Driver {
    /// One turn in which everything is stored before it is recorded.
    ///
    /// # Errors
    /// When this coordinator can't go on.
    pub(super) async fn careful_turn(
        &mut self,
        inputs: &mut Vec<Input>,
    ) -> Result<Gathered, Ended> {
        let mut gathered = Gathered::default();
        for input in inputs.drain(..) {
            match input {
                Input::Command { command, answer } => {
                    let outcome = self.follow_carefully(&command, &mut gathered).await?;
                    // Whoever asked may have gone; the effect stands all the same.
                    let _ = answer.send(outcome);
                }
                other => self.take(other, &mut gathered),
            }
        }
        self.tick(&mut gathered);
        self.step_carefully(&mut gathered).await?;
        self.let_out(&gathered.groups);
        if self.is_due() {
            self.store_news(&gathered.news).await?;
        }
        Ok(gathered)
    }

    /// The store has refused.
    pub(super) fn refused(&mut self, error: Arc<StoreError>) {
        if self.refusing.is_none() {
            tracing::error!(%error, "the store takes no writes; what runs, runs on");
        }
        let wait = self.refusing.as_ref().map_or(FIRST, |known| (known.wait * 2).min(LONGEST));
        let again_at = self.clock.now().steady.after(wait);
        self.refusing = Some(Refusing { again_at, wait });
    }

    /// The store has taken something.
    pub(super) fn taken(&mut self) {
        if self.refusing.take().is_some() {
            tracing::info!("the store takes writes again");
        }
    }

    async fn follow_carefully(
        &mut self,
        command: &Command,
        gathered: &mut Gathered,
    ) -> Result<Result<Outcome, CommandError>, Ended> {
        let decision = match self.fleet.decide(command, self.clock.now()) {
            Ok(decision) => decision,
            Err(refusal) => return Ok(Err(CommandError::Refused(refusal))),
        };
        let stored = self.store_then_record(decision.writes, gathered).await?;
        Ok(stored.map(|()| decision.outcome).map_err(CommandError::Store))
    }

    async fn step_carefully(&mut self, gathered: &mut Gathered) -> Result<(), Ended> {
        self.unfinished = false;
        let writes = match self.is_due() {
            true => self.fleet.step(self.clock.now()),
            false => Vec::new(),
        };
        if !writes.is_empty() {
            // One that was taken is followed by others, in a turn that trusts again.
            self.unfinished = self.store_then_record(writes, gathered).await?.is_ok();
        }
        Ok(())
    }

    async fn store_then_record(
        &mut self,
        writes: Vec<Write>,
        gathered: &mut Gathered,
    ) -> Result<Attempt<()>, Ended> {
        if writes.is_empty() {
            return Ok(Ok(()));
        }
        let group = match Group::new(writes) {
            Ok(group) => group,
            Err(error) => return Ok(Err(Arc::new(error))),
        };
        match self.commit(std::slice::from_ref(&group)).await.1 {
            Ok(()) => {
                self.fleet.record(group.writes(), self.clock.now());
                gathered.groups.push(group);
                self.taken();
                Ok(Ok(()))
            }
            Err(CommitError::Overtaken) => Err(Ended::Overtaken),
            Err(CommitError::Store(error)) => self.still_refused(error).await.map(Err),
        }
    }

    /// After a plain "no" nothing was stored. After anything else it may have been: reading it tells,
    /// as it does of a store that has closed itself.
    async fn still_refused(&mut self, error: StoreError) -> Result<Arc<StoreError>, Ended> {
        let error = Arc::new(error);
        match *error {
            StoreError::Full { .. } | StoreError::ReadOnly { .. } => {
                self.refused(Arc::clone(&error));
            }
            _ => self.start_over(Arc::clone(&error)).await?,
        }
        Ok(error)
    }

    /// Whether what nobody waits for may be tried.
    fn is_due(&self) -> bool {
        let now = self.clock.now().steady;
        self.refusing.as_ref().is_none_or(|refusing| refusing.again_at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::boot;
    use crate::clock::{Clock, SimulatedClock};
    use crate::driver::{self, Handle};
    use crate::entropy::Entropy;
    use crate::sessions::Sessions;
    use everynode_coordinator_core::{Config, TokenRecord};
    use everynode_model::{Digest, WallTime};
    use everynode_store::MemoryStore;
    use everynode_store::memory::Fault;

    async fn led(store: &MemoryStore) -> Handle {
        let clock: Arc<dyn Clock> =
            Arc::new(SimulatedClock::start(WallTime::from_unix_millis(1_000_000)));
        let entropy = Arc::new(Entropy::seeded(7));
        let booted = boot(store, Config::default(), &clock, &entropy).await.unwrap();
        let store = Arc::new(store.clone());
        let (sessions, never) = (Sessions::default(), std::future::pending());
        let (handle, turns) =
            driver::new(booted.fleet, store, booted.fence, sessions, clock, never);
        tokio::spawn(turns);
        handle
    }

    fn token(id: &str) -> Command {
        Command::CreateToken(TokenRecord {
            id: id.into(),
            secret: Digest::of(b"secret"),
            created_at: WallTime::from_unix_millis(1_000_000),
            expires_at: WallTime::from_unix_millis(9_000_000),
            uses_left: None,
            node_name: None,
            replace: false,
        })
    }

    async fn tokens(handle: &Handle) -> Vec<String> {
        let ids = |fleet: &everynode_coordinator_core::Fleet, _| {
            fleet.tokens().map(|token| token.id.clone()).collect()
        };
        handle.read(ids).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_first_after_room_was_made_is_served() {
        let store = MemoryStore::new();
        let handle = led(&store).await;
        handle.command(token("before")).await.unwrap();
        store.fail_next(3, Fault::Full);
        for id in ["a", "b", "c"] {
            let refused = handle.command(token(id)).await;
            assert!(
                matches!(&refused, Err(CommandError::Store(error))
                    if matches!(**error, StoreError::Full { .. })),
                "{refused:?}"
            );
            assert_eq!(tokens(&handle).await, ["before"], "nothing undurable is seen");
        }
        // A command that is refused anyway is no attempt.
        let twice = handle.command(Command::RevokeToken { id: "a".into() }).await;
        assert!(matches!(twice, Err(CommandError::Refused(_))), "{twice:?}");
        handle.command(token("after")).await.unwrap();
        assert_eq!(tokens(&handle).await, ["after", "before"]);
        let again = led(&store).await;
        assert_eq!(tokens(&again).await, ["after", "before"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_stored_without_a_word_is_found() {
        let store = MemoryStore::new();
        let handle = led(&store).await;
        store.fail_next(1, Fault::Full);
        assert!(handle.command(token("refused")).await.is_err());
        store.fail_next(1, Fault::Unconfirmed);
        assert!(handle.command(token("stored")).await.is_err());
        assert_eq!(tokens(&handle).await, ["stored"]);
    }
}
