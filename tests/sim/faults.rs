//! What is done to the world: drawn at random, from the seed and nothing else.

use std::time::Duration;

use everynode_store::memory::{Fault, InFlight};

use crate::desk::BEGIN;
use crate::machine::Bad;
use crate::net::COORDINATOR;
use crate::people::{self, VERSIONS};
use crate::world::{OPERATOR, PEOPLE, World};

/// One kind of thing to do, and how often it comes, against the others.
type Kind = (u64, fn(&mut World));

const KINDS: &[Kind] = &[
    // The network.
    (5, cut),
    (3, cut_one_way),
    (3, hold),
    (4, slow_link),
    (3, lose_messages),
    (1, strangers),
    (9, mend),
    // Processes and machines.
    (5, crash_agent),
    (9, bounce_agent),
    (3, reboot),
    (4, crash_coordinator),
    (1, power_off_coordinator),
    (9, bounce_coordinator),
    (2, freeze_out),
    (2, set_clock),
    // Disks.
    (3, fail_store),
    (2, slow_store),
    (3, mend_store),
    (2, fail_ledger),
    (3, mend_ledger),
    // Pods.
    (6, crash_container),
    (3, kill_supervisor),
    (2, make_stubborn),
    (7, spoil_version),
    // People.
    (12, people::apply),
    (2, people::create),
    (3, people::delete_set),
    (2, people::recreate),
    (3, people::delete_pod),
    (4, people::label),
    (2, people::delete_node),
    (1, people::forget_node),
    (2, people::leave),
    (4, people::token),
    // Data directories.
    (1, copy),
    (1, lose_data),
    (1, reimage),
];

/// How long a message may take on a slow link. Over the last ones nothing is dialled in time: who
/// is connected may stay so, and no one else comes.
const SLOW: [u64; 5] = [300, 1_000, 2_000, 4_000, 8_000];
/// The same for the operator: what it waited for in vain must not happen long after.
const SLOW_FOR_OPERATOR: usize = 3;
/// How long a commit may take.
const SLOW_STORE: [u64; 3] = [200, 1_000, 3_000];
/// The most connections that a stranger holds: several times the handshakes that may be under way.
const STRANGERS: usize = 24;

impl World {
    /// Does one thing.
    pub(crate) fn disturb(&mut self) {
        let total: u64 = KINDS.iter().map(|(weight, _)| weight).sum();
        let mut drawn = self.random.next_u64() % total;
        for (weight, kind) in KINDS {
            if drawn < *weight {
                return kind(self);
            }
            drawn -= weight;
        }
    }

    /// How long until the next thing is done: often at once, sometimes after everything has settled.
    pub(crate) fn pause(&mut self) -> Duration {
        match self.draw(8) {
            0..=2 => self.random.below(Duration::from_millis(200)),
            3..=6 => self.random.below(Duration::from_secs(3)),
            _ => self.random.below(Duration::from_secs(12)),
        }
    }

    pub(crate) fn any_seat(&mut self) -> usize {
        self.draw(self.seats.len())
    }

    fn any_seat_or_none(&mut self) -> Option<usize> {
        Some(self.draw(self.seats.len() + 1)).filter(|nth| *nth < self.seats.len())
    }

    /// A machine, the operator, or the watcher.
    fn any_dialler(&mut self) -> String {
        let nth = self.draw(self.seats.len() + PEOPLE.len());
        let people = || PEOPLE[nth - self.seats.len()].to_owned();
        self.seats.get(nth).map_or_else(people, |seat| seat.name.clone())
    }

    pub(crate) fn name(&self, nth: usize) -> String {
        self.seats[nth].name.clone()
    }
}

fn cut(world: &mut World) {
    let host = world.any_dialler();
    world.cut(&host);
    world.log.fault("cut off", host);
}

fn cut_one_way(world: &mut World) {
    let nth = world.any_seat();
    let host = world.name(nth);
    let (from, to) = if world.draw(2) == 0 {
        (host.as_str(), COORDINATOR)
    } else {
        (COORDINATOR, host.as_str())
    };
    world.cut_one_way(from, to);
    world.log.fault("cut off one way", format_args!("{from} to {to}"));
}

/// Not the operator: what it waited for in vain must not happen long after.
fn hold(world: &mut World) {
    let nth = world.any_seat();
    let host = world.name(nth);
    world.hold(&host);
    world.log.fault("held up", host);
}

fn slow_link(world: &mut World) {
    let host = world.any_dialler();
    let limit = if host == OPERATOR { SLOW_FOR_OPERATOR } else { SLOW.len() };
    let most = Duration::from_millis(SLOW[world.draw(limit)]);
    let each = world.draw(2) == 0;
    world.slow_down(&host, most, each);
    if host == OPERATOR {
        world.operator.expect_delay(most);
    }
    let up_to = if each { "up to " } else { "" };
    world.log.fault("link slowed down", format_args!("{host}: {up_to}{most:?}"));
}

fn lose_messages(world: &mut World) {
    let host = world.any_dialler();
    world.lose_messages(&host);
    world.log.fault("messages lost", host);
}

fn strangers(world: &mut World) {
    let connections = world.draw(STRANGERS + 1);
    world.stranger.hold(connections);
    world.log.fault("strangers connected", connections);
}

fn mend(world: &mut World) {
    let host = world.any_dialler();
    world.mend(&host);
    world.log.fault("mended", host);
}

fn crash_agent(world: &mut World) {
    let nth = world.any_seat();
    let host = world.name(nth);
    world.crash(&host);
    world.log.fault("agent killed", host);
}

fn bounce_agent(world: &mut World) {
    let down: Vec<String> = world.hosts().into_iter().filter(|host| !world.is_up(host)).collect();
    let nth = world.draw(down.len());
    if let Some(host) = down.get(nth).filter(|host| *host != COORDINATOR) {
        world.bounce(host);
        world.log.fault("agent started", host);
    }
}

fn reboot(world: &mut World) {
    let nth = world.any_seat();
    let host = world.name(nth);
    if world.draw(2) == 0 {
        // The power fails: nobody is told that connections end.
        world.cut(&host);
    }
    power_off(world, nth);
    world.mend(&host);
    world.bounce(&host);
    world.log.fault("rebooted", host);
}

fn power_off(world: &mut World, nth: usize) {
    let host = world.name(nth);
    world.crash(&host);
    let places = world.seats[nth].machine.reboot();
    world.witnesses[nth].causes(places);
    world.seats[nth].boot_anew();
}

fn crash_coordinator(world: &mut World) {
    let in_flight = if world.draw(2) == 0 { InFlight::Lost } else { InFlight::Kept };
    world.crash_coordinator(in_flight);
    world.log.fault("coordinator killed", format_args!("{in_flight:?}"));
    if world.draw(2) == 0 {
        bounce_coordinator(world);
    }
}

/// Nobody is told that its connections end.
fn power_off_coordinator(world: &mut World) {
    let diallers: Vec<String> =
        world.hosts().into_iter().filter(|host| host != COORDINATOR).collect();
    diallers.iter().for_each(|host| world.cut(host));
    world.crash_coordinator(InFlight::Lost);
    diallers.iter().for_each(|host| world.mend(host));
    world.log.fault("coordinator's power failed", "");
}

fn bounce_coordinator(world: &mut World) {
    if !world.is_up(COORDINATOR) {
        world.bounce(COORDINATOR);
        world.log.fault("coordinator started", "");
    }
}

/// Every machine loses the coordinator at once.
fn freeze_out(world: &mut World) {
    for seat in &world.seats {
        world.cut(&seat.name);
    }
    world.log.fault("all cut off", "");
}

/// Somebody's date is wrong from now on, or right again: minutes off, or never set.
fn set_clock(world: &mut World) {
    let minutes = 60_000;
    let off = [0, -10 * minutes, 10 * minutes, -BEGIN][world.draw(4)];
    match world.any_seat_or_none() {
        Some(nth) => {
            world.seats[nth].set_clock(off);
            world.log.fault("clock set", format_args!("{} {off}", world.name(nth)));
        }
        None => {
            world.desk.set_clock(off);
            world.log.fault("clock set", format_args!("{COORDINATOR} {off}"));
        }
    }
}

fn fail_store(world: &mut World) {
    let fault = [Fault::Full, Fault::Io, Fault::ReadOnly, Fault::Unconfirmed][world.draw(4)];
    let count = 1 + u32::try_from(world.draw(3)).unwrap_or_default();
    world.desk.store.fail_next(count, fault);
    world.log.fault("store fails", format_args!("{count} times: {fault:?}"));
}

fn slow_store(world: &mut World) {
    let latency = Duration::from_millis(SLOW_STORE[world.draw(SLOW_STORE.len())]);
    world.desk.store.set_latency(latency);
    // A change waits for the commit before its own.
    world.operator.expect_delay(2 * latency);
    world.log.fault("store slowed down", format_args!("{latency:?}"));
}

fn mend_store(world: &mut World) {
    world.desk.mend_store();
    world.log.fault("store mended", "");
}

fn fail_ledger(world: &mut World) {
    let nth = world.any_seat();
    world.seats[nth].ledger.set_failing(true);
    world.log.fault("agent's disk fails", world.name(nth));
}

fn mend_ledger(world: &mut World) {
    for seat in &world.seats {
        seat.ledger.set_failing(false);
    }
    world.log.fault("agents' disks mended", "");
}

fn crash_container(world: &mut World) {
    let (nth, which) = (world.any_seat(), world.draw(8));
    if let Some(place) = world.seats[nth].machine.crash_container(which) {
        world.log.fault("container crashed", format_args!("{} {place}", world.name(nth)));
        world.witnesses[nth].causes([place]);
    }
}

fn kill_supervisor(world: &mut World) {
    let (nth, which) = (world.any_seat(), world.draw(8));
    if let Some(place) = world.seats[nth].machine.kill_supervisor(which) {
        world.log.fault("supervisor killed", format_args!("{} {place}", world.name(nth)));
        world.witnesses[nth].causes([place]);
    }
}

fn make_stubborn(world: &mut World) {
    let (nth, which) = (world.any_seat(), world.draw(8));
    if let Some(place) = world.seats[nth].machine.make_stubborn(which) {
        world.log.fault("pod turned stubborn", format_args!("{} {place}", world.name(nth)));
    }
}

/// From now on a version fails on a machine, takes it off the network, or is good again.
fn spoil_version(world: &mut World) {
    let (nth, version) = (world.any_seat(), world.random.next_u64() % VERSIONS);
    let bad = [Some(Bad::Fails), Some(Bad::Fails), Some(Bad::GoesDark), None][world.draw(4)];
    world.seats[nth].machine.spoil(version, bad);
    world.log.fault("version spoilt", format_args!("{} {version}: {bad:?}", world.name(nth)));
}

/// Another machine with the same identity and ledger, as of a cloned disk.
fn copy(world: &mut World) {
    let nth = world.any_seat();
    if let (Some(uid), None) = (world.seats[nth].node(), world.copy.node()) {
        world.copy.become_copy(&world.seats[nth]);
        world.law.copied.insert(uid);
        world.log.fault("copied", world.name(nth));
    }
}

/// The data directory is emptied under a dead agent; its pods live.
fn lose_data(world: &mut World) {
    let nth = world.any_seat();
    let host = world.name(nth);
    world.crash(&host);
    world.law.lost.extend(world.seats[nth].node());
    world.seats[nth].lose_data();
    world.bounce(&host);
    world.log.fault("data lost", host);
}

/// A new machine under the old name.
fn reimage(world: &mut World) {
    let nth = world.any_seat();
    let host = world.name(nth);
    power_off(world, nth);
    world.law.lost.extend(world.seats[nth].node());
    world.seats[nth].lose_data();
    world.bounce(&host);
    world.log.fault("imaged anew", host);
}
