//! One try at a time for each place: another asked for in the same place ends the one before.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use everynode_agent_core::{Event, PodRef, Unstaged};
use everynode_model::{Digest, Labels, PodKey, PodUid, Reason};
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::act::Doer;
use crate::artifacts::Wanted;
use crate::body;
use crate::random::Random;
use crate::stage::{self, Stage, Tell};

/// What brings here and checks what pods need, and what of that is under way.
#[derive(Clone)]
pub(super) struct Stager {
    stage: Arc<dyn Stage>,
    random: Arc<Mutex<Random>>,
    /// As many as there are places.
    under_way: Arc<Mutex<BTreeMap<PodKey, AbortHandle>>>,
}

impl Stager {
    pub(super) fn new(stage: Arc<dyn Stage>, random: Random) -> Self {
        let random = Arc::new(Mutex::new(random));
        Self { stage, random, under_way: Arc::default() }
    }

    /// Where what was delivered is.
    pub(super) fn directory(&self) -> PathBuf {
        self.stage.directory()
    }

    /// Has what was delivered cleared away, but for this.
    pub(super) fn keep_artifacts(&self, wanted: Wanted) {
        self.stage.keep(wanted);
    }

    fn failed(&self, (reason, retry): (Reason, bool), tries: u32) -> Unstaged {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = stage::failed(reason, tries, &mut random);
        Unstaged { again: failed.again.filter(|_| retry), ..failed }
    }

    fn keep(&self, key: PodKey, task: AbortHandle) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|_, task| !task.is_finished());
        if let Some(overtaken) = under_way.insert(key, task) {
            overtaken.abort();
        }
    }
}

impl Doer {
    /// Has what a pod of this revision needs brought here and checked.
    pub(super) fn stage(&self, key: PodKey, revision: Digest, tries: u32) {
        let (this, place) = (self.clone(), key.clone());
        let task = tokio::spawn(async move {
            let tried = this.try_stage(&key, revision).await;
            let outcome = tried.map_err(|why| {
                tracing::warn!(place = %key, revision = revision.short(), "not staged: {}", why.0);
                this.stager.failed(why, tries)
            });
            this.say(Event::Staged { key, revision, outcome }).await;
        });
        self.stager.keep(place, task.abort_handle());
    }

    /// On failure: why, and whether another try may help.
    async fn try_stage(&self, key: &PodKey, revision: Digest) -> Result<(), (Reason, bool)> {
        // Of no pod yet; what its id is does not matter for what it needs.
        let pod = PodRef { key: key.clone(), uid: PodUid::new(Uuid::nil()) };
        let content = self.body(revision).await?;
        let spec = self.spec(&pod, &content, Labels::new()).await?;
        let delivered = body::artifacts_of(&content);
        let keyring = body::keyring_of(&content, &self.contents(&content).await);
        let tell = self.tells(key.clone(), revision);
        let staged = self.stager.stage.stage(spec, delivered, keyring, tell).await;
        staged.map_err(|reason| (reason, true))
    }

    /// Tells the core how far it is, once in the same words. Where it has much else to hear, it does
    /// not hear of that.
    fn tells(&self, key: PodKey, revision: Digest) -> Tell {
        let (answers, said) = (self.answers.clone(), Mutex::new(String::new()));
        Arc::new(move |line| {
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            if *said != line {
                said.clone_from(&line);
                let _ = answers.try_send(Event::Staging { key: key.clone(), revision, line });
            }
        })
    }
}
