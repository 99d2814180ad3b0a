//! What people have asked for and were told: the measure of what must be there.
//!
//! A command is *under way* from when it is given until its answer is heard. Whatever answer is lost,
//! with a coordinator that dies or a store that fails, what is stored then is one of two things, and
//! counts from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use everynode_coordinator_core::{
    Command, Fleet, NodeRecord, NodeStanding, Outcome, Record, RecordKey, SetRecord,
};
use everynode_model::{Labels, NodeName, NodeUid, PodKey, Taint};

use crate::law::Law;
use crate::store::Records;

/// What an operator made of a node.
type Marks = (Labels, Vec<Taint>, bool);

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    sets: BTreeMap<PodKey, SetRecord>,
    marks: BTreeMap<NodeUid, Marks>,
    /// Sets and nodes that a command is under way for.
    busy_sets: BTreeMap<PodKey, Option<Arc<[u8]>>>,
    busy_nodes: BTreeSet<NodeName>,
    /// Nodes that were told that they have joined.
    pub(crate) joined: BTreeSet<NodeUid>,
    /// Nodes that somebody wanted gone, whether or not anything came of it.
    pub(crate) doomed: BTreeSet<NodeUid>,
    /// Nodes whose removal was acknowledged.
    removed: BTreeSet<NodeUid>,
    /// How many machines each token was made for.
    pub(crate) tokens: BTreeMap<String, usize>,
    /// Nodes of which there are, or were, two.
    pub(crate) copied: BTreeSet<NodeUid>,
}

impl Account {
    /// Whether somebody may give this command now: one at a time about one thing.
    pub(crate) fn begin(&mut self, command: &Command) -> bool {
        match command {
            Command::PutSet { set, object, .. } => {
                self.begin_set(&set.key, Some(Arc::clone(object)))
            }
            Command::DeleteSet { key, .. } => self.begin_set(key, None),
            Command::ChangeNode { name, .. } | Command::DeleteNode { name, .. } => {
                self.busy_nodes.insert(name.clone())
            }
            Command::CreateToken(token) => {
                let uses = token.uses_left.map_or(usize::MAX, |uses| uses as usize);
                self.tokens.insert(token.id.clone(), uses);
                true
            }
            _ => true,
        }
    }

    /// A command is about to be decided on: whom it may remove, somebody wanted removed.
    pub(crate) fn doom(&mut self, fleet: &Fleet, command: &Command) {
        match command {
            Command::DeleteNode { name, .. } => self.doom_named(fleet, name),
            Command::ForgetNode { uid } => _ = self.doomed.insert(*uid),
            Command::Join { name, token_id, .. } => {
                let token = fleet.tokens().find(|token| token.id == *token_id);
                if token.is_some_and(|token| token.replace) {
                    self.doom_named(fleet, name);
                }
            }
            _ => {}
        }
    }

    /// Its answer is heard: from now on what it says must be there.
    pub(crate) fn acknowledged(&mut self, command: &Command, outcome: &Outcome) {
        match outcome {
            Outcome::Set { record, .. } => {
                self.sets.insert(record.set.key.clone(), SetRecord::clone(record));
            }
            Outcome::SetDeleted(record) => _ = self.sets.remove(&record.set.key),
            Outcome::Node(record) => _ = self.marks.insert(record.uid, marks(record)),
            Outcome::NodeLeaving { record, .. } => _ = self.removed.insert(record.uid),
            _ => {}
        }
        self.end(command);
    }

    /// It was refused: nothing has changed.
    pub(crate) fn refused(&mut self, command: &Command) {
        self.end(command);
    }

    /// Its answer will never be heard. Judges what is stored, and goes by it from then on.
    pub(crate) fn unheard(&mut self, command: &Command, stored: &Records, law: &mut Law) {
        if let Command::PutSet { set, .. } = command {
            self.judge_set(&set.key, stored, law);
        }
        if let Command::DeleteSet { key, .. } = command {
            self.judge_set(key, stored, law);
        }
        if let Command::ChangeNode { name, .. } = command {
            for record in nodes(stored).filter(|record| record.name == *name) {
                self.marks.insert(record.uid, marks(record));
            }
        }
        self.end(command);
    }

    /// Somebody went back to a backup: what was said since counts no more.
    pub(crate) fn restored(&mut self, stored: &Records) {
        self.sets = sets(stored).map(|set| (set.set.key.clone(), set.clone())).collect();
        self.marks = nodes(stored).map(|node| (node.uid, marks(node))).collect();
        let known: BTreeSet<NodeUid> = nodes(stored).map(|node| node.uid).collect();
        let gone = nodes(stored).filter(|node| node.standing != NodeStanding::Active);
        self.removed = gone.map(|node| node.uid).collect();
        self.joined.retain(|node| known.contains(node));
        self.busy_sets.clear();
        self.busy_nodes.clear();
    }

    /// What was acknowledged is stored.
    pub(crate) fn p6_what_was_acknowledged_is_there(&self, stored: &Records, law: &mut Law) {
        const RULE: &str = "p6_what_was_acknowledged_is_there";
        for (key, record) in &self.sets {
            if !self.busy_sets.contains_key(key) {
                let is = set(stored, key);
                law.holds(RULE, is == Some(record), || {
                    format!("{key} is {is:?}, and was said to be {record:?}")
                });
            }
        }
        for record in sets(stored) {
            let key = &record.set.key;
            let asked = self.busy_sets.contains_key(key) || self.sets.contains_key(key);
            law.holds(RULE, asked, || format!("{key} is there, and was deleted"));
        }
        for (uid, said) in &self.marks {
            if let Some(Record::Node(record)) = stored.get(&RecordKey::Node(*uid))
                && !self.busy_nodes.contains(&record.name)
            {
                let is = marks(record);
                law.holds(RULE, is == *said, || {
                    format!("node {uid} is marked {is:?}, and was said to be {said:?}")
                });
            }
        }
        for uid in &self.joined {
            let known = stored.contains_key(&RecordKey::Node(*uid)) || self.doomed.contains(uid);
            law.holds(RULE, known, || format!("node {uid} has joined and is not stored"));
        }
        for record in nodes(stored).filter(|record| record.standing == NodeStanding::Active) {
            let removed = self.removed.contains(&record.uid);
            law.holds(RULE, !removed, || format!("{record:?} was removed, and is active"));
        }
    }

    fn begin_set(&mut self, key: &PodKey, object: Option<Arc<[u8]>>) -> bool {
        let free = !self.busy_sets.contains_key(key);
        if free {
            self.busy_sets.insert(key.clone(), object);
        }
        free
    }

    fn doom_named(&mut self, fleet: &Fleet, name: &NodeName) {
        let named = fleet.nodes().into_iter().filter(|node| node.record.name == *name);
        self.doomed.extend(named.map(|node| node.record.uid));
    }

    fn end(&mut self, command: &Command) {
        match command {
            Command::PutSet { set, .. } => _ = self.busy_sets.remove(&set.key),
            Command::DeleteSet { key, .. } => _ = self.busy_sets.remove(key),
            Command::ChangeNode { name, .. } | Command::DeleteNode { name, .. } => {
                self.busy_nodes.remove(name);
            }
            _ => {}
        }
    }

    fn judge_set(&mut self, key: &PodKey, stored: &Records, law: &mut Law) {
        let Some(asked) = self.busy_sets.get(key).cloned() else { return };
        let (was, is) = (self.sets.get(key), set(stored, key));
        let right = was == is || is.map(|record| &record.object) == asked.as_ref();
        law.holds("p6_what_was_acknowledged_is_there", right, || {
            format!("{key} was {was:?}, is {is:?}, and should be one of that and {asked:?}")
        });
        match is.cloned() {
            Some(record) => _ = self.sets.insert(key.clone(), record),
            None => _ = self.sets.remove(key),
        }
    }
}

/// The stored nodes.
pub(crate) fn nodes(stored: &Records) -> impl Iterator<Item = &NodeRecord> {
    stored.values().filter_map(|record| match record {
        Record::Node(node) => Some(node),
        _ => None,
    })
}

/// The stored sets.
pub(crate) fn sets(stored: &Records) -> impl Iterator<Item = &SetRecord> {
    stored.values().filter_map(|record| match record {
        Record::Set(set) => Some(set),
        _ => None,
    })
}

fn set<'a>(stored: &'a Records, key: &PodKey) -> Option<&'a SetRecord> {
    match stored.get(&RecordKey::Set(key.clone())) {
        Some(Record::Set(set)) => Some(set),
        _ => None,
    }
}

fn marks(node: &NodeRecord) -> Marks {
    (node.labels.clone(), node.taints.clone(), node.unschedulable)
}
