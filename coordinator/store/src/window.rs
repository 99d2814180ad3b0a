//! Which revisions an engine can answer for: one rule for reads, watches and compactions alike.

use crate::{Result, Revision, StoreError};

/// The revisions that can be read: `oldest ..= head`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Window {
    /// Where the store was last compacted; 0 if never.
    pub(crate) oldest: Revision,
    /// The last committed transaction.
    pub(crate) head: Revision,
}

impl Window {
    /// The revision a listing reads at.
    pub(crate) fn readable(self, at: Option<Revision>) -> Result<Revision> {
        let requested = at.unwrap_or(self.head);
        self.not_future(requested)?;
        self.not_compacted(requested)?;
        Ok(requested)
    }

    /// Whether history from here on is complete. The future is: it has not happened.
    pub(crate) fn not_compacted(self, requested: Revision) -> Result<()> {
        let oldest = self.oldest;
        if requested < oldest {
            return Err(StoreError::Compacted { requested, oldest });
        }
        Ok(())
    }

    /// Whether this revision has happened.
    pub(crate) fn not_future(self, requested: Revision) -> Result<()> {
        let current = self.head;
        if requested > current {
            return Err(StoreError::FutureRevision { requested, current });
        }
        Ok(())
    }
}
