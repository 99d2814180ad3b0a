//! Each rule of the door, broken.

mod common;

use common::{admitted, errors, refused, with};
use serde_json::{Value, json};

const POD: &str = "/spec/template/spec";
const FIRST: &str = "/spec/template/spec/containers/0";

#[test]
fn names_and_metadata() {
    refused(
        "/metadata/name",
        json!("A"),
        &[
            "metadata.name: Invalid value: \"A\": must consist of lower case letters, digits, '-' or '.', and must start and end with a letter or digit",
        ],
    );
    refused(
        "/metadata/name",
        json!("a".repeat(254)).clone(),
        &[&format!(
            "metadata.name: Invalid value: {:?}…: must be no more than 253 characters",
            "a".repeat(159)
        )
        .replace("\"…", "…")],
    );
    refused("/metadata/name", json!(null), &["metadata.name: Required value: a name is required"]);
    refused(
        "/metadata/namespace",
        json!("a.b"),
        &[
            "metadata.namespace: Invalid value: \"a.b\": must consist of lower case letters, digits, '-', and must start and end with a letter or digit",
        ],
    );
    assert_eq!(errors(&with(&[("/metadata/labels", json!({"-a": "x", "b": "c d"}))])).len(), 2);
    assert_eq!(
        errors(&with(&[("/metadata/annotations", json!({"Example.COM/a": "any thing"}))])),
        [""; 0]
    );
    assert_eq!(errors(&with(&[("/metadata/annotations", json!({"a b": ""}))])).len(), 1);
    let large = json!({"a": "x".repeat(300 * 1024)});
    assert_eq!(errors(&with(&[("/metadata/annotations", large)])).len(), 1);
    let many: Value = (0..500).map(|i| (format!("-{i}"), json!(""))).collect();
    assert_eq!(errors(&with(&[("/metadata/labels", many)])).len(), 100);
    let large = json!([{"name": "a", "value": "x".repeat(600 * 1024)}]);
    assert!(
        errors(&with(&[("/spec/template/spec/containers/0/env", large)]))[0]
            .contains("one object may have")
    );
}

#[test]
fn the_selector() {
    refused(
        "/spec/selector",
        json!(null),
        &[
            "spec.selector: Required value: write the labels of the template here, under `matchLabels`",
        ],
    );
    refused(
        "/spec/selector",
        json!({}),
        &["spec.selector: Invalid value: {}: an empty selector is invalid for a DaemonSet"],
    );
    refused(
        "/spec/selector/matchLabels/app",
        json!("x"),
        &[
            "spec.template.metadata.labels: Invalid value: {\"app\":\"monitoring-agent\"}: `selector` does not match template `labels`",
        ],
    );
    let expression = |operator: &str, values: Value| {
        let one = json!([{"key": "app", "operator": operator, "values": values}]);
        errors(&with(&[("/spec/selector/matchExpressions", one)]))
    };
    assert_eq!(expression("In", json!(["monitoring-agent"])), [""; 0]);
    assert_eq!(expression("In", json!([])).len(), 2);
    assert_eq!(
        expression("Exists", json!(["x"])),
        [
            "spec.selector.matchExpressions[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
        ]
    );
    assert_eq!(
        expression("Gt", json!(["1"])),
        [
            "spec.selector.matchExpressions[0].operator: Unsupported value: \"Gt\": supported values: \"DoesNotExist\", \"Exists\", \"In\", \"NotIn\""
        ]
    );
}

#[test]
fn the_strategy() {
    let strategy = |rolling: Value| {
        errors(&with(&[("/spec/updateStrategy", json!({"rollingUpdate": rolling}))]))
    };
    let at = "spec.updateStrategy.rollingUpdate";
    for good in [
        json!({"maxUnavailable": "10%"}),
        json!({"maxUnavailable": 5}),
        json!({"maxUnavailable": "100%", "maxSurge": "0%"}),
        json!(null),
    ] {
        assert_eq!(strategy(good), [""; 0]);
    }
    for (bad, expected) in [
        (
            json!({"maxUnavailable": "101%"}),
            "maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
        ),
        (
            json!({"maxUnavailable": -1}),
            "maxUnavailable: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            json!({"maxUnavailable": "5"}),
            "maxUnavailable: Invalid value: \"5\": must be an integer or a percentage, such as 5 or \"10%\"",
        ),
        (
            json!({"maxUnavailable": 0}),
            "maxUnavailable: Required value: cannot be 0 when `maxSurge` is 0",
        ),
    ] {
        assert_eq!(strategy(bad), [format!("{at}.{expected}")]);
    }
    for surge in [json!({"maxSurge": 1}), json!({"maxSurge": "10%", "maxUnavailable": 0})] {
        let found = strategy(surge);
        assert!(
            found.len() == 1
                && found[0].starts_with(&format!("{at}.maxSurge: Invalid value"))
                && found[0].contains("not supported yet"),
            "{found:?}"
        );
    }
    refused(
        "/spec/updateStrategy",
        json!({"type": "Never"}),
        &[
            "spec.updateStrategy.type: Unsupported value: \"Never\": supported values: \"OnDelete\", \"RollingUpdate\"",
        ],
    );
    refused(
        "/spec/minReadySeconds",
        json!(-1),
        &["spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0"],
    );
    refused(
        "/spec/revisionHistoryLimit",
        json!(-1),
        &["spec.revisionHistoryLimit: Invalid value: -1: must be greater than or equal to 0"],
    );
}

#[test]
fn the_pod() {
    let pod = |field: &str, value: Value, expected: &[&str]| {
        refused(
            &format!("{POD}/{field}"),
            value,
            &expected
                .iter()
                .map(|text| format!("spec.template.spec.{text}"))
                .collect::<Vec<_>>()
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
        );
    };
    pod(
        "restartPolicy",
        json!("Never"),
        &["restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""],
    );
    pod(
        "activeDeadlineSeconds",
        json!(5),
        &[
            "activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in a DaemonSet is not supported",
        ],
    );
    pod("containers", json!([]), &["containers: Required value: a pod has at least one container"]);
    pod(
        "containers",
        json!([{"name": "a", "image": "x"}, {"name": "a", "image": "x"}]),
        &["containers[1].name: Duplicate value: \"a\""],
    );
    pod(
        "initContainers",
        json!([{"name": "monitoring-agent", "image": "x"}]),
        &["containers[0].name: Duplicate value: \"monitoring-agent\""],
    );
    pod(
        "terminationGracePeriodSeconds",
        json!(-1),
        &["terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0"],
    );
    pod(
        "nodeSelector",
        json!({"a": "b c"}),
        &[
            "nodeSelector[a]: Invalid value: \"b c\": must be empty or at most 63 letters, digits, '-', '_' or '.', with a letter or digit at both ends",
        ],
    );
    pod(
        "volumes",
        json!([{"name": "a", "emptyDir": {}, "hostPath": {"path": "/"}}]),
        &["volumes[0]: Forbidden: may not specify more than 1 volume type"],
    );
    pod(
        "volumes",
        json!([{"name": "a"}, {"name": "a"}]),
        &["volumes[1].name: Duplicate value: \"a\""],
    );
    pod(
        "volumes",
        json!([{"name": "a", "hostPath": {"path": "/a/../b", "type": "Dir"}}]),
        &[
            "volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
            "volumes[0].hostPath.type: Unsupported value: \"Dir\": supported values: \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
        ],
    );
    pod(
        "securityContext",
        json!({"runAsUser": -1}),
        &[
            "securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
        ],
    );
}

#[test]
fn tolerations_and_affinity() {
    let toleration =
        |value: Value| errors(&with(&[("/spec/template/spec/tolerations", json!([value]))]));
    for good in [
        json!({"operator": "Exists"}),
        json!({"key": "a", "value": "b", "effect": "NoExecute", "tolerationSeconds": 5}),
    ] {
        assert_eq!(toleration(good), [""; 0]);
    }
    for (bad, field) in [
        (json!({"value": "b"}), "operator"),
        (json!({"key": "a", "operator": "Exists", "value": "b"}), "value"),
        (json!({"key": "a", "operator": "In"}), "operator"),
        (json!({"key": "a", "effect": "Never"}), "effect"),
        (json!({"key": "a", "effect": "NoSchedule", "tolerationSeconds": 5}), "effect"),
        (json!({"key": "a b"}), "key"),
    ] {
        let found = toleration(bad);
        assert!(
            found.len() == 1
                && found[0].starts_with(&format!("spec.template.spec.tolerations[0].{field}: ")),
            "{found:?}"
        );
    }
    let terms = |terms: Value| {
        let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}});
        errors(&with(&[("/spec/template/spec/affinity", affinity)]))
    };
    let expression = |operator: &str, values: Value| {
        terms(json!([{"matchExpressions": [{"key": "a", "operator": operator, "values": values}]}]))
    };
    assert_eq!(terms(json!([])).len(), 1);
    assert_eq!(terms(json!([{}])), [""; 0]);
    assert_eq!(expression("Gt", json!(["5"])), [""; 0]);
    for (operator, values) in [
        ("In", json!([])),
        ("Exists", json!(["x"])),
        ("Gt", json!(["x"])),
        ("Lt", json!(["1", "2"])),
        ("Near", json!(["x"])),
    ] {
        assert_eq!(expression(operator, values).len(), 1, "{operator}");
    }
    let field = |key: &str| {
        terms(json!([{"matchFields": [{"key": key, "operator": "In", "values": ["n"]}]}]))
    };
    assert_eq!(field("metadata.name"), [""; 0]);
    assert_eq!(field("metadata.uid").len(), 1);
}

#[test]
fn containers() {
    let container = |field: &str, value: Value, expected: &[&str]| {
        let found = errors(&with(&[(&format!("{FIRST}/{field}"), value)]));
        let expected: Vec<String> = expected
            .iter()
            .map(|text| format!("spec.template.spec.containers[0].{text}"))
            .collect();
        let matches = found.len() == expected.len()
            && found.iter().zip(&expected).all(|(found, expected)| found.starts_with(expected));
        assert!(matches, "{found:#?}\nexpected {expected:#?}");
    };
    container("name", json!("A b"), &["name: Invalid value"]);
    container("imagePullPolicy", json!("Sometimes"), &["imagePullPolicy: Unsupported value"]);
    container("image", json!(" x"), &["image: Invalid value"]);
    container(
        "env",
        json!([{"name": "", "value": "x"}, {"name": "a=b"}, {"name": "dots.are-fine"}]),
        &["env[0].name: Required value", "env[1].name: Invalid value"],
    );
    container(
        "env",
        json!([{"name": "A", "value": "x", "valueFrom": {}}]),
        &["env[0].valueFrom: Required value", "env[0].valueFrom: Invalid value"],
    );
    container(
        "env",
        json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]),
        &["env[0].valueFrom.fieldRef.fieldPath: Unsupported value"],
    );
    container("envFrom", json!([{}]), &["envFrom[0]: Required value"]);
    container(
        "ports",
        json!([{"containerPort": 0}, {"containerPort": 65536}, {"containerPort": 1, "protocol": "tcp", "name": "UPPER"}]),
        &[
            "ports[0].containerPort: Required value",
            "ports[1].containerPort: Invalid value",
            "ports[2].name: Invalid value",
            "ports[2].protocol: Unsupported value",
        ],
    );
    container(
        "ports",
        json!([{"containerPort": 1, "hostPort": 9}, {"containerPort": 2, "hostPort": 9}]),
        &["ports[1].hostPort: Duplicate value: 9"],
    );
    container(
        "volumeMounts",
        json!([{"name": "gone", "mountPath": "/a"}]),
        &["volumeMounts[0].name: Not found: \"gone\""],
    );
    container(
        "resources",
        json!({"limits": {"cpu": "1x"}, "requests": {"memory": "-1"}}),
        &[
            "resources.limits[cpu]: Invalid value: \"1x\"",
            "resources.requests[memory]: Invalid value: \"-1\"",
        ],
    );
    container(
        "resources",
        json!({"limits": {"cpu": "500m"}, "requests": {"cpu": 1}}),
        &[
            "resources.requests[cpu]: Invalid value: \"1\": must be less than or equal to cpu limit of 500m",
        ],
    );
    container(
        "livenessProbe",
        json!({}),
        &["livenessProbe: Required value: must specify a handler type"],
    );
    container(
        "livenessProbe",
        json!({"tcpSocket": {"port": 99999}, "successThreshold": 2, "periodSeconds": 0}),
        &[
            "livenessProbe.periodSeconds: Invalid",
            "livenessProbe.successThreshold: Invalid value: 2: must be 1",
            "livenessProbe.tcpSocket.port: Invalid value: 99999",
        ],
    );
    container(
        "securityContext",
        json!({"privileged": true, "allowPrivilegeEscalation": false}),
        &["securityContext.allowPrivilegeEscalation: Invalid value: false"],
    );
    let shared = with(&[
        ("/spec/template/spec/hostNetwork", json!(true)),
        ("/spec/template/spec/containers/0/ports", json!([{"containerPort": 1, "hostPort": 2}])),
    ]);
    assert_eq!(errors(&shared).len(), 1);
}

#[test]
fn process_pods() {
    let process = |fields: Value| {
        with(&[
            ("/spec/template/spec/runtimeClassName", json!("process")),
            ("/spec/template/spec/containers/0", fields),
        ])
    };
    assert_eq!(
        errors(&process(json!({"name": "a"}))),
        [
            "spec.template.spec.containers[0].command: Required value: a container of `runtimeClassName: process` is a program of the host: name it here"
        ]
    );
    let set = admitted(&process(json!({"name": "a", "command": ["x"], "image": "y", "tty": true})));
    let warnings: Vec<String> = set.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "spec.template.spec.containers[0].image: not used: with `runtimeClassName: process` the command is run on the host",
            "spec.template.spec.hostNetwork: processes share the host's network: say so with `hostNetwork: true`",
            "spec.template.spec.containers[0].tty: not honoured by `runtimeClassName: process`",
        ]
    );
    let mut quiet = process(json!({"name": "a", "command": ["x"]}));
    quiet["spec"]["template"]["spec"]["hostNetwork"] = json!(true);
    assert_eq!(admitted(&quiet).warnings, []);
}
