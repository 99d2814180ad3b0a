//! Puts groups of writes into transactions and commits them, in order.
//!
//! A group is one decision's writes and is never split: all of it is stored, or none. Several
//! groups share a transaction as long as they fit; the last write to a key counts. A group that
//! would fit no transaction is refused before anything comes of it ([`Group::new`]).

use std::collections::BTreeMap;

use everynode_coordinator_core::Write;
use everynode_store::{MAX_TXN_BYTES, MAX_TXN_OPS, Op, Outcome, Revision, Store, StoreError, Txn};

use crate::records;

/// Superseded versions are forgotten once so many revisions have passed; nobody reads them but a
/// watch that is as far behind.
const KEPT_REVISIONS: Revision = 1024;

/// Left free in every transaction for the fence's own key.
const RESERVE: usize = 1024;

/// What must be unchanged in the store for this coordinator to be the one that leads: the revision
/// at which it stored its term.
#[derive(Clone, Copy, Debug)]
pub struct Fence(pub Revision);

/// Writes that are stored all or none.
pub(super) struct Group {
    writes: Vec<Write>,
    ops: Vec<Op>,
    bytes: usize,
}

/// Why something was not committed.
#[derive(Debug)]
pub(super) enum CommitError {
    /// The store did not take it.
    Store(StoreError),
    /// Another coordinator has raised the term: this one must do nothing any more.
    Overtaken,
}

/// The encoded writes of one or more groups.
#[derive(Default)]
struct Batch {
    ops: BTreeMap<String, Op>,
    bytes: usize,
    groups: usize,
}

impl Group {
    /// Encodes `writes`.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] when they fit no transaction.
    pub(super) fn new(writes: Vec<Write>) -> Result<Self, StoreError> {
        let ops: Vec<Op> = writes.iter().map(records::encode).collect();
        let bytes = ops.iter().map(size).sum();
        let too_large = |what, got, max| Err(StoreError::TooLarge { what, got, max });
        if ops.len() > MAX_TXN_OPS {
            return too_large("records changed at once", ops.len(), MAX_TXN_OPS);
        }
        if bytes > MAX_TXN_BYTES - RESERVE {
            return too_large("bytes of records changed at once", bytes, MAX_TXN_BYTES - RESERVE);
        }
        Ok(Self { writes, ops, bytes })
    }

    /// The writes.
    pub(super) fn writes(&self) -> &[Write] {
        &self.writes
    }
}

/// Commits `groups` in order and returns how many were, with the error that stopped it.
pub(super) async fn commit(
    store: &dyn Store,
    fence: Fence,
    groups: &[Group],
) -> (usize, Result<(), CommitError>) {
    let mut committed = 0;
    for batch in pack(groups) {
        if let Err(error) = commit_batch(store, fence, batch.ops).await {
            return (committed, Err(error));
        }
        committed += batch.groups;
    }
    (committed, Ok(()))
}

fn pack(groups: &[Group]) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for group in groups {
        let fits = |batch: &&mut Batch| {
            batch.ops.len() + group.ops.len() <= MAX_TXN_OPS
                && batch.bytes + group.bytes <= MAX_TXN_BYTES - RESERVE
        };
        let mut fresh = Batch::default();
        let batch = batches.last_mut().filter(fits).unwrap_or(&mut fresh);
        batch.ops.extend(group.ops.iter().map(|op| (op.key().to_owned(), op.clone())));
        batch.bytes += group.bytes;
        batch.groups += 1;
        if fresh.groups > 0 {
            batches.push(fresh);
        }
    }
    batches
}

fn size(op: &Op) -> usize {
    match op {
        Op::Put { key, value } => key.len() + value.len(),
        Op::Delete { key } => key.len(),
    }
}

async fn commit_batch(
    store: &dyn Store,
    fence: Fence,
    ops: BTreeMap<String, Op>,
) -> Result<(), CommitError> {
    let mut txn = Txn::new().expect(records::CLUSTER_KEY, fence.0);
    txn.ops = ops.into_values().collect();
    match store.txn(txn).await.map_err(CommitError::Store)? {
        Outcome::Committed { revision } => {
            compact(store, revision).await;
            Ok(())
        }
        Outcome::CompareFailed { .. } => Err(CommitError::Overtaken),
    }
}

/// What was committed stays committed, whether or not the past could be forgotten.
async fn compact(store: &dyn Store, revision: Revision) {
    if revision.is_multiple_of(KEPT_REVISIONS)
        && let Err(error) = store.compact(revision.saturating_sub(KEPT_REVISIONS)).await
    {
        tracing::warn!(%error, "superseded versions could not be dropped; tried again later");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use everynode_coordinator_core::RecordKey;
    use everynode_store::MemoryStore;
    use everynode_store::memory::Fault;

    fn group(writes: usize, first: u64) -> Group {
        let delete = |number| Write::delete(RecordKey::Event(first + number as u64));
        Group::new((0..writes).map(delete).collect()).unwrap()
    }

    #[test]
    fn what_fits_no_transaction_is_refused_before_anything_comes_of_it() {
        let deletes = (0..=MAX_TXN_OPS as u64).map(RecordKey::Event).map(Write::delete);
        assert!(matches!(Group::new(deletes.collect()), Err(StoreError::TooLarge { .. })));
    }

    #[test]
    fn groups_share_a_transaction_and_are_never_split() {
        let groups = [group(60, 0), group(60, 100), group(60, 200)];
        let sizes: Vec<_> =
            pack(&groups).iter().map(|batch| (batch.groups, batch.ops.len())).collect();
        assert_eq!(sizes, [(2, 120), (1, 60)]);
    }

    #[test]
    fn of_two_writes_to_a_key_the_later_counts() {
        let batches = pack(&[group(1, 7), group(1, 7)]);
        assert_eq!((batches.len(), batches[0].ops.len(), batches[0].groups), (1, 1, 2));
    }

    #[tokio::test]
    async fn what_was_committed_before_a_failure_is_counted() {
        let store = MemoryStore::new();
        let led = store.txn(Txn::new().put(records::CLUSTER_KEY, "x")).await;
        let Ok(Outcome::Committed { revision }) = led else { panic!("{led:?}") };
        let groups = [group(100, 0), group(100, 200)];
        store.fail_next(1, Fault::Full);
        assert_eq!(commit(&store, Fence(revision), &groups).await.0, 0);
        assert!(matches!(commit(&store, Fence(revision), &groups).await, (2, Ok(()))));
    }

    #[tokio::test]
    async fn a_coordinator_that_was_overtaken_writes_nothing() {
        let store = MemoryStore::new();
        store.txn(Txn::new().put(records::CLUSTER_KEY, "another term")).await.unwrap();
        let (committed, result) = commit(&store, Fence(99), &[group(1, 0)]).await;
        assert!(matches!((committed, result), (0, Err(CommitError::Overtaken))));
    }
}
