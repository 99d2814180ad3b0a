//! Limits of pods that run are changed, and what happens where they can't be.

#![allow(clippy::unwrap_used, reason = "for tests")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use everynode_agent_core::{PodRef, PodSpec, Resources};
use everynode_model::{Digest, Exit};
use everynode_runtime::contract::{Machine, exited, request};
use everynode_runtime::{ResizeError, ResizeRequest, capture};
use futures_util::FutureExt as _;

use super::MIB;
use crate::bed::{self, Bed, shell, spec_of};

/// A pod that prints that it runs, and what it may use: memory in MiB, thousandths of a processor,
/// processes; 0 is no limit.
fn spec([memory, cpu, pids]: [u64; 3]) -> PodSpec {
    let some = |amount: u64| (amount > 0).then_some(amount);
    let mut spec = spec_of([shell("a", "echo runs; exec sleep 100000")]);
    spec.containers[0].resources = Resources {
        memory_limit: some(memory * MIB),
        cpu_limit: some(cpu),
        cpu_request: Some(100),
        ..Resources::default()
    };
    spec.containers[0].oom_score = Some(if memory < 100 { 900 } else { 800 });
    spec.resources.pids_limit = some(pids);
    spec
}

fn to(revision: &str, spec: PodSpec) -> ResizeRequest {
    let like = request("like", spec);
    let revision = Digest::of(revision.as_bytes());
    ResizeRequest { set: like.set, revision, replace: like.replace, spec: like.spec }
}

/// The files that hold the container or its pod to `limits`, and what has to stand in them.
fn expected(bed: &Bed, pod: &PodRef, [memory, cpu, pids]: [u64; 3]) -> Vec<(PathBuf, String)> {
    let or =
        |amount: u64, text: String, none: &str| if amount > 0 { text } else { none.to_owned() };
    let (bytes, none) = (memory * MIB, "9223372036854771712");
    let files = |controller: &str, legacy: bool| match (controller, legacy) {
        ("memory", false) => vec![("memory.max", or(memory, bytes.to_string(), "max"))],
        ("memory", true) => vec![("memory.limit_in_bytes", or(memory, bytes.to_string(), none))],
        ("cpu", false) => vec![("cpu.max", or(cpu, format!("{} 100000", cpu * 100), "max 100000"))],
        ("cpu", true) => vec![("cpu.cfs_quota_us", or(cpu, (cpu * 100).to_string(), "-1"))],
        _ => vec![("pids.max", or(pids, pids.to_string(), "max"))],
    };
    let mut all = Vec::new();
    for controller in ["memory", "cpu", "pids"] {
        let Some((mount, legacy)) = bed::home(controller) else { continue };
        let own = mount.join(bed.own_path(pod));
        for (file, value) in files(controller, legacy) {
            all.push((own.join(file), value.clone()));
            // Of processes only the pod as a whole is limited.
            if controller != "pids" {
                all.push((own.join("c-a").join(file), value));
            }
        }
    }
    all
}

fn is_held_to(bed: &Bed, pod: &PodRef, limits: [u64; 3]) {
    for (file, value) in expected(bed, pod, limits) {
        assert_eq!(fs::read_to_string(&file).unwrap().trim(), value, "{}", file.display());
    }
}

fn oom_score(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().to_owned()
}

#[tokio::test]
async fn what_runs_is_held_to_more_and_to_less_and_so_is_what_runs_later() {
    for old_kernel in [false, true] {
        let Some(bed) = Bed::new(old_kernel) else { return };
        let mut machine = Machine::open(&bed).await;
        let pod = machine.create(request("resized", spec([64, 250, 9]))).await;
        let pid = machine.start(&pod, "a").await;
        for limits in [[128, 500, 20], [32, 100, 5], [0, 0, 0], [96, 300, 9], [128, 100, 0]] {
            let request = to(&format!("{limits:?}"), spec(limits));
            machine.runtime.resize(&pod, request.clone()).await.unwrap();
            is_held_to(&bed, &pod, limits);
            let supervised = machine.supervised(&pod).await;
            assert_eq!(supervised.containers[0].pid, Some(pid), "the same process");
            assert_eq!(supervised.revision, request.revision);
            // The same again is the same.
            machine.runtime.resize(&pod, request).await.unwrap();
            is_held_to(&bed, &pod, limits);
        }
        let within = Some(Duration::from_secs(10));
        let argv = ["cat", "/proc/self/cgroup"].map(str::to_owned).to_vec();
        let ran = capture(&*machine.runtime, &pod, "a", argv, within).await.unwrap();
        let of_it = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let legacy = |text: &str| {
            let lines = text.lines().filter(|line| !line.starts_with("0::"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(legacy(std::str::from_utf8(&ran.output).unwrap()), legacy(&of_it));

        let before = oom_score(pid);
        machine.runtime.kill_container(&pod, "a").await.unwrap();
        machine.expect(exited(&pod, "a", Exit::Signal(9))).await;
        let next = machine.start(&pod, "a").await;
        is_held_to(&bed, &pod, [128, 100, 0]);
        assert_eq!((before.as_str(), oom_score(next).as_str()), ("900", "800"));
        machine.end(&pod).await;
        bed.is_clean();
    }
}

#[tokio::test]
async fn an_agent_that_dies_in_the_middle_finds_out_and_it_can_be_done_again() {
    let Some(bed) = Bed::new(false) else { return };
    let mut machine = Machine::open(&bed).await;
    let first = request("interrupted", spec([64, 250, 9]));
    let pod = machine.create(first.clone()).await;
    let pid = machine.start(&pod, "a").await;
    let limits = |number: u64| [64 + number, 250 + number, 9 + number];
    let mut was = (first.revision, limits(0));
    for number in 1..30 {
        let request = to(&number.to_string(), spec(limits(number)));
        let next = (request.revision, limits(number));
        {
            let mut resizing = Box::pin(machine.runtime.resize(&pod, request.clone()));
            // Gone after a different number of its steps each time.
            for _ in 0..number {
                if resizing.as_mut().now_or_never().is_some() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        machine = machine.reopen().await;
        let is = machine.supervised(&pod).await;
        let (revision, limits) = if is.revision == next.0 { next } else { was };
        assert_eq!((is.revision, is.limits_in_doubt), (revision, false));
        assert_eq!(is.resized_for.is_some(), is.revision != first.revision);
        is_held_to(&bed, &pod, limits);
        machine.runtime.resize(&pod, request).await.unwrap();
        is_held_to(&bed, &pod, next.1);
        was = next;
    }
    assert_eq!(machine.supervised(&pod).await.containers[0].pid, Some(pid));
    machine.end(&pod).await;
    bed.is_clean();
}

#[tokio::test]
async fn a_memory_limit_below_what_is_in_use_is_refused_and_nothing_is_changed() {
    let Some(bed) = Bed::new(false) else { return };
    if bed::home("memory").is_none() {
        return println!("skipped: no controller of memory");
    }
    let mut machine = Machine::open(&bed).await;
    let uses = "exec perl -e '$| = 1; $x = q(x) x 20_000_000; print qq(full\\n); sleep 100000'";
    let with = |limits| {
        let mut spec = spec(limits);
        spec.containers[0].argv[2] = uses.to_owned();
        spec
    };
    let pod = machine.create(request("full", with([128, 250, 9]))).await;
    let pid = machine.start(&pod, "a").await;
    bed::until(|| bed::lines(&bed, &pod, "a") == ["full"]).await;
    let error = machine.runtime.resize(&pod, to("2", with([8, 500, 20]))).await.unwrap_err();
    assert!(!error.in_doubt());
    assert_eq!(error.reason().code, "ResizeError");
    let line = error.reason().message;
    assert!(line.contains("container \"a\" would be 8388608, below its use, "), "{line}");
    is_held_to(&bed, &pod, [128, 250, 9]);
    let supervised = machine.supervised(&pod).await;
    assert_eq!(supervised.revision, request("full", spec([0; 3])).revision);
    assert_eq!(supervised.containers[0].pid, Some(pid), "nothing was killed");
    machine.runtime.resize(&pod, to("3", with([96, 500, 20]))).await.unwrap();
    machine.end(&pod).await;
    bed.is_clean();
}

#[tokio::test]
async fn who_is_in_no_cgroup_of_v1_is_refused_and_who_ends_is_not_asked() {
    let Some(bed) = Bed::new(false) else { return };
    let mut machine = Machine::open(&bed).await;
    let pod = machine.create(request("free", spec([0, 0, 0]))).await;
    machine.start(&pod, "a").await;
    let asked = machine.runtime.resize(&pod, to("2", spec([64, 250, 0]))).await;
    match bed::home("memory") {
        Some((_, true)) => {
            let error = asked.unwrap_err();
            assert!(matches!(error, ResizeError::NotInPlace(_)), "{error}");
            assert_eq!(error.reason().code, "ResizeInfeasible");
        }
        Some((_, false)) => is_held_to(&bed, &pod, [64, 250, 0]),
        None => println!("skipped: no controller of memory"),
    }
    machine.runtime.close(&pod).await.unwrap();
    let error = machine.runtime.resize(&pod, to("3", spec([0, 0, 0]))).await.unwrap_err();
    assert!(!error.in_doubt() && error.reason().code == "Terminating", "{error}");
    machine.end(&pod).await;
    let error = machine.runtime.resize(&pod, to("3", spec([0, 0, 0]))).await.unwrap_err();
    assert!(error.in_doubt(), "{error}");
}

#[tokio::test]
async fn one_that_fits_nowhere_is_put_back_whole() {
    let Some(bed) = Bed::new(false) else { return };
    let Some((mount, legacy)) = bed::home("cpu") else {
        return println!("skipped: no controller of processors");
    };
    let mut machine = Machine::open(&bed).await;
    let pod = machine.create(request("stuck", spec([64, 250, 9]))).await;
    machine.start(&pod, "a").await;
    // No kernel takes so much; what else grows is written before it.
    let too_much = spec([128, u64::MAX, 20]);
    let error = machine.runtime.resize(&pod, to("2", too_much)).await.unwrap_err();
    let file = if legacy { "cpu.cfs_quota_us" } else { "cpu.max" };
    let file = mount.join(bed.own_path(&pod)).join(file);
    assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    assert!(!error.in_doubt());
    is_held_to(&bed, &pod, [64, 250, 9]);
    machine.end(&pod).await;
}
