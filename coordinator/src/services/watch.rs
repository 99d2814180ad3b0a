//! Watching: what there is, then what becomes of it, for every kind alike.
//!
//! ```text
//!   subscribe ─▶ snapshot ─▶ ADDED … ─▶ BOOKMARK ─┐
//!   subscribe from a version ─▶ silent snapshot ──┴▶ per turn: look at what it touched, compare
//!                                                    with what the watcher knows ─▶ ADDED,
//!                                                    MODIFIED, DELETED ─▶ … ─▶ end, with a reason
//! ```
//!
//! A turn only says *what* changed; what has become of it is read when the watcher gets there. So a
//! watcher that is behind sees fewer, newer states, and never an older one than before.
//!
//! Of turns between the version that a watcher comes from and its snapshot nobody knows what it
//! knows: all that they touched is sent again, and where they may have deleted something that can't
//! be named any more, the watcher is told to list again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use everynode_coordinator_core::{Changed, Fleet};
use everynode_model::Now;
use everynode_proto::error::refusal;
use everynode_proto::v1;
use everynode_proto::v1::EventKind;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use prost::Message;
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Code, Status};

use super::filter::{self, Filter};
use super::{Api, MAX_WATCHES};
use crate::driver::{ChangeStream, Changes};
use crate::status;

/// A stream of events.
pub(super) type Events<E> = BoxStream<'static, Result<E, Status>>;

/// A kind of object that can be watched.
pub(super) trait Watched: Clone + Send + Sync + 'static {
    /// Where objects are that change together, such as one place of one node.
    type Scope: Clone + Ord + Send + 'static;
    /// The object as a message.
    type Object: Message + Default + Clone + PartialEq;
    /// What goes over the wire.
    type Event: Send + 'static;
    /// What is read on the loop for one scope; made into objects off it.
    type View: Send + 'static;

    /// Everything there is.
    fn all(&self, fleet: &Fleet) -> Self::View;
    /// What is in these scopes now.
    fn at(&self, fleet: &Fleet, scopes: &BTreeSet<Self::Scope>) -> Self::View;
    /// The objects of a view.
    fn objects(&self, view: Self::View, now: Now) -> Vec<(Self::Scope, Self::Object)>;
    /// Where a change is, if it is one of this kind.
    fn scope(changed: &Changed) -> Option<Self::Scope>;
    /// What may have been deleted by a change that the watcher missed, given what is there now.
    fn gone(changed: &Changed, present: &mut [Self::Object]) -> Gone<Self::Object>;
    /// The object's metadata.
    fn meta(object: &mut Self::Object) -> &mut v1::ObjectMeta;
    /// The event.
    fn event(kind: EventKind, object: Self::Object) -> Self::Event;
}

/// What a missed change may have deleted.
pub(super) enum Gone<O> {
    /// Nothing that a watcher must hear of.
    Nothing,
    /// This; as much of it as is still known.
    Object(O),
    /// Something that can't be named any more.
    Unknown,
}

/// What the watcher knows: by scope, then by name and uid, each object's bytes. Bytes, because
/// they take a fraction of the object's memory, and most objects never change again.
type Known<S> = BTreeMap<S, BTreeMap<(String, String), Box<[u8]>>>;

struct Watch<W: Watched> {
    api: Api,
    watched: W,
    filter: Filter,
    changes: ChangeStream,
    known: Known<W::Scope>,
    /// The version of the snapshot, which has all that turns up to it have done.
    snapshot: u64,
    /// Whether the watcher was told the snapshot, and so has missed nothing of those turns.
    was_told: bool,
    /// Found and not sent yet.
    due: VecDeque<W::Event>,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

/// Watches `watched` as `request` says.
pub(super) async fn watch<W: Watched>(
    api: &Api,
    watched: W,
    request: &v1::WatchRequest,
) -> Result<Events<W::Event>, Status> {
    let filter = Filter::of_watch(request)?;
    let after = filter::version("resource_version", &request.resource_version)?;
    let permit = Arc::clone(&api.watches).try_acquire_owned().map_err(|_| too_many())?;
    // Subscribed first, so that nothing falls between the snapshot and the changes.
    let changes = api.parts.handle.watch(after).map_err(status::expired)?;
    let mut watch = Watch {
        api: api.clone(),
        watched,
        filter,
        changes,
        known: BTreeMap::new(),
        snapshot: 0,
        was_told: after.is_none(),
        due: VecDeque::new(),
        ended: false,
        _permit: permit,
    };
    watch.begin().await?;
    Ok(stream::unfold(watch, next).boxed())
}

async fn next<W: Watched>(mut watch: Watch<W>) -> Option<(Result<W::Event, Status>, Watch<W>)> {
    loop {
        if let Some(event) = watch.due.pop_front() {
            return Some((Ok(event), watch));
        }
        if watch.ended {
            return None;
        }
        if let Err(status) = watch.turn().await {
            watch.ended = true;
            return Some((Err(status), watch));
        }
    }
}

impl<W: Watched> Watch<W> {
    /// Takes the snapshot; told to the watcher, or only remembered where it knows the past.
    async fn begin(&mut self) -> Result<(), Status> {
        let watched = self.watched.clone();
        let read = move |fleet: &Fleet, now| (fleet.version(), now, watched.all(fleet));
        let (version, now, view) = self.api.read(read).await?;
        self.snapshot = version;
        for (scope, mut object) in self.watched.objects(view, now) {
            if !self.filter.wants(W::meta(&mut object)) {
                continue;
            }
            self.remember(scope, &mut object);
            if self.was_told {
                self.due.push_back(W::event(EventKind::Added, object));
            }
        }
        if !self.was_told {
            return Ok(());
        }
        let mut bookmark = W::Object::default();
        W::meta(&mut bookmark).resource_version = version.to_string();
        self.due.push_back(W::event(EventKind::Bookmark, bookmark));
        Ok(())
    }

    /// Waits for the next turn and finds out what it means to this watcher.
    async fn turn(&mut self) -> Result<(), Status> {
        let closing = self.api.parts.closing.clone();
        let changes = tokio::select! {
            changes = self.changes.next() => changes.ok_or_else(status::closing)?,
            () = closing.cancelled() => return Err(status::closing()),
        };
        let changes = changes.map_err(status::lagged)?;
        if self.was_told && changes.version <= self.snapshot {
            // It was subscribed to before the snapshot was taken. What has become of it since comes
            // with a turn of its own, and with a version that does not go back.
            return Ok(());
        }
        let scopes: BTreeSet<W::Scope> = changes.changed.iter().filter_map(W::scope).collect();
        if scopes.is_empty() {
            return Ok(());
        }
        let (watched, asked) = (self.watched.clone(), scopes.clone());
        let read = move |fleet: &Fleet, now| (now, watched.at(fleet, &asked));
        let (now, view) = self.api.read(read).await?;
        let mut present: BTreeMap<W::Scope, Vec<W::Object>> = BTreeMap::new();
        for (scope, object) in self.watched.objects(view, now) {
            present.entry(scope).or_default().push(object);
        }
        let found = if changes.version <= self.snapshot {
            self.resend(&changes, present)?
        } else {
            let mut found = Vec::new();
            for scope in scopes {
                let objects = present.remove(&scope).unwrap_or_default();
                self.compare(scope, objects, &mut found);
            }
            found
        };
        self.send(changes.version, found);
        Ok(())
    }

    /// What a missed turn touched, as it is now.
    fn resend(
        &mut self,
        changes: &Changes,
        mut present: BTreeMap<W::Scope, Vec<W::Object>>,
    ) -> Result<Vec<(EventKind, W::Object)>, Status> {
        let mut found = Vec::new();
        for changed in &changes.changed {
            let Some(scope) = W::scope(changed) else { continue };
            let objects = present.get_mut(&scope).map(Vec::as_mut_slice).unwrap_or_default();
            match W::gone(changed, objects) {
                Gone::Nothing => {}
                Gone::Object(object) => found.push((EventKind::Deleted, object)),
                Gone::Unknown => return Err(unnameable()),
            }
        }
        found.retain_mut(|(_, object)| self.filter.names(W::meta(object)));
        let objects = present.into_values().flatten().map(|object| (EventKind::Modified, object));
        found.extend(objects);
        found.retain_mut(|(kind, object)| {
            *kind == EventKind::Deleted || self.filter.wants(W::meta(object))
        });
        Ok(found)
    }

    /// What has become of one scope, against what the watcher knows of it.
    fn compare(
        &mut self,
        scope: W::Scope,
        objects: Vec<W::Object>,
        found: &mut Vec<(EventKind, W::Object)>,
    ) {
        let mut former = self.known.remove(&scope).unwrap_or_default();
        for mut object in objects {
            if !self.filter.wants(W::meta(&mut object)) {
                continue;
            }
            let before = former.remove(&identity::<W>(&mut object));
            self.remember(scope.clone(), &mut object);
            match before {
                None => found.push((EventKind::Added, object)),
                Some(bytes) if same::<W>(&bytes, &object) => {}
                Some(_) => found.push((EventKind::Modified, object)),
            }
        }
        // What is gone comes first: a set that was deleted and made again, a pod that was replaced.
        let gone = former.into_values().filter_map(|bytes| W::Object::decode(&*bytes).ok());
        found.splice(0..0, gone.map(|object| (EventKind::Deleted, object)));
    }

    /// Queues what was found. The last event has the turn's version and those before it the one
    /// before, so that a watcher that goes on from any of them misses nothing.
    fn send(&mut self, version: u64, found: Vec<(EventKind, W::Object)>) {
        let last = found.len().saturating_sub(1);
        for (index, (kind, mut object)) in found.into_iter().enumerate() {
            let version = if index == last { version } else { version.saturating_sub(1) };
            W::meta(&mut object).resource_version = version.to_string();
            self.due.push_back(W::event(kind, object));
        }
    }

    fn remember(&mut self, scope: W::Scope, object: &mut W::Object) {
        let identity = identity::<W>(object);
        let bytes = object.encode_to_vec().into_boxed_slice();
        self.known.entry(scope).or_default().insert(identity, bytes);
    }
}

fn identity<W: Watched>(object: &mut W::Object) -> (String, String) {
    let meta = W::meta(object);
    (meta.name.clone(), meta.uid.clone())
}

/// Whether nothing but the version differs. Compared as objects: maps have no order in bytes.
fn same<W: Watched>(before: &[u8], after: &W::Object) -> bool {
    let Ok(mut before) = W::Object::decode(before) else { return false };
    let mut after = after.clone();
    W::meta(&mut before).resource_version.clear();
    W::meta(&mut after).resource_version.clear();
    before == after
}

fn unnameable() -> Status {
    let message = "too old resource version: something was deleted since, of which nothing is kept";
    refusal(Code::OutOfRange, "Expired", message)
}

fn too_many() -> Status {
    let message = format!("{MAX_WATCHES} watches are open already: end some, or list instead");
    refusal(Code::ResourceExhausted, "TooManyWatches", message)
}
