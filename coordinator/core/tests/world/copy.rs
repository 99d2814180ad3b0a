//! A store that is restored from a copy, and the person who looks at what that leads to.

use std::collections::{BTreeMap, BTreeSet};

use everynode_coordinator_core::{
    ClusterRecord, Command, Fleet, HoldRecord, NodeChange, NodeStanding, Outcome, Record,
    RecordKey, Refusal, SetRecord,
};
use everynode_model::{NodeUid, PodKey, PodUid, Term};

use super::{World, id};

/// What is stored, at one moment.
pub type Stored = BTreeMap<RecordKey, Record>;

/// The pods of each place by their uids: two where one takes over from the other.
pub type Ran = BTreeMap<(NodeUid, PodKey), BTreeSet<PodUid>>;

impl World {
    pub fn copy(&self) -> Stored {
        self.store.clone()
    }

    /// The store becomes the copy, in a new term and held; every session ends. Machines that the copy
    /// does not know are out of sight: they are refused, and run on.
    pub fn restore(&mut self, copy: Stored) {
        let Some(Record::Cluster(of_copy)) = copy.get(&RecordKey::Cluster).cloned() else {
            panic!("a copy has its cluster");
        };
        self.term += 1_000;
        let cluster = ClusterRecord { id: id(1), term: Term(self.term), reign: id(self.term) };
        let hold = HoldRecord { since: self.now.wall, copied_in: of_copy.term };
        self.store = copy;
        self.store.insert(RecordKey::Cluster, Record::Cluster(cluster));
        self.store.insert(RecordKey::Hold, Record::Hold(hold));
        self.fleet = self.restored();
        self.heard.clear();
        let fleet = &self.fleet;
        self.agents.retain(|node, _| fleet.standing(*node).is_some());
        for agent in self.agents.values_mut() {
            agent.session = None;
        }
    }

    pub fn connect_all(&mut self) {
        let nodes: Vec<NodeUid> = self.agents.keys().copied().collect();
        for node in nodes {
            self.connect(node);
        }
    }

    pub fn resume(&mut self, allow_removal: bool) -> Result<Outcome, Refusal> {
        self.follow(&Command::Resume { allow_removal })
    }

    /// A person applies what the machines were told before, by the copy of what was stored last:
    /// manifests, labels, taints, and what was deleted.
    pub fn apply_again(&mut self, last: &Stored) {
        let sets: BTreeMap<PodKey, SetRecord> = last.values().filter_map(set).collect();
        for view in self.fleet.sets(None) {
            let key = view.record.set.key.clone();
            // One that was made again since the copy is made again here.
            if sets.get(&key).is_none_or(|set| set.set.uid != view.record.set.uid) {
                self.follow(&Command::DeleteSet { key, uid: None }).unwrap();
            }
        }
        for record in sets.values() {
            let revision = RecordKey::Revision(record.set.uid, record.set.revision);
            let Some(Record::Revision(revision)) = last.get(&revision) else { panic!("no body") };
            let body = String::from_utf8(revision.body.to_vec()).unwrap();
            let set = record.set.clone();
            // As at the door: a new one would get a uid of its own.
            let uid = id(self.draw());
            self.put(everynode_model::DaemonSet { uid, ..set }, &body);
        }
        let nodes = last.values().filter_map(|record| match record {
            Record::Node(node) if node.standing == NodeStanding::Active => Some(node.clone()),
            _ => None,
        });
        for last in nodes.collect::<Vec<_>>() {
            let Some(now) = self.fleet.node_record(last.uid).cloned() else { continue };
            if now.standing != NodeStanding::Active {
                continue;
            }
            let mut changes: Vec<NodeChange> =
                now.labels.keys().cloned().map(NodeChange::RemoveLabel).collect();
            for (key, value) in last.labels {
                changes.push(NodeChange::SetLabel { key, value, overwrite: true });
            }
            let effect = |taint: &everynode_model::Taint| NodeChange::RemoveTaint {
                key: taint.key.clone(),
                effect: Some(taint.effect),
            };
            changes.extend(now.taints.iter().map(effect));
            for taint in last.taints {
                changes.push(NodeChange::SetTaint { taint, overwrite: true });
            }
            self.follow(&Command::ChangeNode { name: now.name.clone(), changes }).unwrap();
        }
    }

    /// Every pod there is.
    pub fn ran(&self) -> Ran {
        let pods = self.agents.iter().flat_map(|(node, agent)| {
            agent.pods.iter().map(|(key, pod)| {
                let new = agent.beside.get(key).map(|(new, _)| new.uid);
                ((*node, key.clone()), new.into_iter().chain([pod.uid]).collect())
            })
        });
        pods.collect()
    }

    /// The places of whose pods of `before` none is there any more.
    pub fn ended(&self, before: &Ran) -> BTreeSet<(NodeUid, PodKey)> {
        let now = self.ran();
        let ended = before
            .iter()
            .filter(|(place, pods)| now.get(place).is_none_or(|now| now.is_disjoint(pods)));
        ended.map(|(place, _)| place.clone()).collect()
    }

    /// One round of orders and of following them, and no step.
    pub fn obey_once(&mut self) {
        self.hand_out();
        let nodes: Vec<NodeUid> = self.agents.keys().copied().collect();
        for node in nodes {
            self.work(node);
        }
    }
}

/// The places in which the fleet says that a pod would end.
pub fn told(fleet: &Fleet) -> BTreeSet<(NodeUid, PodKey)> {
    let found = fleet.consequences().into_iter().filter(|found| found.action.removes());
    found.map(|found| (found.node.uid, found.key)).collect()
}

fn set(record: &Record) -> Option<(PodKey, SetRecord)> {
    match record {
        Record::Set(set) => Some((set.set.key.clone(), set.clone())),
        _ => None,
    }
}
