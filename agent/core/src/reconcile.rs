//! What is wanted against what is there: the one pass that follows every event.
//!
//! What is wanted is read from the ledger on disk and from nowhere else. An agent has some dozens
//! of places, so that going through all of them costs less than knowing which to skip.

use std::collections::{BTreeMap, BTreeSet};

use everynode_model::{Intent, Item, PodKey, Reason};

use crate::after;
use crate::book::Book;
use crate::ledger::{Departure, Standing};
use crate::place::{Life, Place, Turn, Want};

/// Brings every place one step closer to what it is for.
pub(crate) fn reconcile(
    places: &mut BTreeMap<PodKey, Place>,
    book: &mut Book,
    turn: &mut Turn<'_>,
) {
    for item in book.disk().assignment.items() {
        if wanted(book, &item.key).is_ok() {
            places.entry(item.key.clone()).or_insert_with(|| Place::new(Life::Empty));
        }
    }
    let ready = ready(places);
    let mut moves = BTreeSet::new();
    for (key, place) in &mut *places {
        let want = match wanted(book, key) {
            Err(reason) => Want::Nothing(reason),
            Ok(item) => {
                if matches!(place.life, Life::Empty) && !book.names_runtime(key) {
                    moves.insert(key.clone());
                }
                Want::Pod { item, gate: gate(book, item, &ready) }
            }
        };
        place.step(key, &want, turn);
    }
    places.retain(|key, place| !matches!(place.life, Life::Empty) || wanted(book, key).is_ok());
    book.set_moves(moves);
}

/// The item that wants a pod in this place, or why none is wanted.
pub(crate) fn wanted<'a>(book: &'a Book, key: &PodKey) -> Result<&'a Item, Reason> {
    let leaving = |line: &str| Err(Reason::new("Leaving", line));
    match book.standing() {
        Standing::Active => {}
        Standing::Leaving(_) if mutated!(StartWhileLeaving) => {}
        Standing::Leaving(Departure::Deregistered) => return leaving("the node was deleted"),
        Standing::Leaving(Departure::Requested) => {
            return leaving("this machine was told to leave");
        }
        Standing::Left => return leaving("this machine has left its cluster"),
    }
    if book.is_going_down() && !mutated!(StartWhileGoingDown) {
        return Err(Reason::new("NodeShutdown", "this machine is going down"));
    }
    match book.disk().assignment.get(key) {
        None => Err(Reason::new("NotAssigned", "it is not among what this node is to run")),
        Some(item) if item.intent == Intent::Stop => {
            Err(Reason::new("Stopped", "it is ordered to stop on this node"))
        }
        Some(item) => Ok(item),
    }
}

/// Why a wanted pod that is not there must not be made yet.
fn gate(book: &Book, item: &Item, ready: &BTreeSet<PodKey>) -> Option<Reason> {
    if !book.names_runtime(&item.key) {
        let line = "the ledger has to name this pod's runtime before it is made";
        return Some(Reason::new("LedgerNotWritten", line));
    }
    let key = after::waits_for(item, &book.disk().assignment, ready)?;
    Some(Reason::new("WaitingFor", format!("{key} has to be ready on this node first")))
}

fn ready(places: &BTreeMap<PodKey, Place>) -> BTreeSet<PodKey> {
    let is_ready =
        |place: &Place| matches!(&place.life, Life::Running(pod) if pod.ready_since.is_some());
    places.iter().filter(|(_, place)| is_ready(place)).map(|(key, _)| key.clone()).collect()
}
