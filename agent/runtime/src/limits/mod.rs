//! Holds pods to their limits: which hierarchy has which of the kernel's controllers, and what of a
//! pod is where.
//!
//! Where cgroup v2 has a controller, it is switched on from the root of the hierarchy down to our
//! leaves, for every pod. Where v1 has kept it (a hybrid set-up), a pod that asks for it has
//! directories of the same names there too, which its containers enter before they execute
//! anything:
//!
//! ```text
//!   <cgroup2 mount>/<root>/<namespace>/d-<name>/<mark>/c-<container>    who lives, and who is dead
//!   <v1 mount>     /<root>/<namespace>/d-<name>/<mark>/c-<container>    what they may use
//! ```
//!
//! Those of v1 prove nothing and keep nobody alive: they are removed with their pod's cgroup, and
//! swept where that has gone without them.

mod controller;
mod files;
mod resize;
mod share;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use everynode_agent_core::{ContainerSpec, PodSpec};

use crate::cgroup::Cgroup;
use crate::error::CreateError;
use crate::mounts;
use crate::place::{self, Root};
pub use controller::Controller;
pub(crate) use files::Setting;
use files::{Dialect, Level};
pub(crate) use resize::Shares;
pub(crate) use share::{Legacy, Share};
use tree::{below, enable, prune, try_all, weigh_up};

/// Where this machine's controllers are.
#[derive(Clone, Debug)]
pub(crate) struct Controllers {
    /// The cgroup v2 mount.
    unified: PathBuf,
    homes: BTreeMap<Controller, Home>,
}

/// Where one controller is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Home {
    /// In the hierarchy in which our pods live.
    Unified,
    /// In this mount of v1.
    Legacy(PathBuf),
    /// Nowhere that we can use it, for this reason.
    Nowhere(String),
}

impl Controllers {
    /// Looks where they are, and switches on those of v2 from the mount down to `root`.
    pub(crate) fn find(unified: &Path, root: &Root) -> Self {
        let mountinfo = mounts::read().unwrap_or_default();
        let v2 = fs::read_to_string(unified.join("cgroup.controllers")).unwrap_or_default();
        let homes = Controller::ALL.map(|controller| {
            let home = Home::find(controller, &v2, &mountinfo);
            let home = match home {
                Home::Unified => match enable(controller, unified, root.cgroup().path()) {
                    Ok(()) => Home::Unified,
                    Err(why) => Home::Nowhere(why),
                },
                home => home,
            };
            (controller, home)
        });
        Self { unified: unified.to_owned(), homes: homes.into() }
    }

    /// Where each is, or why it can't be used here.
    pub(crate) fn homes(&self) -> BTreeMap<Controller, Result<PathBuf, String>> {
        let home = |home: &Home| match home {
            Home::Unified => Ok(self.unified.clone()),
            Home::Legacy(mount) => Ok(mount.clone()),
            Home::Nowhere(why) => Err(why.clone()),
        };
        self.homes.iter().map(|(controller, at)| (*controller, home(at))).collect()
    }

    /// Holds a pod, whose cgroups are made, to its limits; what its supervisor has to do for each
    /// container, in their order. A limit that nothing here enforces is passed over, unless the
    /// template wants it enforced or not to run at all.
    pub(crate) fn hold(&self, pod: &Cgroup, spec: &PodSpec) -> Result<Vec<Share>, CreateError> {
        let mut shares = vec![Share::default(); spec.containers.len()];
        let mut unenforced = Vec::new();
        for (controller, home) in &self.homes {
            let asked = controller.is_asked(spec);
            let done = match home {
                // Few pods use them, and each cgroup that is held to them costs the kernel memory.
                Home::Unified if *controller == Controller::Hugetlb && !asked => Ok(()),
                Home::Unified => self.hold_unified(*controller, pod, spec, &mut shares),
                Home::Legacy(mount) if asked => {
                    self.hold_legacy(*controller, mount, pod, spec, &mut shares)
                }
                Home::Legacy(_) => Ok(()),
                Home::Nowhere(why) => Err(Failed::Missing(why.clone())),
            };
            match done {
                Ok(()) => {}
                Err(_) if !asked => {}
                Err(Failed::Missing(why)) => unenforced.push(format!("{controller}: {why}")),
                Err(Failed::Io(path, source)) => return Err(CreateError::Io { path, source }),
            }
        }
        warn_or_refuse(&unenforced, pod, spec).map_err(CreateError::NotEnforced)?;
        Ok(shares)
    }

    /// Removes what a pod has in hierarchies of v1, and the directories above where no other pod
    /// needs them.
    pub(crate) fn release(&self, pod: &Cgroup) {
        for mount in self.legacy() {
            let Some(mirror) = self.mirror(mount, pod.path()) else { continue };
            if let Err(error) = Cgroup::at(&mirror).remove_tree() {
                tracing::warn!(cgroup = %mirror.display(), %error, "it was left there");
            }
            prune(&mirror, mount);
        }
        self.weigh(pod.path());
    }

    /// Removes what is in hierarchies of v1 of pods whose cgroup is not there any more.
    pub(crate) fn sweep(&self, root: &Root) {
        for mount in self.legacy() {
            let Some(mirror) = self.mirror(mount, root.cgroup().path()) else { continue };
            // Namespaces, places, pods: what is deeper is the pods' own.
            for path in below(&mirror, 3) {
                let there = path.strip_prefix(mount).map(|rest| self.unified.join(rest).is_dir());
                if !there.unwrap_or(true) {
                    let _ = Cgroup::at(&path).remove_tree();
                    prune(&path, mount);
                }
            }
            prune(&mirror.join("any"), mount);
        }
    }

    fn hold_unified(
        &self,
        controller: Controller,
        pod: &Cgroup,
        spec: &PodSpec,
        shares: &mut [Share],
    ) -> Result<(), Failed> {
        enable(controller, &self.unified, pod.path()).map_err(Failed::Missing)?;
        let whole = files::settings(controller, Dialect::Unified, Level::Pod, &spec.whole());
        try_all(pod, &whole)?;
        for (container, share) in spec.containers.iter().zip(shares) {
            let own = settings_of(controller, Dialect::Unified, spec, container);
            try_all(&pod.child(&place::container_leaf(&container.name)), &own)?;
            share.leaf.extend(own);
        }
        if controller == Controller::Cpu {
            weigh_up(pod.path(), &self.unified, Dialect::Unified);
        }
        Ok(())
    }

    fn hold_legacy(
        &self,
        controller: Controller,
        mount: &Path,
        pod: &Cgroup,
        spec: &PodSpec,
        shares: &mut [Share],
    ) -> Result<(), Failed> {
        let mirror = self.mirror(mount, pod.path());
        let mirror =
            mirror.ok_or_else(|| Failed::Missing("the root is outside its mount".into()))?;
        let leaf = |container: &str| mirror.join(place::container_leaf(container));
        let leaves: Vec<_> = spec.container_names().map(leaf).collect();
        tree::make(mount, &leaves).map_err(|source| Failed::Io(mirror.clone(), source))?;
        let whole = files::settings(controller, Dialect::Legacy, Level::Pod, &spec.whole());
        try_all(&Cgroup::at(&mirror), &whole)?;
        for ((container, share), directory) in spec.containers.iter().zip(shares).zip(leaves) {
            let settings = settings_of(controller, Dialect::Legacy, spec, container);
            try_all(&Cgroup::at(&directory), &settings)?;
            share.legacy.push(Legacy { directory, settings });
        }
        if controller == Controller::Cpu {
            weigh_up(&mirror, mount, Dialect::Legacy);
        }
        Ok(())
    }

    /// What a place and its namespace weigh follows from the pods that are left.
    pub(crate) fn weigh(&self, pod: &Path) {
        match self.homes.get(&Controller::Cpu) {
            Some(Home::Unified) => weigh_up(pod, &self.unified, Dialect::Unified),
            Some(Home::Legacy(mount)) => {
                if let Some(mirror) = self.mirror(mount, pod) {
                    weigh_up(&mirror, mount, Dialect::Legacy);
                }
            }
            _ => {}
        }
    }

    /// The mounts of v1 that are used, each once: a mount can have several controllers.
    fn legacy(&self) -> BTreeSet<&Path> {
        fn legacy(home: &Home) -> Option<&Path> {
            match home {
                Home::Legacy(mount) => Some(mount),
                Home::Unified | Home::Nowhere(_) => None,
            }
        }
        self.homes.values().filter_map(legacy).collect()
    }

    /// The directory of the same name in another hierarchy.
    fn mirror(&self, mount: &Path, cgroup: &Path) -> Option<PathBuf> {
        mounts::mirror(mount, &self.unified, cgroup)
    }
}

impl Home {
    /// `v2` are the controllers that the hierarchy of v2 has.
    fn find(controller: Controller, v2: &str, mountinfo: &[u8]) -> Self {
        let name = controller.as_str();
        if v2.split_whitespace().any(|one| one == name) {
            return Self::Unified;
        }
        match mounts::legacy(mountinfo, name) {
            Some(mount) => Self::Legacy(mount),
            None => Self::Nowhere("no cgroup hierarchy here has this controller".to_owned()),
        }
    }
}

/// Limits that nothing here enforces are passed over, unless the template wants them enforced.
fn warn_or_refuse(unenforced: &[String], pod: &Cgroup, spec: &PodSpec) -> Result<(), String> {
    if unenforced.is_empty() {
        return Ok(());
    }
    let line = format!("limits that this machine can't enforce: {}", unenforced.join("; "));
    if spec.limits_required {
        return Err(line);
    }
    tracing::warn!(cgroup = %pod.path().display(), "{line}");
    Ok(())
}

/// Why one controller does not hold a pod.
enum Failed {
    Missing(String),
    Io(PathBuf, io::Error),
}

fn settings_of(
    controller: Controller,
    dialect: Dialect,
    spec: &PodSpec,
    container: &ContainerSpec,
) -> Vec<Setting> {
    files::settings(controller, dialect, Level::Container, &spec.share_of(container))
}

#[cfg(test)]
mod tests {
    use super::*;
    use everynode_agent_core::Resources;
    use std::time::Duration;

    /// A machine that only looks like one: a hierarchy of v2 and, for some controllers, one of v1.
    struct Fake {
        directory: tempfile::TempDir,
        controllers: Controllers,
        pod: Cgroup,
    }

    impl Fake {
        fn new(homes: &[(Controller, &str)]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let unified = directory.path().join("unified");
            let pod = unified.join("root/default/d-x/mark");
            fs::create_dir_all(pod.join("c-a")).unwrap();
            for path in pod.join("c-a").ancestors().take_while(|path| path.starts_with(&unified)) {
                let files =
                    ["cgroup.subtree_control", "cpu.weight", "cpu.max", "memory.max", "pids.max"];
                files.iter().for_each(|file| fs::write(path.join(file), "").unwrap());
            }
            let home = |(controller, home): &(Controller, &str)| {
                let home = match *home {
                    "v2" => Home::Unified,
                    "" => Home::Nowhere("nowhere".into()),
                    mount => Home::Legacy(directory.path().join(mount)),
                };
                (*controller, home)
            };
            let homes = homes.iter().map(home).collect();
            let controllers = Controllers { unified, homes };
            Self { directory, controllers, pod: Cgroup::at(pod) }
        }

        fn read(&self, file: &str) -> String {
            fs::read_to_string(self.directory.path().join(file)).unwrap()
        }
    }

    fn spec(resources: Resources, limits_required: bool) -> PodSpec {
        let container = ContainerSpec { name: "a".into(), resources, ..ContainerSpec::default() };
        let containers = vec![container];
        PodSpec { containers, grace: Duration::ZERO, limits_required, ..PodSpec::default() }
    }

    fn memory(bytes: u64) -> Resources {
        Resources { memory_limit: Some(bytes), ..Resources::default() }
    }

    #[test]
    fn controllers_of_v2_are_switched_on_on_the_way_down_and_hold_pod_and_leaf() {
        let fake = Fake::new(&[(Controller::Cpu, "v2"), (Controller::Memory, "v2")]);
        let shares = fake.controllers.hold(&fake.pod, &spec(memory(4096), true)).unwrap();
        for level in ["", "root", "root/default", "root/default/d-x", "root/default/d-x/mark"] {
            let on = fake.read(&format!("unified/{level}/cgroup.subtree_control"));
            // What is written last is all that a file of the fake holds.
            assert_eq!(on, "+memory", "{level}");
        }
        assert_eq!(fake.read("unified/root/default/d-x/mark/c-a/cgroup.subtree_control"), "");
        assert_eq!(fake.read("unified/root/default/d-x/mark/memory.max"), "4096");
        assert_eq!(fake.read("unified/root/default/d-x/mark/c-a/memory.max"), "4096");
        let files: Vec<_> = shares[0].leaf.iter().map(|setting| &setting.file).collect();
        assert_eq!(files, ["cpu.weight", "memory.max", "memory.swap.max", "memory.oom.group"]);
        assert_eq!(shares[0].legacy, []);
    }

    #[test]
    fn in_v1_a_pod_has_directories_of_the_same_names_where_it_asks() {
        let fake = Fake::new(&[(Controller::Memory, "memory"), (Controller::Pids, "pids")]);
        let mirror = fake.directory.path().join("memory/root/default/d-x/mark");
        fs::create_dir_all(mirror.join("c-a")).unwrap();
        for path in [mirror.clone(), mirror.join("c-a")] {
            fs::write(path.join("memory.limit_in_bytes"), "").unwrap();
        }
        let shares = fake.controllers.hold(&fake.pod, &spec(memory(4096), true)).unwrap();
        assert_eq!(fake.read("memory/root/default/d-x/mark/memory.limit_in_bytes"), "4096");
        assert_eq!(shares[0].legacy[0].directory, mirror.join("c-a"));
        assert_eq!((shares[0].legacy.len(), shares[0].leaf.len()), (1, 0));
        assert!(!fake.directory.path().join("pids").exists(), "nobody has asked for it");
    }

    #[test]
    fn a_limit_that_nothing_enforces_keeps_only_those_pods_from_running_that_require_it() {
        let homes = [(Controller::Memory, ""), (Controller::Pids, "")];
        let fake = Fake::new(&homes);
        assert!(fake.controllers.hold(&fake.pod, &spec(memory(4096), false)).is_ok());
        let error = fake.controllers.hold(&fake.pod, &spec(memory(4096), true)).unwrap_err();
        let line = "limits that this machine can't enforce: memory: nowhere";
        assert_eq!(error.to_string(), line);
        assert!(fake.controllers.hold(&fake.pod, &spec(Resources::default(), true)).is_ok());
        // The hierarchy is there, and the file is not.
        let fake = Fake::new(&[(Controller::Hugetlb, "v2")]);
        let pages = Resources { hugepages: [(2 << 20, 0)].into(), ..Resources::default() };
        let error = fake.controllers.hold(&fake.pod, &spec(pages, true)).unwrap_err();
        assert!(error.to_string().ends_with("this kernel has no hugetlb.2MB.max"), "{error}");
    }

    #[test]
    fn a_namespace_weighs_what_its_places_do() {
        let fake = Fake::new(&[(Controller::Cpu, "v2")]);
        let other = fake.directory.path().join("unified/root/default/d-y");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("cpu.weight"), "100\n").unwrap();
        let cpu = Resources { cpu_request: Some(1000), ..Resources::default() };
        fake.controllers.hold(&fake.pod, &spec(cpu, false)).unwrap();
        assert_eq!(fake.read("unified/root/default/d-x/cpu.weight"), "39");
        assert_eq!(fake.read("unified/root/default/cpu.weight"), "139");
    }

    #[test]
    fn what_limited_a_pod_that_is_gone_is_swept() {
        let fake = Fake::new(&[(Controller::Memory, "memory")]);
        let root = Root::new(&fake.directory.path().join("unified"), Path::new("root")).unwrap();
        let memory = fake.directory.path().join("memory");
        let (lives, gone) = ("root/default/d-x/mark/c-a", "root/other/d-z/mark/c-a");
        for path in [lives, gone] {
            fs::create_dir_all(memory.join(path)).unwrap();
        }
        fake.controllers.sweep(&root);
        assert!(memory.join(lives).exists() && !memory.join("root/other").exists());
        fake.pod.remove_tree().unwrap_err();
        fs::remove_dir_all(fake.pod.path()).unwrap();
        fake.controllers.release(&fake.pod);
        assert!(memory.exists() && !memory.join("root").exists());
    }
}
