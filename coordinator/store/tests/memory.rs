//! The memory engine: the contract, and the faults it can be told to have.

// See `contract`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod contract;

use std::sync::Arc;
use std::time::Duration;

use everynode_store::memory::{Fault, InFlight};
use everynode_store::{MemoryStore, Outcome, Store, StoreError, Txn};
use futures_util::StreamExt;
use futures_util::future::poll_immediate;

use crate::contract::Fixture;

fn fixture() -> Fixture {
    Fixture { store: Arc::new(MemoryStore::new()), _guard: Box::new(()) }
}

contract::contract!(fixture);

/// Any time at all: no timer is over when it is first asked.
const LATENCY: Duration = Duration::from_millis(50);

fn put(key: &str) -> Txn {
    Txn::new().put(key, "x")
}

/// Starts a transaction that is in flight when this returns, and crashes.
async fn crash_in_flight(store: &MemoryStore, in_flight: InFlight) -> Result<Outcome, StoreError> {
    store.set_latency(LATENCY);
    let txn = store.txn(put("/in-flight"));
    tokio::pin!(txn);
    assert!(poll_immediate(&mut txn).await.is_none());
    store.crash(in_flight);
    txn.await
}

#[tokio::test]
async fn a_crash_forgets_what_was_not_acknowledged() {
    let store = MemoryStore::new();
    store.txn(put("/synced")).await.unwrap();
    let unheard = crash_in_flight(&store, InFlight::Lost).await;
    assert!(matches!(unheard, Err(StoreError::Closed)), "{unheard:?}");
    assert_eq!(store.revision().await.unwrap(), 1);
    assert!(store.get("/synced").await.unwrap().is_some());
    assert!(store.get("/in-flight").await.unwrap().is_none());
}

#[tokio::test]
async fn a_crash_may_keep_what_was_not_acknowledged() {
    let store = MemoryStore::new();
    store.txn(put("/synced")).await.unwrap();
    let unheard = crash_in_flight(&store, InFlight::Kept).await;
    assert!(matches!(unheard, Err(StoreError::Closed)), "{unheard:?}");
    assert_eq!(store.get("/in-flight").await.unwrap().unwrap().mod_revision, 2);
}

#[tokio::test]
async fn nothing_is_visible_before_it_is_synced() {
    let store = MemoryStore::new();
    store.set_latency(LATENCY);
    let mut watch = store.watch("/", 1).await.unwrap();
    let (first, second) = (store.txn(put("/1")), store.txn(put("/2")));
    tokio::pin!(first, second);
    assert!(poll_immediate(&mut first).await.is_none());
    assert!(poll_immediate(&mut second).await.is_none());
    assert!(poll_immediate(watch.next()).await.is_none());
    assert_eq!(store.revision().await.unwrap(), 0);
    // Commits keep the order of their calls, whichever is awaited first.
    assert_eq!(second.await.unwrap(), Outcome::Committed { revision: 2 });
    assert_eq!(first.await.unwrap(), Outcome::Committed { revision: 1 });
    assert_eq!(watch.next().await.unwrap().unwrap().key, "/1");
}

#[tokio::test]
async fn a_crash_ends_watches() {
    let store = MemoryStore::new();
    for _ in 0..600 {
        store.txn(put("/a")).await.unwrap();
    }
    let mut live = store.watch("/", 601).await.unwrap();
    let mut replaying = store.watch("/", 1).await.unwrap();
    store.crash(InFlight::Lost);
    assert!(matches!(contract::next(&mut live).await, Some(Err(StoreError::Closed))));
    let last = loop {
        let item = contract::next(&mut replaying).await.unwrap();
        if item.is_err() {
            break item;
        }
    };
    assert!(matches!(last, Err(StoreError::Closed)));
    assert_eq!(store.watch("/", 1).await.unwrap().take(600).count().await, 600);
}

#[tokio::test]
async fn a_failed_commit_leaves_no_trace() {
    let store = MemoryStore::new();
    let mut watch = store.watch("/", 0).await.unwrap();
    store.fail_next(2, Fault::Full);
    for _ in 0..2 {
        assert!(matches!(store.txn(put("/a")).await, Err(StoreError::Full { .. })));
    }
    assert_eq!(store.revision().await.unwrap(), 0);
    assert_eq!(store.txn(put("/b")).await.unwrap(), Outcome::Committed { revision: 1 });
    assert_eq!(watch.next().await.unwrap().unwrap().key, "/b");
}

#[tokio::test]
async fn an_unconfirmed_commit_is_there_all_the_same() {
    let store = MemoryStore::new();
    store.fail_next(1, Fault::Unconfirmed);
    assert!(matches!(store.txn(put("/a")).await, Err(StoreError::Io { .. })));
    assert!(store.get("/a").await.unwrap().is_some());
    assert_eq!(store.txn(put("/b")).await.unwrap(), Outcome::Committed { revision: 2 });
}
