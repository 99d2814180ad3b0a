//! What holds one container, as its supervisor is told: it makes the container's leaf anew for each
//! run, writes these files, and has the first process enter these directories before it executes
//! anything.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::files::Setting;
use crate::cgroup::Cgroup;

/// All of a container's cgroups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Share {
    /// Files of its cgroup v2 leaf.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) leaf: Vec<Setting>,
    /// Its directories in hierarchies of v1, which are there as long as its pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) legacy: Vec<Legacy>,
}

/// A container's directory in a hierarchy of v1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Legacy {
    pub(crate) directory: PathBuf,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) settings: Vec<Setting>,
}

impl Share {
    /// Writes all of it; the first thing that can't be.
    pub(crate) fn apply(&self, leaf: &Cgroup) -> io::Result<()> {
        set_all(leaf, &self.leaf)?;
        self.legacy.iter().try_for_each(|one| set_all(&Cgroup::at(&one.directory), &one.settings))
    }

    /// How often the kernel has killed something of it for want of memory: of the whole machine, of
    /// its pod's or of its own. A count of v1 goes on from run to run.
    pub(crate) fn oom_kills(&self, leaf: &Cgroup) -> u64 {
        let unified = count(&leaf.file("memory.events"));
        let legacy = self.legacy.iter().map(|one| count(&one.directory.join("memory.oom_control")));
        legacy.fold(unified, u64::saturating_add)
    }

    /// The files by which a process enters the hierarchies of v1.
    pub(crate) fn doors(&self) -> io::Result<Vec<OwnedFd>> {
        let open = |one: &Legacy| {
            let procs = one.directory.join("cgroup.procs");
            let opened = rustix::fs::open(&procs, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
            opened.map_err(|errno| at(&procs.display().to_string(), errno.into()))
        };
        self.legacy.iter().map(open).collect()
    }
}

/// The number of kills that such a file tells; none where there is no such file.
fn count(file: &Path) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
    kills.unwrap_or_default()
}

fn set_all(cgroup: &Cgroup, settings: &[Setting]) -> io::Result<()> {
    settings.iter().try_for_each(|setting| match cgroup.write(&setting.file, &setting.value) {
        Err(error) if !setting.weak => {
            Err(at(&format!("{}/{}", cgroup.path().display(), setting.file), error))
        }
        _ => Ok(()),
    })
}

/// The same error with the file that it is about.
fn at(path: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{path}: {error}"))
}
