//! The volumes of a pod: what they hold, and where its containers see it.

use std::fmt;

/// One volume of a pod, which lives as long as the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// A DNS label, unique in the pod.
    pub name: String,
    /// What is in it.
    pub source: VolumeSource,
}

/// What is in a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeSource {
    /// A part of the machine's file system, by its absolute path.
    HostPath(String, HostPathKind),
    /// An empty directory beside the pod's logs.
    Disk,
    /// An empty directory in memory, of so many bytes at most; without a number, half of the
    /// machine's memory.
    Memory(Option<u64>),
    /// A directory of files that were delivered, which nobody can change.
    Artifact(ArtifactSource),
    /// Files that nobody can change, in memory: of ConfigMaps, Secrets and fields of the pod.
    Files(Vec<VolumeFile>),
}

/// Files that were delivered to this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactSource {
    /// Where they are: a directory that is there, whole, or not at all.
    pub directory: String,
    /// The directory in it that is the volume, if not all of it: relative, without `..`.
    pub inside: Option<String>,
}

/// What has to be at a host path, or is made there (`hostPath.type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostPathKind {
    /// Anything; a directory is made where nothing is, as Kubernetes' runtimes do.
    #[default]
    Any,
    /// A directory, made where nothing is.
    DirectoryOrCreate,
    /// A directory.
    Directory,
    /// A file, made empty where nothing is; its directory must be there.
    FileOrCreate,
    /// A file.
    File,
    /// A unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// One file of a volume.
#[derive(Clone, PartialEq, Eq)]
pub struct VolumeFile {
    /// Where in the volume: relative, without `..`.
    pub path: String,
    /// Its permissions, `0o777` at most.
    pub mode: u32,
    /// What is in it; may be secret.
    pub content: Vec<u8>,
}

/// Where a container sees a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeMount {
    /// Which.
    pub volume: String,
    /// Where, absolute.
    pub path: String,
    /// Only this part of it: relative, without `..`. A directory is made where nothing is.
    pub sub_path: Option<String>,
    /// Whether the container may not write there.
    pub read_only: ReadOnly,
    /// What becomes of mounts that are made there later.
    pub propagation: Propagation,
}

/// Whether a container may not write to a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadOnly {
    /// It may.
    #[default]
    No,
    /// It may not, but to what else is mounted below.
    Top,
    /// Nor there, where the kernel can do that (Linux 5.12).
    RecursiveIfPossible,
    /// Nor there.
    Recursive,
}

/// What becomes of mounts that are made below a mount later (`mountPropagation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// Neither side sees the other's.
    #[default]
    None,
    /// The container sees the machine's.
    HostToContainer,
    /// Both see both.
    Bidirectional,
}

impl fmt::Debug for VolumeFile {
    /// Without the content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:o}, {} bytes)", self.path, self.mode, self.content.len())
    }
}
