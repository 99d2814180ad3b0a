//! Staging: what a pod needs is brought here and checked before anything makes room for it.
//!
//! When the core asks is decided there (`agent/core/src/staging.rs`); here is one try of it: the
//! template is one that this agent honours, what it has delivered is here, its host paths are what they
//! have to be, and the program of each container is there and is one that this machine runs. What is
//! made only when the pod runs can't be checked.

mod program;
mod volumes;

use std::path::PathBuf;
use std::time::Duration;

use everynode_agent_core::{Doubling, PodSpec, Unstaged};
use everynode_model::Reason;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::artifacts::{self, Artifacts, Keyring, Wanted};
use crate::body::Delivered;
use crate::random::Random;

/// The longest wait after the first failure, and after any: the kubelet's, for images.
const WAITS: Doubling = Doubling { first: Duration::from_secs(10), cap: Duration::from_secs(300) };
/// The shortest: what fails at once must not be tried in a circle.
const SHORTEST: Duration = Duration::from_secs(1);

/// Tells what is brought here, and how far that is.
pub type Tell = std::sync::Arc<dyn Fn(String) + Send + Sync>;

/// What brings here and checks what pods need.
pub trait Stage: Send + Sync + 'static {
    /// One try. May be dropped at any time: then what is here is whole or not there. Registries are
    /// told what is in `keyring`.
    ///
    /// # Errors
    /// Why the pod could not run, in the kubelet's words where it has some.
    fn stage(
        &self,
        spec: PodSpec,
        delivered: Vec<Delivered>,
        keyring: Keyring,
        tell: Tell,
    ) -> BoxFuture<'static, Result<(), Reason>>;

    /// Where what was delivered is: each in a directory called by its name.
    fn directory(&self) -> PathBuf;

    /// Has what was delivered cleared away, but for this. Waits for nothing; the last word counts.
    fn keep(&self, wanted: Wanted);
}

/// On a real machine: what is delivered to it, and its own programs.
pub struct OnMachine(pub Artifacts);

/// For machines that are only pretended: whatever is wanted is there.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllThere;

impl Stage for OnMachine {
    fn stage(
        &self,
        spec: PodSpec,
        delivered: Vec<Delivered>,
        keyring: Keyring,
        tell: Tell,
    ) -> BoxFuture<'static, Result<(), Reason>> {
        let artifacts = self.0.clone();
        async move {
            for Delivered { artifact, may_be_fetched } in delivered {
                let (tell, address) = (tell.clone(), artifact.address.clone());
                if may_be_fetched {
                    let tell = move |have, of| tell(progress(&address, have, of));
                    artifacts.bring(&artifact, &keyring, tell).await?;
                } else if !artifacts.has(&artifact).await {
                    let line = format!("{artifact} is not on this node, and pullPolicy is Never");
                    return Err(Reason::new("ErrImageNeverPull", line));
                }
            }
            let checked = tokio::task::spawn_blocking(move || {
                volumes::check(&spec)?;
                program::check(&spec)
            })
            .await;
            checked.unwrap_or_else(|error| Err(Reason::new("StagingFailed", error.to_string())))
        }
        .boxed()
    }

    fn directory(&self) -> PathBuf {
        self.0.directory()
    }

    fn keep(&self, wanted: Wanted) {
        self.0.keep(wanted);
    }
}

impl Stage for AllThere {
    fn stage(
        &self,
        _: PodSpec,
        _: Vec<Delivered>,
        _: Keyring,
        _: Tell,
    ) -> BoxFuture<'static, Result<(), Reason>> {
        async { Ok(()) }.boxed()
    }

    fn directory(&self) -> PathBuf {
        PathBuf::new()
    }

    fn keep(&self, _: Wanted) {}
}

/// In the kubelet's word for it, and in tenths of what there is, so that it is told ten times at most.
fn progress(address: &str, have: u64, of: Option<u64>) -> String {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    match of.filter(|of| *of > 0) {
        Some(of) => {
            let tenths = have.min(of).saturating_mul(10) / of;
            format!("Pulling {address}: {} % of {} MiB", tenths * 10, mib(of))
        }
        None => format!("Pulling {address}"),
    }
}

/// That a try has failed, the `tries`th after others in a row, and when to try again. All of the wait
/// is drawn: a fleet that was told the same at once must not ask again at once.
pub(crate) fn failed(reason: Reason, tries: u32, random: &mut Random) -> Unstaged {
    // As the kubelet has it: once it has failed twice, it is the waiting that is told.
    let reason = match reason.code.as_str() {
        artifacts::FAILED if tries > 0 => {
            Reason::new("ImagePullBackOff", format!("Back-off pulling {}", reason.message))
        }
        _ => reason,
    };
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

    #[test]
    fn what_fails_to_come_again_is_waited_for() {
        let mut random = Random::seeded([1, 2]);
        let mut said = |code, tries| {
            failed(Reason::new(code, "x: 404"), tries, &mut random).reason.to_string()
        };
        assert_eq!(said("ErrImagePull", 0), "ErrImagePull: x: 404");
        assert_eq!(said("ErrImagePull", 1), "ImagePullBackOff: Back-off pulling x: 404");
        assert_eq!(said("ErrImageNeverPull", 1), "ErrImageNeverPull: x: 404");
    }

    #[test]
    fn how_far_it_is_is_told_in_tenths() {
        assert_eq!(progress("a", 0, Some(10 << 20)), "Pulling a: 0 % of 10 MiB");
        assert_eq!(progress("a", (10 << 20) - 1, Some(10 << 20)), "Pulling a: 90 % of 10 MiB");
        assert_eq!(progress("a", 7, None), "Pulling a");
        assert_eq!(progress("a", 0, Some(0)), "Pulling a");
    }
}
