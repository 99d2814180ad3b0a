//! What a place remembers between two pods: how often they failed, and when the next may be made.

use everynode_model::{Failure, FormerFailure, Reason, Timestamp};

use super::{Turn, Wait};
use crate::backoff::Backoff;
use crate::pod::{Identity, Pod};
use crate::words::next_try;

/// What a place remembers between two pods made from the same: the count goes on, and so does the
/// back-off. A pod made from something else, or after an ordered stop, starts anew; but what went
/// wrong last with the one before stays, for people.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) identity: Option<Identity>,
    pub(crate) restarts: u64,
    pub(crate) times_unready: u64,
    pub(crate) last_failure: Option<Failure>,
    pub(crate) former: Option<FormerFailure>,
    backoff: Backoff,
    retry: Option<Wait>,
    refused: Option<Reason>,
}

impl Memory {
    /// What is remembered for a pod made from something else, where `failed` is what went wrong with
    /// the one that is taken down.
    pub(crate) fn anew(&self, identity: Option<Identity>, failed: Option<FormerFailure>) -> Self {
        let waited = self.identity.zip(self.last_failure.clone());
        let waited = waited.map(|(it, failure)| FormerFailure { revision: it.revision, failure });
        let former = failed.or(waited).or_else(|| self.former.clone());
        Self { identity, former, ..Self::default() }
    }

    pub(super) fn failed(&mut self, pod: &Pod, why: &Reason, retry: bool, turn: &Turn<'_>) {
        self.identity = Some(pod.identity);
        self.restarts = pod.restarts_when_made_anew();
        self.times_unready = pod.times_unready;
        self.last_failure.clone_from(&pod.last_failure);
        if (!retry && !mutated!(RetryRefused)) || mutated!(NeverRetry) {
            self.refused = Some(why.clone());
            return;
        }
        let policy = turn.policy.with(pod.restart);
        let wait = self.backoff.failed(&policy, pod.age(turn.now.steady));
        self.retry = Some(Wait {
            reason: Reason::new(why.code.clone(), next_try(&why.message, wait, turn.now)),
            until: Some(turn.now.steady.after(wait)),
        });
    }

    pub(super) fn hindrance(&self, now: Timestamp) -> Option<Wait> {
        let refused = self.refused.as_ref();
        refused.map(|reason| Wait { reason: reason.clone(), until: None }).or_else(|| {
            self.retry.clone().filter(|wait| wait.until.is_some_and(|until| until > now))
        })
    }
}
