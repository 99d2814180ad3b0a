//! The tables, their version, and how a revision becomes a row id.
//!
//! ```text
//!   versions  id = revision × 128 + position in the transaction   ─▶  key, value (NULL: deleted)
//!             by_key (key, id)                                        finds the newest ≤ a revision
//!   meta      one row: head (the last revision), oldest (compacted up to here)
//! ```
//!
//! Row ids in commit order make a watch's replay a scan of the table itself. It is a rowid table:
//! values run to a megabyte, and a `WITHOUT ROWID` table would drag them through its interior pages.

use crate::{MAX_TXN_OPS, Revision};

/// In the file's header, at bytes 68..72: "EvNd".
pub(super) const APPLICATION_ID: u32 = 0x4576_4e64;

/// In the file's header, at bytes 60..64. Raised with every change that this code could not read.
pub(super) const VERSION: u32 = 1;

/// Row ids per revision; part of the schema, so never changed with a limit.
const POSITIONS: u64 = 128;

const _: () = assert!(MAX_TXN_OPS as u64 <= POSITIONS, "each operation needs a row id");

/// Creates an empty store in one transaction; the pragmas are transactional too.
pub(super) fn create() -> String {
    format!(
        "BEGIN EXCLUSIVE;
         CREATE TABLE versions (id INTEGER PRIMARY KEY, key BLOB NOT NULL, value BLOB) STRICT;
         CREATE UNIQUE INDEX versions_by_key ON versions (key, id);
         CREATE TABLE meta (
             one INTEGER PRIMARY KEY CHECK (one = 1),
             head INTEGER NOT NULL,
             oldest INTEGER NOT NULL
         ) STRICT;
         INSERT INTO meta VALUES (1, 0, 0);
         PRAGMA application_id = {APPLICATION_ID};
         PRAGMA user_version = {VERSION};
         COMMIT;"
    )
}

/// The row id of an operation's effect. Saturates, far beyond any revision ever reached (2^56).
pub(super) fn row_id(revision: Revision, position: usize) -> i64 {
    let position = u64::try_from(position).unwrap_or(u64::MAX);
    let id = revision.saturating_mul(POSITIONS).saturating_add(position);
    i64::try_from(id).unwrap_or(i64::MAX)
}

/// The first row id after a revision.
pub(super) fn after(revision: Revision) -> i64 {
    row_id(revision.saturating_add(1), 0)
}

/// The revision that a row belongs to.
pub(super) fn revision_of(row_id: i64) -> Revision {
    u64::try_from(row_id).unwrap_or(0) / POSITIONS
}
