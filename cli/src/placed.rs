//! The objects of files, in the namespace that is meant.

use std::path::PathBuf;

use everynode_manifest::admit_object;
use serde_json::Value;

use crate::args::FileArgs;
use crate::context::Context;
use crate::error::Error;
use crate::files::{self, Manifest};
use crate::kinds::{Resource, text};
use crate::out::Out;
use crate::verbs::Named;

/// The objects of the files that may be sent, each with its manifest. `verb` is what is to be done
/// with them.
pub(crate) fn objects(
    files: &FileArgs,
    verb: &str,
    context: &Context,
    out: &mut Out,
) -> Result<Vec<(Manifest, Value)>, Error> {
    let manifests = files::manifests(files, verb, out)?;
    let namespace = context.namespace()?;
    let placed = |manifest: Manifest| {
        let object = place(&manifest.document.value, &namespace, context)?;
        Ok((manifest, object))
    };
    manifests.into_iter().map(placed).collect()
}

/// The object in its own namespace, or in the one that is meant where it names none.
pub(crate) fn place(object: &Value, namespace: &str, context: &Context) -> Result<Value, Error> {
    let mut object = object.clone();
    if text(&object, "/kind") == "Secret"
        && let Ok(admitted) = admit_object(&object)
    {
        // With `stringData` as a part of `data`, as it is stored: else a key that leaves the file stays.
        object = without_default_namespace(admitted.object, &object);
    }
    if !Resource::of(&object)?.names().namespaced {
        return Ok(object);
    }
    let own = text(&object, "/metadata/namespace").to_owned();
    if own.is_empty() {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.insert("namespace".into(), namespace.into());
        }
    } else if let Some(said) = context.said_namespace().filter(|said| *said != own) {
        return Err(Error::Usage(format!(
            "the namespace from the provided object \"{own}\" does not match the namespace \"{said}\". \
             You must pass '--namespace={own}' to perform this operation.",
        )));
    }
    Ok(object)
}

/// The canonical object, which is in a namespace only where the one that was written is.
fn without_default_namespace(mut canonical: Value, written: &Value) -> Value {
    if text(written, "/metadata/namespace").is_empty()
        && let Some(metadata) = canonical["metadata"].as_object_mut()
    {
        metadata.remove("namespace");
    }
    canonical
}

/// The objects that files name, whatever else is in them.
pub(crate) fn named(
    filename: &[PathBuf],
    recursive: bool,
    context: &Context,
    out: &mut Out,
) -> Result<Vec<Named>, Error> {
    let files = FileArgs { filename: filename.to_vec(), recursive };
    let mut found = Vec::new();
    for document in files::named_objects(&files, out)? {
        let kind = Resource::of(&document.value)?;
        let namespace = match text(&document.value, "/metadata/namespace") {
            _ if !kind.names().namespaced => String::new(),
            "" => context.namespace()?,
            own => own.to_owned(),
        };
        found.push(Named { kind, namespace, name: document.name });
    }
    Ok(found)
}
