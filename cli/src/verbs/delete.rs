//! `delete`: DaemonSets, pods, ConfigMaps, Secrets and Namespaces. Nodes have a file of their own.

mod foreground;

use everynode_proto::v1::{DeleteRequest, ListRequest, Object, Pod, WatchRequest};

use super::change::Named;
use super::{delete_node, effect};
use crate::args::{Cascade, DeleteArgs, DryRun};
use crate::connect::Client;
use crate::context::Context;
use crate::error::Error;
use crate::kinds::{
    ConfigMaps, DaemonSets, Kind, Namespaces, Nodes, Pods, Resource, Secrets, name_of,
    namespace_of, of_kind,
};
use crate::out::Out;
use crate::placed;
use crate::targets::Targets;
use crate::watch::{Change, Watch};

/// Deletes what is named; what can't be deleted does not hold up the rest.
pub(crate) async fn run(args: &DeleteArgs, context: &Context, out: &mut Out) -> Result<(), Error> {
    if args.what.is_empty() && args.filename.is_empty() {
        return Err(Error::Usage("say what to delete: TYPE NAME, or -f FILE".into()));
    }
    let named = if args.filename.is_empty() {
        named(args, context)?
    } else {
        placed::named(&args.filename, args.recursive, context, out)?
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
fn named(args: &DeleteArgs, context: &Context) -> Result<Vec<Named>, Error> {
    let target = |kind: Resource, name: String| {
        let namespace = if kind.names().namespaced { context.namespace()? } else { String::new() };
        Ok(Named { kind, namespace, name })
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

/// Replaces targets without a name by those that there are.
async fn all(args: &DeleteArgs, client: &Client, named: Vec<Named>) -> Result<Vec<Named>, Error> {
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
            kind @ (Resource::DaemonSets
            | Resource::Pods
            | Resource::ConfigMaps
            | Resource::Secrets) => {
                of_kind!(kind, K => list::<K>(kind, client, request, &mut targets).await?);
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
    targets: &mut Vec<Named>,
) -> Result<(), Error> {
    targets.extend(K::list(client, request).await?.items.iter().map(|object| {
        let metadata = K::metadata(object);
        let (namespace, name) = (namespace_of(metadata).into(), name_of(metadata).into());
        Named { kind, namespace, name }
    }));
    Ok(())
}

/// Whether all DaemonSets that a selector has chosen may go: of one by its name nobody asks.
async fn may_delete_together(targets: &[Named], client: &Client) -> Result<(), Error> {
    let sets: Vec<&Named> =
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
    target: &Named,
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
            let singular = Namespaces::NAMES.singular;
            if !sends {
                return out.line(done(singular));
            }
            let namespace = Namespaces::delete(client, request).await?;
            out.line(done_with(singular, &effect::words(namespace.effect.as_ref())))?;
            if args.wait && args.dry_run.dry_run == DryRun::None {
                return wait_for_namespace(&namespace, args, context, client, out).await;
            }
            Ok(())
        }
        other => Err(not_deletable(other)),
    }
}

/// Waits until this very pod is gone.
async fn wait_for_pod(
    pod: &Pod,
    args: &DeleteArgs,
    context: &Context,
    client: &Client,
    out: &mut Out,
) -> Result<(), Error> {
    let node = Nodes::get(client, "", &pod.node_name).await;
    if !matches!(node, Ok(node) if node.connected) {
        out.note(format!(
            "node \"{}\" is not connected: the pod is replaced when it next calls",
            pod.node_name
        ));
        return Ok(());
    }
    let what = format!("pod {:?} is stopped", name_of(pod.metadata.as_ref()));
    let watch = watch::<Pods>(pod, context, client);
    out.progress(format!("waiting until {what}"));
    within(args, gone(watch, pod), || format!("timed out waiting until {what}")).await
}

/// Waits until a namespace is gone with all that was in it.
async fn wait_for_namespace(
    namespace: &Object,
    args: &DeleteArgs,
    context: &Context,
    client: &Client,
    out: &mut Out,
) -> Result<(), Error> {
    let what = format!("namespace {:?} is empty", name_of(namespace.metadata.as_ref()));
    let watch = watch::<Namespaces>(namespace, context, client);
    out.progress(format!("waiting until {what}"));
    within(args, gone(watch, namespace), || format!("timed out waiting until {what}")).await
}

/// Looks at whatever has this object's name.
fn watch<'a, K: Kind>(object: &K::Object, context: &'a Context, client: &Client) -> Watch<'a, K> {
    let metadata = K::metadata(object);
    let request = WatchRequest {
        namespace: namespace_of(metadata).into(),
        name: name_of(metadata).into(),
        ..WatchRequest::default()
    };
    Watch::new(context, client.clone(), request, &[])
}

/// Waits until this very object is gone; another may have its name by then.
async fn gone<K: Kind>(mut watch: Watch<'_, K>, object: &K::Object) -> Result<(), Error> {
    let uid = |object: &K::Object| K::metadata(object).map(|metadata| metadata.uid.clone());
    let mut there = false;
    loop {
        match watch.next().await? {
            Change::Put(other) if uid(&other) == uid(object) => there = true,
            Change::Put(_) | Change::Gone(_) => return Ok(()),
            Change::Complete if !there => return Ok(()),
            Change::Complete | Change::Lost(_) => {}
        }
    }
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
