//! What the fleet shows to messages; one file per kind.

pub(super) mod event;
pub(super) mod node;
pub(super) mod object;
pub(super) mod pod;
pub(super) mod set;

use std::collections::HashMap;

use everynode_model::WallTime;
use prost_types::Timestamp;
use serde_json::{Map, Value};

/// A date.
pub(super) fn timestamp(at: WallTime) -> Timestamp {
    let nanos = at.unix_millis.rem_euclid(1000) * 1_000_000;
    Timestamp {
        seconds: at.unix_millis.div_euclid(1000),
        nanos: i32::try_from(nanos).unwrap_or_default(),
    }
}

/// The annotations of a canonical object.
fn annotations(object: &Map<String, Value>) -> HashMap<String, String> {
    let annotations = object.get("metadata").and_then(|meta| meta.get("annotations"));
    let all = annotations.and_then(Value::as_object).into_iter().flatten();
    all.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}
