//! Cut off, removed, and back: nothing of ours runs on a machine that was removed.

use everynode_tests::ground::Ground;
use everynode_tests::manifests::EXPORTER_PROGRAM;
use everynode_tests::{Fleet, Outcome, ensure, wait};

use crate::debian::{AGENT, Both, Debian, NAME};
use crate::play;

/// By `delete node` while its cable is pulled, by `leave`, and by `delete node`; it joins again each
/// time.
pub(crate) fn a_removed_machine_tears_down(ground: &Ground) -> Outcome {
    play(ground, |fleet, machine| {
        let before = machine.join_and_run(fleet)?;
        copy_of_data(machine)?;
        machine.plug(false)?;
        looks_after_itself(fleet, machine, &before)?;
        let said = fleet.tool(&["delete", "node", NAME])?.ok()?;
        ensure!(said.contains("pending teardown"), "{said}");
        // It can't know yet: unknown is not removed.
        let cut_off = machine.both()?;
        ensure!(cut_off.witness == before.witness, "it tore down without having been told");
        machine.plug(true)?;
        torn_down(fleet, machine)?;
        no_way_back(fleet, machine)?;

        comes_back(fleet, machine)?;
        copy_of_data(machine)?;
        machine.sh("everynode-agent leave")?;
        // Whoever was told that it has left finds it so.
        machine.look()?.empty()?;
        torn_down(fleet, machine)?;
        no_way_back(fleet, machine)?;

        comes_back(fleet, machine)?;
        let said = fleet.tool(&["delete", "node", NAME])?.ok()?;
        ensure!(said.contains("deleted"), "{said}");
        torn_down(fleet, machine)?;
        comes_back(fleet, machine)
    })
}

/// Its daemons run on, and one that is killed comes back.
fn looks_after_itself(fleet: &Fleet<'_>, machine: &Debian, before: &Both) -> Outcome {
    fleet.shown(NAME, &["NotReady", "Unknown"])?;
    ensure!(machine.both()? == *before, "a pulled cable disturbed a pod");
    machine.kill(&before.exporter)?;
    machine.soon("the exporter comes back", || {
        let exporter = machine.look()?.only(EXPORTER_PROGRAM)?;
        ensure!(exporter != before.exporter, "the same one runs");
        machine.scrape()
    })
}

/// The agent has ended by itself, nothing of ours is left, and the coordinator knows.
fn torn_down(fleet: &Fleet<'_>, machine: &Debian) -> Outcome {
    machine.soon("the agent has left and ended", || {
        let state = machine.sh(&format!("systemctl show -p SubState,Result {AGENT}"))?;
        let ended = ["SubState=dead", "Result=success"].iter().all(|line| state.contains(line));
        ensure!(ended, "{state}");
        Ok(())
    })?;
    machine.look()?.empty()?;
    fleet.gone(NAME)?;
    let pods = fleet.tool(&["get", "pods", "-A", "-o", "wide", "--no-headers"])?.ok()?;
    ensure!(!pods.contains(&format!(" {NAME} ")), "pods of {NAME} are shown: {pods}");
    Ok(())
}

/// Whoever comes with the old certificate hears that it is removed, and nothing else.
fn no_way_back(fleet: &Fleet<'_>, machine: &Debian) -> Outcome {
    let said = machine.run("everynode-agent --data-dir /var/lib/copy")?;
    ensure!(said.err.contains("was removed from its cluster"), "{said}");
    machine.look()?.empty()?;
    fleet.gone(NAME)
}

fn comes_back(fleet: &Fleet<'_>, machine: &Debian) -> Outcome {
    machine.join(fleet)?;
    machine.runs_both()?;
    wait::soon("its pods are shown", || fleet.pod("node-exporter", NAME).map(drop))
}

fn copy_of_data(machine: &Debian) -> Outcome {
    machine.sh("rm -rf /var/lib/copy && cp -a /var/lib/everynode-agent /var/lib/copy").map(drop)
}
