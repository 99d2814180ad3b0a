//! The next durable step: of a rollout, or of cleaning up.
//!
//! ```text
//!   target = stable ──── a changed template ────▶ target ≠ stable
//!        ▲                                             │ grant: broken nodes at once, then
//!        │                                             │ available ones within the budget
//!        │                                             ▼
//!   tidy: drop exceptions ◀── finish: the rule ◀── pin: nodes that are away keep what
//!   that say what the         becomes the target    they have, as exceptions
//!   rule says
//! ```
//!
//! Only *grant* changes what a node must run; the other steps rewrite the same meaning, and may be
//! cut into as many writes as they need. Nodes that return later, pinned to a former revision, are
//! granted the target under the same budget.
//!
//! The budget is Kubernetes' `maxUnavailable` of the desired nodes, at least one. A node spends it
//! while it is reachable and its pod is not available, and also while it is dark but was granted
//! the target by this very rollout ([`crate::status::Stand`]). One that was away before its turn
//! neither spends nor blocks, also where a former rollout had granted it what is wanted again; nor
//! does one whose pod is held at the machine, whatever it was granted; it is not done either. With OnDelete nothing is granted by steps: `delete pod` grants, and a node that gets a
//! place gets the newest revision at once; the rule follows when all have it.
//!
//! So that the two can be told apart, no step is taken before a registration window has
//! passed; and none at all while orders are held (see the module `hold`).

use everynode_model::{NodeUid, Now, SetUid, Strategy};

use crate::Fleet;
use crate::config::MAX_WRITES;
use crate::grants::ChunkEdits;
use crate::record::{Grant, GrantHead, Record, RecordKey, Write};
use crate::records::SetRecords;
use crate::status::Tally;

impl Fleet {
    /// The next step that should become durable: at most 120 writes and 12,000 grants. Once they
    /// are stored and recorded, there may be another; empty when there is nothing to do.
    pub fn step(&self, now: Now) -> Vec<Write> {
        if self.records.hold.is_some() {
            return self.follow_step();
        }
        let swept = self.sweep(now);
        if !swept.is_empty() {
            return swept;
        }
        if now.steady < self.window_ends && !mutated!(IgnoreWindow) {
            return Vec::new();
        }
        let sets = self.records.sets.iter();
        let steps = sets.filter_map(|(uid, records)| self.rollout_step(*uid, records));
        steps.into_iter().find(|writes| !writes.is_empty()).unwrap_or_default()
    }

    /// How many nodes of a set may be unavailable at a time.
    pub(crate) fn budget(records: &SetRecords, tally: &Tally) -> usize {
        let strategy = records.record.as_ref().map(|record| record.set.strategy);
        match strategy {
            Some(Strategy::RollingUpdate { max_unavailable }) => {
                // Zero is refused at the door; if it came here, a rollout would never end.
                max_unavailable.of(tally.status.desired as usize).max(1)
            }
            Some(Strategy::OnDelete) | None => 0,
        }
    }

    fn rollout_step(&self, uid: SetUid, records: &SetRecords) -> Option<Vec<Write>> {
        let record = records.record.as_ref()?;
        let head = records.head.as_ref().filter(|head| head.marks.is_empty())?;
        // A set that no node has anything to do with has no tally, and a rollout that is over.
        let empty = Tally::default();
        let tally = self.tallies.get(&uid).unwrap_or(&empty);
        if matches!(record.set.strategy, Strategy::RollingUpdate { .. }) {
            let grants = grant_step(uid, records, head, tally);
            if !grants.is_empty() {
                return Some(grants);
            }
        } else if tally.absent + tally.held > 0 {
            // With OnDelete no node catches up by itself, so that it can't be left behind.
            return None;
        }
        if tally.moving > 0 || !tally.broken.is_empty() || !tally.waiting.is_empty() {
            return None;
        }
        Some(match head.stable == head.target {
            true => tidy_step(uid, records, tally),
            false if !tally.unpinned.is_empty() => pin_step(uid, records, head, tally),
            false => {
                let finished = GrantHead { stable: head.target, ..head.clone() };
                vec![Write::put(Record::GrantHead(finished))]
            }
        })
    }

    /// What no longer means anything: old tombstones and tokens, leftovers of deleted sets,
    /// exceptions of nodes without a place, revisions beyond the history limit.
    fn sweep(&self, now: Now) -> Vec<Write> {
        let mut writes = Vec::new();
        let age = i64::try_from(self.config.tombstone_age.as_millis()).unwrap_or(i64::MAX);
        let oldest = now.wall.unix_millis.saturating_sub(age);
        let old = self.records.tombstones.iter().take_while(|(at, _)| at.unix_millis < oldest);
        writes.extend(old.take(MAX_WRITES).map(|(_, node)| Write::delete(RecordKey::Node(*node))));

        let age = i64::try_from(self.config.expired_token_age.as_millis()).unwrap_or(i64::MAX);
        let oldest = now.wall.unix_millis.saturating_sub(age);
        let ended = self.records.tokens.values();
        let ended = ended.filter(|token| token.expires_at.unix_millis < oldest);
        writes.extend(ended.map(|token| Write::delete(RecordKey::Token(token.id.clone()))));

        for (uid, records) in &self.records.sets {
            if writes.len() >= MAX_WRITES {
                break;
            }
            match &records.record {
                None => writes.extend(leftovers(*uid, records)),
                Some(record) => {
                    let limit = record.set.history_limit as usize;
                    writes.extend(surplus_revisions(*uid, records, limit));
                }
            }
        }
        writes.truncate(MAX_WRITES);
        // Chunks weigh too much to be written together with anything else.
        if writes.is_empty() { self.stray_step() } else { writes }
    }

    fn stray_step(&self) -> Vec<Write> {
        let strays = |(uid, records): (&SetUid, &SetRecords)| {
            let tally = self.tallies.get(uid).filter(|tally| !tally.strays.is_empty())?;
            let mut edits = ChunkEdits::new(*uid, records);
            edit_while_there_is_room(&mut edits, tally.strays.iter(), |_| None);
            Some(edits.into_writes())
        };
        self.records.sets.iter().find_map(strays).unwrap_or_default()
    }
}

/// What is stored of a set besides its record: all of it goes when the set goes.
pub(crate) fn leftovers(uid: SetUid, records: &SetRecords) -> impl Iterator<Item = Write> {
    let head = records.head.iter().map(move |_| RecordKey::GrantHead(uid));
    let chunks = records.chunks.keys().map(move |number| RecordKey::GrantChunk(uid, *number));
    let revisions = records.revisions.keys().map(move |digest| RecordKey::Revision(uid, *digest));
    head.chain(chunks).chain(revisions).map(Write::delete)
}

/// Nodes whose pod is not available anyway are moved at once, as in Kubernetes; then available
/// ones, in order, while the budget lasts.
fn grant_step(uid: SetUid, records: &SetRecords, head: &GrantHead, tally: &Tally) -> Vec<Write> {
    let budget = if mutated!(IgnoreBudget) { usize::MAX } else { Fleet::budget(records, tally) };
    let spare = budget.saturating_sub(tally.spending());
    let chosen = tally.broken.iter().chain(tally.waiting.iter().take(spare));
    let mut edits = ChunkEdits::new(uid, records);
    let grant = Grant { revision: head.target, replace: 0, rollout: head.rollout };
    edit_while_there_is_room(&mut edits, chosen, |_| Some(grant));
    edits.into_writes()
}

/// Nodes that are away keep what they have, whatever the rule becomes.
fn pin_step(uid: SetUid, records: &SetRecords, head: &GrantHead, tally: &Tally) -> Vec<Write> {
    let mut edits = ChunkEdits::new(uid, records);
    let pin = Grant { revision: head.stable, replace: 0, rollout: 0 };
    edit_while_there_is_room(&mut edits, tally.unpinned.iter(), |_| Some(pin));
    edits.into_writes()
}

/// Drops exceptions that say what the rule says.
fn tidy_step(uid: SetUid, records: &SetRecords, tally: &Tally) -> Vec<Write> {
    let mut edits = ChunkEdits::new(uid, records);
    edit_while_there_is_room(&mut edits, tally.redundant.iter(), |_| None);
    edits.into_writes()
}

/// Returns whether there was room for all.
pub(crate) fn edit_while_there_is_room<'a>(
    edits: &mut ChunkEdits<'_>,
    nodes: impl Iterator<Item = &'a (u64, NodeUid)>,
    grant: impl Fn(NodeUid) -> Option<Grant>,
) -> bool {
    for (_, node) in nodes {
        if !edits.has_room_for(*node) {
            return false;
        }
        edits.set(*node, grant(*node));
    }
    true
}

/// Old revisions beyond the limit, oldest first; those in use do not count, as in Kubernetes.
fn surplus_revisions(uid: SetUid, records: &SetRecords, limit: usize) -> Vec<Write> {
    let Some(head) = &records.head else { return Vec::new() };
    if records.revisions.len() <= limit.saturating_add(1) {
        return Vec::new();
    }
    let in_use = |digest| {
        let named = digest == head.stable || digest == head.target;
        (named || records.uses.contains_key(&digest)) && !mutated!(DropRevisionsInUse)
    };
    let old = records.revisions.values().filter(|revision| !in_use(revision.digest));
    let mut old: Vec<_> = old.map(|revision| (revision.number, revision.digest)).collect();
    old.sort_unstable();
    let surplus = old.len().saturating_sub(limit);
    let delete = |(_, digest)| Write::delete(RecordKey::Revision(uid, digest));
    old.into_iter().take(surplus).map(delete).collect()
}
