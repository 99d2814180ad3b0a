//! `patch`: a change to an object, said as a patch.

use std::fs;

use everynode_manifest::{MAX_MANIFEST_BYTES, PatchKind, patch, read};
use serde_json::Value;

use super::change::{Named, change};
use super::effect;
use super::printed::Printer;
use crate::args::{DryRun, PatchArgs, PatchType};
use crate::context::Context;
use crate::error::Error;
use crate::kinds::full_name;
use crate::out::Out;
use crate::placed;

/// Patches objects.
pub(crate) async fn run(args: &PatchArgs, context: &Context, out: &mut Out) -> Result<(), Error> {
    let kind = match args.r#type {
        PatchType::Strategic => PatchKind::Strategic,
        PatchType::Merge => PatchKind::Merge,
        PatchType::Json => PatchKind::Json,
    };
    let with = said(args, kind)?;
    let client = context.connect().await?;
    let mut printer = Printer::new(args.output);
    let mode = args.dry_run.dry_run;
    for named in targets(args, context, out)? {
        let apply = |live: &Value| {
            patch(kind, live, &with).map_err(|error| Error::Failed(format!("the patch: {error}")))
        };
        let (object, changed, effect) = if mode == DryRun::Client {
            let live = named.kind.read(&client, &named.namespace, &named.name).await?;
            let object = apply(&live)?;
            let changed = object != live;
            (object, changed, None)
        } else {
            let dry_run = mode == DryRun::Server;
            let written = change(&named, &client, dry_run, apply).await?;
            for warning in &written.warnings {
                out.note(format!("Warning: {warning}"));
            }
            (written.object, written.changed, written.effect)
        };
        let done = if changed { "patched" } else { "patched (no change)" };
        let done = format!("{done}{}{}", effect::words(effect.as_ref()), mode.mark());
        printer.print(out, &full_name(&object), &done, || Ok(object.clone()))?;
    }
    Ok(())
}

fn targets(args: &PatchArgs, context: &Context, out: &mut Out) -> Result<Vec<Named>, Error> {
    if args.filename.is_empty() {
        return super::change::by_name(&args.what, context);
    }
    placed::named(&args.filename, args.recursive, context, out)
}

/// The patch, as JSON or YAML.
fn said(args: &PatchArgs, kind: PatchKind) -> Result<Value, Error> {
    let (name, text) = match (&args.patch, &args.patch_file) {
        (Some(text), None) => ("the patch".to_owned(), text.clone()),
        (None, Some(path)) => {
            let name = path.display().to_string();
            let failed = |source| Error::File { path: name.clone(), source };
            if fs::metadata(path).map_err(failed)?.len() > MAX_MANIFEST_BYTES as u64 {
                return Err(Error::Usage(format!(
                    "{name}: larger than {MAX_MANIFEST_BYTES} bytes"
                )));
            }
            let text = fs::read_to_string(path).map_err(failed)?;
            (name, text)
        }
        _ => {
            return Err(Error::Usage(
                "must specify --patch or --patch-file containing the contents of the patch".into(),
            ));
        }
    };
    parse(&name, &text, kind)
}

fn parse(name: &str, text: &str, kind: PatchKind) -> Result<Value, Error> {
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(value);
    }
    // Files are of objects: a list is read as the one field of one.
    let wrapped = if kind == PatchKind::Json {
        let lines: Vec<String> = text.lines().map(|line| format!("  {line}")).collect();
        format!("patch:\n{}\n", lines.join("\n"))
    } else {
        text.to_owned()
    };
    let documents = read(name, wrapped.as_bytes());
    let mut documents = documents.map_err(|errors| Error::Manifest(errors.to_string()))?;
    match (documents.pop(), documents.is_empty(), kind) {
        (Some(mut document), true, PatchKind::Json) => Ok(document.value["patch"].take()),
        (Some(document), true, _) => Ok(document.value),
        _ => Err(Error::Usage(format!("{name}: must be one patch"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patches_are_json_or_yaml() {
        let map = json!({"spec": {"minReadySeconds": 5}});
        for text in ["{\"spec\":{\"minReadySeconds\":5}}", "spec:\n  minReadySeconds: 5\n"] {
            assert_eq!(parse("p", text, PatchKind::Strategic).unwrap(), map);
        }
        let list = json!([{"op": "remove", "path": "/a"}]);
        for text in ["[{\"op\": \"remove\", \"path\": \"/a\"}]", "- op: remove\n  path: /a\n"] {
            assert_eq!(parse("p", text, PatchKind::Json).unwrap(), list);
        }
        for text in ["", "a: b: c", "a: 1\n---\nb: 1\n"] {
            assert!(parse("p", text, PatchKind::Merge).is_err(), "{text:?}");
        }
    }
}
