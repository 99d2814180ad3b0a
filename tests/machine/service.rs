//! The agent as a service: whatever happens to it, its pods are the machine's own.

use everynode_tests::ground::Ground;
use everynode_tests::manifests::{EXPORTER_PROGRAM, WITNESS_PROGRAM};
use everynode_tests::proc::Process;
use everynode_tests::{Outcome, ensure};

use crate::debian::{AGENT, Both, Debian, NAME};
use crate::play;

/// Restarted, stopped, started, killed and hanging, it finds the same pids; killed exporters and
/// supervisors are replaced; pods inherit nothing of its unit.
pub(crate) fn pods_outlive_the_agent(ground: &Ground) -> Outcome {
    play(ground, |fleet, machine| {
        check_passes(machine)?;
        let before = machine.join_and_run(fleet)?;
        inherits_nothing(machine, &before.exporter)?;

        let same = |what: &str| {
            ensure!(machine.both()? == before, "{what} disturbed a pod");
            Ok(())
        };
        let first = machine.agent()?;
        machine.sh(&format!("systemctl stop {AGENT}"))?;
        ensure!(machine.agent().is_err(), "a stopped agent runs");
        same("stopping the agent")?;
        machine.sh(&format!("systemctl start {AGENT}"))?;
        let second = machine.agent()?;
        machine.sh(&format!("systemctl restart {AGENT}"))?;
        let third = machine.agent()?;
        ensure!(first != second && second != third, "it was not restarted");
        same("restarting the agent")?;

        machine.kill(&third)?;
        machine.soon("systemd starts it again", || machine.agent())?;
        fleet.ready(NAME)?;
        same("killing the agent")?;
        machine.sh("systemctl daemon-reload && systemctl daemon-reexec")?;
        same("systemd's own restart")?;
        let healthy = watched(machine)?;
        same("the watchdog")?;

        machine.kill(&before.exporter)?;
        let after = replaced(machine, EXPORTER_PROGRAM, &before.exporter)?;
        ensure!(after.witness == before.witness, "another DaemonSet's pod was disturbed");
        machine.kill(&machine.look()?.shim_of(&before.witness)?)?;
        let last = replaced(machine, WITNESS_PROGRAM, &before.witness)?;
        ensure!(last.exporter == after.exporter, "another DaemonSet's pod was disturbed");
        outlives_the_watchdog(machine, &healthy)?;
        ensure!(machine.sh("systemctl is-system-running")? == "running\n", "a unit has failed");
        Ok(())
    })
}

/// With a watchdog that waits for less than the rest of the scenario takes: an agent that hangs is
/// replaced; its successor.
fn watched(machine: &Debian) -> Outcome<Process> {
    let dir = format!("/run/systemd/system/{AGENT}.d");
    machine.sh(&format!(
        "mkdir {dir} && printf '[Service]\\nWatchdogSec=20s\\n' >{dir}/short.conf &&
         systemctl daemon-reload && systemctl restart {AGENT}"
    ))?;
    let hanging = machine.agent()?;
    machine.sh(&format!("kill -STOP {}", hanging.pid))?;
    machine.soon("the watchdog ends an agent that hangs", || {
        let agent = machine.agent()?;
        ensure!(agent != hanging, "it hangs");
        Ok(agent)
    })
}

/// One that does its work is there when the watchdog's time is long over.
fn outlives_the_watchdog(machine: &Debian, agent: &Process) -> Outcome {
    machine.soon("the watchdog's time is over", || {
        let age = machine.sh(&format!("ps -o etimes= -p {} || echo 1000", agent.pid))?;
        ensure!(age.trim().parse::<u32>().is_ok_and(|seconds| seconds > 40), "{age}");
        Ok(())
    })?;
    ensure!(machine.agent()? == *agent, "the watchdog ended an agent that did its work");
    Ok(())
}

/// Nothing but cgroup v2, and all that a kernel of these years can do.
fn check_passes(machine: &Debian) -> Outcome {
    ensure!(machine.look()?.mount == "/sys/fs/cgroup", "cgroup v2 is not alone");
    let said = machine.sh("everynode-agent check")?;
    for line in ["pass  cgroup v2: /sys/fs/cgroup\n", "forced stop: cgroup.kill", "clone3"] {
        ensure!(said.contains(line), "{line:?} is not in\n{said}");
    }
    ensure!(!said.contains("FAIL"), "{said}");
    Ok(())
}

/// A pod is as free as the first process of the machine: no sandbox, no limit of the agent's unit.
pub(crate) fn inherits_nothing(machine: &Debian, pod: &Process) -> Outcome {
    let confinement = |pid: u32| {
        machine.sh(&format!(
            "cd /proc/{pid} && readlink ns/mnt ns/net ns/pid ns/ipc ns/uts ns/cgroup &&
             grep -E '^(Cap(Prm|Eff|Bnd)|NoNewPrivs|Seccomp):' status"
        ))
    };
    let (first, own) = (confinement(1)?, confinement(pod.pid)?);
    ensure!(first == own, "a pod is confined by the agent's unit:\n{own}\ninstead of\n{first}");
    let score = machine.sh(&format!("cat /proc/{}/oom_score_adj", pod.pid))?;
    ensure!(score == "1000\n", "not that of a pod that requests nothing: {score}");
    let environment = machine.sh(&format!("tr '\\0' '\\n' </proc/{}/environ", pod.pid))?;
    for name in ["NOTIFY_SOCKET", "INVOCATION_ID", "JOURNAL_STREAM", "EVERYNODE_AGENT"] {
        ensure!(!environment.contains(name), "a pod has {name} of the agent's unit: {environment}");
    }
    Ok(())
}

fn replaced(machine: &Debian, program: &str, before: &Process) -> Outcome<Both> {
    machine.soon(&format!("another {program} runs"), || {
        let both = machine.both()?;
        ensure!(machine.look()?.only(program)? != *before, "the same one runs");
        Ok(both)
    })
}
