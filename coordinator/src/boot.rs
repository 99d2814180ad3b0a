//! From a store to a fleet: what happens between opening the store and serving.
//!
//! ```text
//!   empty store ──▶ cluster, first authority, term 1 ──┐   one transaction
//!   known store ──▶ term + 1, new reign ───────────────┤   fenced by what was read
//!   another one than was served from here ──▶ refused  │
//!                                                      ▼
//!                                   authorities ─▶ records ─▶ fleet
//! ```
//!
//! The term is raised durably before anything is served, so that no two reigns give orders under
//! one term.

use std::sync::Arc;

use everynode_coordinator_core::{ClusterRecord, Config, Fleet, Record, RestoreError, Write};
use everynode_manifest::BlobKey;
use everynode_model::{ClusterId, ReignId, Term};
use everynode_proto::storage;
use everynode_store::{KeyValue, Listing, Op, Outcome, Revision, Store, StoreError, Txn};
use prost::Message as _;

use crate::clock::Clock;
use crate::driver::Fence;
use crate::entropy::{Entropy, NoEntropy};
use crate::pki;
use crate::pki::store::put as put_authority;
use crate::pki::{Authority, Pki, PkiError};
use crate::records::{self, BLOB_KEY, CLUSTER_KEY};
use crate::store::verify;
use crate::store::witness::{Doubt, Witness};

/// A coordinator that is ready to lead.
pub struct Booted {
    /// Everything that is stored, and nothing seen yet.
    pub fleet: Fleet,
    /// What every commit is fenced by.
    pub fence: Fence,
    /// The cluster's authorities.
    pub pki: Pki,
    /// Which cluster this is, and whose reign begins.
    pub cluster: ClusterRecord,
    /// What the content of revisions is salted with.
    pub blob_key: BlobKey,
}

/// Why a coordinator can't begin to lead.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record can't be read.
    #[error(transparent)]
    Records(#[from] records::LoadError),
    /// The authorities can't be read.
    #[error(transparent)]
    Authorities(#[from] pki::store::LoadError),
    /// No authority could be made.
    #[error("the cluster's certificate authority could not be made")]
    Authority(#[from] PkiError),
    /// No ids could be drawn.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// The store holds something, but not which cluster it is of.
    #[error("the store has records and no cluster: it is damaged, restore a backup")]
    NoCluster,
    /// The records don't make a fleet.
    #[error("the stored records make no fleet ({0:?}): restore a backup")]
    Fleet(RestoreError),
    /// The store is not the one that was served from here.
    #[error(transparent)]
    Doubt(#[from] Doubt),
    /// What is stored can be read and does not belong together.
    #[error(
        "the store is not sound ({0}): see everynode-coordinator store verify, restore a backup"
    )]
    Unsound(String),
    /// Another coordinator began to lead at the same moment.
    #[error("another coordinator is starting on the same store: let one of them lead")]
    Overtaken,
}

/// Begins a reign over what `store` holds.
///
/// # Errors
/// When the store can't be read or written, or its content makes no cluster.
pub async fn boot(
    store: &dyn Store,
    config: Config,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<Entropy>,
) -> Result<Booted, BootError> {
    boot_again(store, config, None, clock, entropy).await
}

/// Begins a reign over what `store` holds, if that is what `witness` says was served before.
///
/// # Errors
/// As [`boot`]; also when the store is another, or an older one.
pub async fn boot_again(
    store: &dyn Store,
    config: Config,
    witness: Option<&Witness>,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<Entropy>,
) -> Result<Booted, BootError> {
    let stored = store.list("/", None).await?;
    let Reign { cluster, blob_key, txn } = next_reign(&stored, witness, clock, entropy)?;
    // All of it is looked at before anything is written: a store that is not sound stays as it is.
    let fleet = fleet_of(&stored, cluster, config, clock)?;
    let load = || pki::store::load(store, Arc::clone(clock), Arc::clone(entropy));
    let known = if stored.items.is_empty() { None } else { Some(load().await?) };
    let fence = begin(store, txn, stored.revision).await?;
    let pki = match known {
        Some(pki) => pki,
        None => load().await?,
    };
    tracing::debug!(cluster = %cluster.id, term = %cluster.term, "a reign begins");
    Ok(Booted { fleet, fence, pki, cluster, blob_key })
}

/// The cluster of a store and its authorities, without beginning a reign.
///
/// # Errors
/// When the store can't be read, or holds no cluster.
pub async fn look(
    store: &dyn Store,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<Entropy>,
) -> Result<(ClusterRecord, Pki), BootError> {
    let item = store.get(CLUSTER_KEY).await?.ok_or(BootError::NoCluster)?;
    let pki = pki::store::load(store, Arc::clone(clock), Arc::clone(entropy)).await?;
    Ok((read(&item)?, pki))
}

/// A reign that is not stored yet.
struct Reign {
    cluster: ClusterRecord,
    blob_key: BlobKey,
    txn: Txn,
}

fn next_reign(
    stored: &Listing,
    witness: Option<&Witness>,
    clock: &Arc<dyn Clock>,
    entropy: &Entropy,
) -> Result<Reign, BootError> {
    let reign = ReignId::new(entropy.uuid()?);
    let empty = stored.items.is_empty();
    let item = stored.items.iter().find(|item| item.key == CLUSTER_KEY);
    let former = item.map(read).transpose()?;
    if let Some(witness) = witness.filter(|_| former.is_some() || empty) {
        witness.check(former.as_ref())?;
    }
    let (cluster, mut txn) = match item.zip(former) {
        Some((item, former)) => {
            let cluster = ClusterRecord { term: former.term.next(), reign, ..former };
            (cluster, Txn::new().expect(CLUSTER_KEY, item.mod_revision))
        }
        None if empty => {
            let id = ClusterId::new(entropy.uuid()?);
            let authority = Authority::make(entropy, clock.now().wall)?;
            let mut txn = Txn::new().expect_absent(CLUSTER_KEY);
            txn.ops.push(put_authority(&authority));
            (ClusterRecord { id, term: Term(1), reign }, txn)
        }
        None => return Err(BootError::NoCluster),
    };
    txn.ops.push(put(cluster));
    let blob_key = match stored.items.iter().find(|item| item.key == BLOB_KEY) {
        Some(item) => read_blob_key(item)?,
        None => {
            let key = entropy.bytes()?;
            let record = storage::BlobKeyRecord { key: key.to_vec() };
            let value = record.encode_to_vec().into();
            txn.ops.push(Op::Put { key: BLOB_KEY.into(), value });
            BlobKey(key)
        }
    };
    Ok(Reign { cluster, blob_key, txn })
}

/// What is stored, under the new reign, if it belongs together.
fn fleet_of(
    stored: &Listing,
    cluster: ClusterRecord,
    config: Config,
    clock: &Arc<dyn Clock>,
) -> Result<Fleet, BootError> {
    let mut found = records::load_listing(stored)?;
    if let Some(fault) = found.iter().find_map(verify::fault) {
        return Err(BootError::Unsound(fault));
    }
    found.retain(|record| !matches!(record, Record::Cluster(_)));
    found.push(Record::Cluster(cluster));
    let fleet = Fleet::restore(found, config, clock.now()).map_err(BootError::Fleet)?;
    match verify::together(&fleet).into_iter().next() {
        Some(fault) => Err(BootError::Unsound(fault)),
        None => Ok(fleet),
    }
}

/// Stores a reign over what was read at `revision`, and nothing that came since.
async fn begin(store: &dyn Store, txn: Txn, revision: Revision) -> Result<Fence, BootError> {
    match store.txn(txn).await? {
        Outcome::Committed { revision: began } if began == revision + 1 => Ok(Fence(began)),
        Outcome::Committed { .. } | Outcome::CompareFailed { .. } => Err(BootError::Overtaken),
    }
}

fn put(cluster: ClusterRecord) -> Op {
    records::encode(&Write::put(Record::Cluster(cluster)))
}

fn read_blob_key(item: &KeyValue) -> Result<BlobKey, BootError> {
    let unsound = || BootError::Unsound(format!("{BLOB_KEY} can't be read"));
    let record = storage::BlobKeyRecord::decode(item.value.as_ref()).map_err(|_| unsound())?;
    record.key.as_slice().try_into().map(BlobKey).map_err(|_| unsound())
}

fn read(item: &KeyValue) -> Result<ClusterRecord, BootError> {
    let record = records::decode(item)
        .map_err(|source| records::LoadError::Record { key: item.key.clone(), source })?;
    match record {
        Some(Record::Cluster(cluster)) => Ok(cluster),
        _ => Err(BootError::NoCluster),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use everynode_store::MemoryStore;
    use everynode_store::memory::{Fault, InFlight};

    async fn start(store: &MemoryStore) -> Result<Booted, BootError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        boot(store, Config::default(), &clock, &Arc::new(Entropy::system())).await
    }

    #[tokio::test]
    async fn every_start_is_a_new_reign_over_the_same_cluster() {
        let store = MemoryStore::new();
        let first = start(&store).await.unwrap();
        store.crash(InFlight::Lost);
        let second = start(&store).await.unwrap();
        assert_eq!(first.cluster.id, second.cluster.id);
        assert_eq!(first.pki.authorities(), second.pki.authorities());
        assert_eq!((first.cluster.term, second.cluster.term), (Term(1), Term(2)));
        assert_ne!(first.cluster.reign, second.cluster.reign);
        assert!(second.fence.0 > first.fence.0);
        assert!(second.fleet.version() > first.fleet.version());
    }

    #[tokio::test]
    async fn no_reign_begins_that_is_not_stored() {
        let store = MemoryStore::new();
        store.fail_next(1, Fault::Full);
        assert!(matches!(start(&store).await, Err(BootError::Store(StoreError::Full { .. }))));
        assert_eq!(start(&store).await.unwrap().cluster.term, Term(1));
    }

    #[tokio::test]
    async fn a_store_without_its_cluster_is_not_taken_for_a_new_one() {
        let store = MemoryStore::new();
        start(&store).await.unwrap();
        store.txn(Txn::new().delete(CLUSTER_KEY)).await.unwrap();
        assert!(matches!(start(&store).await, Err(BootError::NoCluster)));
    }
}
