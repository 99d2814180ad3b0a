//! Forces a place empty, or one pod of it: everything in it that bears certain clusters' marks, and
//! nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use everynode_agent_core::PodRef;
use everynode_model::{ClusterId, PodKey};

use super::{Inner, blocking};
use crate::cgroup::Cgroup;
use crate::error::KillError;
use crate::place::{Mark, container_leaf};
use crate::watch::Spot;

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
    inner.watch.arm_stopping(&Spot::Place(key.clone()), inner.root.place(key)).await;
    let (shared, place, clusters) = (Arc::clone(inner), key.clone(), clusters.clone());
    blocking(move || shared.kill_place(&place, &clusters)).await
}

pub(super) async fn kill_pod(
    inner: &Arc<Inner>,
    pod: &PodRef,
    clusters: &BTreeSet<ClusterId>,
) -> Result<(), KillError> {
    let place = inner.root.place(&pod.key);
    let pods = inner.root.pods(&pod.key).map_err(|source| KillError::io(place.path(), source))?;
    let ours = |mark: &Mark| mark.pod == pod.uid && clusters.contains(&mark.marks.cluster);
    let found = pods.into_iter().find_map(|(cgroup, mark)| Some((cgroup, mark.filter(ours)?)));
    let spot = Spot::Pod(pod.clone());
    let Some((cgroup, mark)) = found else {
        // Nothing of it is there: a directory that nobody made is as empty as any.
        inner.watch.arm_stopping(&spot, place.child(&pod.uid.to_string())).await;
        return Ok(());
    };
    inner.watch.arm_stopping(&spot, cgroup.clone()).await;
    let shared = Arc::clone(inner);
    blocking(move || shared.force_pod(&cgroup, &mark, KILL_WITHIN)).await
}

/// One container of a pod; its supervisor tells of its end. By the cgroup, and not by the
/// supervisor: so it is done also where that does not answer.
pub(super) async fn kill_container(
    inner: &Arc<Inner>,
    pod: &PodRef,
    container: &str,
) -> Result<(), KillError> {
    let place = inner.root.place(&pod.key);
    let found = inner.root.found(&pod.key, pod.uid);
    let found = found.map_err(|source| KillError::io(place.path(), source))?;
    let Some((cgroup, _)) = found else { return Ok(()) };
    let (leaf, force) = (cgroup.child(&container_leaf(container)), inner.force);
    blocking(move || match leaf.force_until_empty(force, KILL_WITHIN) {
        Ok(true) => Ok(()),
        Ok(false) => Err(KillError::StillAlive(who(&leaf))),
        Err(source) => Err(KillError::io(leaf.path(), source)),
    })
    .await
}

impl Inner {
    /// Kills all of one pod, and sees it empty.
    fn force_pod(&self, pod: &Cgroup, mark: &Mark, within: Duration) -> Result<(), KillError> {
        if let Some(link) = self.links().get(&mark.pod) {
            link.expect_death();
        }
        match pod.force_until_empty(self.force, within) {
            Ok(true) => Ok(()),
            Ok(false) => Err(KillError::StillAlive(who(pod))),
            Err(source) => Err(KillError::io(pod.path(), source)),
        }
    }

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
            // Each is forced at least once: one that can't die does not protect the others.
            let left = KILL_WITHIN.saturating_sub(start.elapsed());
            let outcome = self.force_pod(pod, &mark, left).err();
            failed = failed.or(outcome);
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
