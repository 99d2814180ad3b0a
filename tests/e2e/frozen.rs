//! Programs that are stopped (SIGSTOP) for longer than anything waits for them, and go on.

use std::time::Duration;

use everynode_tests::ground::Ground;
use everynode_tests::manifests::{EXPORTER_PROGRAM, WITNESS_PROGRAM};
use everynode_tests::{Fleet, Outcome, ensure, proc, wait};
use rustix::process::Signal;

/// Longer than lease and registration window together.
const LONG: Duration = Duration::from_secs(8);

/// It concludes nothing from its own sleep: no node is lost, and its rollout goes on.
pub(crate) fn a_coordinator_loses_nobody(ground: &Ground) -> Outcome {
    Fleet::play(ground, 2, |fleet| {
        fleet.run_both()?;
        let before = fleet.census()?;
        let pid = fleet.coordinator().pid()?;
        fleet.apply(&fleet.witness(&["--mark", "2"]))?;
        stopped(pid, || {
            wait::throughout(LONG, "the exporters run on", || {
                for (name, exporter, _) in &before {
                    let now = fleet.machine(name)?.only(EXPORTER_PROGRAM)?;
                    ensure!(now == *exporter, "the exporter of {name} was restarted");
                }
                Ok(())
            })
        })?;
        for name in ["n1", "n2"] {
            let states = fleet.states(name)?;
            ensure!(states == ["Ready"], "{name} is shown as {states:?}");
        }
        wait::soon("the rollout goes on", || {
            for name in ["n1", "n2"] {
                let witness = fleet.machine(name)?.only(WITNESS_PROGRAM)?;
                ensure!(witness.command.contains(&"2".to_owned()), "{witness:?}");
            }
            Ok(())
        })?;
        fleet.nobody_was_lost()?;
        let log = fleet.coordinator().log();
        ensure!(log.contains("this process was frozen"), "{log}");
        for (name, exporter, _) in &before {
            let now = fleet.machine(name)?.only(EXPORTER_PROGRAM)?;
            ensure!(now == *exporter, "the exporter of {name} was restarted");
        }
        Ok(())
    })
}

/// A stopped agent is shown as lost, and then not; a stopped daemon is nobody's business yet.
pub(crate) fn an_agent_is_lost_and_found(ground: &Ground) -> Outcome {
    Fleet::play(ground, 1, |fleet| {
        fleet.run_both()?;
        let before = fleet.census()?;
        let machine = fleet.machine("n1")?;
        let pid = machine.agent_pid().unwrap_or_default();
        stopped(pid, || fleet.shown("n1", &["NotReady", "Unknown"]))?;
        fleet.ready("n1")?;
        ensure!(fleet.census()? == before, "something was restarted");

        let exporter = machine.only(EXPORTER_PROGRAM)?;
        stopped(exporter.pid, || {
            wait::throughout(LONG / 2, "it is left as it is", || {
                let pod = fleet.pod("node-exporter", "n1")?;
                let status = &pod["status"]["containerStatuses"][0];
                ensure!(status["restartCount"] == 0, "{status}");
                Ok(())
            })
        })?;
        machine.scrape()?;
        ensure!(fleet.census()? == before, "something was restarted");
        Ok(())
    })
}

/// A stopped supervisor tells of no end: that is said, and nothing is started beside it.
pub(crate) fn a_shim_gets_no_rival(ground: &Ground) -> Outcome {
    Fleet::play(ground, 1, |fleet| {
        fleet.run_both()?;
        let machine = fleet.machine("n1")?;
        let witness = machine.only(WITNESS_PROGRAM)?;
        let exporter = machine.only(EXPORTER_PROGRAM)?;
        let shim = machine.shim_of(&witness)?;
        stopped(shim.pid, || {
            witness.kill()?;
            for asked in ["the coordinator", "the agent"] {
                wait::soon(&format!("{asked} says why"), || {
                    machine.none(WITNESS_PROGRAM)?;
                    let why = match asked {
                        "the agent" => machine.ask_agent("why")?.ok()?,
                        _ => fleet.tool(&["why"])?.ok()?,
                    };
                    ensure!(why.contains("SupervisorSilent"), "{why}");
                    Ok(())
                })?;
            }
            Ok(())
        })?;
        fleet.runs_both("n1")?;
        ensure!(fleet.machine("n1")?.only(EXPORTER_PROGRAM)? == exporter, "it was disturbed");
        wait::soon("all is well again", || {
            let why = fleet.tool(&["why"])?.ok()?;
            ensure!(!why.contains("SupervisorSilent"), "{why}");
            Ok(())
        })
    })
}

/// Stops a process while something is done, and has it go on however that ends.
fn stopped(pid: u32, during: impl FnOnce() -> Outcome) -> Outcome {
    proc::signal(pid, Signal::STOP)?;
    let done = during();
    proc::signal(pid, Signal::CONT)?;
    done
}
