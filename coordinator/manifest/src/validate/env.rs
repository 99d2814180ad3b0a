//! A container's environment, and the fields of its pod that it may show.

use k8s_openapi::api::core::v1::{
    Container, EnvFromSource, EnvVar, FileKeySelector, ObjectFieldSelector, ResourceFieldSelector,
};

use super::container::Context;
use super::syntax;
use crate::check::Check;
use crate::{FieldPath, Quantity};

/// Checks `env` and `envFrom` of a container.
pub(super) fn check(
    check: &mut Check,
    path: &FieldPath,
    container: &Container,
    context: &Context<'_>,
) {
    for (index, variable) in container.env.iter().flatten().enumerate() {
        check_variable(check, &path.field("env").index(index), variable, context);
    }
    for (index, source) in container.env_from.iter().flatten().enumerate() {
        check_from(check, &path.field("envFrom").index(index), source);
    }
}

fn check_variable(check: &mut Check, path: &FieldPath, variable: &EnvVar, context: &Context<'_>) {
    match variable.name.as_str() {
        "" => check.required(path.field("name"), ""),
        name => check.each(&path.field("name"), name, syntax::variable(name)),
    }
    let Some(from) = &variable.value_from else { return };
    let path = path.field("valueFrom");
    let mut sources = 0;
    if let Some(field) = &from.field_ref {
        sources += 1;
        check_field(check, &path.field("fieldRef"), field, &FIELDS_FOR_ENV);
    }
    if let Some(resource) = &from.resource_field_ref {
        sources += 1;
        check_resource(check, &path.field("resourceFieldRef"), resource, false);
    }
    let keys = [
        ("configMapKeyRef", from.config_map_key_ref.as_ref().map(|key| (&key.name, &key.key))),
        ("secretKeyRef", from.secret_key_ref.as_ref().map(|key| (&key.name, &key.key))),
    ];
    for (source, key) in keys {
        let Some((name, key)) = key else { continue };
        sources += 1;
        let path = path.field(source);
        check.each(&path.field("name"), name.as_str(), syntax::dns_subdomain(name));
        check_key(check, path.field("key"), key);
    }
    if let Some(file) = &from.file_key_ref {
        sources += 1;
        check_file_key(check, &path.field("fileKeyRef"), file, context);
    }
    let valued = variable.value.as_deref().is_some_and(|value| !value.is_empty());
    let rule = match (sources, valued) {
        (0, _) => {
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, \
             `secretKeyRef` or `fileKeyRef`"
        }
        (_, true) => "may not be specified when `value` is not empty",
        (1, false) => return,
        _ => "may not have more than one field specified at a time",
    };
    check.invalid(path, "", rule);
}

fn check_key(check: &mut Check, path: FieldPath, key: &str) {
    match key {
        "" => check.required(path, ""),
        key => check.each(&path, key, syntax::config_key(key)),
    }
}

fn check_file_key(
    check: &mut Check,
    path: &FieldPath,
    file: &FileKeySelector,
    context: &Context<'_>,
) {
    match file.key.as_str() {
        "" => check.required(path.field("key"), ""),
        key => check.each(&path.field("key"), key, syntax::variable(key)),
    }
    match file.volume_name.as_str() {
        "" => check.required(path.field("volumeName"), ""),
        name if !context.volumes.contains_key(name) => {
            check.not_found(path.field("volumeName"), name, "");
        }
        _ => {}
    }
    match file.path.as_str() {
        "" => check.required(path.field("path"), ""),
        below => check.each(&path.field("path"), below, syntax::local_path(below)),
    }
}

fn check_from(check: &mut Check, path: &FieldPath, source: &EnvFromSource) {
    if let Some(prefix) = source.prefix.as_deref().filter(|prefix| !prefix.is_empty()) {
        check.each(&path.field("prefix"), prefix, syntax::variable(prefix));
    }
    let sources = [
        ("configMapRef", source.config_map_ref.as_ref().map(|source| source.name.as_str())),
        ("secretRef", source.secret_ref.as_ref().map(|source| source.name.as_str())),
    ];
    for (field, name) in sources {
        let Some(name) = name else { continue };
        let path = path.field(field).field("name");
        match name {
            "" => check.required(path, ""),
            name => check.each(&path, name, syntax::dns_subdomain(name)),
        }
    }
    let rule = match sources.iter().filter(|(_, name)| name.is_some()).count() {
        0 => "must specify one of: `configMapRef` or `secretRef`",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    check.invalid(path.clone(), "", rule);
}

/// Said of what this adds to the downward API.
const NOT_IN_KUBERNETES: &str = "a label of the node is known to Everynode's pods only: Kubernetes \
     refuses it; where the label is changed, the pod is replaced, as in a rollout";

/// The fields of a pod that a variable can show (the downward API).
const FIELDS_FOR_ENV: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// The fields of a pod that a file can show.
pub(super) const FIELDS_FOR_FILES: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// Whether a pod has a field of this name that can be shown somewhere.
fn is_field(name: &str) -> bool {
    let others = ["spec.restartPolicy", "spec.schedulerName", "status.phase"];
    [&FIELDS_FOR_ENV[..], &FIELDS_FOR_FILES, &others].iter().any(|names| names.contains(&name))
}

/// What of a container's resources can be shown.
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// Checks a reference to a field of the pod.
pub(super) fn check_field(
    check: &mut Check,
    path: &FieldPath,
    field: &ObjectFieldSelector,
    supported: &[&str],
) {
    let version = field.api_version.as_deref().unwrap_or_default();
    let at = path.field("fieldPath");
    let wanted = field.field_path.as_str();
    if wanted.is_empty() {
        return check.required(at, "");
    }
    if version != "v1" {
        let rule = format!("error converting fieldPath: unsupported pod version: {version}");
        return check.invalid(at, wanted, rule);
    }
    let subscripted = wanted.strip_suffix("']").and_then(|rest| rest.split_once("['"));
    match subscripted {
        Some(("metadata.annotations", key)) => {
            let messages = syntax::qualified_name(&key.to_lowercase());
            check.each_at(path, &at, key.to_lowercase(), messages);
        }
        Some(("metadata.labels", key)) => {
            check.each_at(path, &at, key, syntax::qualified_name(key));
        }
        Some(("node.labels", key)) if supported == FIELDS_FOR_ENV.as_slice() => {
            let faults = syntax::qualified_name(key);
            if faults.is_empty() {
                check.warn(at.clone(), NOT_IN_KUBERNETES);
            }
            check.each_at(path, &at, key, faults);
        }
        Some((map, _)) => {
            let rule = format!(
                "error converting fieldPath: field label does not support subscript: {map}"
            );
            check.invalid(at, wanted, rule);
        }
        None if supported.contains(&wanted) => {}
        None if is_field(wanted) => check.unsupported(at, wanted, supported),
        None => {
            let rule = format!("error converting fieldPath: field label not supported: {wanted}");
            check.invalid(at, wanted, rule);
        }
    }
}

/// Checks a reference to a container's resources; in a file (`in_volume`) it names the container.
pub(super) fn check_resource(
    check: &mut Check,
    path: &FieldPath,
    field: &ResourceFieldSelector,
    in_volume: bool,
) {
    let resource = field.resource.as_str();
    let huge = ["limits.hugepages-", "requests.hugepages-"];
    let is_huge = huge.iter().any(|prefix| resource.starts_with(prefix));
    if in_volume && field.container_name.as_deref().unwrap_or_default().is_empty() {
        check.required(path.field("containerName"), "");
    } else if resource.is_empty() {
        check.required(path.field("resource"), "");
    } else if !RESOURCES.contains(&resource) && !is_huge {
        check.unsupported(path.field("resource"), resource, &RESOURCES);
    }
    let Some(divisor) = &field.divisor else { return };
    let Ok(amount) = divisor.0.parse::<Quantity>() else {
        return check.invalid(
            path.field("divisor"),
            divisor.0.as_str(),
            crate::InvalidQuantity.to_string(),
        );
    };
    let is = |texts: &[&str]| texts.iter().any(|text| text.parse() == Ok(amount));
    let of_memory =
        ["0", "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let what = match resource.split_once('.').map(|(_, what)| what) {
        Some("cpu") if !is(&["0", "1m", "1"]) => {
            let rule = "only divisor's values 1m and 1 are supported with the cpu resource";
            return check.invalid(path.field("divisor"), resource, rule);
        }
        Some("memory") => "memory",
        Some("ephemeral-storage") => "local ephemeral storage",
        _ if is_huge => "hugepages",
        _ => return,
    };
    if !is(&of_memory) {
        let rule = format!(
            "only divisor's values {} are supported with the {what} resource",
            of_memory[1..].join(", ")
        );
        check.invalid(path.field("divisor"), resource, rule);
    }
}
