//! A DaemonSet is deleted without its pods, and made again.

use everynode_tests::ground::Ground;
use everynode_tests::manifests::{EXPORTER_PROGRAM, WITNESS_PROGRAM};
use everynode_tests::{Fleet, Outcome, ensure, wait};

/// The pods run on through all that happens, until each is deleted or taken over without a restart.
pub(crate) fn run_on_until_they_are_taken_over(ground: &Ground) -> Outcome {
    Fleet::play(ground, 3, |fleet| {
        fleet.run_both()?;
        let before = fleet.census()?;
        fleet.cut("n3")?;
        fleet.shown("n3", &["NotReady", "Unknown"])?;

        let delete = ["delete", "daemonset", "lock-witness", "--cascade=orphan"];
        let said = fleet.tool(&delete)?.ok()?;
        ensure!(said == "daemonset.apps \"lock-witness\" deleted\n", "{said}");
        fleet.tool(&delete)?.refused(&["NotFound"])?;
        let sets = fleet.tool(&["get", "daemonsets"])?.ok()?;
        ensure!(!sets.contains("lock-witness"), "{sets}");

        // Everybody starts anew, one who was away returns, and one comes.
        fleet.coordinator_mut().kill()?;
        fleet.coordinator_mut().start()?;
        let machine = fleet.machine_mut("n1")?;
        machine.take_agent()?.kill()?;
        machine.start_agent(None)?;
        fleet.heal("n3")?;
        let joining = fleet.joining(&[])?;
        fleet.add_machine(4)?;
        fleet.machine_mut("n4")?.start_agent(Some(&joining))?;
        for name in ["n1", "n2", "n3", "n4"] {
            fleet.ready(name)?;
        }
        wait::soon("the machine that comes runs what is wanted", || {
            fleet.machine("n4")?.only(EXPORTER_PROGRAM).map(drop)
        })?;
        fleet.machine("n4")?.none(WITNESS_PROGRAM)?;
        for then in &before {
            ensure!(fleet.census_of(&then.0)? == *then, "{} changed something", then.0);
        }

        // Nobody owns them; each can be deleted, and does not come back.
        let name = fleet.pod_name("lock-witness", "n1")?;
        let described = fleet.tool(&["describe", "pod", &name])?.ok()?;
        let unowned = |line: &str| line.starts_with("Controlled By:") && line.ends_with("<none>");
        ensure!(described.lines().any(unowned), "{described}");
        fleet.tool(&["delete", "pod", &name])?.ok()?;
        fleet.machine("n1")?.none(WITNESS_PROGRAM)?;

        // One of its name takes the others over, and makes those that lack.
        let file = fleet.write("witness.yaml", &fleet.witness(&[]))?;
        fleet.tool(&["create", "-f", &file])?.ok()?;
        for name in ["n1", "n4"] {
            fleet.runs_both(name)?;
        }
        fleet.rolled_out("lock-witness", "30s")?;
        for then in &before[1..] {
            ensure!(fleet.census_of(&then.0)? == *then, "{} restarted something", then.0);
        }
        fleet.apply(&fleet.witness(&["--mark", "b"]))?;
        wait::soon("another template is rolled out to all", || {
            for then in &before[1..] {
                let now = fleet.machine(&then.0)?.only(WITNESS_PROGRAM)?;
                ensure!(now.command.iter().any(|word| word == "b"), "not on {}", then.0);
            }
            Ok(())
        })
    })
}
