//! The agent as a package, from its installation to its purge.

use std::io::Write as _;

use everynode_tests::ground::Ground;
use everynode_tests::manifests::{self, DaemonSet};
use everynode_tests::witness::{self, What};
use everynode_tests::{Fleet, Outcome, ensure};

use crate::debian::{self, AGENT, Both, Debian, NAME, PACKAGES};
use crate::play_bare;
use crate::power::known;
use crate::service::inherits_nothing;

/// Where the package of the next version is, beside `now`.
const NEXT: &str = "next";

/// Installed, it waits to be told whom to join; upgraded and downgraded, it keeps its pods; after a
/// power cut without its coordinator they come back; the machine goes down in order; it is not removed
/// where pods can't be stopped; removed, nothing of it runs; purged, nothing of it is left.
pub(crate) fn its_whole_life(ground: &Ground) -> Outcome {
    if debian::packages().is_none() {
        let why = "skipped: no packages were made: tests/machine/run makes them where there is Go";
        let _ = writeln!(std::io::stdout(), "{why}");
        return Ok(());
    }
    play_bare(ground, |fleet, machine| {
        installed_it_does_nothing(machine)?;
        joins_by_its_file(fleet, machine)?;
        let before = machine.run_both(fleet)?;
        inherits_nothing(machine, &before.exporter)?;
        limits_change_as_it_runs(fleet, machine)?;
        // systemd takes controllers from nobody who uses them.
        machine.sh("systemctl daemon-reload && systemctl daemon-reexec")?;
        is_held_to_its_limits(machine)?;

        for version in [NEXT, "now"] {
            let agent = machine.agent()?;
            dpkg(machine, &format!("-i {}", deb(version)))?;
            ensure!(machine.agent()? != agent, "{version}: the agent was not restarted");
            ensure!(machine.both()? == before, "{version}: the package disturbed a pod");
            fleet.ready(NAME)?;
            is_held_to_its_limits(machine)?;
        }
        as_an_rpm(machine, &before)?;
        let file = machine.sh("cat /etc/everynode/agent.yaml")?;
        ensure!(file.contains("rack"), "what was written to its file is lost: {file}");

        fleet.coordinator_mut().kill()?;
        machine.lose_power()?;
        machine.power_on(fleet)?;
        let after = machine.runs_both()?;
        ensure!(after.boot != before.boot, "it did not boot");
        is_held_to_its_limits(machine)?;
        fleet.coordinator_mut().start()?;
        fleet.ready(NAME)?;
        known(fleet, &after.boot)?;

        machine.press_power_button()?;
        machine.power_on(fleet)?;
        machine.runs_both()?;
        ended_by_itself(fleet, machine, 1)?;

        stays_where_pods_cant_be_stopped(machine)?;
        removed_nothing_runs(fleet, machine)?;
        purged_nothing_is_left(machine)
    })
}

fn deb(version: &str) -> String {
    format!("{PACKAGES}/{version}/everynode-agent_*.deb")
}

fn dpkg(machine: &Debian, words: &str) -> Outcome {
    machine.sh(&format!("DEBIAN_FRONTEND=noninteractive dpkg {words} 2>&1")).map(drop)
}

fn installed_it_does_nothing(machine: &Debian) -> Outcome {
    dpkg(machine, &format!("-i {}", deb("now")))?;
    let state =
        machine.run(&format!("systemctl is-enabled {AGENT}; systemctl is-active {AGENT}"))?;
    ensure!(state.out == "disabled\ninactive\n", "a package that nobody has set up: {state}");
    machine.sh("test ! -e /var/lib/everynode-agent && everynode-agent check | grep -v FAIL")?;
    machine.sh("test -s /usr/share/man/man8/everynode-agent.8.gz").map(drop)
}

/// By the file that the package brings, and a token that only its service sees.
fn joins_by_its_file(fleet: &Fleet<'_>, machine: &Debian) -> Outcome {
    let joining = fleet.joining(&[])?;
    machine.write("/root/join-token", &joining.token)?;
    machine.sh(&format!(
        "set -e
        echo \"coordinator: ['{}']\" >>/etc/everynode/agent.yaml
        echo \"label: {{rack: '7'}}\" >>/etc/everynode/agent.yaml
        mkdir /etc/systemd/system/{AGENT}.d
        printf '[Service]\\nLoadCredential=join-token:/root/join-token\\n' \\
            >/etc/systemd/system/{AGENT}.d/token.conf
        systemctl daemon-reload
        systemctl enable --quiet --now {AGENT}
        sync",
        joining.coordinator
    ))?;
    fleet.ready(NAME)?;
    let node = fleet.tool(&["get", "node", NAME, "-o", "yaml"])?.ok()?;
    ensure!(node.contains("rack: \"7\""), "{node}");
    // It has joined: the token is not needed again.
    machine
        .sh(&format!(
            "rm -r /root/join-token /etc/systemd/system/{AGENT}.d && systemctl daemon-reload"
        ))
        .map(drop)
}

/// In cgroup v2 alone: the same process, held to more, and to what it was held to at first.
fn limits_change_as_it_runs(fleet: &Fleet<'_>, machine: &Debian) -> Outcome {
    fleet.apply(&limited(20, 64))?;
    let first = is_held_to(machine, 20, 64)?;
    for (cpu, memory) in [(30, 96), (20, 64)] {
        fleet.apply(&limited(cpu, memory))?;
        ensure!(is_held_to(machine, cpu, memory)? == first, "other limits restarted it");
    }
    Ok(())
}

/// A DaemonSet that may use only so much: percents of a processor, and MiB.
fn limited(cpu: u64, memory: u64) -> String {
    let limits = format!("  resources: {{limits: {{cpu: {cpu}0m, memory: {memory}Mi}}}}\n");
    DaemonSet {
        name: "limited",
        pod: "terminationGracePeriodSeconds: 2\n",
        containers: &(manifests::script("limited", "exec sleep 100000") + &limits),
        ..DaemonSet::default()
    }
    .to_string()
}

fn is_held_to_its_limits(machine: &Debian) -> Outcome {
    is_held_to(machine, 20, 64).map(drop)
}

/// The container and its pod, of which there is only that; its process.
fn is_held_to(machine: &Debian, cpu: u64, memory: u64) -> Outcome<u32> {
    machine.soon("the limited one runs and is held to its limits", || {
        let pid = machine.look()?.only("sleep")?.pid;
        let said = machine.sh(&format!(
            "cd /sys/fs/cgroup/$(sed -n s/^0:://p /proc/{pid}/cgroup) &&
             cat cpu.max memory.max ../cpu.max ../memory.max"
        ))?;
        let limits = format!("{cpu}000 100000\n{}\n", memory << 20);
        ensure!(said == limits.repeat(2), "{said}");
        Ok(pid)
    })
}

/// Sees that for the `times`-th time the witness was asked to end and had its time for it.
fn ended_by_itself(fleet: &Fleet<'_>, machine: &Debian, times: usize) -> Outcome {
    let dir = fleet.witness_dir();
    machine.bring_witness(&dir)?;
    let lines = witness::read(&dir, NAME)?;
    let ended = lines.iter().filter(|line| line.what == What::Ended).count();
    ensure!(ended == times, "the witness did not end by itself: {lines:#?}");
    Ok(())
}

/// The same scripts, with the words by which RPM says that the package is upgraded.
fn as_an_rpm(machine: &Debian, before: &Both) -> Outcome {
    let agent = machine.agent()?;
    let script = "/var/lib/dpkg/info/everynode-agent";
    machine
        .sh(&format!("sh {script}.postinst 2 && sh {script}.prerm 1 && sh {script}.postrm 1"))?;
    ensure!(machine.agent()? != agent, "the agent was not restarted");
    ensure!(machine.both()? == *before, "the package disturbed a pod");
    Ok(())
}

/// Where pods can't be stopped, nothing is taken away.
fn stays_where_pods_cant_be_stopped(machine: &Debian) -> Outcome {
    let (before, agent) = (machine.both()?, machine.agent()?);
    let dir = "/run/systemd/system/everynode-pods.service.d";
    machine.sh(&format!(
        "mkdir -p {dir} && printf '[Service]\\nExecStop=\\nExecStop=/bin/false\\n' >{dir}/fails.conf &&
         systemctl daemon-reload"
    ))?;
    let said = machine.run("dpkg -r everynode-agent 2>&1")?;
    ensure!(said.out.contains("pods could not be stopped"), "{said}");
    ensure!((machine.both()?, machine.agent()?) == (before, agent), "something was disturbed");
    let state = machine.sh(&format!("dpkg -V everynode-agent; systemctl is-enabled {AGENT}"))?;
    ensure!(state.ends_with("enabled\n"), "{state}");
    machine.sh(&format!("rm -r {dir} && systemctl daemon-reload")).map(drop)
}

/// And what ran comes back when it is installed again.
fn removed_nothing_runs(fleet: &Fleet<'_>, machine: &Debian) -> Outcome {
    dpkg(machine, "-r everynode-agent")?;
    machine.look()?.empty()?;
    ensure!(machine.agent().is_err(), "an agent runs without its package");
    ended_by_itself(fleet, machine, 2)?;
    dpkg(machine, &format!("-i {}", deb("now")))?;
    machine.sh(&format!("systemctl enable --quiet --now {AGENT}"))?;
    machine.runs_both()?;
    fleet.ready(NAME)
}

fn purged_nothing_is_left(machine: &Debian) -> Outcome {
    dpkg(machine, "-P everynode-agent")?;
    machine.look()?.empty()?;
    // But for what the scenario has brought.
    let left = machine.sh(&format!(
        "rm -r {PACKAGES} /usr/bin/everynode-witness
        find / -xdev -name '*everynode*' ! -name everynode-eyes
        find /run /sys/fs/cgroup -name '*everynode*'
        grep everynode /proc/mounts
        systemctl list-units --all --no-legend '*everynode*'
        :"
    ))?;
    ensure!(left.is_empty(), "left on the machine:\n{left}");
    ensure!(machine.sh("systemctl is-system-running")? == "running\n", "a unit has failed");
    Ok(())
}
