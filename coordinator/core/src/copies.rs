//! Whether an agent's ledger is the one that went through its node's last session, or an older copy.
//!
//! Every session has a mark, which the agent writes down and says again when it next calls. A copy of
//! its data directory goes on from an older one:
//!
//! ```text
//!   session 1 ── answered ─▶ 2 ── answered ─▶ 3 ── not answered (the link broke) ─▶ …
//!   next says 2 or 3: the same ledger                next says 1, or none: an older one
//! ```
//!
//! Only what was seen in this reign is known, and an agent that died within the moment between its
//! first word and its ledger's write looks the same; so people are told, and nothing follows from it.

use everynode_model::{NodeUid, SessionNonce};

use crate::Fleet;
use crate::events::about_node;
use crate::record::EventType;

/// Sessions in a row that were given and never answered; beyond that nothing is known any more.
const MAX_GIVEN: usize = 8;

/// The marks that an honest ledger may hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    /// Of the newest session in which the agent spoke; `None` while none is known.
    answered: Option<SessionNonce>,
    /// Of those after it: its Welcome may have come or not.
    given: Vec<SessionNonce>,
}

impl Marks {
    /// Whether a ledger that remembers this session can be the newest one.
    fn may_be_newest(&self, remembers: Option<SessionNonce>) -> bool {
        self.answered.is_none()
            || remembers == self.answered
            || remembers.is_some_and(|session| self.given.contains(&session))
    }

    /// A session begins with a ledger that remembers another.
    fn begin(&mut self, session: SessionNonce, remembers: Option<SessionNonce>) {
        if let Some(remembered) = remembers {
            let at = self.given.iter().position(|given| *given == remembered);
            if let Some(at) = at {
                self.given.drain(..=at);
                self.answered = Some(remembered);
            }
        }
        if self.given.len() == MAX_GIVEN {
            *self = Self::default();
        }
        self.given.push(session);
    }

    /// The agent spoke in it, so it was welcomed.
    fn answer(&mut self, session: SessionNonce) {
        if self.given.contains(&session) {
            self.answered = Some(session);
            self.given.clear();
        }
    }
}

impl Fleet {
    /// The agent said something in this session, beyond its Hello.
    pub(crate) fn answered(&mut self, node: NodeUid, session: SessionNonce) {
        if let Some(seen) = self.seen.get_mut(&node) {
            seen.marks.answer(session);
        }
    }

    /// Tells people where a node's agent may be a copy, or on another machine.
    pub(crate) fn look_for_copies(
        &mut self,
        node: NodeUid,
        session: SessionNonce,
        remembers: Option<SessionNonce>,
        machine_id: &str,
    ) {
        let Some(seen) = self.seen.get_mut(&node) else { return };
        let newest = seen.marks.may_be_newest(remembers);
        seen.marks.begin(session, remembers);
        let Some(record) = self.records.active(node) else { return };
        let (about, joined_from) = (about_node(record), record.machine_id.clone());
        if !newest {
            let message = "Its agent remembers an older session than the node's last: its data \
                           directory may be a copy, made before, or has lost what was written last";
            self.tell(about.clone(), EventType::Warning, "StaleLedger", message);
        }
        if !machine_id.is_empty() && !joined_from.is_empty() && machine_id != joined_from {
            let message = "Its agent calls from a machine with another machine id than the one that \
                           joined: its data directory was moved, or copied";
            self.tell(about, EventType::Warning, "MachineIdChanged", message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(number: u32) -> SessionNonce {
        format!("{number:08x}-0000-4000-8000-000000000000").parse().unwrap()
    }

    /// Sessions 1 and 2, answered, and 3, which was not.
    fn three() -> Marks {
        let mut marks = Marks::default();
        marks.begin(mark(1), None);
        marks.answer(mark(1));
        marks.begin(mark(2), Some(mark(1)));
        marks.answer(mark(2));
        marks.begin(mark(3), Some(mark(2)));
        marks
    }

    #[test]
    fn the_newest_and_what_may_have_come_after_it_are_honest() {
        for honest in [2, 3] {
            assert!(three().may_be_newest(Some(mark(honest))));
        }
        for stale in [Some(mark(1)), Some(mark(9)), None] {
            assert!(!three().may_be_newest(stale));
        }
        assert!(Marks::default().may_be_newest(Some(mark(9))), "nothing is known of it");
    }

    #[test]
    fn what_was_said_of_a_session_is_known_from_then_on() {
        let mut marks = three();
        // Its Welcome had come, though nothing else did.
        marks.begin(mark(4), Some(mark(3)));
        assert!(!marks.may_be_newest(Some(mark(2))));
        assert!(marks.may_be_newest(Some(mark(3))) && marks.may_be_newest(Some(mark(4))));
        // A word of a session that was overtaken says nothing new.
        marks.answer(mark(2));
        assert!(marks.may_be_newest(Some(mark(3))));
    }

    #[test]
    fn a_link_that_never_holds_leads_to_no_false_alarm() {
        let mut marks = three();
        for number in 4..100 {
            marks.begin(mark(number), Some(mark(2)));
        }
        assert!(marks.given.len() <= MAX_GIVEN);
        assert!(marks.may_be_newest(Some(mark(2))));
    }
}
