//! What is done to the world: drawn from the seed and nothing else.

use std::time::Duration;

use everynode_agent_core::{Event, Marks};
use everynode_model::{Assignment, Generation, NodeUid, PodUid, ReignId, SetUid, Stamp, WallTime};

use crate::dice::Dice;
use crate::names::{ELSEWHERE, SETS, key, runtime_of};
use crate::people;
use crate::seat::OnDisk;
use crate::world::World;

/// One kind of thing to do, and how often it comes, against the others.
type Kind = (usize, fn(&mut World));

/// What makes things worse. Each walk knows some of them only, so that none keeps another from
/// leading anywhere.
const BAD: &[Kind] = &[
    // The network.
    (5, cut),
    (4, break_agents_end),
    (4, break_coordinators_end),
    (4, repeat_order),
    (4, forge_order),
    // Processes, machines and clocks.
    (4, kill_agent),
    (3, reboot),
    (2, go_down),
    (3, kill_coordinator),
    (2, freeze_agent),
    (2, freeze_coordinator),
    (3, jump_wall_clock),
    // Disks.
    (3, fail_commits),
    (2, fail_disk),
    (1, damage_ledger),
    (3, restore_backup),
    // Identities.
    (1, lose_data),
    (1, image_anew),
    (1, copy_machine),
    (2, another_cluster_moves_in),
    // People.
    (2, people::delete_node),
    (1, people::forget_node),
    (1, people::forget_uid),
    (2, people::leave),
    (3, people::hold),
    (1, people::revoke_token),
];

/// What comes in every walk.
const USUAL: &[Kind] = &[
    (8, mend),
    (8, start_agent),
    (10, start_coordinator),
    (4, mend_disks),
    (3, back_up),
    (9, people::apply),
    (2, people::delete_set),
    (1, people::recreate_set),
    (3, people::delete_pod),
    (6, people::mark_node),
    (8, people::give_token),
    (12, people::rejoin),
    (1, people::add_machine),
    (5, people::resume),
    (2, people::release),
];

/// What one walk is like.
#[derive(Debug)]
pub(crate) struct Temper {
    kinds: Vec<Kind>,
    /// How many of a hundred steps do something to the world.
    pub(crate) restless: usize,
}

impl Temper {
    pub(crate) fn new(dice: &mut Dice) -> Self {
        let known = BAD.iter().filter(|_| dice.one_in(2)).copied();
        let kinds = known.chain(USUAL.iter().copied()).collect();
        Self { kinds, restless: 1 + dice.below(8) }
    }
}

impl World {
    /// Does one thing.
    pub(crate) fn disturb(&mut self) {
        let total: usize = self.temper.kinds.iter().map(|(weight, _)| weight).sum();
        let mut drawn = self.dice.below(total);
        for at in 0..self.temper.kinds.len() {
            let (weight, kind) = self.temper.kinds[at];
            if drawn < weight {
                return kind(self);
            }
            drawn -= weight;
        }
    }

    /// Some machine.
    pub(crate) fn some_seat(&mut self) -> usize {
        self.dice.below(self.seats.len())
    }

    /// The power of a machine fails: nothing is alive on it afterwards.
    pub(crate) fn power_off(&mut self, seat: usize) {
        self.kill_agent(seat);
        let one = &mut self.seats[seat];
        one.machine.reboot();
        one.booted = self.at;
    }

    /// A number that was never used before.
    pub(crate) fn number(&mut self) -> u64 {
        self.ids += 1;
        u64::try_from(self.ids).unwrap_or(u64::MAX)
    }
}

fn cut(world: &mut World) {
    let seat = world.some_seat();
    if world.seats[seat].cut.is_none() {
        world.seats[seat].cut = Some(world.at);
        world.log.fault("cut off", seat);
    }
}

fn mend(world: &mut World) {
    let seat = world.some_seat();
    if world.seats[seat].cut.take().is_some() {
        world.log.fault("mended", seat);
    }
}

fn break_agents_end(world: &mut World) {
    let seat = world.some_seat();
    world.agent_hangs_up(seat);
    world.log.fault("stream broken at the agent", seat);
}

fn break_coordinators_end(world: &mut World) {
    let ids: Vec<u64> = world.streams.keys().copied().collect();
    if let Some(id) = world.dice.pick(&ids) {
        world.coordinator_hangs_up(id);
        world.log.fault("stream broken at the coordinator", 0);
    }
}

/// What an agent has heard before, it hears again.
fn repeat_order(world: &mut World) {
    let seat = world.some_seat();
    if !world.begin(seat) {
        return;
    }
    let Some(agent) = &world.seats[seat].agent else { return };
    let count = agent.heard.len();
    let Some(order) = agent.heard.get(world.dice.below(count)).cloned() else { return };
    world.log.fault("order heard again", seat);
    let runtimes = order.assignment.items();
    let runtimes = runtimes.map(|item| (item.key.clone(), runtime_of(item.revision).to_owned()));
    let event = Event::Ordered {
        stamp: order.stamp,
        assignment: order.assignment.clone(),
        empty_is_meant: true,
        runtimes: runtimes.collect(),
    };
    world.apply(seat, event);
}

/// An order comes that no sane coordinator of this cluster gave.
fn forge_order(world: &mut World) {
    let seat = world.some_seat();
    let (kind, set) = (world.dice.below(5), world.dice.below(SETS.len()));
    let reign = ReignId::new(world.id());
    if !world.begin(seat) {
        return;
    }
    let Some(agent) = &world.seats[seat].agent else { return };
    let ledger = agent.node.ledger().clone();
    let Some(newest) = ledger.accepted else { return };
    // Something other than what it runs.
    let mut items: Vec<_> = ledger.assignment.items().cloned().collect();
    items.retain(|item| item.key != key(SETS[set]));
    items.iter_mut().for_each(|item| item.replace += 1);
    let mut assignment = Assignment::new(items);
    let later = Generation(newest.generation.0 + 1);
    let stamp = match kind {
        0 => Stamp { cluster: ELSEWHERE, generation: later, ..newest },
        1 => Stamp { generation: Generation(newest.generation.0.saturating_sub(1)), ..newest },
        2 => newest,
        3 => Stamp { reign, generation: later, ..newest },
        _ => {
            assignment = Assignment::default();
            Stamp { generation: later, ..newest }
        }
    };
    let stamp = Stamp { digest: assignment.digest(), ..stamp };
    let heard = agent.heard.iter().chain(&agent.order).any(|order| order.stamp == stamp);
    if kind < 4 && assignment.is_empty() || stamp == newest || heard {
        return;
    }
    if kind == 4 {
        world.hollow.push((ledger.node, stamp));
    }
    world.log.fault("order forged", seat);
    let event =
        Event::Ordered { stamp, assignment, empty_is_meant: kind < 4, runtimes: Vec::new() };
    world.apply(seat, event);
}

fn kill_agent(world: &mut World) {
    let seat = world.some_seat();
    world.kill_agent(seat);
    world.log.fault("agent killed", seat);
}

fn start_agent(world: &mut World) {
    for seat in 0..world.seats.len() {
        if !world.seats[seat].up && world.dice.one_in(2) {
            world.seats[seat].start();
            world.log.fault("agent started", seat);
        }
    }
}

fn reboot(world: &mut World) {
    let seat = world.some_seat();
    world.power_off(seat);
    world.log.fault("rebooted", seat);
}

/// Somebody shuts a machine down: its power goes sooner or later, with pods in it or without.
fn go_down(world: &mut World) {
    let seat = world.some_seat();
    if world.begin(seat) {
        world.log.fault("going down", seat);
        world.apply(seat, Event::GoingDown);
    }
}

fn kill_coordinator(world: &mut World) {
    if world.desk.fleet.is_some() {
        world.kill_coordinator();
        world.log.fault("coordinator killed", 0);
    }
}

fn start_coordinator(world: &mut World) {
    if world.desk.fleet.is_none() {
        world.start_coordinator();
        world.log.fault("coordinator started", 0);
    }
}

fn freeze_agent(world: &mut World) {
    let seat = world.some_seat();
    let minutes = 1 + world.dice.below(5) as u64;
    world.seats[seat].frozen_until = world.at + Duration::from_secs(60 * minutes);
    world.log.fault("agent frozen", seat);
    if world.dice.one_in(2) {
        world.pass(Duration::from_secs(60 * minutes));
    }
}

fn freeze_coordinator(world: &mut World) {
    let seconds = 5 + world.dice.below(300) as u64;
    world.desk.frozen_until = world.at + Duration::from_secs(seconds);
    world.log.fault("coordinator frozen", 0);
    world.pass(Duration::from_secs(seconds));
}

/// By minutes, or by years in either direction.
fn jump_wall_clock(world: &mut World) {
    const MINUTE: i64 = 60_000;
    const YEAR: i64 = 365 * 24 * 60 * MINUTE;
    let by = [-10 * YEAR, -MINUTE, 0, 5 * MINUTE, YEAR / 10, 20 * YEAR];
    let by = by[world.dice.below(by.len())];
    let seat = world.dice.below(world.seats.len() + 1);
    match world.seats.get_mut(seat) {
        Some(one) => one.skew = by,
        None => world.desk.skew = by,
    }
    world.log.fault("wall clock jumped", seat);
}

fn fail_commits(world: &mut World) {
    world.desk.fail_commits = 1 + u32::try_from(world.dice.below(2)).unwrap_or(0);
    world.log.fault("store fails", 0);
}

fn fail_disk(world: &mut World) {
    let seat = world.some_seat();
    world.seats[seat].disk_fails = true;
    world.log.fault("agent's disk is full", seat);
}

fn mend_disks(world: &mut World) {
    world.seats.iter_mut().for_each(|seat| seat.disk_fails = false);
}

/// Both copies of a dead agent's ledger can't be read any more.
fn damage_ledger(world: &mut World) {
    let seat = world.some_seat();
    world.kill_agent(seat);
    if matches!(world.seats[seat].ledger, OnDisk::Ledger(_)) {
        world.seats[seat].ledger = OnDisk::Damaged;
        world.log.fault("ledger damaged", seat);
    }
}

fn back_up(world: &mut World) {
    world.desk.store.back_up();
    world.log.fault("store backed up", 0);
}

/// By the book, or by copying a file: then the terms that follow were used before.
fn restore_backup(world: &mut World) {
    let by_hand = world.dice.one_in(3);
    world.kill_coordinator();
    let since = wall(world);
    if world.desk.store.restore(by_hand, since) {
        world.desk.forget_history();
        world.account.restored(&world.desk.store.records);
        let kind = if by_hand { "store copied back by hand" } else { "store restored" };
        world.log.fault(kind, 0);
    }
}

/// The data directory is emptied under a dead agent; its pods live.
fn lose_data(world: &mut World) {
    let seat = world.some_seat();
    world.kill_agent(seat);
    let number = world.number();
    world.seats[seat].lose_data(number);
    world.log.fault("data lost", seat);
}

/// The machine is set up anew: nothing is left on it.
fn image_anew(world: &mut World) {
    let seat = world.some_seat();
    world.power_off(seat);
    let number = world.number();
    world.seats[seat].lose_data(number);
    world.log.fault("imaged anew", seat);
}

/// Another machine gets the same identity and ledger, as of a cloned disk.
fn copy_machine(world: &mut World) {
    let (from, to) = (world.some_seat(), world.some_seat());
    let Some(node) = world.seats[from].identity.filter(|_| from != to) else { return };
    if world.seats[to].identity.is_some() {
        return;
    }
    world.kill_agent(to);
    let (key, ledger) = (world.seats[from].key, world.seats[from].ledger.clone());
    let formers = world.seats[from].formers.clone();
    let one = &mut world.seats[to];
    one.lose_data(key);
    (one.identity, one.ledger) = (Some(node), ledger);
    one.formers = formers;
    one.start();
    world.account.copied.insert(node);
    world.log.fault("copied", from);
}

/// A pod of a cluster that the machine was a part of before lives in an empty place.
fn another_cluster_moves_in(world: &mut World) {
    let (seat, set) = (world.some_seat(), world.dice.below(SETS.len()));
    let place = key(SETS[set]);
    if world.seats[seat].up || world.seats[seat].machine.alive_in(&place).next().is_some() {
        return;
    }
    let (pod, node, set) = (world.id(), world.id(), world.id());
    let marks = Marks { cluster: ELSEWHERE, node: NodeUid::new(node) };
    let one = &mut world.seats[seat];
    one.machine.move_in(place, PodUid::new(pod), marks, SetUid::new(set));
    world.log.fault("another cluster's pod found", seat);
}

/// What a token's time is counted from.
pub(crate) fn wall(world: &World) -> WallTime {
    world.desk.now(world.at).wall
}
