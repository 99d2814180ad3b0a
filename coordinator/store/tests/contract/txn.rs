//! Revisions, comparisons, atomicity.

use std::sync::Arc;

use everynode_store::{Outcome, Store, Txn};
use futures_util::future::join_all;

use super::{commit, keys, put};

pub(crate) async fn revision_grows_by_one_per_effective_transaction(store: Arc<dyn Store>) {
    assert_eq!(store.revision().await.unwrap(), 0);
    assert_eq!(put(&store, "/a", "1").await, 1);
    assert_eq!(commit(&store, Txn::new().put("/b", "1").put("/c", "1").delete("/a")).await, 2);
    assert_eq!(put(&store, "/b", "1").await, 3, "the same value again is an effect");
    assert_eq!(commit(&store, Txn::new().delete("/absent")).await, 3);
    assert_eq!(commit(&store, Txn::new()).await, 3);
    assert_eq!(commit(&store, Txn::new().delete("/absent").put("/a", "2")).await, 4);
    assert_eq!(store.revision().await.unwrap(), 4);
    assert_eq!(store.get("/c").await.unwrap().unwrap().mod_revision, 2);
}

pub(crate) async fn compares_see_revisions_and_absence(store: Arc<dyn Store>) {
    assert_eq!(commit(&store, Txn::new().expect_absent("/a").put("/a", "1")).await, 1);
    assert_eq!(commit(&store, Txn::new().expect("/a", 1).put("/a", "2")).await, 2);
    let stale = store.txn(Txn::new().expect("/a", 1).put("/a", "3")).await.unwrap();
    let failed = Outcome::CompareFailed { key: "/a".to_owned(), expected: 1, actual: 2 };
    assert_eq!(stale, failed);
    commit(&store, Txn::new().expect("/a", 2).delete("/a")).await;
    let gone = store.txn(Txn::new().expect("/a", 3).put("/b", "")).await.unwrap();
    let failed = Outcome::CompareFailed { key: "/a".to_owned(), expected: 3, actual: 0 };
    assert_eq!(gone, failed);
    assert_eq!(commit(&store, Txn::new().expect_absent("/a").put("/a", "4")).await, 4);
}

pub(crate) async fn a_failed_compare_changes_nothing(store: Arc<dyn Store>) {
    put(&store, "/a", "1").await;
    let txn = Txn::new().expect("/a", 1).expect("/b", 9).put("/c", "1").delete("/a");
    let outcome = store.txn(txn).await.unwrap();
    let failed = Outcome::CompareFailed { key: "/b".to_owned(), expected: 9, actual: 0 };
    assert_eq!(outcome, failed);
    assert_eq!(keys(&store, "", None).await, ["/a"]);
    assert_eq!(store.revision().await.unwrap(), 1);
}

pub(crate) async fn racing_creates_have_one_winner(store: Arc<dyn Store>) {
    let create = |n: usize| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let txn = Txn::new().expect_absent("/one").put("/one", n.to_string());
            let by_itself = commit(&store, Txn::new().put(format!("/many/{n}"), "")).await;
            (store.txn(txn).await.unwrap(), by_itself)
        })
    };
    let ended: Vec<_> = join_all((0..100).map(create)).await;
    let ended: Vec<_> = ended.into_iter().map(|task| task.unwrap()).collect();
    let won = ended.iter().filter(|(create, _)| matches!(create, Outcome::Committed { .. }));
    assert_eq!(won.count(), 1);
    let mut revisions: Vec<_> = ended.iter().map(|(_, revision)| *revision).collect();
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), 100, "each transaction has a revision of its own");
    assert_eq!(store.revision().await.unwrap(), 101);
}

pub(crate) async fn an_empty_value_is_not_an_absent_key(store: Arc<dyn Store>) {
    put(&store, "/a", "").await;
    assert_eq!(store.get("/a").await.unwrap().unwrap().value.len(), 0);
    assert_eq!(keys(&store, "/", None).await, ["/a"]);
    commit(&store, Txn::new().expect("/a", 1).delete("/a")).await;
    assert_eq!(store.get("/a").await.unwrap(), None);
}
