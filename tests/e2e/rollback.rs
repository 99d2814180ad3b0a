//! A version that fails on one machine goes back everywhere by itself, and reaches nobody who was away.

use std::fs;

use everynode_tests::daemon::Daemon;
use everynode_tests::ground::Ground;
use everynode_tests::manifests::{self, EXPORTER, EXPORTER_PROGRAM};
use everynode_tests::proc::Process;
use everynode_tests::{Fleet, Outcome, ensure, wait};

/// Who has the port of the new version already.
const OCCUPIED: &str = "n4";
/// Who is cut off while it is rolled out.
const AWAY: &str = "n5";
const CONNECTED: [&str; 4] = ["n1", "n2", "n3", OCCUPIED];

/// The exporter's flags change over five machines: one is cut off, on one the new port is taken.
pub(crate) fn a_bad_version_goes_back_by_itself(ground: &Ground) -> Outcome {
    Fleet::play(ground, 5, |fleet| {
        fleet.apply(&on_port(9100))?;
        for name in CONNECTED.iter().chain([&AWAY]) {
            wait::soon(&format!("{name} runs the old version"), || runs(fleet, name, 9100))?;
        }
        fleet.tool(&["rollout", "status", "ds/node-exporter", "--timeout", "60s"])?.ok()?;
        let occupant = occupy(fleet, 9200)?;
        fleet.cut(AWAY)?;
        fleet.shown(AWAY, &["NotReady", "Unknown"])?;
        let away = runs(fleet, AWAY, 9100)?;
        let occupied = runs(fleet, OCCUPIED, 9100)?;

        fleet.apply(&carefully(&on_port(9200)))?;
        let status = ["rollout", "status", "daemonset/node-exporter", "--timeout", "120s"];
        let told = fleet.tool(&status)?.refused(&["node-exporter", "RolledBack"])?;
        ensure!(told.contains("no available pod"), "it does not say why: {told}");
        for name in CONNECTED {
            wait::soon(&format!("{name} is back at the old version"), || runs(fleet, name, 9100))?;
            fleet.machine(name)?.scrape()?;
        }
        ensure!(runs(fleet, OCCUPIED, 9100)? != occupied, "the new version was never tried there");
        let events = fleet.tool(&["get", "events"])?.ok()?;
        ensure!(events.contains("ProgressDeadlineExceeded"), "{events}");

        fleet.heal(AWAY)?;
        fleet.ready(AWAY)?;
        wait::soon("everybody says that it was rolled back", || {
            let set = fleet.tool(&["get", "ds", "node-exporter", "-o", "json"])?.json()?;
            let status = &set["status"];
            ensure!(status["numberAvailable"] == 5, "{status}");
            let why = fleet.tool(&["why", "daemonset", "node-exporter"])?.ok()?;
            ensure!(why.contains("RolledBack") && !why.contains("NodeLost"), "{why}");
            Ok(())
        })?;
        ensure!(runs(fleet, AWAY, 9100)? == away, "who was away was restarted");
        fleet.tool(&status)?.refused(&["RolledBack"])?;

        the_same_is_not_tried_again(fleet)?;
        drop(occupant);
        another_template_is(fleet)
    })
}

fn the_same_is_not_tried_again(fleet: &Fleet<'_>) -> Outcome {
    let before = all(fleet, 9100)?;
    let file = fleet.write("again.yaml", &carefully(&on_port(9200)))?;
    let said = fleet.tool(&["apply", "-f", &file])?.ok()?;
    ensure!(said.contains("unchanged"), "{said}");
    ensure!(all(fleet, 9100)? == before, "what has failed was tried again");
    Ok(())
}

fn another_template_is(fleet: &Fleet<'_>) -> Outcome {
    fleet.apply(&on_port(9300))?;
    fleet.tool(&["rollout", "status", "ds/node-exporter", "--timeout", "120s"])?.ok()?;
    all(fleet, 9300).map(drop)
}

fn on_port(port: u16) -> String {
    let ready =
        "spec:\n  minReadySeconds: 2\n  updateStrategy: {rollingUpdate: {maxUnavailable: 2}}\n";
    manifests::exporter("").replace("9100", &port.to_string()).replacen("spec:\n", ready, 1)
}

/// There is no probe: what dies again before `minReadySeconds` are over is never available.
fn carefully(manifest: &str) -> String {
    let annotations = "metadata:
  annotations:
    rollout.everynode.dev/progress-deadline-seconds: '8'
    rollout.everynode.dev/on-failure: rollback
";
    manifest.replacen("metadata:\n", annotations, 1)
}

/// Something else listens there: the same program under another name, so that it is not counted.
fn occupy(fleet: &Fleet<'_>, port: u16) -> Outcome<Daemon> {
    let (program, machine) = (fleet.path("occupant"), fleet.machine(OCCUPIED)?);
    fs::copy(EXPORTER, &program)?;
    let mut command = machine.command(&program);
    command.arg(format!("--web.listen-address=:{port}"));
    let occupant = Daemon::start(command, &machine.file("occupant.log"))?;
    wait::soon("the port is taken", || {
        let said = occupant.said();
        ensure!(said.contains("Listening on"), "{said}");
        Ok(())
    })?;
    Ok(occupant)
}

/// The only exporter of a machine, which has that port on its command line in `/proc`.
fn runs(fleet: &Fleet<'_>, name: &str, port: u16) -> Outcome<Process> {
    let exporter = fleet.machine(name)?.only(EXPORTER_PROGRAM)?;
    let flag = format!("--web.listen-address=:{port}");
    ensure!(exporter.command.contains(&flag), "{name}: {exporter:?}");
    Ok(exporter)
}

fn all(fleet: &Fleet<'_>, port: u16) -> Outcome<Vec<Process>> {
    fleet.machines().map(|machine| runs(fleet, machine.name(), port)).collect()
}
