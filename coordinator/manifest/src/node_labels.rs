//! Which labels of its node a pod reads: `fieldRef: {fieldPath: node.labels['site']}` of a variable,
//! which Kubernetes has not.

use std::collections::BTreeSet;

use everynode_model::node_label;
use serde_json::Value;

/// Those that a revision's body reads; of what is no template, none.
pub fn node_labels(body: &[u8]) -> BTreeSet<String> {
    let template: Value = serde_json::from_slice(body).unwrap_or_default();
    read_by(&template).map(str::to_owned).collect()
}

/// Those that a template reads.
pub(crate) fn read_by(template: &Value) -> impl Iterator<Item = &str> {
    let containers = ["initContainers", "containers"]
        .into_iter()
        .flat_map(|list| template["spec"][list].as_array().into_iter().flatten());
    let variables = containers.flat_map(|one| one["env"].as_array().into_iter().flatten());
    let fields = variables.filter_map(|one| one["valueFrom"]["fieldRef"]["fieldPath"].as_str());
    fields.filter_map(node_label)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_are_found_wherever_a_container_reads_them() {
        let variable =
            |path: &str| json!({"name": "A", "valueFrom": {"fieldRef": {"fieldPath": path}}});
        let template = json!({"spec": {
            "initContainers": [{"env": [variable("node.labels['site']")]}],
            "containers": [
                {"env": [variable("node.labels['example.com/rack']"), variable("spec.nodeName")]},
                {"env": [variable("metadata.labels['app']"), {"name": "B", "value": "x"}]},
            ],
        }});
        let found = node_labels(template.to_string().as_bytes());
        assert_eq!(found, ["example.com/rack", "site"].map(str::to_owned).into());
        assert!(node_labels(b"{").is_empty());
    }
}
