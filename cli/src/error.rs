//! Why a command failed, in the words its user gets.

use std::io;
use std::time::Duration;

use everynode_proto::error::reason_of;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::config::ConfigError;

/// Why a command failed. Each is one message; exit code 1, [`Error::Closed`] apart.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Nobody reads our output any more (`| head`): nothing is left to do, and nothing is wrong.
    #[error("the output is closed")]
    Closed,
    /// The output can't be written.
    #[error("error: can't write the output: {0}")]
    Output(io::Error),
    /// The command line is not one.
    #[error("error: {0}")]
    Usage(String),
    /// No coordinator is known, or how to speak to it.
    #[error("error: {0}")]
    Config(#[from] ConfigError),
    /// The coordinator can't be reached.
    #[error("Unable to connect to the coordinator: {0}")]
    Connect(String),
    /// The coordinator did not answer in time.
    #[error("error: the coordinator did not answer within {}", humantime::format_duration(*.0))]
    NoAnswer(Duration),
    /// The coordinator refused.
    #[error("Error from server ({}): {}", .0.reason, .0.message)]
    Refused(Box<Refusal>),
    /// What the coordinator sent can't be understood.
    #[error("error: the coordinator sent what this version can't read: {0}")]
    Answer(#[from] everynode_proto::error::Invalid),
    /// A manifest is wrong; the text says where, line by line.
    #[error("{0}")]
    Manifest(String),
    /// A file can't be read.
    #[error("error: {path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// What was waited for did not come about.
    #[error("error: {0}")]
    Failed(String),
    /// All has been said already; this is the exit code.
    #[error("")]
    Exit(u8),
    /// All has been said already.
    #[error("")]
    Told,
}

/// A coordinator's "no".
#[derive(Debug)]
pub(crate) struct Refusal {
    /// A CamelCase word: ErrorInfo's reason, else gRPC's code.
    pub(crate) reason: String,
    /// One or more lines for people.
    pub(crate) message: String,
    /// What is wrong with an object: field path and description.
    pub(crate) fields: Vec<(String, String)>,
    /// gRPC's code.
    pub(crate) code: Code,
}

impl Error {
    /// Whether the coordinator said that there is no such thing.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.code == Code::NotFound)
    }

    /// Whether somebody else changed the object in between.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.reason == "Conflict")
    }

    /// Whether the object is there already.
    pub(crate) fn is_already_exists(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.code == Code::AlreadyExists)
    }

    /// Whether the coordinator is away or going, so that asking again later makes sense.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Connect(_) | Self::NoAnswer(_) => true,
            Self::Refused(refusal) => matches!(
                refusal.code,
                Code::Unavailable | Code::Aborted | Code::OutOfRange | Code::ResourceExhausted
            ),
            _ => false,
        }
    }

    /// Whether the place in the history that a watch asked for is gone.
    pub(crate) fn is_expired(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.code == Code::OutOfRange)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Output(error),
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        // A status with a cause was made here, of a connection that broke.
        let broken =
            std::error::Error::source(&status).is_some() || status.code() == Code::Unavailable;
        if broken && reason_of(&status).is_none() {
            return Self::Connect(format!("the connection broke: {}", status.message()));
        }
        let fields = status.get_details_bad_request().map_or_else(Vec::new, |request| {
            let pair =
                |violation: tonic_types::FieldViolation| (violation.field, violation.description);
            request.field_violations.into_iter().map(pair).collect()
        });
        Self::Refused(Box::new(Refusal {
            reason: reason_of(&status).unwrap_or_else(|| format!("{:?}", status.code())),
            message: status.message().to_owned(),
            fields,
            code: status.code(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use everynode_proto::error::refusal;

    #[test]
    fn a_refusal_reads_like_kubectls() {
        let status =
            refusal(Code::AlreadyExists, "AlreadyExists", "daemonsets.apps \"x\" already exists");
        assert_eq!(
            Error::from(status).to_string(),
            "Error from server (AlreadyExists): daemonsets.apps \"x\" already exists"
        );
        let error = Error::from(Status::permission_denied("viewers may not"));
        assert_eq!(error.to_string(), "Error from server (PermissionDenied): viewers may not");
    }

    #[test]
    fn what_passes_is_told_from_what_stays() {
        assert!(Error::from(Status::unavailable("going")).is_passing());
        let expired = Error::from(refusal(Code::OutOfRange, "Expired", "too old"));
        assert!(expired.is_passing() && expired.is_expired());
        assert!(!Error::from(Status::not_found("x")).is_passing());
    }
}
