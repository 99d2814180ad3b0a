//! `delete`: DaemonSets, pods, ConfigMaps, Secrets and Namespaces. Nodes have a file of their own.

mod foreground;

use everynode_proto::v1::{DeleteRequest, ListRequest, Pod, WatchRequest};

use super::{delete_node, effect};
use crate::args::{Cascade, DeleteArgs, DryRun, FileArgs};
use crate::connect::Client;
use crate::context::Context;
use crate::error::Error;
use crate::files;
use crate::kinds::{
    ConfigMaps, DaemonSets, Kind, Namespaces, Nodes, Pods, Resource, Secrets, name_of, namespace_of,
};
use crate::out::Out;
use crate::targets::Targets;
use crate::watch::{Change, Watch};

/// One object to delete.
struct Target {
    kind: Resource,
    namespace: String,
    name: String,
}

/// Deletes what is named; what can't be deleted does not hold up the rest.
pub(crate) async fn run(args: &DeleteArgs, context: &Context, out: &mut Out) -> Result<(), Error> {
    if args.what.is_empty() && args.filename.is_empty() {
        return Err(Error::Usage("say what to delete: TYPE NAME, or -f FILE".into()));
    }
    let named = if args.filename.is_empty() {
        named(args, context)?
    } else {
        in_files(args, context, out)?
    };
    if args.forget && named.iter().any(|target| target.kind != Resource::Nodes) {
        return Err(Error::Usage("--forget is for nodes".into()));
    }
    if args.now || args.grace_period != -1 {
        return Err(Error::Usage(
            "--now and --grace-period: each pod has the terminationGracePeriodSeconds of its template, \
             and no other; apply a template with another one first".into(),
        ));
    }
    if args.cascade != Cascade::Background
        && named.iter().any(|target| target.kind != Resource::DaemonSets)
    {
        return Err(Error::Usage("--cascade is for daemonsets".into()));
    }
    let client = context.connect().await?;
    let chosen = args.filename.is_empty() && named.iter().any(|target| target.name.is_empty());
    let targets = if args.filename.is_empty() { all(args, &client, named).await? } else { named };
    let ends_pods = args.cascade != Cascade::Orphan;
    if chosen && ends_pods && args.dry_run.dry_run != DryRun::Client && !client.allows_removal() {
        may_delete_together(&targets, &client).await?;
    }
    let mut failed = false;
    for target in targets {
        match delete(&target, args, context, &client, out).await {
            Ok(()) => {}
            Err(error) if error.is_not_found() && args.ignore_not_found => {}
            Err(error @ (Error::Refused(_) | Error::Failed(_))) => {
                failed = true;
                out.note(error);
            }
            Err(error) => return Err(error),
        }
    }
    if failed { Err(Error::Told) } else { Ok(()) }
}

/// What the arguments name; a target without a name stands for all of its kind.
fn named(args: &DeleteArgs, context: &Context) -> Result<Vec<Target>, Error> {
    let target = |kind: Resource, name: String| {
        let namespace = if kind.names().namespaced { context.namespace()? } else { String::new() };
        Ok(Target { kind, namespace, name })
    };
    let narrowed = args.all || args.selector.is_some();
    match Targets::parse(&args.what)? {
        Targets::Objects(_) if narrowed => {
            Err(Error::Usage("give names, or a selector or --all, not both".into()))
        }
        Targets::Objects(objects) => {
            objects.into_iter().map(|(kind, name)| target(kind, name)).collect()
        }
        Targets::Kinds(_) if !narrowed => Err(Error::Usage(
            "resource(s) were provided, but no name was specified: name them, or say -l SELECTOR or --all".into(),
        )),
        Targets::Kinds(kinds) if kinds.contains(&Resource::Nodes) => Err(Error::Usage(
            "nodes are deregistered by name: everynode delete node NAME...".into(),
        )),
        Targets::Kinds(kinds) => kinds.into_iter().map(|kind| target(kind, String::new())).collect(),
    }
}

fn in_files(args: &DeleteArgs, context: &Context, out: &mut Out) -> Result<Vec<Target>, Error> {
    let files = FileArgs { filename: args.filename.clone(), recursive: args.recursive };
    let mut targets = Vec::new();
    for document in files::named_objects(&files, out)? {
        let namespace = match document.value["metadata"]["namespace"].as_str() {
            Some(namespace) if !namespace.is_empty() => namespace.to_owned(),
            _ => context.namespace()?,
        };
        let kind = Resource::of(&document.value)?;
        let namespace = if kind.names().namespaced { namespace } else { String::new() };
        targets.push(Target { kind, namespace, name: document.name });
    }
    Ok(targets)
}

/// Replaces targets without a name by those that there are.
async fn all(args: &DeleteArgs, client: &Client, named: Vec<Target>) -> Result<Vec<Target>, Error> {
    let mut targets = Vec::new();
    for target in named {
        if !target.name.is_empty() {
            targets.push(target);
            continue;
        }
        let request = ListRequest {
            namespace: target.namespace,
            label_selector: args.selector.clone().unwrap_or_default(),
            ..ListRequest::default()
        };
        match target.kind {
            Resource::DaemonSets => {
                list::<DaemonSets>(target.kind, client, request, &mut targets).await?
            }
            Resource::Pods => list::<Pods>(target.kind, client, request, &mut targets).await?,
            Resource::ConfigMaps => {
                list::<ConfigMaps>(target.kind, client, request, &mut targets).await?;
            }
            Resource::Secrets => {
                list::<Secrets>(target.kind, client, request, &mut targets).await?;
            }
            other => return Err(not_deletable(other)),
        }
    }
    Ok(targets)
}

async fn list<K: Kind>(
    kind: Resource,
    client: &Client,
    request: ListRequest,
    targets: &mut Vec<Target>,
) -> Result<(), Error> {
    targets.extend(K::list(client, request).await?.items.iter().map(|object| {
        let metadata = K::metadata(object);
        let (namespace, name) = (namespace_of(metadata).into(), name_of(metadata).into());
        Target { kind, namespace, name }
    }));
    Ok(())
}

/// Whether all DaemonSets that a selector has chosen may go: of one by its name nobody asks.
async fn may_delete_together(targets: &[Target], client: &Client) -> Result<(), Error> {
    let sets: Vec<&Target> =
        targets.iter().filter(|target| target.kind == Resource::DaemonSets).collect();
    let [first, rest @ ..] = sets.as_slice() else { return Ok(()) };
    let request = DeleteRequest {
        namespace: first.namespace.clone(),
        name: first.name.clone(),
        uid: String::new(),
        dry_run: true,
        names: rest.iter().map(|target| target.name.clone()).collect(),
        orphan: false,
    };
    client.answer(client.daemon_sets().delete(client.request(request))).await?;
    Ok(())
}

async fn delete(
    target: &Target,
    args: &DeleteArgs,
    context: &Context,
    client: &Client,
    out: &mut Out,
) -> Result<(), Error> {
    let done_with = |singular: &str, effect: &str| match args.output {
        Some(_) => format!("{singular}/{}", target.name),
        None => {
            let mark = args.dry_run.dry_run.mark();
            format!("{singular} \"{}\" deleted{effect}{mark}", target.name)
        }
    };
    let done = |singular: &str| done_with(singular, "");
    let request = DeleteRequest {
        namespace: target.namespace.clone(),
        name: target.name.clone(),
        uid: String::new(),
        dry_run: args.dry_run.dry_run == DryRun::Server,
        names: Vec::new(),
        orphan: args.cascade == Cascade::Orphan,
    };
    let sends = args.dry_run.dry_run != DryRun::Client;
    match target.kind {
        Resource::DaemonSets => {
            let waits = args.cascade == Cascade::Foreground && args.dry_run.dry_run == DryRun::None;
            let pods = match waits {
                true => foreground::pods(client, &target.namespace, &target.name).await?,
                false => Vec::new(),
            };
            let mut effect = String::new();
            if sends {
                let set =
                    client.answer(client.daemon_sets().delete(client.request(request))).await?;
                effect = effect::words(set.effect.as_ref());
            }
            out.line(done_with(DaemonSets::NAMES.singular, &effect))?;
            if waits && args.wait {
                let name = &target.name;
                let late = || format!("timed out waiting until the pods of {name:?} are stopped");
                let gone = foreground::wait(&target.namespace, pods, context, client, out);
                return within(args, gone, late).await;
            }
            Ok(())
        }
        Resource::Pods => {
            if sends {
                let pod = client.answer(client.pods().delete(client.request(request))).await?;
                out.line(done(Pods::NAMES.singular))?;
                if args.wait && args.dry_run.dry_run == DryRun::None {
                    return wait_for_pod(&pod, args, context, client, out).await;
                }
                return Ok(());
            }
            out.line(done(Pods::NAMES.singular))
        }
        Resource::Nodes => delete_node::run(&target.name, args, context, client, out).await,
        Resource::ConfigMaps | Resource::Secrets => {
            let singular = target.kind.names().singular;
            if sends {
                match target.kind {
                    Resource::Secrets => Secrets::delete(client, request).await?,
                    _ => ConfigMaps::delete(client, request).await?,
                };
            }
            out.line(done(singular))
        }
        Resource::Namespaces => {
            let mut effect = String::new();
            if sends {
                let gone = Namespaces::delete(client, request).await?;
                effect = effect::words(gone.effect.as_ref());
            }
            out.line(done_with(Namespaces::NAMES.singular, &effect))?;
            if args.wait && args.dry_run.dry_run == DryRun::None {
                return wait_for_namespace(&target.name, args, context, client, out).await;
            }
            Ok(())
        }
        other => Err(not_deletable(other)),
    }
}

/// Waits until this very pod is gone; another may have its name by then.
async fn wait_for_pod(
    pod: &Pod,
    args: &DeleteArgs,
    context: &Context,
    client: &Client,
    out: &mut Out,
) -> Result<(), Error> {
    let metadata = pod.metadata.clone().unwrap_or_default();
    let node = Nodes::get(client, "", &pod.node_name).await;
    if !matches!(node, Ok(node) if node.connected) {
        out.note(format!(
            "node \"{}\" is not connected: the pod is replaced when it next calls",
            pod.node_name
        ));
        return Ok(());
    }
    let request = WatchRequest {
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        ..WatchRequest::default()
    };
    let mut watch = Watch::<Pods>::new(context, client.clone(), request, &[]);
    let mut seen = false;
    let gone = async {
        out.progress(format!("waiting until pod \"{}\" is stopped", metadata.name));
        loop {
            match watch.next().await? {
                Change::Put(other) => {
                    let same = other.metadata.is_some_and(|other| other.uid == metadata.uid);
                    if !same {
                        return Ok(());
                    }
                    seen = true;
                }
                Change::Gone(_) => return Ok(()),
                Change::Complete if !seen => return Ok(()),
                Change::Complete | Change::Lost(_) => {}
            }
        }
    };
    within(args, gone, || format!("timed out waiting until pod \"{}\" is stopped", metadata.name))
        .await
}

/// Waits until a namespace is gone with all that was in it.
async fn wait_for_namespace(
    name: &str,
    args: &DeleteArgs,
    context: &Context,
    client: &Client,
    out: &mut Out,
) -> Result<(), Error> {
    let request = WatchRequest { name: name.to_owned(), ..WatchRequest::default() };
    let mut watch = Watch::<Namespaces>::new(context, client.clone(), request, &[]);
    let mut there = false;
    out.progress(format!("waiting until namespace \"{name}\" is empty"));
    let gone = async {
        loop {
            match watch.next().await? {
                Change::Put(_) => there = true,
                Change::Gone(_) => return Ok(()),
                Change::Complete if !there => return Ok(()),
                Change::Complete | Change::Lost(_) => {}
            }
        }
    };
    within(args, gone, || format!("timed out waiting until namespace {name:?} is empty")).await
}

/// Waits no longer than `--timeout`.
pub(crate) async fn within(
    args: &DeleteArgs,
    done: impl Future<Output = Result<(), Error>>,
    late: impl FnOnce() -> String,
) -> Result<(), Error> {
    if args.timeout.is_zero() {
        return done.await;
    }
    match tokio::time::timeout(args.timeout, done).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::Failed(late())),
    }
}

fn not_deletable(kind: Resource) -> Error {
    Error::Usage(match kind {
        Resource::Tokens => "tokens are revoked: everynode token revoke ID".into(),
        other => format!("{}s can't be deleted; they go by themselves", other.names().singular),
    })
}
