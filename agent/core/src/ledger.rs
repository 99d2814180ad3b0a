//! What an agent keeps on disk: who it is, the last order it accepted, and whether it is leaving.
//!
//! It holds decisions only. What runs is found out by looking; a local restart writes nothing.

use std::collections::BTreeMap;

use everynode_model::{Assignment, ClusterId, NodeUid, PodKey, SessionNonce, Stamp};

/// The ledger's contents. How they look on disk is the shell's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// The cluster this machine belongs to.
    pub cluster: ClusterId,
    /// Who it is there.
    pub node: NodeUid,
    /// Whether it stays.
    pub standing: Standing,
    /// The newest order accepted; `None` before the first.
    pub accepted: Option<Stamp>,
    /// That order's content.
    pub assignment: Assignment,
    /// Which runtime holds each place, so that a death is confirmed where the life was. Entries
    /// outlive their item until the place was seen empty.
    pub places: BTreeMap<PodKey, String>,
    /// The newest session's mark: tells a stale copy of this ledger from the original.
    pub session: Option<SessionNonce>,
}

/// Whether a machine belongs to its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Active,
    /// It is tearing down; nothing starts any more, whatever else is ordered.
    Leaving(Departure),
    /// It is empty and has said so, or was told that nobody waits to hear it.
    Left,
}

/// Who wants a machine to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// Its coordinator: the node was deleted.
    Deregistered,
    /// Somebody at the machine.
    Requested,
}

impl Ledger {
    /// The ledger of a machine that has just joined.
    pub fn joined(cluster: ClusterId, node: NodeUid) -> Self {
        Self {
            cluster,
            node,
            standing: Standing::Active,
            accepted: None,
            assignment: Assignment::default(),
            places: BTreeMap::new(),
            session: None,
        }
    }
}
