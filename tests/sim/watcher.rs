//! Somebody who watches for the whole walk, as a dashboard does: of each kind one stream, gone on
//! with where it ended.
//!
//! ```text
//!   begin ──▶ ADDED … BOOKMARK ──▶ ADDED, MODIFIED, DELETED …
//!     ▲                                  │ the stream ends
//!     │ told to list again               ▼
//!     └──────────────────────────── from the last version on
//! ```
//!
//! Versions never go back, a stream that was not interrupted tells of nothing twice, and in the end
//! what is known from events alone is what a list shows.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use everynode_proto::v1;
use everynode_proto::v1::EventKind;
use everynode_proto::v1::daemon_sets_client::DaemonSetsClient;
use everynode_proto::v1::nodes_client::NodesClient;
use everynode_proto::v1::pods_client::PodsClient;
use everynode_transport::{Options, connect};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::desk::{Desk, date_at};
use crate::log::Log;
use crate::net::{ADDRESS, SimDial};

/// Between attempts, and between comparisons with a list.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a list is waited for.
const PATIENCE: Duration = Duration::from_secs(8);

/// What has come of watching. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(crate) struct Watcher(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Of each kind that was compared, how what is known differs from what is listed, if it does.
    differs: BTreeMap<&'static str, Option<String>>,
    violations: Vec<String>,
    /// Events heard, of all kinds.
    heard: u64,
}

/// A kind that is watched.
trait Kind: Send + Sync + 'static {
    const NAME: &'static str;
    type Object: Clone + PartialEq + Debug + Send + Sync;
    fn list(channel: Channel) -> BoxFuture<'static, Result<Vec<Self::Object>, Status>>;
    fn watch(
        channel: Channel,
        from: String,
    ) -> BoxFuture<'static, Result<Events<Self::Object>, Status>>;
    fn meta(object: &mut Self::Object) -> &mut Option<v1::ObjectMeta>;
    /// Without what changes and is not told.
    fn without_clock(object: Self::Object) -> Self::Object;
}

type Events<O> = BoxStream<'static, Result<(EventKind, O), Status>>;

macro_rules! kind {
    ($kind:ident, $name:literal, $client:ident, $object:ty, $event:ty, $without_clock:expr) => {
        struct $kind;

        impl Kind for $kind {
            const NAME: &'static str = $name;
            type Object = $object;

            fn list(channel: Channel) -> BoxFuture<'static, Result<Vec<$object>, Status>> {
                async move {
                    let listed = $client::new(channel).list(v1::ListRequest::default()).await?;
                    Ok(listed.into_inner().items)
                }
                .boxed()
            }

            fn watch(
                channel: Channel,
                from: String,
            ) -> BoxFuture<'static, Result<Events<$object>, Status>> {
                async move {
                    let request = v1::WatchRequest { resource_version: from, ..Default::default() };
                    let stream = $client::new(channel).watch(request).await?.into_inner();
                    let event = |event: Result<$event, Status>| {
                        event.map(|event| (event.kind(), event.object.unwrap_or_default()))
                    };
                    Ok(stream.map(event).boxed())
                }
                .boxed()
            }

            fn meta(object: &mut $object) -> &mut Option<v1::ObjectMeta> {
                &mut object.metadata
            }

            fn without_clock(object: $object) -> $object {
                $without_clock(object)
            }
        }
    };
}

kind!(Sets, "DaemonSets", DaemonSetsClient, v1::DaemonSet, v1::DaemonSetEvent, |set| set);
kind!(Nodes, "Nodes", NodesClient, v1::Node, v1::NodeEvent, |node: v1::Node| v1::Node {
    // Heartbeats are no events, nor is how long ago the last one came.
    last_heard: None,
    reason: node.reason.map(|reason| v1::Reason { message: String::new(), ..reason }),
    ..node
});
kind!(Pods, "Pods", PodsClient, v1::Pod, v1::PodEvent, |pod: v1::Pod| v1::Pod {
    // Why a pod is not as it should be may name numbers that are others' to tell.
    reason: pod.reason.map(|reason| v1::Reason { message: String::new(), ..reason }),
    ..pod
});

const KINDS: [&str; 3] = [Sets::NAME, Nodes::NAME, Pods::NAME];

/// What is known of one kind.
struct Known<K: Kind> {
    watcher: Watcher,
    /// By namespace, name and uid; without their versions.
    objects: BTreeMap<[String; 3], K::Object>,
    /// Where to go on from; 0 for the beginning.
    version: u64,
    /// The beginning is being told.
    beginning: bool,
    /// The stream goes on from an earlier one's end, and may tell again what that one told.
    resumed: bool,
}

impl Watcher {
    /// What must never be and was.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    /// How what is known differs from what is listed, if it does.
    pub(crate) fn difference(&self) -> Option<String> {
        let state = self.state();
        if let Some(kind) = KINDS.iter().find(|kind| !state.differs.contains_key(*kind)) {
            return Some(format!("P6: the watcher has no stream of {kind}"));
        }
        state.differs.values().flatten().next().cloned()
    }

    /// How many events were heard.
    pub(crate) fn heard(&self) -> u64 {
        self.state().heard
    }

    /// What runs on the watcher's host.
    pub(crate) async fn software(self, desk: Desk, log: Log) -> turmoil::Result {
        while desk.admin().is_none() {
            tokio::time::sleep(AGAIN).await;
        }
        let (sets, nodes, pods) = (self.clone(), self.clone(), self);
        tokio::join!(
            follow::<Sets>(sets, desk.clone(), log.clone()),
            follow::<Nodes>(nodes, desk.clone(), log.clone()),
            follow::<Pods>(pods, desk, log),
        );
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn follow<K: Kind>(watcher: Watcher, desk: Desk, log: Log) {
    let mut known = Known::<K> {
        watcher,
        objects: BTreeMap::new(),
        version: 0,
        beginning: false,
        resumed: false,
    };
    loop {
        if let Some(channel) = dial(&desk).await {
            let ended = known.hear(channel).await;
            known.watcher.state().differs.remove(K::NAME);
            log.say(format_args!("watcher: {}: {:?}", K::NAME, ended.code()));
            if ended.code() == Code::OutOfRange {
                known.version = 0;
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn dial(desk: &Desk) -> Option<Channel> {
    let admin = desk.admin()?;
    let (addresses, identity) = ([ADDRESS.to_owned()], Some(&admin.identity));
    let dial = SimDial::default();
    let options = Options { date: Some(date_at(Duration::ZERO, 0)), ..Options::default() };
    let connected = connect(&dial, &addresses, &admin.trust, identity, options);
    connected.await.ok().map(|connected| connected.channel)
}

impl<K: Kind> Known<K> {
    /// Follows one stream to its end, which it says.
    async fn hear(&mut self, channel: Channel) -> Status {
        let from = if self.version == 0 { String::new() } else { self.version.to_string() };
        (self.beginning, self.resumed) = (self.version == 0, self.version != 0);
        if self.beginning {
            self.objects.clear();
        }
        let mut events = match K::watch(channel.clone(), from).await {
            Ok(events) => events,
            Err(status) => return status,
        };
        loop {
            tokio::select! {
                biased;
                event = events.next() => match event {
                    Some(Ok((kind, object))) => self.take(kind, object),
                    Some(Err(status)) => return status,
                    None => return Status::unavailable("the stream ended without a word"),
                },
                () = tokio::time::sleep(AGAIN) => self.compare(channel.clone()).await,
            }
        }
    }

    fn take(&mut self, kind: EventKind, mut object: K::Object) {
        let meta = K::meta(&mut object).take().unwrap_or_default();
        let version = meta.resource_version.parse().unwrap_or_default();
        self.watcher.state().heard += 1;
        let identity = [meta.namespace.clone(), meta.name.clone(), meta.uid.clone()];
        if !self.beginning || kind == EventKind::Bookmark {
            if version < self.version {
                self.violated(format_args!("{identity:?} came with version {version}"));
            }
            self.version = version;
        }
        if kind == EventKind::Bookmark {
            self.beginning = false;
            return;
        }
        *K::meta(&mut object) = Some(v1::ObjectMeta { resource_version: String::new(), ..meta });
        let object = K::without_clock(object);
        let was_known = match kind {
            EventKind::Deleted => self.objects.remove(&identity).is_some(),
            _ => self.objects.insert(identity.clone(), object).is_some(),
        };
        if !self.resumed && was_known == (kind == EventKind::Added) {
            self.violated(format_args!("{identity:?} was {kind:?}, was known: {was_known}"));
        }
    }

    /// Looks whether a list shows what is known.
    async fn compare(&mut self, channel: Channel) {
        let listed = tokio::time::timeout(PATIENCE, K::list(channel)).await;
        let Ok(Ok(listed)) = listed else { return };
        let listed: BTreeMap<[String; 3], K::Object> = listed
            .into_iter()
            .map(|mut object| {
                let meta = K::meta(&mut object).get_or_insert_default();
                meta.resource_version.clear();
                let identity = [meta.namespace.clone(), meta.name.clone(), meta.uid.clone()];
                (identity, K::without_clock(object))
            })
            .collect();
        let differs = listed
            .iter()
            .find(|(identity, object)| self.objects.get(*identity) != Some(object))
            .map(|(identity, object)| {
                let known = self.objects.get(identity);
                let [listed, known] = [Some(object), known].map(|it| format!("{it:#?}"));
                format!("{identity:?}: {}", first_difference(&listed, &known))
            })
            .or_else(|| {
                let gone = self.objects.keys().find(|identity| !listed.contains_key(*identity));
                gone.map(|identity| format!("{identity:?} is known and not listed"))
            });
        let differs = differs.map(|line| format!("P6: a watcher of {}: {line}", K::NAME));
        self.watcher.state().differs.insert(K::NAME, differs);
    }

    fn violated(&self, what: std::fmt::Arguments<'_>) {
        let version = self.version;
        let line = format!("P6: a watcher of {} that was at {version}: {what}", K::NAME);
        self.watcher.state().violations.push(line);
    }
}

/// The lines in which two texts differ; maps have no order in them.
fn first_difference(listed: &str, known: &str) -> String {
    let lines = |of: &str, not_in: &str| {
        let lines = of.lines().filter(|line| !not_in.lines().any(|other| other == *line));
        lines.map(str::trim).collect::<String>()
    };
    format!("listed: {}, known: {}", lines(listed, known), lines(known, listed))
}
