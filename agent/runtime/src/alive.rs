//! What lives under a cgroup root, for people: asks no supervisor, takes no lock, changes nothing.

use std::path::Path;

use everynode_agent_core::{Marks, PodRef};
use everynode_model::{PodKey, PodUid};

use crate::cgroup::Cgroup;
use crate::error::MachineError;
use crate::mounts;
use crate::place::{Root, SHIM, container_leaf, containers_of};

/// Something alive in a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alive {
    /// The place.
    pub key: PodKey,
    /// Which pod; `None` where the marks can't be read.
    pub pod: Option<PodUid>,
    /// Whose it is; `None` where the marks can't be read.
    pub marks: Option<Marks>,
    /// Whether its supervisor lives.
    pub supervised: bool,
    /// Its containers, by name, and their processes, the oldest number first.
    pub containers: Vec<(String, Vec<u32>)>,
}

/// All that is alive under this root, whose name is relative to the cgroup v2 mount; nothing where
/// there is no such root.
///
/// # Errors
/// When the cgroups can't be read.
pub fn alive(root: &Path) -> Result<Vec<Alive>, MachineError> {
    let root = Root::new(&mounts::cgroup2()?, root)?;
    let mut found = Vec::new();
    for key in root.places().map_err(|source| MachineError::io(root.cgroup().path(), source))? {
        let place = root.place(&key);
        let at = |source| MachineError::io(place.path(), source);
        for (cgroup, mark) in root.pods(&key).map_err(at)? {
            if !cgroup.populated().map_err(at)? {
                continue;
            }
            found.push(Alive {
                key: key.clone(),
                pod: mark.map(|mark| mark.pod),
                marks: mark.map(|mark| mark.marks),
                supervised: cgroup.child(SHIM).populated().map_err(at)?,
                containers: containers(&cgroup).map_err(at)?,
            });
        }
    }
    Ok(found)
}

/// Whether anything of that container of that pod is alive.
///
/// # Errors
/// When the cgroups can't be read.
pub fn runs(root: &Path, pod: &PodRef, container: &str) -> Result<bool, MachineError> {
    let root = Root::new(&mounts::cgroup2()?, root)?;
    let at = |source| MachineError::io(root.place(&pod.key).path(), source);
    let Some((cgroup, _)) = root.found(&pod.key, pod.uid).map_err(at)? else { return Ok(false) };
    cgroup.child(&container_leaf(container)).populated().map_err(at)
}

fn containers(pod: &Cgroup) -> std::io::Result<Vec<(String, Vec<u32>)>> {
    let of = |(name, cgroup): (String, Cgroup)| {
        let pids = cgroup.pids()?.into_iter().filter_map(|pid| u32::try_from(pid).ok());
        Ok((name, pids.collect()))
    };
    containers_of(pod)?.into_iter().map(of).collect()
}
