//! Probes and life-cycle hooks of a container.

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::names;
use crate::FieldPath;
use crate::check::Check;

/// Checks the probes and hooks of `container`.
pub(super) fn check(check: &mut Check, path: &FieldPath, container: &Container) {
    for (name, probe, only_one_success) in [
        ("livenessProbe", &container.liveness_probe, true),
        ("readinessProbe", &container.readiness_probe, false),
        ("startupProbe", &container.startup_probe, true),
    ] {
        let Some(probe) = probe else { continue };
        let path = path.field(name);
        check_probe(check, &path, probe);
        if only_one_success && probe.success_threshold.is_some_and(|times| times != 1) {
            check.invalid(path.field("successThreshold"), probe.success_threshold, "must be 1");
        }
    }
    let Some(lifecycle) = &container.lifecycle else { return };
    for (name, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
        let Some(hook) = hook else { continue };
        let path = path.field("lifecycle").field(name);
        let handlers = [
            hook.exec.is_some(),
            hook.http_get.is_some(),
            hook.tcp_socket.is_some(),
            hook.sleep.is_some(),
        ];
        check_handlers(check, &path, &handlers);
        check_get(check, &path, hook.http_get.as_ref());
    }
}

fn check_probe(check: &mut Check, path: &FieldPath, probe: &Probe) {
    let handlers = [
        probe.exec.is_some(),
        probe.http_get.is_some(),
        probe.tcp_socket.is_some(),
        probe.grpc.is_some(),
    ];
    check_handlers(check, path, &handlers);
    check_get(check, path, probe.http_get.as_ref());
    if let Some(socket) = &probe.tcp_socket {
        check_port(check, path.field("tcpSocket").field("port"), &socket.port);
    }
    if let Some(grpc) = &probe.grpc {
        names::port_number(check, path.field("grpc").field("port"), grpc.port);
    }
    if probe.exec.as_ref().is_some_and(|exec| exec.command.as_ref().is_none_or(Vec::is_empty)) {
        check.required(path.field("exec").field("command"), "");
    }
    check.not_negative(path.field("initialDelaySeconds"), probe.initial_delay_seconds);
    for (name, number) in [
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        if let Some(number) = number.filter(|number| *number < 1) {
            check.invalid(path.field(name), number, "must be greater than or equal to 1");
        }
    }
}

fn check_handlers(check: &mut Check, path: &FieldPath, given: &[bool]) {
    match given.iter().filter(|given| **given).count() {
        0 => check.required(path.clone(), "must specify a handler type"),
        1 => {}
        _ => check.forbidden(path.clone(), "may not specify more than 1 handler type"),
    }
}

fn check_get(check: &mut Check, path: &FieldPath, get: Option<&HTTPGetAction>) {
    let Some(get) = get else { return };
    let path = path.field("httpGet");
    check_port(check, path.field("port"), &get.port);
    let scheme = get.scheme.as_deref().unwrap_or_default();
    check.one_of(path.field("scheme"), scheme, &["HTTP", "HTTPS"]);
}

fn check_port(check: &mut Check, path: FieldPath, port: &IntOrString) {
    match port {
        IntOrString::Int(number) => names::port_number(check, path, *number),
        IntOrString::String(name) => names::port_name(check, path, name),
    }
}
