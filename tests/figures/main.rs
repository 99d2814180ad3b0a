//! How long things take and how much they weigh: `tests/measure` builds and runs this.
//!
//! A program "runs" when the lock witness has its lock, by its own clock. What Everynode takes is
//! put beside a bare fork and exec of the same program in the same run, because a build machine's
//! speed says nothing by itself.

mod memory;
mod probes;
mod samples;

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode};

use everynode_tests::daemon::Daemon;
use everynode_tests::ground::Ground;
use everynode_tests::machine::Joining;
use everynode_tests::manifests::{self, WITNESS, WITNESS_PROGRAM};
use everynode_tests::witness::{self, What};
use everynode_tests::{Fleet, Outcome, ensure, failure, wait};

use crate::samples::{Samples, now};

/// Of so many the median is taken.
const ROUNDS: usize = 20;

/// How many updates: enough for one in a hundred.
const UPDATES: usize = 100;

/// The machine that joins and leaves; those before it stay.
const COMES_AND_GOES: &str = "n4";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(done) = probes::other_half(&words) {
        return if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    match Ground::find().and_then(|ground| measure(&ground)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&format!("error: {failure}"));
            ExitCode::FAILURE
        }
    }
}

fn measure(ground: &Ground) -> Outcome {
    let mut times = Vec::new();
    let mut weights = Vec::new();
    let mut probed = Vec::new();
    Fleet::play(ground, 3, |fleet| {
        let bare = bare(fleet, ground, ROUNDS, What::Locked)?;
        let (created, killed) = created_and_killed(fleet)?;
        let joined = joined(fleet)?;
        times = vec![
            ("fork and exec of the same program, bare", bare),
            ("create -> running on three nodes", created),
            ("join -> running", joined),
            ("killed -> running again", killed),
        ];
        weights = memory::of(fleet)?;
        Ok(())
    })?;
    Fleet::play(ground, 1, |fleet| {
        times.push(("bare again, to its first line", bare(fleet, ground, UPDATES, What::Started)?));
        times.push(("update: old one's end -> new one's first line", gaps(fleet)?));
        Ok(())
    })?;
    Fleet::play(ground, 1, |fleet| {
        probed = probes::of(fleet)?;
        Ok(())
    })?;
    let bare = times[0].1.median();
    say(&format!(
        "{:<42}{:>10}{:>10}{:>10}{:>10}{:>8}",
        "", "median", "least", "p99", "most", "ratio"
    ));
    for (name, samples) in &times {
        say(&samples.row(name, bare));
    }
    say("");
    say(&format!("{:<42}{:>10}{:>10}", "KiB", "resident", "private"));
    weights.iter().for_each(|weight| say(weight));
    say("");
    probed.iter().for_each(|row| say(row));
    say("");
    for program in ["everynode-coordinator", "everynode-agent", "everynode"] {
        let size = fs::metadata(ground.program(program))?.len();
        say(&format!("{program:<42}{:>9.1} MiB", samples::mebi(size)));
    }
    Ok(())
}

/// From the start of the program to this word of it.
fn bare(fleet: &Fleet<'_>, ground: &Ground, rounds: usize, until: What) -> Outcome<Samples> {
    let mut samples = Samples::default();
    for _ in 0..rounds {
        let mut command = Command::new(ground.program(WITNESS_PROGRAM));
        command.arg("--dir").arg(fleet.witness_dir()).env("NODE", "bare");
        let begun = now();
        let daemon = Daemon::start(command, &fleet.path("bare.log"))?;
        samples.add(begun, said(&fleet.witness_dir(), "bare", begun, until)?);
        locked(&fleet.witness_dir(), "bare", begun)?;
        daemon.kill()?;
    }
    Ok(samples)
}

/// How long a node has no instance while it is updated: from the last word of the old one, which ends
/// with it, to the first of the new one. In between its death is seen.
fn gaps(fleet: &Fleet<'_>) -> Outcome<Samples> {
    let mut samples = Samples::default();
    let mut begun = now();
    for round in 0..=UPDATES {
        fleet.apply(&fleet.witness(&["--mark", &format!("m{round}")]))?;
        let running = locked(&fleet.witness_dir(), "n1", begun)?;
        if round > 0 {
            let ended = said(&fleet.witness_dir(), "n1", begun, What::Ended)?;
            samples.add(ended, said(&fleet.witness_dir(), "n1", ended, What::Started)?);
        }
        begun = running + 1;
        fleet.rolled_out(WITNESS, "60s")?;
    }
    Ok(samples)
}

/// Each round under another name, so that no round inherits another's back-off.
fn created_and_killed(fleet: &Fleet<'_>) -> Outcome<(Samples, Samples)> {
    let (mut created, mut killed) = (Samples::default(), Samples::default());
    for round in 0..ROUNDS {
        let name = format!("{WITNESS}-{round}");
        let manifest = fleet.witness(&[]).replacen(WITNESS, &name, 1);
        let file = fleet.write("manifest.yaml", &manifest)?;
        let begun = now();
        fleet.tool(&["create", "-f", &file])?.ok()?;
        let mut last = begun;
        for node in ["n1", "n2", "n3"] {
            last = last.max(locked(&fleet.witness_dir(), node, begun)?);
        }
        created.add(begun, last);
        killed.push(kill(fleet)?);
        fleet.tool(&["delete", "daemonset", &name])?.ok()?;
        wait::soon("they are gone", || fleet.machines().try_for_each(|machine| machine.empty()))?;
    }
    Ok((created, killed))
}

fn kill(fleet: &Fleet<'_>) -> Outcome<u64> {
    let machine = fleet.machine("n1")?;
    let only = wait::soon("one runs", || machine.only(WITNESS_PROGRAM))?;
    let begun = now();
    only.kill()?;
    Ok(locked(&fleet.witness_dir(), "n1", begun)?.saturating_sub(begun))
}

fn joined(fleet: &mut Fleet<'_>) -> Outcome<Samples> {
    fleet.apply(&fleet.witness(&[]))?;
    fleet.apply(&manifests::exporter(""))?;
    fleet.add_machine(4)?;
    let mut samples = Samples::default();
    let joining = fleet.joining(&[])?;
    for _ in 0..ROUNDS {
        samples.push(join(fleet, &joining)?);
    }
    Ok(samples)
}

fn join(fleet: &mut Fleet<'_>, joining: &Joining) -> Outcome<u64> {
    let begun = now();
    fleet.machine_mut(COMES_AND_GOES)?.start_agent(Some(joining))?;
    let running = locked(&fleet.witness_dir(), COMES_AND_GOES, begun)?;
    let mut agent = fleet.machine_mut(COMES_AND_GOES)?.take_agent()?;
    fleet.machine(COMES_AND_GOES)?.ask_agent("leave")?.ok()?;
    ensure!(agent.ended()?.success(), "{}", agent.said());
    Ok(running.saturating_sub(begun))
}

/// When the witness of a node had its lock, the first time after `begun`.
fn locked(dir: &Path, node: &str, begun: u64) -> Outcome<u64> {
    said(dir, node, begun, What::Locked)
}

/// When the witness of a node said this, the first time after `begun`.
fn said(dir: &Path, node: &str, begun: u64, what: What) -> Outcome<u64> {
    wait::soon(&format!("the witness of {node} has said {what:?}"), || {
        let lines = witness::read(dir, node)?;
        let mut later = lines.iter().filter(|line| line.micros >= begun);
        let line = later.find(|line| line.what == what);
        line.map(|line| line.micros).ok_or_else(|| failure!("not yet"))
    })
}

fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}
