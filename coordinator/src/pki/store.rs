//! The authorities in the store: one record each, under its serial number.

use std::sync::Arc;

use everynode_proto::storage::AuthorityRecord;
use everynode_store::{Op, Store, StoreError};
use prost::Message as _;

use super::{Authority, Pki, PkiError};
use crate::clock::Clock;
use crate::entropy::Entropy;

/// Where authorities are stored.
pub const PREFIX: &str = "/authorities/";

/// Why the authorities could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record can't be read.
    #[error("the certificate authority stored under {key} can't be read")]
    Decode {
        /// The record's key.
        key: String,
        /// The cause.
        source: prost::DecodeError,
    },
    /// A record's content can't be used.
    #[error("the certificate authority stored under {key} can't be used")]
    Unusable {
        /// The record's key.
        key: String,
        /// The cause.
        source: PkiError,
    },
    /// There is none.
    #[error(transparent)]
    None(PkiError),
}

/// Reads every authority; the one stored last signs.
///
/// # Errors
/// When there is none, or one of them can't be used: trusting fewer would lock machines out.
pub async fn load(
    store: &dyn Store,
    clock: Arc<dyn Clock>,
    entropy: Arc<Entropy>,
) -> Result<Pki, LoadError> {
    let mut items = store.list(PREFIX, None).await?.items;
    items.sort_by_key(|item| item.mod_revision);
    let mut authorities = Vec::with_capacity(items.len());
    for item in items {
        let record = AuthorityRecord::decode(item.value.as_ref())
            .map_err(|source| LoadError::Decode { key: item.key.clone(), source })?;
        let authority = Authority::load(record.certificate_der, record.key_pkcs8_der)
            .map_err(|source| LoadError::Unusable { key: item.key.clone(), source })?;
        authorities.push(authority);
    }
    Pki::new(authorities, clock, entropy).map_err(LoadError::None)
}

/// What stores `authority`.
pub fn put(authority: &Authority) -> Op {
    let record = AuthorityRecord {
        certificate_der: authority.certificate().to_vec(),
        key_pkcs8_der: authority.key().to_vec(),
    };
    let key = format!("{PREFIX}{}", authority.serial());
    Op::Put { key, value: record.encode_to_vec().into() }
}
