//! A DaemonSet to change in one place, and what the door says of it.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests"
)]

use std::path::PathBuf;

use everynode_manifest::{Admitted, admit, read};
use serde_json::Value;

/// The DaemonSet of many a tutorial.
pub const TUTORIAL: &str = "\
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: monitoring-daemon
spec:
  selector:
    matchLabels:
      app: monitoring-agent
  template:
    metadata:
      labels:
        app: monitoring-agent
    spec:
      containers:
      - name: monitoring-agent
        image: monitoring-agent
";

/// The first object of a text.
pub fn parse(text: &str) -> Value {
    read("f.yaml", text.as_bytes()).unwrap().remove(0).value
}

/// The tutorial's DaemonSet with `value` at `pointer` (a JSON pointer; `null` removes).
pub fn with(changes: &[(&str, Value)]) -> Value {
    let mut object = parse(TUTORIAL);
    for (pointer, value) in changes {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = object.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer}"));
        match parent {
            Value::Array(items) => items[name.parse::<usize>().unwrap()] = value.clone(),
            fields if value.is_null() => drop(fields.as_object_mut().unwrap().remove(name)),
            fields => fields[name] = value.clone(),
        }
    }
    object
}

/// What is wrong with an object, as people see it.
pub fn errors(object: &Value) -> Vec<String> {
    match admit(object) {
        Ok(_) => Vec::new(),
        Err(rejected) => rejected.errors().iter().map(ToString::to_string).collect(),
    }
}

/// The object, which must be admitted.
pub fn admitted(object: &Value) -> Admitted {
    admit(object).unwrap_or_else(|rejected| panic!("{rejected}"))
}

/// Checks that the tutorial's DaemonSet with `value` at `pointer` has just these errors.
#[track_caller]
pub fn refused(pointer: &str, value: Value, expected: &[&str]) {
    assert_eq!(errors(&with(&[(pointer, value)])), expected);
}

/// The folder of published manifests; `None`, with a message, where there is none.
pub fn corpus_folder() -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    let folder = std::env::var_os("EVERYNODE_CORPUS").map_or(beside, PathBuf::from);
    if !folder.is_dir() {
        println!("skipped: no corpus at {}; set EVERYNODE_CORPUS", folder.display());
        return None;
    }
    Some(folder)
}

/// The published manifests, by name.
pub fn corpus() -> Option<Vec<(String, Vec<u8>)>> {
    let mut files: Vec<_> = std::fs::read_dir(corpus_folder()?)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| {
            (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    Some(files)
}
