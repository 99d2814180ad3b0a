//! Clears away what an agent's end, or the machine's, has left behind.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use everynode_agent_core::Found;
use everynode_model::PodUid;

use super::connect::connect;
use super::{Inner, blocking, tree};

/// Removes, once, the directories of pods that are not on this machine any more: after a reboot no
/// cgroup is left to speak of them. To be called with all that was found, before anything is made.
pub(super) async fn pods(inner: &Arc<Inner>, found: &[Found]) {
    if inner.swept.swap(true, Ordering::AcqRel) {
        return;
    }
    let known: BTreeSet<PodUid> = found.iter().filter_map(|found| found.pod).collect();
    let parents: Vec<_> = inner.spare_dir.iter().chain([&inner.run_dir]).cloned().collect();
    let strangers = move || parents.iter().flat_map(|parent| strangers(parent, &known)).collect();
    let abandoned: Vec<PathBuf> = blocking(strangers).await;
    for directory in abandoned {
        // Under another cgroup root a pod may live that had the same directories.
        if is_abandoned(&directory).await {
            tracing::info!(directory = %directory.display(), "removing what a pod left behind");
            let path = directory.clone();
            if let Err(error) = blocking(move || tree::remove(&path)).await {
                tracing::warn!(directory = %directory.display(), %error, "it was left there");
            }
        }
    }
}

impl Inner {
    /// Removes empty directories of places; others refuse. What limited pods that are gone goes,
    /// too.
    pub(super) fn sweep_places(&self) {
        self.controllers.sweep(&self.root);
        for key in self.root.places().unwrap_or_default() {
            let _ = self.root.place(&key).remove();
            let _ = self.root.namespace(&key).remove();
        }
    }
}

/// The directories of pods that are not known, by their names as we write them.
fn strangers(run_dir: &Path, known: &BTreeSet<PodUid>) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(run_dir).into_iter().flatten().flatten();
    let is_stranger = |name: &str| match name.parse::<PodUid>() {
        Ok(pod) => pod.to_string() == name && !known.contains(&pod),
        Err(_) => false,
    };
    entries
        .filter(|entry| entry.file_name().to_str().is_some_and(is_stranger))
        .map(|entry| entry.path())
        .collect()
}

/// Whether no supervisor holds the socket there.
async fn is_abandoned(directory: &Path) -> bool {
    match connect(directory).await {
        Ok(_) => false,
        Err(error) => {
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
        }
    }
}
