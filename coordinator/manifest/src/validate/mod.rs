//! Kubernetes' rules for a DaemonSet, and the few that Everynode adds.
//!
//! Every rule is checked, whatever the others said; the findings are in the order of the fields.

mod container;
mod names;
mod placement;
mod pod;
mod probe;
mod strategy;
mod volume;

pub(crate) use pod::is_process;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::FieldPath;
use crate::check::Check;
use crate::selector::{KEY_RULE, check_labels, check_selector, selector};

/// The most bytes of annotations, keys and values together, as in Kubernetes.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// The runtime class of pods whose containers are processes of the host.
pub(crate) const PROCESS: &str = "process";

/// Checks `set`, whose defaults are filled in. `selector_given` tells an empty selector from none.
pub(crate) fn check(check: &mut Check, set: &DaemonSet, selector_given: bool) {
    check_metadata(check, &set.metadata);
    let spec = FieldPath::fields("spec");
    check_selection(check, set, selector_given);
    check.not_negative(spec.field("minReadySeconds"), set.spec.min_ready_seconds);
    check.not_negative(spec.field("revisionHistoryLimit"), set.spec.revision_history_limit);
    strategy::check(check, &spec.field("updateStrategy"), set.spec.update_strategy.as_ref());
    let template = spec.field("template");
    if let Some(metadata) = &set.spec.template.metadata {
        check_template_metadata(check, &template.field("metadata"), metadata);
    }
    if let Some(pod) = &set.spec.template.spec {
        pod::check(check, &template.field("spec"), pod);
    }
}

fn check_metadata(check: &mut Check, metadata: &ObjectMeta) {
    let path = FieldPath::fields("metadata");
    match metadata.name.as_deref().unwrap_or_default() {
        "" => check.required(path.field("name"), "a name is required"),
        name => names::subdomain(check, path.field("name"), name),
    }
    names::label(check, path.field("namespace"), metadata.namespace.as_deref().unwrap_or_default());
    check_labels(check, &path.field("labels"), metadata.labels.as_ref());
    check_annotations(check, &path.field("annotations"), metadata);
}

fn check_template_metadata(check: &mut Check, path: &FieldPath, metadata: &ObjectMeta) {
    check_labels(check, &path.field("labels"), metadata.labels.as_ref());
    check_annotations(check, &path.field("annotations"), metadata);
}

fn check_annotations(check: &mut Check, path: &FieldPath, metadata: &ObjectMeta) {
    let mut bytes = 0;
    for (key, value) in metadata.annotations.iter().flatten() {
        bytes += key.len() + value.len();
        // Unlike a label's, an annotation's key may have upper-case letters before the slash.
        if !everynode_model::valid_qualified_name(&key.to_lowercase()) {
            check.invalid(path.key(key), key.as_str(), KEY_RULE);
        }
    }
    if bytes > MAX_ANNOTATIONS {
        check.invalid(
            path.clone(),
            bytes,
            format!("must have at most {MAX_ANNOTATIONS} bytes in all"),
        );
    }
}

/// Checks the selector, and that it selects the template's own labels.
fn check_selection(check: &mut Check, set: &DaemonSet, given: bool) {
    let path = FieldPath::fields("spec.selector");
    let wanted = &set.spec.selector;
    let requirements = selector(wanted);
    check_selector(check, &path, wanted);
    let empty = wanted.match_labels.as_ref().is_none_or(|labels| labels.is_empty())
        && wanted.match_expressions.as_ref().is_none_or(Vec::is_empty);
    if empty && given {
        check.invalid(path, json!({}), "an empty selector is invalid for a DaemonSet");
    } else if empty {
        check.required(path, "write the labels of the template here, under `matchLabels`");
    } else if check.is_whole(&path) {
        let metadata = set.spec.template.metadata.as_ref();
        let labels = metadata.and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
        if !requirements.matches(&labels) {
            let value: Value =
                labels.into_iter().map(|(key, value)| (key, Value::from(value))).collect();
            let path = FieldPath::fields("spec.template.metadata.labels");
            check.invalid(path, value, "`selector` does not match template `labels`");
        }
    }
}
