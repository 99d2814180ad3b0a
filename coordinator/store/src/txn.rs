//! A transaction: what must hold, what to do then, and the limits every engine shares.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::{Result, Revision, StoreError};

/// Operations in one transaction, and likewise comparisons: etcd's default `--max-txn-ops`, so that
/// what one engine takes every engine takes.
pub const MAX_TXN_OPS: usize = 128;

/// Bytes of keys and values in one transaction: below etcd's default request limit of 1.5 MiB, with
/// room for its framing.
pub const MAX_TXN_BYTES: usize = 1024 * 1024;

/// Operations to apply together if every comparison holds.
///
/// ```
/// use everynode_store::Txn;
/// let create = Txn::new().expect_absent("/nodes/a").put("/nodes/a", "{}");
/// let replace = Txn::new().expect("/nodes/a", 7).put("/nodes/a", "{}");
/// # assert!(create.check().and(replace.check()).is_ok());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold; none is an unconditional transaction.
    pub compares: Vec<Compare>,
    /// Applied in this order, at most one per key.
    pub ops: Vec<Op>,
}

/// Holds when the key was last put by the transaction `mod_revision`; 0: when it is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The key looked at.
    pub key: String,
    /// The revision it must have.
    pub mod_revision: Revision,
}

/// One change to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets the key; always an effect, even when the value is the same.
    Put {
        /// The key to set.
        key: String,
        /// Its new value.
        value: Bytes,
    },
    /// Removes the key; no effect when it is absent.
    Delete {
        /// The key to remove.
        key: String,
    },
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every comparison held, every operation is durable.
    Committed {
        /// The revision it made; the store's current one if no operation had an effect.
        revision: Revision,
    },
    /// A comparison did not hold; nothing was changed.
    CompareFailed {
        /// The key of the first comparison that failed.
        key: String,
        /// The revision it was compared with.
        expected: Revision,
        /// The revision it has, 0 when absent.
        actual: Revision,
    },
}

impl Txn {
    /// A transaction that compares and does nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds: the key must have been put last at `mod_revision`.
    #[must_use]
    pub fn expect(mut self, key: impl Into<String>, mod_revision: Revision) -> Self {
        self.compares.push(Compare { key: key.into(), mod_revision });
        self
    }

    /// Adds: the key must be absent.
    #[must_use]
    pub fn expect_absent(self, key: impl Into<String>) -> Self {
        self.expect(key, 0)
    }

    /// Adds: set the key.
    #[must_use]
    pub fn put(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.ops.push(Op::Put { key: key.into(), value: value.into() });
        self
    }

    /// Adds: remove the key.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.ops.push(Op::Delete { key: key.into() });
        self
    }

    /// Bytes of all keys and values, comparisons included: what [`MAX_TXN_BYTES`] limits.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let compares = self.compares.iter().map(|compare| compare.key.len());
        compares.chain(self.ops.iter().map(Op::bytes)).sum()
    }

    /// Refuses what no engine takes; engines call it before anything else.
    pub fn check(&self) -> Result<()> {
        within("operations", self.ops.len(), MAX_TXN_OPS)?;
        within("comparisons", self.compares.len(), MAX_TXN_OPS)?;
        within("bytes of keys and values", self.bytes(), MAX_TXN_BYTES)?;
        let mut seen = BTreeSet::new();
        for op in &self.ops {
            if !seen.insert(op.key()) {
                return Err(StoreError::DuplicateKey { key: op.key().to_owned() });
            }
        }
        let mut keys = self.compares.iter().map(|compare| compare.key.as_str()).chain(seen);
        if keys.any(str::is_empty) { Err(StoreError::EmptyKey) } else { Ok(()) }
    }

    /// The outcome if a comparison fails, given a way to look up a key's revision (0: absent).
    pub(crate) fn first_failed<E>(
        &self,
        mut mod_revision: impl FnMut(&str) -> std::result::Result<Revision, E>,
    ) -> std::result::Result<Option<Outcome>, E> {
        for Compare { key, mod_revision: expected } in &self.compares {
            let actual = mod_revision(key)?;
            if actual != *expected {
                let (key, expected) = (key.clone(), *expected);
                return Ok(Some(Outcome::CompareFailed { key, expected, actual }));
            }
        }
        Ok(None)
    }
}

impl Op {
    /// The key this operation changes.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Put { key, value } => key.len() + value.len(),
            Self::Delete { key } => key.len(),
        }
    }
}

fn within(what: &'static str, got: usize, max: usize) -> Result<()> {
    if got > max { Err(StoreError::TooLarge { what, got, max }) } else { Ok(()) }
}
