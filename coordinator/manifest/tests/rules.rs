//! Each rule of the door, broken: the table is in `rules.txt`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{admitted, errors, with};
use serde_json::{Value, json};

/// A case of the table.
struct Case {
    /// Its first line's number.
    line: usize,
    changes: Vec<(&'static str, Value)>,
    expected: Vec<&'static str>,
}

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (index, line) in include_str!("rules.txt").lines().enumerate() {
        let change = |text: &'static str| {
            let (pointer, value) = text.split_once(' ').unwrap_or_else(|| panic!("{line}"));
            (pointer, serde_json::from_str(value).unwrap_or_else(|error| panic!("{line}: {error}")))
        };
        if line.starts_with('/') {
            cases.push(Case { line: index + 1, changes: vec![change(line)], expected: Vec::new() });
        } else if let Some(more) = line.strip_prefix("+ ") {
            cases.last_mut().unwrap().changes.push(change(more));
        } else if let Some(error) = line.strip_prefix("    ") {
            cases.last_mut().unwrap().expected.push(error);
        }
    }
    cases
}

#[test]
fn every_case_of_the_table_has_exactly_its_errors() {
    let cases = cases();
    assert!(cases.len() > 150, "the table is not read: {} cases", cases.len());
    let mut wrong = String::new();
    for Case { line, changes, expected } in cases {
        let found = errors(&with(&changes));
        if found != expected {
            wrong += &format!("\nrules.txt:{line}: found\n    {}", found.join("\n    "));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn what_has_many_faults_is_told_of_all_of_them_as_kubectl_tells_them() {
    let object = with(&[
        ("/metadata/labels", json!({"a b": "x"})),
        ("/spec/minReadySeconds", json!(-1)),
        ("/spec/template/spec/containers/0/name", json!(null)),
        ("/spec/template/spec/containers/0/imagePullPolicy", json!("x")),
    ]);
    let rejected = everynode_manifest::admit(&object).unwrap_err().to_string();
    let lines: Vec<&str> = rejected.lines().collect();
    assert_eq!(lines[0], "The DaemonSet \"monitoring-daemon\" is invalid: ");
    assert!(lines[1].starts_with("* metadata.labels: Invalid value: \"a b\": name part must "));
    assert_eq!(
        lines[2..],
        [
            "* spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0",
            "* spec.template.spec.containers[0].imagePullPolicy: Unsupported value: \"x\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
            "* spec.template.spec.containers[0].name: Required value",
        ]
    );
}

#[test]
fn sizes_are_bounded_and_so_are_the_answers() {
    let long = "a".repeat(254);
    for (pointer, value, expected) in [
        ("/metadata/name", json!(long), "metadata.name: Invalid value: \""),
        ("/metadata/labels", json!({"a": "x".repeat(64)}), "metadata.labels: Invalid value: \"xxx"),
        ("/metadata/labels", json!({"x".repeat(64): ""}), "metadata.labels: Invalid value: \"xxx"),
        (
            "/spec/template/spec/containers/0/name",
            json!("a".repeat(64)),
            "spec.template.spec.containers[0].name: ",
        ),
    ] {
        let found = errors(&with(&[(pointer, value)]));
        assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?}");
        assert!(found[0].contains("must be no more than ") && found[0].len() < 400, "{found:?}");
    }
    let large = json!({"a": "x".repeat(256 * 1024)});
    assert_eq!(
        errors(&with(&[("/metadata/annotations", large)])),
        ["metadata.annotations: Too long: may not be more than 262144 bytes"]
    );
    let many: Value = (0..500).map(|i| (format!("-{i}"), json!(""))).collect();
    assert_eq!(errors(&with(&[("/metadata/labels", many)])).len(), 100);
    let large = json!([{"name": "a", "value": "x".repeat(600 * 1024)}]);
    assert!(
        errors(&with(&[("/spec/template/spec/containers/0/env", large)]))[0]
            .contains("one object may have")
    );
}

#[test]
fn an_entry_is_shown_where_it_stands_though_kubernetes_tells_its_map() {
    let text = common::TUTORIAL.replace(
        "        app: monitoring-agent\n    spec:",
        "        app: monitoring-agent\n        tier: a b\n    spec:",
    );
    let document = everynode_manifest::read("f.yaml", text.as_bytes()).unwrap().remove(0);
    let rejected = everynode_manifest::admit(&document.value).unwrap_err();
    let shown = document.explain(&rejected);
    assert!(
        shown.starts_with("f.yaml:13:9: spec.template.labels: Invalid value: \"a b\""),
        "{shown}"
    );
}

#[test]
fn zeros_and_empty_texts_get_their_defaults() {
    let container = "/spec/template/spec/containers/0";
    let probe = json!({"httpGet": {"port": 80, "path": "", "scheme": ""}, "periodSeconds": 0, "timeoutSeconds": 0, "failureThreshold": 0});
    let object = admitted(&with(&[
        (&format!("{container}/livenessProbe"), probe),
        (&format!("{container}/imagePullPolicy"), json!("")),
        ("/spec/template/spec/restartPolicy", json!("")),
        ("/spec/updateStrategy", json!({"type": ""})),
    ]))
    .object;
    let plain = admitted(&with(&[(
        &format!("{container}/livenessProbe"),
        json!({"httpGet": {"port": 80}}),
    )]));
    assert_eq!(object, plain.object);
}

#[test]
fn process_pods_are_warned_of_what_has_no_effect() {
    let process = |fields: Value| {
        with(&[
            ("/spec/template/spec/runtimeClassName", json!("process")),
            ("/spec/template/spec/containers/0", fields),
        ])
    };
    let set = admitted(&process(json!({"name": "a", "command": ["x"], "image": "y", "tty": true})));
    let mut warnings: Vec<String> = set.warnings.iter().map(ToString::to_string).collect();
    warnings.sort();
    assert_eq!(
        warnings,
        [
            "spec.template.spec.containers[0].image: not used: with `runtimeClassName: process` the command is run on the host",
            "spec.template.spec.containers[0].tty: not honoured by `runtimeClassName: process`",
            "spec.template.spec.hostNetwork: its pods have loopback alone, as there is no pod network: to use the machine's, set `hostNetwork: true`",
        ]
    );
    let ports = json!([{"containerPort": 80, "hostPort": 8080}]);
    let set = admitted(&process(json!({"name": "a", "command": ["x"], "ports": ports})));
    let forwarded = "spec.template.spec.containers[0].ports[0].hostPort: not forwarded: there is no pod network; set `hostNetwork: true`";
    assert!(set.warnings.iter().any(|warning| warning.to_string() == forwarded));
    let mut quiet = process(json!({"name": "a", "command": ["x"]}));
    quiet["spec"]["template"]["spec"]["hostNetwork"] = json!(true);
    assert_eq!(admitted(&quiet).warnings, []);
}
