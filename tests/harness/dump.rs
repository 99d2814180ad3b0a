//! What a person wants to see of a fleet when a scenario has gone wrong.

use std::fmt::Write as _;

use crate::cgroups;
use crate::fleet::Fleet;
use crate::machine::Machine;

/// Of each log, the last lines: what led to the failure, not what led there.
const LINES: usize = 60;

/// What the coordinator shows, what runs on each machine, and the ends of all logs.
pub fn fleet(fleet: &Fleet<'_>) -> String {
    let mut text = String::new();
    for line in
        ["get nodes -o wide", "get daemonsets -A", "get pods -A -o wide", "why", "get events -A"]
    {
        let words: Vec<&str> = line.split(' ').chain(["--request-timeout", "5s"]).collect();
        let said = fleet.coordinator().tool(&words);
        let said = said.map_or_else(|error| error.to_string(), |said| said.out + &said.err);
        let _ = writeln!(text, "--- everynode {line}\n{said}");
    }
    fleet.machines().for_each(|machine| machine_into(&mut text, machine));
    let _ = writeln!(text, "--- the coordinator's log\n{}", end(&fleet.coordinator().log()));
    text
}

fn machine_into(text: &mut String, machine: &Machine) {
    let _ = writeln!(text, "--- {}: cgroups", machine.name());
    let members = cgroups::members(&machine.cgroup());
    for cgroup in cgroups::tree(&machine.cgroup()) {
        let _ = writeln!(text, "{}", cgroup.display());
        for (_, process) in members.iter().filter(|(home, _)| *home == cgroup) {
            let _ = writeln!(text, "    {} {}", process.pid, process.command.join(" "));
        }
    }
    let _ = writeln!(text, "--- {}: the agent's log\n{}", machine.name(), end(&machine.log()));
}

fn end(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
