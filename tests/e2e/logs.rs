//! What containers print, as people elsewhere are shown it.

use std::fs;
use std::process::{Command, Stdio};

use everynode_tests::daemon::Daemon;
use everynode_tests::ground::Ground;
use everynode_tests::manifests::{self, DaemonSet};
use everynode_tests::said::{Said, same};
use everynode_tests::{Context as _, Fleet, Machine, Outcome, ensure, failure, proc, wait};
use rustix::process::Signal;

use crate::upkeep::Upkeep;

/// Every flag, on pods of two containers.
pub(crate) fn they_are_shown_as_kubectl_shows_them(ground: &Ground) -> Outcome {
    Fleet::play(ground, 2, |fleet| {
        let talks = "for i in 1 2 3; do echo out $i; echo err $i >&2; done; exec sleep 100000";
        fleet
            .apply(&daemon("talker", &[("main", talks), ("side", "echo aside; exec sleep 1e5")]))?;
        settled(fleet, "talker", 2)?;
        let pod = fleet.pod_name("talker", "n1")?;

        let six = logs(fleet, &[&pod])?;
        let mut lines: Vec<&str> = six.lines().collect();
        // Two pipes: which is read first is not said.
        lines.sort_unstable();
        ensure!(lines == ["err 1", "err 2", "err 3", "out 1", "out 2", "out 3"], "{six}");
        let said = fleet.tool(&["logs", &pod])?;
        ensure!(said.err.contains("Defaulted container \"main\" out of: main, side"), "{said}");
        for words in [&[&pod, "side"][..], &[&pod, "-c", "side"], &["pod/x", "-c", "side"]] {
            let words: Vec<&str> =
                words.iter().map(|word| if *word == "pod/x" { &pod } else { *word }).collect();
            ensure!(logs(fleet, &words)? == "aside\n", "{words:?}");
        }
        ensure!(logs(fleet, &[&pod, "--tail", "2"])?.lines().count() == 2, "--tail");
        ensure!(logs(fleet, &[&pod, "--tail", "0"])?.is_empty(), "--tail 0");
        ensure!(logs(fleet, &[&pod, "--limit-bytes", "7"])?.len() == 7, "--limit-bytes");
        let dated = logs(fleet, &[&pod, "--timestamps", "--tail", "1"])?;
        let date = dated.split(' ').next().unwrap_or_default();
        ensure!(date.starts_with("20") && date.ends_with('Z'), "{dated}");
        ensure!(logs(fleet, &[&pod, "--since-time", date])?.lines().count() < 7, "--since-time");
        ensure!(logs(fleet, &[&pod, "--since-time", "2100-01-01T00:00:00Z"])?.is_empty(), "later");
        ensure!(logs(fleet, &[&pod, "--since", "1h"])?.lines().count() == 6, "--since");
        let all = logs(fleet, &[&pod, "--all-containers", "--prefix"])?;
        ensure!(all.contains(&format!("[pod/{pod}/main] out 1\n")), "{all}");
        ensure!(all.contains(&format!("[pod/{pod}/side] aside\n")), "{all}");

        let one = fleet.tool(&["logs", "ds/talker", "-c", "side"])?;
        ensure!(one.err.contains("Found 2 pods, using pod/talker-"), "{one}");
        ensure!(one.ok()? == "aside\n", "one pod only");
        let there = fleet.tool(&["logs", "ds/talker", "-c", "side", "--node", "n1", "--prefix"])?;
        ensure!(there.ok()? == format!("[pod/{pod}/side] aside\n"), "the pod on n1");
        let every = logs(fleet, &["ds/talker", "--all-pods", "-c", "side"])?;
        ensure!(every.lines().count() == 2 && every.contains(&pod), "{every}");
        ensure!(logs(fleet, &["-l", "app=talker", "-c", "side"])? == "aside\naside\n", "-l");

        refusals(fleet, &pod)
    })
}

fn refusals(fleet: &mut Fleet<'_>, pod: &str) -> Outcome {
    let refused = |words: &[&str], why: &str| {
        let words: Vec<&str> = ["logs"].iter().chain(words).copied().collect();
        fleet.tool(&words)?.refused(&[why]).map(drop)
    };
    refused(&["nobody-x"], "pods \"nobody-x\" not found")?;
    refused(&["ds/nobody"], "daemonsets.apps \"nobody\" not found")?;
    refused(&[pod, "-c", "third"], &format!("container third is not valid for pod {pod}"))?;
    let none = format!("previous terminated container \"main\" in pod \"{pod}\" not found");
    refused(&[pod, "-c", "main", "--previous"], &none)?;
    let many = ["-l", "app=talker", "--all-containers", "-f", "--max-log-requests", "3"];
    refused(&many, "you are attempting to follow 4 log streams")?;
    fleet.apply(&daemon("broken", &[("main", "exit 0")]).replace("/bin/sh", "/no/such"))?;
    wait::soon("what was never started has no logs, and why", || {
        refused(&["ds/broken"], "is waiting to start: RunContainerError")
    })?;

    let agent = fleet.machine_mut("n1")?.take_agent()?;
    agent.kill()?;
    wait::soon("a node that is not connected can't be asked", || {
        let said = fleet.tool(&["logs", pod, "-c", "side"])?;
        said.refused(&["node \"n1\" is not connected (last seen "]).map(drop)
    })?;
    let others = fleet.tool(&["logs", "-l", "app=talker", "-c", "side", "--ignore-errors"])?;
    ensure!(others.err.contains("n1") && others.clone().ok()? == "aside\n", "{others}");
    fleet.machine_mut("n1")?.start_agent(None)?;
    wait::soon("what was printed is there when its agent is", || {
        ensure!(logs(fleet, &[pod, "-c", "side"])? == "aside\n", "n1");
        Ok(())
    })
}

/// A million lines through several rotations while they are followed, an agent that is killed
/// meanwhile, and a reader that stops reading.
pub(crate) fn no_line_is_lost_and_nobody_waits(ground: &Ground) -> Outcome {
    Fleet::play(ground, 1, |fleet| {
        let gate = fleet.path("gate");
        let script = format!(
            "echo 0; while [ ! -e {gate} ]; do sleep 0.1; done; seq 1 1000000; \
             while [ ! -e {gate}2 ]; do sleep 0.1; done; echo alone; exec sleep 100000",
            gate = gate.display()
        );
        fleet.apply(&daemon("counter", &[("main", &script)]))?;
        settled(fleet, "counter", 1)?;
        let pod = fleet.pod_name("counter", "n1")?;
        let follower = follow(fleet, &pod, "followed")?;
        let stopped = follow(fleet, &pod, "stopped")?;
        wait::soon("both are followed", || same(&(follower.said() + &stopped.said()), "0\n0\n"))?;
        proc::signal(stopped.pid(), Signal::STOP)?;
        let before = Upkeep::of(fleet)?;
        fs::write(&gate, "")?;
        let all = numbers(1_000_000);
        wait::within(wait::SOON * 4, "all lines have come", || {
            let followed = follower.said();
            ensure!(followed.len() >= all.len(), "{} of {}", followed.len(), all.len());
            Ok(())
        })?;
        ensure!(follower.said() == all, "a line is lost, torn or doubled");
        ensure!(logs(fleet, &[&pod])? == all, "the same afterwards");
        before.is_still(fleet)?;
        proc::signal(stopped.pid(), Signal::CONT)?;
        wait::soon("who has stopped reading gets all when it goes on", || {
            ensure!(stopped.said() == all, "{} of {}", stopped.said().len(), all.len());
            Ok(())
        })?;
        ends_with_the_agent(fleet, follower, &all)
    })
}

/// The stream ends with its agent, and says so; the pod and its files know nothing of it.
fn ends_with_the_agent(fleet: &mut Fleet<'_>, mut follower: Daemon, all: &str) -> Outcome {
    fleet.machine_mut("n1")?.take_agent()?.kill()?;
    let ended = follower.ended()?;
    ensure!(ended.code() == Some(1), "{ended}");
    let said = follower.said();
    ensure!(said.contains("node \"n1\" ended the stream"), "{}", &said[all.len()..]);
    // A daemon that prints while there is no agent neither waits nor ends.
    fs::write(fleet.path("gate2"), "")?;
    let daemon = wait::soon("it goes on", || {
        let waits = fleet.machine("n1")?.only("sleep")?;
        ensure!(waits.command == ["sleep", "100000"], "{waits:?}");
        Ok(waits)
    })?;
    fleet.machine_mut("n1")?.start_agent(None)?;
    wait::soon("all of it is there again", || {
        let said = fleet.tool(&["logs", "ds/counter"])?.ok()?;
        ensure!(said == format!("{all}alone\n"), "lines are missing");
        Ok(())
    })?;
    ensure!(fleet.machine("n1")?.only("sleep")? == daemon, "the daemon was restarted");
    Ok(())
}

/// Runs are told apart, and following ends with the run.
pub(crate) fn a_run_ends_and_the_one_before_is_kept(ground: &Ground) -> Outcome {
    Fleet::play(ground, 1, |fleet| {
        let count = fleet.path("count");
        let script = format!(
            "echo x >> {count}; n=$(wc -l < {count}); echo run $n; exec sleep 10000$n",
            count = count.display()
        );
        fleet.apply(&daemon("runner", &[("main", &script)]))?;
        settled(fleet, "runner", 1)?;
        wait::soon("the first run", || same(&logs(fleet, &["ds/runner"])?, "run 1\n"))?;
        let pod = fleet.pod_name("runner", "n1")?;
        let mut follower = follow(fleet, &pod, "followed")?;
        wait::soon("it is followed", || same(&follower.said(), "run 1\n"))?;
        fleet.machine("n1")?.only("sleep")?.kill()?;
        ensure!(follower.ended()?.success(), "{}", follower.said());
        same(&follower.said(), "run 1\n")?;
        wait::soon("the second run", || same(&logs(fleet, &["ds/runner"])?, "run 2\n"))?;
        same(&logs(fleet, &["ds/runner", "--previous"])?, "run 1\n")?;

        // A follower of a pod that is removed ends, too.
        let mut follower = follow(fleet, &pod, "removed")?;
        wait::soon("it is followed", || same(&follower.said(), "run 2\n"))?;
        fleet.tool(&["delete", "daemonset", "runner"])?.ok()?;
        ensure!(follower.ended()?.success(), "{}", follower.said());
        Ok(())
    })
}

/// A viewer may look; a reader that goes away leaves nothing behind.
pub(crate) fn whoever_goes_leaves_nothing_open(ground: &Ground) -> Outcome {
    Fleet::play(ground, 1, |fleet| {
        let script = "seq 1 100000; while :; do echo y; sleep 0.1; done";
        fleet.apply(&daemon("endless", &[("main", script)]))?;
        settled(fleet, "endless", 1)?;
        let pod = fleet.pod_name("endless", "n1")?;
        let open = |fleet: &Fleet<'_>| log_files(fleet.machine("n1")?);
        for _ in 0..40 {
            // More than may be open at a time, one after the other.
            let mut command = fleet.coordinator().tool_command(&["logs", &pod, "-f"]);
            let mut tool = command.stdout(Stdio::piped()).spawn().context("logs")?;
            let mut some = [0; 4096];
            let read = tool.stdout.as_mut().map(|out| std::io::Read::read_exact(out, &mut some));
            tool.kill()?;
            tool.wait()?;
            read.transpose()?;
        }
        wait::soon("nothing is open for those who are gone", || {
            let open = open(fleet)?;
            ensure!(open == 0, "{open} log files are open");
            Ok(())
        })?;
        // Through a pipe that is closed: no error.
        let piped = "\"$0\" \"$@\" | head -n 1";
        let mut shell = Command::new("sh");
        shell.args(["-c", piped]);
        let said = Said::by(fleet.coordinator().tool_under(shell, &["logs", &pod]))?;
        ensure!(said.err.is_empty() && said.out == "1\n", "{said}");
        Ok(())
    })
}

fn logs(fleet: &Fleet<'_>, words: &[&str]) -> Outcome<String> {
    let words: Vec<&str> = ["logs"].iter().chain(words).copied().collect();
    fleet.tool(&words)?.ok()
}

fn follow(fleet: &Fleet<'_>, pod: &str, file: &str) -> Outcome<Daemon> {
    Daemon::start(fleet.coordinator().tool_command(&["logs", pod, "-f"]), &fleet.path(file))
}

fn settled(fleet: &Fleet<'_>, set: &str, pods: usize) -> Outcome {
    wait::soon(&format!("{set} runs"), || {
        let rows = fleet.tool(&["get", "pods", "--no-headers"])?.ok()?;
        let running = rows.lines().filter(|row| row.starts_with(set) && row.contains("Running"));
        let running = running.count();
        ensure!(running == pods, "{rows}");
        Ok(())
    })
}

fn numbers(count: usize) -> String {
    (0..=count).map(|number| format!("{number}\n")).collect()
}

/// How many files of logs the agent of a machine has open.
fn log_files(machine: &Machine) -> Outcome<usize> {
    let pid = machine.agent_pid().ok_or_else(|| failure!("no agent runs"))?;
    let open = proc::open_files(pid);
    Ok(open.iter().filter(|name| name.contains("/logs/")).count())
}

/// With containers of these names that run these scripts.
fn daemon(name: &str, containers: &[(&str, &str)]) -> String {
    let containers = containers.iter().map(|(name, script)| manifests::script(name, script));
    DaemonSet {
        name,
        pod: "terminationGracePeriodSeconds: 1\n",
        containers: &containers.collect::<String>(),
        ..DaemonSet::default()
    }
    .to_string()
}
