//! A coordinator, some machines and an operator on a simulated network; and the passage of time, at
//! each moment of which every invariant is looked at.

use std::time::Duration;

use everynode_agent::random::Random;
use everynode_coordinator::records;
use everynode_coordinator_core::Record;
use everynode_store::Store as _;
use everynode_store::memory::InFlight;
use futures_util::FutureExt as _;
use turmoil::Sim;

use crate::desk::Desk;
use crate::ending::Ending;
use crate::invariants::{Law, Violation, Witness, p4_gone_is_gone, p6_joined_is_known};
use crate::log::Log;
use crate::net::COORDINATOR;
use crate::operator::{Operator, Wish};
use crate::rollouts::Rollouts;
use crate::seat::Seat;
use crate::stranger::Stranger;
use crate::watcher::Watcher;

/// The operator's host.
pub(crate) const OPERATOR: &str = "operator";
/// The host of somebody who watches.
const WATCHER: &str = "watcher";
/// Whose software never dies.
pub(crate) const PEOPLE: [&str; 2] = [OPERATOR, WATCHER];
/// The host of somebody who is none of us.
const STRANGER: &str = "stranger";
/// A machine that is nothing until it becomes a copy of another; the last of the seats.
const COPY: &str = "copy";

/// How long a step of the simulation takes: the shortest time between two things.
const TICK: Duration = Duration::from_millis(10);
/// How long a message takes on a link that is well: at least, and at most.
const QUICK: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(40));
/// How often the store is looked at as a whole.
const LOOK: Duration = Duration::from_secs(1);
/// Everything there is to wait for, one after the other: a silent connection is noticed after 40 s,
/// a dial follows within 30 s, or 60 s where the node was in use; then rollouts, node by node.
const HEALING: Duration = Duration::from_secs(300);
/// How long the end has to last.
const LASTING: Duration = Duration::from_secs(3);

/// See the module.
pub(crate) struct World {
    sim: Sim<'static>,
    pub(crate) random: Random,
    pub(crate) log: Log,
    pub(crate) desk: Desk,
    pub(crate) operator: Operator,
    /// The machines, without the copy.
    pub(crate) seats: Vec<Seat>,
    pub(crate) copy: Seat,
    pub(crate) stranger: Stranger,
    pub(crate) watcher: Watcher,
    /// One for each seat, the copy's last.
    pub(crate) witnesses: Vec<Witness>,
    pub(crate) law: Law,
    rollouts: Rollouts,
    next_look: Duration,
    pub(crate) ticks: u64,
}

/// See [`World::stay_calm`].
#[derive(Debug, PartialEq, Eq)]
struct Activity {
    stored: Option<u64>,
    dials: Vec<u64>,
    ledgers: Vec<u64>,
    machines: Vec<u64>,
    heard: u64,
}

impl World {
    /// Everything runs, and nothing has happened yet.
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::seeded([seed, 0x0e7e_2910]);
        let mut sim = turmoil::Builder::new()
            .rng_seed(random.next_u64())
            .tick_duration(TICK)
            .simulation_duration(Duration::MAX)
            .min_message_latency(QUICK.0)
            .max_message_latency(QUICK.1)
            .tcp_capacity(1024)
            .enable_random_order()
            .build();
        let log = Log::default();
        let desk = Desk::new(random.next_u64(), log.clone());
        let (operator, hands) = Operator::new(&desk, &log);
        let count = 2 + random.next_u64() % 3;
        let mut seat = |name: String| Seat::new(name, random.next_u64(), log.clone());
        let seats: Vec<Seat> = (0..count).map(|number| seat(format!("node-{number}"))).collect();
        let copy = seat(COPY.into());
        let coordinator = desk.clone();
        sim.host(COORDINATOR, move || coordinator.clone().software());
        for seat in seats.iter().chain([&copy]).cloned() {
            sim.host(seat.name.clone(), move || seat.clone().software());
        }
        sim.client(OPERATOR, hands.software());
        let watcher = Watcher::default();
        sim.client(WATCHER, watcher.clone().software(desk.clone(), log.clone()));
        let stranger = Stranger::default();
        sim.client(STRANGER, stranger.clone().software());
        let witnesses = (0..=count).map(|_| Witness::default()).collect();
        let (law, next_look) = (Law::default(), Duration::ZERO);
        let ticks = 0;
        Self {
            sim,
            random,
            log,
            desk,
            operator,
            seats,
            copy,
            stranger,
            watcher,
            witnesses,
            law,
            rollouts: Rollouts::default(),
            next_look,
            ticks,
        }
    }

    /// Time passes.
    pub(crate) fn run_for(&mut self, span: Duration) -> Result<(), Violation> {
        let end = self.sim.elapsed() + span;
        while self.sim.elapsed() < end {
            self.tick()?;
        }
        Ok(())
    }

    /// One of `limit` numbers from 0.
    pub(crate) fn draw(&mut self, limit: usize) -> usize {
        let drawn = self.random.next_u64() % u64::try_from(limit.max(1)).unwrap_or(1);
        usize::try_from(drawn).unwrap_or_default()
    }

    fn tick(&mut self) -> Result<(), Violation> {
        let now = self.sim.elapsed();
        self.log.tick(now);
        self.ticks += 1;
        for seat in self.seats.iter().chain([&self.copy]) {
            seat.machine.advance(now);
        }
        self.sim.step().map_err(|error| format!("a shell ended: {error}"))?;
        self.follow_bad_versions();
        self.rollouts.look(&self.desk.store, &self.log)?;
        let account = self.operator.account();
        for (seat, witness) in self.seats.iter().chain([&self.copy]).zip(&mut self.witnesses) {
            let looked = witness.look(seat, &mut self.law, &account, &self.log);
            looked.map_err(|violation| format!("{}: {violation}", seat.name))?;
        }
        let said = account.violations.iter().cloned().chain(self.watcher.violations());
        if let Some(violation) = said.into_iter().next() {
            return Err(violation);
        }
        if self.next_look <= now {
            self.next_look = now + LOOK;
            let records = self.records()?;
            p4_gone_is_gone(&records, &self.seats, &self.witnesses, &self.law, &account)?;
            p6_joined_is_known(&records, &self.seats, &account)?;
        }
        Ok(())
    }

    /// Everything that is broken is made whole, and then has its time.
    pub(crate) fn heal(&mut self) -> Result<Duration, Violation> {
        self.log.say("everything is made whole");
        self.retire_copy();
        self.stranger.hold(0);
        self.desk.mend_store();
        for seat in &self.seats {
            seat.ledger.set_failing(false);
            seat.machine.forget_bad_versions();
        }
        for host in self.hosts() {
            self.mend(&host);
            self.bounce(&host);
        }
        let begin = self.sim.elapsed();
        loop {
            self.give_tokens();
            self.take_care_away()?;
            self.run_for(Duration::from_secs(1))?;
            let ended = self.judge()?.and_then(|()| self.watcher.difference().map_or(Ok(()), Err));
            let took = self.sim.elapsed() - begin;
            match ended {
                Ok(()) => {
                    self.log.say("all is as it should be");
                    self.run_for(LASTING)?;
                    return self.judge()?.map(|()| took);
                }
                Err(violation) if took > HEALING => return Err(violation),
                Err(_) => {}
            }
        }
    }

    /// Nothing is done for so long, and all was well before: no connection is made anew, nothing is
    /// stored, started or stopped, and nobody who watches hears a word.
    pub(crate) fn stay_calm(&mut self, span: Duration) -> Result<(), Violation> {
        let before = self.activity();
        self.run_for(span)?;
        let after = self.activity();
        if after != before {
            return Err(format!("P7: in calm {before:?} became {after:?}"));
        }
        Ok(())
    }

    /// What grows when something happens.
    fn activity(&self) -> Activity {
        let revision = self.desk.store.revision().now_or_never();
        Activity {
            stored: revision.and_then(Result::ok),
            dials: self.seats.iter().map(|seat| seat.dial.count()).collect(),
            ledgers: self.seats.iter().map(|seat| seat.ledger.writes()).collect(),
            machines: self.seats.iter().map(|seat| seat.machine.changes()).collect(),
            heard: self.watcher.heard(),
        }
    }

    /// All is well, or what is not, or what can never be.
    fn judge(&self) -> Result<Result<(), Violation>, Violation> {
        if !self.operator.is_idle() {
            return Ok(Err("the operator has wishes left".into()));
        }
        let records = self.records()?;
        let account = self.operator.account();
        let witnesses = &self.witnesses;
        let (seats, law) = (&self.seats, &self.law);
        Ok(Ending { records: &records, seats, witnesses, law, account: &account }.judge())
    }

    /// Machines without an identity get a token for their name.
    fn give_tokens(&mut self) {
        if self.operator.is_idle() {
            for seat in self.seats.iter().filter(|seat| seat.node().is_none()) {
                self.operator.wish(Wish::Token(seat.clone()));
            }
        }
    }

    /// What failed on its machine is a cause to start it again; what takes a machine off the network
    /// does so until somebody mends that.
    fn follow_bad_versions(&mut self) {
        for nth in 0..self.seats.len() {
            let (failed, dark) = self.seats[nth].machine.take_failures();
            self.witnesses[nth].causes(failed);
            if dark {
                let host = self.seats[nth].name.clone();
                self.cut(&host);
                self.log.fault("cut off by a version", host);
            }
        }
    }

    /// What is durably stored now.
    pub(crate) fn records(&self) -> Result<Vec<Record>, Violation> {
        let loaded = records::load(&self.desk.store).now_or_never();
        let loaded = loaded.ok_or("the store in memory did not answer at once")?;
        loaded.map_err(|error| format!("P6: {error}"))
    }

    /// Every host that the network may be taken from.
    pub(crate) fn hosts(&self) -> Vec<String> {
        let seats = self.seats.iter().map(|seat| seat.name.clone());
        let people = [OPERATOR, WATCHER, COORDINATOR].map(str::to_owned);
        seats.chain(people).collect()
    }

    /// The copy's machine is switched off for good.
    fn retire_copy(&mut self) {
        self.crash(COPY);
        self.copy.machine.reboot();
    }

    /// Its software dies at once; what it started lives.
    pub(crate) fn crash(&mut self, host: &str) {
        if !PEOPLE.contains(&host) {
            self.sim.crash(host);
        }
    }

    /// The coordinator's process dies, and its disk with what was on the way to it, or without.
    pub(crate) fn crash_coordinator(&mut self, in_flight: InFlight) {
        self.desk.store.crash(in_flight);
        self.crash(COORDINATOR);
    }

    /// Starts it, if it is down.
    pub(crate) fn bounce(&mut self, host: &str) {
        if !PEOPLE.contains(&host) && !self.sim.is_host_running(host) {
            self.sim.bounce(host);
        }
    }

    /// Whether its software runs.
    pub(crate) fn is_up(&mut self, host: &str) -> bool {
        self.sim.is_host_running(host)
    }

    /// Nothing passes between it and the coordinator.
    pub(crate) fn cut(&self, host: &str) {
        self.sim.partition(host, COORDINATOR);
    }

    /// Nothing passes in one direction.
    pub(crate) fn cut_one_way(&self, from: &str, to: &str) {
        self.sim.partition_oneway(from, to);
    }

    /// What is sent waits.
    pub(crate) fn hold(&self, host: &str) {
        self.sim.hold(host, COORDINATOR);
    }

    /// From now on every message takes up to so long, each its own time; or all the same.
    pub(crate) fn slow_down(&self, host: &str, most: Duration, each: bool) {
        let least = if each { QUICK.0 } else { most };
        self.sim.set_link_latency(host, COORDINATOR, least);
        self.sim.set_link_max_message_latency(host, COORDINATOR, most);
    }

    /// What is under way is lost, and the link is as it was: nothing is sent again here, so every
    /// connection over it has a hole, behind which nothing comes any more. Neither side is told.
    pub(crate) fn lose_messages(&self, host: &str) {
        self.sim.partition(host, COORDINATOR);
        self.sim.repair(host, COORDINATOR);
    }

    /// The network between it and the coordinator is whole again.
    pub(crate) fn mend(&self, host: &str) {
        if host != COORDINATOR {
            self.sim.release(host, COORDINATOR);
            self.sim.repair(host, COORDINATOR);
            self.slow_down(host, QUICK.1, true);
        }
    }
}
