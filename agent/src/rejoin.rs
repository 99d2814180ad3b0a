//! `everynode-agent rejoin`: takes this machine to a rebuilt coordinator, with all that runs on it.
//!
//! ```text
//!   join there, with the same key ─▶ identity.next ─▶ agent runs? ─ yes ─▶ it becomes that one
//!                                                          └─ no ─▶ lock, and become that one here
//! ```
//!
//! Up to the last step the machine is who it was, whatever fails; done again with the same token, it
//! gets the same node there. The pods notice nothing: what the new coordinator's first order names
//! goes on, if the revision is the same, and what it does not name is stopped.

use std::io::Write;
use std::path::Path;

use everynode_agent_core::Standing;
use everynode_transport::Dial;

use crate::clock::Clock;
use crate::data_dir::{DataDir, DataDirError};
use crate::identity::{Identity, IdentityError, IdentityFiles};
use crate::join::{self, JoinError, Wish};
use crate::ledger::{DiskLedger, LedgerStore as _, LoadError, Loaded};
use crate::local::Question;
use crate::local::client::{self, AskError};
use crate::random::Random;

/// Why the machine is still where it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RejoinError {
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Ledger(#[from] LoadError),
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(
        "this machine is leaving its cluster: start the agent and let it finish, then join anew"
    )]
    Leaving,
    #[error("the answer can't be shown: {0}")]
    Out(#[from] std::io::Error),
}

/// Joins as `wish` says and makes this machine that node; says whether that was done.
///
/// # Errors
/// When it can't; the machine is who it was then.
pub(crate) async fn rejoin(
    data_dir: &Path,
    present: &Identity,
    wish: &Wish,
    (dial, clock): (&dyn Dial, &dyn Clock),
    random: &mut Random,
    out: &mut (dyn Write + Send),
) -> Result<bool, RejoinError> {
    let files = IdentityFiles::new(data_dir);
    let joined = join::join(dial, clock, wish, &files.key()?, random).await?;
    let (name, uid, cluster) = (joined.name.clone(), joined.node, joined.cluster);
    if joined.marks() == present.marks() {
        writeln!(out, "this machine is node {name} ({uid}) of that cluster already")?;
        return Ok(true);
    }
    writeln!(out, "joined cluster {cluster} as node {name} ({uid})")?;
    files.save_next(&joined.following(present))?;
    match client::ask(data_dir, Question::Rejoin, out).await {
        Err(AskError::NotRunning(_)) => {
            become_next(data_dir).await?;
            writeln!(out, "start the agent: what runs on this machine runs on")?;
            Ok(true)
        }
        answered => Ok(answered?),
    }
}

/// With no agent that could do it.
async fn become_next(data_dir: &Path) -> Result<(), RejoinError> {
    let directory = DataDir::open(data_dir).await?;
    let files = IdentityFiles::new(directory.path());
    if let Some(present) = files.load()?
        && let Loaded::Ledger(ledger) | Loaded::Recovered(ledger, _) =
            DiskLedger::new(directory.path()).load(present.ever()).await?
        && ledger.standing != Standing::Active
    {
        return Err(RejoinError::Leaving);
    }
    files.succeed()?;
    Ok(())
}
