//! The verdict on each published manifest, against what we say of it in `verdicts.txt`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests")]

mod common;

use std::fmt::Write as _;

use everynode_manifest::{Outcome, Verdict, admit, read, verdict};
use serde_json::{Value, json};

use common::{admitted, with};

/// What we say: each object by file, kind and name with its verdict, and its reasons below.
const EXPECTED: &str = include_str!("verdicts.txt");

/// Every manifest of the corpus has the verdict that is written down; `EVERYNODE_BLESS=1` writes.
#[test]
fn on_published_manifests() {
    let Some(files) = common::corpus() else { return };
    let mut text = String::from(
        "# The verdict on every object of the published manifests: file, kind/name, verdict; below it\n\
         # each reason with its field. Written by `EVERYNODE_BLESS=1 cargo test --test verdicts`, and\n\
         # to be read before it is kept.\n",
    );
    for (file, bytes) in files {
        for document in read(&file, &bytes).unwrap() {
            let judged = admit(&document.value);
            let verdict = verdict(judged.as_ref());
            check_reasons(&verdict, &file);
            if verdict.outcome != Outcome::Skipped {
                write!(text, "\n{file} {}/{}: {}\n", document.kind, document.name, verdict.outcome)
                    .unwrap();
                told(&mut text, &verdict);
            }
        }
    }
    if std::env::var_os("EVERYNODE_BLESS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/verdicts.txt");
        return std::fs::write(path, text).unwrap();
    }
    let line = text.lines().zip(EXPECTED.lines()).find(|(now, expected)| now != expected);
    assert!(text == EXPECTED, "the first line that differs, now and as written down: {line:#?}");
}

fn told(text: &mut String, verdict: &Verdict) {
    for finding in &verdict.findings {
        writeln!(text, "    {}: {}: {}", finding.outcome, finding.code, finding.path).unwrap();
    }
}

/// Nothing is held against an object without saying what and where, in one line.
#[track_caller]
fn check_reasons(verdict: &Verdict, what: &str) {
    let worst = verdict.findings.iter().map(|finding| finding.outcome).max();
    assert_eq!(worst.unwrap_or(Outcome::Runs), verdict.outcome, "{what}");
    for finding in &verdict.findings {
        assert!(!finding.why.is_empty() && !finding.code.is_empty(), "{what}: {finding:?}");
        assert!(!finding.why.contains('\n'), "{what}: {finding:?}");
        assert!(!finding.path.segments().is_empty(), "{what}: {finding:?}");
    }
}

/// The reasons for what `change` makes of the tutorial's pod, in the host's network.
fn reasons(change: Value) -> Vec<String> {
    let mut object = with(&[("/spec/template/spec/hostNetwork", json!(true))]);
    let pod = object["spec"]["template"]["spec"].as_object_mut().unwrap();
    for (field, value) in change.as_object().unwrap() {
        match (field.as_str(), value) {
            ("container", Value::Object(fields)) => {
                let container = pod["containers"][0].as_object_mut().unwrap();
                container.extend(fields.clone());
            }
            (field, value) => drop(pod.insert(field.to_owned(), value.clone())),
        }
    }
    let verdict = verdict(Ok(&admitted(&object)));
    check_reasons(&verdict, &change.to_string());
    let reasons = verdict.findings.iter().map(|finding| {
        let path = finding.path.to_string();
        let path = path.strip_prefix("spec.template.spec.").unwrap_or(&path);
        format!("{}: {}: {path}", finding.outcome, finding.code)
    });
    reasons.collect()
}

#[test]
fn each_lack_by_the_field_that_shows_it() {
    for (change, expected) in [
        (json!({}), &[][..]),
        (json!({"serviceAccountName": "default"}), &[]),
        (json!({"serviceAccountName": "x", "automountServiceAccountToken": false}), &[]),
        (
            json!({"serviceAccountName": "x"}),
            &["cannot run here: KubernetesApi: serviceAccountName"],
        ),
        (
            json!({"container": {"env": [{"name": "NODE_NAME",
                "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]}}),
            &[],
        ),
        (
            json!({"container": {"env": [{"name": "KUBERNETES_SERVICE_HOST", "value": "h"}]}}),
            &["cannot run here: KubernetesApi: containers[0].env[0].name"],
        ),
        (
            json!({"container": {"args": ["--kubeconfig=/x"], "command": ["kubernetes.default.svc"]}}),
            &[
                "cannot run here: KubernetesApi: containers[0].args[0]",
                "cannot run here: KubernetesApi: containers[0].command[0]",
            ],
        ),
        (
            json!({"container": {"env": [{"name": "URL", "value": "http://db.prod.svc:80"}]}}),
            &["runs without: Services: containers[0].env[0].value"],
        ),
        (
            json!({"container": {"resources": {"limits": {"nvidia.com/gpu": 1}}}}),
            &["cannot run here: DevicePlugins: containers[0].resources.limits[nvidia.com/gpu]"],
        ),
        (
            json!({"volumes": [{"name": "a", "projected": {"sources": [
                {"serviceAccountToken": {"path": "t"}}, {"configMap": {"name": "kube-root-ca.crt"}}]}}]}),
            &[
                "cannot run here: KubernetesApi: volumes[0].projected.sources[0].serviceAccountToken",
                "cannot run here: KubernetesApi: volumes[0].projected.sources[1].configMap.name",
            ],
        ),
        (
            json!({"volumes": [{"name": "a", "persistentVolumeClaim": {"claimName": "c"}},
                {"name": "b", "csi": {"driver": "d"}}, {"name": "c", "configMap": {"name": "c"}}]}),
            &[
                "cannot run here: PersistentVolumes: volumes[0].persistentVolumeClaim",
                "cannot run here: PersistentVolumes: volumes[1].csi",
            ],
        ),
        (
            json!({"nodeSelector": {"kubernetes.io/os": "windows"}, "os": {"name": "windows"}}),
            &[
                "cannot run here: Windows: nodeSelector[kubernetes.io/os]",
                "cannot run here: Windows: os.name",
            ],
        ),
        (
            json!({"hostNetwork": false, "container": {"ports": [{"containerPort": 1, "hostPort": 2}]}}),
            &[
                "runs without: PodNetwork: containers[0].ports[0].hostPort",
                "runs without: PodNetwork: hostNetwork",
            ],
        ),
        (
            json!({"priorityClassName": "system-node-critical", "schedulerName": "mine",
                "readinessGates": [{"conditionType": "a.b/c"}]}),
            &[
                "runs without: Scheduler: priorityClassName",
                "runs without: KubernetesApi: readinessGates",
                "runs without: Scheduler: schedulerName",
            ],
        ),
    ] {
        assert_eq!(reasons(change.clone()), expected, "{change}");
    }
}

#[test]
fn a_mounted_directory_of_a_kubelet() {
    let volume = json!([{"name": "a", "hostPath": {"path": "/var/lib/kubelet/device-plugins"}}]);
    let unmounted = json!({"volumes": volume});
    assert_eq!(reasons(unmounted), [""; 0]);
    let mounts = json!({"volumeMounts": [{"name": "a", "mountPath": "/a"}]});
    let mounted = json!({"volumes": volume, "container": mounts});
    assert_eq!(reasons(mounted), ["cannot run here: DevicePlugins: volumes[0].hostPath.path"]);
}

#[test]
fn host_processes_by_what_agents_honour() {
    let process = |fields: Value| {
        let mut container = json!({"command": ["/bin/x"], "image": null});
        container.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        reasons(json!({"runtimeClassName": "process", "container": container}))
    };
    assert_eq!(process(json!({"securityContext": {"runAsUser": 5}})), [""; 0]);
    assert_eq!(
        process(json!({"stdin": true, "securityContext": {"privileged": true}})),
        ["runs without: Feature: containers[0].stdin"],
    );
    assert_eq!(
        process(json!({"securityContext": {"seLinuxOptions": {"level": "s0"}}})),
        ["cannot run here: Feature: containers[0].securityContext.seLinuxOptions"],
    );
}

#[test]
fn what_is_refused_or_skipped_says_so() {
    let refused = admit(&with(&[("/spec/minReadySeconds", json!(-1))]));
    let refused = verdict(refused.as_ref());
    assert_eq!((refused.outcome, refused.findings.len()), (Outcome::Refused, 1));
    assert_eq!(refused.findings[0].code, "FieldValueInvalid");
    assert_eq!(
        refused.findings[0].to_string(),
        "spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0"
    );
    let skipped = admit(&json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}}));
    let skipped = verdict(skipped.as_ref());
    assert_eq!(skipped.outcome, Outcome::Skipped);
    check_reasons(&skipped, "a Service");
}
