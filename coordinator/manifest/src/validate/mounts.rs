//! `volumeMounts` and `volumeDevices` of a container.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, VolumeMount};

use super::container::Context;
use super::syntax;
use crate::FieldPath;
use crate::check::Check;

/// Checks where a container has its volumes.
pub(super) fn check(
    check: &mut Check,
    path: &FieldPath,
    container: &Container,
    context: &Context<'_>,
) {
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    let devices = container.volume_devices.as_deref().unwrap_or_default();
    let mut taken = BTreeSet::new();
    for (index, mount) in mounts.iter().enumerate() {
        let path = path.field("volumeMounts").index(index);
        check_mount(check, &path, mount, container, context);
        if !mount.mount_path.is_empty() && !taken.insert(mount.mount_path.as_str()) {
            check.invalid(path.field("mountPath"), mount.mount_path.as_str(), "must be unique");
        }
        if devices.iter().any(|device| device.name == mount.name) {
            let rule = "must not already exist in volumeDevices";
            check.invalid(path.field("name"), mount.name.as_str(), rule);
        }
        if devices.iter().any(|device| device.device_path == mount.mount_path) {
            let rule = "must not already exist as a path in volumeDevices";
            check.invalid(path.field("mountPath"), mount.mount_path.as_str(), rule);
        }
    }
    check_devices(check, &path.field("volumeDevices"), container, context);
}

fn check_mount(
    check: &mut Check,
    path: &FieldPath,
    mount: &VolumeMount,
    container: &Container,
    context: &Context<'_>,
) {
    let volume = context.volumes.get(mount.name.as_str());
    if mount.name.is_empty() {
        check.required(path.field("name"), "");
    } else if volume.is_none() {
        check.not_found(path.field("name"), mount.name.as_str(), "");
    }
    if mount.mount_path.is_empty() {
        check.required(path.field("mountPath"), "");
    }
    let paths =
        [("subPath", mount.sub_path.as_deref()), ("subPathExpr", mount.sub_path_expr.as_deref())];
    for (field, below) in paths {
        let Some(below) = below.filter(|below| !below.is_empty()) else { continue };
        check.each(&path.field(field), below, syntax::descending_path(below));
    }
    if let [(_, Some(plain)), (field, Some(expression))] = paths
        && !plain.is_empty()
        && !expression.is_empty()
    {
        let rule = "subPathExpr and subPath are mutually exclusive";
        check.invalid(path.field(field), expression, rule);
    }
    check_modes(check, path, mount, container);
}

/// How mounts spread, and whether what is below is read-only, too.
fn check_modes(check: &mut Check, path: &FieldPath, mount: &VolumeMount, container: &Container) {
    let at = path.field("mountPropagation");
    let propagation = mount.mount_propagation.as_deref();
    check.any_of(at.clone(), propagation, &["Bidirectional", "HostToContainer", "None"]);
    let security = container.security_context.as_ref();
    let privileged = security.is_some_and(|security| security.privileged == Some(true));
    if propagation == Some("Bidirectional") && !privileged {
        let rule = "Bidirectional mount propagation is available only to privileged containers";
        check.forbidden(at, rule);
    }
    let at = path.field("recursiveReadOnly");
    let recursive = mount.recursive_read_only.as_deref();
    check.any_of(at.clone(), recursive, &["Disabled", "Enabled", "IfPossible"]);
    if matches!(recursive, Some("Enabled" | "IfPossible")) {
        if mount.read_only != Some(true) {
            check.forbidden(at.clone(), "may only be specified when readOnly is true");
        }
        if propagation.is_some_and(|propagation| propagation != "None") {
            let rule = "may only be specified when mountPropagation is None or not specified";
            check.forbidden(at, rule);
        }
    }
}

fn check_devices(
    check: &mut Check,
    path: &FieldPath,
    container: &Container,
    context: &Context<'_>,
) {
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    let mut names = BTreeSet::new();
    let mut paths = BTreeSet::new();
    for (index, device) in container.volume_devices.iter().flatten().enumerate() {
        let (name, at) = (device.name.as_str(), device.device_path.as_str());
        let path = path.index(index);
        let mut wrong = |field: &str, value: &str, rule: &str| {
            check.invalid(path.field(field), value, rule);
        };
        if !name.is_empty() && !names.insert(name) {
            wrong("name", name, "must be unique");
        }
        if !at.is_empty() && !paths.insert(at) {
            wrong("devicePath", at, "must be unique");
        }
        if !syntax::no_backsteps(at).is_empty() {
            wrong("devicePath", at, "can not contain backsteps ('..')");
        }
        if mounts.iter().any(|mount| mount.name == name) {
            wrong("name", name, "must not already exist in volumeMounts");
        }
        if mounts.iter().any(|mount| mount.mount_path == at) {
            wrong("devicePath", at, "must not already exist as a path in volumeMounts");
        }
        let volume = context.volumes.get(name);
        let claimed = |volume: &k8s_openapi::api::core::v1::Volume| {
            volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some()
        };
        if volume.is_some_and(|volume| !claimed(volume)) {
            let rule = "can only use volume source type of PersistentVolumeClaim or Ephemeral for \
                        block mode";
            wrong("name", name, rule);
        }
        if name.is_empty() {
            check.required(path.field("name"), "");
        } else if volume.is_none() {
            check.not_found(path.field("name"), name, "");
        }
        if at.is_empty() {
            check.required(path.field("devicePath"), "");
        }
    }
}
