//! People at a machine, and what a machine has lost.

use std::fs;

use everynode_tests::ground::Ground;
use everynode_tests::manifests::WITNESS_PROGRAM;
use everynode_tests::{Fleet, Outcome, ensure, wait};

/// A pod that is held at its node is passed by; the rollout and `why` say so until it is released.
pub(crate) fn a_held_pod_waits_and_says_so(ground: &Ground) -> Outcome {
    Fleet::play(ground, 3, |fleet| {
        fleet.run_both()?;
        let before = fleet.census()?;
        fleet.machine("n1")?.ask_agent("hold lock-witness --reason looking")?.ok()?;
        fleet.apply(&fleet.witness(&["--mark", "b"]))?;
        wait::soon("all others have the new revision", || {
            for (name, _, witness) in &before[1..] {
                ensure!(fleet.machine(name)?.only(WITNESS_PROGRAM)? != *witness, "{name}");
            }
            let why = fleet.tool(&["why"])?.ok()?;
            ensure!(why.contains("HeldOnNode") && why.contains("looking"), "{why}");
            ensure!(!why.contains("n2") && !why.contains("n3"), "{why}");
            let status = ["rollout", "status", "daemonset/lock-witness", "--watch=false"];
            let status = fleet.tool(&status)?.ok()?;
            ensure!(status.contains("2 out of 3 new pods") && status.contains("held"), "{status}");
            Ok(())
        })?;
        ensure!(fleet.machine("n1")?.only(WITNESS_PROGRAM)? == before[0].2, "n1 was updated");
        fleet.machine("n1")?.ask_agent("release lock-witness")?.ok()?;
        wait::soon("the one that was held follows", || {
            ensure!(fleet.machine("n1")?.only(WITNESS_PROGRAM)? != before[0].2, "not yet");
            Ok(())
        })?;
        fleet.rolled_out("lock-witness", "30s")
    })
}

/// Both copies of a ledger are spoiled: nothing is restarted, and the coordinator is told.
pub(crate) fn a_lost_ledger_stops_nothing(ground: &Ground) -> Outcome {
    Fleet::play(ground, 2, |fleet| {
        fleet.run_both()?;
        let before = fleet.census()?;
        let machine = fleet.machine_mut("n1")?;
        machine.take_agent()?.kill()?;
        for name in ["ledger.a", "ledger.b"] {
            let path = machine.data_dir().join(name);
            let size = fs::metadata(&path)?.len();
            fs::write(&path, vec![0; usize::try_from(size).unwrap_or(0)])?;
        }
        machine.start_agent(None)?;
        wait::soon("the coordinator tells of it", || {
            let events = fleet.tool(&["get", "events", "-A"])?.ok()?;
            ensure!(events.contains("LedgerDamaged"), "{events}");
            let why = fleet.tool(&["why"])?;
            ensure!(why.clone().ok()?.trim().is_empty() || why.err.contains("as wanted"), "{why}");
            Ok(())
        })?;
        ensure!(fleet.census()? == before, "something was restarted");
        let kept = fleet.machine("n1")?.data_dir().join("ledger.a.damaged");
        ensure!(kept.exists(), "what was damaged is not there any more");
        Ok(())
    })
}
