//! Wire ⇄ model, one file per subject. A wire message becomes a model value once, here, or an
//! [`crate::error::Invalid`] that names the field.

pub mod assignment;
pub mod json;
pub mod status;

use everynode_model::{Digest, NodeCondition, PodKey, WallTime};

use crate::error::Invalid;
use crate::v1;

/// Parses a text field into an id.
///
/// # Errors
/// When it can't be read; the field is named.
pub fn id<T: std::str::FromStr>(field: &str, text: &str) -> Result<T, Invalid>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error| Invalid::new(field, error))
}

/// Takes a field of 32 bytes as a digest.
///
/// # Errors
/// When it has another length.
pub fn digest(field: &str, bytes: &[u8]) -> Result<Digest, Invalid> {
    Digest::try_from(bytes).map_err(|error| Invalid::new(field, error))
}

/// Takes a field that must be there.
///
/// # Errors
/// When it is not.
pub fn required<T>(field: &str, value: Option<T>) -> Result<T, Invalid> {
    value.ok_or_else(|| Invalid::new(field, "required"))
}

impl From<&NodeCondition> for v1::NodeCondition {
    fn from(condition: &NodeCondition) -> Self {
        Self {
            r#type: condition.kind.clone(),
            status: condition.holds,
            reason: condition.reason.clone(),
            message: condition.message.clone(),
            since_millis: condition.since.unix_millis,
        }
    }
}

impl From<&v1::NodeCondition> for NodeCondition {
    fn from(condition: &v1::NodeCondition) -> Self {
        Self {
            kind: condition.r#type.clone(),
            holds: condition.status,
            reason: condition.reason.clone(),
            message: condition.message.clone(),
            since: WallTime::from_unix_millis(condition.since_millis),
        }
    }
}

impl From<&PodKey> for v1::PodKey {
    fn from(key: &PodKey) -> Self {
        Self { namespace: key.namespace().into(), name: key.name().into() }
    }
}

impl TryFrom<&v1::PodKey> for PodKey {
    type Error = Invalid;

    fn try_from(key: &v1::PodKey) -> Result<Self, Invalid> {
        Self::new(&key.namespace, &key.name).map_err(|error| Invalid::new("key", error))
    }
}
