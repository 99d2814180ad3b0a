//! Kills, and starts again what nobody else would.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use everynode_agent::random::Random;
use everynode_tests::{Fleet, Outcome, ensure, proc, wait};
use rustix::process::Signal;

use super::NODES;
use super::moment::{self, MOMENTS, Moment};

/// Whom to kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Agent,
    Supervisor,
    Workload,
    Coordinator,
}

/// How often each comes, against the others.
const VICTIMS: [(u64, Victim); 4] =
    [(8, Victim::Agent), (6, Victim::Supervisor), (5, Victim::Workload), (4, Victim::Coordinator)];

/// How long after a moment has come the kill does, in milliseconds: mostly at once.
const AFTERWARDS: [u64; 8] = [0, 0, 0, 1, 2, 5, 10, 30];
/// How long what was killed stays dead: mostly as long as a service manager takes, at times longer
/// than a lease, in milliseconds.
const DEAD: [u64; 8] = [0, 0, 0, 50, 100, 300, 1_000, 4_000];
/// From one kill to the wait for the next, in milliseconds.
const PAUSES: [u64; 6] = [0, 0, 50, 100, 200, 500];

/// One attempt.
struct Plan {
    victim: Victim,
    moment: Moment,
    /// On which machine, from 1.
    nth: usize,
    /// Which of several.
    which: usize,
    afterwards: Duration,
    dead: Duration,
    pause: Duration,
}

/// See the module.
pub(crate) struct Killer {
    random: Random,
    /// When dead agents are to be started again.
    agents: BTreeMap<String, Instant>,
    /// When the dead coordinator is.
    coordinator: Option<Instant>,
    /// By victim and moment.
    kills: BTreeMap<(Victim, Moment), u64>,
    /// Kills whose moment did not come in time, or whose victim was gone when it did.
    in_vain: u64,
    restarts: u64,
}

impl Killer {
    /// One that has killed nobody.
    pub(crate) fn new(random: Random) -> Self {
        let (agents, kills) = (BTreeMap::new(), BTreeMap::new());
        Self { random, agents, coordinator: None, kills, in_vain: 0, restarts: 0 }
    }

    /// How many kills there were.
    pub(crate) fn kills(&self) -> u64 {
        self.kills.values().sum()
    }

    /// Kills so many. Somebody is spared through all of it: what only grows shows in who lives long.
    ///
    /// # Errors
    /// When somebody has died who was not killed.
    pub(crate) fn kill(&mut self, fleet: &mut Fleet<'_>, count: u64) -> Outcome {
        let end = self.kills() + count;
        let spared = self.draw(usize::from(NODES) + 2);
        while self.kills() < end {
            self.revive(fleet, Instant::now())?;
            let plan = self.plan();
            let is_spared = match plan.victim {
                Victim::Agent => spared == plan.nth,
                Victim::Coordinator => spared == 0,
                Victim::Supervisor | Victim::Workload => false,
            };
            if !is_spared {
                self.strike(fleet, &plan)?;
            }
            wait::idle(plan.pause);
        }
        Ok(())
    }

    /// Starts everything that is dead, and sees it answer.
    ///
    /// # Errors
    /// When something does not come back.
    pub(crate) fn revive_all(&mut self, fleet: &mut Fleet<'_>) -> Outcome {
        let far = Instant::now() + Duration::from_secs(3600);
        self.revive(fleet, far)?;
        fleet.coordinator().answers()
    }

    /// Kills every agent and the coordinator once, uncounted, and starts them again.
    ///
    /// # Errors
    /// When something does not come back.
    pub(crate) fn restart_all(&mut self, fleet: &mut Fleet<'_>) -> Outcome {
        for name in names(fleet) {
            fleet.machine_mut(&name)?.take_agent()?.kill()?;
            fleet.machine_mut(&name)?.start_agent(None)?;
        }
        fleet.coordinator_mut().kill()?;
        fleet.coordinator_mut().start()
    }

    /// Starts what is due by then, and sees that all others live.
    fn revive(&mut self, fleet: &mut Fleet<'_>, by: Instant) -> Outcome {
        if self.coordinator.is_some_and(|due| due <= by) {
            self.coordinator = None;
            self.restarts += 1;
            fleet.coordinator_mut().launch()?;
        }
        for name in names(fleet) {
            if self.agents.get(&name).is_some_and(|due| *due <= by) {
                self.agents.remove(&name);
                self.restarts += 1;
                fleet.machine_mut(&name)?.start_agent(None)?;
            }
            if let Some(agent) = fleet.machine_mut(&name)?.agent_mut() {
                let ended = agent.has_ended()?;
                ensure!(ended.is_none(), "the agent of {name} ended by itself: {ended:?}");
            }
        }
        if let Some(coordinator) = fleet.coordinator_mut().process_mut() {
            let ended = coordinator.has_ended()?;
            ensure!(ended.is_none(), "the coordinator ended by itself: {ended:?}");
        }
        Ok(())
    }

    /// The next attempt; whatever comes of those before.
    fn plan(&mut self) -> Plan {
        let millis =
            |random: &mut Self, from: &[u64]| Duration::from_millis(from[random.draw(from.len())]);
        Plan {
            victim: self.weighted(&VICTIMS),
            moment: self.weighted(&MOMENTS),
            nth: 1 + self.draw(NODES.into()),
            which: self.draw(64),
            afterwards: millis(self, &AFTERWARDS),
            dead: millis(self, &DEAD),
            pause: millis(self, &PAUSES),
        }
    }

    fn strike(&mut self, fleet: &mut Fleet<'_>, plan: &Plan) -> Outcome {
        let name = format!("n{}", plan.nth);
        let found = moment::wait_for(plan.moment, fleet, fleet.machine(&name)?)?;
        let Some(place) = found else {
            self.in_vain += 1;
            return Ok(());
        };
        wait::idle(plan.afterwards);
        let due = Instant::now() + plan.dead;
        let killed = match plan.victim {
            Victim::Agent => match fleet.machine_mut(&name)?.take_agent() {
                Ok(agent) => {
                    agent.kill()?;
                    self.agents.insert(name, due);
                    true
                }
                // It is dead already.
                Err(_) => false,
            },
            Victim::Coordinator => {
                let killed = fleet.coordinator_mut().kill().is_ok();
                self.coordinator = killed.then_some(due).or(self.coordinator);
                killed
            }
            Victim::Supervisor => kill_member(&place, true, plan.which),
            Victim::Workload => kill_member(&place, false, plan.which),
        };
        if killed {
            *self.kills.entry((plan.victim, plan.moment)).or_default() += 1;
        } else {
            self.in_vain += 1;
        }
        Ok(())
    }

    fn weighted<T: Copy>(&mut self, kinds: &[(u64, T)]) -> T {
        let total: u64 = kinds.iter().map(|(weight, _)| weight).sum();
        let mut drawn = self.random.next_u64() % total;
        for (weight, kind) in kinds {
            if drawn < *weight {
                return *kind;
            }
            drawn -= weight;
        }
        kinds[0].1
    }

    fn draw(&mut self, limit: usize) -> usize {
        let drawn = self.random.next_u64() % u64::try_from(limit.max(1)).unwrap_or(1);
        usize::try_from(drawn).unwrap_or_default()
    }
}

impl fmt::Display for Killer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, in_vain, restarts, .. } = self;
        write!(f, "{} kills (", self.kills())?;
        for (_, victim) in VICTIMS {
            let of = kills.iter().filter(|((of, _), _)| *of == victim);
            let (total, moments) = of
                .fold((0, String::new()), |(total, text), ((_, at), count)| {
                    (total + count, format!("{text} {at:?} {count}"))
                });
            write!(f, "{victim:?} {total}:{moments}; ")?;
        }
        write!(f, "{in_vain} moments in vain), {restarts} restarts by hand")
    }
}

fn names(fleet: &Fleet<'_>) -> Vec<String> {
    fleet.machines().map(|machine| machine.name().to_owned()).collect()
}

/// Kills a supervisor or a workload in this place, or in one of all places of the namespace.
fn kill_member(place: &Path, supervisor: bool, which: usize) -> bool {
    moment::member(place, supervisor, which)
        .is_some_and(|process| process.lives() && proc::signal(process.pid, Signal::KILL).is_ok())
}
