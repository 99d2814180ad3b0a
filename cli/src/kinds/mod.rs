//! The kinds of objects: how each is named, listed, watched, shown in a row and written as a
//! manifest. One file per kind.

mod conditions;
mod daemon_sets;
mod events;
mod manifest;
mod nodes;
mod objects;
mod pods;
mod revisions;
mod stored;
mod template;
mod tokens;

use everynode_manifest::find_kind;
use everynode_proto::v1::{EventKind, ListRequest, ObjectMeta, WatchRequest};
use serde_json::Value;
use tonic::Streaming;

use crate::connect::Client;
use crate::error::Error;

pub(crate) use conditions::{addresses, capacity, conditions};
pub(crate) use daemon_sets::{DaemonSets, selector};
pub(crate) use events::Events;
pub(crate) use manifest::{metadata_from, put, spec_json};
pub(crate) use nodes::{Nodes, roles};
pub(crate) use objects::{Mode, Written, full_name, put_together, text};
pub(crate) use pods::{
    Pods, container_json, is_main, pod_conditions, pods_of, ready_of, restarts, spec_of, standing,
};
pub(crate) use revisions::ControllerRevisions;
pub(crate) use stored::{ConfigMaps, Namespaces, Secrets, content, printable};
pub(crate) use tokens::Tokens;

/// How a kind is called.
#[derive(Debug)]
pub(crate) struct Names {
    /// `DaemonSet`.
    pub(crate) kind: &'static str,
    /// `apps/v1`.
    pub(crate) api_version: &'static str,
    /// `daemonset.apps`: before a name, in what a verb says it has done.
    pub(crate) singular: &'static str,
    /// Whether it lives in namespaces.
    pub(crate) namespaced: bool,
}

/// A column of `get`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// Its head.
    pub(crate) head: &'static str,
    /// Whether only `-o wide` shows it.
    pub(crate) wide: bool,
}

/// Some objects and the point in history they are of.
#[derive(Debug)]
pub(crate) struct Listed<T> {
    /// Where a watch may go on.
    pub(crate) resource_version: String,
    /// In the coordinator's order.
    pub(crate) items: Vec<T>,
}

/// What `get` needs to know of a kind.
pub(crate) trait Kind {
    /// One of them.
    type Object: Clone + PartialEq;
    /// A watch's message.
    type Event: 'static;

    /// How it is called.
    const NAMES: Names;
    /// Its columns.
    const COLUMNS: &'static [Column];

    /// Name, namespace, labels and so on.
    fn metadata(object: &Self::Object) -> Option<&ObjectMeta>;
    /// The same, to blank what is not to be compared.
    fn metadata_mut(object: &mut Self::Object) -> Option<&mut ObjectMeta>;
    /// A cell for each of [`Kind::COLUMNS`], as seen at `now` (seconds since 1970).
    fn row(object: &Self::Object, now: i64) -> Vec<String>;
    /// The object as Kubernetes would write it.
    fn manifest(object: &Self::Object) -> Result<Value, Error>;
    /// One object.
    async fn get(client: &Client, namespace: &str, name: &str) -> Result<Self::Object, Error>;
    /// Some objects.
    async fn list(client: &Client, request: ListRequest) -> Result<Listed<Self::Object>, Error>;
    /// Changes of some objects.
    async fn watch(client: &Client, request: WatchRequest)
    -> Result<Streaming<Self::Event>, Error>;
    /// A watch's message taken apart.
    fn change(event: Self::Event) -> (EventKind, Option<Self::Object>);
}

/// A kind that the verbs take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    DaemonSets,
    Nodes,
    Pods,
    Events,
    ControllerRevisions,
    ConfigMaps,
    Secrets,
    Namespaces,
    Tokens,
}

/// Does something with the type of a kind that is known by its word only.
macro_rules! of_kind {
    ($resource:expr, $kind:ident => $body:expr) => {
        match $resource {
            $crate::kinds::Resource::DaemonSets => {
                type $kind = $crate::kinds::DaemonSets;
                $body
            }
            $crate::kinds::Resource::Nodes => {
                type $kind = $crate::kinds::Nodes;
                $body
            }
            $crate::kinds::Resource::Pods => {
                type $kind = $crate::kinds::Pods;
                $body
            }
            $crate::kinds::Resource::Events => {
                type $kind = $crate::kinds::Events;
                $body
            }
            $crate::kinds::Resource::ControllerRevisions => {
                type $kind = $crate::kinds::ControllerRevisions;
                $body
            }
            $crate::kinds::Resource::ConfigMaps => {
                type $kind = $crate::kinds::ConfigMaps;
                $body
            }
            $crate::kinds::Resource::Secrets => {
                type $kind = $crate::kinds::Secrets;
                $body
            }
            $crate::kinds::Resource::Namespaces => {
                type $kind = $crate::kinds::Namespaces;
                $body
            }
            $crate::kinds::Resource::Tokens => {
                type $kind = $crate::kinds::Tokens;
                $body
            }
        }
    };
}
pub(crate) use of_kind;

impl Resource {
    /// The kind that a word means: `ds`, `daemonset`, `daemonsets.apps`, ….
    pub(crate) fn named(word: &str) -> Result<Self, Error> {
        if matches!(word.to_lowercase().as_str(), "token" | "tokens") {
            return Ok(Self::Tokens);
        }
        let known = find_kind(word)
            .ok_or_else(|| usage(format!("the server doesn't have a resource type {word:?}")))?;
        match known.kind {
            "DaemonSet" => Ok(Self::DaemonSets),
            "Node" => Ok(Self::Nodes),
            "Pod" => Ok(Self::Pods),
            "Event" => Ok(Self::Events),
            "ControllerRevision" => Ok(Self::ControllerRevisions),
            "ConfigMap" => Ok(Self::ConfigMaps),
            "Secret" => Ok(Self::Secrets),
            "Namespace" => Ok(Self::Namespaces),
            _ => Err(usage(format!(
                "Everynode has no {}: it has daemonsets, nodes, pods, configmaps, secrets, namespaces, \
                 controllerrevisions, events and tokens",
                known.plural
            ))),
        }
    }

    /// How it is called.
    pub(crate) fn names(self) -> Names {
        of_kind!(self, K => K::NAMES)
    }
}

/// The name in an object's metadata.
pub(crate) fn name_of(metadata: Option<&ObjectMeta>) -> &str {
    metadata.map_or("", |metadata| &metadata.name)
}

/// The namespace in an object's metadata.
pub(crate) fn namespace_of(metadata: Option<&ObjectMeta>) -> &str {
    metadata.map_or("", |metadata| &metadata.namespace)
}

/// `a=b,c=d` in order of keys, or `<none>`.
pub(crate) fn pairs<'a>(
    map: impl IntoIterator<Item = (&'a String, &'a String)>,
    separator: &str,
) -> String {
    let mut pairs: Vec<_> = map.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.sort_unstable();
    if pairs.is_empty() { "<none>".into() } else { pairs.join(separator) }
}

/// A "no such thing" that was found here rather than there.
pub(crate) fn not_found(resource: &str, name: &str) -> Error {
    Error::from(everynode_proto::error::refusal(
        tonic::Code::NotFound,
        "NotFound",
        format!("{resource} {name:?} not found"),
    ))
}

const fn column(head: &'static str) -> Column {
    Column { head, wide: false }
}

const fn wide(head: &'static str) -> Column {
    Column { head, wide: true }
}

fn usage(text: String) -> Error {
    Error::Usage(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_kinds() {
        for (word, resource) in [
            ("ds", Resource::DaemonSets),
            ("DaemonSets.apps", Resource::DaemonSets),
            ("no", Resource::Nodes),
            ("pod", Resource::Pods),
            ("ev", Resource::Events),
            ("tokens", Resource::Tokens),
            ("cm", Resource::ConfigMaps),
            ("secret", Resource::Secrets),
            ("ns", Resource::Namespaces),
        ] {
            assert_eq!(Resource::named(word).unwrap(), resource);
        }
        let message = |word| Resource::named(word).unwrap_err().to_string();
        assert_eq!(message("dss"), "error: the server doesn't have a resource type \"dss\"");
        assert!(message("deploy").starts_with("error: Everynode has no deployments: it has"));
    }
}
