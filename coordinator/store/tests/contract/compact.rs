//! Compaction: what goes, what stays, who is told.

use std::sync::Arc;

use everynode_store::{Change, Store, StoreError, Txn};

use super::{commit, events, keys, next, put};

pub(crate) async fn superseded_versions_go_and_the_rest_stays(store: Arc<dyn Store>) {
    commit(&store, Txn::new().put("/old", "1").put("/kept", "1").put("/gone", "1")).await;
    put(&store, "/old", "2").await;
    commit(&store, Txn::new().delete("/gone")).await;
    commit(&store, Txn::new().delete("/kept")).await;
    put(&store, "/old", "5").await;
    store.compact(4).await.unwrap();
    let at_horizon = store.list("/", Some(4)).await.unwrap();
    assert_eq!(at_horizon.items.len(), 1);
    assert_eq!((&at_horizon.items[0].value[..], at_horizon.items[0].mod_revision), (&b"2"[..], 2));
    assert_eq!(&store.get("/old").await.unwrap().unwrap().value[..], b"5");
    for at in 0..4 {
        let refused = store.list("/", Some(at)).await;
        let right = matches!(
            refused,
            Err(StoreError::Compacted { requested, oldest: 4 }) if requested == at
        );
        assert!(right, "{refused:?}");
    }
    assert_eq!(commit(&store, Txn::new().expect_absent("/gone").put("/gone", "6")).await, 6);
    assert_eq!(keys(&store, "/", None).await, ["/gone", "/old"]);
}

pub(crate) async fn a_watch_from_before_a_compaction_is_refused(store: Arc<dyn Store>) {
    put(&store, "/a", "1").await;
    commit(&store, Txn::new().delete("/a")).await;
    put(&store, "/a", "3").await;
    let mut running = store.watch("/", 1).await.unwrap();
    store.compact(2).await.unwrap();
    let refused = store.watch("/", 1).await.err();
    assert!(
        matches!(refused, Some(StoreError::Compacted { requested: 1, oldest: 2 })),
        "{refused:?}"
    );
    let mut watch = store.watch("/", 2).await.unwrap();
    let replayed = events(&mut watch, 2).await;
    assert_eq!(replayed[0].change, Change::Delete, "what happened at the horizon is replayed");
    assert_eq!(replayed[1].revision, 3);
    assert_eq!(events(&mut running, 3).await.len(), 3, "a watch that was up to date is not cut");
}

pub(crate) async fn compaction_is_idempotent_and_never_ahead(store: Arc<dyn Store>) {
    put(&store, "/a", "1").await;
    put(&store, "/a", "2").await;
    store.compact(2).await.unwrap();
    store.compact(2).await.unwrap();
    store.compact(1).await.unwrap();
    let refused = store.compact(3).await;
    assert!(
        matches!(refused, Err(StoreError::FutureRevision { requested: 3, current: 2 })),
        "{refused:?}"
    );
    assert!(matches!(store.list("/", Some(1)).await, Err(StoreError::Compacted { oldest: 2, .. })));
    assert_eq!(put(&store, "/a", "3").await, 3);
}

pub(crate) async fn a_replay_overtaken_by_a_compaction_says_so(store: Arc<dyn Store>) {
    for _ in 0..50 {
        let puts = (0..100).fold(Txn::new(), |txn, n| txn.put(format!("/{n}"), ""));
        commit(&store, puts).await;
    }
    let mut watch = store.watch("/", 1).await.unwrap();
    assert_eq!(events(&mut watch, 1).await[0].revision, 1);
    store.compact(50).await.unwrap();
    let (last, error) = read_to_error(&mut watch).await;
    let StoreError::Compacted { requested, oldest: 50 } = error else { panic!("{error:?}") };
    assert_eq!(requested, last + 1, "it names the first revision that was not delivered");
    assert!(next(&mut watch).await.is_none());
}

/// Reads to the terminal error; returns it and the last revision before it.
async fn read_to_error(watch: &mut everynode_store::WatchStream) -> (u64, StoreError) {
    let mut last = 0;
    loop {
        match next(watch).await.expect("an error comes first") {
            Ok(event) => last = event.revision,
            Err(error) => return (last, error),
        }
    }
}
