//! What the first look at the machine says of one place.
//!
//! ```text
//!   nothing alive ────────────────────────────────▶ empty   (leftovers of ours are removed)
//!   one, ours, supervised, nothing else ──────────▶ adopted (or waited for, if it is ending)
//!   one, ours, supervisor silent, nothing else ───▶ held until it answers, and adopted then
//!   anything else ────────────────────────────────▶ held: by whom decides what may be done
//! ```

use everynode_model::{Now, PodKey, PodUid, Reason};

use crate::backoff::Policy;
use crate::event::Found;
use crate::ledger::Ledger;
use crate::place::Life;
use crate::pod::Pod;
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
        let cause = Reason::new("Terminating", "it was told to end before the agent started");
        let stop = Stop::after(supervised.grace, cause, now);
        Life::Stopping(Box::new(pod), stop)
    } else {
        Life::Running(Box::new(pod))
    })
}

fn held(alive: &[&Found], ledger: &Ledger) -> Life {
    let holders = alive.iter().map(|found| Holder::of(found, ledger)).collect();
    Life::Held(Held { holders, stop: None })
}

pub(crate) fn pod_ref(key: &PodKey, uid: PodUid) -> PodRef {
    PodRef { key: key.clone(), uid }
}
