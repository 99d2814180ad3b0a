//! `diff`: what applying files would change, told by a program that compares files.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::apply::merged;
use super::change::insist;
use super::printed::yaml;
use crate::args::DiffArgs;
use crate::connect::Client;
use crate::context::Context;
use crate::error::Error;
use crate::files;
use crate::kinds::{Mode, Resource, text};
use crate::out::Out;
use crate::placed;

/// The variable that names another program than `diff -u -N`, with its flags.
const EXTERNAL: &str = "EVERYNODE_EXTERNAL_DIFF";

/// What is shown in place of a secret's value: where both sides have the same, and where they differ.
const MASKS: [&str; 3] = ["***", "*** (before)", "*** (after)"];

/// Tells what would change. Exit code 0: nothing; 1: something; more: it could not be told.
pub(crate) async fn run(args: &DiffArgs, context: &Context, out: &mut Out) -> Result<(), Error> {
    match differences(args, context, out).await {
        Ok(0) => Ok(()),
        Ok(code) => Err(Error::Exit(code)),
        Err(Error::Told) => Err(Error::Exit(2)),
        Err(error) => {
            out.note(error);
            Err(Error::Exit(2))
        }
    }
}

async fn differences(args: &DiffArgs, context: &Context, out: &mut Out) -> Result<u8, Error> {
    let manifests = placed::objects(&args.files, "diff", context, out)?;
    let client = context.connect().await?;
    let sides = Sides::new()?;
    let mut failed = false;
    for (manifest, object) in &manifests {
        match compared(&client, object).await {
            Ok((live, next)) => sides.add(object, live, next)?,
            Err(Error::Refused(refusal)) => {
                failed = true;
                let told = files::explain(&manifest.document, &refusal);
                out.note(told.unwrap_or_else(|| Error::Refused(refusal).to_string()));
            }
            Err(error) => return Err(error),
        }
    }
    if failed {
        return Err(Error::Told);
    }
    sides.compare(out)
}

/// The object as it is, if it is, and as it would be.
async fn compared(client: &Client, object: &Value) -> Result<(Option<Value>, Value), Error> {
    let kind = Resource::of(object)?;
    let (namespace, name) = (text(object, "/metadata/namespace"), text(object, "/metadata/name"));
    match kind.read(client, namespace, name).await {
        Ok(live) => {
            let mut next = merged(&live, object)?;
            insist(&mut next, &live);
            let next = kind.write(Mode::Replace, client, &next, true).await?.object;
            Ok((Some(live), next))
        }
        Err(error) if error.is_not_found() => {
            let next = kind.write(Mode::Create, client, object, true).await?.object;
            Ok((None, next))
        }
        Err(error) => Err(error),
    }
}

/// Two directories of files for a program to compare, gone when dropped.
struct Sides {
    root: PathBuf,
}

impl Sides {
    fn new() -> Result<Self, Error> {
        let root = std::env::temp_dir().join(format!("everynode-diff-{}", uuid::Uuid::new_v4()));
        let sides = Self { root };
        for side in ["", "LIVE", "MERGED"] {
            // For the one who asked: objects may be nobody else's business.
            let path = sides.root.join(side);
            let made = fs::DirBuilder::new().mode(0o700).create(&path);
            made.map_err(|source| Error::File { path: path.display().to_string(), source })?;
        }
        Ok(sides)
    }

    fn add(&self, object: &Value, live: Option<Value>, next: Value) -> Result<(), Error> {
        let new = live.is_none();
        let mut live = live.map(|live| shown(live, false));
        let mut next = shown(next, new);
        mask(live.as_mut(), &mut next);
        let name = ["/apiVersion", "/kind", "/metadata/namespace", "/metadata/name"]
            .map(|pointer| text(object, pointer).replace('/', "."))
            .join(".");
        if let Some(live) = live {
            self.write("LIVE", &name, &live)?;
        }
        self.write("MERGED", &name, &next)
    }

    fn write(&self, side: &str, name: &str, object: &Value) -> Result<(), Error> {
        let path = self.root.join(side).join(name);
        let text = yaml(object)?;
        let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        opened
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|source| Error::File { path: path.display().to_string(), source })
    }

    /// Has the program compare; its exit code.
    fn compare(&self, out: &mut Out) -> Result<u8, Error> {
        let said = std::env::var(EXTERNAL).unwrap_or_default();
        let mut words = said.split_whitespace();
        let (program, flags): (&str, Vec<&str>) = match words.next() {
            Some(program) => (program, words.collect()),
            None => ("diff", vec!["-u", "-N"]),
        };
        let ran = Command::new(program)
            .args(flags)
            .args(["LIVE", "MERGED"])
            .current_dir(&self.root)
            .stdin(Stdio::inherit())
            .stderr(Stdio::inherit())
            .output();
        let ran = ran.map_err(|error| {
            Error::Failed(format!("can't run {program}: {error}; {EXTERNAL} names another program"))
        })?;
        out.text(&String::from_utf8_lossy(&ran.stdout))?;
        let code = ran.status.code().and_then(|code| u8::try_from(code).ok());
        match code {
            Some(code @ (0 | 1)) => Ok(code),
            _ => Err(Error::Failed(format!("{program} failed: {}", ran.status))),
        }
    }
}

impl Drop for Sides {
    fn drop(&mut self) {
        // What can't be removed is for whoever clears the directory of temporary files.
        let _ = fs::remove_dir_all(Path::new(&self.root));
    }
}

/// The object without what changes by itself; of a new one also without what it has not yet.
fn shown(mut object: Value, new: bool) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
        if new {
            for field in ["uid", "creationTimestamp", "generation"] {
                metadata.remove(field);
            }
        }
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            annotations.remove(everynode_manifest::LAST_APPLIED);
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
    }
    object
}

/// Hides the values of a Secret, and shows which differ.
fn mask(live: Option<&mut Value>, next: &mut Value) {
    if next["kind"] != "Secret" {
        return;
    }
    let mut none = Value::Null;
    let live = live.unwrap_or(&mut none);
    for field in ["data", "stringData"] {
        let before = live.get(field).and_then(Value::as_object).cloned().unwrap_or_default();
        let after = next.get(field).and_then(Value::as_object).cloned().unwrap_or_default();
        let differs = |key: &String| {
            let (before, after) = (before.get(key), after.get(key));
            before.is_some() && after.is_some() && before != after
        };
        for (side, mask) in [(&mut *live, MASKS[1]), (&mut *next, MASKS[2])] {
            for (key, value) in
                side.get_mut(field).and_then(Value::as_object_mut).into_iter().flatten()
            {
                *value = if differs(key) { mask } else { MASKS[0] }.into();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let mut live = json!({"kind": "Secret", "data": {"same": "a", "other": "b", "gone": "c"}});
        let mut next = json!({"kind": "Secret", "data": {"same": "a", "other": "x", "new": "d"}});
        mask(Some(&mut live), &mut next);
        assert_eq!(live["data"], json!({"same": "***", "other": "*** (before)", "gone": "***"}));
        assert_eq!(next["data"], json!({"same": "***", "other": "*** (after)", "new": "***"}));
        let mut new = json!({"kind": "Secret", "stringData": {"a": "b"}});
        mask(None, &mut new);
        assert_eq!(new["stringData"], json!({"a": "***"}));
    }

    #[test]
    fn what_changes_by_itself_is_no_difference() {
        let object = json!({"metadata": {"uid": "u", "resourceVersion": "5", "generation": 1,
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}}, "status": {}});
        assert_eq!(
            shown(object.clone(), false),
            json!({"metadata": {"uid": "u", "generation": 1}})
        );
        assert_eq!(shown(object, true), json!({"metadata": {}}));
    }
}
