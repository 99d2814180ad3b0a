//! Where a demo keeps its things: one directory of files, one of cgroups, both its own.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use everynode_runtime::{MachineError, probe};

use crate::error::Error;

/// A demo's directories, and the mark that all its daemons bear.
#[derive(Debug)]
pub(super) struct Place {
    /// For files.
    pub(super) dir: PathBuf,
    /// For cgroups, below the mount.
    pub(super) cgroups: PathBuf,
    /// The same as agents take it: relative to the mount.
    cgroup_root: PathBuf,
    /// In the command line of every daemon of this demo, and of nothing else.
    pub(super) mark: String,
}

impl Place {
    /// Makes the directories; says in a line what to do where the machine does not allow it.
    pub(super) fn prepare(dir: Option<&Path>) -> Result<Self, Error> {
        let mark = format!("everynode-demo-{}", std::process::id());
        let cgroup_root = cgroup_root(&mark)?;
        let cgroups = probe(&cgroup_root).map_err(|error| not_here(&error))?.root;
        let dir = dir.map_or_else(|| std::env::temp_dir().join(&mark), Path::to_owned);
        let made = make_empty(&dir).and_then(|()| std::path::absolute(&dir));
        match made {
            Ok(dir) => Ok(Self { dir, cgroups, cgroup_root, mark }),
            Err(source) => {
                // Empty as it is, it would stay for ever.
                let _ = fs::remove_dir(&cgroups);
                Err(Error::File { path: dir.display().to_string(), source })
            }
        }
    }

    /// A node's root of cgroups, as its agent takes it.
    pub(super) fn node_cgroup_root(&self, node: &str) -> PathBuf {
        self.cgroup_root.join(node)
    }

    /// A node's root of cgroups, below the mount.
    pub(super) fn node_cgroups(&self, node: &str) -> PathBuf {
        self.cgroups.join(node)
    }
}

/// Why pods can't run here, and what to do about it.
fn not_here(error: &MachineError) -> Error {
    let why = match error {
        MachineError::NotWritable { .. } | MachineError::NotMovable { .. } => {
            "no cgroup of this user's own: run it as root, or with one: \
             systemd-run --user --scope -p Delegate=yes everynode demo"
                .into()
        }
        other => other.to_string(),
    };
    Error::Failed(format!("pods can't run here: {why}"))
}

/// Where a demo's cgroups go, relative to the mount: as root at the top; for others below the
/// cgroup they are in, which then has to be theirs (`systemd-run --user --scope -p Delegate=yes`).
fn cgroup_root(mark: &str) -> Result<PathBuf, Error> {
    if rustix::process::geteuid().is_root() {
        return Ok(mark.into());
    }
    let own = fs::read_to_string("/proc/self/cgroup")
        .ok()
        .as_deref()
        .and_then(own_cgroup)
        .ok_or_else(|| Error::Failed("pods can't run here: there is no cgroup v2".into()))?;
    Ok(own.join(mark))
}

/// The cgroup v2 directory in the text of `/proc/self/cgroup`, relative to the mount.
fn own_cgroup(text: &str) -> Option<PathBuf> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(PathBuf::from(path))
}

/// Makes the directory, for us alone; one that is there must be empty.
fn make_empty(dir: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            match fs::read_dir(dir)?.next() {
                None => Ok(()),
                Some(_) => Err(io::Error::other("is not empty; everything in it would be removed")),
            }
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_cgroup_is_the_unified_one() {
        let text = "9:name=systemd:/x\n0::/user.slice/a.scope\n";
        assert_eq!(own_cgroup(text), Some("user.slice/a.scope".into()));
        assert_eq!(own_cgroup("1:cpu:/\n"), None);
    }
}
