//! What is wanted against what is there: the one pass that follows every event.
//!
//! What is wanted is read from the ledger on disk and from nowhere else. An agent has some dozens
//! of places, so that going through all of them costs less than knowing which to skip.

use std::collections::{BTreeMap, BTreeSet};

use everynode_model::{Digest, Intent, Item, PodKey, Reason};

use crate::after;
use crate::book::Book;
use crate::hold::Hold;
use crate::ledger::{Departure, Standing};
use crate::place::{Life, Place, Turn, Want};
use crate::ports;

/// Brings every place one step closer to what it is for; in which of them something is waited for that
/// was not before, or the reverse.
pub(crate) fn reconcile(
    places: &mut BTreeMap<PodKey, Place>,
    book: &mut Book,
    turn: &mut Turn<'_>,
) -> BTreeSet<PodKey> {
    let mut changed = BTreeSet::new();
    let keys: Vec<PodKey> = told(book).cloned().collect();
    for key in keys {
        places.entry(key).or_insert_with(|| Place::new(Life::Empty));
    }
    let ready = ready(places);
    let mut holding: BTreeSet<_> =
        places.iter().flat_map(|(key, place)| holders(key, place)).collect();
    let mut moves = BTreeMap::new();
    for (key, place) in &mut *places {
        let mut want = wanted(book, key);
        if let Want::Pod { item, gate, stages, surge, alike, .. } = &mut want {
            let like = |revision: &Digest| book.are_alike(*revision, item.revision);
            *alike = place.made_from().filter(like).collect();
            *stages = book.stages(item.revision);
            // A place with something in it has one runtime: a pod of another can't be beside it.
            let named = book.names_runtime(key, item.revision);
            *surge = surge.filter(|_| named);
            if matches!(place.life, Life::Empty) && !named {
                moves.insert(key.clone(), item.revision);
            }
            *gate = self::gate(book, item, &ready)
                .or_else(|| ports::conflict(book.ports(), key, item.revision, &holding));
        }
        let before = (place.waits.take(), place.next);
        place.step(key, &want, turn);
        if (&before.0, before.1) != (&place.waits, place.next) {
            changed.insert(key.clone());
        }
        // Whoever was made in this pass holds its ports against those that come after it.
        holding.extend(holders(key, place));
    }
    let told: BTreeSet<&PodKey> = told(book).collect();
    places.retain(|key, place| !matches!(place.life, Life::Empty) || told.contains(key));
    book.set_moves(moves);
    changed
}

/// What is wanted in this place, and why nothing is if so.
pub(crate) fn wanted<'a>(book: &'a Book, key: &PodKey) -> Want<'a> {
    let leaving = |line: &str| Want::Nothing { item: None, reason: Reason::new("Leaving", line) };
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
        let reason = Reason::new("NodeShutdown", "this machine is going down");
        return Want::Nothing { item: None, reason };
    }
    match hold(book, key).filter(|_| !mutated!(IgnoreHold)) {
        Some(hold) => held(book, key, hold),
        None => ordered(book, key),
    }
}

/// Who holds this place as it is, if somebody does.
pub(crate) fn hold<'a>(book: &'a Book, key: &PodKey) -> Option<&'a Hold> {
    let heeded = book.standing() == Standing::Active && !book.is_going_down();
    book.holds().of(key).filter(|_| heeded)
}

/// The places of which something is to be told although nothing may be there.
pub(crate) fn told(book: &Book) -> impl Iterator<Item = &PodKey> {
    let ordered = book.disk().assignment.items().map(|item| &item.key);
    let all = ordered.chain(book.holds().kept.keys());
    all.filter(|key| wanted(book, key).item().is_some())
}

/// A held place goes on with what it had. Of one that has nothing, what was ordered meanwhile is
/// told, so that nobody waits for it in vain.
fn held<'a>(book: &'a Book, key: &PodKey, hold: &Hold) -> Want<'a> {
    let ordered = || book.disk().assignment.get(key).filter(|item| item.intent != Intent::Stop);
    match book.holds().kept.get(key) {
        Some(item) if !hold.stop => {
            let alike = Vec::new();
            Want::Pod { item, gate: None, stages: false, surge: None, alike, held: true }
        }
        kept if hold.stop => Want::Nothing { item: kept.or_else(ordered), reason: hold.why() },
        _ => Want::AsItIs { item: ordered(), reason: hold.why() },
    }
}

fn ordered<'a>(book: &'a Book, key: &PodKey) -> Want<'a> {
    let nothing = |code: &str, line: &str| {
        let reason = Reason::new(code, line);
        Want::Nothing { item: None, reason }
    };
    match book.disk().assignment.get(key) {
        Some(_) if mutated!(ForgetFormers) && is_anew(book) => nothing("NotAssigned", "a former's"),
        Some(item) if item.intent == Intent::Stop => {
            nothing("Stopped", "it is ordered to stop on this node")
        }
        Some(item) => {
            let surge = item.surge.filter(|_| item.intent == Intent::Run);
            Want::Pod { item, gate: None, stages: false, surge, alike: Vec::new(), held: false }
        }
        None if book.disk().accepted.is_none() && !mutated!(StopUnordered) => {
            let line = "no order is known here; what runs is left until one comes";
            Want::AsItIs { item: None, reason: Reason::new("NoOrderKnown", line) }
        }
        None => nothing("NotAssigned", "it is not among what this node is to run"),
    }
}

/// Whether what is on disk is what a former coordinator ordered.
fn is_anew(book: &Book) -> bool {
    book.disk().accepted.is_none() && !book.disk().formers.is_empty()
}

/// Why a wanted pod that is not there must not be made yet.
fn gate(book: &Book, item: &Item, ready: &BTreeSet<PodKey>) -> Option<Reason> {
    if !book.names_runtime(&item.key, item.revision) {
        let line = "the ledger has to name this pod's runtime before it is made";
        return Some(Reason::new("LedgerNotWritten", line));
    }
    let key = after::waits_for(item, &book.disk().assignment, ready)?;
    Some(Reason::new("WaitingFor", format!("{key} has to be ready on this node first")))
}

fn ready(places: &BTreeMap<PodKey, Place>) -> BTreeSet<PodKey> {
    places.iter().filter(|(_, place)| place.is_ready()).map(|(key, _)| key.clone()).collect()
}

/// What holds ports in a place: each revision of which something lives there.
fn holders<'a>(key: &'a PodKey, place: &'a Place) -> impl Iterator<Item = (PodKey, Digest)> + 'a {
    place.made_from().map(|revision| (key.clone(), revision))
}
