//! `spec.template.spec.volumes`.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, EphemeralVolumeSource, HostPathVolumeSource, KeyToPath,
    ProjectedVolumeSource, ServiceAccountTokenProjection, Volume,
};
use serde_json::Value;

use super::env::{FIELDS_FOR_FILES, check_field, check_resource};
use super::pod::check_unique_label;
use super::syntax;
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

/// What a source can't do without, and has no further rules for.
const REQUIRED: [(&str, &[&str]); 20] = [
    ("awsElasticBlockStore", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("azureFile", &["secretName", "shareName"]),
    ("cephfs", &["monitors"]),
    ("cinder", &["volumeID"]),
    ("configMap", &["name"]),
    ("flexVolume", &["driver"]),
    ("gcePersistentDisk", &["pdName"]),
    ("gitRepo", &["repository"]),
    ("glusterfs", &["endpoints", "path"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("nfs", &["server", "path"]),
    ("persistentVolumeClaim", &["claimName"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("quobyte", &["volume"]),
    ("rbd", &["monitors", "image"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("storageos", &["volumeName"]),
    ("vsphereVolume", &["volumePath"]),
];

/// Checks the volumes, whose defaults are filled in.
pub(super) fn check(check: &mut Check, path: &FieldPath, volumes: &[Volume]) {
    let mut taken = BTreeSet::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        check_unique_label(check, path.field("name"), &volume.name, &mut taken);
        check_sources(check, &path, volume);
    }
}

fn check_sources(check: &mut Check, path: &FieldPath, volume: &Volume) {
    // Every field but the name is a source.
    let fields = serde_json::to_value(volume).unwrap_or_default();
    let sources = fields.as_object().into_iter().flatten().filter(|(field, _)| *field != "name");
    for (number, (field, source)) in sources.enumerate() {
        let path = path.field(field);
        if number == 0 {
            check_required(check, &path, field, source);
            check_source(check, &path, volume, field);
        } else {
            check.forbidden(path, "may not specify more than 1 volume type");
        }
    }
}

fn check_required(check: &mut Check, path: &FieldPath, field: &str, source: &Value) {
    let required = REQUIRED.iter().find(|(name, _)| *name == field);
    for name in required.into_iter().flat_map(|(_, names)| names.iter()) {
        let given = match source.get(name) {
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(items)) => !items.is_empty(),
            _ => false,
        };
        if !given {
            check.required(path.field(name), "");
        }
    }
}

/// The rules of the source `field`, which is the only one that counts.
fn check_source(check: &mut Check, path: &FieldPath, volume: &Volume, field: &str) {
    match field {
        "configMap" => {
            let Some(source) = &volume.config_map else { return };
            check_mode(check, path.field("defaultMode"), source.default_mode);
            check_items(check, path, source.items.as_deref());
        }
        "csi" => {
            let Some(source) = &volume.csi else { return };
            check_driver(check, path.field("driver"), &source.driver);
            if let Some(secret) = &source.node_publish_secret_ref {
                let path = path.down("nodePublishSecretRef.name");
                match secret.name.as_str() {
                    "" => check.required(path, ""),
                    name => check.each(&path, name, syntax::dns_subdomain(name)),
                }
            }
        }
        "downwardAPI" => {
            let Some(source) = &volume.downward_api else { return };
            check_mode(check, path.field("defaultMode"), source.default_mode);
            for (index, file) in source.items.iter().flatten().enumerate() {
                check_file(check, path, &path.field("items").index(index), file);
            }
        }
        "emptyDir" => {
            let limit = volume.empty_dir.as_ref().and_then(|dir| dir.size_limit.as_ref());
            let path = path.field("sizeLimit");
            match limit.map(|limit| (limit, limit.0.parse::<Quantity>())) {
                Some((_, Ok(limit))) if limit.is_negative() => {
                    let rule = "SizeLimit field must be a valid resource quantity";
                    check.forbidden(path, rule);
                }
                Some((limit, Err(error))) => {
                    check.invalid(path, limit.0.as_str(), error.to_string());
                }
                _ => {}
            }
        }
        "ephemeral" => {
            let Some(source) = &volume.ephemeral else { return };
            check_claim(check, &path.field("volumeClaimTemplate"), source);
        }
        "gitRepo" => {
            let source = volume.git_repo.as_ref();
            if let Some(below) = source.and_then(|source| source.directory.as_deref()) {
                check.each(&path.field("directory"), below, syntax::descending_path(below));
            }
        }
        "hostPath" => {
            if let Some(source) = &volume.host_path {
                check_host_path(check, path, source);
            }
        }
        "image" => {
            let policy = volume.image.as_ref().and_then(|image| image.pull_policy.as_deref());
            let policies = ["Always", "IfNotPresent", "Never"];
            check.any_of(path.field("pullPolicy"), policy, &policies);
        }
        "nfs" => {
            let place = volume.nfs.as_ref().map(|nfs| nfs.path.as_str());
            if let Some(place) = place.filter(|place| !place.starts_with('/')) {
                check.invalid(path.field("path"), place, "must be an absolute path");
            }
        }
        "projected" => {
            let Some(source) = &volume.projected else { return };
            check_mode(check, path.field("defaultMode"), source.default_mode);
            check_projected(check, path, source);
        }
        "secret" => {
            let Some(source) = &volume.secret else { return };
            if source.secret_name.as_deref().unwrap_or_default().is_empty() {
                check.required(path.field("secretName"), "");
            }
            check_mode(check, path.field("defaultMode"), source.default_mode);
            check_items(check, path, source.items.as_deref());
        }
        _ => {}
    }
}

fn check_host_path(check: &mut Check, path: &FieldPath, source: &HostPathVolumeSource) {
    if source.path.is_empty() {
        return check.required(path.field("path"), "");
    }
    let place = source.path.as_str();
    check.each(&path.field("path"), place, syntax::no_backsteps(place));
    check.any_of(path.field("type"), source.type_.as_deref(), &HOST_PATH_TYPES);
}

fn check_driver(check: &mut Check, path: FieldPath, name: &str) {
    const MAX_BYTES: usize = 63;
    if name.is_empty() {
        return check.required(path, "");
    }
    if name.len() > MAX_BYTES {
        check.too_long(path.clone(), MAX_BYTES);
    }
    check.each(&path, name, syntax::dns_subdomain(&name.to_lowercase()));
}

fn check_claim(check: &mut Check, path: &FieldPath, source: &EphemeralVolumeSource) {
    let Some(template) = &source.volume_claim_template else {
        return check.required(path.clone(), "");
    };
    let modes = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
    let path = path.field("spec");
    let given = template.spec.access_modes.as_deref().unwrap_or_default();
    let at = path.field("accessModes");
    if given.is_empty() {
        check.required(at.clone(), "at least 1 access mode is required");
    }
    for mode in given {
        check.any_of(at.clone(), Some(mode.as_str()), &modes);
    }
    let resources = template.spec.resources.as_ref();
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    if requests.is_none_or(|requests| !requests.contains_key("storage")) {
        check.required(path.field("resources").key("storage"), "");
    }
}

fn check_mode(check: &mut Check, path: FieldPath, mode: Option<i32>) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        let rule = "must be a number between 0 and 0777 (octal), both inclusive";
        check.invalid(path, mode, rule);
    }
}

fn check_items(check: &mut Check, path: &FieldPath, items: Option<&[KeyToPath]>) {
    for (index, item) in items.unwrap_or_default().iter().enumerate() {
        let path = path.field("items").index(index);
        if item.key.is_empty() {
            check.required(path.field("key"), "");
        }
        check_local(check, path.field("path"), &item.path);
        check_mode(check, path.field("mode"), item.mode);
    }
}

/// Checks where in a volume a file is.
fn check_local(check: &mut Check, path: FieldPath, below: &str) {
    match below {
        "" => check.required(path, ""),
        below => check.each(&path, below, syntax::local_path(below)),
    }
}

/// Checks a file that shows a field of the pod. Kubernetes tells its faults by the volume, `path`.
fn check_file(check: &mut Check, path: &FieldPath, at: &FieldPath, file: &DownwardAPIVolumeFile) {
    check_local(check, at.field("path"), &file.path);
    match (&file.field_ref, &file.resource_field_ref) {
        (Some(_), Some(_)) => {
            let rule = "fieldRef and resourceFieldRef can not be specified simultaneously";
            check.invalid_at(path.clone(), at.clone(), "resource", rule);
        }
        (Some(field), None) => check_field(check, &at.field("fieldRef"), field, &FIELDS_FOR_FILES),
        (None, Some(field)) => check_resource(check, &at.field("resourceFieldRef"), field, true),
        (None, None) => {
            check.required(at.clone(), "one of fieldRef and resourceFieldRef is required");
        }
    }
    check_mode(check, at.field("mode"), file.mode);
}

/// Checks the parts of a projected volume, and that no two of them have the same file.
fn check_projected(check: &mut Check, path: &FieldPath, projected: &ProjectedVolumeSource) {
    let mut taken = BTreeSet::new();
    for (index, source) in projected.sources.iter().flatten().enumerate() {
        let at = path.field("sources").index(index);
        let keyed = [
            ("secret", source.secret.as_ref().map(|source| (&source.name, &source.items))),
            ("configMap", source.config_map.as_ref().map(|source| (&source.name, &source.items))),
        ];
        let mut sources = 0;
        for (field, keyed) in keyed {
            let Some((name, items)) = keyed else { continue };
            sources += 1;
            let at = at.field(field);
            if name.is_empty() {
                check.required(at.field("name"), "");
            }
            check_items(check, &at, items.as_deref());
            for (index, item) in items.iter().flatten().enumerate() {
                let at = at.field("items").index(index).field("path");
                check_taken(check, path, at, &item.path, &mut taken);
            }
        }
        if let Some(api) = &source.downward_api {
            sources += 1;
            let at = at.field("downwardAPI");
            for (index, file) in api.items.iter().flatten().enumerate() {
                let item = at.field("items").index(index);
                check_file(check, &at, &item, file);
                check_taken(check, path, item.field("path"), &file.path, &mut taken);
            }
        }
        if let Some(token) = &source.service_account_token {
            sources += 1;
            let at = at.field("serviceAccountToken");
            check_token(check, &at, token);
            check_taken(check, path, at.field("path"), &token.path, &mut taken);
        }
        if let Some(bundle) = &source.cluster_trust_bundle {
            sources += 1;
            let at = at.field("clusterTrustBundle");
            check_local(check, at.field("path"), &bundle.path);
            if bundle.name.is_none() && bundle.signer_name.is_none() {
                check.required(at.clone(), "either name or signerName must be specified");
            }
            check_taken(check, path, at.field("path"), &bundle.path, &mut taken);
        }
        sources += usize::from(source.pod_certificate.is_some());
        if sources > 1 {
            check.forbidden(at, "may not specify more than 1 volume type per source");
        }
    }
}

fn check_taken<'a>(
    check: &mut Check,
    path: &FieldPath,
    at: FieldPath,
    file: &'a str,
    taken: &mut BTreeSet<&'a str>,
) {
    if !file.is_empty() && !taken.insert(file) {
        check.invalid_at(path.clone(), at, file, "conflicting duplicate paths");
    }
}

fn check_token(check: &mut Check, path: &FieldPath, token: &ServiceAccountTokenProjection) {
    check_local(check, path.field("path"), &token.path);
    let at = path.field("expirationSeconds");
    match token.expiration_seconds {
        Some(seconds) if seconds < 600 => {
            check.invalid(at, seconds, "may not specify a duration less than 10 minutes");
        }
        Some(seconds) if seconds > 1 << 32 => {
            check.invalid(at, seconds, "may not specify a duration larger than 2^32 seconds");
        }
        _ => {}
    }
}
