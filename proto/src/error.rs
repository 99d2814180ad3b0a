//! Refusals on the wire: a gRPC status whose details carry a reason that programs can match.

use std::fmt;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The `domain` of every ErrorInfo (google.rpc.ErrorInfo) that Everynode sends.
pub const DOMAIN: &str = "everynode.dev";

/// A field of a message whose value can't be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Its path, such as `stamp.cluster_id`.
    pub field: String,
    /// What is wrong with it.
    pub detail: String,
}

impl Invalid {
    /// `field` can't be taken because of `detail`.
    pub fn new(field: &str, detail: impl fmt::Display) -> Self {
        Self { field: field.into(), detail: detail.to_string() }
    }

    /// The same, seen from a message that holds this one in `field`.
    #[must_use]
    pub fn within(self, field: &str) -> Self {
        Self { field: format!("{field}.{}", self.field), detail: self.detail }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.detail)
    }
}

impl std::error::Error for Invalid {}

impl From<Invalid> for Status {
    fn from(invalid: Invalid) -> Self {
        let mut details = ErrorDetails::with_error_info("InvalidField", DOMAIN, []);
        details.add_bad_request_violation(invalid.field.clone(), invalid.detail.clone());
        Self::with_error_details(Code::InvalidArgument, invalid.to_string(), details)
    }
}

/// A status with a reason.
pub fn refusal(code: Code, reason: &str, message: impl Into<String>) -> Status {
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, DOMAIN, []))
}

/// The reason that a status carries, if it is one of ours.
pub fn reason_of(status: &Status) -> Option<String> {
    status.get_details_error_info().filter(|info| info.domain == DOMAIN).map(|info| info.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_crosses_the_wire() {
        let status = refusal(Code::NotFound, "NodeNotFound", "no such node");
        assert_eq!(reason_of(&status).as_deref(), Some("NodeNotFound"));
        assert_eq!(reason_of(&Status::not_found("x")), None);
    }

    #[test]
    fn an_invalid_field_is_named_with_its_path() {
        let status = Status::from(Invalid::new("digest", "32 bytes").within("stamp"));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "stamp.digest: 32 bytes");
    }
}
