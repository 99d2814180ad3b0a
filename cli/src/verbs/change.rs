//! Changing an object that is there, whoever else does at the same time.

use everynode_proto::v1::ListRequest;
use serde_json::Value;

use crate::connect::Client;
use crate::context::Context;
use crate::error::Error;
use crate::kinds::{Mode, Resource, Written, text};
use crate::targets::Targets;

/// How often a change that somebody else came before is made anew. More than that in a row means
/// that several want different things, which no retry settles; kubectl's number.
pub(crate) const TRIES: usize = 5;

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) kind: Resource,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// Reads an object, changes it and writes it back, anew where somebody else was faster. `change`
/// may set `metadata.resourceVersion` to insist on a version; then nothing is tried again.
pub(crate) async fn change(
    named: &Named,
    client: &Client,
    dry_run: bool,
    mut change: impl FnMut(&Value) -> Result<Value, Error>,
) -> Result<Written, Error> {
    let mut tries = 1;
    loop {
        let live = named.kind.read(client, &named.namespace, &named.name).await?;
        let mut object = change(&live)?;
        check_identity(&live, &object)?;
        let insists = insist(&mut object, &live);
        match named.kind.write(Mode::Replace, client, &object, dry_run).await {
            Err(error) if error.is_conflict() && !insists && tries < TRIES => tries += 1,
            written => return written,
        }
    }
}

/// Has the object say the version that was seen, unless it says one itself; whether it did.
pub(crate) fn insist(object: &mut Value, live: &Value) -> bool {
    const VERSION: &str = "/metadata/resourceVersion";
    let said = text(object, VERSION);
    if !said.is_empty() && said != text(live, VERSION) {
        return true;
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.insert("resourceVersion".into(), text(live, VERSION).into());
    }
    false
}

/// Checks that a change leaves an object the one it is.
fn check_identity(live: &Value, object: &Value) -> Result<(), Error> {
    for pointer in ["/kind", "/metadata/name", "/metadata/namespace"] {
        if text(live, pointer) != text(object, pointer) {
            let field = pointer.trim_start_matches('/').replace('/', ".");
            return Err(Error::Usage(format!("{field}: field is immutable")));
        }
    }
    Ok(())
}

/// The objects that arguments and flags name.
pub(crate) async fn named(
    what: &[String],
    selector: Option<&str>,
    all: bool,
    context: &Context,
    client: &Client,
) -> Result<Vec<Named>, Error> {
    let within = |kind: Resource| {
        if kind.names().namespaced { context.namespace() } else { Ok(String::new()) }
    };
    let mut found = Vec::new();
    match Targets::parse(what)? {
        Targets::Objects(_) if all || selector.is_some() => {
            return Err(Error::Usage(
                "name cannot be provided when a selector is specified".into(),
            ));
        }
        Targets::Objects(objects) => {
            for (kind, name) in objects {
                found.push(Named { kind, namespace: within(kind)?, name });
            }
        }
        Targets::Kinds(_) if !all && selector.is_none() => {
            return Err(Error::Usage(
                "resource(s) were provided, but no name was specified".into(),
            ));
        }
        Targets::Kinds(kinds) => {
            for kind in kinds {
                let request = ListRequest {
                    namespace: within(kind)?,
                    label_selector: selector.unwrap_or_default().to_owned(),
                    ..ListRequest::default()
                };
                for object in kind.read_all(client, request).await? {
                    found.push(Named {
                        kind,
                        namespace: text(&object, "/metadata/namespace").to_owned(),
                        name: text(&object, "/metadata/name").to_owned(),
                    });
                }
            }
        }
    }
    Ok(found)
}

/// The objects that arguments name one by one.
pub(crate) fn by_name(what: &[String], context: &Context) -> Result<Vec<Named>, Error> {
    let Targets::Objects(objects) = Targets::parse(what)? else {
        return Err(Error::Usage("resource(s) were provided, but no name was specified".into()));
    };
    let within = |(kind, name): (Resource, String)| {
        let namespace = if kind.names().namespaced { context.namespace()? } else { String::new() };
        Ok(Named { kind, namespace, name })
    };
    objects.into_iter().map(within).collect()
}
