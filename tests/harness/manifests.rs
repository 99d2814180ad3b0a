//! The DaemonSets that fleets run.

use std::fmt;
use std::path::Path;

/// The real exporter's program.
pub const EXPORTER: &str = "/usr/bin/prometheus-node-exporter";

/// The name of its processes.
pub const EXPORTER_PROGRAM: &str = "prometheus-node-exporter";

/// The name of the lock witness' processes.
pub const WITNESS_PROGRAM: &str = "everynode-witness";

/// Lines of a container that is told the name of its node.
pub const KNOWS_ITS_NODE: &str = "  env:
  - name: NODE
    valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
";

/// Of the pod's `spec`: all that can be shared.
const SHARED: &str = "hostNetwork: true\nhostPID: true\nhostIPC: true\n";

/// A DaemonSet of host processes, as the YAML that it is shown as; its pods' label `app` is its name.
/// They share all with their machine, if nothing else is said: what dies by SIGTERM would not, as the
/// first of its own processes.
/// What a scenario adds is lines, each with a line end, which are indented to where they belong.
#[derive(Clone, Copy, Debug, Default)]
pub struct DaemonSet<'a> {
    /// Its name.
    pub name: &'a str,
    /// Of its `metadata`, behind the name.
    pub metadata: &'a str,
    /// Of its `spec`, before the selector.
    pub spec: &'a str,
    /// Of the template's `metadata`, behind the labels.
    pub template: &'a str,
    /// Of the pod's `spec`, before the containers.
    pub pod: &'a str,
    /// The containers.
    pub containers: &'a str,
    /// Whether they share nothing with their machine.
    pub apart: bool,
}

impl fmt::Display for DaemonSet<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, .. } = self;
        let (metadata, spec) = (indented(self.metadata, 2), indented(self.spec, 2));
        let [template, pod, containers] =
            [self.template, self.pod, self.containers].map(|lines| indented(lines, 6));
        let shared = if self.apart { String::new() } else { indented(SHARED, 6) };
        write!(
            to,
            "apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: {name}
{metadata}spec:
{spec}  selector:
    matchLabels: {{app: {name}}}
  template:
    metadata:
      labels: {{app: {name}}}
{template}    spec:
      runtimeClassName: process
{shared}{pod}      containers:
{containers}"
        )
    }
}

/// A container of that name, which runs a shell script.
pub fn script(container: &str, script: &str) -> String {
    // JSON's strings are YAML's, whatever is in them.
    let script = serde_json::Value::from(script);
    format!("- name: {container}\n  command: [/bin/sh, -c, {script}]\n")
}

/// The exporter as a DaemonSet of host processes, with further lines for the pod's `spec`, each
/// with a line end.
pub fn exporter(pod_spec: &str) -> String {
    let container = format!(
        "- name: node-exporter
  command: [{EXPORTER}, '--web.listen-address=:9100', --log.level=error]
  ports:
  - {{name: metrics, containerPort: 9100, hostPort: 9100}}
"
    );
    DaemonSet {
        name: "node-exporter",
        metadata: "labels: {app: node-exporter}\n",
        pod: pod_spec,
        containers: &container,
        ..DaemonSet::default()
    }
    .to_string()
}

/// The name of the lock witness' DaemonSet.
pub const WITNESS: &str = "lock-witness";

/// The witness as a DaemonSet, with further words for its command line (`--mark` to tell one
/// revision from another, and what [`crate::witness`] knows).
pub fn witness(program: &Path, log: &Path, words: &[&str]) -> String {
    let words: String = words.iter().map(|word| format!(", '{word}'")).collect();
    let (program, log) = (program.display(), log.display());
    let container =
        format!("- name: witness\n  command: [{program}, --dir, {log}{words}]\n{KNOWS_ITS_NODE}");
    DaemonSet {
        name: WITNESS,
        pod: "terminationGracePeriodSeconds: 5\n",
        containers: &container,
        ..DaemonSet::default()
    }
    .to_string()
}

fn indented(lines: &str, by: usize) -> String {
    lines.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
}
