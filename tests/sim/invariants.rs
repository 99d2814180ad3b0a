//! What must hold at every moment, one function per promise; each says what is wrong, if anything.
//!
//! They look at the machines and their disks from outside, and know of the agents nothing but what
//! is there. What must hold in the end is in [`crate::ending`].

#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use everynode_agent_core::{Ledger, Standing};
use everynode_coordinator_core::{NodeStanding, Record};
use everynode_model::{Digest, Generation, Intent, Item, NodeUid, PodKey, ReignId, SetUid, Term};

use crate::log::Log;
use crate::machine::Life;
use crate::operator::Account;
use crate::seat::Seat;

/// A wrong thing, in one line that begins with the promise.
pub(crate) type Violation = String;

/// The most containers that a pod has here.
const CONTAINERS: u64 = 2;
/// A place that has been as its ledger wants it for so long has nothing under way.
const SETTLED: Duration = Duration::from_secs(1);

/// What is known of all machines together.
#[derive(Default)]
pub(crate) struct Law {
    /// What was accepted under each stamp, by whichever machine first.
    orders: BTreeMap<(NodeUid, Term, Generation), (ReignId, Digest)>,
    reigns: BTreeMap<Term, ReignId>,
    /// Nodes of which there are, or were, two.
    pub(crate) copied: BTreeSet<NodeUid>,
    /// Nodes whose machine does not know any more that it was them.
    pub(crate) lost: BTreeSet<NodeUid>,
}

/// One machine and its disk, as they were seen last.
#[derive(Default)]
pub(crate) struct Witness {
    changes: u64,
    writes: u64,
    pub(crate) ledger: Option<Ledger>,
    pub(crate) alive: Vec<Life>,
    starts: BTreeMap<PodKey, u64>,
    /// How many starts there has been a cause for in each place.
    causes: BTreeMap<PodKey, u64>,
    settled: BTreeMap<PodKey, Duration>,
    /// Everything that was ever ordered on this machine, as its disk has it.
    ordered: BTreeSet<(NodeUid, PodKey, SetUid, Digest, u64)>,
    /// What of that was to be started beside another.
    surged: BTreeSet<(PodKey, SetUid, Digest, u64)>,
}

impl Witness {
    /// The world did something to what lives in these places.
    pub(crate) fn causes(&mut self, places: impl IntoIterator<Item = PodKey>) {
        for place in places {
            self.settled.remove(&place);
            *self.causes.entry(place).or_default() += CONTAINERS;
        }
    }

    /// Looks at the machine again.
    pub(crate) fn look(
        &mut self,
        seat: &Seat,
        law: &mut Law,
        account: &Account,
        log: &Log,
    ) -> Result<(), Violation> {
        if seat.node().is_none() {
            self.ledger = None;
        }
        if seat.ledger.writes() != self.writes {
            self.writes = seat.ledger.writes();
            let ledger = seat.ledger.synced();
            p5_only_newer(self.ledger.as_ref(), ledger.as_ref())?;
            if let Some(ledger) = &ledger {
                p5_one_content_per_order(law, ledger)?;
                p4_only_the_removed_leave(ledger, account)?;
                self.note_orders(ledger);
                log.say(format_args!("{} ledger: {}", seat.name, describe(ledger)));
            }
            self.ledger = ledger;
        }
        if seat.machine.changes() != self.changes {
            self.changes = seat.machine.changes();
            self.look_at_pods(seat, account, log)?;
        }
        self.note_settled(log.now());
        Ok(())
    }

    fn look_at_pods(&mut self, seat: &Seat, account: &Account, log: &Log) -> Result<(), Violation> {
        if let Some(violation) = seat.machine.violations().into_iter().next() {
            return Err(violation);
        }
        let (alive, starts) = (seat.machine.alive(), seat.machine.starts());
        p1_at_most_one(&alive, &self.surged)?;
        p5_only_what_was_ordered(&alive, &self.ordered)?;
        for (place, count) in &starts {
            let new = count - self.starts.get(place).copied().unwrap_or_default();
            let causes = self.causes.entry(place.clone()).or_default();
            p3_no_start_without_a_cause(place, new, *causes)?;
            *causes -= new;
        }
        for place in seat.machine.take_stops() {
            let settled = self.settled.remove(&place);
            let doomed = self.ledger.as_ref().is_some_and(|it| account.doomed.contains(&it.node));
            p3_no_stop_without_a_cause(&place, settled.filter(|_| !doomed), log.now())?;
            if doomed {
                // Leaving is forgotten, and its pods come back, where the disk failed before a crash.
                self.causes([place]);
            }
        }
        if alive != self.alive {
            log.say(format_args!("{} runs: {}", seat.name, pods(&alive)));
        }
        (self.alive, self.starts) = (alive, starts);
        Ok(())
    }

    /// Whatever the ledger wants otherwise than before is a cause.
    fn note_orders(&mut self, ledger: &Ledger) {
        let former = self.ledger.as_ref().filter(|former| former.node == ledger.node);
        let changed =
            |item: &&Item| former.and_then(|it| it.assignment.get(&item.key)) != Some(item);
        let changed: Vec<PodKey> =
            ledger.assignment.items().filter(changed).map(|item| item.key.clone()).collect();
        let items = former.into_iter().flat_map(|former| former.assignment.items());
        let gone = items.filter(|item| ledger.assignment.get(&item.key).is_none());
        for item in gone {
            self.settled.remove(&item.key);
        }
        for item in ledger.assignment.items() {
            let Item { key, set, revision, replace, .. } = item;
            self.ordered.insert((ledger.node, key.clone(), *set, *revision, *replace));
            if item.surge.is_some() {
                self.surged.insert((key.clone(), *set, *revision, *replace));
            }
        }
        self.causes(changed);
    }

    fn note_settled(&mut self, now: Duration) {
        let Some(ledger) = &self.ledger else { return self.settled.clear() };
        let alone = |life: &Life| self.alive.iter().filter(|one| one.key == life.key).count() == 1;
        let fits = |life: &&Life| life.whole && is_wanted(ledger, life) && alone(life);
        let settled: BTreeSet<&PodKey> =
            self.alive.iter().filter(fits).map(|life| &life.key).collect();
        self.settled.retain(|key, _| settled.contains(key));
        for key in settled {
            let since = *self.settled.entry(key.clone()).or_insert(now);
            if now - since >= SETTLED {
                self.causes.remove(key);
            }
        }
    }
}

/// Whether the ledger wants exactly this.
pub(crate) fn is_wanted(ledger: &Ledger, life: &Life) -> bool {
    let fits = |item: &Item| match item.intent {
        Intent::Run => {
            (item.set, item.revision, item.replace) == (life.set, life.revision, life.replace)
        }
        Intent::Keep => item.set == life.set,
        Intent::Stop => false,
    };
    ledger.standing == Standing::Active
        && (ledger.cluster, ledger.node) == (life.marks.cluster, life.marks.node)
        && ledger.assignment.get(&life.key).is_some_and(fits)
}

/// In one place at most one pod is alive, or two of which one was made beside the other as it was
/// ordered.
fn p1_at_most_one(
    alive: &[Life],
    surged: &BTreeSet<(PodKey, SetUid, Digest, u64)>,
) -> Result<(), Violation> {
    for key in alive.iter().map(|life| &life.key).collect::<BTreeSet<_>>() {
        let here: Vec<&Life> = alive.iter().filter(|life| life.key == *key).collect();
        let takes_over = |new: &Life, old: &Life| {
            let made = (key.clone(), new.set, new.revision, new.replace);
            new.beside == Some(old.uid) && surged.contains(&made)
        };
        let right = match here.as_slice() {
            [_] => true,
            [one, other] => takes_over(one, other) || takes_over(other, one),
            _ => false,
        };
        if !right {
            return Err(format!("P1: {} pods of {key} are alive", here.len()));
        }
    }
    Ok(())
}

/// Nothing starts that something on this very machine did not call for.
fn p3_no_start_without_a_cause(place: &PodKey, new: u64, causes: u64) -> Result<(), Violation> {
    if new > causes {
        return Err(format!("P3: {new} starts in {place}, and cause for {causes}"));
    }
    Ok(())
}

/// What is as it ought to be is left alone.
fn p3_no_stop_without_a_cause(
    place: &PodKey,
    settled: Option<Duration>,
    now: Duration,
) -> Result<(), Violation> {
    match settled {
        Some(since) if now - since >= SETTLED => {
            Err(format!("P3: {place} was told to stop, and is as the ledger wants it"))
        }
        _ => Ok(()),
    }
}

/// Nobody tears down of whom nobody asked it.
fn p4_only_the_removed_leave(ledger: &Ledger, account: &Account) -> Result<(), Violation> {
    if ledger.standing != Standing::Active && !account.doomed.contains(&ledger.node) {
        return Err(format!("P4: node {} leaves, and nobody asked for it", ledger.node));
    }
    Ok(())
}

/// A node that its coordinator shows as gone has nothing alive, and was removed by somebody.
pub(crate) fn p4_gone_is_gone(
    records: &[Record],
    seats: &[Seat],
    witnesses: &[Witness],
    law: &Law,
    account: &Account,
) -> Result<(), Violation> {
    let ever: BTreeSet<NodeUid> = seats.iter().flat_map(Seat::ever).collect();
    for record in records {
        let Record::Node(node) = record else { continue };
        // One that no machine knows of joined without hearing so, and was replaced.
        let asked = account.doomed.contains(&node.uid) || !ever.contains(&node.uid);
        if node.standing != NodeStanding::Active && !asked {
            return Err(format!("P4: node {} is not active, and nobody asked for it", node.uid));
        }
        let alive = witnesses.iter().flat_map(|witness| &witness.alive);
        let alive = alive.filter(|life| life.marks.node == node.uid).count();
        let gone = matches!(node.standing, NodeStanding::Removed { .. });
        if gone && alive > 0 && !law.copied.contains(&node.uid) {
            return Err(format!("P4: node {} is shown as gone and runs {alive} pods", node.uid));
        }
    }
    Ok(())
}

/// What was accepted never falls.
fn p5_only_newer(former: Option<&Ledger>, ledger: Option<&Ledger>) -> Result<(), Violation> {
    let (Some(former), Some(ledger)) = (former, ledger) else { return Ok(()) };
    let at = |ledger: &Ledger| ledger.accepted.map(|stamp| (stamp.term, stamp.generation));
    if former.node == ledger.node && at(ledger) < at(former) {
        return Err(format!("P5: accepted fell from {:?} to {:?}", at(former), at(ledger)));
    }
    Ok(())
}

/// One (term, generation) has one content, one term one reign, whoever accepted it and when.
fn p5_one_content_per_order(law: &mut Law, ledger: &Ledger) -> Result<(), Violation> {
    let Some(stamp) = ledger.accepted else { return Ok(()) };
    if (stamp.cluster, stamp.digest) != (ledger.cluster, ledger.assignment.digest()) {
        return Err(format!("P5: node {} accepted what its stamp does not say", ledger.node));
    }
    let place = (ledger.node, stamp.term, stamp.generation);
    let content = (stamp.reign, stamp.digest);
    if *law.orders.entry(place).or_insert(content) != content {
        return Err(format!("P5: two contents of {place:?}"));
    }
    if *law.reigns.entry(stamp.term).or_insert(stamp.reign) != stamp.reign {
        return Err(format!("P5: two reigns of term {}", stamp.term));
    }
    Ok(())
}

/// Nothing lives that an order on this machine's disk did not once ask for.
fn p5_only_what_was_ordered(
    alive: &[Life],
    ordered: &BTreeSet<(NodeUid, PodKey, SetUid, Digest, u64)>,
) -> Result<(), Violation> {
    let unordered = alive.iter().find(|life| {
        let Life { key, marks, set, revision, replace, .. } = life;
        !ordered.contains(&(marks.node, key.clone(), *set, *revision, *replace))
    });
    match unordered {
        Some(life) => Err(format!("P5: {} runs by an order that is on no disk", life.key)),
        None => Ok(()),
    }
}

/// Who has joined is known, until it was to be forgotten.
pub(crate) fn p6_joined_is_known(
    records: &[Record],
    seats: &[Seat],
    account: &Account,
) -> Result<(), Violation> {
    for node in seats.iter().filter_map(Seat::node) {
        let known = |record: &Record| matches!(record, Record::Node(known) if known.uid == node);
        if !account.forgotten.contains(&node) && !records.iter().any(known) {
            return Err(format!("P6: node {node} has joined and is not stored"));
        }
    }
    Ok(())
}

fn describe(ledger: &Ledger) -> String {
    let at = ledger.accepted.map_or_else(
        || "nothing".into(),
        |stamp| format!("term {} generation {}", stamp.term, stamp.generation),
    );
    let item = |item: &Item| format!(" {}@{}", item.key, item.revision.short());
    let items: String = ledger.assignment.items().map(item).collect();
    format!("{:?}, {at}{items}", ledger.standing)
}

fn pods(alive: &[Life]) -> String {
    let pod = |life: &Life| {
        let mark = if life.whole { "" } else { "!" };
        format!("{}@{}{mark} ", life.key, life.revision.short())
    };
    alive.iter().map(pod).collect()
}
