//! Another store in the place of the present one, in a term above all that agents may have heard of,
//! with orders held.

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use everynode_coordinator_core::{ClusterRecord, HoldRecord, LAST_TERM, Record, Write};
use everynode_model::{ClusterId, ReignId, Term, WallTime};
use everynode_store::sqlite::{Draft, Options, Place};
use everynode_store::{Outcome, SqliteStore, Store as _, StoreError, Txn};

use super::witness::{Witness, WitnessError};
use super::{Held, LookError, held, look};
use crate::admin;
use crate::entropy::{Entropy, NoEntropy};
use crate::records;

/// How far the new term lies beyond the highest that is known. Every start raises it by one, and
/// starts that neither the copy nor what is left here tells of (on another machine, or in a store
/// that is lost) must stay below: a thousand are six weeks of one an hour. There is room for
/// thousands of restores.
pub const MARGIN: u64 = 1000;

/// What to restore, and how.
#[derive(Debug)]
pub struct Restore<'a> {
    /// Where the coordinator keeps its things.
    pub data_dir: &'a Path,
    /// The store in it.
    pub store: &'a Path,
    /// The copy.
    pub file: &'a Path,
    /// Whether a sound store may be replaced.
    pub force: bool,
    /// The term to begin, if the caller chooses it.
    pub term: Option<Term>,
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// What the copy holds.
    pub copy: Held,
    /// The term in which the next start serves.
    pub term: Term,
    /// Beyond which known term that is.
    pub above: Term,
    /// Where the former store is kept.
    pub kept: Option<PathBuf>,
}

/// Why nothing was restored; all is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The coordinator runs.
    #[error("the coordinator is running on {path}: stop it first")]
    Running {
        /// The store.
        path: PathBuf,
    },
    /// The files can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The copy is not sound.
    #[error(transparent)]
    Copy(#[from] LookError),
    /// There is nothing wrong with the present store.
    #[error(
        "{path} is sound, at revision {revision} of term {term}: to replace it all the same, use \
         --force (it is kept beside)"
    )]
    Sound {
        /// The present store.
        path: PathBuf,
        /// How far it is.
        revision: u64,
        /// Its last reign.
        term: Term,
    },
    /// The copy is of another cluster.
    #[error(
        "{file} is of cluster {found}, and {data_dir} is of cluster {expected}: choose another copy, \
         or restore into an empty --data-dir"
    )]
    OtherCluster {
        /// The copy.
        file: PathBuf,
        /// Its cluster.
        found: ClusterId,
        /// The data directory.
        data_dir: PathBuf,
        /// Its cluster.
        expected: ClusterId,
    },
    /// The term that was asked for was served, or can't be counted on from.
    #[error("--term must be above {above}, which agents may have heard of, and at most {last}")]
    Term {
        /// The highest that is known.
        above: Term,
        /// The last that there is.
        last: Term,
    },
    /// What the data directory remembers can't be read or written.
    #[error(transparent)]
    Witness(#[from] WitnessError),
    /// No id for the new reign.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

impl Restore<'_> {
    /// Restores. Killed at any moment, the store is the former one whole or the new one whole.
    ///
    /// # Errors
    /// See [`RestoreError`].
    pub async fn run(&self, now: WallTime, entropy: &Entropy) -> Result<Restored, RestoreError> {
        let place = Place::hold(self.store).map_err(|error| match error {
            StoreError::Locked { path } => RestoreError::Running { path },
            error => error.into(),
        })?;
        let copy = look(self.file)?;
        let (readable, former) = self.former(&place);
        let witness = self.witness()?;
        self.check_cluster(copy.cluster.id, witness, former.as_ref())?;
        // One that was not served from here, or not last, is none to be careful with.
        let right = |former: &&Held| {
            witness.is_none_or(|witness| witness.check(Some(&former.cluster)).is_ok())
        };
        if let Some(former) = former.as_ref().filter(right).filter(|_| !self.force) {
            return Err(RestoreError::Sound {
                path: self.store.into(),
                revision: former.revision,
                term: former.cluster.term,
            });
        }
        let witnessed = witness.and_then(|witness| witness.reign).map(|(term, _)| term);
        let known = [Some(copy.cluster.term), former.as_ref().map(|held| held.cluster.term)];
        let above = known.into_iter().flatten().chain(witnessed).max().unwrap_or_default();
        let term = self.term(above)?;

        let draft = Draft::copy(self.file, self.store)?;
        let cluster = begin(&draft, &copy, term, now, entropy).await?;
        look(draft.path())?;
        if readable {
            // Also one that is not sound: without its log, a killed restore would leave it older.
            place.fold_log()?;
        }
        let kept = place.replace(draft, &moment(now))?;
        Witness::to(&cluster).write(self.data_dir)?;
        Ok(Restored { copy, term, above, kept })
    }

    /// Whether the present store can be read; and what it holds, if it is sound.
    fn former(&self, place: &Place) -> (bool, Option<Held>) {
        let read = place.read().map_err(LookError::from);
        let readable = read.is_ok();
        match read.and_then(|read| held(self.store, read)) {
            Ok(held) => (readable, Some(held)),
            Err(error) => {
                tracing::debug!(%error, "the present store is not sound");
                (readable, None)
            }
        }
    }

    /// One that is damaged is written anew in the end.
    fn witness(&self) -> Result<Option<Witness>, WitnessError> {
        match Witness::of(self.data_dir) {
            Err(WitnessError::Damaged { .. }) => {
                let cluster = admin::cluster_in(self.data_dir);
                Ok(cluster.map(|cluster| Witness { cluster, reign: None }))
            }
            other => other,
        }
    }

    fn check_cluster(
        &self,
        found: ClusterId,
        witness: Option<Witness>,
        former: Option<&Held>,
    ) -> Result<(), RestoreError> {
        let expected = witness.map(|witness| witness.cluster);
        let expected = expected.or_else(|| former.map(|former| former.cluster.id));
        match expected {
            Some(expected) if expected != found => Err(RestoreError::OtherCluster {
                file: self.file.into(),
                found,
                data_dir: self.data_dir.into(),
                expected,
            }),
            _ => Ok(()),
        }
    }

    fn term(&self, above: Term) -> Result<Term, RestoreError> {
        let term = self.term.unwrap_or_else(|| Term(above.0.saturating_add(MARGIN)));
        if term > above && term <= LAST_TERM {
            Ok(term)
        } else {
            Err(RestoreError::Term { above, last: LAST_TERM })
        }
    }
}

/// Writes into the draft what begins with it. The next start raises the term by one, as every start
/// does.
async fn begin(
    draft: &Draft,
    copy: &Held,
    term: Term,
    now: WallTime,
    entropy: &Entropy,
) -> Result<ClusterRecord, RestoreError> {
    let reign = ReignId::new(entropy.uuid()?);
    let cluster = ClusterRecord { term: Term(term.0 - 1), reign, ..copy.cluster };
    // A copy that was taken while orders were held knows no more than the one before it.
    let copied_in = copy.hold.map_or(copy.cluster.term, |hold| hold.copied_in);
    let hold = HoldRecord { since: now, copied_in };
    let store = SqliteStore::open(draft.path(), Options::default())?;
    let mut txn = Txn::new();
    txn.ops = [Record::Cluster(cluster), Record::Hold(hold)]
        .map(|record| records::encode(&Write::put(record)))
        .to_vec();
    match store.txn(txn).await? {
        Outcome::Committed { .. } | Outcome::CompareFailed { .. } => Ok(cluster),
    }
}

/// A moment as part of a file's name: `20261125T201500123Z`.
fn moment(now: WallTime) -> String {
    let millis = u64::try_from(now.unix_millis).unwrap_or_default();
    let text = humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(millis));
    text.to_string().chars().filter(char::is_ascii_alphanumeric).collect()
}
