//! What operators do on a day with changes: back and forth between revisions, a pause, nodes that are
//! held or stopped, a slip that would take pods away, and the end of a DaemonSet.

use everynode_tests::ground::Ground;
use everynode_tests::manifests::WITNESS_PROGRAM;
use everynode_tests::{Fleet, Outcome, ensure, wait};

use crate::updates::{everywhere, marked, newest};

const ALL: [&str; 3] = ["n1", "n2", "n3"];
const SET: &str = "daemonset/lock-witness";

/// Undo, pause, restart, hold, stop, a mistyped selector, and a deletion that is waited for.
pub(crate) fn a_day_with_changes(ground: &Ground) -> Outcome {
    Fleet::play(ground, 3, |fleet| {
        fleet.apply(&marked(fleet, "a"))?;
        everywhere(fleet, &ALL, "a")?;
        fleet.apply(&marked(fleet, "b"))?;
        everywhere(fleet, &ALL, "b")?;
        back_and_forth(fleet)?;
        paused(fleet)?;
        held(fleet)?;
        stopped(fleet)?;
        slips(fleet)?;
        deleted(fleet)
    })
}

fn back_and_forth(fleet: &Fleet<'_>) -> Outcome {
    done(fleet)?;
    let undo = ["rollout", "undo", SET];
    let said = fleet.tool(&["rollout", "undo", SET, "--dry-run=server"])?.ok()?;
    ensure!(said.contains("rolled back (restarts 3 nodes) (server dry run)"), "{said}");
    let said = fleet.tool(&["rollout", "undo", SET, "--to-revision", "99"])?;
    said.refused(&["unable to find specified revision 99 in history"])?;
    fleet.tool(&undo)?.ok()?;
    everywhere(fleet, &ALL, "a")?;
    done(fleet)?;
    let history = fleet.tool(&["rollout", "history", SET])?.ok()?;
    let numbers: Vec<&str> =
        history.lines().skip(2).filter_map(|line| line.split(' ').next()).collect();
    ensure!(numbers == ["2", "3"], "the former revision is used again: {history}");
    let revisions = fleet.tool(&["get", "controllerrevisions", "--no-headers"])?.ok()?;
    ensure!(revisions.lines().count() == 2, "{revisions}");

    let before = witnesses(fleet)?;
    let said = fleet.tool(&["rollout", "restart", SET])?.ok()?;
    ensure!(said == "daemonset.apps/lock-witness restarted\n", "{said}");
    wait::soon("every pod is another one", || {
        let now = witnesses(fleet)?;
        ensure!(before.iter().zip(&now).all(|(before, now)| before != now), "{now:?}");
        Ok(())
    })?;
    done(fleet)
}

fn paused(fleet: &Fleet<'_>) -> Outcome {
    fleet.tool(&["rollout", "pause", SET])?.ok()?;
    fleet.tool(&["rollout", "pause", SET])?.refused(&["is already paused"])?;
    fleet.tool(&["rollout", "restart", SET])?.refused(&["run rollout resume first"])?;
    let before = witnesses(fleet)?;
    fleet.tool(&["rollout", "undo", SET, "--to-revision", "2"])?.ok()?;
    let said = fleet.tool(&["rollout", "status", SET, "--watch=false"])?.ok()?;
    ensure!(said.contains("(paused; "), "{said}");
    ensure!(witnesses(fleet)? == before, "a paused rollout moved something");
    fleet.tool(&["rollout", "resume", SET])?.ok()?;
    everywhere(fleet, &ALL, "b")?;
    done(fleet)
}

fn held(fleet: &Fleet<'_>) -> Outcome {
    fleet.tool(&["node", "hold", "n1", "--reason", "a visit"])?.ok()?;
    fleet.tool(&["node", "stop", "n1"])?.refused(&["is held"])?;
    let before = fleet.machine("n1")?.only(WITNESS_PROGRAM)?;
    fleet.apply(&marked(fleet, "c"))?;
    everywhere(fleet, &["n2", "n3"], "c")?;
    let why = fleet.tool(&["why"])?.ok()?;
    ensure!(why.contains("NodeHeld") && why.contains("a visit"), "{why}");
    let why = fleet.tool(&["why", "daemonset", "lock-witness"])?.ok()?;
    ensure!(why.contains("NodeHeld") && why.contains("SUCH AS"), "{why}");
    ensure!(fleet.states("n1")? == ["Ready,Held"], "{:?}", fleet.states("n1")?);
    let described = fleet.tool(&["describe", "node", "n1"])?.ok()?;
    ensure!(described.contains("Hold since") && described.contains("a visit"), "{described}");
    ensure!(newest(fleet, "n1")? == "b", "a held node was updated");
    ensure!(fleet.machine("n1")?.only(WITNESS_PROGRAM)? == before, "a held pod was restarted");
    fleet.tool(&["node", "release", "n1"])?.ok()?;
    everywhere(fleet, &ALL, "c")?;
    done(fleet)
}

fn stopped(fleet: &Fleet<'_>) -> Outcome {
    let said = fleet.tool(&["node", "stop", "n2", "--reason", "maintenance"])?.ok()?;
    ensure!(said == "node/n2 stopped (loses 1 pod)\n", "{said}");
    wait::soon("nothing runs on n2", || {
        ensure!(fleet.machine("n2")?.running(WITNESS_PROGRAM).is_empty(), "it does");
        let why = fleet.tool(&["why", "node", "n2"])?.ok()?;
        ensure!(why.contains("NodeStopped") && why.contains("maintenance"), "{why}");
        Ok(())
    })?;
    ensure!(fleet.states("n2")? == ["Ready,Stopped"], "{:?}", fleet.states("n2")?);
    fleet.tool(&["drain", "n2", "--ignore-daemonsets"])?.refused(&["everynode node stop n2"])?;
    fleet.tool(&["node", "start", "n2"])?.ok()?;
    wait::soon("n2 runs one again", || fleet.machine("n2")?.only(WITNESS_PROGRAM).map(drop))
}

fn slips(fleet: &Fleet<'_>) -> Outcome {
    done(fleet)?;
    let before = witnesses(fleet)?;
    let on = |tier: &str| {
        let selected = format!("      nodeSelector: {{tier: {tier}}}\n      hostNetwork: true\n");
        marked(fleet, "c").replacen("      hostNetwork: true\n", &selected, 1)
    };
    let file = fleet.write("slip.yaml", &on("egde"))?;
    fleet.tool(&["apply", "-f", &file])?.refused(&["3 of 3 running pods", "--allow-removal"])?;
    let said = fleet.tool(&["apply", "-f", &file, "--allow-removal", "--dry-run=server"])?.ok()?;
    ensure!(said.contains("configured (loses 3 nodes) (server dry run)"), "{said}");
    ensure!(witnesses(fleet)? == before, "what was refused did something");

    fleet.tool(&["label", "nodes", "--all", "tier=edge"])?.ok()?;
    fleet.apply(&on("edge"))?;
    done(fleet)?;
    fleet.tool(&["label", "nodes", "--all", "tier-"])?.refused(&["--allow-removal"])?;
    ensure!(witnesses(fleet)?.len() == 3, "what was refused did something");
    let said = fleet.tool(&["label", "nodes", "n3", "tier-"])?.ok()?;
    ensure!(said == "node/n3 unlabeled (loses 1 pod)\n", "{said}");
    wait::soon("the one without the label runs none", || {
        ensure!(fleet.machine("n3")?.running(WITNESS_PROGRAM).is_empty(), "it does");
        Ok(())
    })
}

/// When it returns, all is over.
fn deleted(fleet: &Fleet<'_>) -> Outcome {
    fleet.tool(&["delete", SET, "--now"])?.refused(&["terminationGracePeriodSeconds"])?;
    let words = ["delete", SET, "--cascade=foreground", "--timeout", "30s"];
    let said = fleet.tool(&words)?.ok()?;
    ensure!(said == "daemonset.apps \"lock-witness\" deleted (loses 2 nodes)\n", "{said}");
    for machine in fleet.machines() {
        ensure!(machine.running(WITNESS_PROGRAM).is_empty(), "{} runs one", machine.name());
    }
    Ok(())
}

fn done(fleet: &Fleet<'_>) -> Outcome {
    fleet.rolled_out("lock-witness", "30s")
}

fn witnesses(fleet: &Fleet<'_>) -> Outcome<Vec<everynode_tests::proc::Process>> {
    fleet.machines().map(|machine| machine.only(WITNESS_PROGRAM)).collect()
}
