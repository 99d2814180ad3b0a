//! RFC 6902: a list of operations.

use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use super::PatchError;

/// The most operations of one patch, as in Kubernetes' API server.
const MAX_OPERATIONS: usize = 10_000;

/// What an object may grow to by copying within itself; each copy could double it. Twice what any
/// manifest may have.
const MAX_BYTES: usize = 2 * crate::MAX_MANIFEST_BYTES;

/// Does all operations, or none.
pub(super) fn patch(object: &Value, patch: &Value) -> Result<Value, PatchError> {
    let Patch(operations) = serde_json::from_value(patch.clone()).map_err(|error| {
        PatchError::new(format!("not a JSON patch ([{{\"op\": …, \"path\": …}}, …]): {error}"))
    })?;
    if operations.len() > MAX_OPERATIONS {
        let rule = format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        );
        return Err(PatchError::new(rule));
    }
    let mut patched = object.clone();
    for (number, operation) in operations.iter().enumerate() {
        let one = std::slice::from_ref(operation);
        let done = json_patch::patch(&mut patched, one);
        done.map_err(|error| PatchError::new(error.kind.to_string()).within(&at(number)))?;
        if matches!(operation, PatchOperation::Copy(_)) && patched.to_string().len() > MAX_BYTES {
            let rule = format!("copies make it larger than {MAX_BYTES} bytes");
            return Err(PatchError::new(rule).within(&at(number)));
        }
    }
    Ok(patched)
}

fn at(number: usize) -> String {
    format!("[{number}]")
}
