//! Who a machine is: one agent per data directory, one machine per identity.

use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use everynode_model::WallTime;

use everynode_tests::daemon::Daemon;
use everynode_tests::ground::Ground;
use everynode_tests::manifests::{EXPORTER_PROGRAM, WITNESS_PROGRAM};
use everynode_tests::said::Said;
use everynode_tests::{Fleet, Outcome, ensure, failure, wait};
use everynode_transport::Validity;

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
        let of_the_old_node = fleet.machine("n1")?.only(EXPORTER_PROGRAM)?.pid;
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
            // Until the new agent has looked, what it finds is there, and shown as the old node's.
            ensure!(pid != of_the_old_node, "the old node's still runs");
            let pod = fleet.pod("node-exporter", "n1")?;
            let shown = &pod["status"]["containerStatuses"][0]["state"]["running"]["pid"];
            ensure!(*shown == pid, "{shown} is shown, {pid} runs");
            machine.scrape().map(drop)
        })?;
        // The kernel says so too: two of an exporter could not have the same port.
        fleet.machine("n1")?.only(EXPORTER_PROGRAM).map(drop)
    })
}

/// The coordinator is lost with all it had. Machines are taken to the one that is built in its place,
/// one through its running agent, one whose agent is stopped, and nothing on them is started anew.
pub(crate) fn a_rebuilt_coordinator(ground: &Ground) -> Outcome {
    Fleet::play(ground, 2, |fleet| {
        fleet.run_both()?;
        let before = fleet.census()?;
        fleet.machine_mut("n2")?.take_agent()?.kill()?;
        let coordinator = fleet.coordinator_mut();
        coordinator.kill()?;
        coordinator.lose_all()?;
        coordinator.start()?;
        fleet.apply(&manifest())?;
        fleet.apply(&fleet.witness(&[]))?;
        wait::soon("the agent says that this is not the coordinator it knows", || {
            let said = fleet.machine("n1")?.ask_agent("status")?.ok()?;
            ensure!(said.contains("everynode-agent rejoin"), "{said}");
            Ok(())
        })?;

        rejoin(fleet, "n1", "the running agent has taken this machine there")?;
        rejoin(fleet, "n2", "start the agent")?;
        fleet.machine_mut("n2")?.start_agent(None)?;
        for name in ["n1", "n2"] {
            fleet.ready(name)?;
            known_as_it_runs(fleet, name)?;
        }
        ensure!(fleet.census()? == before, "something was started anew: {before:?}");

        // They are as any others now: replaced when that is asked for, one after the other.
        let pod = fleet.pod_name("lock-witness", "n1")?;
        fleet.tool(&["delete", "pod", &pod])?.ok()?;
        wait::soon("the witness of n1 is another", || {
            let now = fleet.machine("n1")?.only(WITNESS_PROGRAM)?;
            ensure!(now != before[0].2, "it is still the old one");
            Ok(())
        })?;
        // And what is not wanted there stops.
        fleet.tool(&["delete", "daemonset", "node-exporter"])?.ok()?;
        wait::soon("no exporter runs", || {
            ["n1", "n2"].iter().try_for_each(|name| fleet.machine(name)?.none(EXPORTER_PROGRAM))
        })?;
        ensure!(fleet.machine("n2")?.only(WITNESS_PROGRAM)? == before[1].2, "n2 was disturbed");
        Ok(())
    })
}

fn rejoin(fleet: &Fleet<'_>, name: &str, wanted: &str) -> Outcome {
    let joining = fleet.joining(&[])?;
    let said = Said::by(fleet.machine(name)?.rejoin_command(&joining))?.ok()?;
    ensure!(said.contains(wanted), "{said}");
    // Done again, it is that machine already.
    let again = Said::by(fleet.machine(name)?.rejoin_command(&joining))?.ok()?;
    ensure!(again.contains("already"), "{again}");
    Ok(())
}

/// The coordinator shows the pods of a machine with the pids that they have there.
fn known_as_it_runs(fleet: &Fleet<'_>, name: &str) -> Outcome {
    wait::soon(&format!("the pods of {name} are known by their pids"), || {
        let (_, exporter, witness) = fleet.census_of(name)?;
        for (set, process) in [("node-exporter", exporter), ("lock-witness", witness)] {
            let pod = fleet.pod(set, name)?;
            let shown = &pod["status"]["containerStatuses"][0]["state"]["running"]["pid"];
            ensure!(*shown == process.pid, "{set}: {shown} is shown, {} runs", process.pid);
        }
        Ok(())
    })
}

/// A coordinator that has forgotten a node refuses it; the machine runs on, and may be taken in again.
pub(crate) fn unknown_is_not_removed(ground: &Ground) -> Outcome {
    Fleet::play(ground, 1, |fleet| {
        fleet.run_both()?;
        let before = fleet.census()?;
        fleet.tool(&["delete", "node", "n1", "--forget"])?.ok()?;
        wait::soon("the agent says that it is not known", || {
            let said = fleet.machine("n1")?.ask_agent("status")?.ok()?;
            ensure!(said.contains("does not know node"), "{said}");
            Ok(())
        })?;
        ensure!(fleet.census()? == before, "a forgotten machine was disturbed");
        let joining = fleet.joining(&[])?;
        Said::by(fleet.machine("n1")?.rejoin_command(&joining))?.ok()?;
        fleet.ready("n1")?;
        known_as_it_runs(fleet, "n1")?;
        ensure!(fleet.census()? == before, "something was started anew");
        Ok(())
    })
}

/// With certificates of ten seconds: renewed while the agent runs, and first thing after it was off
/// for longer than they last.
pub(crate) fn certificates_renew_themselves(ground: &Ground) -> Outcome {
    Fleet::play(ground, 0, |fleet| {
        let coordinator = fleet.coordinator_mut();
        coordinator.kill()?;
        coordinator.set_flags(&["--node-certificate-lifetime", "10s"]);
        coordinator.start()?;
        let (name, joining) = (fleet.add_machine(1)?, fleet.joining(&[])?);
        fleet.machine_mut(&name)?.start_agent(Some(&joining))?;
        fleet.run_both()?;
        let before = fleet.census()?;
        wait::soon("the certificate is renewed, and again", || {
            let log = fleet.machine(&name)?.log();
            ensure!(log.matches("the certificate was renewed").count() >= 2, "{log}");
            Ok(())
        })?;
        let log = fleet.machine(&name)?.log();
        ensure!(log.matches("session open").count() == 1, "its session was interrupted: {log}");

        fleet.machine_mut(&name)?.take_agent()?.kill()?;
        wait::soon("its time is over", || {
            let said = fs::read(fleet.machine(&name)?.data_dir().join("identity.json"))?;
            let identity: serde_json::Value = serde_json::from_slice(&said)?;
            let chain = identity["chain"][0].as_str().unwrap_or_default().to_owned();
            ensure!(is_over(&chain)?, "it is still good");
            Ok(())
        })?;
        fleet.machine_mut(&name)?.start_agent(None)?;
        wait::soon("it is renewed first", || {
            let log = fleet.machine(&name)?.log();
            ensure!(log.contains("the certificate had expired and was renewed"), "{log}");
            Ok(())
        })?;
        fleet.ready(&name)?;
        ensure!(fleet.census()? == before, "something was started anew");
        Ok(())
    })
}

/// Whether the time of a certificate (DER in base64) is over.
fn is_over(certificate: &str) -> Outcome<bool> {
    let der = BASE64.decode(certificate).map_err(|error| failure!("{error}"))?;
    let validity = Validity::of_der(&der).ok_or_else(|| failure!("no certificate"))?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    Ok(validity.is_over(WallTime::from_unix_millis(now)))
}

fn manifest() -> String {
    everynode_tests::manifests::exporter("")
}
