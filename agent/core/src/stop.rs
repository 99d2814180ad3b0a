//! Taking the life out of a place, and those who hold one against us.
//!
//! ```text
//!   asked (see `ending`) ── grace over, or supervisor lost ──▶ killed, again and again
//!            └─────────────────── PlaceEmpty ◀──────────────────────┘
//! ```
//!
//! It ends only when the place was seen empty; no number of kills and no time stands in for that.
//!
//! A supervisor that is alive and silent is no reason to stop its pod: a machine that is short of
//! everything would lose what is healthy. Where a pod is wanted, its answer is waited for.

use std::time::Duration;

use everynode_model::{Now, PodKey, PodUid, Reason, Timestamp};

use crate::backoff::Policy;
use crate::event::{Action, Found, Marks};
use crate::found::pod_ref;
use crate::ledger::Ledger;
use crate::spec::PodRef;

/// How long a pod may take to end whose supervisor has not said its own grace: Kubernetes' default
/// `terminationGracePeriodSeconds`. Should it answer within, its own counts.
const UNSAID_GRACE: Duration = Duration::from_secs(30);

/// A stop under way.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    cause: Reason,
    kill_at: Timestamp,
    kills: u32,
    failed: Option<Reason>,
}

/// A place held by something that can't be adopted.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) holders: Vec<Holder>,
    pub(crate) stop: Option<Stop>,
}

/// Something alive in a place that can't be adopted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holder {
    pub(crate) pod: Option<PodUid>,
    pub(crate) whose: Whose,
    /// How long it may take to end, where it can be asked to.
    pub(crate) grace: Option<Duration>,
    /// Whether its supervisor lives and has not answered yet.
    pub(crate) silent: bool,
}

/// Whose something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Whose {
    /// This node's, in this cluster or in a former one.
    Ours,
    /// One of these clusters', under another node uid: of a data directory that was lost, or of a
    /// former registration of this machine.
    Stray,
    /// Another cluster's: never touched.
    OtherCluster,
    /// Its marks can't be read: never touched.
    Unknown,
}

impl Whose {
    pub(crate) fn of(marks: Option<Marks>, ledger: &Ledger) -> Self {
        match marks {
            None => Self::Unknown,
            Some(marks) if ledger.is_ours(marks) => Self::Ours,
            Some(marks) if ledger.knows(marks.cluster) => Self::Stray,
            Some(_) => Self::OtherCluster,
        }
    }

    /// Whether it bears the mark of a cluster of ours, which is what a kill goes by.
    pub(crate) fn of_our_cluster(self) -> bool {
        matches!(self, Self::Ours | Self::Stray)
    }
}

impl Holder {
    pub(crate) fn of(found: &Found, ledger: &Ledger) -> Self {
        let said = found.supervised.as_ref().filter(|supervised| !supervised.terminating);
        let silent = found.silent && found.supervised.is_none();
        let unsaid = silent.then_some(UNSAID_GRACE);
        let grace = said.map(|supervised| supervised.grace).or(unsaid);
        Self {
            pod: found.pod,
            whose: Whose::of(found.marks, ledger),
            grace: grace.filter(|_| found.pod.is_some()),
            silent,
        }
    }
}

impl Stop {
    /// A stop that was asked for, and is forced after `grace`.
    pub(crate) fn after(grace: Duration, cause: Reason, now: Now) -> Self {
        Self { cause, kill_at: now.steady.after(grace), kills: 0, failed: None }
    }

    /// A stop that can't be asked for.
    pub(crate) fn by_force(cause: Reason, now: Now) -> Self {
        Self::after(Duration::ZERO, cause, now)
    }

    /// Nobody is left who could end by asking: force it without waiting.
    pub(crate) fn hurry(&mut self, now: Now) {
        self.kill_at = self.kill_at.min(now.steady);
    }

    /// It is not forced before then.
    pub(crate) fn put_off(&mut self, until: Timestamp) {
        self.kill_at = until;
    }

    /// Forcing it failed this time.
    pub(crate) fn failed(&mut self, reason: Reason) {
        self.failed = Some(reason);
    }

    /// Whether it was forced already.
    pub(crate) fn is_forced(&self) -> bool {
        self.kills > 0
    }

    /// When it is forced, or forced again.
    pub(crate) fn due(&self) -> Timestamp {
        self.kill_at
    }

    /// Forces the place empty if it is time to.
    pub(crate) fn step(&mut self, key: &PodKey, policy: &Policy, now: Now, out: &mut Vec<Action>) {
        self.force(|| Action::Kill(key.clone()), policy, now, out);
    }

    /// Forces one of two pods if it is time to.
    pub(crate) fn step_of_two(
        &mut self,
        pod: &PodRef,
        policy: &Policy,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        self.force(|| Action::KillPod(pod.clone()), policy, now, out);
    }

    fn force(
        &mut self,
        kill: impl FnOnce() -> Action,
        policy: &Policy,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        if self.kill_at <= now.steady {
            out.push(kill());
            self.kill_at = now.steady.after(policy.kill.nth(self.kills));
            self.kills = self.kills.saturating_add(1);
        }
    }

    /// Why it stops, and why it has not yet.
    pub(crate) fn reason(&self) -> Reason {
        match &self.failed {
            None => self.cause.clone(),
            Some(failed) => Reason::new(
                failed.code.clone(),
                format!("{}; forcing it failed and is tried again: {}", self.cause, failed.message),
            ),
        }
    }
}

impl Held {
    /// Whether any of our cluster's is there.
    pub(crate) fn any_of_our_cluster(&self) -> bool {
        self.of_our_cluster().next().is_some()
    }

    /// Whether the pod that holds the place is as good as ours to run: only its supervisor's
    /// account is missing. Of one without an id none will come.
    pub(crate) fn may_be_adopted(&self) -> bool {
        let forced = self.stop.as_ref().is_some_and(Stop::is_forced);
        let answers = |one: &Holder| one.silent && one.pod.is_some() && one.whose == Whose::Ours;
        matches!(self.holders.as_slice(), [one] if answers(one)) && !forced
    }

    /// The supervisor of one of several holders answers, so that it can be asked to end.
    pub(crate) fn answered(&mut self, holder: Holder, key: &PodKey, out: &mut Vec<Action>) {
        let Some(known) = self.holders.iter_mut().find(|known| known.pod == holder.pod) else {
            return;
        };
        let was_silent = std::mem::replace(known, holder).silent;
        if let (true, Some(_), Some(uid)) = (was_silent, &self.stop, holder.pod) {
            out.push(Action::Terminate(pod_ref(key, uid)));
        }
    }

    /// The supervisor of one holder is dead: it can't be asked.
    pub(crate) fn lost(&mut self, uid: PodUid, now: Now) {
        let Some(holder) = self.holders.iter_mut().find(|one| one.pod == Some(uid)) else { return };
        (holder.silent, holder.grace) = (false, None);
        if let Some(stop) = &mut self.stop {
            stop.hurry(now);
        }
    }

    /// Nothing of our cluster is alive there any more; what is left is others'.
    pub(crate) fn without_ours(mut self) -> Self {
        self.holders.retain(|holder| !holder.whose.of_our_cluster());
        if self.holders.is_empty() {
            return Self::by_unknown();
        }
        Self { stop: None, ..self }
    }

    /// A place in which something without marks lives.
    pub(crate) fn by_unknown() -> Self {
        let unknown = Holder { pod: None, whose: Whose::Unknown, grace: None, silent: false };
        Self { holders: vec![unknown], stop: None }
    }

    /// The pods to clean up after, once the place is empty.
    pub(crate) fn pods<'a>(&'a self, key: &'a PodKey) -> impl Iterator<Item = PodRef> + 'a {
        self.of_our_cluster().filter_map(|holder| Some(pod_ref(key, holder.pod?)))
    }

    /// Stops what may be touched: ours at once, strays when `strays_too`. A kill goes by the
    /// cluster's mark and would take both, so one that may not be touched protects the other. A pod
    /// that may yet be adopted is left as it is where one is `wanted`.
    pub(crate) fn begin_if_due(
        &mut self,
        key: &PodKey,
        (wanted, strays_too): (bool, bool),
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let touchable = |holder: &Holder| holder.whose == Whose::Ours || strays_too;
        let due = self.stop.is_none() && !(wanted && self.may_be_adopted());
        let ours = self.any_of_our_cluster() && self.of_our_cluster().all(touchable);
        if due && (ours || mutated!(StopForeign)) {
            self.stop = Some(self.begin(key, now, out));
        }
    }

    /// Forces what is left of one of two, beside which the other lives on.
    pub(crate) fn end_alone(
        &mut self,
        key: &PodKey,
        policy: &Policy,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let cause = self.reason();
        let pod = self.pods(key).next();
        let stop = self.stop.get_or_insert_with(|| Stop::by_force(cause, now));
        if let Some(pod) = pod {
            stop.step_of_two(&pod, policy, now, out);
        }
    }

    /// Goes on with a stop that was begun.
    pub(crate) fn step(&mut self, key: &PodKey, policy: &Policy, now: Now, out: &mut Vec<Action>) {
        if let Some(stop) = &mut self.stop {
            stop.step(key, policy, now, out);
        }
    }

    /// Asks where everyone can be asked, else forces.
    fn begin(&self, key: &PodKey, now: Now, out: &mut Vec<Action>) -> Stop {
        let cause = self.reason();
        let graces: Option<Vec<Duration>> =
            self.of_our_cluster().map(|holder| holder.grace).collect();
        match graces.and_then(|graces| graces.into_iter().max()) {
            Some(grace) => {
                out.extend(self.pods(key).map(Action::Terminate));
                Stop::after(grace, cause, now)
            }
            None => Stop::by_force(cause, now),
        }
    }

    /// Who holds the place: of several, the one least in our hands.
    pub(crate) fn reason(&self) -> Reason {
        if let Some(stop) = &self.stop {
            return stop.reason();
        }
        match self.holders.iter().map(|holder| holder.whose).max() {
            Some(Whose::OtherCluster) => Reason::new(
                "HeldByAnotherCluster",
                "a pod of another cluster lives in this place; remove this machine from that cluster",
            ),
            Some(Whose::Unknown) => Reason::new(
                "HeldByUnknown",
                "processes whose marks can't be read live in this place; stop them by hand",
            ),
            Some(Whose::Stray) => Reason::new(
                "StrayPod",
                "a pod of this cluster, made under another node uid, lives in this place",
            ),
            Some(Whose::Ours) if self.holders.iter().any(|holder| holder.silent) => Reason::new(
                "SupervisorSilent",
                "the supervisor of the pod that lives in this place is alive and does not answer",
            ),
            Some(Whose::Ours) | None => Reason::new(
                "UnsupervisedPod",
                "an earlier pod left this alive without a supervisor; it ends before anything runs here",
            ),
        }
    }

    fn of_our_cluster(&self) -> impl Iterator<Item = &Holder> {
        self.holders.iter().filter(|holder| holder.whose.of_our_cluster())
    }
}
