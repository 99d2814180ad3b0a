//! What is worth telling people: a bounded ring in which the same event again only counts.
//!
//! An event is stored when it is first seen and whenever its count reaches a power of two, and no
//! more often than the configuration allows; in between, counts are kept in memory only. A calm
//! fleet tells nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use everynode_model::{
    EVICTED, Failure, NAMESPACES, NodeUid, Now, PodKey, PodPhase, PodStatus, SetUid, Timestamp,
    WallTime,
};

use crate::config::Config;
use crate::record::{EventRecord, EventType, InvolvedObject, NodeRecord, Record, RecordKey, Write};
use crate::{Changed, Fleet};

/// What makes two events the same one.
type Sameness = (InvolvedObject, String, String);

/// The ring of events.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    limit: usize,
    writes_per_minute: u32,
    kept: BTreeMap<u64, EventRecord>,
    /// Those of [`Self::kept`] that are stored: only they must be deleted from the store.
    stored: BTreeSet<u64>,
    index: BTreeMap<Sameness, u64>,
    next: u64,
    /// Not taken by the shell yet. Bounded by the writes per minute.
    writes: Vec<Write>,
    minute_began: Timestamp,
    written_this_minute: u32,
}

const MINUTE: Duration = Duration::from_secs(60);

impl Events {
    pub(crate) fn new(config: &Config, now: Timestamp) -> Self {
        Self {
            limit: config.max_events.max(1),
            writes_per_minute: config.event_writes_per_minute,
            kept: BTreeMap::new(),
            stored: BTreeSet::new(),
            index: BTreeMap::new(),
            next: 1,
            writes: Vec::new(),
            minute_began: now,
            written_this_minute: 0,
        }
    }

    pub(crate) fn kept(&self) -> impl DoubleEndedIterator<Item = &EventRecord> {
        self.kept.values()
    }

    pub(crate) fn take_writes(&mut self) -> Vec<Write> {
        std::mem::take(&mut self.writes)
    }

    /// The writes that keep an event as part of a decision; nothing changes here until they are
    /// recorded.
    pub(crate) fn draft(
        &self,
        about: InvolvedObject,
        event_type: EventType,
        reason: &str,
        message: &str,
        at: WallTime,
    ) -> Vec<Write> {
        let event = self.counted(about, event_type, reason, message, at);
        let new = !self.kept.contains_key(&event.sequence);
        let evicted = self.kept.keys().next().filter(|_| new && self.kept.len() >= self.limit);
        let evicted = evicted.filter(|sequence| self.stored.contains(sequence));
        let delete = evicted.map(|sequence| Write::delete(RecordKey::Event(*sequence)));
        delete.into_iter().chain([Write::put(Record::Event(event))]).collect()
    }

    /// Counts an event now, and stores it if it is due.
    fn tell(
        &mut self,
        about: InvolvedObject,
        event_type: EventType,
        reason: &str,
        message: &str,
        now: Now,
    ) -> u64 {
        let event = self.counted(about, event_type, reason, message, now.wall);
        let sequence = event.sequence;
        if event.count.is_power_of_two() && self.may_write(now.steady) {
            self.stored.insert(sequence);
            self.writes.push(Write::put(Record::Event(event.clone())));
        }
        self.keep(event);
        while self.kept.len() > self.limit
            && let Some((oldest, _)) = self.kept.first_key_value()
        {
            let oldest = *oldest;
            if self.stored.contains(&oldest) {
                self.writes.push(Write::delete(RecordKey::Event(oldest)));
            }
            self.drop(oldest);
        }
        sequence
    }

    /// Follows a stored write.
    pub(crate) fn record(&mut self, write: &Write) {
        match (&write.key, &write.record) {
            (RecordKey::Event(sequence), None) => self.drop(*sequence),
            (_, Some(Record::Event(event))) => {
                self.stored.insert(event.sequence);
                // What was counted since it was drafted must not be lost.
                let counted = self.kept.get(&event.sequence);
                if counted.is_none_or(|counted| counted.count < event.count) {
                    self.keep(event.clone());
                }
                let oldest = self.kept.keys().next().copied();
                if let Some(oldest) = oldest
                    && self.kept.len() > self.limit
                    && !self.stored.contains(&oldest)
                {
                    self.drop(oldest);
                }
            }
            _ => {}
        }
    }

    fn counted(
        &self,
        about: InvolvedObject,
        event_type: EventType,
        reason: &str,
        message: &str,
        at: WallTime,
    ) -> EventRecord {
        let sameness = (about, reason.to_owned(), message.to_owned());
        let former = self.index.get(&sameness).and_then(|sequence| self.kept.get(sequence));
        let (about, reason, message) = sameness;
        let (sequence, count, first_at) = match former {
            Some(former) => (former.sequence, former.count + 1, former.first_at),
            None => (self.next, 1, at),
        };
        EventRecord { sequence, about, event_type, reason, message, count, first_at, last_at: at }
    }

    fn keep(&mut self, event: EventRecord) {
        self.next = self.next.max(event.sequence + 1);
        let sameness = (event.about.clone(), event.reason.clone(), event.message.clone());
        self.index.insert(sameness, event.sequence);
        self.kept.insert(event.sequence, event);
    }

    fn drop(&mut self, sequence: u64) {
        self.stored.remove(&sequence);
        if let Some(event) = self.kept.remove(&sequence) {
            let sameness = (event.about, event.reason, event.message);
            if self.index.get(&sameness) == Some(&sequence) {
                self.index.remove(&sameness);
            }
        }
    }

    fn may_write(&mut self, now: Timestamp) -> bool {
        if now.since(self.minute_began) >= MINUTE {
            self.minute_began = now;
            self.written_this_minute = 0;
        }
        let may = self.written_this_minute < self.writes_per_minute;
        self.written_this_minute += u32::from(may);
        may
    }
}

/// An event's object: a node.
pub(crate) fn about_node(node: &NodeRecord) -> InvolvedObject {
    InvolvedObject {
        kind: "Node".into(),
        namespace: String::new(),
        name: node.name.to_string(),
        uid: node.uid.to_string(),
    }
}

/// An event's object: a DaemonSet.
pub(crate) fn about_set(key: &PodKey, set: SetUid) -> InvolvedObject {
    InvolvedObject {
        kind: "DaemonSet".into(),
        namespace: key.namespace().into(),
        name: key.name().into(),
        uid: set.to_string(),
    }
}

fn about_pod(pod: &PodStatus) -> InvolvedObject {
    InvolvedObject {
        kind: "Pod".into(),
        namespace: pod.key.namespace().into(),
        name: everynode_model::pod_name(&pod.key, pod.uid.uuid().as_bytes()),
        uid: pod.uid.to_string(),
    }
}

impl Fleet {
    /// Tells people of something, now.
    pub(crate) fn tell(
        &mut self,
        about: InvolvedObject,
        event_type: EventType,
        reason: &str,
        message: &str,
    ) {
        let sequence = self.events.tell(about, event_type, reason, message, self.now);
        self.changed.insert(Changed::Event(sequence));
    }

    /// Tells what is new in a place. What a session begins with tells of failures only, against
    /// what was known before: its pods are not new.
    pub(crate) fn tell_of_pods(
        &mut self,
        node: NodeUid,
        key: &PodKey,
        former: &[PodStatus],
        pods: &[PodStatus],
        live: bool,
    ) {
        let runs = |pods: &[PodStatus], uid| {
            pods.iter().any(|pod: &PodStatus| pod.uid == uid && pod.phase == PodPhase::Running)
        };
        for pod in pods {
            let before = former.iter().find(|former| former.uid == pod.uid);
            if live && pod.phase == PodPhase::Running && !runs(former, pod.uid) && pod.restarts == 0
            {
                // One event for the whole set: a fleet of pods would push out all others.
                let about = about_set(key, pod.set);
                self.tell(about, EventType::Normal, "SuccessfulCreate", "A node started its pod");
                self.tell_of_network(key, pod.set);
            }
            if let Some(before) = before.filter(|_| live) {
                self.tell_resize(before, pod);
            }
            if let (Some(failure), Some(before)) = (&pod.last_failure, before) {
                self.tell_failure(node, before, pod, failure);
            }
        }
        if live {
            let stays = |former: &PodStatus| pods.iter().any(|pod| pod.uid == former.uid);
            let ran = |former: &PodStatus| former.phase != PodPhase::Pending;
            for gone in former.iter().filter(|former| ran(former) && !stays(former)) {
                let about = about_set(key, gone.set);
                self.tell(about, EventType::Normal, "SuccessfulDelete", "A node stopped its pod");
            }
        }
    }

    /// Whoever finds that nobody reaches a daemon looks here: once for a set, as it is said of its template.
    fn tell_of_network(&mut self, key: &PodKey, set: SetUid) {
        let record = self.records.sets.get(&set).and_then(|records| records.record.as_ref());
        if record.is_some_and(|record| record.set.features.contains(NAMESPACES[0])) {
            let line = "Its pods have a network of their own, of which loopback alone is there: nobody \
                        outside reaches them, nor do they reach anybody; `hostNetwork: true` shares the node's";
            self.tell(about_set(key, set), EventType::Normal, "LoopbackAlone", line);
        }
    }

    /// Other limits of a pod that runs, in the kubelet's words; one event for the whole set, too.
    fn tell_resize(&mut self, before: &PodStatus, pod: &PodStatus) {
        let goes_on = |pod: &PodStatus| {
            pod.reason.as_ref().is_some_and(|reason| reason.code == "PodResizeInProgress")
        };
        let (word, line) = if before.revision != pod.revision {
            ("ResizeCompleted", "A node changed the limits of its pod")
        } else if goes_on(pod) && !goes_on(before) {
            ("ResizeStarted", "A node changes the limits of its pod")
        } else {
            return;
        };
        self.tell(about_set(&pod.key, pod.set), EventType::Normal, word, line);
    }

    fn tell_failure(&mut self, node: NodeUid, before: &PodStatus, pod: &PodStatus, why: &Failure) {
        let restarted = pod.restarts > before.restarts;
        let known = before.last_failure.as_ref().is_some_and(|known| known.is_same(why));
        if !restarted && known {
            return;
        }
        let node = self.records.nodes.get(&node).map(|node| node.name.to_string());
        let exit = why.exit.map(|exit| format!(" ({exit})")).unwrap_or_default();
        let (word, what) = match (restarted, why.reason.code.as_str()) {
            (true, _) => ("BackOff", "Restarting failed container"),
            // The kubelet's; what comes of it here is another pod.
            (false, word @ ("ResizeError" | "ResizeInfeasible")) => (word, "Limits not changed"),
            (false, _) => ("FailedDaemonPod", "Failed"),
        };
        // Of a pod as a whole none is named.
        let what = [what, &why.container].join(" ");
        let node = node.unwrap_or_default();
        if why.reason.code == EVICTED && !known {
            let message = format!("{} on node {node}", why.reason.message);
            return self.tell(about_pod(pod), EventType::Warning, EVICTED, &message);
        }
        let message = format!("{} on node {node}{exit}: {}", what.trim_end(), why.reason);
        self.tell(about_pod(pod), EventType::Warning, word, &message);
    }
}
