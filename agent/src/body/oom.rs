//! Whom the kernel kills first when the machine has no memory left, by the kubelet's rule: a container
//! that has what it asked for promised comes last, one that asked for nothing first.

use std::collections::BTreeMap;

use super::fields::{Container, Spec, Template};
use super::resources::{Wanted, nanos};

/// Of a pod of the class Guaranteed, or one without which a node is none.
const GUARANTEED: i16 = -997;
/// Of a pod of the class BestEffort.
const BEST_EFFORT: i16 = 1000;
/// Above all that are guaranteed.
const BURSTABLE_LEAST: i16 = 1000 + GUARANTEED;
/// Below all that asked for nothing.
const BURSTABLE_MOST: i16 = BEST_EFFORT - 1;

/// By which class a node knows the pods that it needs itself.
const NODE_CRITICAL: &str = "system-node-critical";
/// Those that its cluster needs.
const CLUSTER_CRITICAL: &str = "system-cluster-critical";

/// Whether it is one without which a node or its cluster is none, by Kubernetes' own two classes.
pub(super) fn is_critical(spec: &Spec) -> bool {
    let class = spec.priority_class_name.as_deref();
    [Some(NODE_CRITICAL), Some(CLUSTER_CRITICAL)].contains(&class)
}

/// Kubernetes' quality of service of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Class {
    /// Of a pod with these containers, by `cpu` and `memory` alone; amounts are in the normal form, so
    /// that equal ones are written so.
    pub(super) fn of(containers: &[&Container]) -> Self {
        let all = || containers.iter().map(|container| &container.resources);
        let given = |of: &Wanted| NAMES.iter().any(|name| of.request(name).is_some());
        if !all().any(given) {
            return Self::BestEffort;
        }
        let is_promised = |of: &Wanted| {
            let same = |name: &&str| of.limit(name).is_some() && of.limit(name) == of.request(name);
            NAMES.iter().all(same)
        };
        if all().all(is_promised) { Self::Guaranteed } else { Self::Burstable }
    }
}

/// Whether the pods of a template, in its normal form, are to be killed later than most of what runs on
/// the machine; `false` for one that can't be read.
pub fn is_promised(content: &[u8]) -> bool {
    let Ok(Template { spec, .. }) = serde_json::from_slice::<Template>(content) else {
        return false;
    };
    let all: Vec<&Container> = spec.init_containers.iter().chain(&spec.containers).collect();
    let of_processes = spec.runtime_class_name.as_deref() == Some(super::PROCESS);
    let score = |one: &&Container| score(Class::of(&all), &spec, one, &BTreeMap::new());
    of_processes && all.iter().map(score).any(|score| score < 0)
}

const NAMES: [&str; 2] = ["cpu", "memory"];

/// The container's `oom_score_adj`, from -1000 (never killed) to 1000.
pub(super) fn score(
    class: Class,
    spec: &Spec,
    container: &Container,
    capacity: &BTreeMap<String, String>,
) -> i16 {
    if spec.priority_class_name.as_deref() == Some(NODE_CRITICAL) {
        return GUARANTEED;
    }
    match class {
        Class::Guaranteed => GUARANTEED,
        Class::BestEffort => BEST_EFFORT,
        Class::Burstable => {
            let request = container.resources.request("memory").and_then(nanos).unwrap_or(0);
            let memory = capacity.get("memory").and_then(|text| nanos(text)).unwrap_or(0);
            // More than there is comes to as good as all of it.
            let part = (request * 1000).checked_div(memory).unwrap_or(0).min(1000);
            let score = 1000 - i16::try_from(part).unwrap_or(1000);
            score.clamp(BURSTABLE_LEAST, BURSTABLE_MOST)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn score_of(containers: Value, priority: Option<&str>) -> i16 {
        let spec = json!({"containers": containers, "priorityClassName": priority});
        let spec: Spec = serde_json::from_value(spec).unwrap();
        let all: Vec<&Container> = spec.containers.iter().collect();
        let capacity = [("memory".to_owned(), "1000Ki".to_owned())].into();
        score(Class::of(&all), &spec, all[0], &capacity)
    }

    fn container(limits: Value, requests: Value) -> Value {
        json!({"name": "a", "resources": {"limits": limits, "requests": requests}})
    }

    #[test]
    fn who_asked_for_nothing_is_killed_first() {
        let nothing = || container(json!({}), json!({}));
        let both = || json!({"cpu": "1", "memory": "5"});
        assert_eq!(score_of(json!([nothing()]), None), 1000);
        assert_eq!(score_of(json!([container(json!({"x.org/y": "1"}), json!({}))]), None), 1000);
        assert_eq!(score_of(json!([nothing()]), Some(NODE_CRITICAL)), -997);
        // A request that is not there is the limit.
        assert_eq!(score_of(json!([container(both(), json!({}))]), None), -997);
        assert_eq!(score_of(json!([container(both(), both())]), None), -997);
        assert_eq!(score_of(json!([container(both(), json!({"cpu": "0.5"}))]), None), 999);
        // One that is not promised its own makes none of them so.
        assert_eq!(score_of(json!([nothing(), container(both(), both())]), None), 999);
    }

    #[test]
    fn only_those_are_promised_that_come_last() {
        let of = |containers: Value, class: &str| {
            let spec = json!({"containers": containers, "runtimeClassName": class});
            is_promised(json!({ "spec": spec }).to_string().as_bytes())
        };
        let both = || container(json!({"cpu": "1", "memory": "5"}), json!({}));
        assert!(of(json!([both()]), "process"));
        assert!(!of(json!([both()]), "runc"));
        assert!(!of(json!([both(), container(json!({}), json!({}))]), "process"));
        assert!(!is_promised(b"{"));
    }

    #[test]
    fn between_them_it_goes_by_the_part_of_the_memory() {
        let asks =
            |memory: &str| score_of(json!([container(json!({}), json!({"memory": memory}))]), None);
        assert_eq!(asks("512000"), 500);
        assert_eq!(asks("1"), 999);
        assert_eq!(asks("1024000"), 3);
        assert_eq!(asks("9999999999"), 3);
    }
}
