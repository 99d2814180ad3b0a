//! What was found wrong, and how often each invariant was looked at.
//!
//! A walk ends with the first broken one. Where a single one is to be seen red, the others are
//! muted: each has to see on its own what it is there for.

use std::collections::BTreeMap;

use crate::log::short;

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name: its function's, or that of the core's own check.
    pub rule: &'static str,
    /// What was found.
    pub detail: String,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Law {
    only: Option<&'static str>,
    broken: Option<Violation>,
    checked: BTreeMap<&'static str, u64>,
}

impl Law {
    /// Looks at all invariants, or at `only` one.
    pub(crate) fn new(only: Option<&'static str>) -> Self {
        Self { only, ..Self::default() }
    }

    /// The invariant `rule` holds where `right`.
    pub(crate) fn holds(
        &mut self,
        rule: &'static str,
        right: bool,
        detail: impl FnOnce() -> String,
    ) {
        *self.checked.entry(rule).or_default() += 1;
        if !right {
            self.broke(rule, detail());
        }
    }

    /// It was found broken.
    pub(crate) fn broke(&mut self, rule: &'static str, detail: String) {
        if self.broken.is_none() && self.only.is_none_or(|only| only == rule) {
            self.broken = Some(Violation { rule, detail: short(&detail) });
        }
    }

    /// The first that was broken.
    pub fn broken(&self) -> Option<&Violation> {
        self.broken.as_ref()
    }

    /// How often each was looked at.
    pub fn checked(&self) -> &BTreeMap<&'static str, u64> {
        &self.checked
    }
}
