//! `spec.template.spec`: the pod as a whole.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::{PROCESS, container, names, placement, volume};
use crate::FieldPath;
use crate::check::Check;

/// Checks the pod, whose defaults are filled in.
pub(super) fn check(check: &mut Check, path: &FieldPath, pod: &PodSpec) {
    check_life(check, path, pod);
    check.one_of(
        path.field("dnsPolicy"),
        pod.dns_policy.as_deref().unwrap_or_default(),
        &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
    );
    if let Some(class) = &pod.runtime_class_name {
        names::subdomain(check, path.field("runtimeClassName"), class);
    }
    if let Some(account) = &pod.service_account_name {
        names::subdomain(check, path.field("serviceAccountName"), account);
    }
    check_security(check, path, pod);
    placement::check(check, path, pod);
    let volumes =
        volume::check(check, &path.field("volumes"), pod.volumes.as_deref().unwrap_or_default());
    check_containers(check, path, pod, &volumes);
    if is_process(pod) && pod.host_network != Some(true) {
        let message = "processes share the host's network: say so with `hostNetwork: true`";
        check.warn(path.field("hostNetwork"), message);
    }
}

/// Whether the pod's containers are processes of the host.
pub(crate) fn is_process(pod: &PodSpec) -> bool {
    pod.runtime_class_name.as_deref() == Some(PROCESS)
}

fn check_life(check: &mut Check, path: &FieldPath, pod: &PodSpec) {
    let restart = pod.restart_policy.as_deref().unwrap_or_default();
    check.one_of(path.field("restartPolicy"), restart, &["Always"]);
    if pod.active_deadline_seconds.is_some() {
        check.forbidden(
            path.field("activeDeadlineSeconds"),
            "activeDeadlineSeconds in a DaemonSet is not supported",
        );
    }
    let grace = pod.termination_grace_period_seconds;
    check.not_negative(path.field("terminationGracePeriodSeconds"), grace);
    if pod.ephemeral_containers.as_ref().is_some_and(|containers| !containers.is_empty()) {
        check.forbidden(
            path.field("ephemeralContainers"),
            "ephemeral containers are not allowed in a pod template",
        );
    }
}

fn check_security(check: &mut Check, path: &FieldPath, pod: &PodSpec) {
    let Some(security) = &pod.security_context else { return };
    let path = path.field("securityContext");
    for (name, id) in [
        ("runAsUser", security.run_as_user),
        ("runAsGroup", security.run_as_group),
        ("fsGroup", security.fs_group),
    ] {
        container::check_id(check, path.field(name), id);
    }
    for (index, group) in security.supplemental_groups.iter().flatten().enumerate() {
        container::check_id(check, path.field("supplementalGroups").index(index), Some(*group));
    }
    if let Some(profile) = &security.seccomp_profile {
        container::check_seccomp(check, &path.field("seccompProfile"), profile);
    }
    if pod.host_pid == Some(true) && pod.share_process_namespace == Some(true) {
        check.invalid(
            path.field("shareProcessNamespace"),
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        );
    }
}

fn check_containers(check: &mut Check, path: &FieldPath, pod: &PodSpec, volumes: &BTreeSet<&str>) {
    let list = path.field("containers");
    if pod.containers.is_empty() {
        check.required(list.clone(), "a pod has at least one container");
    }
    let init = path.field("initContainers");
    let all = pod.init_containers.iter().flatten().enumerate().map(|(i, c)| (init.index(i), c));
    let all = all.chain(pod.containers.iter().enumerate().map(|(i, c)| (list.index(i), c)));
    let mut taken = BTreeSet::new();
    let mut host_ports = BTreeSet::new();
    for (path, container) in all {
        check_name(check, &path, container, &mut taken);
        container::check(check, &path, container, pod, volumes);
        for (index, port) in container.ports.iter().flatten().enumerate() {
            let Some(number) = port.host_port else { continue };
            let port = (port.protocol.as_deref(), port.host_ip.as_deref(), number);
            if !host_ports.insert(port) && path.starts_with(&list) {
                check.duplicate(path.field("ports").index(index).field("hostPort"), number);
            }
        }
    }
}

fn check_name<'a>(
    check: &mut Check,
    path: &FieldPath,
    container: &'a Container,
    taken: &mut BTreeSet<&'a str>,
) {
    let name = container.name.as_str();
    if name.is_empty() {
        check.required(path.field("name"), "");
    } else if taken.insert(name) {
        names::label(check, path.field("name"), name);
    } else {
        check.duplicate(path.field("name"), name);
    }
}
