//! What is promised of the containers of one pod. The account is kept from events and actions alone;
//! only whether a pod counts as ready is asked of the node.
//!
//! Of a pod that was made by another agent it is not known what its probes and hooks came to: what runs
//! there counts as started.

use std::collections::BTreeMap;

use everynode_model::{Exit, PodKey};

use super::Violation;
use crate::event::{Action, Event, Found, HookKind, ProbeKind};
use crate::node::Node;
use crate::place::Life;
use crate::spec::{Lifecycle, Plan, PodRef, Probe, Role};

/// All pods whose containers are known.
#[derive(Clone, Debug, Default)]
pub(super) struct Lives {
    pods: BTreeMap<PodRef, Account>,
    /// How many events there were.
    step: u64,
}

/// One pod.
#[derive(Clone, Debug, Default)]
struct Account {
    containers: Vec<One>,
    /// At which step it was told to end.
    ends: Option<u64>,
    silent: bool,
}

/// One container.
#[derive(Clone, Debug, Default)]
struct One {
    name: String,
    lifecycle: Lifecycle,
    state: State,
    runs: u64,
    /// An init container that ended with exit code 0.
    done: bool,
    /// A run of it has come past its postStart hook and its startup probe.
    started: bool,
    /// Of the present run.
    run: Run,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Down,
    Starting,
    Up,
}

#[derive(Clone, Debug, Default)]
struct Run {
    /// It began under another agent, which may have seen it start.
    inherited: bool,
    post_start_asked: bool,
    post_start_over: bool,
    startup_passed: bool,
    ready: bool,
    pre_stop_asked: bool,
    /// At which step it was sent SIGTERM.
    told: Option<u64>,
    killed: bool,
    tries: BTreeMap<ProbeKind, Tries>,
}

#[derive(Clone, Debug, Default)]
struct Tries {
    in_flight: Option<u64>,
    succeeded: bool,
    in_a_row: u32,
}

impl Lives {
    /// A pod was made.
    pub(super) fn begin(&mut self, pod: &PodRef, plan: &Plan) {
        let one = |planned: &crate::Planned| One {
            name: planned.name.clone(),
            lifecycle: planned.lifecycle.clone(),
            ..One::default()
        };
        let containers = plan.containers.iter().map(one).collect();
        self.pods.insert(pod.clone(), Account { containers, ..Account::default() });
    }

    pub(super) fn note_event(&mut self, event: &Event) {
        self.step += 1;
        match event {
            Event::Looked(found) => found.iter().for_each(|found| self.find(found)),
            Event::Answered(found) => self.find(found),
            Event::PlaceEmpty(key) | Event::OursGone(key) => {
                self.pods.retain(|pod, _| pod.key != *key);
            }
            Event::SupervisorLost(pod) => _ = self.pods.remove(pod),
            Event::SupervisorSilent(pod) | Event::SupervisorHeard(pod) => {
                let silent = matches!(event, Event::SupervisorSilent(_));
                self.pods.entry(pod.clone()).and_modify(|account| account.silent = silent);
            }
            Event::Started { pod, container, .. } => {
                if let Some(one) = self.one(pod, container) {
                    one.begin_run();
                }
            }
            Event::StartFailed { pod, container, .. } => {
                if let Some(one) = self.one(pod, container).filter(|one| one.state != State::Up) {
                    one.state = State::Down;
                }
            }
            Event::Exited { pod, container, exit } => {
                if let Some(one) = self.one(pod, container) {
                    one.state = State::Down;
                    one.done = one.lifecycle.role == Role::Init && *exit == Exit::Code(0);
                    one.run = Run::default();
                }
            }
            Event::Probed { pod, container, kind, number, outcome } => {
                let silent = self.pods.get(pod).is_some_and(|account| account.silent);
                if let Some(one) = self.one(pod, container) {
                    one.probed((*kind, *number), outcome.is_ok(), silent);
                }
            }
            Event::HookDone { pod, container, hook: HookKind::PostStart, outcome, .. } => {
                if let Some(one) = self.one(pod, container) {
                    one.run.post_start_over = outcome.is_ok();
                    one.note_start();
                }
            }
            _ => {}
        }
    }

    pub(super) fn note_action(&mut self, action: &Action) {
        let step = self.step;
        match action {
            Action::Terminate(pod) | Action::Close(pod) => {
                let account = self.pods.get_mut(pod);
                account.into_iter().for_each(|account| account.ends = Some(step));
            }
            Action::Remove(pod) => _ = self.pods.remove(pod),
            Action::Start { pod, container } => {
                if let Some(one) = self.one(pod, container) {
                    one.state = State::Starting;
                }
            }
            Action::Stop { pod, container } => {
                if let Some(one) = self.one(pod, container) {
                    one.run.told = Some(step);
                }
            }
            Action::KillContainer { pod, container } => {
                if let Some(one) = self.one(pod, container) {
                    one.run.killed = true;
                }
            }
            Action::Probe { pod, container, kind, number, .. } => {
                if let Some(one) = self.one(pod, container) {
                    one.run.tries.entry(*kind).or_default().in_flight = Some(*number);
                }
            }
            Action::Hook { pod, container, hook, .. } => {
                if let Some(one) = self.one(pod, container) {
                    match hook {
                        HookKind::PostStart => one.run.post_start_asked = true,
                        HookKind::PreStop => one.run.pre_stop_asked = true,
                    }
                }
            }
            _ => {}
        }
    }

    /// What is broken by doing this.
    pub(super) fn check(&self, action: &Action) -> Option<Violation> {
        let (pod, name) = match action {
            Action::Start { pod, container }
            | Action::Stop { pod, container }
            | Action::KillContainer { pod, container }
            | Action::Probe { pod, container, .. }
            | Action::Hook { pod, container, .. } => (pod, container),
            _ => return None,
        };
        let account = self.pods.get(pod)?;
        let at = account.containers.iter().position(|one| one.name == *name)?;
        let one = &account.containers[at];
        let broken = |wrong: bool, violation: fn(PodRef, String) -> Violation| {
            wrong.then(|| violation(pod.clone(), name.clone()))
        };
        match action {
            Action::Start { .. } if account.ends.is_some() => {
                broken(true, Violation::StartedWhileEnding)
            }
            Action::Start { .. } => {
                broken(!account.may_start(at) || one.done, Violation::StartedOutOfTurn)
            }
            Action::Probe { kind, .. } => {
                broken(account.ends.is_some() || !one.may_be_tried(*kind), Violation::TriedInVain)
            }
            Action::Hook { hook, .. } => broken(!one.may_be_hooked(*hook), Violation::TriedInVain),
            Action::Stop { .. } => {
                let early = !account.may_end(at, self.step);
                broken(early || one.run.told.is_some(), Violation::EndedOutOfTurn)
            }
            _ => broken(one.run.told.is_none(), Violation::EndedOutOfTurn),
        }
    }

    /// Ready is a pod of which all main containers and sidecars are, and no other.
    pub(super) fn check_ready(&self, node: &Node) -> Option<Violation> {
        let unlike = |(pod, account): (&PodRef, &Account)| {
            let place = node.place(&pod.key)?;
            let running = |life: &Life| match life {
                Life::Running(it) if it.at == *pod => Some(it.ready_since.is_some()),
                _ => None,
            };
            let said = place.lives().find_map(running)?;
            let is = account.is_ready()?;
            (said != is).then(|| Violation::ReadyOrNot(pod.clone()))
        };
        self.pods.iter().find_map(unlike)
    }

    /// Whether this container may be started: it is known, and was not started since it was down.
    pub(super) fn is_down(&self, pod: &PodRef, name: &str) -> bool {
        let account = self.pods.get(pod);
        let one = account.and_then(|it| it.containers.iter().find(|one| one.name == name));
        one.is_some_and(|one| one.state == State::Down)
    }

    /// Whether something starts or runs in this place of which the answer or the end will be told.
    pub(super) fn goes_on(&self, key: &PodKey) -> bool {
        let here = self.pods.iter().filter(|(pod, _)| pod.key == *key);
        here.flat_map(|(_, account)| &account.containers).any(|one| {
            let inits = one.lifecycle.role == Role::Init && one.state == State::Up;
            let hooked = one.run.post_start_asked && !one.run.post_start_over;
            let tried = one.run.tries.values().any(|tries| tries.in_flight.is_some());
            one.state == State::Starting || inits || one.state == State::Up && (hooked || tried)
        })
    }

    fn find(&mut self, found: &Found) {
        let (Some(uid), Some(supervised)) = (found.pod, &found.supervised) else { return };
        let last = supervised.containers.iter().rposition(|one| one.has_run()).unwrap_or(0);
        let one = |(n, found): (usize, &crate::SupervisedContainer)| {
            let up = found.pid.is_some();
            let starts_at_once = found.lifecycle.probes.startup.is_none();
            let run = Run {
                inherited: up,
                post_start_asked: up,
                post_start_over: up,
                told: found.asked.then_some(self.step),
                ..Run::default()
            };
            One {
                name: found.name.clone(),
                lifecycle: found.lifecycle.clone(),
                state: if up { State::Up } else { State::Down },
                runs: u64::from(found.has_run()),
                done: !up && found.last_exit == Some(Exit::Code(0)) && is_init(&found.lifecycle),
                started: n < last || (up && !found.asked && starts_at_once),
                run,
            }
        };
        let containers = supervised.containers.iter().enumerate().map(one).collect();
        let ends = supervised.terminating.then_some(self.step);
        let pod = PodRef { key: found.key.clone(), uid };
        // Of one that is known already the node believes what it saw.
        self.pods.entry(pod).or_insert(Account { containers, ends, silent: false });
    }

    fn one(&mut self, pod: &PodRef, name: &str) -> Option<&mut One> {
        self.pods.get_mut(pod)?.containers.iter_mut().find(|one| one.name == name)
    }
}

impl Account {
    /// No main container before every init container is done and every sidecar has started; those one
    /// after the other.
    fn may_start(&self, at: usize) -> bool {
        let one = &self.containers[at];
        self.containers[..at].iter().all(|before| match before.lifecycle.role {
            Role::Init => before.done,
            Role::Sidecar => before.started,
            Role::Main => one.runs > 0 || !before.is_starting(),
        })
    }

    /// In a pod that ends, sidecars after all main containers and later sidecars; but where the time was
    /// over and those were killed, or are told in the same step, which is not the one that began it. (That
    /// the time is over is not seen of one whose start was never answered.)
    fn may_end(&self, at: usize, step: u64) -> bool {
        let ordered = self.ends.is_some() && self.containers[at].lifecycle.role == Role::Sidecar;
        let over = |one: &One| {
            one.state == State::Down
                || one.run.killed
                || ((one.run.told == Some(step) || one.state == State::Starting)
                    && self.ends != Some(step))
        };
        !ordered || self.containers[at + 1..].iter().all(over)
    }

    /// `None` where that is not known.
    fn is_ready(&self) -> Option<bool> {
        let asked = self.containers.iter().filter(|one| !is_init(&one.lifecycle));
        let each: Vec<Option<bool>> = asked.map(One::is_ready).collect();
        if self.silent || each.is_empty() || each.contains(&Some(false)) {
            return Some(false);
        }
        (!each.contains(&None)).then_some(true)
    }
}

impl One {
    fn begin_run(&mut self) {
        if self.state != State::Up {
            (self.state, self.run) = (State::Up, Run::default());
            self.runs += 1;
            self.note_start();
        }
    }

    fn is_starting(&self) -> bool {
        let hooked = self.lifecycle.hooks.post_start.is_some() && !self.run.post_start_over;
        let ends = self.run.pre_stop_asked || self.run.told.is_some();
        self.state == State::Starting || (self.state == State::Up && hooked && !ends)
    }

    /// Whether the present run has come past its hook and its startup probe.
    fn has_started(&self) -> bool {
        let hooks = self.lifecycle.hooks.post_start.is_none() || self.run.post_start_over;
        hooks && (self.lifecycle.probes.startup.is_none() || self.run.startup_passed)
    }

    fn note_start(&mut self) {
        self.started |= self.state == State::Up && self.has_started();
    }

    fn may_be_tried(&self, kind: ProbeKind) -> bool {
        let free = self.run.tries.get(&kind).is_none_or(|tries| tries.in_flight.is_none());
        let hooks = self.lifecycle.hooks.post_start.is_none() || self.run.post_start_over;
        let ends = self.run.told.is_some() || self.run.pre_stop_asked;
        let first = kind == ProbeKind::Startup || self.has_started() || self.run.inherited;
        self.state == State::Up && free && hooks && !ends && first
    }

    fn may_be_hooked(&self, hook: HookKind) -> bool {
        let asked = match hook {
            HookKind::PostStart => self.run.post_start_asked,
            HookKind::PreStop => self.run.pre_stop_asked || self.run.told.is_some(),
        };
        self.state == State::Up && !asked
    }

    /// `None` where that is not known.
    fn is_ready(&self) -> Option<bool> {
        let ends = self.run.told.is_some() || self.run.pre_stop_asked;
        let ready = self.lifecycle.probes.readiness.is_none() || self.run.ready;
        let known = self.has_started() || !self.run.inherited;
        let is = self.state == State::Up && !ends && ready;
        if is && !known { None } else { Some(is && self.has_started()) }
    }

    fn probed(&mut self, (kind, number): (ProbeKind, u64), well: bool, silent: bool) {
        let probe = self.lifecycle.probes.of(kind);
        let tries = self.run.tries.entry(kind).or_default();
        let (Some(probe), true) = (probe, tries.in_flight == Some(number)) else { return };
        tries.in_flight = None;
        if silent {
            return;
        }
        let verdict = tries.count(probe, well);
        match (kind, verdict) {
            (ProbeKind::Readiness, Some(well)) => self.run.ready = well,
            (ProbeKind::Startup, Some(true)) => self.run.startup_passed = true,
            _ => {}
        }
        self.note_start();
    }
}

impl Tries {
    fn count(&mut self, probe: &Probe, well: bool) -> Option<bool> {
        self.in_a_row = if well == self.succeeded { self.in_a_row.saturating_add(1) } else { 1 };
        self.succeeded = well;
        let enough = if well { probe.success_threshold } else { probe.failure_threshold };
        (self.in_a_row >= enough).then_some(well)
    }
}

fn is_init(lifecycle: &Lifecycle) -> bool {
    lifecycle.role == Role::Init
}
