//! Those who asked for everything to be stopped because the machine goes down, and wait to see it
//! done: its service manager, or a person.

use everynode_agent_core::Node;

use crate::local::Request;

/// See the module. Bounded by the local socket, which serves few at a time.
#[derive(Default)]
pub(super) struct Waiters {
    waiting: Vec<Request>,
    said: String,
}

impl Waiters {
    pub(super) fn add(&mut self, request: Request) {
        self.said.clear();
        self.waiting.push(request);
    }

    /// Tells those who wait how far it is.
    pub(super) fn look(&mut self, node: &Node) {
        let Some(why) = node.why_not_down() else { return };
        let line = format!("stopping: {}", why.message);
        if self.said != line {
            self.waiting.retain(|request| request.say(line.clone()));
            self.said = line;
        }
    }

    /// Tells those who wait that it is done.
    pub(super) async fn down(&mut self) {
        for request in std::mem::take(&mut self.waiting) {
            request.finish_heard(true, "nothing of its cluster runs on this machine".into()).await;
        }
    }
}
