//! What all scenarios of a run stand on: where the programs are, and names that no other run has.
//!
//! Everything that is made is named `en-e2e-PID-…`, with the pid of the run, so that the next run
//! can remove what one that was killed has left, and two runs do not disturb each other.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::failure::{Context as _, Outcome};
use crate::proc::Process;
use crate::{cgroups, disk, ensure, failure, limits, net};

/// The beginning of every name that a run makes.
const PREFIX: &str = "en-e2e";

/// Where directories of fleets are made: short, because sockets in them have paths of at most 107
/// bytes.
const TEMPORARY: &str = "/tmp";

/// Where to stand.
#[derive(Debug)]
pub struct Ground {
    /// Where the programs are: beside this test's own directory.
    programs: PathBuf,
    fleets: AtomicU32,
}

impl Ground {
    /// Finds the programs and removes what runs that are over have left.
    ///
    /// # Errors
    /// When the programs are not there, or something left over can't be removed.
    pub fn find() -> Outcome<Self> {
        let test = std::env::current_exe()?;
        let programs = test.ancestors().find(|dir| dir.join("everynode-agent").is_file());
        let programs = programs.ok_or_else(|| {
            failure!(
                "everynode-agent is not built beside {}: run tests/run, or cargo build \
                 --workspace --all-targets before",
                test.display()
            )
        })?;
        let ground = Self { programs: programs.to_owned(), fleets: AtomicU32::new(1) };
        for program in ["everynode-coordinator", "everynode", "everynode-witness"] {
            ensure!(ground.program(program).is_file(), "{program} is not built");
        }
        clean()?;
        Ok(ground)
    }

    /// The path of one of the programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// A tool that is no part of the project: where `tests/run` puts it, else in `$PATH`.
    pub fn tool(&self, name: &str) -> Option<PathBuf> {
        let beside = self.programs.parent().map(|target| target.join("tools"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs = beside.into_iter().chain(std::env::split_paths(&path));
        dirs.map(|dir| dir.join(name)).find(|file| file.is_file())
    }

    /// A name for one more fleet.
    pub fn name(&self) -> String {
        let number = self.fleets.fetch_add(1, Ordering::Relaxed);
        format!("{PREFIX}-{}-{number}", std::process::id())
    }

    /// A directory for the fleet of this name.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn dir(name: &str) -> Outcome<PathBuf> {
        let dir = Path::new(TEMPORARY).join(name);
        fs::create_dir_all(&dir).context(dir.display())?;
        Ok(dir)
    }
}

/// Removes what runs that are over have left: processes, cgroups, namespaces, directories.
fn clean() -> Outcome {
    let mount = cgroups::mount()?;
    for cgroup in stale(&mount) {
        cgroups::wipe(&cgroup)?;
    }
    for group in limits::CONTROLLERS.iter().filter_map(|name| limits::mount(name)) {
        for dir in stale(&group) {
            // What is alive in it is another's; then it stays.
            let _ = fs::remove_dir(dir);
        }
    }
    for namespace in stale(Path::new(net::NAMESPACES)) {
        net::remove(&namespace)?;
    }
    for dir in stale(Path::new(TEMPORARY)) {
        disk::unmount_below(&dir)?;
        fs::remove_dir_all(&dir).context(dir.display())?;
    }
    Ok(())
}

/// The entries of a directory that were made by a run that is over.
fn stale(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let over = |name: &String| run_of(name).is_some_and(|pid| Process::of(pid).is_none());
    names.filter(over).map(|name| dir.join(name)).collect()
}

fn run_of(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.strip_prefix('-')?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_known_by_the_names_it_gives() {
        assert_eq!(run_of("en-e2e-123-4"), Some(123));
        assert_eq!(run_of("en-e2e-123-4-n1"), Some(123));
        for other in ["en-e2e", "en-e2e-", "en-e2e-x-1", "docker", "en-e2e2-1"] {
            assert_eq!(run_of(other), None, "{other}");
        }
    }
}
