//! `create configmap`, `create secret generic`, `create namespace`: objects without a manifest.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use crate::args::{BareArgs, CreateVerb, SecretVerb, ValuesArgs};
use crate::error::Error;
use crate::files::bounded;

/// The most that a file may have: what an object may have in all.
const MOST_BYTES: usize = 1024 * 1024;

/// The object that the arguments describe, and how it is to be created.
pub(super) fn object(verb: &CreateVerb) -> Result<(Value, &BareArgs), Error> {
    match verb {
        CreateVerb::Namespace(bare) => Ok((head("Namespace", bare), bare)),
        CreateVerb::Configmap(ValuesArgs { r#type: Some(_), .. }) => {
            Err(Error::Usage("--type is for secrets".into()))
        }
        CreateVerb::Configmap(args) => {
            let (mut data, mut binary) = (Map::new(), Map::new());
            for (key, value) in values(args)? {
                match String::from_utf8(value) {
                    Ok(text) => _ = data.insert(key, text.into()),
                    Err(raw) => {
                        binary.insert(key, BASE64_STANDARD.encode(raw.as_bytes()).into());
                    }
                }
            }
            let mut map = head("ConfigMap", &args.bare);
            for (field, values) in [("data", data), ("binaryData", binary)] {
                if !values.is_empty() {
                    map[field] = values.into();
                }
            }
            Ok((map, &args.bare))
        }
        CreateVerb::Secret(SecretVerb::Generic(args)) => {
            let encoded =
                |(key, value): (String, Vec<u8>)| (key, BASE64_STANDARD.encode(value).into());
            let mut secret = head("Secret", &args.bare);
            secret["data"] = Value::Object(values(args)?.into_iter().map(encoded).collect());
            secret["type"] = args.r#type.as_deref().unwrap_or("Opaque").into();
            Ok((secret, &args.bare))
        }
    }
}

fn head(kind: &str, bare: &BareArgs) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": bare.name}})
}

/// The keys and values that are given, none of them twice.
fn values(args: &ValuesArgs) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let mut values: Vec<(String, Vec<u8>)> = Vec::new();
    for literal in &args.from_literal {
        let (key, value) =
            literal.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
                Error::Usage(format!("invalid --from-literal {literal:?}: expected key=value"))
            })?;
        values.push((key.to_owned(), value.as_bytes().to_vec()));
    }
    for given in &args.from_file {
        let (key, path) = match given.split_once('=') {
            Some((key, path)) => (Some(key), Path::new(path)),
            None => (None, Path::new(given)),
        };
        if path.is_dir() {
            values.extend(directory(path, key)?);
        } else {
            let name = key.map_or_else(|| file_name(path), str::to_owned);
            values.push((name, content(path)?));
        }
    }
    let mut names: Vec<&str> = values.iter().map(|(key, _)| key.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::Usage(format!("the key {:?} is given twice", pair[0]))),
        None => Ok(values),
    }
}

fn directory(path: &Path, key: Option<&str>) -> Result<Vec<(String, Vec<u8>)>, Error> {
    if key.is_some() {
        return Err(Error::Usage(
            "cannot give a key name for a directory path: each file has its name".into(),
        ));
    }
    let entries = fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut paths: Vec<_> =
        entries.map_err(|source| failed(path, source))?.iter().map(fs::DirEntry::path).collect();
    paths.sort();
    let files = paths.iter().filter(|path| path.is_file());
    files.map(|path| Ok((file_name(path), content(path)?))).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn content(path: &Path) -> Result<Vec<u8>, Error> {
    let read = fs::File::open(path).and_then(|file| bounded(file, MOST_BYTES));
    let bytes = read.map_err(|source| failed(path, source))?;
    if bytes.len() > MOST_BYTES {
        let most = "more than the 1 MiB that an object may have";
        return Err(Error::Usage(format!("{}: {most}", path.display())));
    }
    Ok(bytes)
}

fn failed(path: &Path, source: std::io::Error) -> Error {
    Error::File { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{DryRun, DryRunArgs};

    fn args(literals: &[&str], files: &[&str]) -> ValuesArgs {
        let owned = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect();
        ValuesArgs {
            bare: BareArgs {
                name: "x".into(),
                dry_run: DryRunArgs { dry_run: DryRun::None },
                output: None,
            },
            from_literal: owned(literals),
            from_file: owned(files),
            r#type: None,
        }
    }

    #[test]
    fn values_are_kubectls() {
        let verb = CreateVerb::Configmap(args(&["a=1=2", "b="], &["c=/dev/null"]));
        let (map, _) = object(&verb).unwrap();
        assert_eq!(map["data"], json!({"a": "1=2", "b": "", "c": ""}));
        let verb = CreateVerb::Secret(SecretVerb::Generic(args(&["k=hunter2"], &[])));
        let (secret, _) = object(&verb).unwrap();
        assert_eq!(
            (&secret["data"]["k"], &secret["type"]),
            (&json!("aHVudGVyMg=="), &json!("Opaque"))
        );
        for bad in [
            args(&["a"], &[]),
            args(&["=1"], &[]),
            args(&["a=1", "a=2"], &[]),
            args(&[], &["k=/etc"]),
        ] {
            assert!(object(&CreateVerb::Configmap(bad)).is_err());
        }
        assert!(object(&CreateVerb::Configmap(args(&[], &["z=/dev/zero"]))).is_err());
    }
}
