//! kubectl's verbs as people type them, with what they print, on a real coordinator.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use everynode_tests::ground::Ground;
use everynode_tests::said::Said;
use everynode_tests::{Fleet, Outcome, ensure, failure};

const AGENT: &str = "\
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: agent
  labels: {app: agent}
spec:
  selector:
    matchLabels: {app: agent}
  template:
    metadata:
      labels: {app: agent}
    spec:
      runtimeClassName: process
      hostNetwork: true
      hostPID: true
      containers:
      - name: agent
        command: [/bin/sleep, infinity]
        env:
        - {name: ONE, value: '1'}
        - {name: TWO, value: '2'}
";

/// One DaemonSet through all that changes and shows it.
pub(crate) fn its_verbs(ground: &Ground) -> Outcome {
    Fleet::play(ground, 1, |fleet| {
        apply_is_three_way(fleet)?;
        labels_and_annotations(fleet)?;
        everybody_at_once(fleet)?;
        patches(fleet)?;
        edits(fleet)?;
        differences(fleet)?;
        forms(fleet)?;
        watches(fleet)?;
        waits(fleet)
    })
}

/// What a command prints, to the letter; what it does to pods apart, which goes by how far the rollout
/// before has come.
fn prints(fleet: &Fleet<'_>, words: &[&str], expected: &str) -> Outcome {
    let mut said = fleet.tool(words)?.ok()?;
    for verb in [" (gains ", " (loses ", " (restarts "] {
        if let Some((before, (_, after))) =
            said.split_once(verb).and_then(|(before, rest)| Some((before, rest.split_once(')')?)))
        {
            said = format!("{before}{after}");
        }
    }
    ensure!(said == expected, "{words:?} printed {said:?}, not {expected:?}");
    Ok(())
}

/// What a JSONPath leads to in the DaemonSet.
fn field(fleet: &Fleet<'_>, path: &str, expected: &str) -> Outcome {
    prints(fleet, &["get", "ds", "agent", "-o", &format!("jsonpath={path}")], expected)
}

fn apply_is_three_way(fleet: &Fleet<'_>) -> Outcome {
    const ENV: &str = "{.spec.template.spec.containers[0].env[*].name}";
    let file = fleet.write("agent.yaml", AGENT)?;
    prints(fleet, &["create", "-f", &file], "daemonset.apps/agent created\n")?;
    fleet.tool(&["create", "-f", &file])?.refused(&["(AlreadyExists)", "already exists"])?;
    let said = fleet.tool(&["apply", "-f", &file])?;
    ensure!(said.err.contains("Warning: resource daemonsets/agent is missing the"), "{said}");
    ensure!(said.clone().ok()? == "daemonset.apps/agent configured\n", "{said}");
    prints(fleet, &["apply", "-f", &file], "daemonset.apps/agent unchanged\n")?;
    prints(fleet, &["apply", "-f", &file, "-o", "name"], "daemonset.apps/agent\n")?;

    // What somebody else added stays, what the file says no more goes.
    let theirs = r#"{"spec":{"template":{"spec":{"containers":[{"name":"agent","env":[{"name":"THREE","value":"3"}]}]}}}}"#;
    prints(fleet, &["patch", "ds", "agent", "-p", theirs], "daemonset.apps/agent patched\n")?;
    field(fleet, ENV, "THREE ONE TWO")?;
    let less = AGENT.replace("        - {name: TWO, value: '2'}\n", "");
    let file = fleet.write("less.yaml", &less)?;
    let dry = ["apply", "-f", &file, "--dry-run=server"];
    prints(fleet, &dry, "daemonset.apps/agent configured (server dry run)\n")?;
    field(fleet, ENV, "THREE ONE TWO")?;
    prints(fleet, &["apply", "-f", &file], "daemonset.apps/agent configured\n")?;
    field(fleet, ENV, "THREE ONE")?;
    let last = fleet.tool(&["apply", "view-last-applied", "ds/agent", "-o", "json"])?.json()?;
    let env = last.pointer("/spec/template/spec/containers/0/env");
    ensure!(env == Some(&serde_json::json!([{"name": "ONE", "value": "1"}])), "{last}");
    fleet.tool(&["apply", "--server-side", "-f", &file])?.refused(&["leave --server-side out"])?;

    // A version that is not the newest is not applied, and not tried again.
    let stale =
        less.replace("  name: agent\n  labels", "  name: agent\n  resourceVersion: '1'\n  labels");
    let file = fleet.write("stale.yaml", &stale)?;
    for verb in ["apply", "replace"] {
        fleet.tool(&[verb, "-f", &file])?.refused(&["(Conflict)"])?;
    }
    Ok(())
}

fn labels_and_annotations(fleet: &Fleet<'_>) -> Outcome {
    let file = fleet.path("less.yaml").display().to_string();
    prints(fleet, &["label", "ds", "agent", "tier=edge"], "daemonset.apps/agent labeled\n")?;
    prints(fleet, &["label", "ds/agent", "tier=edge"], "daemonset.apps/agent not labeled\n")?;
    let refused = ["label", "ds", "agent", "tier=core"];
    fleet
        .tool(&refused)?
        .refused(&["'tier' already has a value (edge), and --overwrite is false"])?;
    prints(
        fleet,
        &["annotate", "ds", "-l", "tier=edge", "note=x"],
        "daemonset.apps/agent annotated\n",
    )?;
    prints(fleet, &["apply", "-f", &file], "daemonset.apps/agent unchanged\n")?;
    prints(fleet, &["label", "ds", "agent", "--list"], "app=agent\ntier=edge\n")?;
    prints(
        fleet,
        &[
            "get",
            "ds",
            "--no-headers",
            "-L",
            "tier",
            "-o",
            "custom-columns=T:.metadata.labels.tier",
        ],
        "edge\n",
    )?;
    prints(fleet, &["label", "ds", "--all", "tier-"], "daemonset.apps/agent unlabeled\n")?;
    let stale = ["annotate", "ds", "agent", "note-", "--resource-version", "1"];
    fleet.tool(&stale)?.refused(&["(Conflict)"])?;
    field(fleet, "{.metadata.annotations.note}", "x")?;
    let dry = ["annotate", "ds", "agent", "note-", "--dry-run=client"];
    prints(fleet, &dry, "daemonset.apps/agent annotated (dry run)\n")?;
    field(fleet, "{.metadata.annotations.note}", "x")
}

/// Several change one object at the same moment: each change is there in the end.
fn everybody_at_once(fleet: &Fleet<'_>) -> Outcome {
    let keys = ["a", "b", "c", "d"];
    let start = |key: &&str| {
        let mut command =
            fleet.coordinator().tool_command(&["label", "ds", "agent", &format!("{key}=1")]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
    };
    let children = keys.iter().map(start).collect::<std::io::Result<Vec<Child>>>()?;
    for child in children {
        let done = child.wait_with_output()?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    field(fleet, "{.metadata.labels['a','b','c','d']}", "1 1 1 1")
}

fn patches(fleet: &Fleet<'_>) -> Outcome {
    let merge = ["patch", "ds/agent", "--type", "merge", "-p", "spec: {minReadySeconds: 1}"];
    prints(fleet, &merge, "daemonset.apps/agent patched\n")?;
    prints(fleet, &merge, "daemonset.apps/agent patched (no change)\n")?;
    let json = r#"[{"op":"test","path":"/spec/minReadySeconds","value":1},{"op":"replace","path":"/spec/minReadySeconds","value":2}]"#;
    let json = ["patch", "ds", "agent", "--type=json", "-p", json];
    prints(fleet, &json, "daemonset.apps/agent patched\n")?;
    fleet.tool(&json)?.refused(&["the patch: [0]: value did not match"])?;
    field(fleet, "{.spec.minReadySeconds}", "2")?;
    let wrong = ["patch", "ds", "agent", "-p", r#"{"spec":{"minReadySeconds":-1}}"#];
    fleet.tool(&wrong)?.refused(&["spec.minReadySeconds: Invalid value: -1"])?;
    let dry = ["patch", "ds", "agent", "-p", "spec: {minReadySeconds: 9}", "--dry-run=server"];
    prints(fleet, &dry, "daemonset.apps/agent patched (server dry run)\n")?;
    field(fleet, "{.spec.minReadySeconds}", "2")?;
    let node = ["patch", "node", "n1", "-p", r#"{"metadata":{"labels":{"rack":"r1"}}}"#];
    prints(fleet, &node, "node/n1 patched\n")?;
    prints(fleet, &["get", "node", "n1", "-o", "jsonpath={.metadata.labels.rack}"], "r1")
}

fn edits(fleet: &Fleet<'_>) -> Outcome {
    let edit = |editor: &str| {
        let mut command = fleet.coordinator().tool_command(&["edit", "ds", "agent"]);
        command.env("KUBE_EDITOR", editor);
        Said::by(command)
    };
    let said = edit("sed -i 's/minReadySeconds: 2/minReadySeconds: 3/'")?;
    ensure!(said.clone().ok()? == "daemonset.apps/agent edited\n", "{said}");
    field(fleet, "{.spec.minReadySeconds}", "3")?;
    let said = edit("true")?;
    ensure!(said.code == Some(0) && said.err == "Edit cancelled, no changes made.\n", "{said}");
    let said = edit("sed -i 's/minReadySeconds: 3/minReadySeconds: -3/'")?;
    said.refused(&[
        "must be greater than or equal to 0",
        "A copy of your changes has been stored",
        "Edit cancelled, no valid changes were saved.",
    ])?;
    edit("false")?.refused(&["there was a problem with the editor"])?;
    field(fleet, "{.spec.minReadySeconds}", "3")
}

fn differences(fleet: &Fleet<'_>) -> Outcome {
    let live = fleet.tool(&["get", "ds", "agent", "-o", "yaml"])?.ok()?;
    let file = fleet.write("live.yaml", &live)?;
    prints(fleet, &["diff", "-f", &file], "")?;
    let file =
        fleet.write("other.yaml", &live.replace("minReadySeconds: 3", "minReadySeconds: 4"))?;
    let said = fleet.tool(&["diff", "-f", &file])?;
    ensure!(said.code == Some(1), "{said}");
    for line in [
        "-  minReadySeconds: 3\n",
        "+  minReadySeconds: 4\n",
        "--- LIVE/apps.v1.DaemonSet.default.agent",
    ] {
        ensure!(said.out.contains(line), "{line:?} is not in {said}");
    }
    let new =
        fleet.write("new.yaml", &AGENT.replace("name: agent\n  labels", "name: new\n  labels"))?;
    let said = fleet.tool(&["diff", "-f", &new])?;
    ensure!(said.code == Some(1) && said.out.contains("+  name: new\n"), "{said}");
    let mut command = fleet.coordinator().tool_command(&["diff", "-f", &new]);
    command.env("EVERYNODE_EXTERNAL_DIFF", "/no/such/program");
    let said = Said::by(command)?;
    ensure!(said.code == Some(2) && said.err.contains("EVERYNODE_EXTERNAL_DIFF"), "{said}");
    let said = fleet.tool(&["diff", "-f", "/no/such.yaml"])?;
    ensure!(said.code == Some(2), "{said}");
    field(fleet, "{.spec.minReadySeconds}", "3")
}

fn forms(fleet: &Fleet<'_>) -> Outcome {
    let columns = "-ocustom-columns=NAME:.metadata.name,LABEL:.metadata.labels.rack,NONE:.x";
    prints(fleet, &["get", "nodes", columns], "NAME   LABEL   NONE\nn1     r1      <none>\n")?;
    let range = r#"-ojsonpath={range .items[?(@.metadata.name=="n1")]}{.kind}{"\t"}{.metadata.name}{"\n"}{end}"#;
    prints(fleet, &["get", "nodes", range], "Node\tn1\n")?;
    let sorted = ["get", "events", "-A", "--sort-by=.metadata.name", "-o", "name"];
    let sorted = fleet.tool(&sorted)?.ok()?;
    ensure!(sorted.lines().count() > 1, "there are no events: {sorted}");
    let on_n1 = [
        "get",
        "pods",
        "--field-selector",
        "spec.nodeName=n1",
        "-o",
        "jsonpath={.items[*].spec.nodeName}",
    ];
    prints(fleet, &on_n1, "n1")?;
    let elsewhere = ["get", "pods", "--field-selector=spec.nodeName!=n1", "-o", "name"];
    prints(fleet, &elsewhere, "")?;
    fleet
        .tool(&["get", "nodes", "--field-selector=spec.x=1"])?
        .refused(&["field label not supported: spec.x"])?;
    fleet.tool(&["get", "nodes", "-o", "go-template={{.a}}"])?.refused(&["jsonpath"])?;
    fleet
        .tool(&["get", "ds", "agent", "-o", "jsonpath={.spec.template.spec.containers[7]}"])?
        .refused(&["array index out of bounds: index 7, length 1"])?;
    prints(fleet, &["get", "ds", "none", "--ignore-not-found", "-o", "yaml"], "")
}

/// A program that is ended when it is dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn watches(fleet: &Fleet<'_>) -> Outcome {
    let words = ["get", "ds", "agent", "-w", "--output-watch-events", "-L", "seen"];
    let mut command = fleet.coordinator().tool_command(&words);
    let mut child = Ended(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?);
    let lines = child.0.stdout.take().ok_or_else(|| failure!("no output"))?;
    let mut lines = BufReader::new(lines).lines();
    let mut line =
        || -> Outcome<String> { Ok(lines.next().ok_or_else(|| failure!("the watch ended"))??) };
    let heads = line()?;
    ensure!(heads.starts_with("EVENT   NAME    DESIRED") && heads.ends_with("SEEN"), "{heads}");
    let first = line()?;
    ensure!(first.starts_with("ADDED   agent   1") && first.ends_with("<none>"), "{first}");
    fleet.tool(&["label", "ds", "agent", "seen=yes"])?.ok()?;
    // Its pods may come and go in between.
    loop {
        let next = line()?;
        ensure!(next.starts_with("MODIFIED   agent"), "{next}");
        if next.ends_with("yes") {
            return Ok(());
        }
    }
}

fn waits(fleet: &Fleet<'_>) -> Outcome {
    let available = ["wait", "ds/agent", "--for=condition=Available", "--timeout=60s"];
    prints(fleet, &available, "daemonset.apps/agent condition met\n")?;
    let ready = ["wait", "node", "--all", "--for=condition=Ready"];
    prints(fleet, &ready, "node/n1 condition met\n")?;
    let number = ["wait", "ds", "agent", "--for=jsonpath={.status.numberReady}=1", "--timeout=60s"];
    prints(fleet, &number, "daemonset.apps/agent condition met\n")?;
    let never = ["wait", "ds", "agent", "--for=jsonpath={.spec.minReadySeconds}=77", "--timeout=0"];
    fleet
        .tool(&never)?
        .refused(&["timed out waiting for the condition on daemonset.apps/agent"])?;
    fleet.tool(&["wait", "ds", "none", "--for=condition=Available"])?.refused(&["(NotFound)"])?;

    let mut command =
        fleet.coordinator().tool_command(&["wait", "ds/agent", "--for=delete", "--timeout=60s"]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    fleet.tool(&["delete", "ds", "agent"])?.ok()?;
    let done = child.wait_with_output()?;
    ensure!(done.status.success(), "a wait for the end did not see it: {done:?}");
    prints(
        fleet,
        &["wait", "ds/agent", "--for=delete", "--timeout=0"],
        "daemonset.apps/agent condition met\n",
    )
}
