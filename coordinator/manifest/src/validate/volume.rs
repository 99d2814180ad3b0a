//! `spec.template.spec.volumes`.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Volume;

use super::names;
use crate::check::Check;
use crate::{FieldPath, Quantity};

/// What may be asked of a host path.
const HOST_PATH_TYPES: [&str; 8] = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// Checks the volumes, whose defaults are filled in, and gives their names.
pub(super) fn check<'a>(
    check: &mut Check,
    path: &FieldPath,
    volumes: &'a [Volume],
) -> BTreeSet<&'a str> {
    let mut taken = BTreeSet::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        if volume.name.is_empty() {
            check.required(path.field("name"), "");
        } else if taken.insert(volume.name.as_str()) {
            names::label(check, path.field("name"), &volume.name);
        } else {
            check.duplicate(path.field("name"), volume.name.as_str());
        }
        check_source(check, &path, volume);
    }
    taken
}

fn check_source(check: &mut Check, path: &FieldPath, volume: &Volume) {
    // Every field but the name is a source.
    let fields = serde_json::to_value(volume).unwrap_or_default();
    let sources =
        fields.as_object().map_or(0, |fields| fields.keys().filter(|key| *key != "name").count());
    if sources > 1 {
        check.forbidden(path.clone(), "may not specify more than 1 volume type");
    }
    if let Some(host) = &volume.host_path {
        let path = path.field("hostPath");
        match host.path.as_str() {
            "" => check.required(path.field("path"), ""),
            dots if dots.split('/').any(|part| part == "..") => {
                check.invalid(path.field("path"), dots, "must not contain '..'");
            }
            _ => {}
        }
        let kind = host.type_.as_deref().unwrap_or_default();
        if !kind.is_empty() {
            check.one_of(path.field("type"), kind, &HOST_PATH_TYPES[1..]);
        }
    }
    let secret = volume.secret.as_ref().map(|secret| secret.secret_name.as_deref());
    if secret.is_some_and(|name| name.unwrap_or_default().is_empty()) {
        check.required(path.field("secret").field("secretName"), "");
    }
    if volume.config_map.as_ref().is_some_and(|map| map.name.is_empty()) {
        check.required(path.field("configMap").field("name"), "");
    }
    let limit = volume.empty_dir.as_ref().and_then(|dir| dir.size_limit.as_ref());
    if let Some(Err(error)) = limit.map(|limit| limit.0.parse::<Quantity>()) {
        let path = path.field("emptyDir").field("sizeLimit");
        check.invalid(path, limit.map(|limit| limit.0.as_str()), error.to_string());
    }
}
