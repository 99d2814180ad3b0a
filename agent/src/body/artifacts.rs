//! What a template has delivered to this machine: its `image` volumes.

use std::path::Path;

use everynode_agent_core::{ArtifactSource, ContainerSpec, ReadOnly, Volume, VolumeSource};
use everynode_model::{Artifact, ArtifactReference, Packing, Reason, go_arch};
use serde::Deserialize;

use super::fields::{Rest, refuse_rest};
use super::{PROCESS, unsupported};
use crate::artifacts;

/// One file or image that a template has delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Which.
    pub artifact: Artifact,
    /// Whether it may be fetched (`pullPolicy` is not `Never`).
    pub may_be_fetched: bool,
}

/// `image` of a volume, as it is written.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Image {
    #[serde(default)]
    reference: String,
    #[serde(default)]
    pull_policy: String,
    #[serde(flatten)]
    rest: Rest,
}

/// What the template of a pod of host processes has delivered to this machine; nothing of one that
/// can't be read, which is refused elsewhere.
pub fn artifacts_of(content: &[u8]) -> Vec<Delivered> {
    #[derive(Default, Deserialize)]
    struct Volume {
        image: Option<Image>,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        #[serde(default)]
        volumes: Vec<Volume>,
        #[serde(default)]
        runtime_class_name: String,
    }
    #[derive(Default, Deserialize)]
    struct Body {
        #[serde(default)]
        spec: Spec,
    }
    let Body { spec } = serde_json::from_slice(content).unwrap_or_default();
    let process = spec.runtime_class_name == PROCESS;
    let images = spec.volumes.iter().filter_map(|volume| volume.image.as_ref());
    images.filter(|_| process).filter_map(|image| image.delivered("").ok()).collect()
}

impl Image {
    /// The volume, which is in the directory of artifacts `store`; `path` is where it is written.
    pub(super) fn read(&self, store: &Path, path: &str) -> Result<VolumeSource, Reason> {
        refuse_rest(&self.rest, path, &[])?;
        let Delivered { artifact, .. } = self.delivered(path)?;
        let directory = store.join(artifacts::name(&artifact)).display().to_string();
        let inside = match artifact.packing() {
            // That is what the file is called.
            Packing::Plain => None,
            Packing::Image | Packing::Tar | Packing::TarGz => artifact.inside,
        };
        Ok(VolumeSource::Artifact(ArtifactSource { directory, inside }))
    }

    /// The file that it names for this machine.
    fn delivered(&self, path: &str) -> Result<Delivered, Reason> {
        let may_be_fetched = match self.pull_policy.as_str() {
            // What has a digest is the same whenever it is fetched.
            "" | "Always" | "IfNotPresent" => true,
            "Never" => false,
            other => return Err(unsupported(&format!("{path}.pullPolicy"), &format!("{other:?}"))),
        };
        let path = format!("{path}.reference");
        let invalid = |why: String| Reason::new("InvalidImageName", format!("{path}: {why}"));
        let reference = ArtifactReference::parse(&self.reference)
            .map_err(|error| invalid(error.to_string()))?;
        let artifact = reference.for_arch(go_arch());
        let missing = || invalid(format!("no digest for this node's architecture, {}", go_arch()));
        Ok(Delivered { artifact: artifact.ok_or_else(missing)?, may_be_fetched })
    }
}

/// Nobody writes to an artifact, whatever its mounts say: as with Kubernetes' image volumes.
pub(super) fn mount_read_only(volumes: &[Volume], containers: &mut [ContainerSpec]) {
    let is_artifact = |volume: &&Volume| matches!(volume.source, VolumeSource::Artifact(_));
    let names: Vec<&str> =
        volumes.iter().filter(is_artifact).map(|volume| volume.name.as_str()).collect();
    for mount in containers.iter_mut().flat_map(|container| &mut container.mounts) {
        if mount.read_only == ReadOnly::No && names.contains(&mount.volume.as_str()) {
            mount.read_only = ReadOnly::Top;
        }
    }
}
