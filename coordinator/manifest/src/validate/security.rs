//! Security contexts of the pod and its containers, and the annotations that stood for them.

use std::collections::BTreeSet;

use everynode_model::{RLIMITS_ANNOTATION, RLIMITS_PREFIX, Rlimits};
use k8s_openapi::api::core::v1::{
    AppArmorProfile, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::container::Context;
use super::syntax;
use crate::FieldPath;
use crate::check::Check;

/// Checks the pod's own context and what it shares with the host.
pub(super) fn check_pod(check: &mut Check, path: &FieldPath, pod: &PodSpec) {
    if pod.host_users == Some(false) {
        for (field, given) in [
            ("hostNetwork", pod.host_network),
            ("hostPID", pod.host_pid),
            ("hostIPC", pod.host_ipc),
        ] {
            if given == Some(true) {
                check.forbidden(path.field(field), "when `hostUsers` is false");
            }
        }
    }
    let at = path.field("securityContext");
    if pod.host_pid == Some(true) && pod.share_process_namespace == Some(true) {
        // Kubernetes tells it where the field once was.
        check.invalid_at(
            at.field("shareProcessNamespace"),
            path.field("shareProcessNamespace"),
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        );
    }
    let Some(security) = &pod.security_context else { return };
    for (field, id) in [
        ("fsGroup", security.fs_group),
        ("runAsUser", security.run_as_user),
        ("runAsGroup", security.run_as_group),
    ] {
        check_id(check, at.field(field), id);
    }
    for (index, group) in security.supplemental_groups.iter().flatten().enumerate() {
        check_id(check, at.field("supplementalGroups").index(index), Some(*group));
    }
    for (field, value, supported) in [
        ("fsGroupChangePolicy", &security.fs_group_change_policy, ["Always", "OnRootMismatch"]),
        ("supplementalGroupsPolicy", &security.supplemental_groups_policy, ["Merge", "Strict"]),
        ("seLinuxChangePolicy", &security.se_linux_change_policy, ["MountOption", "Recursive"]),
    ] {
        check.any_of(at.field(field), value.as_deref(), &supported);
    }
    check_sysctls(check, &at.field("sysctls"), security, pod);
    check_profiles(
        check,
        &at,
        security.seccomp_profile.as_ref(),
        security.app_armor_profile.as_ref(),
    );
}

/// Checks a container's context.
pub(super) fn check_container(
    check: &mut Check,
    path: &FieldPath,
    security: &SecurityContext,
    context: &Context<'_>,
) {
    check_id(check, path.field("runAsUser"), security.run_as_user);
    check_id(check, path.field("runAsGroup"), security.run_as_group);
    let mount = security.proc_mount.as_deref();
    check.any_of(path.field("procMount"), mount, &["Default", "Unmasked"]);
    if mount == Some("Unmasked") && context.host_users {
        let rule = "`hostUsers` must be false to use `Unmasked`";
        check.invalid(path.field("procMount"), mount, rule);
    }
    check_profiles(
        check,
        path,
        security.seccomp_profile.as_ref(),
        security.app_armor_profile.as_ref(),
    );
    if security.allow_privilege_escalation != Some(false) {
        return;
    }
    let value = || serde_json::to_value(security).unwrap_or_default();
    let at = path.field("allowPrivilegeEscalation");
    if security.privileged == Some(true) {
        let rule = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        check.invalid_at(path.clone(), at.clone(), value(), rule);
    }
    let added = security.capabilities.as_ref().and_then(|capabilities| capabilities.add.as_ref());
    if added.is_some_and(|added| added.iter().any(|name| name == "CAP_SYS_ADMIN")) {
        let rule = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` \
                    CAP_SYS_ADMIN";
        check.invalid_at(path.clone(), at, value(), rule);
    }
}

fn check_id(check: &mut Check, path: FieldPath, id: Option<i64>) {
    if let Some(id) = id {
        check.each(&path, id, syntax::id(id));
    }
}

fn check_sysctls(
    check: &mut Check,
    path: &FieldPath,
    security: &PodSecurityContext,
    pod: &PodSpec,
) {
    let mut taken = BTreeSet::new();
    for (index, sysctl) in security.sysctls.iter().flatten().enumerate() {
        let path = path.index(index).field("name");
        let name = sysctl.name.as_str();
        if name.is_empty() {
            check.required(path, "");
            continue;
        }
        if !syntax::is_sysctl(name) {
            let rule = "must have at most 253 characters and match regex \
                        ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            check.invalid(path.clone(), name, rule);
        } else if !taken.insert(name) {
            check.duplicate(path.clone(), name);
        }
        let dotted = name.replace('/', ".");
        let of_ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."];
        if pod.host_network == Some(true) && dotted.starts_with("net.") {
            check.invalid(path, name, "may not be specified when 'hostNetwork' is true");
        } else if pod.host_ipc == Some(true)
            && (dotted == "kernel.sem" || of_ipc.iter().any(|prefix| dotted.starts_with(prefix)))
        {
            check.invalid(path, name, "may not be specified when 'hostIPC' is true");
        }
    }
}

fn check_profiles(
    check: &mut Check,
    path: &FieldPath,
    seccomp: Option<&SeccompProfile>,
    app_armor: Option<&AppArmorProfile>,
) {
    if let Some(profile) = seccomp {
        let path = path.field("seccompProfile");
        check_profile_type(check, path.field("type"), &profile.type_, "seccompProfile");
        let at = path.field("localhostProfile");
        match (profile.type_.as_str(), &profile.localhost_profile) {
            ("Localhost", Some(file)) => {
                check.each(&at, file.as_str(), syntax::descending_path(file));
            }
            ("Localhost", None) => {
                check.required(at, "must be set when seccomp type is Localhost");
            }
            (_, Some(_)) => {
                let value = serde_json::to_value(profile).unwrap_or_default();
                check.invalid(at, value, "can only be set when seccomp type is Localhost");
            }
            (_, None) => {}
        }
    }
    if let Some(profile) = app_armor {
        check_app_armor(check, &path.field("appArmorProfile"), profile);
    }
}

fn check_app_armor(check: &mut Check, path: &FieldPath, profile: &AppArmorProfile) {
    /// The longest path.
    const MAX_BYTES: usize = 4095;
    check_profile_type(check, path.field("type"), &profile.type_, "appArmorProfile");
    let at = path.field("localhostProfile");
    let name = profile.localhost_profile.as_deref();
    if profile.type_ == "Localhost" {
        match name.unwrap_or_default() {
            "" => check.required(at.clone(), "must be set when AppArmor type is Localhost"),
            name if name.trim() != name => {
                check.invalid(at.clone(), name, "must not be padded with whitespace");
            }
            _ => {}
        }
        if name.is_some_and(|name| name.len() > MAX_BYTES) {
            check.too_long(at, MAX_BYTES);
        }
    } else if let Some(name) = name {
        check.invalid(at, name, "can only be set when AppArmor type is Localhost");
    }
}

fn check_profile_type(check: &mut Check, path: FieldPath, kind: &str, field: &str) {
    match kind {
        "" => check.required(path, &format!("type is required when {field} is set")),
        kind => check.any_of(path, Some(kind), &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
}

const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Checks the template's annotations that Kubernetes gives a meaning.
pub(super) fn check_annotations(
    check: &mut Check,
    path: &FieldPath,
    at: &FieldPath,
    metadata: &ObjectMeta,
    pod: &PodSpec,
) {
    let containers = || pod.containers.iter().chain(pod.init_containers.iter().flatten());
    for (key, value) in metadata.annotations.iter().flatten() {
        let at = at.key(key);
        let mut wrong = |path: FieldPath, value: &str, rule: &str| {
            check.invalid_at(path, at.clone(), Value::from(value), rule);
        };
        if key == DELETION_COST {
            let canonical = value.parse::<i32>().is_ok_and(|cost| cost.to_string() == *value);
            if !canonical {
                wrong(path.key(key), value, "must be a 32bit integer");
            }
        } else if key == SECCOMP_POD || key.starts_with(SECCOMP) {
            let plain = ["runtime/default", "docker/default", "unconfined"];
            match value.strip_prefix("localhost/") {
                Some(file) => {
                    for message in syntax::descending_path(file) {
                        wrong(path.field(key), file, &message);
                    }
                }
                None if plain.contains(&value.as_str()) => {}
                None => wrong(path.field(key), value, "must be a valid seccomp profile"),
            }
        } else if key == RLIMITS_ANNOTATION || key.starts_with(RLIMITS_PREFIX) {
            let name = key.strip_prefix(RLIMITS_PREFIX);
            let named = |name: &str| containers().any(|container| container.name == name);
            if name.is_some_and(|name| !named(name)) {
                wrong(path.key(key), name.unwrap_or_default(), "container not found");
            }
            if let Err(error) = value.parse::<Rlimits>() {
                wrong(path.key(key), value, &error.to_string());
            }
        } else if let Some(name) = key.strip_prefix(APP_ARMOR) {
            if !containers().any(|container| container.name == name) {
                wrong(path.key(key), name, "container not found");
            }
            let plain = ["", "runtime/default", "unconfined"];
            if !plain.contains(&value.as_str()) && !value.starts_with("localhost/") {
                let rule = format!("invalid AppArmor profile name: {value:?}");
                wrong(path.key(key), value, &rule);
            }
        }
    }
}
