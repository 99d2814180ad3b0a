//! Watches: replay, live, the seam between them, and bounds.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use everynode_store::{
    Change, Event, MAX_TXN_OPS, MAX_WATCH_EVENTS, MAX_WATCHES, Revision, Store, StoreError, Txn,
};
use futures_util::{FutureExt, StreamExt};

use super::{commit, events, next, put};

const WRITERS: usize = 4;
const WRITES: usize = 60;

pub(crate) async fn history_then_live_without_gap_or_duplicate(store: Arc<dyn Store>) {
    let (tell, mut heard) = tokio::sync::mpsc::channel(WRITERS * WRITES);
    for writer in 0..WRITERS {
        let (store, tell) = (Arc::clone(&store), tell.clone());
        tokio::spawn(async move {
            for n in 0..WRITES {
                let key = |part| format!("/w/{writer}/{n}/{part}");
                let revision = commit(&store, Txn::new().put(key(0), "").put(key(1), "")).await;
                tell.send((revision, [key(0), key(1)])).await.unwrap();
            }
        });
    }
    drop(tell);
    let mut written: BTreeMap<Revision, [String; 2]> = BTreeMap::new();
    let mut watches = Vec::new();
    // Watches start while the writers write, each with some history behind it.
    while let Some((revision, keys)) = heard.recv().await {
        written.insert(revision, keys);
        if written.len() % 40 == 1 {
            watches.push((1, store.watch("/w/", 1).await.unwrap()));
            watches.push((revision, store.watch("/w/", revision).await.unwrap()));
        }
    }
    assert_eq!(written.len(), WRITERS * WRITES);
    for (from, mut watch) in watches {
        let expected: Vec<_> = written
            .range(from..)
            .flat_map(|(revision, keys)| keys.iter().map(|key| (*revision, key.clone())))
            .collect();
        let seen = events(&mut watch, expected.len()).await;
        let seen: Vec<_> = seen.into_iter().map(|event| (event.revision, event.key)).collect();
        assert_eq!(seen, expected);
        assert!(watch.next().now_or_never().is_none(), "nothing is told twice");
    }
}

pub(crate) async fn history_longer_than_a_page_is_replayed_whole(store: Arc<dyn Store>) {
    let history = 5000;
    for first in (0..history).step_by(100) {
        let txn = (first..first + 100).fold(Txn::new(), |txn, n| txn.put(format!("/{n:04}"), ""));
        commit(&store, txn).await;
    }
    let value = Bytes::from(vec![1; 700_000]);
    for n in 0..3 {
        commit(&store, Txn::new().put(format!("/big/{n}"), value.clone())).await;
    }
    let mut all = store.watch("", 1).await.unwrap();
    let mut rare = store.watch("/4999", 0).await.unwrap();
    let seen = events(&mut all, history + 3).await;
    let keys: Vec<_> = seen.iter().take(history).map(|event| event.key.clone()).collect();
    assert_eq!(keys, (0..history).map(|n| format!("/{n:04}")).collect::<Vec<_>>());
    assert_eq!(seen[history + 2].change, Change::Put(value));
    assert_eq!(events(&mut rare, 1).await[0].revision, 50);
    put(&store, "/4999", "live").await;
    assert_eq!(events(&mut rare, 1).await, events(&mut all, 1).await);
}

pub(crate) async fn a_watch_sees_its_prefix_only(store: Arc<dyn Store>) {
    commit(&store, Txn::new().put("/a/1", "x").put("/ab", "x").put("/b", "x")).await;
    let mut watch = store.watch("/a/", 1).await.unwrap();
    commit(&store, Txn::new().delete("/ab").delete("/a/absent").put("/a/2", "y")).await;
    commit(&store, Txn::new().delete("/b")).await;
    commit(&store, Txn::new().delete("/a/1")).await;
    let event = |revision, key: &str, change| Event { revision, key: key.to_owned(), change };
    assert_eq!(
        events(&mut watch, 3).await,
        [
            event(1, "/a/1", Change::Put("x".into())),
            event(2, "/a/2", Change::Put("y".into())),
            event(4, "/a/1", Change::Delete),
        ]
    );
}

pub(crate) async fn a_watch_from_the_future_waits_for_it(store: Arc<dyn Store>) {
    let mut watch = store.watch("/", 3).await.unwrap();
    for _ in 0..3 {
        put(&store, "/a", "").await;
    }
    assert_eq!(events(&mut watch, 1).await[0].revision, 3);
}

pub(crate) async fn a_watch_continues_a_listing(store: Arc<dyn Store>) {
    put(&store, "/a", "1").await;
    put(&store, "/a", "2").await;
    let listing = store.list("/", None).await.unwrap();
    put(&store, "/a", "3").await;
    let mut watch = store.watch("/", listing.revision + 1).await.unwrap();
    assert_eq!(events(&mut watch, 1).await[0].change, Change::Put("3".into()));
}

pub(crate) async fn a_reader_that_falls_behind_is_told_where_to_resume(store: Arc<dyn Store>) {
    let mut watch = store.watch("/k/", 1).await.unwrap();
    let mut other = store.watch("/other", 1).await.unwrap();
    let full = u64::try_from(MAX_WATCH_EVENTS / MAX_TXN_OPS).unwrap();
    for _ in 0..full + 2 {
        let puts = (0..MAX_TXN_OPS).fold(Txn::new(), |txn, n| txn.put(format!("/k/{n}"), ""));
        commit(&store, puts).await;
    }
    let kept = events(&mut watch, MAX_WATCH_EVENTS).await;
    assert_eq!(kept.last().unwrap().revision, full, "whole transactions, and the first of them");
    let lagged = next(&mut watch).await.unwrap();
    let Err(StoreError::Lagged { missed_from }) = lagged else { panic!("{lagged:?}") };
    assert_eq!(missed_from, full + 1);
    assert!(next(&mut watch).await.is_none(), "an error ends the stream");
    let mut resumed = store.watch("/k/", missed_from).await.unwrap();
    assert_eq!(events(&mut resumed, 2 * MAX_TXN_OPS).await[0].revision, full + 1);
    put(&store, "/other", "").await;
    assert_eq!(events(&mut other, 1).await[0].revision, full + 3, "others are not affected");
}

pub(crate) async fn dropped_watches_make_room(store: Arc<dyn Store>) {
    let mut watches = Vec::new();
    for _ in 0..MAX_WATCHES {
        watches.push(store.watch("/", 1).await.unwrap());
    }
    let refused = store.watch("/", 1).await.err();
    assert!(matches!(refused, Some(StoreError::TooManyWatches { .. })), "{refused:?}");
    watches.pop();
    watches.push(store.watch("/", 1).await.unwrap());
}
