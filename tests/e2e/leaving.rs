//! Deregistered means: nothing of ours runs there, and the coordinator knows it.

use std::path::{Path, PathBuf};
use std::process::Command;

use everynode_tests::daemon::Daemon;
use everynode_tests::ground::Ground;
use everynode_tests::manifests::{EXPORTER_PROGRAM, WITNESS_PROGRAM};
use everynode_tests::said::Said;
use everynode_tests::{Fleet, Outcome, ensure};

/// By `leave`, by `delete node`, and by `delete node` while cut off and healed later.
pub(crate) fn a_removed_machine_tears_down(ground: &Ground) -> Outcome {
    Fleet::play(ground, 4, |fleet| {
        fleet.run_both()?;
        let stays = fleet.census()?[3].clone();
        let names = ["n1", "n2", "n3"];
        let copies: Vec<PathBuf> =
            names.iter().map(|name| copy_of_data(fleet, name)).collect::<Outcome<_>>()?;

        by_its_own_wish(fleet, "n1")?;
        by_an_operator(fleet, "n2")?;
        while_cut_off(fleet, "n3")?;
        ensure!(fleet.census_of("n4")? == stays, "a machine that stays was disturbed");

        for (name, copy) in names.iter().zip(&copies) {
            no_way_back(fleet, name, copy)?;
        }
        for name in names {
            let joining = fleet.joining(&[])?;
            fleet.machine_mut(name)?.start_agent(Some(&joining))?;
        }
        for name in names {
            fleet.ready(name)?;
            fleet.runs_both(name)?;
        }
        ensure!(fleet.census_of("n4")? == stays, "a machine that stays was disturbed");
        Ok(())
    })
}

fn by_its_own_wish(fleet: &mut Fleet<'_>, name: &str) -> Outcome {
    let mut agent = fleet.machine_mut(name)?.take_agent()?;
    fleet.machine(name)?.ask_agent("leave")?.ok()?;
    // Whoever was told that it has left finds it so.
    fleet.machine(name)?.empty()?;
    torn_down(fleet, name, &mut agent)
}

fn by_an_operator(fleet: &mut Fleet<'_>, name: &str) -> Outcome {
    let mut agent = fleet.machine_mut(name)?.take_agent()?;
    let said = fleet.tool(&["delete", "node", name])?.ok()?;
    ensure!(said.contains("deleted"), "{said}");
    fleet.machine(name)?.empty()?;
    torn_down(fleet, name, &mut agent)
}

fn while_cut_off(fleet: &mut Fleet<'_>, name: &str) -> Outcome {
    fleet.cut(name)?;
    fleet.shown(name, &["NotReady", "Unknown"])?;
    let before = fleet.census_of(name)?;
    let said = fleet.tool(&["delete", "node", name])?.ok()?;
    ensure!(said.contains("pending teardown"), "{said}");
    // It can't know yet: unknown is not removed.
    ensure!(fleet.census_of(name)? == before, "it tore down without having been told");
    let mut agent = fleet.machine_mut(name)?.take_agent()?;
    fleet.heal(name)?;
    torn_down(fleet, name, &mut agent)
}

fn torn_down(fleet: &Fleet<'_>, name: &str, agent: &mut Daemon) -> Outcome {
    let ended = agent.ended()?;
    ensure!(ended.success(), "the agent of {name} ended with {ended}");
    let machine = fleet.machine(name)?;
    machine.none(EXPORTER_PROGRAM)?;
    machine.none(WITNESS_PROGRAM)?;
    machine.empty()?;
    fleet.gone(name)?;
    let pods = fleet.tool(&["get", "pods", "-A", "-o", "wide", "--no-headers"])?.ok()?;
    ensure!(!pods.contains(&format!(" {name} ")), "pods of {name} are shown: {pods}");
    Ok(())
}

/// Whoever comes with the old certificate hears that it is removed, and nothing else.
fn no_way_back(fleet: &Fleet<'_>, name: &str, copy: &Path) -> Outcome {
    let machine = fleet.machine(name)?;
    let log = machine.file("copy.log");
    let mut agent = Daemon::start(machine.agent_command(copy, None), &log)?;
    agent.ended()?;
    ensure!(agent.said().contains("was removed from its cluster"), "{}", agent.said());
    machine.empty()?;
    fleet.gone(name)
}

fn copy_of_data(fleet: &Fleet<'_>, name: &str) -> Outcome<PathBuf> {
    let machine = fleet.machine(name)?;
    let copy = machine.file("copy");
    let mut command = Command::new("cp");
    command.arg("-a").arg(machine.data_dir()).arg(&copy);
    Said::by(command)?.ok()?;
    Ok(copy)
}
