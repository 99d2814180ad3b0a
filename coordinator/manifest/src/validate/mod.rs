//! Kubernetes' rules for a DaemonSet in Kubernetes' words, and the few that Everynode adds.
//!
//! Every rule is checked, whatever the others said; the findings are in the order of the fields.
//! Where Kubernetes' path is not the field to look at (an entry of a map is told by the map, a value
//! by the operator beside it), its path is told and the true place is shown; only where it forgets
//! the index of a list's item is the index told.

mod affinity;
mod aggregate;
mod container;
mod env;
mod mounts;
mod placement;
mod pod;
mod probe;
mod process;
mod resources;
mod security;
mod strategy;
pub(crate) mod syntax;
mod volume;
mod windows;

pub(crate) use pod::host_ports;
pub(crate) use process::is_process;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::FieldPath;
use crate::check::Check;
use crate::content;
use crate::rollout;
use crate::selector::{check_labels, check_selector, selector};

/// The most bytes of annotations, keys and values together, as in Kubernetes.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// The runtime class of pods whose containers are processes of the host.
pub(crate) const PROCESS: &str = "process";

/// Checks `set`, whose defaults are filled in. `selector_given` tells an empty selector from none.
pub(crate) fn check(check: &mut Check, set: &DaemonSet, selector_given: bool) {
    check_metadata(check, &set.metadata);
    let strategy = set.spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
    let annotations = FieldPath::fields("metadata.annotations");
    let given = set.metadata.annotations.as_ref();
    let (on_delete, min_ready) = (strategy == Some("OnDelete"), set.spec.min_ready_seconds);
    rollout::check(check, &annotations, given, on_delete, min_ready);
    content::check(check, &annotations, given);
    let spec = FieldPath::fields("spec");
    check_selection(check, set, selector_given);
    check.not_negative(spec.field("minReadySeconds"), set.spec.min_ready_seconds);
    check.not_negative(spec.field("revisionHistoryLimit"), set.spec.revision_history_limit);
    let (strategy, pod) = (&set.spec.update_strategy, &set.spec.template.spec);
    strategy::check(check, &spec.field("updateStrategy"), strategy.as_ref(), pod.as_ref());
    check_template(check, &spec.field("template"), &set.spec.template);
}

/// Checks the metadata of an object that is in a namespace.
pub(crate) fn check_metadata(check: &mut Check, metadata: &ObjectMeta) {
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let path = FieldPath::fields("metadata.namespace");
    check.each(&path, namespace, syntax::dns_label(namespace));
    check_named(check, metadata, syntax::dns_subdomain);
}

/// Checks all other metadata; `form` is the form of the name.
pub(crate) fn check_named(
    check: &mut Check,
    metadata: &ObjectMeta,
    form: impl Fn(&str) -> Vec<String>,
) {
    let path = FieldPath::fields("metadata");
    match metadata.name.as_deref().unwrap_or_default() {
        "" => check.required(path.field("name"), "name or generateName is required"),
        name => check.each(&path.field("name"), name, form(name)),
    }
    let labels = path.field("labels");
    check_labels(check, &labels, &labels, metadata.labels.as_ref());
    let annotations = path.field("annotations");
    check_annotations(check, &annotations, &annotations, metadata);
}

fn check_template(check: &mut Check, path: &FieldPath, template: &PodTemplateSpec) {
    if let Some(metadata) = &template.metadata {
        // Kubernetes leaves out `metadata` here.
        let at = path.down("metadata.labels");
        check_labels(check, &path.field("labels"), &at, metadata.labels.as_ref());
        let (path, at) = (path.field("annotations"), path.down("metadata.annotations"));
        check_annotations(check, &path, &at, metadata);
        process::check_annotations(check, &path, metadata);
        if let Some(pod) = &template.spec {
            security::check_annotations(check, &path, &at, metadata, pod);
        }
    }
    if let Some(pod) = &template.spec {
        pod::check(check, &path.field("spec"), pod);
    }
}

fn check_annotations(check: &mut Check, path: &FieldPath, at: &FieldPath, metadata: &ObjectMeta) {
    let mut bytes = 0;
    for (key, value) in metadata.annotations.iter().flatten() {
        bytes += key.len() + value.len();
        // Unlike a label's, an annotation's key may have upper-case letters before the slash.
        let messages = syntax::qualified_name(&key.to_lowercase());
        check.each_at(path, &at.key(key), key.as_str(), messages);
    }
    if bytes > MAX_ANNOTATIONS {
        check.too_long(path.clone(), MAX_ANNOTATIONS);
    }
}

/// Checks the selector, and that it selects the template's own labels.
fn check_selection(check: &mut Check, set: &DaemonSet, given: bool) {
    let path = FieldPath::fields("spec.selector");
    let wanted = &set.spec.selector;
    let before = check.errors.len();
    check_selector(check, &path, wanted);
    let is_selector = check.errors.len() == before;
    let empty = wanted.match_labels.as_ref().is_none_or(|labels| labels.is_empty())
        && wanted.match_expressions.as_ref().is_none_or(Vec::is_empty);
    if empty && given {
        check.invalid(path, json!({}), "empty selector is invalid for daemonset");
    } else if empty {
        check.required(path, "write the labels of the template here, under `matchLabels`");
    } else if is_selector && check.is_whole(&path) {
        let metadata = set.spec.template.metadata.as_ref();
        let labels = metadata.and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
        if !selector(wanted).matches(&labels) {
            let value: Value =
                labels.into_iter().map(|(key, value)| (key, Value::from(value))).collect();
            let path = FieldPath::fields("spec.template.metadata.labels");
            check.invalid(path, value, "`selector` does not match template `labels`");
        }
    }
}
