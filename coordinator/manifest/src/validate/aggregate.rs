//! `spec.template.spec.resources`: what the pod asks for as a whole, against the sum of its parts.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};

use super::resources::{self, is_huge};
use crate::check::Check;
use crate::{FieldPath, Quantity};

/// Amounts, and whether they are written in powers of two (`Ki`), as their sum then is.
type Sums = BTreeMap<String, (Quantity, bool)>;

/// Checks the pod's own resources.
pub(super) fn check(check: &mut Check, path: &FieldPath, pod: &PodSpec) {
    let Some(wanted) = &pod.resources else { return };
    let path = path.field("resources");
    if wanted.claims.is_some() {
        let rule = "claims cannot be set for Resources at pod-level";
        check.forbidden(path.field("claims"), rule);
    }
    for (field, amounts) in [("limits", &wanted.limits), ("requests", &wanted.requests)] {
        for name in amounts.iter().flat_map(|amounts| amounts.keys()) {
            if !["cpu", "memory"].contains(&name.as_str()) && !is_huge(name) {
                let supported = ["cpu", "hugepages-", "memory"];
                check.unsupported(path.field(field).key(name), name.as_str(), &supported);
            }
        }
    }
    resources::check(check, &path, wanted, &BTreeSet::new());
    check_sums(check, &path, pod, wanted);
    check_parts(check, &path, pod, wanted);
}

/// The whole is no less than the sum of its parts; of limits that holds for huge pages alone.
fn check_sums(check: &mut Check, path: &FieldPath, pod: &PodSpec, wanted: &ResourceRequirements) {
    for (field, amounts) in [("requests", &wanted.requests), ("limits", &wanted.limits)] {
        let limits = field == "limits";
        for (name, (sum, binary)) in aggregate(pod, limits) {
            let whole = amounts.as_ref().and_then(|amounts| amounts.get(&name));
            let Some(whole) = whole.filter(|_| !limits || is_huge(&name)) else { continue };
            if whole.0.parse::<Quantity>().is_ok_and(|amount| sum > amount) {
                let sum = sum.canonical(binary);
                let rule = format!(
                    "must be greater than or equal to aggregate container {field} of {sum}"
                );
                check.invalid(path.field(field).key(&name), whole.0.as_str(), rule);
            }
        }
    }
}

/// No container may have more than the pod.
fn check_parts(check: &mut Check, path: &FieldPath, pod: &PodSpec, wanted: &ResourceRequirements) {
    for (index, container) in pod.containers.iter().enumerate() {
        let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
        for (name, limit) in limits.into_iter().flatten() {
            let most = wanted.limits.as_ref().and_then(|limits| limits.get(name));
            let Some(most) = most else { continue };
            let (Ok(amount), Ok(bound)) = (limit.0.parse::<Quantity>(), most.0.parse()) else {
                continue;
            };
            if amount > bound {
                // So says Kubernetes, though it is the container's own limit that is too much.
                let told = path.field("containers").index(index).key(name).field("limits");
                let at = FieldPath::fields("spec.template.spec.containers").index(index);
                let at = at.down("resources.limits").key(name);
                let rule = format!("must be less than or equal to pod limits of {}", most.0);
                check.invalid_at(told, at, limit.0.as_str(), rule);
            }
        }
    }
}

/// What the containers need together: those that run side by side, or one that runs before them
/// beside the sidecars that were started until then, whichever is more.
fn aggregate(pod: &PodSpec, limits: bool) -> Sums {
    let mut sum = Sums::new();
    for container in &pod.containers {
        add(&mut sum, &amounts(container, limits));
    }
    let (mut sidecars, mut before) = (Sums::new(), Sums::new());
    for container in pod.init_containers.iter().flatten() {
        let own = amounts(container, limits);
        let mut at_once = own.clone();
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            at_once.clone_from(&sidecars);
        } else {
            add(&mut at_once, &sidecars);
        }
        most(&mut before, &at_once);
    }
    most(&mut sum, &before);
    sum
}

fn amounts(container: &Container, limits: bool) -> Sums {
    let resources = container.resources.as_ref();
    let amounts =
        resources.and_then(|of| if limits { of.limits.as_ref() } else { of.requests.as_ref() });
    let parsed = amounts.into_iter().flatten().filter_map(|(name, text)| {
        let amount = text.0.parse::<Quantity>().ok()?;
        Some((name.clone(), (amount, text.0.ends_with('i'))))
    });
    parsed.collect()
}

fn add(to: &mut Sums, more: &Sums) {
    for (name, (amount, binary)) in more {
        match to.get_mut(name) {
            Some((sum, _)) => *sum = sum.plus(*amount),
            None => drop(to.insert(name.clone(), (*amount, *binary))),
        }
    }
}

fn most(of: &mut Sums, and: &Sums) {
    for (name, (amount, binary)) in and {
        let present = of.get(name).map(|(present, _)| *present);
        if present.is_none_or(|present| *amount > present) {
            of.insert(name.clone(), (*amount, *binary));
        }
    }
}
