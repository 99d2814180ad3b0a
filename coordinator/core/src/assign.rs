//! Orders: handing out assignments, each once, to nodes that can hear them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use everynode_model::{Assignment, Digest, Generation, NodeUid, Stamp};

use crate::record::NodeStanding;
use crate::seen::Seen;
use crate::view::Order;
use crate::{Changed, Fleet};

/// What was handed out in this reign, and to whom something may be due.
#[derive(Clone, Debug, Default)]
pub(crate) struct Desk {
    handed: BTreeMap<NodeUid, Arc<Order>>,
    /// The newest generations that fleets before this one handed out in the same reign.
    floors: BTreeMap<NodeUid, Generation>,
    /// Nodes whose records changed: their assignment may differ from what was handed out.
    stale: BTreeSet<NodeUid>,
    /// Nodes whose session has just begun: their order is due whether it changed or not.
    greeted: BTreeSet<NodeUid>,
    /// Nodes that are gone from the records, which the store may not have taken yet.
    gone: BTreeSet<NodeUid>,
}

impl Desk {
    pub(crate) fn doubt(&mut self, node: NodeUid) {
        self.stale.insert(node);
    }

    pub(crate) fn greet(&mut self, node: NodeUid) {
        self.greeted.insert(node);
    }

    /// Forgets a node, but for the generations that it was given: if the store does not take its
    /// removal, it is there again and must not be contradicted.
    pub(crate) fn forget(&mut self, node: NodeUid) {
        if let Some(order) = self.handed.remove(&node) {
            self.floors.insert(node, order.stamp.generation);
        }
        self.stale.remove(&node);
        self.greeted.remove(&node);
        self.gone.insert(node);
    }

    /// Takes the place of `former`: what that one handed out may still be on its way, and must not be
    /// contradicted. Where it is still `right`, nothing has to be said anew.
    pub(crate) fn succeed(&mut self, former: Self, right: impl Fn(NodeUid, &Order) -> bool) {
        if mutated!(ForgetGenerations) {
            return;
        }
        self.floors = former.floors;
        for (node, order) in former.handed {
            self.floors.insert(node, order.stamp.generation);
            if right(node, &order) {
                self.handed.insert(node, order);
            }
        }
        self.stale.extend(former.stale);
        self.greeted.extend(former.greeted);
    }

    pub(crate) fn handed(&self) -> &BTreeMap<NodeUid, Arc<Order>> {
        &self.handed
    }

    pub(crate) fn is_due(&self, node: NodeUid) -> bool {
        self.stale.contains(&node) || self.greeted.contains(&node)
    }
}

impl Fleet {
    /// The orders that are due: to connected nodes that belong, whose assignment is another than
    /// the one last handed out in this reign, or whose session has just begun. Each is handed out
    /// once; generations grow by one per node within the term. While orders are held there are none,
    /// and none to a node that people hold; what is due stays due. To be called when everything that was recorded is stored.
    pub fn take_orders(&mut self) -> Vec<(NodeUid, Arc<Order>)> {
        for node in std::mem::take(&mut self.desk.gone) {
            self.desk.floors.remove(&node);
        }
        if self.records.hold.is_some() && !mutated!(OrderWhileHeld) {
            return Vec::new();
        }
        let held =
            |node: &NodeUid| self.records.active(*node).is_some_and(|node| node.order.holds());
        let (held_stale, stale) = std::mem::take(&mut self.desk.stale).into_iter().partition(held);
        let (held_greeted, greeted) =
            std::mem::take(&mut self.desk.greeted).into_iter().partition(held);
        // What is due to a node that is held stays due.
        (self.desk.stale, self.desk.greeted) = (held_stale, held_greeted);
        let (stale, greeted): (BTreeSet<_>, BTreeSet<_>) = (stale, greeted);
        stale.union(&greeted).filter_map(|node| self.hand_out(*node, &greeted)).collect()
    }

    /// The order last handed out to the node in this reign.
    pub fn order_of(&self, node: NodeUid) -> Option<&Arc<Order>> {
        self.desk.handed.get(&node)
    }

    /// What the records say the node must run now; empty where it does not belong.
    pub fn assignment(&self, node: NodeUid) -> Assignment {
        self.records.assignment(node)
    }

    /// What the node is told of that: where its agent can't surge, or knows no labels of its node, nothing
    /// of it. It would compute another digest, and ask for the whole again.
    pub(crate) fn told(&self, node: NodeUid) -> Assignment {
        as_told(self.records.assignment(node), self.seen.get(&node))
    }

    /// Whether the node belongs; `None` where no such node is known. A session tells a leaving or
    /// removed node to tear down, and refuses an unknown one.
    pub fn standing(&self, node: NodeUid) -> Option<NodeStanding> {
        let unknown = mutated!(TearDownUnknown)
            .then_some(NodeStanding::Removed { confirmed_at: self.now.wall });
        self.records.nodes.get(&node).map(|record| record.standing).or(unknown)
    }

    fn hand_out(
        &mut self,
        node: NodeUid,
        greeted: &BTreeSet<NodeUid>,
    ) -> Option<(NodeUid, Arc<Order>)> {
        let connected = self.seen.get(&node).is_some_and(|seen| seen.session.is_some());
        if !connected || (self.records.active(node).is_none() && !mutated!(OrderWhoLeaves)) {
            // Nothing is lost: its next session begins with whatever is right then.
            return None;
        }
        let assignment = match mutated!(OrderNothing) {
            true => Assignment::default(),
            false => self.told(node),
        };
        let digest = assignment.digest();
        let cluster = self.records.cluster;
        let former = self.desk.handed.get(&node);
        if let Some(order) = former
            && order.stamp.digest == digest
        {
            return greeted.contains(&node).then(|| (node, Arc::clone(order)));
        }
        let generation = self.next_generation(node, digest);
        let stamp = Stamp {
            cluster: cluster.id,
            term: cluster.term,
            reign: cluster.reign,
            generation,
            digest,
        };
        let bodies = self.bodies(&assignment);
        let order = Arc::new(Order { stamp, assignment, bodies });
        self.desk.handed.insert(node, Arc::clone(&order));
        self.changed.insert(Changed::Node(node));
        self.touch_places(node);
        Some((node, order))
    }

    /// The generation of the node's next order: above all that this reign handed out to it. What a
    /// restored fleet hands out again is not new if nothing was handed out after it.
    fn next_generation(&self, node: NodeUid, digest: Digest) -> Generation {
        if mutated!(RepeatGenerations) {
            return Generation(1);
        }
        let cluster = self.records.cluster;
        let handed = self.desk.handed.get(&node).map(|order| order.stamp.generation);
        let floor = handed.max(self.desk.floors.get(&node).copied());
        let accepted = self.seen.get(&node).and_then(|seen| seen.acknowledged);
        let accepted = accepted.filter(|stamp| {
            (stamp.cluster, stamp.term, stamp.reign) == (cluster.id, cluster.term, cluster.reign)
        });
        match accepted {
            Some(accepted)
                if handed.is_none()
                    && accepted.digest == digest
                    && floor <= Some(accepted.generation) =>
            {
                accepted.generation
            }
            accepted => {
                floor.max(accepted.map(|stamp| stamp.generation)).unwrap_or_default().next()
            }
        }
    }

    fn bodies(&self, assignment: &Assignment) -> BTreeMap<Digest, Arc<[u8]>> {
        let revision = |item: &everynode_model::Item| {
            self.records.sets.get(&item.set)?.revisions.get(&item.revision)
        };
        let mut bodies = BTreeMap::new();
        for revision in assignment.items().filter_map(revision) {
            bodies.insert(revision.digest, Arc::clone(&revision.body));
            for digest in &revision.blobs {
                let blob = self.records.blobs.get(digest);
                bodies.extend(blob.map(|blob| (*digest, Arc::clone(&blob.0))));
            }
        }
        bodies
    }
}

/// See [`Fleet::told`].
pub(crate) fn as_told(assignment: Assignment, seen: Option<&Seen>) -> Assignment {
    let assignment = match seen.is_some_and(Seen::can_surge) {
        true => assignment,
        false => assignment.without_surge(),
    };
    match seen.is_some_and(Seen::knows_labels) {
        true => assignment,
        false => assignment.without_labels(),
    }
}
