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

    /// The directories of its cgroups: also those of the same name in hierarchies of v1, where such
    /// limit pods, which an agent that was killed leaves there.
    pub(super) fn all_cgroups(&self) -> Vec<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let of_v1 = legacy(&mounts).map(|mount| mount.join(&self.cgroup_root));
        std::iter::once(self.cgroups.clone()).chain(of_v1).collect()
    }

    /// A node's root of cgroups, below the mount.
    pub(super) fn node_cgroups(&self, node: &str) -> PathBuf {
        self.cgroups.join(node)
    }
}

/// Where hierarchies of v1 are mounted, in the text of `/proc/self/mounts`. (None of them is where a
/// blank would have to be written otherwise.)
fn legacy(mounts: &str) -> impl Iterator<Item = PathBuf> {
    let words = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let of_v1 = words.filter(|words| words.get(2) == Some(&"cgroup"));
    of_v1.filter_map(|words| words.get(1).map(PathBuf::from))
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
    fn hierarchies_of_v1_have_the_same_directories() {
        let mounts = "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
                      cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu 0 0\ntmpfs /tmp tmpfs rw 0 0\n";
        let found: Vec<PathBuf> = legacy(mounts).collect();
        assert_eq!(
            found,
            ["/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu,cpuacct"].map(PathBuf::from)
        );
    }

    #[test]
    fn the_own_cgroup_is_the_unified_one() {
        let text = "9:name=systemd:/x\n0::/user.slice/a.scope\n";
        assert_eq!(own_cgroup(text), Some("user.slice/a.scope".into()));
        assert_eq!(own_cgroup("1:cpu:/\n"), None);
    }
}
