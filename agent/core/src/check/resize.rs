//! A change of limits alone is made in the pod that runs, and what counts as of a revision is held to
//! its limits.

use everynode_model::{Digest, Intent, Item, PodUid, SetUid};

use super::{Checker, Violation};
use crate::event::Event;
use crate::node::Node;
use crate::place::Life;
use crate::spec::PodRef;

type MadeFrom = (SetUid, Digest, u64);

impl Checker {
    /// An answer; one that nobody waits for says nothing.
    pub(super) fn note_resized(&mut self, event: &Event) {
        let (Event::Resized { pod, revision } | Event::ResizeFailed { pod, revision, .. }) = event
        else {
            return;
        };
        let Some(to) = self.resizing.get(&pod.uid).copied().filter(|(_, to, _)| to == revision)
        else {
            return;
        };
        self.resizing.remove(&pod.uid);
        match event {
            Event::ResizeFailed { in_doubt, .. } => {
                self.not_resized.insert((pod.uid, *revision));
                if *in_doubt {
                    self.in_doubt.insert(pod.uid);
                }
            }
            _ => {
                self.made_from.insert(pod.uid, to);
                let running = self.running.get_mut(&pod.key).filter(|it| it.uid == pod.uid);
                if let Some(running) = running {
                    (running.set, running.revision, running.replace) = to;
                }
            }
        }
    }

    /// Only of what runs by itself, of an alike revision of the same DaemonSet, and staged.
    pub(super) fn check_resize(&self, pod: &PodRef, to: MadeFrom) -> Option<Violation> {
        let wanted = self.to_run(&pod.key).filter(|item| item.intent == Intent::Run);
        let ordered = wanted.is_some_and(|item| (item.set, item.revision, item.replace) == to);
        // Of a machine that had another coordinator, as what it counted when it was inherited.
        let counts = wanted.filter(|_| !self.disk.formers.is_empty());
        let made_from = match (counts, self.made_from.get(&pod.uid)) {
            (Some(item), Some((_, revision, _))) => Some((item.set, *revision, item.replace)),
            _ => self.counted_as(pod),
        };
        let may = ordered
            && self.may_be_resized(pod.uid, made_from, wanted)
            && self.is_staged(&pod.key, to.1)
            && !self.resizing.contains_key(&pod.uid)
            && !self.ending.contains(&pod.uid)
            && self.disk.holds.of(&pod.key).is_none();
        (!may).then(|| Violation::ResizedAmiss(pod.clone()))
    }

    /// A pod is made beside another to take over from it.
    pub(super) fn check_successor(&self, pod: &PodRef, old: PodUid) -> Option<Violation> {
        let old = PodRef { key: pod.key.clone(), uid: old };
        let (made_from, wanted) = (self.counted_as(&old), self.to_run(&pod.key));
        let may = self.may_be_resized(old.uid, made_from, wanted);
        (may && !self.ending.contains(&old.uid)).then_some(Violation::ReplacedForLimits(old))
    }

    /// Whether this pod could be brought to what is wanted, as far as nobody has failed to.
    pub(super) fn may_be_resized(
        &self,
        pod: PodUid,
        made_from: Option<MadeFrom>,
        wanted: Option<&Item>,
    ) -> bool {
        let (Some((set, revision, replace)), Some(item)) = (made_from, wanted) else {
            return false;
        };
        let fixed = self.alike.get(&revision);
        (set, replace) == (item.set, item.replace)
            && revision != item.revision
            && fixed.is_some()
            && fixed == self.alike.get(&item.revision)
            && !self.not_resized.contains(&(pod, item.revision))
            && !self.in_doubt.contains(&pod)
    }

    /// The only pod of its place that is in doubt does not stay where something is ordered.
    pub(super) fn check_doubt(&self, node: &Node) -> Option<Violation> {
        let stays = |pod: &PodUid| {
            let (key, _) = self.alive.iter().find(|(_, alive)| alive.contains(pod))?;
            let item = self.to_run(key).filter(|item| item.intent == Intent::Run)?;
            let place = node.place(key)?;
            let runs = matches!(&place.life, Life::Running(it) if it.at.uid == *pod);
            let waits = place.beside.is_some() || place.waits.is_some();
            let held = self.disk.holds.of(key).is_some() || self.disk.accepted.is_none();
            let same = self.made_from.get(pod).is_some_and(|(set, ..)| *set == item.set);
            let at = PodRef { key: key.clone(), uid: *pod };
            (runs && !waits && !held && same).then_some(Violation::DoubtForgotten(at))
        };
        self.in_doubt.iter().filter(|_| self.stays(node)).find_map(stays)
    }

    /// What a pod was made from, as it counts here.
    fn counted_as(&self, pod: &PodRef) -> Option<MadeFrom> {
        let (set, revision, replace) = *self.made_from.get(&pod.uid)?;
        let (set, replace) = self.disk.counts_as(&pod.key, set, replace);
        Some((set, revision, replace))
    }
}
