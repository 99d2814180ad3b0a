//! The direction towards the agent: a stream that says what the session's outbox wants said.

use std::collections::VecDeque;
use std::sync::Arc;

use everynode_proto::v1;
use everynode_proto::v1::coordinator_message::Message;
use futures_util::stream::{self, Stream};
use tonic::Status;

use super::chunk::Sent;
use super::session::{Next, Session};

/// Ends the other direction when this stream is dropped, however that comes about.
struct Guard(Arc<Session>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.close();
    }
}

struct Outbound {
    session: Guard,
    sent: Sent,
    chunks: VecDeque<v1::Assignment>,
    ended: bool,
}

type Item = Result<v1::CoordinatorMessage, Status>;

/// Everything the agent is to be told, from Welcome to the end of the session.
pub(super) fn stream(session: Arc<Session>, sent: Sent) -> impl Stream<Item = Item> + Send {
    let outbound =
        Outbound { session: Guard(session), sent, chunks: VecDeque::new(), ended: false };
    stream::unfold(outbound, |mut outbound| async move {
        let item = outbound.next().await?;
        Some((item, outbound))
    })
}

impl Outbound {
    async fn next(&mut self) -> Option<Item> {
        if self.ended {
            return None;
        }
        loop {
            // An order is taken only when the one before it is out: a change starts from it.
            match self.session.0.next(self.chunks.is_empty()) {
                Next::Control(message) => return Some(Ok(wrap(message))),
                Next::End(status) => {
                    self.ended = true;
                    return Some(Err(status));
                }
                Next::Order(order, whole) => self.chunks = self.sent.bring_to(order, whole),
                Next::Nothing if self.chunks.is_empty() => {
                    self.session.0.news().await;
                    continue;
                }
                Next::Nothing => {}
            }
            if let Some(chunk) = self.chunks.pop_front() {
                return Some(Ok(wrap(Message::Assignment(chunk))));
            }
        }
    }
}

fn wrap(message: Message) -> v1::CoordinatorMessage {
    v1::CoordinatorMessage { message: Some(message) }
}
