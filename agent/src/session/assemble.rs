//! Orders from their chunks: whole or as changes, and only when they are what their stamp says.
//!
//! ```text
//!            chunk 0                  last, all right
//!   nothing ─────────▶ gathering ─────────────────────▶ an order; it is the base of changes
//!      ▲                   │
//!      └───────────────────┘ out of turn, too much, wrong digest: Gap, ask for the whole
//! ```

use std::collections::BTreeMap;

use everynode_model::{Assignment, Change, ChangeError, Digest, Item, PodKey, Reason, Stamp};
use everynode_proto::convert;
use everynode_proto::error::Invalid;
use everynode_proto::v1;

/// The most chunks of one order, each of at most 1 MiB: what no machine's pods need, and what an
/// agent can still hold.
const MAX_CHUNKS: u32 = 64;

/// A whole order, with the bodies that came along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) stamp: Stamp,
    pub(crate) assignment: Assignment,
    pub(crate) empty_is_meant: bool,
    pub(crate) bodies: BTreeMap<Digest, Vec<u8>>,
}

/// Why the whole must be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Gap {
    #[error("chunk {got} came where {wanted} was due")]
    OutOfTurn { wanted: u32, got: u32 },
    #[error("a chunk of another order came in between")]
    OtherOrder,
    #[error("more than {MAX_CHUNKS} chunks")]
    TooLong,
    #[error(transparent)]
    Field(#[from] Invalid),
    #[error("the body {0} has another digest")]
    Body(Digest),
    #[error(transparent)]
    Change(#[from] ChangeError),
}

/// Gathers chunks.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    /// What changes start from: the newest whole order of this session, before it the accepted one.
    base: Assignment,
    gathering: Option<Gathering>,
}

#[derive(Debug)]
struct Gathering {
    stamp: Stamp,
    from: Option<Digest>,
    next: u32,
    change: Change,
    bodies: BTreeMap<Digest, Vec<u8>>,
}

impl Assembler {
    /// Begins with the assignment that this node has accepted.
    pub(crate) fn new(base: Assignment) -> Self {
        Self { base, gathering: None }
    }

    /// Takes a chunk; gives the order when it is the last.
    pub(crate) fn take(&mut self, chunk: v1::Assignment) -> Result<Option<Order>, Gap> {
        // Whatever goes wrong, what was gathered is dropped.
        let gathering = self.gathering.take();
        let mut gathering = Gathering::continued(gathering, &chunk)?;
        let (last, empty_is_meant) = (chunk.last, chunk.empty_is_meant);
        gathering.add(chunk)?;
        if !last {
            self.gathering = Some(gathering);
            return Ok(None);
        }
        let Gathering { stamp, from, change, bodies, .. } = gathering;
        let assignment = match from {
            Some(from) => self.base.changed(from, &change, stamp.digest)?,
            None => Assignment::new(change.put),
        };
        if assignment.digest() != stamp.digest {
            return Err(ChangeError::Mismatch.into());
        }
        self.base = assignment.clone();
        Ok(Some(Order { stamp, assignment, empty_is_meant, bodies }))
    }
}

impl Gathering {
    fn continued(before: Option<Self>, chunk: &v1::Assignment) -> Result<Self, Gap> {
        let stamp = convert::required("stamp", chunk.stamp.as_ref())?;
        let stamp = Stamp::try_from(stamp).map_err(|invalid| invalid.within("stamp"))?;
        let from = match chunk.from.as_slice() {
            [] => None,
            from => Some(convert::digest("from", from)?),
        };
        let new = |from| Self {
            stamp,
            from,
            next: 0,
            change: Change::default(),
            bodies: BTreeMap::new(),
        };
        let gathering = match before {
            // A new order may begin in the middle of an old one: the newer news counts.
            _ if chunk.chunk == 0 => new(from),
            None => new(from),
            Some(before) if before.stamp == stamp && before.from == from => before,
            Some(_) => return Err(Gap::OtherOrder),
        };
        match chunk.chunk {
            got if got != gathering.next => Err(Gap::OutOfTurn { wanted: gathering.next, got }),
            MAX_CHUNKS.. => Err(Gap::TooLong),
            _ => Ok(gathering),
        }
    }

    fn add(&mut self, chunk: v1::Assignment) -> Result<(), Gap> {
        self.next += 1;
        for item in &chunk.items {
            self.change.put.push(Item::try_from(item).map_err(|invalid| invalid.within("items"))?);
        }
        for key in &chunk.removed {
            self.change.removed.push(PodKey::try_from(key).map_err(|bad| bad.within("removed"))?);
        }
        for body in chunk.bodies {
            let digest = convert::digest("bodies.digest", &body.digest)?;
            if Digest::of(&body.content) != digest {
                return Err(Gap::Body(digest));
            }
            self.bodies.insert(digest, body.content);
        }
        Ok(())
    }
}

impl Gap {
    /// The same in a word and a line.
    pub(crate) fn reason(&self) -> Reason {
        let code = match self {
            Self::OutOfTurn { .. } | Self::OtherOrder => "ChunkOutOfTurn",
            Self::TooLong => "OrderTooLong",
            Self::Field(_) => "InvalidField",
            Self::Body(_) => "BodyMismatch",
            Self::Change(ChangeError::Gap) => "Gap",
            Self::Change(ChangeError::Mismatch) => "DigestMismatch",
        };
        Reason::new(code, self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use everynode_model::{ClusterId, Generation, Intent, ReignId, SetUid, Term};
    use uuid::Uuid;

    fn item(name: &str) -> Item {
        Item {
            key: PodKey::new("default", name).unwrap(),
            set: SetUid::new(Uuid::nil()),
            revision: Digest::of(name.as_bytes()),
            replace: 0,
            intent: Intent::Run,
            after: Vec::new(),
            surge: None,
            labels: Default::default(),
        }
    }

    fn set(names: &[&str]) -> Assignment {
        Assignment::new(names.iter().map(|name| item(name)))
    }

    fn stamp(generation: u64, of: &Assignment) -> Stamp {
        Stamp {
            cluster: ClusterId::new(Uuid::nil()),
            term: Term(1),
            reign: ReignId::new(Uuid::nil()),
            generation: Generation(generation),
            digest: of.digest(),
        }
    }

    /// One chunk per item.
    fn whole(generation: u64, of: &Assignment) -> Vec<v1::Assignment> {
        let count = of.len();
        let chunk = |(number, item): (usize, &Item)| v1::Assignment {
            stamp: Some((&stamp(generation, of)).into()),
            chunk: u32::try_from(number).unwrap(),
            last: number + 1 == count,
            items: vec![item.into()],
            bodies: vec![v1::Body {
                digest: item.revision.as_bytes().to_vec(),
                content: item.key.name().into(),
            }],
            ..v1::Assignment::default()
        };
        of.items().enumerate().map(chunk).collect()
    }

    fn change(generation: u64, from: &Assignment, to: &Assignment) -> v1::Assignment {
        let change = from.change_to(to);
        v1::Assignment {
            stamp: Some((&stamp(generation, to)).into()),
            from: from.digest().as_bytes().to_vec(),
            last: true,
            items: change.put.iter().map(Into::into).collect(),
            removed: change.removed.iter().map(Into::into).collect(),
            ..v1::Assignment::default()
        }
    }

    fn feed(assembler: &mut Assembler, chunks: Vec<v1::Assignment>) -> Result<Option<Order>, Gap> {
        let mut order = None;
        for chunk in chunks {
            order = assembler.take(chunk)?;
        }
        Ok(order)
    }

    #[test]
    fn a_whole_order_then_changes() {
        let (first, second) = (set(&["a", "b", "c"]), set(&["b", "d"]));
        let mut assembler = Assembler::default();
        let order = feed(&mut assembler, whole(1, &first)).unwrap().unwrap();
        assert_eq!(order.assignment, first);
        assert_eq!(order.bodies.len(), 3);
        let order = assembler.take(change(2, &first, &second)).unwrap().unwrap();
        assert_eq!((order.assignment, order.stamp), (second.clone(), stamp(2, &second)));
    }

    #[test]
    fn a_change_may_start_from_what_was_accepted_before_the_session() {
        let (first, second) = (set(&["a"]), set(&["b"]));
        let taken = Assembler::new(first.clone()).take(change(2, &first, &second));
        assert_eq!(taken.unwrap().unwrap().assignment, second);
        let gap = Assembler::default().take(change(2, &first, &second)).unwrap_err();
        assert_eq!(gap, Gap::Change(ChangeError::Gap));
    }

    #[test]
    fn what_is_missing_is_noticed_and_gathering_begins_anew() {
        let all = set(&["a", "b", "c"]);
        let mut assembler = Assembler::default();
        let mut chunks = whole(1, &all);
        chunks.remove(1);
        let gap = feed(&mut assembler, chunks).unwrap_err();
        assert_eq!(gap, Gap::OutOfTurn { wanted: 1, got: 2 });
        assert!(feed(&mut assembler, whole(1, &all)).unwrap().is_some());

        let mut chunks = whole(1, &all);
        chunks.remove(0);
        assert!(matches!(feed(&mut assembler, chunks), Err(Gap::OutOfTurn { .. })));

        let mut mixed = whole(1, &all);
        mixed.truncate(1);
        mixed.extend(whole(2, &all).into_iter().skip(1));
        assert_eq!(feed(&mut assembler, mixed), Err(Gap::OtherOrder));
    }

    #[test]
    fn a_newer_order_may_cut_an_older_short() {
        let (first, second) = (set(&["a", "b"]), set(&["c"]));
        let mut chunks = whole(1, &first);
        chunks.truncate(1);
        chunks.extend(whole(2, &second));
        let order = feed(&mut Assembler::default(), chunks).unwrap().unwrap();
        assert_eq!(order.assignment, second);
    }

    #[test]
    fn nothing_counts_that_is_not_what_its_digest_says() {
        let all = set(&["a", "b"]);
        let mut chunks = whole(1, &all);
        chunks[1].items.clear();
        let gap = feed(&mut Assembler::default(), chunks).unwrap_err();
        assert_eq!(gap, Gap::Change(ChangeError::Mismatch));

        let mut chunks = whole(1, &all);
        chunks[0].bodies[0].content.push(b'x');
        let gap = feed(&mut Assembler::default(), chunks).unwrap_err();
        assert_eq!(gap, Gap::Body(Digest::of(b"a")));

        let mut chunks = whole(1, &all);
        chunks[0].stamp = None;
        assert!(matches!(feed(&mut Assembler::default(), chunks), Err(Gap::Field(_))));
    }
}
