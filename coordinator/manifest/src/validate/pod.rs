//! `spec.template.spec`: the pod as a whole.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, ContainerPort, PodSpec, Volume};

use super::container::Context;
use super::{
    affinity, aggregate, container, placement, probe, process, resources, security, syntax, volume,
    windows,
};
use crate::FieldPath;
use crate::check::Check;

/// Checks the pod, whose defaults are filled in.
pub(super) fn check(check: &mut Check, path: &FieldPath, pod: &PodSpec) {
    check_life(check, path, pod);
    check_names(check, path, pod);
    check_resolver(check, path, pod);
    check_gates(check, path, pod);
    security::check_pod(check, path, pod);
    windows::check(check, path, pod);
    placement::check(check, path, pod);
    affinity::check(check, path, pod);
    let volumes = pod.volumes.as_deref().unwrap_or_default();
    volume::check(check, &path.field("volumes"), volumes);
    check_claims(check, &path.field("resourceClaims"), pod);
    resources::check_limits(check, &path.field("overhead"), pod.overhead.as_ref());
    aggregate::check(check, path, pod);
    check_containers(check, path, pod, volumes);
    process::check_pod(check, path, pod);
}

fn check_life(check: &mut Check, path: &FieldPath, pod: &PodSpec) {
    // Of another kind's pods Kubernetes would take more; here they would not help.
    check.any_of(path.field("restartPolicy"), pod.restart_policy.as_deref(), &["Always"]);
    if let Some(seconds) = pod.active_deadline_seconds {
        let path = path.field("activeDeadlineSeconds");
        if !(1..=i64::from(i32::MAX)).contains(&seconds) {
            check.invalid(path.clone(), seconds, "must be between 1 and 2147483647, inclusive");
        }
        check.forbidden(path, "activeDeadlineSeconds in DaemonSet is not Supported");
    }
    let grace = pod.termination_grace_period_seconds;
    check.not_negative(path.field("terminationGracePeriodSeconds"), grace);
    if pod.ephemeral_containers.as_ref().is_some_and(|containers| !containers.is_empty()) {
        let rule = "ephemeral containers not allowed in pod template";
        check.forbidden(path.field("ephemeralContainers"), rule);
    }
    let preemption = pod.preemption_policy.as_deref();
    check.any_of(path.field("preemptionPolicy"), preemption, &["PreemptLowerPriority", "Never"]);
    if let Some(os) = &pod.os {
        match os.name.as_str() {
            "" => check.required(path.down("os.name"), "cannot be empty"),
            name => check.any_of(path.field("os"), Some(name), &["linux", "windows"]),
        }
    }
}

fn check_names(check: &mut Check, path: &FieldPath, pod: &PodSpec) {
    let mut names = |field: &str, name: Option<&str>, form: fn(&str) -> Vec<String>| {
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            check.each(&path.field(field), name, form(name));
        }
    };
    names("hostname", pod.hostname.as_deref(), syntax::dns_label);
    names("subdomain", pod.subdomain.as_deref(), syntax::dns_label);
    names("nodeName", pod.node_name.as_deref(), syntax::dns_subdomain);
    names("priorityClassName", pod.priority_class_name.as_deref(), syntax::dns_subdomain);
    names("serviceAccountName", pod.service_account_name.as_deref(), syntax::dns_subdomain);
    names("hostnameOverride", pod.hostname_override.as_deref(), syntax::dns_subdomain);
    if let Some(class) = pod.runtime_class_name.as_deref() {
        check.each(&path.field("runtimeClassName"), class, syntax::dns_subdomain(class));
    }
}

/// `dnsPolicy`, `dnsConfig`, `hostAliases`.
fn check_resolver(check: &mut Check, path: &FieldPath, pod: &PodSpec) {
    /// What libc's resolver takes.
    const MAX_SERVERS: usize = 3;
    const MAX_SEARCHES: usize = 32;
    const MAX_SEARCH_CHARACTERS: usize = 2048;
    let policy = pod.dns_policy.as_deref().unwrap_or_default();
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    check.one_of(path.field("dnsPolicy"), policy, &policies);
    for (index, alias) in pod.host_aliases.iter().flatten().enumerate() {
        let path = path.field("hostAliases").index(index);
        check.each(&path.field("ip"), alias.ip.as_str(), syntax::ip(&alias.ip));
        for (index, name) in alias.hostnames.iter().flatten().enumerate() {
            let path = path.field("hostnames").index(index);
            check.each(&path, name.as_str(), syntax::dns_subdomain(name));
        }
    }
    let path = path.field("dnsConfig");
    let Some(config) = &pod.dns_config else {
        if policy == "None" {
            check.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        return;
    };
    let servers = config.nameservers.as_deref().unwrap_or_default();
    let at = path.field("nameservers");
    if policy == "None" && servers.is_empty() {
        let rule = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        check.required(at.clone(), rule);
    }
    if servers.len() > MAX_SERVERS {
        let rule = format!("must not have more than {MAX_SERVERS} nameservers");
        check.invalid(at.clone(), servers, rule);
    }
    for (index, server) in servers.iter().enumerate() {
        check.each(&at.index(index), server.as_str(), syntax::ip(server));
    }
    let searches = config.searches.as_deref().unwrap_or_default();
    let at = path.field("searches");
    if searches.len() > MAX_SEARCHES {
        let rule = format!("must not have more than {MAX_SEARCHES} search paths");
        check.invalid(at.clone(), searches, rule);
    }
    if searches.join(" ").len() > MAX_SEARCH_CHARACTERS {
        let rule = format!(
            "must not have more than {MAX_SEARCH_CHARACTERS} characters (including spaces) in the \
             search list"
        );
        check.invalid(at.clone(), searches, rule);
    }
    for (index, search) in searches.iter().enumerate().filter(|(_, search)| *search != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        check.each(&at.index(index), search, syntax::search_domain(search));
    }
    for (index, option) in config.options.iter().flatten().enumerate() {
        if option.name.as_deref().unwrap_or_default().is_empty() {
            check.required(path.field("options").index(index), "must not be empty");
        }
    }
}

fn check_gates(check: &mut Check, path: &FieldPath, pod: &PodSpec) {
    for (index, gate) in pod.readiness_gates.iter().flatten().enumerate() {
        let path = path.field("readinessGates").index(index).field("conditionType");
        let kind = gate.condition_type.as_str();
        check.each(&path, kind, syntax::qualified_name(kind));
    }
    let mut taken = BTreeSet::new();
    for (index, gate) in pod.scheduling_gates.iter().flatten().enumerate() {
        let path = path.field("schedulingGates").index(index);
        check.each(&path, gate.name.as_str(), syntax::qualified_name(&gate.name));
        if !taken.insert(gate.name.as_str()) {
            check.duplicate(path, gate.name.as_str());
        }
    }
}

fn check_claims(check: &mut Check, path: &FieldPath, pod: &PodSpec) {
    let mut taken = BTreeSet::new();
    for (index, claim) in pod.resource_claims.iter().flatten().enumerate() {
        let path = path.index(index);
        check_unique_label(check, path.field("name"), &claim.name, &mut taken);
        let sources = [
            ("resourceClaimName", claim.resource_claim_name.as_deref()),
            ("resourceClaimTemplateName", claim.resource_claim_template_name.as_deref()),
        ];
        let value = serde_json::to_value(claim).unwrap_or_default();
        match sources.iter().filter(|(_, name)| name.is_some()).count() {
            0 => {
                let rule = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                check.invalid(path.clone(), value, rule);
            }
            1 => {}
            _ => {
                let rule = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may \
                            be specified";
                check.invalid(path.clone(), value, rule);
            }
        }
        for (field, name) in sources {
            if let Some(name) = name {
                check.each(&path.field(field), name, syntax::dns_subdomain(name));
            }
        }
    }
}

fn check_containers(check: &mut Check, path: &FieldPath, pod: &PodSpec, volumes: &[Volume]) {
    let list = path.field("containers");
    if pod.containers.is_empty() {
        check.required(list.clone(), "");
    }
    let context = Context::new(pod, volumes);
    let mut names = BTreeSet::new();
    let mut host_ports = BTreeSet::new();
    for (index, container) in pod.containers.iter().enumerate() {
        let path = list.index(index);
        check_unique_label(check, path.field("name"), &container.name, &mut names);
        container::check(check, &path, container, &context);
        probe::check(check, &path, container, context.grace);
        check_host_ports(check, &path, container, &mut host_ports);
        if container.restart_policy.is_some() {
            let rule = "may not be set for non-init containers";
            check.forbidden(path.field("restartPolicy"), rule);
        }
    }
    for (index, container) in pod.init_containers.iter().flatten().enumerate() {
        let path = path.field("initContainers").index(index);
        check_unique_label(check, path.field("name"), &container.name, &mut names);
        container::check(check, &path, container, &context);
        // They run one after another, so that each may have the ports of another.
        check_host_ports(check, &path, container, &mut BTreeSet::new());
        let restart = container.restart_policy.as_deref();
        check.any_of(path.field("restartPolicy"), restart, &["Always"]);
        if is_sidecar(container) {
            probe::check(check, &path, container, context.grace);
        } else {
            check_once(check, &path, container);
        }
    }
}

/// Whether an init container goes on running.
fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// An init container that ends has no use for what watches a running one.
fn check_once(check: &mut Check, path: &FieldPath, container: &Container) {
    let rule = "may not be set for init containers without restartPolicy=Always";
    for (field, given) in [
        ("lifecycle", container.lifecycle.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
    ] {
        if given {
            check.forbidden(path.field(field), rule);
        }
    }
}

/// Checks a name that is a DNS label and there only once.
pub(super) fn check_unique_label<'a>(
    check: &mut Check,
    path: FieldPath,
    name: &'a str,
    taken: &mut BTreeSet<&'a str>,
) {
    if name.is_empty() {
        return check.required(path, "");
    }
    check.each(&path, name, syntax::dns_label(name));
    if !taken.insert(name) {
        check.duplicate(path, name);
    }
}

fn check_host_ports(
    check: &mut Check,
    path: &FieldPath,
    container: &Container,
    taken: &mut BTreeSet<String>,
) {
    for (path, number, port) in host_ports(path, container) {
        let protocol = port.protocol.as_deref().unwrap_or_default();
        let address = port.host_ip.as_deref().unwrap_or_default();
        let port = format!("{protocol}/{address}/{number}");
        if taken.contains(&port) {
            check.duplicate(path, port);
        } else {
            taken.insert(port);
        }
    }
}

/// The ports of the machine that a container at this path asks for: where, the number, and all of it.
pub(crate) fn host_ports<'a>(
    path: &FieldPath,
    container: &'a Container,
) -> impl Iterator<Item = (FieldPath, i32, &'a ContainerPort)> {
    let path = path.field("ports");
    let ports = container.ports.iter().flatten().enumerate();
    ports.filter_map(move |(index, port)| {
        let number = port.host_port.filter(|number| *number != 0)?;
        Some((path.index(index).field("hostPort"), number, port))
    })
}
