//! Wrong dates, on either side, change nothing but what is shown.

use std::time::Duration;

use everynode_tests::ground::Ground;
use everynode_tests::{Fleet, Outcome, ensure, wait};

const UNSET: &str = "@1970-01-01 00:10:00";
const RIGHT: &str = "+0";
/// Longer than a lease: who is lost by then shows.
const A_WHILE: Duration = Duration::from_secs(4);

/// A coordinator that wakes in 1970, and machines that are in 1970 or minutes off: they join, run
/// what they should, and go on doing so while everybody's date is set back and forth.
pub(crate) fn wrong_clocks_change_nothing(ground: &Ground) -> Outcome {
    Fleet::play(ground, 0, |fleet| {
        let coordinator = fleet.coordinator_mut();
        coordinator.kill()?;
        coordinator.lose_all()?;
        coordinator.set_clock(UNSET)?;
        coordinator.start()?;
        for (number, clock) in [(1, RIGHT), (2, UNSET), (3, "+10m")] {
            join(fleet, number, clock)?;
        }
        fleet.run_both()?;
        let before = fleet.census()?;
        // They are as wrong as they were set.
        ensure!(fleet.machine("n2")?.log().contains("1970-01-01T"), "n2 has the right date");
        ensure!(!fleet.machine("n1")?.log().contains("1970-01-01T"), "n1 has a wrong date");

        for (here, there) in [(RIGHT, "-10m"), ("-10m", "+10m"), (UNSET, UNSET), ("+10m", "-10m")] {
            fleet.coordinator_mut().set_clock(here)?;
            for name in ["n1", "n2", "n3"] {
                fleet.machine_mut(name)?.set_clock(there)?;
            }
            wait::throughout(A_WHILE, "everything goes on", || {
                ensure!(fleet.census()? == before, "something was started anew: {before:?}");
                for name in ["n1", "n2", "n3"] {
                    let states = fleet.states(name)?;
                    ensure!(
                        states == ["Ready"],
                        "{name} is {states:?}: {here} here, {there} there"
                    );
                    let sessions = fleet.machine(name)?.log().matches("session open").count();
                    ensure!(sessions == 1, "{name} had {sessions} sessions");
                }
                Ok(())
            })?;
        }

        // Whoever comes now is taken in, and an agent that is started anew finds what runs.
        join(fleet, 4, "-10m")?;
        fleet.runs_both("n4")?;
        fleet.machine_mut("n2")?.set_clock(UNSET)?;
        fleet.machine_mut("n2")?.take_agent()?.kill()?;
        fleet.machine_mut("n2")?.start_agent(None)?;
        wait::soon("n2 has a session again", || {
            let sessions = fleet.machine("n2")?.log().matches("session open").count();
            ensure!(sessions == 2, "{sessions} sessions");
            Ok(())
        })?;
        fleet.ready("n2")?;
        ensure!(fleet.census()?[..3] == before[..], "something was started anew: {before:?}");
        Ok(())
    })
}

fn join(fleet: &mut Fleet<'_>, number: u8, clock: &str) -> Outcome {
    let (name, joining) = (fleet.add_machine(number)?, fleet.joining(&[])?);
    let machine = fleet.machine_mut(&name)?;
    machine.set_clock(clock)?;
    machine.start_agent(Some(&joining))?;
    fleet.ready(&name)
}
