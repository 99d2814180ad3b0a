//! From a command to writes, or to a refusal with a name. Nothing changes here.

mod due;
mod join;
mod nodes;
mod objects;
mod orders;
mod orphans;
mod places;
mod resume;
mod sets;
mod tokens;

use std::collections::BTreeSet;

use everynode_model::{Now, ObjectKind};

use crate::Fleet;
use crate::command::{Command, Decision, Outcome, Refusal};
use crate::record::Write;

impl Fleet {
    /// What following `command` means: the writes to store, all or none, and the answer to give
    /// once they are stored. Pure: nothing has happened before [`Fleet::record`] gets the writes.
    ///
    /// # Errors
    /// When the command can't be followed, and why.
    pub fn decide(&self, command: &Command, now: Now) -> Result<Decision, Refusal> {
        self.decide_after(command, now, &Coming::default())
    }

    /// The same, where `coming` is to be stored by the same transaction.
    fn decide_after(
        &self,
        command: &Command,
        now: Now,
        coming: &Coming,
    ) -> Result<Decision, Refusal> {
        match command {
            Command::Join { .. } => self.join(command, now),
            Command::CreateToken(token) => self.create_token(token),
            Command::RevokeToken { id } => self.revoke_token(id),
            Command::PutSet { .. } => self.put_set(command, now, coming),
            Command::PutObject { .. } => self.put_object(command, now, coming),
            Command::DeleteObject { key, uid } => self.delete_object(key, *uid, now),
            Command::KeepBlob { digest, blob } => Ok(self.keep_blob(*digest, blob)),
            Command::All(commands) => self.all(commands, now),
            Command::DeleteSet { key, uid } => self.delete_set(key, *uid),
            Command::OrphanSet { key, uid } => self.orphan_set(key, *uid),
            Command::DeleteNode { name, forget: false } => self.delete_node(name, now),
            Command::DeleteNode { name, forget: true } => self.forget_node(name, now),
            Command::ForgetNode { uid } => self.forget_uid(*uid, now),
            Command::Leave { uid } => self.leave(*uid, now),
            Command::ConfirmDeparture { uid } => self.confirm_departure(*uid, now),
            Command::ChangeNode { name, changes } => self.change_node(name, changes, now),
            Command::Resume { allow_removal } => self.resume(*allow_removal, now),
            Command::Careful(command) => {
                let decision = self.decide_after(command, now, coming)?;
                self.may_remove(std::slice::from_ref(command), now).map(|_| decision)
            }
            Command::ReplacePod { node, key } => self.replace_pod(*node, key),
        }
    }

    fn all(&self, commands: &[Command], now: Now) -> Result<Decision, Refusal> {
        let mut coming = Coming::default();
        let (mut writes, mut outcomes) = (Vec::new(), Vec::new());
        for command in commands {
            let mut decision = self.decide_after(command, now, &coming)?;
            coming.add(&decision.outcome);
            writes.append(&mut decision.writes);
            outcomes.push(decision.outcome);
        }
        within_limits(self.due_once(writes)?, Outcome::All(outcomes))
    }

    /// The `resourceVersion` of what a decision taken now stores.
    pub(crate) fn decided_version(&self) -> u64 {
        self.version + 1
    }
}

/// What commands before, in the same transaction, create.
#[derive(Debug, Default)]
struct Coming {
    namespaces: BTreeSet<String>,
    sets: usize,
    objects: usize,
}

impl Coming {
    fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Set { created: true, .. } => self.sets += 1,
            Outcome::Object { record, created: true, .. } => {
                self.objects += 1;
                if record.key.kind == ObjectKind::Namespace {
                    self.namespaces.insert(record.key.name.clone());
                }
            }
            _ => {}
        }
    }
}

/// Nothing to store.
fn unchanged(outcome: Outcome) -> Decision {
    Decision { writes: Vec::new(), outcome }
}

/// These writes, if they fit into one transaction.
fn within_limits(writes: Vec<Write>, outcome: Outcome) -> Result<Decision, Refusal> {
    use crate::config::{MAX_GRANTS, MAX_WRITES};
    use crate::record::Record;
    if writes.len() > MAX_WRITES {
        return Err(Refusal::TooMany { what: "records changed at once", limit: MAX_WRITES });
    }
    let grants = |write: &Write| match &write.record {
        Some(Record::GrantChunk(_, _, chunk)) => chunk.len(),
        _ => 0,
    };
    if writes.iter().map(grants).sum::<usize>() > MAX_GRANTS {
        return Err(Refusal::TooMany { what: "grants changed at once", limit: MAX_GRANTS });
    }
    Ok(Decision { writes, outcome })
}
