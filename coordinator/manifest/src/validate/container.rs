//! `spec.template.spec.containers[*]` and `initContainers[*]`: what all of them share.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, ContainerPort, PodSpec, Volume};

use super::process::{self, is_process};
use super::{env, mounts, resources, security, syntax};
use crate::FieldPath;
use crate::check::Check;

/// What a container refers to in its pod.
pub(super) struct Context<'a> {
    pub(super) volumes: BTreeMap<&'a str, &'a Volume>,
    pub(super) claims: BTreeSet<&'a str>,
    pub(super) host_network: bool,
    pub(super) host_users: bool,
    pub(super) grace: i64,
    process: bool,
}

impl<'a> Context<'a> {
    pub(super) fn new(pod: &'a PodSpec, volumes: &'a [Volume]) -> Self {
        let claims = pod.resource_claims.iter().flatten().map(|claim| claim.name.as_str());
        Self {
            volumes: volumes.iter().map(|volume| (volume.name.as_str(), volume)).collect(),
            claims: claims.filter(|name| !name.is_empty()).collect(),
            host_network: pod.host_network == Some(true),
            host_users: pod.host_users != Some(false),
            grace: pod.termination_grace_period_seconds.unwrap_or(30),
            process: is_process(pod),
        }
    }
}

/// Checks a container, all but its name, its probes and its hooks.
pub(super) fn check(
    check: &mut Check,
    path: &FieldPath,
    container: &Container,
    context: &Context<'_>,
) {
    process::check_program(check, path, container, context.process);
    check_policies(check, path, container);
    check_ports(check, &path.field("ports"), container, context.host_network);
    env::check(check, path, container, context);
    mounts::check(check, path, container, context);
    if let Some(wanted) = &container.resources {
        resources::check(check, &path.field("resources"), wanted, &context.claims);
    }
    if let Some(security) = &container.security_context {
        security::check_container(check, &path.field("securityContext"), security, context);
    }
}

fn check_policies(check: &mut Check, path: &FieldPath, container: &Container) {
    let pull = container.image_pull_policy.as_deref();
    let policies = ["Always", "IfNotPresent", "Never"];
    check.any_of(path.field("imagePullPolicy"), pull, &policies);
    let message = container.termination_message_policy.as_deref().unwrap_or_default();
    let policies = ["File", "FallbackToLogsOnError"];
    check.one_of(path.field("terminationMessagePolicy"), message, &policies);
    let mut taken = BTreeSet::new();
    for (index, resize) in container.resize_policy.iter().flatten().enumerate() {
        let path = path.field("resizePolicy").index(index);
        if !taken.insert(resize.resource_name.as_str()) {
            check.duplicate(path.clone(), resize.resource_name.as_str());
        }
        check.one_of(path.field("resourceName"), &resize.resource_name, &["cpu", "memory"]);
        let policies = ["NotRequired", "RestartContainer"];
        check.one_of(path.field("restartPolicy"), &resize.restart_policy, &policies);
    }
}

fn check_ports(check: &mut Check, path: &FieldPath, container: &Container, host_network: bool) {
    let mut taken = BTreeSet::new();
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let path = path.index(index);
        check_port(check, &path, port, &mut taken);
        let host = port.host_port.unwrap_or(0);
        if host_network && ![0, port.container_port].contains(&host) {
            let rule = "must match `containerPort` when `hostNetwork` is true";
            check.invalid(path.field("hostPort"), host, rule);
        }
    }
}

fn check_port<'a>(
    check: &mut Check,
    path: &FieldPath,
    port: &'a ContainerPort,
    taken: &mut BTreeSet<&'a str>,
) {
    if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
        let messages = syntax::port_name(name);
        if messages.is_empty() && !taken.insert(name) {
            check.duplicate(path.field("name"), name);
        }
        check.each(&path.field("name"), name, messages);
    }
    match port.container_port {
        0 => check.required(path.field("containerPort"), ""),
        number => {
            check.each(&path.field("containerPort"), number, syntax::port_number(number));
        }
    }
    // Where it was filled in from a containerPort out of range, that has been said above.
    if let Some(number) = port.host_port.filter(|number| ![0, port.container_port].contains(number))
    {
        check.each(&path.field("hostPort"), number, syntax::port_number(number));
    }
    let protocol = port.protocol.as_deref().unwrap_or_default();
    check.one_of(path.field("protocol"), protocol, &["SCTP", "TCP", "UDP"]);
}
