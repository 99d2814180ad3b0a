//! A pod that says nothing of what it shares with its machine: it shares nothing.

use std::fs;

use everynode_tests::ground::Ground;
use everynode_tests::machine::Machine;
use everynode_tests::manifests::{DaemonSet, script};
use everynode_tests::proc::{self, Process};
use everynode_tests::said::Said;
use everynode_tests::{Fleet, Outcome, cgroups, ensure, failure, wait};

/// What shows of a pod whom it sees, and then waits until it has met the other. (`$$` is `$` in a
/// command of Kubernetes.)
const CLIENT: &str = "echo net $(ls /sys/class/net); echo first $$$$; \
    set -- /proc/[0-9]*; echo processes $#; echo queues $(ipcs -q | grep -c 0x); \
    until curl -s -o /dev/null --noproxy '*' http://127.0.0.1:8098/; do sleep 0.1; done; \
    echo met; exec sleep 100000";

/// Its containers meet on a loopback that nobody else is on, and see no processes and queues but their
/// own; it is probed there, by the next agent too; nothing is left of it, whoever is killed.
pub(crate) fn what_is_not_shared_is_its_own(ground: &Ground) -> Outcome {
    Fleet::play(ground, 1, |fleet| {
        let file = fleet.write("own.yaml", &daemon())?;
        let applied = fleet.tool(&["apply", "-f", &file])?;
        ensure!(applied.err.contains("loopback alone"), "{applied}");
        wait::soon("both containers are ready", || ready(fleet))?;
        let printed = fleet.tool(&["logs", "ds/own", "-c", "client"])?.ok()?;
        ensure!(printed == "net lo\nfirst 1\nprocesses 1\nqueues 0\nmet\n", "{printed}");
        let described = fleet.tool(&["describe", "ds", "own"])?.ok()?;
        ensure!(described.contains("loopback alone"), "{described}");
        let machine = fleet.machine("n1")?;
        unreachable(machine)?;
        let server = in_pod(machine, "python3")?;
        let network = server.network().ok_or_else(|| failure!("{server:?} is gone"))?;
        ensure!(network != machine.network(), "it is in the machine's network");

        fleet.machine_mut("n1")?.take_agent()?.kill()?;
        ensure!(in_pod(fleet.machine("n1")?, "python3")? == server, "it died with the agent");
        fleet.machine_mut("n1")?.start_agent(None)?;
        wait::soon("it is ready under the next agent", || ready(fleet))?;
        ensure!(in_pod(fleet.machine("n1")?, "python3")? == server, "it was started again");

        fleet.machine("n1")?.shim_of(&server)?.kill()?;
        wait::soon("another is ready in its place", || {
            let other = in_pod(fleet.machine("n1")?, "python3")?;
            ensure!(other != server, "it still lives");
            ready(fleet)
        })?;
        let other = in_pod(fleet.machine("n1")?, "python3")?;
        let networks = [Some(network), other.network()];
        fleet.tool(&["delete", "ds/own"])?.ok()?;
        wait::soon("all has ended", || fleet.machine("n1")?.empty())?;
        wait::soon("nobody is in its networks", || {
            for network in networks.into_iter().flatten() {
                let left = proc::in_network(network);
                ensure!(left.is_empty(), "{left:?}");
            }
            Ok(())
        })?;
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        ensure!(!mounts.contains(" - tmpfs everynode "), "{mounts}");
        Ok(())
    })
}

fn daemon() -> String {
    let server = "- name: server
  command: [python3, -m, http.server, '8098', --bind, 127.0.0.1]
  readinessProbe:
    httpGet: {port: 8098}
    periodSeconds: 1
";
    let containers = [server, &script("client", CLIENT)].concat();
    let pod = "terminationGracePeriodSeconds: 1\n";
    let containers = &containers;
    DaemonSet { name: "own", pod, containers, apart: true, ..DaemonSet::default() }.to_string()
}

/// Both containers are, and have met.
fn ready(fleet: &Fleet<'_>) -> Outcome {
    let pods = fleet.tool(&["get", "pods"])?.ok()?;
    ensure!(pods.contains(" 2/2 "), "{pods}");
    let printed = fleet.tool(&["logs", "ds/own", "-c", "client"])?.ok()?;
    ensure!(printed.ends_with("met\n"), "{printed}");
    Ok(())
}

/// The only instance of a program in the pod, whatever its network.
fn in_pod(machine: &Machine, program: &str) -> Outcome<Process> {
    let members = cgroups::members(&machine.cgroup()).into_iter().map(|(_, member)| member);
    let found: Vec<Process> = members.filter(|member| member.program() == program).collect();
    match found.as_slice() {
        [only] => Ok(only.clone()),
        found => Err(failure!("{} instances of {program}: {found:?}", found.len())),
    }
}

/// Nobody answers on the machine.
fn unreachable(machine: &Machine) -> Outcome {
    let mut command = machine.command("curl".as_ref());
    command.args(["-sS", "--noproxy", "*", "--max-time", "5", "http://127.0.0.1:8098/"]);
    let said = Said::by(command)?;
    // curl's number for a connection that is refused.
    ensure!(said.code == Some(7), "{said}");
    Ok(())
}
