//! Disks that are full, that hang, and that have become read-only: on the coordinator and on nodes.

use std::time::Duration;

use everynode_tests::coordinator::PORT;
use everynode_tests::daemon::Daemon;
use everynode_tests::disk::Disk;
use everynode_tests::ground::Ground;
use everynode_tests::manifests::{EXPORTER_PROGRAM, WITNESS_PROGRAM};
use everynode_tests::said::Said;
use everynode_tests::{Fleet, Outcome, ensure, failure, wait};

/// Well over the lease, and over the time after which a silent session would be given up.
const LONG: Duration = Duration::from_secs(7);

/// Refused by name, while all else goes on; taken again by the first who asks after room was made.
pub(crate) fn a_full_coordinator_says_so(ground: &Ground) -> Outcome {
    Fleet::play(ground, 2, |fleet| {
        fleet.run_both()?;
        let disk = coordinators_disk(fleet)?;
        let (before, sessions) = (fleet.census()?, fleet.sessions());

        disk.fill()?;
        create(fleet, "refused")?.refused(&["StoreFull", "the coordinator's disk is full"])?;
        create(fleet, "refused")?.refused(&["StoreFull"])?;
        wait::throughout(LONG, "all else goes on", || all_ready(fleet))?;
        fleet.machine("n1")?.only(EXPORTER_PROGRAM)?.kill()?;
        fleet.runs_both("n1")?;
        let sets = fleet.tool(&["get", "daemonsets"])?.ok()?;
        ensure!(!sets.contains("refused"), "what was refused is there: {sets}");
        no_start(fleet, &disk, &["No space left"])?;

        disk.make_room()?;
        create(fleet, "taken")?.ok()?;
        fleet.nobody_was_lost()?;
        ensure!(fleet.sessions() == sessions, "a session ended over a full disk");
        let log = fleet.coordinator().log();
        ensure!(log.contains("the store takes writes again"), "{log}");

        fleet.coordinator_mut().kill()?;
        fleet.coordinator_mut().start()?;
        let sets = fleet.tool(&["get", "daemonsets"])?.ok()?;
        ensure!(sets.contains("taken") && !sets.contains("refused"), "{sets}");
        fleet.ready("n1")?;
        ensure!(fleet.census()?[1] == before[1], "something was restarted");
        Ok(())
    })
}

/// The same of a disk on which the kernel has found an error; mended, nothing is lost.
pub(crate) fn a_read_only_coordinator_says_so(ground: &Ground) -> Outcome {
    Fleet::play(ground, 1, |fleet| {
        fleet.run_both()?;
        let mut disk = coordinators_disk(fleet)?;
        let (before, sessions) = (fleet.census()?, fleet.sessions());
        create(fleet, "taken")?.ok()?;

        disk.fail()?;
        create(fleet, "refused")?
            .refused(&["StoreReadOnly", "the coordinator's disk is read-only"])?;
        wait::throughout(LONG, "all else goes on", || all_ready(fleet))?;
        fleet.nobody_was_lost()?;
        ensure!(fleet.sessions() == sessions, "a session ended over a read-only disk");

        fleet.coordinator_mut().kill()?;
        let coordinator = fleet.coordinator();
        let command = coordinator.coordinator_command(&coordinator.data_dir(), PORT);
        one_line(&Said::by(command)?, &["read-only"])?;
        disk.mend()?;
        fleet.coordinator_mut().start()?;
        create(fleet, "refused")?.ok()?;
        let sets = fleet.tool(&["get", "daemonsets"])?.ok()?;
        ensure!(sets.contains("taken"), "what was acknowledged is lost: {sets}");
        fleet.ready("n1")?;
        ensure!(fleet.census()? == before, "something was restarted");
        Ok(())
    })
}

/// A disk that hangs on either side delays what must be durable, and no sign of life.
pub(crate) fn one_that_hangs_makes_nobody_look_lost(ground: &Ground) -> Outcome {
    Fleet::play(ground, 1, |fleet| {
        let nodes_disk = with_disk(fleet)?;
        fleet.run_both()?;
        let disk = coordinators_disk(fleet)?;
        let (before, sessions) = (fleet.census()?, fleet.sessions());

        let hanging = disk.hang()?;
        wait::throughout(LONG / 2, "who only looks is answered", || all_ready(fleet))?;
        let file = fleet.write("slow.yaml", &manifest("slow", "{nowhere: 'true'}"))?;
        let command = fleet.coordinator().tool_command(&["create", "-f", &file]);
        let mut create = Daemon::start(command, &fleet.path("slow.log"))?;
        wait::throughout(LONG, "what runs, runs on", || {
            ensure!(fleet.census()? == before, "something was restarted");
            Ok(())
        })?;
        drop(hanging);
        let ended = create.ended()?;
        ensure!(ended.success(), "{ended}: {}", create.said());

        let hanging = nodes_disk.hang()?;
        fleet.apply(&fleet.witness(&["--mark", "2"]))?;
        wait::throughout(LONG, "the node is heard of", || all_ready(fleet))?;
        why(fleet, &["OrderNotAcknowledged"])?;
        drop(hanging);
        wait::soon("the order is followed", || {
            let witness = fleet.machine("n2")?.only(WITNESS_PROGRAM)?;
            ensure!(witness.command.contains(&"2".to_owned()), "{witness:?}");
            Ok(())
        })?;
        fleet.nobody_was_lost()?;
        ensure!(fleet.sessions() == sessions, "a session ended over a slow disk");
        Ok(())
    })
}

/// What runs, runs on and comes back; what is new waits for room; leaving has its own.
pub(crate) fn a_full_node_looks_after_itself(ground: &Ground) -> Outcome {
    Fleet::play(ground, 0, |fleet| {
        let disk = with_disk(fleet)?;
        fleet.run_both()?;
        disk.fill()?;
        looks_after_itself(fleet)?;
        // What pods that have ended had there is free again.
        disk.fill()?;
        refuses_orders(fleet, "No space left")?;

        disk.make_room()?;
        wait::soon("the order is followed by itself", || {
            let witness = fleet.machine("n2")?.only(WITNESS_PROGRAM)?;
            ensure!(witness.command.contains(&"2".to_owned()), "{witness:?}");
            Ok(())
        })?;

        disk.fill()?;
        let mut agent = fleet.machine_mut("n2")?.take_agent()?;
        fleet.machine("n2")?.ask_agent("leave")?.ok()?;
        let ended = agent.ended()?;
        ensure!(ended.success(), "the agent ended with {ended}: {}", agent.said());
        fleet.machine("n2")?.empty()?;
        fleet.gone("n2")
    })
}

/// The same on a disk that is read-only; there leaving stops everything and says what it lacks.
pub(crate) fn a_read_only_node_looks_after_itself(ground: &Ground) -> Outcome {
    Fleet::play(ground, 0, |fleet| {
        let disk = with_disk(fleet)?;
        fleet.run_both()?;
        disk.fail()?;
        looks_after_itself(fleet)?;
        refuses_orders(fleet, "Read-only file system")?;
        let machine = fleet.machine("n2")?;
        let left = machine.ask_agent("leave")?;
        ensure!(left.code == Some(1), "{left}");
        ensure!(left.out.contains("the ledger can't be written"), "{left}");
        machine.none(EXPORTER_PROGRAM)?;
        machine.none(WITNESS_PROGRAM)
    })
}

/// Killed containers, supervisors and agents of n2 come back without a write to its disk.
fn looks_after_itself(fleet: &mut Fleet<'_>) -> Outcome {
    let machine = fleet.machine("n2")?;
    machine.only(EXPORTER_PROGRAM)?.kill()?;
    fleet.runs_both("n2")?;
    let machine = fleet.machine("n2")?;
    let witness = machine.only(WITNESS_PROGRAM)?;
    machine.shim_of(&witness)?.kill()?;
    wait::soon("another witness runs", || {
        ensure!(fleet.machine("n2")?.only(WITNESS_PROGRAM)? != witness, "the same one runs");
        Ok(())
    })?;

    let before = fleet.census()?;
    fleet.machine_mut("n2")?.take_agent()?.kill()?;
    fleet.machine_mut("n2")?.start_agent(None)?;
    let sessions = fleet.sessions();
    wait::soon("the agent has a session again", || {
        ensure!(fleet.sessions() > sessions, "{}", fleet.machine("n2")?.log());
        Ok(())
    })?;
    fleet.ready("n2")?;
    let status = fleet.machine("n2")?.ask_agent("status")?.ok()?;
    ensure!(status.contains("active"), "{status}");
    ensure!(fleet.census()? == before, "the agent's restart restarted something");
    Ok(())
}

/// A template that is new to n2 has no place on its disk, and `why` says so.
fn refuses_orders(fleet: &Fleet<'_>, cause: &str) -> Outcome {
    let before = fleet.census()?;
    fleet.apply(&fleet.witness(&["--mark", "2"]))?;
    why(fleet, &["OrderRefused", cause])?;
    ensure!(fleet.census()? == before, "it was followed all the same");
    Ok(())
}

fn why(fleet: &Fleet<'_>, words: &[&str]) -> Outcome {
    wait::soon("why says so", || {
        let why = fleet.tool(&["why"])?.ok()?;
        let missing = words.iter().find(|word| !why.contains(**word));
        ensure!(missing.is_none(), "{missing:?} was expected in {why}");
        Ok(())
    })
}

/// One more machine, n2, whose agent has a disk of its own.
fn with_disk(fleet: &mut Fleet<'_>) -> Outcome<Disk> {
    let joining = fleet.joining(&[])?;
    let name = fleet.add_machine(2)?;
    let disk = Disk::under(&fleet.machine(&name)?.data_dir())?;
    fleet.machine_mut(&name)?.start_agent(Some(&joining))?;
    fleet.ready(&name)?;
    Ok(disk)
}

/// Gives the coordinator a disk of its own, and starts it there.
fn coordinators_disk(fleet: &mut Fleet<'_>) -> Outcome<Disk> {
    fleet.coordinator_mut().kill()?;
    let before = fleet.sessions();
    let disk = Disk::under(&fleet.coordinator().data_dir())?;
    fleet.coordinator_mut().start()?;
    let machines = fleet.machines().count();
    wait::soon("all agents have found it again", || {
        let sessions = fleet.sessions();
        ensure!(sessions == before + machines, "{sessions} sessions, {before} before");
        all_ready(fleet)
    })?;
    Ok(disk)
}

fn all_ready(fleet: &Fleet<'_>) -> Outcome {
    let names: Vec<_> = fleet.machines().map(|machine| machine.name().to_owned()).collect();
    for name in names {
        let states = fleet.states(&name)?;
        ensure!(states == ["Ready"], "{name} is shown as {states:?}");
    }
    Ok(())
}

/// Creates a DaemonSet for no node that is too large for what a full disk may have left.
fn create(fleet: &Fleet<'_>, name: &str) -> Outcome<Said> {
    let note = "x".repeat(200 * 1024);
    let manifest = manifest(name, "{nowhere: 'true'}").replacen(
        "metadata:\n",
        &format!("metadata:\n  annotations: {{note: {note}}}\n"),
        1,
    );
    let file = fleet.write("large.yaml", &manifest)?;
    fleet.tool(&["create", "-f", &file])
}

fn manifest(name: &str, selector: &str) -> String {
    everynode_tests::manifests::exporter(&format!("nodeSelector: {selector}")).replacen(
        "name: node-exporter",
        &format!("name: {name}"),
        1,
    )
}

/// A coordinator that is started on that disk says why it can't, and ends.
fn no_start(fleet: &Fleet<'_>, disk: &Disk, words: &[&str]) -> Outcome {
    let data = disk.at().join("second");
    let command = fleet.coordinator().coordinator_command(&data, PORT + 1);
    one_line(&Said::by(command)?, words)
}

/// Exit code 1, and one line of error with these words.
fn one_line(said: &Said, words: &[&str]) -> Outcome {
    let line = said.clone().refused(words)?;
    let plain = |line: &&str| !line.is_empty() && !line.contains("INFO");
    let errors = line.lines().filter(plain).count();
    if errors == 1 { Ok(()) } else { Err(failure!("one line was expected of {said}")) }
}
