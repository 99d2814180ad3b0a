//! `spec.template.spec.containers[*]` and `initContainers[*]`.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, EnvVarSource, PodSpec, ResourceRequirements, SeccompProfile,
    SecurityContext,
};

use super::pod::is_process;
use super::{names, probe};
use crate::check::Check;
use crate::{FieldPath, Quantity};

/// Checks a container of `pod`, all but its name. `volumes` are the names of the pod's volumes.
pub(super) fn check(
    check: &mut Check,
    path: &FieldPath,
    container: &Container,
    pod: &PodSpec,
    volumes: &BTreeSet<&str>,
) {
    check_program(check, path, container, is_process(pod));
    let host_network = pod.host_network == Some(true);
    check_ports(check, &path.field("ports"), container, host_network);
    for (index, variable) in container.env.iter().flatten().enumerate() {
        check_variable(check, &path.field("env").index(index), variable);
    }
    check_env_from(check, path, container);
    check_mounts(check, &path.field("volumeMounts"), container, volumes);
    probe::check(check, path, container);
    if let Some(resources) = &container.resources {
        check_resources(check, &path.field("resources"), resources);
    }
    if let Some(security) = &container.security_context {
        check_security(check, &path.field("securityContext"), security);
    }
}

/// Checks a user or group id.
pub(super) fn check_id(check: &mut Check, path: FieldPath, id: Option<i64>) {
    if let Some(id) = id.filter(|id| !(0..=i64::from(i32::MAX)).contains(id)) {
        check.invalid(path, id, "must be between 0 and 2147483647, inclusive");
    }
}

/// Checks a seccomp profile.
pub(super) fn check_seccomp(check: &mut Check, path: &FieldPath, profile: &SeccompProfile) {
    check.one_of(
        path.field("type"),
        &profile.type_,
        &["Localhost", "RuntimeDefault", "Unconfined"],
    );
    if profile.type_ == "Localhost" && profile.localhost_profile.is_none() {
        check.required(path.field("localhostProfile"), "must be set when type is Localhost");
    }
}

/// What is run: a program of the host, or an image.
fn check_program(check: &mut Check, path: &FieldPath, container: &Container, process: bool) {
    let image = container.image.as_deref().unwrap_or_default();
    if process {
        if container.command.as_ref().is_none_or(|command| command.is_empty()) {
            check.required(
                path.field("command"),
                "a container of `runtimeClassName: process` is a program of the host: name it here",
            );
        }
        if !image.is_empty() {
            check.warn(
                path.field("image"),
                "not used: with `runtimeClassName: process` the command is run on the host",
            );
        }
    } else if image.is_empty() {
        check.required(
            path.field("image"),
            "or, to run a program of the host, set \
             spec.template.spec.runtimeClassName: process and a command",
        );
    } else if image.trim() != image {
        check.invalid(path.field("image"), image, "must not have leading or trailing whitespace");
    }
    if let Some(policy) = &container.image_pull_policy {
        let supported = ["Always", "IfNotPresent", "Never"];
        check.one_of(path.field("imagePullPolicy"), policy, &supported);
    }
    let policy = container.termination_message_policy.as_deref().unwrap_or_default();
    let supported = ["FallbackToLogsOnError", "File"];
    check.one_of(path.field("terminationMessagePolicy"), policy, &supported);
}

fn check_ports(check: &mut Check, path: &FieldPath, container: &Container, host_network: bool) {
    let mut taken = BTreeSet::new();
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let path = path.index(index);
        check_port(check, &path, port);
        if let Some(name) = port.name.as_deref().filter(|name| !taken.insert(*name)) {
            check.duplicate(path.field("name"), name);
        }
        if host_network && port.host_port.is_some_and(|number| number != port.container_port) {
            let rule = "must be the same as containerPort when `hostNetwork` is true";
            check.invalid(path.field("hostPort"), port.host_port, rule);
        }
    }
}

fn check_port(check: &mut Check, path: &FieldPath, port: &ContainerPort) {
    if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
        names::port_name(check, path.field("name"), name);
    }
    match port.container_port {
        0 => check.required(path.field("containerPort"), ""),
        number => names::port_number(check, path.field("containerPort"), number),
    }
    // Where it was filled in from a containerPort out of range, that has been said above.
    if let Some(number) = port.host_port.filter(|number| ![0, port.container_port].contains(number))
    {
        names::port_number(check, path.field("hostPort"), number);
    }
    let protocol = port.protocol.as_deref().unwrap_or_default();
    check.one_of(path.field("protocol"), protocol, &["SCTP", "TCP", "UDP"]);
}

fn check_variable(check: &mut Check, path: &FieldPath, variable: &EnvVar) {
    names::variable(check, path.field("name"), &variable.name);
    let Some(from) = &variable.value_from else { return };
    let path = path.field("valueFrom");
    if variable.value.as_deref().is_some_and(|value| !value.is_empty()) {
        check.invalid(path.clone(), "", "may not be specified when `value` is not empty");
    }
    let sources = [
        from.field_ref.is_some(),
        from.resource_field_ref.is_some(),
        from.config_map_key_ref.is_some(),
        from.secret_key_ref.is_some(),
        from.file_key_ref.is_some(),
    ];
    match sources.iter().filter(|given| **given).count() {
        0 => check.required(path.clone(), "name one source, such as `fieldRef`"),
        1 => {}
        _ => {
            check.invalid(path.clone(), "", "may not have more than one field specified at a time")
        }
    }
    check_source(check, &path, from);
}

fn check_source(check: &mut Check, path: &FieldPath, from: &EnvVarSource) {
    if let Some(field) = &from.field_ref {
        let path = path.field("fieldRef").field("fieldPath");
        if !is_field_for_env(&field.field_path) {
            check.one_of(path, &field.field_path, &FIELDS_FOR_ENV);
        }
    }
    let keys = [
        ("configMapKeyRef", from.config_map_key_ref.as_ref().map(|source| &source.key)),
        ("secretKeyRef", from.secret_key_ref.as_ref().map(|source| &source.key)),
    ];
    for (name, key) in keys {
        if key.is_some_and(String::is_empty) {
            check.required(path.field(name).field("key"), "");
        }
    }
}

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

fn is_field_for_env(field: &str) -> bool {
    let subscript = |map: &str| {
        let rest = field.strip_prefix(map).and_then(|rest| rest.strip_prefix("['"));
        rest.and_then(|rest| rest.strip_suffix("']")).is_some_and(|key| !key.is_empty())
    };
    subscript("metadata.labels")
        || subscript("metadata.annotations")
        || FIELDS_FOR_ENV.contains(&field)
}

fn check_env_from(check: &mut Check, path: &FieldPath, container: &Container) {
    for (index, source) in container.env_from.iter().flatten().enumerate() {
        let path = path.field("envFrom").index(index);
        match (&source.config_map_ref, &source.secret_ref) {
            (None, None) => {
                check.required(path, "must specify one of: `configMapRef` or `secretRef`")
            }
            (Some(_), Some(_)) => {
                check.invalid(path, "", "may not have more than one field specified at a time");
            }
            _ => {}
        }
    }
}

fn check_mounts(
    check: &mut Check,
    path: &FieldPath,
    container: &Container,
    volumes: &BTreeSet<&str>,
) {
    let mut taken = BTreeSet::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let path = path.index(index);
        if mount.name.is_empty() {
            check.required(path.field("name"), "");
        } else if !volumes.contains(mount.name.as_str()) {
            check.not_found(path.field("name"), mount.name.as_str(), "the pod has no such volume");
        }
        if mount.mount_path.is_empty() {
            check.required(path.field("mountPath"), "");
        } else if !taken.insert(mount.mount_path.as_str()) {
            check.invalid(path.field("mountPath"), mount.mount_path.as_str(), "must be unique");
        }
        if let Some(mode) = &mount.mount_propagation {
            let supported = ["Bidirectional", "HostToContainer", "None"];
            check.one_of(path.field("mountPropagation"), mode, &supported);
        }
    }
}

fn check_resources(check: &mut Check, path: &FieldPath, resources: &ResourceRequirements) {
    let limits = resources.limits.as_ref();
    for (list, quantities) in [("limits", limits), ("requests", resources.requests.as_ref())] {
        for (name, text) in quantities.into_iter().flatten() {
            let path = path.field(list).key(name);
            let quantity = match text.0.parse::<Quantity>() {
                Ok(quantity) if quantity.is_negative() => {
                    check.invalid(path, text.0.as_str(), "must be greater than or equal to 0");
                    continue;
                }
                Ok(quantity) => quantity,
                Err(error) => {
                    check.invalid(path, text.0.as_str(), error.to_string());
                    continue;
                }
            };
            let limit = limits.and_then(|limits| limits.get(name));
            if let Some(limit) =
                limit.filter(|limit| limit.0.parse().is_ok_and(|most: Quantity| quantity > most))
            {
                let rule = format!("must be less than or equal to {name} limit of {}", limit.0);
                check.invalid(path, text.0.as_str(), rule);
            }
        }
    }
}

fn check_security(check: &mut Check, path: &FieldPath, security: &SecurityContext) {
    check_id(check, path.field("runAsUser"), security.run_as_user);
    check_id(check, path.field("runAsGroup"), security.run_as_group);
    if let Some(profile) = &security.seccomp_profile {
        check_seccomp(check, &path.field("seccompProfile"), profile);
    }
    if let Some(mount) = &security.proc_mount {
        check.one_of(path.field("procMount"), mount, &["Default", "Unmasked"]);
    }
    if security.privileged == Some(true) && security.allow_privilege_escalation == Some(false) {
        check.invalid(
            path.field("allowPrivilegeEscalation"),
            false,
            "cannot be false where `privileged` is true",
        );
    }
}
