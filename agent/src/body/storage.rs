//! What a template says its pods may have on disk. What they have is measured (`run/storage`).

use everynode_agent_core::StorageLimits;

use super::fields::{Container, Template};
use super::resources::{Said, amount};
use super::volumes::Written;
use super::{PROCESS, oom};

/// The resource that is a limit of what is on disk.
pub(super) const NAME: &str = "ephemeral-storage";

/// The limits of a template in its normal form; none of one that can't be read, which is refused
/// elsewhere, or is of another runtime.
///
/// A critical pod has none, as the kubelet evicts no such pod, unless it requires its limits.
pub fn storage_limits(content: &[u8]) -> StorageLimits {
    let Ok(template) = serde_json::from_slice::<Template>(content) else {
        return StorageLimits::default();
    };
    let spec = &template.spec;
    let required = Said::read(&template.metadata).is_ok_and(|said| said.required);
    let of_processes = spec.runtime_class_name.as_deref() == Some(PROCESS);
    if !of_processes || (oom::is_critical(spec) && !required) {
        return StorageLimits::default();
    }
    let containers = || spec.init_containers.iter().chain(&spec.containers);
    let of = |one: &Container| Some((one.name.clone(), limit(one)?));
    StorageLimits {
        containers: containers().filter_map(of).collect(),
        volumes: spec.volumes.iter().filter_map(Written::size_on_disk).collect(),
        pod: together(&spec.init_containers, &spec.containers),
    }
}

fn limit(container: &Container) -> Option<u64> {
    container.resources.limit(NAME).and_then(|text| amount(text, 1))
}

/// The most that those with a limit may have together at any time (Kubernetes' `PodLimits`): those that
/// stay, or an init container beside the sidecars before it. `None` where none has one.
fn together(inits: &[Container], mains: &[Container]) -> Option<u64> {
    let (mut stay, mut most) = (0_u64, 0_u64);
    for container in inits {
        let own = limit(container).unwrap_or_default();
        if container.restart_policy.is_some() {
            stay = stay.saturating_add(own);
        } else {
            most = most.max(stay.saturating_add(own));
        }
    }
    let mains = mains.iter().filter_map(limit);
    let all = most.max(mains.fold(stay, u64::saturating_add));
    Some(all).filter(|all| *all > 0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;

    fn limits(spec: Value, metadata: Value) -> StorageLimits {
        let mut template = json!({"metadata": metadata, "spec": {"runtimeClassName": "process"}});
        template["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        storage_limits(template.to_string().as_bytes())
    }

    fn container(name: &str, most: Option<&str>) -> Value {
        let limits = most.map(|most| json!({"limits": {"cpu": "1", NAME: most}}));
        json!({"name": name, "resources": limits.unwrap_or_else(|| json!({}))})
    }

    fn of<const N: usize>(amounts: [(&str, u64); N]) -> BTreeMap<String, u64> {
        amounts.map(|(name, amount)| (name.to_owned(), amount)).into()
    }

    #[test]
    fn each_has_its_own_and_those_together_that_have_one() {
        let mains =
            json!([container("a", Some("10")), container("b", Some("0.5")), container("c", None)]);
        let volumes = json!([
            {"name": "sized", "emptyDir": {"sizeLimit": "7"}},
            {"name": "memory", "emptyDir": {"sizeLimit": "7", "medium": "Memory"}},
            {"name": "none", "emptyDir": {"sizeLimit": "0"}}, {"name": "free", "emptyDir": {}},
            {"name": "host", "hostPath": {"path": "/"}}, {"name": "said-nothing"},
        ]);
        let found = limits(json!({"containers": mains, "volumes": volumes}), json!({}));
        assert_eq!(
            found,
            StorageLimits {
                containers: of([("a", 10), ("b", 1)]),
                volumes: of([("sized", 7)]),
                pod: Some(11)
            }
        );
        let inits = json!([
            {"name": "side", "restartPolicy": "Always", "resources": {"limits": {NAME: "5"}}},
            container("init", Some("20")),
        ]);
        let spec = json!({"initContainers": inits, "containers": [container("a", Some("10"))]});
        assert_eq!(limits(spec, json!({})).pod, Some(25));
        let nothing = json!({"containers": [container("a", None), container("b", Some("0"))]});
        assert!(limits(nothing, json!({})).is_empty());
        assert!(storage_limits(b"{").is_empty());
    }

    #[test]
    fn a_critical_pod_is_spared_unless_it_requires_its_limits() {
        let spec = || {
            let containers = json!([container("a", Some("10"))]);
            json!({"priorityClassName": "system-node-critical", "containers": containers})
        };
        assert!(limits(spec(), json!({})).is_empty());
        let required = json!({"annotations": {everynode_model::REQUIRE_LIMITS: "true"}});
        assert_eq!(limits(spec(), required).pod, Some(10));
        let mut of_containers = spec();
        of_containers["priorityClassName"] = json!("high");
        assert_eq!(limits(of_containers.clone(), json!({})).pod, Some(10));
        of_containers["runtimeClassName"] = json!("runc");
        assert!(limits(of_containers, json!({})).is_empty());
    }
}
