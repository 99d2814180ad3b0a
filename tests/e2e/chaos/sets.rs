//! What runs while everything is killed: each set's shape, and its manifest.
//!
//! The witness' roles see to the order in a whole pod: see `harness/bin/witness`.

use std::path::{Path, PathBuf};

use everynode_tests::manifests::{EXPORTER, EXPORTER_PROGRAM, WITNESS_PROGRAM};

/// The real exporter, which is there at all times.
pub(crate) const EXPORTER_SET: &str = "node-exporter";
/// A whole pod that is there at all times, and has its mark from a ConfigMap and a Secret that are
/// applied with it.
pub(crate) const STEADY: &str = "lock-witness";
/// That ConfigMap, and that Secret.
pub(crate) const SETTINGS: &str = "lock-witness-settings";
/// Another ConfigMap that it reads, which is changed alone.
pub(crate) const TUNING: &str = "lock-witness-tuning";
/// Where it reads that, and under which key.
pub(crate) const TUNING_FILE: &str = "/mnt/tuning/mark";
/// Witnesses that come and go.
pub(crate) const CHURN: [&str; 4] = ["churn-0", "churn-1", "churn-2", "churn-3"];

/// What a set's pods are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// The exporter.
    Exporter,
    /// One container that does nothing but hold its lock.
    Plain,
    /// One that pays no heed to SIGTERM, with a hook before.
    Stubborn,
    /// All that a pod may have; it answers probes on this port.
    Whole(u16),
    /// Likewise, beside the one that it takes over from; its probes run in it.
    Surging,
}

/// What makes a manifest.
pub(crate) struct Maker<'a> {
    /// The witness' program.
    pub(crate) witness: &'a Path,
    /// Where witnesses write.
    pub(crate) dir: PathBuf,
    pub(crate) set: &'a str,
    pub(crate) mark: &'a str,
    /// Which nodes it is for.
    pub(crate) tier: Option<&'a str>,
    /// What the main container of a whole pod may have of memory, in MiB.
    pub(crate) memory: u64,
}

/// All sets.
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    [EXPORTER_SET, STEADY].into_iter().chain(CHURN)
}

/// Those whose pods have limits, and what these are if nobody changes them alone.
pub(crate) const LIMITED: [&str; 3] = [STEADY, CHURN[1], CHURN[2]];
pub(crate) const MEMORY: u64 = 128;

/// What the main container of a set runs.
pub(crate) fn program(set: &str) -> &'static str {
    if set == EXPORTER_SET { EXPORTER_PROGRAM } else { WITNESS_PROGRAM }
}

/// How many containers of a set's pod run once it is up.
pub(crate) fn containers(set: &str) -> usize {
    match shape(set) {
        Shape::Exporter | Shape::Plain | Shape::Stubborn => 1,
        Shape::Whole(_) | Shape::Surging => 2,
    }
}

/// The ConfigMap that is changed alone.
pub(crate) fn tuning(mark: &str) -> String {
    object("ConfigMap", TUNING, "data", mark)
}

fn shape(set: &str) -> Shape {
    match set {
        EXPORTER_SET => Shape::Exporter,
        STEADY => Shape::Whole(9201),
        "churn-1" => Shape::Whole(9202),
        "churn-2" => Shape::Surging,
        "churn-3" => Shape::Stubborn,
        _ => Shape::Plain,
    }
}

fn object(kind: &str, name: &str, field: &str, mark: &str) -> String {
    format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}}}\n{field}: {{mark: {mark}}}\n")
}

impl Maker<'_> {
    /// What to apply.
    pub(crate) fn manifest(&self) -> String {
        let Self { set, mark, .. } = self;
        let objects = match *set {
            STEADY => [("ConfigMap", "data"), ("Secret", "stringData")]
                .map(|(kind, field)| object(kind, SETTINGS, field, mark) + "---\n")
                .concat(),
            _ => String::new(),
        };
        let strategy = match shape(set) {
            Shape::Surging => {
                "  updateStrategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}\n"
            }
            _ => "",
        };
        let tier = self.tier.map(|tier| format!("      nodeSelector: {{tier: {tier}}}\n"));
        let (tier, pod) = (tier.unwrap_or_default(), self.pod());
        format!(
            "{objects}apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: {set}}}
spec:
{strategy}  selector: {{matchLabels: {{app: {set}}}}}
  template:
    metadata: {{labels: {{app: {set}, mark: {mark}}}}}
    spec:
      runtimeClassName: process
      hostNetwork: true
      hostPID: true
      hostIPC: true
{tier}{pod}"
        )
    }

    fn pod(&self) -> String {
        match shape(self.set) {
            Shape::Exporter => format!(
                "      containers:
      - name: main
        command: [{EXPORTER}, '--web.listen-address=:9100', --log.level=error]
"
            ),
            Shape::Plain => format!("      containers:\n{}", self.container("main", "")),
            Shape::Stubborn => format!(
                "      terminationGracePeriodSeconds: 2
      volumes: [{{name: pod, emptyDir: {{}}}}]
      containers:
{}{}",
                self.container("main", ", --stubborn"),
                self.hook(),
            ),
            // Nobody takes as long on the busiest machine, so that an order that is not kept shows.
            Shape::Whole(_) | Shape::Surging => format!(
                "      terminationGracePeriodSeconds: 30
{}      initContainers:
{}{MOUNT}{}{MOUNT}        restartPolicy: Always
{}      containers:
{}",
                self.volumes(),
                self.container("init", ", --role, init, --pod, /mnt/pod"),
                self.container("side", ", --role, side, --pod, /mnt/pod"),
                self.probe("startupProbe", "side-up"),
                self.whole_main(),
            ),
        }
    }

    fn whole_main(&self) -> String {
        let (words, readiness) = match shape(self.set) {
            Shape::Whole(port) => {
                let mut words = format!(", --print, --port, '{port}'");
                if self.set == STEADY {
                    words += ", --same, /mnt/settings/mark, --same, /mnt/secret/mark";
                }
                let readiness = format!(
                    "        readinessProbe: {{httpGet: {{port: {port}}}, periodSeconds: 1}}
        livenessProbe: {{tcpSocket: {{port: {port}}}, periodSeconds: 1, failureThreshold: 30}}
"
                );
                (words, readiness)
            }
            _ => (", --beside".to_owned(), self.probe("readinessProbe", "main-up")),
        };
        let main = self.container("main", &format!("{words}, --pod, /mnt/pod"));
        let (mounts, startup) = (self.mounts(), self.probe("startupProbe", "main-up"));
        let memory = self.memory;
        let limits = format!("        resources: {{limits: {{cpu: '2', memory: {memory}Mi}}}}\n");
        let all: [&str; 6] = [&main, &mounts, &limits, &startup, &readiness, &self.hook()];
        all.concat()
    }

    fn volumes(&self) -> String {
        let (medium, more) = match self.set {
            STEADY => (
                "medium: Memory",
                format!(
                    "      - {{name: settings, configMap: {{name: {SETTINGS}}}}}
      - {{name: secret, secret: {{secretName: {SETTINGS}}}}}
      - {{name: tuning, configMap: {{name: {TUNING}, optional: true}}}}
"
                ),
            ),
            _ => ("", String::new()),
        };
        format!("      volumes:\n      - {{name: pod, emptyDir: {{{medium}}}}}\n{more}")
    }

    fn mounts(&self) -> String {
        let more = match self.set {
            STEADY => ["settings", "secret", "tuning"]
                .map(|name| format!("        - {{name: {name}, mountPath: /mnt/{name}}}\n"))
                .concat(),
            _ => String::new(),
        };
        format!("        volumeMounts:\n        - {{name: pod, mountPath: /mnt/pod}}\n{more}")
    }

    /// A container that runs the witness with further words.
    fn container(&self, name: &str, words: &str) -> String {
        let (witness, dir) = (self.witness.display(), self.dir.display());
        let (mark, variable) = match self.set {
            STEADY => (
                "$(MARK)",
                format!(
                    "        - name: MARK\n          valueFrom: {{configMapKeyRef: {{name: {SETTINGS}, key: mark}}}}\n"
                ),
            ),
            _ => (self.mark, String::new()),
        };
        format!(
            "      - name: {name}
        command: [{witness}, --dir, {dir}, --mark, {mark}{words}]
        env:
        - name: NODE
          valueFrom: {{fieldRef: {{fieldPath: spec.nodeName}}}}
{variable}"
        )
    }

    /// One that is well when this file is there.
    fn probe(&self, field: &str, up: &str) -> String {
        let witness = self.witness.display();
        format!(
            "        {field}:
          exec: {{command: [{witness}, --role, probe, --pod, /mnt/pod, --up, {up}]}}
          periodSeconds: 1
          failureThreshold: 30
          timeoutSeconds: 10
"
        )
    }

    fn hook(&self) -> String {
        let (witness, dir) = (self.witness.display(), self.dir.display());
        let mount = if shape(self.set) == Shape::Stubborn { MOUNT } else { "" };
        format!(
            "{mount}        lifecycle:
          preStop:
            exec: {{command: [{witness}, --dir, {dir}, --role, hook, --pod, /mnt/pod]}}
"
        )
    }
}

/// What all share that see to the order.
const MOUNT: &str = "        volumeMounts: [{name: pod, mountPath: /mnt/pod}]\n";
