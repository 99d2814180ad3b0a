//! Changes as they happen, across a coordinator's restarts.
//!
//! ```text
//!            ┌──────────────── next(): a change ───────────────┐
//!            v                                                 │
//!   dial ── open at the last version seen ── read ─────────────┘
//!    ^  │                    │                │
//!    │  │ can't be reached   │ too old        │ ends or breaks
//!    │  v                    v                v
//!    └─ wait            start over,      open again
//!                       tell only what differs
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use everynode_proto::v1::{EventKind, WatchRequest};
use tonic::Streaming;

use crate::connect::Client;
use crate::context::Context;
use crate::error::Error;
use crate::kinds::{Kind, name_of, namespace_of};

/// The first and the longest pause between two attempts to reach a coordinator that is away. The
/// longest is what a person watching would still wait for; a watch never gives up.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// What a watch tells.
#[derive(Debug)]
pub(crate) enum Change<T> {
    /// It is there, newly or differently.
    Put(T),
    /// It is gone; this is how it was last.
    Gone(T),
    /// Everything that was there when the watch began has been told.
    Complete,
    /// The connection is lost (or was refused) and being made anew; said once per loss.
    Lost(Error),
}

/// A watch that lasts.
pub(crate) struct Watch<'a, K: Kind> {
    context: &'a Context,
    client: Option<Client>,
    request: WatchRequest,
    stream: Option<Streaming<K::Event>>,
    /// What was told last, by namespace and name: with it a new beginning tells only what differs.
    known: BTreeMap<(String, String), K::Object>,
    /// What has been seen since a new beginning; `None` when no such thing is under way.
    seen: Option<BTreeSet<(String, String)>>,
    /// What is told before anything else is read.
    pending: VecDeque<Change<K::Object>>,
    pause: Duration,
    complete: bool,
    /// Whether the loss of the connection has been told.
    lost: bool,
}

impl<'a, K: Kind> Watch<'a, K> {
    /// A watch for what `request` describes. With a resource version, what was there up to then
    /// (`known`) is not told.
    pub(crate) fn new(
        context: &'a Context,
        client: Client,
        request: WatchRequest,
        known: &[K::Object],
    ) -> Self {
        Self::begin(context, Some(client), request, known)
    }

    fn begin(
        context: &'a Context,
        client: Option<Client>,
        request: WatchRequest,
        known: &[K::Object],
    ) -> Self {
        let complete = !request.resource_version.is_empty();
        let known = known.iter().map(|object| (key::<K>(object), object.clone())).collect();
        Self {
            context,
            client,
            seen: request.resource_version.is_empty().then(BTreeSet::new),
            request,
            stream: None,
            known,
            pending: VecDeque::new(),
            pause: PAUSE.0,
            complete,
            lost: false,
        }
    }

    /// Waits for the next change.
    ///
    /// # Errors
    /// When the coordinator refuses for a reason that waiting does not change.
    pub(crate) async fn next(&mut self) -> Result<Change<K::Object>, Error> {
        loop {
            if let Some(change) = self.pending.pop_front() {
                return Ok(change);
            }
            match self.read().await {
                Ok(Some(event)) => {
                    let (kind, object) = K::change(event);
                    if let Some(object) = object {
                        self.take(kind, object);
                    }
                }
                // Streams may end at any time; the next one goes on where this one ended.
                Ok(None) => self.rest().await,
                Err(error) if error.is_expired() => self.start_over(),
                Err(error) if error.is_passing() => {
                    self.client = None;
                    if !std::mem::replace(&mut self.lost, true) {
                        return Ok(Change::Lost(error));
                    }
                    self.rest().await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads one message, from a new stream if there is none; without a stream afterwards unless
    /// that worked.
    async fn read(&mut self) -> Result<Option<K::Event>, Error> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let client = match self.client.take() {
                    Some(client) => client,
                    None => self.context.connect().await?,
                };
                let stream = K::watch(&client, self.request.clone()).await?;
                self.client = Some(client);
                stream
            }
        };
        let event = stream.message().await?;
        if event.is_some() {
            self.stream = Some(stream);
        }
        Ok(event)
    }

    async fn rest(&mut self) {
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE.1);
    }

    /// The history does not reach back far enough: begins anew and compares.
    fn start_over(&mut self) {
        self.request.resource_version.clear();
        self.seen = Some(BTreeSet::new());
    }

    fn take(&mut self, kind: EventKind, object: K::Object) {
        self.pause = PAUSE.0;
        self.lost = false;
        let version = K::metadata(&object).map(|metadata| metadata.resource_version.clone());
        if kind == EventKind::Bookmark {
            self.end_of_beginning();
            self.request.resource_version = version.unwrap_or_default();
            return;
        }
        let at = key::<K>(&object);
        if let Some(seen) = &mut self.seen {
            // The versions within the first part are not in order; the bookmark has the one to keep.
            seen.insert(at.clone());
        } else if let Some(version) = version.filter(|version| !version.is_empty()) {
            self.request.resource_version = version;
        }
        if kind == EventKind::Deleted {
            self.known.remove(&at);
            self.pending.push_back(Change::Gone(object));
        } else if self.known.get(&at).is_none_or(|known| differs::<K>(known, &object)) {
            self.known.insert(at, object.clone());
            self.pending.push_back(Change::Put(object));
        }
    }

    /// What was known and did not come again is gone.
    fn end_of_beginning(&mut self) {
        if let Some(seen) = self.seen.take() {
            let gone: Vec<_> = self.known.keys().filter(|at| !seen.contains(at)).cloned().collect();
            let gone = gone.iter().filter_map(|at| self.known.remove(at));
            self.pending.extend(gone.map(Change::Gone));
        }
        if !std::mem::replace(&mut self.complete, true) {
            self.pending.push_back(Change::Complete);
        }
    }
}

fn key<K: Kind>(object: &K::Object) -> (String, String) {
    let metadata = K::metadata(object);
    (namespace_of(metadata).to_owned(), name_of(metadata).to_owned())
}

/// Whether they differ in more than their version.
fn differs<K: Kind>(one: &K::Object, other: &K::Object) -> bool {
    let versionless = |object: &K::Object| {
        let mut object = object.clone();
        if let Some(metadata) = K::metadata_mut(&mut object) {
            metadata.resource_version.clear();
        }
        object
    };
    versionless(one) != versionless(other)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use everynode_proto::v1::{DaemonSet, DaemonSetStatus, ObjectMeta};

    use super::*;
    use crate::args::Cli;
    use crate::kinds::DaemonSets;

    fn set(name: &str, version: u32, ready: i32) -> DaemonSet {
        DaemonSet {
            effect: None,
            metadata: Some(ObjectMeta {
                name: name.into(),
                resource_version: version.to_string(),
                ..ObjectMeta::default()
            }),
            spec: None,
            status: Some(DaemonSetStatus { number_ready: ready, ..DaemonSetStatus::default() }),
        }
    }

    /// What the watch has to tell after these messages, as `+name`, `-name` and `.`.
    fn told(watch: &mut Watch<'_, DaemonSets>, events: &[(EventKind, DaemonSet)]) -> String {
        for (kind, object) in events {
            watch.take(*kind, object.clone());
        }
        let name = |object: DaemonSet| name_of(object.metadata.as_ref()).to_owned();
        let word = |change| match change {
            Change::Put(object) => format!("+{}", name(object)),
            Change::Gone(object) => format!("-{}", name(object)),
            Change::Complete => ".".into(),
            Change::Lost(_) => "?".into(),
        };
        watch.pending.drain(..).map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_new_beginning_tells_only_what_differs() {
        use EventKind::{Added, Bookmark, Deleted, Modified};
        let context = Context::new(Cli::parse_from(["everynode", "why"]).global);
        let request = WatchRequest::default();
        let mut watch = Watch::<DaemonSets>::begin(&context, None, request, &[]);
        let bookmark = |version| (Bookmark, set("", version, 0));
        let first = [(Added, set("a", 1, 0)), (Added, set("b", 2, 0)), (Added, set("c", 3, 0))];
        assert_eq!(told(&mut watch, &first), "+a +b +c");
        assert_eq!(told(&mut watch, &[bookmark(3)]), ".");
        assert_eq!(
            told(&mut watch, &[(Modified, set("a", 4, 1)), (Deleted, set("b", 5, 0))]),
            "+a -b"
        );
        assert_eq!(watch.request.resource_version, "5");

        watch.start_over();
        assert_eq!(watch.request.resource_version, "");
        let again = [(Added, set("a", 9, 1)), (Added, set("d", 8, 0)), bookmark(9)];
        assert_eq!(told(&mut watch, &again), "+d -c");
        assert_eq!(watch.request.resource_version, "9");
    }

    #[test]
    fn what_was_listed_is_not_told_again() {
        let context = Context::new(Cli::parse_from(["everynode", "why"]).global);
        let request = WatchRequest { resource_version: "7".into(), ..WatchRequest::default() };
        let mut watch = Watch::<DaemonSets>::begin(&context, None, request, &[set("a", 1, 0)]);
        assert_eq!(told(&mut watch, &[(EventKind::Modified, set("a", 8, 0))]), "");
        assert_eq!(told(&mut watch, &[(EventKind::Modified, set("a", 9, 1))]), "+a");
    }
}
