//! Staging: what a pod needs is brought here and checked before anything makes room for it.
//!
//! When the core asks is decided there (`agent/core/src/staging.rs`); here is one try of it: the
//! template is one that this agent honours, its host paths are what they have to be, and the program of
//! each container is there and is one that this machine runs. What is made only when the pod runs can't
//! be checked.

mod program;
mod volumes;

use std::time::Duration;

use everynode_agent_core::{Doubling, PodSpec, Unstaged};
use everynode_model::Reason;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::random::Random;

/// The longest wait after the first failure, and after any: the kubelet's, for images.
const WAITS: Doubling = Doubling { first: Duration::from_secs(10), cap: Duration::from_secs(300) };
/// The shortest: what fails at once must not be tried in a circle.
const SHORTEST: Duration = Duration::from_secs(1);

/// What brings here and checks what pods need.
pub trait Stage: Send + Sync + 'static {
    /// One try. May be dropped at any time: then what is here is whole or not there.
    ///
    /// # Errors
    /// Why the pod could not run, in the kubelet's words where it has some.
    fn stage(&self, spec: PodSpec) -> BoxFuture<'static, Result<(), Reason>>;
}

/// The machine's own programs.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostPrograms;

/// For machines that are only pretended: whatever is wanted is there.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllThere;

impl Stage for HostPrograms {
    fn stage(&self, spec: PodSpec) -> BoxFuture<'static, Result<(), Reason>> {
        async move {
            let checked = tokio::task::spawn_blocking(move || {
                volumes::check(&spec)?;
                program::check(&spec)
            })
            .await;
            checked.unwrap_or_else(|error| Err(Reason::new("StagingFailed", error.to_string())))
        }
        .boxed()
    }
}

impl Stage for AllThere {
    fn stage(&self, _: PodSpec) -> BoxFuture<'static, Result<(), Reason>> {
        async { Ok(()) }.boxed()
    }
}

/// That a try has failed, the `tries`th after others in a row, and when to try again. All of the wait
/// is drawn: a fleet that was told the same at once must not ask again at once.
pub(crate) fn failed(reason: Reason, tries: u32, random: &mut Random) -> Unstaged {
    Unstaged { reason, again: Some(random.below(WAITS.nth(tries)).max(SHORTEST)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_drawn_and_grow_to_five_minutes() {
        let mut random = Random::seeded([1, 2]);
        let mut longest = |tries| {
            let reason = || Reason::new("a", "b");
            let waits = (0..200).map(|_| failed(reason(), tries, &mut random).again.unwrap());
            let waits: Vec<Duration> = waits.collect();
            assert!(waits.iter().all(|wait| *wait >= SHORTEST));
            waits.into_iter().max().unwrap().as_secs()
        };
        assert!((8..10).contains(&longest(0)));
        assert!((70..80).contains(&longest(3)));
        assert!((270..300).contains(&longest(u32::MAX)));
    }
}
