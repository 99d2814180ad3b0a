//! Counting: what one node adds to a DaemonSet's counters, and the sums, kept as nodes change.
//!
//! A [`Cell`] is a pure function of one set's records, one node's records and what that node said;
//! a [`Tally`] is the sum of a set's cells. An event takes out the old cell and puts in the new
//! one, so that it costs what it touches and never a walk over the fleet.

use std::collections::{BTreeMap, BTreeSet};

use everynode_model::NodeUid;

use crate::grants::rank;
use crate::records::Place;
use crate::view::SetStatus;

/// What one node adds to one set's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    /// What the node has to do with the set.
    pub(crate) place: Place,
    /// Whether its grant is an exception.
    pub(crate) exception: bool,
    /// Whether that exception says what the rule says, with no rollout under way.
    pub(crate) redundant: bool,
    /// Whether it reported a pod of the set.
    pub(crate) present: bool,
    /// Whether that pod is ready, and its node not lost.
    pub(crate) ready: bool,
    /// Whether it is of the newest revision.
    pub(crate) updated: bool,
    /// Whether it has been ready long enough.
    pub(crate) available: bool,
    /// Where the node stands in the rollout.
    pub(crate) stand: Stand,
}

/// Where a node stands in a set's rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stand {
    /// It does not take part: it has no place, or runs what is wanted, or is granted that by the
    /// rule and can't be reached.
    #[default]
    Done,
    /// It was granted the target and has not made it available, or no longer: spends the budget,
    /// also where it has gone dark since.
    Moving,
    /// It has the target by the rule, can be reached, and its pod is not available: spends.
    Limping,
    /// It is not on the target, can be reached, and its pod is not available: spends, and is
    /// moved at once since nothing is lost by it.
    Broken,
    /// It is not on the target and its pod is available: is moved when the budget allows.
    Waiting,
    /// It is not on the target and can't be reached: neither spends nor blocks.
    Absent,
}

/// The sum of a set's cells. Nodes that a rollout may move are kept in its order ([`rank`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) status: SetStatus,
    pub(crate) moving: usize,
    pub(crate) limping: usize,
    pub(crate) absent: usize,
    pub(crate) broken: BTreeSet<(u64, NodeUid)>,
    pub(crate) waiting: BTreeSet<(u64, NodeUid)>,
    /// The absent ones whose grant is only the rule's.
    pub(crate) unpinned: BTreeSet<(u64, NodeUid)>,
    /// Nodes whose exception says what the rule says.
    pub(crate) redundant: BTreeSet<(u64, NodeUid)>,
    /// Nodes with an exception and without a place.
    pub(crate) strays: BTreeSet<(u64, NodeUid)>,
    pub(crate) cells: BTreeMap<NodeUid, Cell>,
}

impl Tally {
    /// Puts the node's cell in the place of its former one, which is returned.
    pub(crate) fn replace(&mut self, node: NodeUid, cell: Cell) -> Cell {
        let former = self.cells.remove(&node).unwrap_or_default();
        if former != cell {
            self.count(node, former, false);
            self.count(node, cell, true);
        }
        if cell != Cell::default() {
            self.cells.insert(node, cell);
        }
        former
    }

    /// How many nodes spend the budget.
    pub(crate) fn spending(&self) -> usize {
        self.moving + self.limping + self.broken.len()
    }

    fn count(&mut self, node: NodeUid, cell: Cell, more: bool) {
        let status = &mut self.status;
        let runs = cell.place == Place::Run;
        bump(&mut status.desired, runs, more);
        bump(&mut status.current, runs && cell.present, more);
        bump(&mut status.misscheduled, !runs && cell.present, more);
        bump(&mut status.ready, runs && cell.ready, more);
        bump(&mut status.updated, runs && cell.updated, more);
        bump(&mut status.available, runs && cell.available, more);
        let place = (rank(node), node);
        match cell.stand {
            Stand::Done => {}
            Stand::Moving => step(&mut self.moving, more),
            Stand::Limping => step(&mut self.limping, more),
            Stand::Broken => keep(&mut self.broken, place, more),
            Stand::Waiting => keep(&mut self.waiting, place, more),
            Stand::Absent => {
                step(&mut self.absent, more);
                if !cell.exception {
                    keep(&mut self.unpinned, place, more);
                }
            }
        }
        if cell.redundant {
            keep(&mut self.redundant, place, more);
        }
        if cell.exception && cell.place == Place::None {
            keep(&mut self.strays, place, more);
        }
    }
}

fn bump(counter: &mut u32, counts: bool, more: bool) {
    match (counts, more) {
        (false, _) => {}
        (true, true) => *counter += 1,
        (true, false) => *counter -= 1,
    }
}

fn step(counter: &mut usize, more: bool) {
    if more { *counter += 1 } else { *counter -= 1 }
}

fn keep(nodes: &mut BTreeSet<(u64, NodeUid)>, place: (u64, NodeUid), more: bool) {
    if more { nodes.insert(place) } else { nodes.remove(&place) };
}
