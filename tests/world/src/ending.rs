//! Everything is made whole, and then all must come right, and stay so without a write.

use std::collections::BTreeSet;
use std::time::Duration;

use everynode_agent_core::{Ledger, Standing};
use everynode_coordinator_core::{
    Command, Fleet, NodeRecord, NodeStanding, Readiness, SetRecord, SetView, WhyFilter,
};
use everynode_model::{Effect, Intent, Item, NodeUid, Now, PodKey, PodStatus, Strategy, Taint};

use crate::account::sets;
use crate::agents::called;
use crate::names::{SETS, can_be_honoured, key, revision, runtime_of};
use crate::people;
use crate::seat::{OnDisk, Seat};
use crate::world::World;

/// Invariants that only the end shows.
pub(crate) const IN_THE_END: [&str; 3] =
    ["p2_all_comes_right", "p7_calm_writes_nothing", "c_a_rollout_keeps_its_budget"];

/// Between two looks.
const ROUND: Duration = Duration::from_secs(2);
/// A quarter of an hour: a registration window, then rollouts node by node, each with a back-off, a
/// kill and `minReadySeconds`; and that again for machines that have to leave and join first.
const ROUNDS: u64 = 450;
/// How long the end has to last: several leases.
const LASTING: Duration = Duration::from_secs(150);
/// More than there ever is to do at one moment.
const AT_ONCE: usize = 2000;

impl World {
    /// Most walks begin with a fleet that runs; the others with machines that nobody knows.
    pub(crate) fn settle_in(&mut self) {
        self.start_coordinator();
        if self.desk.fleet.is_none() || self.dice.one_in(5) {
            return;
        }
        self.set_faulty(false);
        self.help();
        for _ in 0..3 {
            people::apply(self);
        }
        for _ in 0..self.dice.below(40) {
            self.settle();
            self.pass(ROUND);
        }
        self.set_faulty(true);
    }

    /// See the module.
    pub(crate) fn calm(&mut self) {
        self.make_whole();
        self.come_right();
        if self.law.broken().is_none() {
            self.watch();
        }
        if self.law.broken().is_none() {
            self.roll_out();
        }
    }

    /// Waits until all is right.
    fn come_right(&mut self) {
        let mut ending = Err("nothing has been looked at".to_owned());
        for round in 0..ROUNDS {
            if round % 8 == 0 {
                self.help();
            }
            self.settle();
            if self.law.broken().is_some() {
                return;
            }
            ending = self.all_is_right();
            if ending.is_ok() {
                break;
            }
            self.pass(ROUND);
        }
        self.law.holds("p2_all_comes_right", ending.is_ok(), || ending.err().unwrap_or_default());
    }

    /// A changed template in a fleet of which all is well: on the machines, no more pods are down at
    /// any moment than the budget allows.
    fn roll_out(&mut self) {
        let Some(fleet) = &self.desk.fleet else { return };
        let mut sets = fleet.sets(None);
        sets.retain(|set| matches!(set.record.set.strategy, Strategy::RollingUpdate { .. }));
        let Some(set) = sets.get(self.dice.below(sets.len())) else { return };
        let desired = set.status.desired as usize;
        let set = set.record.set.clone();
        let body = people::another(self, &set);
        let moves = runtime_of(set.revision) != runtime_of(revision(body));
        let (down, two) = match set.strategy {
            // A place has one runtime: a pod of another comes after the one that is there.
            Strategy::RollingUpdate { max_surge, .. } if !max_surge.is_zero() => {
                let most = max_surge.of(desired);
                if moves { (most, 0) } else { (0, most) }
            }
            Strategy::RollingUpdate { max_unavailable, .. } => {
                (max_unavailable.of(desired).max(1), 0)
            }
            Strategy::OnDelete => return,
        };
        self.rolling = Some((set.key.clone(), down, two));
        people::change(self, &set, body);
        self.come_right();
        self.rolling = None;
    }

    /// While only a rollout makes pods go down, or has two of them in one place, it does so on no more
    /// nodes than it may.
    pub(crate) fn c_a_rollout_keeps_its_budget(&mut self) {
        let (Some((key, most, most_two)), Some(fleet)) = (&self.rolling, &self.desk.fleet) else {
            return;
        };
        let runs = |seat: &&Seat| {
            let item = seat.identity.map(|uid| fleet.assignment(uid));
            let item = item.as_ref().and_then(|assignment| assignment.get(key));
            item.is_some_and(|item| item.intent == Intent::Run)
        };
        let whole =
            |seat: &&Seat| seat.machine.alive_in(key).filter(|body| body.is_whole()).count();
        let stays =
            |seat: &&Seat| seat.machine.alive_in(key).filter(|body| body.is_sound()).count();
        let placed: Vec<&Seat> = self.seats.iter().filter(runs).collect();
        let down = placed.iter().filter(|seat| whole(seat) == 0).count();
        let two = placed.iter().filter(|seat| stays(seat) == 2).count();
        self.law.holds("c_a_rollout_keeps_its_budget", down <= *most && two <= *most_two, || {
            format!(
                "of {key} {down} pods are down and {most} may be, in {two} places are two and in \
                 {most_two} may be"
            )
        });
    }

    /// A calm fleet does nothing at all.
    fn watch(&mut self) {
        let before = (self.desk.store.writes, self.ledgers(), self.pods());
        let end = self.at + LASTING;
        while self.at < end {
            self.pass(ROUND);
            self.settle();
        }
        let after = (self.desk.store.writes, self.ledgers(), self.pods());
        self.law.holds("p7_calm_writes_nothing", before == after, || {
            format!("{before:?}, and a little later {after:?}")
        });
    }

    fn make_whole(&mut self) {
        self.log.say(&[9], || "everything is made whole".into());
        self.retire_copies();
        for seat in 0..self.seats.len() {
            let agent = self.seats[seat].agent.as_ref();
            if agent.is_some_and(|agent| agent.node.is_going_down()) {
                self.power_off(seat);
            }
        }
        self.set_faulty(false);
        for seat in &mut self.seats {
            seat.machine.clear_foreign();
            (seat.cut, seat.disk_fails, seat.frozen_until) = (None, false, Duration::ZERO);
            seat.start();
        }
        self.late_down.clear();
        self.desk.frozen_until = Duration::ZERO;
        if let Some(newest) = self.desk.store.terms_begun_twice() {
            // Somebody has copied a store back by hand, and now learns what `store restore` is for.
            self.kill_coordinator();
            let since = self.desk.now(self.at).wall;
            self.desk.store.hold(newest, since);
            self.desk.store.raise_term(newest);
            self.desk.forget_history();
        }
        self.start_coordinator();
    }

    /// From now on things go wrong by themselves, or do not.
    fn set_faulty(&mut self, faulty: bool) {
        self.desk.faulty = faulty;
        self.seats.iter_mut().for_each(|seat| seat.machine.faulty = faulty);
    }

    /// Of several machines that are one node, one stays.
    fn retire_copies(&mut self) {
        let mut kept = BTreeSet::new();
        for seat in 0..self.seats.len() {
            if self.seats[seat].identity.is_some_and(|node| !kept.insert(node)) {
                self.power_off(seat);
                let number = self.number();
                self.seats[seat].lose_data(number);
            }
        }
    }

    /// People do what is needed of them: a token for whoever has none, templates that can be honoured,
    /// a word after a restore.
    fn help(&mut self) {
        self.command(Command::Resume { allow_removal: true });
        for seat in 0..self.seats.len() {
            people::release_all(self, seat);
            if self.seats[seat].identity.is_none() {
                self.seats[seat].token = None;
                people::token(self, seat, true);
            }
        }
        people::mend_templates(self);
    }

    /// All that is under way arrives.
    fn settle(&mut self) {
        for _ in 0..AT_ONCE {
            let mut busy = !self.desk.inbox.is_empty() || !self.late_up.is_empty();
            for queue in std::mem::take(&mut self.late_up) {
                self.desk.inbox.extend(queue);
            }
            for seat in 0..self.seats.len() {
                let now = self.seats[seat].now(self.at);
                self.seats[seat].machine.settle(now);
                busy |= self.seats[seat].machine.work(&mut self.dice, now);
                busy |= self.hear(seat) | self.settle_disk(seat);
                busy |= self.agent_speaks(seat) | self.agent_hears(seat);
            }
            let (streams, nodes) = (self.streams.keys(), self.desk.sessions.keys());
            let (streams, nodes): (Vec<u64>, Vec<NodeUid>) =
                (streams.copied().collect(), nodes.copied().collect());
            for stream in streams {
                busy |= self.hears(stream);
            }
            for node in nodes {
                busy |= self.speaks(node);
            }
            self.turn();
            self.judge();
            if !busy || self.law.broken().is_some() {
                return;
            }
        }
    }

    /// The first thing that is not yet as it has to be in the end.
    fn all_is_right(&self) -> Result<(), String> {
        let Some(fleet) = &self.desk.fleet else { return Err("no coordinator".into()) };
        for (number, seat) in self.seats.iter().enumerate() {
            let node = seat.identity;
            self.seat_is_right(fleet, seat)
                .map_err(|what| format!("node-{number} ({}): {what}", called(node)))?;
        }
        self.coordinator_knows(fleet)?;
        if self.desk.waits_for_calls(self.at) {
            return Err("the coordinator waits for nodes to call".into());
        }
        if let Some(set) = fleet.sets(None).iter().find(|set| is_watched(set)) {
            return Err(format!("the canaries of {} are still watched", set.record.set.key));
        }
        match fleet.step(self.desk.now(self.at)).first() {
            Some(write) => Err(format!("there still is a step to take: {write:?}")),
            None => Ok(()),
        }
    }

    fn seat_is_right(&self, fleet: &Fleet, seat: &Seat) -> Result<(), String> {
        let Some(uid) = seat.identity else { return Err("has not joined".into()) };
        let Some(agent) = &seat.agent else { return Err("its agent does not run".into()) };
        // Who probes always has something to wait for.
        let wakes = agent.node.wake_at().is_some() && !seat.machine.is_probed();
        let waits = wakes || agent.ask_again.is_some();
        if !agent.node.ledger().holds.is_empty() {
            return Err("something is held".into());
        }
        let busy = agent.writing.is_some() || agent.order.is_some() || !seat.machine.is_idle();
        if busy || waits {
            return Err("something is under way".into());
        }
        match fleet.standing(uid) {
            None => runs_on(seat, agent.node.ledger()),
            Some(NodeStanding::Active) => {
                let node = fleet.node_record(uid).ok_or("it has no record")?;
                for record in sets(&self.desk.store.records) {
                    place_is_right(fleet, seat, node, record)?;
                }
                let known: BTreeSet<&PodKey> =
                    sets(&self.desk.store.records).map(|record| &record.set.key).collect();
                match seat.machine.alive().find(|(key, _)| !known.contains(key)) {
                    Some(left) => Err(format!("{left:?} is of no set")),
                    None => Ok(()),
                }
            }
            Some(standing) => Err(format!("it still is {standing:?}")),
        }
    }

    /// What the coordinator shows is what is.
    fn coordinator_knows(&self, fleet: &Fleet) -> Result<(), String> {
        let here: BTreeSet<NodeUid> = self.seats.iter().filter_map(|seat| seat.identity).collect();
        for node in fleet.nodes().iter().filter(|node| here.contains(&node.record.uid)) {
            if node.readiness != Readiness::Ready || !node.connected {
                return Err(format!("{} is shown as {:?}", node.record.name, node.readiness));
            }
        }
        for seat in &self.seats {
            reports_are_known(fleet, seat, seat.now(self.at))?;
        }
        for line in fleet.why(&WhyFilter::default()) {
            let uid = line.node.uid;
            let item = fleet.assignment(uid).get(&line.key).map(|item| item.revision);
            let unfit = item.is_some_and(|revision| !can_be_honoured(revision));
            let excused = !here.contains(&uid) || line.reason.code == "OnDelete" || unfit;
            if !line.fine && !excused {
                return Err(format!("why says {line:?}"));
            }
        }
        for set in fleet.sets(None) {
            let runs = |seat: &&Seat| {
                let uid = seat.identity.filter(|uid| fleet.standing(*uid).is_some());
                let item = uid.and_then(|uid| {
                    fleet.assignment(uid).get(&set.record.set.key).map(|item| item.intent)
                });
                item == Some(Intent::Run)
                    && seat.machine.alive_in(&set.record.set.key).any(|body| body.is_whole())
            };
            let ready = self.seats.iter().filter(runs).count();
            if set.status.ready as usize != ready {
                return Err(format!("{ready} pods are ready, and shown is {:?}", set.status));
            }
        }
        Ok(())
    }

    fn ledgers(&self) -> Vec<Option<Ledger>> {
        let ledger = |seat: &Seat| match &seat.ledger {
            OnDisk::Ledger(ledger) => Some(Ledger::clone(ledger)),
            _ => None,
        };
        self.seats.iter().map(ledger).collect()
    }

    fn pods(&self) -> Vec<String> {
        let pods = |seat: &Seat| {
            let pods = seat.machine.alive().map(|(key, body)| format!("{key}[{}]", body.uid));
            pods.collect::<Vec<_>>().join(" ")
        };
        self.seats.iter().map(pods).collect()
    }
}

/// What placement says, worked out anew from the little that there is in this world.
enum Wanted {
    Runs,
    MayStay,
    Nothing,
}

fn wanted(node: &NodeRecord, record: &SetRecord) -> Wanted {
    let placement = &record.set.placement;
    let labels = placement.node_selector.iter();
    let mut labels = labels.map(|(key, value)| node.labels.get(key) == Some(value));
    let tolerated = |_: &&Taint| !placement.tolerations.is_empty();
    let hurts = |effect| {
        let taints = node.taints.iter().filter(|taint| taint.effect == effect);
        taints.filter(|taint| !tolerated(taint)).count() > 0
    };
    if !labels.all(|has| has) || hurts(Effect::NoExecute) {
        Wanted::Nothing
    } else if hurts(Effect::NoSchedule) {
        Wanted::MayStay
    } else {
        Wanted::Runs
    }
}

/// Whether the rollout goes on by itself when its canaries have been available for long enough: what it
/// stores then is due, and no fault of a calm fleet.
fn is_watched(set: &SetView) -> bool {
    let progressing = set.conditions.iter().find(|(name, ..)| name == "Progressing");
    let says = |words| progressing.is_some_and(|(.., reason)| reason.message.contains(words));
    set.stable != Some(set.target) && says("the others follow after")
}

fn place_is_right(
    fleet: &Fleet,
    seat: &Seat,
    node: &NodeRecord,
    record: &SetRecord,
) -> Result<(), String> {
    let key = &record.set.key;
    let assignment = fleet.assignment(node.uid);
    let item = assignment.get(key);
    let alive: Vec<_> = seat.machine.alive_in(key).collect();
    // What no rollout reaches stays granted, also where it can't be honoured.
    let in_vain = |item: &Item| {
        let stays = record.set.strategy == Strategy::OnDelete || item.intent == Intent::Keep;
        stays && !can_be_honoured(item.revision)
    };
    let runs = |item: &Item| match alive.as_slice() {
        [one] => {
            // And what it was to take over from serves on.
            let serves = item.surge.is_some() && in_vain(item);
            let fits = item.intent == Intent::Keep || one.revision == item.revision;
            one.is_whole()
                && seat.is_its_own(node.uid, one.marks)
                && seat.counts_as(key, one) == record.set.uid
                && (fits || serves)
        }
        [] => in_vain(item),
        _ => false,
    };
    let newest = |item: &Item| {
        record.set.strategy == Strategy::OnDelete || item.revision == record.set.revision
    };
    let right = match (wanted(node, record), item) {
        (Wanted::Runs, Some(item)) => item.intent == Intent::Run && newest(item) && runs(item),
        (Wanted::MayStay, Some(item)) => item.intent == Intent::Keep && runs(item),
        (Wanted::MayStay | Wanted::Nothing, None) => alive.is_empty(),
        (Wanted::Runs, None) | (Wanted::Nothing, Some(_)) => false,
    };
    if right {
        return Ok(());
    }
    // Whoever reads this wants to know first what a person would be told.
    let filter = WhyFilter { set: Some(key.clone()), ..WhyFilter::default() };
    let why: Vec<String> = fleet
        .why(&filter)
        .iter()
        .map(|line| format!("{}: {}", line.node.name, line.reason))
        .collect();
    Err(format!("{key}: {why:?}; {item:?} is ordered, {alive:?} lives"))
}

/// What the agent would say of each place now is what the coordinator has heard of it.
fn reports_are_known(fleet: &Fleet, seat: &Seat, now: Now) -> Result<(), String> {
    let (Some(uid), Some(agent)) = (seat.identity, &seat.agent) else { return Ok(()) };
    if fleet.standing(uid).is_none() {
        return Ok(());
    }
    for name in SETS {
        let key = key(name);
        let timeless = |mut status: PodStatus| {
            status.ready_for = Duration::ZERO;
            status
        };
        let said = agent.node.statuses(&key, now).into_iter().map(timeless);
        let said: Vec<PodStatus> = said.collect();
        let heard = fleet.place(uid, &key).into_iter().filter_map(|pod| pod.status).map(timeless);
        let heard: Vec<PodStatus> = heard.collect();
        if said != heard {
            return Err(format!("of {key} the agent says {said:?}, and known is {heard:?}"));
        }
    }
    Ok(())
}

/// A machine that its coordinator does not know runs on, as its ledger says.
fn runs_on(seat: &Seat, ledger: &Ledger) -> Result<(), String> {
    if ledger.standing != Standing::Active {
        return Err("it leaves, and its coordinator does not know it".into());
    }
    for item in ledger.assignment.items().filter(|item| can_be_honoured(item.revision)) {
        let whole = seat.machine.alive_in(&item.key).filter(|body| body.is_whole()).count();
        // An old and a new pod that were found stay so, where it is not known that one is to take over.
        let most = if item.intent == Intent::Keep { 2 } else { 1 };
        if !(1..=most).contains(&whole) {
            return Err(format!("it is not known, and {whole} of {} run on", item.key));
        }
    }
    Ok(())
}
