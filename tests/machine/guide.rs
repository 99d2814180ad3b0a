//! The guide from units to a DaemonSet: its commands, as they stand there, on a machine that has the
//! unit.
//!
//! A fence's words after the language say whose it is: `sh operator`, `sh machine`, or `yaml FILE`.

use std::fs;

use everynode_tests::ground::Ground;
use everynode_tests::manifests::EXPORTER_PROGRAM;
use everynode_tests::said::Said;
use everynode_tests::{Fleet, Outcome, failure};

use crate::debian::Debian;
use crate::play;

const GUIDE: &str = include_str!("../../docs/from-systemd-units.md");

/// As Debian installs it.
const UNIT: &str = "prometheus-node-exporter";

/// Each step of the guide is taken; there and back, the exporter is who the guide says.
pub(crate) fn from_a_unit_and_back(ground: &Ground) -> Outcome {
    play(ground, |fleet, machine| {
        machine.sh(&format!("systemctl unmask --quiet {UNIT} && systemctl enable --now {UNIT}"))?;
        machine.join(fleet)?;
        let sections: Vec<&str> = GUIDE.split("\n## ").collect();
        let section = |number: &str| {
            let begins = |section: &&&str| section.starts_with(number);
            sections.iter().find(begins).ok_or_else(|| failure!("there is no step {number}"))
        };
        follow(section("1. ")?, fleet, machine)?;
        is_the_units(machine)?;
        follow(section("2. ")?, fleet, machine)?;
        is_a_pod(machine)?;
        // Back, and once more forward.
        let back = section("3. ")?;
        let (there, again) =
            back.split_once("And once more").ok_or_else(|| failure!("the way back: {back}"))?;
        follow(there, fleet, machine)?;
        is_the_units(machine)?;
        follow(again, fleet, machine)?;
        is_a_pod(machine)?;
        follow(section("4. ")?, fleet, machine)?;
        is_a_pod(machine)
    })
}

/// Does what the fences of a section say.
fn follow(section: &str, fleet: &Fleet<'_>, machine: &Debian) -> Outcome {
    let dir = fleet.path("guide");
    fs::create_dir_all(&dir)?;
    for (whose, text) in fences(section) {
        match whose.split_once(' ') {
            Some(("yaml", file)) => fs::write(dir.join(file), text)?,
            Some(("sh", "machine")) => machine.sh(&format!("set -ex\n{text}")).map(drop)?,
            Some(("sh", "operator")) => {
                Said::by(operator(fleet, &format!("set -ex\n{text}"))?)?.ok().map(drop)?;
            }
            _ => return Err(failure!("a fence that is nobody's: {whose}")),
        }
    }
    Ok(())
}

/// A shell where `everynode` is known, and who its user is.
fn operator(fleet: &Fleet<'_>, script: &str) -> Outcome<std::process::Command> {
    let tool = fleet.program("everynode");
    let dir = tool.parent().ok_or_else(|| failure!("{} is nowhere", tool.display()))?;
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = fleet.coordinator().command("sh".as_ref());
    command
        .args(["-c", script])
        .current_dir(fleet.path("guide"))
        .env("PATH", format!("{}:{path}", dir.display()))
        .env("EVERYNODE_CONFIG", fleet.coordinator().admin());
    Ok(command)
}

/// What stands between fences, with the words behind the opening one.
fn fences(section: &str) -> impl Iterator<Item = (&str, &str)> {
    // Every second piece is within.
    section.split("```").skip(1).step_by(2).filter_map(|piece| piece.split_once('\n'))
}

fn is_a_pod(machine: &Debian) -> Outcome {
    machine.look()?.only(EXPORTER_PROGRAM)?;
    machine.scrape()
}

fn is_the_units(machine: &Debian) -> Outcome {
    machine.sh(&format!("systemctl is-active {UNIT}"))?;
    machine.look()?.empty()?;
    machine.soon("the unit's exporter answers", || machine.scrape())
}
