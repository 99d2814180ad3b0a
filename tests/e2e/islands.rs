//! Nodes without a coordinator.

use std::time::Duration;

use everynode_tests::ground::Ground;
use everynode_tests::manifests::EXPORTER_PROGRAM;
use everynode_tests::{Fleet, Outcome, ensure, wait};

/// Longer than the lease and the registration window together.
const LONG: Duration = Duration::from_secs(7);

/// What a node without sign of life is shown as.
const LOST: &[&str] = &["NotReady", "Unknown"];

/// The exporter runs on, comes back when it is killed, and healing restarts nothing.
pub(crate) fn a_cut_off_node_looks_after_itself(ground: &Ground) -> Outcome {
    Fleet::play(ground, 3, |fleet| {
        fleet.run_both()?;
        let before = fleet.census()?;
        fleet.cut("n1")?;
        fleet.cut("n2")?;
        fleet.shown("n1", LOST)?;
        fleet.shown("n2", LOST)?;
        wait::throughout(LONG, "what is cut off runs on", || {
            ensure!(fleet.census()? == before, "something was restarted");
            Ok(())
        })?;
        fleet.shown("n3", &["Ready"])?;

        fleet.machine("n1")?.only(EXPORTER_PROGRAM)?.kill()?;
        let [exporter, witness] = fleet.runs_both("n1")?;
        fleet.shown("n1", LOST)?;

        fleet.heal("n1")?;
        fleet.heal("n2")?;
        fleet.ready("n1")?;
        fleet.ready("n2")?;
        wait::soon("the restart is told", || {
            let pod = fleet.pod("node-exporter", "n1")?;
            let status = &pod["status"]["containerStatuses"][0];
            ensure!(status["restartCount"] == 1, "{status}");
            ensure!(status["state"]["running"]["pid"] == exporter.pid, "{status}");
            Ok(())
        })?;
        let after = fleet.census()?;
        ensure!(after[0] == ("n1".into(), exporter, witness), "healing restarted n1's");
        ensure!(after[1..] == before[1..], "healing restarted something");
        Ok(())
    })
}

/// Everything on a machine dies, the coordinator is out of reach: the ledger alone starts it again.
pub(crate) fn a_reboot_needs_no_coordinator(ground: &Ground) -> Outcome {
    Fleet::play(ground, 2, |fleet| {
        fleet.run_both()?;
        let before = fleet.census()?;
        for name in ["n1", "n2"] {
            fleet.cut(name)?;
            let machine = fleet.machine_mut(name)?;
            machine.lose_power()?;
            machine.none(EXPORTER_PROGRAM)?;
            machine.boot()?;
            machine.start_agent(None)?;
        }
        fleet.runs_both("n1")?;
        fleet.runs_both("n2")?;
        let rebooted = fleet.census()?;
        ensure!(rebooted.iter().zip(&before).all(|(now, then)| now.1 != then.1), "nothing died");

        fleet.heal("n1")?;
        fleet.heal("n2")?;
        wait::soon("the coordinator hears of the new boots", || {
            for name in ["n1", "n2"] {
                let node = fleet.tool(&["get", "node", name, "-o", "json"])?.ok()?;
                ensure!(node.contains("00000002-0000-4000-8000"), "{node}");
            }
            Ok(())
        })?;
        fleet.ready("n1")?;
        fleet.ready("n2")?;
        wait::soon("what runs is shown", || {
            for (name, exporter, _) in &rebooted {
                let pod = fleet.pod("node-exporter", name)?;
                let pid = &pod["status"]["containerStatuses"][0]["state"]["running"]["pid"];
                ensure!(*pid == exporter.pid, "{pid} is shown for {exporter:?}");
            }
            Ok(())
        })?;
        ensure!(fleet.census()? == rebooted, "coming back restarted something");
        Ok(())
    })
}
