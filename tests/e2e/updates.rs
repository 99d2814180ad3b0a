//! A changed template replaces each pod: stopped, seen dead, started; one node at a time.

use everynode_tests::ground::Ground;
use everynode_tests::manifests::{self, EXPORTER_PROGRAM};
use everynode_tests::witness::{self, What};
use everynode_tests::{Fleet, Outcome, ensure, failure, wait};

/// A changed flag goes round; never is more than one node without; a node that is away catches up.
pub(crate) fn one_node_at_a_time(ground: &Ground) -> Outcome {
    Fleet::play(ground, 3, |fleet| {
        fleet.apply(&manifests::exporter(""))?;
        fleet.apply(&marked(fleet, "a"))?;
        for name in ["n1", "n2", "n3"] {
            fleet.runs_both(name)?;
        }

        fleet.apply(&marked(fleet, "b"))?;
        everywhere(fleet, &["n1", "n2", "n3"], "b")?;
        one_gap_at_a_time(fleet, 3)?;
        fleet.rolled_out("lock-witness", "30s")?;

        // The same again is no change.
        let before = fleet.census()?;
        fleet.apply(&marked(fleet, "b"))?;
        ensure!(fleet.census()? == before, "an unchanged template restarted something");

        fleet.cut("n2")?;
        fleet.shown("n2", &["NotReady", "Unknown"])?;
        fleet.apply(&marked(fleet, "c"))?;
        everywhere(fleet, &["n1", "n3"], "c")?;
        ensure!(newest(fleet, "n2")? == "b", "a node that is away was updated");
        fleet.heal("n2")?;
        everywhere(fleet, &["n1", "n2", "n3"], "c")?;
        one_gap_at_a_time(fleet, 6)?;

        the_exporter_too(fleet)
    })
}

fn the_exporter_too(fleet: &Fleet<'_>) -> Outcome {
    let flag = "--web.disable-exporter-metrics";
    let changed =
        manifests::exporter("").replace("--log.level=error", &format!("--log.level=error, {flag}"));
    fleet.apply(&changed)?;
    wait::soon("every exporter has the new flag, and answers", || {
        for machine in fleet.machines() {
            let exporter = machine.only(EXPORTER_PROGRAM)?;
            ensure!(exporter.command.iter().any(|word| word == flag), "{exporter:?}");
            machine.scrape()?;
        }
        Ok(())
    })
}

/// The witness of this mark. It has no probe, so it is ready once it is started, and has its lock a
/// moment later; with the second that it must have been ready for, the next node waits for that.
pub(crate) fn marked(fleet: &Fleet<'_>, mark: &str) -> String {
    fleet.witness(&["--mark", mark]).replacen("spec:\n", "spec:\n  minReadySeconds: 1\n", 1)
}

pub(crate) fn everywhere(fleet: &Fleet<'_>, nodes: &[&str], mark: &str) -> Outcome {
    wait::soon(&format!("{nodes:?} run {mark}"), || {
        for node in nodes {
            let newest = newest(fleet, node)?;
            ensure!(newest == mark, "{node} runs {newest}");
        }
        Ok(())
    })
}

/// The mark of the witness that had the lock last.
pub(crate) fn newest(fleet: &Fleet<'_>, node: &str) -> Outcome<String> {
    let lines = witness::read(&fleet.witness_dir(), node)?;
    let last = lines.iter().rev().find(|line| line.what == What::Locked);
    last.map(|line| line.mark.clone()).ok_or_else(|| failure!("{node} never ran one"))
}

fn one_gap_at_a_time(fleet: &Fleet<'_>, wanted: usize) -> Outcome {
    let nodes: Vec<String> = fleet.machines().map(|machine| machine.name().to_owned()).collect();
    let gaps = witness::gaps(&fleet.witness_dir(), &nodes)?;
    ensure!(gaps.len() == wanted, "{wanted} replacements were expected: {gaps:#?}");
    for pair in gaps.windows(2) {
        ensure!(pair[0].to <= pair[1].from, "two nodes were without at once: {pair:#?}");
    }
    Ok(())
}
