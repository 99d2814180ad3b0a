//! Events.

use everynode_coordinator_core::{EventRecord, EventType};
use everynode_proto::v1;

use super::timestamp;
use crate::services::filter::DEFAULT_NAMESPACE;

/// An event; events about nodes are in the namespace `default`, as in Kubernetes.
pub(in crate::services) fn message(record: &EventRecord) -> v1::Event {
    let about = &record.about;
    let namespace = match about.namespace.as_str() {
        "" => DEFAULT_NAMESPACE,
        namespace => namespace,
    };
    v1::Event {
        metadata: Some(v1::ObjectMeta {
            name: format!("{}.{:x}", about.name, record.sequence),
            namespace: namespace.into(),
            creation_timestamp: Some(timestamp(record.first_at)),
            ..Default::default()
        }),
        involved_kind: about.kind.clone(),
        involved_namespace: about.namespace.clone(),
        involved_name: about.name.clone(),
        involved_uid: about.uid.clone(),
        r#type: match record.event_type {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        }
        .into(),
        reason: record.reason.clone(),
        message: record.message.clone(),
        count: i64::try_from(record.count).unwrap_or(i64::MAX),
        first_timestamp: Some(timestamp(record.first_at)),
        last_timestamp: Some(timestamp(record.last_at)),
    }
}
