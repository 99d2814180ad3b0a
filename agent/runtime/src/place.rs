//! Where things live: the names of cgroups, and the marks in them.
//!
//! ```text
//!   <cgroup2 mount>/<root>/<namespace>/d-<name>/<cluster>.<node>.<pod>/shim
//!                          └───── place ─────┘ └──────── pod ───────┘ /c-<container> …
//! ```
//!
//! A DaemonSet may be called `cpu.stat`, as the kernel calls files of a cgroup; a namespace may
//! not, as it has no dot. `d-` keeps them apart, and the longest name (253) within a file's 255.
//!
//! The place is the proof of death: it is empty when no pod of that namespace and name is alive,
//! of whichever cluster, node, revision or agent's data directory. Whose a pod is stands in its
//! directory's name, which nobody can change while it lives: three UUIDs, 110 of 255 characters.

use std::fmt;
use std::path::{Component, Path};
use std::str::FromStr;

use everynode_agent_core::Marks;
use everynode_model::{PodKey, PodUid};

use crate::cgroup::Cgroup;
use crate::error::MachineError;

/// The root of our cgroups.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    cgroup: Cgroup,
}

/// Whose a pod is, and which: the name of its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) marks: Marks,
    pub(crate) pod: PodUid,
}

/// A name that is not a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotAMark;

/// The name of a supervisor's cgroup in its pod's.
pub(crate) const SHIM: &str = "shim";

/// The name of the cgroup of a pod's first process, where its containers share their process ids.
pub(crate) const PAUSE: &str = "pause";

/// What stands before a DaemonSet's name in its place's.
const DAEMON_SET: &str = "d-";

/// What stands before a container's name in its cgroup's.
const CONTAINER: &str = "c-";

/// The name of a container's cgroup in its pod's; no container's is the supervisor's.
pub(crate) fn container_leaf(container: &str) -> String {
    format!("{CONTAINER}{container}")
}

/// The cgroups of a pod's containers, with their names.
pub(crate) fn containers_of(pod: &Cgroup) -> std::io::Result<Vec<(String, Cgroup)>> {
    let names = pod.child_names()?;
    let container =
        |leaf: &String| Some((leaf.strip_prefix(CONTAINER)?.to_owned(), pod.child(leaf)));
    Ok(names.iter().filter_map(container).collect())
}

/// The place that a cgroup's path leads through, whatever its root and whosever the pod in it.
pub fn place_of(path: &str) -> Option<PodKey> {
    let parts: Vec<&str> = path.split('/').collect();
    parts.windows(3).find_map(|three| {
        let [namespace, place, mark] = three else { return None };
        let name = place.strip_prefix(DAEMON_SET).filter(|_| mark.contains('.'))?;
        PodKey::new(namespace, name).ok()
    })
}

impl Root {
    /// The root of this name under that mount.
    ///
    /// # Errors
    /// When the name is not a relative path of at least one plain component.
    pub(crate) fn new(mount: &Path, name: &Path) -> Result<Self, MachineError> {
        let plain = name.components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || name.as_os_str().is_empty() {
            return Err(MachineError::RootName(name.to_owned()));
        }
        Ok(Self { cgroup: Cgroup::at(mount.join(name)) })
    }

    pub(crate) fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    pub(crate) fn namespace(&self, key: &PodKey) -> Cgroup {
        self.cgroup.child(key.namespace())
    }

    pub(crate) fn place(&self, key: &PodKey) -> Cgroup {
        self.namespace(key).child(&format!("{DAEMON_SET}{}", key.name()))
    }

    pub(crate) fn pod(&self, key: &PodKey, mark: &Mark) -> Cgroup {
        self.place(key).child(&mark.to_string())
    }

    /// All places that there are; directories whose names no DaemonSet can have are not ours.
    pub(crate) fn places(&self) -> std::io::Result<Vec<PodKey>> {
        let mut keys = Vec::new();
        for namespace in self.cgroup.child_names()? {
            let names = self.cgroup.child(&namespace).child_names()?;
            let names = names.iter().filter_map(|name| name.strip_prefix(DAEMON_SET));
            keys.extend(names.filter_map(|name| PodKey::new(&namespace, name).ok()));
        }
        Ok(keys)
    }

    /// The directory of a pod of whom only the id is known, and its marks; none where it has none.
    pub(crate) fn found(
        &self,
        key: &PodKey,
        pod: PodUid,
    ) -> std::io::Result<Option<(Cgroup, Mark)>> {
        let pods = self.pods(key)?.into_iter();
        let mut marked = pods.filter_map(|(cgroup, mark)| Some((cgroup, mark?)));
        Ok(marked.find(|(_, mark)| mark.pod == pod))
    }

    /// The directories in a place, with the marks of those that can be read.
    pub(crate) fn pods(&self, key: &PodKey) -> std::io::Result<Vec<(Cgroup, Option<Mark>)>> {
        let place = self.place(key);
        let names = place.child_names()?;
        Ok(names.iter().map(|name| (place.child(name), name.parse().ok())).collect())
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.marks.cluster, self.marks.node, self.pod)
    }
}

impl FromStr for Mark {
    type Err = NotAMark;

    fn from_str(name: &str) -> Result<Self, NotAMark> {
        let mut parts = name.split('.');
        let mut next = || parts.next().ok_or(NotAMark);
        let (cluster, node, pod) = (next()?, next()?, next()?);
        let mark = Self {
            marks: Marks {
                cluster: cluster.parse().map_err(|_| NotAMark)?,
                node: node.parse().map_err(|_| NotAMark)?,
            },
            pod: pod.parse().map_err(|_| NotAMark)?,
        };
        // Exactly as we write it: the same id in another spelling is not our doing.
        if mark.to_string() == name { Ok(mark) } else { Err(NotAMark) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8.\
                        6ba7b811-9dad-41d1-80b4-00c04fd430c8.\
                        6ba7b812-9dad-41d1-80b4-00c04fd430c8";

    #[test]
    fn marks_are_read_as_written_and_nothing_else_is_one() {
        let mark: Mark = NAME.parse().unwrap();
        assert_eq!(mark.to_string(), NAME);
        assert!(mark.marks.cluster.to_string().starts_with("6ba7b810"));
        for bad in ["", "shim", "a.b.c", &NAME.to_uppercase(), &format!("{NAME}.x"), &NAME[..73]] {
            assert_eq!(bad.parse::<Mark>(), Err(NotAMark), "{bad}");
        }
    }

    #[test]
    fn places_are_found_again_under_the_longest_name_and_a_kernel_files() {
        let mount = tempfile::tempdir().unwrap();
        let root = Root::new(mount.path(), Path::new("root")).unwrap();
        let longest = [["x"; 63].concat().as_str(); 4].join(".")[..253].to_owned();
        let keys = ["cpu.stat", &longest].map(|name| PodKey::new("default", name).unwrap());
        for key in &keys {
            std::fs::create_dir_all(root.place(key).path()).unwrap();
            let name = root.place(key).path().file_name().unwrap().to_owned();
            assert!(name != key.name() && name.len() <= 255);
        }
        std::fs::create_dir(root.namespace(&keys[0]).path().join("others")).unwrap();
        assert_eq!(root.places().unwrap(), keys);
    }

    #[test]
    fn a_root_stays_below_the_mount() {
        let mount = Path::new("/sys/fs/cgroup");
        assert!(Root::new(mount, Path::new("everynode-demo/node-1")).is_ok());
        for bad in ["", "/x", "../x", "a/../../b", "."] {
            assert!(Root::new(mount, Path::new(bad)).is_err(), "{bad}");
        }
    }
}
