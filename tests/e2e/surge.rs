//! A new pod beside the old one: an old and a new, never three, and never none.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use everynode_tests::ground::Ground;
use everynode_tests::manifests::{self, DaemonSet};
use everynode_tests::proc::{self, Process};
use everynode_tests::{Fleet, Outcome, ensure, failure, wait};

/// What runs is a sleep of so many seconds and the revision's number: nothing that ends by itself.
const SECONDS: u64 = 10_000_000;
const PROGRAM: &str = "sleep";

/// For how long a new pod has to be ready: long enough for an agent to be killed meanwhile, and for
/// another to take its place.
const MIN_READY: u32 = 4;

/// Between two looks; a new pod and an old one are there for far longer.
const BETWEEN: Duration = Duration::from_millis(10);

/// What was seen on one machine.
#[derive(Debug, Default)]
struct Seen {
    looks: usize,
    fewest: Option<usize>,
    most: usize,
}

/// An update goes round and every machine has one that runs throughout, also where the agent is killed
/// while there are two; a revision that never becomes ready leaves the old ones alone.
pub(crate) fn an_old_and_a_new_never_three(ground: &Ground) -> Outcome {
    Fleet::play(ground, 2, |fleet| {
        refused_with_a_port(fleet)?;
        fleet.apply(&sleeper(&sleep(1)))?;
        everywhere(fleet, 1)?;
        available(fleet)?;
        let networks: Vec<(String, u64)> = fleet
            .machines()
            .map(|machine| (machine.name().to_owned(), machine.network()))
            .collect();
        let done = AtomicBool::new(false);
        let (played, seen) = thread::scope(|scope| {
            let watch = scope.spawn(|| look_on(&networks, &done));
            let played = updates(fleet);
            done.store(true, Ordering::Release);
            (played, watch.join())
        });
        played?;
        let seen = seen.map_err(|_| failure!("nobody looked on"))?;
        for (machine, Seen { looks, fewest, most }) in &seen {
            ensure!(*looks > 0, "{machine} was not looked at");
            let right = *fewest == Some(1) && *most == 2;
            ensure!(right, "on {machine} from {fewest:?} to {most} were seen in {looks} looks");
        }
        Ok(())
    })
}

fn updates(fleet: &mut Fleet<'_>) -> Outcome {
    fleet.apply(&sleeper(&sleep(2)))?;
    let (name, [old, new]) = wait::soon("one machine has two", || two(fleet))?;
    fleet.machine_mut(&name)?.take_agent()?.kill()?;
    ensure!(old.lives() && new.lives(), "they died with the agent: {old:?} {new:?}");
    fleet.machine_mut(&name)?.start_agent(None)?;
    everywhere(fleet, 2)?;
    ensure!(new.lives(), "the new one was started again: {new:?}");

    fleet.apply(&sleeper("[/bin/false]"))?;
    wait::soon("why the new one does not take over is said", || {
        let why = fleet.tool(&["why"])?.ok()?;
        ensure!(why.contains("CrashLoopBackOff") && why.contains("serves until"), "{why}");
        Ok(())
    })?;
    available(fleet)?;
    everywhere(fleet, 2)?;

    fleet.apply(&sleeper(&sleep(3)))?;
    everywhere(fleet, 3)?;
    fleet.rolled_out("sleeper", "60s")
}

/// In Kubernetes this is a rollout that stands still.
fn refused_with_a_port(fleet: &Fleet<'_>) -> Outcome {
    let exporter = manifests::exporter("").replacen("spec:\n", &format!("spec:\n  {STRATEGY}"), 1);
    let file = fleet.write("with-a-port.yaml", &exporter)?;
    let path = "spec.template.spec.containers[0].ports[0].hostPort: 9100";
    fleet.tool(&["apply", "-f", &file])?.refused(&["maxSurge", path]).map(drop)
}

const STRATEGY: &str = "updateStrategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}\n";

fn sleep(revision: u64) -> String {
    format!("[/bin/{PROGRAM}, '{}']", SECONDS + revision)
}

fn sleeper(command: &str) -> String {
    DaemonSet {
        name: "sleeper",
        spec: &format!("minReadySeconds: {MIN_READY}\n{STRATEGY}"),
        pod: "terminationGracePeriodSeconds: 5\n",
        containers: &format!("- name: sleeper\n  command: {command}\n"),
        ..DaemonSet::default()
    }
    .to_string()
}

/// The sleeps in a network, the oldest first, each with its revision.
fn sleeps(network: u64) -> Vec<(u64, Process)> {
    let revision = |process: &Process| match process.command.as_slice() {
        [_, seconds] if process.program() == PROGRAM => {
            seconds.parse::<u64>().ok()?.checked_sub(SECONDS)
        }
        _ => None,
    };
    let all = proc::in_network(network).into_iter();
    let mut found: Vec<_> = all.filter_map(|one| Some((revision(&one)?, one))).collect();
    found.sort_by_key(|(_, process)| (process.started, process.pid));
    found
}

/// Looks at all machines again and again until it is `done`.
fn look_on(networks: &[(String, u64)], done: &AtomicBool) -> BTreeMap<String, Seen> {
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    while !done.load(Ordering::Acquire) {
        for (machine, network) in networks {
            let count = sleeps(*network).len();
            let so_far = seen.entry(machine.clone()).or_default();
            so_far.looks += 1;
            so_far.fewest = Some(so_far.fewest.map_or(count, |fewest| fewest.min(count)));
            so_far.most = so_far.most.max(count);
        }
        // So that the machines have a processor, too.
        wait::idle(BETWEEN);
    }
    seen
}

fn two(fleet: &Fleet<'_>) -> Outcome<(String, [Process; 2])> {
    for machine in fleet.machines() {
        if let [(_, old), (_, new)] = sleeps(machine.network()).as_slice() {
            return Ok((machine.name().to_owned(), [old.clone(), new.clone()]));
        }
    }
    Err(failure!("no machine has two"))
}

fn everywhere(fleet: &Fleet<'_>, revision: u64) -> Outcome {
    wait::soon(&format!("each machine has one, of revision {revision}"), || {
        for machine in fleet.machines() {
            let here = sleeps(machine.network());
            let right = matches!(here.as_slice(), [(found, _)] if *found == revision);
            ensure!(right, "{}: {here:?}", machine.name());
        }
        Ok(())
    })
}

fn available(fleet: &Fleet<'_>) -> Outcome {
    wait::soon("both are available", || {
        let sets = fleet.tool(&["get", "daemonsets", "-o", "json"])?.json()?;
        let status = &sets["items"][0]["status"];
        ensure!(status["numberAvailable"] == 2, "{status}");
        Ok(())
    })
}
