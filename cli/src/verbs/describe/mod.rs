//! `describe`: all about one object, in kubectl's layout.

mod daemon_set;
mod events;
mod node;
mod pod;
mod stored;
mod template;

use std::collections::HashMap;
use std::fmt::Write as _;

use everynode_proto::v1::ListRequest;

use crate::args::DescribeArgs;
use crate::connect::Client;
use crate::context::Context;
use crate::error::Error;
use crate::kinds::{Kind, Resource, name_of, namespace_of, of_kind};
use crate::out::Out;
use crate::table::{align_tabs, harmless};
use crate::targets::Targets;

pub(crate) use template::template_text;

/// Prints all about each object, two empty lines apart.
pub(crate) async fn run(
    args: &DescribeArgs,
    context: &Context,
    out: &mut Out,
) -> Result<(), Error> {
    let targets = Targets::parse(&args.what)?;
    let client = context.connect().await?;
    let namespace = if args.all_namespaces { String::new() } else { context.namespace()? };
    let objects = match targets {
        Targets::Objects(objects) => {
            objects.into_iter().map(|(kind, name)| (kind, namespace.clone(), name)).collect()
        }
        Targets::Kinds(kinds) => {
            let mut all = Vec::new();
            for kind in kinds {
                all.extend(list(kind, &client, args, &namespace).await?);
            }
            all
        }
    };
    if objects.is_empty() {
        out.note_nothing("");
    }
    let mut failed = false;
    for (position, (kind, namespace, name)) in objects.iter().enumerate() {
        match describe(*kind, &client, namespace, name).await {
            Ok(text) => {
                let gap = if position > 0 { "\n\n" } else { "" };
                out.text(&format!("{gap}{}", align_tabs(&harmless(&text))))?;
            }
            Err(error @ Error::Refused(_)) => {
                failed = true;
                out.note(error);
            }
            Err(error) => return Err(error),
        }
    }
    if failed { Err(Error::Told) } else { Ok(()) }
}

async fn describe(
    kind: Resource,
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<String, Error> {
    match kind {
        Resource::DaemonSets => daemon_set::describe(client, namespace, name).await,
        Resource::Nodes => node::describe(client, name).await,
        Resource::Pods => pod::describe(client, namespace, name).await,
        Resource::ConfigMaps => stored::config_map(client, namespace, name).await,
        Resource::Secrets => stored::secret(client, namespace, name).await,
        Resource::Namespaces => stored::namespace(client, name).await,
        other => Err(not_described(other)),
    }
}

async fn list(
    kind: Resource,
    client: &Client,
    args: &DescribeArgs,
    namespace: &str,
) -> Result<Vec<(Resource, String, String)>, Error> {
    async fn of<K: Kind>(
        kind: Resource,
        client: &Client,
        request: ListRequest,
    ) -> Result<Vec<(Resource, String, String)>, Error> {
        let listed = K::list(client, request).await?;
        let named = listed.items.iter().map(|object| {
            let metadata = K::metadata(object);
            (kind, namespace_of(metadata).to_owned(), name_of(metadata).to_owned())
        });
        Ok(named.collect())
    }
    let request = ListRequest {
        namespace: namespace.to_owned(),
        label_selector: args.selector.clone().unwrap_or_default(),
        ..ListRequest::default()
    };
    match kind {
        Resource::Events | Resource::ControllerRevisions | Resource::Tokens => {
            Err(not_described(kind))
        }
        kind => of_kind!(kind, K => of::<K>(kind, client, request).await),
    }
}

fn not_described(kind: Resource) -> Error {
    let kind = kind.names().singular;
    Error::Usage(format!("there is no more to say of {kind}s than: everynode get {kind}s -o yaml"))
}

/// `Labels:  a=b`, each further one on its own line below the first.
fn push_map(text: &mut String, title: &str, map: &HashMap<String, String>, between: &str) {
    let mut lines: Vec<String> =
        map.iter().map(|(key, value)| format!("{key}{between}{value}")).collect();
    lines.sort_unstable();
    push_lines(text, title, &lines);
}

/// A title and lines below each other in the next column; `<none>` for no lines.
fn push_lines(text: &mut String, title: &str, lines: &[String]) {
    // Writing to a String can't fail.
    match lines {
        [] => drop(writeln!(text, "{title}:\t<none>")),
        [first, rest @ ..] => {
            let _ = writeln!(text, "{title}:\t{first}");
            for line in rest {
                let _ = writeln!(text, "\t{line}");
            }
        }
    }
}
