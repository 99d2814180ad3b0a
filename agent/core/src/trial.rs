//! One probe of one run: when it is tried, and what its answers come to.
//!
//! ```text
//!   waits ── it is time ──▶ in flight ── answered ──▶ waits, until a period after that try began
//! ```
//!
//! A verdict is as many like answers in a row as the probe's threshold says. What follows from one,
//! others know.

use std::time::Duration;

use everynode_model::{Digest, Now, PodUid, Timestamp};

use crate::event::ProbeKind;
use crate::spec::Probe;

/// At most how long the first tries of [`ProbeKind::Startup`] and [`ProbeKind::Readiness`] are spread
/// over after the agent was started: until then a pod that serves counts as not ready, and one agent
/// has some dozens of pods.
const UNREADY_SPREAD: Duration = Duration::from_secs(1);

/// A probe of a container that runs.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    probe: Probe,
    next: Timestamp,
    in_flight: Option<u64>,
    /// How often in a row the last outcome came, and why it failed if it did.
    streak: u32,
    last: Option<Result<(), String>>,
}

impl Trial {
    /// That of a run that began at `since`.
    pub(crate) fn new(probe: &Probe, since: Timestamp) -> Self {
        let next = since.after(probe.initial_delay);
        Self { probe: probe.clone(), next, in_flight: None, streak: 0, last: None }
    }

    /// That of a run that goes on under a new agent. As the kubelet does, first tries are then spread
    /// over a period, so that not all of a machine come at once.
    pub(crate) fn resumed(
        probe: &Probe,
        kind: ProbeKind,
        (since, now): (Timestamp, Now),
        (pod, container): (PodUid, &str),
    ) -> Self {
        let most = match kind {
            ProbeKind::Liveness => probe.period,
            ProbeKind::Startup | ProbeKind::Readiness => probe.period.min(UNREADY_SPREAD),
        };
        let place = Digest::of(format!("{pod} {container} {kind:?}").as_bytes()).leading_u64();
        // The upper half is fine enough, and its quotient below one.
        let part = f64::from(u32::try_from(place >> 32).unwrap_or(0)) / f64::from(u32::MAX);
        let mut trial = Self::new(probe, since);
        trial.next = trial.next.max(now.steady.after(most.mul_f64(part)));
        trial
    }

    /// When it is tried next; `None` while a try is under way.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.in_flight.is_none().then_some(self.next)
    }

    /// Begins a try if it is time to.
    pub(crate) fn begin(&mut self, number: u64, now: Timestamp) -> Option<&Probe> {
        if self.due().is_none_or(|due| due > now) && !mutated!(ProbeTwiceAtOnce) {
            return None;
        }
        self.in_flight = Some(number);
        self.next = now.after(self.probe.period);
        Some(&self.probe)
    }

    /// The try is over: what all of them come to, where they come to something.
    pub(crate) fn answered(&mut self, outcome: Result<(), String>) -> Option<Result<(), String>> {
        let alike = self.last.as_ref().is_some_and(|last| last.is_ok() == outcome.is_ok());
        self.streak = if alike { self.streak.saturating_add(1) } else { 1 };
        let enough = match outcome {
            Ok(()) => self.probe.success_threshold,
            Err(_) => self.probe.failure_threshold,
        };
        self.last = Some(outcome.clone());
        (self.streak >= enough || mutated!(IgnoreThresholds)).then_some(outcome)
    }

    /// Whether this is the answer to the try under way, which is over then.
    pub(crate) fn settles(&mut self, number: u64) -> bool {
        let mine = self.in_flight == Some(number);
        if mine {
            self.in_flight = None;
        }
        mine
    }

    /// How it is going, for people.
    pub(crate) fn line(&self) -> String {
        match &self.last {
            None => "not tried yet".to_owned(),
            Some(Ok(())) => {
                format!("{} of {} in a row succeeded", self.streak, self.probe.success_threshold)
            }
            Some(Err(why)) => {
                format!(
                    "{} of {} in a row failed: {why}",
                    self.streak, self.probe.failure_threshold
                )
            }
        }
    }

    /// `terminationGracePeriodSeconds`, where the probe has its own.
    pub(crate) fn grace(&self) -> Option<Duration> {
        self.probe.grace
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Handler;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_start(Duration::from_secs(secs))
    }

    fn probe(success_threshold: u32, failure_threshold: u32) -> Probe {
        Probe {
            handler: Handler::Tcp { host: None, port: 1 },
            initial_delay: Duration::from_secs(5),
            period: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            success_threshold,
            failure_threshold,
            grace: None,
        }
    }

    #[test]
    fn it_is_tried_after_the_delay_then_once_a_period_and_never_twice_at_once() {
        let mut trial = Trial::new(&probe(1, 3), at(100));
        assert!(trial.begin(1, at(104)).is_none());
        assert!(trial.begin(1, at(105)).is_some());
        assert_eq!(trial.due(), None);
        assert!(trial.begin(2, at(120)).is_none(), "the first has not answered");
        assert!(!trial.settles(7));
        assert!(trial.settles(1));
        assert!(!trial.settles(1), "once");
        assert_eq!(trial.due(), Some(at(115)), "from its beginning, also where it took longer");
    }

    #[test]
    fn a_verdict_takes_so_many_like_answers_in_a_row() {
        let mut trial = Trial::new(&probe(2, 3), at(0));
        let bad = || Err("refused".to_owned());
        let answers = [bad(), bad(), Ok(()), bad(), bad(), bad(), bad(), Ok(()), Ok(()), bad()];
        let verdicts = answers.map(|answer| trial.answered(answer).map(|it| it.is_ok()));
        let (no, yes) = (Some(false), Some(true));
        assert_eq!(verdicts, [None, None, None, None, None, no, no, None, yes, None]);
        assert_eq!(trial.line(), "1 of 3 in a row failed: refused");
    }

    #[test]
    fn under_a_new_agent_first_tries_are_spread_and_alike_each_time() {
        let now = Now { steady: at(1000), wall: everynode_model::WallTime::default() };
        let first = |n: u128, kind| {
            let pod = PodUid::new(uuid::Uuid::from_u128(n));
            Trial::resumed(&probe(1, 3), kind, (at(0), now), (pod, "main")).due()
        };
        let spread = |kind| (0..100).filter_map(|n| first(n, kind)).collect::<Vec<_>>();
        for (kind, most) in [(ProbeKind::Liveness, 10), (ProbeKind::Readiness, 1)] {
            let times = spread(kind);
            assert_eq!(times, spread(kind));
            assert!(times.iter().all(|time| *time >= at(1000) && *time <= at(1000 + most)));
            let half = at(1000).after(Duration::from_secs(most) / 2);
            let early = times.iter().filter(|time| **time < half).count();
            assert!((25..=75).contains(&early), "{early} of 100 in the first half");
        }
    }
}
