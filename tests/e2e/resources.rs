//! Limits: seen in the kernel's own files, and what comes of one that is reached.

use std::fs;
use std::path::{Path, PathBuf};

use everynode_tests::ground::Ground;
use everynode_tests::machine::Machine;
use everynode_tests::manifests::{self, DaemonSet};
use everynode_tests::runner::say;
use everynode_tests::{Fleet, Outcome, cgroups, ensure, wait};

/// The limits of one that keeps within them, as v2 and v1 write them.
const CALM: [(&str, &str); 4] = [
    ("cpu.max", "20000 100000"),
    ("cpu.cfs_quota_us", "20000"),
    ("memory.max", "67108864"),
    ("memory.limit_in_bytes", "67108864"),
];

/// One needs more memory than it may; another is held to what it may use, and nothing is left of it
/// whoever is killed.
pub(crate) fn limits_hold_and_leave_nothing(ground: &Ground) -> Outcome {
    Fleet::play(ground, 1, |fleet| {
        let node = fleet.tool(&["describe", "node", "n1"])?.ok()?;
        ensure!(node.contains("  LimitsEnforced"), "{node}");
        if !node.contains("ControllersFound") {
            say("resources::limits_hold_and_leave_nothing: skipped, not all controllers are here");
            return Ok(());
        }
        fleet.apply(&daemon("hog", "16Mi", "exec tail /dev/zero"))?;
        fleet.apply(&daemon("calm", "64Mi", "exec sleep 100000"))?;
        wait::soon("the hog is told to be killed for want of memory", || {
            let pod = fleet.pod("hog", "n1")?;
            let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
            ensure!(last["reason"] == "OOMKilled" && last["exitCode"] == 137, "{pod}");
            Ok(())
        })?;
        let name = fleet.pod_name("hog", "n1")?;
        let described = fleet.tool(&["describe", "pod", &name])?.ok()?;
        ensure!(described.contains("OOMKilled"), "{described}");

        let machine = fleet.machine("n1")?;
        let calm = wait::soon("the other runs", || machine.only("sleep"))?;
        ensure!(limits(machine)? == 2, "both limits are in the kernel's files");
        let shim = machine.shim_of(&calm)?;
        shim.kill()?;
        fleet.machine_mut("n1")?.take_agent()?.kill()?;
        fleet.machine_mut("n1")?.start_agent(None)?;
        for name in ["hog", "calm"] {
            fleet.tool(&["delete", "daemonset", name])?.ok()?;
        }
        let machine = fleet.machine("n1")?;
        wait::soon("all has ended", || machine.empty())?;
        wait::soon("nothing is left that limited it", || {
            for root in cgroups::legacy_of(&machine.cgroup())? {
                ensure!(!root.exists(), "{} is left", root.display());
            }
            Ok(())
        })
    })
}

/// How many of the limits of the calm one hold its container.
fn limits(machine: &Machine) -> Outcome<usize> {
    let root = machine.cgroup();
    let trees = [vec![root.clone()], cgroups::legacy_of(&root)?].concat();
    let all = trees.iter().flat_map(|tree| cgroups::tree(tree));
    let leaves: Vec<PathBuf> =
        all.filter(|path| path.ends_with("c-main") && is_calm(path)).collect();
    ensure!(!leaves.is_empty(), "it has no cgroup");
    let holds = |(file, value): &&(&str, &str)| {
        let read = |leaf: &PathBuf| fs::read_to_string(leaf.join(file)).unwrap_or_default();
        leaves.iter().any(|leaf| read(leaf).trim() == *value)
    };
    Ok(CALM.iter().filter(holds).count())
}

fn is_calm(path: &Path) -> bool {
    path.iter().any(|part| part == "d-calm")
}

fn daemon(name: &str, memory: &str, script: &str) -> String {
    let limits = format!("  resources:\n    limits: {{cpu: 200m, memory: {memory}}}\n");
    DaemonSet {
        name,
        template: "annotations:\n  everynode.dev/require-limits: 'true'\n",
        pod: "terminationGracePeriodSeconds: 1\n",
        containers: &(manifests::script("main", script) + &limits),
        ..DaemonSet::default()
    }
    .to_string()
}
