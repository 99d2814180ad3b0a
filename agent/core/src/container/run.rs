//! One run of a container: its postStart hook, its probes, and whether it is ready.

use everynode_model::{Now, PodUid, Timestamp};

use super::end::End;
use super::{Container, Means};
use crate::event::{Action, HookKind, ProbeKind};
use crate::spec::{Lifecycle, Probe, Probes};
use crate::trial::Trial;

/// A run that has begun.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) pid: u32,
    pub(crate) since: Now,
    pub(super) post_start: Option<PostStart>,
    /// Until it has passed.
    pub(super) startup: Option<Trial>,
    pub(super) liveness: Option<Trial>,
    pub(super) readiness: Option<Trial>,
    pub(super) ready_since: Option<Timestamp>,
    /// Something of it was killed for want of memory.
    pub(super) oom: bool,
    pub(super) end: Option<End>,
}

/// A hook that is not over.
#[derive(Clone, Copy, Debug)]
pub(super) enum PostStart {
    Due,
    Asked(u64),
}

impl Run {
    pub(super) fn new(lifecycle: &Lifecycle, pid: u32, now: Now) -> Self {
        let trial = |probe: &Probe, _| Trial::new(probe, now.steady);
        let mut run = Self::tried_by(trial, &lifecycle.probes, pid, now);
        run.post_start = lifecycle.hooks.post_start.as_ref().map(|_| PostStart::Due);
        run.open(now);
        run
    }

    /// One that began under a former agent: `started` says that it is known to have.
    pub(super) fn resumed(
        of: &Container,
        pid: u32,
        (since, now): (Now, Now),
        started: bool,
        pod: PodUid,
    ) -> Self {
        let trial =
            |probe: &Probe, kind| Trial::resumed(probe, kind, (since.steady, now), (pod, &of.name));
        let mut run = Self::tried_by(trial, &of.lifecycle.probes, pid, since);
        // Whether it has passed under an agent that is dead nobody knows; trying it again harms nothing.
        run.startup = run.startup.filter(|_| !started);
        run.open(since);
        run
    }

    /// One without a hook, each of its probes tried by a `trial` of it.
    fn tried_by(
        trial: impl Fn(&Probe, ProbeKind) -> Trial,
        probes: &Probes,
        pid: u32,
        since: Now,
    ) -> Self {
        let tried = |kind| probes.of(kind).map(|probe| trial(probe, kind));
        Self {
            pid,
            since,
            post_start: None,
            startup: tried(ProbeKind::Startup),
            liveness: tried(ProbeKind::Liveness),
            readiness: tried(ProbeKind::Readiness),
            ready_since: None,
            oom: false,
            end: None,
        }
    }

    /// Whether it has come as far as [`super::Stage::Up`].
    pub(super) fn is_started(&self) -> bool {
        self.post_start.is_none() && self.startup.is_none() && self.end.is_none()
    }

    /// It is ready from now on if nothing else is waited for.
    pub(super) fn open(&mut self, now: Now) {
        if self.is_started() && self.readiness.is_none() {
            self.ready_since.get_or_insert(now.steady);
        }
    }

    pub(super) fn trial(&mut self, kind: ProbeKind) -> Option<&mut Trial> {
        match kind {
            ProbeKind::Startup => self.startup.as_mut(),
            ProbeKind::Liveness => self.liveness.as_mut(),
            ProbeKind::Readiness => self.readiness.as_mut(),
        }
    }

    /// The probes that are tried at present: none before postStart is over, and the first alone until
    /// it has passed.
    fn tried(&mut self) -> impl Iterator<Item = (ProbeKind, &mut Trial)> {
        let hooked = self.post_start.is_some();
        let starting = self.startup.is_some() && !mutated!(ProbeBeforeStarted);
        let all = [
            (ProbeKind::Startup, self.startup.as_mut()),
            (ProbeKind::Liveness, self.liveness.as_mut().filter(|_| !starting)),
            (ProbeKind::Readiness, self.readiness.as_mut().filter(|_| !starting)),
        ];
        let all = all.into_iter().filter_map(|(kind, trial)| Some((kind, trial?)));
        all.filter(move |_| !hooked)
    }

    pub(super) fn look_after(&mut self, name: &str, lifecycle: &Lifecycle, means: &mut Means<'_>) {
        if let (Some(PostStart::Due), Some(hook)) = (self.post_start, &lifecycle.hooks.post_start) {
            let number = means.hook(name, HookKind::PostStart, hook, None);
            self.post_start = Some(PostStart::Asked(number));
        }
        for (kind, trial) in self.tried() {
            let number = *means.numbers + 1;
            if let Some(probe) = trial.begin(number, means.now.steady) {
                *means.numbers = number;
                means.out.push(Action::Probe {
                    pod: means.pod.clone(),
                    container: name.to_owned(),
                    kind,
                    number,
                    probe: Box::new(probe.clone()),
                });
            }
        }
    }

    pub(super) fn due(&self) -> Option<Timestamp> {
        if let Some(end) = &self.end {
            return Some(end.at);
        }
        if self.post_start.is_some() {
            return None;
        }
        match &self.startup {
            Some(startup) => startup.due(),
            None => [&self.liveness, &self.readiness]
                .into_iter()
                .filter_map(|trial| trial.as_ref()?.due())
                .min(),
        }
    }
}
