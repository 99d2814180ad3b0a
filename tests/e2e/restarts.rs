//! An hour of restarts in the time that they take: what only grows with them shows.
//!
//! In an hour the kubelet starts a container that always fails some 16 times again: after 10 s, 20 s,
//! 40 s … and then every five minutes. So all 64 containers of 16 pods that do nothing but fail come to
//! some thousand restarts in that time. Here containers fail every second, fail a probe, or are
//! replaced by an update, until there were as many under one agent; then nothing that it and its
//! supervisors hold may be half as much again as after the first quarter of them: memory, threads,
//! descriptors, files, the ledger.
//!
//! ```text
//!   tests/chaos --hour                4,000 restarts: four such hours
//! ```
//!
//! - `EVERYNODE_RESTARTS=N`: how many (300 without).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use everynode_tests::ground::Ground;
use everynode_tests::manifests::{DaemonSet, script};
use everynode_tests::{Fleet, Machine, Outcome, cgroups, ensure, failure, proc, runner, wait};

/// How many restarts there are where nobody says: what takes some seconds.
const RESTARTS: u64 = 300;
/// Pods that fail, and the containers of each.
const FAILING: [&str; 4] = ["failing-0", "failing-1", "failing-2", "failing-3"];
const CONTAINERS: usize = 8;
/// One whose containers are well until they are probed.
const SICK: &str = "sick";
const SICK_CONTAINERS: usize = 4;
/// One that is updated all the time.
const UPDATED: &str = "updated";

const AGENT_THREADS: &str = "agent: threads";

/// How often is looked for one account: what comes and goes is not there at every look.
const LOOKS: usize = 15;

/// How much more there may be in the end than after the first quarter, in percent: allocators keep some,
/// and threads that wait for files go after ten seconds. One of anything for each restart would be many
/// times as much, but for memory by the thousand restarts only.
const MAY_GROW: u64 = 50;

/// The one that decides, and those that wait for disks: never more.
const THREADS: u64 = 9;

/// What is held, by kind.
type Account = BTreeMap<&'static str, u64>;

/// See the module.
pub(crate) fn nothing_grows_with_them(ground: &Ground) -> Outcome {
    let wanted = std::env::var("EVERYNODE_RESTARTS").ok().and_then(|text| text.parse().ok());
    let wanted = wanted.unwrap_or(RESTARTS);
    Fleet::play(ground, 1, |fleet| play(fleet, wanted))
}

fn play(fleet: &Fleet<'_>, wanted: u64) -> Outcome {
    let begun = Instant::now();
    let mut updates = 0;
    for set in FAILING {
        fleet.apply(&pod(set, "", &fails()))?;
    }
    fleet.apply(&pod(SICK, "terminationGracePeriodSeconds: 1\n", &sick()))?;
    until(fleet, wanted / 4, &mut updates)?;
    let (warm, early) = (account(fleet, u64::max)?, restarts(fleet)? + updates);
    until(fleet, wanted, &mut updates)?;
    let (end, all) = (account(fleet, u64::min)?, restarts(fleet)? + updates);
    runner::say(&format!(
        "restarts: {all}, of which {updates} updates, in {} s; after {early} of them → now:",
        begun.elapsed().as_secs()
    ));
    for (kind, before) in &warm {
        let now = end.get(kind).copied().unwrap_or_default();
        runner::say(&format!("restarts:   {kind}: {before} → {now}"));
    }
    for (kind, before) in &warm {
        let now = end.get(kind).copied().unwrap_or_default();
        let most = match *kind {
            AGENT_THREADS => THREADS,
            _ => before + before * MAY_GROW / 100,
        };
        ensure!(now <= most, "{kind}: {before} became {now} with {} restarts", all - early);
    }
    for set in FAILING.iter().chain(&[SICK, UPDATED]) {
        fleet.tool(&["delete", "daemonset", set])?.ok()?;
    }
    wait::soon("nothing is left", || fleet.machine("n1")?.empty())
}

/// Updates until there were so many restarts and updates together.
fn until(fleet: &Fleet<'_>, wanted: u64, updates: &mut u64) -> Outcome {
    while restarts(fleet)? + *updates < wanted {
        *updates += 1;
        let variable = format!("  env: [{{name: UPDATE, value: '{updates}'}}]\n");
        fleet.apply(&pod(UPDATED, "", &(script("main", "exec sleep 1000000") + &variable)))?;
        fleet.rolled_out(UPDATED, "60s")?;
    }
    Ok(())
}

/// As people are shown them.
fn restarts(fleet: &Fleet<'_>) -> Outcome<u64> {
    let rows = fleet.tool(&["get", "pods", "--no-headers"])?.ok()?;
    let count = |row: &str| row.split_whitespace().nth(3)?.parse::<u64>().ok();
    Ok(rows.lines().filter_map(count).sum())
}

/// What is held, as `which` of what each look finds.
fn account(fleet: &Fleet<'_>, which: fn(u64, u64) -> u64) -> Outcome<Account> {
    let machine = fleet.machine("n1")?;
    let mut all = look(machine)?;
    for _ in 1..LOOKS {
        wait::idle(wait::BETWEEN);
        for (kind, now) in look(machine)? {
            all.entry(kind).and_modify(|before| *before = which(*before, now)).or_insert(now);
        }
    }
    Ok(all)
}

fn look(machine: &Machine) -> Outcome<Account> {
    let agent = machine.agent_pid().ok_or_else(|| failure!("no agent runs"))?;
    let members = cgroups::members(&machine.cgroup());
    let supervisors = members.iter().filter(|(cgroup, _)| cgroup.ends_with("shim"));
    let mut all = Account::from([
        ("agent: resident KiB", proc::resident(agent)?),
        (AGENT_THREADS, proc::threads(agent)?),
        ("agent: descriptors", count(proc::open_files(agent).len())),
        ("zombies", count(proc::zombies_of(&[agent]).len())),
        ("cgroups", count(cgroups::tree(&machine.cgroup()).len())),
        ("ledger bytes", fs::metadata(machine.data_dir().join("ledger.a"))?.len()),
    ]);
    let (files, bytes) = size(&machine.data_dir());
    all.extend([("files", files), ("bytes of files", bytes)]);
    for (_, supervisor) in supervisors {
        // One that is replaced just now is none.
        let Ok(resident) = proc::resident(supervisor.pid) else { continue };
        let open = count(proc::open_files(supervisor.pid).len());
        for (kind, now) in
            [("a supervisor: resident KiB", resident), ("a supervisor: descriptors", open)]
        {
            all.entry(kind).and_modify(|most| *most = now.max(*most)).or_insert(now);
        }
    }
    Ok(all)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// How many files are in a directory and below it, and how many bytes they have.
fn size(dir: &Path) -> (u64, u64) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.fold((0, 0), |(files, bytes), entry| {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let (below, size) = match is_dir {
            true => self::size(&entry.path()),
            false => (0, entry.metadata().map_or(0, |about| about.len())),
        };
        (files + below + 1, bytes + size)
    })
}

/// Containers that end at once.
fn fails() -> String {
    let one = |n| script(&format!("c{n}"), "echo one more; exit 1");
    (0..CONTAINERS).map(one).collect()
}

/// Containers whose liveness probe fails.
fn sick() -> String {
    let probe =
        "  livenessProbe: {exec: {command: ['false']}, periodSeconds: 1, failureThreshold: 1}\n";
    let one = |n| script(&format!("c{n}"), "echo one more; exec sleep 1000000") + probe;
    (0..SICK_CONTAINERS).map(one).collect()
}

fn pod(name: &str, pod: &str, containers: &str) -> String {
    let backoff = "everynode.dev/restart-backoff: 1s, everynode.dev/restart-backoff-max: 1s";
    let template = format!("annotations: {{{backoff}}}\n");
    DaemonSet { name, template: &template, pod, containers, ..DaemonSet::default() }.to_string()
}
