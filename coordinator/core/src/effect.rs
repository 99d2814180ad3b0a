//! What a command would do to pods, told before it is followed: how far it reaches.
//!
//! - a node *gains* a pod where a DaemonSet gets a place on it,
//! - it *loses* one where the place ends, or where the node is stopped,
//! - its pod is *restarted* where it stays and gets another template: by steps, within the budget.
//!
//! A command is *careful* ([`Command::Careful`]) when it is not to take pods away by mistake. Of what
//! it would take away only pods count that are known to run, or of which nothing is known; and never
//! fewer than two, so that small fleets can be worked with:
//!
//! - more than so many percent of the running pods of one DaemonSet: a mistyped `nodeSelector`, labels
//!   or taints of many nodes at once;
//! - of DaemonSets that are deleted, several at once with more than so many percent of all pods. One
//!   that is deleted by its name was meant.
//!
//! Pods that are restarted don't count, and while orders are held after a restore nothing does: its
//! end has a word of its own for that (the module `hold`).

use std::collections::BTreeMap;

use everynode_model::{
    DaemonSet, NodeName, NodeUid, Now, ObjectKind, PodKey, PodPhase, SetUid, Strategy,
};

use crate::Fleet;
use crate::command::{Command, NodeChange, Refusal};
use crate::placement::verdict;
use crate::record::{NodeRecord, NodeStanding};
use crate::records::{Place, SetRecords};

/// What a command would do to pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// How many are new.
    pub gains: usize,
    /// How many are gone.
    pub loses: usize,
    /// How many are replaced, by and by.
    pub restarts: usize,
}

/// The fewest pods that are a reason to ask.
const FEWEST: usize = 2;

/// What is counted on the way.
#[derive(Default)]
struct Count {
    effect: Effect,
    /// Running pods that go although their set stays.
    removed: BTreeMap<SetUid, usize>,
    /// Running pods that go with their sets.
    deleted: usize,
    deleted_sets: usize,
}

impl Fleet {
    /// What following the commands would do, each from the state in which all is now, but for changes of
    /// one node, which are taken together. What would be refused does nothing. Costs a look at every node for a DaemonSet whose placement or template
    /// changes, and at every DaemonSet for a node.
    pub fn effect(&self, commands: &[Command], now: Now) -> Effect {
        self.count(commands, now).effect
    }

    /// The same, if the commands don't take away more than careful ones may.
    ///
    /// # Errors
    /// [`Refusal::WouldRemoveOf`] and [`Refusal::WouldRemoveSets`].
    pub fn may_remove(&self, commands: &[Command], now: Now) -> Result<Effect, Refusal> {
        let count = self.count(commands, now);
        if self.records.hold.is_some() {
            return Ok(count.effect);
        }
        for (uid, pods) in &count.removed {
            let Some(records) = self.records.sets.get(uid) else { continue };
            if *pods >= FEWEST
                && let Some(record) = &records.record
            {
                let of = self.running(*uid, records);
                if self.is_too_much(*pods, of) {
                    let key = record.set.key.clone();
                    return Err(Refusal::WouldRemoveOf { key, pods: *pods, of });
                }
            }
        }
        if count.deleted_sets > 1 && count.deleted >= FEWEST {
            let of = self.records.sets.iter().map(|(uid, set)| self.running(*uid, set)).sum();
            if self.is_too_much(count.deleted, of) {
                let (sets, pods) = (count.deleted_sets, count.deleted);
                return Err(Refusal::WouldRemoveSets { sets, pods, of });
            }
        }
        Ok(count.effect)
    }

    fn is_too_much(&self, pods: usize, of: usize) -> bool {
        pods.saturating_mul(100) > of.saturating_mul(self.config.removal_percent as usize)
    }

    fn count(&self, commands: &[Command], now: Now) -> Count {
        let mut count = Count::default();
        for (name, changes) in self.changes(commands, now) {
            self.count_change(name, &changes, now, &mut count);
        }
        for command in commands {
            match command {
                Command::Careful(command) => {
                    let inner = self.count(std::slice::from_ref(command), now);
                    count.add(inner);
                }
                Command::All(commands) => {
                    let inner = self.count(commands, now);
                    count.add(inner);
                }
                Command::DeleteObject { key, .. } if key.kind == ObjectKind::Namespace => {
                    let sets = self.records.keys.keys();
                    for set in sets.filter(|set| set.namespace() == key.name) {
                        self.count_delete(set, None, &mut count);
                    }
                }
                Command::PutSet { set, content, .. } => {
                    self.count_put(set, content.missing.is_empty(), &mut count);
                }
                Command::DeleteSet { key, uid } => self.count_delete(key, *uid, &mut count),
                Command::DeleteNode { name, forget: false } => {
                    let node = self.records.names.get(name);
                    self.count_departure(node.copied(), &mut count);
                }
                Command::Leave { uid } => self.count_departure(Some(*uid), &mut count),
                // Changes of nodes are counted above; who is forgotten goes on with what it runs.
                _ => {}
            }
        }
        count
    }

    /// What becomes of each node by all of the commands together: a pod that two of them take away is
    /// one, and so is one that goes only because of both.
    fn changes<'a>(
        &self,
        commands: &'a [Command],
        now: Now,
    ) -> BTreeMap<&'a NodeName, Vec<NodeChange>> {
        let mut all: BTreeMap<&NodeName, Vec<NodeChange>> = BTreeMap::new();
        for command in commands {
            let Command::ChangeNode { name, changes } = command else { continue };
            let before = all.entry(name).or_default();
            let both = [before.as_slice(), changes].concat();
            if self.node_after(name, &both, now).is_ok() {
                *before = both;
            }
        }
        all
    }

    /// No rollout leads to what could not start.
    fn count_put(&self, set: &DaemonSet, may_start: bool, count: &mut Count) {
        let existing = self.records.set(&set.key);
        let former =
            existing.and_then(|(uid, records)| Some((uid, records, records.record.as_ref()?)));
        let active = self.records.names.values().filter_map(|node| self.records.active(*node));
        let Some((uid, records, former)) = former else {
            let gains = active.filter(|node| verdict(set, node).run.is_ok() && !node.order.stops());
            count.effect.gains += gains.count();
            return;
        };
        let head = records.head.as_ref().map(|head| head.target);
        let another = head.is_some_and(|target| target != set.revision);
        if former.set.placement == set.placement && !another {
            return;
        }
        let steps = matches!(set.strategy, Strategy::RollingUpdate { .. }) && may_start;
        for node in active {
            let before = here(records.place(node), node);
            let after = here(next_place(records.place(node), set, node), node);
            count.turn(uid, before, after, || self.runs(uid, &set.key, node.uid));
            let stays = before != Place::None && after == Place::Run;
            let granted = records.grant(node.uid);
            if stays && another && steps && granted.is_some_and(|it| it.revision != set.revision) {
                count.effect.restarts += 1;
            }
        }
    }

    fn count_delete(&self, key: &PodKey, uid: Option<SetUid>, count: &mut Count) {
        let Some((present, records)) = self.records.set(key) else { return };
        if uid.is_some_and(|uid| uid != present) {
            return;
        }
        if records.record.as_ref().is_some_and(|record| record.set.is_orphaned()) {
            return;
        }
        count.deleted_sets += 1;
        count.deleted += self.running(present, records);
        let nodes = self.records.names.values().filter_map(|node| self.records.active(*node));
        let lost = nodes.filter(|node| here(records.place(node), node) != Place::None);
        count.effect.loses += lost.count();
    }

    fn count_change(&self, name: &NodeName, changes: &[NodeChange], now: Now, count: &mut Count) {
        let Ok((node, next)) = self.node_after(name, changes, now) else { return };
        for (uid, records) in &self.records.sets {
            let Some(record) = &records.record else { continue };
            let place = records.place(node);
            let after = next_place(place, &record.set, &next);
            count.turn(*uid, here(place, node), here(after, &next), || {
                self.runs(*uid, &record.set.key, node.uid)
            });
            let steps = matches!(record.set.strategy, Strategy::RollingUpdate { .. });
            let stays = here(place, node) == Place::Run && here(after, &next) == Place::Run;
            if steps && stays && records.falls_behind(node, &next) {
                count.effect.restarts += 1;
            }
        }
    }

    fn count_departure(&self, node: Option<NodeUid>, count: &mut Count) {
        let Some(node) = node.and_then(|node| self.records.active(node)) else { return };
        for (uid, records) in &self.records.sets {
            let Some(record) = &records.record else { continue };
            count.turn(*uid, here(records.place(node), node), Place::None, || {
                self.runs(*uid, &record.set.key, node.uid)
            });
        }
    }

    /// How many pods of the set run, or may run for all that is known.
    fn running(&self, uid: SetUid, records: &SetRecords) -> usize {
        let Some(record) = &records.record else { return 0 };
        let nodes = self.records.names.values().filter_map(|node| self.records.active(*node));
        nodes
            .filter(|node| records.place(node) != Place::None)
            .filter(|node| self.runs(uid, &record.set.key, node.uid))
            .count()
    }

    fn runs(&self, set: SetUid, key: &PodKey, node: NodeUid) -> bool {
        let Some(seen) = self.seen.get(&node) else { return false };
        let pod = seen.places.get(key).and_then(|place| place.pod_of(set));
        match pod {
            Some(pod) => pod.phase != PodPhase::Pending,
            None => seen.hello.is_none(),
        }
    }
}

/// The place as far as a pod is wanted in it.
fn here(place: Place, node: &NodeRecord) -> Place {
    if node.order.stops() { Place::None } else { place }
}

/// What becomes of a place: the rule of `decide::places`.
fn next_place(former: Place, set: &DaemonSet, node: &NodeRecord) -> Place {
    let verdict = verdict(set, node);
    match (verdict.run.is_ok(), verdict.keep, former) {
        _ if node.standing != NodeStanding::Active => Place::None,
        (true, ..) => Place::Run,
        (false, true, Place::Run | Place::Keep) => Place::Keep,
        (false, ..) => Place::None,
    }
}

impl Count {
    fn turn(&mut self, set: SetUid, before: Place, after: Place, runs: impl FnOnce() -> bool) {
        match (before, after) {
            (Place::None, Place::Run) => self.effect.gains += 1,
            (Place::Run | Place::Keep, Place::None) => {
                self.effect.loses += 1;
                *self.removed.entry(set).or_default() += usize::from(runs());
            }
            _ => {}
        }
    }

    fn add(&mut self, other: Self) {
        self.effect.gains += other.effect.gains;
        self.effect.loses += other.effect.loses;
        self.effect.restarts += other.effect.restarts;
        for (set, pods) in other.removed {
            *self.removed.entry(set).or_default() += pods;
        }
        self.deleted += other.deleted;
        self.deleted_sets += other.deleted_sets;
    }
}
