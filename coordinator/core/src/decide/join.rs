//! A machine joins.

use std::collections::BTreeMap;

use everynode_model::{NodeName, Now};

use super::places::exception_after;
use super::{Fleet, unchanged, within_limits};
use crate::command::{Command, Decision, Outcome, Refusal};
use crate::config::{MAX_GRANTS, MAX_WRITES};
use crate::events::about_node;
use crate::grants::{ChunkEdits, bucket};
use crate::record::{EventType, NodeOrder, NodeRecord, NodeStanding, Record, TokenRecord, Write};
use crate::records::join_mark;

/// The label that every node has, as in Kubernetes.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// How many writes of a join are kept for the node, its token, a predecessor and events.
const OTHER_WRITES: usize = 10;

impl Fleet {
    pub(super) fn join(&self, command: &Command, now: Now) -> Result<Decision, Refusal> {
        let Command::Join { token_id, token_secret, name, public_key, .. } = command else {
            return Ok(unchanged(Outcome::Done));
        };
        let token = self.records.tokens.get(token_id);
        let token =
            token.filter(|token| token.secret == *token_secret).ok_or(Refusal::TokenInvalid)?;
        let known = self.records.joins.get(&join_mark(token_id, *public_key));
        if let Some(node) = known.and_then(|uid| self.records.active(*uid)) {
            // The answer was lost, and perhaps the token has ended since: it has joined all the same.
            return Ok(unchanged(Outcome::Joined(Box::new(NodeRecord::clone(node)))));
        }
        token_allows(token, name, now)?;
        let node = self.new_node(command, now)?;
        let mut writes = self.predecessor_leaves(token, name, now)?;
        if let Some(uses) = token.uses_left {
            let uses_left = Some(uses.saturating_sub(u32::from(!mutated!(SpendNoToken))));
            writes.push(Write::put(Record::Token(TokenRecord { uses_left, ..token.clone() })));
        }
        writes.push(Write::put(Record::Node(node.clone())));
        writes.extend(self.join_events(&node, now));
        writes.extend(self.newcomer_grants(&node));
        within_limits(writes, Outcome::Joined(Box::new(node)))
    }

    fn new_node(&self, command: &Command, now: Now) -> Result<NodeRecord, Refusal> {
        let Command::Join { token_id, uid, name, public_key, machine_id, labels, taints, .. } =
            command
        else {
            return Err(Refusal::TokenInvalid);
        };
        if self.records.nodes.contains_key(uid) {
            let detail = "its uid was given to another node".to_owned();
            return Err(Refusal::Conflict { what: format!("nodes {name:?}"), detail });
        }
        if self.records.nodes.len() >= self.config.max_nodes {
            return Err(Refusal::TooMany { what: "nodes", limit: self.config.max_nodes });
        }
        let mut all_labels = labels.clone();
        all_labels.entry(HOSTNAME.to_owned()).or_insert_with(|| name.to_string());
        Ok(NodeRecord {
            uid: *uid,
            name: name.clone(),
            standing: NodeStanding::Active,
            labels: all_labels,
            taints: taints.clone(),
            stood: BTreeMap::new(),
            joined_labels: labels.clone(),
            public_key: *public_key,
            machine_id: machine_id.clone(),
            token_id: token_id.clone(),
            joined_at: now.wall,
            unschedulable: false,
            order: NodeOrder::None,
            granted: BTreeMap::new(),
            resource_version: self.decided_version(),
        })
    }

    /// A node that has the name must give way, if the token says so: it is a re-imaged machine's
    /// former self.
    fn predecessor_leaves(
        &self,
        token: &TokenRecord,
        name: &NodeName,
        now: Now,
    ) -> Result<Vec<Write>, Refusal> {
        let holder = self.records.names.get(name).and_then(|uid| self.records.active(*uid));
        match holder {
            None => Ok(Vec::new()),
            Some(_) if mutated!(TakeNameTwice) => Ok(Vec::new()),
            Some(former)
                if (token.replace && token.node_name.as_ref() == Some(name))
                    || mutated!(ReplaceUnasked) =>
            {
                Ok(vec![Write::put(Record::Node(self.leaving(former, now)))])
            }
            Some(_) => Err(Refusal::NameTaken { name: name.clone() }),
        }
    }

    fn join_events(&self, node: &NodeRecord, now: Now) -> Vec<Write> {
        let twin = self.records.machines.get(&node.machine_id);
        let twin = twin
            .and_then(|uid| self.records.active(*uid))
            .filter(|twin| !node.machine_id.is_empty() && twin.name != node.name);
        let about = || about_node(node);
        match twin {
            // One event is enough: the warning says that it has joined, too.
            Some(twin) => {
                let message = format!(
                    "Node {} joined with the machine id of node {}: one may be a copy of the other",
                    node.name, twin.name
                );
                self.events.draft(
                    about(),
                    EventType::Warning,
                    "DuplicateMachineId",
                    &message,
                    now.wall,
                )
            }
            None => {
                let message = format!("Node {} joined", node.name);
                self.events.draft(about(), EventType::Normal, "RegisteredNode", &message, now.wall)
            }
        }
    }

    /// Exceptions for sets whose new nodes do not get what the rule says. As many as fit: a node
    /// that can't have one gets the rule's revision rather than none.
    fn newcomer_grants(&self, node: &NodeRecord) -> Vec<Write> {
        let mut writes = Vec::new();
        let mut grants = 0;
        for (uid, records) in &self.records.sets {
            let (Some(record), Some(head)) = (&records.record, &records.head) else { continue };
            let exception = exception_after(records, None, &record.set, head.target, node);
            let weight = records.chunks.get(&bucket(node.uid)).map_or(1, |chunk| chunk.len() + 1);
            if let Some(exception) = exception
                && writes.len() < MAX_WRITES - OTHER_WRITES
                && grants + weight <= MAX_GRANTS
            {
                let mut edits = ChunkEdits::new(*uid, records);
                edits.set(node.uid, exception);
                grants += edits.grants();
                writes.extend(edits.into_writes());
            }
        }
        writes
    }
}

fn token_allows(token: &TokenRecord, name: &NodeName, now: Now) -> Result<(), Refusal> {
    if token.expires_at <= now.wall {
        return Err(Refusal::TokenExpired);
    }
    if token.uses_left == Some(0) {
        return Err(Refusal::TokenUsedUp);
    }
    match &token.node_name {
        Some(only) if only != name => Err(Refusal::TokenForOtherNode { name: only.clone() }),
        _ => Ok(()),
    }
}
