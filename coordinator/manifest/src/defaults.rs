//! What Kubernetes' API server fills in where a DaemonSet says nothing.
//!
//! A default that is added here needs its entry among the defaults that the normal form drops, or
//! every template that says nothing gets another revision.

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, RollingUpdateDaemonSet};
use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, ObjectFieldSelector, PodSpec, Probe, Volume,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The permissions of files in volumes: `0644`.
const DEFAULT_MODE: i32 = 0o644;

/// Fills in the defaults. What is there stays as it is; an empty text is not there, nor, where
/// Kubernetes' own type can't tell it from nothing, is a 0.
pub(crate) fn fill_in(set: &mut DaemonSet) {
    text(&mut set.metadata.namespace, "default");
    fill_in_spec(&mut set.spec);
    let pod = set.spec.template.spec.get_or_insert_default();
    fill_in_pod(pod);
    let host_network = pod.host_network == Some(true);
    for container in pod.containers.iter_mut().chain(pod.init_containers.iter_mut().flatten()) {
        fill_in_container(container, host_network);
    }
    for volume in pod.volumes.iter_mut().flatten() {
        fill_in_volume(volume);
    }
}

/// Which policy an image gets without one: a tag that moves is looked up every time. The normal
/// form drops what this gives, so this is as frozen as that.
pub(crate) fn pull_policy(image: &str) -> &'static str {
    let name = image.rsplit('/').next().unwrap_or(image);
    match (image.contains('@'), name.split_once(':')) {
        (true, _) => "IfNotPresent",
        (false, None | Some((_, "latest"))) => "Always",
        (false, Some(_)) => "IfNotPresent",
    }
}

fn fill_in_spec(spec: &mut DaemonSetSpec) {
    spec.revision_history_limit.get_or_insert(10);
    let strategy = spec.update_strategy.get_or_insert_default();
    text(&mut strategy.type_, "RollingUpdate");
    if strategy.type_.as_deref() == Some("RollingUpdate") {
        let rolling: &mut RollingUpdateDaemonSet = strategy.rolling_update.get_or_insert_default();
        rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
        rolling.max_surge.get_or_insert(IntOrString::Int(0));
    }
}

fn fill_in_pod(pod: &mut PodSpec) {
    text(&mut pod.restart_policy, "Always");
    text(&mut pod.dns_policy, "ClusterFirst");
    text(&mut pod.scheduler_name, "default-scheduler");
    pod.termination_grace_period_seconds.get_or_insert(30);
    pod.security_context.get_or_insert_default();
    // One field under an old and a new name; the new one wins.
    let account = pod.service_account_name.take().or_else(|| pod.service_account.take());
    pod.service_account.clone_from(&account);
    pod.service_account_name = account;
}

fn fill_in_container(container: &mut Container, host_network: bool) {
    text(&mut container.termination_message_path, "/dev/termination-log");
    text(&mut container.termination_message_policy, "File");
    container.resources.get_or_insert_default();
    if let Some(image) = &container.image {
        text(&mut container.image_pull_policy, pull_policy(image));
    }
    for port in container.ports.iter_mut().flatten() {
        text(&mut port.protocol, "TCP");
        if host_network {
            number(&mut port.host_port, port.container_port);
        }
    }
    for variable in container.env.iter_mut().flatten() {
        let source = variable.value_from.as_mut();
        fill_in_field_ref(source.and_then(|source| source.field_ref.as_mut()));
    }
    let probes = [
        &mut container.liveness_probe,
        &mut container.readiness_probe,
        &mut container.startup_probe,
    ];
    probes.into_iter().flatten().for_each(fill_in_probe);
    let hooks = container.lifecycle.as_mut();
    let hooks = hooks.map(|lifecycle| [&mut lifecycle.post_start, &mut lifecycle.pre_stop]);
    for hook in hooks.into_iter().flatten().flatten() {
        if let Some(get) = &mut hook.http_get {
            text(&mut get.path, "/");
            text(&mut get.scheme, "HTTP");
        }
    }
}

fn fill_in_probe(probe: &mut Probe) {
    number(&mut probe.timeout_seconds, 1);
    number(&mut probe.period_seconds, 10);
    number(&mut probe.success_threshold, 1);
    number(&mut probe.failure_threshold, 3);
    if let Some(get) = &mut probe.http_get {
        text(&mut get.path, "/");
        text(&mut get.scheme, "HTTP");
    }
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn fill_in_volume(volume: &mut Volume) {
    let nameless = Volume { name: String::new(), ..volume.clone() };
    if nameless == Volume::default() {
        volume.empty_dir = Some(EmptyDirVolumeSource::default());
    }
    if let Some(source) = &mut volume.host_path {
        source.type_.get_or_insert_default();
    }
    if let Some(source) = &mut volume.config_map {
        source.default_mode.get_or_insert(DEFAULT_MODE);
    }
    if let Some(source) = &mut volume.secret {
        source.default_mode.get_or_insert(DEFAULT_MODE);
    }
    if let Some(source) = &mut volume.downward_api {
        source.default_mode.get_or_insert(DEFAULT_MODE);
        for item in source.items.iter_mut().flatten() {
            fill_in_field_ref(item.field_ref.as_mut());
        }
    }
    if let Some(source) = &mut volume.projected {
        source.default_mode.get_or_insert(DEFAULT_MODE);
        for source in source.sources.iter_mut().flatten() {
            if let Some(token) = &mut source.service_account_token {
                token.expiration_seconds.get_or_insert(3600);
            }
            for item in source.downward_api.iter_mut().flat_map(|api| &mut api.items).flatten() {
                fill_in_field_ref(item.field_ref.as_mut());
            }
        }
    }
    fill_in_remote(volume);
    if let Some(image) = &mut volume.image {
        let reference = image.reference.clone().unwrap_or_default();
        text(&mut image.pull_policy, pull_policy(&reference));
    }
}

/// Volumes that are somewhere else. No node mounts them; a manifest means by them what it always meant.
fn fill_in_remote(volume: &mut Volume) {
    if let Some(iscsi) = &mut volume.iscsi {
        text(&mut iscsi.iscsi_interface, "default");
    }
    if let Some(rbd) = &mut volume.rbd {
        text(&mut rbd.pool, "rbd");
        text(&mut rbd.user, "admin");
        text(&mut rbd.keyring, "/etc/ceph/keyring");
    }
    if let Some(disk) = &mut volume.azure_disk {
        disk.caching_mode.get_or_insert_with(|| "ReadWrite".into());
        disk.kind.get_or_insert_with(|| "Shared".into());
        disk.fs_type.get_or_insert_with(|| "ext4".into());
        disk.read_only.get_or_insert(false);
    }
    if let Some(scale_io) = &mut volume.scale_io {
        text(&mut scale_io.storage_mode, "ThinProvisioned");
        text(&mut scale_io.fs_type, "xfs");
    }
    let claim = volume.ephemeral.as_mut().and_then(|source| source.volume_claim_template.as_mut());
    if let Some(claim) = claim {
        claim.spec.volume_mode.get_or_insert_with(|| "Filesystem".into());
    }
}

fn fill_in_field_ref(field: Option<&mut ObjectFieldSelector>) {
    if let Some(field) = field {
        text(&mut field.api_version, "v1");
    }
}

fn text(field: &mut Option<String>, default: &str) {
    if field.as_deref().unwrap_or_default().is_empty() {
        *field = Some(default.into());
    }
}

fn number(field: &mut Option<i32>, default: i32) {
    if field.unwrap_or(0) == 0 {
        *field = Some(default);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What says nothing of these fields and what says the default are one template.
    #[test]
    fn volumes_elsewhere_get_their_defaults_and_mean_the_same() {
        use serde_json::json;
        for (source, default) in [
            (
                json!({"iscsi": {"targetPortal": "p", "iqn": "iqn.2001-04.example:x", "lun": 0}}),
                json!({"iscsi": {"iscsiInterface": "default"}}),
            ),
            (
                json!({"rbd": {"monitors": ["m"], "image": "i"}}),
                json!({"rbd": {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"}}),
            ),
            (
                json!({"azureDisk": {"diskName": "d", "diskURI": "u"}}),
                json!({"azureDisk": {"cachingMode": "ReadWrite", "kind": "Shared", "fsType": "ext4", "readOnly": false}}),
            ),
            (
                json!({"scaleIO": {"gateway": "g", "system": "s", "secretRef": {"name": "s"}}}),
                json!({"scaleIO": {"storageMode": "ThinProvisioned", "fsType": "xfs"}}),
            ),
        ] {
            let mut volume = source.clone();
            volume["name"] = "v".into();
            let mut typed: Volume = serde_json::from_value(volume.clone()).unwrap();
            fill_in_volume(&mut typed);
            let filled = serde_json::to_value(&typed).unwrap();
            let kind = source.as_object().unwrap().keys().next().unwrap();
            for (field, value) in default[kind].as_object().unwrap() {
                assert_eq!(&filled[kind][field], value, "{kind}.{field}");
            }
            let form = |volume: &serde_json::Value| {
                crate::normal_form(&json!({"spec": {"volumes": [volume]}}))
            };
            assert_eq!(form(&filled), form(&volume), "{kind}");
        }
    }

    #[test]
    fn only_a_moving_tag_is_looked_up_every_time() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("host:5000/nginx", "Always"),
            ("nginx:1.2", "IfNotPresent"),
            ("host:5000/nginx:1.2", "IfNotPresent"),
            ("nginx@sha256:00", "IfNotPresent"),
            ("nginx:latest@sha256:00", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }
}
