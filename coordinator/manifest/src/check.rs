//! Gathers findings while an object is checked.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{ErrorKind, FieldError, FieldPath, Warning};

/// Errors and warnings so far.
#[derive(Default)]
pub(crate) struct Check {
    pub(crate) errors: Vec<FieldError>,
    pub(crate) warnings: Vec<Warning>,
    /// Fields whose value had the wrong type: what is found at, in or around them follows from
    /// that, and is not told again.
    left_out: BTreeSet<FieldPath>,
}

impl Check {
    pub(crate) fn new(errors: Vec<FieldError>, left_out: BTreeSet<FieldPath>) -> Self {
        Self { errors, warnings: Vec::new(), left_out }
    }

    pub(crate) fn required(&mut self, path: FieldPath, detail: &str) {
        self.error(path, ErrorKind::Required, None, detail.into());
    }

    pub(crate) fn invalid(
        &mut self,
        path: FieldPath,
        value: impl Into<Value>,
        detail: impl Into<String>,
    ) {
        self.error(path, ErrorKind::Invalid, Some(value.into()), detail.into());
    }

    /// The same where Kubernetes tells another path than the one to look at: for an entry of a map
    /// it tells the map, and sometimes a neighbour.
    pub(crate) fn invalid_at(
        &mut self,
        path: FieldPath,
        at: FieldPath,
        value: impl Into<Value>,
        detail: impl Into<String>,
    ) {
        let (kind, value) = (ErrorKind::Invalid, Some(value.into()));
        self.push(FieldError { path, at: Some(at), kind, value, detail: detail.into() });
    }

    /// One error for each of the messages.
    pub(crate) fn each(
        &mut self,
        path: &FieldPath,
        value: impl Into<Value>,
        messages: Vec<String>,
    ) {
        self.each_at(path, path, value, messages);
    }

    /// As [`Check::each`] and [`Check::invalid_at`].
    pub(crate) fn each_at(
        &mut self,
        path: &FieldPath,
        at: &FieldPath,
        value: impl Into<Value>,
        messages: Vec<String>,
    ) {
        let value = value.into();
        for message in messages {
            self.invalid_at(path.clone(), at.clone(), value.clone(), message);
        }
    }

    pub(crate) fn forbidden(&mut self, path: FieldPath, detail: &str) {
        self.error(path, ErrorKind::Forbidden, None, detail.into());
    }

    pub(crate) fn duplicate(&mut self, path: FieldPath, value: impl Into<Value>) {
        self.error(path, ErrorKind::Duplicate, Some(value.into()), String::new());
    }

    pub(crate) fn not_found(&mut self, path: FieldPath, value: impl Into<Value>, detail: &str) {
        self.error(path, ErrorKind::NotFound, Some(value.into()), detail.into());
    }

    pub(crate) fn too_long(&mut self, path: FieldPath, most: usize) {
        let detail = format!("may not be more than {most} bytes");
        self.error(path, ErrorKind::TooLong, None, detail);
    }

    pub(crate) fn unsupported(
        &mut self,
        path: FieldPath,
        value: impl Into<Value>,
        supported: &[&str],
    ) {
        let names: Vec<String> = supported.iter().map(|name| format!("{name:?}")).collect();
        let detail = format!("supported values: {}", names.join(", "));
        self.error(path, ErrorKind::Unsupported, Some(value.into()), detail);
    }

    /// Checks that `value` is there and one of `supported`.
    pub(crate) fn one_of(&mut self, path: FieldPath, value: &str, supported: &[&str]) {
        match value {
            "" => self.required(path, ""),
            value if supported.contains(&value) => {}
            value => self.unsupported(path, value, supported),
        }
    }

    /// Checks that `value`, where there is one, is one of `supported`.
    pub(crate) fn any_of(&mut self, path: FieldPath, value: Option<&str>, supported: &[&str]) {
        if let Some(value) = value.filter(|value| !supported.contains(value)) {
            self.unsupported(path, value, supported);
        }
    }

    /// Checks that a number, where there is one, is not negative.
    pub(crate) fn not_negative(&mut self, path: FieldPath, number: Option<impl Into<i64>>) {
        let number = number.map_or(0, Into::into);
        if number < 0 {
            self.invalid(path, number, "must be greater than or equal to 0");
        }
    }

    pub(crate) fn warn(&mut self, path: FieldPath, message: impl Into<String>) {
        self.warnings.push(Warning { path, message: message.into() });
    }

    /// Whether `path` can be judged: neither it, nor anything in or around it, was left out.
    pub(crate) fn is_whole(&self, path: &FieldPath) -> bool {
        !self.left_out.iter().any(|out| path.starts_with(out) || out.starts_with(path))
    }

    fn error(&mut self, path: FieldPath, kind: ErrorKind, value: Option<Value>, detail: String) {
        self.push(FieldError { path, at: None, kind, value, detail });
    }

    fn push(&mut self, error: FieldError) {
        if self.is_whole(error.place()) {
            self.errors.push(error);
        }
    }
}
