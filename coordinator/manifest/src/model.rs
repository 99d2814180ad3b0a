//! A canonical object to what the deciding code needs of it.

use std::time::Duration;

use everynode_model::{
    DaemonSet, Digest, IntOrPercent, InvalidName, Placement, PodKey, SetUid, Strategy, Toleration,
    TolerationOperator,
};
use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use crate::normal::normal_form;
use crate::rollout::policy;
use crate::selector::{selector, term};
use crate::typed::read_typed;
use crate::{FieldError, FieldPath, needed_features, uses};

/// Why a stored object is not the DaemonSet it should be; it did not come through [`crate::admit()`].
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A field does not have its type.
    #[error("not a DaemonSet: {0}")]
    Malformed(#[source] FieldError),
    /// The namespace or name breaks its rule.
    #[error("metadata.name or metadata.namespace {0}")]
    Name(#[source] InvalidName),
    /// A field that admission fills in or checks has no value that can be used.
    #[error("{0} is missing or invalid")]
    Unusable(FieldPath),
}

/// The DaemonSet that `canonical` (an [`crate::Admitted::object`]) describes, its revision in the
/// present normal form.
///
/// # Errors
/// When the object did not come through [`crate::admit()`].
pub fn to_model(canonical: &Value, uid: SetUid, generation: u64) -> Result<DaemonSet, ModelError> {
    let template = canonical.pointer("/spec/template").unwrap_or(&Value::Null);
    let revision = Digest::of(&normal_form(template));
    daemon_set_from(canonical, uid, generation, revision)
}

/// The same, with the revision that was stored: the one to use for what may have been admitted
/// under another [`crate::NORMAL_FORM`].
///
/// # Errors
/// When the object did not come through [`crate::admit()`].
pub fn daemon_set_from(
    canonical: &Value,
    uid: SetUid,
    generation: u64,
    revision: Digest,
) -> Result<DaemonSet, ModelError> {
    let read = read_typed::<apps::DaemonSet>(canonical);
    // A later version may have stored fields that this one does not know; it can go on without.
    let misfit = read.errors.into_iter().find(|error| error.kind != crate::ErrorKind::Unknown);
    if let Some(error) = misfit {
        return Err(ModelError::Malformed(error));
    }
    let set = read.value.ok_or_else(|| unusable("spec"))?;
    let spec = &set.spec;
    let name = set.metadata.name.as_deref().unwrap_or_default();
    let namespace = set.metadata.namespace.as_deref().unwrap_or("default");
    let pod = spec.template.spec.as_ref().ok_or_else(|| unusable("spec.template.spec"))?;
    let template = canonical.pointer("/spec/template").unwrap_or(&Value::Null);
    let seconds = u64::try_from(spec.min_ready_seconds.unwrap_or(0));
    let history = u32::try_from(spec.revision_history_limit.unwrap_or(10));
    Ok(DaemonSet {
        key: PodKey::new(namespace, name).map_err(ModelError::Name)?,
        uid,
        generation,
        labels: set.metadata.labels.unwrap_or_default(),
        selector: selector(&spec.selector),
        placement: placement(pod)?,
        strategy: strategy(spec.update_strategy.as_ref())?,
        rollout: policy(set.metadata.annotations.as_ref()),
        min_ready: Duration::from_secs(seconds.map_err(|_| unusable("spec.minReadySeconds"))?),
        history_limit: history.map_err(|_| unusable("spec.revisionHistoryLimit"))?,
        revision,
        features: needed_features(template),
        reads: uses(template, namespace).into_keys().collect(),
    })
}

fn placement(pod: &core::PodSpec) -> Result<Placement, ModelError> {
    let affinity = pod.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    let tolerations = pod.tolerations.iter().flatten().map(toleration);
    Ok(Placement {
        orphaned: false,
        node_name: pod.node_name.clone().filter(|name| !name.is_empty()),
        node_selector: pod.node_selector.clone().unwrap_or_default(),
        required_affinity: required
            .map(|required| required.node_selector_terms.iter().map(term).collect()),
        tolerations: tolerations.collect::<Result<_, _>>()?,
        host_network: pod.host_network == Some(true),
    })
}

fn toleration(from: &core::Toleration) -> Result<Toleration, ModelError> {
    let effect = from.effect.as_deref().filter(|effect| !effect.is_empty());
    let at = |field: &str| unusable(&format!("spec.template.spec.tolerations.{field}"));
    Ok(Toleration {
        key: from.key.clone().unwrap_or_default(),
        operator: match from.operator.as_deref().unwrap_or_default() {
            "" | "Equal" => TolerationOperator::Equal,
            "Exists" => TolerationOperator::Exists,
            _ => return Err(at("operator")),
        },
        value: from.value.clone().unwrap_or_default(),
        effect: effect.map(str::parse).transpose().map_err(|_| at("effect"))?,
        seconds: from.toleration_seconds,
    })
}

fn strategy(from: Option<&apps::DaemonSetUpdateStrategy>) -> Result<Strategy, ModelError> {
    let kind = from.and_then(|strategy| strategy.type_.as_deref()).unwrap_or("RollingUpdate");
    let rolling = from.and_then(|strategy| strategy.rolling_update.as_ref());
    match kind {
        "OnDelete" => Ok(Strategy::OnDelete),
        "RollingUpdate" => {
            let max_unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
            let max_surge = rolling.and_then(|rolling| rolling.max_surge.as_ref());
            Ok(Strategy::RollingUpdate {
                max_unavailable: share(max_unavailable, 1, "maxUnavailable")?,
                max_surge: share(max_surge, 0, "maxSurge")?,
            })
        }
        _ => Err(unusable("spec.updateStrategy.type")),
    }
}

/// A number or a share, or what stands for none.
fn share(from: Option<&IntOrString>, none: u32, field: &str) -> Result<IntOrPercent, ModelError> {
    let error = || unusable(&format!("spec.updateStrategy.rollingUpdate.{field}"));
    match from {
        None => Ok(IntOrPercent::Int(none)),
        Some(IntOrString::Int(number)) => {
            u32::try_from(*number).map(IntOrPercent::Int).map_err(|_| error())
        }
        Some(IntOrString::String(text)) => IntOrPercent::parse(text).map_err(|_| error()),
    }
}

fn unusable(path: &str) -> ModelError {
    ModelError::Unusable(FieldPath::fields(path))
}
