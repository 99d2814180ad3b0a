//! People who asked this machine to leave, and wait to see it done.

use std::time::Duration;

use everynode_agent_core::{Node, Standing};
use tokio::time::Instant;

use crate::local::Request;
use crate::session::inbox::Link;

/// How long an empty machine waits for its disk, and for its coordinator's word, while somebody
/// looks on: some dials at the beginning of the back-off.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module. Bounded by the local socket, which serves few at a time.
#[derive(Default)]
pub(super) struct Leavers {
    waiting: Vec<Request>,
    said: String,
    empty_since: Option<Instant>,
}

impl Leavers {
    pub(super) fn add(&mut self, request: Request) {
        self.said.clear();
        self.waiting.push(request);
    }

    /// When to look again if nothing happens before.
    pub(super) fn due(&self) -> Option<Duration> {
        let since = self.empty_since.filter(|_| !self.waiting.is_empty())?;
        Some(PATIENCE.saturating_sub(since.elapsed()))
    }

    /// Tells those who wait how far it is.
    pub(super) fn look(&mut self, node: &Node, link: &Link) {
        if self.waiting.is_empty() || node.standing() == Standing::Left {
            return;
        }
        let why = node.why_not_left().map_or_else(String::new, |reason| reason.message);
        if !node.is_empty_here() {
            self.empty_since = None;
            return self.say(format!("leaving: {why}"));
        }
        let written = node.ledger().standing != Standing::Active;
        let since = *self.empty_since.get_or_insert_with(Instant::now);
        if since.elapsed() < PATIENCE {
            return self.say(match written {
                true => "nothing runs here any more; waiting for the coordinator".into(),
                false => format!("nothing runs here any more; {why}"),
            });
        }
        let what = match link {
            _ if !written => why,
            Link::Up(address) => format!("the coordinator at {address} has not confirmed"),
            Link::Down(why) => format!("no coordinator is in reach ({why})"),
        };
        let line = format!(
            "nothing runs here any more, but {what}; \
             keep the agent running, and it will confirm when it can"
        );
        for request in std::mem::take(&mut self.waiting) {
            request.finish(false, line.clone());
        }
    }

    /// Tells those who wait that it is done.
    pub(super) async fn left(&mut self) {
        for request in std::mem::take(&mut self.waiting) {
            request.finish_heard(true, "this machine has left its cluster".into()).await;
        }
    }

    fn say(&mut self, line: String) {
        if self.said != line {
            self.waiting.retain(|request| request.say(line.clone()));
            self.said = line;
        }
    }
}
