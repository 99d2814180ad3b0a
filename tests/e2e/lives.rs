//! A pod of an init container, a sidecar and a web server, from its start to its end.

use std::fs;

use everynode_tests::ground::Ground;
use everynode_tests::manifests::DaemonSet;
use everynode_tests::proc::Process;
use everynode_tests::{Fleet, Outcome, ensure, wait};

/// The web server as the kernel calls it, once it is there.
const SERVER: &str = "python3";

/// They start in their order and end in the other; a probe that fails starts again what it is of and
/// nothing else; a killed agent disturbs nobody, and its successor goes on probing.
pub(crate) fn they_start_and_end_in_order(ground: &Ground) -> Outcome {
    Fleet::play(ground, 1, |fleet| {
        let log = fleet.write("log", "")?;
        let sick = fleet.path("sick");
        fleet.apply(&daemon(&log, &sick.display().to_string()))?;
        wait::soon("it is ready", || shown(fleet, true, 0))?;
        said(&log, "prepared side-up web-up")?;
        let (web, side) = both(fleet)?;
        told(fleet)?;

        fs::write(&sick, "")?;
        wait::soon("the server is started again", || shown(fleet, true, 1))?;
        let again = both(fleet)?;
        ensure!(again.0 != web && again.1 == side, "{web:?} and {side:?} became {again:?}");
        said(&log, "prepared side-up web-up web-stopping web-up")?;

        fleet.machine_mut("n1")?.take_agent()?.kill()?;
        ensure!(both(fleet)? == again, "somebody died with the agent");
        fleet.machine_mut("n1")?.start_agent(None)?;
        fleet.ready("n1")?;
        wait::soon("it is ready again", || shown(fleet, true, 1))?;
        ensure!(both(fleet)? == again, "somebody was started again by the new agent");
        fs::write(&sick, "")?;
        wait::soon("the new agent probes, too", || shown(fleet, true, 2))?;
        ensure!(both(fleet)?.1 == side, "the sidecar was started again");

        fleet.tool(&["delete", "ds/lives"])?.ok()?;
        wait::soon("all have ended", || fleet.machine("n1")?.empty())?;
        let lives = "web-up web-stopping";
        said(&log, &format!("prepared side-up {lives} {lives} {lives} side-down"))
    })
}

/// The server and the sidecar.
fn both(fleet: &Fleet<'_>) -> Outcome<(Process, Process)> {
    let machine = fleet.machine("n1")?;
    Ok((machine.only(SERVER)?, machine.only("perl")?))
}

fn shown(fleet: &Fleet<'_>, ready: bool, restarts: u64) -> Outcome {
    let pods = fleet.tool(&["get", "pods"])?.ok()?;
    let line = pods.lines().nth(1).unwrap_or_default().to_owned();
    let words: Vec<&str> = line.split_whitespace().collect();
    // The init container is done, and none of those that stay.
    let is_ready = words.get(1) == Some(&"2/2") && words.get(2) == Some(&"Running");
    let right = is_ready == ready && words.get(3) == Some(&restarts.to_string().as_str());
    ensure!(right, "{restarts} restarts were expected: {pods}");
    Ok(())
}

/// What people are told of a pod with init containers.
fn told(fleet: &Fleet<'_>) -> Outcome {
    let described = fleet.tool(&["describe", "pods"])?.ok()?;
    let (_, containers) = described.split_once("\nInit Containers:\n").unwrap_or_default();
    let (inits, mains) = containers.split_once("\nContainers:\n").unwrap_or_default();
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let done = "State: Terminated Reason: Completed Exit Code: 0 Started: ";
    let inits_are_told = inits.contains("  prepare:\n") && inits.contains("\n  side:\n");
    ensure!(inits_are_told && words(inits).contains(done), "{described}");
    let probe = "Liveness: exec";
    ensure!(mains.contains("  web:\n") && words(mains).contains(probe), "{described}");
    for (path, expected) in [
        ("{.items[0].status.initContainerStatuses[*].name}", "prepare side"),
        ("{.items[0].status.containerStatuses[*].name}", "web"),
        ("{.items[0].spec.initContainers[1].restartPolicy}", "Always"),
        ("{.items[0].status.phase}", "Running"),
        ("{.items[0].status.conditions[*].status}", "True True True True"),
    ] {
        let said = fleet.tool(&["get", "pods", "-o", &format!("jsonpath={path}")])?.ok()?;
        ensure!(said == expected, "{path}: {said:?}");
    }
    Ok(())
}

/// What the containers wrote, in the order in which they did.
fn said(log: &str, expected: &str) -> Outcome {
    let lines = fs::read_to_string(log)?;
    let words: Vec<&str> = lines.split_whitespace().collect();
    ensure!(words.join(" ") == expected, "{words:?} is not {expected}");
    Ok(())
}

fn daemon(log: &str, sick: &str) -> String {
    let before = format!(
        "initContainers:
- name: prepare
  command: [sh, -c, 'echo prepared >> {log}']
- name: side
  restartPolicy: Always
  command:
  - perl
  - -e
  - |
    sub note {{ open(my $log, '>>', '{log}'); print $log \"$_[0]\\n\"; }}
    $SIG{{TERM}} = sub {{ note('side-down'); exit 0 }};
    note('side-up');
    sleep 1000 while 1;
  startupProbe:
    exec: {{command: [grep, -q, side-up, '{log}']}}
    periodSeconds: 1
"
    );
    let web = format!(
        "- name: web
  command: [sh, -c, 'echo web-up >> {log}; exec python3 -m http.server 8099 --bind ::']
  ports: [{{name: web, containerPort: 8099}}]
  readinessProbe:
    httpGet: {{path: /, port: web}}
    periodSeconds: 1
  livenessProbe:
    exec: {{command: [sh, -c, '! rm {sick}']}}
    periodSeconds: 1
    failureThreshold: 1
  lifecycle:
    preStop:
      exec: {{command: [sh, -c, 'echo web-stopping >> {log}']}}
"
    );
    DaemonSet {
        name: "lives",
        template: "annotations: {everynode.dev/restart-backoff: 1s}\n",
        pod: &before,
        containers: &web,
        ..DaemonSet::default()
    }
    .to_string()
}
