//! What must hold in the end, when all is whole again and has had its time.

use std::collections::{BTreeMap, BTreeSet};

use everynode_agent_core::{Ledger, Standing};
use everynode_coordinator_core::{NodeRecord, NodeStanding, Record, SetRecord};
use everynode_model::{Digest, NodeUid, PodKey, SetUid};
use serde_json::Value;

use crate::api::ROLLOUT;
use crate::invariants::{Law, Violation, Witness, is_wanted};
use crate::operator::{Account, Care, Content};
use crate::seat::Seat;

/// What a machine has to run.
type Pods = BTreeMap<PodKey, (SetUid, Digest)>;

/// Everything to judge the end by.
pub(crate) struct Ending<'a> {
    pub(crate) records: &'a [Record],
    pub(crate) seats: &'a [Seat],
    pub(crate) witnesses: &'a [Witness],
    pub(crate) law: &'a Law,
    pub(crate) account: &'a Account,
}

impl Ending<'_> {
    /// The first thing that is not yet as it has to be in the end.
    pub(crate) fn judge(&self) -> Result<(), Violation> {
        self.p2_every_node_runs_what_it_should()?;
        self.p4_who_was_removed_is_gone()?;
        self.p6_what_was_acknowledged_is_there()
    }

    /// Each active node's machine runs one pod of each set that selects it, at its newest revision,
    /// and nothing else. A machine whose coordinator has forgotten it runs on as its ledger says.
    fn p2_every_node_runs_what_it_should(&self) -> Result<(), Violation> {
        for (seat, witness) in self.seats.iter().zip(self.witnesses) {
            let Some(uid) = seat.node() else {
                return Err(format!("P2: {} has not joined", seat.name));
            };
            // Its coordinator may not have heard of it yet.
            let stays = |ledger: &Ledger| ledger.standing == Standing::Active;
            if !witness.ledger.as_ref().is_none_or(stays) {
                return Err(format!("P4: {} is still leaving", seat.name));
            }
            match self.node(uid) {
                Some(node) if node.standing == NodeStanding::Active => {
                    self.runs_what_it_should(seat, witness, node)?;
                }
                Some(_) => return Err(format!("P4: {} still is a node that leaves", seat.name)),
                None => runs_on(seat, witness)?,
            }
        }
        Ok(())
    }

    fn runs_what_it_should(
        &self,
        seat: &Seat,
        witness: &Witness,
        node: &NodeRecord,
    ) -> Result<(), Violation> {
        let wanted = self.wanted(node);
        let mine = witness.alive.iter().filter(|life| life.whole && life.marks.node == node.uid);
        let runs: Pods = mine.map(|life| (life.key.clone(), (life.set, life.revision))).collect();
        if runs != wanted || witness.alive.len() != wanted.len() {
            let (name, alive) = (&seat.name, &witness.alive);
            return Err(format!("P2: {name} runs {alive:?} and should run {wanted:?}"));
        }
        Ok(())
    }

    /// An oracle of its own: labels are all that places anything here.
    fn wanted(&self, node: &NodeRecord) -> Pods {
        let selects = |set: &&SetRecord| match content(set).and_then(|content| content.tier) {
            Some(tier) => node.labels.get("tier").is_some_and(|has| has == tier),
            None => true,
        };
        let pod =
            |record: &SetRecord| (record.set.key.clone(), (record.set.uid, record.set.revision));
        self.sets().filter(selects).map(pod).collect()
    }

    /// Who leaves has said that it is empty, unless its machine does not know that it was it.
    fn p4_who_was_removed_is_gone(&self) -> Result<(), Violation> {
        let ever: BTreeSet<NodeUid> = self.seats.iter().flat_map(Seat::ever).collect();
        for node in self.nodes() {
            let excused = self.law.lost.contains(&node.uid)
                || self.law.copied.contains(&node.uid)
                || !ever.contains(&node.uid);
            if matches!(node.standing, NodeStanding::Leaving { .. }) && !excused {
                return Err(format!("P4: node {} has not confirmed its departure", node.uid));
            }
            if node.standing == NodeStanding::Active && self.account.removed.contains(&node.uid) {
                return Err(format!("P6: node {} was removed, and is active", node.uid));
            }
        }
        Ok(())
    }

    /// Every set is as it was acknowledged last, or as somebody asked for without an answer.
    fn p6_what_was_acknowledged_is_there(&self) -> Result<(), Violation> {
        for (name, may_be) in &self.account.sets {
            let is = match self.sets().find(|record| record.set.key.name() == *name) {
                Some(record) => {
                    Some(content(record).ok_or_else(|| format!("P6: {name} is unreadable"))?)
                }
                None => None,
            };
            if !may_be.contains(&is) {
                return Err(format!("P6: {name} is {is:?} and should be one of {may_be:?}"));
            }
        }
        Ok(())
    }

    fn node(&self, uid: NodeUid) -> Option<&NodeRecord> {
        self.nodes().find(|node| node.uid == uid)
    }

    fn nodes(&self) -> impl Iterator<Item = &NodeRecord> {
        self.records.iter().filter_map(|record| match record {
            Record::Node(node) => Some(node),
            _ => None,
        })
    }

    fn sets(&self) -> impl Iterator<Item = &SetRecord> {
        self.records.iter().filter_map(|record| match record {
            Record::Set(set) => Some(set),
            _ => None,
        })
    }
}

fn runs_on(seat: &Seat, witness: &Witness) -> Result<(), Violation> {
    let Some(ledger) = &witness.ledger else {
        return Err(format!("P4: {} was forgotten, and has no ledger any more", seat.name));
    };
    let runs = witness.alive.iter().filter(|life| life.whole && is_wanted(ledger, life)).count();
    if runs != ledger.assignment.len() || runs != witness.alive.len() {
        let line = "was forgotten, and does not run what it had to run";
        return Err(format!("P4: {} {line}: {:?}", seat.name, witness.alive));
    }
    Ok(())
}

/// What a stored set was applied as.
pub(crate) fn content(record: &SetRecord) -> Option<Content> {
    let object: Value = serde_json::from_slice(&record.object).ok()?;
    let annotations = object.pointer("/metadata/annotations").and_then(Value::as_object);
    let asked = annotations.into_iter().flatten().filter(|(key, _)| key.starts_with(ROLLOUT));
    let asked: BTreeMap<&str, &str> =
        asked.filter_map(|(key, value)| Some((&key[ROLLOUT.len()..], value.as_str()?))).collect();
    let same =
        |care: &Care| care.annotations().iter().copied().collect::<BTreeMap<_, _>>() == asked;
    let care = Care::ALL.into_iter().find(same)?;
    let spec = object.pointer("/spec/template/spec")?;
    let word = spec.pointer("/containers/0/command/1")?.as_str()?;
    let tier = match spec.pointer("/nodeSelector/tier").and_then(Value::as_str) {
        Some("a") => Some("a"),
        Some("b") => Some("b"),
        _ => None,
    };
    let surge = object.pointer("/spec/updateStrategy/rollingUpdate/maxSurge")? != "0%";
    Some(Content { version: word.strip_prefix("--version=")?.parse().ok()?, tier, care, surge })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::tests::{GONE, LEAVING, node, seat, uid};

    fn judged(records: &[Record], law: &Law, account: &Account) -> Result<(), Violation> {
        let seats = [seat()];
        let ending = Ending { records, seats: &seats, witnesses: &[], law, account };
        ending.p4_who_was_removed_is_gone()
    }

    #[test]
    fn a_departure_that_is_never_confirmed_is_seen() {
        let (law, nobody) = (Law::default(), Account::default());
        judged(&[node(1, GONE)], &law, &nobody).unwrap();
        let told = judged(&[node(1, LEAVING)], &law, &nobody).unwrap_err();
        assert!(told.contains("has not confirmed"), "{told}");
        let mut lost = Law::default();
        lost.lost.insert(uid(1));
        judged(&[node(1, LEAVING)], &lost, &nobody).unwrap();
        // No machine ever knew that it was that one.
        judged(&[node(2, LEAVING)], &law, &nobody).unwrap();
    }

    #[test]
    fn a_removal_that_was_acknowledged_and_is_not_there_is_seen() {
        let mut removed = Account::default();
        removed.removed.insert(uid(1));
        let active = [node(1, NodeStanding::Active)];
        judged(&active, &Law::default(), &Account::default()).unwrap();
        let told = judged(&active, &Law::default(), &removed).unwrap_err();
        assert!(told.starts_with("P6: "), "{told}");
    }

    #[test]
    fn what_was_acknowledged_and_is_not_there_is_seen() {
        let content = Content { version: 1, tier: None, care: Care::None, surge: false };
        let mut account = Account::default();
        let look = |account: &Account| {
            let (law, seats) = (Law::default(), [seat()]);
            let ending = Ending { records: &[], seats: &seats, witnesses: &[], law: &law, account };
            ending.p6_what_was_acknowledged_is_there()
        };
        account.sets.insert("all", BTreeSet::from([None, Some(content.clone())]));
        look(&account).unwrap();
        account.sets.insert("all", BTreeSet::from([Some(content)]));
        assert!(look(&account).unwrap_err().starts_with("P6: "));
    }
}
