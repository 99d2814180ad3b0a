//! Which other pods a pod wants near it or not, and how it is spread. Nothing here decides where a
//! DaemonSet runs; it is checked because a manifest is one.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PodAffinityTerm, PodSpec, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::placement::check_weight;
use super::syntax;
use crate::FieldPath;
use crate::check::Check;
use crate::selector::{check_keys, check_selector};

/// Checks pod affinity, pod anti-affinity and topology spread.
pub(super) fn check(check: &mut Check, path: &FieldPath, pod: &PodSpec) {
    let affinity = pod.affinity.as_ref();
    let near = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
    let far = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let terms = [
        (
            "podAffinity",
            near.map(|near| {
                (
                    near.required_during_scheduling_ignored_during_execution.as_ref(),
                    near.preferred_during_scheduling_ignored_during_execution.as_ref(),
                )
            }),
        ),
        (
            "podAntiAffinity",
            far.map(|far| {
                (
                    far.required_during_scheduling_ignored_during_execution.as_ref(),
                    far.preferred_during_scheduling_ignored_during_execution.as_ref(),
                )
            }),
        ),
    ];
    for (field, terms) in terms {
        let Some((required, preferred)) = terms else { continue };
        let path = path.field("affinity").field(field);
        let at = path.field("requiredDuringSchedulingIgnoredDuringExecution");
        for (index, term) in required.into_iter().flatten().enumerate() {
            check_term(check, &at.index(index), term);
        }
        let at = path.field("preferredDuringSchedulingIgnoredDuringExecution");
        for (index, term) in preferred.into_iter().flatten().enumerate() {
            let path = at.index(index);
            check_weight(check, &path, term.weight);
            check_term(check, &path.field("podAffinityTerm"), &term.pod_affinity_term);
        }
    }
    check_spread(check, &path.field("topologySpreadConstraints"), pod);
}

fn check_term(check: &mut Check, path: &FieldPath, term: &PodAffinityTerm) {
    for (field, selector) in [
        ("labelSelector", term.label_selector.as_ref()),
        ("namespaceSelector", term.namespace_selector.as_ref()),
    ] {
        if let Some(selector) = selector {
            check_selector(check, &path.field(field), selector);
        }
    }
    for (index, name) in term.namespaces.iter().flatten().enumerate() {
        let at = path.field("namespaces").index(index);
        check.each_at(&path.field("namespace"), &at, name.as_str(), syntax::dns_label(name));
    }
    let key = path.field("topologyKey");
    if term.topology_key.is_empty() {
        check.required(key.clone(), "can not be empty");
    }
    check.each(&key, term.topology_key.as_str(), syntax::qualified_name(&term.topology_key));
    let matching = term.match_label_keys.as_deref().unwrap_or_default();
    let differing = term.mismatch_label_keys.as_deref().unwrap_or_default();
    for (field, keys) in [("matchLabelKeys", matching), ("mismatchLabelKeys", differing)] {
        check_label_keys(check, &path.field(field), keys, term.label_selector.as_ref());
    }
    for (index, key) in matching.iter().enumerate().filter(|(_, key)| differing.contains(key)) {
        let rule = "exists in both matchLabelKeys and mismatchLabelKeys";
        check.invalid(path.field("matchLabelKeys").index(index), key.as_str(), rule);
    }
}

fn check_label_keys(
    check: &mut Check,
    path: &FieldPath,
    keys: &[String],
    selector: Option<&LabelSelector>,
) {
    if keys.is_empty() {
        return;
    }
    if selector.is_none() {
        let rule = "must not be specified when labelSelector is not set";
        return check.forbidden(path.clone(), rule);
    }
    check_keys(check, path, keys);
}

fn check_spread(check: &mut Check, path: &FieldPath, pod: &PodSpec) {
    let mut taken = BTreeSet::new();
    for (index, spread) in pod.topology_spread_constraints.iter().flatten().enumerate() {
        let path = path.index(index);
        check_constraint(check, &path, spread);
        let (key, action) = (spread.topology_key.as_str(), spread.when_unsatisfiable.as_str());
        if !taken.insert((key, action)) {
            let pair = path.field("{topologyKey, whenUnsatisfiable}");
            check.duplicate(pair, format!("{{{key}, {action}}}"));
        }
    }
}

fn check_constraint(check: &mut Check, path: &FieldPath, spread: &TopologySpreadConstraint) {
    let positive = "must be greater than zero";
    if spread.max_skew <= 0 {
        check.invalid(path.field("maxSkew"), spread.max_skew, positive);
    }
    if spread.topology_key.is_empty() {
        check.required(path.field("topologyKey"), "can not be empty");
    }
    let actions = ["DoNotSchedule", "ScheduleAnyway"];
    let action = spread.when_unsatisfiable.as_str();
    check.any_of(path.field("whenUnsatisfiable"), Some(action), &actions);
    if let Some(domains) = spread.min_domains {
        let path = path.field("minDomains");
        if domains <= 0 {
            check.invalid(path.clone(), domains, positive);
        }
        if action != "DoNotSchedule" {
            let rule =
                format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
            check.invalid(path, domains, rule);
        }
    }
    for (field, policy) in [
        ("nodeAffinityPolicy", &spread.node_affinity_policy),
        ("nodeTaintsPolicy", &spread.node_taints_policy),
    ] {
        check.any_of(path.field(field), policy.as_deref(), &["Honor", "Ignore"]);
    }
    if let Some(selector) = &spread.label_selector {
        check_selector(check, &path.field("labelSelector"), selector);
    }
    let keys = spread.match_label_keys.as_deref().unwrap_or_default();
    check_label_keys(check, &path.field("matchLabelKeys"), keys, spread.label_selector.as_ref());
    let selector = spread.label_selector.as_ref();
    let labels = selector.and_then(|selector| selector.match_labels.as_ref());
    let expressions = selector.and_then(|selector| selector.match_expressions.as_ref());
    for (index, key) in keys.iter().enumerate() {
        let selected = labels.is_some_and(|labels| labels.contains_key(key))
            || expressions.into_iter().flatten().any(|expression| expression.key == *key);
        if selected {
            let rule = "exists in both matchLabelKeys and labelSelector";
            check.invalid(path.field("matchLabelKeys").index(index), key.as_str(), rule);
        }
    }
}
