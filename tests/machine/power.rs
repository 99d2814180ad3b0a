//! The machine goes down, suddenly or in order, and comes back.

use everynode_tests::ground::Ground;
use everynode_tests::manifests::{self, DaemonSet};
use everynode_tests::witness::{self, What};
use everynode_tests::{Fleet, Outcome, ensure, failure, wait};

use crate::debian::{AGENT, Debian, NAME};
use crate::play;

/// The plug is pulled with the coordinator away: the ledger alone brings all back, one of each.
pub(crate) fn a_power_cut_needs_no_coordinator(ground: &Ground) -> Outcome {
    play(ground, |fleet, machine| {
        let before = machine.join_and_run(fleet)?;
        fleet.coordinator_mut().kill()?;
        machine.lose_power()?;
        machine.power_on(fleet)?;
        let after = machine.runs_both()?;
        ensure!(after.boot != before.boot, "it did not boot");

        fleet.coordinator_mut().start()?;
        fleet.ready(NAME)?;
        known(fleet, &after.boot)?;
        ensure!(machine.both()? == after, "coming back restarted something");

        // What was acknowledged a moment before is not forgotten.
        fleet.apply(&daemon("late", 30, "exec sleep 100000"))?;
        machine.soon("it runs", || machine.look()?.only("sleep"))?;
        fleet.coordinator_mut().kill()?;
        machine.lose_power()?;
        machine.power_on(fleet)?;
        machine.runs_both()?;
        machine.soon("it runs again", || machine.look()?.only("sleep"))?;
        Ok(())
    })
}

/// The power button, then a restart without an agent: each pod is asked to end, has its time and its
/// network, and is killed when it does not; and all is back after the boot.
pub(crate) fn going_down_ends_pods_in_order(ground: &Ground) -> Outcome {
    play(ground, |fleet, machine| {
        let first = machine.join_and_run(fleet)?;
        fleet.apply(&daemon("polite", 60, POLITE))?;
        fleet.apply(&daemon("stubborn", 2, STUBBORN))?;
        all_run(machine)?;
        machine.press_power_button()?;
        machine.power_on(fleet)?;
        ended_in_order(fleet, machine, 1)?;
        let second = machine.runs_both()?;
        ensure!(second.boot != first.boot, "it did not boot");
        all_run(machine)?;
        fleet.ready(NAME)?;
        known(fleet, &second.boot)?;

        machine.sh(&format!("systemctl stop {AGENT}"))?;
        ensure!(machine.both()? == second, "stopping the agent disturbed a pod");
        machine.reboot()?;
        machine.power_on(fleet)?;
        ended_in_order(fleet, machine, 2)?;
        machine.runs_both()?;
        all_run(machine)?;

        // By hand, on a machine that stays up: the running agent stops all, and ends with them.
        machine.sh("systemctl stop everynode-pods.service")?;
        machine.look()?.empty()?;
        machine.soon("the agent has ended by itself", || {
            let state = machine.sh(&format!("systemctl show -P SubState {AGENT}"))?;
            ensure!(state == "dead\n", "{state}");
            Ok(())
        })?;
        ended_in_order(fleet, machine, 3)?;
        machine.sh(&format!("systemctl start {AGENT}"))?;
        machine.runs_both().map(drop)
    })
}

/// Takes a second to end, and writes down whether the machine still had its network and a disk: in
/// systemd's last sweep, nobody answers any more.
const POLITE: &str =
    "end() { sleep 1; systemctl is-active systemd-networkd >>/var/lib/witness/polite; exit 0; }
    trap end TERM
    while :; do sleep 1 & wait $!; done";

/// Never ends by being asked.
const STUBBORN: &str = "trap 'echo asked >>/var/lib/witness/stubborn' TERM
    while :; do sleep 1 & wait $!; done";

fn all_run(machine: &Debian) -> Outcome {
    machine.soon("the polite one and the stubborn one run", || {
        let seen = machine.look()?;
        for name in ["polite", "stubborn"] {
            let leaf = format!("/c-{name}");
            let alive = seen.processes.iter().any(|one| one.cgroup.ends_with(&leaf));
            ensure!(alive, "{name} does not run");
        }
        Ok(())
    })
}

/// Sees that for the `times`-th time each was asked to end and had its time for it.
fn ended_in_order(fleet: &Fleet<'_>, machine: &Debian, times: usize) -> Outcome {
    let dir = fleet.witness_dir();
    machine.bring_witness(&dir)?;
    let lines = witness::read(&dir, NAME)?;
    let count = |what| lines.iter().filter(|line| line.what == what).count();
    let (asked, ended) = (count(What::Stopping), count(What::Ended));
    ensure!((asked, ended) == (times, times), "the witness did not end by itself: {lines:#?}");
    let notes = machine.sh("cat /var/lib/witness/polite")?;
    ensure!(notes == "active\n".repeat(times), "the polite one had no network: {notes:?}");
    let asked = machine.sh("cat /var/lib/witness/stubborn")?;
    ensure!(asked.lines().count() == times, "the stubborn one was not asked: {asked:?}");
    Ok(())
}

/// Waits until the coordinator has heard of this boot.
pub(crate) fn known(fleet: &Fleet<'_>, boot: &str) -> Outcome {
    wait::soon("the coordinator hears of the boot", || {
        let node = fleet.tool(&["get", "node", NAME, "-o", "json"])?.ok()?;
        node.contains(boot).then_some(()).ok_or_else(|| failure!("{boot} is not in {node}"))
    })
}

/// A DaemonSet of a shell script.
fn daemon(name: &str, grace: u32, script: &str) -> String {
    DaemonSet {
        name,
        pod: &format!("terminationGracePeriodSeconds: {grace}\n"),
        containers: &manifests::script(name, script),
        ..DaemonSet::default()
    }
    .to_string()
}
