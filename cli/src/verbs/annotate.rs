//! `annotate`, and `label` of anything but nodes: keys with values set and removed.

use std::collections::BTreeMap;

use serde_json::Value;

use super::change::{Named, change, named};
use super::effect;
use super::printed::Printer;
use crate::args::{ChangeArgs, DryRun};
use crate::context::Context;
use crate::error::Error;
use crate::kinds::{full_name, text};
use crate::out::Out;

/// Which of an object's maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Map {
    Labels,
    Annotations,
}

impl Map {
    const fn field(self) -> &'static str {
        match self {
            Self::Labels => "labels",
            Self::Annotations => "annotations",
        }
    }

    const fn one(self) -> &'static str {
        match self {
            Self::Labels => "label",
            Self::Annotations => "annotation",
        }
    }
}

/// A key set, or (without a value) removed.
type Change = (String, Option<String>);

/// Changes the map of the objects that are named.
pub(crate) async fn run(
    map: Map,
    args: &ChangeArgs,
    context: &Context,
    out: &mut Out,
) -> Result<(), Error> {
    let (what, changes) = split(&args.what);
    let changes = parse(&changes)?;
    if changes.is_empty() && !args.list {
        return Err(Error::Usage(format!("at least one {} update is required", map.one())));
    }
    let client = context.connect().await?;
    let targets = named(&what, args.selector.as_deref(), args.all, context, &client).await?;
    if targets.is_empty() {
        return Err(Error::Usage("no resources found".into()));
    }
    let mut printer = Printer::new(args.output);
    for one in &targets {
        let live = one.kind.read(&client, &one.namespace, &one.name).await?;
        let missing = changes.iter().filter(|(key, value)| {
            value.is_none() && live["metadata"][map.field()].get(key).is_none()
        });
        missing.for_each(|(key, _)| out.note(format!("{} {key:?} not found.", map.one())));
        let mode = args.dry_run.dry_run;
        let (after, effect) = if mode == DryRun::Client || changes.is_empty() {
            (changed(map, &live, &changes, args)?, None)
        } else {
            let apply = |live: &Value| changed(map, live, &changes, args);
            let written = change(one, &client, mode == DryRun::Server, apply).await?;
            (written.object, written.effect)
        };
        if args.list {
            list(map, &after, targets.len() > 1, one, out)?;
            continue;
        }
        let effect = effect::words(effect.as_ref());
        let done = format!("{}{effect}{}", done(map, &live, &after, &changes), mode.mark());
        printer.print(out, &full_name(&after), &done, || Ok(after.clone()))?;
    }
    Ok(())
}

/// The words before the changes, and those that are changes.
fn split(words: &[String]) -> (Vec<String>, Vec<String>) {
    let change = |word: &String| word.contains('=') || word.ends_with('-');
    let first = words.iter().skip(1).position(change).map_or(words.len(), |at| at + 1);
    (words[..first].to_vec(), words[first..].to_vec())
}

fn parse(changes: &[String]) -> Result<Vec<Change>, Error> {
    let mut seen = BTreeMap::new();
    let one = |text: &String| {
        let (key, value) = match (text.split_once('='), text.strip_suffix('-')) {
            (Some((key, value)), _) => (key, Some(value.to_owned())),
            (None, Some(key)) => (key, None),
            _ => return Err(Error::Usage(format!("{text:?} is neither KEY=VALUE nor KEY-"))),
        };
        if key.is_empty() {
            return Err(Error::Usage(format!("{text:?} is neither KEY=VALUE nor KEY-")));
        }
        if seen.insert(key.to_owned(), value.is_some()).is_some_and(|set| set != value.is_some()) {
            return Err(Error::Usage(format!("cannot modify and remove {key:?} in one command")));
        }
        Ok((key.to_owned(), value))
    };
    changes.iter().map(one).collect()
}

fn changed(map: Map, live: &Value, changes: &[Change], args: &ChangeArgs) -> Result<Value, Error> {
    let mut object = live.clone();
    let Some(metadata) = object["metadata"].as_object_mut() else { return Ok(object) };
    let found = metadata.remove(map.field());
    let mut entries = found.and_then(|found| found.as_object().cloned()).unwrap_or_default();
    for (key, value) in changes {
        let Some(value) = value else {
            entries.remove(key);
            continue;
        };
        let before = entries.insert(key.clone(), value.as_str().into());
        if let Some(before) = before.filter(|before| before != value && !args.overwrite) {
            let before = before.as_str().unwrap_or_default();
            return Err(Error::Usage(format!(
                "'{key}' already has a value ({before}), and --overwrite is false"
            )));
        }
    }
    if !entries.is_empty() {
        metadata.insert(map.field().into(), entries.into());
    }
    if let Some(version) = &args.resource_version {
        metadata.insert("resourceVersion".into(), version.as_str().into());
    }
    Ok(object)
}

/// kubectl's words.
fn done(map: Map, before: &Value, after: &Value, changes: &[Change]) -> &'static str {
    let same = before["metadata"][map.field()] == after["metadata"][map.field()];
    let removes = changes.iter().all(|(_, value)| value.is_none());
    match (map, same, removes) {
        (Map::Annotations, ..) => "annotated",
        (Map::Labels, true, _) => "not labeled",
        (Map::Labels, _, true) => "unlabeled",
        (Map::Labels, ..) => "labeled",
    }
}

fn list(map: Map, object: &Value, several: bool, one: &Named, out: &mut Out) -> Result<(), Error> {
    let indent = if several { " " } else { "" };
    if several {
        let (kind, name) = (text(object, "/kind"), &one.name);
        out.line(format!("Listing {} for {kind}/{name}:", map.field()))?;
    }
    for (key, value) in object["metadata"][map.field()].as_object().into_iter().flatten() {
        out.line(format!("{indent}{key}={}", value.as_str().unwrap_or_default()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::json;

    use super::*;
    use crate::args::{Cli, Verb};

    fn args(line: &str) -> ChangeArgs {
        let Verb::Label(args) = Cli::parse_from(line.split_whitespace()).verb else { panic!() };
        args
    }

    fn labelled(line: &str, labels: &Value) -> Result<Value, String> {
        let args = args(line);
        let (what, changes) = split(&args.what);
        assert_eq!(what, ["ds", "x"]);
        let live = json!({"metadata": {"labels": labels, "resourceVersion": "1"}});
        let changes = parse(&changes).map_err(|error| error.to_string())?;
        let after = changed(Map::Labels, &live, &changes, &args);
        after.map(|after| after["metadata"].clone()).map_err(|error| error.to_string())
    }

    #[test]
    fn keys_are_set_and_removed() {
        let labels = json!({"a": "1", "b": "2"});
        let after = |line: &str| labelled(line, &labels).unwrap()["labels"].clone();
        assert_eq!(after("everynode label ds x c=3 b-"), json!({"a": "1", "c": "3"}));
        assert_eq!(after("everynode label ds x a=1"), labels);
        assert_eq!(after("everynode label ds x a=5 --overwrite"), json!({"a": "5", "b": "2"}));
        assert_eq!(after("everynode label ds x a- b-"), json!(null));
        let said = labelled("everynode label ds x a=5", &labels).unwrap_err();
        assert_eq!(said, "error: 'a' already has a value (1), and --overwrite is false");
        assert!(labelled("everynode label ds x a=5 a-", &labels).is_err());
        let version = labelled("everynode label ds x --resource-version 7 c=d", &labels).unwrap();
        assert_eq!(version["resourceVersion"], "7");
    }

    #[test]
    fn what_was_done_is_said_in_kubectls_words() {
        let with = |labels: Value| json!({"metadata": {"labels": labels}});
        let (one, two) = (with(json!({"a": "1"})), with(json!({"a": "2"})));
        let set = [("a".to_owned(), Some("2".to_owned()))];
        assert_eq!(done(Map::Labels, &one, &two, &set), "labeled");
        assert_eq!(done(Map::Labels, &two, &two, &set), "not labeled");
        assert_eq!(done(Map::Labels, &one, &with(json!({})), &[("a".into(), None)]), "unlabeled");
        assert_eq!(done(Map::Annotations, &one, &one, &set), "annotated");
    }
}
