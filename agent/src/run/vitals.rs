//! How the machine is doing, told when that changes and never otherwise.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use everynode_agent_core::{Pressure, Readings};
use everynode_model::{LIMITS_ENFORCED, NodeCondition, Now, OOM_SCORES_HONOURED};
use everynode_runtime::Controller;
use tokio::sync::mpsc;

use super::storage::Measure;
use crate::facts::Address;

/// What is known of the machine's state from elsewhere.
#[derive(Debug, Default)]
pub struct Vitals {
    /// What is measured, from time to time; `None`: nothing.
    pub readings: Option<mpsc::Receiver<Readings>>,
    /// What measures what pods have on disk; `None`: nothing.
    pub storage: Option<Arc<dyn Measure>>,
    /// Where what enforces limits is, or why it can't be used; empty: not known.
    pub limits: BTreeMap<Controller, Result<PathBuf, String>>,
    /// Whether nothing can be killed later than the agent when memory is short.
    pub raises_only: bool,
    /// The machine's address, as it changes; `None`: the one that it had at the start.
    pub address: Option<Address>,
    /// Whether `/proc` tells of this machine, so that who holds a port can be looked up.
    pub proc: bool,
}

/// The node's conditions.
#[derive(Debug)]
pub(super) struct Conditions {
    pressure: Pressure,
    limits: Option<NodeCondition>,
    raises_only: bool,
    /// Whether there is a pod that was to be killed later; said from then on.
    scores: Option<NodeCondition>,
}

impl Conditions {
    pub(super) fn new(vitals: &Vitals, now: Now) -> Self {
        let limits = (!vitals.limits.is_empty()).then(|| enforced(&vitals.limits, now));
        let raises_only = vitals.raises_only;
        Self { pressure: Pressure::default(), limits, raises_only, scores: None }
    }

    /// Takes in what was measured; whether that is news.
    pub(super) fn take(&mut self, readings: &Readings, now: Now) -> bool {
        self.pressure.take(readings, now)
    }

    pub(super) fn all(&self) -> Vec<NodeCondition> {
        let others = self.limits.iter().chain(&self.scores).cloned();
        self.pressure.conditions().into_iter().chain(others).collect()
    }

    /// There is a pod that is to be killed later than most; whether it is news that this can't be.
    pub(super) fn cannot_keep_promise(&mut self, now: Now) -> bool {
        let news = self.raises_only && self.scores.is_none();
        if news {
            self.scores = Some(NodeCondition {
                kind: OOM_SCORES_HONOURED.to_owned(),
                holds: false,
                reason: "OOMScoresOnlyRaised".to_owned(),
                message:
                    "for want of CAP_SYS_RESOURCE, pods of the class Guaranteed and critical ones \
                          are killed as soon as the agent would be"
                        .to_owned(),
                since: now.wall,
            });
        }
        news
    }
}

fn enforced(homes: &BTreeMap<Controller, Result<PathBuf, String>>, now: Now) -> NodeCondition {
    let missing =
        homes.iter().filter_map(|(one, home)| Some(format!("{one}: {}", home.as_ref().err()?)));
    let missing: Vec<String> = missing.collect();
    let (holds, reason, message) = match missing.is_empty() {
        true => (true, "ControllersFound", "pods are held to all limits".to_owned()),
        false => (false, "ControllerMissing", format!("not enforced: {}", missing.join("; "))),
    };
    let (kind, reason) = (LIMITS_ENFORCED.to_owned(), reason.to_owned());
    NodeCondition { kind, holds, reason, message, since: now.wall }
}

#[cfg(test)]
mod tests {
    use everynode_model::{Timestamp, WallTime};

    use super::*;

    #[test]
    fn a_promise_that_is_not_kept_is_told_once_there_is_a_pod_that_has_it() {
        let now = Now { steady: Timestamp::default(), wall: WallTime::default() };
        let mut able = Conditions::new(&Vitals::default(), now);
        assert!(!able.cannot_keep_promise(now) && able.all().is_empty());
        let mut unable = Conditions::new(&Vitals { raises_only: true, ..Vitals::default() }, now);
        assert!(unable.all().is_empty(), "nobody needs it");
        assert!(unable.cannot_keep_promise(now) && !unable.cannot_keep_promise(now));
        assert!(!unable.all()[0].is_fine() && unable.all().len() == 1);
    }

    #[test]
    fn a_limit_that_nothing_enforces_is_named() {
        let now = Now { steady: Timestamp::default(), wall: WallTime::default() };
        let of = |memory| {
            let limits = [(Controller::Cpu, Ok(PathBuf::new())), (Controller::Memory, memory)];
            Conditions::new(&Vitals { limits: limits.into(), ..Vitals::default() }, now).all()
        };
        assert!(of(Ok(PathBuf::new()))[0].is_fine());
        let lacking = of(Err("nowhere".into()));
        assert_eq!((lacking[0].holds, lacking[0].is_fine()), (false, false));
        assert_eq!(lacking[0].message, "not enforced: memory: nowhere");
        assert!(Conditions::new(&Vitals::default(), now).all().is_empty());
    }
}
