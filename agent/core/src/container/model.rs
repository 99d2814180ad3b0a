//! The life of a container as a table: every stage against every event, each cell told and checked.
//! A dot is an event that means nothing there and changes nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use everynode_model::{Exit, Now, PodKey, PodUid, Reason, Timestamp, WallTime};
use uuid::Uuid;

use super::{Container, Doing, Means, Stage};
use crate::backoff::Policy;
use crate::event::{Action, HookKind, ProbeKind};
use crate::spec::{Handler, Hooks, Lifecycle, Planned, PodRef, Probe, Probes, Role};

const GRACE: Duration = Duration::from_secs(30);

const STAGES: [Stage; 9] = [
    Stage::Due,
    Stage::Asked,
    Stage::Hooked,
    Stage::Starting,
    Stage::Up,
    Stage::Ready,
    Stage::Leaving,
    Stage::Ending,
    Stage::Ended,
];

/// What becomes of a main or sidecar container with every probe and hook in each [`Stage`] (columns, in
/// their order) by each event. `Exited 0` of an init container alone differs: see below.
const TABLE: &str = "
                Due      Asked    Hooked   Starting Up       Ready    Leaving  Ending   Ended
  start         Asked    .        .        .        .        .        .        .        .
  Started       Hooked   Hooked   .        .        .        .        .        .        .
  StartFailed   .        Due      .        .        .        .        .        .        .
  Exited        .        Due      Due      Due      Due      Due      Due      Due      .
  PostStart+    .        .        Starting .        .        .        .        .        .
  PostStart-    .        .        Leaving  .        .        .        .        .        .
  Startup+      .        .        .        Up       .        .        .        .        .
  Startup-      .        .        .        Leaving  .        .        .        .        .
  Liveness+     .        .        .        .        .        .        .        .        .
  Liveness-     .        .        .        .        Leaving  Leaving  .        .        .
  Readiness+    .        .        .        .        Ready    .        .        .        .
  Readiness-    .        .        .        .        .        Up       .        .        .
  PreStop+      .        .        .        .        .        .        Ending   .        .
  PreStop-      .        .        .        .        .        .        Ending   .        .
  end           .        .        Leaving  Leaving  Leaving  Leaving  .        .        .
  grace over    .        .        .        .        .        .        Ending   Ending   .
";

/// A container, and the numbers of what is under way in it.
struct Bench {
    container: Container,
    numbers: u64,
    now: Now,
    out: Vec<Action>,
}

fn probe() -> Option<Probe> {
    Some(Probe {
        handler: Handler::Tcp { host: None, port: 1 },
        initial_delay: Duration::ZERO,
        period: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        success_threshold: 1,
        failure_threshold: 1,
        grace: None,
    })
}

fn lifecycle(role: Role) -> Lifecycle {
    let hook = || Some(Handler::Exec(Vec::new()));
    let probes = Probes { startup: probe(), liveness: probe(), readiness: probe() };
    Lifecycle { role, probes, hooks: Hooks { post_start: hook(), pre_stop: hook() } }
}

fn at(secs: u64) -> Now {
    Now { steady: Timestamp::from_start(Duration::from_secs(secs)), wall: WallTime::default() }
}

impl Bench {
    fn new(role: Role) -> Self {
        let planned = Planned { name: "x".into(), lifecycle: lifecycle(role) };
        let container = Container::new(planned, Reason::new("New", ""), at(1000));
        Self { container, numbers: 0, now: at(1000), out: Vec::new() }
    }

    /// One that has come as far as `stage`.
    fn at(stage: Stage, role: Role) -> Self {
        let way: &[&str] = match stage {
            Stage::Due => &[],
            Stage::Asked => &["start"],
            Stage::Hooked => &["start", "Started"],
            Stage::Starting => &["start", "Started", "PostStart+"],
            Stage::Up => &["start", "Started", "PostStart+", "Startup+"],
            Stage::Ready => &["start", "Started", "PostStart+", "Startup+", "Readiness+"],
            Stage::Leaving => &["start", "Started", "end"],
            Stage::Ending => &["start", "Started", "end", "PreStop+"],
            Stage::Ended => &["Ended"],
        };
        let mut bench = Self::new(role);
        way.iter().for_each(|event| bench.happen(event));
        assert_eq!(bench.container.stage(), stage, "the way to it");
        bench
    }

    /// The number of the last such hook or try; where none was ever begun, that of nothing.
    fn number(&self, what: &str) -> u64 {
        let number = |action: &Action| match action {
            Action::Probe { kind, number, .. } => Some((format!("{kind:?}"), *number)),
            Action::Hook { hook, number, .. } => Some((format!("{hook:?}"), *number)),
            _ => None,
        };
        let all = self.out.iter().rev().filter_map(number);
        all.filter(|(label, _)| label == what).map(|(_, number)| number).next().unwrap_or(0)
    }

    /// Time for another try, where one is over.
    fn pass_a_period(&mut self) {
        self.now = at(self.now.steady.since_start().as_secs() + 10);
        self.means(|container, means| container.tend(means));
    }

    /// An event, and what follows from it at once.
    fn happen(&mut self, event: &str) {
        let policy = Policy::default();
        let (now, said) = (self.now, event.trim_end_matches(['+', '-']));
        let number = self.number(said);
        let outcome = || if event.ends_with('+') { Ok(()) } else { Err("no".to_owned()) };
        let container = &mut self.container;
        match said {
            "start" => self.means(|container, means| container.start_if_due(means)),
            "Started" => container.started(7, now),
            "StartFailed" => _ = container.start_failed(&Reason::new("No", ""), &policy, now),
            "Exited" => _ = container.exited(Exit::Code(1), &policy, now),
            "Exited 0" => _ = container.exited(Exit::Code(0), &policy, now),
            "Ended" => container.ended(Exit::Code(1), now),
            "PostStart" => {
                container.hook_done((HookKind::PostStart, number), outcome(), GRACE, now)
            }
            "PreStop" => container.hook_done((HookKind::PreStop, number), outcome(), GRACE, now),
            "Startup" => container.probed((ProbeKind::Startup, number), outcome(), GRACE, now),
            "Liveness" => container.probed((ProbeKind::Liveness, number), outcome(), GRACE, now),
            "Readiness" => container.probed((ProbeKind::Readiness, number), outcome(), GRACE, now),
            "end" => container.end(Reason::new("End", ""), now.steady.after(GRACE)),
            "grace over" => self.now = at(1000 + GRACE.as_secs()),
            other => unreachable!("{other}"),
        }
        self.means(|container, means| container.tend(means));
    }

    fn means(&mut self, act: impl FnOnce(&mut Container, &mut Means<'_>)) {
        let key = PodKey::new("default", "a").unwrap_or_else(|_| unreachable!());
        let pod = PodRef { key, uid: PodUid::new(Uuid::from_u128(1)) };
        let (numbers, out, kill) = (&mut self.numbers, &mut self.out, Policy::default().kill);
        let mut means = Means { pod: &pod, numbers, kill, now: self.now, out };
        act(&mut self.container, &mut means);
    }
}

/// Event, stage, and what becomes of it.
fn cells() -> Vec<(String, Stage, Option<Stage>)> {
    let named = |name: &str| STAGES.into_iter().find(|stage| format!("{stage:?}") == name);
    let mut rows = TABLE.lines().filter(|line| !line.trim().is_empty());
    let heads = rows.next().unwrap_or_default().split_whitespace().map(named);
    let heads: Vec<Stage> = heads.flatten().collect();
    assert_eq!(heads, STAGES, "every stage has a column");
    let row = |line: &str| {
        let (event, becomes) = line.split_at(16);
        let becomes: Vec<_> = becomes.split_whitespace().map(str::to_owned).collect();
        assert_eq!(becomes.len(), STAGES.len(), "{line}");
        let event = event.trim().to_owned();
        let cells = becomes.into_iter().zip(STAGES);
        cells.map(|(becomes, stage)| (event.clone(), stage, named(&becomes))).collect::<Vec<_>>()
    };
    rows.flat_map(row).collect()
}

#[test]
fn every_event_in_every_stage_does_as_the_table_says() {
    for role in [Role::Main, Role::Sidecar] {
        for (event, stage, becomes) in cells() {
            let mut bench = Bench::at(stage, role);
            bench.pass_a_period();
            let before = bench.out.len();
            bench.happen(&event);
            let cell = format!("{event} in {stage:?}");
            assert_eq!(bench.container.stage(), becomes.unwrap_or(stage), "{cell}");
            // Another try is no consequence.
            let done = bench.out[before..].iter().filter(|it| !matches!(it, Action::Probe { .. }));
            assert!(becomes.is_some() || done.count() == 0, "{cell}");
        }
    }
}

#[test]
fn no_cell_is_left_out_and_every_edge_is_walked() {
    let cells = cells();
    let events: BTreeSet<&str> = cells.iter().map(|(event, ..)| event.as_str()).collect();
    assert_eq!((events.len(), cells.len()), (16, 16 * STAGES.len()));
    let reached: BTreeSet<Stage> = cells.iter().filter_map(|(.., becomes)| *becomes).collect();
    let all: BTreeSet<Stage> = STAGES.into_iter().collect();
    let ended: BTreeSet<Stage> = [Stage::Ended].into();
    assert_eq!(&all - &reached, ended, "but the end, of which below");
}

#[test]
fn an_init_container_ends_by_exit_code_0_and_by_nothing_else() {
    for (event, done) in [("Exited 0", true), ("Exited", false)] {
        for stage in STAGES {
            let mut bench = Bench::at(stage, Role::Init);
            bench.happen(event);
            let runs = !matches!(stage, Stage::Due | Stage::Ended);
            let becomes = match (runs, done) {
                (true, true) => Stage::Ended,
                (true, false) => Stage::Due,
                (false, _) => stage,
            };
            assert_eq!(bench.container.stage(), becomes, "{event} in {stage:?}");
            assert_eq!(bench.container.is_done(), runs && done, "{event} in {stage:?}");
        }
    }
}

#[test]
fn who_comes_after_it_waits_for_as_much_as_its_role_says() {
    let past = |role| STAGES.into_iter().filter(move |it| Bench::at(*it, role).container.is_past());
    let sidecar = [Stage::Up, Stage::Ready];
    assert_eq!(past(Role::Sidecar).collect::<Vec<_>>(), sidecar);
    assert_eq!(past(Role::Init).count(), 0, "but where it is done");
    let main: Vec<Stage> = past(Role::Main).collect();
    assert!(!main.contains(&Stage::Asked) && !main.contains(&Stage::Hooked) && main.len() == 7);
}

#[test]
fn only_what_runs_has_a_time_of_its_own_and_only_what_may_start_is_due() {
    for stage in STAGES {
        let bench = Bench::at(stage, Role::Main);
        let runs = matches!(&bench.container.doing, Doing::Runs(_));
        assert_eq!(bench.container.is_up(), runs);
        // Of what waits for an answer of the shell only an end is forced.
        let timed = [Stage::Due, Stage::Ready, Stage::Leaving, Stage::Ending].contains(&stage);
        assert_eq!(bench.container.due(true, false).is_some(), timed, "{stage:?}");
        let waits = bench.container.due(false, true);
        assert_eq!(waits, None, "{stage:?}: neither its turn nor anybody to be told");
    }
}
