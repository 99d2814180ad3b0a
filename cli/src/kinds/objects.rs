//! Objects of any kind as Kubernetes' JSON: read, listed and written, for the verbs to which a kind
//! is a word and no more.

use std::collections::BTreeMap;

use everynode_proto::convert::json::to_struct;
use everynode_proto::v1::node_change::{Change, Label};
use everynode_proto::v1::put_object::Object as Sent;
use everynode_proto::v1::put_result::Object as Put;
use everynode_proto::v1::{
    ChangeNodeRequest, DaemonSet, Effect, ListRequest, NodeChange, PutDaemonSetRequest, PutMode,
    PutObject, PutObjectsRequest, Taint, Verdict,
};
use serde_json::{Value, json};

use super::stored::{answered, to_put};
use super::{DaemonSets, Kind, Nodes, Resource, metadata_from, of_kind};
use crate::connect::Client;
use crate::error::Error;

/// What is to become of an object that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It must not be there.
    Create,
    /// It must be there, and of the version it says, if it says one.
    Replace,
}

/// What came of writing an object.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// As it is now, or would be.
    pub(crate) object: Value,
    /// Whether it is new.
    pub(crate) created: bool,
    /// False: it was so already.
    pub(crate) changed: bool,
    /// Lines for people.
    pub(crate) warnings: Vec<String>,
    /// What becomes of a manifest, where the coordinator says so.
    pub(crate) verdict: Option<Verdict>,
    /// What it does to pods.
    pub(crate) effect: Option<Effect>,
}

impl Resource {
    /// The kind of an object.
    pub(crate) fn of(object: &Value) -> Result<Self, Error> {
        Self::named(text(object, "/kind"))
    }

    /// Reads an object.
    pub(crate) async fn read(
        self,
        client: &Client,
        namespace: &str,
        name: &str,
    ) -> Result<Value, Error> {
        // Whoever changes a Secret needs its values; who prints one takes them out.
        let client = &client.clone().showing_secrets(true);
        of_kind!(self, K => K::manifest(&K::get(client, namespace, name).await?))
    }

    /// Reads objects.
    pub(crate) async fn read_all(
        self,
        client: &Client,
        request: ListRequest,
    ) -> Result<Vec<Value>, Error> {
        of_kind!(self, K => K::list(client, request).await?.items.iter().map(K::manifest).collect())
    }

    /// Writes an object.
    pub(crate) async fn write(
        self,
        mode: Mode,
        client: &Client,
        object: &Value,
        dry_run: bool,
    ) -> Result<Written, Error> {
        match self {
            Self::DaemonSets => daemon_set(mode, client, object, dry_run).await,
            Self::ConfigMaps | Self::Secrets | Self::Namespaces => {
                let put = [(self, mode, object.clone())];
                let mut written = put_together(client, &put, dry_run).await?;
                Ok(written.pop().unwrap_or_default())
            }
            Self::Nodes if mode == Mode::Replace => node(client, object, dry_run).await,
            Self::Nodes => Err(Error::Usage(
                "nodes join by themselves: everynode token create --print-join-command".into(),
            )),
            other => Err(Error::Usage(format!(
                "{}s can't be changed; they follow from DaemonSets and nodes",
                other.names().singular
            ))),
        }
    }
}

/// Writes several objects in one transaction, all or none. What they do to pods together is told with
/// the last DaemonSet, or the last of them.
pub(crate) async fn put_together(
    client: &Client,
    objects: &[(Resource, Mode, Value)],
    dry_run: bool,
) -> Result<Vec<Written>, Error> {
    let put = |(kind, mode, object): &(Resource, Mode, Value)| {
        let put = match kind {
            Resource::DaemonSets => PutObject {
                object: Some(Sent::DaemonSet(daemon_set_message(object))),
                api_version: text(object, "/apiVersion").to_owned(),
                ..PutObject::default()
            },
            _ => to_put(object),
        };
        let mode = match mode {
            Mode::Create => PutMode::Create,
            Mode::Replace => PutMode::Replace,
        };
        PutObject { mode: mode.into(), ..put }
    };
    let request = client.request(PutObjectsRequest {
        objects: objects.iter().map(put).collect(),
        dry_run,
        allow_removal: client.allows_removal(),
    });
    let response = client.answer(client.objects().put(request)).await?;
    let mut written = Vec::new();
    for ((kind, _, sent), result) in objects.iter().zip(response.results) {
        let object = match &result.object {
            Some(Put::DaemonSet(set)) => DaemonSets::manifest(set)?,
            Some(Put::Other(object)) => answered(*kind, object, sent)?,
            None => Value::Null,
        };
        written.push(Written {
            object,
            created: result.created,
            changed: result.changed,
            warnings: result.warnings,
            verdict: result.verdict,
            effect: None,
        });
    }
    let sets = objects.iter().rposition(|(kind, ..)| *kind == Resource::DaemonSets);
    let last = sets.unwrap_or_else(|| objects.len().saturating_sub(1));
    if let Some(told) = written.get_mut(last) {
        told.effect = response.effect;
    }
    Ok(written)
}

/// `daemonset.apps/x`.
pub(crate) fn full_name(object: &Value) -> String {
    let singular = Resource::of(object).map_or("object", |kind| kind.names().singular);
    format!("{singular}/{}", text(object, "/metadata/name"))
}

/// The text at a place in an object; empty where there is none.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn daemon_set_message(object: &Value) -> DaemonSet {
    DaemonSet {
        metadata: Some(metadata_from(object)),
        spec: object["spec"].as_object().map(to_struct),
        ..DaemonSet::default()
    }
}

async fn daemon_set(
    mode: Mode,
    client: &Client,
    object: &Value,
    dry_run: bool,
) -> Result<Written, Error> {
    let request = client.request(PutDaemonSetRequest {
        daemon_set: Some(daemon_set_message(object)),
        dry_run,
        api_version: text(object, "/apiVersion").to_owned(),
        allow_removal: client.allows_removal(),
    });
    let mut service = client.daemon_sets();
    let response = match mode {
        Mode::Create => client.answer(service.create(request)).await?,
        Mode::Replace => client.answer(service.replace(request)).await?,
    };
    Ok(Written {
        object: DaemonSets::manifest(&response.daemon_set.unwrap_or_default())?,
        created: response.created,
        changed: response.changed,
        warnings: response.warnings,
        verdict: response.verdict,
        effect: response.effect,
    })
}

/// Changes a node to what the object says: labels, taints and whether it is cordoned. The rest is
/// the machine's.
async fn node(client: &Client, object: &Value, dry_run: bool) -> Result<Written, Error> {
    let name = text(object, "/metadata/name");
    let before = Nodes::manifest(&Nodes::get(client, "", name).await?)?;
    let changes = node_changes(&before, object)?;
    if changes.is_empty() {
        return Ok(Written { object: before, ..Written::default() });
    }
    let request = ChangeNodeRequest {
        name: name.into(),
        changes,
        dry_run,
        allow_removal: client.allows_removal(),
        names: Vec::new(),
    };
    let after = client.answer(client.nodes().change(client.request(request))).await?;
    let (object, effect) = (Nodes::manifest(&after)?, after.effect);
    Ok(Written { object, changed: true, effect, ..Written::default() })
}

fn node_changes(before: &Value, after: &Value) -> Result<Vec<NodeChange>, Error> {
    let rest = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.retain(|field, _| !matches!(field.as_str(), "labels" | "resourceVersion"));
        }
        let spec = object.as_object_mut().and_then(|object| object.get_mut("spec"));
        if let Some(spec) = spec.and_then(Value::as_object_mut) {
            spec.retain(|field, _| !matches!(field.as_str(), "taints" | "unschedulable"));
        }
        object.as_object_mut().map(|object| object.remove("status"));
        object
    };
    if rest(before) != rest(after) {
        return Err(Error::Usage(
            "of nodes only metadata.labels, spec.taints and spec.unschedulable can be changed"
                .into(),
        ));
    }
    let (had, has) = (labels(before)?, labels(after)?);
    let set = has.iter().filter(|(key, value)| had.get(*key) != Some(value));
    let mut changes: Vec<Change> = set
        .map(|(key, value)| Change::SetLabel(Label { key: key.clone(), value: value.clone() }))
        .collect();
    let removed = had.keys().filter(|key| !has.contains_key(*key));
    changes.extend(removed.map(|key| Change::RemoveLabel(key.clone())));
    let (had, has) = (taints(before)?, taints(after)?);
    changes
        .extend(had.iter().filter(|taint| !has.contains(taint)).cloned().map(Change::RemoveTaint));
    changes.extend(has.iter().filter(|taint| !had.contains(taint)).cloned().map(Change::SetTaint));
    let cordoned = |object: &Value| object["spec"]["unschedulable"].as_bool().unwrap_or_default();
    if cordoned(before) != cordoned(after) {
        changes.push(Change::Unschedulable(cordoned(after)));
    }
    Ok(changes
        .into_iter()
        .map(|change| NodeChange { change: Some(change), overwrite: true })
        .collect())
}

fn labels(object: &Value) -> Result<BTreeMap<String, String>, Error> {
    let labels = object["metadata"].get("labels").filter(|labels| !labels.is_null()).cloned();
    serde_json::from_value(labels.unwrap_or_else(|| json!({})))
        .map_err(|error| Error::Usage(format!("metadata.labels: {error}")))
}

fn taints(object: &Value) -> Result<Vec<Taint>, Error> {
    let field = |taint: &Value, field: &str| match taint.get(field) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(Error::Usage(format!("spec.taints: {field}: must be a string"))),
    };
    let taints = object["spec"]["taints"].as_array().into_iter().flatten();
    taints
        .map(|taint| {
            Ok(Taint {
                key: field(taint, "key")?,
                value: field(taint, "value")?,
                effect: field(taint, "effect")?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_node_what_differs_is_changed() {
        let before = json!({"kind": "Node", "metadata": {"name": "n", "labels": {"a": "1", "b": "2"}},
            "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}, "status": {}});
        let mut after = before.clone();
        assert!(node_changes(&before, &after).unwrap().is_empty());
        after["metadata"]["labels"] = json!({"a": "2", "c": ""});
        after["spec"] = json!({"unschedulable": true});
        let changes: Vec<Change> = node_changes(&before, &after)
            .unwrap()
            .into_iter()
            .filter_map(|change| change.change)
            .collect();
        let label = |key: &str, value: &str| {
            Change::SetLabel(Label { key: key.into(), value: value.into() })
        };
        let taint = Taint { key: "k".into(), value: String::new(), effect: "NoSchedule".into() };
        assert_eq!(
            changes,
            [
                label("a", "2"),
                label("c", ""),
                Change::RemoveLabel("b".into()),
                Change::RemoveTaint(taint),
                Change::Unschedulable(true)
            ]
        );
        after["spec"]["podCIDR"] = "10.0.0.0/8".into();
        assert!(node_changes(&before, &after).is_err());
    }
}
