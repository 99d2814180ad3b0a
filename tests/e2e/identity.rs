//! Who a machine is: one agent per data directory, one machine per identity.

use std::fs;
use std::process::Command;

use everynode_tests::daemon::Daemon;
use everynode_tests::ground::Ground;
use everynode_tests::manifests::{EXPORTER_PROGRAM, WITNESS_PROGRAM};
use everynode_tests::said::Said;
use everynode_tests::{Fleet, Outcome, ensure, wait};

/// A second agent refuses to start; a copied data directory is refused; the first one notices
/// nothing.
pub(crate) fn one_agent_per_identity(ground: &Ground) -> Outcome {
    Fleet::play(ground, 1, |fleet| {
        // A machine that is copied before it had anything to do: its copy has nothing to start.
        let clone = fleet.add_machine(3)?;
        let copied = fleet.machine(&clone)?.data_dir();
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(fleet.machine("n1")?.data_dir()).arg(&copied);
        Said::by(copy)?.ok()?;

        fleet.apply(&manifest())?;
        fleet.apply(&fleet.witness(&[]))?;
        let [exporter, witness] = fleet.runs_both("n1")?;

        let first = fleet.machine("n1")?;
        let second = first.agent_command(&first.data_dir(), None);
        let refusal = Said::by(second)?.refused(&["in use by another agent"])?;
        ensure!(refusal.lines().filter(|line| line.starts_with("error")).count() == 1, "{refusal}");

        let log = fleet.machine(&clone)?.file("agent.log");
        let command = fleet.machine(&clone)?.agent_command(&copied, None);
        let agent = Daemon::start(command, &log)?;
        wait::soon("the clone is refused with an Event", || {
            let events = fleet.tool(&["get", "events", "-A"])?.ok()?;
            ensure!(events.contains("CloneRefused"), "{events}");
            Ok(())
        })?;
        wait::soon("the clone knows it", || {
            ensure!(
                agent.said().contains("NodeInUse") || agent.said().contains("in use"),
                "{}",
                agent.said()
            );
            Ok(())
        })?;
        fleet.machine(&clone)?.empty()?;
        agent.kill()?;
        fleet.shown("n1", &["Ready"])?;
        let first = fleet.machine("n1")?;
        ensure!(first.only(EXPORTER_PROGRAM)? == exporter, "the exporter was restarted");
        ensure!(first.only(WITNESS_PROGRAM)? == witness, "the witness was restarted");
        let agent = first.agent_pid().and_then(everynode_tests::proc::Process::of);
        ensure!(agent.is_some(), "the first agent ended");
        Ok(())
    })
}

/// An agent that lost its directory finds the old pods by their marks and starts no second one.
pub(crate) fn a_lost_data_directory(ground: &Ground) -> Outcome {
    Fleet::play(ground, 1, |fleet| {
        fleet.run_both()?;
        fleet.machine_mut("n1")?.take_agent()?.kill()?;
        let before = fleet.census()?;
        fs::remove_dir_all(fleet.machine("n1")?.data_dir())?;

        // Its name is taken, unless the token says that it is to be replaced.
        let plain = fleet.joining(&[])?;
        let machine = fleet.machine("n1")?;
        let refused = Said::by(machine.agent_command(&machine.data_dir(), Some(&plain)))?;
        refused.refused(&["NameTaken"])?;
        ensure!(fleet.census()? == before, "a refused agent disturbed what runs");

        let replacing = fleet.joining(&["--node-name", "n1", "--replace"])?;
        fleet.machine_mut("n1")?.start_agent(Some(&replacing))?;
        fleet.ready("n1")?;
        wait::soon("one of each runs and is known", || {
            let machine = fleet.machine("n1")?;
            machine.only(WITNESS_PROGRAM)?;
            let pid = machine.only(EXPORTER_PROGRAM)?.pid;
            let pod = fleet.pod("node-exporter", "n1")?;
            let shown = &pod["status"]["containerStatuses"][0]["state"]["running"]["pid"];
            ensure!(*shown == pid, "{shown} is shown, {pid} runs");
            machine.scrape().map(drop)
        })?;
        // The kernel says so too: two of an exporter could not have the same port.
        ensure!(fleet.machine("n1")?.running(EXPORTER_PROGRAM).len() == 1, "two exporters");
        Ok(())
    })
}

fn manifest() -> String {
    everynode_tests::manifests::exporter("")
}
