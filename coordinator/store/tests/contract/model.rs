//! A long random history against the simplest store there is: one whole map per revision.

use std::collections::BTreeMap;
use std::sync::Arc;

use everynode_store::{Change, Event, KeyValue, Op, Outcome, Revision, Store, StoreError, Txn};

use super::events;

const STEPS: usize = 400;
const SEED: u64 = 0x5eed_0001;

#[derive(Default)]
struct Model {
    /// What was live after each revision, from 0 on.
    snapshots: Vec<BTreeMap<String, KeyValue>>,
    events: Vec<Event>,
    oldest: Revision,
}

pub(crate) async fn a_long_random_history_agrees_with_a_model(store: Arc<dyn Store>) {
    let mut random = Random(SEED);
    let mut model = Model { snapshots: vec![BTreeMap::new()], ..Model::default() };
    for step in 0..STEPS {
        let txn = random.txn(&model);
        let expected = model.apply(&txn);
        assert_eq!(store.txn(txn.clone()).await.unwrap(), expected, "step {step}: {txn:?}");
        if random.below(40) == 0 {
            let revision = random.below(model.head() + 1);
            store.compact(revision).await.unwrap();
            model.oldest = model.oldest.max(revision);
        }
        if random.below(20) == 0 {
            model.check(&store).await;
        }
    }
    model.check(&store).await;
}

impl Model {
    fn head(&self) -> Revision {
        self.snapshots.len() as Revision - 1
    }

    fn live(&self) -> &BTreeMap<String, KeyValue> {
        self.snapshots.last().unwrap()
    }

    fn mod_revision(&self, key: &str) -> Revision {
        self.live().get(key).map_or(0, |found| found.mod_revision)
    }

    fn apply(&mut self, txn: &Txn) -> Outcome {
        for compare in &txn.compares {
            let (expected, actual) = (compare.mod_revision, self.mod_revision(&compare.key));
            if actual != expected {
                return Outcome::CompareFailed { key: compare.key.clone(), expected, actual };
            }
        }
        let revision = self.head() + 1;
        let mut next = self.live().clone();
        let before = self.events.len();
        for op in &txn.ops {
            let key = op.key().to_owned();
            let change = match op {
                Op::Put { value, .. } => {
                    let value = value.clone();
                    let put =
                        KeyValue { key: key.clone(), value: value.clone(), mod_revision: revision };
                    next.insert(key.clone(), put);
                    Change::Put(value)
                }
                Op::Delete { .. } if next.remove(&key).is_none() => continue,
                Op::Delete { .. } => Change::Delete,
            };
            self.events.push(Event { revision, key, change });
        }
        if self.events.len() > before {
            self.snapshots.push(next);
        }
        Outcome::Committed { revision: self.head() }
    }

    async fn check(&self, store: &Arc<dyn Store>) {
        for (at, snapshot) in (0..).zip(&self.snapshots) {
            for prefix in ["", "/a", "/a/", "/b/1"] {
                let listed = store.list(prefix, Some(at)).await;
                if at < self.oldest {
                    assert!(matches!(listed, Err(StoreError::Compacted { .. })), "{at}");
                    continue;
                }
                let below = snapshot.values().filter(|item| item.key.starts_with(prefix));
                assert_eq!(listed.unwrap().items, below.cloned().collect::<Vec<_>>(), "at {at}");
            }
        }
        for key in KEYS {
            assert_eq!(store.get(key).await.unwrap().as_ref(), self.live().get(key));
        }
        let replayed: Vec<_> =
            self.events.iter().filter(|event| event.revision >= self.oldest).cloned().collect();
        let mut watch = store.watch("", self.oldest).await.unwrap();
        assert_eq!(events(&mut watch, replayed.len()).await, replayed);
    }
}

const KEYS: [&str; 8] = ["/a", "/a/", "/a/1", "/a/2", "/a0", "/b/1", "/b/10", "/c"];

/// An LCG (Knuth's MMIX constants): the same history in every run, on every engine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn key(&mut self) -> &'static str {
        KEYS[usize::try_from(self.below(KEYS.len() as u64)).unwrap()]
    }

    fn txn(&mut self, model: &Model) -> Txn {
        let mut txn = Txn::new();
        for _ in 0..self.below(3) {
            let key = self.key();
            let right = model.mod_revision(key);
            txn = txn.expect(key, if self.below(4) == 0 { self.below(right + 2) } else { right });
        }
        for _ in 0..self.below(4) {
            let key = self.key();
            if txn.ops.iter().any(|op| op.key() == key) {
                continue;
            }
            txn = match self.below(3) {
                0 => txn.delete(key),
                _ => txn.put(key, self.below(1000).to_string()),
            };
        }
        txn
    }
}
