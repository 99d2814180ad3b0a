//! Which of what was delivered somebody here needs.

use std::collections::{BTreeMap, BTreeSet};

use everynode_agent_core::Event;
use everynode_model::{Digest, Intent, Now, PodPhase};

use super::Agent;
use crate::artifacts::{self, Wanted};
use crate::body;

/// What the revisions here have delivered, by name; none of those that have nothing.
#[derive(Default)]
pub(super) struct Delivered {
    of: BTreeMap<Digest, BTreeSet<String>>,
    /// What was said last to be wanted.
    said: Option<Wanted>,
}

/// The names of what a template has delivered to this machine.
pub(super) fn names_of(body: &[u8]) -> BTreeSet<String> {
    body::artifacts_of(body).iter().map(|one| artifacts::name(&one.artifact)).collect()
}

/// Whether somebody may need something else after this: heartbeats, probes and the like change nothing.
pub(super) const fn may_change(event: &Event) -> bool {
    matches!(
        event,
        Event::Looked(_)
            | Event::Ordered { .. }
            | Event::Persisted
            | Event::Staged { .. }
            | Event::Resized { .. }
            | Event::Created { .. }
            | Event::CreateFailed { .. }
            | Event::PodEmpty(_)
            | Event::PlaceEmpty(_)
            | Event::Answered(_)
            | Event::Deregistered
    )
}

impl Delivered {
    pub(super) fn know(&mut self, revision: Digest, names: BTreeSet<String>) {
        if !names.is_empty() {
            self.of.insert(revision, names);
        }
    }

    pub(super) fn forget_all_but(&mut self, needed: &BTreeSet<Digest>) {
        self.of.retain(|revision, _| needed.contains(revision));
    }
}

impl Agent {
    /// Has what nobody here needs cleared away, if that is something else than before.
    pub(super) fn keep_artifacts(&mut self, now: Now) {
        let nothing = Wanted::new();
        if self.delivered.of.is_empty() && self.delivered.said.as_ref() == Some(&nothing) {
            return;
        }
        let Some(wanted) = self.wanted(now) else { return };
        if self.delivered.said.as_ref() != Some(&wanted) {
            self.doer.stager.keep_artifacts(wanted.clone());
            self.delivered.said = Some(wanted);
        }
    }

    /// `None` while it is not known of all that runs.
    fn wanted(&self, now: Now) -> Option<Wanted> {
        let ledger = self.node.ledger();
        ledger.accepted.as_ref()?;
        let mut wanted = Wanted::new();
        for item in ledger.assignment.items().chain(ledger.holds.kept.values()) {
            let names = self.delivered.of.get(&item.revision);
            let names = names.filter(|_| item.intent != Intent::Stop).into_iter().flatten();
            wanted.entry(item.key.to_string()).or_default().extend(names.cloned());
        }
        for (key, pods) in super::places(&self.node, now) {
            let wanted = wanted.entry(key.to_string()).or_default();
            for pod in pods {
                match self.delivered.of.get(&pod.revision) {
                    Some(names) => wanted.extend(names.iter().cloned()),
                    None if self.held.contains(&pod.revision) => {}
                    None if pod.phase == PodPhase::Pending => {}
                    // It runs, and nobody knows what it has mounted.
                    None => return None,
                }
            }
        }
        // A place without any is there all the same: what it had before is not forgotten.
        Some(wanted)
    }
}
