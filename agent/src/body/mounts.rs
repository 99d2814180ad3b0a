//! Where a container sees volumes, and how.

use std::collections::BTreeSet;

use everynode_agent_core::{Propagation, ReadOnly, VolumeMount};
use everynode_model::Reason;
use serde::Deserialize;

use super::env::{expand_by, lookup};
use super::fields::{Rest, refuse_rest};
use super::volumes::{from_root, leads_up};
use super::{CONFIG_ERROR, invalid, unsupported};

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

/// All that a container sees.
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

impl Mount {
    /// Of which volume it is.
    pub(super) fn volume(&self) -> &str {
        &self.name
    }

    fn read(
        &self,
        path: &str,
        env: &[(String, String)],
        privileged: bool,
    ) -> Result<VolumeMount, Reason> {
        refuse_rest(&self.rest, path, &[])?;
        let (at, sub_path) = (format!("{path}.mountPath"), self.part(path, env)?);
        if leads_up(&self.mount_path) {
            return Err(invalid(&at, "must not contain '..': it is a path of the machine"));
        }
        if self.mount_path.split('/').all(str::is_empty) {
            return Err(invalid(&at, "a process of the host has the host's root"));
        }
        Ok(VolumeMount {
            volume: self.name.clone(),
            path: from_root(&self.mount_path),
            sub_path,
            read_only: self.read_only(path)?,
            propagation: self.propagation(path, privileged)?,
        })
    }

    /// The part of the volume that is seen.
    fn part(&self, path: &str, env: &[(String, String)]) -> Result<Option<String>, Reason> {
        let mut missing = None;
        let expanded = expand_by(&self.sub_path_expr, |name| {
            let value = lookup(env, name);
            missing = missing.take().or_else(|| value.is_none().then(|| name.to_owned()));
            value
        });
        if let Some(name) = missing {
            let line = format!("{path}.subPathExpr: missing value for {name:?}");
            return Err(Reason::new(CONFIG_ERROR, line));
        }
        let part = if self.sub_path.is_empty() { expanded } else { self.sub_path.clone() };
        if part.starts_with('/') || leads_up(&part) {
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
