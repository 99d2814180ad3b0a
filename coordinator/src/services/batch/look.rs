//! What a batch has to know of what is there: read in one question, so that it is of one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use everynode_coordinator_core::{Fleet, ObjectRecord, RevisionRecord, SetRecord};
use everynode_manifest::{Uses, uses};
use everynode_model::{ObjectKey, PodKey, SetUid};
use serde_json::Value;

use super::{Item, What};
use crate::services::convert::object::canonical;

/// What is asked for.
pub(super) struct Asked {
    sets: BTreeSet<PodKey>,
    objects: BTreeSet<ObjectKey>,
    /// What the templates that are put read.
    read: BTreeSet<ObjectKey>,
}

/// What is stored of a set that is to be changed.
pub(in crate::services) struct Existing {
    pub(super) record: Arc<SetRecord>,
    /// Its present revision, if that is kept.
    pub(super) revision: Option<Arc<RevisionRecord>>,
}

/// What was found.
#[derive(Default)]
pub(super) struct Look {
    /// The sets of the batch that are there, and those that read an object of it.
    pub(super) sets: BTreeMap<PodKey, Existing>,
    /// The objects of the batch, and all that those sets read: what is there of them.
    pub(super) objects: BTreeMap<ObjectKey, ObjectRecord>,
    /// For each object of the batch who reads it, and at which version that was looked at.
    pub(super) readers: BTreeMap<ObjectKey, BTreeMap<SetUid, u64>>,
}

impl Asked {
    pub(super) fn of(items: &[Item]) -> Self {
        let mut asked =
            Self { sets: BTreeSet::new(), objects: BTreeSet::new(), read: BTreeSet::new() };
        for item in items {
            match &item.what {
                What::Set { admitted, .. } => {
                    let namespace = admitted.key.namespace();
                    let template = &admitted.object["spec"]["template"];
                    asked.read.extend(uses(template, namespace).into_keys());
                    asked.sets.insert(admitted.key.clone());
                }
                What::Object { admitted, .. } => {
                    asked.objects.insert(admitted.key.clone());
                }
            }
        }
        asked
    }
}

pub(super) fn look(fleet: &Fleet, asked: &Asked) -> Look {
    let mut look = Look::default();
    let mut sets = asked.sets.clone();
    for object in &asked.objects {
        let readers = fleet.readers(object);
        sets.extend(readers.iter().map(|record| record.set.key.clone()));
        let versions = readers.iter().map(|record| (record.set.uid, record.resource_version));
        look.readers.insert(object.clone(), versions.collect());
    }
    look.sets
        .extend(sets.into_iter().filter_map(|key| Some((key.clone(), existing(fleet, &key)?))));
    let mut objects: BTreeSet<&ObjectKey> = asked.objects.iter().chain(&asked.read).collect();
    objects.extend(look.sets.values().flat_map(|existing| &existing.record.set.reads));
    let found = objects.into_iter().filter_map(|key| Some((key.clone(), fleet.object(key)?)));
    look.objects = found.collect();
    look
}

/// What is due to follow what it reads: so many sets of that, the first by namespace and name.
pub(super) fn look_due(fleet: &Fleet, most: usize) -> Look {
    let mut look = Look::default();
    let sets = fleet.due().into_iter().take(most);
    look.sets.extend(sets.filter_map(|key| Some((key.clone(), existing(fleet, &key)?))));
    let objects = look.sets.values().flat_map(|existing| &existing.record.set.reads);
    let objects: BTreeSet<&ObjectKey> = objects.collect();
    let found = objects.into_iter().filter_map(|key| Some((key.clone(), fleet.object(key)?)));
    look.objects = found.collect();
    look
}

impl Existing {
    /// The canonical object.
    pub(in crate::services) fn object(&self) -> Value {
        serde_json::from_slice(&self.record.object).unwrap_or_default()
    }
}

/// What is stored of the set of that name.
pub(in crate::services) fn existing(fleet: &Fleet, key: &PodKey) -> Option<Existing> {
    let record = fleet.set(key)?.record;
    let mut revisions = fleet.revisions(record.set.uid).into_iter();
    let revision = revisions.find(|revision| revision.digest == record.set.revision);
    Some(Existing { record, revision })
}

/// What is there of the objects that are read.
pub(in crate::services) fn canonical_all(
    objects: &BTreeMap<ObjectKey, ObjectRecord>,
) -> BTreeMap<ObjectKey, Value> {
    objects.iter().map(|(key, record)| (key.clone(), canonical(record))).collect()
}

/// At which version each object that is read was looked at; none where it is not there.
pub(in crate::services) fn versions(
    uses: &Uses,
    objects: &BTreeMap<ObjectKey, ObjectRecord>,
) -> BTreeMap<ObjectKey, Option<u64>> {
    let version = |key: &ObjectKey| objects.get(key).map(|record| record.resource_version);
    uses.keys().map(|key| (key.clone(), version(key))).collect()
}
