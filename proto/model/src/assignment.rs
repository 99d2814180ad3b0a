//! What one node must run, and the only ways in which that may change.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::{ClusterId, Digest, Generation, Labels, PodKey, ReignId, SetUid, Term};

/// What a node is to do about one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Intent {
    /// Run the revision; replace any other.
    Run,
    /// Leave what runs as it is, whatever its revision; where nothing runs, run the revision.
    Keep,
    /// Stop it, and keep the place empty.
    Stop,
}

/// One pod that a node must run, keep or stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The DaemonSet's namespace and name; its place on the node.
    pub key: PodKey,
    /// Which DaemonSet of that name.
    pub set: SetUid,
    /// Which version of its template: the digest of the body.
    pub revision: Digest,
    /// Raised to have the pod replaced although nothing else changed (`delete pod`).
    pub replace: u64,
    /// Run, keep or stop.
    pub intent: Intent,
    /// The pods that must be ready on this node before this one starts.
    pub after: Vec<PodKey>,
    /// Whether a new pod starts beside the old one, and how. Of no meaning but with [`Intent::Run`].
    pub surge: Option<Surge>,
    /// The values of those labels of the node that the template reads (`node.labels['…']`), as they
    /// were when the pod was granted; one that the node has not is not among them. Who is granted other
    /// values is granted another `replace`, too.
    pub labels: Labels,
}

/// How a pod takes over from another in the same place: the new one is started beside the old one,
/// which is stopped when the new one has been ready for a while. An old and a new, never three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surge {
    /// For how long the new one has to be ready, by the node's own clock; whole milliseconds.
    pub min_ready: Duration,
}

/// Whose order, the how-manieth, and of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Which cluster.
    pub cluster: ClusterId,
    /// Which reign.
    pub term: Term,
    /// The reign's random mark.
    pub reign: ReignId,
    /// The how-manieth assignment of this node in that reign.
    pub generation: Generation,
    /// The digest of the items.
    pub digest: Digest,
}

/// Everything one node must run. What is not in it must not run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    items: BTreeMap<PodKey, Item>,
}

/// The difference between two assignments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Items that are new or different.
    pub put: Vec<Item>,
    /// Places whose item is gone.
    pub removed: Vec<PodKey>,
}

/// Why a change could not be applied: the whole assignment must be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// The change starts from an assignment other than the one held.
    Gap,
    /// The result's digest is not the announced one.
    Mismatch,
}

impl Assignment {
    /// The assignment of these items; of two with one key the later counts.
    pub fn new(items: impl IntoIterator<Item = Item>) -> Self {
        Self { items: items.into_iter().map(|item| (item.key.clone(), item)).collect() }
    }

    /// Its items, by key.
    pub fn items(&self) -> impl ExactSizeIterator<Item = &Item> {
        self.items.values()
    }

    /// The item for `key`.
    pub fn get(&self, key: &PodKey) -> Option<&Item> {
        self.items.get(key)
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing is to run.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// What an agent without the feature `surge` is told: pods replace each other one after the other.
    #[must_use]
    pub fn without_surge(mut self) -> Self {
        self.items.values_mut().for_each(|item| item.surge = None);
        self
    }

    /// What an agent that knows no labels of its node is told.
    #[must_use]
    pub fn without_labels(mut self) -> Self {
        self.items.values_mut().for_each(|item| item.labels.clear());
        self
    }

    /// The digest of the items: the same on both sides, whatever the order of arrival.
    pub fn digest(&self) -> Digest {
        let encoded: Vec<Vec<u8>> = self.items.values().map(encode).collect();
        Digest::of_parts(encoded.iter().map(Vec::as_slice))
    }

    /// What leads from this assignment to `next`.
    pub fn change_to(&self, next: &Self) -> Change {
        let differs = |item: &&Item| self.items.get(&item.key) != Some(item);
        let gone = |key: &&PodKey| !next.items.contains_key(*key);
        Change {
            put: next.items.values().filter(differs).cloned().collect(),
            removed: self.items.keys().filter(gone).cloned().collect(),
        }
    }

    /// The assignment that `change` leads to from this one.
    ///
    /// # Errors
    /// [`ChangeError::Gap`] when it starts from one with another digest than this,
    /// [`ChangeError::Mismatch`] when the result has another digest than `to`.
    pub fn changed(&self, from: Digest, change: &Change, to: Digest) -> Result<Self, ChangeError> {
        if self.digest() != from {
            return Err(ChangeError::Gap);
        }
        let mut next = self.clone();
        for key in &change.removed {
            next.items.remove(key);
        }
        next.items.extend(change.put.iter().map(|item| (item.key.clone(), item.clone())));
        if next.digest() == to { Ok(next) } else { Err(ChangeError::Mismatch) }
    }
}

impl Stamp {
    /// Whether this order comes after `other` (same cluster taken for granted).
    pub fn is_newer_than(&self, other: &Self) -> bool {
        (self.term, self.generation) > (other.term, other.generation)
    }

    /// Whether both claim one place in the order of one cluster, with different content: an alarm.
    pub fn contradicts(&self, other: &Self) -> bool {
        let same_place = (self.term, self.generation) == (other.term, other.generation);
        let same_reign = self.reign == other.reign;
        (same_place && self.digest != other.digest) || (self.term == other.term && !same_reign)
    }
}

impl Surge {
    /// How long the new one has to be ready, in milliseconds.
    pub fn millis(&self) -> u64 {
        u64::try_from(self.min_ready.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Intent {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Keep => "keep",
            Self::Stop => "stop",
        }
    }
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gap => "the change starts from another assignment than the one held",
            Self::Mismatch => "the change does not lead to the announced digest",
        })
    }
}

impl std::error::Error for ChangeError {}

fn encode(item: &Item) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    let mut part = |bytes: &[u8]| {
        out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        out.extend_from_slice(bytes);
    };
    part(item.key.namespace().as_bytes());
    part(item.key.name().as_bytes());
    part(item.set.uuid().as_bytes());
    part(item.revision.as_bytes());
    part(&item.replace.to_be_bytes());
    part(item.intent.as_str().as_bytes());
    for key in &item.after {
        part(key.namespace().as_bytes());
        part(key.name().as_bytes());
    }
    // One part, where each of `after` has two: so it is none of those, and without it all is as it
    // was before there was such a thing.
    if let Some(surge) = &item.surge {
        part(&surge.millis().to_be_bytes());
    }
    // Two parts, the first of which is neither a namespace, as it has a dot, nor a surge.
    if !item.labels.is_empty() {
        part(b"node.labels");
        part(&encode_labels(&item.labels));
    }
    out
}

fn encode_labels(labels: &Labels) -> Vec<u8> {
    let mut out = Vec::new();
    for text in labels.iter().flat_map(|(key, value)| [key, value]) {
        out.extend_from_slice(&(text.len() as u64).to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn item(name: &str, revision: &str, replace: u64) -> Item {
        Item {
            key: PodKey::new("default", name).unwrap(),
            set: SetUid::new(Uuid::from_u128(7)),
            revision: Digest::of(revision.as_bytes()),
            replace,
            intent: Intent::Run,
            after: Vec::new(),
            surge: None,
            labels: Default::default(),
        }
    }

    #[test]
    fn the_digest_sees_every_field_and_no_order() {
        let one = Assignment::new([item("a", "1", 0), item("b", "1", 0)]);
        let other = Assignment::new([item("b", "1", 0), item("a", "1", 0)]);
        assert_eq!(one.digest(), other.digest());
        let base = item("a", "1", 0);
        for changed in [
            item("c", "1", 0),
            item("a", "2", 0),
            item("a", "1", 1),
            Item { intent: Intent::Keep, ..base.clone() },
            Item { set: SetUid::new(Uuid::from_u128(8)), ..base.clone() },
            Item { after: vec![PodKey::new("default", "x").unwrap()], ..base.clone() },
            Item { surge: Some(Surge { min_ready: Duration::ZERO }), ..base.clone() },
            Item { labels: [("a".into(), "b".into())].into(), ..base.clone() },
            Item { labels: [("a".into(), "c".into())].into(), ..base.clone() },
            Item { labels: [("ab".into(), String::new())].into(), ..base.clone() },
        ] {
            assert_ne!(
                Assignment::new([changed]).digest(),
                Assignment::new([base.clone()]).digest()
            );
        }
    }

    #[test]
    fn each_surge_has_a_digest_of_its_own_and_none_has_that_of_old() {
        let with = |surge| Assignment::new([Item { surge, ..item("a", "1", 0) }]).digest();
        let surge = |seconds| Some(Surge { min_ready: Duration::from_secs(seconds) });
        assert_ne!(with(surge(0)), with(surge(1)));
        // As agents and coordinators of before compute it.
        let of_old = "30c2d6dcd2650a9d4ac484c396655365eb9520a80680c62eb70118b3298c490f";
        assert_eq!(with(None).to_string(), of_old);
    }

    #[test]
    fn a_change_leads_there_or_says_why_not() {
        let from = Assignment::new([item("a", "1", 0), item("b", "1", 0)]);
        let to = Assignment::new([item("b", "2", 0), item("c", "1", 0)]);
        let change = from.change_to(&to);
        assert_eq!(change.put.len(), 2);
        assert_eq!(change.removed.len(), 1);
        assert_eq!(from.changed(from.digest(), &change, to.digest()), Ok(to.clone()));
        assert_eq!(to.changed(from.digest(), &change, to.digest()), Err(ChangeError::Gap));
        assert_eq!(
            from.changed(from.digest(), &Change::default(), to.digest()),
            Err(ChangeError::Mismatch)
        );
    }

    #[test]
    fn only_newer_orders_are_newer() {
        let stamp = |term, generation, digest: &str, reign| Stamp {
            cluster: ClusterId::new(Uuid::nil()),
            term: Term(term),
            reign: ReignId::new(Uuid::from_u128(reign)),
            generation: Generation(generation),
            digest: Digest::of(digest.as_bytes()),
        };
        assert!(stamp(2, 1, "a", 2).is_newer_than(&stamp(1, 9, "a", 1)));
        assert!(!stamp(1, 9, "a", 1).is_newer_than(&stamp(1, 9, "a", 1)));
        assert!(stamp(1, 9, "a", 1).contradicts(&stamp(1, 9, "b", 1)));
        assert!(stamp(1, 8, "a", 1).contradicts(&stamp(1, 9, "a", 2)));
        assert!(!stamp(2, 9, "a", 1).contradicts(&stamp(1, 9, "b", 2)));
    }
}
