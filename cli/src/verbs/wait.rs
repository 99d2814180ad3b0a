//! `wait`: until something holds of objects, or they are gone, or there.

use everynode_proto::v1::WatchRequest;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::change::{Named, by_name, named};
use crate::args::WaitArgs;
use crate::connect::Client;
use crate::context::Context;
use crate::error::Error;
use crate::jsonpath::{JsonPath, go_text};
use crate::kinds::{Kind, not_found, of_kind};
use crate::out::Out;
use crate::placed;
use crate::watch::{Change, Watch};

/// What is waited for.
#[derive(Debug, PartialEq)]
enum For {
    Create,
    Delete,
    Condition { name: String, status: String },
    JsonPath { path: JsonPath, value: Option<String> },
}

/// Waits for each of the objects, all within one timeout.
pub(crate) async fn run(args: &WaitArgs, context: &Context, out: &mut Out) -> Result<(), Error> {
    let wanted = parse(&args.r#for)?;
    let client = context.connect().await?;
    let targets = if !args.filename.is_empty() {
        placed::named(&args.filename, args.recursive, context, out)?
    } else if args.all || args.selector.is_some() {
        named(&args.what, args.selector.as_deref(), args.all, context, &client).await?
    } else {
        by_name(&args.what, context)?
    };
    if targets.is_empty() {
        // What is to be gone and was never there is gone.
        return if wanted == For::Delete {
            Ok(())
        } else {
            Err(Error::Usage("no matching resources found".into()))
        };
    }
    let end = Instant::now() + args.timeout;
    let mut failed = false;
    for one in &targets {
        let name = format!("{}/{}", one.kind.names().singular, one.name);
        let waited = of_kind!(one.kind, K => {
            if args.timeout.is_zero() {
                once::<K>(one, &wanted, &client).await
            } else {
                let held = until::<K>(one, &wanted, context, &client, out);
                timeout_at(end, held).await.unwrap_or(Ok(false))
            }
        });
        match waited {
            Ok(true) => out.line(format!("{name} condition met"))?,
            Ok(false) => {
                failed = true;
                out.note(format!("error: timed out waiting for the condition on {name}"));
            }
            Err(error @ (Error::Refused(_) | Error::Failed(_))) => {
                failed = true;
                out.note(error);
            }
            Err(error) => return Err(error),
        }
    }
    if failed { Err(Error::Told) } else { Ok(()) }
}

/// Looks once.
async fn once<K: Kind>(one: &Named, wanted: &For, client: &Client) -> Result<bool, Error> {
    match K::get(client, &one.namespace, &one.name).await {
        Ok(object) => holds(wanted, Some(&K::manifest(&object)?)),
        Err(error) if error.is_not_found() && matches!(wanted, For::Create | For::Delete) => {
            holds(wanted, None)
        }
        Err(error) => Err(error),
    }
}

/// Waits until it holds.
async fn until<K: Kind>(
    one: &Named,
    wanted: &For,
    context: &Context,
    client: &Client,
    out: &mut Out,
) -> Result<bool, Error> {
    let request = WatchRequest {
        namespace: one.namespace.clone(),
        name: one.name.clone(),
        ..WatchRequest::default()
    };
    let mut watch = Watch::<K>::new(context, client.clone(), request, &[]);
    let mut seen = false;
    loop {
        match watch.next().await? {
            Change::Put(object) => {
                seen = true;
                if holds(wanted, Some(&K::manifest(&object)?))? {
                    return Ok(true);
                }
            }
            Change::Gone(_) if holds(wanted, None)? => return Ok(true),
            // As kubectl: an object that goes is not waited for any longer.
            Change::Gone(_) if *wanted == For::Create => {}
            Change::Gone(_) => return Err(not_found(K::NAMES.singular, &one.name)),
            Change::Complete if !seen => match wanted {
                For::Create => {}
                For::Delete => return Ok(true),
                _ => return Err(not_found(K::NAMES.singular, &one.name)),
            },
            Change::Complete => {}
            Change::Lost(error) => out.note(format!("{error}; waiting for it to come back")),
        }
    }
}

/// Whether what is waited for holds of the object as it is; `None`: it is not there.
fn holds(wanted: &For, object: Option<&Value>) -> Result<bool, Error> {
    let Some(object) = object else { return Ok(*wanted == For::Delete) };
    match wanted {
        For::Create => Ok(true),
        For::Delete => Ok(false),
        For::Condition { name, status } => {
            let meta = |field: &str| object["metadata"][field].as_i64();
            let observed = object["status"]["observedGeneration"].as_i64();
            if observed.zip(meta("generation")).is_some_and(|(seen, present)| seen < present) {
                return Ok(false);
            }
            let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
            let same = |value: &Value, text: &str| {
                value.as_str().is_some_and(|value| value.eq_ignore_ascii_case(text))
            };
            Ok(conditions.into_iter().any(|condition| {
                same(&condition["type"], name) && same(&condition["status"], status)
            }))
        }
        For::JsonPath { path, value } => {
            let found = path.find(object).map_err(Error::Failed)?;
            match (found.as_slice(), value) {
                ([], _) => Ok(false),
                ([_, _, ..], _) => Err(Error::Failed(
                    "given jsonpath expression matches more than one value".into(),
                )),
                ([_], None) => Ok(true),
                ([Value::Array(_) | Value::Object(_)], _) => Err(Error::Failed(
                    "jsonpath leads to a nested object or list which is not supported".into(),
                )),
                ([found], Some(value)) => Ok(go_text(found).trim() == value.trim()),
            }
        }
    }
}

/// Reads `--for`.
fn parse(text: &str) -> Result<For, Error> {
    let lower = text.to_lowercase();
    if lower == "delete" {
        return Ok(For::Delete);
    }
    if lower == "create" {
        return Ok(For::Create);
    }
    if let Some(condition) = text.strip_prefix("condition=") {
        let (name, status) = condition.split_once('=').unwrap_or((condition, "true"));
        return Ok(For::Condition { name: name.into(), status: status.into() });
    }
    if let Some(path) = text.strip_prefix("jsonpath=") {
        let path = path.trim_matches(['\'', '"']);
        // Within the braces an equals sign is the expression's own.
        let (path, value) = match (path.find('}'), path.split_once('=')) {
            (Some(brace), _) => {
                let (path, rest) = path.split_at(brace + 1);
                match rest.trim_start_matches(['\'', '"']).strip_prefix('=') {
                    Some(value) => (path, Some(value)),
                    None if rest.is_empty() => (path, None),
                    None => return Err(unrecognized(text)),
                }
            }
            (None, Some((path, value))) => (path, Some(value)),
            (None, None) => (path, None),
        };
        let value = value.map(|value| value.trim_matches(['\'', '"']).to_owned());
        if value.as_ref().is_some_and(String::is_empty) {
            return Err(Error::Usage("jsonpath wait has to have a value after equal sign".into()));
        }
        let path = JsonPath::relaxed(path).map_err(Error::Usage)?;
        return Ok(For::JsonPath { path, value });
    }
    Err(unrecognized(text))
}

fn unrecognized(text: &str) -> Error {
    Error::Usage(format!(
        "unrecognized condition: {text:?}; there are create, delete, condition=NAME[=STATUS] and \
         jsonpath='{{PATH}}'[=VALUE]"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn held(text: &str, object: &Value) -> Result<bool, String> {
        let wanted = parse(text).map_err(|error| error.to_string())?;
        holds(&wanted, Some(object)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_waited_for() {
        let object = json!({
            "metadata": {"generation": 2},
            "status": {"observedGeneration": 2, "numberReady": 3, "list": [1],
                       "conditions": [{"type": "Available", "status": "True"},
                                      {"type": "Degraded", "status": "False"}]},
        });
        for (text, holds) in [
            ("create", true),
            ("delete", false),
            ("condition=Available", true),
            ("condition=available=true", true),
            ("condition=Degraded", false),
            ("condition=Degraded=False", true),
            ("jsonpath={.status.numberReady}=3", true),
            ("jsonpath='{.status.numberReady}'=4", false),
            ("jsonpath=.status.numberReady=3", true),
            ("jsonpath={.status.numberReady}", true),
            ("jsonpath={.status.missing}", false),
            ("jsonpath={.status.conditions[?(@.type==\"Available\")].status}=True", true),
        ] {
            assert_eq!(held(text, &object), Ok(holds), "{text}");
        }
        for text in [
            "ready",
            "jsonpath={.a}=",
            "jsonpath={.a}x",
            "jsonpath={.status.list}=1",
            "jsonpath={.status.conditions[*].type}=x",
        ] {
            assert!(held(text, &object).is_err(), "{text}");
        }
        assert_eq!(holds(&For::Delete, None).ok(), Some(true));
    }

    #[test]
    fn a_condition_of_an_older_generation_does_not_count() {
        let object = json!({"metadata": {"generation": 2}, "status": {"observedGeneration": 1,
            "conditions": [{"type": "Available", "status": "True"}]}});
        assert_eq!(held("condition=Available", &object), Ok(false));
    }
}
