//! What is known of a node by what its agent said. Never stored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use everynode_model::{
    NODE_LABELS_FEATURE, NodeUid, PodKey, PodPhase, PodStatus, Reason, SURGE_FEATURE, SessionNonce,
    SetUid, Stamp, Timestamp, carry_log_tails,
};

use crate::copies::Marks;
use crate::observe::{Hello, Observation};
use crate::record::{Grant, NodeStanding};
use crate::view::Readiness;
use crate::{Changed, Fleet};

/// What is known of a node by what its agent said.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) readiness: Readiness,
    /// When its lease is to be looked at; it is in the fleet's ordered set under this time.
    pub(crate) deadline: Timestamp,
    /// When it was last heard of, as far as the core was told.
    pub(crate) heard: Option<Timestamp>,
    /// The session it has now.
    pub(crate) session: Option<SessionNonce>,
    /// Of the sessions it had: tells a copy of its ledger.
    pub(crate) marks: Marks,
    /// What it said first, without its places.
    pub(crate) hello: Option<Arc<Hello>>,
    pub(crate) acknowledged: Option<Stamp>,
    /// The order that it refused last, and why.
    pub(crate) refused: Option<(Stamp, Reason)>,
    pub(crate) places: BTreeMap<PodKey, SeenPlace>,
    /// The `resourceVersion` of the last change of the above that is shown of the node itself.
    pub(crate) version: u64,
}

/// One place of a node as it was last reported.
#[derive(Clone, Debug)]
pub(crate) struct SeenPlace {
    pub(crate) pods: Box<[PodStatus]>,
    /// When the report came in.
    pub(crate) at: Timestamp,
    /// When its pod becomes available, if that is waited for.
    pub(crate) ripens: Option<Timestamp>,
    pub(crate) version: u64,
    /// Under which number what its containers printed is kept.
    pub(crate) printed: Option<u64>,
}

impl Seen {
    pub(crate) fn new(deadline: Timestamp) -> Self {
        Self {
            readiness: Readiness::Unknown,
            deadline,
            heard: None,
            session: None,
            marks: Marks::default(),
            hello: None,
            acknowledged: None,
            refused: None,
            places: BTreeMap::new(),
            version: 0,
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.readiness == Readiness::Ready
    }

    /// Whether its agent can start a new pod beside the old one.
    pub(crate) fn can_surge(&self) -> bool {
        self.hello.as_ref().is_some_and(|hello| hello.features.contains(SURGE_FEATURE))
    }

    /// Whether its agent has pods read labels of the node.
    pub(crate) fn knows_labels(&self) -> bool {
        self.hello.as_ref().is_some_and(|hello| hello.features.contains(NODE_LABELS_FEATURE))
    }

    /// Whether it has a session on which it was heard within the lease. The session of a node that
    /// was cut off stays open until the transport gives it up, which takes long.
    pub(crate) fn is_in_reach(&self) -> bool {
        self.session.is_some() && !matches!(self.readiness, Readiness::Lost { .. })
    }
}

impl SeenPlace {
    /// The set's pod that counts: one that is there to stay before one that is being stopped. Of two it is
    /// the old one, as in Kubernetes: nodes tell of it first.
    pub(crate) fn pod_of(&self, set: SetUid) -> Option<&PodStatus> {
        let ours = || self.pods.iter().filter(|pod| pod.set == set);
        ours().find(|pod| pod.phase != PodPhase::Stopping).or_else(|| ours().next())
    }

    /// The pod that is granted, where it is to take over from the one that counts.
    pub(crate) fn successor(&self, set: SetUid, grant: Grant) -> Option<&PodStatus> {
        let granted = |pod: &&PodStatus| {
            pod.set == set && (pod.revision, pod.replace) == (grant.revision, grant.replace)
        };
        let counts = self.pod_of(set)?.uid;
        self.pods.iter().find(granted).filter(|pod| pod.uid != counts)
    }

    /// When a ready pod has been ready for `min_ready`: by the node's own boot clock up to the
    /// report, by ours since, so that two clocks are never compared.
    pub(crate) fn available_at(&self, pod: &PodStatus, min_ready: Duration) -> Timestamp {
        self.at.after(min_ready.saturating_sub(pod.ready_for))
    }
}

/// Whether the pod is up and every container of it ready.
pub(crate) fn is_ready(pod: &PodStatus) -> bool {
    pod.ready && pod.phase == PodPhase::Running
}

impl Fleet {
    /// Takes in what an agent said. What comes of a session that is not the node's present one,
    /// or of a node that does not belong, changes nothing.
    pub(crate) fn take_in(&mut self, observation: Observation) {
        match observation {
            Observation::Connected { node, session, hello } => {
                self.connected(node, session, *hello);
            }
            Observation::Answered { node, session } => self.answered(node, session),
            Observation::Disconnected { node, session } => self.disconnected(node, session),
            Observation::Status { node, session, places } => {
                if self.hear(node, session) {
                    self.report(node, places, true);
                }
            }
            Observation::Conditions { node, session, conditions } => {
                if self.hear(node, session) {
                    self.take_conditions(node, conditions);
                }
            }
            Observation::Acknowledged { node, stamp, refused } => {
                self.acknowledged(node, stamp, refused);
            }
            Observation::Noticed { about, event_type, reason, message } => {
                self.tell(about, event_type, &reason, &message);
            }
        }
    }

    fn connected(&mut self, node: NodeUid, session: SessionNonce, mut hello: Hello) {
        let gone = |standing| matches!(standing, NodeStanding::Removed { .. });
        if self.records.nodes.get(&node).is_none_or(|record| gone(record.standing)) {
            return;
        }
        self.look_for_copies(node, session, hello.last_session, &hello.machine_id);
        let places = std::mem::take(&mut hello.places);
        let hello = Arc::new(hello);
        let version = self.next_version();
        let Some(seen) = self.seen.get_mut(&node) else { return };
        seen.session = Some(session);
        seen.acknowledged = hello.accepted;
        seen.refused = None;
        let former = seen.hello.replace(Arc::clone(&hello));
        seen.version = version;
        let silent: Vec<PodKey> = seen
            .places
            .keys()
            .filter(|key| !places.iter().any(|(named, _)| named == *key))
            .cloned()
            .collect();
        let cleared = silent.into_iter().map(|key| (key, Vec::new()));
        self.changed.insert(Changed::Node(node));
        self.touch_places(node);
        self.desk.greet(node);
        self.heard(node);
        self.report(node, cleared.chain(places).collect(), false);
        self.tell_if_ahead(node);
        let former = former.as_ref().map_or(&[][..], |former| &former.conditions);
        self.tell_conditions(node, former, &hello.conditions);
    }

    fn disconnected(&mut self, node: NodeUid, session: SessionNonce) {
        if !self.hear(node, session) {
            return;
        }
        let version = self.next_version();
        if let Some(seen) = self.seen.get_mut(&node) {
            seen.session = None;
            seen.version = version;
            self.changed.insert(Changed::Node(node));
            self.touch_places(node);
        }
    }

    /// What is shown of the node's places may read otherwise from now on: each says why it does not
    /// run what it should, and that the node is away, or has not written its order down, is a reason.
    pub(crate) fn touch_places(&mut self, node: NodeUid) {
        let seen = self.seen.get(&node).into_iter().flat_map(|seen| seen.places.keys());
        let wanted = self.records.assignment(node);
        let wanted = wanted.items().map(|item| &item.key);
        let places = seen.chain(wanted).map(|key| Changed::Pod(node, key.clone()));
        let places: Vec<Changed> = places.collect();
        self.changed.extend(places);
    }

    /// Whether that is the node's present session; then it has been heard of.
    fn hear(&mut self, node: NodeUid, session: SessionNonce) -> bool {
        let present = self.seen.get(&node).is_some_and(|seen| seen.session == Some(session));
        if present {
            self.heard(node);
        }
        present
    }

    /// An acknowledgement does not say of which session it is; its stamp says enough. What comes
    /// late is older than what is known, or was never handed out by this reign.
    fn acknowledged(&mut self, node: NodeUid, stamp: Stamp, refused: Option<Reason>) {
        let handed = self.order_of(node).map(|order| order.stamp);
        let version = self.version + 1;
        let Some(seen) = self.seen.get_mut(&node) else { return };
        // What is on disk stays there: a refusal of the same order was said before.
        let overtaken = refused.is_some() && seen.acknowledged == Some(stamp);
        let late = overtaken || seen.acknowledged.is_some_and(|known| known.is_newer_than(&stamp));
        let foreign =
            handed.is_none_or(|handed| stamp.is_newer_than(&handed) || stamp.contradicts(&handed));
        let said = match refused {
            Some(reason) => (seen.acknowledged, Some((stamp, reason))),
            None => (Some(stamp), None),
        };
        let known = said.0 == seen.acknowledged && said.1 == seen.refused;
        if seen.session.is_none() || late || foreign || known {
            return;
        }
        (seen.acknowledged, seen.refused) = said;
        seen.version = version;
        self.version = version;
        self.changed.insert(Changed::Node(node));
        self.touch_places(node);
    }

    /// Takes in places; `live` where it is news of this session, and so may be worth an event.
    fn report(&mut self, node: NodeUid, places: Vec<(PodKey, Vec<PodStatus>)>, live: bool) {
        let version = self.next_version();
        let at = self.now.steady;
        for (key, mut pods) in places {
            let Some(seen) = self.seen.get_mut(&node) else { return };
            if seen.places.len() >= self.config.max_places && !seen.places.contains_key(&key) {
                continue;
            }
            let former = seen.places.remove(&key);
            if let Some(ripens) = former.as_ref().and_then(|place| place.ripens) {
                self.ripening.remove(&(ripens, node, key.clone()));
            }
            let number = former.as_ref().and_then(|place| place.printed);
            number.into_iter().for_each(|number| self.tails.give_back(number));
            let former = former.map(|place| place.pods).unwrap_or_default();
            carry_log_tails(&former, &mut pods);
            if pods.is_empty() {
                self.unindex_place(node, &key);
                self.tell_of_pods(node, &key, &former, &[], live);
            } else {
                let pods: Box<[PodStatus]> = pods.into();
                self.tell_of_pods(node, &key, &former, &pods, live);
                let printed = self.tails.keep(node, &key, &pods);
                let place = SeenPlace { pods, at, ripens: None, version, printed };
                if let Some(seen) = self.seen.get_mut(&node) {
                    seen.places.insert(key.clone(), place);
                    self.reported.entry(key.clone()).or_default().insert(node);
                }
            }
            if !mutated!(Miscount) {
                self.refresh(node, &key);
            }
            if !mutated!(KeepQuiet) {
                self.changed.insert(Changed::Pod(node, key));
            }
        }
        self.forget_tails();
    }

    /// Nothing is reported there by the node any more.
    pub(crate) fn unindex_place(&mut self, node: NodeUid, key: &PodKey) {
        if let Some(nodes) = self.reported.get_mut(key) {
            nodes.remove(&node);
            if nodes.is_empty() {
                self.reported.remove(key);
            }
        }
    }
}
