//! `apply`: what the file says is set, what it said last time and says no more goes, and what others
//! have set stays. The file is kept in an annotation of the object, for the next time.

use everynode_manifest::{LAST_APPLIED, PatchKind, patch, three_way};
use serde_json::{Map, Value, json};

use super::change::{TRIES, insist, named};
use super::printed::{json_text, yaml};
use crate::args::{ObjectOutput, ViewLastAppliedArgs};
use crate::connect::Client;
use crate::context::Context;
use crate::error::Error;
use crate::kinds::{Mode, Resource, Written, text};
use crate::out::Out;

/// Creates or changes what the object describes, anew where somebody else was faster.
pub(crate) async fn apply(
    client: &Client,
    object: &Value,
    dry_run: bool,
) -> Result<Written, Error> {
    let mut tries = 1;
    loop {
        let Step { kind, mode, next, insists, warning } = step(client, object).await?;
        match kind.write(mode, client, &next, dry_run).await {
            Ok(mut written) => {
                written.created = mode == Mode::Create;
                written.warnings.extend(warning);
                return Ok(written);
            }
            // It came, changed or went in between.
            Err(error) if !insists && tries < TRIES && overtaken(&error, mode) => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// What applying an object comes to now.
pub(crate) struct Step {
    pub(crate) kind: Resource,
    pub(crate) mode: Mode,
    /// The object to write.
    pub(crate) next: Value,
    /// Whether its file names a version of its own.
    pub(crate) insists: bool,
    /// What to say of it.
    pub(crate) warning: Option<String>,
}

/// Looks at what is there.
pub(crate) async fn step(client: &Client, object: &Value) -> Result<Step, Error> {
    let kind = Resource::of(object)?;
    let (namespace, name) = (text(object, "/metadata/namespace"), text(object, "/metadata/name"));
    let live = match kind.read(client, namespace, name).await {
        Ok(live) => Some(live),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error),
    };
    let (mode, mut next) = match &live {
        Some(live) => (Mode::Replace, merged(live, object)?),
        None => (Mode::Create, object.clone()),
    };
    remember(&mut next, object);
    let insists = live.as_ref().is_some_and(|live| insist(&mut next, live));
    Ok(Step { kind, mode, next, insists, warning: live.as_ref().and_then(unremembered) })
}

pub(crate) fn overtaken(error: &Error, mode: Mode) -> bool {
    match mode {
        Mode::Create => error.is_already_exists(),
        Mode::Replace => error.is_conflict() || error.is_not_found(),
    }
}

/// The live object as the applied one makes it; the annotation is not part of that.
pub(crate) fn merged(live: &Value, object: &Value) -> Result<Value, Error> {
    let last = live["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap_or("null");
    let last = serde_json::from_str(last).map_err(|error| {
        Error::Failed(format!("the annotation {LAST_APPLIED} can't be read: {error}"))
    })?;
    let sent = three_way(&last, live, &without_what_was_kept(object));
    patch(PatchKind::Strategic, live, &sent).map_err(|error| Error::Failed(error.to_string()))
}

/// Keeps `applied` in the annotation of `object`.
pub(crate) fn remember(object: &mut Value, applied: &Value) {
    let kept = format!("{}\n", kept(applied));
    let mut annotations = taken_annotations(object);
    annotations.insert(LAST_APPLIED.into(), kept.into());
    object["metadata"]["annotations"] = annotations.into();
}

/// What is kept of an applied object, in kubectl's form: with annotations even where there are none,
/// so that those of others are not taken for ones that were dropped.
fn kept(applied: &Value) -> Value {
    let mut kept = without_what_was_kept(applied);
    if text(&kept, "/kind") == "Secret" {
        // What goes is found by its key: no value has to be kept where everybody can read it.
        let values = kept.get_mut("data").and_then(Value::as_object_mut);
        values.into_iter().flat_map(Map::values_mut).for_each(|value| *value = "".into());
    }
    kept
}

/// An applied object without what is of earlier days.
fn without_what_was_kept(applied: &Value) -> Value {
    let mut kept = applied.clone();
    if let Some(fields) = kept.as_object_mut() {
        fields.remove("status");
    }
    let mut annotations = taken_annotations(&mut kept);
    annotations.remove(LAST_APPLIED);
    kept["metadata"]["annotations"] = annotations.into();
    kept
}

fn taken_annotations(object: &mut Value) -> Map<String, Value> {
    let metadata = object["metadata"].as_object_mut();
    let found = metadata.and_then(|metadata| metadata.remove("annotations"));
    found.and_then(|found| found.as_object().cloned()).unwrap_or_default()
}

/// What to say of an object that nobody has applied yet.
fn unremembered(live: &Value) -> Option<String> {
    let applied = live["metadata"]["annotations"].get(LAST_APPLIED).is_some();
    (!applied).then(|| {
        let plural = match text(live, "/kind") {
            "DaemonSet" => "daemonsets".to_owned(),
            other => format!("{}s", other.to_lowercase()),
        };
        format!(
            "resource {plural}/{} is missing the {LAST_APPLIED} annotation which is required by \
             everynode apply: what it had before and this file leaves out stays. The missing \
             annotation will be patched automatically.",
            text(live, "/metadata/name")
        )
    })
}

/// `apply view-last-applied`.
pub(crate) async fn view(
    args: &ViewLastAppliedArgs,
    context: &Context,
    out: &mut Out,
) -> Result<(), Error> {
    let client = context.connect().await?;
    for (number, one) in named(&args.what, args.selector.as_deref(), args.all, context, &client)
        .await?
        .iter()
        .enumerate()
    {
        let live = one.kind.read(&client, &one.namespace, &one.name).await?;
        let last = live["metadata"]["annotations"][LAST_APPLIED].as_str().ok_or_else(|| {
            Error::Failed(format!("no last-applied-configuration annotation found on {}", one.name))
        })?;
        let last: Value = serde_json::from_str(last).unwrap_or_else(|_| json!(last));
        out.text(&match args.output {
            ObjectOutput::Json => json_text(&last),
            ObjectOutput::Yaml if number > 0 => format!("---\n{}", yaml(&last)?),
            ObjectOutput::Yaml => yaml(&last)?,
            ObjectOutput::Name => format!("{}\n", crate::kinds::full_name(&live)),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(labels: &Value) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "DaemonSet",
               "metadata": {"name": "x", "namespace": "default", "labels": labels}})
    }

    #[test]
    fn what_was_applied_is_kept_as_kubectl_keeps_it() {
        let mut object = set(&json!({"a": "1"}));
        let applied = object.clone();
        remember(&mut object, &applied);
        assert_eq!(
            object["metadata"]["annotations"][LAST_APPLIED],
            "{\"apiVersion\":\"apps/v1\",\"kind\":\"DaemonSet\",\"metadata\":{\"annotations\":{},\
             \"labels\":{\"a\":\"1\"},\"name\":\"x\",\"namespace\":\"default\"}}\n"
        );
        // It does not hold itself.
        let again = object.clone();
        remember(&mut object, &again);
        assert_eq!(object, again);
    }

    #[test]
    fn no_value_of_a_secret_is_kept_and_its_keys_are() {
        let secret = |data: Value| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": data});
        let mut live = secret(json!({"a": "aHVudGVyMg==", "gone": "eA=="}));
        let applied = live.clone();
        remember(&mut live, &applied);
        let kept = live["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap();
        assert!(kept.contains(r#""data":{"a":"","gone":""}"#) && !kept.contains("aHVudGVyMg"));
        let after = merged(&live, &secret(json!({"a": "bmV3"}))).unwrap();
        assert_eq!(after["data"], json!({"a": "bmV3"}));
    }

    #[test]
    fn what_others_set_survives_an_apply() {
        let mut live = set(&json!({"a": "1", "theirs": "1"}));
        remember(&mut live, &set(&json!({"a": "1", "old": "1"})));
        live["metadata"]["labels"]["old"] = "1".into();
        let after = merged(&live, &set(&json!({"a": "2"}))).unwrap();
        assert_eq!(after["metadata"]["labels"], json!({"a": "2", "theirs": "1"}));
        // The annotation is changed by whoever writes, not by the merge.
        assert_eq!(after["metadata"]["annotations"], live["metadata"]["annotations"]);
        live["metadata"]["annotations"][LAST_APPLIED] = "{".into();
        assert!(merged(&live, &set(&json!({}))).unwrap_err().to_string().contains("can't be read"));
    }

    #[test]
    fn an_object_that_nobody_applied_is_told() {
        let mut live = set(&json!({}));
        assert!(unremembered(&live).unwrap().starts_with("resource daemonsets/x is missing"));
        let applied = live.clone();
        remember(&mut live, &applied);
        assert_eq!(unremembered(&live), None);
    }
}
