//! Counting: what one node adds to a DaemonSet's counters, and the sums, kept as nodes change.
//!
//! A [`Cell`] is a pure function of one set's records, one node's records and what that node said;
//! a [`Tally`] is the sum of a set's cells. An event takes out the old cell and puts in the new
//! one, so that it costs what it touches and never a walk over the fleet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use everynode_model::{CanaryWait, Digest, NodeUid, PodStatus, RolloutPolicy, SetUid, Timestamp};

use crate::Fleet;
use crate::grants::rank;
use crate::record::{Grant, GrantHead, NodeRecord};
use crate::records::{Place, SetRecords};
use crate::seen::is_ready;
use crate::stage::is_past_canaries;
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
    /// Whether the node can be reached.
    pub(crate) reachable: bool,
    /// Whether it reported a pod of the set.
    pub(crate) present: bool,
    /// Whether that pod is ready, and its node not lost.
    pub(crate) ready: bool,
    /// Whether it is of the newest revision.
    pub(crate) updated: bool,
    /// Whether it has been ready long enough.
    pub(crate) available: bool,
    /// Whether orders are held and its grant is to follow what it runs.
    pub(crate) astray: bool,
    /// Whether it may be among those that go first.
    pub(crate) canary: bool,
    /// Whether it runs the target or is to, whichever rollout said so.
    pub(crate) moved: bool,
    /// Where the node stands in the rollout.
    pub(crate) stand: Stand,
    /// Whether it is on its way, and an available pod serves until the one that it is granted takes over.
    pub(crate) surging: bool,
    /// Of a canary whose pod of the target is available: when that will have been so for as long as
    /// canaries are watched.
    pub(crate) proven: Option<Timestamp>,
}

/// Where a node stands in a set's rollout. The goal is the target, or where a failed rollout goes back
/// to ([`GrantHead::goal`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stand {
    /// It does not take part: it has no place, or runs what is wanted, or is granted that by the
    /// rule or by a former rollout and can't be reached.
    #[default]
    Done,
    /// It was granted the target by this rollout and has not made it available, or no longer:
    /// spends the budget, also where it has gone dark since.
    Moving,
    /// It has the goal by the rule, by a former rollout or because it was sent back, can be reached,
    /// and its pod is not available: spends.
    Limping,
    /// It is not on the goal, can be reached, and its pod is not available, or is the old one of two whose
    /// new one is not the goal's either: spends, and is moved at once since nothing is lost by it.
    Broken,
    /// It is not on the goal, and nothing is lost by moving it at once; spends nothing. Its pod is an
    /// available one of the goal already; or it was granted what has failed, or was given up by an undo, and
    /// is out of reach, held or stopped, so that it must not start that when it returns.
    Recalled,
    /// It is not on the goal and its pod is available: is moved when the budget allows.
    Waiting,
    /// It is not on the goal and can't be reached, or its agent can't surge and it would lose its available
    /// pod: neither spends nor blocks.
    Absent,
    /// Somebody at the machine holds its pod, or people hold the whole node, and it is not an
    /// available one of the goal; or the node is stopped. It says no until it is released or
    /// started, and is as one that is absent, whatever it was granted.
    Held,
}

/// A node's place in the order of a rollout: whether it is no canary, its [`rank`], its uid.
pub(crate) type Turn = (bool, u64, NodeUid);

/// The sum of a set's cells. Nodes that a rollout may move are kept in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) status: SetStatus,
    /// Of the desired nodes, those that can be reached.
    pub(crate) reachable: usize,
    /// Of the desired nodes, those that may be canaries.
    pub(crate) canaries: usize,
    /// Those that run the target or are to.
    pub(crate) moved: usize,
    /// Of the moved, the canaries that can show what it is worth: none that are held, or have been out
    /// of reach since a former rollout.
    pub(crate) moved_canaries: usize,
    /// Of these, those with an available pod of the target.
    pub(crate) done_canaries: usize,
    /// When each of these will have been watched for long enough.
    pub(crate) proven: BTreeSet<(Timestamp, NodeUid)>,
    /// Of the moved, those with an available pod of the target.
    pub(crate) done: usize,
    pub(crate) moving: usize,
    pub(crate) limping: usize,
    /// Of those that spend, those with an available pod that serves meanwhile.
    pub(crate) surging: usize,
    pub(crate) absent: usize,
    pub(crate) held: usize,
    pub(crate) recalled: BTreeSet<Turn>,
    pub(crate) broken: BTreeSet<Turn>,
    pub(crate) waiting: BTreeSet<Turn>,
    /// The absent and the held ones whose grant is only the rule's.
    pub(crate) unpinned: BTreeSet<Turn>,
    /// Nodes whose exception says what the rule says.
    pub(crate) redundant: BTreeSet<Turn>,
    /// Nodes with an exception and without a place.
    pub(crate) strays: BTreeSet<Turn>,
    /// Nodes whose grant is to follow what they run, while orders are held.
    pub(crate) astray: BTreeSet<Turn>,
    pub(crate) cells: BTreeMap<NodeUid, Cell>,
}

impl Cell {
    /// Whether it was moved, and what becomes of it there says something about the target.
    pub(crate) const fn shows_the_target(&self) -> bool {
        match self.stand {
            Stand::Moving | Stand::Limping => self.moved,
            Stand::Done => self.moved && self.available,
            _ => false,
        }
    }
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

    /// How many nodes that can be reached, or were moved, have no available pod.
    pub(crate) fn lacking(&self) -> usize {
        self.spending() - self.surging
    }

    /// How many nodes that take part do not run what the rollout leads to.
    pub(crate) fn to_move(&self) -> usize {
        self.recalled.len() + self.waiting.len() + self.broken.len() + self.moving
    }

    /// Whether nobody who takes part can show what the target is worth: it was tried nowhere.
    pub(crate) fn is_untried(&self) -> bool {
        self.status.desired > 0 && self.done + self.limping == 0
    }

    /// Whether no node can be reached, not even one that was left as it was: then it is the way there
    /// that is cut.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.reachable == 0 && self.absent > 0
    }

    /// Whatever else conditions and reasons are made of.
    pub(crate) fn counts(&self) -> impl PartialEq + use<> {
        let moved = [self.moved, self.moved_canaries, self.done, self.done_canaries, self.surging];
        let sums = [self.canaries, self.held, self.limping, self.absent, self.recalled.len()];
        (moved, sums, self.moving, self.broken.len(), self.waiting.len())
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
        let done = cell.moved && cell.updated && cell.available;
        let canary = cell.canary && cell.shows_the_target();
        let sums = [
            (&mut self.reachable, cell.reachable),
            (&mut self.canaries, cell.canary),
            (&mut self.moved, cell.moved),
            (&mut self.moved_canaries, canary),
            (&mut self.done, done),
            (&mut self.done_canaries, canary && done),
            (&mut self.surging, cell.surging),
        ];
        for (sum, counts) in sums {
            if runs && counts {
                step(sum, more);
            }
        }
        match (cell.proven.filter(|_| canary && done), more) {
            (Some(at), true) => _ = self.proven.insert((at, node)),
            (Some(at), false) => _ = self.proven.remove(&(at, node)),
            (None, _) => {}
        }
        let place = (!cell.canary, rank(node), node);
        match cell.stand {
            Stand::Done => {}
            Stand::Moving => step(&mut self.moving, more),
            Stand::Limping => step(&mut self.limping, more),
            Stand::Broken => keep(&mut self.broken, place, more),
            Stand::Recalled => keep(&mut self.recalled, place, more),
            Stand::Waiting => keep(&mut self.waiting, place, more),
            Stand::Absent | Stand::Held => {
                let held = cell.stand == Stand::Held;
                step(if held { &mut self.held } else { &mut self.absent }, more);
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
        if cell.astray {
            keep(&mut self.astray, place, more);
        }
    }
}

impl Fleet {
    /// What the node adds to the set's counters now, and when that will change by itself.
    pub(crate) fn cell(
        &self,
        records: &SetRecords,
        set: SetUid,
        node: NodeUid,
    ) -> (Cell, Option<Timestamp>) {
        let exception = records.exception(node).is_some();
        let nothing = (Cell { exception, ..Cell::default() }, None);
        let (Some(record), Some(head)) = (&records.record, &records.head) else { return nothing };
        let (Some(active), Some(seen)) = (self.records.active(node), self.seen.get(&node)) else {
            return nothing;
        };
        let policy = &record.set.rollout;
        let (grant, goal) = (records.grant(node), head.goal(&record.set));
        let place = records.place(active);
        let seen_place = seen.places.get(&record.set.key);
        let pod = seen_place.and_then(|place| place.pod_of(set));
        let ready = seen.is_ready() && pod.is_some_and(is_ready);
        let ripe = seen_place
            .zip(pod)
            .filter(|_| ready)
            .map(|(place, pod)| place.available_at(pod, record.set.min_ready));
        let available = ripe.is_some_and(|ripe| ripe <= self.now.steady);
        let as_granted = pod.zip(grant).is_some_and(|(pod, grant)| {
            (pod.revision, pod.replace) == (grant.revision, grant.replace)
        });
        let granted = grant.map(|grant| grant.revision);
        // Its pod reads labels that say something else by now: it is to be granted anew, once it can be
        // reached. Until then it stands where it stood: what was granted and went dark stays so.
        let behind = seen.is_ready() && records.is_behind(active);
        let moved = granted == Some(head.target) && !behind;
        let on_goal = granted == Some(goal) && !behind;
        let held = active.order.holds() || pod.is_some_and(PodStatus::is_held);
        let out_of_hand = !seen.is_ready() || active.order.stops() || (held && !as_granted);
        let on_it = available && pod.is_some_and(|pod| pod.revision == goal) && !behind;
        let given_up = grant.is_some_and(|grant| head.has_given_up(grant));
        let recalled = on_it || ((moved || given_up) && out_of_hand);
        // What has failed is left by everybody, also where a pod is lost by it.
        let cannot_surge = !moved && records.surges() && !seen.can_surge();
        let two = available && !as_granted && grant.is_some_and(|grant| grant.surge);
        let stand = match (place, on_goal) {
            (Place::None | Place::Keep, _) => Stand::Done,
            (Place::Run, false) if recalled => Stand::Recalled,
            (Place::Run, _) if active.order.stops() => Stand::Held,
            (Place::Run, true) if available && as_granted => Stand::Done,
            // Also where it has gone dark since: it is no failure of what it was granted.
            (Place::Run, _) if held => Stand::Held,
            (Place::Run, true) => short_of_goal(head, grant, seen.is_ready()),
            (Place::Run, false) if !seen.is_ready() => Stand::Absent,
            (Place::Run, false) if two && records.surges() => Stand::Broken,
            (Place::Run, false) if available && cannot_surge => Stand::Absent,
            (Place::Run, false) if available => Stand::Waiting,
            (Place::Run, false) => Stand::Broken,
        };
        let watched = watched_for(policy, head).filter(|_| moved && available);
        let on_its_way = matches!(stand, Stand::Moving | Stand::Limping | Stand::Broken);
        let cell = Cell {
            place,
            exception,
            redundant: exception && place == Place::Run && is_redundant(head, goal, grant),
            reachable: seen.is_ready(),
            present: pod.is_some(),
            ready,
            updated: pod.is_some_and(|pod| pod.revision == head.target)
                && (as_granted || !moved)
                && !behind,
            available,
            astray: self.followed(records, active, seen).is_some(),
            canary: place == Place::Run && is_canary(policy, active),
            moved,
            stand,
            surging: on_its_way && two,
            proven: seen_place.zip(pod).zip(watched).map(|((place, pod), watched)| {
                place.available_at(pod, record.set.min_ready.saturating_add(watched))
            }),
        };
        (cell, ripe.filter(|ripe| *ripe > self.now.steady))
    }
}

/// Whether the node may be among those that go first; with no canaries asked for, all are alike.
fn is_canary(policy: &RolloutPolicy, node: &NodeRecord) -> bool {
    let selector = policy.canary.as_ref().and_then(|canary| canary.selector.as_ref());
    selector.is_none_or(|selector| selector.matches(&node.labels))
}

/// For how long canaries are watched before the others follow by themselves; `None` where nobody waits
/// for that.
fn watched_for(policy: &RolloutPolicy, head: &GrantHead) -> Option<Duration> {
    match policy.canary.as_ref().filter(|_| !is_past_canaries(head))?.wait {
        CanaryWait::For(time) => Some(time),
        CanaryWait::Manual => None,
    }
}

/// Where a node stands that has the goal and not, or no longer, an available pod of it.
fn short_of_goal(head: &GrantHead, grant: Option<Grant>, reachable: bool) -> Stand {
    // A rollout ends when all that it granted is available: what happens later is no fault of it.
    let stepped = head.takes_steps() && grant.is_some_and(|grant| grant.rollout == head.rollout);
    match (stepped, reachable) {
        (true, false) if mutated!(TakeDarkForAway) => Stand::Done,
        (true, _) => Stand::Moving,
        (false, true) => Stand::Limping,
        (false, false) => Stand::Done,
    }
}

/// Whether a grant says what the rule says, with nothing to be moved elsewhere.
fn is_redundant(head: &GrantHead, goal: Digest, grant: Option<Grant>) -> bool {
    let rule = |grant: Grant| (grant.revision, grant.replace) == (goal, 0);
    head.stable == Some(goal) && grant.is_some_and(rule)
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

fn keep(nodes: &mut BTreeSet<Turn>, place: Turn, more: bool) {
    if more {
        nodes.insert(place)
    } else {
        nodes.remove(&place)
    };
}
