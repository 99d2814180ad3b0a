//! What a container or pod asks of the machine: names and amounts.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::syntax;
use crate::check::Check;
use crate::{FieldPath, Quantity};

type Amounts = BTreeMap<String, Text>;

/// Checks limits, requests and claims; `claims` are those that the pod has.
pub(super) fn check(
    check: &mut Check,
    path: &FieldPath,
    wanted: &ResourceRequirements,
    claims: &BTreeSet<&str>,
) {
    let (limits, requests) = (wanted.limits.as_ref(), wanted.requests.as_ref());
    check_amounts(check, &path.field("limits"), limits);
    check_amounts(check, &path.field("requests"), requests);
    for (name, text) in requests.into_iter().flatten() {
        check_request(check, path, name, text, limits);
    }
    let all = || limits.into_iter().chain(requests).flatten();
    if all().any(|(name, _)| is_huge(name))
        && !all().any(|(name, _)| name == "cpu" || name == "memory")
    {
        check.forbidden(path.clone(), "HugePages require cpu or memory");
    }
    check_claims(check, &path.field("claims"), wanted, claims);
}

/// Checks amounts that are limits without requests.
pub(super) fn check_limits(check: &mut Check, path: &FieldPath, limits: Option<&Amounts>) {
    check_amounts(check, &path.field("limits"), limits);
}

fn check_amounts(check: &mut Check, path: &FieldPath, amounts: Option<&Amounts>) {
    for (name, text) in amounts.into_iter().flatten() {
        let path = path.key(name);
        check_name(check, &path, name);
        let amount = match text.0.parse::<Quantity>() {
            Ok(amount) => amount,
            Err(error) => {
                check.invalid(path, text.0.as_str(), error.to_string());
                continue;
            }
        };
        if amount.is_negative() {
            let rule = "must be greater than or equal to 0";
            check.invalid(path.clone(), text.0.as_str(), rule);
        }
        if is_extended(name) && !amount.is_whole() {
            check.invalid(path.clone(), text.0.as_str(), "must be an integer");
        }
        if let Some(size) = name.strip_prefix("hugepages-") {
            let size = size.parse::<Quantity>();
            if size.is_ok_and(|size| !amount.is_multiple_of(size)) {
                let rule = format!("{} is not positive integer multiple of {name}", text.0);
                check.invalid(path, text.0.as_str(), rule);
            }
        }
    }
}

fn check_request(
    check: &mut Check,
    path: &FieldPath,
    name: &str,
    text: &Text,
    limits: Option<&Amounts>,
) {
    let overcommit = is_native(name) && !is_huge(name);
    let Some(limit) = limits.and_then(|limits| limits.get(name)) else {
        if !overcommit {
            let rule = "Limit must be set for non overcommitable resources";
            check.required(path.field("limits"), rule);
        }
        return;
    };
    let (Ok(amount), Ok(most)) = (text.0.parse::<Quantity>(), limit.0.parse()) else { return };
    let rule = if overcommit && amount > most {
        format!("must be less than or equal to {name} limit of {}", limit.0)
    } else if !overcommit && amount != most {
        format!("must be equal to {name} limit of {}", limit.0)
    } else {
        return;
    };
    let path = path.field("requests");
    check.invalid_at(path.clone(), path.key(name), text.0.as_str(), rule);
}

fn check_name(check: &mut Check, path: &FieldPath, name: &str) {
    /// Of what a namespace may have, which is a resource, but not a container's.
    const OF_NAMESPACES: [&str; 8] = [
        "configmaps",
        "persistentvolumeclaims",
        "pods",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "services",
        "storage",
    ];
    let messages = syntax::qualified_name(name);
    let well_formed = messages.is_empty();
    check.each(path, name, messages);
    if name.contains('/') {
        if well_formed && !is_native(name) && !is_extended(name) {
            check.invalid(path.clone(), name, "doesn't follow extended resource name standard");
        }
        return;
    }
    if ["cpu", "memory", "ephemeral-storage"].contains(&name) || is_huge(name) {
        return;
    }
    if well_formed && !OF_NAMESPACES.contains(&name) {
        let rule = "must be a standard resource type or fully qualified";
        check.invalid(path.clone(), name, rule);
    }
    check.invalid(path.clone(), name, "must be a standard resource for containers");
}

fn check_claims(
    check: &mut Check,
    path: &FieldPath,
    wanted: &ResourceRequirements,
    claims: &BTreeSet<&str>,
) {
    let mut taken = BTreeSet::new();
    for (index, claim) in wanted.claims.iter().flatten().enumerate() {
        let path = path.index(index);
        let name = claim.name.as_str();
        if name.is_empty() {
            check.required(path, "");
            continue;
        }
        let request = claim.request.as_deref().unwrap_or_default();
        if !request.is_empty() {
            check.each(&path.field("request"), request, syntax::dns_label(request));
        }
        // The whole of a claim has all of its requests in it.
        let overlaps = |(other, part): &(&str, &str)| {
            *other == name && (part.is_empty() || request.is_empty() || *part == request)
        };
        if taken.iter().any(overlaps) {
            let entry = if request.is_empty() { name.into() } else { format!("{name}/{request}") };
            check.duplicate(path.clone(), entry);
        }
        taken.insert((name, request));
        if !claims.contains(name) {
            let among = claims.iter().copied().collect::<Vec<_>>().join(", ");
            let rest =
                if among.is_empty() { " which is empty".into() } else { format!(": {among}") };
            let rule = format!("must be one of the names in pod.spec.resourceClaims{rest}");
            check.not_found(path, name, &rule);
        }
    }
}

pub(super) fn is_huge(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether it is a resource of somebody's own, such as a device; there are no parts of those.
fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && syntax::qualified_name(&format!("requests.{name}")).is_empty()
}
