//! What is left to see of a daemon that failed.

use everynode_tests::ground::Ground;
use everynode_tests::manifests::{self, DaemonSet, KNOWS_ITS_NODE};
use everynode_tests::{Fleet, Outcome, ensure, wait};
use serde_json::Value;

/// A revision that fails is rolled back by itself, and what it printed last stays readable.
pub(crate) fn of_a_revision_that_was_rolled_back(ground: &Ground) -> Outcome {
    Fleet::play(ground, 2, |fleet| {
        fleet.apply(&daemon("exec sleep 100000"))?;
        fleet.tool(&["rollout", "status", "ds/flaky", "--timeout", "30s"])?.ok()?;
        fleet.apply(&daemon(r#"seq -f "line %g" 0 59; echo boom on $NODE; exit 3"#))?;

        // While it fails it is told of the container.
        let node = wait::soon("a failure is shown with what was printed", || failing(fleet))?;
        let name = fleet.pod_name("flaky", &node)?;
        let told = fleet.tool(&["describe", "pod", &name])?.ok()?;
        for words in ["Last State:", "exit code 3", &format!("boom on {node}")] {
            ensure!(told.contains(words), "{words:?} is not in {told}");
        }

        // Then the rollout fails; whoever asks about it sees where, and why.
        wait::soon("it is rolled back", || {
            let status = fleet.tool(&["rollout", "status", "ds/flaky"])?;
            status.refused(&["RolledBack", &format!("node {node}: exit code 3: boom on {node}")])
        })?;
        wait::soon("another pod runs, and says what failed there before", || {
            let pod = fleet.pod("flaky", &node)?;
            ensure!(pod["status"]["containerStatuses"][0]["ready"] == true, "{pod}");
            let former = &pod["status"]["formerFailure"];
            same(&former["terminated"], &node)?;
            ensure!(former["revision"] != pod["status"]["revision"], "{pod}");
            Ok(())
        })?;
        let said = fleet.machine(&node)?.ask_agent("why flaky")?.ok()?;
        ensure!(
            said.contains("former failure") && said.contains(&format!("boom on {node}")),
            "{said}"
        );
        let described = fleet.tool(&["describe", "daemonset", "flaky"])?.ok()?;
        ensure!(described.contains(&format!("exit code 3: boom on {node}")), "{described}");
        Ok(())
    })
}

/// The node on which a container's last run is shown with its exit and the end of what it printed.
fn failing(fleet: &Fleet<'_>) -> Outcome<String> {
    for machine in fleet.machines() {
        let pod = fleet.pod("flaky", machine.name())?;
        let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
        if last["exitCode"] == 3 {
            same(last, machine.name())?;
            return Ok(machine.name().to_owned());
        }
    }
    Err(everynode_tests::failure!("no pod has failed"))
}

/// Sees the exit, and the last 50 lines.
fn same(terminated: &Value, node: &str) -> Outcome {
    let printed = terminated["message"].as_str().unwrap_or_default();
    ensure!(terminated["exitCode"] == 3 && terminated["reason"] == "Error", "{terminated}");
    let lines: Vec<&str> = printed.lines().collect();
    ensure!(lines.len() == 50 && lines[0] == "line 11", "{terminated}");
    ensure!(lines[49] == format!("boom on {node}"), "{terminated}");
    Ok(())
}

/// It has no probe, so it is ready once it is started: by the seconds that it must have been, one that
/// ends at once never counts as available.
fn daemon(script: &str) -> String {
    DaemonSet {
        name: "flaky",
        metadata: "annotations:
  rollout.everynode.dev/on-failure: rollback
  rollout.everynode.dev/progress-deadline-seconds: '5'
",
        spec: "minReadySeconds: 2\n",
        containers: &(manifests::script("main", script) + KNOWS_ITS_NODE),
        ..DaemonSet::default()
    }
    .to_string()
}
