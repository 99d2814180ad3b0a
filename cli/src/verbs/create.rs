//! `create`, `apply`, `replace`: manifests to the coordinator.

use everynode_manifest::Warning;
use everynode_proto::convert::json::to_struct;
use everynode_proto::v1::{DaemonSet, PutDaemonSetRequest, PutDaemonSetResponse};

use super::printed::Printer;
use super::verdict;
use crate::args::{DryRun, WriteArgs};
use crate::connect::Client;
use crate::context::Context;
use crate::error::Error;
use crate::files::{self, Manifest};
use crate::kinds::{DaemonSets, Kind as _, metadata_from};
use crate::out::Out;

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

/// Checks all manifests, then sends each; one that is refused does not hold up the others.
pub(crate) async fn run(
    way: Way,
    args: &WriteArgs,
    context: &Context,
    out: &mut Out,
) -> Result<(), Error> {
    let manifests = files::daemon_sets(&args.files, way.verb(), out)?;
    let namespace = match context.namespace() {
        // What is only checked here needs no coordinator.
        Err(Error::Config(_)) if args.dry_run.dry_run == DryRun::Client => "default".into(),
        namespace => namespace?,
    };
    let mut requests = Vec::new();
    for manifest in &manifests {
        requests.push(request(manifest, &namespace, context, args.dry_run.dry_run)?);
    }
    for manifest in &manifests {
        for warning in &manifest.warnings {
            out.note(manifest.document.explain_warning(warning));
        }
    }
    let mut printer = Printer::new(args.output);
    if args.dry_run.dry_run == DryRun::Client {
        return requests
            .into_iter()
            .try_for_each(|request| checked(way, request, &mut printer, out));
    }
    let client = context.connect().await?;
    let mut failed = false;
    for (manifest, request) in manifests.iter().zip(requests) {
        match put(way, &client, request).await {
            Ok(response) => {
                tell_warnings(&response, &manifest.warnings, out);
                if let Some(verdict) = &response.verdict {
                    verdict::tell(verdict, manifest, args.dry_run.dry_run == DryRun::Server, out);
                }
                print(way, args.dry_run.dry_run, response, &mut printer, out)?;
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

/// The manifest as a request, in the namespace that is meant.
fn request(
    manifest: &Manifest,
    namespace: &str,
    context: &Context,
    dry_run: DryRun,
) -> Result<PutDaemonSetRequest, Error> {
    let object = &manifest.document.value;
    let mut metadata = metadata_from(object);
    if metadata.namespace.is_empty() {
        metadata.namespace = namespace.to_owned();
    } else if let Some(said) = context.said_namespace().filter(|said| *said != metadata.namespace) {
        return Err(Error::Usage(format!(
            "the namespace from the provided object \"{0}\" does not match the namespace \"{said}\". \
             You must pass '--namespace={0}' to perform this operation.",
            metadata.namespace
        )));
    }
    Ok(PutDaemonSetRequest {
        daemon_set: Some(DaemonSet {
            metadata: Some(metadata),
            spec: object["spec"].as_object().map(to_struct),
            status: None,
        }),
        dry_run: dry_run == DryRun::Server,
        api_version: manifest.document.api_version.clone(),
    })
}

async fn put(
    way: Way,
    client: &Client,
    request: PutDaemonSetRequest,
) -> Result<PutDaemonSetResponse, Error> {
    let mut service = client.daemon_sets();
    let request = client.request(request);
    match way {
        Way::Create => client.answer(service.create(request)).await,
        Way::Apply => client.answer(service.apply(request)).await,
        Way::Replace => client.answer(service.replace(request)).await,
    }
}

/// Prints the coordinator's warnings that have not been told, with their place, before.
fn tell_warnings(response: &PutDaemonSetResponse, told: &[Warning], out: &mut Out) {
    for warning in &response.warnings {
        if !told.iter().any(|told| warning.contains(&told.message)) {
            out.note(format!("Warning: {warning}"));
        }
    }
}

fn print(
    way: Way,
    dry_run: DryRun,
    response: PutDaemonSetResponse,
    printer: &mut Printer,
    out: &mut Out,
) -> Result<(), Error> {
    let done = match (way, response.created, response.changed) {
        (Way::Create, ..) | (Way::Apply, true, _) => "created",
        (Way::Apply, false, true) => "configured",
        (Way::Apply, false, false) => "unchanged",
        (Way::Replace, ..) => "replaced",
    };
    let done =
        if dry_run == DryRun::Server { format!("{done} (server dry run)") } else { done.into() };
    let set = response.daemon_set.unwrap_or_default();
    printer.print(out, &full_name(&set), &done, || DaemonSets::manifest(&set))
}

/// What `--dry-run=client` says of a manifest that is in order.
fn checked(
    way: Way,
    request: PutDaemonSetRequest,
    printer: &mut Printer,
    out: &mut Out,
) -> Result<(), Error> {
    let done = match way {
        Way::Create => "created (dry run)",
        // Without the coordinator nobody knows which it would be; kubectl says the same.
        Way::Apply => "configured (dry run)",
        Way::Replace => "replaced (dry run)",
    };
    let set = request.daemon_set.unwrap_or_default();
    printer.print(out, &full_name(&set), done, || DaemonSets::manifest(&set))
}

fn full_name(set: &DaemonSet) -> String {
    let name = crate::kinds::name_of(set.metadata.as_ref());
    format!("{}/{name}", DaemonSets::NAMES.singular)
}
