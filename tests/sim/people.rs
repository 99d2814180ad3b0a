//! What people do: through the operator, and at the machines.

use everynode_coordinator_core::{Record, SetRecord};

use crate::ending::content;
use crate::invariants::Violation;
use crate::operator::{Care, Content, Wish};
use crate::world::World;

/// The DaemonSets there may be. The last has two containers a pod.
const SETS: [&str; 3] = ["all", "some", "pair"];
/// How many versions of each.
pub(crate) const VERSIONS: u64 = 4;
const TIERS: [Option<&str>; 4] = [None, None, Some("a"), Some("b")];

pub(crate) fn apply(world: &mut World) {
    let (set, content) = (world.any_set(), world.any_content());
    world.wish("applied", Wish::Apply(set, content));
}

pub(crate) fn create(world: &mut World) {
    let (set, content) = (world.any_set(), world.any_content());
    world.wish("created", Wish::Create(set, content));
}

pub(crate) fn delete_set(world: &mut World) {
    let set = world.any_set();
    world.wish("set deleted", Wish::DeleteSet(set));
}

pub(crate) fn recreate(world: &mut World) {
    let (set, content) = (world.any_set(), world.any_content());
    world.wish("set deleted", Wish::DeleteSet(set));
    world.wish("created", Wish::Create(set, content));
}

pub(crate) fn delete_pod(world: &mut World) {
    let (nth, set) = (world.any_seat(), world.any_set());
    let node = world.name(nth);
    world.wish("pod deleted", Wish::DeletePod(set, node));
}

pub(crate) fn label(world: &mut World) {
    let nth = world.any_seat();
    let tier = if world.draw(2) == 0 { "a" } else { "b" };
    let node = world.name(nth);
    world.wish("labelled", Wish::Label(node, tier));
}

pub(crate) fn delete_node(world: &mut World) {
    let nth = world.any_seat();
    if let Some(uid) = world.seats[nth].node() {
        let name = world.name(nth);
        world.wish("node deleted", Wish::DeleteNode { name, uid, forget: false });
    }
}

/// Never one that is to be removed besides: a machine told both would not know which.
pub(crate) fn forget_node(world: &mut World) {
    let nth = world.any_seat();
    if let Some(uid) = world.seats[nth].node()
        && !world.operator.account().doomed.contains(&uid)
    {
        let name = world.name(nth);
        world.wish("node forgotten", Wish::DeleteNode { name, uid, forget: true });
    }
}

pub(crate) fn leave(world: &mut World) {
    let nth = world.any_seat();
    if let Some(uid) = world.seats[nth].node()
        && world.seats[nth].ask_to_leave()
    {
        world.operator.account().doomed.insert(uid);
        world.log.fault("asked to leave", world.name(nth));
    }
}

pub(crate) fn token(world: &mut World) {
    let nth = world.any_seat();
    if world.seats[nth].node().is_none() {
        let seat = world.seats[nth].clone();
        world.wish("token", Wish::Token(seat));
    }
}

impl World {
    fn wish(&mut self, kind: &'static str, wish: Wish) {
        self.log.fault(kind, "");
        self.operator.wish(wish);
    }

    /// Every machine may join, and there is something to run.
    pub(crate) fn settle_in(&mut self) {
        for seat in &self.seats {
            self.operator.wish(Wish::Token(seat.clone()));
        }
        for set in &SETS[..2] {
            let content = self.any_content();
            self.operator.wish(Wish::Create(set, content));
        }
    }

    fn any_set(&mut self) -> &'static str {
        SETS[self.draw(SETS.len())]
    }

    fn any_content(&mut self) -> Content {
        let tier = TIERS[self.draw(TIERS.len())];
        let care = match self.draw(2) {
            0 => Care::None,
            _ => Care::ALL[self.draw(Care::ALL.len())],
        };
        let surge = self.draw(3) > 0;
        Content { version: self.random.next_u64() % VERSIONS, tier, care, surge }
    }

    /// In the end nothing may keep a version from anybody: care is taken away, and what has failed
    /// is given up for another one.
    pub(crate) fn take_care_away(&mut self) -> Result<(), Violation> {
        if !self.operator.is_idle() {
            return Ok(());
        }
        let records = self.records()?;
        let failed = |set: &SetRecord| {
            records.iter().any(|record| {
                matches!(record, Record::GrantHead(head)
                    if head.set == set.set.uid && head.is_under_way() && head.failure().is_some())
            })
        };
        for record in &records {
            let Record::Set(set) = record else { continue };
            let name = SETS.into_iter().find(|name| set.set.key.name() == *name);
            let (Some(name), Some(is)) = (name, content(set)) else { continue };
            let failed = failed(set);
            if failed || is.care != Care::None {
                let version = (is.version + u64::from(failed)) % VERSIONS;
                let wanted = Content { version, care: Care::None, ..is };
                self.operator.wish(Wish::Apply(name, wanted));
            }
        }
        Ok(())
    }
}
