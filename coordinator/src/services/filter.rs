//! Which objects a caller wants to see: namespace, name and label selector, parsed at the door.

use std::fmt::Display;
use std::str::FromStr;

use everynode_model::{Labels, PodKey, Selector};
use everynode_proto::v1;
use tonic::Status;

use crate::status;

/// The namespace of objects that name none, as in Kubernetes.
pub(super) const DEFAULT_NAMESPACE: &str = "default";

/// What all lists and watches can be narrowed by; everything where nothing is said.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) selector: Selector,
}

impl Filter {
    pub(super) fn of_list(request: &v1::ListRequest) -> Result<Self, Status> {
        Ok(Self {
            namespace: given(&request.namespace),
            name: None,
            selector: selector(&request.label_selector)?,
        })
    }

    pub(super) fn of_watch(request: &v1::WatchRequest) -> Result<Self, Status> {
        Ok(Self {
            namespace: given(&request.namespace),
            name: given(&request.name),
            selector: selector(&request.label_selector)?,
        })
    }

    /// Whether the object with this metadata is wanted.
    pub(super) fn wants(&self, meta: &v1::ObjectMeta) -> bool {
        self.names(meta) && (self.selector.0.is_empty() || self.selector.matches(&labels(meta)))
    }

    /// Whether an object is wanted as far as its names tell.
    pub(super) fn names(&self, meta: &v1::ObjectMeta) -> bool {
        self.namespace.as_ref().is_none_or(|only| *only == meta.namespace)
            && self.name.as_ref().is_none_or(|only| *only == meta.name)
    }
}

/// The key of a named DaemonSet.
pub(super) fn set_key(namespace: &str, name: &str) -> Result<PodKey, Status> {
    PodKey::new(or_default(namespace), name).map_err(|error| status::invalid("name", error))
}

/// A namespace that may be left out.
pub(super) fn or_default(namespace: &str) -> &str {
    if namespace.is_empty() { DEFAULT_NAMESPACE } else { namespace }
}

/// A text that may be left out.
pub(super) fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// The uid of the only one that is meant; `None` for the empty text, which means any.
pub(super) fn meant<T>(field: &str, uid: &str) -> Result<Option<T>, Status>
where
    T: FromStr<Err: Display>,
{
    given(uid).map(|uid| uid.parse()).transpose().map_err(|error| status::invalid(field, error))
}

/// A version as lists and watches give it; `None` for the empty text.
pub(super) fn version(field: &str, text: &str) -> Result<Option<u64>, Status> {
    match text {
        "" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|_| status::invalid(field, format!("{text:?} is not a resource version"))),
    }
}

/// A label selector; of the empty text, one that everything meets.
pub(super) fn selector(text: &str) -> Result<Selector, Status> {
    text.parse().map_err(|error| status::invalid("label_selector", error))
}

fn labels(meta: &v1::ObjectMeta) -> Labels {
    meta.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}
