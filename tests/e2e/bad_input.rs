//! Manifests with slips in them: one clear line, the right exit code, nothing half done.

use everynode_tests::ground::Ground;
use everynode_tests::{Fleet, Outcome, ensure};

/// A manifest as a beginner writes it, whose kind is not the one that was meant (line 2).
const REPLICA_SET: &str = "\
apiVersion: apps/v1
kind: ReplicaSet
metadata:
  name: monitoring-daemon
spec:
  selector:
    matchLabels:
      app: monitoring-agent
  template:
    metadata:
      labels:
        app: monitoring-agent
    spec:
      containers:
      - name: monitoring-agent
        image: monitoring-agent
";

/// The same as it was meant.
const DAEMON_SET: &str = "\
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: monitoring-daemon
spec:
  selector:
    matchLabels:
      app: monitoring-agent
  template:
    metadata:
      labels:
        app: monitoring-agent
    spec:
      containers:
      - name: monitoring-agent
        image: monitoring-agent
";

/// What is written, and what must be said of it, in order.
const SLIPS: &[(&str, &str, &str, &[&str])] = &[
    (
        "kind",
        "kind: DaemonSet",
        "kind: ReplicaSet",
        &[":2:", "kind: ReplicaSet", "write `kind: DaemonSet` here"],
    ),
    (
        "broken YAML",
        "    metadata:\n      labels:",
        "    metadata:\n   labels:",
        &[":11:", "labels:"],
    ),
    (
        "unknown field",
        "      containers:",
        "      hostNetwrok: true\n      containers:",
        &[
            ":14:7:",
            "hostNetwrok: true",
            "spec.template.spec.hostNetwrok: Unknown field",
            "hostNetwork",
        ],
    ),
    (
        "selector",
        "      app: monitoring-agent\n  template",
        "      app: another\n  template",
        &["spec.template.metadata.labels", "selector"],
    ),
    (
        "no image",
        "        image: monitoring-agent\n",
        "",
        &["spec.template.spec.containers[0].image", "Required value", "runtimeClassName: process"],
    ),
];

/// Every slip is told with its place, and nothing is stored.
pub(crate) fn manifests(ground: &Ground) -> Outcome {
    Fleet::play(ground, 0, |fleet| {
        for (name, right, wrong, words) in SLIPS {
            ensure!(DAEMON_SET.contains(right), "{name}: nothing to write wrongly");
            slip(fleet, name, &DAEMON_SET.replacen(right, wrong, 1), words)?;
        }
        slip(fleet, "as found", REPLICA_SET, &[":2:", "write `kind: DaemonSet` here"])?;
        slip(
            fleet,
            "second of two",
            &format!("{DAEMON_SET}---\n{}", slipped(4)),
            &["Required value"],
        )?;
        no_file(fleet)?;
        hostile(fleet)?;
        others_are_skipped(fleet)
    })
}

fn slipped(number: usize) -> String {
    let (_, right, wrong, _) = SLIPS[number];
    DAEMON_SET.replacen(right, wrong, 1)
}

fn slip(fleet: &Fleet<'_>, name: &str, manifest: &str, words: &[&str]) -> Outcome {
    let file = fleet.write("slip.yaml", manifest)?;
    for verb in ["create", "apply"] {
        let said = fleet.tool(&[verb, "-f", &file])?.refused(words)?;
        ensure!(said.contains("slip.yaml"), "{name}: the file is not named: {said}");
    }
    ensure!(there(fleet)?.is_empty(), "{name}: something was stored");
    Ok(())
}

fn no_file(fleet: &Fleet<'_>) -> Outcome {
    fleet.tool(&["create", "-f", "/no/such.yaml"])?.refused(&["/no/such.yaml"])?;
    let empty = fleet.write("empty.yaml", "# nothing\n")?;
    fleet.tool(&["create", "-f", &empty])?.refused(&["no objects"])?;
    Ok(())
}

/// Files that are no manifests, or meant to break their reader: one line with the place, exit code
/// 1, and the good object beside them is not made either.
fn hostile(fleet: &Fleet<'_>) -> Outcome {
    let deep = "[".repeat(10_000);
    let bomb = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), "*a,".repeat(1000));
    let long = "#".repeat(10 * 1024 * 1024);
    let cases: [(&str, &[u8], &[&str]); 9] = [
        ("nul", b"a: x\0y\n", &[":1:5:", "U+0000"]),
        ("bytes", b"a: 1\nb: \xff\n", &[":2:4:", "offset 8"]),
        ("tab", b"a:\n\t- b\n", &[":2:1:", "indent with spaces"]),
        ("twice", b"a: 1\na: 2\n", &[":2:1:", "there twice, first in line 1"]),
        ("anchor", b"a: *b\n", &[":1:4:", "no anchor &b"]),
        ("template", b"a: {{ .Values.a }}\n", &[":1:5:", "template"]),
        ("deep", deep.as_bytes(), &[":1:101:", "deeper than 100 levels"]),
        ("bomb", bomb.as_bytes(), &[":2:", "3145728 bytes allowed"]),
        ("long", long.as_bytes(), &["3 MiB (3145728 bytes)"]),
    ];
    let good = fleet.write("good.yaml", DAEMON_SET)?;
    for (name, bytes, words) in cases {
        let file = fleet.path("hostile.yaml");
        std::fs::write(&file, bytes)?;
        let file = file.display().to_string();
        for verb in ["create", "apply", "delete"] {
            let said = fleet.tool(&[verb, "-f", &good, "-f", &file])?.refused(words)?;
            ensure!(said.contains("hostile.yaml:"), "{name}: the file is not named: {said}");
        }
        ensure!(there(fleet)?.is_empty(), "{name}: something was stored");
    }
    Ok(())
}

/// One line for each other kind, and the DaemonSet among them is made.
fn others_are_skipped(fleet: &Fleet<'_>) -> Outcome {
    let service =
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n";
    let account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: watcher}\n";
    let file = fleet.write("all.yaml", &format!("{service}---\n{DAEMON_SET}---\n{account}"))?;
    let said = fleet.tool(&["create", "-f", &file])?;
    let skipped = said.err.lines().filter(|line| line.contains("skipped")).count();
    ensure!(skipped == 2, "one line for each of the two others: {said}");
    ensure!(
        said.err.contains("Service/web") && said.err.contains("ServiceAccount/watcher"),
        "{said}"
    );
    said.ok()?;
    ensure!(there(fleet)?.len() == 1, "the DaemonSet among them was not made");
    fleet.tool(&["create", "-f", &file])?.refused(&["AlreadyExists"])?;
    fleet.tool(&["get", "daemonset", "no-such"])?.refused(&["NotFound"])?;
    Ok(())
}

fn there(fleet: &Fleet<'_>) -> Outcome<Vec<String>> {
    let names = fleet.tool(&["get", "daemonsets", "-A", "-o", "name"])?.ok()?;
    Ok(names.lines().map(str::to_owned).collect())
}
