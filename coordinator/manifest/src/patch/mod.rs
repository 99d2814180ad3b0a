//! Changing an object by a patch: Kubernetes' three kinds of them, and the patch that `apply` makes.
//!
//! ```text
//! live object --patch(kind, …)--> what it becomes
//!      |                               ^
//!      +--three_way(last, live, new)---+  the patch: what the last apply had and this one has not
//!                                         goes, what it sets is set, and all else is left alone
//! ```
//!
//! It knows how lists of the kinds merge (`schema`), and no other rule: whether the outcome is a
//! valid object is for the door to say ([`crate::admit()`]).

mod diff;
mod json;
mod lists;
mod schema;
mod strategic;

use serde_json::{Map, Value};

pub use diff::three_way;

/// How a patch is to be read; the words of `kubectl patch --type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// Kubernetes' own: maps merge, lists merge where Kubernetes' types say by which key.
    Strategic,
    /// RFC 7386: maps merge, lists are replaced.
    Merge,
    /// RFC 6902: a list of operations, of which all or none are done.
    Json,
}

/// Why a patch can't be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
pub struct PatchError {
    /// The field of the patch; empty for the whole.
    pub path: String,
    /// What is wrong there.
    pub message: String,
}

/// The object as it is with the patch applied.
///
/// # Errors
/// When the patch is not of its kind, or does not fit the object.
pub fn patch(kind: PatchKind, object: &Value, patch: &Value) -> Result<Value, PatchError> {
    let patched = match (kind, patch, object) {
        (PatchKind::Json, ..) => json::patch(object, patch)?,
        (_, Value::Object(patch), Value::Object(object)) => Value::Object(match kind {
            PatchKind::Strategic => strategic::merged(object.clone(), patch.clone())?,
            PatchKind::Merge | PatchKind::Json => merged(object.clone(), patch.clone()),
        }),
        _ => return Err(PatchError::new("must be a map, as the object is")),
    };
    if patched.is_object() { Ok(patched) } else { Err(PatchError::new("leaves no object")) }
}

/// RFC 7386.
fn merged(mut object: Map<String, Value>, patch: Map<String, Value>) -> Map<String, Value> {
    for (key, value) in patch {
        let merged = match (object.remove(&key), value) {
            (_, Value::Null) => continue,
            (Some(Value::Object(before)), Value::Object(patch)) => merged(before, patch),
            (_, Value::Object(patch)) => merged(Map::new(), patch),
            (_, value) => {
                object.insert(key, value);
                continue;
            }
        };
        object.insert(key, Value::Object(merged));
    }
    object
}

impl PatchError {
    fn new(message: impl Into<String>) -> Self {
        Self { path: String::new(), message: message.into() }
    }

    fn within(mut self, field: &str) -> Self {
        let gap = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{field}{gap}{}", self.path);
        self
    }
}

#[cfg(test)]
mod tests;
