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

    pub(crate) fn forbidden(&mut self, path: FieldPath, detail: &str) {
        self.error(path, ErrorKind::Forbidden, None, detail.into());
    }

    pub(crate) fn duplicate(&mut self, path: FieldPath, value: impl Into<Value>) {
        self.error(path, ErrorKind::Duplicate, Some(value.into()), String::new());
    }

    pub(crate) fn not_found(&mut self, path: FieldPath, value: impl Into<Value>, detail: &str) {
        self.error(path, ErrorKind::NotFound, Some(value.into()), detail.into());
    }

    /// Checks that `value` is one of `supported`.
    pub(crate) fn one_of(&mut self, path: FieldPath, value: &str, supported: &[&str]) {
        if supported.contains(&value) {
            return;
        }
        if value.is_empty() {
            return self.required(path, "");
        }
        let names: Vec<String> = supported.iter().map(|name| format!("{name:?}")).collect();
        let detail = format!("supported values: {}", names.join(", "));
        self.error(path, ErrorKind::Unsupported, Some(value.into()), detail);
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
        if self.is_whole(&path) {
            self.errors.push(FieldError { path, kind, value, detail });
        }
    }
}
