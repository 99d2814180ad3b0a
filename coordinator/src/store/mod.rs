//! Looking after what is stored, from the command line: copying it, looking at it, putting a copy back.

mod restore;
pub mod verify;
pub mod witness;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use everynode_coordinator_core::{ClusterRecord, HoldRecord};
use everynode_store::sqlite::{Draft, Summary, read_file};
use everynode_store::{KeyValue, Revision, StoreError};

pub use restore::{MARGIN, Restore, RestoreError, Restored};
use verify::verify;

/// What a sound store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which cluster, and its last reign.
    pub cluster: ClusterRecord,
    /// Whether orders are held in it.
    pub hold: Option<HoldRecord>,
    /// The last committed transaction.
    pub revision: Revision,
    /// How many keys are live.
    pub keys: usize,
    /// How many nodes belong.
    pub nodes: usize,
    /// How many DaemonSets there are.
    pub sets: usize,
}

/// A store that SQLite reads, and that is not what a coordinator wrote.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "{path} is not sound: {}: restore a backup with everynode-coordinator store restore",
    all(faults)
)]
pub struct Unsound {
    /// The file.
    pub path: PathBuf,
    /// What is wrong, one line each.
    pub faults: Vec<String>,
}

/// Why a store could not be copied or looked at.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The file can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is in it can't.
    #[error(transparent)]
    Unsound(#[from] Unsound),
    /// The copy would take the store's own place.
    #[error("{path} is the store itself: choose another file for the backup")]
    Itself {
        /// The store.
        path: PathBuf,
    },
}

/// How many faults are told on one line.
const TOLD: usize = 3;

/// Looks at a store, all of it. Changes nothing; the store may be served meanwhile.
///
/// # Errors
/// What is wrong with it.
pub fn look(path: &Path) -> Result<Held, LookError> {
    held(path, read_file(path)?)
}

/// What was read of a store, if it is sound.
fn held(path: &Path, (summary, items): (Summary, Vec<KeyValue>)) -> Result<Held, LookError> {
    let verified = verify(&items);
    match verified.cluster {
        Some(cluster) if verified.faults.is_empty() => Ok(Held {
            cluster,
            hold: verified.hold,
            revision: summary.revision,
            keys: summary.keys,
            nodes: verified.nodes,
            sets: verified.sets,
        }),
        _ => Err(Unsound { path: path.into(), faults: verified.faults }.into()),
    }
}

/// Copies a store to a file that is verified before it gets its name. The store may be served
/// meanwhile.
///
/// # Errors
/// When the store is not sound, or the file can't be written; then what was there stays.
pub fn backup(store: &Path, file: &Path, force: bool) -> Result<Held, LookError> {
    let same = |one: &Path, other: &Path| {
        let (one, other) = (fs::canonicalize(one), fs::canonicalize(other));
        one.is_ok_and(|one| other.is_ok_and(|other| one == other))
    };
    if same(store, file) {
        return Err(LookError::Itself { path: store.into() });
    }
    if !force && file.exists() {
        // Known before the work is done; the end sees to it again.
        return Err(StoreError::Exists { path: file.into() }.into());
    }
    let draft = Draft::copy(store, file)?;
    let held = look(draft.path())?;
    draft.publish(force)?;
    Ok(held)
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, hold, revision, keys, nodes, sets } = self;
        write!(
            f,
            "{keys} keys at revision {revision}: cluster {}, term {}, {nodes} nodes, {sets} \
             daemonsets",
            cluster.id, cluster.term
        )?;
        if hold.is_some() { f.write_str(", orders held") } else { Ok(()) }
    }
}

/// Some faults, and how many more there are.
fn all(faults: &[String]) -> String {
    let told = faults.iter().take(TOLD).cloned().collect::<Vec<_>>().join("; ");
    match faults.len().saturating_sub(TOLD) {
        0 => told,
        more => format!("{told}; and {more} more"),
    }
}
