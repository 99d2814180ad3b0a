//! What the data directory remembers of the cluster beside its store: so that a store that is gone,
//! emptied, another cluster's, or older than what was served from here is not taken for the right one.
//!
//! `cluster.json` is written after a reign is stored and before anything is served. It decides nothing
//! and replaces nothing; where it is not there, `admin.conf` still says which cluster this is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use everynode_coordinator_core::ClusterRecord;
use everynode_model::{ClusterId, ReignId, Term};
use serde_json::{Value, json};

use crate::admin;

/// The file's name in the data directory.
pub const FILE: &str = "cluster.json";

/// What was served from a data directory last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Which cluster.
    pub cluster: ClusterId,
    /// The last reign that began here.
    pub reign: Option<(Term, ReignId)>,
}

/// Why a store is not the one that was served from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// It holds nothing.
    #[error(
        "the store is empty, and cluster {0} was served from here: restore a backup with \
         everynode-coordinator store restore, or choose another --data-dir for a new cluster"
    )]
    Emptied(ClusterId),
    /// It is of another cluster.
    #[error(
        "the store is of cluster {found}, and cluster {expected} was served from here: put the right \
         one back with everynode-coordinator store restore, or give this one a --data-dir of its own"
    )]
    OtherCluster {
        /// Whose the store is.
        found: ClusterId,
        /// Who was served from here.
        expected: ClusterId,
    },
    /// It is older than what was served, or of a reign that went another way.
    #[error(
        "the store is at term {found}, and term {expected} was served from here: somebody has put an \
         older copy in its place; take it with everynode-coordinator store restore, which begins a \
         new term and holds orders until you have looked"
    )]
    Older {
        /// The term of the store.
        found: Term,
        /// The last one served.
        expected: Term,
    },
}

/// Why the witness can't be heard.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The file can't be read or written.
    #[error("{path} can't be used: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is not what was written.
    #[error(
        "{path} is damaged: see with everynode-coordinator store verify that the store is the right \
         one, then remove it"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

impl Witness {
    /// What the data directory remembers; `None` where nothing was ever served from it.
    ///
    /// # Errors
    /// When what it remembers can't be read.
    pub fn of(directory: &Path) -> Result<Option<Self>, WitnessError> {
        let path = directory.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => match parse(&bytes) {
                Some(witness) => Ok(Some(witness)),
                None => Err(WitnessError::Damaged { path }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let cluster = admin::cluster_in(directory);
                Ok(cluster.map(|cluster| Self { cluster, reign: None }))
            }
            Err(source) => Err(WitnessError::Io { path, source }),
        }
    }

    /// The witness of a reign.
    pub const fn to(cluster: &ClusterRecord) -> Self {
        Self { cluster: cluster.id, reign: Some((cluster.term, cluster.reign)) }
    }

    /// Writes it down, whole or not at all.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn write(&self, directory: &Path) -> Result<(), WitnessError> {
        let path = directory.join(FILE);
        let (term, reign) = self.reign.unzip();
        let value = json!({
            "cluster": self.cluster.to_string(),
            "term": term.map(|term| term.0),
            "reign": reign.map(|reign| reign.to_string()),
        });
        admin::replace(&path, format!("{value}\n").as_bytes())
            .map_err(|source| WitnessError::Io { path, source })
    }

    /// Whether a store, by its cluster's record, may be the one that was served from here.
    ///
    /// # Errors
    /// Why it is not.
    pub fn check(&self, stored: Option<&ClusterRecord>) -> Result<(), Doubt> {
        let stored = stored.ok_or(Doubt::Emptied(self.cluster))?;
        if stored.id != self.cluster {
            return Err(Doubt::OtherCluster { found: stored.id, expected: self.cluster });
        }
        match self.reign {
            Some((term, reign))
                if stored.term < term || (stored.term == term && stored.reign != reign) =>
            {
                Err(Doubt::Older { found: stored.term, expected: term })
            }
            _ => Ok(()),
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Witness> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let cluster = value.get("cluster")?.as_str()?.parse().ok()?;
    let term = value.get("term")?.as_u64().map(Term);
    let reign = value.get("reign")?.as_str().map(str::parse).transpose().ok()?;
    Some(Witness { cluster, reign: term.zip(reign) })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn record(cluster: u128, term: u64, reign: u128) -> ClusterRecord {
        ClusterRecord {
            id: ClusterId::new(Uuid::from_u128(cluster)),
            term: Term(term),
            reign: ReignId::new(Uuid::from_u128(reign)),
        }
    }

    #[test]
    fn it_says_what_was_written_and_nothing_of_what_was_not() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Witness::of(directory.path()).unwrap(), None);
        let witness = Witness::to(&record(1, 7, 3));
        witness.write(directory.path()).unwrap();
        assert_eq!(Witness::of(directory.path()).unwrap(), Some(witness));
        for damaged in ["", "{}", "{\"cluster\": \"x\", \"term\": 1, \"reign\": null}"] {
            fs::write(directory.path().join(FILE), damaged).unwrap();
            let error = Witness::of(directory.path()).unwrap_err();
            assert!(matches!(error, WitnessError::Damaged { .. }), "{damaged}: {error}");
        }
    }

    #[test]
    fn only_the_store_that_was_served_or_what_became_of_it_will_do() {
        let witness = Witness::to(&record(1, 7, 3));
        for (stored, will_do) in [
            (Some(record(1, 7, 3)), true),
            (Some(record(1, 8, 9)), true),
            (Some(record(1, 6, 2)), false),
            (Some(record(1, 7, 4)), false),
            (Some(record(2, 9, 3)), false),
            (None, false),
        ] {
            assert_eq!(witness.check(stored.as_ref()).is_ok(), will_do, "{stored:?}");
        }
        let of_admin_conf = Witness { reign: None, ..witness };
        assert_eq!(of_admin_conf.check(Some(&record(1, 1, 1))), Ok(()));
    }
}
