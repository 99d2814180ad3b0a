//! Other limits for a pod that runs, as another revision's template says.

use everynode_agent_core::{Event, PodRef};
use everynode_model::{Digest, Labels, Reason, SetUid};
use everynode_runtime::{ResizeError, ResizeRequest};

use super::act::Doer;

impl Doer {
    /// Brings a pod to the limits of that revision.
    pub(super) fn resize(&self, pod: PodRef, to: (SetUid, Digest, u64)) {
        let (this, revision) = (self.clone(), to.1);
        tokio::spawn(async move {
            let event = match this.try_resize(&pod, to).await {
                Ok(()) => {
                    tracing::info!(%pod, revision = revision.short(), "its limits are changed");
                    Event::Resized { pod, revision }
                }
                Err((reason, in_doubt)) => {
                    tracing::warn!(%pod, %reason, in_doubt, "its limits are not changed");
                    Event::ResizeFailed { pod, revision, reason, in_doubt }
                }
            };
            this.say(event).await;
        });
    }

    /// On failure: why, and whether nobody knows to which limits it is held.
    async fn try_resize(
        &self,
        pod: &PodRef,
        (set, revision, replace): (SetUid, Digest, u64),
    ) -> Result<(), (Reason, bool)> {
        let unread = |(reason, _)| (reason, false);
        let content = self.body(revision).await.map_err(unread)?;
        // What it reads of labels is in its variables, and those it keeps.
        let spec = self.spec(pod, &content, Labels::new()).await.map_err(unread)?;
        let request = ResizeRequest { set, revision, replace, spec };
        let failed = |error: ResizeError| (error.reason(), error.in_doubt());
        self.runtime().resize(pod, request).await.map_err(failed)
    }
}
