//! What must hold when nothing is killed or changed any more.
//!
//! Every set has its one pod on every machine, made of what was acknowledged last, and nothing else
//! lives there. Nothing is left of what was killed: no process, zombie, cgroup, mount, file or open
//! descriptor more than there was in the first calm.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use everynode_tests::witness::{self, What};
use everynode_tests::{
    Context as _, Fleet, Machine, Outcome, cgroups, ensure, failure, proc, wait,
};
use serde_json::Value;

use super::sets::{self, STEADY, TUNING_FILE};
use super::writer::Writer;

/// How long everything may take to come to rest: dials after a back-off of up to 30 s, then rollouts
/// of every set, node by node.
const REST: Duration = Duration::from_secs(120);

/// Templates of revisions that are not wanted any more stay until the next order.
const MAY_GROW: &str = "file bodies/ID";

/// Full log files, of which there are as many as were printed, and what is in volumes.
const WRITTEN_BY_PODS: [&str; 3] = [".log.", "/volumes/", "/emptyDir/"];

/// What there is, by kind and name, and how often.
type Inventory = BTreeMap<String, usize>;

/// A calm, as it was found.
pub(crate) struct Calm {
    /// Of each machine, and of the coordinator's.
    inventories: BTreeMap<String, Inventory>,
}

impl Calm {
    /// Waits until all is at rest, and compares it with an `earlier` calm.
    ///
    /// # Errors
    /// What is not as it should be.
    pub(crate) fn reached(
        fleet: &Fleet<'_>,
        writer: &Writer,
        earlier: Option<&Self>,
    ) -> Outcome<Self> {
        wait::within(REST, "all is at rest", || at_rest(fleet, writer))?;
        for dir in Writer::witness_dirs(fleet) {
            witness::no_overlap(&dir)?;
        }
        // Connections of those that were killed or have ended take a moment to go.
        wait::soon("nothing more is there than before", || {
            let calm = Self::found(fleet)?;
            match earlier {
                Some(earlier) => earlier.compare(calm),
                None => Ok(calm),
            }
        })
    }

    fn found(fleet: &Fleet<'_>) -> Outcome<Self> {
        let mut inventories = BTreeMap::new();
        let mut parents = Vec::new();
        for machine in fleet.machines() {
            inventories.insert(machine.name().to_owned(), of_machine(machine)?);
            parents.extend(machine.processes().iter().map(|process| process.pid));
        }
        let coordinator = fleet.coordinator();
        let processes = coordinator.processes();
        let [only] = processes.as_slice() else {
            return Err(failure!("beside the coordinator: {processes:?}"));
        };
        parents.push(only.pid);
        let mut inventory = Inventory::new();
        count_open(&mut inventory, only.pid);
        count_files(&mut inventory, &coordinator.data_dir())?;
        inventories.insert("coordinator".into(), inventory);
        let zombies = proc::zombies_of(&parents);
        ensure!(zombies.is_empty(), "nobody waited for {zombies:?}");
        Ok(Self { inventories })
    }

    /// The later one, if it has nothing more.
    fn compare(&self, later: Self) -> Outcome<Self> {
        for (place, inventory) in &later.inventories {
            let before = self.inventories.get(place);
            for (thing, count) in inventory.iter().filter(|(thing, _)| *thing != MAY_GROW) {
                let before = before.and_then(|before| before.get(thing)).copied().unwrap_or(0);
                ensure!(*count <= before, "{count} × {thing} on {place}, there were {before}");
            }
        }
        Ok(later)
    }
}

/// How often a witness was started, on all machines.
pub(crate) fn starts(fleet: &Fleet<'_>) -> Outcome<usize> {
    let mut starts = 0;
    for dir in Writer::witness_dirs(fleet) {
        for machine in fleet.machines() {
            let lines = witness::read(&dir, machine.name())?;
            starts += lines.iter().filter(|line| line.what == What::Started).count();
        }
    }
    Ok(starts)
}

fn at_rest(fleet: &Fleet<'_>, writer: &Writer) -> Outcome {
    let pods = fleet.tool(&["get", "pods", "-o", "json"])?.json()?;
    let pods = pods["items"].as_array().cloned().unwrap_or_default();
    for machine in fleet.machines() {
        let name = machine.name();
        let states = fleet.states(name)?;
        ensure!(states == ["Ready"], "{name} is {states:?}");
        let here: Vec<&Value> = pods.iter().filter(|pod| pod["spec"]["nodeName"] == name).collect();
        for set in sets::all() {
            let program = sets::program(set);
            let pid = runs(&here, set, writer).context(name)?;
            let process = proc::Process::of(pid);
            let is = process.as_ref().map_or("nothing", |process| process.program());
            ensure!(is == program, "pod of {set} on {name}: {is} has its pid {pid}");
        }
        let sets = sets::all().count();
        ensure!(here.len() == sets, "{} pods are shown on {name}", here.len());
        only_what_should(machine, sets)?;
        is_tuned(&here, writer).context(name)?;
        machine.scrape()?;
    }
    Ok(())
}

/// The pid of the set's only pod among these, which is ready and of the newest content.
fn runs(pods: &[&Value], set: &str, writer: &Writer) -> Outcome<u32> {
    let of: Vec<&&Value> =
        pods.iter().filter(|pod| pod["metadata"]["labels"]["app"] == set).collect();
    let [pod] = of.as_slice() else { return Err(failure!("{} pods of {set}", of.len())) };
    let (meta, status) = (&pod["metadata"], &pod["status"]);
    let mark = writer.mark(set)?;
    ensure!(meta["labels"]["mark"] == mark, "{set} should be {mark}: {meta}");
    let uid = meta["uid"].as_str().unwrap_or_default();
    ensure!(!writer.doomed().contains(uid), "the deleted pod {uid} of {set} is there");
    let container = main_of(pod);
    ensure!(container["ready"] == true, "{set}: {status}");
    let pid = container["state"]["running"]["pid"].as_u64();
    pid.and_then(|pid| u32::try_from(pid).ok()).ok_or_else(|| failure!("{set} runs as {status}"))
}

/// What the steady set's pod sees of the ConfigMap that is changed alone is what it has now.
fn is_tuned(pods: &[&Value], writer: &Writer) -> Outcome {
    let pid = runs(pods, STEADY, writer)?;
    let seen = fs::read_to_string(format!("/proc/{pid}/root{TUNING_FILE}"))?;
    let wanted = writer.tuning()?;
    ensure!(seen == wanted, "{STEADY} sees {seen:?} for {wanted}");
    Ok(())
}

fn main_of(pod: &Value) -> &Value {
    let containers = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    containers.into_iter().find(|one| one["name"] == "main").unwrap_or(&Value::Null)
}

/// The agent, and of each set a supervisor and its containers, each in its cgroup; nothing else.
fn only_what_should(machine: &Machine, sets: usize) -> Outcome {
    let members = cgroups::members(&machine.cgroup());
    let leaf =
        |cgroup: &Path| cgroup.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // Probes come and go.
    let probes = members.iter().filter(|(cgroup, _)| leaf(cgroup).starts_with("exec-")).count();
    let supervisors = members.iter().filter(|(cgroup, _)| leaf(cgroup) == "shim").count();
    let workloads = members.iter().filter(|(cgroup, _)| leaf(cgroup).starts_with("c-")).count();
    let all = (supervisors, workloads, members.len() - probes);
    let should: usize = sets::all().map(sets::containers).sum();
    ensure!(all == (sets, should, sets + should), "{all:?} live in cgroups: {members:?}");
    let agent = machine.agent_pid();
    let is_known =
        |pid: u32| Some(pid) == agent || members.iter().any(|(_, member)| member.pid == pid);
    let orphans: Vec<_> =
        machine.processes().into_iter().filter(|process| !is_known(process.pid)).collect();
    ensure!(orphans.is_empty(), "orphans on {}: {orphans:?}", machine.name());
    Ok(())
}

fn of_machine(machine: &Machine) -> Outcome<Inventory> {
    let mut inventory = Inventory::new();
    let agent = machine.agent_pid().ok_or_else(|| failure!("no agent on {}", machine.name()))?;
    count_open(&mut inventory, agent);
    let members = cgroups::members(&machine.cgroup());
    let mut own = vec![agent, std::process::id()];
    for (_, supervisor) in members.iter().filter(|(cgroup, _)| cgroup.ends_with("shim")) {
        count_open(&mut inventory, supervisor.pid);
        own.push(supervisor.pid);
    }
    let legacy = cgroups::legacy_of(&machine.cgroup())?;
    let roots =
        legacy.iter().chain([&machine.cgroup()]).map(|root| cgroups::tree(root).len()).sum();
    inventory.insert("cgroup".into(), roots);
    // Nothing is mounted where anybody but a container sees it.
    let data = machine.data_dir().display().to_string();
    let mut mounts = 0;
    for pid in own {
        let all = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
        mounts += all.lines().filter(|line| line.contains(&data) || line.contains("/mnt/")).count();
    }
    inventory.insert("mount".into(), mounts);
    let spaces = machine.processes().into_iter().filter_map(|process| process.mounts());
    inventory.insert("mount namespace".into(), spaces.collect::<BTreeSet<_>>().len());
    count_files(&mut inventory, &machine.data_dir())?;
    Ok(inventory)
}

fn count_open(inventory: &mut Inventory, pid: u32) {
    for file in proc::open_files(pid) {
        *inventory.entry(format!("open {}", nameless(&file))).or_default() += 1;
    }
}

/// Counts files by their paths, in which ids stand for all ids; without what pods write themselves.
fn count_files(inventory: &mut Inventory, dir: &Path) -> Outcome {
    let mut left: Vec<PathBuf> = vec![dir.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next).context(next.display())?.flatten() {
            let path = entry.path();
            let name = path.strip_prefix(dir).unwrap_or(&path).display().to_string();
            if WRITTEN_BY_PODS.iter().any(|part| name.contains(part)) {
                continue;
            }
            *inventory.entry(format!("file {}", nameless(&name))).or_default() += 1;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                left.push(path);
            }
        }
    }
    Ok(())
}

/// A path with `ID` for each of its parts that is one, whatever it ends with.
fn nameless(path: &str) -> String {
    let is_id = |stem: &str| {
        stem.len() >= 32 && stem.chars().all(|letter| letter.is_ascii_hexdigit() || letter == '-')
    };
    let part = |part: &str| match part.split_once('.') {
        Some((stem, end)) if is_id(stem) => format!("ID.{end}"),
        None if is_id(part) => "ID".to_owned(),
        _ => part.to_owned(),
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}
