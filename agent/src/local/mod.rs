//! Break-glass: people at this machine, over a socket that only root and the agent's own user may
//! use, without any coordinator.
//!
//! One question per connection: a line of JSON. The answer is lines of JSON, the last of which says
//! whether it was done.

pub(crate) mod client;
mod server;
mod socket;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub(crate) use server::serve;

/// The socket's name in the data directory.
const NAME: &str = "agent.sock";
/// The longest question: names, a reason, and JSON around them.
const MAX_QUESTION: usize = 4096;
/// For a question to come once connected.
const ASKING: Duration = Duration::from_secs(5);
/// People at one machine.
const CONNECTIONS: usize = 8;
/// Lines of an answer that wait for their reader: a leave says a line per pod at most, and a reader
/// that does not read misses lines, never the end.
const LINES: usize = 64;

/// What may be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub enum Question {
    /// Who this machine is, what runs here, and why not: a [`Report`](crate::report::Report) as
    /// JSON.
    Report,
    /// Keep a place, or all of them, as it is.
    Hold {
        /// What.
        target: Target,
        /// Whether it is to be stopped and kept down.
        stop: bool,
        /// Who wants it, for people.
        by: String,
        /// What for, for people.
        reason: String,
        /// For how many seconds; else until it is released.
        seconds: Option<u64>,
    },
    /// Let it follow its orders again.
    Release {
        /// What.
        target: Target,
    },
    /// Stop everything and leave the cluster.
    Leave,
    /// Stop everything, because the machine goes down, and end.
    Shutdown,
    /// Become whom the next identity says; it is written beside the present one.
    Rejoin,
}

/// What somebody wants held or released.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Everything here.
    All,
    /// One DaemonSet's pod, by namespace and name.
    Pod(String, String),
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Text to show.
    Text(String),
    /// The end: whether it was done, and text to show.
    End {
        /// Whether it was done.
        done: bool,
        /// Text to show.
        text: String,
    },
}

/// A question that waits for its answer.
#[derive(Debug)]
pub struct Request {
    /// What is asked.
    pub question: Question,
    answers: mpsc::Sender<Answer>,
}

impl Request {
    /// A request, and where its answers come out.
    pub fn new(question: Question) -> (Self, mpsc::Receiver<Answer>) {
        let (answers, receiver) = mpsc::channel(LINES);
        (Self { question, answers }, receiver)
    }

    /// Says something before the end; `false` when nobody listens any more.
    pub fn say(&self, text: String) -> bool {
        use mpsc::error::TrySendError;
        !matches!(self.answers.try_send(Answer::Text(text)), Err(TrySendError::Closed(_)))
    }

    /// Ends it.
    pub fn finish(self, done: bool, text: String) {
        // The end must come through: it waits, apart from whoever answers, until the lines before
        // it have gone, or nobody listens any more.
        match self.answers.try_send(Answer::End { done, text }) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(end)) => {
                tokio::spawn(async move {
                    let _ = self.answers.send(end).await;
                });
            }
        }
    }

    /// Ends it, and waits a moment until that has been passed on: the process is about to end.
    pub async fn finish_heard(self, done: bool, text: String) {
        let heard = self.answers.clone();
        self.finish(done, text);
        let _ = tokio::time::timeout(Duration::from_secs(1), heard.closed()).await;
    }
}
