//! What must be so once the faults have ceased.

use std::collections::BTreeSet;

use everynode_agent_core::Standing;
use everynode_model::{HELD_ON_NODE, Intent, Item, PodKey, Reason};

use crate::machine::Body;
use crate::world::{Outcome, World, key};

impl World {
    pub fn observers_know_all(&self) -> Outcome {
        let keys: BTreeSet<&PodKey> = self.reported.keys().chain(self.node.keys()).collect();
        for key in keys {
            if self.reported.get(key).cloned().unwrap_or_default() != self.statuses(key) {
                return Err(format!("{key} changed without being marked"));
            }
        }
        Ok(())
    }

    pub fn nothing_of_ours_lives(&self) -> Outcome {
        let mut all = self.machine.bodies.values().flatten();
        match all.find(|body| self.of_our_cluster(body) && body.populated()) {
            Some(body) => Err(format!("departed while this lives: {body:?}")),
            None => Ok(()),
        }
    }

    /// A place in which ours and foreign pods lived together is seen empty only when both are gone.
    fn waits_for_foreign_life(&self) -> bool {
        let why = self.node.why_not_left().unwrap_or_else(|| Reason::new("", ""));
        self.machine.bodies.iter().any(|(key, bodies)| {
            let foreign = bodies.iter().any(|body| !self.of_our_cluster(body) && body.populated());
            foreign && why.message.contains(&key.to_string())
        })
    }

    fn of_our_cluster(&self, body: &Body) -> bool {
        body.marks.is_some_and(|marks| self.machine.clusters.contains(&marks.cluster))
    }

    /// Whether the machine is as the ledger has it.
    pub fn converged(&self) -> Outcome {
        if self.node.standing() != Standing::Active {
            self.nothing_of_ours_lives()?;
            let left = self.wiped || self.waits_for_foreign_life();
            return if left { Ok(()) } else { Err("it leaves and never left".into()) };
        }
        if self.node.is_going_down() {
            return self.nothing_of_ours_lives();
        }
        (0..3).map(key).try_for_each(|key| self.place_converged(&key))
    }

    fn place_converged(&self, key: &PodKey) -> Outcome {
        let none = Vec::new();
        let bodies = self.machine.bodies.get(key).unwrap_or(&none);
        let alive: Vec<&Body> = bodies.iter().filter(|body| body.populated()).collect();
        let foreign = alive.iter().any(|body| !self.of_our_cluster(body));
        let ours: Vec<&&Body> = alive.iter().filter(|body| self.of_our_cluster(body)).collect();
        let hold = self.disk.holds.of(key);
        let item = match hold {
            Some(hold) if hold.stop => None,
            Some(_) => self.disk.holds.kept.get(key),
            None => self.disk.assignment.get(key).filter(|item| item.intent != Intent::Stop),
        };
        let why = self.why(key);
        match (item, ours.as_slice()) {
            // Nothing was ordered there when it was held: whatever lives there is left.
            (None, _) if hold.is_some_and(|hold| !hold.stop) => Ok(()),
            (_, []) if foreign && (item.is_none() || !why.is_empty()) => Ok(()),
            (None, []) => Ok(()),
            (Some(item), []) if item.revision == self.machine.bad && why == "CreateFailed" => {
                Ok(())
            }
            (Some(item), []) if why == "WaitingFor" => self.waits_for_good_cause(item),
            // What is to take over can't be made, or has to wait; the old one runs on.
            (Some(item), [old]) if item.surge.is_some() && why == "CreateFailed" => {
                let refused = item.revision == self.machine.bad && self.fits(item, old, true);
                if refused { Ok(()) } else { Err(format!("{key} was never made anew")) }
            }
            (Some(item), [_]) if item.surge.is_some() && why == "WaitingFor" => {
                self.waits_for_good_cause(item)
            }
            (Some(item), [old, new]) if hold.is_some() => {
                let both = self.fits(item, old, true) && self.fits(item, new, true);
                if both { Ok(()) } else { Err(format!("{key}: held, and not as it was")) }
            }
            (Some(item), [one]) if self.fits(item, one, hold.is_some()) => Ok(()),
            _ => Err(format!("{key} never came right: {item:?}, {why}, {bodies:?}")),
        }
    }

    /// Of what is held, whatever it was made from does.
    fn fits(&self, item: &Item, body: &Body, held: bool) -> bool {
        let (set, replace) = self.disk.counts_as(&item.key, body.set, body.replace);
        let same = (item.revision, item.replace) == (body.revision, replace);
        // Said to be of a revision, held to what that says.
        let limits = body.limits == Some(body.revision);
        (held || item.set == set)
            && (held || limits || item.intent == Intent::Keep)
            && (held || same || item.intent == Intent::Keep)
            && body.supervisor
            && body.is_up()
    }

    /// Why a place is not as it should be; of a held one, why it is not even as it was.
    fn why(&self, key: &PodKey) -> String {
        let Some(reason) = self.node.why(key) else { return String::new() };
        let cause = reason.message.split_once("; ").filter(|_| reason.code == HELD_ON_NODE);
        let cause = cause.and_then(|(_, cause)| cause.split(':').next());
        cause.map_or(reason.code, str::to_owned)
    }

    /// Only something that this machine can't run may be waited for to the end.
    fn waits_for_good_cause(&self, item: &Item) -> Outcome {
        let down = |key: &PodKey| self.node.why(key).is_some_and(|reason| reason.code != "Kept");
        if item.after.iter().any(down) {
            Ok(())
        } else {
            Err(format!("{} waits in vain", item.key))
        }
    }
}
