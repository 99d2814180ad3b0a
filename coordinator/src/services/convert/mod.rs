//! What the fleet shows to messages; one file per kind.

pub(super) mod event;
pub(super) mod node;
pub(super) mod object;
pub(super) mod pod;
pub(super) mod set;

use everynode_model::WallTime;
use prost_types::Timestamp;

/// A date.
pub(super) fn timestamp(at: WallTime) -> Timestamp {
    let nanos = at.unix_millis.rem_euclid(1000) * 1_000_000;
    Timestamp {
        seconds: at.unix_millis.div_euclid(1000),
        nanos: i32::try_from(nanos).unwrap_or_default(),
    }
}
