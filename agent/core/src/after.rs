//! Which pod has to be ready here before another may start.
//!
//! A dependency that is not to run here is none. One that leads back to the pod that waits is none
//! either: a circle can't be satisfied, and a daemon that runs too early is better than one that
//! never runs. Only a start waits; what runs is not stopped because something else fell over.

use std::collections::BTreeSet;

use everynode_model::{Assignment, Intent, Item, PodKey};

/// The first of `item`'s dependencies that it still waits for.
pub(crate) fn waits_for<'a>(
    item: &'a Item,
    assignment: &Assignment,
    ready: &BTreeSet<PodKey>,
) -> Option<&'a PodKey> {
    item.after.iter().find(|key| {
        to_run(assignment, key).is_some()
            && !ready.contains(*key)
            && !leads_to(assignment, key, &item.key)
    })
}

fn to_run<'a>(assignment: &'a Assignment, key: &PodKey) -> Option<&'a Item> {
    assignment.get(key).filter(|item| item.intent != Intent::Stop)
}

/// Whether `from` waits, over any number of steps, for `to`.
fn leads_to(assignment: &Assignment, from: &PodKey, to: &PodKey) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    // Each key is opened once, so this ends after as many steps as there are items.
    while let Some(key) = open.pop() {
        if key == to {
            return true;
        }
        if let Some(item) = to_run(assignment, key)
            && seen.insert(key)
        {
            open.extend(&item.after);
        }
    }
    false
}
