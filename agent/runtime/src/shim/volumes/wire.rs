//! Volumes and mounts in the specification that a supervisor is started with.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use everynode_agent_core::{
    ArtifactSource, HostPathKind, PodSpec, Propagation, ReadOnly, Volume, VolumeFile, VolumeMount,
    VolumeSource,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SpecVolume {
    pub(crate) name: String,
    pub(crate) source: SpecSource,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SpecSource {
    HostPath { path: String, kind: SpecKind },
    Disk {},
    Memory { size: Option<u64> },
    Files { files: Vec<SpecFile> },
    Artifact { directory: String, inside: Option<String> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SpecKind {
    Any,
    DirectoryOrCreate,
    Directory,
    FileOrCreate,
    File,
    Socket,
    CharDevice,
    BlockDevice,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SpecFile {
    pub(crate) path: String,
    pub(crate) mode: u32,
    /// In base64; may be secret.
    pub(crate) content: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SpecMount {
    pub(crate) volume: String,
    pub(crate) path: String,
    pub(crate) sub_path: Option<String>,
    pub(crate) read_only: SpecReadOnly,
    pub(crate) propagation: SpecPropagation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SpecReadOnly {
    No,
    Top,
    RecursiveIfPossible,
    Recursive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SpecPropagation {
    None,
    HostToContainer,
    Bidirectional,
}

impl SpecVolume {
    pub(crate) fn all(spec: &PodSpec) -> Vec<Self> {
        spec.volumes.iter().map(Self::of).collect()
    }

    fn of(volume: &Volume) -> Self {
        let source = match &volume.source {
            VolumeSource::HostPath(path, kind) => {
                SpecSource::HostPath { path: path.clone(), kind: (*kind).into() }
            }
            VolumeSource::Disk => SpecSource::Disk {},
            VolumeSource::Memory(size) => SpecSource::Memory { size: *size },
            VolumeSource::Artifact(ArtifactSource { directory, inside }) => {
                SpecSource::Artifact { directory: directory.clone(), inside: inside.clone() }
            }
            VolumeSource::Files(files) => {
                SpecSource::Files { files: files.iter().map(SpecFile::of).collect() }
            }
        };
        Self { name: volume.name.clone(), source }
    }
}

impl SpecFile {
    fn of(file: &VolumeFile) -> Self {
        let content = BASE64_STANDARD.encode(&file.content);
        Self { path: file.path.clone(), mode: file.mode, content }
    }
}

impl std::fmt::Debug for SpecFile {
    /// Without the content.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.path)
    }
}

impl SpecMount {
    pub(crate) fn of(mount: &VolumeMount) -> Self {
        Self {
            volume: mount.volume.clone(),
            path: mount.path.clone(),
            sub_path: mount.sub_path.clone(),
            read_only: match mount.read_only {
                ReadOnly::No => SpecReadOnly::No,
                ReadOnly::Top => SpecReadOnly::Top,
                ReadOnly::RecursiveIfPossible => SpecReadOnly::RecursiveIfPossible,
                ReadOnly::Recursive => SpecReadOnly::Recursive,
            },
            propagation: match mount.propagation {
                Propagation::None => SpecPropagation::None,
                Propagation::HostToContainer => SpecPropagation::HostToContainer,
                Propagation::Bidirectional => SpecPropagation::Bidirectional,
            },
        }
    }
}

impl From<HostPathKind> for SpecKind {
    fn from(kind: HostPathKind) -> Self {
        match kind {
            HostPathKind::Any => Self::Any,
            HostPathKind::DirectoryOrCreate => Self::DirectoryOrCreate,
            HostPathKind::Directory => Self::Directory,
            HostPathKind::FileOrCreate => Self::FileOrCreate,
            HostPathKind::File => Self::File,
            HostPathKind::Socket => Self::Socket,
            HostPathKind::CharDevice => Self::CharDevice,
            HostPathKind::BlockDevice => Self::BlockDevice,
        }
    }
}

impl From<SpecKind> for HostPathKind {
    fn from(kind: SpecKind) -> Self {
        match kind {
            SpecKind::Any => Self::Any,
            SpecKind::DirectoryOrCreate => Self::DirectoryOrCreate,
            SpecKind::Directory => Self::Directory,
            SpecKind::FileOrCreate => Self::FileOrCreate,
            SpecKind::File => Self::File,
            SpecKind::Socket => Self::Socket,
            SpecKind::CharDevice => Self::CharDevice,
            SpecKind::BlockDevice => Self::BlockDevice,
        }
    }
}
