//! A coordinator that is put back to yesterday, under machines that live in today.

use everynode_tests::fleet::Counted;
use everynode_tests::ground::Ground;
use everynode_tests::manifests::{self, WITNESS};
use everynode_tests::{Fleet, Outcome, ensure, wait};

/// Since the copy: a second revision, another DaemonSet, another machine, another reign. Nothing is
/// restarted while orders are held, what the copy lacks is told, and once it is applied again nothing
/// is restarted by resuming either.
pub(crate) fn onto_yesterdays_copy(ground: &Ground) -> Outcome {
    Fleet::play(ground, 3, |fleet| {
        let copy = yesterday(fleet)?;
        today(fleet)?;
        let ran = fleet.census()?;

        fleet.coordinator_mut().kill()?;
        fleet.coordinator().keep(&["restore", &copy])?.refused(&["is sound", "--force"])?;
        let told = fleet.coordinator().keep(&["restore", &copy, "--force"])?.ok()?;
        ensure!(told.contains("term 1002") && told.contains("before-restore"), "{told}");
        fleet.coordinator_mut().start()?;
        for node in ["n1", "n2", "n3"] {
            fleet.shown(node, &["Ready,AheadOfStore"])?;
        }
        held(fleet)?;
        same(fleet, &ran, "while orders are held")?;

        fleet.tool(&["cluster", "resume"])?.refused(&["6 running pods on 3 nodes", "status"])?;
        apply_again(fleet)?;
        same(fleet, &ran, "by what was applied again")?;
        let told = fleet.tool(&["cluster", "resume", "--dry-run=server"])?.ok()?;
        ensure!(told.contains("resumed (server dry run)"), "{told}");
        fleet.tool(&["cluster", "resume"])?.ok()?;
        resumed(fleet)?;
        same(fleet, &ran, "by resuming")?;
        goes_on(fleet)
    })
}

/// One DaemonSet, in its first revision, on three machines; then the copy is taken.
fn yesterday(fleet: &Fleet<'_>) -> Outcome<String> {
    fleet.apply(&fleet.witness(&["--mark", "a"]))?;
    fleet.rolled_out(WITNESS, "60s")?;
    let copy = fleet.path("yesterday.db").display().to_string();
    fleet.coordinator().keep(&["backup", &copy])?.ok()?;
    Ok(copy)
}

fn today(fleet: &mut Fleet<'_>) -> Outcome {
    fleet.coordinator_mut().kill()?;
    fleet.coordinator_mut().start()?;
    for node in ["n1", "n2", "n3"] {
        fleet.ready(node)?;
    }
    fleet.apply(&fleet.witness(&["--mark", "b"]))?;
    fleet.rolled_out(WITNESS, "60s")?;
    fleet.apply(&manifests::exporter(""))?;
    let joining = fleet.joining(&[])?;
    let fourth = fleet.add_machine(4)?;
    fleet.machine_mut(&fourth)?.start_agent(Some(&joining))?;
    for node in ["n1", "n2", "n3", "n4"] {
        fleet.ready(node)?;
        fleet.runs_both(node)?;
    }
    fleet.rolled_out("node-exporter", "60s")
}

/// Everything that tells people of it.
fn held(fleet: &Fleet<'_>) -> Outcome {
    wait::soon("what the copy lacks is told", || {
        let status = fleet.tool(&["cluster", "status"])?.ok()?;
        ensure!(status.contains("held since") && status.contains("a copy of term 1"), "{status}");
        ensure!(status.matches("stop its pod").count() == 3, "{status}");
        ensure!(status.matches("replace its pod").count() == 3, "{status}");
        ensure!(
            status.contains("UnknownDaemonSet") && status.contains("UnknownRevision"),
            "{status}"
        );
        Ok(())
    })?;
    let why = fleet.tool(&["why"])?;
    ensure!(why.err.starts_with("Warning: orders are held"), "{why}");
    ensure!(why.clone().ok()?.matches("OrdersHeld").count() == 6, "{why}");
    let node = fleet.tool(&["describe", "node", "n1"])?.ok()?;
    ensure!(node.contains("Accepted Order:") && node.contains("of term 2"), "{node}");
    ensure!(node.contains("stop 1 and replace 1 of its pods"), "{node}");
    let get = fleet.tool(&["get", "nodes"])?;
    ensure!(get.err.contains("Warning: orders are held"), "{get}");
    wait::soon("the machine that joined today is told of", || {
        let events = fleet.tool(&["get", "events"])?.ok()?;
        ensure!(events.contains("AheadOfStore") && events.contains("NodeUnknown"), "{events}");
        Ok(())
    })?;
    ensure!(fleet.states("n4")?.is_empty(), "n4 is known");
    Ok(())
}

fn apply_again(fleet: &Fleet<'_>) -> Outcome {
    for manifest in [fleet.witness(&["--mark", "b"]), manifests::exporter("")] {
        let file = fleet.write("again.yaml", &manifest)?;
        let applied = fleet.tool(&["apply", "-f", &file])?;
        ensure!(applied.err.contains("Warning: orders are held"), "{applied}");
        applied.ok()?;
    }
    wait::soon("resuming would change nothing", || {
        let status = fleet.tool(&["cluster", "status"])?.ok()?;
        ensure!(status.contains("Resuming changes nothing"), "{status}");
        Ok(())
    })
}

/// Every machine that is known has its order, in the new term.
fn resumed(fleet: &Fleet<'_>) -> Outcome {
    for name in ["n1", "n2", "n3"] {
        fleet.ready(name)?;
        wait::soon(&format!("{name} has an order of the new term"), || {
            let node = fleet.tool(&["describe", "node", name])?.ok()?;
            ensure!(node.contains("of term 1002"), "{node}");
            Ok(())
        })?;
    }
    for set in [WITNESS, "node-exporter"] {
        fleet.rolled_out(set, "60s")?;
    }
    let get = fleet.tool(&["get", "nodes"])?;
    ensure!(!get.err.contains("Warning"), "{get}");
    fleet.tool(&["cluster", "resume"])?.ok().map(drop)
}

/// Orders are heard again; the machine that is unknown runs on.
fn goes_on(fleet: &Fleet<'_>) -> Outcome {
    fleet.tool(&["delete", "daemonset", WITNESS])?.ok()?;
    for name in ["n1", "n2", "n3"] {
        wait::soon(&format!("{name} has heard of it"), || {
            fleet.machine(name)?.none(manifests::WITNESS_PROGRAM)
        })?;
    }
    fleet.census_of("n4").map(drop)
}

/// The same processes on every machine as before.
fn same(fleet: &Fleet<'_>, ran: &[Counted], what: &str) -> Outcome {
    let now = fleet.census()?;
    ensure!(now == ran, "something was restarted {what}: {ran:?}, then {now:?}");
    Ok(())
}
