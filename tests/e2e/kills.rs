//! `kill -9` of everything, one after the other.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use everynode_tests::daemon::Daemon;
use everynode_tests::ground::Ground;
use everynode_tests::machine::Machine;
use everynode_tests::manifests::{self, EXPORTER_PROGRAM, WITNESS_PROGRAM};
use everynode_tests::proc::Process;
use everynode_tests::{Fleet, Outcome, cgroups, ensure, failure, wait};

/// How long the second restart in a row waits, as in the kubelet; a little less, because this is
/// seen from outside.
const SECOND_WAIT: Duration = Duration::from_millis(9_500);

/// How often the coordinator is killed while objects are created.
const COORDINATOR_KILLS: usize = 3;

/// Back at once, then after a wait that grows; counted, and shown meanwhile.
pub(crate) fn a_killed_exporter_comes_back(ground: &Ground) -> Outcome {
    Fleet::play(ground, 1, |fleet| {
        fleet.run_both()?;
        let machine = fleet.machine("n1")?;
        let witness = machine.only(WITNESS_PROGRAM)?;

        let first = killed(machine)?;
        wait::soon("one restart is counted", || restarts(fleet, 1))?;
        let begun = Instant::now();
        machine.only(EXPORTER_PROGRAM)?.kill()?;
        wait::soon("the wait is shown", || {
            let pods = fleet.tool(&["get", "pods"])?.ok()?;
            ensure!(pods.contains("CrashLoopBackOff"), "{pods}");
            Ok(())
        })?;
        let why = fleet.tool(&["why"])?.ok()?;
        ensure!(why.contains("node-exporter"), "why does not name it: {why}");
        machine.none(EXPORTER_PROGRAM)?;
        wait::soon("it is back after the wait", || machine.scrape())?;
        let second = begun.elapsed();
        wait::soon("two restarts are counted", || restarts(fleet, 2))?;
        ensure!(second >= SECOND_WAIT && first < second, "waits of {first:?} and {second:?}");

        ensure!(machine.only(WITNESS_PROGRAM)? == witness, "another DaemonSet's pod was disturbed");
        Ok(())
    })
}

/// An agent that is killed finds its pods again: same pids, before and after.
pub(crate) fn a_killed_agent_finds_its_pods(ground: &Ground) -> Outcome {
    Fleet::play(ground, 2, |fleet| {
        fleet.run_both()?;
        let before = fleet.census()?;
        for name in ["n1", "n2"] {
            fleet.machine_mut(name)?.take_agent()?.kill()?;
            ensure!(fleet.census()? == before, "the pods of {name} died with their agent");
            fleet.machine_mut(name)?.start_agent(None)?;
        }
        for name in ["n1", "n2"] {
            fleet.shown(name, &["Ready"])?;
            wait::soon("the same pid is shown", || {
                let pid = fleet.machine(name)?.only(EXPORTER_PROGRAM)?.pid;
                let pod = fleet.pod("node-exporter", name)?;
                let shown = &pod["status"]["containerStatuses"][0]["state"]["running"]["pid"];
                ensure!(*shown == pid, "{pid} runs and {shown} is shown");
                Ok(())
            })?;
        }
        ensure!(fleet.census()? == before, "something was restarted");

        // What dies while there is no agent is noticed by the next one.
        let agent = fleet.machine_mut("n1")?.take_agent()?;
        let exporter = fleet.machine("n1")?.only(EXPORTER_PROGRAM)?;
        agent.kill()?;
        exporter.kill()?;
        fleet.machine_mut("n1")?.start_agent(None)?;
        fleet.runs_both("n1")?;
        wait::soon("its restart is counted", || restarts(fleet, 1))
    })
}

/// All that was acknowledged is there after its restart, and no exporter was restarted.
pub(crate) fn a_killed_coordinator_loses_nothing(ground: &Ground) -> Outcome {
    Fleet::play(ground, 2, |fleet| {
        fleet.run_both()?;
        let before = fleet.census()?;
        let creates = creating(fleet)?;
        for round in 1..=COORDINATOR_KILLS {
            wait::soon("some more are acknowledged", || {
                let acknowledged = acknowledged(fleet)?.len();
                ensure!(acknowledged >= 5 * round, "{acknowledged}");
                Ok(())
            })?;
            fleet.coordinator_mut().kill()?;
            fleet.coordinator_mut().start()?;
        }
        creates.kill()?;
        let there = fleet.tool(&["get", "daemonsets", "-o", "name"])?.ok()?;
        for name in acknowledged(fleet)? {
            let lost = !there.lines().any(|line| line.ends_with(&format!("/{name}")));
            ensure!(!lost, "{name} was acknowledged and is not in\n{there}");
        }
        fleet.ready("n1")?;
        fleet.ready("n2")?;
        ensure!(fleet.census()? == before, "something was restarted");
        for name in ["n1", "n2"] {
            let pod = fleet.pod("node-exporter", name)?;
            ensure!(pod["status"]["containerStatuses"][0]["restartCount"] == 0, "{pod}");
        }
        Ok(())
    })
}

/// An agent whose log can't be written, because the disk is full, does all its work without one.
pub(crate) fn a_full_log_ends_no_agent(ground: &Ground) -> Outcome {
    Fleet::play(ground, 1, |fleet| {
        fleet.run_both()?;
        fleet.machine_mut("n1")?.take_agent()?.kill()?;
        let machine = fleet.machine("n1")?;
        let before = machine.only(EXPORTER_PROGRAM)?;
        let command = machine.agent_command(&machine.data_dir(), None);
        let mut agent = Daemon::start(command, Path::new("/dev/full"))?;
        // It has found its pod again when it makes another one of what is left of it.
        machine.shim_of(&before)?.kill()?;
        replaced(machine, EXPORTER_PROGRAM, &before)?;
        fleet.ready("n1")?;
        let ended = agent.has_ended()?;
        ensure!(ended.is_none(), "the agent ended with {ended:?}");
        Ok(())
    })
}

/// With its shim dead, a pod is dead when its cgroup is empty, and not before another starts.
pub(crate) fn a_killed_shim_is_no_proof_of_death(ground: &Ground) -> Outcome {
    Fleet::play(ground, 1, |fleet| {
        fleet.run_both()?;
        let machine = fleet.machine("n1")?;
        for program in [EXPORTER_PROGRAM, WITNESS_PROGRAM] {
            let before = machine.only(program)?;
            machine.shim_of(&before)?.kill()?;
            replaced(machine, program, &before)?;
        }
        wait::soon("the exporter answers again", || machine.scrape())?;

        // Not with the agent away either: it finds what its shim has left behind.
        let before = machine.only(WITNESS_PROGRAM)?;
        let shim = machine.shim_of(&before)?;
        fleet.machine_mut("n1")?.take_agent()?.kill()?;
        shim.kill()?;
        fleet.machine_mut("n1")?.start_agent(None)?;
        replaced(fleet.machine("n1")?, WITNESS_PROGRAM, &before)?;
        a_child_counts(fleet)
    })
}

/// A first process that dies and leaves a child with the lock is not dead.
fn a_child_counts(fleet: &Fleet<'_>) -> Outcome {
    fleet.apply(&fleet.witness(&["--child"]))?;
    let machine = fleet.machine("n1")?;
    let first = wait::soon("a witness and its child run", || pair(machine))?;
    first.kill()?;
    wait::soon("another pair runs, and nothing else", || {
        let second = pair(machine)?;
        ensure!(second != first && !first.lives(), "the first one still runs");
        let pods = cgroups::members(&machine.cgroup()).len();
        // Two supervisors, the exporter and the pair.
        ensure!(pods == 5, "{pods} processes of ours");
        Ok(())
    })
}

/// The first of two witnesses of which one is the other's child.
fn pair(machine: &Machine) -> Outcome<Process> {
    let both = machine.running(WITNESS_PROGRAM);
    ensure!(both.len() == 2, "{both:?}");
    let first = both.iter().find(|one| both.iter().any(|other| other.parent == one.pid));
    first.cloned().ok_or_else(|| failure!("none is the other's child: {both:?}"))
}

fn replaced(machine: &Machine, program: &str, before: &Process) -> Outcome {
    wait::soon(&format!("another {program} runs"), || {
        ensure!(machine.only(program)? != *before, "the same one runs");
        Ok(())
    })
}

/// Kills the exporter and tells how long it took to answer again.
fn killed(machine: &Machine) -> Outcome<Duration> {
    let begun = Instant::now();
    let before = machine.only(EXPORTER_PROGRAM)?;
    before.kill()?;
    replaced(machine, EXPORTER_PROGRAM, &before)?;
    wait::soon("the exporter answers again", || machine.scrape())?;
    Ok(begun.elapsed())
}

fn restarts(fleet: &Fleet<'_>, wanted: u64) -> Outcome {
    let pod = fleet.pod("node-exporter", "n1")?;
    let counted = &pod["status"]["containerStatuses"][0]["restartCount"];
    ensure!(*counted == wanted, "{counted} are counted");
    Ok(())
}

/// Creates one DaemonSet after the other, for no node, and writes down those acknowledged.
fn creating(fleet: &Fleet<'_>) -> Outcome<Daemon> {
    let template = manifests::exporter("nodeSelector: {nowhere: 'true'}").replacen(
        "name: node-exporter",
        "name: set-NUMBER",
        1,
    );
    let template = fleet.write("template.yaml", &template)?;
    let tool = fleet.coordinator().tool_command(&["create", "-f", "-"]);
    let words: Vec<_> = tool.get_args().map(|word| word.to_owned()).collect();
    let script = r#"n=0; while :; do n=$((n+1)); name=set-$n
        sed "s/NUMBER/$n/" "$0" | "$@" && echo $name >> "$0.acknowledged"; done"#;
    let mut command = fleet.coordinator().command("sh".as_ref());
    // The tool's own arguments begin after those that enter the namespace.
    command.args(["-c", script, &template]).args(&words[2..]);
    Daemon::start(command, format!("{template}.log").as_ref())
}

fn acknowledged(fleet: &Fleet<'_>) -> Outcome<Vec<String>> {
    let path = fleet.path("template.yaml.acknowledged");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    Ok(whole.lines().map(str::to_owned).collect())
}
