//! What no longer means anything: old tombstones and tokens, leftovers of deleted sets and
//! namespaces, exceptions of nodes without a place, revisions beyond the history limit, content that no
//! revision names.

use everynode_model::{Now, SetUid};

use crate::Fleet;
use crate::config::MAX_WRITES;
use crate::grants::ChunkEdits;
use crate::record::{RecordKey, Write};
use crate::records::SetRecords;
use crate::rollout::edit_while_there_is_room;

impl Fleet {
    /// The next writes of cleaning up; empty when there is nothing to do.
    pub(crate) fn sweep(&self, now: Now) -> Vec<Write> {
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

        writes.extend(self.unused.sweep(now.steady).take(MAX_WRITES));
        writes.extend(self.namespace_step());

        for (uid, records) in &self.records.sets {
            if writes.len() >= MAX_WRITES {
                break;
            }
            match &records.record {
                Some(record) if !record.set.is_orphaned() || !records.chunks.is_empty() => {
                    let limit = record.set.history_limit as usize;
                    writes.extend(surplus_revisions(*uid, records, limit));
                }
                // It was deleted, and the last of its pods is gone where it was without them.
                _ => writes.extend(all_of_set(*uid, records)),
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

/// All that is stored of a set goes, its record first: what is left after that means nothing any more,
/// and is swept by steps.
pub(crate) fn all_of_set(uid: SetUid, records: &SetRecords) -> impl Iterator<Item = Write> {
    let record = records.record.iter().map(|record| RecordKey::Set(record.set.key.clone()));
    let head = records.head.iter().map(move |_| RecordKey::GrantHead(uid));
    let chunks = records.chunks.keys().map(move |number| RecordKey::GrantChunk(uid, *number));
    let revisions = records.revisions.keys().map(move |digest| RecordKey::Revision(uid, *digest));
    record.chain(head).chain(chunks).chain(revisions).map(Write::delete)
}

/// Old revisions beyond the limit, oldest first; those in use do not count, as in Kubernetes.
fn surplus_revisions(uid: SetUid, records: &SetRecords, limit: usize) -> Vec<Write> {
    let Some(head) = &records.head else { return Vec::new() };
    if records.revisions.len() <= limit.saturating_add(1) {
        return Vec::new();
    }
    let in_use = |digest| {
        let named = Some(digest) == head.stable || digest == head.target;
        (named || records.uses.contains_key(&digest)) && !mutated!(DropRevisionsInUse)
    };
    let old = records.revisions.values().filter(|revision| !in_use(revision.digest));
    let mut old: Vec<_> = old.map(|revision| (revision.number, revision.digest)).collect();
    old.sort_unstable();
    let surplus = old.len().saturating_sub(limit);
    let delete = |(_, digest)| Write::delete(RecordKey::Revision(uid, digest));
    old.into_iter().take(surplus).map(delete).collect()
}
