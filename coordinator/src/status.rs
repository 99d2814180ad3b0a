//! One table: refusals and failures to what a caller is told, in kubectl's words.

use everynode_coordinator_core::Refusal;
use everynode_manifest::Rejected;
use everynode_model::PodKey;
use everynode_proto::error::{DOMAIN, refusal};
use everynode_store::StoreError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::driver::{CommandError, Expired, Lagged};

/// Why a command had no effect.
pub(crate) fn command(error: &CommandError) -> Status {
    match error {
        CommandError::Refused(refusal) => refused(refusal),
        CommandError::Store(error) => store(error),
        CommandError::Closed => closing(),
    }
}

/// Why a command was not followed.
pub(crate) fn refused(why: &Refusal) -> Status {
    use Code::{
        Aborted, AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied,
        ResourceExhausted, Unauthenticated,
    };
    let (code, reason, message) = match why {
        Refusal::TokenInvalid => {
            (Unauthenticated, "TokenInvalid", "the join token is not valid here".into())
        }
        Refusal::TokenExpired => {
            (Unauthenticated, "TokenExpired", "the join token has expired".into())
        }
        Refusal::TokenUsedUp => (
            PermissionDenied,
            "TokenUsedUp",
            "as many machines as the join token allows have joined with it".into(),
        ),
        Refusal::TokenForOtherNode { name } => (
            PermissionDenied,
            "TokenForOtherNode",
            format!("the join token is for the node {name:?} only"),
        ),
        Refusal::NameTaken { name } => {
            (AlreadyExists, "NameTaken", format!("nodes {:?} already exists", name.as_str()))
        }
        Refusal::SetExists(key) => {
            (AlreadyExists, "AlreadyExists", format!("{} already exists", key.in_messages()))
        }
        Refusal::SetNotFound(key) => {
            (NotFound, "NotFound", format!("{} not found", key.in_messages()))
        }
        Refusal::ObjectExists(key) => {
            (AlreadyExists, "AlreadyExists", format!("{} already exists", key.in_messages()))
        }
        Refusal::ObjectNotFound(key) => {
            (NotFound, "NotFound", format!("{} not found", key.in_messages()))
        }
        Refusal::NamespaceTerminating { namespace, what } => (
            PermissionDenied,
            "NamespaceTerminating",
            format!(
                "{what} is forbidden: unable to create new content in namespace {namespace} because \
                 it is being terminated"
            ),
        ),
        Refusal::NamespaceBuiltIn(name) => (
            PermissionDenied,
            "Forbidden",
            format!("namespaces {name:?} is forbidden: this namespace may not be deleted"),
        ),
        Refusal::Conflict { what, detail } => {
            (Aborted, "Conflict", format!("Operation cannot be fulfilled on {what}: {detail}"))
        }
        Refusal::SelectorImmutable(key) => return selector_immutable(key),
        Refusal::NodeNotFound(name) => (NotFound, "NotFound", format!("nodes {name:?} not found")),
        Refusal::NodeUnknown(uid) => (
            FailedPrecondition,
            "NodeUnknown",
            format!("no node with uid {uid} is registered here"),
        ),
        Refusal::NodeRemoved(uid) => {
            (FailedPrecondition, "NodeRemoved", format!("the node with uid {uid} was removed"))
        }
        Refusal::NodeNotLeaving(uid) => (
            FailedPrecondition,
            "NodeNotLeaving",
            format!("the node with uid {uid} was not removed"),
        ),
        Refusal::PodNotFound { node, key } => (
            NotFound,
            "NotFound",
            format!("pods of {} on node {:?} not found", key.in_messages(), node.as_str()),
        ),
        Refusal::NotOverwritten { key, has } => (
            FailedPrecondition,
            "NotOverwritten",
            format!("{key:?} already has a value ({has}), and overwrite is false"),
        ),
        Refusal::TokenNotFound(id) => (NotFound, "NotFound", format!("tokens {id:?} not found")),
        Refusal::TaintNotFound(key) => {
            (InvalidArgument, "TaintNotFound", format!("taint {key:?} not found"))
        }
        Refusal::WouldRemove { pods, nodes } => (
            FailedPrecondition,
            "WouldRemove",
            format!(
                "{pods} running pods on {nodes} nodes would be stopped or replaced: see everynode \
                 cluster status, apply what the restored store lacks, or allow it with \
                 --allow-removal"
            ),
        ),
        Refusal::WouldRemoveOf { key, pods, of } => (
            FailedPrecondition,
            "WouldRemove",
            format!(
                "{pods} of {of} running pods of {} would be stopped and not come back: look at what \
                 was changed (a nodeSelector, labels, taints), or allow it with --allow-removal",
                key.in_messages()
            ),
        ),
        Refusal::WouldRemoveSets { sets, pods, of } => (
            FailedPrecondition,
            "WouldRemove",
            format!(
                "{sets} DaemonSets would be deleted, and {pods} of {of} running pods with them: name \
                 them one by one, or allow it with --allow-removal"
            ),
        ),
        Refusal::NodeHeld(name) => (
            FailedPrecondition,
            "NodeHeld",
            format!("node {name} is held as it is: everynode node release {name} first"),
        ),
        Refusal::NodeStopped(name) => (
            FailedPrecondition,
            "NodeStopped",
            format!("node {name} is stopped: everynode node start {name} first"),
        ),
        Refusal::NodeNotHeld(name) => {
            (FailedPrecondition, "NodeNotHeld", format!("node {name} is not held"))
        }
        Refusal::NodeNotStopped(name) => {
            (FailedPrecondition, "NodeNotStopped", format!("node {name} is not stopped"))
        }
        Refusal::NotCalled { nodes } => (
            FailedPrecondition,
            "NotCalled",
            format!(
                "{nodes} nodes have not called yet, and what they run that the restored store lacks \
                 would be stopped or replaced: wait for them (everynode get nodes), delete those \
                 that are gone, or allow it with --allow-removal"
            ),
        ),
        Refusal::TooMany { what, limit } => (
            ResourceExhausted,
            "TooMany",
            format!("there are {limit} {what} already, and no more are allowed"),
        ),
    };
    refusal(code, reason, message)
}

/// Why the store did not take something. The caller may try again where the code is UNAVAILABLE.
pub(crate) fn store(error: &StoreError) -> Status {
    let (code, reason, why) = match error {
        StoreError::Full { path } => (
            Code::ResourceExhausted,
            "StoreFull",
            format!(
                "the coordinator's disk is full: make room for {} there, and try again",
                path.display()
            ),
        ),
        StoreError::ReadOnly { path } => (
            Code::FailedPrecondition,
            "StoreReadOnly",
            format!(
                "the coordinator's disk is read-only: see there what became of the disk of {}, \
                 and try again",
                path.display()
            ),
        ),
        StoreError::TooLarge { .. } => (Code::ResourceExhausted, "TooLarge", error.to_string()),
        StoreError::Corrupt { .. } => (Code::DataLoss, "StoreCorrupt", error.to_string()),
        _ => (Code::Unavailable, "StoreUnavailable", error.to_string()),
    };
    refusal(code, reason, format!("nothing was changed: {why}"))
}

/// Why an object was not admitted: every finding as a field violation.
pub(crate) fn rejected(rejected: &Rejected) -> Status {
    let mut details = ErrorDetails::with_error_info("Invalid", DOMAIN, []);
    for error in rejected.errors() {
        details.add_bad_request_violation(error.path.to_string(), error.to_string());
    }
    Status::with_error_details(Code::InvalidArgument, rejected.to_string(), details)
}

/// Changes since the version asked for are not kept any more.
pub(crate) fn expired(error: Expired) -> Status {
    refusal(Code::OutOfRange, "Expired", error.to_string())
}

/// A watcher has missed something.
pub(crate) fn lagged(error: Lagged) -> Status {
    refusal(Code::OutOfRange, "Expired", format!("too old resource version: {error}"))
}

/// The coordinator shuts down. To be tried again: another one, or this one again, takes over.
pub(crate) fn closing() -> Status {
    refusal(Code::Unavailable, "ShuttingDown", "the coordinator is shutting down")
}

/// A field of a request that can't be taken.
pub(crate) fn invalid(field: &str, detail: impl std::fmt::Display) -> Status {
    everynode_proto::error::Invalid::new(field, detail).into()
}

/// What is not there, as kubectl says it.
pub(crate) fn not_found(resource: &str, name: &str) -> Status {
    refusal(Code::NotFound, "NotFound", format!("{resource} {name:?} not found"))
}

fn selector_immutable(key: &PodKey) -> Status {
    let mut details = ErrorDetails::with_error_info("Invalid", DOMAIN, []);
    details.add_bad_request_violation("spec.selector", "Invalid value: field is immutable");
    let message = format!(
        "DaemonSet.apps {:?} is invalid: spec.selector: Invalid value: field is immutable",
        key.name()
    );
    Status::with_error_details(Code::InvalidArgument, message, details)
}

#[cfg(test)]
mod tests {
    use super::*;
    use everynode_model::{NodeName, NodeUid};
    use everynode_proto::error::reason_of;
    use serde_json::json;

    #[test]
    fn refusals_are_told_as_kubectl_tells_them() {
        let key = PodKey::new("default", "x").unwrap();
        let name = NodeName::new("n").unwrap();
        for (refusal, code, reason, message) in [
            (
                Refusal::SetExists(key.clone()),
                Code::AlreadyExists,
                "AlreadyExists",
                "daemonsets.apps \"x\" already exists",
            ),
            (
                Refusal::SetNotFound(key),
                Code::NotFound,
                "NotFound",
                "daemonsets.apps \"x\" not found",
            ),
            (
                Refusal::NodeNotFound("n".into()),
                Code::NotFound,
                "NotFound",
                "nodes \"n\" not found",
            ),
            (
                Refusal::TokenForOtherNode { name },
                Code::PermissionDenied,
                "TokenForOtherNode",
                "the join token is for the node n only",
            ),
        ] {
            let status = refused(&refusal);
            assert_eq!(status.code(), code, "{refusal:?}");
            assert_eq!(reason_of(&status).as_deref(), Some(reason));
            assert_eq!(status.message(), message);
        }
    }

    #[test]
    fn a_node_that_is_not_known_is_not_told_that_it_was_removed() {
        let uid = NodeUid::new(uuid::Uuid::nil());
        let reason = |refusal| reason_of(&refused(&refusal));
        assert_eq!(reason(Refusal::NodeUnknown(uid)).as_deref(), Some("NodeUnknown"));
        assert_eq!(reason(Refusal::NodeRemoved(uid)).as_deref(), Some("NodeRemoved"));
    }

    #[test]
    fn a_rejected_object_names_every_field() {
        let object = json!({"apiVersion": "apps/v1", "kind": "DaemonSet",
            "metadata": {"name": "x"}, "spec": {"minReadySeconds": "5", "unheardOf": 1}});
        let status = rejected(&everynode_manifest::admit(&object).unwrap_err());
        assert_eq!(status.code(), Code::InvalidArgument);
        let violations = status.get_details_bad_request().unwrap().field_violations;
        let fields: Vec<&str> =
            violations.iter().map(|violation| violation.field.as_str()).collect();
        for field in ["spec.minReadySeconds", "spec.unheardOf"] {
            assert!(fields.contains(&field), "{fields:?}");
        }
        assert!(status.message().contains("is invalid"), "{}", status.message());
    }

    #[test]
    fn only_what_may_pass_is_worth_another_try() {
        assert_eq!(store(&StoreError::Closed).code(), Code::Unavailable);
        let full = StoreError::Full { path: "/x".into() };
        assert_eq!(reason_of(&store(&full)).as_deref(), Some("StoreFull"));
        assert!(store(&full).message().contains("the coordinator's disk is full"));
        let read_only = StoreError::ReadOnly { path: "/x".into() };
        assert_eq!(reason_of(&store(&read_only)).as_deref(), Some("StoreReadOnly"));
    }
}
