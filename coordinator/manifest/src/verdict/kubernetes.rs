//! Who needs the Kubernetes API, a kubelet's registry, Services or Windows, by what is written.
//!
//! The facts: a service account whose token is mounted, an API server or a kubeconfig that is
//! named to a program, a Service's DNS name, a resource that only a device plug-in gives, an
//! operating system. That a program is told its node's name (`spec.nodeName`) is none: many use it
//! as a label.

use k8s_openapi::api::core::v1::{Container, NodeSelectorTerm, PodSpec};

use super::{Findings, Lack, containers};
use crate::FieldPath;

/// What Kubernetes sets in every container for its API's Service; a program that is given or told
/// one calls it.
const API_VARIABLES: [&str; 5] = [
    "KUBECONFIG",
    "KUBERNETES_MASTER",
    "KUBERNETES_SERVICE_HOST",
    "KUBERNETES_SERVICE_PORT",
    "KUBERNETES_SERVICE_PORT_HTTPS",
];

/// The label by which a pod asks for an operating system, now and before 1.14.
const OS_LABELS: [&str; 2] = ["kubernetes.io/os", "beta.kubernetes.io/os"];

const NO_WINDOWS: &str = "is for Windows; Everynode's nodes run Linux";

pub(super) fn look(findings: &mut Findings, at: &FieldPath, pod: &PodSpec) {
    service_account(findings, at, pod);
    windows(findings, at, pod);
    if pod.resource_claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
        let why =
            "devices are claimed through the Kubernetes API (ResourceClaim), which is not here";
        findings.cannot(at.field("resourceClaims"), Lack::DevicePlugins, why);
    }
    for (path, container) in containers(at, pod) {
        texts(findings, &path, container);
        extended_resources(findings, &path, container);
    }
}

/// Kubernetes mounts the token of a pod's service account, and one that is named was made for its
/// rights. The one called `default`, which all others have, is given none.
fn service_account(findings: &mut Findings, at: &FieldPath, pod: &PodSpec) {
    let name = pod.service_account_name.as_deref().unwrap_or_default();
    if ["", "default"].contains(&name) || pod.automount_service_account_token == Some(false) {
        return;
    }
    let why = format!(
        "its pods are given the token of service account {name:?} for the Kubernetes API, and \
         there is none here; if they do without, set automountServiceAccountToken: false"
    );
    findings.cannot(at.field("serviceAccountName"), Lack::KubernetesApi, why);
}

/// What a program is told, in its command line and its environment.
fn texts(findings: &mut Findings, path: &FieldPath, container: &Container) {
    for (field, list) in [("command", &container.command), ("args", &container.args)] {
        for (index, text) in list.iter().flatten().enumerate() {
            let at = path.field(field).index(index);
            if names_a_kubeconfig(text) {
                let why = "the program is told of a kubeconfig: it calls a Kubernetes API";
                findings.cannot(at, Lack::KubernetesApi, why);
            } else if text.contains("--kubelet-registration-path") {
                let why = "registers a driver with the kubelet, and nodes here have none";
                findings.cannot(at, Lack::KubeletPlugins, why);
            } else {
                address(findings, at, text);
            }
        }
    }
    for (index, variable) in container.env.iter().flatten().enumerate() {
        let at = path.field("env").index(index);
        if API_VARIABLES.contains(&variable.name.as_str()) {
            let why = format!("{} tells the program of a Kubernetes API server", variable.name);
            findings.cannot(at.field("name"), Lack::KubernetesApi, why);
        } else if let Some(value) = &variable.value {
            address(findings, at.field("value"), value);
        }
    }
}

/// Whether it is the flag that nearly every client of the API has, with a value.
fn names_a_kubeconfig(argument: &str) -> bool {
    let flag = argument.trim_start_matches('-');
    flag != argument
        && match flag.split_once('=') {
            Some((name, value)) => name == "kubeconfig" && !value.is_empty(),
            None => flag == "kubeconfig",
        }
}

fn address(findings: &mut Findings, at: FieldPath, text: &str) {
    if text.contains("KUBERNETES_SERVICE_HOST") || text.contains("kubernetes.default") {
        let why = "names the Kubernetes API server, which is not here";
        findings.cannot(at, Lack::KubernetesApi, why);
    } else if names_a_service(text) {
        let why = "names a Service of Kubernetes (NAME.NAMESPACE.svc): there are none here; give \
                   an address that the machine can resolve";
        findings.without(at, Lack::Services, why);
    }
}

/// Whether the text has the domain of Services, as a whole label of a name.
fn names_a_service(text: &str) -> bool {
    let behind = |(at, found): (usize, &str)| text[at + found.len()..].chars().next();
    text.match_indices(".svc").any(|found| {
        behind(found).is_none_or(|next| !next.is_alphanumeric() && !['-', '_'].contains(&next))
    })
}

/// Resources with a domain of someone's own: only a device plug-in gives a node any.
fn extended_resources(findings: &mut Findings, path: &FieldPath, container: &Container) {
    let Some(resources) = &container.resources else { return };
    for (field, list) in [("limits", &resources.limits), ("requests", &resources.requests)] {
        for name in list.iter().flat_map(|list| list.keys()) {
            let domain = name.split_once('/').map(|(domain, _)| domain);
            if domain.is_some_and(|domain| !domain.ends_with("kubernetes.io")) {
                let path = path.field("resources").field(field).key(name);
                let why = format!("only a device plug-in of a kubelet gives nodes any {name}");
                findings.cannot(path, Lack::DevicePlugins, why);
            }
        }
    }
}

fn windows(findings: &mut Findings, at: &FieldPath, pod: &PodSpec) {
    let mut found = |path: FieldPath| findings.cannot(path, Lack::Windows, NO_WINDOWS);
    if pod.os.as_ref().is_some_and(|os| os.name == "windows") {
        found(at.down("os.name"));
    }
    for label in OS_LABELS {
        let wanted = pod.node_selector.as_ref().and_then(|labels| labels.get(label));
        if wanted.is_some_and(|os| os == "windows") {
            found(at.field("nodeSelector").key(label));
        }
    }
    let affinity = pod.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        affinity.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    if required.is_some_and(|required| {
        !required.node_selector_terms.is_empty()
            && required.node_selector_terms.iter().all(is_for_windows)
    }) {
        let required = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution";
        found(at.down(required).field("nodeSelectorTerms"));
    }
    if pod.security_context.as_ref().is_some_and(|context| context.windows_options.is_some()) {
        found(at.down("securityContext.windowsOptions"));
    }
    for (path, container) in containers(at, pod) {
        let context = container.security_context.as_ref();
        if context.is_some_and(|context| context.windows_options.is_some()) {
            found(path.down("securityContext.windowsOptions"));
        }
    }
}

fn is_for_windows(term: &NodeSelectorTerm) -> bool {
    term.match_expressions.iter().flatten().any(|wanted| {
        OS_LABELS.contains(&wanted.key.as_str())
            && wanted.operator == "In"
            && wanted.values.as_deref() == Some(&["windows".to_owned()])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_counts_only_with_a_value() {
        for told in ["--kubeconfig=/a", "-kubeconfig=/a", "--kubeconfig"] {
            assert!(names_a_kubeconfig(told), "{told}");
        }
        for not in ["--kubeconfig=", "kubeconfig", "--kubeconfig-dir=/a", "--config=/kubeconfig"] {
            assert!(!names_a_kubeconfig(not), "{not}");
        }
    }

    #[test]
    fn a_service_is_a_whole_label() {
        for named in ["a.b.svc", "http://a.b.svc:80/x", "a.b.svc.cluster.local", "x=a.b.svc/"] {
            assert!(names_a_service(named), "{named}");
        }
        for not in ["a.svcs", "a.svc-x.org", "svc", "/a/b.service"] {
            assert!(!names_a_service(not), "{not}");
        }
    }
}
