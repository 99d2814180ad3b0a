//! Why a scenario went wrong: one text, with what was being tried before what happened.

use std::fmt;

/// What a step of a scenario gives.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Why a step went wrong, for the person who reads the test's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(String);

/// Says what was being tried.
pub trait Context<T> {
    /// Puts `what` before the reason of a failure.
    ///
    /// # Errors
    /// The same failure, with more words.
    fn context(self, what: impl fmt::Display) -> Outcome<T>;
}

/// Ends the step with a failure of these words unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err($crate::Failure::new(format!($($words)+)));
        }
    };
}

/// A failure of these words.
#[macro_export]
macro_rules! failure {
    ($($words:tt)+) => { $crate::Failure::new(format!($($words)+)) };
}

impl Failure {
    /// A failure of these words.
    pub fn new(words: impl Into<String>) -> Self {
        Self(words.into())
    }

    /// The same failure with a report below it.
    #[must_use]
    pub fn with_report(self, report: &str) -> Self {
        Self(format!("{}\n\n{report}", self.0))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self(format!("not the JSON that was expected: {error}"))
    }
}

impl<T, E: Into<Failure>> Context<T> for Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Outcome<T> {
        self.map_err(|error| Failure(format!("{what}: {}", error.into())))
    }
}
