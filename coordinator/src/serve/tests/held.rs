//! A coordinator whose store was restored, and what it says to whom before and after somebody looks.

use everynode_coordinator_core::{HoldRecord, Record, Write};
use everynode_model::Term;
use everynode_proto::v1::coordinator_message::Message;
use everynode_store::Txn;

use super::identity::{Node, Session, reason};
use super::*;
use crate::records;

/// Longer than anything here waits.
const LONG: Duration = Duration::from_secs(120);

/// What `store restore` writes beside the new term; and a machine that the copy does not know.
async fn hold(store: &MemoryStore, unknown: &Node) {
    let hold = HoldRecord { since: WallTime::default(), copied_in: Term(1) };
    let mut txn = Txn::new().delete(format!("/nodes/{}", unknown.uid));
    txn.ops.push(records::encode(&Write::put(Record::Hold(hold))));
    store.txn(txn).await.unwrap();
}

async fn session(coordinator: &Coordinator, node: &Node) -> Session {
    let mut session = coordinator.open(node).await.unwrap();
    session.welcome().await;
    session
}

#[tokio::test(start_paused = true)]
async fn nobody_is_ordered_or_removed_before_somebody_says_so() {
    let store = MemoryStore::new();
    let first = coordinator(&store).await;
    let [stays, removed, leaves, unknown] = [
        first.join("a").await,
        first.join("b").await,
        first.join("c").await,
        first.join("d").await,
    ];
    let mut sets = DaemonSetsClient::new(first.user(Role::Admin).await);
    sets.create(put("x", "1")).await.unwrap();
    first.delete(&removed).await;
    first.shutdown.cancel();
    first.task.await.unwrap().unwrap();

    hold(&store, &unknown).await;
    let second = coordinator(&store).await;
    let mut stays = session(&second, &stays).await;
    let mut removed = session(&second, &removed).await;
    let mut leaving = session(&second, &leaves).await;
    assert_eq!(reason(second.open(&unknown).await), "NodeUnknown");
    assert_eq!(second.events("NodeUnknown").await.len(), 1, "people are told of it");
    for session in [&mut stays, &mut removed, &mut leaving] {
        let said = tokio::time::timeout(LONG, session.next()).await;
        assert!(said.is_err(), "{said:?}");
    }

    let channel = second.user(Role::Admin).await;
    let mut nodes = NodesClient::new(channel.clone());
    let warning = |answer: &tonic::metadata::MetadataMap| answer.contains_key("everynode-warning");
    assert!(warning(nodes.list(v1::ListRequest::default()).await.unwrap().metadata()));
    // What somebody says now is no old news.
    second.delete(&leaves).await;
    assert!(matches!(leaving.next().await, Message::Deregister(_)));

    let mut cluster = ClusterClient::new(channel);
    let status = cluster.status(v1::ClusterStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.nodes, status.nodes_called), (1, 1));
    assert_eq!(status.hold.unwrap().copied_in_term, 1);
    assert_eq!(status.consequences.len(), 1, "{:?}", status.consequences);
    assert_eq!(status.consequences[0].action, "start");
    let mut viewer = ClusterClient::new(second.user(Role::Viewer).await);
    assert_eq!(reason(viewer.resume(v1::ResumeRequest::default()).await), "Forbidden");
    let dry = v1::ResumeRequest { dry_run: true, ..Default::default() };
    assert!(cluster.resume(dry).await.unwrap().into_inner().was_held);

    assert!(cluster.resume(v1::ResumeRequest::default()).await.unwrap().into_inner().was_held);
    assert!(matches!(stays.next().await, Message::Assignment(_)));
    assert!(matches!(removed.next().await, Message::Deregister(_)));
    assert!(!warning(nodes.list(v1::ListRequest::default()).await.unwrap().metadata()));
    assert!(!cluster.resume(v1::ResumeRequest::default()).await.unwrap().into_inner().was_held);
    let status = cluster.status(v1::ClusterStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.hold, None);
    assert_eq!(second.events("OrdersResumed").await.len(), 1);
}
