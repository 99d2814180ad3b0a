//! Pods, whose labels are their template's.

use std::collections::BTreeMap;

use everynode_coordinator_core::{Fleet, PodView};
use everynode_model::{Digest, Labels, SetUid};
use everynode_proto::v1;
use serde_json::Value;

use super::timestamp;

/// The labels of pods by their set and revision, as far as the revisions are kept.
pub(in crate::services) type PodLabels = BTreeMap<(SetUid, Digest), Labels>;

/// The labels of all of `pods`. Each revision is read once, however many pods there are of it.
pub(in crate::services) fn labels(fleet: &Fleet, pods: &[PodView]) -> PodLabels {
    let mut labels = PodLabels::new();
    for pod in pods {
        if labels.contains_key(&(pod.set, pod.revision)) {
            continue;
        }
        for revision in fleet.revisions(pod.set) {
            let read = || template_labels(&revision.body, revision.digest);
            labels.entry((pod.set, revision.digest)).or_insert_with(read);
        }
        labels.entry((pod.set, pod.revision)).or_default();
    }
    labels
}

/// A pod.
pub(in crate::services) fn message(view: &PodView, labels: &PodLabels) -> v1::Pod {
    let status = view.status.as_ref();
    let labels = labels.get(&(view.set, view.revision)).cloned().unwrap_or_default();
    v1::Pod {
        metadata: Some(v1::ObjectMeta {
            name: view.name.clone(),
            namespace: view.key.namespace().into(),
            uid: status.map(|status| status.uid.to_string()).unwrap_or_default(),
            resource_version: view.resource_version.to_string(),
            creation_timestamp: status.and_then(|status| status.started_at).map(timestamp),
            labels: labels.into_iter().collect(),
            ..Default::default()
        }),
        node_name: view.node.name.to_string(),
        node_uid: view.node.uid.to_string(),
        daemon_set: (!view.orphaned).then(|| (&view.key).into()),
        status: status.map(Into::into),
        reason: view.reason.as_ref().map(Into::into),
        revision: view.revision.short(),
        stale: view.stale,
    }
}

/// The same without what its containers printed.
pub(in crate::services) fn short(mut pod: v1::Pod) -> v1::Pod {
    let failures = pod.status.iter_mut().flat_map(everynode_proto::convert::status::failures_mut);
    failures.for_each(|failure| failure.log_tail = String::new());
    pod
}

/// The template's labels and the one that Kubernetes adds to tell revisions apart.
pub(super) fn template_labels(body: &[u8], revision: Digest) -> Labels {
    // What is stored was admitted, so it is JSON.
    let template: Value = serde_json::from_slice(body).unwrap_or_default();
    let labels = template.pointer("/metadata/labels").and_then(Value::as_object);
    let own = labels.into_iter().flatten();
    own.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .chain([("controller-revision-hash".to_owned(), revision.short())])
        .collect()
}
