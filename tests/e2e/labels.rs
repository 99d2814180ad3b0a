//! Labels of nodes that pods read: what they are told, and that a change comes by steps.

use std::fs;

use everynode_tests::ground::Ground;
use everynode_tests::manifests::DaemonSet;
use everynode_tests::proc::Process;
use everynode_tests::{Fleet, Outcome, ensure, wait};

/// Each pod writes down what it reads; when the label changes both are replaced, one after the other,
/// and when another label changes nobody is.
pub(crate) fn a_pod_reads_its_nodes_labels(ground: &Ground) -> Outcome {
    Fleet::play(ground, 2, |fleet| {
        for (node, site) in [("n1", "lab"), ("n2", "sea")] {
            fleet.tool(&["label", "node", node, &format!("site={site}")])?.ok()?;
        }
        let log = fleet.write("log", "")?;
        let file = fleet.write("reads.yaml", &daemon(&log))?;
        let said = fleet.tool(&["apply", "-f", &file])?;
        ensure!(
            said.err.contains("a label of the node is known to Everynode's pods only"),
            "{said}"
        );
        said.ok()?;
        wait::soon("both have said what they read", || said_so(&log, &["n1 lab", "n2 sea"]))?;
        let [one, other] = [reader(fleet, "n1")?, reader(fleet, "n2")?];

        fleet.tool(&["label", "nodes", "--all", "rack=7"])?.ok()?;
        let label = ["label", "node", "n1", "site=field", "--overwrite"];
        let said = fleet.tool(&[&label[..], &["--dry-run=server"]].concat())?.ok()?;
        ensure!(said.contains("restarts 1"), "{said}");
        fleet.tool(&label)?.ok()?;
        wait::soon("the one has read it again", || {
            said_so(&log, &["n1 lab", "n2 sea", "n1 field"])
        })?;
        fleet.rolled_out("reads", "60s")?;
        ensure!(reader(fleet, "n1")? != one, "it was not started again");
        ensure!(reader(fleet, "n2")? == other, "somebody else was started again");

        fleet.tool(&["label", "node", "n2", "site-"])?.ok()?;
        wait::soon("one that is gone is empty", || {
            said_so(&log, &["n1 lab", "n2 sea", "n1 field", "n2"])
        })
    })
}

fn reader(fleet: &Fleet<'_>, node: &str) -> Outcome<Process> {
    wait::soon("it runs", || fleet.machine(node)?.only("sleep"))
}

/// Whether exactly these lines were written, in whatever order those of two nodes came.
fn said_so(log: &str, expected: &[&str]) -> Outcome {
    let text = fs::read_to_string(log)?;
    let mut lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut expected = expected.to_vec();
    lines.sort_unstable();
    expected.sort_unstable();
    ensure!(lines == expected, "{lines:?} is not {expected:?}");
    Ok(())
}

fn daemon(log: &str) -> String {
    let containers = format!(
        "- name: main
  command: [/bin/sh, -c, 'echo \"$NODE $SITE\" >> {log}; exec sleep 100000']
  env:
  - name: NODE
    valueFrom: {{fieldRef: {{fieldPath: spec.nodeName}}}}
  - name: SITE
    valueFrom: {{fieldRef: {{fieldPath: \"node.labels['site']\"}}}}
"
    );
    DaemonSet { name: "reads", containers: &containers, ..DaemonSet::default() }.to_string()
}
