//! Resources: which of them are limits of a host process, and what a template needs that wants them
//! enforced.

use everynode_model::{PIDS_LIMIT, REQUIRE_LIMITS, STORAGE_FEATURE};
use serde_json::{Map, Value};

use super::Honour::{self, Honoured, Ignored};

const NO_RESOURCE: &str = "not enforced: no limit of a process of the host";
const NOT_RESERVED: &str =
    "not honoured: nothing is reserved, and placement does not look at resources";

/// The word on one amount, by the pattern of its field. Whether a node can enforce a limit it says
/// by itself.
pub(super) fn word(pattern: &str) -> Option<Honour> {
    let of = ["spec.containers[*].resources.", "spec.resources."];
    let rest = of.iter().find_map(|of| pattern.strip_prefix(of))?;
    match rest.split_once('.')? {
        ("limits", name) if is_enforced(name) => Some(Honoured),
        // Measured, and told apart: not by the kernel, and not by every agent.
        ("limits", "ephemeral-storage") => Some(Honoured),
        ("limits", _) => Some(Ignored(NO_RESOURCE)),
        ("requests", "cpu") => Some(Honoured),
        // Kubernetes wants them equal to the limits.
        ("requests", name) if is_enforced(name) && name != "memory" => Some(Honoured),
        ("requests", _) => Some(Ignored(NOT_RESERVED)),
        _ => None,
    }
}

/// What a template in its normal form needs of a node for the annotations that speak of its limits:
/// to know them; and one that requires limits needs each that it has.
pub(super) fn needed(normal: &Value) -> Vec<String> {
    let annotation = |key: &str| normal["metadata"]["annotations"][key].as_str();
    let mut needed = Vec::new();
    if annotation(PIDS_LIMIT).is_some() {
        needed.push("limits.pids".to_owned());
    }
    if annotation(REQUIRE_LIMITS) == Some("true") {
        needed.push("limits.required".to_owned());
        let names = limits(&normal["spec"]).flat_map(Map::keys);
        let lacking = names.filter(|name| !is_enforced(name));
        needed.extend(lacking.map(|name| format!("limits.{name}")));
        let volumes = normal["spec"]["volumes"].as_array().into_iter().flatten();
        if volumes.map(|volume| &volume["emptyDir"]).any(is_sized_on_disk) {
            needed.push(STORAGE_FEATURE.to_owned());
        }
    }
    needed
}

/// All that are limits, of the pod and its containers.
fn limits(spec: &Value) -> impl Iterator<Item = &Map<String, Value>> {
    let lists = ["containers", "initContainers"].into_iter();
    let containers = lists.filter_map(|list| spec[list].as_array()).flatten();
    let all = containers.chain([spec]);
    all.filter_map(|one| one["resources"]["limits"].as_object())
}

/// In memory the kernel holds it to its size.
fn is_sized_on_disk(empty_dir: &Value) -> bool {
    empty_dir["medium"].is_null() && !empty_dir["sizeLimit"].is_null()
}

/// Whether the kernel does.
fn is_enforced(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn limits_that_are_required_are_needed() {
        let template = |annotations: Value| {
            json!({
                "metadata": {"annotations": annotations},
                "spec": {"containers": [{"resources": {"limits": {
                    "cpu": "1", "ephemeral-storage": "1", "hugepages-1Gi": "1", "x.org/y": "1",
                }}}]},
            })
        };
        assert_eq!(needed(&template(json!({}))), [""; 0]);
        assert_eq!(needed(&template(json!({REQUIRE_LIMITS: "false"}))), [""; 0]);
        assert_eq!(needed(&template(json!({PIDS_LIMIT: "5"}))), ["limits.pids"]);
        let required = ["limits.required", "limits.ephemeral-storage", "limits.x.org/y"];
        assert_eq!(needed(&template(json!({REQUIRE_LIMITS: "true"}))), required);
        let volume = |required: &str, empty_dir: Value| {
            let annotations = json!({REQUIRE_LIMITS: required});
            let spec = json!({"volumes": [{"name": "v", "emptyDir": empty_dir}]});
            needed(&json!({"metadata": {"annotations": annotations}, "spec": spec}))
        };
        let sized = json!({"sizeLimit": "1"});
        assert_eq!(volume("true", sized.clone()), ["limits.required", STORAGE_FEATURE]);
        assert_eq!(volume("false", sized), [""; 0]);
        for none in [json!({}), json!({"sizeLimit": "1", "medium": "Memory"})] {
            assert_eq!(volume("true", none), ["limits.required"]);
        }
    }
}
