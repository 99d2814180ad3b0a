//! The fleet's records in the store: keys as paths, values as protobuf messages.
//!
//! What is here is read by later versions and by the one before: fields are only added, unknown
//! ones are passed over, and what was decided once (a revision's digest) is read back and never
//! computed anew.

mod decode;
mod encode;
mod key;

use everynode_coordinator_core::{Record, Write};
use everynode_store::{KeyValue, Listing, Op, Store, StoreError};

pub use decode::DecodeError;
pub use key::{BLOB_KEY, CLUSTER_KEY};

use self::key::Place;

/// Why the records could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record can't be read.
    #[error("the record {key} can't be read: {source}")]
    Record {
        /// Its key.
        key: String,
        /// The cause.
        source: DecodeError,
    },
}

/// What stores a write.
pub fn encode(write: &Write) -> Op {
    let key = key::path(&write.key);
    match &write.record {
        Some(record) => Op::Put { key, value: encode::value(record).into() },
        None => Op::Delete { key },
    }
}

/// Reads every record of the fleet, in the order of their keys.
///
/// # Errors
/// When the store does not answer or one record can't be read: a fleet with a hole in it would take
/// what is missing for deleted.
pub async fn load(store: &dyn Store) -> Result<Vec<Record>, LoadError> {
    load_listing(&store.list("/", None).await?)
}

/// The same of a listing of everything.
///
/// # Errors
/// When one record can't be read.
pub fn load_listing(listing: &Listing) -> Result<Vec<Record>, LoadError> {
    let mut records = Vec::with_capacity(listing.items.len());
    for item in &listing.items {
        records.extend(
            decode(item).map_err(|source| LoadError::Record { key: item.key.clone(), source })?,
        );
    }
    Ok(records)
}

/// The record of a stored key; `None` for a key that is not a record of the fleet's.
///
/// # Errors
/// When the key or the value can't be read.
pub fn decode(item: &KeyValue) -> Result<Option<Record>, DecodeError> {
    match key::parse(&item.key)? {
        Place::Record(key) => decode::value(&key, &item.value).map(Some),
        Place::Elsewhere => Ok(None),
        Place::Unknown => {
            // A newer version's. It stays where it is; this version works without it.
            tracing::warn!(key = item.key, "a stored record of an unknown kind is passed over");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests;
