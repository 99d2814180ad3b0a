//! The end: every node is deregistered, everything stops in order, and nothing is left behind.
//!
//! ```text
//!   delete nodes ──> agents stop their pods, confirm, end ──> coordinator ends ──┐
//!        │ takes too long, or Ctrl-C again                                       v
//!        └──────────> kill what is left ──> remove files and cgroups ──> look for leftovers
//! ```

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::census::{count, mentioning};
use super::fleet::Fleet;
use super::signals::Signals;
use crate::error::Error;
use crate::out::Out;

/// How long agents may take to stop their pods and say so: the example's grace period, twice, and
/// the time to connect anew.
const AGENTS_LEAVE: Duration = Duration::from_secs(30);
/// How long a process that was asked to end may take to do so.
const PROCESS_ENDS: Duration = Duration::from_secs(10);
/// How long what was killed may take to be gone.
const KILLED_GONE: Duration = Duration::from_secs(10);

/// Removes every trace of the demo; an error names what is left.
pub(super) async fn run(
    fleet: &mut Fleet,
    signals: &mut Signals,
    out: &mut Out,
) -> Result<(), Error> {
    out.note(
        "everything stops: nodes are deleted, agents stop their pods and confirm (Ctrl-C: at once)",
    );
    let in_order = tokio::select! {
        in_order = leave(fleet, out) => in_order,
        () = signals.next() => false,
    };
    if !in_order {
        out.note("not everything has stopped by itself: killing the rest");
    }
    // Dropping a process kills it and waits for its end.
    fleet.nodes.iter_mut().for_each(|node| node.agent = None);
    fleet.coordinator = None;
    empty_cgroups(fleet).await;
    let removed = remove(fleet);
    let mut left = leftovers(fleet);
    left.extend(removed.err().map(|error| error.to_string()));
    if !left.is_empty() {
        return Err(Error::Failed(format!("left behind:\n  {}", left.join("\n  "))));
    }
    out.line("nothing left behind: no process, no cgroup, no file")
}

/// Everything in order; whether it went so.
async fn leave(fleet: &mut Fleet, out: &mut Out) -> bool {
    let mut in_order = true;
    for index in 0..fleet.nodes.len() {
        in_order &= ask_to_leave(fleet, index, out).await;
    }
    let end = Instant::now() + AGENTS_LEAVE;
    for node in &mut fleet.nodes {
        let Some(agent) = &mut node.agent else { continue };
        if !agent.ends(end.saturating_duration_since(Instant::now())).await {
            out.note(format!("{}: its agent has not confirmed in time", node.name));
            agent.stop(PROCESS_ENDS).await;
            in_order = false;
        }
    }
    if let Some(coordinator) = &mut fleet.coordinator {
        coordinator.terminate();
        in_order &= coordinator.ends(PROCESS_ENDS).await;
    }
    in_order
}

/// Deregisters a node, whose agent is started again where it is down: only it can stop its pods
/// in order.
async fn ask_to_leave(fleet: &mut Fleet, index: usize, out: &mut Out) -> bool {
    let Some(node) = fleet.nodes.get_mut(index) else { return true };
    let name = node.name.clone();
    let (down, removed) = (!node.agent.as_mut().is_some_and(|agent| agent.runs()), node.removed);
    if down && removed {
        return true;
    }
    if down && let Err(error) = fleet.start_agent(index) {
        out.note(format!("{name}: {error}"));
        return false;
    }
    if removed {
        return true;
    }
    match fleet.remove_node(index).await {
        Ok(()) => true,
        // It had not joined yet: it has nothing to stop, and does not know that it should end.
        Err(error) if error.is_not_found() => {
            if let Some(node) = fleet.nodes.get_mut(index) {
                node.agent = None;
            }
            true
        }
        Err(error) => {
            out.note(format!("{name}: {error}"));
            false
        }
    }
}

/// Kills what still runs in the demo's cgroups.
async fn empty_cgroups(fleet: &Fleet) {
    let end = Instant::now() + KILLED_GONE;
    let cgroups = &fleet.place.cgroups;
    loop {
        let processes = count(cgroups, &fleet.place.mark).processes;
        if processes.is_empty() || Instant::now() >= end {
            return;
        }
        // Kernels before 5.14 have no cgroup.kill; there each process is killed by itself, again
        // until there are no more.
        if fs::write(cgroups.join("cgroup.kill"), "1").is_err() {
            let pids = processes.iter().filter(|pid| **pid > 0);
            pids.for_each(|pid| {
                super::processes::signal(pid.unsigned_abs(), rustix::process::Signal::KILL)
            });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn remove(fleet: &Fleet) -> Result<(), Error> {
    for cgroups in fleet.place.all_cgroups() {
        remove_cgroups(&cgroups)?;
    }
    let dir = &fleet.place.dir;
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(dir, error)),
        _ => Ok(()),
    }
}

/// Removes a directory of cgroups from the leaves up; their files can't be removed and need not be.
fn remove_cgroups(directory: &Path) -> Result<(), Error> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|error| failed(directory, error))?,
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroups(&entry.path())?;
        }
    }
    fs::remove_dir(directory).map_err(|error| failed(directory, error))
}

/// What there still is of the demo.
fn leftovers(fleet: &Fleet) -> Vec<String> {
    let place = &fleet.place;
    let mut left: Vec<String> = place
        .all_cgroups()
        .into_iter()
        .chain([place.dir.clone()])
        .filter(|path| path.exists())
        .map(|path| path.display().to_string())
        .collect();
    let mut processes = mentioning(&place.mark);
    processes.extend(mentioning(&place.dir.display().to_string()));
    processes.sort_unstable();
    processes.dedup();
    left.extend(processes.into_iter().map(|(pid, line)| format!("process {pid}: {line}")));
    left
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::File { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_removed_from_the_leaves_up() {
        let root = std::env::temp_dir().join(format!("everynode-teardown-{}", std::process::id()));
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        fs::create_dir_all(root.join("d")).unwrap();
        remove_cgroups(&root).unwrap();
        assert!(!root.exists());
        remove_cgroups(&root).unwrap();
    }
}
