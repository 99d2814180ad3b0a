//! Puts groups of writes into transactions and commits them, in order.
//!
//! A group is one decision's writes and is never split: all of it is stored, or none. Several
//! groups share a transaction as long as they fit; the last write to a key counts.

use std::collections::BTreeMap;

use everynode_coordinator_core::Write;
use everynode_store::{
    MAX_TXN_BYTES, MAX_TXN_OPS, Op, Outcome, Result, Revision, Store, StoreError, Txn,
};

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

/// The encoded writes of one or more groups.
#[derive(Default)]
struct Batch {
    ops: BTreeMap<String, Op>,
    bytes: usize,
    groups: usize,
}

/// Commits `groups` in order and returns how many were, with the error that stopped it.
pub(super) async fn commit(
    store: &dyn Store,
    fence: Fence,
    groups: &[Vec<Write>],
) -> (usize, Result<()>) {
    let mut committed = 0;
    for batch in pack(groups) {
        if !batch.ops.is_empty()
            && let Err(error) = commit_batch(store, fence, batch.ops).await
        {
            return (committed, Err(error));
        }
        committed += batch.groups;
    }
    (committed, Ok(()))
}

fn pack(groups: &[Vec<Write>]) -> Vec<Batch> {
    let mut batches = vec![Batch::default()];
    for group in groups {
        let ops: Vec<Op> = group.iter().map(records::encode).collect();
        let bytes = ops.iter().map(size).sum::<usize>();
        let full = batches.last().is_some_and(|batch| {
            batch.groups > 0
                && (batch.ops.len() + ops.len() > MAX_TXN_OPS
                    || batch.bytes + bytes > MAX_TXN_BYTES - RESERVE)
        });
        if full {
            batches.push(Batch::default());
        }
        if let Some(batch) = batches.last_mut() {
            batch.ops.extend(ops.into_iter().map(|op| (op.key().to_owned(), op)));
            batch.bytes += bytes;
            batch.groups += 1;
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

async fn commit_batch(store: &dyn Store, fence: Fence, ops: BTreeMap<String, Op>) -> Result<()> {
    let mut txn = Txn::new().expect(records::CLUSTER_KEY, fence.0);
    txn.ops = ops.into_values().collect();
    match store.txn(txn).await? {
        Outcome::Committed { revision } => {
            if revision.is_multiple_of(KEPT_REVISIONS) {
                store.compact(revision.saturating_sub(KEPT_REVISIONS)).await?;
            }
            Ok(())
        }
        // Another coordinator has raised the term: this one must not write any more.
        Outcome::CompareFailed { .. } => Err(StoreError::Closed),
    }
}
