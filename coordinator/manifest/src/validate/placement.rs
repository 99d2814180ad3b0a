//! Which nodes a pod wants: `nodeName`, `nodeSelector`, affinity, tolerations.

use k8s_openapi::api::core::v1::{PodSpec, Toleration};

use everynode_model::{valid_label_value, valid_qualified_name};

use super::names;
use crate::FieldPath;
use crate::check::Check;
use crate::selector::{KEY_RULE, VALUE_RULE, check_labels, check_term};

/// Checks what decides a pod's placement.
pub(super) fn check(check: &mut Check, path: &FieldPath, pod: &PodSpec) {
    if let Some(name) = pod.node_name.as_deref().filter(|name| !name.is_empty()) {
        names::subdomain(check, path.field("nodeName"), name);
    }
    check_labels(check, &path.field("nodeSelector"), pod.node_selector.as_ref());
    check_affinity(check, path, pod);
    for (index, toleration) in pod.tolerations.iter().flatten().enumerate() {
        check_toleration(check, &path.field("tolerations").index(index), toleration);
    }
}

fn check_affinity(check: &mut Check, path: &FieldPath, pod: &PodSpec) {
    let affinity = pod.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let Some(affinity) = affinity else { return };
    let path = path.field("affinity").field("nodeAffinity");
    if let Some(required) = &affinity.required_during_scheduling_ignored_during_execution {
        let path =
            path.field("requiredDuringSchedulingIgnoredDuringExecution").field("nodeSelectorTerms");
        if required.node_selector_terms.is_empty() {
            check.required(path.clone(), "must have at least one node selector term");
        }
        for (index, term) in required.node_selector_terms.iter().enumerate() {
            check_term(check, &path.index(index), term);
        }
    }
    let preferred = &affinity.preferred_during_scheduling_ignored_during_execution;
    let path = path.field("preferredDuringSchedulingIgnoredDuringExecution");
    for (index, term) in preferred.iter().flatten().enumerate() {
        let path = path.index(index);
        if !(1..=100).contains(&term.weight) {
            check.invalid(path.field("weight"), term.weight, "must be in the range 1-100");
        }
        check_term(check, &path.field("preference"), &term.preference);
    }
}

fn check_toleration(check: &mut Check, path: &FieldPath, toleration: &Toleration) {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (key, operator) = (text(&toleration.key), text(&toleration.operator));
    let (value, effect) = (text(&toleration.value), text(&toleration.effect));
    if !key.is_empty() && !valid_qualified_name(&key) {
        check.invalid(path.field("key"), key.as_str(), KEY_RULE);
    }
    if key.is_empty() && operator != "Exists" {
        let rule = "operator must be Exists when `key` is empty, which means every taint";
        check.invalid(path.field("operator"), operator.as_str(), rule);
    }
    match operator.as_str() {
        "" | "Equal" if !valid_label_value(&value) => {
            check.invalid(path.field("value"), value.as_str(), VALUE_RULE);
        }
        "Exists" if !value.is_empty() => {
            let rule = "value must be empty when `operator` is 'Exists'";
            check.invalid(path.field("value"), value.as_str(), rule);
        }
        "" => {}
        operator => check.one_of(path.field("operator"), operator, &["Equal", "Exists"]),
    }
    if !effect.is_empty() {
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        check.one_of(path.field("effect"), &effect, &effects);
    }
    if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        let rule = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        check.invalid(path.field("effect"), effect, rule);
    }
}
