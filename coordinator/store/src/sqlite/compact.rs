//! Forgetting superseded versions.

use rusqlite::{Connection, Result, params};

use super::schema::{after, row_id};
use crate::Revision;

/// Drops what no read or watch from `revision` on can see, and raises `oldest`, in one SQLite
/// transaction. Freed pages are reused by later writes; the file does not shrink.
///
/// Below the horizon a version goes when a newer one of its key is also at or below it, and a
/// deletion always goes: absence says the same. Everything at the horizon and above stays, so that
/// a watch from there replays every event.
pub(super) fn compact(connection: &Connection, revision: Revision) -> Result<()> {
    let transaction = connection.unchecked_transaction()?;
    transaction
        .prepare(
            "DELETE FROM versions WHERE id < ?1 AND (
                 value IS NULL
                 OR EXISTS (
                     SELECT 1 FROM versions AS newer
                     WHERE newer.key = versions.key AND newer.id > versions.id AND newer.id < ?2
                 )
             )",
        )?
        .execute(params![row_id(revision, 0), after(revision)])?;
    transaction
        .prepare("UPDATE meta SET oldest = ?1")?
        .execute([i64::try_from(revision).unwrap_or(i64::MAX)])?;
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::schema;

    #[test]
    fn only_what_can_still_be_seen_takes_space() {
        let connection = Connection::open_in_memory().expect("opens");
        connection.execute_batch(&schema::create()).expect("creates");
        // Revision, key, and whether it was put: /a lives, /b is gone below the horizon of 4, /c at it.
        let rows = [
            (1, "/a", true),
            (1, "/b", true),
            (1, "/c", true),
            (2, "/a", true),
            (3, "/b", false),
            (4, "/c", false),
            (5, "/a", true),
        ];
        for (position, (revision, key, put)) in rows.into_iter().enumerate() {
            let value = put.then_some(b"v");
            let row = params![row_id(revision, position), key.as_bytes(), value];
            connection.execute("INSERT INTO versions VALUES (?1, ?2, ?3)", row).expect("inserts");
        }
        compact(&connection, 4).expect("compacts");
        let mut left = connection
            .prepare("SELECT id / 128, CAST(key AS TEXT) FROM versions ORDER BY id")
            .expect("prepares");
        let left: Vec<(i64, String)> = left
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .expect("queries")
            .map(|row| row.expect("a row"))
            .collect();
        let kept = [(2, "/a"), (4, "/c"), (5, "/a")];
        assert_eq!(left, kept.map(|(revision, key)| (revision, key.to_owned())));
    }
}
