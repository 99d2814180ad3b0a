//! What an agent keeps on disk: who it is, the last order it accepted, and whether it is leaving.
//!
//! It holds decisions only. What runs is found out by looking; a local restart writes nothing.

use std::collections::BTreeMap;

use everynode_model::{Assignment, ClusterId, NodeUid, PodKey, SessionNonce, SetUid, Stamp};

use crate::event::Marks;
use crate::hold::Holds;

/// How often a machine may be taken to another coordinator and still answer for what it started under
/// the first: more often than anybody rebuilds one. Beyond that the oldest is nobody's, and never
/// touched.
pub const MAX_FORMERS: usize = 8;

/// The ledger's contents. How they look on disk is the shell's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// The cluster this machine belongs to.
    pub cluster: ClusterId,
    /// Who it is there.
    pub node: NodeUid,
    /// Whether it stays.
    pub standing: Standing,
    /// The newest order accepted; `None` before the first, and where the ledger that had it was
    /// lost. Until there is one, nobody knows what this machine ought to run: what runs is left.
    pub accepted: Option<Stamp>,
    /// That order's content; without one, what was found here and is kept as it was.
    pub assignment: Assignment,
    /// Which runtime holds each place, so that a death is confirmed where the life was. Entries
    /// outlive their item until the place was seen empty.
    pub places: BTreeMap<PodKey, String>,
    /// The newest session's mark: tells a stale copy of this ledger from the original.
    pub session: Option<SessionNonce>,
    /// Who it was before it was taken here, oldest first, at most [`MAX_FORMERS`]: what it started
    /// as one of them is its own. Kept with the identity, which is written before this.
    pub formers: Vec<Marks>,
    /// By place, which DaemonSets of former coordinators the present one goes on with.
    pub heirs: BTreeMap<PodKey, Heir>,
    /// What somebody at the machine keeps as it is, whatever is ordered.
    pub holds: Holds,
}

/// A DaemonSet that goes on with those that former coordinators had in the same place: a pod made for
/// one of them counts as one made for this, so that nothing is restarted for another name of the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heir {
    /// The DaemonSets that it goes on with; it is not among them itself. At most one for each former.
    pub of: Vec<SetUid>,
    /// The one that goes on.
    pub set: SetUid,
    /// Which replace counter their pods count under.
    pub replace: u64,
}

/// Whether a machine belongs to its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Active,
    /// It is tearing down; nothing starts any more, whatever else is ordered.
    Leaving(Departure),
    /// It is empty and has said so, or was told that nobody waits to hear it.
    Left,
}

/// Who wants a machine to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// Its coordinator: the node was deleted.
    Deregistered,
    /// Somebody at the machine.
    Requested,
}

impl Ledger {
    /// The ledger of a machine that has just joined.
    pub fn joined(cluster: ClusterId, node: NodeUid) -> Self {
        Self {
            cluster,
            node,
            standing: Standing::Active,
            accepted: None,
            assignment: Assignment::default(),
            places: BTreeMap::new(),
            session: None,
            formers: Vec::new(),
            heirs: BTreeMap::new(),
            holds: Holds::default(),
        }
    }

    /// The same machine in the hands of another coordinator, which has not ordered anything yet:
    /// until it does, what was ordered before is kept up. Where the machine was leaving, nothing is.
    #[must_use]
    pub fn rejoined(self, to: Marks) -> Self {
        let stays = self.standing == Standing::Active;
        Self {
            formers: formers(&self.formers, self.marks(), to),
            cluster: to.cluster,
            node: to.node,
            standing: Standing::Active,
            accepted: None,
            assignment: if stays { self.assignment } else { Assignment::default() },
            // What was heeded no more must not bring anything back.
            holds: if stays { self.holds } else { Holds::default() },
            session: None,
            ..self
        }
    }

    /// What everything that it starts bears.
    pub const fn marks(&self) -> Marks {
        Marks { cluster: self.cluster, node: self.node }
    }

    /// Whether what bears these marks was started by this machine, under whichever name.
    pub fn is_ours(&self, marks: Marks) -> bool {
        marks == self.marks() || self.formers.contains(&marks)
    }

    /// Whether it is, or was, of this cluster.
    pub fn knows(&self, cluster: ClusterId) -> bool {
        self.clusters().any(|known| known == cluster)
    }

    /// The clusters that it is or was of; one may be named twice.
    pub fn clusters(&self) -> impl Iterator<Item = ClusterId> + '_ {
        std::iter::once(self.cluster).chain(self.formers.iter().map(|former| former.cluster))
    }

    /// The DaemonSet and the replace counter that a pod in this place counts under, which was made
    /// under these.
    pub fn counts_as(&self, key: &PodKey, set: SetUid, replace: u64) -> (SetUid, u64) {
        match self.heirs.get(key) {
            Some(heir) if heir.of.contains(&set) => (heir.set, heir.replace),
            _ => (set, replace),
        }
    }

    /// Who goes on with whom when `next` is the first that the present coordinator orders, or a
    /// later one: then only those stay that it still names.
    pub(crate) fn heirs_under(&self, next: &Assignment) -> BTreeMap<PodKey, Heir> {
        let first = self.accepted.is_none() && !self.formers.is_empty();
        let heir = |item: &everynode_model::Item| {
            let known = self.heirs.get(&item.key);
            if !first {
                // What is to be replaced goes on with nobody.
                let replaced =
                    |heir: &&Heir| heir.of.contains(&item.set) && heir.replace != item.replace;
                return known.filter(|heir| heir.set == item.set && !replaced(heir)).cloned();
            }
            let mut of: Vec<SetUid> = known.map(|heir| heir.of.clone()).unwrap_or_default();
            let former = self.assignment.get(&item.key);
            of.retain(|set| *set != item.set);
            // The very set, where the machine is a new node of the same cluster: its pod may have been
            // replaced under the old one, of which the new one's counter knows nothing.
            let same = |former: &&everynode_model::Item| {
                former.set != item.set || former.replace != item.replace
            };
            of.extend(former.filter(same).map(|former| former.set));
            of.dedup();
            let surplus = of.len().saturating_sub(MAX_FORMERS);
            of.drain(..surplus);
            let heir = Heir { of, set: item.set, replace: item.replace };
            Some(heir).filter(|heir| !heir.of.is_empty())
        };
        next.items().filter_map(|item| Some((item.key.clone(), heir(item)?))).collect()
    }
}

/// Who a machine was before it became `to`, when it was `last` and before that `earlier`.
pub fn formers(earlier: &[Marks], last: Marks, to: Marks) -> Vec<Marks> {
    let mut formers: Vec<Marks> = earlier.to_vec();
    formers.retain(|former| *former != last && *former != to);
    formers.extend(Some(last).filter(|last| *last != to));
    let surplus = formers.len().saturating_sub(MAX_FORMERS);
    formers.drain(..surplus);
    formers
}
