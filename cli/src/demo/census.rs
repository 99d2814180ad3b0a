//! What runs, by the machine's own word: `cgroup.procs` and `/proc`, not ours.
//!
//! A daemon of the demo is a shell that bears the demo's mark as its last argument. One that it has
//! just forked looks the same until it executes something else; it is told apart by its parent.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// How deep cgroups are followed: root, namespace, name, pod, container, and some more.
const MAX_DEPTH: usize = 8;

/// What runs in one node's cgroups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// Every process, supervisors and all.
    pub(super) processes: Vec<i32>,
    /// The daemons: how many instances there are.
    pub(super) instances: Vec<i32>,
}

/// What runs in the cgroups below `root`; nothing where there are none.
pub(super) fn count(root: &Path, mark: &str) -> Count {
    let mut processes = Vec::new();
    gather(root, 0, &mut processes);
    let marked: BTreeMap<i32, i32> = processes
        .iter()
        .filter(|pid| bears(&command_line(**pid), mark))
        .map(|pid| (*pid, parent(*pid)))
        .collect();
    let is_first = |parent: &i32| !marked.contains_key(parent);
    let instances =
        marked.iter().filter(|(_, parent)| is_first(parent)).map(|(pid, _)| *pid).collect();
    Count { processes, instances }
}

/// Every process of the machine, but this one, in whose command line `text` occurs.
pub(super) fn mentioning(text: &str) -> Vec<(i32, String)> {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own)
        .map(|pid| (pid, command_line(pid).join(" ")))
        .filter(|(_, line)| line.contains(text))
        .collect()
}

fn gather(directory: &Path, depth: usize, pids: &mut Vec<i32>) {
    // What vanishes while we look was not running any more.
    let listed = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    pids.extend(listed.lines().filter_map(|line| line.parse::<i32>().ok()));
    if depth == MAX_DEPTH {
        return;
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            gather(&entry.path(), depth + 1, pids);
        }
    }
}

/// The words of a process's command line; none for one that is dead.
fn command_line(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn bears(words: &[String], mark: &str) -> bool {
    words.len() > 1 && words.last().is_some_and(|last| last == mark)
}

fn parent(pid: i32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name stands in parentheses and may hold anything; state and parent follow it.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_word_is_a_mark() {
        let words =
            |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
        assert!(bears(&words("/bin/sh -c x mark"), "mark"));
        assert!(!bears(&words("/bin/sh -c x mark-2"), "mark"));
        assert!(!bears(&words("mark"), "mark"));
        assert!(!bears(&words("everynode-shim: default/mark x"), "mark"));
    }

    #[test]
    fn this_process_has_a_parent_and_is_not_mentioned() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(parent(own), i32::try_from(std::os::unix::process::parent_id()).unwrap());
        assert!(mentioning("").iter().all(|(pid, _)| *pid != own));
        assert_eq!(count(Path::new("/nowhere"), "mark"), Count::default());
    }
}
