//! Who is there: leases, and the window in which nodes may call after a coordinator began to lead.
//!
//! ```text
//!              heard of                    lease has run out
//!   Unknown ───────────────▶ Ready ──────────────────────────▶ Lost
//!      │                       ▲                                 │
//!      │                       └───────────── heard of ──────────┘
//!      └─────────── registration window has passed ──────────────▶
//! ```
//!
//! Heartbeats never come here: the session layer keeps the time of the last one per node, and is
//! asked only when a deadline passes. A silent session does not keep a node ready; a lease does.
//! Nothing ever follows from being lost: it is shown, and rollouts take heed of it.

use std::time::Duration;

use everynode_model::{NodeUid, Now, PodKey, Timestamp};

use crate::record::{EventType, NodeStanding, Record, Write};
use crate::seen::Seen;
use crate::view::Readiness;
use crate::{Changed, Fleet};

impl Fleet {
    /// Looks at every lease that is due and at every pod that has been ready long enough by now.
    ///
    /// `last_heard` says when a node was last heard of in any way, by the same steady clock; it is
    /// asked only of nodes whose deadline has passed. Returns the events to store.
    #[must_use = "the events must be stored and recorded"]
    pub fn tick(
        &mut self,
        now: Now,
        last_heard: &dyn Fn(NodeUid) -> Option<Timestamp>,
    ) -> Vec<Write> {
        self.advance(now);
        while let Some(&(deadline, node)) = self.leases.first()
            && deadline <= self.now.steady
        {
            self.look_at_lease(node, last_heard(node));
        }
        while let Some((ripens, _, _)) = self.ripening.first()
            && *ripens <= self.now.steady
            && let Some((_, node, key)) = self.ripening.pop_first()
        {
            self.ripen(node, &key);
        }
        let mut writes = self.end_tolerations();
        writes.extend(self.events.take_writes());
        if mutated!(StoreHeartbeats) {
            writes.push(Write::put(Record::Cluster(self.records.cluster)));
        }
        writes
    }

    /// The shell was frozen for longer than one heartbeat interval: what it missed meanwhile says
    /// nothing about the nodes. The registration window begins anew, and no lease ends before it
    /// could be renewed.
    pub fn frozen(&mut self, now: Now) {
        self.advance(now);
        self.window_ends = self.now.steady.after(self.config.registration_window);
        self.restart_clocks();
        let earliest = self.now.steady.after(self.config.lease);
        let overdue = |(deadline, _): &&(Timestamp, NodeUid)| *deadline < earliest;
        let early: Vec<_> = self.leases.iter().take_while(overdue).copied().collect();
        for (_, node) in early {
            self.set_deadline(node, earliest);
        }
    }

    /// The earliest time at which [`Fleet::tick`] or [`Fleet::step`] may have something to do
    /// although nothing happens; `None` where they never will.
    pub fn wake_at(&self) -> Option<Timestamp> {
        let lease = self.leases.first().map(|(deadline, _)| *deadline);
        let ripens = self.ripening.first().map(|(ripens, _, _)| *ripens);
        let window = Some(self.window_ends).filter(|ends| *ends > self.now.steady);
        let (tolerated, clocks) = (self.tolerations.wake_at(), self.clocks_wake_at());
        let unused = self.unused.wake_at().filter(|_| self.records.hold.is_none());
        let all = [lease, ripens, window, tolerated, clocks, self.hold_ends(), unused];
        all.into_iter().flatten().min()
    }

    /// When the first hold of a node ends by itself: so far from now as the wall clock says.
    fn hold_ends(&self) -> Option<Timestamp> {
        let (until, _) = self.records.holds.first().filter(|_| self.records.hold.is_none())?;
        let left = until.unix_millis.saturating_sub(self.now.wall.unix_millis);
        Some(self.now.steady.after(Duration::from_millis(u64::try_from(left).unwrap_or(0))))
    }

    /// Whether this coordinator has led for long enough to tell who is away.
    pub(crate) fn window_has_passed(&self) -> bool {
        self.now.steady >= self.window_ends
    }

    /// The node is heard of now.
    pub(crate) fn heard(&mut self, node: NodeUid) {
        let now = self.now.steady;
        if let Some(seen) = self.seen.get_mut(&node) {
            seen.heard = Some(now);
            self.set_deadline(node, now.after(self.config.lease));
            self.set_readiness(node, Readiness::Ready);
        }
    }

    /// Keeps a node's entry of what was seen while its record says that it may call.
    pub(crate) fn follow_standing(&mut self, node: NodeUid) {
        let standing = self.records.nodes.get(&node).map(|record| record.standing);
        match standing {
            Some(NodeStanding::Active | NodeStanding::Leaving { .. }) => {
                if !self.seen.contains_key(&node) {
                    let deadline = self.now.steady.after(self.config.registration_window);
                    self.seen.insert(node, Seen::new(deadline));
                    self.leases.insert((deadline, node));
                }
            }
            Some(NodeStanding::Removed { .. }) | None => self.forget_seen(node),
        }
    }

    /// Takes over what a fleet before this one has seen of a node; `leased` where that one had a
    /// deadline to look at.
    pub(crate) fn go_on_from(&mut self, node: NodeUid, mut seen: Seen, leased: bool) {
        if let Some(own) = self.seen.get(&node) {
            self.leases.remove(&(own.deadline, node));
        }
        if leased {
            self.leases.insert((seen.deadline, node));
        }
        // They are found again when the node is counted anew.
        seen.places.values_mut().for_each(|place| place.ripens = None);
        for key in seen.places.keys() {
            self.reported.entry(key.clone()).or_default().insert(node);
        }
        self.seen.insert(node, seen);
    }

    fn look_at_lease(&mut self, node: NodeUid, told: Option<Timestamp>) {
        let now = self.now.steady;
        let Some(seen) = self.seen.get_mut(&node) else { return };
        seen.heard = seen.heard.max(told);
        let ends = seen.heard.map(|heard| heard.after(self.config.lease));
        if mutated!(NeverLose) {
            return self.set_deadline(node, now.after(self.config.lease));
        }
        match (ends, seen.session, seen.heard) {
            (Some(ends), _, _) if ends > now => {
                self.set_deadline(node, ends);
                self.set_readiness(node, Readiness::Ready);
            }
            // A session that fell silent may find its voice again, and no event would say so.
            (_, Some(_), since) => {
                self.set_deadline(node, now.after(self.config.heartbeat_interval));
                self.set_readiness(node, Readiness::Lost { since });
            }
            (_, None, since) => {
                let deadline = seen.deadline;
                self.leases.remove(&(deadline, node));
                self.set_readiness(node, Readiness::Lost { since });
            }
        }
    }

    fn set_deadline(&mut self, node: NodeUid, deadline: Timestamp) {
        if let Some(seen) = self.seen.get_mut(&node) {
            self.leases.remove(&(seen.deadline, node));
            seen.deadline = deadline;
            if !mutated!(ForgetDeadline) {
                self.leases.insert((deadline, node));
            }
        }
    }

    fn set_readiness(&mut self, node: NodeUid, readiness: Readiness) {
        let Some(seen) = self.seen.get(&node) else { return };
        let former = seen.readiness;
        if former == readiness {
            return;
        }
        let version = self.next_version();
        if let Some(seen) = self.seen.get_mut(&node) {
            seen.readiness = readiness;
            seen.version = version;
        }
        self.changed.insert(Changed::Node(node));
        self.touch_places(node);
        self.refresh_node(node);
        self.tell_readiness(node, former, readiness);
    }

    fn tell_readiness(&mut self, node: NodeUid, former: Readiness, readiness: Readiness) {
        let Some(record) = self.records.active(node) else { return };
        let (about, name) = (crate::events::about_node(record), record.name.clone());
        match (former, readiness) {
            (Readiness::Lost { .. }, Readiness::Ready) => {
                let message = format!("Node {name} is heard of again");
                self.tell(about, EventType::Normal, "NodeReady", &message);
            }
            (Readiness::Ready | Readiness::Unknown, Readiness::Lost { .. }) => {
                let message =
                    format!("Node {name} has not been heard of for longer than its lease");
                self.tell(about, EventType::Warning, "NodeNotReady", &message);
            }
            _ => {}
        }
    }

    fn ripen(&mut self, node: NodeUid, key: &PodKey) {
        let place = self.seen.get_mut(&node).and_then(|seen| seen.places.get_mut(key));
        if let Some(place) = place {
            place.ripens = None;
            self.refresh(node, key);
            self.changed.insert(Changed::Pod(node, key.clone()));
        }
    }

    fn forget_seen(&mut self, node: NodeUid) {
        self.touch_places(node);
        if let Some(seen) = self.seen.remove(&node) {
            self.leases.remove(&(seen.deadline, node));
            for (key, place) in seen.places {
                self.unindex_place(node, &key);
                place.printed.into_iter().for_each(|number| self.tails.give_back(number));
                if let Some(ripens) = place.ripens {
                    self.ripening.remove(&(ripens, node, key));
                }
            }
        }
        self.desk.forget(node);
    }
}
