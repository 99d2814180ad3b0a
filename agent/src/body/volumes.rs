//! Volumes at the agent's door: what each of a pod's is made of. What is in those with files is read
//! and filled in ([`super::files`]); where containers see them is in [`super::mounts`].

use std::collections::BTreeSet;

use everynode_agent_core::{HostPathKind, Volume, VolumeSource};
use everynode_model::Reason;
use serde::Deserialize;

use super::artifacts::Image;
use super::env::Sources;
use super::fields::{Rest, refuse_rest};
use super::files::{ConfigMap, DownwardApi, FAILED_MOUNT, Projected, Secret};
use super::mounts::Mount;
use super::resources::amount;
use super::{invalid, unsupported};

/// One volume, as it is written; without any source it is an empty directory.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Written {
    name: String,
    host_path: Option<HostPath>,
    empty_dir: Option<EmptyDir>,
    config_map: Option<ConfigMap>,
    secret: Option<Secret>,
    #[serde(rename = "downwardAPI")]
    downward_api: Option<DownwardApi>,
    projected: Option<Projected>,
    image: Option<Image>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Debug, Deserialize)]
struct HostPath {
    path: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EmptyDir {
    #[serde(default)]
    medium: String,
    size_limit: Option<String>,
    #[serde(flatten)]
    rest: Rest,
}

/// The volumes of a pod that any of its containers mounts. As with the kubelet, nothing has to be there
/// for one that nobody mounts, and nothing is made for it.
pub(super) fn volumes(written: &[Written], from: &Sources<'_>) -> Result<Vec<Volume>, Reason> {
    let mounts = from.containers.iter().flat_map(|container| &container.volume_mounts);
    let mounted: BTreeSet<&str> = mounts.map(Mount::volume).collect();
    let mut names = BTreeSet::new();
    let mut volumes = Vec::new();
    for (number, volume) in written.iter().enumerate() {
        let path = format!("spec.volumes[{number}]");
        if !names.insert(&volume.name) || !is_name(&volume.name) {
            return Err(invalid(&format!("{path}.name"), "must be a DNS label of its own"));
        }
        let is_mounted = mounted.contains(volume.name.as_str());
        match volume.source(&path, from) {
            Ok(source) if is_mounted => {
                volumes.push(Volume { name: volume.name.clone(), source });
            }
            Ok(_) => {}
            // What it is made of is not there.
            Err(reason) if reason.code == FAILED_MOUNT && !is_mounted => {}
            Err(reason) => return Err(reason),
        }
    }
    Ok(volumes)
}

impl Written {
    /// How many bytes may be in it, if it is on disk and that is limited; with its name.
    pub(super) fn size_on_disk(&self) -> Option<(String, u64)> {
        let EmptyDir { medium, size_limit, .. } = self.empty_dir.as_ref()?;
        let size = amount(size_limit.as_ref().filter(|_| medium.is_empty())?, 1)?;
        (size > 0).then(|| (self.name.clone(), size))
    }

    fn source(&self, path: &str, from: &Sources<'_>) -> Result<VolumeSource, Reason> {
        refuse_rest(&self.rest, path, &[])?;
        let mut sources = Vec::new();
        if let Some(source) = &self.host_path {
            sources.push(source.read(&format!("{path}.hostPath"))?);
        }
        if let Some(source) = &self.empty_dir {
            sources.push(source.read(&format!("{path}.emptyDir"))?);
        }
        if let Some(source) = &self.config_map {
            sources.push(source.read(&self.name, from, &format!("{path}.configMap"))?);
        }
        if let Some(source) = &self.secret {
            sources.push(source.read(&self.name, from, &format!("{path}.secret"))?);
        }
        if let Some(source) = &self.downward_api {
            sources.push(source.read(&self.name, from, &format!("{path}.downwardAPI"))?);
        }
        if let Some(source) = &self.projected {
            sources.push(source.read(&self.name, from, &format!("{path}.projected"))?);
        }
        if let Some(source) = &self.image {
            sources.push(source.read(&from.around.artifacts, &format!("{path}.image"))?);
        }
        match (sources.pop(), sources.is_empty()) {
            (None, _) => Ok(VolumeSource::Disk),
            (Some(source), true) => Ok(source),
            (Some(_), false) => Err(invalid(path, "may not specify more than 1 volume type")),
        }
    }
}

impl HostPath {
    fn read(&self, path: &str) -> Result<VolumeSource, Reason> {
        refuse_rest(&self.rest, path, &[])?;
        let kind = match self.kind.as_str() {
            "" => HostPathKind::Any,
            "DirectoryOrCreate" => HostPathKind::DirectoryOrCreate,
            "Directory" => HostPathKind::Directory,
            "FileOrCreate" => HostPathKind::FileOrCreate,
            "File" => HostPathKind::File,
            "Socket" => HostPathKind::Socket,
            "CharDevice" => HostPathKind::CharDevice,
            "BlockDevice" => HostPathKind::BlockDevice,
            other => return Err(unsupported(&format!("{path}.type"), &format!("{other:?}"))),
        };
        if leads_up(&self.path) {
            return Err(invalid(&format!("{path}.path"), "must not contain '..'"));
        }
        Ok(VolumeSource::HostPath(from_root(&self.path), kind))
    }
}

impl EmptyDir {
    fn read(&self, path: &str) -> Result<VolumeSource, Reason> {
        refuse_rest(&self.rest, path, &[])?;
        let unread = || invalid(&format!("{path}.sizeLimit"), "can't be read");
        let size = self.size_limit.as_deref().map(|text| amount(text, 1).ok_or_else(unread));
        // A limit of zero is none, as in Kubernetes.
        let size = size.transpose()?.filter(|size| *size > 0);
        match self.medium.as_str() {
            // How much may be in it is read apart: `size_on_disk`.
            "" => Ok(VolumeSource::Disk),
            "Memory" => Ok(VolumeSource::Memory(size)),
            other => Err(unsupported(&format!("{path}.medium"), &format!("{other:?}"))),
        }
    }
}

/// A path of the machine. One that is relative begins at the root, as in a kubelet's `makeMounts`.
pub(super) fn from_root(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// Whether a path has a `..`.
pub(super) fn leads_up(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

/// Names become names of directories.
fn is_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.len() <= 63 && name.bytes().all(good)
}
