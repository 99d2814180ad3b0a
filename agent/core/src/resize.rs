//! Other limits for a pod that runs: the same processes, held to what another revision says.
//!
//! ```text
//!                 an alike revision is ordered, and staged: Resize
//!   ┌──────────┐ ───────────────────────────────────────────────▶ ┌───────┐
//!   │   held   │ ◀─────────────────────────────────────────────── │ asked │
//!   │ to its   │   Resized: it is of that revision from now on     └───────┘
//!   │ revision │                                                      │ ResizeFailed
//!   └──────────┘                                                      ▼
//!                     ┌──────────────────────────────────────────────────┐
//!   replaced, as ◀─── │ failed: held to its revision, or nobody knows to │
//!   by any other      │ what (in doubt)                                  │
//!   revision          └──────────────────────────────────────────────────┘
//! ```
//!
//! Revisions are alike that differ in nothing but what may change so; which those are is told by
//! [`crate::Node::know_alike`]. Whatever else becomes of the pod meanwhile comes first: that it is
//! stopped, lost or held, or that another revision is ordered. An answer that comes then says only to
//! which revision the pod is held. A pod stays ready, and is so under its limits from then on: what
//! waits for `minReadySeconds`, or watches canaries, waits as after any other change. One that failed
//! is not asked again for the same revision, so that a change that this machine can't make costs one
//! try, and the pod is replaced. One in doubt is replaced whatever is ordered; that is remembered by
//! its supervisor, for the next agent.

use everynode_model::{Digest, Intent, Item, Now, Reason};

use crate::event::Action;
use crate::place::{Life, Place, Turn, Want};
use crate::pod::{Identity, Pod};
use crate::spec::PodRef;
use crate::staging::Staging;

/// See the drawing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Resizing {
    #[default]
    No,
    Asked(Identity),
    Failed(Digest, Reason),
    InDoubt(Reason),
}

/// How a pod differs from what is ordered in its place.
pub(crate) enum Difference {
    /// In what its containers may use, which it can be given as it runs.
    Limits,
    /// In something else, or it could not be given that.
    Other(Reason),
}

impl Resizing {
    /// Why this pod can't be given the limits of that revision.
    fn hindrance(&self, to: Digest) -> Option<&Reason> {
        match self {
            Self::InDoubt(why) => Some(why),
            Self::Failed(failed, why) if *failed == to => Some(why),
            Self::No | Self::Asked(_) | Self::Failed(..) => None,
        }
    }

    /// What is told of a pod meanwhile.
    pub(crate) fn reason(&self) -> Option<Reason> {
        let Self::Asked(to) = self else { return None };
        let to = to.revision.short();
        let line = format!("its containers are held to the limits of revision {to}");
        Some(Reason::new("PodResizeInProgress", line))
    }
}

/// Of one pod and what is ordered for the same DaemonSet; `alike` are the revisions from which a pod
/// can be brought to that.
pub(crate) fn difference(pod: &Pod, item: &Item, alike: &[Digest]) -> Option<Difference> {
    let (is, to) = (pod.identity, item.revision);
    let replaced = |line: String| Some(Difference::Other(Reason::new("Replaced", line)));
    if let Resizing::InDoubt(why) = &pod.resizing {
        return replaced(format!("nobody knows to which limits it is held: {why}"));
    }
    if is.revision == to {
        let line = "another pod of the same revision is ordered";
        return if is.replace == item.replace { None } else { replaced(line.to_owned()) };
    }
    let line = format!("revision {} is ordered in place of {}", to.short(), is.revision.short());
    if is.replace != item.replace || !alike.contains(&is.revision) {
        return replaced(line);
    }
    match pod.resizing.hindrance(to) {
        Some(why) => replaced(format!("{line}, and could not be given in place: {why}")),
        None if mutated!(ReplaceForLimits) => replaced(line),
        None => Some(Difference::Limits),
    }
}

impl Place {
    /// Gives the only pod here, which may stay, the limits that are ordered, as soon as what their
    /// revision needs is here.
    pub(crate) fn resize(&mut self, pod: &mut Pod, want: &Want<'_>, turn: &mut Turn<'_>) {
        let Some((item, stages)) = other_limits(pod, want) else {
            return self.forget_others(pod.identity);
        };
        let wait = stages.then(|| self.staging.hindrance(item, turn)).flatten();
        if wait.is_some() && matches!(self.staging, Staging::Failed { .. }) {
            // It is told of as a pod that waits: nobody would see otherwise what is wrong with it.
            self.expect(item, turn);
        } else {
            self.forget_others(pod.identity);
        }
        self.waits = wait.filter(|_| !mutated!(ResizeUnstaged));
        let busy = matches!(pod.resizing, Resizing::Asked(_)) && !mutated!(ResizeTwiceAtOnce);
        if self.waits.is_none() && !busy {
            let to = Identity::of(item);
            pod.resizing = Resizing::Asked(to);
            let (pod, Identity { set, revision, replace }) = (pod.at.clone(), to);
            turn.out.push(Action::Resize { pod, set, revision, replace });
        }
    }

    /// `Resized`. Of what is remembered for a pod made from the same, all goes on to count; what waits for
    /// its next run need not wait for what may just have been mended.
    pub(crate) fn resized(&mut self, at: &PodRef, revision: Digest, now: Now) {
        let Some((pod, to)) = self.asked_to_resize(at, revision) else { return };
        (pod.resizing, pod.made_as) = (Resizing::No, to);
        pod.containers.iter_mut().for_each(|container| container.begin_anew(now));
        pod.limited_since(now);
        let before = pod.identity;
        pod.identity.revision = revision;
        let now = pod.identity;
        if self.memory.identity == Some(before) {
            self.memory.identity = Some(now);
        } else if self.memory.identity == Some(now) {
            self.memory = self.memory.anew(None, None);
        }
        self.next = None;
    }

    /// `ResizeFailed`: what went wrong with the pod, for people and for who comes after it.
    pub(crate) fn resize_failed(
        &mut self,
        at: &PodRef,
        revision: Digest,
        (reason, in_doubt): (Reason, bool),
        turn: &Turn<'_>,
    ) {
        let Some((pod, _)) = self.asked_to_resize(at, revision) else { return };
        pod.note_failure("", None, reason.clone(), turn.now);
        pod.resizing = match in_doubt {
            true if mutated!(ForgetDoubt) => Resizing::No,
            true => Resizing::InDoubt(reason),
            false => Resizing::Failed(revision, reason),
        };
    }

    /// The pod that waits for this very answer, and what it is to be; one that ends waits for nothing.
    fn asked_to_resize(&mut self, at: &PodRef, revision: Digest) -> Option<(&mut Pod, Identity)> {
        let beside = self.is_beside(at.uid)?;
        let Life::Running(pod) = self.at(beside) else { return None };
        match pod.resizing {
            Resizing::Asked(to) if to.revision == revision => Some((&mut **pod, to)),
            _ => None,
        }
    }
}

/// The item whose limits a pod is to be given, and whether its revision has something to be staged.
fn other_limits<'a>(pod: &Pod, want: &Want<'a>) -> Option<(&'a Item, bool)> {
    match want {
        Want::Pod { item, stages, held: false, alike, .. } if item.intent == Intent::Run => {
            let limits = matches!(difference(pod, item, alike), Some(Difference::Limits));
            limits.then_some((*item, *stages))
        }
        _ => None,
    }
}
