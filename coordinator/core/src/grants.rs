//! Grants as they are stored: a rule for all nodes, and exceptions in 64 chunks.
//!
//! A node's grant is its exception, or else the rule: the head's `stable` revision, replaced
//! never. An exception is kept only for a node that has a place for the set:
//!
//! - placement says *run*: the exception is what the node was granted;
//! - placement says only *keep* (a `NoSchedule` taint that came later): the exception also is the
//!   durable mark that the node had the pod before. Without it, it has none. It ends with the
//!   place: with the label, with a `NoExecute` taint, or with `delete pod`.
//!
//! The place of a node on the line from 0 to `u64::MAX` ([`rank`]) is also the order of rollouts,
//! and its first six bits are the chunk: a rollout goes chunk by chunk and rewrites few of them.

use std::collections::BTreeMap;

use everynode_model::{Digest, NodeUid, SetUid};

use crate::config::{MAX_GRANTS, MAX_WRITES};
use crate::record::{Grant, Record, RecordKey, Write};
use crate::records::SetRecords;

/// A chunk of exceptions.
pub(crate) type Chunk = BTreeMap<NodeUid, Grant>;

/// A node's place in the order of rollouts: stable, and spread evenly.
pub(crate) fn rank(node: NodeUid) -> u64 {
    Digest::of(node.uuid().as_bytes()).leading_u64()
}

/// The chunk that a node's exception is in: 0 to 63.
pub(crate) fn bucket(node: NodeUid) -> u8 {
    // Six bits are left of the shift, so that nothing is cut off.
    u8::try_from(rank(node) >> 58).unwrap_or(0)
}

/// Changed chunks of one set, collected until they are written together.
pub(crate) struct ChunkEdits<'a> {
    set: SetUid,
    stored: &'a BTreeMap<u8, Chunk>,
    edited: BTreeMap<u8, Chunk>,
}

impl<'a> ChunkEdits<'a> {
    pub(crate) fn new(set: SetUid, records: &'a SetRecords) -> Self {
        Self { set, stored: &records.chunks, edited: BTreeMap::new() }
    }

    /// Gives the node an exception, or takes it away.
    pub(crate) fn set(&mut self, node: NodeUid, grant: Option<Grant>) {
        let chunk = self.chunk(bucket(node));
        match grant {
            Some(grant) => chunk.insert(node, grant),
            None => chunk.remove(&node),
        };
    }

    /// Whether one more node can be edited within what one transaction may hold.
    pub(crate) fn has_room_for(&self, node: NodeUid) -> bool {
        let number = bucket(node);
        if self.edited.is_empty() {
            return true;
        }
        let new = if self.edited.contains_key(&number) {
            1
        } else {
            self.stored.get(&number).map_or(0, Chunk::len) + 1
        };
        self.grants() + new <= MAX_GRANTS && self.edited.len() < MAX_WRITES
    }

    /// How many grants the edited chunks hold.
    pub(crate) fn grants(&self) -> usize {
        self.edited.values().map(Chunk::len).sum()
    }

    /// The writes: only chunks that differ from what is stored.
    pub(crate) fn into_writes(self) -> Vec<Write> {
        let Self { set, stored, edited } = self;
        let empty = Chunk::new();
        let changed = |(number, chunk): &(u8, Chunk)| stored.get(number).unwrap_or(&empty) != chunk;
        let write = |(number, chunk): (u8, Chunk)| match chunk.is_empty() {
            true => Write::delete(RecordKey::GrantChunk(set, number)),
            false => Write::put(Record::GrantChunk(set, number, chunk)),
        };
        edited.into_iter().filter(changed).map(write).collect()
    }

    fn chunk(&mut self, number: u8) -> &mut Chunk {
        let stored = self.stored;
        let load = || stored.get(&number).cloned().unwrap_or_default();
        self.edited.entry(number).or_insert_with(load)
    }
}
