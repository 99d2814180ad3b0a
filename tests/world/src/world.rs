//! A whole fleet in one process: a coordinator's core, several agents' cores, the machines under them,
//! the streams between them, and time.
//!
//! A walk is a storm of steps, each drawn from the seed: mostly one thing that was due anyway happens
//! (a message arrives, a write ends, a pod starts, time passes), sometimes something is done to the
//! world (`faults`) or asked of it (`people`). Then everything is made whole, and all must come right
//! (`ending`). After every step every invariant is looked at.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use everynode_model::{NodeUid, PodKey, ReignId, Stamp};
use uuid::Uuid;

use crate::account::Account;
use crate::desk::{Desk, Input};
use crate::dice::Dice;
use crate::ending::IN_THE_END;
use crate::faults::Temper;
use crate::invariants as ours;
use crate::law::Law;
use crate::log::Log;
use crate::seat::{Seat, Token};
use crate::wire::{Down, Stream};

/// The longest time that passes without the coordinator's loop taking a turn and without a heartbeat:
/// less than half of one.
const SLICE: Duration = Duration::from_secs(4);

/// How long until an agent gives up a connection over which nothing comes.
const GIVES_UP: Duration = Duration::from_secs(40);

/// How a walk is to be.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many steps the storm has.
    pub steps: u64,
    /// Whether its story is wanted in words.
    pub telling: bool,
    /// The only invariant to look at; all without one.
    pub only: Option<&'static str>,
}

/// See the module.
pub struct World {
    pub(crate) dice: Dice,
    /// What was found wrong.
    pub law: Law,
    /// What happened.
    pub log: Log,
    /// How many events went into a core.
    pub steps: u64,
    pub(crate) at: Duration,
    pub(crate) desk: Desk,
    pub(crate) seats: Vec<Seat>,
    pub(crate) streams: BTreeMap<u64, Stream>,
    /// What dead sessions still have to say to the coordinator, each in order.
    pub(crate) late_up: Vec<VecDeque<Input>>,
    /// What dead streams still have for agents: which machine, which life.
    pub(crate) late_down: Vec<(usize, u64, Down)>,
    pub(crate) account: Account,
    /// Empty orders that nobody meant, and for whom.
    pub(crate) hollow: Vec<(NodeUid, Stamp)>,
    /// The last token that is for any machine.
    pub(crate) last_token: Option<Token>,
    pub(crate) ids: u128,
    pub(crate) temper: Temper,
    /// The set that is being rolled out while all else is well, on how many nodes its pods may be down,
    /// and on how many there may be two that are to stay.
    pub(crate) rolling: Option<(PodKey, usize, usize)>,
    judged: u64,
}

impl World {
    /// The world of this seed, in which nothing has happened yet.
    pub fn new(seed: u64, plan: Plan) -> Self {
        let mut dice = Dice::new(seed);
        let at = Duration::from_secs(1000);
        let temper = Temper::new(&mut dice);
        let seats = (0..2 + dice.below(4)).map(|number| Seat::new(number as u64, at)).collect();
        let mut world = Self {
            dice,
            law: Law::new(plan.only),
            log: Log::new(plan.telling),
            steps: 0,
            at,
            desk: Desk::new(),
            seats,
            streams: BTreeMap::new(),
            late_up: Vec::new(),
            late_down: Vec::new(),
            account: Account::default(),
            hollow: Vec::new(),
            last_token: None,
            ids: 1000,
            temper,
            rolling: None,
            judged: 0,
        };
        world.log.now = at;
        world
    }

    /// The storm and the calm after it; ends early with the first broken invariant.
    pub fn walk(&mut self, plan: Plan) {
        self.settle_in();
        for _ in 0..plan.steps {
            self.storm();
            self.judge();
            if self.law.broken().is_some() {
                return;
            }
        }
        if plan.only.is_none_or(|only| IN_THE_END.contains(&only)) {
            self.calm();
        }
    }

    /// An id that was never used before.
    pub(crate) fn id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::from_u128(self.ids)
    }

    /// One step of the storm.
    fn storm(&mut self) {
        if self.dice.below(100) < self.temper.restless {
            return self.disturb();
        }
        let seat = self.dice.below(self.seats.len());
        match self.dice.below(100) {
            0..14 => self.someone(seat, Self::work),
            14..28 => self.someone(seat, Self::hear),
            28..32 => self.stir(seat),
            32..44 => self.someone(seat, Self::settle_disk),
            44..54 => self.someone(seat, Self::agent_speaks),
            54..64 => self.coordinator_hears(),
            64..71 => self.coordinator_speaks(),
            71..81 => self.someone(seat, Self::agent_hears),
            81..88 => self.turn(),
            88..92 => {
                let millis = [1, 10, 100, 300, 1000, 2000, 4000, 12_000, 45_000];
                let millis = millis[self.dice.below(millis.len())];
                self.pass(Duration::from_millis(millis));
            }
            92..95 => self.late(),
            _ => self.turn(),
        }
    }

    /// Has the first machine from `seat` on do something that has it to do.
    fn someone(&mut self, seat: usize, act: fn(&mut Self, usize) -> bool) {
        let count = self.seats.len();
        let mut seats = (0..count).map(|step| (seat + step) % count);
        _ = seats.any(|seat| act(self, seat));
    }

    /// Looks at what may have changed with any step.
    pub(crate) fn judge(&mut self) {
        for seat in &self.seats {
            ours::p1_at_most_one(&seat.machine, &mut self.law);
        }
        self.c_a_rollout_keeps_its_budget();
        let machines: Vec<_> = self.seats.iter().map(|seat| &seat.machine).collect();
        let stored = &self.desk.store.records;
        ours::p4_removed_is_empty(stored, &machines, &self.account, &mut self.law);
        if self.judged != self.desk.store.writes {
            self.judged = self.desk.store.writes;
            ours::p4_only_who_was_asked_to_is_removed(stored, &self.account, &mut self.law);
            ours::c_a_token_admits_no_more_than_it_may(stored, &self.account, &mut self.law);
            self.account.p6_what_was_acknowledged_is_there(stored, &mut self.law);
        }
    }

    /// Time passes, for every process that does not stand still: heartbeats, timers, turns.
    pub(crate) fn pass(&mut self, span: Duration) {
        let end = self.at + span;
        while self.at < end && self.law.broken().is_none() {
            self.at = end.min(self.at + SLICE);
            self.log.now = self.at;
            for seat in 0..self.seats.len() {
                self.heartbeat(seat);
                self.wake(seat);
            }
            self.turn();
        }
    }

    /// The coordinator starts, if it is down.
    pub(crate) fn start_coordinator(&mut self) {
        let reign = ReignId::new(self.id());
        self.desk.start(self.at, reign, &mut self.dice);
    }

    /// Something happens long after the stream that it came by.
    fn late(&mut self) {
        let at = self.dice.below(self.late_up.len());
        if self.dice.one_in(2)
            && let Some(queue) = self.late_up.get_mut(at)
        {
            let input = queue.pop_front();
            if queue.is_empty() {
                self.late_up.swap_remove(at);
            }
            if self.desk.fleet.is_some() {
                self.desk.inbox.extend(input);
            }
        } else if !self.late_down.is_empty() {
            let at = self.dice.below(self.late_down.len());
            let (seat, life, down) = self.late_down.swap_remove(at);
            if self.seats[seat].life == life && self.seats[seat].is_awake(self.at) {
                self.told(seat, down);
            }
        }
    }

    /// A sign of life passes by the loop; a connection over which none can pass is given up.
    fn heartbeat(&mut self, seat: usize) {
        let Some(agent) = &self.seats[seat].agent else { return };
        let Some(id) = agent.stream else { return };
        if self.seats[seat].cut.is_some_and(|since| self.at - since >= GIVES_UP) {
            return self.agent_hangs_up(seat);
        }
        let passes = self.passes(seat) && self.desk.is_awake(self.at);
        let Some(stream) = self.streams.get(&id) else { return };
        let (node, desk_life, session) = (stream.node, stream.desk_life, stream.session);
        if passes
            && desk_life == self.desk.life
            && let Some(nonce) = session
            && let Some(session) = self.desk.session(node, nonce)
        {
            session.heard = self.at;
        }
    }

    /// Whether the agent is awake and can reach the coordinator's host.
    pub(crate) fn passes(&self, seat: usize) -> bool {
        self.seats[seat].cut.is_none() && self.seats[seat].is_awake(self.at)
    }
}
