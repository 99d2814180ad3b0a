//! Reading versions: the newest, those at a revision, and history in commit order.

use bytes::Bytes;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Result, params};

use super::schema::{after, revision_of, row_id};
use crate::watch::PageBuilder;
use crate::window::Window;
use crate::{Change, KeyValue, Revision};

/// How a page of history ended.
pub(super) enum PageEnd {
    /// It goes on from here.
    More(Revision),
    /// There is no more.
    Head,
}

pub(super) fn window(connection: &Connection) -> Result<Window> {
    connection.prepare("SELECT oldest, head FROM meta")?.query_row([], |row| {
        let revision = |column| {
            let value: i64 = row.get(column)?;
            u64::try_from(value)
                .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
        };
        Ok(Window { oldest: revision(0)?, head: revision(1)? })
    })
}

/// The revision of a key's newest version, 0 when it is absent; uncommitted writes included.
pub(super) fn mod_revision(connection: &Connection, key: &str) -> Result<Revision> {
    let mut newest = connection.prepare(
        "SELECT id, value IS NULL FROM versions WHERE key = ?1 ORDER BY id DESC LIMIT 1",
    )?;
    let found =
        newest.query_row([key.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    Ok(match found {
        Some((id, false)) => revision_of(id),
        Some((_, true)) | None => 0,
    })
}

pub(super) fn get(connection: &Connection, key: &str) -> Result<Option<KeyValue>> {
    let mut newest = connection
        .prepare("SELECT id, value FROM versions WHERE key = ?1 ORDER BY id DESC LIMIT 1")?;
    let found = newest
        .query_row([key.as_bytes()], |row| Ok((row.get::<_, i64>(0)?, value(row, 1)?)))
        .optional()?;
    Ok(found.and_then(|(id, value)| {
        let (key, mod_revision) = (key.to_owned(), revision_of(id));
        Some(KeyValue { key, value: value?, mod_revision })
    }))
}

/// The keys below `prefix` live at `at`, in order.
pub(super) fn list(connection: &Connection, prefix: &str, at: Revision) -> Result<Vec<KeyValue>> {
    // The index alone answers which versions; values are fetched for those only.
    let mut newest = connection.prepare(
        "SELECT key, max(id) FROM versions
         WHERE key >= ?1 AND (?2 IS NULL OR key < ?2) AND id < ?3
         GROUP BY key ORDER BY key",
    )?;
    let mut content = connection.prepare("SELECT value FROM versions WHERE id = ?1")?;
    let mut rows = newest.query(params![prefix.as_bytes(), prefix_end(prefix), after(at)])?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(1)?;
        if let Some(value) = content.query_row([id], |row| value(row, 0))? {
            items.push(KeyValue {
                key: key(row, 0)?.to_owned(),
                value,
                mod_revision: revision_of(id),
            });
        }
    }
    Ok(items)
}

/// Adds the changes from revision `from` on to a page, until it is full or there are no more.
pub(super) fn history(
    connection: &Connection,
    from: Revision,
    page: &mut PageBuilder<'_>,
) -> Result<PageEnd> {
    let mut changes =
        connection.prepare("SELECT id, key, value FROM versions WHERE id >= ?1 ORDER BY id")?;
    let mut rows = changes.query([row_id(from, 0)])?;
    while let Some(row) = rows.next()? {
        let revision = revision_of(row.get(0)?);
        if !page.admits(revision) {
            return Ok(PageEnd::More(revision));
        }
        page.add(revision, key(row, 1)?, || value(row, 2).map(Change::from))?;
    }
    Ok(PageEnd::Head)
}

fn key<'r>(row: &'r rusqlite::Row<'_>, column: usize) -> Result<&'r str> {
    let bytes = row.get_ref(column)?.as_blob()?;
    std::str::from_utf8(bytes).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, error.into())
    })
}

fn value(row: &rusqlite::Row<'_>, column: usize) -> Result<Option<Bytes>> {
    Ok(row.get_ref(column)?.as_blob_or_null()?.map(Bytes::copy_from_slice))
}

/// The first key after all that start with `prefix`; `None` when every key does. UTF-8 has no byte
/// 0xff, so raising the last byte never carries.
fn prefix_end(prefix: &str) -> Option<Vec<u8>> {
    let mut end = prefix.as_bytes().to_vec();
    let last = end.last_mut()?;
    *last += 1;
    Some(end)
}
