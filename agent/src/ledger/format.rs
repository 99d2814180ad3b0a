//! How a ledger looks on disk: a line that protects it, and JSON.
//!
//! ```text
//!   everynode-ledger <format> <sequence> <SHA-256 of the rest of this line and of the JSON>\n
//!   {"cluster": …, "node": …, "standing": …, …}
//! ```
//!
//! The first line is the same in all formats, so that *newer* is never taken for *corrupt*. A new
//! format number means that older agents must not read it; mere additions keep the number, and
//! whoever does not know them keeps them.

use std::collections::BTreeMap;
use std::time::Duration;

use everynode_agent_core::ledger::Heir;
use everynode_agent_core::{Departure, Hold, Holds, Ledger, Standing};
use everynode_model::{
    Assignment, Digest, Generation, Intent, Item, Labels, PodKey, Stamp, Surge, Term, WallTime,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The newest format this agent reads, and the one it writes.
pub(super) const FORMAT: u32 = 1;
const MAGIC: &str = "everynode-ledger";

/// One copy, read.
#[derive(Debug)]
pub(super) struct Copy {
    /// The higher counts.
    pub(super) sequence: u64,
    pub(super) ledger: Ledger,
    /// What a newer agent of this format added.
    pub(super) unknown: Map<String, Value>,
}

/// Why a copy can't be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is whole, and of a newer format.
    Newer(u32),
    /// It is not whole, or not ours.
    Corrupt(String),
}

pub(super) fn encode(ledger: &Ledger, sequence: u64, unknown: &Map<String, Value>) -> Vec<u8> {
    let record = Record::from_ledger(ledger, unknown.clone());
    // Serialising these types can't fail: plain keys, and no writer but memory.
    let json = serde_json::to_vec(&record).unwrap_or_default();
    let checksum = checksum(FORMAT, sequence, &json);
    let mut out = format!("{MAGIC} {FORMAT} {sequence} {checksum}\n").into_bytes();
    out.extend(json);
    out
}

pub(super) fn decode(content: &[u8]) -> Result<Copy, Unreadable> {
    let corrupt = |why: &str| Unreadable::Corrupt(why.into());
    let end = content.iter().position(|byte| *byte == b'\n').ok_or_else(|| corrupt("cut short"))?;
    let line = std::str::from_utf8(&content[..end]).map_err(|_| corrupt("no ledger"))?;
    let json = &content[end + 1..];
    let mut words = line.split(' ');
    if words.next() != Some(MAGIC) {
        return Err(corrupt("no ledger"));
    }
    let format: u32 = number(words.next()).ok_or_else(|| corrupt("no format number"))?;
    let sequence: u64 = number(words.next()).ok_or_else(|| corrupt("no sequence number"))?;
    let announced = words.next().and_then(|word| word.parse().ok());
    if announced != Some(checksum(format, sequence, json)) {
        return Err(corrupt("the checksum is wrong"));
    }
    if format > FORMAT {
        return Err(Unreadable::Newer(format));
    }
    let mut record: Record =
        serde_json::from_slice(json).map_err(|error| Unreadable::Corrupt(error.to_string()))?;
    let unknown = std::mem::take(&mut record.unknown);
    let ledger = record.into_ledger().ok_or_else(|| corrupt("a field has no valid value"))?;
    Ok(Copy { sequence, ledger, unknown })
}

fn number<T: std::str::FromStr>(word: Option<&str>) -> Option<T> {
    word?.parse().ok()
}

fn checksum(format: u32, sequence: u64, json: &[u8]) -> Digest {
    Digest::of_parts([format!("{format} {sequence}").as_bytes(), json])
}

#[derive(Serialize, Deserialize)]
struct Record {
    cluster: String,
    node: String,
    standing: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    accepted: Option<StampRecord>,
    #[serde(default)]
    items: Vec<ItemRecord>,
    #[serde(default)]
    places: Vec<PlaceRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    heirs: Vec<HeirRecord>,
    #[serde(default, skip_serializing_if = "HoldsRecord::is_empty")]
    holds: HoldsRecord,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
struct StampRecord {
    cluster: String,
    term: u64,
    reign: String,
    generation: u64,
    digest: String,
}

#[derive(Serialize, Deserialize)]
struct ItemRecord {
    namespace: String,
    name: String,
    set: String,
    revision: String,
    #[serde(default)]
    replace: u64,
    intent: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    after: Vec<(String, String)>,
    /// For how many milliseconds a new pod has to be ready beside the old; absent without surge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    surge: Option<u64>,
    /// The node's labels that the template reads.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    labels: Labels,
}

#[derive(Serialize, Deserialize)]
struct PlaceRecord {
    namespace: String,
    name: String,
    runtime: String,
}

#[derive(Serialize, Deserialize)]
struct HeirRecord {
    namespace: String,
    name: String,
    of: Vec<String>,
    set: String,
    replace: u64,
}

#[derive(Default, Serialize, Deserialize)]
struct HoldsRecord {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<HoldRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    places: Vec<HeldRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    kept: Vec<ItemRecord>,
}

#[derive(Serialize, Deserialize)]
struct HeldRecord {
    namespace: String,
    name: String,
    hold: HoldRecord,
}

/// Dates in milliseconds since 1970.
#[derive(Serialize, Deserialize)]
struct HoldRecord {
    stop: bool,
    by: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reason: String,
    since: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<i64>,
}

const STANDINGS: [(&str, Standing); 4] = [
    ("active", Standing::Active),
    ("leaving-deregistered", Standing::Leaving(Departure::Deregistered)),
    ("leaving-requested", Standing::Leaving(Departure::Requested)),
    ("left", Standing::Left),
];
const INTENTS: [Intent; 3] = [Intent::Run, Intent::Keep, Intent::Stop];

impl Record {
    fn from_ledger(ledger: &Ledger, unknown: Map<String, Value>) -> Self {
        let standing = STANDINGS.iter().find(|(_, standing)| *standing == ledger.standing);
        let place = |(key, runtime): (&PodKey, &String)| PlaceRecord {
            namespace: key.namespace().into(),
            name: key.name().into(),
            runtime: runtime.clone(),
        };
        Self {
            cluster: ledger.cluster.to_string(),
            node: ledger.node.to_string(),
            standing: standing.map_or("active", |(word, _)| word).into(),
            accepted: ledger.accepted.as_ref().map(StampRecord::from),
            items: ledger.assignment.items().map(ItemRecord::from).collect(),
            places: ledger.places.iter().map(place).collect(),
            session: ledger.session.map(|session| session.to_string()),
            heirs: ledger.heirs.iter().map(HeirRecord::from).collect(),
            holds: (&ledger.holds).into(),
            unknown,
        }
    }

    fn into_ledger(self) -> Option<Ledger> {
        let (_, standing) = STANDINGS.iter().find(|(word, _)| *word == self.standing)?;
        let items: Option<Vec<Item>> = self.items.iter().map(ItemRecord::item).collect();
        let place = |place: PlaceRecord| {
            Some((PodKey::new(&place.namespace, &place.name).ok()?, place.runtime))
        };
        let places: Option<BTreeMap<_, _>> = self.places.into_iter().map(place).collect();
        Some(Ledger {
            cluster: self.cluster.parse().ok()?,
            node: self.node.parse().ok()?,
            standing: *standing,
            accepted: match &self.accepted {
                Some(stamp) => Some(stamp.stamp()?),
                None => None,
            },
            assignment: Assignment::new(items?),
            places: places?,
            session: match &self.session {
                Some(session) => Some(session.parse().ok()?),
                None => None,
            },
            // Of the identity, which says it.
            formers: Vec::new(),
            heirs: self.heirs.iter().map(HeirRecord::heir).collect::<Option<_>>()?,
            holds: self.holds.holds()?,
        })
    }
}

impl From<(&PodKey, &Heir)> for HeirRecord {
    fn from((key, heir): (&PodKey, &Heir)) -> Self {
        Self {
            namespace: key.namespace().into(),
            name: key.name().into(),
            of: heir.of.iter().map(ToString::to_string).collect(),
            set: heir.set.to_string(),
            replace: heir.replace,
        }
    }
}

impl From<&Holds> for HoldsRecord {
    fn from(holds: &Holds) -> Self {
        let held = |(key, hold): (&PodKey, &Hold)| HeldRecord {
            namespace: key.namespace().into(),
            name: key.name().into(),
            hold: hold.into(),
        };
        Self {
            node: holds.node.as_ref().map(Into::into),
            places: holds.places.iter().map(held).collect(),
            kept: holds.kept.values().map(Into::into).collect(),
        }
    }
}

impl HeirRecord {
    fn heir(&self) -> Option<(PodKey, Heir)> {
        let heir = Heir {
            of: self.of.iter().map(|set| set.parse().ok()).collect::<Option<_>>()?,
            set: self.set.parse().ok()?,
            replace: self.replace,
        };
        Some((PodKey::new(&self.namespace, &self.name).ok()?, heir))
    }
}

impl HoldsRecord {
    fn is_empty(&self) -> bool {
        self.node.is_none() && self.places.is_empty()
    }

    fn holds(self) -> Option<Holds> {
        let place = |held: HeldRecord| {
            Some((PodKey::new(&held.namespace, &held.name).ok()?, held.hold.hold()))
        };
        let kept: Option<Vec<Item>> = self.kept.iter().map(ItemRecord::item).collect();
        Some(Holds {
            node: self.node.map(HoldRecord::hold),
            places: self.places.into_iter().map(place).collect::<Option<_>>()?,
            kept: kept?.into_iter().map(|item| (item.key.clone(), item)).collect(),
        })
    }
}

impl From<&Hold> for HoldRecord {
    fn from(hold: &Hold) -> Self {
        Self {
            stop: hold.stop,
            by: hold.by.clone(),
            reason: hold.reason.clone(),
            since: hold.since.unix_millis,
            until: hold.until.map(|until| until.unix_millis),
        }
    }
}

impl HoldRecord {
    fn hold(self) -> Hold {
        Hold {
            stop: self.stop,
            by: self.by,
            reason: self.reason,
            since: WallTime::from_unix_millis(self.since),
            until: self.until.map(WallTime::from_unix_millis),
        }
    }
}

impl From<&Stamp> for StampRecord {
    fn from(stamp: &Stamp) -> Self {
        Self {
            cluster: stamp.cluster.to_string(),
            term: stamp.term.0,
            reign: stamp.reign.to_string(),
            generation: stamp.generation.0,
            digest: stamp.digest.to_string(),
        }
    }
}

impl StampRecord {
    fn stamp(&self) -> Option<Stamp> {
        Some(Stamp {
            cluster: self.cluster.parse().ok()?,
            term: Term(self.term),
            reign: self.reign.parse().ok()?,
            generation: Generation(self.generation),
            digest: self.digest.parse().ok()?,
        })
    }
}

impl From<&Item> for ItemRecord {
    fn from(item: &Item) -> Self {
        let pair = |key: &PodKey| (key.namespace().to_owned(), key.name().to_owned());
        Self {
            namespace: item.key.namespace().into(),
            name: item.key.name().into(),
            set: item.set.to_string(),
            revision: item.revision.to_string(),
            replace: item.replace,
            intent: item.intent.as_str().into(),
            after: item.after.iter().map(pair).collect(),
            surge: item.surge.map(|surge| surge.millis()),
            labels: item.labels.clone(),
        }
    }
}

impl ItemRecord {
    fn item(&self) -> Option<Item> {
        let key = |(namespace, name): &(String, String)| PodKey::new(namespace, name).ok();
        Some(Item {
            key: PodKey::new(&self.namespace, &self.name).ok()?,
            set: self.set.parse().ok()?,
            revision: self.revision.parse().ok()?,
            replace: self.replace,
            intent: INTENTS.into_iter().find(|intent| intent.as_str() == self.intent)?,
            after: self.after.iter().map(key).collect::<Option<_>>()?,
            surge: self.surge.map(|millis| Surge { min_ready: Duration::from_millis(millis) }),
            labels: self.labels.clone(),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use uuid::Uuid;

    pub(in crate::ledger) fn ledger(generation: u64) -> Ledger {
        let key = |name: &str| PodKey::new("default", name).unwrap();
        let item = |name: &str, intent| Item {
            key: key(name),
            set: everynode_model::SetUid::new(Uuid::from_u128(3)),
            revision: Digest::of(name.as_bytes()),
            replace: 4,
            intent,
            after: vec![key("other")],
            surge: (intent == Intent::Run).then_some(Surge { min_ready: Duration::from_secs(3) }),
            labels: [("site".to_owned(), name.to_owned())].into(),
        };
        let assignment = Assignment::new([
            item("a", Intent::Run),
            item("b", Intent::Keep),
            item("c", Intent::Stop),
        ]);
        let mut ledger = Ledger::joined(
            everynode_model::ClusterId::new(Uuid::from_u128(1)),
            everynode_model::NodeUid::new(Uuid::from_u128(2)),
        );
        ledger.accepted = Some(Stamp {
            cluster: ledger.cluster,
            term: Term(5),
            reign: everynode_model::ReignId::new(Uuid::from_u128(6)),
            generation: Generation(generation),
            digest: assignment.digest(),
        });
        ledger.assignment = assignment;
        ledger.places = [(key("a"), "process".to_owned())].into();
        ledger.session = Some(everynode_model::SessionNonce::new(Uuid::from_u128(7)));
        let set = |number| everynode_model::SetUid::new(Uuid::from_u128(number));
        let heir = Heir { of: vec![set(8), set(9)], set: set(3), replace: 4 };
        ledger.heirs = [(key("a"), heir)].into();
        let since = WallTime::from_unix_millis(-9);
        let hold = Hold { stop: true, by: "root".into(), reason: "x".into(), since, until: None };
        let until = Some(WallTime::from_unix_millis(10));
        ledger.holds = Holds {
            places: [(key("a"), hold.clone())].into(),
            node: Some(Hold { stop: false, reason: String::new(), until, ..hold }),
            kept: [(key("a"), item("a", Intent::Run))].into(),
        };
        ledger
    }

    #[test]
    fn what_is_written_is_read_with_what_is_not_known() {
        for (_, standing) in STANDINGS {
            let ledger = Ledger { standing, ..ledger(8) };
            let unknown: Map<_, _> = [("future".to_owned(), Value::from(1))].into_iter().collect();
            let copy = decode(&encode(&ledger, 9, &unknown)).unwrap();
            assert_eq!((copy.sequence, copy.ledger, copy.unknown), (9, ledger, unknown));
        }
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_seen() {
        let whole = encode(&ledger(8), 9, &Map::new());
        for length in 0..whole.len() {
            assert!(matches!(decode(&whole[..length]), Err(Unreadable::Corrupt(_))), "{length}");
        }
        for index in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[index] ^= 4;
            assert!(matches!(decode(&flipped), Err(Unreadable::Corrupt(_))), "{index}");
        }
    }

    #[test]
    fn newer_is_not_corrupt() {
        let json = b"{\"all\":\"different\"}";
        let mut content = format!("{MAGIC} 2 9 {}\n", checksum(2, 9, json)).into_bytes();
        content.extend(json);
        assert_eq!(decode(&content).unwrap_err(), Unreadable::Newer(2));
        content.pop();
        assert!(matches!(decode(&content), Err(Unreadable::Corrupt(_))));
    }
}
