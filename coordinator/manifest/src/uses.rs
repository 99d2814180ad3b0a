//! Which ConfigMaps and Secrets the pods of a template read, and what of them: by variables, or by
//! files.
//!
//! Secrets for pulling are read for pods of host processes that have images delivered, by the
//! agent: no container sees them. As in Kubernetes, one that is not there holds nothing up. (For
//! containers they are their runtime's, and no part of a revision.)

use std::collections::BTreeMap;

use everynode_model::{ArtifactReference, ObjectKey, ObjectKind};
use k8s_openapi::api::core::v1::{Container, KeyToPath, PodSpec, PodTemplateSpec, Volume};
use serde_json::Value;

use crate::typed::read_typed;
use crate::validate;

/// What is read of a Secret for pulling: by its type it has one of these.
const PULL_KEYS: [&str; 2] = [".dockerconfigjson", ".dockercfg"];

/// What a template reads, by object.
pub type Uses = BTreeMap<ObjectKey, Use>;

/// What is read of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Whether no pod can start without the object.
    pub needed: bool,
    /// Whether all of it is read.
    pub whole: bool,
    /// The keys that are named; `true` where no pod can start without it.
    pub keys: BTreeMap<String, bool>,
}

/// What the pods of `template` (of a canonical object) in `namespace` read.
pub fn uses(template: &Value, namespace: &str) -> Uses {
    let mut noted = Noted { namespace, uses: Uses::new() };
    let read = read_typed::<PodTemplateSpec>(template).value;
    if let Some(pod) = read.and_then(|template| template.spec) {
        let first = pod.init_containers.iter().flatten();
        first.chain(&pod.containers).for_each(|container| noted.container(container));
        pod.volumes.iter().flatten().for_each(|volume| noted.volume(volume));
        noted.pull_secrets(&pod);
    }
    noted.uses
}

struct Noted<'a> {
    namespace: &'a str,
    uses: Uses,
}

impl Noted<'_> {
    fn container(&mut self, container: &Container) {
        for from in container.env.iter().flatten().filter_map(|env| env.value_from.as_ref()) {
            if let Some(from) = &from.config_map_key_ref {
                self.key(ObjectKind::ConfigMap, &from.name, &from.key, from.optional);
            }
            if let Some(from) = &from.secret_key_ref {
                self.key(ObjectKind::Secret, &from.name, &from.key, from.optional);
            }
        }
        for from in container.env_from.iter().flatten() {
            if let Some(source) = &from.config_map_ref {
                self.whole(ObjectKind::ConfigMap, &source.name, source.optional);
            }
            if let Some(source) = &from.secret_ref {
                self.whole(ObjectKind::Secret, &source.name, source.optional);
            }
        }
    }

    fn volume(&mut self, volume: &Volume) {
        use ObjectKind::{ConfigMap, Secret};
        if let Some(source) = &volume.config_map {
            self.files(ConfigMap, &source.name, source.items.as_deref(), source.optional);
        }
        if let Some(source) = &volume.secret {
            let name = source.secret_name.as_deref().unwrap_or_default();
            self.files(Secret, name, source.items.as_deref(), source.optional);
        }
        let projected = volume.projected.iter().flat_map(|projected| &projected.sources);
        for source in projected.flatten() {
            if let Some(source) = &source.config_map {
                self.files(ConfigMap, &source.name, source.items.as_deref(), source.optional);
            }
            if let Some(source) = &source.secret {
                self.files(Secret, &source.name, source.items.as_deref(), source.optional);
            }
        }
    }

    fn pull_secrets(&mut self, pod: &PodSpec) {
        if !pulls(pod) {
            return;
        }
        for secret in pod.image_pull_secrets.iter().flatten() {
            for key in PULL_KEYS {
                self.key(ObjectKind::Secret, &secret.name, key, Some(true));
            }
        }
    }

    fn files(
        &mut self,
        kind: ObjectKind,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
    ) {
        match items {
            None | Some([]) => self.whole(kind, name, optional),
            Some(items) => {
                items.iter().for_each(|item| self.key(kind, name, &item.key, optional));
            }
        }
    }

    fn whole(&mut self, kind: ObjectKind, name: &str, optional: Option<bool>) {
        if let Some(of) = self.of(kind, name, optional) {
            of.whole = true;
        }
    }

    fn key(&mut self, kind: ObjectKind, name: &str, key: &str, optional: Option<bool>) {
        if let Some(of) = self.of(kind, name, optional) {
            *of.keys.entry(key.to_owned()).or_default() |= optional != Some(true);
        }
    }

    fn of(&mut self, kind: ObjectKind, name: &str, optional: Option<bool>) -> Option<&mut Use> {
        // Kubernetes' types have an empty name where none is given: there is no such object.
        if name.is_empty() {
            return None;
        }
        let key = ObjectKey { kind, namespace: self.namespace.to_owned(), name: name.to_owned() };
        let of = self.uses.entry(key).or_default();
        of.needed |= optional != Some(true);
        Some(of)
    }
}

/// Whether a pod has images of a registry delivered by its agent.
fn pulls(pod: &PodSpec) -> bool {
    let images = pod.volumes.iter().flatten().filter_map(|volume| volume.image.as_ref());
    let mut references = images.filter_map(|image| image.reference.as_deref());
    validate::is_process(pod)
        && references.any(|text| ArtifactReference::parse(text).is_ok_and(|it| it.is_image()))
}
