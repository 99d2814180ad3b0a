//! `create`, `apply`, `replace`: manifests to the coordinator.

use everynode_manifest::{LAST_APPLIED, Warning, admit_object};
use serde_json::Value;

use super::apply::{self, remember};
use super::batch::Batch;
use super::effect;
use super::printed::Printer;
use super::{values, verdict};
use crate::args::{ApplyArgs, ApplyVerb, CreateArgs, DryRun, SaveArgs, WriteArgs};
use crate::connect::Client;
use crate::context::Context;
use crate::error::Error;
use crate::files::{self, Manifest};
use crate::kinds::{Mode, Resource, Written, full_name};
use crate::out::Out;
use crate::placed::place;

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Create,
    Apply,
    Replace,
}

impl Way {
    const fn verb(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Apply => "apply",
            Self::Replace => "replace",
        }
    }
}

/// `create`, from files or without.
pub(crate) async fn run_create(
    args: &CreateArgs,
    context: &Context,
    out: &mut Out,
) -> Result<(), Error> {
    let Some(verb) = &args.verb else {
        return run(Way::Create, &args.save, context, out).await;
    };
    let (object, bare) = values::object(verb)?;
    let dry_run = bare.dry_run.dry_run;
    let object = place(&object, &namespace(dry_run, context)?, context)?;
    admit_object(&object).map_err(|rejected| Error::Manifest(rejected.to_string()))?;
    let mut printer = Printer::new(bare.output);
    if dry_run == DryRun::Client {
        return checked(Way::Create, &object, &mut printer, out);
    }
    let client = context.connect().await?;
    let written = put(Way::Create, &client, &object, dry_run == DryRun::Server).await?;
    tell(&written, None, dry_run == DryRun::Server, out);
    print(Way::Create, dry_run, &written, &mut printer, out)
}

/// The namespace of objects that name none. What is only checked here needs no coordinator.
fn namespace(dry_run: DryRun, context: &Context) -> Result<String, Error> {
    match context.namespace() {
        Err(Error::Config(_)) if dry_run == DryRun::Client => Ok("default".into()),
        namespace => namespace,
    }
}

/// `create` and `replace`.
pub(crate) async fn run(
    way: Way,
    args: &SaveArgs,
    context: &Context,
    out: &mut Out,
) -> Result<(), Error> {
    send(way, &args.write, args.save_config, context, out).await
}

/// `apply`, and what there is to it besides.
pub(crate) async fn run_apply(
    args: &ApplyArgs,
    context: &Context,
    out: &mut Out,
) -> Result<(), Error> {
    if let Some(ApplyVerb::ViewLastApplied(args)) = &args.verb {
        return apply::view(args, context, out).await;
    }
    if args.server_side {
        return Err(Error::Usage(
            "there is no server-side apply: leave --server-side out; apply merges what the file says \
             with what it said last time, and keeps what others have set"
                .into(),
        ));
    }
    send(Way::Apply, &args.write, false, context, out).await
}

/// Checks all manifests, then sends each; one that is refused does not hold up the others.
async fn send(
    way: Way,
    args: &WriteArgs,
    save_config: bool,
    context: &Context,
    out: &mut Out,
) -> Result<(), Error> {
    let manifests = files::manifests(&args.files, way.verb(), out)?;
    let namespace = namespace(args.dry_run.dry_run, context)?;
    let mut objects = Vec::new();
    for manifest in &manifests {
        let mut object = place(&manifest.document.value, &namespace, context)?;
        let kept = object["metadata"]["annotations"].get(LAST_APPLIED).is_some();
        if way != Way::Apply && (save_config || kept) {
            let applied = object.clone();
            remember(&mut object, &applied);
        }
        objects.push(object);
    }
    for manifest in &manifests {
        for warning in &manifest.warnings {
            out.note(manifest.document.explain_warning(warning));
        }
    }
    let mut printer = Printer::new(args.output);
    if args.dry_run.dry_run == DryRun::Client {
        return objects.iter().try_for_each(|object| checked(way, object, &mut printer, out));
    }
    let client = context.connect().await?;
    let mut failed = false;
    let dry_run = args.dry_run.dry_run == DryRun::Server;
    let mut batch = Batch::new(way, &manifests, objects);
    if args.create_namespace {
        batch.add_namespaces(&client).await?;
    }
    if batch.belongs_together() {
        match batch.put(&client, dry_run).await {
            Ok(Some(all)) => {
                for (manifest, written) in batch.manifests().zip(&all) {
                    tell(written, manifest, dry_run, out);
                    print(way, args.dry_run.dry_run, written, &mut printer, out)?;
                }
                return Ok(());
            }
            Ok(None) => out.note(
                "Warning: together they are too large for one transaction: they are put one by one",
            ),
            Err(Error::Refused(refusal)) => {
                let blamed = batch.blamed(&refusal);
                let lines =
                    blamed.and_then(|manifest| files::explain(&manifest.document, &refusal));
                out.note(lines.unwrap_or_else(|| Error::Refused(refusal).to_string()));
                out.note("nothing was changed: these objects are put all together, or none");
                return Err(Error::Told);
            }
            Err(error) => return Err(error),
        }
    }
    for (manifest, object) in batch.one_by_one() {
        let Some(manifest) = manifest else {
            let written = put(Way::Create, &client, object, dry_run).await?;
            print(Way::Create, args.dry_run.dry_run, &written, &mut printer, out)?;
            continue;
        };
        match put(way, &client, object, dry_run).await {
            Ok(response) => {
                tell(&response, Some(manifest), dry_run, out);
                print(way, args.dry_run.dry_run, &response, &mut printer, out)?;
            }
            Err(Error::Refused(refusal)) => {
                failed = true;
                out.note(match files::explain(&manifest.document, &refusal) {
                    Some(lines) => lines,
                    None => Error::Refused(refusal).to_string(),
                });
            }
            Err(error) => return Err(error),
        }
    }
    if failed { Err(Error::Told) } else { Ok(()) }
}

async fn put(way: Way, client: &Client, object: &Value, dry_run: bool) -> Result<Written, Error> {
    let kind = Resource::of(object)?;
    match way {
        Way::Create => kind.write(Mode::Create, client, object, dry_run).await,
        Way::Apply => apply::apply(client, object, dry_run).await,
        Way::Replace => kind.write(Mode::Replace, client, object, dry_run).await,
    }
}

/// What there is to say of one object that was written.
fn tell(written: &Written, manifest: Option<&Manifest>, dry_run: bool, out: &mut Out) {
    let told = manifest.map(|manifest| manifest.warnings.as_slice()).unwrap_or_default();
    tell_warnings(written, told, out);
    if let (Some(verdict), Some(manifest)) = (&written.verdict, manifest) {
        verdict::tell(verdict, manifest, dry_run, out);
    }
}

/// Prints the coordinator's warnings that have not been told, with their place, before.
fn tell_warnings(response: &Written, told: &[Warning], out: &mut Out) {
    for warning in &response.warnings {
        if !told.iter().any(|told| warning.contains(&told.message)) {
            out.note(format!("Warning: {warning}"));
        }
    }
}

fn print(
    way: Way,
    dry_run: DryRun,
    written: &Written,
    printer: &mut Printer,
    out: &mut Out,
) -> Result<(), Error> {
    let done = match (way, written.created, written.changed) {
        (Way::Create, ..) | (Way::Apply, true, _) => "created",
        (Way::Apply, false, true) => "configured",
        (Way::Apply, false, false) => "unchanged",
        (Way::Replace, ..) => "replaced",
    };
    let done = format!("{done}{}{}", effect::words(written.effect.as_ref()), dry_run.mark());
    printer.print(out, &full_name(&written.object), &done, || Ok(written.object.clone()))
}

/// What `--dry-run=client` says of a manifest that is in order.
fn checked(way: Way, object: &Value, printer: &mut Printer, out: &mut Out) -> Result<(), Error> {
    let done = match way {
        Way::Create => "created (dry run)",
        // Without the coordinator nobody knows which it would be; kubectl says the same.
        Way::Apply => "configured (dry run)",
        Way::Replace => "replaced (dry run)",
    };
    printer.print(out, &full_name(object), done, || Ok(object.clone()))
}
