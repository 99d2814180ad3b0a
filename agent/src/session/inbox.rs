//! What came from the coordinator and waits for the loop: at most one of each kind, newer news in
//! the place of older. So the stream can be drained at once, whatever the loop is doing.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use everynode_model::{Assignment, SessionNonce};
use everynode_proto::v1;
use tokio::sync::{Notify, oneshot};

use super::assemble::Order;
use crate::identity::Identity;

/// All that is new, in the order in which it is to be taken in.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// A session is about to begin and wants its Hello, with the assignment accepted so far.
    pub(crate) hello: Option<oneshot::Sender<Opening>>,
    /// A session began.
    pub(crate) welcomed: Option<SessionNonce>,
    pub(crate) deregistered: bool,
    pub(crate) order: Option<Order>,
    pub(crate) farewell: bool,
    /// This coordinator does not know this node.
    pub(crate) unknown: bool,
    /// The certificate was renewed.
    pub(crate) identity: Option<Box<Identity>>,
    pub(crate) link: Option<Link>,
}

/// How a session is opened.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) hello: v1::Hello,
    pub(crate) accepted: Assignment,
}

/// Whether there is a coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// There is a session with the one at this address.
    Up(String),
    /// There is none, and why.
    Down(String),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    news: Mutex<News>,
    arrived: Notify,
}

impl Inbox {
    /// Puts something in.
    pub(crate) fn put(&self, change: impl FnOnce(&mut News)) {
        change(&mut self.lock());
        self.arrived.notify_one();
    }

    /// Puts an order in. One that nobody has taken gives way, but its bodies stay: the coordinator
    /// takes them for delivered.
    pub(crate) fn put_order(&self, mut order: Order) {
        self.put(|news| {
            let overtaken = news.order.take().map(|order| order.bodies);
            keep_needed(&mut order, overtaken.unwrap_or_default());
            news.order = Some(order);
        });
    }

    /// Waits until something was put in since the last time.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Takes out all that is there.
    pub(crate) fn take(&self) -> News {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds to an order those of other bodies that it needs.
pub(crate) fn keep_needed(order: &mut Order, others: BTreeMap<everynode_model::Digest, Vec<u8>>) {
    for (digest, body) in others {
        if order.assignment.items().any(|item| item.revision == digest) {
            order.bodies.entry(digest).or_insert(body);
        }
    }
}
