//! Deleting a DaemonSet, and making one of the same name at once.

use everynode_tests::ground::Ground;
use everynode_tests::manifests::{self, EXPORTER_PROGRAM, WITNESS_PROGRAM};
use everynode_tests::{Fleet, Outcome, ensure, wait};

/// Gone, then one, everywhere, never two; also on a node that was away meanwhile.
pub(crate) fn gone_then_one_everywhere(ground: &Ground) -> Outcome {
    Fleet::play(ground, 3, |fleet| {
        fleet.run_both()?;
        let first = fleet.census()?;
        fleet.cut("n1")?;
        fleet.shown("n1", &["NotReady", "Unknown"])?;

        let exporter = fleet.write("exporter.yaml", &manifests::exporter(""))?;
        let witness = fleet.write("witness.yaml", &fleet.witness(&[]))?;
        for file in [&exporter, &witness] {
            fleet.tool(&["delete", "-f", file])?.ok()?;
            fleet.tool(&["create", "-f", file])?.ok()?;
        }
        for name in ["n2", "n3"] {
            another(fleet, &first, name)?;
        }
        ensure!(fleet.census_of("n1")? == first[0], "a node that is away changed something");
        fleet.heal("n1")?;
        another(fleet, &first, "n1")?;

        fleet.cut("n2")?;
        fleet.tool(&["delete", "daemonset", "node-exporter", "lock-witness"])?.ok()?;
        for name in ["n1", "n3"] {
            gone(fleet, name)?;
        }
        fleet.heal("n2")?;
        gone(fleet, "n2")
    })
}

fn another(fleet: &Fleet<'_>, first: &[everynode_tests::fleet::Counted], name: &str) -> Outcome {
    wait::soon(&format!("{name} runs one other of each"), || {
        let now = fleet.census_of(name)?;
        let then = first.iter().find(|counted| counted.0 == name);
        let same = then.is_some_and(|then| then.1 == now.1 || then.2 == now.2);
        ensure!(!same, "still the first one");
        fleet.machine(name)?.scrape().map(drop)
    })
}

fn gone(fleet: &Fleet<'_>, name: &str) -> Outcome {
    wait::soon(&format!("{name} runs nothing"), || {
        let machine = fleet.machine(name)?;
        machine.none(EXPORTER_PROGRAM)?;
        machine.none(WITNESS_PROGRAM)?;
        machine.empty()
    })
}
