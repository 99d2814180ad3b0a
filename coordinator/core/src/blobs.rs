//! Content of ConfigMaps and Secrets that no revision names.
//!
//! It is stored first and named then, by a later transaction: together they may be too large for one.
//! So what nobody names is left alone for a while, and then swept.

use std::collections::BTreeMap;
use std::time::Duration;

use everynode_model::{Digest, Timestamp};

use crate::record::{RecordKey, Write};
use crate::records::Records;

/// How long what is not named is kept: well over the longest call, which names it at its end.
const KEPT: Duration = Duration::from_secs(10 * 60);

/// Since when nobody names a blob.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnusedBlobs {
    since: BTreeMap<Digest, Timestamp>,
}

impl UnusedBlobs {
    /// Looks at a blob that came, went, or is named by another number of revisions.
    pub(crate) fn follow(&mut self, digest: Digest, records: &Records, now: Timestamp) {
        let named = records.blob_uses.contains_key(&digest);
        if records.blobs.contains_key(&digest) && !named {
            self.since.entry(digest).or_insert(now);
        } else {
            self.since.remove(&digest);
        }
    }

    /// When there may be something to sweep.
    pub(crate) fn wake_at(&self) -> Option<Timestamp> {
        self.since.values().min().map(|since| since.after(KEPT))
    }

    /// What has been without a name for long enough.
    pub(crate) fn sweep(&self, now: Timestamp) -> impl Iterator<Item = Write> {
        let old = self.since.iter().filter(move |(_, since)| since.after(KEPT) <= now);
        old.map(|(digest, _)| Write::delete(RecordKey::Blob(*digest)))
    }
}
