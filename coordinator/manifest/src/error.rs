//! What is wrong with an object: every finding with its field, its kind and its reason.

use std::fmt;

use serde_json::Value;

use crate::FieldPath;

/// In which way a field is wrong; the names are those of Kubernetes' `field.Error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorKind {
    /// The type has no such field.
    Unknown,
    /// The value has another type than the field.
    Type,
    /// The field must be given.
    Required,
    /// The value breaks a rule.
    Invalid,
    /// The value is none of the few that there are.
    Unsupported,
    /// The field may not be given here.
    Forbidden,
    /// The value must be unique and is there already.
    Duplicate,
    /// The value names something that is not there.
    NotFound,
    /// The value is longer than allowed.
    TooLong,
}

/// One thing that is wrong with an object.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// Where, as Kubernetes tells it.
    pub path: FieldPath,
    /// Where to look, if that is another field: Kubernetes tells a map rather than its entry.
    pub at: Option<FieldPath>,
    /// In which way.
    pub kind: ErrorKind,
    /// The value found there, where it helps to see it.
    pub value: Option<Value>,
    /// Why, and what to do about it; may be empty where the kind says it all.
    pub detail: String,
}

/// Something that will not work as the writer may think, although the object is admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where.
    pub path: FieldPath,
    /// One line, without a trailing dot.
    pub message: String,
}

/// Why an object was not admitted.
#[derive(Clone, Debug, PartialEq)]
pub enum Rejected {
    /// A kind of Kubernetes that Everynode does not run. In a file with other objects it is to be
    /// skipped with one line (`Display` gives it); see [`Rejected::when_alone`] for one by itself.
    OtherKind {
        /// Its kind.
        kind: String,
        /// Its name; empty where it has none.
        name: String,
        /// Whether it is a workload (a Deployment, a ReplicaSet, …) rather than, say, a Service.
        workload: bool,
        /// Whether but for its kind it could be a DaemonSet: a selector, a template, no replicas.
        daemon_set_like: bool,
    },
    /// It is, or was meant as, a DaemonSet, and breaks rules.
    Invalid {
        /// Its kind as written.
        kind: String,
        /// Its name; empty where it has none.
        name: String,
        /// All that is wrong (of very many, the first hundred), by path; never empty.
        errors: Vec<FieldError>,
    },
}

impl FieldError {
    /// The field to look at.
    pub fn place(&self) -> &FieldPath {
        self.at.as_ref().unwrap_or(&self.path)
    }
}

impl Rejected {
    /// All that is wrong; nothing for an object that is only to be skipped.
    pub fn errors(&self) -> &[FieldError] {
        match self {
            Self::OtherKind { .. } => &[],
            Self::Invalid { errors, .. } => errors,
        }
    }

    /// What this refusal means when the object was the only one in its file.
    ///
    /// A lone workload of another kind is then an error on `kind`, not something to be skipped:
    /// most often it was meant to be a DaemonSet. Anything else stays as it is.
    #[must_use]
    pub fn when_alone(self) -> Self {
        let Self::OtherKind { kind, name, workload: true, daemon_set_like } = self else {
            return self;
        };
        let detail = if daemon_set_like {
            "this looks like a DaemonSet: write `kind: DaemonSet` here"
        } else {
            "Everynode runs DaemonSets only, one pod on every node: write `kind: DaemonSet` here \
             and leave out what a DaemonSet does not have, such as `replicas`"
        };
        let error = FieldError {
            path: FieldPath::fields("kind"),
            at: None,
            kind: ErrorKind::Unsupported,
            value: Some(Value::String(kind.clone())),
            detail: detail.into(),
        };
        Self::Invalid { kind, name, errors: vec![error] }
    }
}

impl fmt::Display for FieldError {
    /// As kubectl prints it: `path: Kind of error: value: reason`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.segments().is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(match self.kind {
            ErrorKind::Unknown => "Unknown field",
            ErrorKind::Type | ErrorKind::Invalid => "Invalid value",
            ErrorKind::Required => "Required value",
            ErrorKind::Unsupported => "Unsupported value",
            ErrorKind::Forbidden => "Forbidden",
            ErrorKind::Duplicate => "Duplicate value",
            ErrorKind::NotFound => "Not found",
            ErrorKind::TooLong => "Too long",
        })?;
        if let Some(value) = &self.value {
            write!(f, ": {}", shortened(value))?;
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

impl fmt::Display for Rejected {
    /// As kubectl prints a refusal: on one line when there is one error, else as a list.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherKind { kind, name, .. } => {
                write!(f, "{kind}/{name} skipped: Everynode has no {kind} objects")
            }
            Self::Invalid { kind, name, errors } => {
                let kind = if kind.is_empty() { "object" } else { kind };
                write!(f, "The {kind} {name:?} is invalid: ")?;
                match errors.as_slice() {
                    [only] => write!(f, "{only}"),
                    several => several.iter().try_for_each(|error| write!(f, "\n* {error}")),
                }
            }
        }
    }
}

impl std::error::Error for FieldError {}
impl std::error::Error for Rejected {}

/// The value as compact JSON, cut so that a whole template can't hide the message behind it.
fn shortened(value: &Value) -> String {
    /// Two lines of a terminal.
    const MOST: usize = 160;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
