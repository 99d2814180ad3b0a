//! How a machine leaves its cluster, and whether it is empty: what it waits for until then.

use everynode_model::{PodKey, Reason, Stamp};

use super::{Node, answers};
use crate::book::Settled;
use crate::event::Action;
use crate::ledger::{Departure, Standing};
use crate::order::Refusal;
use crate::place::{Life, Place};

impl Node {
    /// Whether nothing of our cluster is left here. `false` before the machine was looked at.
    pub fn is_empty_here(&self) -> bool {
        self.looked && self.occupied().next().is_none()
    }

    /// Whether nothing of our cluster lives in a place. `false` before the machine was looked at.
    pub fn is_down(&self, key: &PodKey) -> bool {
        self.looked && !self.occupied().any(|occupied| occupied == key)
    }

    /// Why a machine that is to leave has not left; `None` when it stays or has left.
    pub fn why_not_left(&self) -> Option<Reason> {
        let line = match (self.standing(), self.ledger().standing) {
            (Standing::Active, _) | (Standing::Left, Standing::Left) => return None,
            (wanted, written) if wanted != written => match self.book.failure() {
                Some(why) => format!("the ledger can't be written: {}", why.message),
                None => "the ledger has not been written".into(),
            },
            _ if !self.looked => "the agent has not yet looked at what lives here".into(),
            _ => match self.occupied().next() {
                Some(key) => format!("{key} has not been seen empty"),
                None => "the coordinator has not confirmed".into(),
            },
        };
        Some(Reason::new("Leaving", line))
    }

    /// Why a machine that is going down still has something of our cluster alive; `None` when
    /// nothing is, or it does not go down.
    pub fn why_not_down(&self) -> Option<Reason> {
        if !self.is_going_down() || self.is_empty_here() {
            return None;
        }
        let line = match self.occupied().next() {
            Some(key) => format!("{key} has not been seen empty"),
            None => "the agent has not yet looked at what lives here".into(),
        };
        Some(Reason::new("NodeShutdown", line))
    }

    /// Stopping is always safe, so it begins before the wish to leave is on disk.
    pub(super) fn leave(&mut self, departure: Departure, out: &mut Vec<Action>) {
        self.said_empty = false;
        if self.book.standing() == Standing::Active {
            let order: Option<Stamp> = self.book.put_standing(Standing::Leaving(departure));
            let overtaken = Settled { order, requests: self.book.take_changes() };
            out.extend(answers(overtaken, Some(&Refusal::Leaving.into())));
        }
    }

    pub(super) fn confirmed(&mut self) {
        let empty = self.is_empty_here() || mutated!(WipeEarly);
        if matches!(self.ledger().standing, Standing::Leaving(_)) && empty {
            self.book.put_standing(Standing::Left);
        }
    }

    /// The last steps of leaving, each by what is on disk: a machine that said it is empty and then
    /// forgot that it leaves would start everything again.
    pub(super) fn depart(&mut self, out: &mut Vec<Action>) {
        let early = mutated!(ConfirmEarly) || mutated!(WipeEarly);
        if !self.is_empty_here() && !early {
            return;
        }
        match (self.book.disk().standing, self.book.standing()) {
            (Standing::Leaving(_), Standing::Leaving(_)) if !self.said_empty => {
                self.said_empty = true;
                out.push(Action::ConfirmDeparture);
            }
            (Standing::Left, _) if !self.wiped => {
                self.wiped = true;
                out.push(Action::Wipe);
            }
            _ => {}
        }
    }

    fn occupied(&self) -> impl Iterator<Item = &PodKey> {
        let ours = |place: &Place| match &place.life {
            Life::Empty => false,
            Life::Creating(_) | Life::Running(_) | Life::Stopping(..) => true,
            Life::Held(held) => held.any_of_our_cluster(),
        };
        self.places.iter().filter(move |(_, place)| ours(place)).map(|(key, _)| key)
    }
}
