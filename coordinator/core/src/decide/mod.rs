//! From a command to writes, or to a refusal with a name. Nothing changes here.

mod join;
mod nodes;
mod orders;
mod places;
mod resume;
mod sets;
mod tokens;

use everynode_model::Now;

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
        match command {
            Command::Join { .. } => self.join(command, now),
            Command::CreateToken(token) => self.create_token(token),
            Command::RevokeToken { id } => self.revoke_token(id),
            Command::PutSet { .. } => self.put_set(command, now),
            Command::DeleteSet { key, uid } => self.delete_set(key, *uid),
            Command::DeleteNode { name, forget: false } => self.delete_node(name, now),
            Command::DeleteNode { name, forget: true } => self.forget_node(name, now),
            Command::ForgetNode { uid } => self.forget_uid(*uid, now),
            Command::Leave { uid } => self.leave(*uid, now),
            Command::ConfirmDeparture { uid } => self.confirm_departure(*uid, now),
            Command::ChangeNode { name, changes } => self.change_node(name, changes, now),
            Command::Resume { allow_removal } => self.resume(*allow_removal, now),
            Command::Careful(command) => {
                let decision = self.decide(command, now)?;
                self.may_remove(std::slice::from_ref(command), now).map(|_| decision)
            }
            Command::ReplacePod { node, key } => self.replace_pod(*node, key),
        }
    }

    /// The `resourceVersion` of what a decision taken now stores.
    pub(crate) fn decided_version(&self) -> u64 {
        self.version + 1
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
