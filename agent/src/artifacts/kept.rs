//! Which artifacts a machine keeps: those that its pods have or are to have, and those that each of
//! its DaemonSets had before, so that going back needs nobody else.
//!
//! ```text
//!   wanted now:    {a}     {a, b}     {b}       {b, c}     {c}        nothing, the place is gone
//!   kept besides:   –         –        a           a        b              –
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The names of the artifacts that each place needs now, by namespace and name.
pub type Wanted = BTreeMap<String, BTreeSet<String>>;

/// What is kept, as it is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    places: BTreeMap<String, Place>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Place {
    now: BTreeSet<String>,
    before: BTreeSet<String>,
}

impl Kept {
    /// Takes in what is wanted now. What is wanted no more counts as what was had before if it `is_here`:
    /// what never came is nothing to go back to.
    pub(super) fn turn(&mut self, wanted: Wanted, is_here: impl Fn(&str) -> bool) {
        let mut were = std::mem::take(&mut self.places);
        for (key, now) in wanted {
            let was = were.remove(&key).unwrap_or_default();
            let dropped = was.now.difference(&now).filter(|name| is_here(name));
            let dropped: BTreeSet<String> = dropped.cloned().collect();
            let before = if dropped.is_empty() { was.before } else { dropped };
            self.places.insert(key, Place { now, before });
        }
    }

    /// Keeps nothing besides any more.
    pub(super) fn forget_before(&mut self) {
        self.places.values_mut().for_each(|place| place.before.clear());
    }

    /// Whether somebody needs it.
    pub(super) fn has(&self, name: &str) -> bool {
        let mut places = self.places.values();
        places.any(|place| place.now.contains(name) || place.before.contains(name))
    }

    /// Whether somebody wants one to be fetched whose name begins with this digest: one that is not
    /// here.
    pub(super) fn wants(&self, digest: &str, is_here: impl Fn(&str) -> bool) -> bool {
        let mut names = self.places.values().flat_map(|place| &place.now);
        names.any(|name| name.starts_with(digest) && !is_here(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(places: &[(&str, &[&str])]) -> Wanted {
        let set = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        places.iter().map(|(key, names)| (key.to_string(), set(names))).collect()
    }

    /// What of a, b and c is kept after each of these.
    fn kept(steps: &[&[(&str, &[&str])]]) -> Vec<String> {
        let mut kept = Kept::default();
        let mut after = Vec::new();
        for step in steps {
            kept.turn(wanted(step), |name| name != "never");
            after.push(["a", "b", "c"].into_iter().filter(|name| kept.has(name)).collect());
        }
        after
    }

    #[test]
    fn what_was_had_before_is_kept_until_the_next_change() {
        let steps: [&[(&str, &[&str])]; 7] = [
            &[("n/x", &["a"])],
            &[("n/x", &["a", "b"])],
            &[("n/x", &["b"])],
            &[("n/x", &["b", "c"])],
            &[("n/x", &["c"])],
            &[("n/x", &["b"])],
            &[],
        ];
        assert_eq!(kept(&steps), ["a", "ab", "ab", "abc", "bc", "bc", ""]);
    }

    #[test]
    fn what_never_came_is_nothing_to_go_back_to() {
        let steps: [&[(&str, &[&str])]; 5] = [
            &[("n/x", &["a"])],
            &[("n/x", &["b"])],
            &[("n/x", &["b", "never"])],
            &[("n/x", &["b"])],
            // A template without artifacts: what was had before is had still.
            &[("n/x", &[])],
        ];
        assert_eq!(kept(&steps), ["a", "ab", "ab", "ab", "b"]);
    }

    #[test]
    fn places_share_what_they_have() {
        let steps: [&[(&str, &[&str])]; 3] = [
            &[("n/x", &["a"]), ("n/y", &["a"])],
            &[("n/x", &["b"]), ("n/y", &["a"])],
            &[("n/x", &["c"]), ("n/y", &["a"])],
        ];
        assert_eq!(kept(&steps), ["a", "ab", "abc"]);
        let mut one = Kept::default();
        one.turn(wanted(&[("n/x", &["a"])]), |_| true);
        one.turn(wanted(&[("n/x", &["b"])]), |_| true);
        one.forget_before();
        assert!(one.has("b") && !one.has("a"));
    }
}
