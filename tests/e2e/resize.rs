//! Limits of a daemon are changed as it runs: nobody is restarted, and what can't be done so is a
//! replacement.

use std::fs;
use std::path::PathBuf;

use everynode_tests::ground::Ground;
use everynode_tests::manifests::{self, DaemonSet};
use everynode_tests::proc::{self, Process};
use everynode_tests::runner::say;
use everynode_tests::{Fleet, Outcome, cgroups, ensure, failure, wait};
use rustix::process::Signal;

const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// What a daemon may use: memory in MiB, processors in percent of one, processes.
#[derive(Clone, Copy, Debug)]
struct Limits {
    memory: u64,
    cpu: u64,
    pids: u64,
}

const FIRST: Limits = Limits { memory: 64, cpu: 20, pids: 50 };
const MORE: Limits = Limits { memory: 96, cpu: 40, pids: 60 };
const LESS: Limits = Limits { memory: 48, cpu: 10, pids: 40 };

/// The pod of a node and its first process.
type Who = (String, u32);

pub(crate) fn limits_change_as_they_run(ground: &Ground) -> Outcome {
    Fleet::play(ground, 3, |fleet| {
        let node = fleet.tool(&["describe", "node", "n1"])?.ok()?;
        if !node.contains("ControllersFound") {
            say("resize::limits_change_as_they_run: skipped, not all controllers are here");
            return Ok(());
        }
        apply(fleet, FIRST, "")?;
        let before = all(fleet)?;
        full(fleet)?;
        for limits in [MORE, LESS] {
            apply(fleet, limits, "")?;
            are_held_to(fleet, limits)?;
            ensure!(all(fleet)? == before, "somebody was restarted for {limits:?}");
        }
        shown(fleet)?;
        fleet.tool(&["rollout", "undo", "daemonset/limited"])?.ok()?;
        fleet.rolled_out("limited", "60s")?;
        are_held_to(fleet, MORE)?;
        ensure!(all(fleet)? == before, "to go back has restarted somebody");
        an_agent_dies_in_the_middle(fleet, &before)?;
        what_else_is_a_replacement(fleet)
    })
}

/// It is killed once it has begun, comes back, and all is as it was ordered.
fn an_agent_dies_in_the_middle(fleet: &mut Fleet<'_>, before: &[Who]) -> Outcome {
    // Its supervisor does not answer meanwhile.
    let main = process(fleet, "n1")?;
    let shim = fleet.machine("n1")?.shim_of(&main)?;
    proc::signal(shim.pid, Signal::STOP)?;
    let written = fleet.write("limited.yaml", &manifest(fleet, FIRST, ""))?;
    fleet.tool(&["apply", "-f", &written])?.ok()?;
    wait::soon("the agent has begun", || {
        let log = fleet.machine("n1")?.log();
        ensure!(log.matches("changing its limits").count() > 3, "{log}");
        Ok(())
    })?;
    fleet.machine_mut("n1")?.take_agent()?.kill()?;
    proc::signal(shim.pid, Signal::CONT)?;
    fleet.machine_mut("n1")?.start_agent(None)?;
    fleet.rolled_out("limited", "60s")?;
    are_held_to(fleet, FIRST)?;
    ensure!(all(fleet)? == before, "somebody was restarted");
    Ok(())
}

fn what_else_is_a_replacement(fleet: &Fleet<'_>) -> Outcome {
    let before = all(fleet)?;
    full(fleet)?;
    apply(fleet, Limits { memory: 12, ..FIRST }, "")?;
    let told = told(fleet)?;
    ensure!(told.contains("ResizeError") && told.contains("below its use"), "{told}");
    let before = replaced(fleet, &before)?;
    apply(fleet, FIRST, "")?;
    ensure!(all(fleet)? == before, "who has room is given more as it runs");

    let restarts = "resizePolicy:\n  - {resourceName: memory, restartPolicy: RestartContainer}\n";
    apply(fleet, FIRST, restarts)?;
    let before = replaced(fleet, &before)?;
    apply(fleet, MORE, restarts)?;
    replaced(fleet, &before)?;
    are_held_to(fleet, MORE)
}

/// All have filled their memory.
fn full(fleet: &Fleet<'_>) -> Outcome {
    wait::soon("all have filled their memory", || {
        for node in NODES {
            ensure!(fleet.machine(node)?.running("tail").len() == 1, "{node} has not yet");
        }
        Ok(())
    })
}

/// All nodes have another pod than before.
fn replaced(fleet: &Fleet<'_>, before: &[Who]) -> Outcome<Vec<Who>> {
    wait::soon("all are replaced", || {
        let now = all(fleet)?;
        let same = now.iter().zip(before).filter(|(now, before)| now.0 == before.0).count();
        ensure!(same == 0, "{same} are the same: {now:?}");
        Ok(now)
    })
}

/// People see what it is and what became of it.
fn shown(fleet: &Fleet<'_>) -> Outcome {
    let pod = fleet.pod("limited", "n2")?;
    let limits = &pod["spec"]["containers"][0]["resources"]["limits"];
    let bytes = (LESS.memory << 20).to_string();
    ensure!(limits["memory"].as_str() == Some(&bytes), "{limits}");
    let events = told(fleet)?;
    ensure!(events.contains("ResizeCompleted"), "{events}");
    let why = fleet.tool(&["why"])?.ok()?;
    ensure!(!why.contains("PodResizeInProgress"), "{why}");
    Ok(())
}

fn told(fleet: &Fleet<'_>) -> Outcome<String> {
    fleet.tool(&["get", "events", "-A"])?.ok()
}

fn apply(fleet: &Fleet<'_>, limits: Limits, more: &str) -> Outcome {
    fleet.apply(&manifest(fleet, limits, more))?;
    fleet.rolled_out("limited", "60s")
}

fn manifest(fleet: &Fleet<'_>, Limits { memory, cpu, pids }: Limits, more: &str) -> String {
    // Who comes after the first one on its node uses next to nothing.
    let script = format!(
        "f={}-$NODE; [ -e $f ] || {{ : >$f; x=$(head -c 16777216 /dev/zero | tr '\\0' x); }}; \
         while :; do tail -f /dev/null; done",
        fleet.path("full").display()
    );
    let more = if more.is_empty() { String::new() } else { format!("  {more}") };
    let limits = format!(
        "  resources:\n    limits: {{cpu: {cpu}0m, memory: {memory}Mi}}\n    requests: {{cpu: 50m}}\n{more}"
    );
    let annotations = format!(
        "annotations:\n  everynode.dev/require-limits: 'true'\n  everynode.dev/pids-limit: '{pids}'\n"
    );
    DaemonSet {
        name: "limited",
        template: &annotations,
        pod: "terminationGracePeriodSeconds: 1\n",
        containers: &(manifests::script("main", &script) + manifests::KNOWS_ITS_NODE + &limits),
        ..DaemonSet::default()
    }
    .to_string()
}

/// On each node, by name, the pod and its first process.
fn all(fleet: &Fleet<'_>) -> Outcome<Vec<Who>> {
    let one = |node: &str| {
        let pod = fleet.pod("limited", node)?;
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        Ok((uid, process(fleet, node)?.pid))
    };
    NODES.into_iter().map(one).collect()
}

/// The shell that is the container's first process, and ever was.
fn process(fleet: &Fleet<'_>, node: &str) -> Outcome<Process> {
    let found = cgroups::members(&fleet.machine(node)?.cgroup()).into_iter();
    let mut of_it =
        found.filter(|(cgroup, _)| cgroup.ends_with("c-main")).map(|(_, process)| process);
    let first = of_it.by_ref().min_by_key(|process| process.pid);
    first.ok_or_else(|| failure!("nothing runs on {node}"))
}

/// The kernel's files say so, of each pod and its container, whichever hierarchy they are in.
fn are_held_to(fleet: &Fleet<'_>, Limits { memory, cpu, pids }: Limits) -> Outcome {
    let (bytes, quota) = ((memory << 20).to_string(), (cpu * 1000).to_string());
    let files = [
        ("memory.max", bytes.clone(), 2),
        ("memory.limit_in_bytes", bytes, 2),
        ("cpu.max", format!("{quota} 100000"), 2),
        ("cpu.cfs_quota_us", quota, 2),
        ("pids.max", pids.to_string(), 1),
    ];
    for node in NODES {
        let root = fleet.machine(node)?.cgroup();
        let trees = [vec![root.clone()], cgroups::legacy_of(&root)?].concat();
        let of_pod = |path: &PathBuf| {
            let pod = path.ends_with("c-main") || path.join("c-main").is_dir();
            pod && path.iter().any(|part| part == "d-limited")
        };
        let all: Vec<PathBuf> =
            trees.iter().flat_map(|tree| cgroups::tree(tree)).filter(of_pod).collect();
        let mut kinds = 0;
        for (file, value, levels) in &files {
            let read = |path: &PathBuf| fs::read_to_string(path.join(file)).ok();
            let found: Vec<String> = all.iter().filter_map(read).collect();
            let right = found.iter().filter(|text| text.trim() == *value).count();
            kinds += usize::from(!found.is_empty());
            ensure!(
                found.is_empty() || right == *levels,
                "{node}: {file} is {found:?}, not {value}"
            );
        }
        ensure!(kinds >= 3, "{node}: not all that limits it was found");
    }
    Ok(())
}
