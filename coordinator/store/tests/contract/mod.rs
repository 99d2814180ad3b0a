//! What every engine promises, as tests over `dyn Store`. An engine's test file names a function that
//! makes a fresh store and calls [`contract!`] with it; nothing here knows which engine it is.

// Helpers outside `#[test]` functions fail a test by panicking, as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub(crate) mod compact;
pub(crate) mod limits;
pub(crate) mod model;
pub(crate) mod read;
pub(crate) mod txn;
pub(crate) mod watch;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use everynode_store::{Event, Outcome, Result, Revision, Store, Txn, WatchStream};
use futures_util::StreamExt;

/// A store under test and whatever must outlive it.
pub(crate) struct Fixture {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) _guard: Box<dyn Any + Send>,
}

/// Makes a test of every promise for the engine that `$fixture` opens.
macro_rules! contract {
    ($fixture:path) => {
        crate::contract::contract!($fixture:
            txn: revision_grows_by_one_per_effective_transaction,
            txn: compares_see_revisions_and_absence,
            txn: a_failed_compare_changes_nothing,
            txn: racing_creates_have_one_winner,
            txn: an_empty_value_is_not_an_absent_key,
            limits: a_transaction_at_the_limits_is_taken,
            limits: a_transaction_over_a_limit_is_refused_whole,
            limits: ambiguous_and_empty_keys_are_refused,
            read: a_listing_is_ordered_by_bytes,
            read: a_prefix_ends_where_its_bytes_end,
            read: a_past_revision_is_read_as_it_was,
            read: a_future_revision_is_refused,
            watch: history_then_live_without_gap_or_duplicate,
            watch: history_longer_than_a_page_is_replayed_whole,
            watch: a_watch_sees_its_prefix_only,
            watch: a_watch_from_the_future_waits_for_it,
            watch: a_watch_continues_a_listing,
            watch: a_reader_that_falls_behind_is_told_where_to_resume,
            watch: dropped_watches_make_room,
            compact: superseded_versions_go_and_the_rest_stays,
            compact: a_watch_from_before_a_compaction_is_refused,
            compact: compaction_is_idempotent_and_never_ahead,
            compact: a_replay_overtaken_by_a_compaction_says_so,
            model: a_long_random_history_agrees_with_a_model,
        );
    };
    ($fixture:path: $($module:ident: $promise:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let fixture = $fixture();
                crate::contract::$module::$promise(std::sync::Arc::clone(&fixture.store)).await;
            }
        )*
    };
}
pub(crate) use contract;

/// Commits, or fails the test.
pub(crate) async fn commit(store: &Arc<dyn Store>, txn: Txn) -> Revision {
    match store.txn(txn).await.expect("the transaction is taken") {
        Outcome::Committed { revision } => revision,
        failed @ Outcome::CompareFailed { .. } => panic!("{failed:?}"),
    }
}

/// Puts one key.
pub(crate) async fn put(store: &Arc<dyn Store>, key: &str, value: &str) -> Revision {
    commit(store, Txn::new().put(key, value.to_owned())).await
}

/// The keys of a listing.
pub(crate) async fn keys(
    store: &Arc<dyn Store>,
    prefix: &str,
    at: Option<Revision>,
) -> Vec<String> {
    let listing = store.list(prefix, at).await.expect("lists");
    listing.items.into_iter().map(|item| item.key).collect()
}

/// The next item of a stream. The limit is a guard against hanging, not a statement about speed.
pub(crate) async fn next(stream: &mut WatchStream) -> Option<Result<Event>> {
    tokio::time::timeout(Duration::from_secs(60), stream.next()).await.expect("an item, not a hang")
}

/// The next `count` events.
pub(crate) async fn events(stream: &mut WatchStream, count: usize) -> Vec<Event> {
    let mut events = Vec::with_capacity(count);
    while events.len() < count {
        events.push(next(stream).await.expect("the stream goes on").expect("an event"));
    }
    events
}
