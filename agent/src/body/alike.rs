//! What of a template can't change in a pod that runs: revisions in which all of that is the same are
//! alike, and a pod of one can be brought to another as it runs.
//!
//! Kubernetes' rule of what may change is that of its `resize` subresource: requests and limits of `cpu`
//! and `memory` of main containers and sidecars, as long as the pod's class of service stays. Beside
//! those it is the annotation that limits processes. What is left out here is nothing but that, and of
//! that nothing which the pod could see otherwise than it is: what a variable or file reads stays in,
//! and so does what the container is to be restarted for (`resizePolicy`), which replaces the pod here.

use std::collections::BTreeSet;

use everynode_model::{Digest, PIDS_LIMIT};
use serde_json::{Map, Value};

use super::fields::{Container, Template};
use super::oom::Class;
use super::{INIT_CONTAINERS, PROCESS};

/// What may change, of a container's resources.
const CHANGEABLE: [&str; 2] = ["cpu", "memory"];

/// A digest of all that can't change; `None` of what is like nothing else, because it is of another
/// runtime or can't be read.
pub fn fixed_of(content: &[u8]) -> Option<Digest> {
    let typed: Template = serde_json::from_slice(content).ok()?;
    if typed.spec.runtime_class_name.as_deref() != Some(PROCESS) {
        return None;
    }
    let all: Vec<&Container> =
        typed.spec.init_containers.iter().chain(&typed.spec.containers).collect();
    let class = Class::of(&all);
    let mut template: Value = serde_json::from_slice(content).ok()?;
    let read = Read::of(&template);
    if !read.annotations {
        forget(&mut template, &["metadata", "annotations"], PIDS_LIMIT);
    }
    let spec = template.get_mut("spec")?.as_object_mut()?;
    for list in ["containers", INIT_CONTAINERS] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            // One that runs to its end is over by then, or starts with what the pod was made with.
            let stays = list != INIT_CONTAINERS || container["restartPolicy"] == "Always";
            if stays {
                forget_resources(container, &read);
            }
        }
    }
    // Keys are sorted, so that what is equal is written so.
    let text = serde_json::to_vec(&(template, format!("{class:?}"))).ok()?;
    Some(Digest::of(&text))
}

/// What a pod is told of what may change.
#[derive(Debug, Default)]
struct Read {
    annotations: bool,
    /// Of which container, or of any, and which resource.
    resources: BTreeSet<(Option<String>, String)>,
}

impl Read {
    fn of(template: &Value) -> Self {
        let mut read = Self::default();
        let spec = template["spec"].as_object().into_iter().flatten();
        for (field, value) in spec {
            match (field.as_str(), value) {
                ("containers" | INIT_CONTAINERS, Value::Array(containers)) => {
                    for container in containers {
                        read.look(container, container["name"].as_str());
                    }
                }
                _ => read.look(value, None),
            }
        }
        read
    }

    /// Whatever refers to fields and resources does so by the same names, wherever it is.
    fn look(&mut self, value: &Value, own: Option<&str>) {
        match value {
            Value::Array(values) => values.iter().for_each(|value| self.look(value, own)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    match (name.as_str(), value) {
                        ("fieldPath", Value::String(path)) => {
                            self.annotations |= path.starts_with("metadata.annotations");
                        }
                        ("resourceFieldRef", reference) => self.add(reference, own),
                        _ => self.look(value, own),
                    }
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, reference: &Value, own: Option<&str>) {
        let resource = reference["resource"].as_str().unwrap_or_default();
        // `limits.cpu`; a request that is not there is told as the limit.
        let (_, resource) = resource.split_once('.').unwrap_or(("", resource));
        let named = reference["containerName"].as_str().filter(|name| !name.is_empty());
        self.resources.insert((named.or(own).map(str::to_owned), resource.to_owned()));
    }

    fn has(&self, container: &str, resource: &str) -> bool {
        let of = |container: Option<&str>| {
            self.resources.contains(&(container.map(str::to_owned), resource.to_owned()))
        };
        of(None) || of(Some(container))
    }
}

fn forget_resources(container: &mut Value, read: &Read) {
    let name = container["name"].as_str().unwrap_or_default().to_owned();
    let restarts = |resource: &str| {
        let policies = container["resizePolicy"].as_array().into_iter().flatten();
        let mut of_it = policies.filter(|policy| policy["resourceName"] == resource);
        of_it.any(|policy| policy["restartPolicy"] != "NotRequired")
    };
    let may_change = |resource: &&str| !restarts(resource) && !read.has(&name, resource);
    let changes: Vec<&str> = CHANGEABLE.into_iter().filter(may_change).collect();
    for resource in changes {
        forget(container, &["resources", "limits"], resource);
        forget(container, &["resources", "requests"], resource);
    }
}

/// Removes a key of an object, and the objects around it that say nothing without it.
fn forget(value: &mut Value, way: &[&str], key: &str) {
    let Value::Object(fields) = value else { return };
    match way {
        [] => _ = fields.remove(key),
        [step, rest @ ..] => {
            let Some(inner) = fields.get_mut(*step) else { return };
            forget(inner, rest, key);
            if inner.as_object().is_some_and(Map::is_empty) {
                fields.remove(*step);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Burstable, with a sidecar and an init container.
    fn template() -> Value {
        let container = |name: &str| {
            json!({
                "name": name,
                "command": ["/bin/c"],
                "resources": {
                    "limits": {"cpu": "1", "memory": "1000", "hugepages-2Mi": "2097152"},
                    "requests": {"cpu": "0.5", "memory": "500", "ephemeral-storage": "5"},
                },
            })
        };
        let mut sidecar = container("side");
        sidecar["restartPolicy"] = "Always".into();
        json!({
            "metadata": {
                "labels": {"app": "x"},
                "annotations": {"note": "y", PIDS_LIMIT: "9"},
            },
            "spec": {
                "runtimeClassName": "process",
                "containers": [container("a"), container("b")],
                "initContainers": [container("init"), sidecar],
            },
        })
    }

    fn fixed(template: &Value) -> Option<Digest> {
        fixed_of(&serde_json::to_vec(template).unwrap())
    }

    /// Whether a template in which `pointer` says something else is like the one that it was.
    fn alike_after(before: &Value, pointer: &str, value: Value) -> bool {
        let mut after = before.clone();
        *after.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        assert_ne!(*before, after);
        fixed(before).is_some() && fixed(before) == fixed(&after)
    }

    #[test]
    fn limits_and_requests_of_what_stays_may_change_and_nothing_else() {
        for (pointer, may_change) in [
            ("/spec/containers/0/resources/limits/cpu", true),
            ("/spec/containers/1/resources/limits/memory", true),
            ("/spec/containers/0/resources/requests/cpu", true),
            ("/spec/initContainers/1/resources/requests/memory", true),
            ("/metadata/annotations/everynode.dev~1pids-limit", true),
            ("/metadata/annotations/note", false),
            ("/metadata/labels/app", false),
            ("/spec/containers/0/command/0", false),
            ("/spec/containers/0/resources/limits/hugepages-2Mi", false),
            ("/spec/containers/0/resources/requests/ephemeral-storage", false),
            ("/spec/initContainers/0/resources/limits/cpu", false),
        ] {
            assert_eq!(alike_after(&template(), pointer, "0.75".into()), may_change, "{pointer}");
        }
    }

    #[test]
    fn whole_limits_may_come_and_go_as_long_as_the_class_stays() {
        let (before, mut after) = (template(), template());
        after["metadata"]["annotations"].as_object_mut().unwrap().remove(PIDS_LIMIT);
        for resource in CHANGEABLE {
            let resources = &mut after["spec"]["containers"][0]["resources"];
            resources["limits"].as_object_mut().unwrap().remove(resource);
        }
        assert_eq!(fixed(&before), fixed(&after));
        let bare = |resources: Value| {
            let container = json!({"name": "a", "command": ["/bin/c"], "resources": resources});
            let other = json!({"name": "b", "resources": {"requests": {"cpu": "1"}}});
            let spec = json!({"runtimeClassName": "process", "containers": [container, other]});
            fixed(&json!({"spec": spec}))
        };
        assert_eq!(bare(json!({})), bare(json!({"limits": {"cpu": "1", "memory": "5"}})));
        assert_ne!(bare(json!({})), bare(json!({"claims": [{"name": "x"}]})));
    }

    #[test]
    fn the_class_of_service_stays() {
        let of = |limits: Value, requests: Value| {
            let resources = json!({"limits": limits, "requests": requests});
            let container = json!({"name": "a", "command": ["/bin/c"], "resources": resources});
            let spec = json!({"runtimeClassName": "process", "containers": [container]});
            fixed(&json!({"spec": spec})).unwrap()
        };
        let both = |amount: &str| json!({"cpu": amount, "memory": amount});
        let guaranteed = [of(both("1"), both("1")), of(both("2"), both("2"))];
        let burstable = [of(both("2"), both("1")), of(json!({}), both("1"))];
        assert_eq!(guaranteed[0], guaranteed[1]);
        assert_eq!(burstable[0], burstable[1]);
        let best_effort = of(json!({}), json!({}));
        assert_eq!(BTreeSet::from([guaranteed[0], burstable[0], best_effort]).len(), 3);
    }

    #[test]
    fn what_a_container_is_restarted_for_does_not_change_as_it_runs() {
        let mut template = template();
        let policy = |resource: &str, policy: &str| json!({"resourceName": resource, "restartPolicy": policy});
        let policies = [policy("cpu", "NotRequired"), policy("memory", "RestartContainer")];
        template["spec"]["containers"][0]["resizePolicy"] = json!(policies);
        let resources = "/spec/containers/0/resources";
        assert!(alike_after(&template, &format!("{resources}/limits/cpu"), "2".into()));
        assert!(!alike_after(&template, &format!("{resources}/limits/memory"), "2".into()));
        assert!(!alike_after(&template, &format!("{resources}/requests/memory"), "2".into()));
        let other = "/spec/containers/1/resources/limits/memory";
        assert!(alike_after(&template, other, "2000".into()), "of another container it does");
        let changed = json!([policies[0]]);
        assert!(!alike_after(&template, "/spec/containers/0/resizePolicy", changed));
    }

    #[test]
    fn what_a_pod_reads_of_it_stays() {
        let env =
            |reference: Value| json!([{"name": "X", "valueFrom": {"resourceFieldRef": reference}}]);
        let (own, other) = ("/spec/containers/0/resources", "/spec/containers/1/resources");
        let alike = |template: &Value, resources: &str, of: &str| {
            alike_after(template, &format!("{resources}/{of}"), "0.75".into())
        };
        let mut reads = template();
        reads["spec"]["containers"][0]["env"] = env(json!({"resource": "requests.cpu"}));
        assert!(!alike(&reads, own, "requests/cpu") && !alike(&reads, own, "limits/cpu"));
        assert!(alike(&reads, own, "limits/memory") && alike(&reads, other, "limits/cpu"));

        let of_other = json!({"containerName": "b", "resource": "limits.memory"});
        reads["spec"]["containers"][0]["env"] = env(of_other.clone());
        assert!(!alike(&reads, other, "limits/memory") && alike(&reads, own, "limits/memory"));

        let file = json!({"path": "x", "resourceFieldRef": of_other});
        let volumes = [
            json!({"name": "v", "downwardAPI": {"items": [file]}}),
            json!({"name": "v", "projected": {"sources": [{"downwardAPI": {"items": [file]}}]}}),
        ];
        for volume in volumes {
            let mut reads = template();
            reads["spec"]["volumes"] = json!([volume]);
            assert!(!alike(&reads, other, "limits/memory") && alike(&reads, own, "limits/memory"));
            let of_whom = json!({"path": "x", "resourceFieldRef": {"resource": "limits.memory"}});
            reads["spec"]["volumes"] = json!([{"downwardAPI": {"items": [of_whom]}}]);
            assert!(!alike(&reads, own, "limits/memory"), "in doubt it is of any");
        }

        let mut reads = template();
        let path = format!("metadata.annotations['{PIDS_LIMIT}']");
        let pids = "/metadata/annotations/everynode.dev~1pids-limit";
        let by_variable = json!([{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": path}}}]);
        reads["spec"]["containers"][0]["env"] = by_variable;
        assert!(!alike_after(&reads, pids, "10".into()));
        let mut reads = template();
        let all = json!({"path": "x", "fieldRef": {"fieldPath": "metadata.annotations"}});
        reads["spec"]["volumes"] = json!([{"name": "v", "downwardAPI": {"items": [all]}}]);
        assert!(!alike_after(&reads, pids, "10".into()));
    }

    #[test]
    fn what_cannot_be_read_is_like_nothing() {
        assert_eq!(fixed_of(b"{"), None);
        assert_eq!(fixed_of(b"{\"spec\": {}}"), None);
        let mut containers = template();
        containers["spec"]["runtimeClassName"] = "other".into();
        assert_eq!(fixed(&containers), None);
    }
}
