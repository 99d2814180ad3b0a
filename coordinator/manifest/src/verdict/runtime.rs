//! Fields that nobody acts on: of host processes by the table of what is honoured, of containers by
//! the little that only a cluster around them gives.

use everynode_model::PROCESS_FEATURES;
use k8s_openapi::api::core::v1::PodSpec;
use serde_json::Value;

use super::{Findings, Lack, containers};
use crate::honour::{Word, each_word};
use crate::{FieldPath, validate};

const NOT_SCHEDULED: &str = "not looked at: a pod is placed by nodeName, nodeSelector, required node \
                             affinity and taints alone";

/// Host processes: what has no effect, and features that no agent has yet.
pub(super) fn of_processes(
    findings: &mut Findings,
    at: &FieldPath,
    pod: &PodSpec,
    template: &Value,
) {
    network(findings, at, pod);
    let at = FieldPath::fields("spec.template");
    each_word(template, &mut |path, word| match word {
        Word::Ignored(why) => findings.without(at.join(path), Lack::Feature, why),
        Word::Needs(feature) if !PROCESS_FEATURES.contains(&feature) => {
            let why =
                format!("agents do not have the feature {feature} yet: its pods stay Pending");
            findings.cannot(at.join(path), Lack::Feature, why);
        }
        Word::Needs(_) => {}
    });
}

/// Containers: a runtime gives them nearly all that they ask for, but for what comes from a
/// scheduler, a network of pods, or an API.
pub(super) fn of_containers(findings: &mut Findings, at: &FieldPath, pod: &PodSpec) {
    scheduling(findings, at, pod);
    network(findings, at, pod);
    if pod.dns_policy.as_deref() == Some("ClusterFirstWithHostNet") {
        let why = "there is no cluster DNS: names are resolved as the machine does";
        findings.without(at.field("dnsPolicy"), Lack::Services, why);
    }
    if pod.subdomain.as_ref().is_some_and(|name| !name.is_empty()) {
        let why = "no DNS knows the pod by it: there are no Services";
        findings.without(at.field("subdomain"), Lack::Services, why);
    }
    if pod.readiness_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
        let why = "not waited for: such conditions are set through the Kubernetes API";
        findings.without(at.field("readinessGates"), Lack::KubernetesApi, why);
    }
}

/// A network of the pod's own, from which nothing leads anywhere.
fn network(findings: &mut Findings, at: &FieldPath, pod: &PodSpec) {
    if pod.host_network != Some(true) {
        let why = "there is no pod network: other machines do not reach the pod at an address of \
                   its own; to be reached, set hostNetwork: true";
        findings.without(at.field("hostNetwork"), Lack::PodNetwork, why);
        host_ports(findings, at, pod);
    }
}

fn scheduling(findings: &mut Findings, at: &FieldPath, pod: &PodSpec) {
    let priority = "not honoured: nothing is preempted or evicted to make room";
    let affinity = pod.affinity.as_ref();
    for (field, given, why) in [
        ("affinity.podAffinity", affinity.is_some_and(|a| a.pod_affinity.is_some()), NOT_SCHEDULED),
        (
            "affinity.podAntiAffinity",
            affinity.is_some_and(|affinity| affinity.pod_anti_affinity.is_some()),
            NOT_SCHEDULED,
        ),
        ("overhead", pod.overhead.is_some(), NOT_SCHEDULED),
        ("priorityClassName", pod.priority_class_name.is_some(), priority),
        (
            "schedulerName",
            pod.scheduler_name.as_ref().is_some_and(|name| name != "default-scheduler"),
            NOT_SCHEDULED,
        ),
        (
            "schedulingGates",
            pod.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()),
            "not waited for: such gates are lifted through the Kubernetes API",
        ),
        (
            "topologySpreadConstraints",
            pod.topology_spread_constraints.as_ref().is_some_and(|spread| !spread.is_empty()),
            NOT_SCHEDULED,
        ),
    ] {
        if given {
            findings.without(at.down(field), Lack::Scheduler, why);
        }
    }
}

/// A port of the host leads into a pod only by a plug-in of the pod network.
fn host_ports(findings: &mut Findings, at: &FieldPath, pod: &PodSpec) {
    for (path, container) in containers(at, pod) {
        for (path, ..) in validate::host_ports(&path, container) {
            let why = "not forwarded: there is no pod network; set hostNetwork: true";
            findings.without(path, Lack::PodNetwork, why);
        }
    }
}
