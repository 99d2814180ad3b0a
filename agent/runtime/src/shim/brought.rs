//! How many descriptors a request brings: said in its own line, so that a supervisor that does not know
//! the request can tell them from those of others.
//!
//! ```text
//!   {"exec":{"id":7,…,"fds":3}}
//! ```
//!
//! Supervisors of an older version pass the field over, and forget all that waits at a request that they
//! don't know.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::protocol::{self, Request};

/// A request's line, with as many descriptors.
pub(crate) fn line(request: &Request, fds: usize) -> Vec<u8> {
    let mut said = serde_json::to_value(request).unwrap_or_default();
    let body = said.as_object_mut().and_then(|said| said.values_mut().next());
    match body.and_then(Value::as_object_mut) {
        Some(body) if fds > 0 => {
            body.insert("fds".to_owned(), fds.into());
            protocol::line(&said)
        }
        _ => protocol::line(request),
    }
}

/// What a line brings that is no request known here.
pub(super) fn brought_by(line: &[u8]) -> usize {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Body {
        fds: usize,
    }
    let said: Result<BTreeMap<String, Body>, _> = serde_json::from_slice(line);
    said.unwrap_or_default().into_values().next().unwrap_or_default().fds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_new_read_the_same_request() {
        let asked = Request::Socket { v6: true };
        let said = line(&asked, 1);
        assert_eq!(said, b"{\"socket\":{\"fds\":1,\"v6\":true}}\n");
        assert_eq!(serde_json::from_slice::<Request>(&said).unwrap(), asked);
        assert_eq!(brought_by(&said), 1);
        assert_eq!(line(&Request::Plan {}, 0), b"{\"plan\":{}}\n");
        for nothing in ["", "{}", "[]", "\"later\"", "{\"later\":{}}", "{\"later\":7}"] {
            assert_eq!(brought_by(nothing.as_bytes()), 0, "{nothing}");
        }
    }
}
