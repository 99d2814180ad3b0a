//! Removes what a dead pod left: its cgroups, its place where no other pod has it, its directory.

use std::sync::Arc;

use everynode_agent_core::PodRef;

use super::{Inner, blocking};
use crate::error::RemoveError;
use crate::watch::Spot;

pub(super) async fn remove(inner: &Arc<Inner>, pod: &PodRef) -> Result<(), RemoveError> {
    let (shared, pod) = (Arc::clone(inner), pod.clone());
    blocking(move || shared.remove_pod(&pod)).await
}

impl Inner {
    fn remove_pod(&self, pod: &PodRef) -> Result<(), RemoveError> {
        let place = self.root.place(&pod.key);
        let at = |source| RemoveError::io(place.path(), source);
        for (cgroup, mark) in self.root.pods(&pod.key).map_err(at)? {
            if mark.is_none_or(|mark| mark.pod != pod.uid) {
                continue;
            }
            if cgroup.populated().map_err(at)? {
                return Err(RemoveError::Alive(pod.clone()));
            }
            cgroup.remove_tree().map_err(at)?;
            self.controllers.release(&cgroup);
        }
        self.links().remove(&pod.uid);
        self.watch.forget(&Spot::Pod(pod.clone()));
        self.watch.remove(&pod.key, &place);
        // Other places of the namespace keep it.
        let _ = self.root.namespace(&pod.key).remove();
        self.remove_directories(pod.uid).map_err(|(path, source)| RemoveError::io(path, source))
    }
}
