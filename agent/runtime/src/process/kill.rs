//! Forces a place empty: everything in it that bears certain clusters' marks, and nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use everynode_model::{ClusterId, PodKey};

use super::{Inner, blocking};
use crate::cgroup::Cgroup;
use crate::error::KillError;

/// How long one call tries; the caller repeats it. What can die is dead within milliseconds.
const KILL_WITHIN: Duration = Duration::from_secs(2);

/// How many of those still alive are named.
const NAMED: usize = 3;

pub(super) async fn kill(
    inner: &Arc<Inner>,
    key: &PodKey,
    clusters: &BTreeSet<ClusterId>,
) -> Result<(), KillError> {
    // First, so that its end is told once, and told also where it has come already.
    inner.watch.arm_stopping(key, inner.root.place(key)).await;
    let (shared, place, clusters) = (Arc::clone(inner), key.clone(), clusters.clone());
    blocking(move || shared.kill_place(&place, &clusters)).await
}

impl Inner {
    fn kill_place(&self, key: &PodKey, clusters: &BTreeSet<ClusterId>) -> Result<(), KillError> {
        let place = self.root.place(key);
        let at = |source| KillError::io(place.path(), source);
        let start = Instant::now();
        let pods = self.root.pods(key).map_err(at)?;
        let mut failed = None;
        let mut strangers = Vec::new();
        for (pod, mark) in &pods {
            let Some(mark) = mark.filter(|mark| clusters.contains(&mark.marks.cluster)) else {
                strangers.push(pod);
                continue;
            };
            if let Some(link) = self.links().get(&mark.pod) {
                link.expect_death();
            }
            // Each is forced at least once: one that can't die does not protect the others.
            let left = KILL_WITHIN.saturating_sub(start.elapsed());
            match pod.force_until_empty(self.force, left) {
                Ok(true) => {}
                Ok(false) => failed = failed.or_else(|| Some(KillError::StillAlive(who(pod)))),
                Err(source) => failed = failed.or_else(|| Some(KillError::io(pod.path(), source))),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        match strangers.into_iter().find(|pod| pod.populated().unwrap_or(true)) {
            Some(pod) => Err(KillError::NotOurs(pod.path().to_owned())),
            None if place.populated().map_err(at)? => {
                Err(KillError::NotOurs(place.path().to_owned()))
            }
            None => Ok(()),
        }
    }
}

/// Some of those alive, with what the kernel says of them: `D` is an uninterruptible wait.
fn who(pod: &Cgroup) -> String {
    let pids = pod.pids().unwrap_or_default();
    let named: Vec<String> = pids.iter().take(NAMED).map(|pid| describe(*pid)).collect();
    match pids.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

fn describe(pid: i32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // proc_pid_stat(5): `pid (name) state …`, and the name may hold anything.
    let named = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(") "));
    match named {
        Some((name, rest)) => {
            format!("process {pid} ({name}, state {})", rest.chars().next().unwrap_or('?'))
        }
        None => format!("process {pid}"),
    }
}
