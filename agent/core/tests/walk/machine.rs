//! A pretended machine: what truly lives in each place, and a runtime that does as it is told, late,
//! in order for each place, and not always with success.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use everynode_agent_core::{
    Action, Event, Found, Handler, HookKind, Hooks, Lifecycle, Marks, Plan, Planned, PodRef, Probe,
    Probes, RestartBackoff, Role, StorageUse, Supervised, SupervisedContainer, Unstaged,
};
use everynode_model::{
    ClusterId, Digest, Exit, Now, PodKey, PodUid, Reason, SetUid, Timestamp, WallTime,
};

use crate::rng::Rng;

pub const GRACE: Duration = Duration::from_secs(5);

/// How many bytes pods may have on disk whose revision says so.
pub const MOST_ON_DISK: u64 = 10;

/// Something that was started and may be alive.
#[derive(Clone, Debug)]
pub struct Body {
    pub uid: Option<PodUid>,
    pub marks: Option<Marks>,
    pub set: SetUid,
    pub revision: Digest,
    pub replace: u64,
    pub supervisor: bool,
    /// The supervisor lives and does not answer.
    pub silent: bool,
    pub terminating: bool,
    /// The revision whose limits hold it; `None` where nobody knows.
    pub limits: Option<Digest>,
    /// Pays no heed to SIGTERM.
    pub stubborn: bool,
    pub restarts: u64,
    pub procs: BTreeMap<String, Proc>,
    /// What was ordered of it, by the names of `procs`.
    pub lives: BTreeMap<String, Lifecycle>,
}

#[derive(Clone, Debug, Default)]
pub struct Proc {
    pub alive: bool,
    /// It was sent SIGTERM.
    pub asked: bool,
    pub runs: u64,
    pub last_exit: Option<Exit>,
    pub since: Timestamp,
}

impl Body {
    pub fn populated(&self) -> bool {
        self.supervisor || self.procs.values().any(|one| one.alive)
    }

    /// Whether all that is to run does, and what is to be done is.
    pub fn is_up(&self) -> bool {
        self.procs.iter().all(|(name, one)| match self.lives.get(name).map(|life| life.role) {
            Some(Role::Init) => one.last_exit == Some(Exit::Code(0)),
            _ => one.alive,
        })
    }

    fn die(&mut self) {
        self.supervisor = false;
        self.procs.values_mut().for_each(|one| one.alive = false);
    }
}

#[derive(Debug)]
pub struct Machine {
    pub ours: Marks,
    /// Those of which this machine is or was.
    pub clusters: BTreeSet<ClusterId>,
    /// The revision that this machine can't honour.
    pub bad: Digest,
    /// Whether things go wrong.
    pub faulty: bool,
    pub bodies: BTreeMap<PodKey, Vec<Body>>,
    jobs: BTreeMap<PodKey, VecDeque<Action>>,
    words: BTreeMap<PodKey, VecDeque<Event>>,
}

impl Machine {
    pub fn new(ours: Marks, bad: Digest) -> Self {
        let (bodies, jobs, words) = Default::default();
        let clusters = [ours.cluster].into();
        Self { ours, clusters, bad, faulty: true, bodies, jobs, words }
    }

    pub fn order(&mut self, key: &PodKey, action: Action) {
        self.jobs.entry(key.clone()).or_default().push_back(action);
    }

    /// The agent died: what it had not done yet is never done, what it was not told it never hears.
    pub fn agent_died(&mut self) {
        self.jobs.clear();
        self.words.clear();
    }

    pub fn idle(&self) -> bool {
        self.jobs.values().all(VecDeque::is_empty) && self.words.values().all(VecDeque::is_empty)
    }

    /// The next word of some place, if there is any.
    pub fn hear(&mut self, rng: &mut Rng) -> Option<Event> {
        let full = self.words.iter().filter(|(_, words)| !words.is_empty());
        let key = rng.pick(&full.map(|(key, _)| key.clone()).collect::<Vec<_>>())?.clone();
        self.words.get_mut(&key)?.pop_front()
    }

    /// Does the next job of some place.
    pub fn work(&mut self, rng: &mut Rng, now: Now) -> Result<(), String> {
        let full = self.jobs.iter().filter(|(_, jobs)| !jobs.is_empty());
        let keys: Vec<PodKey> = full.map(|(key, _)| key.clone()).collect();
        let Some(key) = rng.pick(&keys) else { return Ok(()) };
        let Some(job) = self.jobs.get_mut(key).and_then(VecDeque::pop_front) else { return Ok(()) };
        self.perform(key, job, rng, now)
    }

    /// Something happens by itself.
    pub fn stir(&mut self, rng: &mut Rng, now: Now) {
        let keys: Vec<PodKey> = self.bodies.keys().cloned().collect();
        let Some(key) = rng.pick(&keys).cloned() else { return };
        let faulty = self.faulty;
        let clusters = &self.clusters;
        let bodies = self.bodies.entry(key.clone()).or_default();
        let Some(at) = rng.index(bodies.len()) else { return };
        let body = &mut bodies[at];
        let was = body.populated();
        let mut words = Vec::new();
        if !body.marks.is_some_and(|it| clusters.contains(&it.cluster)) {
            if faulty && rng.one_in(40) {
                body.die();
            }
        } else if body.silent && body.supervisor && !rng.one_in(3) {
            body.silent = faulty && rng.one_in(2);
            if !body.silent {
                let word = Event::Answered(found(&key, body, now));
                words.push(body.uid.map(|_| word));
            }
        } else if body.terminating && body.supervisor && !body.procs.values().any(|it| it.alive) {
            body.die();
        } else if let Some(end) = natural_end(&key, body, faulty, rng, now) {
            words.push(Some(end));
        } else if faulty && rng.one_in(8) {
            words.push(measured(&key, body, rng));
        } else if faulty && rng.one_in(4) {
            words.extend(misfortune(&key, body, rng, now));
        }
        let dead = (was && !bodies[at].populated()).then_some(bodies[at].uid).flatten();
        let emptied = was && !bodies.iter().any(Body::populated);
        let queue = self.words.entry(key.clone()).or_default();
        queue.extend(words.into_iter().flatten());
        // Also of a place's only pod: it must mean nothing then.
        queue.extend(dead.map(|uid| Event::PodEmpty(PodRef { key: key.clone(), uid })));
        if emptied {
            queue.push_back(Event::PlaceEmpty(key));
        }
    }

    /// What a look finds.
    pub fn look(&self, now: Now) -> Vec<Found> {
        let all = self.bodies.iter().flat_map(|(key, bodies)| bodies.iter().map(move |b| (key, b)));
        all.map(|(key, body)| found(key, body, now)).collect()
    }

    fn perform(
        &mut self,
        key: &PodKey,
        job: Action,
        rng: &mut Rng,
        now: Now,
    ) -> Result<(), String> {
        let fault = self.faulty && rng.one_in(5);
        if self.faulty && rng.one_in(20) {
            self.bodies
                .entry(key.clone())
                .or_default()
                .iter_mut()
                .for_each(|body| body.silent = true);
        }
        match job {
            Action::Create { pod, set, revision, replace, restarts, beside, .. } => {
                let other =
                    |body: &Body| body.populated() && (beside.is_none() || body.uid != beside);
                if self.bodies.get(key).is_some_and(|bodies| bodies.iter().any(other)) {
                    return Err(format!("{pod} is made while another lives in its place"));
                }
                let body = Body {
                    uid: Some(pod.uid),
                    marks: Some(self.ours),
                    set,
                    revision,
                    replace,
                    supervisor: true,
                    silent: false,
                    terminating: false,
                    limits: Some(revision),
                    stubborn: rng.one_in(3),
                    restarts,
                    procs: BTreeMap::new(),
                    lives: BTreeMap::new(),
                };
                self.create(pod, body, fault, rng);
            }
            Action::Stage { key, revision, .. } => {
                let reason = Reason::new("ErrImagePull", "pretended");
                let again = Some(Duration::from_secs(rng.below(400) as u64));
                let outcome = if fault { Err(Unstaged { reason, again }) } else { Ok(()) };
                self.say(&key.clone(), Event::Staged { key, revision, outcome });
            }
            Action::Resize { pod, set, revision, replace } => {
                self.resize(pod, (set, revision, replace), fault, rng)?;
            }
            Action::Start { pod, container } => self.start(&pod, container, fault, now)?,
            Action::Terminate(pod) => {
                if let Some(body) = self.body(&pod).filter(|body| body.supervisor && !body.silent) {
                    body.terminating = true;
                    body.procs.values_mut().for_each(|one| one.asked = true);
                }
            }
            Action::Close(pod) => {
                if let Some(body) = self.body(&pod).filter(|body| body.supervisor && !body.silent) {
                    body.terminating = true;
                }
            }
            Action::Stop { pod, container } => {
                if let Some(body) = self.body(&pod).filter(|body| body.supervisor && !body.silent)
                    && let Some(one) = body.procs.get_mut(&container)
                {
                    one.asked = true;
                }
            }
            Action::KillContainer { pod, container } => {
                if let Some(body) = self.body(&pod).filter(|body| body.supervisor && !body.silent) {
                    let word = end(key, body, &container, Exit::Signal(9), now);
                    word.into_iter().for_each(|word| self.say(key, word));
                }
            }
            Action::Probe { pod, container, kind, number, .. } => {
                let fails = fault || (self.faulty && rng.one_in(3));
                let outcome = if fails { Err("pretended".to_owned()) } else { Ok(()) };
                self.say(key, Event::Probed { pod, container, kind, number, outcome });
            }
            Action::Hook { pod, container, hook, number, .. } => {
                let outcome = if fault { Err("pretended".to_owned()) } else { Ok(()) };
                let word = Event::HookDone { pod, container, hook, number, outcome };
                // Some preStop hooks take longer than they may; those that end are told.
                if !(self.faulty && hook == HookKind::PreStop && rng.one_in(3)) {
                    self.say(key, word);
                }
            }
            Action::Kill(key) => self.kill(key, fault),
            Action::KillPod(pod) => self.kill_pod(pod, fault),
            Action::Remove(pod) => {
                if self.body(&pod).is_some_and(|body| body.populated()) {
                    return Err(format!("{pod} is removed alive"));
                }
                self.bodies.entry(pod.key).or_default().retain(|body| body.uid != Some(pod.uid));
            }
            _ => {}
        }
        Ok(())
    }

    fn create(&mut self, pod: PodRef, mut body: Body, fault: bool, rng: &mut Rng) {
        let bad = body.revision == self.bad;
        let in_doubt = fault && rng.one_in(2);
        let plan = plan(rng);
        for one in &plan.containers {
            body.procs.insert(one.name.clone(), Proc::default());
            body.lives.insert(one.name.clone(), one.lifecycle.clone());
        }
        if in_doubt {
            body.supervisor = false;
            body.procs.values_mut().for_each(|one| one.alive = rng.one_in(2));
        }
        if in_doubt || !(fault || bad) {
            self.bodies.entry(pod.key.clone()).or_default().push(body);
        }
        let key = pod.key.clone();
        let word = if fault || bad {
            let reason = Reason::new("CreateFailed", "pretended");
            Event::CreateFailed { pod, reason, retry: !bad, in_doubt }
        } else {
            Event::Created { pod, plan }
        };
        self.say(&key, word);
    }

    /// Whole, or not at all; or nobody knows. Who does not answer may do it all the same.
    fn resize(
        &mut self,
        pod: PodRef,
        (set, to, replace): (SetUid, Digest, u64),
        fault: bool,
        rng: &mut Rng,
    ) -> Result<(), String> {
        let key = pod.key.clone();
        let (in_doubt, silently) = (fault && rng.one_in(3), rng.one_in(2));
        let body = self.body(&pod).filter(|body| body.supervisor);
        let answers = body.as_ref().is_some_and(|body| !body.silent);
        if let Some(body) = body {
            if body.revision == to && answers {
                return Err(format!("{pod} is held to the limits of {to} already"));
            }
            if in_doubt {
                body.limits = None;
            } else if !fault && (answers || silently) {
                (body.set, body.revision, body.replace) = (set, to, replace);
                body.limits = Some(to);
            }
        }
        let word = if fault || !answers {
            let (reason, in_doubt) =
                (Reason::new("ResizeError", "pretended"), in_doubt || !answers);
            Event::ResizeFailed { pod, revision: to, reason, in_doubt }
        } else {
            Event::Resized { pod, revision: to }
        };
        self.say(&key, word);
        Ok(())
    }

    fn start(&mut self, pod: &PodRef, name: String, fault: bool, now: Now) -> Result<(), String> {
        let key = pod.key.clone();
        let Some(body) = self.body(pod).filter(|body| body.supervisor && !body.terminating) else {
            return Ok(());
        };
        let Some(one) = body.procs.get_mut(&name) else {
            return Err(format!("{pod} has no container {name}"));
        };
        if one.alive {
            return Err(format!("{pod} {name} is started while it runs"));
        }
        let word = if fault || body.silent {
            let reason = Reason::new("StartError", "pretended");
            Event::StartFailed { pod: pod.clone(), container: name, reason }
        } else {
            (one.alive, one.asked) = (true, false);
            one.runs += 1;
            one.since = now.steady;
            body.restarts += u64::from(one.runs > 1);
            Event::Started { pod: pod.clone(), container: name, pid: 7 }
        };
        self.say(&key, word);
        Ok(())
    }

    fn kill(&mut self, key: PodKey, fault: bool) {
        if fault {
            let reason = Reason::new("KillFailed", "pretended");
            return self.say(&key.clone(), Event::KillFailed { key, reason });
        }
        let clusters = &self.clusters;
        let bodies = self.bodies.entry(key.clone()).or_default();
        let ours =
            |body: &&mut Body| body.marks.is_some_and(|marks| clusters.contains(&marks.cluster));
        bodies.iter_mut().filter(ours).for_each(Body::die);
        let word = match bodies.iter().any(Body::populated) {
            true => Event::OursGone(key.clone()),
            false => Event::PlaceEmpty(key.clone()),
        };
        self.say(&key, word);
    }

    fn kill_pod(&mut self, pod: PodRef, fault: bool) {
        let key = pod.key.clone();
        if fault {
            let reason = Reason::new("KillFailed", "pretended");
            return self.say(&key.clone(), Event::KillFailed { key, reason });
        }
        self.body(&pod).into_iter().for_each(Body::die);
        let empty = !self.bodies.get(&key).is_some_and(|bodies| bodies.iter().any(Body::populated));
        self.say(&key, Event::PodEmpty(pod));
        if empty {
            self.say(&key.clone(), Event::PlaceEmpty(key));
        }
    }

    fn say(&mut self, key: &PodKey, word: Event) {
        self.words.entry(key.clone()).or_default().push_back(word);
    }

    fn body(&mut self, pod: &PodRef) -> Option<&mut Body> {
        let bodies = self.bodies.get_mut(&pod.key)?;
        bodies.iter_mut().find(|body| body.uid == Some(pod.uid))
    }
}

fn found(key: &PodKey, body: &Body, now: Now) -> Found {
    Found {
        key: key.clone(),
        pod: body.uid,
        marks: body.marks,
        populated: body.populated(),
        supervised: (body.supervisor && !body.silent).then(|| supervised(body, now)),
        silent: body.supervisor && body.silent,
    }
}

/// What it has on disk is measured.
fn measured(key: &PodKey, body: &Body, rng: &mut Rng) -> Option<Event> {
    let pod = PodRef { key: key.clone(), uid: body.uid? };
    let bytes = if rng.one_in(3) { MOST_ON_DISK + 1 } else { MOST_ON_DISK };
    let volumes = [("cache".to_owned(), bytes)].into();
    Some(Event::StorageUsed { pod, used: StorageUse { volumes, ..StorageUse::default() } })
}

/// A container, its supervisor or the whole pod dies.
fn misfortune(key: &PodKey, body: &mut Body, rng: &mut Rng, now: Now) -> Vec<Option<Event>> {
    if rng.one_in(8) {
        // All at once, and nobody is left who could tell of more than an empty place.
        body.die();
        return Vec::new();
    }
    if body.supervisor && rng.one_in(4) {
        body.supervisor = false;
        let uid = body.uid;
        return vec![uid.map(|uid| Event::SupervisorLost(PodRef { key: key.clone(), uid }))];
    }
    let names: Vec<String> =
        body.procs.iter().filter(|(_, one)| one.alive).map(|(name, _)| name.clone()).collect();
    let Some(name) = rng.pick(&names) else { return Vec::new() };
    let exit = Exit::Code(i32::try_from(rng.below(3)).unwrap_or(0));
    vec![end(key, body, name, exit, now)]
}

/// An init container that is done, or one that heeds SIGTERM, ends.
fn natural_end(
    key: &PodKey,
    body: &mut Body,
    faulty: bool,
    rng: &mut Rng,
    now: Now,
) -> Option<Event> {
    let role = |name: &String| body.lives.get(name).map(|life| life.role).unwrap_or_default();
    let ends = |name: &String, one: &Proc| {
        one.alive && (role(name) == Role::Init || (one.asked && !body.stubborn))
    };
    let ending = body.procs.iter().filter(|(name, one)| ends(name, one));
    let ending: Vec<String> = ending.map(|(name, _)| name.clone()).collect();
    let name = rng.pick(&ending)?.clone();
    let done = role(&name) == Role::Init && !(faulty && rng.one_in(3));
    let exit = if done { Exit::Code(0) } else { Exit::Signal(15) };
    end(key, body, &name, exit, now)
}

/// A container ends; told where a supervisor is there.
fn end(key: &PodKey, body: &mut Body, name: &str, exit: Exit, now: Now) -> Option<Event> {
    let one = body.procs.get_mut(name).filter(|one| one.alive)?;
    one.alive = false;
    one.since = now.steady;
    one.last_exit = Some(exit);
    if body.supervisor { exited(key, body.uid, name, exit) } else { None }
}

/// What a template may want: often nothing but one or two main containers.
fn plan(rng: &mut Rng) -> Plan {
    let plain = rng.one_in(2);
    // In the order of their names, which is that of `procs`.
    let roles = [
        ("a", Role::Init),
        ("b", Role::Sidecar),
        ("c", Role::Init),
        ("d", Role::Sidecar),
        ("main", Role::Main),
        ("side", Role::Main),
    ];
    let mut containers = Vec::new();
    for (name, role) in roles {
        if name == "main" || (rng.one_in(2) && (!plain || role == Role::Main)) {
            let lifecycle = if plain { Lifecycle::default() } else { lifecycle(role, rng) };
            containers.push(Planned { name: name.to_owned(), lifecycle });
        }
    }
    Plan { containers, grace: GRACE, restart: RestartBackoff::default() }
}

fn lifecycle(role: Role, rng: &mut Rng) -> Lifecycle {
    let mut lifecycle = Lifecycle { role, ..Lifecycle::default() };
    if role == Role::Init {
        return lifecycle;
    }
    let mut probe = |most: usize| {
        let threshold = |rng: &mut Rng| u32::try_from(1 + rng.below(most)).unwrap_or(1);
        rng.one_in(3).then(|| Probe {
            handler: Handler::Tcp { host: None, port: 1 },
            initial_delay: Duration::from_secs(rng.below(3) as u64),
            period: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            success_threshold: threshold(rng),
            failure_threshold: threshold(rng),
            grace: rng.one_in(2).then(|| Duration::from_secs(3)),
        })
    };
    lifecycle.probes = Probes { startup: probe(1), liveness: probe(1), readiness: probe(2) };
    let mut hook = || rng.one_in(3).then(|| Handler::Exec(vec!["pretended".to_owned()]));
    lifecycle.hooks = Hooks { post_start: hook(), pre_stop: hook() };
    lifecycle
}

fn exited(key: &PodKey, uid: Option<PodUid>, name: &str, exit: Exit) -> Option<Event> {
    let pod = PodRef { key: key.clone(), uid: uid? };
    Some(Event::Exited { pod, container: name.to_owned(), exit })
}

fn supervised(body: &Body, now: Now) -> Supervised {
    let container = |(name, one): (&String, &Proc)| SupervisedContainer {
        name: name.clone(),
        lifecycle: body.lives.get(name).cloned().unwrap_or_default(),
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
        limits_in_doubt: body.limits.is_none(),
        resized_for: None,
        restarts: body.restarts,
        containers: body.procs.iter().map(container).collect(),
    }
}
