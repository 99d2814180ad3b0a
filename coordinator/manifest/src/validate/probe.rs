//! Probes and life-cycle hooks of a container.

use k8s_openapi::api::core::v1::{
    Container, ExecAction, HTTPGetAction, Probe, SleepAction, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::syntax;
use crate::FieldPath;
use crate::check::Check;

/// Checks the probes and hooks of `container`, of a pod that is given `grace` seconds to stop.
pub(super) fn check(check: &mut Check, path: &FieldPath, container: &Container, grace: i64) {
    for (name, probe) in [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ] {
        let Some(probe) = probe else { continue };
        let path = path.field(name);
        check_probe(check, &path, probe);
        if name == "readinessProbe" {
            if let Some(seconds) = probe.termination_grace_period_seconds {
                let rule = "must not be set for readinessProbes";
                check.invalid(path.field("terminationGracePeriodSeconds"), seconds, rule);
            }
        } else if probe.success_threshold.is_some_and(|times| times != 1) {
            check.invalid(path.field("successThreshold"), probe.success_threshold, "must be 1");
        }
    }
    let Some(lifecycle) = &container.lifecycle else { return };
    for (name, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
        let Some(hook) = hook else { continue };
        let handlers = [
            hook.exec.as_ref().map(Handler::Exec),
            hook.http_get.as_ref().map(Handler::Get),
            hook.tcp_socket.as_ref().map(Handler::Socket),
            hook.sleep.as_ref().map(Handler::Sleep),
        ];
        let path = path.field("lifecycle").field(name);
        check_handlers(check, &path, handlers.into_iter().flatten(), grace);
    }
}

fn check_probe(check: &mut Check, path: &FieldPath, probe: &Probe) {
    let handlers = [
        probe.exec.as_ref().map(Handler::Exec),
        probe.http_get.as_ref().map(Handler::Get),
        probe.tcp_socket.as_ref().map(Handler::Socket),
        probe.grpc.as_ref().map(|grpc| Handler::Grpc(grpc.port)),
    ];
    check_handlers(check, path, handlers.into_iter().flatten(), 0);
    for (name, number) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        check.not_negative(path.field(name), number);
    }
    let grace = probe.termination_grace_period_seconds;
    if let Some(seconds) = grace.filter(|seconds| *seconds <= 0) {
        let path = path.field("terminationGracePeriodSeconds");
        check.invalid(path, seconds, "must be greater than 0");
    }
}

/// What a probe or a hook does.
enum Handler<'a> {
    Exec(&'a ExecAction),
    Get(&'a HTTPGetAction),
    Socket(&'a TCPSocketAction),
    Grpc(i32),
    Sleep(&'a SleepAction),
}

impl Handler<'_> {
    const fn field(&self) -> &'static str {
        match self {
            Self::Exec(_) => "exec",
            Self::Get(_) => "httpGet",
            Self::Socket(_) => "tcpSocket",
            Self::Grpc(_) => "grpc",
            Self::Sleep(_) => "sleep",
        }
    }
}

/// Checks that there is just one handler, and that one.
fn check_handlers<'a>(
    check: &mut Check,
    path: &FieldPath,
    mut given: impl Iterator<Item = Handler<'a>>,
    grace: i64,
) {
    let Some(first) = given.next() else {
        return check.required(path.clone(), "must specify a handler type");
    };
    check_handler(check, &path.field(first.field()), &first, grace);
    for other in given {
        check.forbidden(path.field(other.field()), "may not specify more than 1 handler type");
    }
}

fn check_handler(check: &mut Check, path: &FieldPath, handler: &Handler<'_>, grace: i64) {
    match handler {
        Handler::Exec(exec) => {
            if exec.command.as_ref().is_none_or(Vec::is_empty) {
                check.required(path.field("command"), "");
            }
        }
        Handler::Get(get) => check_get(check, path, get),
        Handler::Socket(socket) => check_port(check, &path.field("port"), &socket.port),
        Handler::Grpc(port) => {
            check.each(&path.field("port"), *port, syntax::port_number(*port));
        }
        Handler::Sleep(sleep) => {
            // A grace period below zero is an error of its own.
            if grace >= 0 && !(0..=grace).contains(&sleep.seconds) {
                let rule = format!(
                    "must be non-negative and less than terminationGracePeriodSeconds ({grace})"
                );
                check.invalid_at(path.clone(), path.field("seconds"), sleep.seconds, rule);
            }
        }
    }
}

fn check_get(check: &mut Check, path: &FieldPath, get: &HTTPGetAction) {
    if get.path.as_deref().unwrap_or_default().is_empty() {
        check.required(path.field("path"), "");
    }
    check_port(check, &path.field("port"), &get.port);
    let scheme = get.scheme.as_deref().unwrap_or_default();
    if !["HTTP", "HTTPS"].contains(&scheme) {
        check.unsupported(path.field("scheme"), scheme, &["HTTP", "HTTPS"]);
    }
    let path = path.field("httpHeaders");
    for (index, header) in get.http_headers.iter().flatten().enumerate() {
        let at = path.index(index).field("name");
        check.each_at(&path, &at, header.name.as_str(), syntax::http_header(&header.name));
    }
}

fn check_port(check: &mut Check, path: &FieldPath, port: &IntOrString) {
    match port {
        IntOrString::Int(number) => check.each(path, *number, syntax::port_number(*number)),
        IntOrString::String(name) => check.each(path, name.as_str(), syntax::port_name(name)),
    }
}
