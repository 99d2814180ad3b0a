//! One session's shared state: the outbox that the driver fills and the stream empties.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use everynode_coordinator_core::Order;
use everynode_model::{SessionNonce, Timestamp};
use everynode_proto::v1::coordinator_message::Message;
use everynode_proto::v1::{Deregister, OpenStream, Probe};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::streams::PER_NODE;

/// How many short messages may wait: a probe, Welcome, Deregister and Farewell are all there are
/// at a time. More means that the peer does not read, and the session is ended.
const CONTROL: usize = 8;

/// One agent's session, shared by its two directions, the registry and the driver.
pub(super) struct Session {
    nonce: SessionNonce,
    heard_millis: AtomicU64,
    outbox: Mutex<Outbox>,
    news: Notify,
    answered: Notify,
    closed: CancellationToken,
    /// One request of each kind is followed at a time, however often it is made.
    pub(super) resending: AtomicBool,
    leaving: AtomicBool,
    confirming: AtomicBool,
}

#[derive(Default)]
struct Outbox {
    control: VecDeque<Message>,
    order: Option<Arc<Order>>,
    /// No more than there may be of a node.
    streams: VecDeque<OpenStream>,
    resend: bool,
    deregistered: bool,
    end: Option<Status>,
}

/// What the stream is to send next.
pub(super) enum Next {
    /// A short message, ahead of everything.
    Control(Message),
    /// The newest order, and whether it must be sent whole with all its bodies.
    Order(Arc<Order>, bool),
    /// Nothing more, and why.
    End(Status),
    /// Nothing yet.
    Nothing,
}

impl Session {
    pub(super) fn new(nonce: SessionNonce, now: Timestamp) -> Arc<Self> {
        let session = Self {
            nonce,
            heard_millis: AtomicU64::new(0),
            outbox: Mutex::default(),
            news: Notify::new(),
            answered: Notify::new(),
            closed: CancellationToken::new(),
            resending: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            confirming: AtomicBool::new(false),
        };
        session.touch(now);
        Arc::new(session)
    }

    pub(super) fn nonce(&self) -> SessionNonce {
        self.nonce
    }

    pub(super) fn last_heard(&self) -> Timestamp {
        Timestamp::from_start(Duration::from_millis(self.heard_millis.load(Ordering::Relaxed)))
    }

    /// The peer has sent something.
    pub(super) fn touch(&self, now: Timestamp) {
        let millis = u64::try_from(now.since_start().as_millis()).unwrap_or(u64::MAX);
        self.heard_millis.store(millis, Ordering::Relaxed);
    }

    /// The newest order replaces one that has not been sent.
    pub(super) fn publish(&self, order: Arc<Order>) {
        let mut outbox = self.outbox();
        if !outbox.deregistered {
            outbox.order = Some(order);
        }
        drop(outbox);
        self.news.notify_one();
    }

    /// The agent has lost its footing: the order must be sent again, whole.
    pub(super) fn resend(&self, order: Option<Arc<Order>>) {
        let mut outbox = self.outbox();
        if outbox.deregistered {
            return;
        }
        outbox.resend = true;
        if outbox.order.is_none() {
            outbox.order = order;
        }
        drop(outbox);
        self.news.notify_one();
    }

    /// Said once; no order follows it.
    pub(super) fn deregister(&self) {
        let mut outbox = self.outbox();
        let said = std::mem::replace(&mut outbox.deregistered, true);
        outbox.order = None;
        drop(outbox);
        if !said {
            self.say(Message::Deregister(Deregister {}));
        }
    }

    /// Sends a short message ahead of everything.
    pub(super) fn say(&self, message: Message) {
        let mut outbox = self.outbox();
        if outbox.control.len() < CONTROL {
            outbox.control.push_back(message);
            drop(outbox);
            self.news.notify_one();
        } else {
            outbox.end.get_or_insert_with(|| {
                Status::resource_exhausted("this session's messages are not read")
            });
            drop(outbox);
            // The end would wait behind what is not read.
            self.close();
        }
    }

    /// Asks for a stream; whether there is room for that.
    pub(super) fn open_stream(&self, stream: OpenStream) -> bool {
        let mut outbox = self.outbox();
        let room = outbox.streams.len() < PER_NODE;
        if room {
            outbox.streams.push_back(stream);
            drop(outbox);
            self.news.notify_one();
        }
        room
    }

    /// Whether a Leave is being followed, of one that wants to leave, or of one that is empty.
    pub(super) const fn following(&self, empty: bool) -> &AtomicBool {
        if empty { &self.confirming } else { &self.leaving }
    }

    /// Asks the peer for a sign of life and waits for one, for ever: the caller sets the limit.
    pub(super) async fn probe(&self, number: u64) {
        let answered = self.answered.notified();
        self.say(Message::Probe(Probe { number }));
        answered.await;
    }

    /// The peer has answered a probe.
    pub(super) fn probe_answered(&self) {
        self.answered.notify_waiters();
    }

    /// Ends the session, once what is in the outbox's control queue is sent.
    pub(super) fn end(&self, status: Status) {
        self.outbox().end.get_or_insert(status);
        self.news.notify_one();
    }

    /// One direction is gone; the other must end too.
    pub(super) fn close(&self) {
        self.end(Status::unavailable("the session is over"));
        self.closed.cancel();
    }

    /// Waits until [`Self::close`].
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Waits for something to send; may return early.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// What to send next; an order only if `ready_for_order`.
    pub(super) fn next(&self, ready_for_order: bool) -> Next {
        let mut outbox = self.outbox();
        if let Some(message) = outbox.control.pop_front() {
            return Next::Control(message);
        }
        if let Some(status) = outbox.end.take() {
            return Next::End(status);
        }
        if let Some(stream) = outbox.streams.pop_front() {
            return Next::Control(Message::OpenStream(stream));
        }
        if ready_for_order && let Some(order) = outbox.order.take() {
            return Next::Order(order, std::mem::take(&mut outbox.resend));
        }
        Next::Nothing
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        // Every statement under the lock leaves the outbox whole, so a panic can't have torn it.
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use everynode_proto::v1::Farewell;
    use uuid::Uuid;

    fn session() -> Arc<Session> {
        Session::new(SessionNonce::new(Uuid::nil()), Timestamp::ZERO)
    }

    #[test]
    fn short_messages_go_first_and_the_end_comes_after_them() {
        let session = session();
        session.end(Status::ok(""));
        session.say(Message::Farewell(Farewell {}));
        assert!(matches!(session.next(true), Next::Control(Message::Farewell(_))));
        assert!(matches!(session.next(true), Next::End(_)));
        assert!(matches!(session.next(true), Next::Nothing));
    }

    #[test]
    fn a_removed_node_is_told_once() {
        let session = session();
        session.deregister();
        session.deregister();
        assert!(matches!(session.next(true), Next::Control(Message::Deregister(_))));
        assert!(matches!(session.next(true), Next::Nothing));
    }

    #[tokio::test]
    async fn when_one_direction_is_gone_the_other_ends() {
        let session = session();
        session.close();
        session.closed().await;
        session.news().await;
        assert!(matches!(session.next(true), Next::End(_)));
    }

    #[test]
    fn a_peer_that_does_not_read_is_ended_rather_than_queued_for() {
        let session = session();
        for _ in 0..=CONTROL {
            session.say(Message::Farewell(Farewell {}));
        }
        for _ in 0..CONTROL {
            assert!(matches!(session.next(true), Next::Control(_)));
        }
        assert!(
            matches!(session.next(true), Next::End(status) if status.code() == tonic::Code::ResourceExhausted)
        );
    }

    #[tokio::test]
    async fn a_probe_is_over_when_it_is_answered() {
        let session = session();
        let probe = session.probe(1);
        let mut probe = std::pin::pin!(probe);
        assert!(futures_util::poll!(&mut probe).is_pending());
        assert!(matches!(session.next(false), Next::Control(Message::Probe(_))));
        session.probe_answered();
        probe.await;
    }
}
