//! Somebody who watches everything, and believes that what was not told has not changed.
//!
//! Left out is what changes with time alone: for how long something has been so, and what a reason
//! says beyond its word.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use everynode_coordinator_core::{Changed, Fleet, PodFilter, Readiness, SetStatus};
use everynode_model::{Digest, PodStatus, Reason, Stamp};

use crate::law::Law;

/// What is shown of one thing.
#[derive(Clone, Debug, PartialEq)]
enum Shown {
    Set {
        stored: u64,
        status: SetStatus,
        leads: (Option<Digest>, Digest),
        conditions: Vec<(String, bool)>,
    },
    Node {
        stored: u64,
        readiness: &'static str,
        connected: bool,
        acknowledged: Option<Stamp>,
    },
    Pods(Vec<(String, Option<PodStatus>, Option<String>, bool)>),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Watcher {
    shown: Option<BTreeMap<Changed, Shown>>,
}

impl Watcher {
    /// It lists anew: what it knew is of another fleet.
    pub(crate) fn begin_anew(&mut self) {
        self.shown = None;
    }

    /// Whoever watches is told of everything that is shown otherwise than before.
    pub(crate) fn c_watchers_miss_nothing(
        &mut self,
        fleet: &Fleet,
        changed: &BTreeSet<Changed>,
        law: &mut Law,
    ) {
        let now = all(fleet);
        if let Some(before) = self.shown.take() {
            let things: BTreeSet<&Changed> = before.keys().chain(now.keys()).collect();
            let missed = things
                .into_iter()
                .find(|thing| before.get(*thing) != now.get(*thing) && !changed.contains(*thing));
            law.holds("c_watchers_miss_nothing", missed.is_none(), || {
                let (was, is) = (missed.map(|it| before.get(it)), missed.map(|it| now.get(it)));
                format!("{missed:?} was {was:?}, and is {is:?}")
            });
        }
        self.shown = Some(now);
    }
}

/// A reason's word. That the registration window ends is no change.
fn word(reason: Reason) -> String {
    match reason.code.as_str() {
        "RegistrationWindow" => "RolloutPending".into(),
        _ => reason.code,
    }
}

fn all(fleet: &Fleet) -> BTreeMap<Changed, Shown> {
    let mut shown = BTreeMap::new();
    for set in fleet.sets(None) {
        let conditions = set.conditions.into_iter().map(|(name, holds, _)| (name, holds));
        let thing = Changed::Set(set.record.set.key.clone(), set.record.set.uid);
        let set = Shown::Set {
            stored: set.record.resource_version,
            status: set.status,
            leads: (set.stable, set.target),
            conditions: conditions.collect(),
        };
        shown.insert(thing, set);
    }
    for node in fleet.nodes() {
        let thing = Changed::Node(node.record.uid);
        let node = Shown::Node {
            stored: node.record.resource_version,
            readiness: match node.readiness {
                Readiness::Ready => "ready",
                Readiness::Lost { .. } => "lost",
                Readiness::Unknown => "unknown",
            },
            connected: node.connected,
            acknowledged: node.acknowledged,
        };
        shown.insert(thing, node);
    }
    for pod in fleet.pods(&PodFilter::default()) {
        let thing = Changed::Pod(pod.node.uid, pod.key.clone());
        let status = pod.status.map(|status| PodStatus { ready_for: Duration::ZERO, ..status });
        let reason = pod.reason.map(word);
        let pod = (pod.name, status, reason, pod.stale);
        if let Shown::Pods(pods) = shown.entry(thing).or_insert_with(|| Shown::Pods(Vec::new())) {
            pods.push(pod);
        }
    }
    shown
}
