//! Limits that are reached: of open files, of processes, of memory.

use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use everynode_tests::coordinator::PORT;
use everynode_tests::daemon::Daemon;
use everynode_tests::ground::Ground;
use everynode_tests::limits::{self, Group};
use everynode_tests::manifests::{DaemonSet, EXPORTER_PROGRAM, WITNESS_PROGRAM};
use everynode_tests::proc::Process;
use everynode_tests::{Fleet, Outcome, cgroups, ensure, failure, wait};

/// Longer than the lease.
const LONG: Duration = Duration::from_secs(5);

/// No connection can be accepted, those that are there go on; it says so, and recovers.
pub(crate) fn a_coordinator_without_files(ground: &Ground) -> Outcome {
    Fleet::play(ground, 2, |fleet| {
        fleet.run_both()?;
        let (before, sessions) = (fleet.census()?, fleet.sessions());
        let pid = fleet.coordinator().pid()?;
        limits::files(pid, Some(4))?;
        let crowd = crowd(fleet, 40)?;
        said(fleet, "connections can't be accepted")?;
        wait::throughout(LONG, "sessions go on", || {
            ensure!(fleet.census()? == before, "something was restarted");
            ensure!(fleet.sessions() == sessions, "a session ended");
            Ok(())
        })?;
        crowd.kill()?;
        said(fleet, "connections are accepted again")?;
        fleet.ready("n1")?;
        fleet.ready("n2")?;
        fleet.nobody_was_lost()?;
        ensure!(fleet.sessions() == sessions, "a session ended");
        limits::files(pid, None)
    })
}

/// Containers come back; a pod that has to be made anew waits, says why, and comes too.
pub(crate) fn an_agent_without_files(ground: &Ground) -> Outcome {
    Fleet::play(ground, 1, |fleet| {
        fleet.run_both()?;
        let machine = fleet.machine("n1")?;
        let pid = machine.agent_pid().unwrap_or_default();
        limits::files(pid, Some(0))?;
        short_of_everything(fleet, "Too many open files", || limits::files(pid, None))?;
        ensure!(fleet.machine("n1")?.agent_pid() == Some(pid), "the agent was restarted");
        Ok(())
    })
}

/// Nothing can be forked: said, waited for, and done as soon as it can be.
pub(crate) fn a_machine_without_processes(ground: &Ground) -> Outcome {
    Fleet::play(ground, 1, |fleet| {
        fleet.run_both()?;
        let Some(group) = group(fleet, "pids")? else { return Ok(()) };
        let exporter = fleet.machine("n1")?.only(EXPORTER_PROGRAM)?;
        group.set("pids.max", "1")?;
        exporter.kill()?;
        says_why(fleet, "Resource temporarily unavailable")?;
        // A ledger is written by a thread, of which no new one can be had.
        fleet.apply(&fleet.witness(&["--mark", "2"]))?;
        wait::soon("the agent follows orders", || {
            let witness = fleet.machine("n1")?.running(WITNESS_PROGRAM);
            ensure!(witness.is_empty(), "{witness:?}");
            Ok(())
        })?;
        group.set("pids.max", "max")?;
        fleet.runs_both("n1")?;
        alive(fleet)
    })
}

/// The kernel kills for want of memory: a daemon that takes all, a supervisor, an agent. Each comes
/// back as after any other death.
pub(crate) fn a_machine_without_memory(ground: &Ground) -> Outcome {
    Fleet::play(ground, 1, |fleet| {
        fleet.run_both()?;
        let Some(group) = group(fleet, "memory")? else { return Ok(()) };
        group.set("memory.limit_in_bytes", "96M")?;
        let machine = fleet.machine("n1")?;
        let (exporter, witness) = (machine.only(EXPORTER_PROGRAM)?, machine.only(WITNESS_PROGRAM)?);
        fleet.apply(&hog("hog", ""))?;
        says_why(fleet, "signal 9")?;
        let now = (machine.only(EXPORTER_PROGRAM)?, machine.only(WITNESS_PROGRAM)?);
        ensure!(now == (exporter.clone(), witness.clone()), "others died of the one's hunger");

        // The next ones to be chosen, by what the kernel goes by; not the exporter, and not who
        // takes it all: a pod that asks for as much is among the last.
        let (shim, agent) =
            (machine.shim_of(&witness)?.pid, machine.agent_pid().unwrap_or_default());
        for (pid, score) in [(shim, "1000"), (agent, "1000"), (exporter.pid, "0")] {
            std::fs::write(format!("/proc/{pid}/oom_score_adj"), score)?;
        }
        let asks = "  resources: {requests: {memory: 1Ti}}\n";
        let mut agent = fleet.machine_mut("n1")?.take_agent()?;
        fleet.apply(&hog("another-hog", asks))?;
        let ended = agent.ended()?;
        ensure!(!ended.success(), "the agent ended by itself: {ended}");
        for set in ["hog", "another-hog"] {
            fleet.tool(&["delete", "daemonset", set])?.ok()?;
        }
        fleet.machine_mut("n1")?.start_agent(None)?;
        fleet.runs_both("n1")?;
        wait::soon("nothing else runs", || {
            let machine = fleet.machine("n1")?;
            machine.none("tail")?;
            ensure!(machine.only(EXPORTER_PROGRAM)? == exporter, "the exporter was restarted");
            ensure!(machine.only(WITNESS_PROGRAM)? != witness, "its supervisor was spared");
            Ok(())
        })
    })
}

/// With a container's end, a supervisor's, and the limit lifted when its effect was told.
fn short_of_everything(fleet: &Fleet<'_>, words: &str, lift: impl FnOnce() -> Outcome) -> Outcome {
    let machine = fleet.machine("n1")?;
    let exporter = machine.only(EXPORTER_PROGRAM)?;
    exporter.kill()?;
    wait::soon("its supervisor starts the exporter again", || {
        ensure!(machine.only(EXPORTER_PROGRAM)? != exporter, "the same one runs");
        Ok(())
    })?;
    let witness = machine.only(WITNESS_PROGRAM)?;
    machine.shim_of(&witness)?.kill()?;
    says_why(fleet, words)?;
    lift()?;
    wait::soon("the witness is made anew", || {
        ensure!(machine.only(WITNESS_PROGRAM)? != witness, "the same one runs");
        Ok(())
    })
}

fn says_why(fleet: &Fleet<'_>, words: &str) -> Outcome {
    wait::soon(&format!("why says {words:?}"), || {
        let why = fleet.tool(&["why"])?.ok()?;
        ensure!(why.contains(words), "{why}");
        Ok(())
    })
}

fn said(fleet: &Fleet<'_>, words: &str) -> Outcome {
    wait::soon(&format!("the coordinator says {words:?}"), || {
        let log = fleet.coordinator().log();
        ensure!(log.contains(words), "{log}");
        Ok(())
    })
}

/// The agent is the one that it was, and talks.
fn alive(fleet: &Fleet<'_>) -> Outcome {
    let machine = fleet.machine("n1")?;
    let pid = machine.agent_pid().unwrap_or_default();
    ensure!(Process::of(pid).is_some(), "the agent died: {}", machine.log());
    machine.ask_agent("status")?.ok().map(drop)
}

/// Puts the agent of n1, and all that it runs, under limits of their own.
fn group(fleet: &Fleet<'_>, controller: &str) -> Outcome<Option<Group>> {
    let machine = fleet.machine("n1")?;
    let Some(group) = Group::new(controller, fleet.name())? else {
        // A person reads it in the test's output; the scenario is no proof here.
        let line = format!("skipped: no controller {controller} of cgroup v1 on this computer");
        let _ = writeln!(std::io::stdout(), "{line}");
        return Ok(None);
    };
    let agent = machine.agent_pid().and_then(Process::of);
    group.add(&agent.ok_or_else(|| failure!("no agent"))?)?;
    for (_, process) in cgroups::members(&machine.cgroup()) {
        group.add(&process)?;
    }
    Ok(Some(group))
}

/// Connections to the coordinator that say nothing, made anew as they are given up.
fn crowd(fleet: &Fleet<'_>, connections: u32) -> Outcome<Daemon> {
    let script = "while :; do for ((n = 0; n < $2; n++)); do
        exec {fd}<>\"/dev/tcp/$0/$1\" || break; done; sleep 5; done";
    let address = fleet.coordinator().address();
    let host = address.trim_end_matches(&format!(":{PORT}")).to_owned();
    let mut command: Command = fleet.coordinator().command("bash".as_ref());
    command.args(["-c", script, &host, &PORT.to_string(), &connections.to_string()]);
    Daemon::start(command, &fleet.path("crowd.log"))
}

/// A DaemonSet that takes memory without end.
fn hog(name: &str, more: &str) -> String {
    let containers = format!("- name: hog\n  command: [tail, /dev/zero]\n{more}");
    DaemonSet { name, containers: &containers, ..DaemonSet::default() }.to_string()
}
