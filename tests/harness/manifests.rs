//! The DaemonSets that fleets run.

use std::path::Path;

/// The real exporter's program.
pub const EXPORTER: &str = "/usr/bin/prometheus-node-exporter";

/// The name of its processes.
pub const EXPORTER_PROGRAM: &str = "prometheus-node-exporter";

/// The name of the lock witness' processes.
pub const WITNESS_PROGRAM: &str = "everynode-witness";

/// The exporter as a DaemonSet of host processes, with further lines for the pod's `spec`, each
/// with a line end.
pub fn exporter(pod_spec: &str) -> String {
    let lines = indented(pod_spec);
    format!(
        "apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: node-exporter
  labels: {{app: node-exporter}}
spec:
  selector:
    matchLabels: {{app: node-exporter}}
  template:
    metadata:
      labels: {{app: node-exporter}}
    spec:
      runtimeClassName: process
      hostNetwork: true
{lines}      containers:
      - name: node-exporter
        command: [{EXPORTER}, '--web.listen-address=:9100', --log.level=error]
        ports:
        - {{name: metrics, containerPort: 9100, hostPort: 9100}}
"
    )
}

/// The name of the lock witness' DaemonSet.
pub const WITNESS: &str = "lock-witness";

/// The witness as a DaemonSet, with further words for its command line (`--mark` to tell one
/// revision from another, and what [`crate::witness`] knows).
pub fn witness(program: &Path, log: &Path, words: &[&str]) -> String {
    let words: String = words.iter().map(|word| format!(", '{word}'")).collect();
    format!(
        "apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: {WITNESS}
spec:
  selector:
    matchLabels: {{app: lock-witness}}
  template:
    metadata:
      labels: {{app: lock-witness}}
    spec:
      runtimeClassName: process
      hostNetwork: true
      terminationGracePeriodSeconds: 5
      containers:
      - name: witness
        command: [{}, --dir, {}{words}]
        env:
        - name: NODE
          valueFrom: {{fieldRef: {{fieldPath: spec.nodeName}}}}
",
        program.display(),
        log.display()
    )
}

fn indented(lines: &str) -> String {
    lines.lines().map(|line| format!("      {line}\n")).collect()
}
