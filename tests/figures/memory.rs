//! What agents and shims weigh, as the kernel counts it.

use std::fs;

use everynode_tests::manifests::WITNESS_PROGRAM;
use everynode_tests::{Context as _, Fleet, Outcome, failure};

/// A row each for the first machine's agent and one of its shims.
pub(crate) fn of(fleet: &Fleet<'_>) -> Outcome<Vec<String>> {
    let machine = fleet.machine("n1")?;
    let agent = machine.agent_pid().ok_or_else(|| failure!("no agent runs"))?;
    let shim = machine.shim_of(&machine.only(WITNESS_PROGRAM)?)?;
    Ok(vec![row("an agent with two pods", agent)?, row("the shim of one of them", shim.pid)?])
}

fn row(name: &str, pid: u32) -> Outcome<String> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).context(&path)?;
    let field = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
    };
    let private = field("Private_Clean:") + field("Private_Dirty:");
    Ok(format!("{name:<42}{:>10}{private:>10}", field("Rss:")))
}
