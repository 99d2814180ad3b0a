//! One machine: the ground truth of what lives on it, and a runtime that does as it is told, late, in
//! order for each place, and not always with success.
//!
//! It outlives its agent, as real processes do.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use everynode_agent_core::{
    Action, Event, Found, HookKind, Lifecycle, Marks, Plan, PodRef, Probes, RestartBackoff, Role,
    StorageUse, Supervised, SupervisedContainer, Unstaged,
};
use everynode_model::{
    ClusterId, Digest, Exit, Now, PodKey, PodUid, Reason, SetUid, Timestamp, WallTime,
};

use crate::dice::Dice;
use crate::names::{CLUSTER, MOST_ON_DISK, can_be_honoured, fixed_of};
use crate::plans::{GRACE, plan};

/// Something that was started and may be alive.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    pub(crate) uid: PodUid,
    pub(crate) marks: Marks,
    pub(crate) set: SetUid,
    pub(crate) revision: Digest,
    pub(crate) replace: u64,
    pub(crate) supervisor: bool,
    /// The supervisor lives and does not answer.
    pub(crate) silent: bool,
    pub(crate) terminating: bool,
    /// Nobody knows to which limits it is held.
    pub(crate) limits_in_doubt: bool,
    /// The one that it is to take over from.
    pub(crate) beside: Option<PodUid>,
    /// It was seen to have more on disk than some may.
    pub(crate) exceeds: bool,
    /// Pays no heed to SIGTERM.
    stubborn: bool,
    restarts: u64,
    procs: BTreeMap<String, Proc>,
}

#[derive(Clone, Debug, Default)]
struct Proc {
    /// What was ordered of it.
    life: Lifecycle,
    alive: bool,
    /// It was sent SIGTERM.
    asked: bool,
    runs: u64,
    last_exit: Option<Exit>,
    since: Timestamp,
}

impl Body {
    /// Whether anything of it is alive.
    pub(crate) fn populated(&self) -> bool {
        self.supervisor || self.procs.values().any(|one| one.alive)
    }

    /// Whether it is as it should be: supervised, not told to end.
    pub(crate) fn is_sound(&self) -> bool {
        self.supervisor && !self.silent && !self.terminating
    }

    /// Whether it is sound, all of its containers run, and what was to be done first is.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_sound() && self.procs.values().all(|one| one.alive || one.is_done())
    }

    fn is_probed(&self) -> bool {
        self.procs.values().any(|one| one.life.probes != Probes::default())
    }

    fn die(&mut self) {
        self.supervisor = false;
        self.procs.values_mut().for_each(|one| one.alive = false);
    }

    fn is_of(&self, cluster: ClusterId) -> bool {
        self.marks.cluster == cluster
    }
}

impl Proc {
    fn is_done(&self) -> bool {
        self.life.role == Role::Init && self.last_exit == Some(Exit::Code(0))
    }

    /// Whether it ends by itself: its work is done, or it was told to.
    fn ends(&self, stubborn: bool) -> bool {
        self.alive && (self.life.role == Role::Init || self.asked && !stubborn)
    }
}

/// A machine.
#[derive(Debug)]
pub(crate) struct Machine {
    /// Whether things go wrong.
    pub(crate) faulty: bool,
    pub(crate) bodies: BTreeMap<PodKey, Vec<Body>>,
    jobs: BTreeMap<PodKey, VecDeque<(Marks, Action)>>,
    words: BTreeMap<PodKey, VecDeque<Event>>,
    /// What each template wants of a pod's containers, by what of it can't change in one that runs.
    plans: BTreeMap<Digest, Plan>,
    /// What must never be and was.
    pub(crate) wrong: Option<String>,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let (bodies, jobs, words, plans) = Default::default();
        Self { faulty: true, bodies, jobs, words, plans, wrong: None }
    }

    /// All that lives in a place.
    pub(crate) fn alive_in(&self, key: &PodKey) -> impl Iterator<Item = &Body> {
        self.bodies.get(key).into_iter().flatten().filter(|body| body.populated())
    }

    /// All that lives here.
    pub(crate) fn alive(&self) -> impl Iterator<Item = (&PodKey, &Body)> {
        let all = self.bodies.iter().flat_map(|(key, bodies)| bodies.iter().map(move |b| (key, b)));
        all.filter(|(_, body)| body.populated())
    }

    /// An agent of the node with these marks wants something done.
    pub(crate) fn order(&mut self, key: &PodKey, marks: Marks, action: Action) {
        self.jobs.entry(key.clone()).or_default().push_back((marks, action));
    }

    /// The agent died: what it had not done yet is never done, what it was not told it never hears.
    pub(crate) fn agent_died(&mut self) {
        self.jobs.clear();
        self.words.clear();
    }

    /// The power fails: nothing is alive afterwards, and its directories are gone with it.
    pub(crate) fn reboot(&mut self) {
        self.agent_died();
        self.bodies.clear();
    }

    /// Whether anything that lives here is probed.
    pub(crate) fn is_probed(&self) -> bool {
        self.alive().any(|(_, body)| body.is_probed())
    }

    /// Whether this pod is probed, as far as it is here.
    pub(crate) fn probes(&self, key: &PodKey, uid: PodUid) -> bool {
        let bodies = self.bodies.get(key).into_iter().flatten();
        bodies.filter(|body| body.uid == uid).any(Body::is_probed)
    }

    /// Whether nothing is left to be done or told.
    pub(crate) fn is_idle(&self) -> bool {
        self.jobs.values().all(VecDeque::is_empty) && self.words.values().all(VecDeque::is_empty)
    }

    /// The next word of some place, if there is any.
    pub(crate) fn hear(&mut self, dice: &mut Dice) -> Option<Event> {
        let key = some_key(&self.words, dice)?;
        self.words.get_mut(&key)?.pop_front()
    }

    /// Does the next job of some place. Says whether there was one.
    pub(crate) fn work(&mut self, dice: &mut Dice, now: Now) -> bool {
        let Some(key) = some_key(&self.jobs, dice) else { return false };
        let job = self.jobs.get_mut(&key).and_then(VecDeque::pop_front);
        let Some((marks, job)) = job else { return false };
        self.perform(&key, marks, job, dice, now);
        true
    }

    /// What a look finds.
    pub(crate) fn look(&self, now: Now) -> Vec<Found> {
        let all = self.bodies.iter().flat_map(|(key, bodies)| bodies.iter().map(move |b| (key, b)));
        all.map(|(key, body)| found(key, body, now)).collect()
    }

    /// What was told to end and does, ends; who fell silent answers.
    pub(crate) fn settle(&mut self, now: Now) {
        let keys: Vec<PodKey> = self.bodies.keys().cloned().collect();
        for key in keys {
            let count = self.bodies.get(&key).map_or(0, Vec::len);
            (0..count).for_each(|at| self.touch(&key, at, now, |_, _| {}));
        }
    }

    /// Something happens by itself.
    pub(crate) fn stir(&mut self, dice: &mut Dice, now: Now) {
        let keys: Vec<PodKey> = self.bodies.keys().cloned().collect();
        if keys.is_empty() {
            return;
        }
        let key = keys[dice.below(keys.len())].clone();
        let count = self.bodies.get(&key).map_or(0, Vec::len);
        let (at, kind) = (dice.below(count), dice.below(8));
        self.touch(&key, at, now, |body, words| misfortune(kind, &key, body, words, dice, now));
    }

    /// A pod of another cluster comes to live in an empty place.
    pub(crate) fn move_in(&mut self, key: PodKey, uid: PodUid, marks: Marks, set: SetUid) {
        let procs = [("main".to_owned(), Proc { alive: true, runs: 1, ..Proc::default() })].into();
        let body = Body {
            uid,
            marks,
            set,
            revision: Digest::of(b"foreign"),
            replace: 0,
            supervisor: true,
            silent: false,
            terminating: false,
            limits_in_doubt: false,
            beside: None,
            exceeds: false,
            stubborn: false,
            restarts: 0,
            procs,
        };
        self.bodies.entry(key).or_default().push(body);
    }

    /// Somebody stops all pods of other clusters by hand.
    pub(crate) fn clear_foreign(&mut self) {
        let keys: Vec<PodKey> = self.bodies.keys().cloned().collect();
        for key in keys {
            let bodies = self.bodies.entry(key.clone()).or_default();
            let before = bodies.len();
            bodies.retain(|body| body.is_of(CLUSTER));
            if bodies.len() != before && !bodies.iter().any(Body::populated) {
                self.say(&key, Event::PlaceEmpty(key.clone()));
            }
        }
    }

    /// Lets something happen to one body, and tells what the runtime would see of it.
    fn touch(
        &mut self,
        key: &PodKey,
        at: usize,
        now: Now,
        happen: impl FnOnce(&mut Body, &mut Vec<Event>),
    ) {
        let faulty = self.faulty;
        let bodies = self.bodies.entry(key.clone()).or_default();
        let Some(body) = bodies.get_mut(at) else { return };
        let was = body.populated();
        let mut words = Vec::new();
        if !body.is_of(CLUSTER) {
            return;
        }
        if body.silent && body.supervisor {
            body.silent = false;
            words.push(Event::Answered(found(key, body, now)));
        } else if body.supervisor && body.procs.values().any(|one| one.ends(body.stubborn)) {
            words.extend(natural_ends(key, body, now));
        } else if body.terminating && body.supervisor && !body.procs.values().any(|it| it.alive) {
            body.die();
        } else if faulty {
            happen(body, &mut words);
        }
        let died = was && !bodies[at].populated();
        let emptied = was && !bodies.iter().any(Body::populated);
        let dead = (died && !emptied).then(|| PodRef { key: key.clone(), uid: bodies[at].uid });
        let queue = self.words.entry(key.clone()).or_default();
        queue.extend(words);
        queue.extend(dead.map(Event::PodEmpty));
        if emptied {
            queue.push_back(Event::PlaceEmpty(key.clone()));
        }
    }

    fn perform(&mut self, key: &PodKey, marks: Marks, job: Action, dice: &mut Dice, now: Now) {
        let fault = self.faulty && dice.one_in(6);
        if self.faulty && dice.one_in(30) {
            let bodies = self.bodies.entry(key.clone()).or_default();
            bodies.iter_mut().for_each(|body| body.silent = body.supervisor);
        }
        match job {
            Action::Create { pod, set, revision, replace, restarts, beside, .. } => {
                if self.alive_in(key).any(|body| Some(body.uid) != beside) {
                    self.wrong = Some(format!("{pod} is made while another lives in its place"));
                }
                let old = beside.map(|uid| PodRef { key: key.clone(), uid });
                if let Some(old) = old.filter(|_| self.alive_in(key).next().is_none()) {
                    self.say(key, Event::PodEmpty(old));
                }
                let body = Body {
                    uid: pod.uid,
                    marks,
                    set,
                    revision,
                    replace,
                    supervisor: true,
                    silent: false,
                    terminating: false,
                    limits_in_doubt: false,
                    beside,
                    exceeds: false,
                    stubborn: dice.one_in(3),
                    restarts,
                    procs: BTreeMap::new(),
                };
                self.create(pod, body, fault, dice);
            }
            Action::Stage { key, revision, .. } => {
                let reason = Reason::new("ErrImagePull", "pretended");
                let again = Some(Duration::from_secs(10));
                let outcome = if fault { Err(Unstaged { reason, again }) } else { Ok(()) };
                self.say(&key.clone(), Event::Staged { key, revision, outcome });
            }
            Action::Resize { pod, set, revision, replace } => {
                let in_doubt = fault && dice.one_in(3);
                self.resize(pod, (set, revision, replace), (fault, in_doubt));
            }
            Action::Start { pod, container } => self.start(&pod, container, fault, now),
            Action::Terminate(pod) => {
                if let Some(body) = self.answering(&pod) {
                    body.terminating = true;
                    body.procs.values_mut().for_each(|one| one.asked = true);
                }
            }
            Action::Close(pod) => {
                self.answering(&pod).into_iter().for_each(|body| body.terminating = true);
            }
            Action::Stop { pod, container } => {
                let body = self.answering(&pod);
                let one = body.and_then(|body| body.procs.get_mut(&container));
                one.into_iter().for_each(|one| one.asked = true);
            }
            Action::KillContainer { pod, container } => {
                let body = self.answering(&pod);
                let word = body.and_then(|body| end(key, body, &container, Exit::Signal(9), now));
                word.into_iter().for_each(|word| self.say(key, word));
            }
            Action::Probe { pod, container, kind, number, .. } => {
                let fails = fault || (self.faulty && dice.one_in(4));
                let outcome = if fails { Err("pretended".to_owned()) } else { Ok(()) };
                self.say(key, Event::Probed { pod, container, kind, number, outcome });
            }
            Action::Hook { pod, container, hook, number, .. } => {
                let outcome = if fault { Err("pretended".to_owned()) } else { Ok(()) };
                // Some preStop hooks take longer than they may; those that end are told.
                if !(self.faulty && hook == HookKind::PreStop && dice.one_in(3)) {
                    self.say(key, Event::HookDone { pod, container, hook, number, outcome });
                }
            }
            Action::Kill(key) => self.kill(&key, marks.cluster, fault),
            Action::KillPod(pod) => self.kill_pod(pod, fault),
            Action::Remove(pod) => {
                if self.body(&pod).is_some_and(|body| body.populated()) {
                    self.wrong = Some(format!("{pod} is removed alive"));
                    return;
                }
                self.bodies.entry(pod.key).or_default().retain(|body| body.uid != pod.uid);
            }
            other => self.wrong = Some(format!("{other:?} is no runtime's business")),
        }
    }

    /// Whole, or not at all, or nobody knows.
    fn resize(&mut self, pod: PodRef, to: (SetUid, Digest, u64), (fault, in_doubt): (bool, bool)) {
        let (key, revision) = (pod.key.clone(), to.1);
        let word = match self.answering(&pod) {
            Some(body) if !fault => {
                (body.set, body.revision, body.replace) = to;
                Event::Resized { pod, revision }
            }
            answering => {
                // Of one that does not answer nobody knows either.
                let in_doubt = in_doubt || answering.is_none();
                self.body(&pod).into_iter().for_each(|body| body.limits_in_doubt |= in_doubt);
                let reason = Reason::new("ResizeError", "pretended");
                Event::ResizeFailed { pod, revision, reason, in_doubt }
            }
        };
        self.say(&key, word);
    }

    fn create(&mut self, pod: PodRef, mut body: Body, fault: bool, dice: &mut Dice) {
        let unfit = !can_be_honoured(body.revision);
        let in_doubt = fault && !unfit && dice.one_in(2);
        let plan = self.plans.entry(fixed_of(body.revision)).or_insert_with(|| plan(dice)).clone();
        let proc = |life: &Lifecycle| Proc { life: life.clone(), ..Proc::default() };
        let procs = plan.containers.iter().map(|one| (one.name.clone(), proc(&one.lifecycle)));
        body.procs.extend(procs);
        if in_doubt {
            body.supervisor = false;
            body.procs.values_mut().for_each(|one| one.alive = dice.one_in(2));
        }
        if in_doubt || !(fault || unfit) {
            self.bodies.entry(pod.key.clone()).or_default().push(body);
        }
        let key = pod.key.clone();
        let word = if fault || unfit {
            let reason = Reason::new("CreateFailed", "pretended");
            Event::CreateFailed { pod, reason, retry: !unfit, in_doubt }
        } else {
            Event::Created { pod, plan }
        };
        self.say(&key, word);
    }

    fn start(&mut self, pod: &PodRef, name: String, fault: bool, now: Now) {
        let Some(body) = self.body(pod).filter(|body| body.supervisor && !body.terminating) else {
            return;
        };
        let silent = body.silent;
        let Some(one) = body.procs.get_mut(name.as_str()) else {
            self.wrong = Some(format!("{pod} has no container {name}"));
            return;
        };
        if one.alive {
            self.wrong = Some(format!("{pod} {name} is started while it runs"));
            return;
        }
        let word = if fault || silent {
            let reason = Reason::new("StartError", "pretended");
            Event::StartFailed { pod: pod.clone(), container: name, reason }
        } else {
            (one.alive, one.asked) = (true, false);
            one.runs += 1;
            one.since = now.steady;
            body.restarts += u64::from(one.runs > 1);
            Event::Started { pod: pod.clone(), container: name, pid: 7 }
        };
        self.say(&pod.key, word);
    }

    fn kill(&mut self, key: &PodKey, cluster: ClusterId, fault: bool) {
        if fault {
            let reason = Reason::new("KillFailed", "pretended");
            return self.say(key, Event::KillFailed { key: key.clone(), reason });
        }
        let bodies = self.bodies.entry(key.clone()).or_default();
        bodies.iter_mut().filter(|body| body.is_of(cluster)).for_each(Body::die);
        let word = match bodies.iter().any(Body::populated) {
            true => Event::OursGone(key.clone()),
            false => Event::PlaceEmpty(key.clone()),
        };
        self.say(key, word);
    }

    fn kill_pod(&mut self, pod: PodRef, fault: bool) {
        let key = pod.key.clone();
        if fault {
            let reason = Reason::new("KillFailed", "pretended");
            return self.say(&key.clone(), Event::KillFailed { key, reason });
        }
        self.body(&pod).into_iter().for_each(Body::die);
        let empty = self.alive_in(&key).next().is_none();
        self.say(&key, Event::PodEmpty(pod));
        if empty {
            self.say(&key.clone(), Event::PlaceEmpty(key));
        }
    }

    fn say(&mut self, key: &PodKey, word: Event) {
        self.words.entry(key.clone()).or_default().push_back(word);
    }

    /// One whose supervisor does as it is told.
    fn answering(&mut self, pod: &PodRef) -> Option<&mut Body> {
        self.body(pod).filter(|body| body.supervisor && !body.silent)
    }

    fn body(&mut self, pod: &PodRef) -> Option<&mut Body> {
        self.bodies.get_mut(&pod.key)?.iter_mut().find(|body| body.uid == pod.uid)
    }
}

fn some_key<T>(queues: &BTreeMap<PodKey, VecDeque<T>>, dice: &mut Dice) -> Option<PodKey> {
    let full = queues.iter().filter(|(_, queue)| !queue.is_empty());
    let full: Vec<&PodKey> = full.map(|(key, _)| key).collect();
    dice.pick(&full).cloned()
}

/// A container, its supervisor or the whole pod dies.
fn misfortune(
    kind: usize,
    key: &PodKey,
    body: &mut Body,
    words: &mut Vec<Event>,
    dice: &mut Dice,
    now: Now,
) {
    match kind {
        // All at once, and nobody is left who could tell of more than an empty place.
        0 => body.die(),
        1 if body.supervisor => {
            body.supervisor = false;
            words.push(Event::SupervisorLost(PodRef { key: key.clone(), uid: body.uid }));
        }
        2 => body.silent = body.supervisor,
        3 => {
            let pod = PodRef { key: key.clone(), uid: body.uid };
            let bytes = if dice.one_in(2) { MOST_ON_DISK + 1 } else { MOST_ON_DISK };
            body.exceeds |= bytes > MOST_ON_DISK;
            let containers = [("main".to_owned(), bytes)].into();
            let used = StorageUse { containers, ..StorageUse::default() };
            words.push(Event::StorageUsed { pod, used });
        }
        _ => {
            let alive = body.procs.iter().filter(|(_, one)| one.alive);
            let alive: Vec<&String> = alive.map(|(name, _)| name).collect();
            let Some(name) = dice.pick(&alive).cloned() else { return };
            let exit = Exit::Code(i32::try_from(dice.below(3)).unwrap_or(0));
            words.extend(end(key, body, &name, exit, now));
        }
    }
}

/// What is done ends well, and what heeds SIGTERM by it.
fn natural_ends(key: &PodKey, body: &mut Body, now: Now) -> Vec<Event> {
    let ending = body.procs.iter().filter(|(_, one)| one.ends(body.stubborn));
    let exit = |one: &Proc| match one.asked {
        true => Exit::Signal(15),
        false => Exit::Code(0),
    };
    let ending: Vec<_> = ending.map(|(name, one)| (name.clone(), exit(one))).collect();
    ending.into_iter().filter_map(|(name, exit)| end(key, body, &name, exit, now)).collect()
}

/// A container ends; told where a supervisor is there.
fn end(key: &PodKey, body: &mut Body, name: &str, exit: Exit, now: Now) -> Option<Event> {
    let one = body.procs.get_mut(name).filter(|one| one.alive)?;
    (one.alive, one.since, one.last_exit) = (false, now.steady, Some(exit));
    body.supervisor.then(|| exited(key, body.uid, name, exit))
}

fn exited(key: &PodKey, uid: PodUid, name: &str, exit: Exit) -> Event {
    let pod = PodRef { key: key.clone(), uid };
    Event::Exited { pod, container: name.to_owned(), exit }
}

fn found(key: &PodKey, body: &Body, now: Now) -> Found {
    Found {
        key: key.clone(),
        pod: Some(body.uid),
        marks: Some(body.marks),
        populated: body.populated(),
        supervised: (body.supervisor && !body.silent).then(|| supervised(body, now)),
        silent: body.supervisor && body.silent,
    }
}

fn supervised(body: &Body, now: Now) -> Supervised {
    let container = |(name, one): (&String, &Proc)| SupervisedContainer {
        name: name.clone(),
        lifecycle: one.life.clone(),
        asked: one.asked && one.alive,
        pid: one.alive.then_some(7),
        last_exit: one.last_exit,
        oom: false,
        for_time: now.steady.since(one.since),
    };
    Supervised {
        set: body.set,
        revision: body.revision,
        replace: body.replace,
        grace: GRACE,
        restart: RestartBackoff::default(),
        created_at: WallTime::from_unix_millis(0),
        terminating: body.terminating,
        limits_in_doubt: body.limits_in_doubt,
        resized_for: None,
        restarts: body.restarts,
        containers: body.procs.iter().map(container).collect(),
    }
}

#[cfg(test)]
mod tests {
    use everynode_model::NodeUid;
    use uuid::Uuid;

    use super::*;
    use crate::names::{BODIES, key, revision};

    /// What is counted of a pod goes on with the next one: that is probed as it was.
    #[test]
    fn pods_of_one_template_have_the_same_containers_whatever_their_limits() {
        let (mut machine, mut dice) = (Machine::new(), Dice::new(1));
        machine.faulty = false;
        let mut plan = |n: u128, body: &str| {
            let pod = PodRef { key: key("a"), uid: PodUid::new(Uuid::from_u128(n)) };
            let marks = Marks { cluster: CLUSTER, node: NodeUid::new(Uuid::from_u128(1)) };
            let create = Action::Create {
                pod: pod.clone(),
                set: SetUid::new(Uuid::from_u128(2)),
                revision: revision(body),
                replace: 0,
                labels: Default::default(),
                restarts: 0,
                beside: None,
            };
            machine.order(&pod.key, marks, create);
            assert!(machine.work(&mut dice, Now::default()));
            machine.bodies.clear();
            let Some(Event::Created { plan, .. }) = machine.hear(&mut dice) else {
                panic!("it was made")
            };
            plan
        };
        let first = plan(0, BODIES[0]);
        for n in 1..10 {
            assert_eq!(plan(n, BODIES[if n % 2 == 0 { 0 } else { 2 }]), first);
        }
    }
}
