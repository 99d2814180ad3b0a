//! The fleet: records, observations, and what is kept up to date between the two.

use std::collections::{BTreeMap, BTreeSet};

use everynode_model::{NodeUid, Now, PodKey, SetUid, Term, Timestamp};

use crate::assign::{Desk, as_told};
use crate::blobs::UnusedBlobs;
use crate::clock::Clock;
use crate::config::Config;
use crate::events::Events;
use crate::observe::Observation;
use crate::record::{Record, RecordKey, Write};
use crate::records::{Place, Records, Touched};
use crate::seen::Seen;
use crate::status::{Cell, Tally};
use crate::tails::Tails;
use crate::tolerance::Tolerations;
use crate::view::{Changed, Order};

/// The known world, and every decision about it. See the crate's documentation.
#[derive(Clone, Debug)]
pub struct Fleet {
    pub(crate) config: Config,
    /// The latest time that was handed in; never goes back.
    pub(crate) now: Now,
    pub(crate) records: Records,
    pub(crate) seen: BTreeMap<NodeUid, Seen>,
    /// By place, the nodes that reported something there: what is in [`Self::seen`], the other way
    /// round.
    pub(crate) reported: BTreeMap<PodKey, BTreeSet<NodeUid>>,
    pub(crate) tallies: BTreeMap<SetUid, Tally>,
    /// Of sets whose rollout is under way.
    pub(crate) clocks: BTreeMap<SetUid, Clock>,
    /// When whose lease is to be looked at.
    pub(crate) leases: BTreeSet<(Timestamp, NodeUid)>,
    /// When which pod will have been ready long enough.
    pub(crate) ripening: BTreeSet<(Timestamp, NodeUid, PodKey)>,
    /// No rollout step is taken before this.
    pub(crate) window_ends: Timestamp,
    pub(crate) tolerations: Tolerations,
    pub(crate) unused: UnusedBlobs,
    /// Of what is in [`Self::seen`], what containers printed.
    pub(crate) tails: Tails,
    pub(crate) desk: Desk,
    pub(crate) events: Events,
    pub(crate) changed: BTreeSet<Changed>,
    /// The `resourceVersion` last given away, durable or not.
    pub(crate) version: u64,
    /// The `resourceVersion` of each set's last change of status.
    pub(crate) status_versions: BTreeMap<SetUid, u64>,
}

/// Why a fleet could not be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// The records do not say which cluster this is and whose reign.
    NoCluster,
    /// There is more than one [`crate::ClusterRecord`].
    TwoClusters,
}

/// Where the term begins in a `resourceVersion`: 2^40 versions in one term are a million a second
/// for twelve days without a restart, 2^24 terms one restart a minute for 30 years.
const TERM_SHIFT: u32 = 40;

/// The last term whose `resourceVersion`s fit.
pub const LAST_TERM: Term = Term((1 << (u64::BITS - TERM_SHIFT)) - 1);

impl Fleet {
    /// The fleet of these records, in any order; nothing has been seen of it yet.
    ///
    /// # Errors
    /// When there is not exactly one [`crate::ClusterRecord`].
    pub fn restore(
        records: impl IntoIterator<Item = Record>,
        config: Config,
        now: Now,
    ) -> Result<Self, RestoreError> {
        let mut cluster = None;
        let mut writes = Vec::new();
        for record in records {
            match record {
                Record::Cluster(_) if cluster.is_some() => return Err(RestoreError::TwoClusters),
                Record::Cluster(found) => cluster = Some(found),
                record => writes.push(Write::put(record)),
            }
        }
        let cluster = cluster.ok_or(RestoreError::NoCluster)?;
        let mut fleet = Self {
            now,
            records: Records::new(cluster),
            seen: BTreeMap::new(),
            reported: BTreeMap::new(),
            tallies: BTreeMap::new(),
            clocks: BTreeMap::new(),
            leases: BTreeSet::new(),
            ripening: BTreeSet::new(),
            window_ends: now.steady.after(config.registration_window),
            tolerations: Tolerations::default(),
            unused: UnusedBlobs::default(),
            tails: Tails::default(),
            desk: Desk::default(),
            events: Events::new(&config, now.steady),
            changed: BTreeSet::new(),
            version: cluster.term.0 << TERM_SHIFT,
            status_versions: BTreeMap::new(),
            config,
        };
        fleet.record(&writes, now);
        fleet.take_up_clocks();
        fleet.changed.clear();
        Ok(fleet)
    }

    /// Follows writes that are stored (or about to be, in the batch under way). The only way in
    /// which records change. What was not decided by this fleet is taken as it is.
    pub fn record(&mut self, writes: &[Write], now: Now) {
        self.advance(now);
        let mut touched = Touched::default();
        for write in writes {
            self.records.apply(write, &mut touched);
            self.note_version(write);
            if let (RecordKey::Event(sequence), Some(_)) = (&write.key, &write.record) {
                self.changed.insert(Changed::Event(*sequence));
            }
            self.events.record(write);
        }
        for (key, set) in touched.gone.iter().chain(&touched.come) {
            // Also where its pod was never reported: it is not awaited any more; and where it still is
            // on a node that leaves, of which no cell tells.
            let counted = self.tallies.get(set).into_iter().flat_map(|tally| tally.cells.keys());
            let nodes = counted.chain(self.reported.get(key).into_iter().flatten());
            self.changed.extend(nodes.map(|node| Changed::Pod(*node, key.clone())));
        }
        if touched.hold {
            touched.sets.extend(self.records.sets.keys());
            self.doubt_all();
        }
        for node in &touched.nodes {
            self.touch_places(*node);
            self.follow_standing(*node);
            self.follow_taints(*node);
            self.changed.insert(Changed::Node(*node));
        }
        for digest in &touched.blobs {
            self.unused.follow(*digest, &self.records, self.now.steady);
        }
        self.changed.extend(touched.objects.iter().cloned().map(Changed::Object));
        let departed = touched.names.iter().filter_map(|name| self.records.departed.get(name));
        self.changed.extend(departed.flatten().map(|node| Changed::Node(*node)));
        for set in &touched.sets {
            self.refresh_set(*set);
        }
        for set in touched.numbered.difference(&touched.sets) {
            self.refresh_exceptions(*set);
        }
        if !touched.sets.is_empty() {
            self.follow_tolerations();
        }
        for node in touched.nodes {
            self.desk.doubt(node);
            self.refresh_node(node);
        }
        for (set, node) in touched.grants {
            if !mutated!(ForgetToOrder) {
                self.desk.doubt(node);
            }
            if !touched.sets.contains(&set) {
                self.refresh_cell(set, node);
            }
            self.tell_if_held(set, node);
        }
        touched.due.into_iter().for_each(|set| self.show_set(set));
        let gone = touched.gone.into_iter().map(|(key, set)| Changed::Set(key, set));
        self.changed.extend(gone);
    }

    /// Takes in what an agent said or the shell noticed. Returns the events to store, which
    /// [`Fleet::record`] must follow like all writes.
    pub fn observe(&mut self, observation: Observation, now: Now) -> Vec<Write> {
        self.advance(now);
        self.take_in(observation);
        self.events.take_writes()
    }

    /// What has changed since this was last asked. Where anything has, [`Fleet::version`] is a new
    /// one, so that whoever has seen the one before knows that something is missing.
    pub fn take_changes(&mut self) -> BTreeSet<Changed> {
        if !self.changed.is_empty() {
            self.next_version();
        }
        std::mem::take(&mut self.changed)
    }

    /// The numbers it decides by.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Which cluster this is and whose reign.
    pub const fn cluster(&self) -> crate::ClusterRecord {
        self.records.cluster
    }

    /// The `resourceVersion` of the newest change, stored or not.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Takes the place of `former` within one reign, some of whose records were not stored. No
    /// `resourceVersion` that watchers have seen and no generation that a node was given may be
    /// given away again; and what agents said stays true, whatever becomes of records. The version
    /// is a new one: what was told of lately may be gone, and who has seen the last version does not
    /// know that.
    ///
    /// Returns the nodes that `former` had let go of already: nothing is known of what they said,
    /// so that each must say it again.
    #[must_use = "the sessions of these nodes must begin anew"]
    pub fn succeed(&mut self, mut former: Self) -> Vec<NodeUid> {
        self.advance(former.now);
        self.version = self.version.max(former.version) + 1;
        self.window_ends = former.window_ends;
        self.clocks.append(&mut former.clocks);
        self.tails = std::mem::take(&mut former.tails);
        for (set, version) in former.status_versions {
            let known = self.status_versions.get_mut(&set);
            known.into_iter().for_each(|known| *known = version.max(*known));
        }
        let records = &self.records;
        let right = |node, order: &Order| {
            let told = as_told(records.assignment(node), former.seen.get(&node));
            records.hold.is_none() && order.assignment == told
        };
        self.desk.succeed(former.desk, right);
        let nodes: Vec<NodeUid> = self.seen.keys().copied().collect();
        let (known, lost) = nodes.into_iter().partition(|node| former.seen.contains_key(node));
        let known: Vec<NodeUid> = known;
        for node in &known {
            if let Some(seen) = former.seen.remove(node) {
                let leased = former.leases.contains(&(seen.deadline, *node));
                self.go_on_from(*node, seen, leased);
            }
        }
        known.into_iter().for_each(|node| self.refresh_node(node));
        lost
    }

    /// Holding begins or ends: every node is shown otherwise, and an order is due to each that hears.
    fn doubt_all(&mut self) {
        for (node, seen) in &self.seen {
            if seen.session.is_some() {
                self.desk.greet(*node);
            }
            self.changed.insert(Changed::Node(*node));
        }
        // Also what lives there of sets that are not known: until now it was the hold that kept it.
        let nodes: Vec<NodeUid> = self.seen.keys().copied().collect();
        nodes.into_iter().for_each(|node| self.touch_places(node));
    }

    /// What is shown of the set itself reads otherwise from now on.
    fn show_set(&mut self, set: SetUid) {
        let record = self.records.sets.get(&set).and_then(|records| records.record.as_ref());
        let shown = record.filter(|record| !record.set.is_orphaned());
        if let Some(key) = shown.map(|record| record.set.key.clone()) {
            let version = self.next_version();
            self.status_versions.insert(set, version);
            self.changed.insert(Changed::Set(key, set));
        }
    }

    /// While orders are held, whether a pod is as granted is what its reason goes by, and no cell
    /// shows it.
    fn tell_if_held(&mut self, set: SetUid, node: NodeUid) {
        let record = self.records.sets.get(&set).and_then(|records| records.record.as_ref());
        if let (Some(_), Some(record)) = (self.records.hold, record) {
            self.changed.insert(Changed::Pod(node, record.set.key.clone()));
        }
    }

    pub(crate) fn advance(&mut self, now: Now) {
        self.now.steady = self.now.steady.max(now.steady);
        self.now.wall = now.wall;
    }

    pub(crate) const fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// Computes anew what every set has to do with this node.
    pub(crate) fn refresh_node(&mut self, node: NodeUid) {
        let sets: Vec<SetUid> = self.records.sets.keys().copied().collect();
        for set in sets {
            self.refresh_cell(set, node);
        }
    }

    /// Computes anew what the set of that name has to do with this node.
    pub(crate) fn refresh(&mut self, node: NodeUid, key: &PodKey) {
        if let Some(set) = self.records.keys.get(key).copied() {
            self.refresh_cell(set, node);
        }
    }

    /// Computes anew what this set has to do with every node.
    fn refresh_set(&mut self, set: SetUid) {
        let Some(records) = self.records.sets.get(&set) else { return };
        let gone = records.record.as_ref().is_none_or(|record| record.set.is_orphaned());
        let empty = records.is_empty();
        let key = records.record.as_ref().map(|record| record.set.key.clone());
        let mut nodes: BTreeSet<NodeUid> = self.records.nodes.keys().copied().collect();
        nodes.extend(records.chunks.values().flat_map(|chunk| chunk.keys().copied()));
        if let Some(tally) = self.tallies.get(&set) {
            nodes.extend(tally.cells.keys().copied());
        }
        for node in nodes {
            // The rule itself may have changed, which no cell shows.
            let had = self.tallies.get(&set).and_then(|tally| tally.cells.get(&node)).copied();
            self.recount(set, node);
            let has = self.tallies.get(&set).and_then(|tally| tally.cells.get(&node)).copied();
            let placed = |cell: Option<Cell>| cell.is_some_and(|cell| cell.place != Place::None);
            if placed(had) || placed(has) {
                self.desk.doubt(node);
                if let Some(key) = &key {
                    self.changed.insert(Changed::Pod(node, key.clone()));
                }
            }
        }
        if empty {
            self.records.sets.remove(&set);
            self.tallies.remove(&set);
            self.status_versions.remove(&set);
        } else if let (false, Some(key)) = (gone, key) {
            self.changed.insert(Changed::Set(key, set));
        }
        // Not before all are counted by the same rule: what it takes for progress would be none.
        self.set_clock(set);
    }

    /// Computes anew what this set has to do with every node that has an exception: the rule is the same
    /// as before, and only the number of the rollout another.
    fn refresh_exceptions(&mut self, set: SetUid) {
        let Some(records) = self.records.sets.get(&set) else { return };
        let key = records.record.as_ref().filter(|record| !record.set.is_orphaned());
        let key = key.map(|record| record.set.key.clone());
        let chunks = records.chunks.values();
        let nodes: Vec<NodeUid> = chunks.flat_map(|chunk| chunk.keys().copied()).collect();
        nodes.into_iter().for_each(|node| self.recount(set, node));
        self.changed.extend(key.map(|key| Changed::Set(key, set)));
        self.set_clock(set);
    }

    /// Computes anew what this set has to do with this node, with all that follows.
    fn refresh_cell(&mut self, set: SetUid, node: NodeUid) {
        self.recount(set, node);
        self.set_clock(set);
    }

    /// Computes one cell anew and keeps the sums, the order of rollouts and the deadlines right.
    fn recount(&mut self, set: SetUid, node: NodeUid) {
        let Some(records) = self.records.sets.get(&set) else { return };
        let (cell, ripens) = self.cell(records, set, node);
        let key = records.record.as_ref().map(|record| record.set.key.clone());
        let orphaned = records.record.as_ref().is_some_and(|record| record.set.is_orphaned());
        let tally = self.tallies.entry(set).or_default();
        let shown = |tally: &Tally| (tally.status, tally.counts());
        let before = shown(tally);
        let former = tally.replace(node, cell);
        let counts_changed = shown(tally) != before;
        let Some(key) = key else { return };
        if former.place != cell.place || former.stand != cell.stand {
            self.changed.insert(Changed::Pod(node, key.clone()));
        }
        // To people, an orphaned one is gone.
        if counts_changed && !orphaned {
            let version = self.next_version();
            self.status_versions.insert(set, version);
            self.changed.insert(Changed::Set(key.clone(), set));
        }
        self.set_ripening(node, key, ripens);
    }

    fn set_ripening(&mut self, node: NodeUid, key: PodKey, ripens: Option<Timestamp>) {
        let place = self.seen.get_mut(&node).and_then(|seen| seen.places.get_mut(&key));
        let Some(place) = place else { return };
        if place.ripens == ripens {
            return;
        }
        if let Some(former) = place.ripens {
            self.ripening.remove(&(former, node, key.clone()));
        }
        place.ripens = ripens;
        if let Some(ripens) = ripens {
            self.ripening.insert((ripens, node, key));
        }
    }

    fn note_version(&mut self, write: &Write) {
        let stored = match &write.record {
            Some(Record::Node(node)) => node.resource_version,
            Some(Record::Set(set)) => set.resource_version,
            Some(Record::Object(object)) => object.resource_version,
            // What is gone has no version of its own, but watchers must see one pass.
            None => self.version + 1,
            Some(_) => 0,
        };
        self.version = self.version.max(stored);
    }
}

impl std::fmt::Display for RestoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoCluster => "the store does not say which cluster it is of",
            Self::TwoClusters => "the store says twice which cluster it is of",
        })
    }
}

impl std::error::Error for RestoreError {}
