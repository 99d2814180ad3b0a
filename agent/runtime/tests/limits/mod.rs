//! Limits, on real processes: by whichever hierarchy this machine has the controllers in.

mod resize;

use std::fs;

use everynode_agent_core::{PodSpec, Resources};
use everynode_model::Exit;
use everynode_runtime::RuntimeEvent;
use everynode_runtime::contract::{Machine, exited, request};

use crate::bed::{self, Bed, shell, spec_of};

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn a_container_is_held_from_its_first_instruction() {
    for old_kernel in [false, true] {
        let Some(bed) = Bed::new(old_kernel) else { return };
        let mut machine = Machine::open(&bed).await;
        let mut spec = limited(["/bin/cat", "/proc/self/cgroup"], 64 * MIB);
        spec.containers[0].resources.cpu_limit = Some(250);
        spec.resources.pids_limit = Some(9);
        let pod = machine.create(request("held", spec)).await;
        machine.start(&pod, "a").await;
        machine.expect(exited(&pod, "a", Exit::Code(0))).await;
        let printed = bed.log(&pod, "a").join("\n");
        for (controller, level, files) in [
            ("memory", 0, [("memory.max", "67108864"), ("memory.limit_in_bytes", "67108864")]),
            ("cpu", 0, [("cpu.max", "25000 100000"), ("cpu.cfs_quota_us", "25000")]),
            ("pids", 1, [("pids.max", "9"), ("pids.max", "9")]),
        ] {
            let Some((mount, legacy)) = bed::home(controller) else { continue };
            let leaf = bed.own_path(&pod).join("c-a");
            let (file, value) = files[usize::from(legacy)];
            let at = mount.join(leaf.ancestors().nth(level).unwrap());
            assert_eq!(fs::read_to_string(at.join(file)).unwrap().trim(), value, "{controller}");
            let hierarchy = if legacy { format!(":{controller}:") } else { " 0::".into() };
            let line = printed.lines().find(|line| line.contains(&hierarchy)).unwrap();
            assert!(line.ends_with(leaf.to_str().unwrap()), "{line} is not {}", leaf.display());
        }
        machine.end(&pod).await;
        bed.is_clean();
    }
}

#[tokio::test]
async fn what_needs_more_memory_than_it_may_is_killed_and_that_is_told() {
    let Some(bed) = Bed::new(false) else { return };
    if bed::home("memory").is_none() {
        return println!("skipped: no controller of memory");
    }
    let mut machine = Machine::open(&bed).await;
    // It looks for the last line of one that never ends.
    let pod = machine.create(request("hog", limited(["tail", "/dev/zero"], 16 * MIB))).await;
    for _ in 0..2 {
        machine.start(&pod, "a").await;
        let oom = RuntimeEvent::OutOfMemory { pod: pod.clone(), container: "a".into() };
        machine.expect(oom).await;
        machine.expect(exited(&pod, "a", Exit::Signal(9))).await;
    }
    let mut machine = machine.reopen().await;
    let supervised = machine.supervised(&pod).await;
    assert!(supervised.containers[0].oom, "the next agent hears of it");
    machine.end(&pod).await;
    bed.is_clean();
}

#[tokio::test]
async fn one_that_is_killed_by_somebody_did_not_run_out_of_memory() {
    let Some(bed) = Bed::new(false) else { return };
    let mut machine = Machine::open(&bed).await;
    let spec = limited(["/bin/sh", "-c", "kill -KILL $$"], 64 * MIB);
    let pod = machine.create(request("killed", spec)).await;
    machine.start(&pod, "a").await;
    machine.expect(exited(&pod, "a", Exit::Signal(9))).await;
    machine.end(&pod).await;
}

#[tokio::test]
async fn a_pod_has_no_more_processes_than_it_may() {
    let Some(bed) = Bed::new(false) else { return };
    if bed::home("pids").is_none() {
        return println!("skipped: no controller of processes");
    }
    let mut machine = Machine::open(&bed).await;
    let mut spec = spec_of([shell("a", "sleep 1000 & sleep 1000 & sleep 1000 & sleep 1000")]);
    spec.resources.pids_limit = Some(3);
    let pod = machine.create(request("bomb", spec)).await;
    machine.start(&pod, "a").await;
    // A shell that can't fork ends.
    machine.expect(exited(&pod, "a", Exit::Code(2))).await;
    machine.end(&pod).await;
    bed.is_clean();
}

#[tokio::test]
async fn nothing_of_a_limited_pod_is_left_whoever_was_killed() {
    let Some(bed) = Bed::new(false) else { return };
    let mut machine = Machine::open(&bed).await;
    let pod = machine.create(request("gone", limited(["sleep", "1000"], 64 * MIB))).await;
    let pid = machine.start(&pod, "a").await;
    // Nobody is left to remove anything, and then not even the cgroup.
    let cgroup = bed.pod_cgroup(&pod);
    let shim = bed.shim_of(&pod);
    drop(machine);
    bed::kill(shim, "KILL");
    bed::kill(pid, "KILL");
    bed::until(|| {
        !fs::read_to_string(cgroup.join("cgroup.events")).unwrap().contains("populated 1")
    })
    .await;
    bed::remove_tree(&cgroup);
    Machine::open(&bed).await.runtime.list().await.unwrap();
    bed.is_clean();
}

fn limited<const N: usize>(argv: [&str; N], memory: u64) -> PodSpec {
    let mut spec = spec_of([shell("a", "")]);
    spec.containers[0].argv = argv.map(str::to_owned).to_vec();
    spec.containers[0].resources = Resources { memory_limit: Some(memory), ..Resources::default() };
    spec.limits_required = true;
    spec
}
