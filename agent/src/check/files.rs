//! The data directory: whether it takes durable writes, who uses it, and what it holds.

use std::fs::{File, TryLockError};
use std::io::Read as _;
use std::path::Path;

use super::{Identity, Line};
use crate::data_dir::{make_private, remove_durably, write_durably};
use crate::identity::IdentityError;
use crate::ledger::Loaded;
use crate::ledger::disk;

/// Below this not even orders can be written; ledger, templates and identity are some kilobytes.
const LEAST_SPACE: u64 = 16 * 1024 * 1024;
/// Below this the logs of a few containers, each of which keeps 50 MiB, will not fit.
const LITTLE_SPACE: u64 = 512 * 1024 * 1024;
const MIB: u64 = 1024 * 1024;

pub(super) fn lines(
    data_dir: &Path,
    identity: Result<&Option<Identity>, &IdentityError>,
) -> Vec<Line> {
    let mut lines = vec![durable(data_dir), space(data_dir), lock(data_dir)];
    match identity {
        Ok(None) => lines.push(Line::pass("identity", "none yet: this machine has not joined")),
        Ok(Some(identity)) => {
            let (name, cluster) = (&identity.name, identity.cluster);
            lines.push(Line::pass("identity", format!("node {name} of cluster {cluster}")));
            lines.push(ledger(data_dir, identity));
        }
        Err(error) => lines.push(Line::fail("identity", error.to_string())),
    }
    lines
}

fn durable(data_dir: &Path) -> Line {
    const NAME: &str = "data directory";
    let trial = data_dir.join("check.trial");
    let tried = make_private(data_dir)
        .and_then(|()| write_durably(&trial, b"trial"))
        .and_then(|()| remove_durably(&trial));
    match tried {
        Ok(()) => Line::pass(NAME, format!("{} takes durable writes", data_dir.display())),
        Err(error) => Line::fail(NAME, format!("{}: {error}", data_dir.display())),
    }
}

fn space(data_dir: &Path) -> Line {
    const NAME: &str = "space";
    let about = match rustix::fs::statvfs(data_dir) {
        Ok(about) => about,
        Err(error) => return Line::warn(NAME, format!("{}: {error}", data_dir.display())),
    };
    let free = about.f_bavail.saturating_mul(about.f_frsize);
    let detail = format!("{} MiB are free in {}", free / MIB, data_dir.display());
    match free {
        ..LEAST_SPACE => Line::fail(NAME, format!("{detail}: make room")),
        LEAST_SPACE..LITTLE_SPACE => {
            Line::warn(NAME, format!("{detail}: each container keeps up to 50 MiB of logs"))
        }
        _ => Line::pass(NAME, detail),
    }
}

fn lock(data_dir: &Path) -> Line {
    const NAME: &str = "data directory's lock";
    let path = data_dir.join("lock");
    let Ok(mut file) = File::open(&path) else {
        return Line::pass(NAME, "free: no agent has ever run with it");
    };
    match file.try_lock() {
        Ok(()) => Line::pass(NAME, "free: no agent runs with it"),
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.by_ref().take(20).read_to_string(&mut pid);
            Line::pass(NAME, format!("held: an agent runs with it (pid {})", pid.trim()))
        }
        Err(TryLockError::Error(error)) => Line::fail(NAME, format!("{}: {error}", path.display())),
    }
}

fn ledger(data_dir: &Path, identity: &Identity) -> Line {
    const NAME: &str = "ledger";
    match disk::read(data_dir, &identity.ever()).map(|copies| copies.loaded) {
        Ok(Loaded::Nothing) => Line::pass(NAME, "none yet: no order was accepted"),
        Ok(Loaded::Ledger(ledger)) => {
            Line::pass(NAME, format!("whole, with {} DaemonSets", ledger.assignment.len()))
        }
        Ok(Loaded::Recovered(_, why)) => {
            Line::warn(NAME, format!("{why}; a running agent mends it"))
        }
        Ok(Loaded::Lost(why)) => Line::fail(
            NAME,
            format!("{why}; what runs is kept as it is until the coordinator sends an order"),
        ),
        Err(error) => Line::fail(NAME, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_directory_that_can_not_be_made_fails_and_one_that_can_passes() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(durable(&file.join("x")).verdict, Verdict::Fail);
        assert_eq!(durable(&parent.path().join("x")).verdict, Verdict::Pass);
        assert_eq!(std::fs::read_dir(parent.path().join("x")).unwrap().count(), 0);
    }

    #[test]
    fn who_holds_the_lock_is_named() {
        let directory = tempfile::tempdir().unwrap();
        assert!(lock(directory.path()).detail.contains("ever"));
        let held = File::create(directory.path().join("lock")).unwrap();
        held.lock().unwrap();
        std::fs::write(directory.path().join("lock"), "77").unwrap();
        assert!(lock(directory.path()).detail.ends_with("(pid 77)"));
        drop(held);
        assert!(lock(directory.path()).detail.starts_with("free"));
    }
}
