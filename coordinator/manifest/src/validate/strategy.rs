//! `spec.updateStrategy`.
//!
//! One rule is Everynode's own: Kubernetes admits a surge of pods that hold a port of their machine, and
//! the rollout then stands still, since on each machine the old pod has what the new one waits for.

use everynode_model::IntOrPercent;
use k8s_openapi::api::apps::v1::DaemonSetUpdateStrategy;
use k8s_openapi::api::core::v1::{ContainerPort, PodSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use super::syntax;
use crate::FieldPath;
use crate::check::Check;

/// Checks the strategy, whose defaults are filled in.
pub(super) fn check(
    check: &mut Check,
    path: &FieldPath,
    strategy: Option<&DaemonSetUpdateStrategy>,
    pod: Option<&PodSpec>,
) {
    let Some(strategy) = strategy else { return };
    let kind = strategy.type_.as_deref().unwrap_or_default();
    if !["OnDelete", "RollingUpdate"].contains(&kind) {
        check.unsupported(path.clone(), json!({"type": kind}), &["RollingUpdate", "OnDelete"]);
    }
    let Some(rolling) = strategy.rolling_update.as_ref().filter(|_| kind == "RollingUpdate") else {
        return;
    };
    let path = path.field("rollingUpdate");
    let unavailable = read(check, path.field("maxUnavailable"), rolling.max_unavailable.as_ref());
    let surge = read(check, path.field("maxSurge"), rolling.max_surge.as_ref());
    let (Some(unavailable), Some(surge)) = (unavailable, surge) else { return };
    match (unavailable.is_zero(), surge.is_zero()) {
        (false, false) => {
            let rule = "may not be set when maxUnavailable is non-zero";
            check.invalid(path.field("maxSurge"), json_of(&surge), rule);
        }
        (true, true) => {
            check.required(path.field("maxUnavailable"), "cannot be 0 when maxSurge is 0");
        }
        _ => {}
    }
    let port = pod.filter(|_| !surge.is_zero()).and_then(port_of_the_machine);
    if let Some((at, number)) = port {
        let rule = format!(
            "may not be set where a pod holds a port of its machine ({at}: {number}): the new pod \
             would wait for what the old one has; set maxSurge to 0 and maxUnavailable to 1"
        );
        check.invalid(path.field("maxSurge"), json_of(&surge), &rule);
    }
}

/// The first port of the machine that a container declares, and where: `hostPort`, or any port in a pod
/// that shares the machine's network.
fn port_of_the_machine(pod: &PodSpec) -> Option<(FieldPath, i32)> {
    let shares = pod.host_network == Some(true);
    let containers = FieldPath::fields("spec.template.spec.containers");
    pod.containers.iter().enumerate().find_map(|(index, container)| {
        let ports = containers.clone().index(index).field("ports");
        let held = |(index, port): (usize, &ContainerPort)| {
            let at = ports.clone().index(index);
            match port.host_port.filter(|number| *number != 0) {
                Some(number) => Some((at.field("hostPort"), number)),
                None if shares => Some((at.field("containerPort"), port.container_port)),
                None => None,
            }
        };
        container.ports.iter().flatten().enumerate().find_map(held)
    })
}

/// The number or share, where it is one; else the error has been noted.
fn read(check: &mut Check, path: FieldPath, value: Option<&IntOrString>) -> Option<IntOrPercent> {
    match value? {
        IntOrString::Int(number) => {
            check.not_negative(path, Some(*number));
            u32::try_from(*number).ok().map(IntOrPercent::Int)
        }
        IntOrString::String(text) => {
            let messages = syntax::percent(text);
            if !messages.is_empty() {
                check.each(&path, text.as_str(), messages);
                return None;
            }
            match IntOrPercent::parse(text) {
                Ok(percent @ IntOrPercent::Percent(0..=100)) => Some(percent),
                _ => {
                    check.invalid(path, text.as_str(), "must not be greater than 100%");
                    None
                }
            }
        }
    }
}

fn json_of(value: &IntOrPercent) -> serde_json::Value {
    match value {
        IntOrPercent::Int(number) => (*number).into(),
        IntOrPercent::Percent(_) => value.to_string().into(),
    }
}
