//! One pod on the bench: its events and actions, told in short.

use std::time::Duration;

use everynode_agent_core::{
    Action, Event, Handler, HookKind, Lifecycle, Plan, Planned, PodRef, Probe, ProbeKind,
    RestartBackoff, Role, SupervisedContainer,
};
use everynode_model::Exit;

use crate::bench::{Bench, GRACE, OURS, found, item, made};

/// One pod, whose events and actions are told in short.
pub struct Pod {
    pub bench: Bench,
    pub at: PodRef,
    /// What is to be done and was not read yet.
    pub open: Vec<String>,
    /// The last number of each try and hook: `a Liveness`.
    numbers: Vec<(String, u64)>,
}

pub fn named(name: &str, role: Role) -> Planned {
    Planned { name: name.into(), lifecycle: Lifecycle { role, ..Lifecycle::default() } }
}

pub fn init(name: &str) -> Planned {
    named(name, Role::Init)
}

pub fn sidecar(name: &str) -> Planned {
    named(name, Role::Sidecar)
}

pub fn main(name: &str) -> Planned {
    named(name, Role::Main)
}

pub fn probe() -> Probe {
    Probe {
        handler: Handler::Tcp { host: None, port: 80 },
        initial_delay: Duration::ZERO,
        period: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        success_threshold: 1,
        failure_threshold: 3,
        grace: None,
    }
}

pub fn with(mut one: Planned, change: impl FnOnce(&mut Lifecycle)) -> Planned {
    change(&mut one.lifecycle);
    one
}

pub fn startup(one: Planned) -> Planned {
    with(one, |it| it.probes.startup = Some(probe()))
}

pub fn liveness(one: Planned) -> Planned {
    with(one, |it| it.probes.liveness = Some(probe()))
}

pub fn readiness(one: Planned) -> Planned {
    with(one, |it| it.probes.readiness = Some(probe()))
}

pub fn post_start(one: Planned) -> Planned {
    with(one, |it| it.hooks.post_start = Some(Handler::Exec(vec!["hello".into()])))
}

pub fn pre_stop(one: Planned) -> Planned {
    with(one, |it| it.hooks.pre_stop = Some(Handler::Sleep(Duration::from_secs(5))))
}

impl Pod {
    pub fn new(containers: impl IntoIterator<Item = Planned>) -> Self {
        Self::waiting(containers, RestartBackoff::default())
    }

    pub fn waiting(containers: impl IntoIterator<Item = Planned>, restart: RestartBackoff) -> Self {
        let mut bench = Bench::new();
        let at = made(&bench.accept([item("a", "1")]));
        let mut pod = Self { bench, at, open: Vec::new(), numbers: Vec::new() };
        let containers = containers.into_iter().collect();
        let plan = Plan { containers, grace: GRACE, restart };
        let at = pod.at.clone();
        pod.apply(Event::Created { pod: at, plan });
        pod
    }

    pub fn take(&mut self, actions: Vec<Action>) {
        for action in actions {
            let line = match &action {
                Action::Start { container, .. } => format!("start {container}"),
                Action::Stop { container, .. } => format!("stop {container}"),
                Action::KillContainer { container, .. } => format!("kill {container}"),
                Action::Probe { container, kind, number, .. } => {
                    self.numbers.push((format!("{container} {kind:?}"), *number));
                    format!("try {container} {kind:?}")
                }
                Action::Hook { container, hook, number, within, .. } => {
                    self.numbers.push((format!("{container} {hook:?}"), *number));
                    match within {
                        Some(within) => format!("hook {container} {hook:?} {}s", within.as_secs()),
                        None => format!("hook {container} {hook:?}"),
                    }
                }
                Action::Terminate(_) => "terminate".to_owned(),
                Action::Close(_) => "close".to_owned(),
                Action::Kill(_) => "kill all".to_owned(),
                Action::Remove(_) => "remove".to_owned(),
                Action::Create { .. } => "create".to_owned(),
                other => format!("{other:?}"),
            };
            self.open.push(line);
        }
    }

    pub fn apply(&mut self, event: Event) {
        let actions = self.bench.apply(event);
        self.take(actions);
    }

    /// What is to be done since this was asked last.
    #[track_caller]
    pub fn does(&mut self, expected: &[&str]) -> &mut Self {
        assert_eq!(std::mem::take(&mut self.open), expected);
        self
    }

    pub fn started(&mut self, name: &str) -> &mut Self {
        let (pod, container) = (self.at.clone(), name.to_owned());
        self.apply(Event::Started { pod, container, pid: 7 });
        self
    }

    pub fn exits(&mut self, name: &str, exit: Exit) -> &mut Self {
        let (pod, container) = (self.at.clone(), name.to_owned());
        self.apply(Event::Exited { pod, container, exit });
        self
    }

    pub fn number(&self, name: &str, what: &str) -> u64 {
        let label = format!("{name} {what}");
        self.numbers.iter().rev().find(|(other, _)| *other == label).unwrap().1
    }

    pub fn tried(&mut self, name: &str, kind: ProbeKind, well: bool) -> &mut Self {
        let number = self.number(name, &format!("{kind:?}"));
        let outcome = if well { Ok(()) } else { Err("connection refused".to_owned()) };
        let (pod, container) = (self.at.clone(), name.to_owned());
        self.apply(Event::Probed { pod, container, kind, number, outcome });
        self
    }

    pub fn hooked(&mut self, name: &str, hook: HookKind, well: bool) -> &mut Self {
        let number = self.number(name, &format!("{hook:?}"));
        let outcome = if well { Ok(()) } else { Err("exit code 1".to_owned()) };
        let (pod, container) = (self.at.clone(), name.to_owned());
        self.apply(Event::HookDone { pod, container, hook, number, outcome });
        self
    }

    pub fn pass(&mut self, seconds: u64) -> &mut Self {
        let actions = self.bench.pass_secs(seconds);
        self.take(actions);
        self
    }

    /// Nothing is wanted any more.
    pub fn end(&mut self) -> &mut Self {
        let actions = self.bench.accept([]);
        self.take(actions);
        self
    }

    /// The seconds until it wakes by itself.
    pub fn wakes_in(&self) -> Option<u64> {
        let at = self.bench.node.wake_at()?;
        Some(at.since(self.bench.now().steady).as_secs())
    }

    pub fn is_ready(&self) -> bool {
        self.bench.status("a").ready
    }

    pub fn reason(&self) -> String {
        self.bench.status("a").reason.map(|reason| reason.to_string()).unwrap_or_default()
    }

    /// The last failure's code and message.
    pub fn failure(&self) -> (String, String) {
        let failure = self.bench.status("a").last_failure.unwrap();
        (failure.reason.code, failure.reason.message)
    }
}

pub fn supervised(one: Planned, pid: Option<u32>, last_exit: Option<Exit>) -> SupervisedContainer {
    let Planned { name, lifecycle } = one;
    let for_time = Duration::from_secs(5);
    SupervisedContainer { name, lifecycle, asked: false, pid, last_exit, oom: false, for_time }
}

/// The same pod under a new agent.
pub fn adopted(containers: Vec<SupervisedContainer>, terminating: bool, wanted: bool) -> Pod {
    let mut former = Bench::running([item("a", "1")]);
    if !wanted {
        former.accept([]);
    }
    let mut alive = found(&item("a", "1"), 50, Some(OURS));
    let supervised = alive.supervised.as_mut().unwrap();
    (supervised.containers, supervised.terminating) = (containers, terminating);
    let at = PodRef { key: alive.key.clone(), uid: alive.pod.unwrap() };
    let (bench, actions) = former.restarted(vec![alive]);
    let mut pod = Pod { bench, at, open: Vec::new(), numbers: Vec::new() };
    pod.take(actions);
    pod
}
