//! Several objects in one transaction, each through its door: what is there is looked at, what
//! follows is decided, and that is asked for on the condition that what was looked at still is so.
//!
//! ```text
//!   admitted ─▶ look ─▶ plan: commands, content ─▶ content is kept ─▶ all commands, or none ─▶ answer
//!                ▲                                                          │
//!                └──────────── somebody else was faster, five times ────────┘
//! ```
//!
//! A batch of one is how a single object is put.
//!
//! Sets that read an object which is put get their revisions by the same transaction. Where they don't fit
//! into it, it notes who is due, and the module `later` sees to them.

mod later;
mod look;
mod plan;

use std::collections::BTreeMap;

use everynode_coordinator_core::{Command, Opaque, Outcome, PutMode, Refusal};
use everynode_manifest::{Admitted, AdmittedObject, daemon_set_from};
use everynode_model::{DaemonSet, Digest, ObjectKey, ObjectUid, PodKey, SetUid};
use everynode_proto::v1;
use serde_json::Value;
use tonic::Status;

pub(super) use self::later::{Later, keep_following};
pub(super) use self::look::{canonical_all, existing, versions};

use self::look::look;
use self::plan::{Plan, plan};
use super::Api;
use crate::driver::CommandError;
use crate::status;

/// How often a batch that found something changed under it looks again. More than that in a row
/// means that several writers want different things, which no retry settles.
pub(super) const TRIES: usize = 5;

/// One object that is to be put, as it came through the door.
pub(super) struct Item {
    pub(super) mode: PutMode,
    pub(super) what: What,
    /// The version that the caller has seen, where it insists on it.
    pub(super) seen: Option<u64>,
    /// The uid of the one that the caller means to change; empty where any will do.
    pub(super) meant: String,
}

/// The object of an item.
pub(super) enum What {
    /// A DaemonSet, as it was sent and as it was admitted; the uid it gets if it is new.
    Set { object: Value, admitted: Box<Admitted>, uid: SetUid },
    /// Another object: likewise.
    Object { object: Value, admitted: Box<AdmittedObject>, uid: ObjectUid },
}

/// How it is to be done.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    pub(super) dry_run: bool,
    pub(super) allow_removal: bool,
}

/// What came of a batch.
pub(super) struct Done {
    /// Of each item, in their order.
    pub(super) outcomes: Vec<Outcome>,
    pub(super) effect: v1::Effect,
    /// DaemonSets that were not items and have another revision now, or are about to.
    pub(super) rolled_out: Vec<PodKey>,
    /// How many of these are still about to.
    pub(super) due: usize,
}

/// Puts all items, or none.
pub(super) async fn put(api: &Api, items: &[Item], manner: Manner) -> Result<Done, Status> {
    let mut tries = 1;
    loop {
        let seen = api.read({
            let asked = look::Asked::of(items);
            move |fleet, _| look(fleet, &asked)
        });
        let seen = seen.await?;
        let plan = plan(items, &seen, &api.parts.blob_key)?;
        let insists = plan.insists;
        let reach = match plan.later.is_empty() {
            true => None,
            false => {
                let all = plan.commands.iter().chain(&plan.later).cloned().collect();
                Some(api.foretold(all, manner.allow_removal).await?)
            }
        };
        let idle = api.parts.later.idle();
        let mut done = match follow(api, plan, items.len(), manner).await {
            Err(error) if tries < TRIES && was_overtaken(items, &error, insists) => {
                tries += 1;
                continue;
            }
            other => other.map_err(|error| status::command(&error))?,
        };
        if let Some(effect) = reach {
            done.effect = effect;
            if !manner.dry_run {
                done.due = api.parts.later.follow(api, idle, &done.rolled_out).await?;
            }
        }
        return Ok(done);
    }
}

async fn follow(api: &Api, plan: Plan, items: usize, manner: Manner) -> Result<Done, CommandError> {
    let Plan { mut commands, rolled_out, blobs, .. } = plan;
    if manner.dry_run {
        // Nothing is stored for it, so that nothing can rest on its content.
        for command in &mut commands {
            if let Command::PutSet { content, .. } = command {
                content.blobs.clear();
            }
        }
    } else {
        keep(api, blobs).await?;
    }
    let all = match commands.len() {
        1 => commands.remove(0),
        _ => Command::All(commands),
    };
    let (outcome, effect) = api.careful(all, manner.allow_removal, manner.dry_run).await?;
    let mut outcomes = match outcome {
        Outcome::All(outcomes) => outcomes,
        one => vec![one],
    };
    outcomes.truncate(items);
    Ok(Done { outcomes, effect, rolled_out, due: 0 })
}

/// Keeps content that is to be named.
async fn keep(api: &Api, blobs: BTreeMap<Digest, Vec<u8>>) -> Result<(), CommandError> {
    for (digest, blob) in blobs {
        if !api.parts.handle.read(move |fleet, _| fleet.has_blob(digest)).await? {
            let blob = Opaque(blob.into());
            api.parts.handle.command(Command::KeepBlob { digest, blob }).await?;
        }
    }
    Ok(())
}

/// What the deciding code needs of an object that was admitted.
pub(super) fn usable(
    admitted: &Admitted,
    uid: SetUid,
    revision: Digest,
) -> Result<DaemonSet, Status> {
    daemon_set_from(&admitted.object, uid, 0, revision).map_err(|error| {
        tracing::error!(%error, "an admitted object can't be used");
        Status::internal("the object was admitted and can't be used; the log says why")
    })
}

/// Whether somebody else was faster, and the caller has not asked to hear of that.
fn was_overtaken(items: &[Item], error: &CommandError, insists: bool) -> bool {
    let CommandError::Refused(refusal) = error else { return false };
    match refusal {
        Refusal::Conflict { .. } => !insists,
        Refusal::SetExists(key) => items.iter().any(|item| {
            item.mode == PutMode::Apply
                && matches!(&item.what, What::Set { admitted, .. } if admitted.key == *key)
        }),
        Refusal::ObjectExists(key) => {
            items.iter().any(|item| item.mode == PutMode::Apply && item.object_key() == Some(key))
        }
        _ => false,
    }
}

impl Item {
    fn object_key(&self) -> Option<&ObjectKey> {
        match &self.what {
            What::Object { admitted, .. } => Some(&admitted.key),
            What::Set { .. } => None,
        }
    }
}
