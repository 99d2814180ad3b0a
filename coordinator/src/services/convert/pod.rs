//! Pods, whose labels and specs are their template's.

use std::collections::{BTreeMap, HashMap};

use everynode_coordinator_core::{Fleet, PodView};
use everynode_model::{DEFAULT_CONTAINER, Digest, Labels, Role, SetUid};
use everynode_proto::convert::json::to_struct;
use everynode_proto::v1;
use prost_types::Struct;
use serde_json::{Map, Value};

use super::{annotations, timestamp};

/// The templates of pods, by their set and revision, as far as the revisions are kept.
pub(in crate::services) type Templates = BTreeMap<(SetUid, Digest), Template>;

/// What is shown of a template.
#[derive(Default)]
pub(in crate::services) struct Template {
    labels: Labels,
    annotations: HashMap<String, String>,
    spec: Map<String, Value>,
}

/// The templates of all of `pods`. Each revision is read once, however many pods there are of it.
pub(in crate::services) fn templates(fleet: &Fleet, pods: &[PodView]) -> Templates {
    let mut templates = Templates::new();
    for pod in pods {
        let template = || Template::of(fleet, pod);
        templates.entry((pod.set, pod.revision)).or_insert_with(template);
    }
    templates
}

/// The container of a pod that is meant where none is named, if its template says so.
pub(in crate::services) fn default_container(fleet: &Fleet, pod: &PodView) -> Option<String> {
    Template::of(fleet, pod).annotations.remove(DEFAULT_CONTAINER)
}

/// A pod, without its spec.
pub(in crate::services) fn message(view: &PodView, templates: &Templates) -> v1::Pod {
    let status = view.status.as_ref();
    let template = templates.get(&(view.set, view.revision));
    let silent = status.is_none_or(|status| status.containers.is_empty());
    v1::Pod {
        metadata: Some(v1::ObjectMeta {
            name: view.name.clone(),
            namespace: view.key.namespace().into(),
            uid: status.map(|status| status.uid.to_string()).unwrap_or_default(),
            resource_version: view.resource_version.to_string(),
            creation_timestamp: status.and_then(|status| status.started_at).map(timestamp),
            labels: template.map(|it| it.labels.clone().into_iter().collect()).unwrap_or_default(),
            annotations: template.map(|it| it.annotations.clone()).unwrap_or_default(),
            ..Default::default()
        }),
        node_name: view.node.name.to_string(),
        node_uid: view.node.uid.to_string(),
        daemon_set: (!view.orphaned).then(|| (&view.key).into()),
        status: status.map(Into::into),
        reason: view.reason.as_ref().map(Into::into),
        revision: view.revision.short(),
        stale: view.stale,
        planned: template.filter(|_| silent).map(Template::containers).unwrap_or_default(),
        spec: None,
        spec_number: 0,
    }
}

/// What the pod's template says.
pub(in crate::services) fn spec(view: &PodView, templates: &Templates) -> Option<Struct> {
    let template = templates.get(&(view.set, view.revision))?;
    (!template.spec.is_empty()).then(|| to_struct(&template.spec))
}

/// What the templates of `pods` say, and which of these is whose, counted from 1.
pub(in crate::services) fn specs(
    pods: &[PodView],
    templates: &Templates,
) -> (Vec<Struct>, BTreeMap<(SetUid, Digest), u32>) {
    let mut specs = Vec::new();
    let mut numbers = BTreeMap::new();
    for pod in pods {
        let key = (pod.set, pod.revision);
        if !numbers.contains_key(&key)
            && let Some(spec) = spec(pod, templates)
        {
            specs.push(spec);
            numbers.insert(key, u32::try_from(specs.len()).unwrap_or_default());
        }
    }
    (specs, numbers)
}

/// The same without what its containers printed.
pub(in crate::services) fn short(mut pod: v1::Pod) -> v1::Pod {
    let failures = pod.status.iter_mut().flat_map(everynode_proto::convert::status::failures_mut);
    failures.for_each(|failure| failure.log_tail = String::new());
    pod
}

impl Template {
    /// Empty where the revision is not kept.
    fn of(fleet: &Fleet, pod: &PodView) -> Self {
        let revision = fleet.revision(pod.set, pod.revision);
        revision.map(|it| Self::read(&it.body, it.digest)).unwrap_or_default()
    }

    fn read(body: &[u8], revision: Digest) -> Self {
        let mut template = parsed(body);
        let spec = match template.remove("spec") {
            Some(Value::Object(spec)) => spec,
            _ => Map::new(),
        };
        Self { labels: labels(&template, revision), annotations: annotations(&template), spec }
    }

    /// Its containers by name and role, init containers first.
    fn containers(&self) -> Vec<v1::ContainerStatus> {
        let listed = |field: &str| self.spec.get(field).and_then(Value::as_array).into_iter();
        let init = |one: &Value| match one["restartPolicy"].as_str() {
            Some("Always") => Role::Sidecar,
            _ => Role::Init,
        };
        let inits = listed("initContainers").flatten().map(|one| (one, init(one)));
        let mains = listed("containers").flatten().map(|one| (one, Role::Main));
        let container = |(one, role): (&Value, Role)| v1::ContainerStatus {
            name: one["name"].as_str().unwrap_or_default().to_owned(),
            role: v1::ContainerRole::from(role).into(),
            ..v1::ContainerStatus::default()
        };
        inits.chain(mains).map(container).collect()
    }
}

/// The template's labels and the one that Kubernetes adds to tell revisions apart.
pub(super) fn template_labels(body: &[u8], revision: Digest) -> Labels {
    labels(&parsed(body), revision)
}

fn labels(template: &Map<String, Value>, revision: Digest) -> Labels {
    let labels = template.get("metadata").and_then(|metadata| metadata.get("labels"));
    let own = labels.and_then(Value::as_object).into_iter().flatten();
    own.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .chain([("controller-revision-hash".to_owned(), revision.short())])
        .collect()
}

/// What is stored was admitted, so it is JSON.
fn parsed(body: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(body).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_template_says_which_containers_are_to_come() {
        let body = json!({
            "metadata": {"labels": {"app": "x"}, "annotations": {"a": "b"}},
            "spec": {
                "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
                "containers": [{"name": "m"}],
            },
        });
        let template = Template::read(body.to_string().as_bytes(), Digest::of(b"x"));
        let planned = template.containers();
        let roles: Vec<_> = planned.iter().map(|one| (one.name.as_str(), one.role())).collect();
        let expected = [
            ("i", v1::ContainerRole::Init),
            ("s", v1::ContainerRole::Sidecar),
            ("m", v1::ContainerRole::Main),
        ];
        assert_eq!(roles, expected);
        assert_eq!(template.annotations["a"], "b");
        assert_eq!(template.labels.len(), 2, "with that of its revision");
    }
}
