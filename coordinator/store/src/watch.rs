//! Watches: bounded queues that an engine publishes to, and the stream that joins past and present.
//!
//! ```text
//!            ┌────── more history ──────┐
//!            ▼                          │
//!   watch ─▶ Page ── drained ──▶ read the next page
//!            │
//!            └─ drained, page reached the head ──▶ Live ── lagged, closed ──▶ Ended
//! ```
//!
//! An engine reads a page and, when the page reaches its head, subscribes the queue under the same
//! lock or on the same thread that commits. So no event falls between replay and live, and none is
//! in both. History is read a page at a time, as fast as the stream is drained: neither a long
//! history nor a slow reader costs unbounded memory.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt, stream};

use crate::{Change, Event, Result, Revision, StoreError, WatchStream};

/// Events that may wait for one slow reader: 32 of the largest transactions.
pub const MAX_WATCH_EVENTS: usize = 4096;

/// Bytes of keys and values that may wait for one slow reader: 16 of the largest transactions.
pub const MAX_WATCH_BYTES: usize = 16 * 1024 * 1024;

/// Open watches on one store. The coordinator needs about one per kind of object; reaching this is a
/// leak, better refused than grown into.
pub const MAX_WATCHES: usize = 1024;

/// A page of replay ends after this many events: one scheduling quantum of the reader, roughly.
const PAGE_EVENTS: usize = 256;

/// A page of replay ends after this many bytes: the size of the largest transaction.
const PAGE_BYTES: usize = crate::MAX_TXN_BYTES;

/// A page of replay looks at this many changes at most, so that a narrow prefix does not hold the
/// engine up while it walks a long history.
const PAGE_SCAN: usize = 4096;

/// The live queues of an engine. Dropping it ends every stream with [`StoreError::Closed`].
#[derive(Debug, Default)]
pub(crate) struct Hub {
    queues: Vec<Weak<Queue>>,
}

/// The reader's end of a live queue.
#[derive(Debug)]
pub(crate) struct Live(Arc<Queue>);

/// A stretch of history, and where to go on after it.
#[derive(Debug)]
pub(crate) struct Page {
    events: Vec<Event>,
    next: Next,
}

#[derive(Debug)]
enum Next {
    Read(Revision),
    Live(Live),
}

/// Collects a page change by change, in revision order; ends only between transactions.
#[derive(Debug)]
pub(crate) struct PageBuilder<'a> {
    prefix: &'a str,
    events: Vec<Event>,
    bytes: usize,
    scanned: usize,
    last: Revision,
}

#[derive(Debug)]
struct Queue {
    prefix: String,
    from: Revision,
    state: Mutex<QueueState>,
}

#[derive(Debug, Default)]
struct QueueState {
    events: VecDeque<Event>,
    bytes: usize,
    end: End,
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
enum End {
    #[default]
    Open,
    Because(StoreError),
    Told,
}

/// The stream of a watch: `first`, then what `read` returns for each following page, then live.
pub(crate) fn stream<R>(first: Page, read: R) -> WatchStream
where
    R: Fn(Revision) -> BoxFuture<'static, Result<Page>> + Send + 'static,
{
    stream::unfold(Phase::from(first), move |mut phase| {
        let page = phase.wanted().map(&read);
        async move {
            if let Some(page) = page {
                phase = match page.await {
                    Ok(page) => Phase::from(page),
                    Err(error) => return Some((vec![Err(error)], Phase::Ended)),
                };
            }
            phase.advance().await
        }
    })
    .flat_map(stream::iter)
    .boxed()
}

enum Phase {
    Page(Page),
    Read(Revision),
    Live(Live),
    Ended,
}

impl From<Page> for Phase {
    fn from(page: Page) -> Self {
        Self::Page(page)
    }
}

impl Phase {
    /// Where the next page starts, if it is history that comes next.
    fn wanted(&self) -> Option<Revision> {
        match self {
            Self::Read(from) => Some(*from),
            _ => None,
        }
    }

    async fn advance(self) -> Option<(Vec<Result<Event>>, Self)> {
        match self {
            Self::Page(Page { events, next }) => {
                let following = match next {
                    Next::Read(from) => Self::Read(from),
                    Next::Live(live) => Self::Live(live),
                };
                Some((events.into_iter().map(Ok).collect(), following))
            }
            Self::Live(mut live) => live.next().await.map(|item| (vec![item], Self::Live(live))),
            // `Read` was replaced by its page before this was called.
            Self::Read(_) | Self::Ended => None,
        }
    }
}

impl<'a> PageBuilder<'a> {
    pub(crate) fn new(prefix: &'a str) -> Self {
        Self { prefix, events: Vec::new(), bytes: 0, scanned: 0, last: 0 }
    }

    /// Whether the page has room for another change of this revision. Once it has not, the page is
    /// over and goes on from there.
    pub(crate) fn admits(&self, revision: Revision) -> bool {
        let full = self.events.len() >= PAGE_EVENTS
            || self.bytes >= PAGE_BYTES
            || self.scanned >= PAGE_SCAN;
        revision == self.last || !full
    }

    /// Adds a change if its key is below the prefix; its content is only asked for then.
    pub(crate) fn add<E>(
        &mut self,
        revision: Revision,
        key: &str,
        change: impl FnOnce() -> std::result::Result<Change, E>,
    ) -> std::result::Result<(), E> {
        self.last = revision;
        self.scanned += 1;
        if key.starts_with(self.prefix) {
            let event = Event { revision, key: key.to_owned(), change: change()? };
            self.bytes += event.bytes();
            self.events.push(event);
        }
        Ok(())
    }

    /// The page, when history goes on from a revision that it did not admit.
    pub(crate) fn more_from(self, next: Revision) -> Page {
        Page { events: self.events, next: Next::Read(next) }
    }

    /// The page, when it reached the head and the live queue takes over.
    pub(crate) fn then_live(self, live: Live) -> Page {
        Page { events: self.events, next: Next::Live(live) }
    }
}

impl Hub {
    /// A queue for what is published after this call, at revision `from` or later.
    pub(crate) fn subscribe(&mut self, prefix: &str, from: Revision) -> Result<Live> {
        self.queues.retain(|queue| queue.strong_count() > 0);
        if self.queues.len() >= MAX_WATCHES {
            return Err(StoreError::TooManyWatches { max: MAX_WATCHES });
        }
        let state = Mutex::default();
        let queue = Arc::new(Queue { prefix: prefix.to_owned(), from, state });
        self.queues.push(Arc::downgrade(&queue));
        Ok(Live(queue))
    }

    /// Hands the events of one committed transaction to every queue that wants them.
    pub(crate) fn publish(&mut self, revision: Revision, events: &[Event]) {
        self.queues.retain(|queue| {
            queue.upgrade().is_some_and(|queue| {
                let wanted = events.iter().filter(|event| event.key.starts_with(&queue.prefix));
                revision < queue.from || queue.offer(revision, wanted.cloned().collect())
            })
        });
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        for queue in self.queues.drain(..).filter_map(|queue| queue.upgrade()) {
            queue.end(StoreError::Closed);
        }
    }
}

impl Queue {
    /// Takes all events of a transaction or none: false when they do not fit, and the queue ends.
    fn offer(&self, revision: Revision, events: Vec<Event>) -> bool {
        let mut state = self.lock();
        let bytes = state.bytes + events.iter().map(Event::bytes).sum::<usize>();
        if state.events.len() + events.len() > MAX_WATCH_EVENTS || bytes > MAX_WATCH_BYTES {
            drop(state);
            self.end(StoreError::Lagged { missed_from: revision });
            return false;
        }
        if events.is_empty() {
            return true;
        }
        state.bytes = bytes;
        state.events.extend(events);
        wake(state);
        true
    }

    fn end(&self, why: StoreError) {
        let mut state = self.lock();
        if matches!(state.end, End::Open) {
            state.end = End::Because(why);
        }
        wake(state);
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        // Every critical section leaves the state whole, so a poisoned lock guards nothing worse.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the reader after the lock is released, so that it does not wake into it.
fn wake(mut state: MutexGuard<'_, QueueState>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Stream for Live {
    type Item = Result<Event>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.0.lock();
        if let Some(event) = state.events.pop_front() {
            state.bytes -= event.bytes();
            return Poll::Ready(Some(Ok(event)));
        }
        match std::mem::replace(&mut state.end, End::Told) {
            End::Open => {
                state.end = End::Open;
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
            End::Because(error) => Poll::Ready(Some(Err(error))),
            End::Told => Poll::Ready(None),
        }
    }
}

impl Event {
    fn bytes(&self) -> usize {
        let value = match &self.change {
            Change::Put(value) => value.len(),
            Change::Delete => 0,
        };
        self.key.len() + value
    }
}

impl From<Option<Bytes>> for Change {
    /// A stored version without a value is a deletion.
    fn from(value: Option<Bytes>) -> Self {
        value.map_or(Self::Delete, Self::Put)
    }
}
