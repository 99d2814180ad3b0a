//! All about a ConfigMap, a Secret (its values by their lengths) or a Namespace, in kubectl's layout.

use std::fmt::Write as _;

use everynode_proto::v1::Object;
use serde_json::{Map, Value};

use super::push_map;
use crate::connect::Client;
use crate::error::Error;
use crate::kinds::{ConfigMaps, Kind as _, Namespaces, Secrets, content};

pub(super) async fn config_map(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<String, Error> {
    let map = ConfigMaps::get(client, namespace, name).await?;
    let content = content(&map);
    let mut text = head(&map, true);
    text.push_str("\nData\n====\n");
    for (key, value) in values(&content, "data") {
        let _ = writeln!(text, "{key}:\n----\n{}\n", value.as_str().unwrap_or_default());
    }
    text.push_str("\nBinaryData\n====\n");
    for (key, value) in values(&content, "binaryData") {
        let _ = writeln!(text, "{key}: {} bytes", decoded_length(value));
    }
    Ok(text + "\n")
}

pub(super) async fn secret(client: &Client, namespace: &str, name: &str) -> Result<String, Error> {
    let secret = Secrets::get(client, namespace, name).await?;
    let content = content(&secret);
    let mut text = head(&secret, true);
    let _ = writeln!(text, "\nType:\t{}", content["type"].as_str().unwrap_or_default());
    text.push_str("\nData\n====\n");
    for (key, value) in values(&content, "data") {
        let shown = value.as_str().unwrap_or_default();
        let length = shown.trim_start_matches("<redacted: ").trim_end_matches('>');
        let _ = writeln!(text, "{key}:\t{length}");
    }
    Ok(text)
}

pub(super) async fn namespace(client: &Client, name: &str) -> Result<String, Error> {
    let namespace = Namespaces::get(client, "", name).await?;
    let mut text = head(&namespace, false);
    let _ = writeln!(text, "Status:\t{}", namespace.phase);
    text.push_str("\nNo resource quota.\n\nNo LimitRange resource.\n");
    Ok(text)
}

fn head(object: &Object, namespaced: bool) -> String {
    let meta = object.metadata.clone().unwrap_or_default();
    let mut text = String::new();
    let _ = writeln!(text, "Name:\t{}", meta.name);
    if namespaced {
        let _ = writeln!(text, "Namespace:\t{}", meta.namespace);
    }
    push_map(&mut text, "Labels", &meta.labels, "=");
    let mut annotations = meta.annotations;
    // What was applied is shown by `apply view-last-applied`; kubectl leaves it out, too.
    annotations.remove(everynode_manifest::LAST_APPLIED);
    push_map(&mut text, "Annotations", &annotations, ": ");
    text
}

fn values<'a>(content: &'a Value, field: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    content.get(field).and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

/// How many bytes are behind base64.
fn decoded_length(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default();
    text.trim_end_matches('=').len() * 3 / 4
}
