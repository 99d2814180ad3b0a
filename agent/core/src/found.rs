//! What the first look at the machine says of one place.
//!
//! ```text
//!   nothing alive ────────────────────────────────▶ empty   (leftovers of ours are removed)
//!   one, ours, supervised, nothing else ──────────▶ adopted (or waited for, if it is ending)
//!   one, ours, supervisor silent, nothing else ───▶ held until it answers, and adopted then
//!   two, ours, supervised, not alike, no others ───▶ adopted, the one to take over beside the other
//!   two, ours, one without a supervisor ──────────▶ the other adopted; what is left of the one ends
//!   anything else ────────────────────────────────▶ held: by whom decides what may be done
//! ```

use everynode_model::{Now, PodKey, PodUid, Reason};

use crate::backoff::Policy;
use crate::event::Found;
use crate::ledger::Ledger;
use crate::place::{Life, Place};
use crate::pod::{Identity, Pod};
use crate::spec::PodRef;
use crate::stop::{Held, Holder, Stop, Whose};

/// The life in one place, from all that was found there.
pub(crate) fn life(found: &[Found], ledger: &Ledger, policy: &Policy, now: Now) -> Life {
    let alive: Vec<&Found> = found.iter().filter(|found| found.populated).collect();
    match alive.as_slice() {
        [] => Life::Empty,
        [one] => adopt(one, ledger, policy, now).unwrap_or_else(|| held(&alive, ledger)),
        _ => held(&alive, ledger),
    }
}

/// A place, from all that was found there.
pub(crate) fn place(
    key: &PodKey,
    found: &[Found],
    ledger: &Ledger,
    policy: &Policy,
    now: Now,
) -> Place {
    let alive: Vec<&Found> = found.iter().filter(|found| found.populated).collect();
    let two = match alive.as_slice() {
        [one, other] => {
            match (adopt(one, ledger, policy, now), adopt(other, ledger, policy, now)) {
                (Some(sound), None) if is_unsupervised(other, ledger) => {
                    return Place { beside: Some(held(&[other], ledger)), ..Place::new(sound) };
                }
                (None, Some(sound)) if is_unsupervised(one, ledger) => {
                    return Place { beside: Some(held(&[one], ledger)), ..Place::new(sound) };
                }
                (one, other) => one.zip(other),
            }
        }
        _ => None,
    };
    // One never takes over from its like: nobody knows how these came to be.
    let identity = |life: &Life| life.pod().map(|pod| pod.identity);
    let two = two.filter(|(one, other)| identity(one) != identity(other));
    let Some((one, other)) = two else { return Place::new(life(found, ledger, policy, now)) };
    let (old, new) =
        if comes_after(key, &one, &other, ledger) { (other, one) } else { (one, other) };
    Place { beside: Some(new), ..Place::new(old) }
}

/// Whether `one` is there to take over from `other`: as it alone is ordered, or, where that does not
/// tell, as it was made later.
fn comes_after(key: &PodKey, one: &Life, other: &Life, ledger: &Ledger) -> bool {
    let wanted = ledger.assignment.get(key).map(Identity::of);
    let [first, second] = [one, other].map(|life| {
        let pod = life.pod();
        let as_ordered = pod.is_some_and(|pod| Some(pod.identity) == wanted);
        let made = pod.and_then(|pod| pod.created).map(|created| created.wall.unix_millis);
        (as_ordered, made, pod.map(|pod| pod.at.uid))
    });
    first > second
}

/// The dead pods of our cluster of which something is left in the file system. Those of another
/// node uid are left to its own agent until this node was told what to run.
pub(crate) fn leftovers(found: &[Found], ledger: &Ledger) -> Vec<PodRef> {
    let ours = |found: &&Found| match Whose::of(found.marks, ledger) {
        Whose::Ours => true,
        Whose::Stray => ledger.accepted.is_some(),
        Whose::OtherCluster | Whose::Unknown => false,
    };
    found
        .iter()
        .filter(|found| !found.populated)
        .filter(ours)
        .filter_map(|found| Some(pod_ref(&found.key, found.pod?)))
        .collect()
}

fn adopt(found: &Found, ledger: &Ledger, policy: &Policy, now: Now) -> Option<Life> {
    let (uid, supervised) = (found.pod?, found.supervised.as_ref()?);
    if Whose::of(found.marks, ledger) != Whose::Ours || mutated!(NeverAdopt) {
        return None;
    }
    let mut pod = Pod::adopted(pod_ref(&found.key, uid), supervised, policy, now);
    pod.inherit(ledger);
    Some(if supervised.terminating {
        pod.goes_on_ending();
        let cause = Reason::new("Terminating", "it was told to end before the agent started");
        let stop = Stop::after(supervised.grace, cause, now);
        Life::Stopping(Box::new(pod), stop)
    } else {
        Life::Running(Box::new(pod))
    })
}

/// Whether nobody is left who could answer for it, and it is ours to end.
fn is_unsupervised(found: &Found, ledger: &Ledger) -> bool {
    let lost = found.supervised.is_none() && !found.silent && found.pod.is_some();
    lost && Whose::of(found.marks, ledger) == Whose::Ours
}

fn held(alive: &[&Found], ledger: &Ledger) -> Life {
    let holders = alive.iter().map(|found| Holder::of(found, ledger)).collect();
    Life::Held(Held { holders, stop: None })
}

pub(crate) fn pod_ref(key: &PodKey, uid: PodUid) -> PodRef {
    PodRef { key: key.clone(), uid }
}
