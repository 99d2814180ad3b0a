//! Listings: order, prefixes, the past.

use std::sync::Arc;

use everynode_store::{Store, StoreError, Txn};

use super::{commit, keys, put};

pub(crate) async fn a_listing_is_ordered_by_bytes(store: Arc<dyn Store>) {
    let ordered = ["/", "/A", "/a", "/a\u{0}", "/a/", "/a/b", "/aa", "/z", "/é", "/\u{10ffff}"];
    for key in ordered.iter().rev() {
        put(&store, key, key).await;
    }
    assert_eq!(keys(&store, "", None).await, ordered);
    let listing = store.list("/", None).await.unwrap();
    assert_eq!(listing.revision, 10);
    assert!(listing.items.iter().all(|item| item.value == item.key.as_bytes()));
}

pub(crate) async fn a_prefix_ends_where_its_bytes_end(store: Arc<dyn Store>) {
    // U+10FFFF and U+007F are the last of their lengths: the byte after them starts another length.
    for key in
        ["/a", "/a/", "/a/x", "/a0", "/ab", "/b", "\u{10ffff}", "\u{7f}", "\u{7f}x", "\u{80}"]
    {
        put(&store, key, "").await;
    }
    assert_eq!(keys(&store, "/a/", None).await, ["/a/", "/a/x"]);
    assert_eq!(keys(&store, "/a", None).await, ["/a", "/a/", "/a/x", "/a0", "/ab"]);
    assert_eq!(keys(&store, "\u{7f}", None).await, ["\u{7f}", "\u{7f}x"]);
    assert_eq!(keys(&store, "\u{10ffff}", None).await, ["\u{10ffff}"]);
    assert_eq!(keys(&store, "/none", None).await, [""; 0]);
}

pub(crate) async fn a_past_revision_is_read_as_it_was(store: Arc<dyn Store>) {
    put(&store, "/a", "1").await;
    commit(&store, Txn::new().put("/a", "2").put("/b", "2")).await;
    commit(&store, Txn::new().delete("/a")).await;
    put(&store, "/a", "4").await;
    assert_eq!(keys(&store, "/", Some(0)).await, [""; 0]);
    let first = store.list("/", Some(1)).await.unwrap();
    assert_eq!((first.revision, first.items.len()), (1, 1));
    assert_eq!((&first.items[0].value[..], first.items[0].mod_revision), (&b"1"[..], 1));
    let second = store.list("/", Some(2)).await.unwrap();
    assert_eq!(&second.items[0].value[..], b"2");
    assert_eq!(keys(&store, "/", Some(3)).await, ["/b"]);
    assert_eq!(keys(&store, "/", Some(4)).await, ["/a", "/b"]);
}

pub(crate) async fn a_future_revision_is_refused(store: Arc<dyn Store>) {
    put(&store, "/a", "1").await;
    let refused = store.list("/", Some(2)).await;
    assert!(
        matches!(refused, Err(StoreError::FutureRevision { requested: 2, current: 1 })),
        "{refused:?}"
    );
    let refused = store.list("/", Some(u64::MAX)).await;
    assert!(matches!(refused, Err(StoreError::FutureRevision { .. })), "{refused:?}");
}
