//! The files of volumes that are made of ConfigMaps, Secrets and fields of the pod. What a template
//! reads is in its body, so that a pod's files are those of its revision.

use std::collections::BTreeMap;

use everynode_agent_core::{VolumeFile, VolumeSource};
use everynode_model::{ObjectKind, Reason};
use serde::Deserialize;

use super::env::Sources;
use super::fields::{FieldRef, Rest, refuse_rest};
use super::unsupported;

/// The kubelet's word for a volume that can't be made.
pub(super) const FAILED_MOUNT: &str = "FailedMount";

/// Permissions of files that a template says nothing of.
const DEFAULT_MODE: u32 = 0o644;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConfigMap {
    #[serde(default)]
    name: String,
    default_mode: Option<u32>,
    #[serde(flatten)]
    of: Keys,
}

/// Kubernetes' other name for the object's name.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Secret {
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
pub(super) struct DownwardApi {
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
pub(super) struct Projected {
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

impl ConfigMap {
    pub(super) fn read(
        &self,
        volume: &str,
        from: &Sources<'_>,
        path: &str,
    ) -> Result<VolumeSource, Reason> {
        filled(volume, self.default_mode, from, |into| {
            into.object(ObjectKind::ConfigMap, &self.name, &self.of, path)
        })
    }
}

impl Secret {
    pub(super) fn read(
        &self,
        volume: &str,
        from: &Sources<'_>,
        path: &str,
    ) -> Result<VolumeSource, Reason> {
        filled(volume, self.default_mode, from, |into| {
            into.object(ObjectKind::Secret, &self.secret_name, &self.of, path)
        })
    }
}

impl DownwardApi {
    pub(super) fn read(
        &self,
        volume: &str,
        from: &Sources<'_>,
        path: &str,
    ) -> Result<VolumeSource, Reason> {
        filled(volume, self.default_mode, from, |into| into.fields(self, path))
    }
}

impl Projected {
    pub(super) fn read(
        &self,
        volume: &str,
        from: &Sources<'_>,
        path: &str,
    ) -> Result<VolumeSource, Reason> {
        filled(volume, self.default_mode, from, |into| into.all(self, path))
    }
}

/// A volume with the files that `fill` puts into it.
fn filled(
    volume: &str,
    mode: Option<u32>,
    from: &Sources<'_>,
    fill: impl FnOnce(&mut Filling<'_>) -> Result<(), Reason>,
) -> Result<VolumeSource, Reason> {
    let mode = mode.unwrap_or(DEFAULT_MODE);
    let mut filling = Filling { volume, mode, from, files: BTreeMap::new() };
    fill(&mut filling)?;
    Ok(VolumeSource::Files(filling.files.into_values().collect()))
}

/// The files of one volume, while they are gathered.
struct Filling<'a> {
    volume: &'a str,
    mode: u32,
    from: &'a Sources<'a>,
    /// By path: a later one outdoes an earlier one.
    files: BTreeMap<String, VolumeFile>,
}

impl Filling<'_> {
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
        let found = self.from.config.get(kind, name, of.optional);
        let Some(content) = found.map_err(|why| self.failed(&why))? else { return Ok(()) };
        let content = content.values(kind, name)?;
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
            let Some(field) = &file.field_ref else {
                return Err(unsupported(&path, "fieldRef is needed"));
            };
            let metadata = self.from.metadata;
            let value = match field.field_path.as_str() {
                "metadata.labels" => lines(&metadata.labels),
                "metadata.annotations" => lines(&metadata.annotations),
                _ => self.from.field(field, &path)?,
            };
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
