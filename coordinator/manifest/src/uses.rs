//! Which ConfigMaps and Secrets the pods of a template read: by variables, or by files.
//!
//! Secrets for pulling images are none of these: no container sees them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodTemplateSpec, Volume};
use serde_json::Value;

use crate::ObjectKind;
use crate::typed::read_typed;

/// The objects that a template uses, by kind and name in its own namespace; `true` where a pod
/// can't start without it. One that is used both ways is needed.
pub type Uses = BTreeMap<(ObjectKind, String), bool>;

/// What the pods of `template` (of a canonical object) read.
pub fn uses(template: &Value) -> Uses {
    let mut uses = Uses::new();
    let read = read_typed::<PodTemplateSpec>(template).value;
    let Some(pod) = read.and_then(|template| template.spec) else { return uses };
    let first = pod.init_containers.iter().flatten();
    first.chain(&pod.containers).for_each(|container| of_container(&mut uses, container));
    pod.volumes.iter().flatten().for_each(|volume| of_volume(&mut uses, volume));
    uses
}

fn of_container(uses: &mut Uses, container: &Container) {
    for from in container.env.iter().flatten().filter_map(|env| env.value_from.as_ref()) {
        if let Some(key) = &from.config_map_key_ref {
            note(uses, ObjectKind::ConfigMap, &key.name, key.optional);
        }
        if let Some(key) = &from.secret_key_ref {
            note(uses, ObjectKind::Secret, &key.name, key.optional);
        }
    }
    for from in container.env_from.iter().flatten() {
        if let Some(source) = &from.config_map_ref {
            note(uses, ObjectKind::ConfigMap, &source.name, source.optional);
        }
        if let Some(source) = &from.secret_ref {
            note(uses, ObjectKind::Secret, &source.name, source.optional);
        }
    }
}

fn of_volume(uses: &mut Uses, volume: &Volume) {
    if let Some(source) = &volume.config_map {
        note(uses, ObjectKind::ConfigMap, &source.name, source.optional);
    }
    if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        note(uses, ObjectKind::Secret, name, source.optional);
    }
    let projected = volume.projected.iter().flat_map(|projected| &projected.sources);
    for source in projected.flatten() {
        if let Some(source) = &source.config_map {
            note(uses, ObjectKind::ConfigMap, &source.name, source.optional);
        }
        if let Some(source) = &source.secret {
            note(uses, ObjectKind::Secret, &source.name, source.optional);
        }
    }
}

fn note(uses: &mut Uses, kind: ObjectKind, name: &str, optional: Option<bool>) {
    // Kubernetes' types have an empty name where none is given: there is no such object.
    if !name.is_empty() {
        *uses.entry((kind, name.into())).or_default() |= optional != Some(true);
    }
}
