//! ConfigMaps and Secrets over the wire: put with the DaemonSets that read them, rolled out, gone back
//! from, and shown to whom they may be shown.

use everynode_proto::v1::objects_client::ObjectsClient;
use everynode_proto::v1::put_object::Object as Sent;

use super::identity::reason;
use super::*;

/// A ConfigMap or Secret with these values under `data`.
fn object(kind: &str, name: &str, data: Value) -> v1::PutObject {
    let metadata = Some(v1::ObjectMeta { name: name.into(), ..Default::default() });
    let content = json!({"data": data}).as_object().map(to_struct);
    let object = v1::Object { metadata, kind: kind.into(), content, ..Default::default() };
    v1::PutObject { object: Some(Sent::Other(object)), ..Default::default() }
}

/// A DaemonSet whose program gets the key `k` of the ConfigMap `m`.
fn reader(argument: &str) -> v1::PutObject {
    let mut set = put("x", argument).daemon_set.unwrap();
    let spec = json!({
        "selector": {"matchLabels": {"app": "x"}},
        "template": {
            "metadata": {"labels": {"app": "x"}},
            "spec": {
                "runtimeClassName": "process", "hostNetwork": true,
                "containers": [{"name": "main", "command": ["/bin/daemon", argument], "env": [
                    {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}},
                ]}],
            },
        },
    });
    set.spec = spec.as_object().map(to_struct);
    v1::PutObject { object: Some(Sent::DaemonSet(set)), ..Default::default() }
}

fn all(objects: Vec<v1::PutObject>) -> v1::PutObjectsRequest {
    v1::PutObjectsRequest { objects, ..Default::default() }
}

struct Client {
    objects: ObjectsClient<Channel>,
    sets: DaemonSetsClient<Channel>,
}

impl Client {
    async fn new(coordinator: &Coordinator) -> Self {
        let channel = coordinator.user(Role::Admin).await;
        Self { objects: ObjectsClient::new(channel.clone()), sets: DaemonSetsClient::new(channel) }
    }

    async fn put(&mut self, objects: Vec<v1::PutObject>) -> v1::PutObjectsResponse {
        self.objects.put(all(objects)).await.unwrap().into_inner()
    }

    /// Its newest revision's hash, its generation, and what it has drifted from.
    async fn shown(&mut self) -> (String, i64, Option<String>) {
        let asked = v1::GetRequest { name: "x".into(), ..Default::default() };
        let set = self.sets.get(asked).await.unwrap().into_inner();
        let (status, meta) = (set.status.unwrap(), set.metadata.unwrap());
        let pinned = status.conditions.into_iter().find(|condition| condition.r#type == "Pinned");
        (status.update_revision, meta.generation, pinned.map(|condition| condition.message))
    }

    async fn revisions(&mut self) -> Vec<v1::Revision> {
        let asked = v1::GetRequest { name: "x".into(), ..Default::default() };
        self.sets.revisions(asked).await.unwrap().into_inner().items
    }

    async fn undo(&mut self) {
        let request = v1::UndoRequest { name: "x".into(), ..Default::default() };
        self.sets.undo(request).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn content_is_a_part_of_the_revision() {
    let store = MemoryStore::new();
    let coordinator = coordinator(&store).await;
    let mut client = Client::new(&coordinator).await;
    let map = |value: &str| object("ConfigMap", "m", json!({"k": value, "other": "1"}));
    let put = client.put(vec![map("1"), reader("a")]).await;
    assert!(put.results.iter().all(|result| result.created));
    let (first, ..) = client.shown().await;

    let unread = object("ConfigMap", "m", json!({"k": "1", "other": "2"}));
    let put = client.put(vec![unread]).await;
    assert!(put.results[0].changed && put.rolled_out.is_empty());
    let put = client.put(vec![map("2")]).await;
    assert_eq!(put.rolled_out[0].name, "x");
    let (second, generation, pinned) = client.shown().await;
    assert_ne!(second, first);
    assert_eq!((generation, pinned), (1, None), "the object itself is what it was");
    assert_eq!(client.revisions().await.len(), 2);

    client.undo().await;
    let (back, _, pinned) = client.shown().await;
    assert_eq!(back, first, "under its own digest");
    assert!(pinned.unwrap().starts_with("drifted from ConfigMap m"));
    client.put(vec![reader("a")]).await;
    assert_eq!(client.shown().await.0, first, "applying the same template again changes nothing");
    let put = client.put(vec![map("3")]).await;
    assert_eq!(put.rolled_out.len(), 1);
    let (third, _, pinned) = client.shown().await;
    assert!(third != first && pinned.is_none(), "the next change ends it");

    let shown = client.revisions().await.pop().unwrap();
    assert_eq!(
        (shown.content[0].kind.as_str(), shown.content[0].name.as_str()),
        ("ConfigMap", "m")
    );
    assert!(!shown.template.unwrap().fields.contains_key("config"));
    coordinator.shutdown.cancel();
    coordinator.task.await.unwrap().unwrap();

    let again = super::coordinator(&store).await;
    let mut client = Client::new(&again).await;
    assert_eq!(client.shown().await.0, third, "also after a restart");
    let put = client.put(vec![map("3")]).await;
    assert!(put.rolled_out.is_empty(), "the key that digests are made with is the same");
}

#[tokio::test(start_paused = true)]
async fn undo_passes_by_what_could_not_start() {
    let coordinator = coordinator(&MemoryStore::new()).await;
    let mut client = Client::new(&coordinator).await;
    let map = || object("ConfigMap", "m", json!({"k": "1"}));
    client.put(vec![map(), reader("a")]).await;
    let (first, ..) = client.shown().await;
    let gone = v1::DeleteObjectRequest {
        kind: "ConfigMap".into(),
        delete: Some(v1::DeleteRequest { name: "m".into(), ..Default::default() }),
        ..Default::default()
    };
    client.objects.delete(gone).await.unwrap();
    client.put(vec![reader("b")]).await;
    client.put(vec![map()]).await;
    assert_eq!(client.revisions().await.len(), 3);
    client.undo().await;
    assert_eq!(client.shown().await.0, first);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_of_several_stores_none_and_tells_what_it_would() {
    let coordinator = coordinator(&MemoryStore::new()).await;
    let mut client = Client::new(&coordinator).await;
    let objects = vec![object("ConfigMap", "m", json!({"k": "1"})), reader("a")];
    let request = v1::PutObjectsRequest { dry_run: true, ..all(objects) };
    let told = client.objects.put(request).await.unwrap().into_inner();
    assert!(told.results.iter().all(|result| result.created));
    assert_eq!(client.revisions_reason().await, "NotFound");
    let twice = vec![reader("a"), reader("b")];
    assert_eq!(client.objects.put(all(twice)).await.unwrap_err().code(), Code::InvalidArgument);
    let lacking = client.put(vec![reader("a")]).await;
    assert!(lacking.results[0].created, "accepted, and waits");
}

impl Client {
    async fn revisions_reason(&mut self) -> String {
        let asked = v1::GetRequest { name: "x".into(), ..Default::default() };
        reason(self.sets.get(asked).await)
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_shown_to_admins_who_ask() {
    let coordinator = coordinator(&MemoryStore::new()).await;
    let mut client = Client::new(&coordinator).await;
    let put = client.put(vec![object("Secret", "s", json!({"k": "aHVudGVyMg=="}))]).await;
    let asked = |show_values| v1::GetObjectRequest {
        kind: "Secret".into(),
        name: "s".into(),
        show_values,
        ..Default::default()
    };
    let shows = |object: &dyn std::fmt::Debug| format!("{object:?}").contains("aHVudGVyMg");
    assert!(!shows(&put), "nor does the answer to a put");
    let hidden = client.objects.get(asked(false)).await.unwrap().into_inner();
    assert!(!shows(&hidden) && format!("{hidden:?}").contains("<redacted: 7 bytes>"));
    assert!(shows(&client.objects.get(asked(true)).await.unwrap().into_inner()));
    let mut viewer = ObjectsClient::new(coordinator.user(Role::Viewer).await);
    assert!(!shows(&viewer.get(asked(false)).await.unwrap().into_inner()));
    assert_eq!(viewer.get(asked(true)).await.unwrap_err().code(), Code::PermissionDenied);
    let list = v1::ListObjectsRequest { kind: "Secret".into(), show_values: true, list: None };
    assert_eq!(viewer.list(list.clone()).await.unwrap_err().code(), Code::PermissionDenied);
    assert!(shows(&client.objects.list(list).await.unwrap().into_inner()));
    let watch = v1::WatchObjectsRequest { kind: "Secret".into(), watch: None };
    let mut events = client.objects.watch(watch).await.unwrap().into_inner();
    assert!(!shows(&events.message().await.unwrap()));
    let gone = v1::DeleteObjectRequest {
        kind: "Secret".into(),
        delete: Some(v1::DeleteRequest { name: "s".into(), ..Default::default() }),
        ..Default::default()
    };
    assert!(!shows(&client.objects.delete(gone).await.unwrap().into_inner()));
    assert_eq!(events.message().await.unwrap().unwrap().kind(), EventKind::Bookmark);
    assert_eq!(events.message().await.unwrap().unwrap().kind(), EventKind::Deleted);
    assert_eq!(reason(client.objects.get(asked(false)).await), "NotFound");
}

/// With three records for each, they don't fit into one transaction.
#[tokio::test(start_paused = true)]
async fn any_number_of_daemon_sets_may_read_an_object() {
    const MANY: usize = 45;
    let store = MemoryStore::new();
    let coordinator = coordinator(&store).await;
    let mut client = Client::new(&coordinator).await;
    let map = |value: &str| object("ConfigMap", "m", json!({"k": value}));
    client.put(vec![map("1")]).await;
    for number in 0..MANY {
        let mut put = reader("a");
        if let Some(Sent::DaemonSet(set)) = &mut put.object {
            set.metadata.as_mut().unwrap().name = format!("x{number:02}");
        }
        client.put(vec![put]).await;
    }
    let revisions = async |client: &mut Client| {
        let sets = client.sets.list(v1::ListRequest::default()).await.unwrap().into_inner().items;
        let status = sets.into_iter().map(|set| set.status.unwrap());
        let newest = status.map(|status| {
            let due = status.conditions.iter().any(|condition| condition.reason == "ContentDue");
            assert!(!due, "{status:?}");
            status.update_revision
        });
        newest.collect::<Vec<_>>()
    };
    let first = revisions(&mut client).await;

    let dry = v1::PutObjectsRequest { dry_run: true, ..all(vec![map("2")]) };
    let foretold = client.objects.put(dry).await.unwrap().into_inner();
    assert_eq!(foretold.rolled_out.len(), MANY);
    assert_eq!(revisions(&mut client).await, first);

    let put = client.put(vec![map("2")]).await;
    assert_eq!((put.rolled_out.len(), put.results[0].warnings.len()), (MANY, 0), "{put:?}");
    let second = revisions(&mut client).await;
    assert_eq!(second.len(), MANY);
    assert!(second.iter().all(|revision| *revision == second[0] && *revision != first[0]));
    let put = client.put(vec![map("2")]).await;
    assert!(put.rolled_out.is_empty(), "and nothing more is to be done");
}

/// So many DaemonSets that read `m`, with so many bytes in the template of each, follow a change of it that
/// comes with so many other bytes.
async fn all_follow(many: usize, template: usize, bundle: usize) {
    let coordinator = coordinator(&MemoryStore::new()).await;
    let mut client = Client::new(&coordinator).await;
    let bundle = "b".repeat(bundle);
    let map = |value: &str| object("ConfigMap", "m", json!({"k": value, "bundle": bundle}));
    client.put(vec![map("1")]).await;
    for number in 0..many {
        let mut put = reader(&"a".repeat(template));
        if let Some(Sent::DaemonSet(set)) = &mut put.object {
            set.metadata.as_mut().unwrap().name = format!("x{number:02}");
        }
        client.put(vec![put]).await;
    }
    let put = client.put(vec![map("2")]).await;
    assert_eq!((put.rolled_out.len(), put.results[0].warnings.len()), (many, 0), "{many} sets");
    assert!(client.put(vec![map("2")]).await.rolled_out.is_empty());
}

/// Twenty of them are too many bytes for one transaction, although not too many records.
#[tokio::test(start_paused = true)]
async fn large_daemon_sets_follow_an_object() {
    all_follow(40, 26 << 10, 1).await;
}

#[tokio::test(start_paused = true)]
async fn daemon_sets_follow_a_large_object() {
    all_follow(40, 8 << 10, 750 << 10).await;
}

/// With the object they are too many bytes for one transaction, although not too many records.
#[tokio::test(start_paused = true)]
async fn few_daemon_sets_that_are_large_with_their_object_follow_it() {
    all_follow(8, 26 << 10, 750 << 10).await;
}

/// Each alone is nearly all that a transaction takes.
#[tokio::test(start_paused = true)]
async fn the_largest_daemon_sets_follow_the_largest_object() {
    all_follow(3, 470 << 10, 950 << 10).await;
}
