//! What is refused before any engine sees it.

use std::sync::Arc;

use everynode_store::{MAX_TXN_BYTES, MAX_TXN_OPS, Store, StoreError, Txn};

use super::commit;

fn puts(count: usize) -> Txn {
    (0..count).fold(Txn::new(), |txn, n| txn.put(format!("/k/{n}"), "v"))
}

pub(crate) async fn a_transaction_at_the_limits_is_taken(store: Arc<dyn Store>) {
    assert_eq!(commit(&store, puts(MAX_TXN_OPS)).await, 1);
    let value = vec![0xff; MAX_TXN_BYTES - "/big".len()];
    assert_eq!(commit(&store, Txn::new().put("/big", value.clone())).await, 2);
    assert_eq!(store.get("/big").await.unwrap().unwrap().value, value);
    let listing = store.list("/k/", None).await.unwrap();
    assert_eq!(listing.items.len(), MAX_TXN_OPS);
    assert!(listing.items.iter().all(|item| item.mod_revision == 1));
}

pub(crate) async fn a_transaction_over_a_limit_is_refused_whole(store: Arc<dyn Store>) {
    let compares = (0..=MAX_TXN_OPS).fold(Txn::new(), |txn, n| txn.expect_absent(format!("{n}")));
    let bytes = Txn::new().put("/big", vec![0; MAX_TXN_BYTES - "/big".len() + 1]);
    for txn in [puts(MAX_TXN_OPS + 1), compares, bytes] {
        let refused = store.txn(txn).await;
        assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
    }
    assert_eq!(store.revision().await.unwrap(), 0);
}

pub(crate) async fn ambiguous_and_empty_keys_are_refused(store: Arc<dyn Store>) {
    let twice = store.txn(Txn::new().put("/a", "1").delete("/a")).await;
    assert!(matches!(twice, Err(StoreError::DuplicateKey { key }) if key == "/a"));
    for empty in [Txn::new().put("", "1"), Txn::new().expect_absent("").put("/a", "")] {
        assert!(matches!(store.txn(empty).await, Err(StoreError::EmptyKey)));
    }
    assert_eq!(store.revision().await.unwrap(), 0);
}
