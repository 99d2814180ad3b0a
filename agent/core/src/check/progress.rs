//! P2 and P8: what is wanted runs, or something will come of waiting and people are told of what.

use everynode_model::{HELD_ON_NODE, PodKey};

use super::{Checker, Violation};
use crate::node::Node;
use crate::place::Place;
use crate::status;

impl Checker {
    /// What does not run because it is held says so.
    pub(super) fn check_held(&self, key: &PodKey, node: &Node) -> Vec<Violation> {
        let said = node.why(key).is_some_and(|reason| reason.code == HELD_ON_NODE);
        if said { Vec::new() } else { vec![Violation::Unexplained(key.clone())] }
    }

    pub(super) fn check_wanted(&self, key: &PodKey, node: &Node) -> Vec<Violation> {
        let mut broken = Vec::new();
        let reason = node.why(key);
        if !runs(key, node) {
            if reason.is_none() {
                broken.push(Violation::Unexplained(key.clone()));
            }
            // What a hold's line has as its second part.
            let cause = node.place(key).and_then(|place| status::why(place, None, None)).or(reason);
            if !self.moves_on(key, node, cause.as_ref().map_or("", |reason| &reason.code)) {
                broken.push(Violation::Stuck(key.clone()));
            }
        }
        broken
    }

    /// Whether an answer is awaited, a time is set, or somebody else has to act first.
    fn moves_on(&self, key: &PodKey, node: &Node, code: &str) -> bool {
        let others =
            ["HeldByAnotherCluster", "HeldByUnknown", "StrayPod", "SupervisorSilent", "WaitingFor"];
        self.making.contains_key(key)
            || self.staged.get(key).is_some_and(|(_, there)| !there)
            || self.lives.goes_on(key)
            || others.contains(&code)
            || (code == "LedgerNotWritten"
                && (self.in_flight.is_some() || node.wake_at().is_some()))
            || node.place(key).is_some_and(|place| {
                place.due().is_some() || place.waits.as_ref().is_some_and(|it| it.until.is_none())
            })
    }
}

fn runs(key: &PodKey, node: &Node) -> bool {
    node.place(key).is_some_and(Place::is_ready)
}
