//! Orders: stamps and items.

use std::time::Duration;

use everynode_model::{Generation, Intent, Item, PodKey, Stamp, Surge, Term};

use super::{digest, id, required};
use crate::error::Invalid;
use crate::v1;

impl From<&Stamp> for v1::Stamp {
    fn from(stamp: &Stamp) -> Self {
        Self {
            cluster_id: stamp.cluster.to_string(),
            term: stamp.term.0,
            reign: stamp.reign.to_string(),
            generation: stamp.generation.0,
            digest: stamp.digest.as_bytes().to_vec(),
        }
    }
}

impl TryFrom<&v1::Stamp> for Stamp {
    type Error = Invalid;

    fn try_from(stamp: &v1::Stamp) -> Result<Self, Invalid> {
        Ok(Self {
            cluster: id("cluster_id", &stamp.cluster_id)?,
            term: Term(stamp.term),
            reign: id("reign", &stamp.reign)?,
            generation: Generation(stamp.generation),
            digest: digest("digest", &stamp.digest)?,
        })
    }
}

impl From<&Item> for v1::Item {
    fn from(item: &Item) -> Self {
        Self {
            key: Some((&item.key).into()),
            set_uid: item.set.to_string(),
            revision: item.revision.as_bytes().to_vec(),
            replace: item.replace,
            intent: v1::Intent::from(item.intent).into(),
            after: item.after.iter().map(Into::into).collect(),
            surge: item.surge.map(|surge| v1::Surge { min_ready_millis: surge.millis() }),
            node_labels: item.labels.clone().into_iter().collect(),
        }
    }
}

impl TryFrom<&v1::Item> for Item {
    type Error = Invalid;

    fn try_from(item: &v1::Item) -> Result<Self, Invalid> {
        Ok(Self {
            key: PodKey::try_from(required("key", item.key.as_ref())?)?,
            set: id("set_uid", &item.set_uid)?,
            revision: digest("revision", &item.revision)?,
            replace: item.replace,
            intent: intent(item.intent())?,
            after: item.after.iter().map(PodKey::try_from).collect::<Result<_, _>>()?,
            surge: item
                .surge
                .map(|surge| Surge { min_ready: Duration::from_millis(surge.min_ready_millis) }),
            labels: item.node_labels.clone().into_iter().collect(),
        })
    }
}

impl From<Intent> for v1::Intent {
    fn from(intent: Intent) -> Self {
        match intent {
            Intent::Run => Self::Run,
            Intent::Keep => Self::Keep,
            Intent::Stop => Self::Stop,
        }
    }
}

/// An intent that this side does not know is refused: guessing could start or stop something.
fn intent(intent: v1::Intent) -> Result<Intent, Invalid> {
    match intent {
        v1::Intent::Run => Ok(Intent::Run),
        v1::Intent::Keep => Ok(Intent::Keep),
        v1::Intent::Stop => Ok(Intent::Stop),
        v1::Intent::Unspecified => Err(Invalid::new("intent", "not one this version knows")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use everynode_model::{Digest, SetUid};

    #[test]
    fn there_and_back() {
        let item = Item {
            key: PodKey::new("default", "a").unwrap(),
            set: SetUid::new(uuid::Uuid::from_u128(1)),
            revision: Digest::of(b"x"),
            replace: 3,
            intent: Intent::Keep,
            after: vec![PodKey::new("default", "b").unwrap()],
            surge: None,
            labels: Default::default(),
        };
        let surge = Some(Surge { min_ready: Duration::from_millis(1500) });
        let labels = [("site".to_owned(), "lab".to_owned())].into();
        let with_labels = Item { labels, ..item.clone() };
        for item in [Item { surge, ..item.clone() }, with_labels, item] {
            assert_eq!(Item::try_from(&v1::Item::from(&item)), Ok(item));
        }
    }

    #[test]
    fn a_bad_field_is_named() {
        let error = Stamp::try_from(&v1::Stamp::default()).unwrap_err();
        assert_eq!(error.field, "cluster_id");
        let error = Item::try_from(&v1::Item::default()).unwrap_err();
        assert_eq!(error.field, "key");
    }
}
