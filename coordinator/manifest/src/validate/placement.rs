//! Which nodes a pod wants: `nodeSelector`, node affinity, tolerations.

use k8s_openapi::api::core::v1::{PodSpec, Toleration};

use super::syntax;
use crate::FieldPath;
use crate::check::Check;
use crate::selector::{check_labels, check_term};

/// Checks what decides a pod's placement; its `nodeName` is checked among the names.
pub(super) fn check(check: &mut Check, path: &FieldPath, pod: &PodSpec) {
    let at = path.field("nodeSelector");
    check_labels(check, &at, &at, pod.node_selector.as_ref());
    check_affinity(check, path, pod);
    for (index, toleration) in pod.tolerations.iter().flatten().enumerate() {
        check_toleration(check, &path.field("tolerations").index(index), toleration);
    }
}

fn check_affinity(check: &mut Check, path: &FieldPath, pod: &PodSpec) {
    let affinity = pod.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let Some(affinity) = affinity else { return };
    let path = path.down("affinity.nodeAffinity");
    if let Some(required) = &affinity.required_during_scheduling_ignored_during_execution {
        let path = path.down("requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
        if required.node_selector_terms.is_empty() {
            check.required(path.clone(), "must have at least one node selector term");
        }
        for (index, term) in required.node_selector_terms.iter().enumerate() {
            check_term(check, &path.index(index), term, true);
        }
    }
    let preferred = &affinity.preferred_during_scheduling_ignored_during_execution;
    let path = path.field("preferredDuringSchedulingIgnoredDuringExecution");
    for (index, term) in preferred.iter().flatten().enumerate() {
        let path = path.index(index);
        check_weight(check, &path, term.weight);
        check_term(check, &path.field("preference"), &term.preference, false);
    }
}

/// Checks how much a preference counts.
pub(super) fn check_weight(check: &mut Check, path: &FieldPath, weight: i32) {
    if !(1..=100).contains(&weight) {
        check.invalid(path.field("weight"), weight, "must be in the range 1-100");
    }
}

fn check_toleration(check: &mut Check, path: &FieldPath, toleration: &Toleration) {
    let [key, operator, value, effect] =
        [&toleration.key, &toleration.operator, &toleration.value, &toleration.effect]
            .map(|text| text.as_deref().unwrap_or_default());
    let at = path.field("operator");
    if !key.is_empty() {
        check.each(&path.field("key"), key, syntax::qualified_name(key));
    } else if operator != "Exists" {
        let rule = "operator must be Exists when `key` is empty, which means \"match all values \
                    and all keys\"";
        check.invalid(at.clone(), operator, rule);
    }
    if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        let rule = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        check.invalid(path.field("effect"), effect, rule);
    }
    match operator {
        "" | "Equal" => {
            let messages = syntax::label_value(value);
            if !messages.is_empty() {
                check.invalid_at(at, path.field("value"), value, messages.join(";"));
            }
        }
        "Exists" if !value.is_empty() => {
            let rule = "value must be empty when `operator` is 'Exists'";
            check.invalid_at(at, path.field("value"), value, rule);
        }
        "Exists" => {}
        operator => check.unsupported(at, operator, &["Equal", "Exists"]),
    }
    if !effect.is_empty() {
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        check.any_of(path.field("effect"), Some(effect), &effects);
    }
}
