//! The thread that owns the database: takes requests in order, commits transactions in groups.
//!
//! ```text
//!   queue ─▶ txn ─▶ group ── full, queue empty, or a read is next ──▶ one SQLite transaction
//!                                                                            │ synced
//!                     answer every caller ◀── publish to watches ◀───────────┘
//! ```
//!
//! Each transaction of a group has its own revision and its own comparisons, which see those before
//! it. No caller hears of an outcome, not even of a failed comparison, before the group is synced:
//! it may rest on a neighbour that is not durable yet. If the group fails, all of it fails, and
//! revision, window and watches stay as they were.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot};

use super::open::Database;
use super::read::{self, PageEnd};
use super::{compact, failure, schema};
use crate::watch::{Hub, Page, PageBuilder};
use crate::{Change, Event, KeyValue, Listing, Op, Outcome, Result, Revision, StoreError, Txn};

/// Transactions in one group: what the queue holds, so that one group takes all who wait.
const GROUP_TXNS: usize = super::QUEUE;

/// Bytes after which a group takes no more, so that small neighbours do not wait for a long write.
const GROUP_BYTES: usize = 4 * crate::MAX_TXN_BYTES;

type Answer<T> = oneshot::Sender<Result<T>>;

/// What the thread is asked.
#[derive(Debug)]
pub(super) enum Request {
    Txn { txn: Txn, answer: Answer<Outcome> },
    Revision { answer: Answer<Revision> },
    Get { key: String, answer: Answer<Option<KeyValue>> },
    List { prefix: String, at: Option<Revision>, answer: Answer<Listing> },
    Page { prefix: String, from: Revision, answer: Answer<Page> },
    Compact { revision: Revision, answer: Answer<()> },
    Close,
}

/// The thread's state.
#[derive(Debug)]
pub(super) struct Writer {
    database: Database,
    queue: mpsc::Receiver<Request>,
    closing: Arc<AtomicBool>,
    hub: Hub,
    /// Set when the file may hold what no caller was told; only reopening can tell.
    broken: bool,
}

/// Transactions waiting for one sync.
#[derive(Debug, Default)]
struct Group {
    members: Vec<(Txn, Answer<Outcome>)>,
    bytes: usize,
}

/// What a group did, once it is durable.
#[derive(Debug)]
struct Applied {
    outcomes: Vec<Outcome>,
    /// The events of each transaction that had an effect, in order.
    events: Vec<(Revision, Vec<Event>)>,
    head: Revision,
}

impl Writer {
    pub(super) fn new(
        database: Database,
        queue: mpsc::Receiver<Request>,
        closing: Arc<AtomicBool>,
    ) -> Self {
        Self { database, queue, closing, hub: Hub::default(), broken: false }
    }

    /// Serves until the store is dropped or the file can no longer be trusted.
    pub(super) fn run(mut self) {
        while let Some(first) = self.queue.blocking_recv() {
            self.serve(first);
            if self.broken || self.closing.load(Ordering::Acquire) {
                return;
            }
        }
    }

    /// Serves a request and all that queued behind it.
    fn serve(&mut self, first: Request) {
        let mut group = Group::default();
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Txn { txn, answer } => group.add(txn, answer),
                other => {
                    self.commit(std::mem::take(&mut group));
                    self.answer(other);
                }
            }
            if group.is_full() {
                self.commit(std::mem::take(&mut group));
            }
            next = if self.broken { None } else { self.queue.try_recv().ok() };
        }
        self.commit(group);
    }

    fn answer(&mut self, request: Request) {
        // A caller that stopped waiting needs no answer, here and below.
        match request {
            Request::Revision { answer } => drop(answer.send(Ok(self.database.window.head))),
            Request::Get { key, answer } => {
                drop(answer.send(self.read(|connection| read::get(connection, &key))));
            }
            Request::List { prefix, at, answer } => drop(answer.send(self.list(&prefix, at))),
            Request::Page { prefix, from, answer } => drop(answer.send(self.page(&prefix, from))),
            Request::Compact { revision, answer } => drop(answer.send(self.compact(revision))),
            // `run` looks at the flag that was set before this was sent; transactions never get
            // here.
            Request::Close | Request::Txn { .. } => {}
        }
    }

    fn list(&self, prefix: &str, at: Option<Revision>) -> Result<Listing> {
        let revision = self.database.window.readable(at)?;
        let items = self.read(|connection| read::list(connection, prefix, revision))?;
        Ok(Listing { revision, items })
    }

    fn page(&mut self, prefix: &str, from: Revision) -> Result<Page> {
        self.database.window.not_compacted(from)?;
        let mut page = PageBuilder::new(prefix);
        match self.read(|connection| read::history(connection, from, &mut page))? {
            PageEnd::More(next) => Ok(page.more_from(next)),
            PageEnd::Head => Ok(page.then_live(self.hub.subscribe(prefix, from)?)),
        }
    }

    fn compact(&mut self, revision: Revision) -> Result<()> {
        self.database.window.not_future(revision)?;
        if revision <= self.database.window.oldest {
            return Ok(());
        }
        match compact::compact(&self.database.connection, revision) {
            Ok(()) => {
                self.database.window.oldest = revision;
                tracing::debug!(revision, "compacted");
                Ok(())
            }
            Err(error) => Err(self.failed("compacting", error)),
        }
    }

    fn commit(&mut self, group: Group) {
        if group.members.is_empty() {
            return;
        }
        let (txns, answers): (Vec<_>, Vec<_>) = group.members.into_iter().unzip();
        match apply_all(&self.database.connection, self.database.window.head, &txns) {
            Ok(applied) => self.announce(applied, answers),
            Err(error) => {
                let error = self.failed("committing to", error);
                for answer in answers {
                    drop(answer.send(Err(error.clone())));
                }
            }
        }
    }

    /// Publishes before it answers: whoever hears of a commit finds its events in their queues.
    fn announce(&mut self, applied: Applied, answers: Vec<Answer<Outcome>>) {
        self.database.window.head = applied.head;
        for (revision, events) in &applied.events {
            self.hub.publish(*revision, events);
        }
        for (answer, outcome) in answers.into_iter().zip(applied.outcomes) {
            drop(answer.send(Ok(outcome)));
        }
    }

    /// Names a failed write, and makes sure that it left nothing behind.
    fn failed(&mut self, doing: &'static str, error: rusqlite::Error) -> StoreError {
        let Database { connection, path, window, .. } = &self.database;
        let error = failure::sqlite(path, doing, error);
        let rolled_back = connection.is_autocommit();
        match read::window(connection) {
            Ok(found) if rolled_back && found == *window => {
                tracing::debug!(path = %path.display(), %error, "write refused, nothing changed");
            }
            found => {
                // Going on could hand out a revision twice. Opening again reads what is true.
                self.broken = true;
                let path = path.display();
                tracing::error!(%path, %error, ?found, "write failed half-way; closing the store");
            }
        }
        error
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let Database { connection, path, .. } = &self.database;
        read(connection).map_err(|error| failure::sqlite(path, "reading", error))
    }
}

impl Group {
    fn add(&mut self, txn: Txn, answer: Answer<Outcome>) {
        self.bytes += txn.bytes();
        self.members.push((txn, answer));
    }

    fn is_full(&self) -> bool {
        self.members.len() >= GROUP_TXNS || self.bytes >= GROUP_BYTES
    }
}

/// Applies a group in one SQLite transaction, which is rolled back when dropped on the way.
fn apply_all(connection: &Connection, head: Revision, txns: &[Txn]) -> rusqlite::Result<Applied> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let mut applied =
        Applied { outcomes: Vec::with_capacity(txns.len()), events: Vec::new(), head };
    for txn in txns {
        let outcome = apply(&transaction, txn, &mut applied)?;
        applied.outcomes.push(outcome);
    }
    if applied.head > head {
        let head = i64::try_from(applied.head).unwrap_or(i64::MAX);
        transaction.prepare("UPDATE meta SET head = ?1")?.execute([head])?;
    }
    transaction.commit()?;
    Ok(applied)
}

fn apply(connection: &Connection, txn: &Txn, applied: &mut Applied) -> rusqlite::Result<Outcome> {
    if let Some(failed) = txn.first_failed(|key| read::mod_revision(connection, key))? {
        return Ok(failed);
    }
    let revision = applied.head + 1;
    let mut insert =
        connection.prepare("INSERT INTO versions (id, key, value) VALUES (?1, ?2, ?3)")?;
    let mut events = Vec::with_capacity(txn.ops.len());
    for op in &txn.ops {
        let (key, value) = match op {
            Op::Put { key, value } => (key, Some(value)),
            // Deleting what is absent changes nothing.
            Op::Delete { key } if read::mod_revision(connection, key)? == 0 => continue,
            Op::Delete { key } => (key, None),
        };
        let id = schema::row_id(revision, events.len());
        insert.execute(params![id, key.as_bytes(), value.map(|value| value.as_ref())])?;
        events.push(Event { revision, key: key.clone(), change: Change::from(value.cloned()) });
    }
    if !events.is_empty() {
        applied.head = revision;
        applied.events.push((revision, events));
    }
    Ok(Outcome::Committed { revision: applied.head })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::{Options, open};
    use crate::window::Window;

    fn writer(path: &std::path::Path) -> (mpsc::Sender<Request>, Writer) {
        let database = open::open(path, Options::default()).expect("opens");
        let (requests, queue) = mpsc::channel(super::super::QUEUE);
        (requests, Writer::new(database, queue, Arc::default()))
    }

    fn enqueue(requests: &mpsc::Sender<Request>, txn: Txn) -> oneshot::Receiver<Result<Outcome>> {
        let (answer, outcome) = oneshot::channel();
        requests.try_send(Request::Txn { txn, answer }).expect("room");
        outcome
    }

    /// Frames in the log that end a transaction: their header's second word is not 0
    /// (<https://sqlite.org/fileformat2.html>, section 4.1).
    fn commits_in_log(path: &std::path::Path) -> usize {
        let log = std::fs::read(open::beside(path, "-wal")).expect("a log");
        let frames = log[32..].chunks(24 + 4096);
        frames.filter(|frame| frame[4..8] != [0; 4]).count()
    }

    #[test]
    fn what_queued_together_is_synced_once_with_outcomes_of_its_own() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("store.db");
        let (requests, mut writer) = writer(&path);
        let create = || Txn::new().expect_absent("/one").put("/one", "x");
        let answers = [
            enqueue(&requests, create()),
            enqueue(&requests, create()),
            enqueue(&requests, Txn::new().expect("/one", 1).delete("/one")),
            enqueue(&requests, create()),
        ];
        let first = writer.queue.try_recv().expect("queued");
        writer.serve(first);
        let outcomes = answers.map(|mut answer| answer.try_recv().expect("answered").expect("ok"));
        assert_eq!(
            outcomes,
            [
                Outcome::Committed { revision: 1 },
                Outcome::CompareFailed { key: "/one".to_owned(), expected: 0, actual: 1 },
                Outcome::Committed { revision: 2 },
                Outcome::Committed { revision: 3 },
            ]
        );
        assert_eq!(commits_in_log(&path), 1);
    }

    #[test]
    fn a_failed_group_fails_for_all_and_moves_nothing() {
        let directory = tempfile::tempdir().expect("tempdir");
        let (requests, mut writer) = writer(&directory.path().join("store.db"));
        let pages = 40;
        let limit = writer.database.connection.pragma_update_and_check(
            None,
            "max_page_count",
            pages,
            |_| Ok(()),
        );
        limit.expect("limited");
        let mut live = writer.hub.subscribe("", 0).expect("subscribed");
        let big = vec![7_u8; 4096 * 50];
        let answers = [
            enqueue(&requests, Txn::new().put("/small", "fits alone")),
            enqueue(&requests, Txn::new().put("/big", big)),
        ];
        let first = writer.queue.try_recv().expect("queued");
        writer.serve(first);
        for mut answer in answers {
            let failed = answer.try_recv().expect("answered");
            assert!(matches!(failed, Err(StoreError::Full { .. })), "{failed:?}");
        }
        assert_eq!(writer.database.window, Window::default());
        assert!(!writer.broken);
        let small = enqueue(&requests, Txn::new().put("/small", "fits alone"));
        let again = writer.queue.try_recv().expect("queued");
        writer.serve(again);
        drop(small);
        let event = futures_util::StreamExt::next(&mut live);
        let event = futures_util::FutureExt::now_or_never(event).flatten();
        assert_eq!(event.expect("an event").expect("live").revision, 1);
    }
}
