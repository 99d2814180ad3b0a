//! One manifest, one running instance on every registered machine.

use everynode_tests::ground::Ground;
use everynode_tests::manifests::{self, EXPORTER_PROGRAM};
use everynode_tests::{Fleet, Outcome, wait};

/// Three nodes run one each; a fourth joins and runs one; its label stops matching and it goes.
pub(crate) fn one_on_every_machine(ground: &Ground) -> Outcome {
    Fleet::play(ground, 3, |fleet| {
        fleet.run_both()?;
        let before = fleet.census()?;

        let joining = fleet.joining(&[])?;
        let fourth = fleet.add_machine(4)?;
        fleet.machine_mut(&fourth)?.start_agent(Some(&joining))?;
        fleet.runs_both(&fourth)?;

        // A selector that every node fits changes nothing that runs, but is a new revision.
        for node in ["n1", "n2", "n3", "n4"] {
            fleet.tool(&["label", "nodes", node, "monitored=yes"])?.ok()?;
        }
        everynode_tests::ensure!(
            fleet.census()?[..3] == before[..],
            "a machine that joined, or a label, restarted something elsewhere"
        );
        fleet.apply(&manifests::exporter("nodeSelector: {monitored: 'yes'}"))?;
        rolled_out(fleet)?;

        let stay = fleet.census()?;
        fleet.tool(&["label", "nodes", "n4", "monitored-"])?.ok()?;
        wait::soon("the exporter of n4 goes", || fleet.machine("n4")?.none(EXPORTER_PROGRAM))?;
        fleet.machine("n4")?.only(manifests::WITNESS_PROGRAM)?;
        for (name, exporter, _) in &stay[..3] {
            let now = fleet.machine(name)?.only(EXPORTER_PROGRAM)?;
            everynode_tests::ensure!(now == *exporter, "the exporter of {name} was restarted");
            fleet.machine(name)?.scrape()?;
        }
        Ok(())
    })
}

fn rolled_out(fleet: &Fleet<'_>) -> Outcome {
    fleet.rolled_out("node-exporter", "60s")?;
    for machine in fleet.machines() {
        fleet.runs_both(machine.name())?;
    }
    Ok(())
}
