//! What people and their programs call: `operator.proto`, one file per service.
//!
//! Who may call is decided before ([`crate::auth`]), what happens is decided behind
//! ([`crate::driver`]); here a message becomes a command or a question, and the answer a message.
//! Answers are put together off the loop, so that a long list holds up nobody.

mod batch;
mod cluster;
mod convert;
mod daemonsets;
mod events;
mod exec;
mod filter;
mod logs;
mod nodes;
mod objects;
mod pods;
mod put;
mod stream;
mod tokens;
mod undo;
mod usage;
mod watch;

use std::sync::Arc;

use everynode_coordinator_core::{ClusterRecord, Command, Effect, Fleet, Outcome};
use everynode_manifest::BlobKey;
use everynode_model::Now;
use everynode_proto::v1;
use prost::Message;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Response, Status};

use self::batch::Later;
use crate::clock::Clock;
use crate::driver::{CommandError, Handle};
use crate::entropy::{Entropy, NoEntropy};
use crate::pki::Pki;
use crate::sessions::Sessions;
use crate::status;
use crate::streams::Streams;

/// The most that one list may have, in bytes: the pods of some 100,000 nodes. Clients that list
/// large fleets must be ready to take as much; theirs is usually 4 MiB.
pub const MAX_LIST_BYTES: usize = 64 * 1024 * 1024;

/// Watches open at a time. Each keeps what its watcher knows, a few hundred bytes for each object:
/// at worst some 30 MB for one that watches the pods of 100,000 nodes.
const MAX_WATCHES: usize = 256;

/// What every service works with; cheap to clone.
#[derive(Clone)]
pub struct Api {
    parts: Arc<Parts>,
    watches: Arc<Semaphore>,
}

/// What the services are made of.
pub struct Parts {
    /// To the loop.
    pub handle: Handle,
    /// When connected nodes were heard last.
    pub sessions: Sessions,
    /// Who waits for something from a node.
    pub(crate) streams: Streams,
    /// The authorities that join tokens pin.
    pub pki: Pki,
    /// Which cluster this is.
    pub cluster: ClusterRecord,
    /// For the dates of tokens.
    pub clock: Arc<dyn Clock>,
    /// For ids and for the secrets of tokens.
    pub entropy: Arc<Entropy>,
    /// Under which agents reach this coordinator, each `host:port`.
    pub addresses: Vec<String>,
    /// What the content of revisions is salted with.
    pub blob_key: BlobKey,
    /// Who waits for DaemonSets that are due to follow what they read.
    pub(crate) later: Later,
    /// Ends every watch when it is cancelled.
    pub closing: CancellationToken,
}

impl Api {
    /// The services over these parts.
    pub fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts), watches: Arc::new(Semaphore::new(MAX_WATCHES)) }
    }

    /// Sees to DaemonSets that are due to follow what they read, for ever.
    pub(crate) async fn keep_following(&self) {
        batch::keep_following(self).await;
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Fleet, Now) -> T + Send + 'static,
    ) -> Result<T, Status> {
        self.parts.handle.read(read).await.map_err(|error| status::command(&error))
    }

    /// Follows a command unless it takes away too much, or only finds out what following it would
    /// mean; and what it does to pods. That is told of the fleet as it was a moment before: for people.
    async fn careful(
        &self,
        command: Command,
        allow_removal: bool,
        dry_run: bool,
    ) -> Result<(Outcome, v1::Effect), CommandError> {
        let handle = &self.parts.handle;
        let command = if allow_removal { command } else { Command::Careful(Box::new(command)) };
        let asked = command.clone();
        let look = move |fleet: &Fleet, now| {
            let effect = fleet.effect(std::slice::from_ref(&asked), now);
            (effect, dry_run.then(|| fleet.decide(&asked, now)))
        };
        let (effect, decision) = handle.read(look).await?;
        let outcome = match decision {
            Some(decision) => decision.map_err(CommandError::Refused)?.outcome,
            None => handle.command(command).await?,
        };
        Ok((outcome, effect_message(effect)))
    }

    /// What all the commands together would do, none of which is followed.
    async fn foretold(
        &self,
        commands: Vec<Command>,
        allow_removal: bool,
    ) -> Result<v1::Effect, Status> {
        let look = move |fleet: &Fleet, now| match allow_removal {
            true => Ok(fleet.effect(&commands, now)),
            false => fleet.may_remove(&commands, now),
        };
        self.read(look).await?.map(effect_message).map_err(|refusal| status::refused(&refusal))
    }

    /// Follows a command, or only finds out what following it would mean.
    async fn command(&self, command: Command, dry_run: bool) -> Result<Outcome, Status> {
        if !dry_run {
            let outcome = self.parts.handle.command(command).await;
            return outcome.map_err(|error| status::command(&error));
        }
        let decision = self.read(move |fleet, now| fleet.decide(&command, now)).await?;
        decision.map(|decision| decision.outcome).map_err(|refusal| status::refused(&refusal))
    }
}

fn effect_message(effect: Effect) -> v1::Effect {
    let count = |pods: usize| u32::try_from(pods).unwrap_or(u32::MAX);
    v1::Effect {
        gains: count(effect.gains),
        loses: count(effect.loses),
        restarts: count(effect.restarts),
    }
}

/// A list, if it is not too long.
fn list<T: Message>(list: T) -> Result<Response<T>, Status> {
    let bytes = list.encoded_len();
    if bytes > MAX_LIST_BYTES {
        let message = format!(
            "the list has {bytes} bytes, at most {MAX_LIST_BYTES} are sent at once: name a \
             namespace, a node or a label selector, or watch instead"
        );
        return Err(everynode_proto::error::refusal(Code::ResourceExhausted, "TooLarge", message));
    }
    Ok(Response::new(list))
}

/// An outcome of another kind than its command has: a mistake in this program.
fn unexpected(outcome: &Outcome) -> Status {
    tracing::error!(?outcome, "a command had an outcome of another kind");
    Status::internal("the command led to something unexpected; the coordinator's log says what")
}

fn no_entropy(error: NoEntropy) -> Status {
    Status::unavailable(error.to_string())
}
