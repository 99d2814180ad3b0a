//! Volumes at the agent's door: what is in them, all read and filled in, and where containers see
//! them. What a template reads of ConfigMaps and Secrets is in its body, so that a pod's files are
//! those of its revision.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use everynode_agent_core::{
    HostPathKind, Propagation, ReadOnly, Volume, VolumeFile, VolumeMount, VolumeSource,
};
use everynode_model::{ObjectKind, Reason};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::content::Content;
use super::env::{Sources, expand_by};
use super::fields::{FieldRef, refuse_rest};
use super::resources::amount;
use super::unsupported;

type Rest = Map<String, Value>;

/// The kubelet's word for a volume that can't be made.
const FAILED_MOUNT: &str = "FailedMount";

/// Permissions of files that a template says nothing of.
const DEFAULT_MODE: u32 = 0o644;

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

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigMap {
    #[serde(default)]
    name: String,
    default_mode: Option<u32>,
    #[serde(flatten)]
    of: Keys,
}

/// Kubernetes' other name for the object's name.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Secret {
    #[serde(default)]
    secret_name: String,
    default_mode: Option<u32>,
    #[serde(flatten)]
    of: Keys,
}

/// What is read of an object: all of it, or some keys.
#[derive(Debug, Deserialize)]
struct Keys {
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    items: Vec<Item>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Debug, Deserialize)]
struct Item {
    key: String,
    path: String,
    mode: Option<u32>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DownwardApi {
    default_mode: Option<u32>,
    #[serde(default)]
    items: Vec<FieldFile>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FieldFile {
    path: String,
    mode: Option<u32>,
    field_ref: Option<FieldRef>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Projected {
    default_mode: Option<u32>,
    #[serde(default)]
    sources: Vec<Source>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Source {
    config_map: Option<ProjectedKeys>,
    secret: Option<ProjectedKeys>,
    #[serde(rename = "downwardAPI")]
    downward_api: Option<DownwardApi>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Debug, Deserialize)]
struct ProjectedKeys {
    #[serde(default)]
    name: String,
    #[serde(flatten)]
    of: Keys,
}

/// Where a container sees a volume, as it is written.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Mount {
    name: String,
    mount_path: String,
    #[serde(default)]
    sub_path: String,
    #[serde(default)]
    sub_path_expr: String,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    recursive_read_only: String,
    #[serde(default)]
    mount_propagation: String,
    #[serde(flatten)]
    rest: Rest,
}

/// The files of one volume so far, by path: a later one outdoes an earlier one.
type Files = BTreeMap<String, VolumeFile>;

/// All volumes of a pod.
pub(super) fn volumes(written: &[Written], from: &Sources<'_>) -> Result<Vec<Volume>, Reason> {
    let mut names = BTreeSet::new();
    let read = written.iter().enumerate().map(|(number, volume)| {
        let path = format!("spec.volumes[{number}]");
        if !names.insert(&volume.name) || !is_name(&volume.name) {
            return Err(invalid(&format!("{path}.name"), "must be a DNS label of its own"));
        }
        Ok(Volume { name: volume.name.clone(), source: volume.source(&path, from)? })
    });
    read.collect()
}

/// What a container sees of them.
pub(super) fn mounts(
    written: &[Mount],
    path: &str,
    env: &[(String, String)],
    privileged: bool,
) -> Result<Vec<VolumeMount>, Reason> {
    let mut paths = BTreeSet::new();
    let read = written.iter().enumerate().map(|(number, mount)| {
        let path = format!("{path}.volumeMounts[{number}]");
        if !paths.insert(&mount.mount_path) {
            return Err(invalid(&format!("{path}.mountPath"), "must be unique"));
        }
        mount.read(&path, env, privileged)
    });
    read.collect()
}

impl Written {
    fn source(&self, path: &str, from: &Sources<'_>) -> Result<VolumeSource, Reason> {
        refuse_rest(&self.rest, path, &[])?;
        let files = |files: Files| VolumeSource::Files(files.into_values().collect());
        let mut sources = Vec::new();
        if let Some(source) = &self.host_path {
            sources.push(source.read(&format!("{path}.hostPath"))?);
        }
        if let Some(source) = &self.empty_dir {
            sources.push(source.read(&format!("{path}.emptyDir"))?);
        }
        if let Some(ConfigMap { name, default_mode, of }) = &self.config_map {
            let mut into = Filling::new(&self.name, *default_mode, from);
            into.object(ObjectKind::ConfigMap, name, of, &format!("{path}.configMap"))?;
            sources.push(files(into.files));
        }
        if let Some(Secret { secret_name, default_mode, of }) = &self.secret {
            let mut into = Filling::new(&self.name, *default_mode, from);
            into.object(ObjectKind::Secret, secret_name, of, &format!("{path}.secret"))?;
            sources.push(files(into.files));
        }
        if let Some(source) = &self.downward_api {
            let mut into = Filling::new(&self.name, source.default_mode, from);
            into.fields(source, &format!("{path}.downwardAPI"))?;
            sources.push(files(into.files));
        }
        if let Some(source) = &self.projected {
            let mut into = Filling::new(&self.name, source.default_mode, from);
            into.all(source, &format!("{path}.projected"))?;
            sources.push(files(into.files));
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
        if !self.path.starts_with('/') || self.path.split('/').any(|part| part == "..") {
            return Err(invalid(&format!("{path}.path"), "must be absolute, without '..'"));
        }
        Ok(VolumeSource::HostPath(self.path.clone(), kind))
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
            // How much is in it nobody counts; the coordinator has warned of that.
            "" => Ok(VolumeSource::Disk),
            "Memory" => Ok(VolumeSource::Memory(size)),
            other => Err(unsupported(&format!("{path}.medium"), &format!("{other:?}"))),
        }
    }
}

/// The files of one volume, while they are gathered.
struct Filling<'a> {
    volume: &'a str,
    mode: u32,
    from: &'a Sources<'a>,
    files: Files,
}

impl<'a> Filling<'a> {
    fn new(volume: &'a str, mode: Option<u32>, from: &'a Sources<'a>) -> Self {
        Self { volume, mode: mode.unwrap_or(DEFAULT_MODE), from, files: Files::new() }
    }

    /// All sources of a projected volume.
    fn all(&mut self, projected: &Projected, path: &str) -> Result<(), Reason> {
        refuse_rest(&projected.rest, path, &[])?;
        for (number, source) in projected.sources.iter().enumerate() {
            let path = format!("{path}.sources[{number}]");
            refuse_rest(&source.rest, &path, &[])?;
            if let Some(ProjectedKeys { name, of }) = &source.config_map {
                self.object(ObjectKind::ConfigMap, name, of, &format!("{path}.configMap"))?;
            }
            if let Some(ProjectedKeys { name, of }) = &source.secret {
                self.object(ObjectKind::Secret, name, of, &format!("{path}.secret"))?;
            }
            if let Some(source) = &source.downward_api {
                self.fields(source, &format!("{path}.downwardAPI"))?;
            }
        }
        Ok(())
    }

    /// Files of a ConfigMap or Secret, which is empty where it is not there and need not be.
    fn object(
        &mut self,
        kind: ObjectKind,
        name: &str,
        of: &Keys,
        path: &str,
    ) -> Result<(), Reason> {
        refuse_rest(&of.rest, path, &[])?;
        let Some(content) = self.from.config.get(kind, name) else {
            if of.optional {
                return Ok(());
            }
            return Err(self.failed(&format!("{} {name:?} not found", kind_name(kind))));
        };
        let content = values(content, kind, name)?;
        if of.items.is_empty() {
            for (key, content) in content {
                self.put(key, None, content)?;
            }
            return Ok(());
        }
        for item in &of.items {
            refuse_rest(&item.rest, &format!("{path}.items"), &[])?;
            match content.get(&item.key) {
                Some(content) => self.put(item.path.clone(), item.mode, content.clone())?,
                None if of.optional => {}
                None => {
                    let key = &item.key;
                    let what = if kind == ObjectKind::Secret { "secret" } else { "config" };
                    return Err(self.failed(&format!("references non-existent {what} key: {key}")));
                }
            }
        }
        Ok(())
    }

    /// Files of fields of the pod.
    fn fields(&mut self, written: &DownwardApi, path: &str) -> Result<(), Reason> {
        refuse_rest(&written.rest, path, &[])?;
        for (number, file) in written.items.iter().enumerate() {
            let path = format!("{path}.items[{number}]");
            refuse_rest(&file.rest, &path, &[])?;
            let Some(FieldRef { field_path }) = &file.field_ref else {
                return Err(unsupported(&path, "fieldRef is needed"));
            };
            let metadata = self.from.metadata;
            let value = match field_path.as_str() {
                "metadata.labels" => Some(lines(&metadata.labels)),
                "metadata.annotations" => Some(lines(&metadata.annotations)),
                field => self.from.field(field),
            };
            let path = format!("{path}.fieldRef");
            let value = value.ok_or_else(|| unsupported(&path, &format!("{field_path:?}")))?;
            self.put(file.path.clone(), file.mode, value.into_bytes())?;
        }
        Ok(())
    }

    fn put(&mut self, path: String, mode: Option<u32>, content: Vec<u8>) -> Result<(), Reason> {
        let good = |part: &str| !["", ".", ".."].contains(&part);
        if !path.split('/').all(good) || path.starts_with("..") || path.contains('\0') {
            return Err(self.failed(&format!("{path:?} is no file's path in a volume")));
        }
        let mode = mode.unwrap_or(self.mode);
        if mode > 0o777 {
            return Err(self.failed(&format!("{path:?}: mode {mode:o} is above 777")));
        }
        self.files.insert(path.clone(), VolumeFile { path, mode, content });
        Ok(())
    }

    fn failed(&self, why: &str) -> Reason {
        Reason::new(FAILED_MOUNT, format!("volume {:?}: {why}", self.volume))
    }
}

impl Mount {
    fn read(
        &self,
        path: &str,
        env: &[(String, String)],
        privileged: bool,
    ) -> Result<VolumeMount, Reason> {
        refuse_rest(&self.rest, path, &[])?;
        let (at, sub_path) = (format!("{path}.mountPath"), self.part(path, env)?);
        if !self.mount_path.starts_with('/') || self.mount_path.split('/').any(|part| part == "..")
        {
            return Err(invalid(
                &at,
                "must be absolute, without '..': it is a path of the machine",
            ));
        }
        if self.mount_path.split('/').all(str::is_empty) {
            return Err(invalid(&at, "a process of the host has the host's root"));
        }
        Ok(VolumeMount {
            volume: self.name.clone(),
            path: self.mount_path.clone(),
            sub_path,
            read_only: self.read_only(path)?,
            propagation: self.propagation(path, privileged)?,
        })
    }

    /// The part of the volume that is seen.
    fn part(&self, path: &str, env: &[(String, String)]) -> Result<Option<String>, Reason> {
        let mut missing = None;
        let expanded = expand_by(&self.sub_path_expr, |name| {
            let value =
                env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
            missing = missing.take().or_else(|| value.is_none().then(|| name.to_owned()));
            value
        });
        if let Some(name) = missing {
            let line = format!("{path}.subPathExpr: missing value for {name:?}");
            return Err(Reason::new("CreateContainerConfigError", line));
        }
        let part = if self.sub_path.is_empty() { expanded } else { self.sub_path.clone() };
        if part.starts_with('/') || part.split('/').any(|part| part == "..") {
            let line = "must be relative, without '..'";
            return Err(invalid(&format!("{path}.subPath"), line));
        }
        Ok(Some(part).filter(|part| part.split('/').any(|part| !["", "."].contains(&part))))
    }

    fn read_only(&self, path: &str) -> Result<ReadOnly, Reason> {
        match (self.recursive_read_only.as_str(), self.read_only) {
            ("" | "Disabled", false) => Ok(ReadOnly::No),
            ("" | "Disabled", true) => Ok(ReadOnly::Top),
            ("IfPossible", true) => Ok(ReadOnly::RecursiveIfPossible),
            ("Enabled", true) => Ok(ReadOnly::Recursive),
            (other, _) => {
                let path = format!("{path}.recursiveReadOnly");
                Err(unsupported(&path, &format!("{other:?} without readOnly, or unknown")))
            }
        }
    }

    fn propagation(&self, path: &str, privileged: bool) -> Result<Propagation, Reason> {
        match self.mount_propagation.as_str() {
            "" | "None" => Ok(Propagation::None),
            "HostToContainer" => Ok(Propagation::HostToContainer),
            "Bidirectional" if privileged => Ok(Propagation::Bidirectional),
            "Bidirectional" => {
                let line = "Bidirectional is available only to privileged containers";
                Err(invalid(&format!("{path}.mountPropagation"), line))
            }
            other => Err(unsupported(&format!("{path}.mountPropagation"), &format!("{other:?}"))),
        }
    }
}

/// All values of an object, as bytes.
fn values(
    content: &Content,
    kind: ObjectKind,
    name: &str,
) -> Result<BTreeMap<String, Vec<u8>>, Reason> {
    let texts = content.data.iter().map(|(key, text)| (key.clone(), text.clone().into_bytes()));
    let mut values: BTreeMap<String, Vec<u8>> = texts.collect();
    for (key, encoded) in &content.binary_data {
        let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| {
            Reason::new("InvalidTemplate", format!("key {key} of {kind} {name} is not base64"))
        })?;
        values.insert(key.clone(), bytes);
    }
    Ok(values)
}

/// Labels or annotations as Kubernetes writes them into a file: one `key="value"` a line, quoted as
/// Go does.
fn lines(entries: &BTreeMap<String, String>) -> String {
    let lines = entries.iter().map(|(key, value)| format!("{key}={}", quoted(value)));
    lines.collect::<Vec<_>>().join("\n")
}

/// Go's `%q`, for all that is not printable by a number.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{b}' => out.push_str("\\v"),
            letter if letter.is_ascii_control() => {
                out.push_str(&format!("\\x{:02x}", u32::from(letter)));
            }
            letter if letter.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

fn kind_name(kind: ObjectKind) -> String {
    kind.as_str().to_lowercase()
}

/// Names become names of directories.
fn is_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.len() <= 63 && name.bytes().all(good)
}

fn invalid(path: &str, why: &str) -> Reason {
    Reason::new("InvalidTemplate", format!("{path}: {why}"))
}
