//! To which limits a pod that runs is to be held instead of those that it has.
//!
//! Nothing is made and nothing is written here: its supervisor writes it all, in one go. What its new
//! limits leave out is written as no limit, because the old ones may have had one. Where a hierarchy of
//! v1 has a controller, a pod that has asked for nothing of it is in none of its cgroups: its processes
//! would bring along none of the memory that they have, so that they would be held to more than they
//! may. Such a pod is refused, and made anew.

use std::path::Path;

use everynode_agent_core::{PodSpec, Resources};

use super::files::{self, Dialect, Level, Setting};
use super::{Controller, Controllers, Home, Legacy, Share, warn_or_refuse};
use crate::cgroup::Cgroup;
use crate::error::ResizeError;
use crate::place::container_leaf;

/// What holds a pod as a whole, and each of its containers, in their order.
pub(crate) struct Shares {
    pub(crate) whole: Share,
    pub(crate) containers: Vec<Share>,
}

impl Controllers {
    /// What this pod, which is made, is to be held to as `spec` says.
    ///
    /// # Errors
    /// Where it has to be made anew for that, or this machine can't.
    pub(crate) fn shares_of(&self, pod: &Cgroup, spec: &PodSpec) -> Result<Shares, ResizeError> {
        let containers = vec![Share::default(); spec.containers.len()];
        let mut shares = Shares { whole: Share::default(), containers };
        let mut unenforced = Vec::new();
        for (controller, home) in &self.homes {
            let asked = controller.is_asked(spec);
            match home {
                Home::Unified if *controller == Controller::Hugetlb && !asked => {}
                Home::Unified => {
                    let missing = add_unified(*controller, pod, spec, &mut shares);
                    if let Some(why) = missing.filter(|_| asked) {
                        return Err(ResizeError::NotInPlace(format!("{controller}: {why}")));
                    }
                }
                Home::Legacy(mount) => {
                    let mirror = self.mirror(mount, pod.path()).filter(|mirror| mirror.is_dir());
                    match mirror {
                        Some(mirror) => add_legacy(*controller, &mirror, spec, &mut shares),
                        None if asked => return Err(not_held(*controller)),
                        None => {}
                    }
                }
                Home::Nowhere(why) if asked => unenforced.push(format!("{controller}: {why}")),
                Home::Nowhere(_) => {}
            }
        }
        warn_or_refuse(&unenforced, pod, spec).map_err(ResizeError::NotEnforced)?;
        Ok(shares)
    }
}

fn not_held(controller: Controller) -> ResizeError {
    let line = format!(
        "{controller}: cgroup v1 has this controller here, and a pod that has asked for nothing of it \
         can't be put under it as it runs"
    );
    ResizeError::NotInPlace(line)
}

/// Adds what a controller of v2 holds it to; else what its cgroup lacks for that, as it may where it was
/// made when the controller could not be switched on. One that is made anew has it, if this machine can.
fn add_unified(
    controller: Controller,
    pod: &Cgroup,
    spec: &PodSpec,
    shares: &mut Shares,
) -> Option<String> {
    let whole = all(controller, Dialect::Unified, Level::Pod, &spec.whole());
    let lacks = |setting: &&Setting| !setting.weak && !pod.file(&setting.file).exists();
    if let Some(Setting { file, .. }) = whole.iter().find(lacks) {
        return Some(format!(
            "there is no {file}, so the pod was made where that was not switched on"
        ));
    }
    shares.whole.leaf.extend(whole);
    for (container, share) in spec.containers.iter().zip(&mut shares.containers) {
        let of = spec.share_of(container);
        share.leaf.extend(all(controller, Dialect::Unified, Level::Container, &of));
    }
    None
}

fn add_legacy(controller: Controller, mirror: &Path, spec: &PodSpec, shares: &mut Shares) {
    let legacy = |directory, level, of: &Resources| Legacy {
        directory,
        settings: all(controller, Dialect::Legacy, level, of),
    };
    shares.whole.legacy.push(legacy(mirror.to_owned(), Level::Pod, &spec.whole()));
    for (container, share) in spec.containers.iter().zip(&mut shares.containers) {
        let directory = mirror.join(container_leaf(&container.name));
        share.legacy.push(legacy(directory, Level::Container, &spec.share_of(container)));
    }
}

/// What [`files::settings`] says, and of what it says nothing that there is no limit.
fn all(controller: Controller, dialect: Dialect, level: Level, of: &Resources) -> Vec<Setting> {
    let mut settings = files::settings(controller, dialect, level, of);
    for free in files::unlimited(controller, dialect, level) {
        if settings.iter().all(|setting| setting.file != free.file) {
            settings.push(free);
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_limited_any_more_is_said_to_be_free() {
        let lines = |controller, dialect, level, of: &Resources| {
            let settings = all(controller, dialect, level, of).into_iter();
            let lines = settings.map(|setting| format!("{}={}", setting.file, setting.value));
            lines.collect::<Vec<_>>().join(" ")
        };
        let nothing = Resources::default();
        for (controller, dialect, level, expected) in [
            (Controller::Cpu, Dialect::Unified, Level::Pod, "cpu.weight=1 cpu.max=max 100000"),
            (Controller::Cpu, Dialect::Legacy, Level::Pod, "cpu.shares=2 cpu.cfs_quota_us=-1"),
            (Controller::Memory, Dialect::Unified, Level::Pod, "memory.max=max"),
            (
                Controller::Memory,
                Dialect::Unified,
                Level::Container,
                "memory.oom.group=1 memory.max=max memory.swap.max=max",
            ),
            (
                Controller::Memory,
                Dialect::Legacy,
                Level::Container,
                "memory.limit_in_bytes=-1 memory.memsw.limit_in_bytes=-1",
            ),
            (Controller::Pids, Dialect::Legacy, Level::Pod, "pids.max=max"),
            (Controller::Pids, Dialect::Legacy, Level::Container, ""),
        ] {
            assert_eq!(lines(controller, dialect, level, &nothing), expected);
        }
        let of = Resources {
            cpu_limit: Some(500),
            memory_limit: Some(4096),
            pids_limit: Some(3),
            ..nothing
        };
        for controller in Controller::ALL {
            for dialect in [Dialect::Unified, Dialect::Legacy] {
                let plain = files::settings(controller, dialect, Level::Pod, &of);
                assert_eq!(all(controller, dialect, Level::Pod, &of), plain);
            }
        }
    }
}
