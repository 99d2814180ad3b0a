//! What Kubernetes' API server fills in where a DaemonSet says nothing.
//!
//! A default that is added here needs its entry among the defaults that the normal form drops, or
//! every template that says nothing gets another revision.
//!
//! Left out are defaults of volume types that no machine outside a cloud has (rbd, scaleIO, …).

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, RollingUpdateDaemonSet};
use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, ObjectFieldSelector, PodSpec, Probe, Volume,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The permissions of files in volumes: `0644`.
const DEFAULT_MODE: i32 = 0o644;

/// Fills in the defaults. What is there stays as it is.
pub(crate) fn fill_in(set: &mut DaemonSet) {
    set.metadata.namespace.get_or_insert_with(|| "default".into());
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
    if strategy.type_.get_or_insert_with(|| "RollingUpdate".into()) == "RollingUpdate" {
        let rolling: &mut RollingUpdateDaemonSet = strategy.rolling_update.get_or_insert_default();
        rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
        rolling.max_surge.get_or_insert(IntOrString::Int(0));
    }
}

fn fill_in_pod(pod: &mut PodSpec) {
    pod.restart_policy.get_or_insert_with(|| "Always".into());
    pod.dns_policy.get_or_insert_with(|| "ClusterFirst".into());
    pod.scheduler_name.get_or_insert_with(|| "default-scheduler".into());
    pod.termination_grace_period_seconds.get_or_insert(30);
    pod.security_context.get_or_insert_default();
    // One field under an old and a new name; the new one wins.
    let account = pod.service_account_name.take().or_else(|| pod.service_account.take());
    pod.service_account.clone_from(&account);
    pod.service_account_name = account;
}

fn fill_in_container(container: &mut Container, host_network: bool) {
    container.termination_message_path.get_or_insert_with(|| "/dev/termination-log".into());
    container.termination_message_policy.get_or_insert_with(|| "File".into());
    container.resources.get_or_insert_default();
    if let Some(image) = &container.image {
        container.image_pull_policy.get_or_insert_with(|| pull_policy(image).into());
    }
    for port in container.ports.iter_mut().flatten() {
        port.protocol.get_or_insert_with(|| "TCP".into());
        if host_network {
            port.host_port.get_or_insert(port.container_port);
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
            get.path.get_or_insert_with(|| "/".into());
            get.scheme.get_or_insert_with(|| "HTTP".into());
        }
    }
}

fn fill_in_probe(probe: &mut Probe) {
    probe.timeout_seconds.get_or_insert(1);
    probe.period_seconds.get_or_insert(10);
    probe.success_threshold.get_or_insert(1);
    probe.failure_threshold.get_or_insert(3);
    if let Some(get) = &mut probe.http_get {
        get.path.get_or_insert_with(|| "/".into());
        get.scheme.get_or_insert_with(|| "HTTP".into());
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
    if let Some(image) = &mut volume.image {
        let reference = image.reference.clone().unwrap_or_default();
        image.pull_policy.get_or_insert_with(|| pull_policy(&reference).into());
    }
}

fn fill_in_field_ref(field: Option<&mut ObjectFieldSelector>) {
    if let Some(field) = field {
        field.api_version.get_or_insert_with(|| "v1".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
